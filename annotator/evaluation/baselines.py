"""What a call costs without a network: CpG islands for promoters, position weight matrices for splice sites.

Coordinates: 0-based plus-strand positions within a contig; bases are ASCII, either case, anything but A, C, G, T is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotator.kinds import STRANDS, Strand

Bases = NDArray[np.uint8]
Scores = NDArray[np.float32]

UNKNOWN = 4
_CODE = np.full(256, UNKNOWN, np.uint8)
_CODE[list(b"ACGTacgt")] = [0, 1, 2, 3, 0, 1, 2, 3]
_CODE[list(b"Uu")] = 3


def cpg_islands(bases: Bases, *, min_bp: int = 200, min_gc: float = 0.5, min_ratio: float = 0.6) -> NDArray[np.int64]:
    """CpG islands after Gardiner-Garden and Frommer (1987, J Mol Biol 196:261).

    Args:
        bases: A contig, [n].
        min_bp: Length of the sliding window, and so the shortest island.
        min_gc: Least share of G and C in the window.
        min_ratio: Least observed / expected CpG, CpG x window / (C x G).

    Returns:
        Start and end of each stretch covered by windows that pass, ascending, int64, [islands, 2].
    """
    gc, ratio = _cpg_windows(bases, min_bp)
    passed = np.flatnonzero((gc >= min_gc) & (ratio >= min_ratio))
    if not len(passed):
        return np.zeros((0, 2), np.int64)
    breaks = np.flatnonzero(np.diff(passed) > min_bp)  # windows that touch or overlap make one island
    starts = passed[np.concatenate([[0], breaks + 1])]
    ends = passed[np.concatenate([breaks, [len(passed) - 1]])] + min_bp
    return np.stack([starts, ends], axis=1)


def cpg_score(bases: Bases, *, window_bp: int = 500) -> Scores:
    """Share of G and C times observed / expected CpG of the window centred on each base.

    Args:
        bases: A contig, [n].
        window_bp: Length of the window; bases without a whole window take the score of the nearest one that has it.

    Returns:
        The score, float32, [n]; 0 everywhere on a contig shorter than the window.
    """
    score = np.zeros(len(bases), np.float32)
    gc, ratio = _cpg_windows(bases, window_bp)
    if len(gc):
        centres = np.clip(np.arange(len(bases)) - window_bp // 2, 0, len(gc) - 1)
        score[:] = (gc * ratio)[centres]
    return score


def cpg_promoter_calls(
    bases: Bases, *, window_bp: int = 500, reach_bp: int = 500, floor: float = 0.2
) -> tuple[NDArray[np.int64], Scores]:
    """The CpG baseline of promoter calls: local maxima of `cpg_score`, each to be counted as a call on both strands.

    Args:
        bases: A contig, [n].
        window_bp: Window of the score.
        reach_bp: A maximum is the highest within this distance on either side; of equals the lowest position.
        floor: Lower scores are no calls.

    Returns:
        Positions, ascending, int64, [calls], and their scores, which rank but are no probabilities.
    """
    score = cpg_score(bases, window_bp=window_bp)
    before = _running_maximum(score, reach_bp)  # of the reach_bp bases before each
    after = _running_maximum(score[::-1], reach_bp)[::-1]
    positions = np.flatnonzero((score >= floor) & (score > before) & (score >= after)).astype(np.int64)
    return positions, score[positions]


def _cpg_windows(bases: Bases, window_bp: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of G and C, and observed / expected CpG, of the window that starts at each base, [n - window_bp + 1]."""
    if len(bases) < window_bp:
        return np.zeros(0), np.zeros(0)
    codes = _CODE[bases]
    is_c, is_g = codes == 1, codes == 2
    c, g, cpg = (np.concatenate([[0], np.cumsum(flags, dtype=np.int64)]) for flags in (is_c, is_g, is_c[:-1] & is_g[1:]))
    c, g = c[window_bp:] - c[:-window_bp], g[window_bp:] - g[:-window_bp]
    pairs = cpg[window_bp - 1 :] - cpg[: len(cpg) - window_bp + 1]
    return (c + g) / window_bp, pairs * window_bp / np.maximum(c * g, 1)


