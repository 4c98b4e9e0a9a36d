"""How well a clade fits a genome, told from probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from annotator.calls.clade_fit import CladeFit, best_clade, better_clade, clade_fit


def test_expected_f1_is_that_of_the_sites_drawn_from_the_probabilities() -> None:
    rng = np.random.default_rng(3)
    probability = np.concatenate([rng.beta(8, 1, 4000), rng.beta(1, 12, 40_000)])
    probability = probability[probability >= 0.02]
    true = rng.random(len(probability)) < probability
    called = probability >= 0.3
    precision, recall = true[called].mean(), true[called].sum() / true.sum()
    fit = clade_fit(probability)
    assert fit.calls == called.sum()
    assert fit.expected_f1 == pytest.approx(2 * precision * recall / (precision + recall), abs=0.01)
    assert clade_fit(np.append(probability, np.full(10**6, 0.01))) == fit  # what is all but certainly no site says nothing
    assert clade_fit(np.empty(0, np.float32)) == CladeFit(0, 0.0)


def test_another_clade_is_named_only_where_it_is_much_better_and_good() -> None:
    fits = {"vertebrate": CladeFit(500, 0.55), "plant": CladeFit(700, 0.8), "fungi": CladeFit(20, 0.95)}
    assert best_clade(fits) == "plant"  # fungi have too few calls
    assert better_clade(fits, "vertebrate") == "plant" and better_clade(fits, "plant") is None
    assert better_clade(fits | {"vertebrate": CladeFit(500, 0.76)}, "vertebrate") is None
    assert better_clade(fits | {"plant": CladeFit(700, 0.59), "vertebrate": CladeFit(9, 0.1)}, "vertebrate") is None
    assert best_clade({"fungi": CladeFit(20, 0.95)}) is None and better_clade({}, "plant") is None
