"""Learning classes of windows from tables."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from annotator.errors import InputError, UsageError
from annotator.evaluation.classification import class_log_odds, class_scores
from annotator.evaluation.metrics import average_precision
from annotator.files import file_sha256
from annotator.kinds import SPLICE_TRACKS, TRACK_KIND, Kind
from annotator.labels.window_tables import WindowTable, read_window_table
from annotator.models.manifest import Calibration, WindowTask
from annotator.models.track_set import Feature, TrackSet
from annotator.training.calibrate import (
    LEAST_WINDOW_AUPRC,
    Candidates,
    best_threshold,
    clade_settings,
    fit_rising_calibration,
    reached,
)
from annotator.training.finetune.options import OTHER, FeatureTrack, FinetuneOptions, TableData
from annotator.training.finetune.task import RADIUS_BP, FinetuneTask, Outcome
from annotator.training.task import Share

logger = logging.getLogger(__name__)

ROWS_PER_PASS = 128
BASES_PER_PASS = 1 << 16
SETTLE_ROWS = 16 * ROWS_PER_PASS
MOMENTUM = 0.1
"""Momentum of batch norms in training: torch's own."""
ALIGN_BP = 8


def read_tables(data: TableData, seed: int) -> tuple[WindowTable, WindowTable]:
    """Train and dev table; without a file for dev, a share of every class of train, drawn by the seed.

    Raises:
        AnnotatorError: A table is missing or bad, or has labels that the other lacks.
    """
    train = read_window_table(data.train)
    if data.dev is not None:
        dev = read_window_table(data.dev)
    else:
        kept = np.zeros(len(train), bool)
        rng = np.random.default_rng([seed, 0])
        for label in np.unique(train.labels):
            rows = rng.permutation(np.flatnonzero(train.labels == label))
            kept[rows[: max(1, round(len(rows) * data.dev_share))]] = True
        dev, train = _rows(train, kept), _rows(train, ~kept)
    classes = int(train.labels.max(initial=0)) + 1
    if absent := sorted(set(range(max(classes, 2))) - set(train.labels.tolist())):
        raise InputError(f"{train.path}: no row of label {absent[0]} to learn from; labels should count up from 0, at least to 1")
    dev.check_classes(classes)
    if absent := sorted(set(range(classes)) - set(dev.labels.tolist())):
        raise InputError(f"{dev.path}: no row of label {absent[0]}; thresholds are set on this table")
    return train, dev


def _rows(table: WindowTable, kept: NDArray[np.bool_]) -> WindowTable:
    sequences = [sequence for sequence, keep in zip(table.sequences, kept.tolist(), strict=True) if keep]
    return replace(table, sequences=sequences, labels=table.labels[kept])


def window_task(data: TableData, train: WindowTable) -> tuple[WindowTask, dict[str, Feature]]:
    """What the classes of a table mean, and how its windows are slid over a genome.

    Raises:
        UsageError: The classes named do not fit the labels, one of them lacks its anchor, an anchor or a feature is of none of
            them, or windows would lie further apart than they are long.
    """
    count = int(train.labels.max()) + 1
    lengths, times = np.unique([len(sequence) for sequence in train.sequences], return_counts=True)
    window_bp = int(lengths[times.argmax()])
    named = {feature.name: feature for feature in data.features}
    classes = data.classes
    if not classes:
        stem = data.train.resolve().parent.name
        classes = (OTHER, *([stem] if count == 2 else [f"{stem}-{label}" for label in range(1, count)]))
        named = {name: FeatureTrack(name) for name in classes[1:]} | named
    if len(classes) != count or len(set(classes)) < count or set(classes) == {OTHER}:
        raise UsageError(f"{train.path}: {count} labels, but the classes named are {', '.join(classes)}")
    if data.stride_bp > window_bp:
        raise UsageError(f"windows of {window_bp} bp every {data.stride_bp} bp would leave bases out")
    features, anchors = {}, {}
    for name in classes:
        if name == OTHER:
            continue
        if name in TRACK_KIND:
            anchor = data.anchor_bp.get(name, -1)
            if not 0 <= anchor < window_bp:
                raise UsageError(f"class {name} needs an anchor: the base of the window, 0..{window_bp - 1}, that it speaks of")
            anchors[name] = anchor
        elif name in named:
            features[name] = Feature(named[name].kind, named[name].width_bp or window_bp)
        else:
            raise UsageError(f"class {name} is none of {', '.join([*TRACK_KIND, OTHER])} and no feature")
    if idle := sorted({*named, *data.anchor_bp} - set(classes)):
        raise UsageError(f"{idle[0]}: none of the classes {', '.join(classes)}")
    splices = any(name in SPLICE_TRACKS for name in classes)
    return WindowTask(window_bp, data.stride_bp or (1 if splices else ALIGN_BP), classes, anchors), features


