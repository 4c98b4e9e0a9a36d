"""Accuracy figures against scikit-learn, brute force and hand-made cases; the baselines on planted sequence."""

import numpy as np
import pytest
from numpy.typing import NDArray

from annotator.evaluation.baselines import cpg_islands, cpg_promoter_calls, cpg_score, splice_pwm_baseline
from annotator.evaluation.metrics import (
    NO_REST,
    Examples,
    Places,
    Rest,
    average_precision,
    bootstrap,
    bootstrap_difference,
    bootstrap_ratio,
    calibration_error,
    calls_per_mb,
    match_tss,
    precision_recall_at,
    reliability,
    topk,
)
from annotator.evaluation.truth import ExampleCollector
from annotator.kinds import STRANDS, Strand

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def scored(seed: int, count: int = 400, levels: int | None = None) -> tuple[Floats, Flags]:
    """Random probabilities that know something of a random truth; few levels make many ties."""
    rng = np.random.default_rng(seed)
    truth = rng.random(count) < 0.1
    values = np.clip(rng.random(count) * 0.7 + 0.3 * truth, 0, 1)
    return (values if levels is None else np.round(values * levels) / levels), truth


@pytest.mark.parametrize("levels", [None, 20, 2])
@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_that_of_scikit_learn(seed: int, levels: int | None) -> None:
    from sklearn.metrics import average_precision_score

    values, truth = scored(seed, levels=levels)
    assert average_precision(values, truth) == pytest.approx(average_precision_score(truth, values), abs=1e-12)


def test_topk_by_hand() -> None:
    assert topk([0.9, 0.8, 0.7, 0.1], [True, False, True, False]) == 0.5
    assert topk([0.9, 0.8, 0.7, 0.1], [True, True, False, False]) == 1.0
    assert topk([0.5, 0.5, 0.5, 0.1], [True, False, False, True]) == pytest.approx(2 * (1 / 3) / 2)  # 2 of 3 equals, 1 right


@pytest.mark.parametrize("seed", range(3))
def test_topk_with_ties_is_the_mean_over_random_orders(seed: int) -> None:
    values, truth = scored(seed, 60, levels=4)
    rng = np.random.default_rng(seed)
    k = int(truth.sum())
    draws = [truth[np.lexsort((rng.random(len(values)), -values))[:k]].mean() for _ in range(4000)]
    assert topk(values, truth) == pytest.approx(np.mean(draws), abs=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_a_rest_counts_like_listed_equals(seed: int) -> None:
    values, truth = scored(seed)
    low = values < 0.45
    flat = np.where(low, 0.0, values)
    rest = Rest(int(low.sum()), int(truth[low].sum()))
    listed = values[~low], truth[~low]
    assert average_precision(*listed, rest) == pytest.approx(average_precision(flat, truth), abs=1e-12)
    assert topk(*listed, rest) == pytest.approx(topk(flat, truth), abs=1e-12)
    assert rest.truth > 0
    precision = truth.sum() / (len(listed[0]) + rest.truth)  # if the truth in the rest came right below the floor
    missing = average_precision(values, truth) - average_precision(*listed, rest)
    assert 0 < missing <= rest.truth / truth.sum() * precision


def test_no_truth_no_examples_and_nonsense() -> None:
    assert np.isnan(topk([0.3], [False]))
    assert np.isnan(average_precision([], []))
    assert average_precision([], [], Rest(10, 1)) == pytest.approx(0.1)
    assert topk([], [], Rest(10, 1)) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="1 of 2 probabilities are NaN"):
        topk([0.1, np.nan], [True, False])
    with pytest.raises(ValueError, match="two equal rows"):
        topk([0.1], [True, False])
    with pytest.raises(ValueError, match="3 truth sites among 2"):
        Rest(2, 3)


def test_precision_and_recall_at_a_threshold() -> None:
    found = precision_recall_at([0.9, 0.5, 0.4, 0.2], [True, False, True, True], 0.5, Rest(100, 1))
    assert (found.calls, found.right, found.precision, found.recall) == (2, 1, 0.5, 0.25)
    assert np.isnan(precision_recall_at([0.1], [True], 0.5, NO_REST).precision)


