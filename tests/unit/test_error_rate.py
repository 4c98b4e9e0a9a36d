"""False discovery rates from calls on decoys."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from annotator.calls.error_rate import LADDER, LadderCounts, choose_by_error_rate, count_ladder, fit_decoy_calls
from annotator.kinds import Kind
from annotator.models.manifest import DecoyFit
from annotator.pipeline.announce import hint_where_nothing_was_called


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
    assert found.estimates(DecoyFit(3.0))[row(0.3)] == pytest.approx(63 / 200) and found.threshold(0.05, DecoyFit(5.0)) == 0.575


def test_probabilities_are_compared_as_calls_hold_them() -> None:
    exactly = np.full(5, 0.7, np.float32)  # less than 0.7 as a double
    assert count_ladder(exactly, exactly).calls[[row(0.675), row(0.7), row(0.725)]].tolist() == [5, 5, 0]


def test_few_calls_keep_the_threshold_of_the_model() -> None:
    counts = {
        Kind.DONOR: ladder({0.6: 400}, {0.2: 100, 0.6: 3}),
        Kind.ACCEPTOR: ladder({0.6: 15}, {}),  # no call on decoys, but 1 / 15 is all that 15 calls can show
        Kind.PROMOTER: ladder({0.6: 400}, {0.6: 380}),
    }
    found = choose_by_error_rate(counts, 0.05, {Kind.DONOR: DecoyFit(2.0)}, dict.fromkeys(counts, 0.44))
    assert found.thresholds == {Kind.DONOR: 0.225, Kind.ACCEPTOR: 0.44, Kind.PROMOTER: 0.44}
    assert set(found.missed) == {Kind.ACCEPTOR, Kind.PROMOTER}
    assert found.missed[Kind.ACCEPTOR] == "15 acceptor calls in the sample are too few"
    assert "no threshold up to 0.995 for promoter: 400 calls, 380 on decoys" in found.missed[Kind.PROMOTER]
    chosen = next(rung for rung in found.ladder["donor"] if rung["threshold"] == 0.225)
    assert chosen == {"threshold": 0.225, "calls": 400, "decoy_calls": 3, "fdr": 0.02}


def test_power_and_factor_bend_the_estimate() -> None:
    found = ladder({0.6: 400}, {0.2: 99})
    fit = DecoyFit(0.8, 0.5)
    assert found.estimates(fit)[row(0.2)] == pytest.approx(0.8 * (100 / 400) ** 0.5)
    assert found.estimates(fit)[row(0.225)] == pytest.approx(0.8 * (1 / 400) ** 0.5)
    assert found.threshold(0.05, fit) == 0.225 and found.threshold(0.039, fit) is None
    few = choose_by_error_rate({Kind.DONOR: found}, 0.039, {Kind.DONOR: fit}, {Kind.DONOR: 0.5}).missed[Kind.DONOR]
    assert few == "400 donor calls in the sample are too few"  # even none on decoys would be too many


def test_the_fit_is_found_again() -> None:
    """False calls made to follow a known fit, at every threshold."""
    calls = np.linspace(4000, 2000, len(LADDER)).astype(np.int64)
    decoys = np.geomspace(1500, 12, len(LADDER)).astype(np.int64)
    found = LadderCounts(calls, decoys)
    wanted = DecoyFit(0.9, 0.6)
    annotated = 0.9 * ((decoys + 1) / calls) ** 0.6
    assert fit_decoy_calls([(found, annotated)]) == wanted
    bent = np.where(annotated > 0.3, 1.0, annotated)  # beyond what users ask for nothing counts
    assert fit_decoy_calls([(found, bent)]) == wanted
    assert fit_decoy_calls([(found, np.zeros_like(annotated))]) is None
    assert fit_decoy_calls([(LadderCounts(calls, np.minimum(decoys, 9)), annotated)]) is None
    one = fit_decoy_calls([(found, np.where(np.arange(len(LADDER)) == 20, annotated, 1.0))])
    assert one is not None and one.power == 1 and one.factor == pytest.approx(annotated[20] / found.ratio[20], abs=1e-4)


def test_a_fit_makes_the_threshold_hold_on_another_genome_of_the_kind() -> None:
    def genome(seed: int) -> tuple[LadderCounts, np.ndarray]:
        rng = np.random.default_rng(seed)
        true, background, decoys = (
            1 / (1 + np.exp(-rng.normal(*shape)))
            for shape in ((2, 1.5, 3000), (-3, 2.0, 4000), (-3, 1.5, 2000))  # real background reaches higher
        )
        found = count_ladder(np.concatenate([true, background]), decoys)
        return found, count_ladder(background, background).calls / np.maximum(found.calls, 1)

    fit = fit_decoy_calls([genome(1), genome(3)])
    assert fit is not None and fit.power < 0.9
    found, annotated = genome(2)
    for rate in (0.05, 0.1, 0.2):
        chosen = found.threshold(rate, fit)
        assert chosen is not None and rate / 1.6 < annotated[row(chosen)] < rate * 1.6


def test_where_nothing_was_called_a_run_by_rate_is_told_what_it_can_try() -> None:
    run: dict[str, Any] = {
        "files": {"predictions.parquet": {"rows": 0}},
        "plan": {"thresholds": {"donor": 0.5}, "clade": "plant", "fdr": None},
    }
    assert "try a lower one (`thresholds=0.1`)" in hint_where_nothing_was_called(run)
    by_rate = run | {"plan": {**run["plan"], "fdr": {"rate": 0.05}}}
    said = hint_where_nothing_was_called(by_rate)
    assert "try a higher `fdr`" in said and "`thresholds=0.1`" not in said  # the two exclude each other
