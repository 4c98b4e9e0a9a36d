"""Accuracy, in the words and by the definitions that every table of this project uses.

Splice sites: every (position, strand) of the scored contigs is one example, ambiguous ones left out (annotator.evaluation.truth
collects them). With k the number of truth sites, top-k is the share of truth among the k highest probabilities, and AUPRC is the
average precision over all examples. Nearly all of a genome's 10^7 to 10^8 examples have a tiny probability: those under a floor
need not be listed, only counted (`Rest`), and are then treated as one tie below everything listed. top-k is exact all the same as
long as at least k examples are listed. AUPRC is then a lower bound: too small by at most the unlisted share of the truth times
the precision that would be reached if that truth came right below the floor (1 % of the truth and a precision of 0.05: 0.0005).

Promoters: see `match_tss`. Positions are 0-based.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rest:
    """The examples that are not listed, since their probability lies below that of every listed one.

    Attributes:
        examples: How many.
        truth: How many of them are truth.
        probability_sum: Sum of their probabilities; only `reliability` needs it.
    """

    examples: int = 0
    truth: int = 0
    probability_sum: float = 0.0

    def __post_init__(self) -> None:
        """Refuse impossible counts."""
        if not 0 <= self.truth <= self.examples:
            raise ValueError(f"{self.truth} truth sites among {self.examples} examples")


NO_REST = Rest()


@dataclass(frozen=True)
class Examples:
    """Scored examples in groups that are drawn together by the bootstrap (contigs, or blocks of them).

    Attributes:
        probability: Anything that ranks, [n].
        is_truth: bool, [n].
        group: Group of each example, int64, [n].
        rest_examples: Examples of each group that are not listed, int64, [groups].
        rest_truth: How many of those are truth, int64, [groups].
    """

    probability: NDArray[np.floating]
    is_truth: NDArray[np.bool_]
    group: NDArray[np.int64]
    rest_examples: NDArray[np.int64]
    rest_truth: NDArray[np.int64]

    @property
    def rest(self) -> Rest:
        """The unlisted examples of all groups together."""
        return Rest(int(self.rest_examples.sum()), int(self.rest_truth.sum()))


@dataclass(frozen=True)
class PrecisionRecall:
    """What a threshold gives.

    Attributes:
        threshold: Examples with at least this probability are called.
        calls: How many there are.
        right: How many of them are truth.
        precision: right / calls; NaN without a call.
        recall: right / truth sites; NaN without truth.
    """

    threshold: float
    calls: int
    right: int
    precision: float
    recall: float


@dataclass(frozen=True)
class Interval:
    """A figure with its bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Reliability:
    """How far probabilities can be believed, by bins of probability.

    Attributes:
        low: Lower edge of each bin (inclusive), [bins].
        high: Upper edge (exclusive but for the last bin), [bins].
        count: Examples in each bin, int64, [bins].
        mean_probability: Their mean probability; NaN in an empty bin, [bins].
        observed: Share of truth among them; NaN in an empty bin, [bins].
    """

    low: Floats
    high: Floats
    count: NDArray[np.int64]
    mean_probability: Floats
    observed: Floats

    def expected_calibration_error(self, at_least: float = 0.0) -> float:
        """Mean of |mean probability - observed share| over the examples of the bins that start at `at_least` or above.

        Over a genome the lowest bin holds nearly everything and the figure is nearly 0: state `at_least` beside it.
        NaN without examples.
        """
        chosen = (self.low >= at_least) & (self.count > 0)
        if not chosen.any():
            return float("nan")
        return float(np.average(np.abs(self.mean_probability - self.observed)[chosen], weights=self.count[chosen]))


class _Ranking:
    """Listed examples by falling probability; equal ones count together, so that their order does not matter."""

    def __init__(self, probabilities: ArrayLike, is_truth: ArrayLike) -> None:
        values, truth = np.asarray(probabilities), np.asarray(is_truth, bool)
        if values.ndim != 1 or values.shape != truth.shape:
            raise ValueError(f"probabilities {values.shape} and truth {truth.shape} should be two equal rows")
        if np.isnan(values).any():
            raise ValueError(f"{int(np.isnan(values).sum())} of {len(values)} probabilities are NaN")
        self.order = np.argsort(values, kind="stable")[::-1]
        ranked = values[self.order]
        self.truth = truth[self.order].astype(np.float64)
        changes = np.flatnonzero(ranked[1:] != ranked[:-1])
        self.ends = np.append(changes, len(ranked) - 1) if len(ranked) else changes  # the last of each run of equals

    def curve(self, rest_examples: float, rest_truth: float, weights: Floats | None = None) -> tuple[Floats, Floats]:
        """Cumulative examples and truth at the end of each run of equals; the rest is the last run."""
        ones = np.ones(len(self.truth)) if weights is None else weights[self.order]
        examples = np.append(np.cumsum(ones)[self.ends], 0.0)
        found = np.append(np.cumsum(ones * self.truth)[self.ends], 0.0)
        for total, more in ((examples, rest_examples), (found, rest_truth)):
            total[-1] = (total[-2] if len(total) > 1 else 0.0) + more
        return examples, found


