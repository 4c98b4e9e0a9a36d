"""The false discovery rate of a model's calls, estimated from its calls on decoys, for a ladder of thresholds.

    FDR(t) = factor * (calls on decoys with p >= t, plus 1) / (calls on the same bases as they are with p >= t)

The 1 makes the estimate cautious where decoys are few: nothing is concluded from no call on decoys alone. Real background holds
more look-alikes than shuffled bases do (cryptic sites, pseudogenes), so that the bare ratio is too low: the factor, of a clade
and kind, mends that. It is fitted on annotated validation genomes and stands in a model's manifest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from annotator.kinds import Kind

LADDER: Final = (
    0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.125, 0.15, 0.175, 0.2, 0.225, 0.25, 0.275, 0.3, 0.325, 0.35, 0.375, 0.4, 0.425, 0.45,
    0.475, 0.5, 0.525, 0.55, 0.575, 0.6, 0.625, 0.65, 0.675, 0.7, 0.725, 0.75, 0.775, 0.8, 0.825, 0.85, 0.875, 0.9, 0.925, 0.95,
    0.97, 0.98, 0.99, 0.995,
)  # fmt: skip
"""Thresholds that are looked at, ascending."""

FITTED_FROM, FITTED_TO = 0.02, 0.3
"""Annotated error rates between which a factor is fitted: about those that users ask for."""
LEAST_DECOY_CALLS = 10
"""A rung of the ladder with fewer calls on decoys is left out of a fit."""


@dataclass(frozen=True, eq=False)
class LadderCounts:
    """Calls of one kind at and above each threshold of LADDER, all int64, [len(LADDER)].

    Attributes:
        calls: Calls on the sampled bases as they are.
        decoy_calls: Calls on the same bases shuffled.
    """

    calls: NDArray[np.int64]
    decoy_calls: NDArray[np.int64]

    def estimates(self, factor: float = 1.0) -> NDArray[np.float64]:
        """Estimated false discovery rate of each threshold, at most 1, and never higher than at a lower threshold; float64."""
        ratio = factor * (self.decoy_calls + 1) / np.maximum(self.calls, 1)
        falling: NDArray[np.float64] = np.minimum.accumulate(np.minimum(ratio, 1.0))
        return falling

    def threshold(self, fdr: float, factor: float = 1.0) -> float | None:
        """The smallest threshold whose estimate is at most `fdr`; None where no threshold has such an estimate."""
        reached = np.flatnonzero(self.estimates(factor) <= fdr)
        return LADDER[int(reached[0])] if len(reached) else None

    def as_json(self, factor: float = 1.0) -> list[dict[str, Any]]:
        """The ladder as plain values, one object a threshold."""
        rows = zip(LADDER, self.calls.tolist(), self.decoy_calls.tolist(), self.estimates(factor).tolist(), strict=True)
        return [
            {"threshold": threshold, "calls": calls, "decoy_calls": decoys, "fdr": round(estimate, 6)}
            for threshold, calls, decoys, estimate in rows
        ]


def count_ladder(calls: NDArray[np.floating], decoy_calls: NDArray[np.floating]) -> LadderCounts:
    """The ladder of some calls.

    Args:
        calls: Probability of each call of one kind on real bases, [n].
        decoy_calls: Probability of each call on decoys, [m].
    """
    return LadderCounts(at_least(calls), at_least(decoy_calls))


def at_least(probability: NDArray[np.floating]) -> NDArray[np.int64]:
    """How many of some probabilities reach each threshold of LADDER, int64, [len(LADDER)]; compared in float32, as calls are."""
    ascending = np.sort(probability.astype(np.float32))
    reach: NDArray[np.int64] = len(ascending) - np.searchsorted(ascending, np.array(LADDER, np.float32), side="left")
    return reach


def fit_factor(ladder: LadderCounts, annotated: NDArray[np.float64]) -> float | None:
    """The factor with which the estimates come closest to the error rates that an annotation shows.

    Args:
        ladder: Calls of one kind on an annotated genome and on its decoys.
        annotated: Share of the calls that the annotation does not have, by threshold, float64, [len(LADDER)].

    Returns:
        Geometric mean, over the thresholds whose annotated error rate lies in [FITTED_FROM, FITTED_TO], of that rate over the
        estimate without a factor; None where no such threshold has LEAST_DECOY_CALLS.
    """
    used = (annotated >= FITTED_FROM) & (annotated <= FITTED_TO) & (ladder.decoy_calls >= LEAST_DECOY_CALLS)
    if not used.any():
        return None
    bare = (ladder.decoy_calls[used] + 1) / ladder.calls[used]
    return float(np.exp(np.log(annotated[used] / bare).mean()))


@dataclass(frozen=True, eq=False)
class ErrorRate:
    """What decoys said of one genome.

    Attributes:
        thresholds: Probability per kind at and above which a local maximum is a call.
        ladder: Of each kind the calls, calls on decoys and estimate by threshold, as `LadderCounts.as_json`.
        missed: Of each kind that keeps the model's threshold, why, in a few words.
    """

    thresholds: dict[Kind, float]
    ladder: dict[str, list[dict[str, Any]]]
    missed: dict[Kind, str]


def choose_by_error_rate(
    counts: Mapping[Kind, LadderCounts], fdr: float, factors: Mapping[Kind, float], defaults: Mapping[Kind, float]
) -> ErrorRate:
    """Thresholds at which a given share of the calls would be chance.

    Args:
        counts: Ladder of each kind.
        fdr: The share.
        factors: Factor of each kind; 1 for a kind that is absent.
        defaults: Threshold of each kind where decoys cannot tell.
    """
    thresholds, missed = {}, {}
    for kind, ladder in counts.items():
        factor = factors.get(kind, 1.0)
        found = ladder.threshold(fdr, factor)
        thresholds[kind] = defaults[kind] if found is None else found
        if found is None:
            most, on_decoys = int(ladder.calls[0]), int(ladder.decoy_calls[0])
            few = factor > fdr * most
            missed[kind] = (
                f"{most} {kind} calls in the sample are too few"
                if few
                else f"no threshold up to {LADDER[-1]:g} for {kind}: {most} calls, {on_decoys} on decoys, at p >= {LADDER[0]:g}"
            )
    return ErrorRate(
        thresholds, {kind: ladder.as_json(factors.get(kind, 1.0)) for kind, ladder in counts.items()}, missed
    )  # fmt: skip
