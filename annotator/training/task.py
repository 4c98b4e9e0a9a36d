"""What the training loop asks of a task: the loss of a step, a validation, and the few values in which tasks differ."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from annotator.training.options import LoopOptions


@dataclass(frozen=True)
class Share:
    """One process of several that learn together.

    Attributes:
        rank: Number of this process, from 0.
        processes: Number of all processes.
    """

    rank: int = 0
    processes: int = 1

    def of(self, rows: int) -> slice:
        """The rows of a batch that this process learns from: a contiguous run, as long as the others' to one row."""
        return slice(rows * self.rank // self.processes, rows * (self.rank + 1) // self.processes)


@dataclass(frozen=True)
class PartLoss:
    """The loss of a part of a step's batch.

    Attributes:
        value: The loss, a scalar with its graph.
        figures: Further figures of this part, by name; a step's are the sums over its parts, reported as means over steps.
        work: Amounts of data, by unit; reported per second.
    """

    value: Tensor
    figures: dict[str, float] = field(default_factory=dict)
    work: dict[str, float] = field(default_factory=dict)


class Task(ABC):
    """What a network learns, and from what data.

    Attributes:
        options: How long and how fast to learn; nothing is left to choose.
        may_change: Names of options that an unfinished run may be continued with another value of.
        report_steps: Steps between two reports of the loss.
        validates_first: Whether the untrained network is validated, too.
        patience: Validations without a gain after which the run ends; 0 for never.
    """

    options: LoopOptions
    may_change: tuple[str, ...] = ("checkpoint_steps",)
    report_steps: int = 100
    validates_first: bool = False
    patience: int = 0

    @abstractmethod
    def losses(self, net: nn.Module, step: int, share: Share) -> Iterator[PartLoss]:
        """The losses of the parts of a step's batch, one after the other; each graph is used up before the next is built.

        Args:
            net: The network in training mode; the one that synchronises gradients where several processes learn.
            step: Number of the step, from 0.
            share: This process among all. The losses of all parts of all processes add up to the loss of the batch.
        """

    @abstractmethod
    def validate(self, net: nn.Module) -> dict[str, float]:
        """Figures of a network in eval mode on the validation data.

        Where a figure is called "score", the weights with the highest one are kept, and `patience` looks at it.
        """

    def settle(self, net: nn.Module) -> None:
        """Make a network in eval mode what it is when it is used; called before each validation."""
        del net

    def decays(self, weight: nn.Parameter) -> bool:
        """Whether weight decay applies to a weight: to matrices, not to biases and norms."""
        return weight.ndim > 1

    def seed_torch(self, step: int, rank: int) -> None:
        """Seed what torch draws in a step (dropout, shifted windows), so that a resumed run draws the same."""
        torch.manual_seed(
            int(np.random.SeedSequence([self.options.seed, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))
        )
