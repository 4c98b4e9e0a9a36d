"""Low-rank adapters (Hu 2021) in a backbone: attached with peft, trained, and added into the plain weights."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from torch import nn

from annotator.errors import EnvironmentFault, UsageError


def need_peft() -> None:
    """See that the library of adapters is there, before anything is read.

    Raises:
        EnvironmentFault: It is not.
    """
    if importlib.util.find_spec("peft") is None:
        raise EnvironmentFault("low-rank adapters need the package peft: pip install 'genome-annotator[learn]'", "lora")


def add_lora(backbone: nn.Module, targets: Sequence[str], *, rank: int, alpha: int, dropout: float) -> list[str]:
    """Attach adapters in place; from then on only they can learn, and the backbone computes what it did before.

    Args:
        backbone: The network.
        targets: Linear modules that get one, by the last part of their dotted name.
        rank: Rank of the update, r.
        alpha: The update is scaled by alpha / rank.
        dropout: Dropout of the adapters' input, in training.

    Returns:
        Dotted names of the modules that got one.

    Raises:
        UsageError: A name matches no linear module; the message names those there are.
    """
    from peft import LoraConfig, inject_adapter_in_model

    linear = [name for name, module in backbone.named_modules() if isinstance(module, nn.Linear)]
    last = {name.rpartition(".")[2] for name in linear}
    unmatched = sorted(set(targets) - last)
    if unmatched or not targets:
        wrong = ", ".join(unmatched) or "none given"
        raise UsageError(f"LoRA targets: {wrong}; the linear modules of this network are {', '.join(sorted(last))}")
    matched = [name for name in linear if name.rpartition(".")[2] in targets]
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=matched)
    inject_adapter_in_model(config, backbone)
    backbone.train(backbone.training)  # new modules come in training mode
    return matched


def merge_lora(backbone: nn.Module) -> nn.Module:
    """Add the adapters into the weights they stand beside and take them out, in place.

    Returns:
        `backbone`, with the names and shapes it had before `add_lora`, the same function to rounding, and able to learn.
    """
    from peft.tuners.lora import LoraLayer

    for name, module in list(backbone.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            parent, _, last = name.rpartition(".")
            setattr(backbone.get_submodule(parent), last, module.get_base_layer())
    return backbone.requires_grad_(True)