def _running_maximum(score: Scores, reach_bp: int) -> Scores:
    """Highest of the reach_bp values before each; -inf where there is none."""
    result = np.full(len(score), -np.inf, np.float32)
    result[1:] = score[:-1]
    width, whole = 1, min(reach_bp, len(score))
    while width < whole:  # the maximum of a doubled stretch from two halves
        step = min(width, whole - width)
        result[step:] = np.maximum(result[step:], result[: len(result) - step].copy())
        width += step
    return result


@dataclass(frozen=True)
class SitePwm:
    """A position weight matrix around an exon boundary.

    Attributes:
        log_odds: Natural log of site over background frequency of A, C, G, T, and the lowest of the row for unknown bases,
            float32, [width, 5].
        before: Bases of the matrix that come before the site's position, in transcript order.
    """

    log_odds: Scores
    before: int

    def score(self, bases: Bases) -> tuple[Scores, Scores]:
        """Log-odds of each position of a contig, on the plus and on the minus strand.

        Args:
            bases: A contig, [n].

        Returns:
            Two rows in plus-strand order, float32, [n]; bases beyond the contig count as unknown.
        """
        codes = _CODE[bases]
        return self._score_codes(codes), self._score_codes(_reverse_complement(codes))[::-1]

    def _score_codes(self, codes: Bases) -> Scores:
        width = len(self.log_odds)
        padded = np.concatenate(
            [np.full(self.before, UNKNOWN, np.uint8), codes, np.full(width - 1 - self.before, UNKNOWN, np.uint8)]
        )
        total = np.zeros(len(codes), np.float32)
        for column, row in enumerate(self.log_odds):
            total += row[padded[column : column + len(codes)]]
        return total


DONOR_SPAN = (2, 9)
"""Bases before the donor position, and width: the exon's last 3 bases (the position is its last) and the intron's first 6."""

ACCEPTOR_SPAN = (20, 23)
"""The same of the acceptor: the intron's last 20 bases and the exon's first 3 (the position is its first)."""


def splice_pwm_baseline(
    contigs: Iterable[tuple[Bases, dict[tuple[str, Strand], NDArray[np.int64]]]], *, pseudocount: float = 1.0
) -> dict[str, SitePwm]:
    """Train the GT / AG baseline: donor -3..+6 and acceptor -20..+3.

    Args:
        contigs: Bases of each training contig with its truth positions by (kind, strand); kinds other than donor and
            acceptor are ignored. Sites whose matrix would reach beyond the contig are left out.
        pseudocount: Added to each cell.

    Returns:
        A matrix for "donor" and one for "acceptor"; the background is the composition of all contigs, both strands together.
    """
    spans = {"donor": DONOR_SPAN, "acceptor": ACCEPTOR_SPAN}
    counts = {kind: np.full((width, 4), pseudocount) for kind, (_, width) in spans.items()}
    composition = np.zeros(4)
    for bases, sites in contigs:
        plus = _CODE[bases]
        minus = _reverse_complement(plus)
        composition += np.bincount(plus, minlength=5)[:4] + np.bincount(minus, minlength=5)[:4]
        for kind, (before, width) in spans.items():
            for strand, codes in zip(STRANDS, (plus, minus), strict=True):
                positions = sites.get((kind, strand), np.zeros(0, np.int64))
                starts = (positions if strand is Strand.PLUS else len(codes) - 1 - positions) - before
                starts = starts[(starts >= 0) & (starts + width <= len(codes))]
                for column in range(width):
                    counts[kind][column] += np.bincount(codes[starts + column], minlength=5)[:4]
    background = composition / composition.sum()
    matrices = {}
    for kind, table in counts.items():
        log_odds = np.log(table / table.sum(axis=1, keepdims=True) / background)
        log_odds = np.concatenate([log_odds, log_odds.min(axis=1, keepdims=True)], axis=1)
        matrices[kind] = SitePwm(log_odds.astype(np.float32), spans[kind][0])
    return matrices


def _reverse_complement(codes: Bases) -> Bases:
    return np.array([3, 2, 1, 0, UNKNOWN], np.uint8)[codes[::-1]]
