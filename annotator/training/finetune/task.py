"""What fine-tuning asks of a task beside the loop: its data's identity, and what it says about the model it ends in."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from annotator.kinds import Kind
from annotator.models.manifest import CladeSettings, WindowTask
from annotator.models.track_set import Feature
from annotator.training.finetune.options import FinetuneOptions
from annotator.training.task import PartLoss, Share, Task

RADIUS_BP = {Kind.DONOR: 2, Kind.ACCEPTOR: 2, Kind.PROMOTER: 250}
"""Calls of these kinds are local maxima within so many bases."""


@dataclass(frozen=True)
class Outcome:
    """A finished model's part of a manifest.

    Attributes:
        plan: Arguments of `PlanOptions`.
        tracks: Tracks of the model, in order.
        radius_bp: Calls are local maxima within this, per kind.
        clades: Settings per clade.
        metrics: Figures on the dev data.
        window: What a classifier of windows looks at; None for a model that labels bases.
        features: The tracks that are not donor, acceptor or tss.
    """

    plan: dict[str, int]
    tracks: tuple[str, ...]
    radius_bp: dict[Kind, int]
    clades: dict[str, CladeSettings]
    metrics: dict[str, Any]
    window: WindowTask | None = None
    features: dict[str, Feature] = field(default_factory=dict)


class FinetuneTask(Task):
    """A task of fine-tuning and its data; validations have a score, and the best weights are kept.

    Attributes:
        options: The options of the run, with the numbers of steps that follow from the data.
        hashes: sha256 of every file that is learnt from or validated on, by its part in the run.
        drawn: What else decides which windows a step learns from.
        described: The data, for the manifest.
    """

    options: FinetuneOptions
    may_change = ("patience", "checkpoint_steps")
    hashes: dict[str, str]
    drawn: dict[str, Any]
    described: dict[str, Any]

    def __init__(self, options: FinetuneOptions, clade: str, device: torch.device) -> None:
        """Hold what both kinds of data need.

        Args:
            options: How to learn, with the numbers of steps that follow from the data.
            clade: Clade of the data.
            device: Where to compute.
        """
        self.options, self.patience = options, options.patience
        self.report_steps = options.validate_steps
        self._clade, self._device, self._bf16 = clade, device, options.autocasts(device.type)

    def losses(self, net: nn.Module, step: int, share: Share) -> Iterator[PartLoss]:
        """See `Task`; the batch is one part."""
        yield PartLoss(self.loss(net, step, share))

    @abstractmethod
    def loss(self, net: nn.Module, step: int, share: Share) -> Tensor:
        """This process's part of a step's loss; the parts of all processes add up to the loss of the batch."""

    @abstractmethod
    def outcome(self, net: nn.Module) -> Outcome:
        """Calibrate a network in eval mode on the dev data and set its thresholds."""
