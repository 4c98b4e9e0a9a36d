"""The training loop: plain torch, checkpointed, resumable to the same numbers."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from annotator.errors import ModelFault
from annotator.labels.labelled import LabelledGenome
from annotator.models.families.compact.net import CompactNet
from annotator.tokens.kmer_rows import kmer_ids_of_rows
from annotator.tokens.vocabulary import KmerVocabulary
from annotator.training.compact.options import TrainOptions, WindowOptions
from annotator.training.dataset import Batch, draw_batch
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

logger = logging.getLogger(__name__)

MAY_CHANGE = ("steps", "decay_steps", "validate_steps", "checkpoint_steps")
"""Options that an unfinished run may be continued with another value of: its length, not what it learns from."""


def batch_loss(logits: Tensor, targets: Tensor, weights: Tensor, tss_weight: float) -> tuple[Tensor, list[float]]:
    """Binary cross-entropy a kilobase, summed over tracks.

    Args:
        logits: float32, [B, L, C].
        targets: 0..1, float32, [B, L, C].
        weights: 1 where the loss counts, [B, L, C].
        tss_weight: Factor of the last track.

    Returns:
        The loss, and each track's own part of it.
    """
    losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none") * weights
    parts = losses.sum((0, 1)) / weights.sum((0, 1)).clamp(min=1.0) * 1000.0
    factors = torch.tensor([1.0, 1.0, tss_weight], device=parts.device)
    return (parts * factors).sum(), parts.detach().tolist()


class Trainer:
    """One training run in a folder: state.safetensors, state.json and metrics.jsonl; killed and started again, it goes on."""

    def __init__(
        self,
        net: CompactNet,
        vocabulary: KmerVocabulary,
        genomes: list[LabelledGenome],
        windows: WindowOptions,
        options: TrainOptions,
        folder: Path,
        *,
        device: torch.device,
        identity: dict[str, Any],
        validate: Callable[[CompactNet], dict[str, float]] | None = None,
    ) -> None:
        """Set up, and resume if the folder holds a checkpoint.

        Args:
            net: With its first weights.
            vocabulary: Of its tokens.
            genomes: To learn from.
            windows: How windows are drawn.
            options: How long and how fast.
            folder: Of the run.
            device: Where to compute.
            identity: What else a run must have in common with the one in the folder: architecture, genomes.
            validate: Gives figures of the averaged weights.

        Raises:
            UsageError: The folder holds another run.
        """
        self.net, self.vocabulary, self.genomes = net.to(device), vocabulary, genomes
        self.windows, self.options, self.folder, self.device = windows, options, folder, device
        self.identity, self.validate = identity, validate
        decay = [p for p in net.parameters() if p.ndim > 2]
        rest = [p for p in net.parameters() if p.ndim <= 2]
        self.optimizer = torch.optim.AdamW(
            [{"params": decay, "weight_decay": options.weight_decay}, {"params": rest, "weight_decay": 0.0}],
            lr=options.learning_rate,
            betas=(0.9, 0.98),
        )
        self.average = {name: value.detach().clone() for name, value in net.state_dict().items()}
        self.step = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._resume()

    def run(self, *, until: int | None = None) -> None:
        """Train to the last step (or to `until`)."""
        end = min(self.options.steps, until or self.options.steps)
        sums, count, since = np.zeros(4), 0, time.monotonic()
        while self.step < end:
            loss, parts = self._one_step()
            sums += [loss, *parts]
            count += 1
            if self.step % 100 == 0:
                mean = sums / count
                bases = count * self.options.batch_windows * self.windows.window_bp
                self._log(
                    step=self.step, loss=mean[0], donor=mean[1], acceptor=mean[2], tss=mean[3],
                    kbp_per_s=bases / (time.monotonic() - since) / 1e3,
                )  # fmt: skip
                sums, count, since = np.zeros(4), 0, time.monotonic()
            if self.step % self.options.checkpoint_steps == 0 or self.step == end:
                self.save()
            if self.validate and (self.step % self.options.validate_steps == 0 or self.step == self.options.steps):
                self._log(step=self.step, **{f"val_{key}": value for key, value in self.validate(self.averaged()).items()})
                since = time.monotonic()

    def averaged(self) -> CompactNet:
        """A copy of the net with the averaged weights, in eval mode."""
        net = CompactNet(self.net.config).to(self.device)
        net.load_state_dict(self.average)
        return net.eval()

    def _one_step(self) -> tuple[float, list[float]]:
        options = self.options
        batch = draw_batch(
            self.genomes, self.windows, windows=options.batch_windows, k=self.vocabulary.k,
            rng=np.random.default_rng([options.seed, self.step]),
        )  # fmt: skip
        loss, parts = self._loss(batch)
        for group in self.optimizer.param_groups:
            group["lr"] = options.rate(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.optimizer.step()
        self.step += 1
        keep = min(options.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.net.state_dict().items():
                if value.is_floating_point():
                    self.average[name].lerp_(value, 1 - keep)
                else:
                    self.average[name].copy_(value)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ModelFault(f"{self.folder}: the loss is {value} at step {self.step}; a lower learning rate may help")
        return value, parts

    def _loss(self, batch: Batch) -> tuple[Tensor, list[float]]:
        self.net.train()
        ids = kmer_ids_of_rows(torch.from_numpy(batch.bases), self.vocabulary.scheme()).to(self.device)
        targets, weights = (torch.from_numpy(x).to(self.device) for x in (batch.targets, batch.weights))
        clade = torch.from_numpy(batch.clade).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.bf16):
            logits = self.net(ids, clade, self.options.dropout)
        return batch_loss(logits, targets, weights, self.options.tss_loss_weight)

    def save(self) -> None:
        """Write the checkpoint."""
        tensors = with_prefix("net", self.net.state_dict()) | with_prefix("average", self.average)
        tensors |= with_prefix("optimizer", optimizer_tensors(self.optimizer))
        write_state(self.folder, self.step, tensors, {"settings": self._settings()})

    def _resume(self) -> None:
        found = read_state(self.folder, self.device)
        if found is None:
            return
        state, tensors = found
        refuse_another_run(self.folder, state["settings"], self._settings(), MAY_CHANGE)
        self.net.load_state_dict(without_prefix("net", tensors))
        self.average = without_prefix("average", tensors)
        load_optimizer(self.optimizer, without_prefix("optimizer", tensors))
        self.step = int(state["step"])
        forget_metrics_after(self.folder, self.step)
        logger.info("resumed at step %d", self.step)

    def _settings(self) -> dict[str, Any]:
        return asdict(self.options) | asdict(self.windows) | self.identity

    def _log(self, **values: Any) -> None:
        row = {key: float(value) if key != "step" else int(value) for key, value in values.items()}
        append_metrics(self.folder, row)
        logger.info(" ".join(f"{key} {round(value, 5)}" for key, value in row.items()))
