"""The container that bigBed and bigWig share: compressed blocks of data, an index over them, and summaries to draw from afar.

Layout of a file: header, list of zoom levels, description of the columns, total summary, tree of the contigs, blocks, index of
the blocks, then blocks and index of each zoom level. Numbers are little-endian. Source: Kent et al., Bioinformatics 26:2204
(2010), and its supplement. Written here because the libraries for it need what is not at hand beside a scan (all values in
memory, or an iterator to pull from), do not tell why a write failed, or state a wrong number of standard columns.

Coordinates: 0-based half-open, 32 bits.
"""

from __future__ import annotations

import logging
import struct
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray

from annotator.output.formats.base import OutputRun
from annotator.output.formats.bbi_trees import LEAF, block_index, contig_tree

logger = logging.getLogger(__name__)

BIGWIG_MAGIC: Final = 0x888FFC26
BIGBED_MAGIC: Final = 0x8789F2EB
LONGEST_BP: Final = (1 << 32) - 1
"""Positions have 32 bits: a longer contig cannot be written."""
ZOOM_BP: Final = (4096, 16384, 65536, 262144, 1048576, 4194304)
"""Bases of a bin of each zoom level; below the first, all values are quickly drawn."""

_VERSION: Final = 4
_LEVEL: Final = 6
"""zlib level of blocks."""
_ZOOM_ITEMS: Final = 512
_HEADER: Final = struct.Struct("<IHHQQQHHQQIQ")
_ZOOM: Final = struct.Struct("<IIQQ")
_SUMMARY: Final = struct.Struct("<Qdddd")
_ZOOM_RECORD: Final = np.dtype(
    [("contig", "<u4"), ("start", "<u4"), ("end", "<u4"), ("valid", "<u4"), ("least", "<f4"), ("most", "<f4"), ("sum", "<f4"),
     ("squares", "<f4")]
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Stretches:
    """Stretches of bases with a value, none of which overlaps another of its contig, in order; arrays [n].

    Values are whole numbers of steps, such as thousandths, so that sums are exact whatever their order.

    Attributes:
        contig: Index of the contig, int64.
        start: First base, int64.
        end: One past the last base, int64.
        steps: The value in steps, int64.
    """

    contig: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    steps: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Bins:
    """What bins of a zoom level hold; arrays [n], int64, in order. Sums are in steps, and in steps squared."""

    contig: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    valid: NDArray[np.int64]
    least: NDArray[np.int64]
    most: NDArray[np.int64]
    sum: NDArray[np.int64]
    squares: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.contig)

    def take(self, rows: slice) -> _Bins:
        return _Bins(*(column[rows] for column in self._columns()))

    def _columns(self) -> tuple[NDArray[np.int64], ...]:
        return self.contig, self.start, self.end, self.valid, self.least, self.most, self.sum, self.squares

    def then(self, later: _Bins) -> _Bins:
        """These, followed by others."""
        return _Bins(*map(np.concatenate, zip(self._columns(), later._columns(), strict=True)))

    @staticmethod
    def of(stretches: Stretches) -> _Bins:
        """One for each stretch."""
        bases, steps = stretches.end - stretches.start, stretches.steps
        return _Bins(stretches.contig, stretches.start, stretches.end, bases, steps, steps, steps * bases, steps * steps * bases)

    def merged(self, bin_bp: int) -> _Bins:
        """Those of one bin of `bin_bp` bases as one; none crosses the border of a bin."""
        bins = self.start // bin_bp
        first = np.flatnonzero(np.append(True, (np.diff(self.contig) != 0) | (np.diff(bins) != 0)))
        last = np.append(first[1:], len(self)) - 1
        return _Bins(
            self.contig[first], self.start[first], self.end[last], np.add.reduceat(self.valid, first),
            np.minimum.reduceat(self.least, first), np.maximum.reduceat(self.most, first),
            np.add.reduceat(self.sum, first), np.add.reduceat(self.squares, first),
        )  # fmt: skip


