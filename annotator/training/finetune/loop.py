"""The loop of fine-tuning: plain torch, in one process or several, resumable to the same numbers."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from annotator.errors import ModelFault
from annotator.training.finetune.options import FinetuneOptions
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
from annotator.training.task import Learner, Share, step_seed

logger = logging.getLogger(__name__)

MAY_CHANGE = ("patience", "checkpoint_steps")
"""Options that an unfinished run may be continued with another value of."""
NEVER = -math.inf


class Finetuner:
    """One run in a folder: killed and started again, it goes on.

    Attributes:
        step: Steps done.
        best: Score, step and weights of the best validation so far.
    """

    def __init__(
        self, net: nn.Module, learner: Learner, options: FinetuneOptions, folder: Path, *, identity: Mapping[str, Any],
        device: torch.device, share: Share,
    ) -> None:  # fmt: skip
        """Set up, and resume if the folder holds a checkpoint.

        Args:
            net: With its first weights, the same in every process; moved to `device`.
            learner: The task.
            options: How to learn.
            folder: Of the run.
            identity: What else a run must have in common with the one in the folder.
            device: Where to compute.
            share: This process among all.

        Raises:
            UsageError: The folder holds another run.
        """
        self._net, self._learner, self._options, self._folder = net.to(device), learner, options, folder
        self._device, self._share = device, share
        self._settings = {**asdict(options), **identity, "total_steps": learner.steps, "validate_every": learner.validate_steps}
        moving = {name for name, value in net.named_parameters() if value.requires_grad}
        self._moving = moving | {name for name, _ in net.named_buffers()}
        learning = [value for value in net.parameters() if value.requires_grad]
        matrices, rest = [p for p in learning if p.ndim > 1], [p for p in learning if p.ndim < 2]
        self._optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": options.weight_decay}, {"params": rest, "weight_decay": 0.0}],
            lr=options.learning_rate,
        )
        self.step, self.best = 0, (NEVER, 0, self._weights())
        self._average = self._weights() if options.ema else {}
        self._wait = 0
        self._resume()
        self._parallel: nn.Module = self._net
        if share.processes > 1:
            # Every process counts its part of the batch's loss, so gradients add up where DDP takes their mean.
            self._parallel = DistributedDataParallel(self._net)

    def run(self, *, until: int | None = None) -> None:
        """Learn to the end (or to `until`), which comes early where `patience` validations in a row bring no gain."""
        end = min(self._learner.steps, until or self._learner.steps)
        losses, since = [], time.monotonic()
        while self.step < end and not self._stopped():
            losses.append(self._one_step())
            last = self.step == self._learner.steps
            if self.step % self._learner.validate_steps == 0 or last:
                self._log(loss=sum(losses) / len(losses), seconds=time.monotonic() - since, **self._validate())
                losses, since = [], time.monotonic()
            if self.step % self._options.checkpoint_steps == 0 or self.step == end or self._stopped():
                self._save()

    def load_best(self) -> None:
        """Give the network the weights of the best validation."""
        self._net.load_state_dict(self.best[2], strict=False)
        self._net.eval()

    def _stopped(self) -> bool:
        return 0 < self._options.patience <= self._wait

    def _one_step(self) -> float:
        options, steps = self._options, self._learner.steps
        torch.manual_seed(step_seed(options.seed, self.step, self._share.rank))  # dropout, and what moves windows
        warmup = max(1, round(options.warmup_share * steps))
        rate = options.learning_rate * min(1.0, (self.step + 1) / warmup, (steps - self.step) / max(1, steps - warmup))
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._net.train()
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._learner.loss(self._parallel, self.step, self._share)
        (loss * self._share.processes).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._net.parameters(), options.clip)
        self._optimizer.step()
        self.step += 1
        value = self._sum(float(loss.detach()))
        if not math.isfinite(value):
            raise ModelFault(f"{self._folder}: the loss is {value} at step {self.step}; a lower learning rate may help")
        if options.ema:
            keep = min(options.ema, (1 + self.step) / (10 + self.step))
            for name, now in self._live().items():
                if now.is_floating_point():
                    self._average[name].lerp_(now, 1 - keep)
                else:
                    self._average[name].copy_(now)
        return value

    def _sum(self, value: float) -> float:
        """A number's sum over all processes."""
        if self._share.processes == 1:
            return value
        total = torch.tensor([value], dtype=torch.float64, device=self._device)
        torch.distributed.all_reduce(total)
        return float(total)

    def _validate(self) -> dict[str, float]:
        """Score the weights (averaged ones, where there are), in the first process for all; keep them if they are the best."""
        learning = self._weights()
        if self._average:
            self._net.load_state_dict(self._average, strict=False)
        self._net.eval()
        self._learner.settle(self._net)
        found = self._learner.validate(self._net) if self._share.rank == 0 else {}
        score = self._sum(found.get("score", 0.0))
        if score > self.best[0]:
            self.best, self._wait = (score, self.step, self._weights()), 0
        else:
            self._wait += 1
        self._net.load_state_dict(learning, strict=False)
        return found

    def _live(self) -> dict[str, Tensor]:
        """What learning changes: weights with a gradient and buffers."""
        return {name: value.detach() for name, value in self._net.state_dict().items() if name in self._moving}

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self._live().items()}

    def _save(self) -> None:
        if self._share.rank:
            return
        tensors = with_prefix("net", self._live()) | with_prefix("average", self._average)
        tensors |= with_prefix("best", self.best[2]) | with_prefix("optimizer", optimizer_tensors(self._optimizer))
        score = None if self.best[0] == NEVER else self.best[0]
        state = {"settings": self._settings, "best_score": score, "best_step": self.best[1], "wait": self._wait}
        write_state(self._folder, self.step, tensors, state)

    def _resume(self) -> None:
        found = read_state(self._folder, self._device)
        if found is None:
            forget_metrics_after(self._folder, -1)
            return
        state, tensors = found
        refuse_another_run(self._folder, state["settings"], self._settings, MAY_CHANGE)
        self._net.load_state_dict(without_prefix("net", tensors), strict=False)
        self._average = without_prefix("average", tensors)
        load_optimizer(self._optimizer, without_prefix("optimizer", tensors))
        score = NEVER if state["best_score"] is None else float(state["best_score"])
        self.best = (score, int(state["best_step"]), without_prefix("best", tensors))
        self.step, self._wait = int(state["step"]), int(state["wait"])
        if self._share.rank == 0:
            forget_metrics_after(self._folder, self.step)
            logger.info("%s: goes on from step %d", self._folder, self.step)

    def _log(self, **values: float) -> None:
        if self._share.rank:
            return
        append_metrics(self._folder, {"step": self.step, **values})
        said = " ".join(f"{key} {value:.4g}" for key, value in values.items() if key != "score")
        logger.info("step %d of %d: %s", self.step, self._learner.steps, said)
