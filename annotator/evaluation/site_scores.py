"""Sites of a labelled genome: every base ranked, and calls held against the truth.

Coordinates: 0-based plus-strand positions within a contig.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotator.calls.batch import Calls
from annotator.evaluation.metrics import (
    Examples,
    Places,
    Reliability,
    calibration_error,
    calls_per_mb,
    match_tss,
    reliability,
)
from annotator.evaluation.scores import sites_as_places
from annotator.evaluation.truth import ExampleCollector
from annotator.kinds import STRANDS, Kind
from annotator.labels.labelled import LabelledGenome

BLOCK_BP = 1_000_000
MANY_CONTIGS = 10
"""Genomes of fewer contigs are drawn by the bootstrap in blocks of BLOCK_BP, others by whole contigs."""
PROMOTER_WITHIN_BP = (50, 250, 500)
"""Distances at which promoter calls are judged."""
PROMOTER_MATCH_BP = 250
"""A promoter call is right when an annotated TSS lies within this on the same strand; its probability means just that."""
_CURVE_POINTS = 200


@dataclass(frozen=True)
class Curve:
    """Precision against recall, by rising recall.

    Attributes:
        threshold: What is called at each point: examples at or above it, float64, [n].
        precision: Share of the called that is right, float64, [n].
        recall: Share of the truth that is called, float64, [n].
    """

    threshold: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]

    def average_precision(self) -> float:
        """Area under the curve as a sum of steps; truth beyond the last point is never found."""
        return float(np.sum(np.diff(self.recall, prepend=0.0) * self.precision))

    def thinned(self, points: int = _CURVE_POINTS) -> Curve:
        """The first point that reaches each of so many evenly spaced recalls, and the last."""
        if not len(self.recall):
            return self
        wanted = np.linspace(0.0, float(self.recall[-1]), points)
        rows = np.unique(np.append(np.searchsorted(self.recall, wanted), len(self.recall) - 1))
        return Curve(self.threshold[rows], self.precision[rows], self.recall[rows])


def precision_recall_curve(values: NDArray[np.floating], right: NDArray[np.bool_], truths: int) -> Curve:
    """Precision and recall at every threshold.

    Args:
        values: Anything that ranks, [n].
        right: Whether each of them is truth, [n].
        truths: Truth sites in all, those that are not listed included.

    Returns:
        One point per distinct value; none without truth.
    """
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) and truths else np.zeros(0, np.int64)
    found = np.cumsum(right[order])[ends]
    return Curve(ranked[ends].astype(np.float64), found / (ends + 1), found / max(truths, 1))


class SiteRanking:
    """Every (position, strand) of a genome as an example of one kind of site, ambiguous ones left out."""

    def __init__(self, genome: LabelledGenome, kind: str, floor: float) -> None:
        """Start empty.

        Args:
            genome: Genome whose sites are looked for.
            kind: donor, acceptor or tss.
            floor: Examples with a lower score are counted, not listed (see `annotator.evaluation.metrics`).
        """
        self._sites, self._masked = (
            {strand: _by_contig(table[kind, strand], genome) for strand in STRANDS} for table in (genome.sites, genome.masked)
        )
        few = len(genome.contig_ends) < MANY_CONTIGS
        self._block_bp = BLOCK_BP if few else int(np.diff(genome.contig_ends, prepend=0).max())
        self._collector = ExampleCollector(floor)

    def add(self, contig: int, start: int, scores: NDArray[np.floating]) -> None:
        """Add a stretch of a contig.

        Args:
            contig: Index of the contig.
            start: First base of the stretch.
            scores: Anything that ranks, of + and -, [2, bases], in plus-strand order.
        """
        end, step = start + scores.shape[1], self._block_bp
        for low in range(start - start % step, end, step):
            first, last = max(low, start), min(low + step, end)
            for row, strand in enumerate(STRANDS):
                truth, masked = (_between(table[strand][contig], first, last) for table in (self._sites, self._masked))
                group = contig << 32 | low  # what the bootstrap draws together
                self._collector.add(group, scores[row, first - start : last - start], truth, masked)

    def examples(self) -> Examples:
        """All that was added."""
        return self._collector.examples()


@dataclass(frozen=True)
class CallScores:
    """What the calls at a threshold are worth.

    Attributes:
        threshold: Probability.
        calls: How many there are, ambiguous ones included.
        right: How many are truth.
        precision: Share of the calls that are not ambiguous; NaN without any.
        recall: Share of the truth; NaN without any.
        f1: Harmonic mean of the two; 0 without a right call, NaN without truth.
        calls_per_mb: On both strands together.
    """

    threshold: float
    calls: int
    right: int
    precision: float
    recall: float
    f1: float
    calls_per_mb: float


@dataclass(frozen=True)
class JudgedCalls:
    """Calls of one kind, held against the truth.

    Attributes:
        probability: float32, [n].
        right: Whether each is truth, every truth site counted once, [n].
        ambiguous: Whether it is neither truth nor error, [n].
        truths: Truth sites of the genome.
        bases: Length of the genome, its strands counted once.
    """

    probability: NDArray[np.float32]
    right: NDArray[np.bool_]
    ambiguous: NDArray[np.bool_]
    truths: int
    bases: int

    def at(self, threshold: float) -> CallScores:
        """The calls with at least a probability."""
        called = self.probability >= np.float32(threshold)
        calls, right = int(called.sum()), int((called & self.right).sum())
        counted = calls - int((called & self.ambiguous).sum())
        nan = float("nan")
        return CallScores(
            threshold=threshold,
            calls=calls,
            right=right,
            precision=right / counted if counted else nan,
            recall=right / self.truths if self.truths else nan,
            f1=2 * right / (counted + self.truths) if self.truths else nan,
            calls_per_mb=calls_per_mb(calls, self.bases),
        )

    def curve(self) -> Curve:
        """Precision and recall at every threshold."""
        return precision_recall_curve(self.probability[~self.ambiguous], self.right[~self.ambiguous], self.truths)

    def reliability(self, at_least: float, bins: int = 10) -> Reliability:
        """How often calls of each probability are right, those below `at_least` left out."""
        counted = ~self.ambiguous & (self.probability >= np.float32(at_least))
        return reliability(self.probability[counted], self.right[counted], bins)

    def calibration_error(self) -> float:
        """Expected calibration error in bins of equal count; NaN with too few calls."""
        return calibration_error(self.probability[~self.ambiguous], self.right[~self.ambiguous])


def judge_splice(calls: Calls, genome: LabelledGenome, kind: str) -> JudgedCalls:
    """Judge calls of a splice site: right is the exact base on the same strand.

    Args:
        calls: Calls of any kinds.
        genome: With the truth.
        kind: donor or acceptor.

    Returns:
        The calls of that kind.
    """
    calls = calls.take(calls.kind == Kind(kind).code)
    place = genome.contig_starts[calls.contig] + calls.position
    right, masked = np.zeros(len(calls), bool), np.zeros(len(calls), bool)
    for strand in STRANDS:
        mine = calls.strand == strand
        right |= mine & np.isin(place, genome.sites[kind, strand])
        masked |= mine & np.isin(place, genome.masked[kind, strand])
    truths = sum(len(genome.sites[kind, strand]) for strand in STRANDS)
    return JudgedCalls(calls.probability, right, masked & ~right, truths, len(genome.bases))


def judge_promoters(calls: Calls, genome: LabelledGenome, within_bp: int) -> JudgedCalls:
    """Judge promoter calls by `match_tss`: right is a TSS within so many bp on the same strand, each truth once.

    Args:
        calls: Calls of any kinds.
        genome: With the truth.
        within_bp: The largest distance that is right.

    Returns:
        The promoter calls. A wrong one within the distance of an ambiguous TSS is ambiguous.
    """
    calls = calls.take(calls.kind == Kind.PROMOTER.code)
    places = Places(calls.contig, calls.position, calls.strand)
    truth, masked = (sites_as_places(table, "tss", genome.contig_ends) for table in (genome.sites, genome.masked))
    right = match_tss(places, calls.probability, truth, within_bp).truth_row >= 0
    ambiguous = match_tss(places, calls.probability, masked, within_bp).truth_row >= 0
    return JudgedCalls(calls.probability, right, ambiguous & ~right, len(truth), len(genome.bases))


def _by_contig(positions: NDArray[np.int64], genome: LabelledGenome) -> list[NDArray[np.int64]]:
    """Positions end to end as positions within each contig."""
    cuts = np.searchsorted(positions, genome.contig_ends[:-1])
    return [part - start for part, start in zip(np.split(positions, cuts), genome.contig_starts, strict=True)]


def _between(positions: NDArray[np.int64], start: int, end: int) -> NDArray[np.int64]:
    """Those of ascending positions within [start, end), counted from start."""
    low, high = np.searchsorted(positions, [start, end])
    return positions[low:high] - start