def test_the_bootstrap_equals_repeating_whole_groups() -> None:
    values, truth = scored(1, 300)
    group = np.arange(300) // 30
    low = values < 0.3
    rest = [np.bincount(group[chosen], minlength=10) for chosen in (low, low & truth)]
    examples = Examples(values[~low], truth[~low], group[~low], rest[0], rest[1])
    found = bootstrap(examples, replicates=50, seed=7)
    flat = np.where(low, 0.0, values)
    times = np.random.default_rng(7).multinomial(10, np.full(10, 0.1), size=50)
    for name, measure in (("top_k", topk), ("auprc", average_precision)):
        rows = [np.repeat(np.arange(300), draw[group]) for draw in times]
        drawn = [measure(flat[row], truth[row]) for row in rows]
        assert found[name].value == pytest.approx(measure(flat, truth))
        assert (found[name].low, found[name].high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))
        assert found[name].low < found[name].value < found[name].high


def test_a_difference_is_drawn_on_the_same_groups_for_both() -> None:
    rng = np.random.default_rng(5)
    truth, group = rng.random(600) < 0.2, np.repeat(np.arange(6), 100)
    values = rng.random(600) + truth
    none = np.zeros(6, np.int64)
    good, poor = (Examples(ranks, truth, group, none, none) for ranks in (values, values + rng.normal(0, 0.7, 600)))
    same = bootstrap_difference(good, good, replicates=40)
    assert {(each.value, each.low, each.high) for each in same.values()} == {(0.0, 0.0, 0.0)}
    found, alone = bootstrap_difference(good, poor, replicates=40, seed=3), bootstrap(poor, replicates=40, seed=3)
    assert found["auprc"].value == bootstrap(good, replicates=1)["auprc"].value - alone["auprc"].value > 0
    assert found["auprc"].low > 0 and found["auprc"].low <= found["auprc"].value <= found["auprc"].high
    with pytest.raises(ValueError, match="6 groups cannot be paired with 5"):
        bootstrap_difference(good, Examples(values, truth, group % 5, none[:5], none[:5]))


def test_the_bootstrap_of_a_ratio() -> None:
    found = bootstrap_ratio([1, 2, 3], [2, 4, 6])
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)
    varied = bootstrap_ratio([0, 2, 3, 0], [2, 2, 6, 5])
    assert varied.value == pytest.approx(5 / 15)
    assert varied.low < varied.value < varied.high


def test_reliability_by_hand() -> None:
    table = reliability([0.05, 0.15, 0.95, 0.85, 1.0], [False, True, True, False, True], 2, Rest(95, 5, 0.95))
    assert table.count.tolist() == [97, 3]
    assert table.mean_probability == pytest.approx([(0.05 + 0.15 + 0.95) / 97, 2.8 / 3])
    assert table.observed == pytest.approx([6 / 97, 2 / 3])
    gaps = [abs(1.15 - 6) / 97, (2.8 - 2) / 3]
    assert table.expected_calibration_error() == pytest.approx((gaps[0] * 97 + gaps[1] * 3) / 100)
    assert table.expected_calibration_error(at_least=0.5) == pytest.approx(gaps[1])
    assert np.isnan(reliability([], []).expected_calibration_error())


def test_reliability_of_honest_probabilities_is_small_and_edges_are_checked() -> None:
    rng = np.random.default_rng(3)
    values = rng.random(50_000)
    assert reliability(values, rng.random(50_000) < values).expected_calibration_error() < 0.01
    assert reliability(values, rng.random(50_000) < values**2).expected_calibration_error() > 0.1
    assert reliability([0.1, 0.5], [True, True], [0.0, 0.1, 1.0]).count.tolist() == [0, 2]
    for edges in ([0.1, 1.0], [0.0, 0.5], [0.0, 0.5, 0.5, 1.0]):
        with pytest.raises(ValueError, match="ascend from 0 to 1"):
            reliability([0.1], [True], edges)
    with pytest.raises(ValueError, match=r"within 0\.\.1"):
        reliability([1.1], [True])


def places(*rows: tuple[int, int, int]) -> Places:
    """Places from (contig, position, strand)."""
    table = np.array(rows, np.int64).reshape(-1, 3)
    return Places(table[:, 0], table[:, 1], table[:, 2].astype(np.int8))


def test_each_truth_counts_once_and_the_better_call_chooses_first() -> None:
    truth = places((0, 100, 1), (0, 160, 1), (0, 100, -1), (1, 100, 1))
    calls = places((0, 120, 1), (0, 110, 1), (0, 90, 1), (0, 120, -1), (1, 151, 1), (2, 100, 1))
    matches = match_tss(calls, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4], truth, 50)
    assert matches.truth_row.tolist() == [0, 1, -1, 2, -1, -1]
    low, high = matches.at(0.0), matches.at(0.75)
    assert (low.calls, low.right, low.precision, low.recall) == (6, 3, 0.5, 0.75)
    assert (high.calls, high.right, high.precision, high.recall) == (2, 2, 1.0, 0.5)
    assert matches.average_precision() == pytest.approx((1 + 1 + 3 / 4) / 4)
    assert match_tss(calls, np.ones(6), truth, 51).truth_row[4] == 3


