"""The work on one shard: bases in, calls out. Knows nothing of how shards reach it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from annotator.calls.batch import Calls
from annotator.calls.motif_hits import motif_calls
from annotator.calls.sites import TrackRule, call_sites, track_rules
from annotator.errors import InputError, ModelFault, UsageError
from annotator.genome.plan import PlanOptions, Shard
from annotator.models.faults import device_faults
from annotator.models.inference import load_scan_model
from annotator.models.motif_scores import expected_hits
from annotator.models.motifs import Motif
from annotator.models.registry import read_model
from annotator.scan.feed import Block, BlockFeed
from annotator.scan.motif_scan import MotifScanner
from annotator.scan.stages import StageClock
from annotator.scan.windows import NotFinite, ReadBases, WindowScorer

MOST_HITS_A_SHARD = 10_000_000
"""Hits of a shard are held in memory: this many take about 2 GB."""


@dataclass(frozen=True)
class WorkOrder:
    """All a worker must know but for the genome; the same for every shard of a run.

    Attributes:
        model: Bundled model's name or model directory.
        clade: Clade of the run.
        thresholds: Probability per wanted kind of the model's; empty for no model.
        motifs: Motifs to scan for; empty for none.
        tfbs_pvalue: Their threshold.
        plan: Shape of windows and shards.
        batch_bp: Bases of a batch.
        device: torch device.
        precision: "float32" or "bfloat16".
        threads: CPU threads.
    """

    model: str
    clade: str
    thresholds: dict[str, float]
    motifs: tuple[Motif, ...]
    tfbs_pvalue: float
    plan: PlanOptions
    batch_bp: int
    device: str
    precision: str
    threads: int

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of model calls that are wanted."""
        return tuple(self.thresholds)


@dataclass(frozen=True)
class Target:
    """The genome a worker works on.

    Attributes:
        names: Contig names.
        lengths: Contig lengths, int64.
        read_bases: Access to its bases.
        regions: Where given, sorted disjoint intervals [m, 2] per contig; only calls positioned inside are kept.
    """

    names: Sequence[str]
    lengths: NDArray[np.int64]
    read_bases: ReadBases
    regions: dict[int, NDArray[np.int64]] | None = None


@dataclass
class ShardResult:
    """Calls of a shard and what was counted on the way."""

    shard: Shard
    calls: Calls
    counts: Counter[str] = field(default_factory=Counter)