class TableTask(FinetuneTask):
    """Classes of windows: cross-entropy on batches of a shuffled table, stopped and calibrated on the dev table."""

    def __init__(self, data: TableData, options: FinetuneOptions, clade: str, device: torch.device) -> None:
        """Read the tables.

        Args:
            data: Tables, and what their classes mean.
            options: How to learn.
            clade: Clade of the data.
            device: Where to compute.

        Raises:
            AnnotatorError: A table is missing or bad.
        """
        self.train, self.dev = read_tables(data, options.seed)
        self.task, self.features = window_task(data, self.train)
        if options.processes > len(self.train):
            raise UsageError(f"{data.train}: {len(self.train)} rows to learn from, too few for {options.processes} processes")
        per_epoch = max(1, len(self.train) // options.batch_windows)
        steps = options.steps or max(1, options.least_steps, round(options.epochs * per_epoch))
        super().__init__(options.for_steps(steps, options.validate_steps or max(per_epoch, steps // 10)), clade, device)
        self.hashes = {"train": file_sha256(self.train.path), "dev": file_sha256(self.dev.path)}
        self.drawn = {"dev_share": data.dev_share}
        counts = np.bincount(self.train.labels, minlength=len(self.task.classes))
        balanced = len(self.train) / (len(counts) * counts)
        self._weights = torch.from_numpy(balanced if options.class_weights == "balanced" else np.ones(len(counts))).float()
        self.described = {
            "train": {"file": self.train.path.name, "rows": counts.tolist(), "sha256": self.hashes["train"]},
            "dev": {"file": self.dev.path.name, "rows": np.bincount(self.dev.labels).tolist(), "sha256": self.hashes["dev"]},
        }
        if data.dev is None:
            self.described["dev"] |= {"share_of_train": data.dev_share}
        logger.info(
            "%s: %d rows, %s; %d to validate on", data.train, len(self.train), _counts_text(self.task, counts), len(self.dev)
        )

    def loss(self, net: nn.Module, step: int, share: Share) -> Tensor:
        """See `FinetuneTask`."""
        rows = self._batch(step)
        total = self._weights[torch.from_numpy(self.train.labels[rows])].sum()
        mine = rows[share.of(len(rows))]
        labels = torch.from_numpy(self.train.labels[mine]).to(self._device)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            logits = net([self.train.sequences[row] for row in mine])
        return F.cross_entropy(logits, labels, self._weights.to(self._device), reduction="sum") / total.to(self._device)

    def _batch(self, step: int) -> NDArray[np.int64]:
        """Rows of a step: each epoch goes once through the table in an order of its own, a last part of a batch left out."""
        size = min(self.options.batch_windows, len(self.train))
        epoch, index = divmod(step, len(self.train) // size)
        order = np.random.default_rng([self.options.seed, 1, epoch]).permutation(len(self.train))
        return order[index * size : (index + 1) * size]

    @torch.no_grad()
    def settle(self, net: nn.Module) -> None:
        """See `Task`: batch norms take their statistics anew, from the same rows of the train table, without dropout.

        What they gathered in training is that of other weights than the averaged ones, and of activations with dropout, whose
        spread is larger (Li et al. 2019, Understanding the disharmony between dropout and batch normalization).
        """
        norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm1d)]
        if not norms:
            return
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over what follows
            norm.train()
        rows = np.random.default_rng([self.options.seed, 2]).permutation(len(self.train))[:SETTLE_ROWS]
        self.logits(net, [self.train.sequences[row] for row in rows])
        for norm in norms:
            norm.momentum = MOMENTUM
            norm.eval()

    def validate(self, net: nn.Module) -> dict[str, float]:
        """See `Task`; the score is the Matthews correlation."""
        logits = self.logits(net, self.dev.sequences)
        found = class_scores(logits, self.dev.labels)
        spread = torch.from_numpy(logits)
        loss = float(F.cross_entropy(spread, torch.from_numpy(self.dev.labels), self._weights))
        figures = {name: getattr(found, name) for name in ("mcc", "f1", "auroc", "auprc")}
        return {"score": found.mcc, **figures, "dev_loss": loss}

    @torch.no_grad()
    def logits(self, net: nn.Module, sequences: Sequence[bytes]) -> NDArray[np.float32]:
        """Class logits of sequences, float32, [n, classes]."""
        parts = []
        rows = max(1, min(ROWS_PER_PASS, BASES_PER_PASS // max(map(len, sequences))))
        for first in range(0, len(sequences), rows):
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
                parts.append(net(sequences[first : first + rows]).float().cpu())
        found: NDArray[np.float32] = torch.cat(parts).numpy()
        return found

    def outcome(self, net: nn.Module) -> Outcome:
        """See `FinetuneTask`.

        The calibration maps log-odds of a class to the share of dev windows that are of it: a probability holds for windows
        mixed as in the table. The threshold of a kind is the one with the best F1 on them.
        """
        logits = self.logits(net, self.dev.sequences)
        found = class_scores(logits, self.dev.labels)
        odds = class_log_odds(logits)
        tracks = tuple(name for name in self.task.classes if name != OTHER)
        track_set = TrackSet(tracks, self.features)
        thresholds: dict[Kind, float] = {}
        calibration: dict[Kind, Calibration] = {}
        areas: dict[Kind, float] = {}
        metrics: dict[str, Any] = {key: round(value, 5) for key, value in asdict(found).items()}
        for kind in track_set.kinds:
            columns = [self.task.classes.index(track) for track in tracks if track_set.kind_of(track) is kind]
            values = np.concatenate([odds[:, column] for column in columns])
            right = np.concatenate([self.dev.labels == column for column in columns])
            calibration[kind] = fit_rising_calibration(kind, values, right)
            areas[kind] = float(average_precision(values.astype(np.float32), right))
            thresholds[kind], figures = best_threshold([Candidates(values, right, int(right.sum()))], calibration[kind])
            metrics[kind] = {key: round(value, 5) for key, value in figures.items()}
        kinds = tuple(thresholds)
        radius = {kind: max(RADIUS_BP.get(kind, self.task.window_bp // 2), self.task.stride_bp) for kind in kinds}
        return Outcome(
            plan=window_plan(self.task, max(radius.values())), tracks=tracks, radius_bp=radius,
            clades=clade_settings(
                self._clade, thresholds, calibration, f"windows mixed as in {self.dev.path.parent.name}",
                reached(areas, LEAST_WINDOW_AUPRC),
            ),
            metrics=metrics, window=self.task, features=self.features,
        )  # fmt: skip


def window_plan(task: WindowTask, radius_bp: int) -> dict[str, int]:
    """Windows of the engine that a classifier of windows is slid over.

    A halo holds a window, the bases that its call is compared with, and what the minus strand is shifted by; as much N lies
    beyond a contig's end, so that every base of a short contig has windows too.
    """
    align = int(ALIGN_BP * task.stride_bp // np.gcd(ALIGN_BP, task.stride_bp))

    def aligned(size: int) -> int:
        return -(-size // align) * align

    halo = aligned(task.window_bp + radius_bp + align)
    return {
        "window_bp": max(aligned(16_384), 4 * halo), "halo_bp": halo, "pad_bp": halo,
        "smallest_bp": aligned(max(512, task.window_bp)), "align_bp": align,
    }  # fmt: skip


def _counts_text(task: WindowTask, counts: NDArray[np.int64]) -> str:
    return ", ".join(f"{name} {count}" for name, count in zip(task.classes, counts.tolist(), strict=True))
