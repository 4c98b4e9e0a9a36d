"""Looks up motif hits in tables, exact and fast on one core; `annotator.motifs.scan` says what a hit is.

Coordinates are 0-based on the plus strand of the block.

A window hits where its shortfall (steps lost against the best score) fits the matrix' budget (best score - threshold).
Shortfalls only add up, so a window can hit only if the shortfall of any of its columns alone fits. For every matrix and
strand the most selective SEED_BP neighbouring columns are its seed; the k-mers whose shortfall fits are enumerated once,
into a table from k-mer to candidates (matrix-strand, budget left). A scan looks up the k-mer at every base, expands the few
candidates, subtracts the shortfall of the columns outside the seed (FLANK_BP at a time, from tables) and keeps what is not
overdrawn. All of it is integer arithmetic without loss, on one thread, and independent of where blocks and pieces end.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from annotator.motifs.motif import MAX_WIDTH
from annotator.motifs.scores import ScoredMatrix

SEED_BP = 10
FLANK_BP = 5
MAX_CANDIDATES = 8_000_000
"""Candidates in a seed table (8 bytes each); seeds are shortened until theirs fit, which costs speed, never hits."""

PIECE_BP = 1 << 17
LIVE_CANDIDATES = 1 << 15
"""Bases looked up, and candidates expanded, at once: they bound the memory of a scan whatever its p-value."""

_UNKNOWN = 4
CODES = bytes(b"ACGT".index(byte) if byte in b"ACGT" else _UNKNOWN for byte in range(256))
"""Code 0..3 of each byte that is a base, else 4, as `bytes.translate` wants it."""

_COMPLEMENT = 3  # code ^ 3 is the code of the complement

# A candidate is an int64: budget left, row of the matrix-strand, and offset of its first flank from the seed (+ bias). The
# row sits where `candidate & _ROW_FIELD` is the address of the row's first flank table.
_FLANK_KMERS = 4**FLANK_BP
_OFFSET_BITS = 2 * FLANK_BP
_OFFSET_BIAS = 512
ROW_BITS = 18  # 2 * MAX_MOTIFS rows
_BUDGET_BITS = 64 - 2 * SEED_BP - ROW_BITS
_ROW_FIELD = ((1 << ROW_BITS) - 1) << _OFFSET_BITS
_BUDGET_SHIFT = _OFFSET_BITS + ROW_BITS

_Ints = NDArray[np.int64]


class SeedTables:
    """Lookup tables of a scan; row 2 * i is matrix i, row 2 * i + 1 its reverse complement."""

    def __init__(self, matrices: list[ScoredMatrix]) -> None:
        """Choose the seeds and fill the tables.

        Args:
            matrices: Matrices that can reach their threshold, at least one.
        """
        plus = [(m.steps.max(axis=1, keepdims=True) - m.steps).astype(np.int64) for m in matrices]
        shortfalls = [strand for one in plus for strand in (one, one[::-1, ::-1])]
        budgets = np.repeat([len(m.tail) - 1 for m in matrices], 2)
        self.seed_bp, self.seed_offset, total = _choose_seeds(shortfalls, budgets)
        self.flanks = _Flanks(shortfalls, budgets, self.seed_offset, self.seed_bp)
        self.first, self.candidates = _seed_table(
            shortfalls, budgets, self.seed_offset, self.seed_bp, total, self.flanks.offset[0]
        )
        self.any = np.diff(self.first) > 0
        self.width = np.array([len(s) for s in shortfalls], np.int64)
        self.bits = WindowBits(matrices)
        self.lead = int(self.seed_offset.max()) + FLANK_BP  # bases that may be read before the first base of a seed
        self.trail = int(self.width.max()) + SEED_BP + FLANK_BP  # and from it on

    def iter_hits(self, block: NDArray[np.uint8]) -> Iterator[tuple[_Ints, _Ints, _Ints, NDArray[np.float32]]]:
        """Find the hits of a block, piece by piece; a hit belongs to the piece its seed starts in.

        Args:
            block: ASCII, uint8, [n].

        Yields:
            Start, row and budget left, int64, and bits, float32, of some hits, in no order.
        """
        for low in range(0, len(block), PIECE_BP):
            begin, end = low - self.lead, min(low + PIECE_BP, len(block)) + self.trail
            codes = np.full(end - begin, _UNKNOWN, np.uint8)
            inside = block[max(begin, 0) : min(end, len(block))].tobytes().translate(CODES)
            codes[max(-begin, 0) : max(-begin, 0) + len(inside)] = np.frombuffer(inside, np.uint8)
            parts = list(self._iter_piece(codes))
            if parts:
                start, row, left = (np.concatenate(columns) for columns in zip(*parts, strict=True))
                yield start + begin, row, left, self.bits.of(codes, start, row)

    def _iter_piece(self, codes: NDArray[np.uint8]) -> Iterator[tuple[_Ints, _Ints, _Ints]]:
        """Hits whose seed starts in codes[lead : -trail]."""
        length = len(codes) - self.lead - self.trail
        known = codes < _UNKNOWN
        all_known = bool(known.all())
        unknown_before = None if all_known else np.concatenate([[0], np.cumsum(~known)])
        seeds, flank_kmers = _kmers(codes & np.uint8(3), (self.seed_bp, FLANK_BP))
        seeds = seeds[self.lead : self.lead + length]
        tried = self.any.take(seeds)
        if not all_known:
            tried &= known[self.lead : self.lead + length]  # the first base of a seed is never a wildcard
        position = np.flatnonzero(tried)
        seed = seeds.take(position)
        first = self.first.take(seed)
        ends = np.cumsum(self.first.take(seed + 1) - first, dtype=np.int64)  # candidates up to and with each position
        shift = first - np.concatenate([[0], ends[:-1]])
        position += self.lead - _OFFSET_BIAS
        low, done = 0, 0
        while low < len(position):
            high = max(low + 1, int(np.searchsorted(ends, done + LIVE_CANDIDATES, side="right")))
            last = int(ends[high - 1])
            step = np.zeros(last - done, np.int64)
            step[0] = low
            step[ends[low : high - 1] - done] = 1
            owner = np.cumsum(step)
            candidate = self.candidates.take(np.arange(done, last) + shift.take(owner))
            at = position.take(owner)
            low, done = high, last
            kmer = flank_kmers.take(at + (candidate & (_FLANK_KMERS - 1)))
            loss = self.flanks.table.take((candidate & _ROW_FIELD) + kmer)
            alive = np.flatnonzero((candidate >> _BUDGET_SHIFT) >= loss)
            candidate, at = candidate.take(alive), at.take(alive) + _OFFSET_BIAS
            row = (candidate & _ROW_FIELD) >> _OFFSET_BITS
            left = (candidate >> _BUDGET_SHIFT) - loss.take(alive)
            self.flanks.subtract_further(left, row, at, flank_kmers)
            start = at - self.seed_offset.take(row)
            hit = left >= 0
            if unknown_before is not None:
                hit &= unknown_before.take(start + self.width.take(row)) == unknown_before.take(start)
            yield start[hit], row[hit], left[hit]


class WindowBits:
    """Exact log-odds of windows; row 2 * i is matrix i, row 2 * i + 1 its reverse complement."""

    def __init__(self, matrices: list[ScoredMatrix]) -> None:
        """Lay the log-odds of some matrices end to end.

        Args:
            matrices: The matrices, at least one.
        """
        self.width = np.repeat([m.width for m in matrices], 2)
        self.bits = np.concatenate([m.log_odds.reshape(-1) for m in matrices])
        self.bits_start = np.repeat(np.cumsum([0] + [m.log_odds.size for m in matrices[:-1]]), 2)

    def of(self, codes: NDArray[np.uint8], start: _Ints, row: _Ints) -> NDArray[np.float32]:
        """Sum the log-odds of windows in float64, the columns in the motif's own order on either strand.

        Args:
            codes: Bases as 0..3, uint8.
            start: Leftmost base of each window in `codes`, int64, [n].
            row: Row of each window, int64, [n].

        Returns:
            Bits, float32, [n].
        """
        widest_first = np.argsort(MAX_WIDTH - self.width.take(row).astype(np.uint8), kind="stable")
        row = row.take(widest_first)
        width, minus, address = self.width.take(row), row & 1, self.bits_start.take(row)
        at = start.take(widest_first) + minus * (width - 1)
        forward, complement = 1 - 2 * minus, (_COMPLEMENT * minus).astype(np.uint8)
        total = np.zeros(len(row))
        for n in np.searchsorted(-width, -np.arange(int(width.max(initial=0)))).tolist():  # hits that have this column
            total[:n] += self.bits.take(address[:n] + (codes.take(at[:n]) ^ complement[:n]))
            at[:n] += forward[:n]
            address[:n] += 4
        bits = np.empty(len(row), np.float32)
        bits[widest_first] = total
        return bits


class _Flanks:
    """Shortfalls of the columns outside the seeds, in blocks of FLANK_BP, the most selective block of a row first.

    Attributes:
        table: Shortfalls of all FLANK_BP-mers of all blocks; the first block of row r starts at r * _FLANK_KMERS.
        count: Blocks of each row.
        address: Start of a row's blocks in `table`, [levels, rows].
        offset: First base of each block, counted from the first base of the seed, [levels, rows].
    """

    def __init__(self, shortfalls: list[_Ints], budgets: _Ints, seed_offset: _Ints, seed_bp: int) -> None:
        spans = [_flank_spans(len(s), seed, seed_bp) for s, seed in zip(shortfalls, seed_offset.tolist(), strict=True)]
        self.count = np.array([len(blocks) for blocks in spans], np.int64)
        self.address = np.zeros((max(1, int(self.count.max())), len(shortfalls)), np.int64)
        self.address[0] = np.arange(len(shortfalls)) * _FLANK_KMERS
        self.offset = np.zeros_like(self.address)
        first = [np.zeros(_FLANK_KMERS, np.int64)] * len(shortfalls)
        further: list[_Ints] = []
        clip = int(budgets.max()) + 1  # a greater shortfall is as good as this one
        for row, shortfall in enumerate(shortfalls):
            blocks: list[tuple[float, _Ints, int]] = []  # mean shortfall, which says how selective it is; table; offset
            for begin, end in spans[row]:
                columns = np.zeros((FLANK_BP, 4), np.int64)
                inside = slice(max(begin, 0), min(end, len(shortfall)))
                columns[inside.start - begin : inside.stop - begin] = shortfall[inside]
                table = np.minimum(_kmer_shortfalls(columns), clip)
                blocks.append((float(np.minimum(table, budgets[row] + 1).mean()), table, begin - int(seed_offset[row])))
            for level, (_, table, offset) in enumerate(sorted(blocks, key=lambda block: -block[0])):
                self.offset[level, row] = offset
                if level == 0:
                    first[row] = table
                else:
                    self.address[level, row] = (len(shortfalls) + len(further)) * _FLANK_KMERS
                    further.append(table)
        self.table = np.concatenate(first + further).astype(np.uint16 if clip <= np.iinfo(np.uint16).max else np.int32)

    def subtract_further(self, left: _Ints, row: _Ints, at: _Ints, kmers: _Ints) -> None:
        """Subtract every block but the first from the budgets left, in place."""
        count = self.count.take(row)
        some = np.flatnonzero(count > 1)
        for level in range(1, len(self.address)):
            its_row = row.take(some)
            kmer = kmers.take(at.take(some) + self.offset[level].take(its_row))
            after = left.take(some) - self.table.take(self.address[level].take(its_row) + kmer)
            left[some] = after
            some = some[(after >= 0) & (count.take(some) > level + 1)]


def _flank_spans(width: int, seed: int, seed_bp: int) -> list[tuple[int, int]]:
    """Blocks of FLANK_BP that cover the columns outside the seed, from the seed outwards; the last may run past the motif."""
    before = [(end - FLANK_BP, end) for end in range(seed, 0, -FLANK_BP)]
    return before + [(begin, begin + FLANK_BP) for begin in range(seed + seed_bp, width, FLANK_BP)]


def _kmers(clean: NDArray[np.uint8], widths: tuple[int, ...]) -> list[_Ints]:
    """Value of the k-mer that starts at every base, first base most significant, for each k in `widths` (1..15).

    Returns:
        int64, [n - k + 1] each; doubled up in the narrowest types, as this is half the cost of a scan with few motifs.
    """
    powers = {1: clean.astype(np.uint16)}
    for width in (2, 4, 8):
        half = powers[width // 2]
        powers[width] = (half[: -(width // 2)] << np.uint16(width)) | half[width // 2 :]
    values = []
    for k in widths:
        count = len(clean) - k + 1
        value, done = np.zeros(count, np.int32), 0
        for width in (8, 4, 2, 1):
            if done + width <= k:
                part = powers[width][done : done + count]
                value = (value << (2 * width)) | part if done else part.astype(np.int32)
                done += width
        values.append(value.astype(np.int64))
    return values


def _kmer_shortfalls(columns: _Ints) -> _Ints:
    """Shortfall of every k-mer over k columns, int64, [4**k], in the order of their values."""
    total = np.zeros(1, np.int64)
    for column in columns:
        total = (total[:, None] + column).reshape(-1)
    return total


def _seed_halves(shortfall: _Ints, offset: int, k: int) -> tuple[_Ints, _Ints]:
    """Shortfalls of the two halves of a seed; where the motif is shorter than the seed, wildcards follow it."""
    columns = np.zeros((k, 4), np.int64)
    inside = shortfall[offset : offset + k]
    columns[: len(inside)] = inside
    return _kmer_shortfalls(columns[: k // 2]), _kmer_shortfalls(columns[k // 2 :])


def _choose_seeds(shortfalls: list[_Ints], budgets: _Ints) -> tuple[int, _Ints, int]:
    """The longest seed whose table stays within bounds, for every row the offset with the fewest k-mers, and their sum."""
    for k in range(SEED_BP, 0, -1):
        offsets = np.zeros(len(shortfalls), np.int64)
        total = 0
        for row in range(0, len(shortfalls), 2):  # the other strand is the mirror image
            counts = []
            for offset in range(max(1, len(shortfalls[row]) - k + 1)):
                head, rest = _seed_halves(shortfalls[row], offset, k)
                counts.append(int(np.searchsorted(np.sort(rest), budgets[row] - head, side="right").sum()))
            best = int(np.argmin(counts))
            offsets[row] = best
            offsets[row + 1] = max(0, len(shortfalls[row]) - k - best)
            total += 2 * counts[best]
        if total <= MAX_CANDIDATES:
            break
    return k, offsets, total


def _seed_table(
    shortfalls: list[_Ints], budgets: _Ints, offsets: _Ints, k: int, total: int, flank_offset: _Ints
) -> tuple[NDArray[np.int32], _Ints]:
    """First candidate of every k-mer, [4**k + 1], and the candidates, [total], ordered by k-mer and row."""
    table = np.empty(total, np.uint64)  # k-mer, row, budget left; then, in place, the candidates
    done = 0
    for row, (shortfall, budget, offset) in enumerate(zip(shortfalls, budgets.tolist(), offsets.tolist(), strict=True)):
        head, rest = _seed_halves(shortfall, offset, k)
        by_shortfall = np.argsort(rest, kind="stable")
        fitting = np.searchsorted(rest[by_shortfall], budget - head, side="right")
        first = np.repeat(np.arange(len(head)), fitting)
        rank = np.arange(len(first)) - np.repeat(np.cumsum(fitting) - fitting, fitting)
        second = by_shortfall[rank]
        kmer = (first * len(rest) + second).astype(np.uint64)
        left = (budget - head[first] - rest[second]).astype(np.uint64)
        entries = (kmer << np.uint64(ROW_BITS + _BUDGET_BITS)) | np.uint64(row << _BUDGET_BITS) | left
        table[done : done + len(entries)] = entries
        done += len(entries)
    table.sort()
    starts = np.searchsorted(table, np.arange(4**k, dtype=np.uint64) << np.uint64(ROW_BITS + _BUDGET_BITS))
    table &= np.uint64((1 << (ROW_BITS + _BUDGET_BITS)) - 1)
    candidates = table.view(np.int64)
    rows = candidates >> _BUDGET_BITS
    candidates &= (1 << _BUDGET_BITS) - 1
    candidates <<= _BUDGET_SHIFT
    candidates |= flank_offset.take(rows) + _OFFSET_BIAS
    rows <<= _OFFSET_BITS
    candidates |= rows
    return np.append(starts, total).astype(np.int32), candidates
