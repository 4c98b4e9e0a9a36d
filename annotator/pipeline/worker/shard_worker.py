"""The work on one shard: bases in, calls out. Knows nothing of how shards reach it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from annotator.calls.batch import Calls, inside_regions, lie_inside
from annotator.calls.bound_hits import BoundHits
from annotator.calls.motif_hits import motif_calls
from annotator.calls.profiles import PartProfile, count_profiles, surroundings
from annotator.calls.rules import TrackRule, track_rules
from annotator.calls.sites import QueuedSites, call_sites
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
from annotator.scan.windows import NotFinite, ScoredBatch, WindowScorer

MOST_UNREAD = 2
"""Batches of a shard whose results a GPU may owe: with one it computes while the host reads the one before."""


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


@dataclass(frozen=True, eq=False)
class _Begun:
    """A shard that the network has been given.

    Attributes:
        staged: The shard and its block.
        counts: What was counted on the way.
        unread: Batches whose sites the device owes.
        found: The calls of the others.
        values: Probabilities by base of the order's tracks, batch by batch.
        maxima: Their local maxima, batch by batch.
    """

    staged: StagedBlock
    counts: Counter[str]
    unread: deque[QueuedSites]
    found: list[Calls]
    values: list[TrackValues] = field(default_factory=list)
    maxima: list[Calls] = field(default_factory=list)


class ShardWorker:
    """Holds the model on its device and works on shards: one is begun at a time, others are finished beside it.

    Attributes:
        clock: Where the time went: read, tokenise, model, calls, motifs, bound, profiles.
        most_unread: Batches of a shard whose results the device may owe when the next is queued.
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
        self.most_unread = MOST_UNREAD if self.device.type == "cuda" else 0  # a CPU has done all when it returns
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
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # what was loaded and built is there for every stream
        self.clock.take()

    @property
    def batch_bp(self) -> int:
        """Bases of a batch as they are now; less than ordered where memory ran out."""
        return self.scorer.batch_bp if self.scorer else self.order.batch_bp

    def work(self, shard: ShardInput) -> ShardFindings:
        """Both halves of a shard at once; arguments and errors as of `begin`."""
        return self.begin(shard)()

    def begin(self, shard: ShardInput) -> Callable[[], ShardFindings]:
        """Have the network score a shard; a GPU is only told to, and hardly waited for.

        Args:
            shard: The shard.

        Returns:
            A function that calls sites and motifs and counts around them; once, in any thread. It raises the same errors.

        Raises:
            InputError: The FASTA changed under the run.
            ModelFault: The model gave NaN or infinity.
            ResourceFault: Out of memory with one window at a time.
            EnvironmentFault: The GPU failed.
        """

        def finish() -> ShardFindings:
            with self._on_device(shard), self.feed.beside(begun.staged):
                return self._finish(begun)

        with self._on_device(shard):
            begun = self._begin(self.feed.block(shard))
        return finish

    @contextmanager
    def _on_device(self, shard: ShardInput) -> Iterator[None]:
        """Make the device the current one of this thread, and let its faults name the shard."""
        with device_faults(self.device, f"on {shard.place}"):
            with torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext():
                yield

    def _begin(self, staged: StagedBlock) -> _Begun:
        shard, block = staged.shard, staged.block
        begun = _Begun(staged, Counter(windows=len(block.windows), bases=shard.owned_bp), deque(), [])
        if self.scorer:
            rules, low_rules, scored = self._rules(shard), self._track_rules(), 0
            for batch in self.scorer.queue(block, staged.on_device, lambda: self._read_all(begun)):
                scored += len(batch.rows)
                with self.clock.stage("calls"):
                    begun.unread.append(QueuedSites(batch, block, rules))
                if self.order.tracks:
                    self._track(begun, batch, low_rules)
                while len(begun.unread) > self.most_unread:
                    self._read_first(begun)
            begun.counts["windows all N"] += len(block.windows) - scored
        return begun

    def _read_first(self, begun: _Begun) -> None:
        """Take in the first batch that the device owes."""
        with self._naming_windows(begun), self.clock.stage("calls"):
            begun.found.append(begun.unread.popleft().read(begun.counts))

    def _track(self, begun: _Begun, batch: ScoredBatch, rules: list[TrackRule | None]) -> None:
        """Take in the tracks of a batch and their maxima, at once: its logits may be gone once it is read."""
        block = begun.staged.block
        with self._naming_windows(begun), self.clock.stage("tracks"):
            begun.values.append(track_values(batch, block, rules))
            begun.maxima.append(call_sites(batch, block, rules, Counter()))

    @contextmanager
    def _naming_windows(self, begun: _Begun) -> Iterator[None]:
        """Let what the model gives that is no number name its window."""
        try:
            yield
        except NotFinite as fault:
            raise ModelFault(self._describe(fault, begun.staged.shard, begun.staged.block.windows)) from fault

    def _read_all(self, begun: _Begun) -> bool:
        """Take in all that the device owes, whose logits are gone then; False where that is nothing."""
        owed = bool(begun.unread)
        while begun.unread:
            self._read_first(begun)
        return owed

    def _finish(self, begun: _Begun) -> ShardFindings:
        self._read_all(begun)
        staged, counts, found = begun.staged, begun.counts, begun.found
        shard, block = staged.shard, staged.block
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
        return ShardFindings(calls, counts, profiles, tested, *_inside(begun.values, begun.maxima, shard.regions))

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