class _ZoomLevel:
    """Summaries of one level, spooled to a file without a name until the data before them are complete."""

    def __init__(self, bin_bp: int, steps_in_1: int, folder: Path) -> None:
        self.bin_bp = bin_bp
        self._steps_in_1, self._folder = steps_in_1, folder
        self._last: _Bins | None = None
        self._waiting = np.empty(0, _ZOOM_RECORD)
        self._spool: IO[bytes] | None = None
        self._leaves: list[tuple[int, ...]] = []
        self.records = self.size = 0

    def add(self, bins: _Bins) -> _Bins | None:
        """Take in summaries of smaller bins; returns those of this level's bins that are complete now."""
        if self._last is not None:
            bins = self._last.then(bins)
        merged = bins.merged(self.bin_bp)
        self._last, complete = merged.take(slice(-1, None)), merged.take(slice(0, -1))
        return self._keep(complete)

    def flush(self) -> _Bins | None:
        """The summary that waits, once nothing is to come, and the last block."""
        found = None if self._last is None else self._keep(self._last)
        self._last = None
        if len(self._waiting):
            self._write(self._waiting)
            self._waiting = self._waiting[:0]
        return found

    def _keep(self, bins: _Bins) -> _Bins | None:
        if not len(bins):
            return None
        records = np.empty(len(bins), _ZOOM_RECORD)
        for name in ("contig", "start", "end", "valid"):
            records[name] = getattr(bins, name)
        for name in ("least", "most", "sum"):
            records[name] = getattr(bins, name) / self._steps_in_1
        records["squares"] = bins.squares / self._steps_in_1**2
        self._waiting = np.concatenate([self._waiting, records])
        while len(self._waiting) >= _ZOOM_ITEMS:
            self._write(self._waiting[:_ZOOM_ITEMS])
            self._waiting = self._waiting[_ZOOM_ITEMS:]
        return bins

    def _write(self, records: NDArray[np.void]) -> None:
        if self._spool is None:
            self._spool = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
        data = zlib.compress(records.tobytes(), _LEVEL)
        self._spool.write(data)
        last_contig = int(records["contig"][-1])
        end = int(records["end"][-1])
        self._leaves.append((int(records["contig"][0]), int(records["start"][0]), last_contig, end, self.size, len(data)))
        self.records += len(records)
        self.size += len(data)

    def leaves(self, offset: int) -> NDArray[np.void]:
        """The blocks for an index, where the first begins at byte `offset` of the file."""
        leaves = np.array(self._leaves, LEAF)
        leaves["offset"] += offset
        return leaves

    def blocks(self) -> Iterator[bytes]:
        """The compressed blocks, in pieces."""
        if self._spool is not None:
            self._spool.seek(0)
            while data := self._spool.read(1 << 20):
                yield data

    def close(self) -> None:
        if self._spool is not None:
            with suppress(OSError):  # what did not fit is told where it was written, and not tried again
                self._spool.close()


@dataclass(frozen=True, slots=True)
class BbiKind:
    """What tells bigBed from bigWig.

    Attributes:
        magic: The first four bytes.
        columns: Columns of a bigBed; 0 for bigWig.
        standard_columns: How many of them are those of BED.
        auto_sql: Description of the columns.
        steps_in_1: How many steps of `Stretches` make a value of 1.
        items: Rows of a block at the most, as indices state it.
    """

    magic: int
    columns: int = 0
    standard_columns: int = 0
    auto_sql: str = ""
    steps_in_1: int = 1
    items: int = 512


class Contigs32:
    """The contigs that a file with positions of 32 bits can have, and their numbers.

    Attributes:
        names: Their names, in FASTA order; the place of each is its number.
        lengths: Their lengths in bp.
        number: Number of each contig of the run, int64; -1 for one that is too long or empty.
    """

    def __init__(self, run: OutputRun, final: str) -> None:
        """Warn of contigs that are too long for the file `final`."""
        lengths = np.asarray(run.contig_lengths, np.int64)
        fits = (lengths > 0) & (lengths <= LONGEST_BP)
        chosen = np.flatnonzero(fits)
        self.names = [run.contig_names[i] for i in chosen.tolist()]
        self.lengths = lengths[chosen].tolist()
        self.number = np.where(fits, np.cumsum(fits) - 1, -1)
        for contig in np.flatnonzero(lengths > LONGEST_BP).tolist():
            logger.warning(
                "%s: without contig %s, whose %s bp are more than the format can count (2^32)",
                final, run.contig_names[contig], f"{lengths[contig]:,}",
            )  # fmt: skip


