"""q-values of motif hits after Benjamini and Hochberg: the false discovery rate among hits of a motif that are as good as one.

    q(p) = min over the motif's hits with p' >= p of  p' * tests / (hits with a p-value of p' or less),  at most 1

Tests are all windows of the scan that the motif was compared with: every position on both strands whose bases are known. Each
motif is a family of tests of its own, as in FIMO (Grant et al., Bioinformatics 27, 2011). p-values above the scan's threshold are
not known and count as 1, which can only make a q-value larger.

P-values of a motif are discrete, so that counts at each of them are all that is needed: memory does not grow with the genome.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def q_values(p_values: NDArray[np.float64], hits: NDArray[np.int64], tests: int) -> NDArray[np.float64]:
    """q-values of the hits of one motif (Benjamini and Hochberg, J R Stat Soc B 57, 1995).

    Args:
        p_values: Distinct p-values of the hits, ascending, float64, [n].
        hits: How many hits have each of them, int64, [n].
        tests: How many windows were compared with the motif, hits included.

    Returns:
        The q-value of each p-value, float64, [n], ascending, at most 1.

    Raises:
        ValueError: There are more hits than tests.
    """
    if (total := int(hits.sum())) > tests:
        raise ValueError(f"{total} hits of {tests} tests")
    ratio = np.minimum(p_values * tests / np.cumsum(hits), 1.0)
    least: NDArray[np.float64] = np.minimum.accumulate(ratio[::-1])[::-1]
    return least
