"""The work on one shard: bases in, calls out. Knows nothing of how shards reach it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from annotator.calls.batch import Calls
from annotator.calls.motif_hits import motif_calls
from annotator.calls.sites import TRACK_KIND, TrackRule, call_sites
from annotator.genome.plan import PlanOptions, Shard, plan_windows
from annotator.models.compact_inference import FoldedNet, load_compact
from annotator.models.manifest import Calibration
from annotator.models.motifs import Motif
from annotator.models.registry import read_model
from annotator.scan.motif_scan import MotifScanner
from annotator.scan.windows import ReadBases, WindowScorer, read_block
from annotator.tokens.vocabulary import KmerVocabulary


@dataclass(frozen=True)
class WorkOrder:
    """All a worker must know but for the genome; the same for every shard of a run.

    Attributes:
        model: Bundled model's name or model directory.
        clade: Clade of the run.
        kinds: Kinds wanted among donor, acceptor and promoter; empty for no model.
        thresholds: Probability per wanted kind.
        motifs: Motifs to scan for; empty for none.
        tfbs_pvalue: Their threshold.
        plan: Shape of windows.
        batch_bp: Bases of a batch.
        device: torch device.
        threads: CPU threads.
        regions: Where given, sorted disjoint intervals [m, 2] per contig; only calls positioned inside are kept.
    """

    model: str
    clade: str
    kinds: tuple[str, ...]
    thresholds: dict[str, float]
    motifs: tuple[Motif, ...]
    tfbs_pvalue: float
    plan: PlanOptions
    batch_bp: int
    device: str
    threads: int
    regions: dict[int, NDArray[np.int64]] | None = None


@dataclass
class ShardResult:
    """Calls of a shard and what was counted on the way."""

    calls: Calls
    counts: Counter[str] = field(default_factory=Counter)


class ShardWorker:
    """Holds the model on its device and works on shards, one at a time."""

    def __init__(self, order: WorkOrder, lengths: NDArray[np.int64], read_bases: ReadBases) -> None:
        """Load the model and prepare the motif scanner.

        Args:
            order: What to do.
            lengths: Contig lengths of the genome, int64.
            read_bases: Access to its bases.
        """
        torch.set_num_threads(order.threads)
        self.order, self.lengths, self.read_bases = order, lengths, read_bases
        self.rules: list[TrackRule | None] = []
        self.validated: tuple[str, ...] = ()
        self.scorer: WindowScorer | None = None
        if order.kinds:
            folder, manifest = read_model(order.model)
            settings = manifest.clades[order.clade]
            self.validated = settings.validated
            for track in manifest.tracks:
                kind = TRACK_KIND[track]
                calibration = settings.calibration.get(kind, Calibration())
                self.rules.append(
                    TrackRule(kind, order.thresholds[kind], calibration.scale, calibration.bias, manifest.radius_bp[kind])
                    if kind in order.kinds
                    else None
                )
            device = torch.device(order.device)
            self.scorer = WindowScorer(
                FoldedNet(load_compact(folder, manifest), settings.index), KmerVocabulary(**manifest.tokenizer),
                batch_bp=order.batch_bp, device=device, bf16=device.type == "cuda",
            )  # fmt: skip
        self.scanner = MotifScanner(list(order.motifs), p_value=order.tfbs_pvalue) if order.motifs else None
        self.widths = np.array([len(motif.counts) for motif in order.motifs], np.int64)

    def process(self, shard: Shard) -> ShardResult:
        """Score one shard and call its sites and motifs.

        Returns:
            The calls it owns, unsorted, and counts.

        Raises:
            InputError: The FASTA changed under the run.
            FloatingPointError: The model gave NaN or infinity.
        """
        windows = plan_windows(shard.spans, self.lengths, self.order.plan)
        block = read_block(shard.spans, windows, self.lengths, self.read_bases)
        found: list[Calls] = []
        counts: Counter[str] = Counter(windows=len(windows), bases=shard.bases)
        if self.scorer:
            scored = 0
            for batch in self.scorer.score(block, windows):
                scored += len(batch.rows)
                found.append(call_sites(batch.logits, batch.rows, windows, shard.spans, self.lengths, block, self.rules, counts))
            counts["windows all N"] += len(windows) - scored
        if self.scanner:
            found.append(motif_calls(self.scanner.scan(block), self.widths, windows, shard.spans))
        calls = Calls.concatenate(found)
        if self.order.regions is not None:
            calls = calls.take(_inside(calls, self.order.regions))
        return ShardResult(calls, counts)


def _inside(calls: Calls, regions: dict[int, NDArray[np.int64]]) -> NDArray[np.bool_]:
    """Whether each call's position lies in a region."""
    inside = np.zeros(len(calls), bool)
    for contig, intervals in regions.items():
        mine = np.flatnonzero(calls.contig == contig)
        position = calls.position[mine]
        at = np.searchsorted(intervals[:, 0], position, side="right") - 1
        inside[mine] = (at >= 0) & (position < intervals[np.maximum(at, 0), 1])
    return inside


def wanted_kinds(tasks: Sequence[str]) -> tuple[str, ...]:
    """Kinds of model calls a list of tasks asks for."""
    kinds: tuple[str, ...] = ()
    if "splice" in tasks:
        kinds += ("donor", "acceptor")
    if "promoter" in tasks:
        kinds += ("promoter",)
    return kinds
