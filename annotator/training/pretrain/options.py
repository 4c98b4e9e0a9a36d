"""Options of pre-training; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

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
        """Refuse what cannot be drawn."""
        for name in ("window_bp", "val_rows"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} = {getattr(self, name)} must be positive")
        if self.windows not in ("random", "tiled"):
            raise ValueError(f"windows = {self.windows!r} is neither random nor tiled")
        if not 0 <= self.max_n_share < 1:
            raise ValueError(f"max_n_share = {self.max_n_share} does not lie from 0 to below 1")


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
        """Refuse what cannot be masked."""
        if not 0 < self.share < 1:
            raise ValueError(f"share = {self.share} does not lie between 0 and 1")
        if self.hide_share < 0 or self.swap_share < 0 or self.hide_share + self.swap_share > 1:
            raise ValueError("hide_share and swap_share are shares of 1 together")
        if self.longest_hidden_bp < 1:
            raise ValueError(f"longest_hidden_bp = {self.longest_hidden_bp} must be at least 1")


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
        """Refuse what cannot be run."""
        super().__post_init__()
        self._need_positive("steps", "validate_steps", "accumulation")
        if self.accumulation > self.batch_windows:
            raise ValueError(f"accumulation = {self.accumulation} parts of {self.batch_windows} windows")
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps = {self.warmup_steps} of {self.steps} steps")


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