class ShardWorker:
    """Holds the model on its device and works on shards, one at a time.

    Attributes:
        clock: Where the time went: read, tokenise, model, calls, motifs.
    """

    def __init__(self, order: WorkOrder, target: Target) -> None:
        """Load the model and prepare the motif scanner.

        Args:
            order: What to do.
            target: What to do it on.

        Raises:
            AnnotatorError: The model cannot be loaded, or the motifs do not fit it or would hit too often.
        """
        torch.set_num_threads(order.threads)
        self.order, self.target, self.clock = order, target, StageClock()
        self.device = torch.device(order.device)
        self.rules: list[TrackRule | None] = []
        self.scorer: WindowScorer | None = None
        with device_faults(self.device, "while the model was loaded"):
            self.feed = BlockFeed(target.lengths, target.read_bases, order.plan, self.device, clock=self.clock)
            if order.kinds:
                self._load_model()
        self.scanner = self._motif_scanner() if order.motifs else None
        self.widths = np.array([motif.width for motif in order.motifs], np.int64)

    def _load_model(self) -> None:
        order = self.order
        folder, manifest = read_model(order.model)
        self.rules = track_rules(manifest, order.clade, order.thresholds, first_label=len(order.motifs))
        model = load_scan_model(folder, manifest, order.clade, self.device, order.precision)
        self.scorer = WindowScorer(model, batch_bp=order.batch_bp, device=self.device, clock=self.clock)

    @property
    def batch_bp(self) -> int:
        """Bases of a batch as they are now; less than ordered where memory ran out."""
        return self.scorer.batch_bp if self.scorer else self.order.batch_bp

    def _motif_scanner(self) -> MotifScanner:
        order = self.order
        scanner = MotifScanner(list(order.motifs), p_value=order.tfbs_pvalue)
        if scanner.halo_bp > order.plan.halo_bp:
            raise InputError(f"motifs of {scanner.halo_bp + 1} bp need halos of {scanner.halo_bp} bp, not {order.plan.halo_bp}")
        hits = expected_hits(scanner.matrices, order.plan.shard_bp)
        if hits > MOST_HITS_A_SHARD:
            raise UsageError(
                f"--tfbs-pvalue {scanner.p_value:g}: about {hits:,.0f} hits in every {order.plan.shard_bp:,} bp; "
                f"more than {MOST_HITS_A_SHARD:,} do not fit in memory, choose a smaller one"
            )
        return scanner

    def results(self, shards: Iterable[Shard]) -> Iterator[ShardResult]:
        """Score shards and call their sites and motifs; on a GPU the next shard is read meanwhile.

        Args:
            shards: In the order wanted.

        Yields:
            The calls each shard owns, unsorted, and counts.

        Raises:
            InputError: The FASTA changed under the run.
            ModelFault: The model gave NaN or infinity.
            ResourceFault: Out of memory with one window at a time.
            EnvironmentFault: The GPU failed.
        """
        with device_faults(self.device, "while a block was copied"):
            for block in self.feed.blocks(shards):
                with device_faults(self.device, f"on {self._place(block.shard)}"):
                    result = self._work(block)
                yield result

    def _place(self, shard: Shard) -> str:
        first = shard.spans[0]
        more = f" and {len(shard.spans) - 1} more" if len(shard.spans) > 1 else ""
        return f"{self.target.names[first.contig]}:{first.start}-{first.end}{more}"

    def _work(self, block: Block) -> ShardResult:
        lengths, regions, spans, windows = self.target.lengths, self.target.regions, block.shard.spans, block.windows
        found: list[Calls] = []
        counts: Counter[str] = Counter(windows=len(windows), bases=block.shard.bases)
        if self.scorer:
            scored = 0
            try:
                for batch in self.scorer.score(block.bases, windows, block.on_device):
                    scored += len(batch.rows)
                    with self.clock.stage("calls"):
                        found.append(call_sites(batch, windows, spans, lengths, block.bases, self.rules, counts))
            except NotFinite as fault:
                raise ModelFault(self._describe(fault, block)) from fault
            counts["windows all N"] += len(windows) - scored
        if self.scanner:
            with self.clock.stage("motifs"):
                found.append(motif_calls(self.scanner.scan(block.on_device), self.widths, windows, spans))
        calls = Calls.concatenate(found)
        if regions is not None:
            calls = calls.take(_inside(calls, regions))
        return ShardResult(block.shard, calls, counts)

    def _describe(self, fault: NotFinite, block: Block) -> str:
        windows, window = block.windows, fault.window
        contig = block.shard.spans[int(windows.span[window])].contig
        start = max(0, int(windows.start[window]))
        end = min(int(self.target.lengths[contig]), int(windows.start[window] + windows.length[window]))
        return (
            f"model {self.order.model}: NaN or infinity in window {self.target.names[contig]}:{start}-{end} "
            f"(0-based), strand {fault.strand}"
        )


def _inside(calls: Calls, regions: dict[int, NDArray[np.int64]]) -> NDArray[np.bool_]:
    """Whether each call's position lies in a region."""
    inside = np.zeros(len(calls), bool)
    for contig, intervals in regions.items():
        mine = np.flatnonzero(calls.contig == contig)
        position = calls.position[mine]
        at = np.searchsorted(intervals[:, 0], position, side="right") - 1
        inside[mine] = (at >= 0) & (position < intervals[np.maximum(at, 0), 1])
    return inside
