"""Options of a training run; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from annotator.kinds import Kind
from annotator.labels.options import Organism


@dataclass(frozen=True)
class WindowOptions:
    """How training windows are drawn.

    Attributes:
        window_bp: Bases a window shows the network; a multiple of its step.
        margin_bp: Bases at either side that are context only, without a loss.
        site_fraction: Share of windows put around a random site; the rest lie anywhere.
        kind_weights: Relative odds of the tracks (donor, acceptor, tss) as the site to put a window around.
        tss_sigma_bp: The target of what is no splice site (TSS, features) is a bell of this width around each annotated base.
        cut_fraction: Share of windows in which everything beyond a random point is hidden (a contig end).
        mutation_rate: Share of bases replaced by random ones, away from splice sites, against learning loci by heart.
    """

    window_bp: int = 8192
    margin_bp: int = 768
    site_fraction: float = 0.75
    kind_weights: tuple[float, ...] = (0.44, 0.44, 0.12)
    tss_sigma_bp: float = 30.0
    cut_fraction: float = 0.1
    mutation_rate: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        if not 0 <= 2 * self.margin_bp < self.window_bp:
            raise ValueError(f"windows of {self.window_bp} bp cannot have margins of {self.margin_bp} bp")
        for name in ("site_fraction", "cut_fraction", "mutation_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)} is not a share")
        if min(self.kind_weights) < 0 or not sum(self.kind_weights) > 0 or not self.tss_sigma_bp > 0:
            raise ValueError("kind_weights cannot be negative, and tss_sigma_bp must be positive")


@dataclass(frozen=True)
class TrainOptions:
    """How long and how fast to learn.

    Attributes:
        steps: Optimiser steps in all.
        batch_windows: Windows a step.
        learning_rate: Peak, after warm-up; held, then brought to zero over the last `decay_steps`.
        warmup_steps: Linear warm-up.
        decay_steps: Linear decay at the end.
        weight_decay: AdamW's.
        dropout: Of the network's trunk.
        ema: Decay of the averaged weights, which are the ones evaluated and kept.
        tss_loss_weight: Weight of the TSS track beside donor and acceptor.
        checkpoint_steps: Steps between checkpoints.
        validate_steps: Steps between validations.
        seed: Of everything random; batch s depends on (seed, s) alone, so a resumed run draws the same batches.
        bf16: Autocast to bfloat16.
    """

    steps: int = 30000
    batch_windows: int = 16
    learning_rate: float = 2e-3
    warmup_steps: int = 500
    decay_steps: int = 6000
    weight_decay: float = 0.01
    dropout: float = 0.0
    ema: float = 0.999
    tss_loss_weight: float = 0.1
    checkpoint_steps: int = 500
    validate_steps: int = 2000
    seed: int = 1
    bf16: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        for name in ("steps", "batch_windows", "checkpoint_steps", "validate_steps", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} = {getattr(self, name)} must be positive")
        if not 0 <= self.dropout < 1 or not 0 <= self.ema < 1:
            raise ValueError("dropout and ema lie from 0 to below 1")

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        up = min(1.0, (step + 1) / max(1, self.warmup_steps))
        down = min(1.0, (self.steps - step) / max(1, self.decay_steps))
        return self.learning_rate * min(up, down)


@dataclass(frozen=True)
class TrainingSettings:
    """A whole recipe.

    Attributes:
        name: Model name.
        version: Of the weights.
        k: Token width.
        architecture: Arguments of `CompactConfig`.
        plan: Arguments of `PlanOptions` that the finished model scans with.
        radius_bp: Calls are local maxima within this, per kind.
        windows: How windows are drawn.
        train: How long and how fast.
        organisms: To learn from.
        validation: To watch, to calibrate and to set thresholds on.
        note: Anything about the run that the other fields do not say; goes into the manifest.
    """

    name: str
    version: str
    k: int
    architecture: dict[str, Any]
    plan: dict[str, int]
    radius_bp: dict[Kind, int]
    windows: WindowOptions = field(default_factory=WindowOptions)
    train: TrainOptions = field(default_factory=TrainOptions)
    organisms: tuple[Organism, ...] = ()
    validation: tuple[Organism, ...] = ()
    note: str = ""
