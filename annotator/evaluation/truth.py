"""From per-base tracks and truth positions to the examples that annotator.evaluation.metrics measures.

Coordinates: 0-based plus-strand positions within a contig, for both strands.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from annotator.evaluation.metrics import Examples

NO_POSITIONS = np.zeros(0, np.int64)


class ExampleCollector:
    """Collects one kind of site over the contigs and strands of a split, in memory that grows with the listed examples only."""

    def __init__(self, floor: float = 0.0, *, block_bp: int | None = None) -> None:
        """Start empty.

        Args:
            floor: Examples with a lower probability are counted, not listed.
            block_bp: Bases that the bootstrap draws together; None for whole contigs.
        """
        self._floor = floor
        self._block_bp = block_bp
        self._probability: list[NDArray[np.floating]] = []
        self._is_truth: list[NDArray[np.bool_]] = []
        self._group: list[NDArray[np.int64]] = []
        self._rest: list[NDArray[np.int64]] = []  # of each group: unlisted examples, unlisted truth
        self._groups: dict[tuple[int, int], int] = {}

    def add(
        self,
        contig: int,
        track: NDArray[np.floating],
        truth: NDArray[np.int64],
        ambiguous: NDArray[np.int64] = NO_POSITIONS,
    ) -> None:
        """Add one strand of a contig.

        Args:
            contig: Index of the contig; its two strands share a group.
            track: Probability of each base, [contig length], plus-strand order.
            truth: Positions of the truth sites of this kind and strand.
            ambiguous: Positions to leave out; a site that is also truth stays in.
        """
        length = len(track)
        is_truth = np.zeros(length, bool)
        is_truth[truth] = True
        counts = np.ones(length, bool)
        counts[ambiguous] = False
        counts |= is_truth
        listed = counts & (track >= self._floor)
        block = self._block_bp or max(length, 1)
        for number, start in enumerate(range(0, length, block)):
            group = self._groups.setdefault((contig, number), len(self._groups))
            if group == len(self._rest):
                self._rest.append(np.zeros(2, np.int64))
            part = slice(start, start + block)
            rows = np.flatnonzero(listed[part]) + start
            unlisted = counts[part] & ~listed[part]
            self._rest[group] += [unlisted.sum(), (unlisted & is_truth[part]).sum()]
            self._probability.append(track[rows])
            self._is_truth.append(is_truth[rows])
            self._group.append(np.full(len(rows), group, np.int64))

    def examples(self) -> Examples:
        """All that was added."""
        rest = np.array(self._rest, np.int64).reshape(-1, 2)
        if not len(rest):
            return Examples(np.zeros(0), np.zeros(0, bool), NO_POSITIONS, rest[:, 0], rest[:, 1])
        listed = np.concatenate(self._probability), np.concatenate(self._is_truth), np.concatenate(self._group)
        return Examples(*listed, rest[:, 0], rest[:, 1])
