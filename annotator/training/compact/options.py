"""Options of `annotator train`; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from annotator.checks import check_count, check_not_negative, check_share
from annotator.errors import UsageError
from annotator.kinds import Kind
from annotator.labels.options import Organism, PromoterWindows
from annotator.training.options import LoopOptions, WindowOptions

RECIPE = Path(__file__).with_name("recipe.toml")
"""The recipe of the bundled model, which is the default."""
CONTINUED_STEPS, CONTINUED_LEARNING_RATE = 1500, 5e-4
"""Length and peak of a run that goes on from finished weights, where nothing else is said: they need less than random ones."""


@dataclass(frozen=True)
class TrainOptions(LoopOptions):
    """How long and how fast the compact network learns.

    The learning rate is held after the warm-up and falls to zero over the last `decay_steps`.

    Attributes:
        dropout: Share of the channels of the network's trunk left out in training.
        tss_loss_weight: Weight of the TSS track beside donor and acceptor.
        truth_share: Share of the truth in the targets of an organism that has a teacher; the teacher has the rest.
    """

    steps: int = 30_000
    batch_windows: int = 16
    learning_rate: float = 2e-3
    warmup_steps: int = 500
    decay_steps: int | None = 6000
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 5.0
    ema: float = 0.999
    validate_steps: int = 2000
    bf16: bool | None = True
    dropout: float = 0.0
    tss_loss_weight: float = 0.1
    truth_share: float = 0.3

    def __post_init__(self) -> None:
        """Refuse what cannot be run.

        Raises:
            UsageError: A value is wrong; the message names the field.
        """
        super().__post_init__()
        check_count("steps", self.steps, least=1)
        check_count("validate_steps", self.validate_steps, least=1)
        check_share("dropout", self.dropout)
        check_not_negative("tss_loss_weight", self.tss_loss_weight)
        check_share("truth_share", self.truth_share, whole=True)

    def of_length(self, steps: int) -> TrainOptions:
        """These options for a run of another length: the fall to zero keeps its share, the warm-up is at most a tenth.

        Raises:
            UsageError: A run cannot have that length.
        """
        check_count("steps", steps, least=1)
        decay = None if self.decay_steps is None else round(self.decay_steps * steps / self.steps)
        return replace(
            self, steps=steps, decay_steps=decay, warmup_steps=min(self.warmup_steps, steps // 10),
            validate_steps=min(self.validate_steps, max(1, steps)),
        )  # fmt: skip


@dataclass(frozen=True)
class TrainingSettings:
    """A whole recipe.

    Attributes:
        name: Name of the model.
        recipe: Name and version of the recipe, for the manifest.
        k: Token width.
        architecture: Arguments of `CompactConfig`.
        plan: Arguments of `PlanOptions` that the finished model scans with.
        radius_bp: Calls are local maxima within this, per kind.
        windows: How windows are drawn.
        train: How long and how fast.
        organisms: To learn from.
        promoters: Tables of short windows to learn promoters from, beside the organisms.
        validation: To watch, to calibrate and to set thresholds on.
        licence: Licence of the weights, as the user states it.
        init: Bundled model, model directory or bare .safetensors checkpoint whose weights the run goes on from; empty for random
            weights.
        held_out: Contigs of the organisms that are not learnt from and join the validation genomes.
        note: Anything about the run that the other fields do not say; goes into the manifest.
    """

    name: str
    recipe: str
    k: int
    architecture: dict[str, Any]
    plan: dict[str, int]
    radius_bp: dict[Kind, int]
    windows: WindowOptions = field(default_factory=WindowOptions)
    train: TrainOptions = field(default_factory=TrainOptions)
    organisms: tuple[Organism, ...] = ()
    validation: tuple[Organism, ...] = ()
    licence: str = "not stated"
    init: str = ""
    held_out: tuple[str, ...] = ()
    note: str = ""
    promoters: tuple[PromoterWindows, ...] = ()

    def of_clade(self, clade: str) -> TrainingSettings:
        """The part of a recipe that a network of one clade alone learns from and is calibrated on.

        Raises:
            UsageError: The recipe has nothing of the clade to learn from, or nothing to calibrate on.
        """
        organisms, validation = (tuple(o for o in side if o.clade == clade) for side in (self.organisms, self.validation))
        for side, what in ((organisms, "learn from"), (validation, "calibrate on")):
            if not side:
                raise UsageError(f"the recipe has no genome of this clade to {what}", "only", clade)
        promoters = tuple(windows for windows in self.promoters if windows.clade == clade)
        return replace(self, organisms=organisms, promoters=promoters, validation=validation)
