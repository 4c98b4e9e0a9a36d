"""Cuts blocks of FASTA text into lines and finds out whether the lines of each contig are even.

Coordinates: `starts` and `ends` are 0-based within the block; `flat` counts bases from the first base of the file,
all contigs end to end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from annotator.genome.contigs import Layout
from annotator.genome.even_lines import EvenLines

_NEWLINE, _RETURN, _GREATER = ord("\n"), ord("\r"), ord(">")


@dataclass(frozen=True, eq=False)
class Pieces:
    """The lines of one block, p of them; the first may have begun earlier and the last has not ended yet.

    Attributes:
        starts: First byte, int64, [p].
        ends: One past the last byte, without the line end, int64, [p].
        is_header: bool, [p].
        opens: Header lines that begin in this block, bool, [p].
        blanks: First of the blanks that end the line, `ends` where there are none, int64, [p].
        bases: Bases on the piece (0 for headers), int64, [p].
        flat: Bases of the file before the piece, int64, [p].
        contig: Contig the piece belongs to, int64, [p]; -1 before the first header.
        line_starts: Byte of the file at which the piece's line begins, int64, [p].
        line_bases: Bases on the line up to the piece's end, int64, [p].
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    is_header: NDArray[np.bool_]
    opens: NDArray[np.bool_]
    blanks: NDArray[np.int64]
    bases: NDArray[np.int64]
    flat: NDArray[np.int64]
    contig: NDArray[np.int64]
    line_starts: NDArray[np.int64]
    line_bases: NDArray[np.int64]


class LineCutter:
    """Cuts block after block; holds where the next block begins and what is known about the unfinished line.

    Attributes:
        offset: Byte of the file at which the next block begins.
        line: Number of the line that it belongs to, 1-based.
        contig: Index of the contig that it belongs to, -1 before the first header.
        flat: Bases of the file so far.
        in_line: Whether a line was begun.
        in_header: Whether that line is a header.
        line_start: Byte of the file at which that line begins.
        blank_at: Byte of the file at which the blanks begin that that line ends with so far; None without any.
    """

    def __init__(self, offset: int) -> None:
        """Stand at the start of a line, at a byte of the file."""
        self.offset = self.line_start = offset
        self.line = 1
        self.contig = -1
        self.flat = 0
        self.in_line = False
        self.in_header = False
        self.blank_at: int | None = None
        self._line_bases = 0

    def cut(self, block: NDArray[np.uint8]) -> Pieces:
        """Cut one block.

        Args:
            block: Text, uint8, [n], n > 0; must not end between a carriage return and its line feed.

        Returns:
            The pieces; `advance` then moves on.
        """
        breaks = np.flatnonzero(block == _NEWLINE)
        starts = np.concatenate((np.zeros(1, np.int64), breaks + 1))
        ends = np.concatenate((breaks, np.array([len(block)], np.int64)))
        is_header = block[np.minimum(starts, len(block) - 1)] == _GREATER
        is_header[-1] &= bool(starts[-1] < len(block))
        opens = is_header.copy()
        if self.in_line:
            is_header[0] = self.in_header
            opens[0] = False
        if (block == _RETURN).any():
            ends[:-1] -= (block[breaks - 1] == _RETURN) & (breaks > starts[:-1])
        bases = np.where(is_header, 0, ends - starts)
        line_starts, line_bases = starts + self.offset, bases.copy()
        if self.in_line:
            line_starts[0] = self.line_start
            line_bases[0] += self._line_bases
        return Pieces(
            starts=starts,
            ends=ends,
            is_header=is_header,
            opens=opens,
            blanks=ends,
            bases=bases,
            flat=self.flat + np.cumsum(bases) - bases,
            contig=self.contig + np.cumsum(opens),
            line_starts=line_starts,
            line_bases=line_bases,
        )

    def without_blanks(self, pieces: Pieces, blanks: NDArray[np.int64]) -> tuple[Pieces, int | None]:
        """Take the blanks at line ends out of the count of bases.

        Args:
            pieces: The block that was cut.
            blanks: Positions in the block that hold a blank, headers left out, int64.

        Returns:
            The pieces, and where a blank stands inside a line: position in the block, -1 for one of an earlier block
            (`blank_at` is its place), None where there is none.
        """
        piece, first, counts = np.unique(
            np.searchsorted(pieces.starts, blanks, side="right") - 1, return_index=True, return_counts=True
        )
        begins, from_blank = blanks[first], pieces.blanks.copy()
        from_blank[piece] = begins
        inside = begins[counts != pieces.ends[piece] - begins]
        if self.blank_at is not None:
            if not (pieces.ends[0] == 0 or (len(piece) and piece[0] == 0 and begins[0] == 0 and counts[0] == pieces.ends[0])):
                return pieces, -1
            from_blank[0] = 0
        bases = np.where(pieces.is_header, 0, from_blank - pieces.starts)
        line_bases = bases.copy()
        if self.in_line:
            line_bases[0] += self._line_bases
        flat = self.flat + np.cumsum(bases) - bases
        trimmed = replace(pieces, blanks=from_blank, bases=bases, line_bases=line_bases, flat=flat)
        return trimmed, int(inside[0]) if len(inside) else None

    def advance(self, pieces: Pieces) -> None:
        """Move past a block that was cut and accepted."""
        if len(pieces.starts) > 1:
            self.blank_at = None
        if self.blank_at is None and pieces.blanks[-1] < pieces.ends[-1]:
            self.blank_at = self.offset + int(pieces.blanks[-1])
        self.offset += int(pieces.ends[-1])
        self.line += len(pieces.starts) - 1
        self.contig = int(pieces.contig[-1])
        self.flat = int(pieces.flat[-1] + pieces.bases[-1])
        self.in_line = bool(pieces.ends[-1] > pieces.starts[-1])
        self.in_header = self.in_line and bool(pieces.is_header[-1])
        self.line_start = int(pieces.line_starts[-1])
        self._line_bases = int(pieces.line_bases[-1])

    def advance_run(self, bases: int) -> None:
        """Move past bases of the present contig that begin a line, or go on with one that has no blanks so far."""
        if not self.in_line:
            self.in_line, self.in_header, self.line_start, self._line_bases = True, False, self.offset, 0
        self.offset += bases
        self.flat += bases
        self._line_bases += bases

    def advance_even(self, even: EvenLines) -> None:
        """Move past whole lines of the present contig, from the start of a line."""
        self.offset += len(even.data)
        self.line += even.lines
        self.flat += even.lines * even.line_bases
        self.line_start = self.offset


