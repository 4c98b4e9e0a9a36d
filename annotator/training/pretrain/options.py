"""Options of pre-training; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class CorpusOptions:
    """Which bases are learnt from and which are kept for validation.

    Attributes:
        fasta: Files to learn from.
        val_fasta: Files to validate on.
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
    """Which tokens a masked language model has to guess.

    Attributes:
        share: Share of the tokens.
        hide_share: Share of the spans (or single tokens) whose tokens become [MASK].
        swap_share: Share whose tokens become other ones, drawn from the tokens of the batch; what remains is left as it is.
        longest_hidden_bp: Of stride-1 k-mers alone: a span hides 1 to this many bases, in k - 1 more tokens.
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
class PretrainOptions:
    """How long and how fast to learn.

    Attributes:
        steps: Optimiser steps in all.
        batch_rows: Windows a step.
        accumulation: Parts a batch is computed in, one after the other, for less memory; the gradient is that of the batch.
        learning_rate: Peak, after a linear warm-up; from there it falls linearly to zero at the last step.
        warmup_steps: Of them.
        weight_decay: AdamW's, of matrices.
        clip: Largest norm of the gradient.
        checkpoint_steps: Steps between checkpoints.
        validate_steps: Steps between validations.
        seed: Of everything random; batch s depends on (seed, s) alone, so a resumed run draws the same batches.
        bf16: Autocast to bfloat16.
    """

    steps: int = 100_000
    batch_rows: int = 64
    accumulation: int = 1
    learning_rate: float = 4e-4
    warmup_steps: int = 1000
    weight_decay: float = 0.01
    clip: float = 1.0
    checkpoint_steps: int = 500
    validate_steps: int = 1000
    seed: int = 1
    bf16: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        for name in ("steps", "batch_rows", "accumulation", "learning_rate", "clip", "checkpoint_steps", "validate_steps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} = {getattr(self, name)} must be positive")
        if self.accumulation > self.batch_rows:
            raise ValueError(f"accumulation = {self.accumulation} parts of {self.batch_rows} rows")
        if not 0 <= self.warmup_steps <= self.steps:
            raise ValueError(f"warmup_steps = {self.warmup_steps} of {self.steps} steps")

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        up = (step + 1) / max(1, self.warmup_steps)
        down = (self.steps - step) / max(1, self.steps - self.warmup_steps)
        return self.learning_rate * min(1.0, up, down)


@dataclass(frozen=True)
class PretrainSettings:
    """A whole pre-training run.

    Attributes:
        corpus: Bases.
        family: Name of a model family; not needed where `checkpoint` says it.
        size: One of the family's sizes, or empty for `architecture` alone.
        architecture: Fields that replace those of `size` (or of nothing, where `size` is empty).
        checkpoint: Directory of a checkpoint to go on from; then there is no size and no architecture.
        mask: Of masked language models.
        train: How long and how fast.
        licence: Of the weights; those that start from a checkpoint keep its licence.
    """

    corpus: CorpusOptions
    family: str | None = None
    size: str = ""
    architecture: dict[str, Any] = field(default_factory=dict)
    checkpoint: Path | None = None
    mask: MaskOptions = field(default_factory=MaskOptions)
    train: PretrainOptions = field(default_factory=PretrainOptions)
    licence: str = "not stated"
