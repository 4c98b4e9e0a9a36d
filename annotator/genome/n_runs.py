"""Counts runs of bases that read as N; a run goes on over line ends and stops at the contig's end.

Coordinates: runs are kept in `flat` bases, all contigs of the file end to end.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from annotator.genome.lines import Pieces


class RunCounter:
    """Counts maximal runs over a file that comes in blocks."""

    def __init__(self) -> None:
        """Start without runs."""
        self._count = 0
        self._longest = 0
        self._open = np.empty((0, 3), np.int64)

    def add(self, is_n: NDArray[np.bool_], pieces: Pieces) -> None:
        """Take in one block that has at least one N.

        Args:
            is_n: Whether each byte of the block reads as N, bool, [n]; False on headers and line ends.
            pieces: The block's lines.
        """
        padded = np.zeros(len(is_n) + 2, np.bool_)
        padded[1:-1] = is_n
        edges = np.flatnonzero(padded[1:] != padded[:-1])
        starts, ends = edges[::2], edges[1::2]
        piece = np.searchsorted(pieces.starts, starts, side="right") - 1
        flat_starts = pieces.flat[piece] + starts - pieces.starts[piece]
        self.add_runs(pieces.contig[piece], flat_starts, flat_starts + ends - starts)

    def add_runs(self, contig: NDArray[np.int64], flat_starts: NDArray[np.int64], flat_ends: NDArray[np.int64]) -> None:
        """Take in the runs of one block, at least one, each with its contig, int64, [runs]; the first may go on from before."""
        found = np.stack((contig, flat_starts, flat_ends), axis=1)
        contig, flat_starts, flat_ends = np.concatenate((self._open, found)).T
        joins = (contig[1:] == contig[:-1]) & (flat_starts[1:] == flat_ends[:-1])
        run_starts = flat_starts[np.concatenate((np.ones(1, np.bool_), ~joins))]
        run_ends = flat_ends[np.concatenate((~joins, np.ones(1, np.bool_)))]
        self._count += len(run_starts) - 1
        if len(run_starts) > 1:
            self._longest = max(self._longest, int((run_ends[:-1] - run_starts[:-1]).max()))
        self._open = np.array([[contig[-1], run_starts[-1], run_ends[-1]]], np.int64)

    def finish(self) -> tuple[int, int]:
        """Number of runs and length of the longest in bp."""
        if not len(self._open):
            return 0, 0
        return self._count + 1, max(self._longest, int(self._open[0, 2] - self._open[0, 1]))
