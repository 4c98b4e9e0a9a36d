"""Elements of a genome (enhancers, open chromatin, any feature) and the tiles that a track is judged by.

A tile is TILE_BP bases, counted from the start of its contig; what is left over at the end is no tile. A tile of which elements
cover half or more is inside, one that they do not touch is outside, and the others are left out, as are tiles of which half or
more is N. A track's score of a tile is its highest logit over the tile's bases and both strands.

Coordinates: contigs end to end, as in `LabelledGenome`, unless a function says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotator.evaluation.metrics import Examples, Interval, bootstrap
from annotator.genome.plan import UNKNOWN_BASE
from annotator.labels.labelled import LabelledGenome

TILE_BP = 200


@dataclass(frozen=True)
class ElementScores:
    """How well a track tells tiles inside elements from tiles outside.

    Attributes:
        name: The track.
        elements: Stretches of the truth, those that touch or overlap counted as one.
        tiles: Tiles that count.
        inside: How many of them lie inside elements.
        base_rate: Their share: the AUPRC of a track that knows nothing.
        auroc: How often a tile inside scores above one outside, equals counting half, drawn by contigs.
        auprc: Average precision over tiles, drawn by contigs.
    """

    name: str
    elements: int
    tiles: int
    inside: int
    base_rate: float
    auroc: Interval
    auprc: Interval


class TileScores:
    """The tiles of a genome, and the score of each for one track."""

    def __init__(self, genome: LabelledGenome, spans: NDArray[np.int64]) -> None:
        """Start without scores.

        Args:
            genome: The genome.
            spans: Its elements, disjoint, int64, [m, 2].
        """
        self.elements = len(spans)
        starts, counts = genome.contig_starts, (genome.contig_ends - genome.contig_starts) // TILE_BP
        self._first_tile = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._contig = np.repeat(np.arange(len(counts)), counts)
        places = starts[self._contig] + TILE_BP * (np.arange(len(self._contig)) - self._first_tile[self._contig])
        steps = np.zeros(len(genome.bases) + 1, np.int64)  # +1 where an element begins, -1 where it ends
        np.add.at(steps, spans[:, 0], 1)
        np.add.at(steps, spans[:, 1], -1)
        self._covered = _sums(np.cumsum(steps[:-1]), places)
        self._known = _sums(genome.bases != UNKNOWN_BASE, places)
        self._score = np.full(len(places), -np.inf, np.float32)

    def add(self, contig: int, start: int, scores: NDArray[np.floating]) -> None:
        """Add a stretch of a contig.

        Args:
            contig: Index of the contig.
            start: First base of the stretch, within the contig.
            scores: Anything that ranks, of + and -, [2, bases], in plus-strand order.
        """
        first, end = self._first_tile[contig : contig + 2]
        tiles = first + (start + np.arange(scores.shape[1])) // TILE_BP
        inside = tiles < end
        np.maximum.at(self._score, tiles[inside], scores.max(0)[inside])

    def examples(self) -> Examples:
        """The tiles that count, in groups by contig."""
        inside = 2 * self._covered >= TILE_BP
        counts = (inside | (self._covered == 0)) & (2 * self._known > TILE_BP)
        none = np.zeros(len(self._first_tile) - 1, np.int64)
        return Examples(self._score[counts], inside[counts], self._contig[counts], none, none)

    def scores(self, name: str, *, replicates: int) -> ElementScores:
        """The figures of the track.

        Args:
            name: Name of the track.
            replicates: Draws of the bootstrap over contigs (95 % intervals).
        """
        examples = self.examples()
        found = bootstrap(examples, replicates=replicates, measures=("auroc", "auprc"))
        tiles, inside = len(examples.is_truth), int(examples.is_truth.sum())
        rate = inside / tiles if tiles else float("nan")
        return ElementScores(name, self.elements, tiles, inside, rate, found["auroc"], found["auprc"])


def _sums(values: NDArray[np.generic], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sums of a value of every base over the tiles that begin at some places."""
    total = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    found: NDArray[np.int64] = total[places + TILE_BP] - total[places]
    return found