def _topk(examples: Floats, found: Floats) -> float:
    k = found[-1]
    if k == 0:
        return float("nan")
    run = int(np.searchsorted(examples, k))  # the run of equals that the k-th example lies in
    before, found_before = (examples[run - 1], found[run - 1]) if run else (0.0, 0.0)
    inside = (found[run] - found_before) / (examples[run] - before)
    return float((found_before + (k - before) * inside) / k)


def _average_precision(examples: Floats, found: Floats) -> float:
    if found[-1] == 0:
        return float("nan")
    gained = np.diff(found, prepend=0.0) / found[-1]
    return float(np.sum(gained * found / np.maximum(examples, 1.0)))


def _auroc(examples: Floats, found: Floats) -> float:
    others = examples - found
    if found[-1] == 0 or others[-1] == 0:
        return float("nan")
    above = found - np.diff(found, prepend=0.0) / 2  # positives above each run of equals, half of its own among them
    return float(np.sum(np.diff(others, prepend=0.0) * above) / (found[-1] * others[-1]))


_MEASURES: dict[str, Callable[[Floats, Floats], float]] = {"top_k": _topk, "auprc": _average_precision, "auroc": _auroc}


def topk(probabilities: ArrayLike, is_truth: ArrayLike, rest: Rest = NO_REST) -> float:
    """Share of truth among the k highest probabilities, k = number of truth sites.

    Args:
        probabilities: Probabilities of the listed examples, [n].
        is_truth: Whether each of them is truth, [n].
        rest: The examples that are not listed.

    Returns:
        The share; where the k-th place falls among equals, what a random order of them gives on average. NaN without truth.
    """
    return _topk(*_Ranking(probabilities, is_truth).curve(rest.examples, rest.truth))


def average_precision(probabilities: ArrayLike, is_truth: ArrayLike, rest: Rest = NO_REST) -> float:
    """Area under the precision-recall curve as a sum of steps, AP = sum (R_n - R_(n-1)) P_n over the distinct probabilities.

    Args:
        probabilities: Probabilities of the listed examples, [n].
        is_truth: Whether each of them is truth, [n].
        rest: The examples that are not listed.

    Returns:
        The same as sklearn.metrics.average_precision_score on all examples, those of the rest tied. NaN without truth.
    """
    return _average_precision(*_Ranking(probabilities, is_truth).curve(rest.examples, rest.truth))


def precision_recall_at(probabilities: ArrayLike, is_truth: ArrayLike, threshold: float, rest: Rest = NO_REST) -> PrecisionRecall:
    """Precision and recall of the examples with at least a probability; the rest counts as not called."""
    truth = np.asarray(is_truth, bool)
    called = np.asarray(probabilities) >= threshold
    calls, right, total = int(called.sum()), int((called & truth).sum()), int(truth.sum()) + rest.truth
    return PrecisionRecall(threshold, calls, right, _ratio(right, calls), _ratio(right, total))


def bootstrap(
    examples: Examples,
    *,
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 1,
    measures: Sequence[str] = ("top_k", "auprc"),
) -> dict[str, Interval]:
    """Intervals of measures of a ranking, groups drawn with replacement.

    Args:
        examples: The examples. With few groups (a worm split is one chromosome) the interval means little: group by blocks
            of the contigs instead, and say so beside the figure.
        replicates: How many draws.
        level: Share of the draws inside the interval (percentiles).
        seed: Seed of the draws.
        measures: Some of "top_k", "auprc" (average precision) and "auroc" (area under the ROC curve).

    Returns:
        Value and interval of each measure. Draws without any truth are left out.
    """
    values, drawn = _drawn(examples, replicates, seed, measures)
    return {name: _interval(values[name], drawn[name], level) for name in measures}


