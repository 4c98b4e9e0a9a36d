"""Learning tracks of bases from labelled genomes.

Coordinates: contigs end to end, as in `LabelledGenome`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from annotator.calls.rules import TrackRule
from annotator.errors import UsageError
from annotator.evaluation.metrics import Places, average_precision, match_tss, topk
from annotator.evaluation.scores import genome_calls, genome_logits, site_examples, sites_as_places
from annotator.files import file_sha256
from annotator.genome.plan import PlanOptions
from annotator.kinds import LABEL_TRACKS, SPLICE_TRACKS, STRANDS, TRACK_KIND, Kind, Strand
from annotator.labels.genomes import load_genome
from annotator.labels.labelled import LabelledGenome
from annotator.models.manifest import Calibration
from annotator.models.track_set import Feature, TrackSet
from annotator.training.calibrate import (
    CANDIDATE_LOGIT,
    LEAST_AUPRC,
    Candidates,
    best_threshold,
    candidates,
    clade_settings,
    fit_rising_calibration,
    matched_precision,
    reached,
)
from annotator.training.dataset import draw_batch, lesson_of
from annotator.training.finetune.base import Base
from annotator.training.finetune.compact_bases import CompactBases
from annotator.training.finetune.nets import BaseNet
from annotator.training.finetune.options import FinetuneOptions, GenomeData, GenomeFiles
from annotator.training.finetune.task import RADIUS_BP, FinetuneTask, Outcome
from annotator.training.options import WindowOptions
from annotator.training.task import Share

logger = logging.getLogger(__name__)

WINDOW_BP = 2048
"""Bases of a window where neither the user nor the model says."""
SMALLEST_BP = 128
VALIDATE_STEPS = 500

_Scored = list[tuple[LabelledGenome, NDArray[np.float32]]]
"""Genomes and their logits, [2, C, n] as from `genome_logits`."""


class GenomeTask(FinetuneTask):
    """Tracks of bases: binary cross-entropy of every base, stopped and calibrated on genomes that are not learnt from."""

    def __init__(self, data: GenomeData, options: FinetuneOptions, clade: str, device: torch.device, spool: Path) -> None:
        """Read the genomes.

        Args:
            data: Genomes, and how windows are drawn from them.
            options: How to learn.
            clade: Clade of the data.
            device: Where to compute.
            spool: A folder that the reader of genomes may write to.

        Raises:
            AnnotatorError: A file is missing or bad, or there is nothing to learn, to validate on, or no number of steps.
        """
        if not data.train or not data.dev:
            raise UsageError("genomes to learn from and others to set thresholds on are needed")
        if not options.steps:
            raise UsageError("learning from genomes needs a number of steps")
        super().__init__(options.for_steps(options.steps, options.validate_steps or VALIDATE_STEPS), clade, device)
        self._data = data
        self._train, self._dev = (
            [load_genome(files.organism, spool / files.organism.name, files.features) for files in genomes]
            for genomes in (data.train, data.dev)
        )
        self._lessons = [lesson_of(genome) for genome in self._train]
        self.tracks = _tracks(self._train, data)
        for genome in self._dev:
            if missing := sorted(set(self.tracks) - genome.kinds):
                raise UsageError(f"{genome.name}: no {missing[0]} to set a threshold on")
        self.features = {
            feature.name: Feature(feature.kind, feature.width_bp or self._train[0].feature_bp[feature.name])
            for feature in data.features
        }
        self.hashes = {
            f"{split} {number} {path.name}": file_sha256(path)
            for split, genomes in (("train", data.train), ("dev", data.dev))
            for number, files in enumerate(genomes)
            for path in _paths(files)
        }
        self.drawn = {"tracks": self.tracks, "site_share": data.site_share, "sigma_bp": data.sigma_bp}
        self.described = {
            split: {
                genome.name: {"bases": len(genome.bases), "sites": _counts(genome), "annotation": dict(genome.annotation)}
                for genome in genomes
            }
            for split, genomes in (("train", self._train), ("dev", self._dev))
        }
        self.described["sha256"] = self.hashes
        self._windows = WindowOptions()
        self._plan: dict[str, int] = {}
        self._radius: dict[Kind, int] = {}

    def suit(self, base: Base) -> None:
        """Choose windows and radii that a network can take.

        Args:
            base: The network.

        Raises:
            UsageError: The windows asked for are longer, or too short for the features.
        """
        data = self._data
        window = data.window_bp or min(WINDOW_BP, base.longest_bp or WINDOW_BP)
        if base.longest_bp is not None and window > base.longest_bp:
            raise UsageError(f"windows of {window} bp: the model takes {base.longest_bp} bp")
        margin = data.margin_bp or window // 4
        widest = max((feature.width_bp for feature in self.features.values()), default=0)
        # What scans with windows of its own has room for any call; it is given the halo that the calls need.
        room = margin - base.reach_bp - widest - 1 if base.plan is None else window
        if room < 2 or window <= 2 * margin:
            raise UsageError(
                f"windows of {window} bp with margins of {margin} bp are too short"
                + (f": the head reaches {base.reach_bp} bp" if base.plan is None else "")
                + (f" and a feature has {widest} bp" if widest else "")
            )
        self._windows = WindowOptions(
            window_bp=window, margin_bp=margin, site_fraction=data.site_share, kind_weights=(1.0,) * len(self.tracks),
            tss_sigma_bp=data.sigma_bp,
        )  # fmt: skip
        halves = [(feature.kind, feature.width_bp // 2) for feature in self.features.values()]
        radius = RADIUS_BP | {kind: max(half for own, half in halves if own == kind) for kind, _ in halves}
        self.drawn |= {"window_bp": window, "margin_bp": margin}
        self._radius = {kind: min(radius[kind], room) for kind in dict.fromkeys(map(self.kind_of, self.tracks))}
        if base.plan is None:
            self._plan = {
                "window_bp": window, "halo_bp": margin, "pad_bp": 1, "smallest_bp": min(SMALLEST_BP, window), "align_bp": 1,
            }  # fmt: skip
            return
        align = base.plan["align_bp"]
        if window % align:
            raise UsageError(f"windows of {window} bp: the model takes multiples of {align} bp")
        halo = base.reach_bp + max(self._radius.values()) + widest + 1
        self._plan = {**base.plan, "halo_bp": max(base.plan["halo_bp"], -(-halo // align) * align)}

    def kind_of(self, track: str) -> Kind:
        """Kind of call of a track."""
        return TrackSet(self.tracks, self.features).kind_of(track)

    def loss(self, net: nn.Module, step: int, share: Share) -> Tensor:
        """See `FinetuneTask`; a kilobase is the unit, each track counts alike."""
        batch = draw_batch(
            self._lessons, self._windows, windows=self.options.batch_windows, k=1,
            rng=np.random.default_rng([self.options.seed, 1, step]), tracks=self.tracks,
        )  # fmt: skip
        total = torch.from_numpy(batch.weights.sum((0, 1))).clamp(min=1.0).to(self._device)
        mine = share.of(len(batch.bases))
        rows, targets, weights = (
            torch.from_numpy(part[mine]).to(self._device) for part in (batch.bases, batch.targets, batch.weights)
        )
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            logits = net(rows)
        losses = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none") * weights
        found: Tensor = (losses.sum((0, 1)) / total * 1000.0).sum()
        return found

    def validate(self, net: nn.Module) -> dict[str, float]:
        """See `Task`; the score is the mean over tracks of the average precision.

        Splice sites: of every base. Others: of the local maxima, each right within a call's reach of a site.
        """
        return self._figures(self._scored(net))

    def _figures(self, scored: _Scored) -> dict[str, float]:
        figures: dict[str, float] = {}
        for track in self.tracks:
            if track in SPLICE_TRACKS:
                pairs = [site_examples(logits, genome, track, self.tracks) for genome, logits in scored]
                values, labels = (np.concatenate(column) for column in zip(*pairs, strict=True))
                figures[f"{track}_topk"] = float(topk(values, labels))
                figures[f"{track}_auprc"] = float(average_precision(values, labels))
            else:
                found = [self._candidates(logits, genome, track) for genome, logits in scored]
                figures[f"{track}_auprc"] = matched_precision(found)
        areas = [value for key, value in figures.items() if key.endswith("_auprc")]
        return {"score": sum(areas) / len(areas), **figures}

    def outcome(self, net: nn.Module) -> Outcome:
        """See `FinetuneTask`; splice probabilities are those of every base, others those of local maxima."""
        scored = self._scored(net)
        metrics: dict[str, Any] = {key: round(value, 5) for key, value in self._figures(scored).items()}
        thresholds: dict[Kind, float] = {}
        calibration: dict[Kind, Calibration] = {}
        for kind in self._radius:
            tracks = [track for track in self.tracks if self.kind_of(track) == kind]
            found = [self._candidates(logits, genome, track) for track in tracks for genome, logits in scored]
            if kind.is_splice_site:
                pairs = [site_examples(logits, genome, kind, self.tracks) for genome, logits in scored]
            else:
                pairs = [(part.logit.astype(np.float32), part.right) for part in found]
            values, labels = (np.concatenate(column) for column in zip(*pairs, strict=True))
            calibration[kind] = fit_rising_calibration(kind, values, labels)
            thresholds[kind], at_it = best_threshold(found, calibration[kind])
            metrics[kind] = {key: round(value, 5) for key, value in at_it.items()}
        areas = {
            kind: min(metrics[f"{track}_auprc"] for track in self.tracks if self.kind_of(track) == kind) for kind in self._radius
        }
        names = ", ".join(genome.name for genome in self._dev)
        return Outcome(
            plan=self._plan, tracks=self.tracks, radius_bp=self._radius,
            clades=clade_settings(self._clade, thresholds, calibration, f"dev data of {names}", reached(areas, LEAST_AUPRC)),
            metrics=metrics, features=self.features,
        )  # fmt: skip

    def _scored(self, net: nn.Module) -> _Scored:
        """Logits of the dev genomes, from the scanner and the windows of a run."""
        assert isinstance(net, (BaseNet, CompactBases))
        scanner = net.scanner(TrackSet(self.tracks, self.features), self._device)
        plan = PlanOptions(**self._plan)
        # A compact network scans in a precision of its own.
        autocast = self._bf16 and isinstance(net, BaseNet)
        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, enabled=autocast):
            return [
                (genome, genome_logits(scanner, genome, plan, tracks=len(self.tracks), device=self._device))
                for genome in self._dev
            ]

    def _candidates(self, logits: NDArray[np.float32], genome: LabelledGenome, track: str) -> Candidates:
        """Local maxima of a track with their truth."""
        if track not in self.features:
            return candidates(logits, genome, self._radius, TRACK_KIND[track], self.tracks)
        feature = self.features[track]
        threshold = 1.0 / (1.0 + np.exp(-CANDIDATE_LOGIT))
        rule = TrackRule(feature.kind, threshold, 1.0, 0.0, self._radius[feature.kind], feature.width_bp, 0)
        calls = genome_calls(logits, genome, [rule if name == track else None for name in self.tracks])
        place = genome.contig_starts[calls.contig] + calls.position
        logit = logits[(calls.strand == Strand.MINUS).astype(np.int64), self.tracks.index(track), place].astype(np.float64)
        truth = sites_as_places(genome.sites, track, genome.contig_ends)
        called = Places(calls.contig, calls.position + feature.width_bp // 2, calls.strand)
        matched = match_tss(called, logit, truth, max(1, feature.width_bp // 2))
        return Candidates(logit, matched.truth_row >= 0, len(truth))


def _tracks(genomes: Sequence[LabelledGenome], data: GenomeData) -> tuple[str, ...]:
    """Tracks to learn: what the genomes have labels for, sites first."""
    kinds = frozenset().union(*(genome.kinds for genome in genomes))
    named = [feature.name for feature in data.features]
    if odd := sorted((kinds - set(LABEL_TRACKS)) ^ set(named)):
        raise UsageError(f"track {odd[0]}: a BED file and the kind of its calls are both needed")
    if missing := sorted(set(named) - set(genomes[0].feature_bp)):
        raise UsageError(f"track {missing[0]}: its BED file should be given with the first genome")
    return (*(track for track in LABEL_TRACKS if track in kinds), *named)


def _counts(genome: LabelledGenome) -> dict[str, int]:
    return {kind: sum(len(genome.sites[kind, strand]) for strand in STRANDS) for kind in sorted(genome.kinds)}


def _paths(files: GenomeFiles) -> list[Path]:
    organism = files.organism
    return [path for path in (organism.fasta, organism.truth, organism.mask) if path] + [path for _, path in files.features]