class BbiFile:
    """A bigBed or bigWig while it is written, block by block. Bytes follow from the blocks alone."""

    def __init__(self, path: Path, kind: BbiKind, names: Sequence[str], lengths: Sequence[int], pool: Executor) -> None:
        """Open the file.

        Args:
            path: Where it is written.
            kind: What it is.
            names: Contigs, each longer than 0 and at most `LONGEST_BP`; their places are the contig numbers of blocks.
            lengths: Their lengths in bp.
            pool: Threads that compress.

        Raises:
            OSError: It cannot be written.
        """
        self._kind, self._pool = kind, pool
        self._zooms = [_ZoomLevel(bin_bp, kind.steps_in_1, path.parent) for bin_bp in ZOOM_BP]
        self._compressing: list[tuple[Future[bytes], tuple[int, ...]]] = []
        self._leaves: list[tuple[int, ...]] = []
        self._largest = _ZOOM_ITEMS * _ZOOM_RECORD.itemsize
        self._rows = self._bases = self._sum = self._squares = 0
        self._least: int | None = None
        self._most = 0
        self._stream = path.open("wb")
        try:
            self._sql_at = _HEADER.size + len(ZOOM_BP) * _ZOOM.size
            sql = kind.auto_sql.encode() + b"\0" if kind.auto_sql else b""
            self._summary_at = self._sql_at + len(sql)
            self._tree_at = self._summary_at + _SUMMARY.size
            self._stream.write(bytes(self._sql_at) + sql + bytes(_SUMMARY.size))
            tree = contig_tree(names, lengths, self._tree_at)
            self._data_at = self._tree_at + len(tree)
            self._stream.write(tree + bytes(8))
            self._offset = self._data_at + 8
        except BaseException:
            self.close()
            raise

    def block(self, data: bytes, rows: int, contig: int, start: int, end: int) -> None:
        """Append a block; what came before is written meanwhile.

        Args:
            data: Its bytes before compression.
            rows: Its rows.
            contig: The contig that they lie on.
            start: Where the first begins.
            end: Where the last of them ends.

        Raises:
            OSError: It cannot be written.
        """
        if len(self._compressing) >= 64:
            self._write(*self._compressing.pop(0))
        self._compressing.append((self._pool.submit(zlib.compress, data, _LEVEL), (contig, start, contig, end)))
        self._largest = max(self._largest, len(data))
        self._rows += rows

    def _write(self, compressed: Future[bytes], where: tuple[int, ...]) -> None:
        data = compressed.result()
        self._stream.write(data)
        self._leaves.append((*where, self._offset, len(data)))
        self._offset += len(data)

    def summarise(self, stretches: Stretches) -> None:
        """Count values in the summaries; over the file they come in order.

        Raises:
            OSError: A summary cannot be written.
        """
        if not len(stretches.contig):
            return
        bins = _Bins.of(_cut(stretches, ZOOM_BP[0]))
        self._bases += int(bins.valid.sum())
        self._sum += int(bins.sum.sum())
        self._squares += int(bins.squares.sum())
        least, self._most = int(bins.least.min()), max(self._most, int(bins.most.max()))
        self._least = least if self._least is None else min(self._least, least)
        self._pass_on(bins, 0)

    def _pass_on(self, bins: _Bins | None, level: int) -> None:
        for zoom in self._zooms[level:]:
            bins = zoom.add(bins) if bins is not None and len(bins) else None

    def finish(self) -> None:
        """Write indices, summaries and the header; `close` is still due.

        Raises:
            OSError: They cannot be written.
        """
        while self._compressing:
            self._write(*self._compressing.pop(0))
        index_at = self._offset
        end_of_data = self._offset
        self._put(block_index(np.array(self._leaves, LEAF), index_at, end_of_data, self._kind.items))
        zooms = b""
        for level, zoom in enumerate(self._zooms):
            self._pass_on(zoom.flush(), level + 1)
            # The next level may have got its last bin just now; its own flush comes in its turn.
            at = self._offset
            self._put(struct.pack("<I", zoom.records))
            leaves = zoom.leaves(self._offset)
            for piece in zoom.blocks():
                self._put(piece)
            zooms += _ZOOM.pack(zoom.bin_bp, 0, at, self._offset)
            self._put(block_index(leaves, self._offset, self._offset, _ZOOM_ITEMS))
        kind = self._kind
        one = kind.steps_in_1
        summary = _SUMMARY.pack(self._bases, (self._least or 0) / one, self._most / one, self._sum / one, self._squares / one**2)
        header = _HEADER.pack(
            kind.magic, _VERSION, len(self._zooms), self._tree_at, self._data_at, index_at, kind.columns, kind.standard_columns,
            self._sql_at if kind.auto_sql else 0, self._summary_at, self._largest, 0,
        )  # fmt: skip
        # The number of rows of a bigBed, of blocks of a bigWig.
        count = self._rows if kind.magic == BIGBED_MAGIC else len(self._leaves)
        for at, data in ((0, header + zooms), (self._summary_at, summary), (self._data_at, struct.pack("<Q", count))):
            self._stream.seek(at)
            self._stream.write(data)
        self._stream.flush()

    def _put(self, data: bytes) -> None:
        self._stream.write(data)
        self._offset += len(data)

    def close(self) -> None:
        """Close; what a failed write left in the buffer is not tried again."""
        for zoom in self._zooms:
            zoom.close()
        if not self._stream.closed:
            self._stream.raw.close()


def _cut(stretches: Stretches, bin_bp: int) -> Stretches:
    """The stretches, cut at the borders of bins."""
    first, last = stretches.start // bin_bp, (stretches.end - 1) // bin_bp
    if (first == last).all():
        return stretches
    counts = last - first + 1
    row = np.repeat(np.arange(len(first)), counts)
    bins = first[row] + np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = np.maximum(stretches.start[row], bins * bin_bp)
    end = np.minimum(stretches.end[row], (bins + 1) * bin_bp)
    return Stretches(stretches.contig[row], start, end, stretches.steps[row])
