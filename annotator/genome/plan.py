"""The window and shard plan: pure arithmetic, the same on every machine.

Coordinates: 0-based half-open on the plus strand of a contig; a window may start below 0 or end past the contig, and the
bases it covers there count as N.

Windows are anchored to their contig: window i of a contig owns the core [i * core_bp, (i + 1) * core_bp) cut at the contig's
end, whatever the shards are. So which window scores a base, and what that window sees, depends on the contig alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UNKNOWN_BASE = ord("N")


@dataclass(frozen=True)
class PlanOptions:
    """Shape of windows and shards.

    Attributes:
        window_bp: Longest window, core and both halos.
        halo_bp: Real context a core has on either side unless its contig ends there.
        pad_bp: Unknown bases (N) put beyond a contig's end at the least.
        smallest_bp: Shortest window; lengths double from here up to window_bp, and each window takes the shortest that fits.
        shard_bp: Bases a shard owns, about: spans of a contig are cut at window borders, small contigs are packed.
        align_bp: Windows start and end at multiples of this from the contig's start, for models that score in steps.
    """

    window_bp: int = 49152
    halo_bp: int = 2368
    pad_bp: int = 128
    smallest_bp: int = 512
    shard_bp: int = 2_000_000
    align_bp: int = 8

    def __post_init__(self) -> None:
        """Refuse shapes that cannot tile."""
        for name in ("window_bp", "halo_bp", "pad_bp", "smallest_bp"):
            value = getattr(self, name)
            if value <= 0 or value % self.align_bp:  # lengths that double from 0 would never reach window_bp
                raise ValueError(f"{name} = {value} is not a multiple of {self.align_bp} above 0")
        if self.core_bp <= 0 or self.shard_bp <= 0 or not 0 < self.pad_bp <= self.halo_bp:
            raise ValueError(f"windows of {self.window_bp} bp cannot have halos of {self.halo_bp} bp")

    @property
    def core_bp(self) -> int:
        """Bases a full window owns."""
        return self.window_bp - 2 * self.halo_bp

    @property
    def window_lengths(self) -> tuple[int, ...]:
        """All window lengths in use, ascending."""
        lengths = []
        length = self.smallest_bp
        while length < self.window_bp:
            lengths.append(length)
            length *= 2
        return (*lengths, self.window_bp)


@dataclass(frozen=True, slots=True)
class Span:
    """Bases [start, end) of one contig that a shard owns; start is a multiple of the window core."""

    contig: int
    start: int
    end: int


@dataclass(frozen=True)
class Shard:
    """A unit of work: spans in contig order, computed alone and published whole."""

    index: int
    spans: tuple[Span, ...]

    @property
    def bases(self) -> int:
        """Bases the shard owns."""
        return sum(span.end - span.start for span in self.spans)


@dataclass(frozen=True)
class Windows:
    """The windows of one shard and the block of bases they are cut from; arrays [n], int64.

    The block is one stretch per span, laid end to end: the span with its context, filled with N where a window reaches past
    the contig. Windows of different spans never share a base of the block.

    Attributes:
        span: Index of the shard's span a window belongs to.
        core_start: First base the window owns, contig coordinates.
        core_end: One past the last base the window owns.
        start: First base the window covers, contig coordinates; may be negative.
        length: Bases it covers, one of `PlanOptions.window_lengths`.
        offset: Index of `start` in the block.
        reverse_shift: The minus strand is read this many bases further right, so that a network that scores in steps has its
            steps where the reverse complement of the contig would have them: at multiples of align_bp from the contig's end.
        stretch_start: First contig base of each span's stretch of the block; may be negative.
        stretch_offset: Index in the block of each stretch's first base, then the block's length.
    """

    span: NDArray[np.int64]
    core_start: NDArray[np.int64]
    core_end: NDArray[np.int64]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    offset: NDArray[np.int64]
    reverse_shift: NDArray[np.int64]
    stretch_start: NDArray[np.int64]
    stretch_offset: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.span)


def plan_shards(
    lengths: NDArray[np.int64], options: PlanOptions, regions: dict[int, NDArray[np.int64]] | None = None
) -> Iterator[Shard]:
    """Cut a genome into shards.

    Args:
        lengths: Contig lengths in bp, int64, [contigs].
        options: Shape of windows and shards.
        regions: Sorted disjoint intervals [m, 2] per contig index; only windows whose core touches one are planned. None for
            all windows.

    Yields:
        Shards in contig order; their spans tile every contig (or every chosen window) exactly once.
    """
    per_shard = max(1, round(options.shard_bp / options.core_bp)) * options.core_bp
    index, packed = 0, 0
    pack: list[Span] = []
    for span in _spans(lengths, options, regions):
        for start in range(span.start, span.end, per_shard):
            piece = Span(span.contig, start, min(start + per_shard, span.end))
            if pack and packed + piece.end - piece.start > per_shard:
                yield Shard(index, tuple(pack))
                index, pack, packed = index + 1, [], 0
            pack.append(piece)
            packed += piece.end - piece.start
    if pack:
        yield Shard(index, tuple(pack))


def _spans(lengths: NDArray[np.int64], options: PlanOptions, regions: dict[int, NDArray[np.int64]] | None) -> Iterator[Span]:
    core = options.core_bp
    for contig in range(len(lengths)) if regions is None else sorted(regions):
        length = int(lengths[contig])
        if length == 0:
            continue
        if regions is None:
            yield Span(contig, 0, length)
            continue
        first, last = -1, -1  # run of windows not yet given out
        for start, end in regions[contig].tolist():
            if start >= end:
                continue
            low, high = start // core, (end - 1) // core + 1
            if low > last:
                if last > first:
                    yield Span(contig, first * core, min(last * core, length))
                first = low
            last = max(last, high)
        if last > first:
            yield Span(contig, first * core, min(last * core, length))


def plan_windows(spans: Sequence[Span], lengths: NDArray[np.int64], options: PlanOptions) -> Windows:
    """Lay out the windows of a shard.

    Args:
        spans: The shard's spans; each starts at a multiple of the core.
        lengths: Length in bp of every contig of the genome, int64.
        options: Shape of windows.

    Returns:
        The windows in span order, then by position.
    """
    core, halo, pad = options.core_bp, options.halo_bp, options.pad_bp
    starts = np.array([span.start for span in spans], np.int64)
    ends = np.array([span.end for span in spans], np.int64)
    contig_lengths = lengths[np.array([span.contig for span in spans], np.int64)] if len(spans) else starts
    counts = -(-(ends - starts) // core)
    span = np.repeat(np.arange(len(spans)), counts)
    within = np.arange(len(span)) - np.repeat(np.cumsum(counts) - counts, counts)
    core_start = starts[span] + within * core
    contig_length = contig_lengths[span]
    core_end = np.minimum(core_start + core, contig_length)
    # a window sees `halo` bases past its core on either side; a contig of one window is spared most of them, which are N
    alone = contig_length <= core
    start = np.where(alone, -pad, core_start - halo)
    needed = np.where(alone, contig_length + pad, core_end + halo) - start
    sizes = np.array(options.window_lengths, np.int64)
    length = sizes[np.searchsorted(sizes, needed)]
    # what a longer window has to spare goes half in front, so that such a contig is padded alike on both sides
    spare = np.where(alone, np.minimum((length - needed) // 2, halo - pad), 0)
    start = start - spare // options.align_bp * options.align_bp

    first = np.cumsum(counts) - counts
    # align_bp more on either side: k-mers and the shifted minus strand read a few bases past their window
    stretch_start = np.minimum.reduceat(start, first) - options.align_bp if len(spans) else starts
    stretch_end = np.maximum.reduceat(start + length, first) + options.align_bp if len(spans) else starts
    stretch_offset = np.concatenate([[0], np.cumsum(stretch_end - stretch_start)]).astype(np.int64)
    offset = stretch_offset[span] + start - stretch_start[span]
    shift = contig_length % options.align_bp
    return Windows(span, core_start, core_end, start, length, offset, shift, stretch_start, stretch_offset)
