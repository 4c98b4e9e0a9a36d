"""The training loop of every task: plain torch, in one process or several, checkpointed, resumable to the same numbers."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from annotator.errors import ModelFault
from annotator.training.run_folder import (
    append_metrics,
    forget_metrics_after,
    load_optimizer,
    optimizer_tensors,
    read_state,
    refuse_another_run,
    with_prefix,
    without_prefix,
    write_state,
)
from annotator.training.task import PartLoss, Share, Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Best:
    """The best validation of a run so far.

    Attributes:
        score: Its score.
        step: Steps done when it took place.
        weights: The weights that were validated, by name.
    """

    score: float
    step: int
    weights: dict[str, Tensor]


@dataclass
class _Report:
    """What the steps since the last report have added up to."""

    losses: list[float] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    work: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, part: PartLoss) -> None:
        """Count the figures and the work of a part of a step."""
        for sums, values in ((self.figures, part.figures), (self.work, part.work)):
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value

    def row(self) -> dict[str, float]:
        """Mean loss and figures of a step, the seconds that the steps took, and the work of a second."""
        steps = len(self.losses)
        means = {name: total / steps for name, total in self.figures.items()}
        rates = {f"{unit}_per_s": amount / self.seconds for unit, amount in self.work.items()}
        return {"loss": sum(self.losses) / steps, **means, "seconds": self.seconds, **rates}


class Loop:
    """One run in a folder; killed and started again, it goes on.

    Attributes:
        step: Steps done.
        best: The best validation so far; None where there was none, or validations have no score.
    """

    def __init__(
        self, net: nn.Module, task: Task, folder: Path, *, identity: Mapping[str, Any], device: torch.device,
        share: Share | None = None,
    ) -> None:  # fmt: skip
        """Set up, and resume if the folder holds a checkpoint.

        Args:
            net: The network with its first weights, the same in every process; moved to `device`.
            task: What it learns.
            folder: Folder of the run, held by the caller.
            identity: What a run must have in common with the one in the folder, beside the task's options.
            device: Where to compute.
            share: This process among all; None for the only one.

        Raises:
            UsageError: The folder holds another run.
            InputError: The checkpoint in it is damaged.
        """
        self._net, self._task, self._folder, self._device = net.to(device), task, folder, device
        self._share = share or Share()
        self._options = task.options
        self._settings = {**asdict(task.options), **identity}
        learning = [weight for weight in net.parameters() if weight.requires_grad]
        names = {name for name, weight in net.named_parameters() if weight.requires_grad}
        self._changing = names | {name for name, _ in net.named_buffers()}
        decayed, rest = ([w for w in learning if task.decays(w) == decays] for decays in (True, False))
        self._optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": self._options.weight_decay}, {"params": rest, "weight_decay": 0.0}],
            lr=self._options.learning_rate, betas=self._options.betas, eps=self._options.epsilon,
        )  # fmt: skip
        self.step = 0
        self.best: Best | None = None
        self._without_gain = 0
        self._average = self._copied_weights() if self._options.ema else {}
        self._report = _Report()
        self._resume()
        self._parallel = self._net
        if self._share.processes > 1:
            self._parallel = DistributedDataParallel(self._net)

    def run(self) -> None:
        """Learn to the last step, or until the task's patience is at an end."""
        options, task = self._options, self._task
        if self.step == 0 and task.validates_first:
            self._write_row(self._validate())
        while not self._done():
            self._one_step()
            row: dict[str, float] = {}
            if self.step == options.steps or self.step % task.report_steps == 0:
                row |= self._report.row()
                self._report = _Report()
            if self.step == options.steps or self.step % options.validate_steps == 0:
                row |= self._validate()
            if row:
                self._write_row(row)
            if self._done() or self.step % options.checkpoint_steps == 0:
                self._save()

    def load_final_weights(self) -> None:
        """Give the network, in eval mode, the weights to keep: the best ones, else the averaged ones, else the last ones."""
        self._load_weights(self.best.weights if self.best else self._average)
        self._net.eval()

    def _done(self) -> bool:
        return self.step >= self._options.steps or 0 < self._task.patience <= self._without_gain

    def _one_step(self) -> None:
        """Update the weights once.

        Raises:
            ModelFault: The loss is not finite.
        """
        began, options, processes = time.monotonic(), self._options, self._share.processes
        self._task.seed_torch(self.step, self._share.rank)
        for group in self._optimizer.param_groups:
            group["lr"] = options.rate(self.step)
        self._net.train()
        self._optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self._device)
        for part in self._task.losses(self._parallel, self.step, self._share):
            # Every process counts its part of the batch's loss, so gradients add up where DistributedDataParallel means them.
            (part.value * processes).backward()  # type: ignore[no-untyped-call]
            total += part.value.detach()
            self._report.add(part)
        torch.nn.utils.clip_grad_norm_(self._net.parameters(), options.clip)
        self._optimizer.step()
        self.step += 1
        loss = self._sum(float(total))
        if not math.isfinite(loss):
            raise ModelFault(f"{self._folder}: the loss is {loss} at step {self.step}; a lower learning rate may help")
        self._update_average()
        self._report.losses.append(loss)
        self._report.seconds += time.monotonic() - began

    def _update_average(self) -> None:
        """Move the averaged weights towards those of this step; early steps, whose weights are still random, count for less."""
        if not self._average:
            return
        keep = min(self._options.ema, (1 + self.step) / (10 + self.step))
        for name, value in self._weights().items():
            if value.is_floating_point():
                self._average[name].lerp_(value, 1 - keep)
            else:
                self._average[name].copy_(value)

    def _validate(self) -> dict[str, float]:
        """Validate the weights (averaged ones, where there are), in the first process for all; keep them if they are the best."""
        learning = self._copied_weights()
        self._load_weights(self._average)
        self._net.eval()
        self._task.settle(self._net)
        found = self._task.validate(self._net) if self._share.rank == 0 else {}
        # Other processes add nothing to the first one's score; one that does not exist is above none.
        score = self._sum(found.get("score", math.nan) if self._share.rank == 0 else 0.0)
        if score > (self.best.score if self.best else -math.inf):
            self.best, self._without_gain = Best(score, self.step, self._copied_weights()), 0
        else:
            self._without_gain += 1
        self._load_weights(learning)
        return found

    def _sum(self, value: float) -> float:
        """A number's sum over all processes."""
        if self._share.processes == 1:
            return value
        total = torch.tensor([value], dtype=torch.float64, device=self._device)
        torch.distributed.all_reduce(total)
        return float(total)

    def _weights(self) -> dict[str, Tensor]:
        """What learning changes: weights with a gradient and buffers, by name; tied weights under one name."""
        return {name: value.detach() for name, value in self._net.state_dict().items() if name in self._changing}

    def _copied_weights(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self._weights().items()}

    def _load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Give the network some or none of its weights."""
        self._net.load_state_dict(weights, strict=False)

    def _save(self) -> None:
        """Write a checkpoint, in the first process."""
        if self._share.rank:
            return
        tensors = with_prefix("net", self._weights()) | with_prefix("average", self._average)
        tensors |= with_prefix("optimizer", optimizer_tensors(self._optimizer))
        state: dict[str, Any] = {"settings": self._settings, "validations_without_gain": self._without_gain}
        if self.best:
            tensors |= with_prefix("best", self.best.weights)
            state["best"] = {"score": self.best.score, "step": self.best.step}
        write_state(self._folder, self.step, tensors, state)

    def _resume(self) -> None:
        """Go on from the folder's checkpoint, if there is one."""
        found = read_state(self._folder, self._device)
        if found is not None:
            state, tensors = found
            refuse_another_run(self._folder, state["settings"], self._settings, self._task.may_change)
            self._load_weights(without_prefix("net", tensors))
            self._average = without_prefix("average", tensors)
            load_optimizer(self._optimizer, without_prefix("optimizer", tensors))
            if "best" in state:
                self.best = Best(float(state["best"]["score"]), int(state["best"]["step"]), without_prefix("best", tensors))
            self.step, self._without_gain = int(state["step"]), int(state["validations_without_gain"])
        if self._share.rank == 0:
            forget_metrics_after(self._folder, self.step if found else -1)
            if found:
                logger.info("%s: goes on from step %d", self._folder, self.step)

    def _write_row(self, row: Mapping[str, float]) -> None:
        """Add a line to the run's metrics and say it, in the first process."""
        if self._share.rank:
            return
        append_metrics(self._folder, {"step": self.step, **row})
        said = " ".join(f"{name} {value:.4g}" for name, value in row.items())
        logger.info("step %d of %d: %s", self.step, self._options.steps, said)
