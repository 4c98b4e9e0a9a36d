"""Options of pre-training; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from annotator.checks import check_choice, check_count, check_share
from annotator.errors import UsageError
from annotator.training.options import LoopOptions


@dataclass(frozen=True)
class CorpusOptions:
    """The bases that are learnt from and those that are kept for validation.

    Attributes:
        fasta: FASTA files to learn from.
        val_fasta: FASTA files to validate on.
        held_out: Names of contigs in `fasta` that are validated on and not learnt from.
        window_bp: Bases of a window, L.
        windows: "random" draws windows anywhere. "tiled" cuts the corpus into windows that touch, with another phase in each
            epoch, and goes through them in random order: every base is seen about once an epoch.
        max_n_share: A window with a larger share of N is not used.
        val_rows: Windows of the validation, spread evenly over its contigs; none of them holds an N.
    """

    fasta: tuple[Path, ...]
    val_fasta: tuple[Path, ...] = ()
    held_out: tuple[str, ...] = ()
    window_bp: int = 512
    windows: Literal["random", "tiled"] = "random"
    max_n_share: float = 0.1
    val_rows: int = 1000

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn.

        Raises:
            UsageError: A value is wrong; the message names the field.
        """
        for name in ("window_bp", "val_rows"):
            check_count(name, getattr(self, name), least=1)
        check_choice("windows", self.windows, ("random", "tiled"))
        check_share("max_n_share", self.max_n_share)


@dataclass(frozen=True)
class MaskOptions:
    """The tokens that a masked language model has to guess.

    Attributes:
        share: Share of the tokens.
        hide_share: Share of the spans (or single tokens) whose tokens become [MASK].
        swap_share: Share whose tokens become other ones, drawn from the tokens of the batch; what remains is left as it is.
        longest_hidden_bp: Used for stride-1 k-mers alone: a span hides 1 to this many bases, in k - 1 more tokens.
    """

    share: float = 0.15
    hide_share: float = 0.8
    swap_share: float = 0.1
    longest_hidden_bp: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be masked.

        Raises:
            UsageError: A value is wrong; the message names the field.
        """
        check_share("share", self.share, some=True)
        check_share("hide_share", self.hide_share, whole=True)
        check_share("swap_share", self.swap_share, whole=True)
        if self.hide_share + self.swap_share > 1:
            raise UsageError(f"more than 1 with the {self.hide_share:g} that are hidden", "swap_share", self.swap_share)
        check_count("longest_hidden_bp", self.longest_hidden_bp, least=1)


@dataclass(frozen=True)
class PretrainOptions(LoopOptions):
    """How long and how fast to learn; the learning rate falls linearly to zero from the end of the warm-up to the last step.

    Attributes:
        accumulation: Parts a batch is computed in, one after the other, for less memory; the gradient is that of the batch.
    """

    steps: int = 100_000
    batch_windows: int = 64
    learning_rate: float = 4e-4
    warmup_steps: int = 1000
    betas: tuple[float, float] = (0.9, 0.98)
    epsilon: float = 1e-6
    validate_steps: int = 1000
    bf16: bool | None = False
    accumulation: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be run.

        Raises:
            UsageError: A value is wrong; the message names the field.
        """
        super().__post_init__()
        for name in ("steps", "validate_steps", "accumulation"):
            check_count(name, getattr(self, name), least=1)
        if self.accumulation > self.batch_windows:
            raise UsageError(f"more parts than the {self.batch_windows} windows of a batch", "accumulation", self.accumulation)
        if self.warmup_steps > self.steps:
            raise UsageError(f"longer than the run of {self.steps} steps", "warmup_steps", self.warmup_steps)


@dataclass(frozen=True)
class PretrainSettings:
    """A whole pre-training run.

    Attributes:
        corpus: The bases.
        family: Name of a model family; not needed where `checkpoint` says it.
        size: One of the family's sizes, or empty for `architecture` alone.
        architecture: Fields that replace those of `size` (or of nothing, where `size` is empty).
        checkpoint: Directory of a checkpoint to go on from; then there is no size and no architecture.
        mask: The tokens that masked language models have to guess.
        train: How long and how fast.
        licence: Licence of the weights; those that start from a checkpoint keep its licence.
    """

    corpus: CorpusOptions
    family: str | None = None
    size: str = ""
    architecture: dict[str, Any] = field(default_factory=dict)
    checkpoint: Path | None = None
    mask: MaskOptions = field(default_factory=MaskOptions)
    train: PretrainOptions = field(default_factory=PretrainOptions)
    licence: str = "not stated"
