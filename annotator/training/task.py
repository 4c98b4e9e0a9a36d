"""What the fine-tuning loop asks of a task, and what a task says about the model it ends in."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from annotator.kinds import Kind
from annotator.models.manifest import Calibration, CladeSettings, WindowTask
from annotator.models.track_set import Feature
from annotator.training.calibrate import fit_calibration

logger = logging.getLogger(__name__)

FLAT = 1e-3
"""Slope of a calibration that says nothing; a manifest's are above 0."""


@dataclass(frozen=True)
class Share:
    """One process of several.

    Attributes:
        rank: Which, from 0.
        processes: How many.
    """

    rank: int = 0
    processes: int = 1

    def of(self, rows: int) -> slice:
        """Its part of a batch: runs of rows, as even as can be."""
        return slice(rows * self.rank // self.processes, rows * (self.rank + 1) // self.processes)


@dataclass(frozen=True)
class Outcome:
    """A finished model's part of a manifest.

    Attributes:
        plan: Arguments of `PlanOptions`.
        tracks: Of the model.
        radius_bp: Per kind.
        clades: Settings per clade.
        metrics: Figures on the dev data.
        window: Of a classifier of windows.
        features: Of tracks that are not donor, acceptor or tss.
    """

    plan: dict[str, int]
    tracks: tuple[str, ...]
    radius_bp: dict[Kind, int]
    clades: dict[str, CladeSettings]
    metrics: dict[str, Any]
    window: WindowTask | None = None
    features: dict[str, Feature] = field(default_factory=dict)


class Learner(Protocol):
    """A task and its data.

    Attributes:
        steps: Optimiser steps of the whole run.
        validate_steps: Steps between validations.
        hashes: sha256 of every file that is learnt from or validated on, by its part in the run.
        drawn: What else decides which windows a step learns from.
        described: The data, for the manifest.
    """

    steps: int
    validate_steps: int
    hashes: dict[str, str]
    drawn: dict[str, Any]
    described: dict[str, Any]

    def loss(self, net: nn.Module, step: int, share: Share) -> Tensor:
        """This process's part of a step's loss; the parts of all processes add up to the loss of the batch."""

    def settle(self, net: nn.Module) -> None:
        """Make a network in eval mode, whose weights are those of training or their average, what it is when it is used."""

    def validate(self, net: nn.Module) -> dict[str, float]:
        """Figures of a network in eval mode on the dev data; "score" is the one to raise."""

    def outcome(self, net: nn.Module) -> Outcome:
        """Calibrate a network in eval mode on the dev data and set its thresholds."""


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of what one process draws in one step."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def calibrated(kind: str, logit: NDArray[np.floating], right: NDArray[np.bool_]) -> Calibration:
    """`fit_calibration` that a manifest can hold: where high logits are no likelier to be right, it is flat at their share.

    Args:
        kind: Of call, for the warning that there is then.
        logit: Any number of examples.
        right: Whether each is right.
    """
    fit = fit_calibration(logit, right)
    if fit.scale > 0:
        return fit
    logger.warning("%s: on the dev data the scores are no better than chance", kind)
    share = right.mean()
    return Calibration(FLAT, round(float(np.log(share / (1 - share))), 5))
