"""The tabix indices of a sorted file of lines, CSI and TBI, made while the file is written: nothing of it is read again.

Both hold, for each contig, bins (intervals of the contig, each an eighth of its parent) with the stretches of the file that hold
their calls, and for each 16 kb of the contig where in the file the first call lies that touches it. An offset in the file is
"virtual": the byte at which a BGZF block begins, times 65536, plus the byte within the decompressed block. Formats: the CSI and
tabix specifications. Bins are merged, and laid out in the file, in the way of htslib's tabix: its bytes are the same.

Coordinates: calls are 0-based half-open; offsets count decompressed bytes until `virtual_offsets` turns them into virtual ones.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from annotator.output.formats.bgzf import BLOCK_BYTES

_WINDOW_SHIFT: Final = 14
"""The smallest bins, and the windows of the linear index, have 2^14 bases."""
_TBI_DEPTH: Final = 5
_CSI_DEPTH: Final = 8
"""Levels of bins below the one that holds a whole contig: TBI reaches 2^29 bases, CSI 2^38."""
_EMPTY_CSI_DEPTH: Final = 6
"""What htslib writes in the CSI of a file without calls."""
_SMALL_BIN_BYTES: Final = 1 << 16
"""A bin whose calls take less of the file than this is merged into its parent, where that has calls of its own."""
_FULLEST: Final = 0.77
"""Share of a hash table that is filled before it doubles; it decides the order of bins in the file."""


@dataclass(frozen=True, slots=True)
class TextColumns:
    """What an index says of the text: where a line has contig, start and end, counted from 1.

    Attributes:
        contig: Column of the contig's name.
        start: Column of the first base.
        end: Column of the end: one past the last base, or the last base where `one_based`.
        one_based: Whether the text counts bases from 1 and includes the last one.
    """

    contig: int
    start: int
    end: int
    one_based: bool = False

    def packed(self) -> bytes:
        """The bytes of it: the numbering, the columns, the sign of a comment, lines to skip."""
        return struct.pack("<6i", 0 if self.one_based else 0x10000, self.contig, self.start, self.end, ord("#"), 0)


BED_TEXT: Final = TextColumns(1, 2, 3)
GFF_TEXT: Final = TextColumns(1, 4, 5, one_based=True)


@dataclass
class _Runs:
    """Calls of one table that follow each other in one bin of one contig; arrays [n], int64."""

    contig: list[NDArray[np.int64]] = field(default_factory=list)
    bins: list[NDArray[np.int64]] = field(default_factory=list)
    offset: list[NDArray[np.int64]] = field(default_factory=list)


@dataclass(frozen=True)
class _Contig:
    """What the indices say of one contig, in virtual offsets.

    Attributes:
        name: The contig.
        rows: Calls on it.
        bins: Bin of each run of calls, by the numbers of CSI, int64, [runs].
        begins: Where each run begins, int64, [runs].
        ends: Where each run ends, int64, [runs].
        linear: For each 2^14 bases, where the first call lies that touches them, int64, [windows].
    """

    name: str
    rows: int
    bins: NDArray[np.int64]
    begins: NDArray[np.int64]
    ends: NDArray[np.int64]
    linear: NDArray[np.int64]


class TabixIndex:
    """What the indices of one file have to know of its calls; a few numbers for each 16 kb of the genome."""

    def __init__(self, first_offset: int, columns: TextColumns = BED_TEXT) -> None:
        """No call yet.

        Args:
            first_offset: Decompressed bytes before the first call: the header.
            columns: Where a line has contig, start and end.
        """
        self._columns = columns.packed()
        self._end = first_offset
        self._names: list[str] = []
        self._rows: list[int] = []
        self._runs = _Runs()
        self._windows: list[NDArray[np.int64]] = []

    def add(self, chrom: pl.Series, start: NDArray[np.int64], end: NDArray[np.int64], line_ends: NDArray[np.int64]) -> None:
        """Take in calls; those of a contig follow each other, by ascending start.

        Args:
            chrom: Contig of each call, [n].
            start: First base, int64, [n].
            end: One past the last base, int64, [n].
            line_ends: Decompressed bytes of the file up to the end of each call's line, int64, [n].
        """
        if not len(chrom):
            return
        offset = np.concatenate(([self._end], line_ends[:-1]))
        self._end = int(line_ends[-1])
        contig = self._contigs(chrom)
        bins = _smallest_bins(start, end)
        opens = np.ones(len(bins), np.bool_)
        opens[1:] = (bins[1:] != bins[:-1]) | (contig[1:] != contig[:-1])
        if self._runs.bins and (self._runs.contig[-1][-1], self._runs.bins[-1][-1]) == (contig[0], bins[0]):
            opens[0] = False
        if opens.any():
            self._runs.contig.append(contig[opens])
            self._runs.bins.append(bins[opens])
            self._runs.offset.append(offset[opens])
        first, last = start >> _WINDOW_SHIFT, (end - 1) >> _WINDOW_SHIFT
        counts = last - first + 1
        row = np.repeat(np.arange(len(first)), counts)
        window = first[row] + np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        # Keyed by contig and window; the first call of each comes first, for calls are in the order of the file.
        _, seen = np.unique(contig[row] << 32 | window, return_index=True)
        self._windows.append(np.stack((contig[row][seen], window[seen], offset[row][seen]), axis=1))

    def _contigs(self, chrom: pl.Series) -> NDArray[np.int64]:
        """Number of each call's contig among those that have calls, int64, [n]; their calls are counted."""
        numbers = []
        for name, rows in chrom.rle().struct.unnest().select("value", "len").iter_rows():
            if not self._names or name != self._names[-1]:
                self._names.append(name)
                self._rows.append(0)
            self._rows[-1] += rows
            numbers.append(np.full(rows, len(self._names) - 1, np.int64))
        return np.concatenate(numbers)

    def csi(self, addresses: NDArray[np.int64]) -> bytes:
        """The decompressed CSI file; `addresses` is as of `virtual_offsets`."""
        names = b"".join(name.encode() + b"\0" for name in self._names)
        depth = _CSI_DEPTH if self._names else _EMPTY_CSI_DEPTH
        head = b"CSI\1" + struct.pack("<3i", _WINDOW_SHIFT, depth, len(self._columns) + 4 + len(names))
        head += self._columns + struct.pack("<i", len(names)) + names + struct.pack("<i", len(self._names))
        contigs = (_bins_text(contig, _CSI_DEPTH, with_first=True) for contig in self._contig_offsets(addresses))
        return b"".join((head, *contigs, bytes(8)))

    def tbi(self, addresses: NDArray[np.int64]) -> bytes:
        """The decompressed TBI file; `addresses` is as of `virtual_offsets`."""
        names = b"".join(name.encode() + b"\0" for name in self._names)
        pieces = [b"TBI\1", struct.pack("<i", len(self._names)), self._columns, struct.pack("<i", len(names)), names]
        for contig in self._contig_offsets(addresses):
            linear = struct.pack("<i", len(contig.linear)) + contig.linear.astype("<u8").tobytes()
            pieces += [_bins_text(contig, _TBI_DEPTH, with_first=False), linear]
        return b"".join((*pieces, bytes(8)))

    def _contig_offsets(self, addresses: NDArray[np.int64]) -> list[_Contig]:
        """The contigs that have calls, in the order of the file."""
        if not self._names:
            return []
        contig, bins, offset = map(np.concatenate, (self._runs.contig, self._runs.bins, self._runs.offset))
        windows = np.concatenate(self._windows)
        _, seen = np.unique(windows[:, 0] << 32 | windows[:, 1], return_index=True)
        windows = windows[seen]
        begins = virtual_offsets(offset, addresses, self._end)
        ends = np.append(begins[1:], virtual_offsets(np.array([self._end]), addresses, self._end))
        window_offsets = virtual_offsets(windows[:, 2], addresses, self._end)
        numbers = np.arange(len(self._names) + 1)
        run_of, window_of = np.searchsorted(contig, numbers), np.searchsorted(windows[:, 0], numbers)
        found = []
        for number, name in enumerate(self._names):
            runs = slice(run_of[number], run_of[number + 1])
            touched = slice(window_of[number], window_of[number + 1])
            linear = _filled(windows[touched, 1], window_offsets[touched])
            found.append(_Contig(name, self._rows[number], bins[runs], begins[runs], ends[runs], linear))
        return found