def test_a_matching_serves_every_threshold() -> None:
    rng = np.random.default_rng(5)
    truth = places(*[(c, p, s) for c in (0, 1) for s in (1, -1) for p in rng.integers(0, 5000, 12)])
    calls = places(*[(int(rng.integers(2)), int(rng.integers(5000)), int(rng.choice([1, -1]))) for _ in range(150)])
    values = rng.random(150).round(2)
    whole = match_tss(calls, values, truth, 250)
    for threshold in (0.2, 0.5, 0.9):
        chosen = values >= threshold
        part = Places(calls.contig[chosen], calls.position[chosen], calls.strand[chosen])
        assert match_tss(part, values[chosen], truth, 250).truth_row.tolist() == whole.truth_row[chosen].tolist()
    claimed = whole.truth_row[whole.truth_row >= 0]
    assert len(set(claimed.tolist())) == len(claimed)


def test_no_calls_and_no_truth() -> None:
    assert match_tss(places(), [], places((0, 1, 1)), 50).at(0.0).recall == 0.0
    assert match_tss(places(), [], places((0, 1, 1)), 50).average_precision() == 0.0
    assert match_tss(places((0, 1, 1)), [0.5], places(), 50).at(0.0).precision == 0.0
    assert calls_per_mb(30, 2_000_000) == 15.0
    with pytest.raises(ValueError, match="one probability"):
        match_tss(places((0, 1, 1)), [], places(), 50)


@pytest.mark.parametrize("block_bp", [None, 30])
def test_collected_examples_are_all_positions_of_both_strands(block_bp: int | None) -> None:
    rng = np.random.default_rng(2)
    everything, listed = ExampleCollector(block_bp=block_bp), ExampleCollector(0.4, block_bp=block_bp)
    values: list[Floats] = []
    flags: list[Flags] = []
    for contig, length in enumerate((100, 0, 70)):
        for _ in "+-":
            track = rng.random(length)
            truth = np.sort(rng.choice(length, min(length, 5), replace=False))
            ambiguous = np.concatenate([truth[:2], rng.choice(length, min(length, 8), replace=False)])
            for collector in (everything, listed):
                collector.add(contig, track, truth, ambiguous)
            is_truth = np.isin(np.arange(length), truth)
            kept = is_truth | ~np.isin(np.arange(length), ambiguous)
            values.append(track[kept])
            flags.append(is_truth[kept])
    dense, is_truth = np.concatenate(values), np.concatenate(flags)
    whole, part = everything.examples(), listed.examples()
    assert whole.rest == NO_REST
    assert sorted(zip(whole.probability, whole.is_truth, strict=True)) == sorted(zip(dense, is_truth, strict=True))
    low = dense < 0.4
    assert part.rest == Rest(int(low.sum()), int(is_truth[low].sum()))
    assert len(part.rest_examples) == (2 if block_bp is None else 7)
    assert topk(part.probability, part.is_truth, part.rest) == topk(dense, is_truth)
    assert ExampleCollector().examples().rest == NO_REST


def random_bases(count: int, seed: int, letters: bytes = b"ACGT") -> NDArray[np.uint8]:
    """Random ASCII bases; without CG where letters hold no C."""
    return np.random.default_rng(seed).choice(np.frombuffer(letters, np.uint8), count)


def test_a_planted_cpg_island_is_found_and_called() -> None:
    bases = np.frombuffer(random_bases(6000, 1).tobytes().replace(b"CG", b"TG"), np.uint8).copy()
    bases[3000:3600] = random_bases(600, 2, b"CG")
    ((start, end),) = cpg_islands(bases)
    assert 2800 < start <= 3000
    assert 3600 <= end < 3800
    positions, scores = cpg_promoter_calls(bases)
    assert len(positions) == 1
    assert 3200 < positions[0] < 3400
    assert scores[0] == cpg_score(bases)[positions[0]] == cpg_score(bases).max()
    lower = bases + np.uint8(32)
    assert np.array_equal(cpg_islands(lower), cpg_islands(bases))


