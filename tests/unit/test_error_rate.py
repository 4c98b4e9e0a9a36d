"""False discovery rates from calls on decoys."""

from __future__ import annotations

import numpy as np
import pytest

from annotator.calls.error_rate import LADDER, LadderCounts, choose_by_error_rate, count_ladder, fit_factor
from annotator.kinds import Kind


def ladder(calls: dict[float, int], decoy_calls: dict[float, int]) -> LadderCounts:
    """Calls of some probabilities: probability -> how many."""
    return count_ladder(
        np.repeat(list(calls), list(calls.values())).astype(np.float32),
        np.repeat(list(decoy_calls), list(decoy_calls.values())).astype(np.float32),
    )


def row(threshold: float) -> int:
    return LADDER.index(threshold)


def test_counts_and_estimates_by_hand() -> None:
    found = ladder({0.3: 40, 0.52: 50, 0.9: 110}, {0.01: 30, 0.3: 19, 0.55: 1})
    assert found.calls[[row(0.01), row(0.3), row(0.325), row(0.9), row(0.925)]].tolist() == [200, 200, 160, 110, 0]
    assert found.decoy_calls[[row(0.01), row(0.02), row(0.3), row(0.325), row(0.575)]].tolist() == [50, 20, 20, 1, 0]
    estimates = found.estimates()
    assert estimates[[row(0.01), row(0.3), row(0.325), row(0.5)]].tolist() == pytest.approx(
        [51 / 200, 21 / 200, 2 / 160, 2 / 160]
    )
    assert (np.diff(estimates) <= 0).all()  # 2 / 110 at 0.55 is more than 2 / 160 below it
    assert estimates[row(0.55)] == pytest.approx(2 / 160) and estimates[row(0.575)] == pytest.approx(1 / 110)
    assert found.threshold(0.105) == 0.02 and found.threshold(0.05) == 0.325 and found.threshold(0.001) is None
    assert found.estimates(3.0)[row(0.3)] == pytest.approx(63 / 200) and found.threshold(0.05, 5.0) == 0.575


def test_probabilities_are_compared_as_calls_hold_them() -> None:
    exactly = np.full(5, 0.7, np.float32)  # less than 0.7 as a double
    assert count_ladder(exactly, exactly).calls[[row(0.675), row(0.7), row(0.725)]].tolist() == [5, 5, 0]


def test_few_calls_keep_the_threshold_of_the_model() -> None:
    counts = {
        Kind.DONOR: ladder({0.6: 400}, {0.2: 100, 0.6: 3}),
        Kind.ACCEPTOR: ladder({0.6: 15}, {}),  # no call on decoys, but 1 / 15 is all that 15 calls can show
        Kind.PROMOTER: ladder({0.6: 400}, {0.6: 380}),
    }
    found = choose_by_error_rate(counts, 0.05, {Kind.DONOR: 2.0}, dict.fromkeys(counts, 0.44))
    assert found.thresholds == {Kind.DONOR: 0.225, Kind.ACCEPTOR: 0.44, Kind.PROMOTER: 0.44}
    assert set(found.missed) == {Kind.ACCEPTOR, Kind.PROMOTER}
    assert found.missed[Kind.ACCEPTOR] == "15 acceptor calls in the sample are too few"
    assert "no threshold up to 0.995 for promoter: 400 calls, 380 on decoys" in found.missed[Kind.PROMOTER]
    chosen = next(rung for rung in found.ladder["donor"] if rung["threshold"] == 0.225)
    assert chosen == {"threshold": 0.225, "calls": 400, "decoy_calls": 3, "fdr": 0.02}


def test_the_factor_is_found_again() -> None:
    rng = np.random.default_rng(5)
    true = 1 / (1 + np.exp(-rng.normal(2, 1.5, 3000)))
    background = 1 / (1 + np.exp(-rng.normal(-3, 1.5, 4000)))
    decoys = 1 / (1 + np.exp(-rng.normal(-3, 1.5, 1600)))  # background holds 2.5 times as many look-alikes
    found = count_ladder(np.concatenate([true, background]), decoys)
    false_calls = count_ladder(background, background).calls
    annotated = false_calls / np.maximum(found.calls, 1)
    factor = fit_factor(found, annotated)
    assert factor == pytest.approx(2.5, rel=0.15)
    assert fit_factor(found, np.zeros_like(annotated)) is None
    at = row(found.threshold(0.1, factor) or 0)
    assert annotated[at] == pytest.approx(0.1, rel=0.3)
