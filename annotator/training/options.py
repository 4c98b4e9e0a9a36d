"""Options that every training run has; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from annotator.checks import check_count, check_not_negative, check_positive, check_share
from annotator.errors import UsageError


@dataclass(frozen=True)
class LoopOptions:
    """How long and how fast to learn: what `annotator.training.loop` reads, under the same names for every task.

    Each task derives its own options from these, with the defaults that its published weights were made with.

    Attributes:
        steps: Optimiser steps of the whole run; 0 lets the task choose, where it can.
        batch_windows: Windows a step, over all processes.
        learning_rate: Peak, reached after a linear warm-up.
        warmup_steps: Steps of the linear warm-up.
        decay_steps: Steps of the linear fall to zero at the end; None for all steps after the warm-up.
        weight_decay: AdamW's, of the weights that the task names.
        betas: AdamW's decay rates of the first and second moments.
        epsilon: AdamW's term against division by zero.
        clip: Largest norm of the gradient.
        ema: Decay of averaged weights, which are then the ones that are validated and kept; 0 for none.
        checkpoint_steps: Steps between checkpoints.
        validate_steps: Steps between validations; 0 lets the task choose, where it can.
        seed: Seed of everything random; the batch of step s depends on (seed, s) alone, so a resumed run draws the same ones.
        bf16: Autocast to bfloat16; None for on CUDA only.
    """

    steps: int = 0
    batch_windows: int = 32
    learning_rate: float = 1e-3
    warmup_steps: int = 0
    decay_steps: int | None = None
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    clip: float = 1.0
    ema: float = 0.0
    checkpoint_steps: int = 500
    validate_steps: int = 0
    seed: int = 1
    bf16: bool | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be run.

        Raises:
            UsageError: A value is wrong; the message names the field.
        """
        for name in ("batch_windows", "checkpoint_steps"):
            check_count(name, getattr(self, name), least=1)
        for name in ("steps", "validate_steps", "warmup_steps", "seed"):
            check_count(name, getattr(self, name))
        for name in ("learning_rate", "epsilon", "clip"):
            check_positive(name, getattr(self, name))
        check_not_negative("weight_decay", self.weight_decay)
        check_share("ema", self.ema)
        for beta in self.betas:
            check_share("betas", beta)
        if self.decay_steps is not None:
            check_count("decay_steps", self.decay_steps)

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        up = (step + 1) / max(1, self.warmup_steps)
        decay_steps = self.steps - self.warmup_steps if self.decay_steps is None else self.decay_steps
        down = (self.steps - step) / max(1, decay_steps)
        return self.learning_rate * min(1.0, up, down)

    def autocasts(self, device_type: str) -> bool:
        """Whether matrix products are computed in bfloat16 on a device of this type."""
        return device_type == "cuda" if self.bf16 is None else self.bf16


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
        """Refuse what cannot be drawn.

        Raises:
            UsageError: A value is wrong; the message names the field.
        """
        check_count("window_bp", self.window_bp, least=1)
        check_count("margin_bp", self.margin_bp)
        if 2 * self.margin_bp >= self.window_bp:
            raise UsageError(f"leaves nothing of a window of {self.window_bp} bp", "margin_bp", self.margin_bp)
        for name in ("site_fraction", "cut_fraction", "mutation_rate"):
            check_share(name, getattr(self, name), whole=True)
        for weight in self.kind_weights:
            check_not_negative("kind_weights", weight)
        if not sum(self.kind_weights) > 0:
            raise UsageError("one must be above 0", "kind_weights", self.kind_weights)
        check_positive("tss_sigma_bp", self.tss_sigma_bp)
