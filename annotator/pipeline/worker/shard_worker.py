"""The work on one shard: bases in, calls out. Knows nothing of how shards reach it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from annotator.calls.batch import Calls, inside_regions, lie_inside
from annotator.calls.bound_hits import BoundHits
from annotator.calls.motif_hits import motif_calls
from annotator.calls.profiles import PartProfile, count_profiles, surroundings
from annotator.calls.rules import TrackRule, track_rules
from annotator.calls.sites import call_sites
from annotator.calls.tested_positions import PositionCounts, count_positions
from annotator.calls.track_values import TrackValues, track_values
from annotator.errors import AnnotatorError, ModelFault
from annotator.genome.bases import StagedBases
from annotator.genome.plan import Span, Windows
from annotator.genome.shard_input import ShardInput
from annotator.models.bound.manifest import bound_folder
from annotator.models.bound.net import load_bound
from annotator.models.directory import read_model
from annotator.models.faults import device_faults
from annotator.models.loading import load_scan_model
from annotator.models.manifest import Manifest
from annotator.motifs.scan import MotifScanner
from annotator.output.track_files import LEAST_PROBABILITY
from annotator.pipeline.worker.order import WorkOrder, motif_scanner
from annotator.scan.clock import StageClock
from annotator.scan.feed import BlockFeed, StagedBlock
from annotator.scan.windows import NotFinite, WindowScorer


@dataclass(frozen=True, eq=False)
class ShardFindings:
    """What was found in a shard.

    Attributes:
        calls: The calls it owns, unsorted.
        counts: What was counted on the way.
        profiles: The bases counted around the calls.
        tested: The positions that motifs were compared with; nothing without motifs.
        values: Probabilities by base of the order's tracks.
        maxima: Their local maxima from `LEAST_PROBABILITY` up, as calls.
    """

    calls: Calls
    counts: Counter[str]
    profiles: list[PartProfile]
    tested: list[PositionCounts]
    values: TrackValues = field(default_factory=TrackValues.none)
    maxima: Calls = field(default_factory=Calls.empty)


class ShardWorker:
    """Holds the model on its device and works on shards, one at a time.

    Attributes:
        clock: Where the time went: read, tokenise, model, calls, motifs, bound, profiles.
        feed: Told of a shard before its turn comes, it reads ahead on a GPU.
    """

    def __init__(self, order: WorkOrder, scanner: MotifScanner | None = None) -> None:
        """Load the model and prepare the motif scanner.

        Args:
            order: What to do.
            scanner: `motif_scanner(order)`, where the caller has it already.

        Raises:
            AnnotatorError: The model cannot be loaded, or the motifs do not fit it or would hit too often.
        """
        torch.set_num_threads(order.threads)
        self.order, self.clock = order, StageClock()
        self.device = torch.device(order.device)
        self._manifest: Manifest | None = None
        self.scorer: WindowScorer | None = None
        with device_faults(self.device, "while the model was loaded"):
            self.feed = BlockFeed(order.windows, self.device, clock=self.clock)
            if order.kinds:
                self._load_model()
            self.bound = BoundHits(load_bound(bound_folder(order.bound), self.device), order.labels) if order.bound else None
        self.scanner = motif_scanner(order) if scanner is None else scanner
        self.widths = np.array([motif.width for motif in order.motifs], np.int64)

    def _load_model(self) -> None:
        order = self.order
        folder, manifest = read_model(order.model)
        self._manifest = manifest
        model = load_scan_model(folder, manifest, order.clade, self.device, order.precision)
        self.scorer = WindowScorer(model, batch_bp=order.batch_bp, device=self.device, clock=self.clock)

    def _track_rules(self) -> list[TrackRule | None]:
        """Rules that call every local maximum which the order's tracks show; none without tracks."""
        order = self.order
        assert self._manifest is not None, "a scorer comes with its manifest"
        least = dict.fromkeys(order.kinds, LEAST_PROBABILITY) if order.tracks else {}
        return track_rules(self._manifest, order.clade, least, first_label=len(order.motifs))

    def _rules(self, shard: ShardInput) -> list[TrackRule | None]:
        """Rules of the model's tracks on the genome of a shard."""
        order = self.order
        assert self._manifest is not None, "a scorer comes with its manifest"
        if shard.thresholds is None:
            thresholds = order.thresholds
        else:
            thresholds = {kind: shard.thresholds[kind] for kind in order.kinds}
        return track_rules(self._manifest, order.clade, thresholds, first_label=len(order.motifs))

    def warm_up(self) -> None:
        """Compile the kernels by a shard that nobody asked for: random bases, of which nothing is kept."""
        length = 2 * self.order.windows.core_bp
        bases = np.random.default_rng(0).choice(np.frombuffer(b"ACGT", np.uint8), length)
        first, ends = np.zeros(1, np.int64), np.array([0, length], np.int64)
        staged = StagedBases(contig=first, start=first, offset=ends, bases=bases)
        with suppress(AnnotatorError):  # the first shard meets it again, and tells where
            self.work(ShardInput((Span(0, 0, length),), ["warm-up"], ends[1:], staged))
        self.clock.seconds.clear()

    @property
    def batch_bp(self) -> int:
        """Bases of a batch as they are now; less than ordered where memory ran out."""
        return self.scorer.batch_bp if self.scorer else self.order.batch_bp

    def work(self, shard: ShardInput) -> ShardFindings:
        """Score a shard and call its sites and motifs.

        Args:
            shard: The shard.

        Raises:
            InputError: The FASTA changed under the run.
            ModelFault: The model gave NaN or infinity.
            ResourceFault: Out of memory with one window at a time.
            EnvironmentFault: The GPU failed.
        """
        with device_faults(self.device, f"on {shard.place}"):
            return self._work(self.feed.block(shard))

    def _work(self, staged: StagedBlock) -> ShardFindings:
        shard, block = staged.shard, staged.block
        found: list[Calls] = []
        counts: Counter[str] = Counter(windows=len(block.windows), bases=shard.owned_bp)
        values: list[TrackValues] = []
        maxima: list[Calls] = []
        if self.scorer:
            rules, low_rules, scored = self._rules(shard), self._track_rules(), 0
            try:
                for batch in self.scorer.score(block, staged.on_device):
                    scored += len(batch.rows)
                    with self.clock.stage("calls"):
                        found.append(call_sites(batch, block, rules, counts))
                    if self.order.tracks:
                        with self.clock.stage("tracks"):
                            values.append(track_values(batch, block, low_rules))
                            maxima.append(call_sites(batch, block, low_rules, Counter()))
            except NotFinite as fault:
                raise ModelFault(self._describe(fault, shard, block.windows)) from fault
            counts["windows all N"] += len(block.windows) - scored
        tested: list[PositionCounts] = []
        if self.scanner:
            with self.clock.stage("motifs"):
                tested = count_positions(self.widths.tolist(), shard, block)
                found.append(motif_calls(self.scanner.scan(staged.on_device), self.widths, block))
        calls = Calls.concatenate(found)
        if shard.regions is not None:
            calls = calls.take(inside_regions(calls, shard.regions))
        around = surroundings(shard, block, self.order.windows.halo_bp)
        if self.bound:
            with self.clock.stage("bound"):
                calls, counts["motif hits rated"] = self.bound.rate(calls, shard, around)
        with self.clock.stage("profiles"):
            profiles = count_profiles(calls, shard, around, self.order.labels)
        return ShardFindings(calls, counts, profiles, tested, *_inside(values, maxima, shard.regions))

    def _describe(self, fault: NotFinite, shard: ShardInput, windows: Windows) -> str:
        window = fault.window
        contig = shard.spans[int(windows.span[window])].contig
        start = max(0, int(windows.start[window]))
        end = min(int(shard.lengths[contig]), int(windows.start[window] + windows.length[window]))
        return (
            f"model {self.order.model}: NaN or infinity in window {shard.names[contig]}:{start}-{end} "
            f"(0-based), strand {fault.strand.symbol}"
        )


def _inside(
    values: list[TrackValues], maxima: list[Calls], regions: Mapping[int, NDArray[np.int64]] | None
) -> tuple[TrackValues, Calls]:
    """All values and maxima of a shard, or those in its regions."""
    every, calls = TrackValues.concatenate(values), Calls.concatenate(maxima)
    if regions is None:
        return every, calls
    inside = lie_inside(every.contig, every.position, regions)
    return every.take(inside), calls.take(inside_regions(calls, regions))
