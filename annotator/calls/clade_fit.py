"""How well the settings of a clade fit a genome that nobody has annotated, told from the probabilities of its calls alone.

Where probabilities are calibrated, their sum over calls is the number of right ones to be expected, and their sum over all local
maxima the number of sites. A network that knows the splice signals of a genome is sure of most of its sites; one of another clade
gives most of them middling probabilities, so that its expected F1 is low.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CALLED_FROM = 0.3
"""Probability at and above which a local maximum counts as called; near the thresholds of all clades."""
LISTED_FROM = 0.02
"""Local maxima of a lower probability are left out of the sum over sites."""
LEAST_CALLS = 30
"""With fewer calls nothing is concluded."""
GOOD_F1, BETTER_BY = 0.6, 0.05
"""Another clade is worth a word where its expected F1 is at least so high, and higher by so much."""


@dataclass(frozen=True)
class CladeFit:
    """What a clade's settings expect of their own splice calls.

    Attributes:
        calls: Local maxima of a probability of CALLED_FROM and above.
        expected_f1: Expected harmonic mean of their precision and recall, 0 to 1.
    """

    calls: int
    expected_f1: float


def clade_fit(probability: NDArray[np.floating]) -> CladeFit:
    """The fit of some calls.

    Args:
        probability: Calibrated probabilities of the local maxima of splice tracks in a sample of a genome, [n].
    """
    listed = np.asarray(probability, np.float64)[probability >= LISTED_FROM]
    called = listed[listed >= CALLED_FROM]
    return CladeFit(len(called), float(2 * called.sum() / max(len(called) + listed.sum(), 1e-9)))


def better_clade(fits: Mapping[str, CladeFit], own: str) -> str | None:
    """The clade whose settings fit much better than those of a run; None where there is none.

    Args:
        fits: Fit of each clade.
        own: Clade of the run.
    """
    best = best_clade(fits)
    if best is None or best == own:
        return None
    much = fits[best].expected_f1 >= max(GOOD_F1, fits[own].expected_f1 + BETTER_BY)
    return best if much else None


def best_clade(fits: Mapping[str, CladeFit]) -> str | None:
    """The clade with the highest expected F1 among those with enough calls; None where no clade has them."""
    enough = [clade for clade, fit in fits.items() if fit.calls >= LEAST_CALLS]
    return max(enough, key=lambda clade: fits[clade].expected_f1, default=None)
