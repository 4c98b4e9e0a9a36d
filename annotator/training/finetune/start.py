"""What fine-tuning starts from: the compact classifier or a family with random weights, or a checkpoint; with its adapters."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from annotator.errors import InputError, UsageError
from annotator.files import file_sha256
from annotator.models.families.base import LanguageModel, ModelFamily
from annotator.models.families.compact.window import CompactWindow, CompactWindowConfig
from annotator.models.families.registry import family
from annotator.models.hub import checkpoint_folder, resolve_reference
from annotator.models.lora import add_lora, merge_lora
from annotator.models.options import FAMILIES
from annotator.models.task_heads import BaseHead, HeadOptions, TaskModel
from annotator.tokens.batch import RowTokenizer
from annotator.training.finetune.base import Base
from annotator.training.finetune.compact_bases import refuse_for_compact_bases
from annotator.training.finetune.nets import BaseNet, CompactSequences, WindowNet
from annotator.training.finetune.options import COMPACT, NOT_STATED, FinetuneSettings, GenomeData, is_compact_network

logger = logging.getLogger(__name__)

SHIFT_BP = 3
"""Bases that windows around a peak are moved by in training; those around a certain base stay."""
_K = {True: 6, False: 4}
"""Token width of the compact classifier by whether both strands count. On GUE's dev tables promoters have MCC 0.56 with 6 and
0.63 with 4; for binding sites either does (tf/0 and tf/1 differ in opposite directions)."""


@dataclass(frozen=True)
class _Source:
    """A backbone and what comes with it."""

    family: ModelFamily
    architecture: dict[str, Any]
    model: LanguageModel
    tokenizer: RowTokenizer
    window_head: dict[str, Tensor]
    licence: str
    described: dict[str, Any]


def compact_base(settings: FinetuneSettings, *, window_bp: int, classes: int, both_strands: bool) -> Base:
    """The compact window classifier with random weights.

    Args:
        settings: Settings of the run; `architecture` replaces fields of `CompactWindowConfig`.
        window_bp: Bases of a window.
        classes: Number of classes.
        both_strands: Whether the classes have no direction.

    Raises:
        UsageError: The architecture is impossible, or adapters or several processes were asked for.
    """
    _refuse_for_compact(settings)
    standard = CompactWindowConfig(window_bp, k=_K[both_strands], both_strands=both_strands).as_dict()
    try:
        config = CompactWindowConfig.from_json(standard | settings.architecture)
    except ValueError as error:
        raise UsageError(f"compact: {error}") from None
    model = CompactWindow(config, classes)
    net = CompactSequences(model, dropout=settings.options.dropout, shift_bp=SHIFT_BP if both_strands else 0)
    return Base(
        net, model, COMPACT, config.as_dict(), {"k": config.k}, {}, {}, settings.licence, {"base": "random weights"}, None,
    )  # fmt: skip


def family_base(settings: FinetuneSettings, *, outputs: int, window: bool) -> Base:
    """A family's network with a new head, or a published one where it fits.

    Args:
        settings: Settings of the run.
        outputs: Number of classes or tracks.
        window: Whether windows are classified.

    Raises:
        AnnotatorError: There is no such checkpoint, family or size, it is damaged, or the adapters match nothing.
    """
    source = _source(settings)
    options = HeadOptions(outputs, dropout=settings.options.dropout)
    causal, dense = source.family.causal, source.family.dense_window_head
    model = TaskModel.build(source.model.backbone, options, window=window, causal=causal, dense=dense)
    described = source.described
    if window:
        blank = model.head.state_dict()
        fitting = {name: value for name, value in source.window_head.items() if value.shape == blank[name].shape}
        model.head.load_state_dict(fitting, strict=False)
        described |= {"head_of_checkpoint": sorted(fitting)}
    if settings.lora is not None:
        lora = settings.lora
        matched = add_lora(
            model.backbone, lora.targets or source.family.lora_targets, rank=lora.rank, alpha=lora.alpha, dropout=lora.dropout
        )
        logger.info("LoRA of rank %d at %d linear modules", lora.rank, len(matched))
    return Base(
        (WindowNet if window else BaseNet)(model, source.tokenizer), model, source.family.name, source.architecture, {},
        source.tokenizer.files,
        {"outputs": outputs, "width": options.width, "kernel_bp": options.kernel_bp, "dropout": options.dropout},
        source.licence, described, source.tokenizer.longest_bp(),
        model.head.reach_bp if isinstance(model.head, BaseHead) else 0,
    )  # fmt: skip


def refuse_bad_base(settings: FinetuneSettings) -> None:
    """Refuse, before any data is read, what no run can start from.

    Raises:
        UsageError: The base cannot learn from these data, the size does not exist, or adapters or several processes are asked of
            the compact classifier.
        EnvironmentFault: There is no such checkpoint directory.
        InputError: The directory holds no checkpoint; the message says what it seems to be.
    """
    if isinstance(settings.data, GenomeData) and is_compact_network(settings.base):
        refuse_for_compact_bases(settings)
        return
    if settings.base == COMPACT:
        _refuse_for_compact(settings)
        return
    name, colon, size = settings.base.partition(":")
    if colon and name in FAMILIES:
        _from_scratch(settings, name, size)
        return
    if settings.architecture:
        raise UsageError("a checkpoint has its architecture; only a base from scratch takes another")
    checkpoint_folder(settings.base)


def _refuse_for_compact(settings: FinetuneSettings) -> None:
    if settings.lora is not None:
        raise UsageError("the compact classifier is trained from scratch: there is nothing to adapt with LoRA")
    if settings.options.processes > 1:
        raise UsageError("the compact classifier learns in one process: its batch norms look at whole batches")


def _from_scratch(settings: FinetuneSettings, name: str, size: str) -> tuple[ModelFamily, dict[str, Any], RowTokenizer]:
    """A family, the architecture of a network with random weights, and its tokenizer."""
    chosen = family(name)
    if size not in chosen.sizes:
        raise UsageError(f"base {settings.base}: sizes of {name} are {', '.join(chosen.sizes)}")
    architecture = chosen.sizes[size] | settings.architecture
    try:
        return chosen, architecture, chosen.tokenizer(architecture, None)
    except (KeyError, ValueError, TypeError, InputError) as error:
        raise UsageError(f"base {settings.base} from scratch: {error}") from None


def finished(model: nn.Module, lora: bool) -> nn.Module:
    """A trained network with its adapters, if it has any, added into its weights."""
    if lora:
        assert isinstance(model, TaskModel)
        merge_lora(model.backbone)
    return model


def _source(settings: FinetuneSettings) -> _Source:
    from annotator.models.checkpoints import read_checkpoint

    name, colon, size = settings.base.partition(":")
    if colon and name in FAMILIES:
        chosen, architecture, tokenizer = _from_scratch(settings, name, size)
        try:
            model = chosen.build(architecture)
        except (KeyError, ValueError, TypeError, InputError) as error:
            raise UsageError(f"base {settings.base} from scratch: {error}") from None
        return _Source(chosen, architecture, model, tokenizer, {}, settings.licence, {"base": "random weights"})
    found = read_checkpoint(resolve_reference(settings.base), settings.family)
    weights = sorted(found.folder.glob("*.safetensors"))
    return _Source(
        found.family, found.architecture, found.model, found.tokenizer, found.window_head,
        settings.licence if found.licence == NOT_STATED else found.licence,
        {"base": found.folder.name, "base_sha256": {path.name: file_sha256(path) for path in weights}},
    )  # fmt: skip
