"""The false discovery rate of a model's calls, estimated from its calls on decoys, for a ladder of thresholds.

    FDR(t) = factor * ((calls on decoys with p >= t, plus 1) / (calls on the same bases as they are with p >= t)) ** power

The 1 makes the estimate cautious where decoys are few: nothing is concluded from no call on decoys alone. Factor and power are
those of the model's clade and kind (`annotator.models.manifest.DecoyFit`), 1 and 1 where none were fitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from annotator.kinds import Kind
from annotator.models.manifest import DecoyFit

PLAIN: Final = DecoyFit()
"""The fit of a kind that has none: as many false calls as calls on decoys."""

LADDER: Final = (
    0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.125, 0.15, 0.175, 0.2, 0.225, 0.25, 0.275, 0.3, 0.325, 0.35, 0.375, 0.4, 0.425, 0.45,
    0.475, 0.5, 0.525, 0.55, 0.575, 0.6, 0.625, 0.65, 0.675, 0.7, 0.725, 0.75, 0.775, 0.8, 0.825, 0.85, 0.875, 0.9, 0.925, 0.95,
    0.97, 0.98, 0.99, 0.995,
)  # fmt: skip
"""Thresholds that are looked at, ascending."""

FITTED_FROM, FITTED_TO = 0.02, 0.3
"""Error rates between which a fit is made: about those that users ask for."""
LEAST_DECOY_CALLS = 10
"""A threshold with fewer calls on decoys is left out of a fit."""
LEAST_THRESHOLDS = 4
"""A power is fitted over as many thresholds at the least; over fewer, a factor alone."""


@dataclass(frozen=True, eq=False)
class LadderCounts:
    """Calls of one kind at and above each threshold of LADDER, all int64, [len(LADDER)].

    Attributes:
        calls: Calls on the sampled bases as they are.
        decoy_calls: Calls on the same bases shuffled.
    """

    calls: NDArray[np.int64]
    decoy_calls: NDArray[np.int64]

    @property
    def ratio(self) -> NDArray[np.float64]:
        """Calls on decoys, plus 1, for each call; float64."""
        return (self.decoy_calls + 1) / np.maximum(self.calls, 1)

    def estimates(self, fit: DecoyFit = PLAIN) -> NDArray[np.float64]:
        """Estimated false discovery rate of each threshold, at most 1, and never higher than at a lower threshold; float64."""
        falling: NDArray[np.float64] = np.minimum.accumulate(fit.rate(self.ratio))
        return falling

    def threshold(self, fdr: float, fit: DecoyFit = PLAIN) -> float | None:
        """The smallest threshold whose estimate is at most `fdr`; None where no threshold has such an estimate."""
        reached = np.flatnonzero(self.estimates(fit) <= fdr)
        return LADDER[int(reached[0])] if len(reached) else None

    def as_json(self, fit: DecoyFit = PLAIN) -> list[dict[str, Any]]:
        """The ladder as plain values, one object a threshold."""
        rows = zip(LADDER, self.calls.tolist(), self.decoy_calls.tolist(), self.estimates(fit).tolist(), strict=True)
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


def fit_decoy_calls(genomes: Sequence[tuple[LadderCounts, NDArray[np.float64]]]) -> DecoyFit | None:
    """The fit with which the estimates come closest to known error rates.

    Args:
        genomes: Of each genome the calls of one kind, on it and on its decoys, and the error rate of each threshold, float64,
            [len(LADDER)].

    Returns:
        The line of least squares through the logarithms of rates and ratios, over the thresholds of all genomes whose error
        rate lies in [FITTED_FROM, FITTED_TO]; None where no such threshold has LEAST_DECOY_CALLS.
    """
    used = [(r >= FITTED_FROM) & (r <= FITTED_TO) & (ladder.decoy_calls >= LEAST_DECOY_CALLS) for ladder, r in genomes]
    x = np.log(np.concatenate([ladder.ratio[rows] for (ladder, _), rows in zip(genomes, used, strict=True)]))
    y = np.log(np.concatenate([rates[rows] for (_, rates), rows in zip(genomes, used, strict=True)]))
    if not len(x):
        return None
    spread = x - x.mean()
    power = 1.0
    if len(x) >= LEAST_THRESHOLDS and spread.any():
        slope = float((spread * y).sum() / (spread**2).sum())
        power = slope if slope > 0 else 1.0
    return DecoyFit(round(float(np.exp(y.mean() - power * x.mean())), 4), round(power, 4))


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
    counts: Mapping[Kind, LadderCounts], fdr: float, fits: Mapping[Kind, DecoyFit], defaults: Mapping[Kind, float]
) -> ErrorRate:
    """Thresholds at which a given share of the calls would be chance.

    Args:
        counts: Ladder of each kind.
        fdr: The share.
        fits: What decoys of each kind say; a kind that is absent has the plain fit.
        defaults: Threshold of each kind where decoys cannot tell.
    """
    thresholds, missed = {}, {}
    for kind, ladder in counts.items():
        fit = fits.get(kind, PLAIN)
        found = ladder.threshold(fdr, fit)
        thresholds[kind] = defaults[kind] if found is None else found
        if found is None:
            most, on_decoys = int(ladder.calls[0]), int(ladder.decoy_calls[0])
            few = float(fit.rate(np.array(1 / max(most, 1)))) > fdr  # not even without a call on decoys
            missed[kind] = (
                f"{most} {kind} calls in the sample are too few"
                if few
                else f"no threshold up to {LADDER[-1]:g} for {kind}: {most} calls, {on_decoys} on decoys, at p >= {LADDER[0]:g}"
            )
    return ErrorRate(thresholds, {kind: ladder.as_json(fits.get(kind, PLAIN)) for kind, ladder in counts.items()}, missed)