class LayoutTracker:
    """Learns each contig's line width and whether all lines keep to it, so that bases can be found by arithmetic."""

    def __init__(self) -> None:
        """Know no contig yet."""
        self._even = True
        self._rows: list[NDArray[np.int64]] = []
        self._last = np.empty((0, 3), np.int64)
        self._width = np.zeros(2, np.int64)

    def add(self, pieces: Pieces) -> None:
        """Take in the lines that ended in a block."""
        line_starts, line_bases = pieces.line_starts, pieces.line_bases
        full = np.flatnonzero(line_bases[:-1])
        if not self._even or not len(full):
            return
        lines = np.stack((pieces.contig[full], line_starts[full], line_bases[full]), axis=1)
        line_bytes = line_starts[full + 1] - line_starts[full]
        # The last line of the blocks before stands in front, so that a contig's lines are compared across blocks.
        carried = len(self._last)
        lines = np.concatenate((self._last, lines))
        line_bytes = np.concatenate((self._width[1:][:carried], line_bytes))
        contig, starts, bases = lines.T
        first = np.concatenate((np.ones(1, np.bool_), contig[1:] != contig[:-1]))
        rows = np.column_stack((contig[first], starts[first], bases[first], line_bytes[first]))
        if carried:
            rows[0, 2:] = self._width
        group = np.cumsum(first) - 1
        expected_bases, expected_bytes = rows[group, 2], rows[group, 3]
        follows = ~first[1:]
        wrong = follows & ((starts[1:] - starts[:-1] != expected_bytes[1:]) | (bases[:-1] != expected_bases[1:]))
        self._even = not (wrong.any() or (bases > expected_bases).any())
        self._rows.append(rows[carried:])
        self._last = lines[-1:].copy()
        self._width = rows[-1, 2:]

    def add_even(self, contig: int, start: int, even: EvenLines) -> None:
        """Take in whole lines of one length, two or more, of a contig; the first begins at byte `start` of the file."""
        if not self._even:
            return
        width = np.array([even.line_bases, even.line_bytes], np.int64)
        if len(self._last) and self._last[0, 0] == contig:
            follows = self._last[0, 1] + even.line_bytes == start and self._last[0, 2] == even.line_bases
            self._even = bool(follows and (self._width == width).all())
        else:
            self._rows.append(np.array([[contig, start, *width]], np.int64))
            self._width = width
        self._last = np.array([[contig, start + (even.lines - 1) * even.line_bytes, even.line_bases]], np.int64)

    def finish(self, contigs: int) -> Layout | None:
        """The layout of all contigs, or None where some contig's lines are uneven."""
        if not self._even:
            return None
        offsets = np.zeros(contigs, np.int64)
        line_bases, line_bytes = np.ones(contigs, np.int64), np.ones(contigs, np.int64)
        for rows in self._rows:
            offsets[rows[:, 0]], line_bases[rows[:, 0]], line_bytes[rows[:, 0]] = rows[:, 1], rows[:, 2], rows[:, 3]
        return Layout(offsets, line_bases, line_bytes)
