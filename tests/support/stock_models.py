"""Random weights that make a network's every part count, and published state dicts put into this program's networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from annotator.models.families.base import Architecture, LanguageModel, ModelFamily, Published
from annotator.models.task_heads import HeadOptions, TaskModel


def shaken(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in eval mode, every parameter (biases, norms, tables) moved by noise, so that none can be left out unseen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def translated(family: ModelFamily, architecture: Architecture, state: dict[str, Tensor]) -> Published:
    """The tensors under this program's names; none may be left over."""
    published = family.translate(state, architecture)
    assert published.unexpected == ()
    return published


def language_model(family: ModelFamily, architecture: Architecture, state: dict[str, Tensor]) -> LanguageModel:
    """A network with a published state dict, which must hold all of it."""
    published = translated(family, architecture, state)
    network = family.build(architecture).eval()
    network.backbone.load_state_dict(published.backbone)
    network.lm_head.load_state_dict(published.lm_head)
    return network


def window_model(family: ModelFamily, architecture: Architecture, state: dict[str, Tensor], classes: int) -> TaskModel:
    """A classifier with a published state dict, which must hold all of it."""
    published = translated(family, architecture, state)
    assert published.lm_head == {}
    backbone = family.build(architecture).backbone
    options = HeadOptions(outputs=classes)
    model = TaskModel.build(backbone, options, window=True, causal=family.causal, dense=family.dense_window_head).eval()
    model.backbone.load_state_dict(published.backbone)
    model.head.load_state_dict(published.window_head)
    return model


def random_rows(vocabulary_size: int, lengths: list[int], pad_id: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Ids [R, T] from the whole vocabulary but padding, and the mask of rows of these lengths."""
    ids = torch.randint(pad_id + 1, vocabulary_size, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(seed))
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return torch.where(mask, ids, pad_id), mask