def virtual_offsets(offsets: NDArray[np.int64], addresses: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Virtual offsets of a BGZF file.

    Args:
        offsets: Decompressed bytes before each place, int64, [n].
        addresses: Byte of the file at which each block begins, int64, [blocks]; the last is the one that ends the file.
        size: Decompressed bytes of the file.

    Returns:
        int64, [n]; the end of the file is the start of its last block.
    """
    blocks, within = np.divmod(offsets, BLOCK_BYTES)
    at_end = offsets == size
    return np.where(at_end, addresses[-1] << 16, addresses[np.where(at_end, -1, blocks)] << 16 | within)


def _filled(windows: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """The linear index: offset of each window up to the last that is touched, that of the next one where it is not."""
    filled = np.full(int(windows[-1]) + 1, offsets[-1], np.int64)
    filled[windows] = offsets  # they ascend
    return np.minimum.accumulate(filled[::-1])[::-1]


def _first_bin(level: int) -> int:
    """Number of the first bin of a level; level 0 is the whole contig."""
    return ((1 << 3 * level) - 1) // 7


def _smallest_bins(start: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int64]:
    """The smallest bin that holds each call, by the numbers of CSI, int64, [n]."""
    last = end - 1
    bins = _first_bin(_CSI_DEPTH) + (start >> _WINDOW_SHIFT)
    wide = np.flatnonzero(start >> _WINDOW_SHIFT != last >> _WINDOW_SHIFT)
    for level in range(_CSI_DEPTH - 1, -1, -1):
        shift = _WINDOW_SHIFT + 3 * (_CSI_DEPTH - level)
        bins[wide] = _first_bin(level) + (start[wide] >> shift)
        wide = wide[start[wide] >> shift != last[wide] >> shift]
    return bins


def _level(number: int) -> int:
    """The level of a bin."""
    return ((7 * number + 1).bit_length() - 1) // 3


def _bins_text(contig: _Contig, depth: int, *, with_first: bool) -> bytes:
    """The binning index of a contig as it stands in the file; `with_first` adds the linear index's entry to each bin."""
    chunks: dict[int, list[tuple[int, int]]] = {}
    numbers = contig.bins
    if depth != _CSI_DEPTH:
        numbers = numbers - _moved_by(numbers, depth)
    for number, begin, end in zip(numbers.tolist(), contig.begins.tolist(), contig.ends.tolist(), strict=True):
        chunks.setdefault(number, []).append((begin, end))
    about = _first_bin(depth + 1) + 1  # the number of no bin: how many calls the contig has, and where they lie
    order = _hash_order([*chunks, about])
    _merge_small(chunks, depth)
    chunks[about] = [(int(contig.begins[0]), int(contig.ends[-1])), (contig.rows, 0)]
    pieces = [struct.pack("<i", len(chunks))]
    for number in order:
        if number not in chunks:
            continue
        pieces.append(struct.pack("<I", number))
        if with_first:
            level = _level(number)
            window = (number - _first_bin(level)) << 3 * (depth - level) if number != about else len(contig.linear)
            pieces.append(struct.pack("<Q", int(contig.linear[window]) if window < len(contig.linear) else 0))
        flat = [offset for chunk in chunks[number] for offset in chunk]
        pieces.append(struct.pack(f"<i{len(flat)}Q", len(chunks[number]), *flat))
    return b"".join(pieces)


def _moved_by(numbers: NDArray[np.int64], depth: int) -> NDArray[np.int64]:
    """How much smaller the numbers of CSI's bins are in an index of fewer levels, int64, [n]."""
    moved = np.zeros(len(numbers), np.int64)
    for level in range(_CSI_DEPTH - depth, _CSI_DEPTH + 1):
        here = (numbers >= _first_bin(level)) & (numbers < _first_bin(level + 1))
        moved[here] = _first_bin(level) - _first_bin(level - _CSI_DEPTH + depth)
    return moved


def _merge_small(chunks: dict[int, list[tuple[int, int]]], depth: int) -> None:
    """Merge bins that take little of the file into their parents, and chunks of a bin that share a BGZF block."""
    for number in sorted(chunks, reverse=True):  # from the smallest bins up: a parent's number is lower
        if number == 0:
            continue
        held = chunks[number]
        if _level(number) < depth:
            held.sort()
        parent = chunks.get((number - 1) >> 3)
        if parent is not None and (held[-1][1] >> 16) - (held[0][0] >> 16) < _SMALL_BIN_BYTES:
            parent += held
            del chunks[number]
    for number, held in chunks.items():
        if number == 0:
            held.sort()
        if len(held) == 1:
            continue
        merged = [held[0]]
        for begin, end in held[1:]:
            if merged[-1][1] >> 16 >= begin >> 16:
                merged[-1] = (merged[-1][0], max(merged[-1][1], end))
            else:
                merged.append((begin, end))
        chunks[number] = merged


def _hash_order(numbers: list[int]) -> list[int]:
    """The order in which htslib lays out bins that were met in this order: that of the hash table it keeps them in."""
    table: list[int | None] = []
    fullest = 0
    for used, number in enumerate(numbers):
        if used >= fullest:
            table = _doubled(table)
            fullest = int(len(table) * _FULLEST + 0.5)
        table[_free_slot(table, number)] = number
    if len(numbers) >= fullest:  # the last is put in twice, and a table that is full doubles before it is looked at
        table = _doubled(table)
    return [number for number in table if number is not None]


def _free_slot(table: list[int | None], number: int) -> int:
    """Where a number goes in a table of 2^n slots: its own slot, or the first free one at 1, 3, 6, 10, ... behind it."""
    mask = len(table) - 1
    slot, step = number & mask, 0
    while table[slot] is not None:
        step += 1
        slot = (slot + step) & mask
    return slot


def _doubled(old: list[int | None]) -> list[int | None]:
    """A table of twice the slots: filled slot by slot, where a number that is not moved yet makes room and is the next."""
    table: list[int | None] = [None] * max(4, 2 * len(old))
    waiting = list(old)
    for slot in range(len(waiting)):
        number, waiting[slot] = waiting[slot], None
        while number is not None:
            new = _free_slot(table, number)
            table[new] = number
            number = None
            if new < len(waiting):
                number, waiting[new] = waiting[new], None
    return table
