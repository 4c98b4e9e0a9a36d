import math

import numpy as np
import pytest

from annotator.errors import UsageError
from annotator.motifs.scores import (
    STEPS_PER_BIT,
    UNIFORM,
    expected_hits,
    integer_scores,
    log_odds_bits,
    score_matrix,
    strand_symmetric,
)

SKEWED = (0.31, 0.17, 0.23, 0.29)


def random_counts(width: int, seed: int, sites: int = 50) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.multinomial(sites, rng.dirichlet([0.3] * 4, size=width)).astype(np.float64)


def all_scores(steps: np.ndarray, background: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Score and probability of every sequence of the matrix' width."""
    scores, probabilities = np.zeros(1, np.int64), np.ones(1)
    for column in steps:
        scores = (scores[:, None] + column).reshape(-1)
        probabilities = (probabilities[:, None] * np.array(background)).reshape(-1)
    return scores, probabilities


def test_log_odds_by_hand() -> None:
    bits = log_odds_bits(np.array([[3.0, 1.0, 0.0, 0.0]]), UNIFORM, 4.0)  # (c + 1) / 8 / 0.25
    np.testing.assert_allclose(bits, [np.log2([2.0, 1.0, 0.5, 0.5])], rtol=1e-15)
    skewed = log_odds_bits(np.array([[2.0, 0.0, 0.0, 0.0]]), (0.4, 0.1, 0.1, 0.4), 2.0)
    np.testing.assert_allclose(skewed, [np.log2([2.8 / 4 / 0.4, 0.5, 0.5, 0.5])], rtol=1e-15)


def test_log_odds_equal_lightmotif() -> None:
    lightmotif = pytest.importorskip("lightmotif", reason="lightmotif is not installed")
    for seed, pseudocount in ((1, 0.1), (2, 1.0), (3, 4.0)):
        counts = random_counts(12, seed)
        values = {base: [int(c) for c in counts[:, i]] for i, base in enumerate("ACGT")}
        theirs = lightmotif.CountMatrix(values).normalize(pseudocount / 4).log_odds()
        ours = log_odds_bits(counts, UNIFORM, pseudocount)
        for column in range(12):
            a, c, t, g = list(theirs[column])[:4]  # their order
            np.testing.assert_allclose([a, c, g, t], ours[column], atol=1e-5)


def test_integer_scores_are_the_nearest_step() -> None:
    bits = log_odds_bits(random_counts(20, 4))
    steps = integer_scores(bits)
    assert steps.dtype == np.int32
    assert np.abs(steps / STEPS_PER_BIT - bits).max() <= 0.5 / STEPS_PER_BIT + 1e-12


@pytest.mark.parametrize("background", [UNIFORM, SKEWED], ids=["uniform", "skewed"])
@pytest.mark.parametrize("p_value", [0.1, 0.01, 1e-3, 1e-4])
@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_tail_equals_enumeration(width: int, p_value: float, background: tuple[float, float, float, float]) -> None:
    for seed in range(3):
        matrix = score_matrix(random_counts(width, seed), p_value, background)
        scores, probabilities = all_scores(matrix.steps, background)
        assert matrix.best == scores.max()
        threshold = matrix.threshold
        if threshold is None:
            assert probabilities[scores == scores.max()].sum() > p_value
            continue
        assert probabilities[scores >= threshold].sum() <= p_value * (1 + 1e-12)
        assert probabilities[scores >= threshold - 1].sum() > p_value
        hits = np.unique(scores[scores >= threshold]).astype(np.int32)
        expected = [probabilities[scores >= score].sum() for score in hits]
        np.testing.assert_allclose(matrix.p_values(hits), expected, rtol=1e-12)


def test_a_threshold_on_an_exact_probability_is_included() -> None:
    counts = np.array([[10.0, 1, 0, 0]] * 5)  # the best 5-mer alone has probability 4**-5
    assert score_matrix(counts, 4.0**-5).threshold is not None
    assert score_matrix(counts, np.nextafter(4.0**-5, 0)).threshold is None


def test_long_matrices_have_small_exact_tails() -> None:
    counts = np.tile([[97.0, 1, 1, 1]], (35, 1))
    matrix = score_matrix(counts, 1e-12)
    scores = np.array([matrix.best], np.int32)
    assert matrix.p_values(scores)[0] == pytest.approx(0.25**35, rel=1e-12)
    assert 0 < matrix.tail[-1] <= 1e-12
    loss = int(matrix.steps[0, 0] - matrix.steps[0, 1])
    for mismatches in range(6):  # every column alike: the tail is a binomial one
        p = sum(math.comb(35, m) * 3**m for m in range(mismatches + 1)) * 0.25**35
        assert matrix.p_values(np.array([matrix.best - mismatches * loss], np.int32))[0] == pytest.approx(p, rel=1e-12)


def test_tail_never_falls_and_stops_at_the_p_value() -> None:
    for seed in range(5):
        matrix = score_matrix(random_counts(15, seed), 1e-4, SKEWED)
        assert np.all(np.diff(matrix.tail) >= 0)
        assert matrix.tail[-1] <= 1e-4
        assert matrix.threshold == matrix.best - len(matrix.tail) + 1


def test_p_values_agree_with_lightmotif() -> None:
    lightmotif = pytest.importorskip("lightmotif", reason="lightmotif is not installed")
    for seed in range(5):
        width = 8 + 3 * seed
        matrix = score_matrix(random_counts(width, seed), 0.01)
        pssm = lightmotif.ScoringMatrix({b: matrix.log_odds[:, i].tolist() for i, b in enumerate("ACGT")})
        # theirs rounds each column to about a thousandth of the range; its p-values belong to scores that far away
        blur = width * (matrix.log_odds.max() - np.floor(matrix.log_odds.min())) / 1000 + width / STEPS_PER_BIT
        for score in np.linspace(matrix.threshold + STEPS_PER_BIT, matrix.best - STEPS_PER_BIT, 20).astype(np.int32):
            ours = matrix.p_values(np.array([score], np.int32))[0]
            bits = score / STEPS_PER_BIT
            assert pssm.pvalue(bits + blur) <= ours * (1 + 1e-9)
            assert ours <= pssm.pvalue(bits - blur) * (1 + 1e-9)


def test_expected_hits() -> None:
    hopeless = score_matrix(random_counts(3, 1), 1e-6)
    assert hopeless.threshold is None
    matrix = score_matrix(random_counts(12, 2), 1e-4)
    assert expected_hits([hopeless], 10**9) == 0
    assert expected_hits([matrix, hopeless], 1011) == pytest.approx(2 * 1000 * matrix.tail[-1])
    assert expected_hits([matrix], 5) == 0


def test_expected_hits_are_what_a_random_sequence_holds() -> None:
    matrix = score_matrix(random_counts(10, 5), 1e-3, SKEWED)
    rng = np.random.default_rng(6)
    codes = rng.choice(4, size=400_000, p=SKEWED)
    windows = sum(matrix.steps[i, codes[i : len(codes) - 9 + i]] for i in range(10))
    found = int((windows >= matrix.threshold).sum())
    expected = expected_hits([matrix], len(codes)) / 2  # one strand
    assert abs(found - expected) < 5 * np.sqrt(expected)


def test_strand_symmetric() -> None:
    assert strand_symmetric((0.1, 0.2, 0.3, 0.4)) == pytest.approx((0.25, 0.25, 0.25, 0.25))
    assert strand_symmetric((0.4, 0.1, 0.1, 0.4)) == pytest.approx((0.4, 0.1, 0.1, 0.4))


@pytest.mark.parametrize("p_value", [0, -1, 0.2, float("nan")])
def test_p_values_out_of_range_are_refused(p_value: float) -> None:
    with pytest.raises(UsageError, match="motif p-value"):
        score_matrix(random_counts(3, 1), p_value)


@pytest.mark.parametrize("pseudocount", [0, -1, float("nan"), 1e9])
def test_pseudocounts_out_of_range_are_refused(pseudocount: float) -> None:
    with pytest.raises(UsageError, match="pseudocount"):
        log_odds_bits(random_counts(3, 1), UNIFORM, pseudocount)


@pytest.mark.parametrize("background", [(0.5, 0.5, 0.0, 0.0), (0.3, 0.3, 0.3, 0.3), (0.5, 0.5), (1.2, -0.2, 0.0, 0.0)])
def test_backgrounds_out_of_range_are_refused(background: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="background"):
        log_odds_bits(random_counts(3, 1), background)  # type: ignore[arg-type]