def bootstrap_difference(
    first: Examples,
    second: Examples,
    *,
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 1,
    measures: Sequence[str] = ("top_k", "auprc"),
) -> dict[str, Interval]:
    """Intervals of how much a measure of one ranking is above that of another, both on the same groups drawn with replacement.

    Args:
        first: The examples as one model ranks them.
        second: The same places as another model ranks them; the groups are the same ones.
        replicates: How many draws.
        level: Share of the draws inside the interval (percentiles).
        seed: Seed of the draws.
        measures: As for `bootstrap`.

    Returns:
        Difference, first less second, and interval of each measure.

    Raises:
        ValueError: The two have other groups.
    """
    if len(first.rest_examples) != len(second.rest_examples):
        raise ValueError(f"{len(first.rest_examples)} groups cannot be paired with {len(second.rest_examples)}")
    (a, drawn_a), (b, drawn_b) = (_drawn(examples, replicates, seed, measures) for examples in (first, second))
    return {name: _interval(a[name] - b[name], drawn_a[name] - drawn_b[name], level) for name in measures}


def _drawn(examples: Examples, replicates: int, seed: int, measures: Sequence[str]) -> tuple[dict[str, float], dict[str, Floats]]:
    """Measures of a ranking, and the same of each draw of its groups."""
    ranking = _Ranking(examples.probability, examples.is_truth)
    curve = ranking.curve(examples.rest.examples, examples.rest.truth)
    values = {name: _MEASURES[name](*curve) for name in measures}
    drawn: dict[str, list[float]] = {name: [] for name in measures}
    for times in _draws(len(examples.rest_examples), replicates, seed):
        rest_examples, rest_truth = float(times @ examples.rest_examples), float(times @ examples.rest_truth)
        curve = ranking.curve(rest_examples, rest_truth, times[examples.group])
        for name in measures:
            drawn[name].append(_MEASURES[name](*curve))
    return values, {name: np.array(column) for name, column in drawn.items()}


def bootstrap_ratio(
    numerator: ArrayLike, denominator: ArrayLike, *, replicates: int = 1000, level: float = 0.95, seed: int = 1
) -> Interval:
    """Interval of sum(numerator) / sum(denominator), groups drawn with replacement: recall or precision at a threshold.

    Args:
        numerator: One figure a group, for instance right calls, [groups].
        denominator: One figure a group, for instance calls, [groups].
        replicates: How many draws.
        level: Share of the draws inside the interval (percentiles).
        seed: Seed of the draws.

    Returns:
        The ratio and its interval; draws whose denominator is 0 are left out.
    """
    top, bottom = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    drawn = np.array([_ratio(float(times @ top), float(times @ bottom)) for times in _draws(len(top), replicates, seed)])
    return _interval(_ratio(float(top.sum()), float(bottom.sum())), drawn, level)


def reliability(probabilities: ArrayLike, is_truth: ArrayLike, bins: int | ArrayLike = 10, rest: Rest = NO_REST) -> Reliability:
    """Compare probabilities with how often they are right.

    Args:
        probabilities: Probabilities 0..1 of the listed examples, [n].
        is_truth: Whether each of them is truth, [n].
        bins: A number of equally wide bins of 0..1, or their edges, ascending, from 0 to 1.
        rest: The examples that are not listed, with the sum of their probabilities; they count in the first bin.

    Returns:
        One row a bin.
    """
    values, truth = np.asarray(probabilities, np.float64), np.asarray(is_truth, bool)
    edges = np.linspace(0.0, 1.0, bins + 1) if isinstance(bins, int) else np.asarray(bins, np.float64)
    if len(edges) < 2 or edges[0] != 0.0 or edges[-1] != 1.0 or (np.diff(edges) <= 0).any():
        raise ValueError("the edges of the bins should ascend from 0 to 1")
    if not ((values >= 0.0) & (values <= 1.0)).all():
        raise ValueError("probabilities should lie within 0..1")
    rows = np.minimum(np.searchsorted(edges, values, side="right") - 1, len(edges) - 2)
    count = np.bincount(rows, minlength=len(edges) - 1).astype(np.int64)
    total = np.bincount(rows, values, minlength=len(edges) - 1)
    right = np.bincount(rows, truth, minlength=len(edges) - 1)
    for column, more in ((count, rest.examples), (total, rest.probability_sum), (right, rest.truth)):
        column[0] += more
    with np.errstate(invalid="ignore"):
        return Reliability(edges[:-1], edges[1:], count, total / count, right / count)


CALIBRATED_FROM = 0.02
"""Local maxima of a lower probability are left out of the calibration error: there are millions, all of them nearly 0."""