def test_cpg_windows_against_counting() -> None:
    bases = random_bases(700, 3, b"ACGTN")
    score = cpg_score(bases, window_bp=200)
    for centre in (100, 101, 350, 600):
        text = bases[centre - 100 : centre + 100].tobytes()
        c, g = text.count(b"C"), text.count(b"G")
        assert score[centre] == pytest.approx((c + g) / 200 * text.count(b"CG") * 200 / (c * g), rel=1e-6)
    assert score[0] == score[100]
    assert score[699] == score[600]


def test_cpg_calls_are_the_maxima_within_reach() -> None:
    bases = random_bases(3000, 4)
    score = cpg_score(bases, window_bp=60)
    for reach in (1, 7, 64, 100):
        positions, _ = cpg_promoter_calls(bases, window_bp=60, reach_bp=reach, floor=0.1)
        expected = [
            i
            for i, value in enumerate(score)
            if value >= 0.1 and i == max(range(max(i - reach, 0), min(i + reach + 1, 3000)), key=lambda j: (score[j], -j))
        ]
        assert positions.tolist() == expected


def test_short_contigs_have_no_islands() -> None:
    for count in (0, 1, 199):
        bases = random_bases(count, 1, b"CG")
        assert cpg_islands(bases).shape == (0, 2)
        assert len(cpg_promoter_calls(bases)[0]) == 0
    assert cpg_islands(np.frombuffer(b"CG" * 100, np.uint8)).tolist() == [[0, 200]]


def test_the_matrix_baseline_finds_planted_sites_on_both_strands() -> None:
    donor, acceptor = b"CAGGTAAGT", b"TTTTTTTTTTTTTTTTTTAGGTT"
    complement = bytes.maketrans(b"ACGT", b"TGCA")
    bases = random_bases(20_000, 6)
    sites: dict[tuple[str, Strand], list[int]] = {}
    for number in range(60):
        start = 100 + 300 * number
        for kind, pattern, before, shift in (("donor", donor, 2, 0), ("acceptor", acceptor, 20, 100)):
            plus = number % 2 == 0
            text = pattern if plus else pattern[::-1].translate(complement)
            low = start + shift
            bases[low : low + len(text)] = np.frombuffer(text, np.uint8)
            position = low + before if plus else low + len(text) - 1 - before
            sites.setdefault((kind, Strand.PLUS if plus else Strand.MINUS), []).append(position)
    truth = {key: np.array(found, np.int64) for key, found in sites.items()}
    matrices = splice_pwm_baseline([(bases, truth)])
    for kind in ("donor", "acceptor"):
        collector = ExampleCollector()
        for strand, track in zip(STRANDS, matrices[kind].score(bases), strict=True):
            assert len(track) == len(bases)
            collector.add(0, track, truth[kind, strand])
        examples = collector.examples()
        assert topk(examples.probability, examples.is_truth) == 1.0
    lower = np.frombuffer(bases.tobytes().lower(), np.uint8)
    assert np.array_equal(matrices["donor"].score(lower)[1], matrices["donor"].score(bases)[1])


def test_matrix_scores_by_hand_at_the_edges() -> None:
    bases = np.frombuffer(b"ACAGGTAAGTN", np.uint8)
    matrix = splice_pwm_baseline([(bases, {("donor", Strand.PLUS): np.array([3])})])["donor"]
    plus, _ = matrix.score(bases)
    assert plus[3] == pytest.approx(matrix.log_odds[:, :4].max(axis=1).sum(), rel=1e-6)
    assert plus.argmax() == 3
    assert np.isfinite(plus).all()
    lowest = matrix.log_odds.min(axis=1)
    expected = (
        lowest[:2].sum() + matrix.log_odds[2, 0] + sum(matrix.log_odds[3 + i, b"ACGT".index(b)] for i, b in enumerate(b"CAGGTA"))
    )
    assert plus[0] == pytest.approx(expected, rel=1e-5)  # the two bases before the contig count as unknown


def test_the_calibration_error_in_bins_of_equal_count() -> None:
    rng = np.random.default_rng(5)
    probabilities = rng.random(200_000) ** 3
    honest = rng.random(200_000) < probabilities
    assert calibration_error(probabilities, honest) < 0.01
    assert calibration_error(probabilities, np.zeros(200_000, bool)) == pytest.approx(probabilities[probabilities >= 0.02].mean())
    by_hand = calibration_error([0.5, 0.5, 0.9, 0.7, 0.01], [True, False, False, False, True], bins=2)
    assert by_hand == pytest.approx((0.0 + 0.8) / 2)
    assert np.isnan(calibration_error([0.5, 0.01], [True, True], bins=2))
