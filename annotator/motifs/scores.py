"""Scores of motif matrices: log-odds, their integer form, and exact p-values of the integer score.

A matrix is [W, 4], columns A, C, G, T, row 0 the first base of the motif in its own reading direction.

With counts c[i, b], background q[b] and pseudocount a (spread over the column by the background):

    log_odds[i, b] = log2((c[i, b] + a * q[b]) / (sum_b c[i, b] + a) / q[b])        [bits]
    steps[i, b]    = round(STEPS_PER_BIT * log_odds[i, b])                         [integer]

The integer score of a window is the sum of its steps. Everything that decides about a hit uses integer scores, so it is
exact and the same on every machine; a rounded score is at most W / 2 steps away from the true log-odds.
lightmotif's `normalize(p)` adds p to each of the four counts, so `normalize({b: a * q[b]})` followed by `log_odds()` gives
the same log-odds (`normalize(a / 4)` where the background is uniform).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotator.errors import UsageError

STEPS_PER_BIT = 1000
"""Integer score units in one bit."""

UNIFORM: tuple[float, float, float, float] = (0.25, 0.25, 0.25, 0.25)
"""Default background, A, C, G, T."""

PSEUDOCOUNT = 0.1
"""Default pseudocount of a column, in sites."""

MAX_P_VALUE = 0.1
"""Largest p-value threshold: beyond it a scan reports noise and the tails would fill the memory."""

_LEAST_FREQUENCY = 1e-6  # with the limits on counts and pseudocounts it keeps every score far inside its integer
_FIRST_TAIL = 4 * STEPS_PER_BIT


@dataclass(frozen=True, eq=False)
class ScoredMatrix:
    """A matrix that is ready to scan at one p-value threshold.

    Attributes:
        log_odds: Exact log-odds in bits, float64, [W, 4].
        steps: Integer scores, int32, [W, 4].
        best: The greatest integer score a window can have.
        tail: P(score >= best - d) under the background for d = 0, 1, ..., best - threshold; float64. Empty where even the
            best score is more probable than the p-value asked for, so that the matrix can never hit.
    """

    log_odds: NDArray[np.float64]
    steps: NDArray[np.int32]
    best: int
    tail: NDArray[np.float64]

    @property
    def width(self) -> int:
        """Columns of the motif, bp."""
        return len(self.steps)

    @property
    def threshold(self) -> int | None:
        """The smallest integer score with P(score >= it) <= the p-value asked for; None where there is none."""
        return self.best - len(self.tail) + 1 if len(self.tail) else None

    def p_values(self, scores: NDArray[np.int32]) -> NDArray[np.float64]:
        """Exact p-values of integer scores, each of them at or above the threshold, float64, [n]."""
        values: NDArray[np.float64] = self.tail[self.best - scores.astype(np.int64)]
        return values


def checked_background(background: tuple[float, float, float, float]) -> NDArray[np.float64]:
    """The background as an array; refuses anything but four positive frequencies that sum to one.

    Raises:
        UsageError: The values are no background.
    """
    values = np.asarray(background, np.float64)
    if values.shape != (4,) or not np.all(values >= _LEAST_FREQUENCY) or abs(float(values.sum()) - 1) > 1e-6:
        raise UsageError(
            f"background: four frequencies (A, C, G, T) that sum to 1, none below {_LEAST_FREQUENCY}, not {background!r}"
        )
    normalised: NDArray[np.float64] = values / values.sum()
    return normalised


def strand_symmetric(background: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """The background averaged with its complement: the frequencies of bases when either strand may be read."""
    a, c, g, t = checked_background(background).tolist()
    return ((a + t) / 2, (c + g) / 2, (c + g) / 2, (a + t) / 2)


def log_odds_bits(
    counts: NDArray[np.float64],
    background: tuple[float, float, float, float] = UNIFORM,
    pseudocount: float = PSEUDOCOUNT,
) -> NDArray[np.float64]:
    """Log-odds of a count matrix, by the formula of the module's docstring.

    Args:
        counts: Sites that hold each base, float64, [W, 4], A, C, G, T.
        background: Frequencies of A, C, G, T.
        pseudocount: Sites added to each column, spread by the background; at least 1e-6.

    Returns:
        Bits, float64, [W, 4], all finite.

    Raises:
        UsageError: Background or pseudocount are out of range.
    """
    if not 1e-6 <= pseudocount <= 1e6:
        raise UsageError(f"pseudocount must be between 1e-6 and 1e6, not {pseudocount}")
    q = checked_background(background)
    frequency = (counts + pseudocount * q) / (counts.sum(axis=1, keepdims=True) + pseudocount)
    bits: NDArray[np.float64] = np.log2(frequency / q)
    return bits


def integer_scores(log_odds: NDArray[np.float64]) -> NDArray[np.int32]:
    """Log-odds rounded to whole steps, int32, [W, 4]."""
    return np.rint(log_odds * STEPS_PER_BIT).astype(np.int32)


def score_matrix(
    counts: NDArray[np.float64],
    p_value: float,
    background: tuple[float, float, float, float] = UNIFORM,
    pseudocount: float = PSEUDOCOUNT,
) -> ScoredMatrix:
    """Log-odds, integer scores, threshold and p-values of one matrix.

    Args:
        counts: Sites that hold each base, float64, [W, 4], A, C, G, T.
        p_value: A window hits where P(score >= its score) <= this, for one window of one strand; above 0, at most 0.1.
        background: Frequencies of A, C, G, T; the log-odds and the p-values both use it.
        pseudocount: Sites added to each column, spread by the background.

    Returns:
        The matrix with its exact tail.

    Raises:
        UsageError: An option is out of range.
    """
    if not 0 < p_value <= MAX_P_VALUE:
        raise UsageError(f"the motif p-value must be above 0 and at most {MAX_P_VALUE}, not {p_value}")
    log_odds = log_odds_bits(counts, background, pseudocount)
    steps = integer_scores(log_odds)
    best = steps.max(axis=1)
    tail = _tail(best[:, None] - steps, p_value, checked_background(background))
    return ScoredMatrix(log_odds, steps, int(best.sum()), tail)


def expected_hits(matrices: Iterable[ScoredMatrix], genome_bp: int) -> float:
    """Hits expected by chance on both strands of a background sequence, all matrices together.

    Args:
        matrices: Scored matrices; those that cannot reach their threshold count nothing.
        genome_bp: Length of the sequence; several contigs have slightly fewer windows than one of their total length.

    Returns:
        Sum over matrices of 2 * windows * P(score >= threshold).
    """
    return float(sum(2 * max(0, genome_bp - m.width + 1) * float(m.tail[-1]) for m in matrices if len(m.tail)))


def _tail(shortfall: NDArray[np.int32], p_value: float, background: NDArray[np.float64]) -> NDArray[np.float64]:
    """P(total shortfall <= d) for every d at which it is <= p_value.

    Args:
        shortfall: Steps each base loses against the best base of its column, int32, [W, 4], >= 0.
        p_value: Probability at which the tail ends.
        background: Frequencies, float64, [4].

    Returns:
        float64, [D + 1] with D the largest shortfall that still hits; empty where not even 0 does.

    Notes:
        Shortfalls only add up, so those above a limit can be dropped at every column without an effect on those below:
        the convolution runs over the upper tail alone. The limit grows until the tail holds more than p_value.
    """
    largest = int(shortfall.max(axis=1).sum(dtype=np.int64))
    limit = min(_FIRST_TAIL, largest)
    while True:
        tail = np.cumsum(_shortfall_distribution(shortfall, limit, background))
        if tail[-1] > p_value or limit == largest:
            return tail[: int(np.searchsorted(tail, p_value, side="right"))].copy()
        limit = min(2 * limit, largest)


def _shortfall_distribution(shortfall: NDArray[np.int32], limit: int, background: NDArray[np.float64]) -> NDArray[np.float64]:
    """P(total shortfall = d) for d = 0..limit, float64, [limit + 1]."""
    distribution = np.zeros(limit + 1)
    distribution[0] = 1.0
    reached = 0  # everything above is still zero
    for column in shortfall.tolist():
        after = np.zeros(limit + 1)
        for loss, frequency in zip(column, background.tolist(), strict=True):
            if loss <= limit:
                end = min(reached, limit - loss) + 1
                after[loss : loss + end] += frequency * distribution[:end]
        reached = min(limit, reached + max(column))
        distribution = after
    return distribution