def calibration_error(
    probabilities: ArrayLike, is_truth: ArrayLike, *, bins: int = 10, at_least: float = CALIBRATED_FROM
) -> float:
    """Expected calibration error in bins of equal count.

    Args:
        probabilities: Probabilities 0..1 of local maxima, [n].
        is_truth: Whether each of them is truth, [n].
        bins: Number of bins.
        at_least: Lowest probability that is looked at.

    Returns:
        Mean over bins of |mean probability - share of truth|; NaN where fewer examples than bins are left.
    """
    values, truth = np.asarray(probabilities, np.float64), np.asarray(is_truth, bool)
    values, truth = values[values >= at_least], truth[values >= at_least]
    if len(values) < bins:
        return float("nan")
    order = np.argsort(values, kind="stable")
    parts = [(values[part], truth[part]) for part in np.array_split(order, bins)]
    return float(np.average([abs(p.mean() - t.mean()) for p, t in parts], weights=[len(p) for p, _ in parts]))


@dataclass(frozen=True)
class Places:
    """Stranded bases of a genome.

    Attributes:
        contig: Index of the contig, int64, [n].
        position: 0-based, int64, [n].
        strand: +1 or -1, int8, [n].
    """

    contig: NDArray[np.int64]
    position: NDArray[np.int64]
    strand: NDArray[np.int8]

    def __len__(self) -> int:
        """Number of places."""
        return len(self.position)


@dataclass(frozen=True)
class TssMatches:
    """The promoter calls that are right.

    Attributes:
        probability: Probability of each call, [n].
        truth_row: The truth each call claims, -1 for a wrong call, int64, [n].
        truths: Number of truth TSS.
    """

    probability: NDArray[np.floating]
    truth_row: NDArray[np.int64]
    truths: int

    def at(self, threshold: float) -> PrecisionRecall:
        """Precision and recall of the calls with at least a probability."""
        called = self.probability >= threshold
        calls, right = int(called.sum()), int((called & (self.truth_row >= 0)).sum())
        return PrecisionRecall(threshold, calls, right, _ratio(right, calls), _ratio(right, self.truths))

    def average_precision(self) -> float:
        """Area under precision and recall over all thresholds; truths that no call claims are never found."""
        examples, found = _Ranking(self.probability, self.truth_row >= 0).curve(0, 0)
        return _average_precision(examples, found) * _ratio(float(found[-1]), self.truths) if found[-1] else 0.0


def match_tss(calls: Places, probabilities: ArrayLike, truth: Places, within_bp: int) -> TssMatches:
    """Match promoter calls with truth: right is a call within some bp of a truth TSS on the same strand, each truth once.

    Calls choose by falling probability (equal ones by contig, position, + before -), each the nearest truth still free (of two
    equally near ones the lower); a call that finds none is wrong, also where a better call has taken the truth. So what the
    calls above a threshold claim does not depend on those below it, and one matching serves all thresholds.

    Args:
        calls: TSS bases of the calls.
        probabilities: Their probabilities, [n].
        truth: TSS bases of the truth.
        within_bp: The largest distance that is right, d.

    Returns:
        The matching.
    """
    values = np.asarray(probabilities)
    if values.shape != calls.position.shape or np.isnan(values).any():
        raise ValueError("every call needs one probability that is not NaN")
    order = np.lexsort((-calls.strand, calls.position, calls.contig, -values))
    rows = np.lexsort((truth.position, truth.strand, truth.contig))
    lanes: dict[tuple[int, int], tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
    keys, starts = np.unique(np.stack([truth.contig[rows], truth.strand[rows]], axis=1), axis=0, return_index=True)
    for key, lane in zip(keys.tolist(), np.split(rows, starts[1:]), strict=False):
        lanes[key[0], key[1]] = (truth.position[lane], lane)
    free = np.ones(len(truth), bool)
    claimed = np.full(len(values), -1, np.int64)
    for call in order.tolist():
        lane_of_call = lanes.get((int(calls.contig[call]), int(calls.strand[call])))
        if lane_of_call is None:
            continue
        positions, lane = lane_of_call
        place = int(calls.position[call])
        low, high = np.searchsorted(positions, [place - within_bp, place + within_bp + 1])
        reach = lane[low:high][free[lane[low:high]]]
        if len(reach):
            nearest = int(reach[np.argmin(np.abs(truth.position[reach] - place))])
            free[nearest] = False
            claimed[call] = nearest
    return TssMatches(values, claimed, len(truth))


def calls_per_mb(calls: int, bases: int) -> float:
    """Calls on both strands together per Mb of sequence (its length counted once)."""
    return _ratio(calls * 1e6, bases)


def _ratio(top: float, bottom: float) -> float:
    return top / bottom if bottom else float("nan")


def _draws(groups: int, replicates: int, seed: int) -> NDArray[np.float64]:
    """How often each draw holds each group, [replicates, groups]."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(groups, np.full(groups, 1.0 / groups), size=replicates).astype(np.float64)


def _interval(value: float, drawn: Floats, level: float) -> Interval:
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))
