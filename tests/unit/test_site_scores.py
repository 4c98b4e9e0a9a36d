"""Sites of a genome ranked and judged: by hand, against brute force, and in whatever pieces the scores come."""

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from annotator.calls.batch import Calls
from annotator.evaluation import site_scores
from annotator.evaluation.metrics import Examples, TssMatches, bootstrap
from annotator.evaluation.site_scores import JudgedCalls, SiteRanking, judge_promoters, judge_splice, precision_recall_curve
from annotator.kinds import LABEL_TRACKS, STRANDS, Kind, Strand
from annotator.labels.labelled import LabelledGenome

Floats = NDArray[np.float64]


def genome(ends: list[int], **positions: list[int]) -> LabelledGenome:
    """Contigs that end at `ends`, all laid end to end; `donor_plus=[5]` is truth, `donor_minus_masked=[7]` ambiguous."""
    sites, masked = ({(k, s): np.zeros(0, np.int64) for k in LABEL_TRACKS for s in STRANDS} for _ in range(2))
    for name, where in positions.items():
        kind, strand, *rest = name.split("_")
        (masked if rest else sites)[kind, Strand[strand.upper()]] = np.array(where, np.int64)
    bases = np.full(ends[-1], ord("A"), np.uint8)
    names = tuple(f"c{i}" for i in range(len(ends)))
    return LabelledGenome("toy", "plant", bases, np.array(ends, np.int64), names, sites, masked, frozenset(LABEL_TRACKS))


def calls(kind: str, *rows: tuple[int, int, int, float]) -> Calls:
    """Calls of one kind: contig, position, strand, probability."""
    contig, position, strand, probability = (np.array(column) for column in zip(*rows, strict=True))
    n = len(rows)
    return replace(
        Calls.empty(), contig=contig, start=position, end=position + 1, kind=np.full(n, Kind(kind).code, np.uint8),
        strand=strand.astype(np.int8), probability=probability.astype(np.float32), score=np.zeros(n, np.uint16),
        position=position, motif=np.full(n, -1, np.int32), p_value=np.full(n, np.nan), bits=np.full(n, np.nan, np.float32),
    )  # fmt: skip


def test_splice_calls_are_right_on_the_exact_base_of_their_strand() -> None:
    toy = genome([100, 200], donor_plus=[10, 150], donor_minus=[20], donor_plus_masked=[30, 10], acceptor_plus=[40])
    found = calls(
        "donor", (0, 10, 1, 0.9), (1, 50, 1, 0.8), (0, 20, 1, 0.7), (0, 20, -1, 0.6), (0, 30, 1, 0.5), (0, 40, 1, 0.4),
        (1, 10, 1, 0.3),
    )  # fmt: skip
    judged = judge_splice(Calls.concatenate([found, calls("acceptor", (0, 40, 1, 0.9))]), toy, "donor")
    assert judged.right.tolist() == [True, True, False, True, False, False, False]
    assert judged.ambiguous.tolist() == [False, False, False, False, True, False, False], "truth that is masked stays truth"
    assert (judged.truths, judged.bases) == (3, 200)


def test_figures_at_a_threshold_by_hand() -> None:
    flags = np.array([True, False, False, True])
    judged = JudgedCalls(np.array([0.9, 0.7, 0.5, 0.3], np.float32), flags, np.array([False, True, False, False]), 4, 1_000_000)
    at = judged.at(0.5)
    assert (at.threshold, at.calls, at.right) == (0.5, 3, 1)
    assert at.precision == 1 / 2 and at.recall == 1 / 4, "the ambiguous call counts in neither"
    assert at.f1 == pytest.approx(2 * (1 / 2) * (1 / 4) / (1 / 2 + 1 / 4))
    assert at.calls_per_mb == 3.0
    none = judged.at(0.95)
    assert math.isnan(none.precision) and (none.recall, none.f1) == (0.0, 0.0)


@pytest.mark.parametrize("threshold", [0.7, 0.1, 0.285])
def test_a_call_at_the_threshold_counts(threshold: float) -> None:
    """Calls hold float32, which lies below 0.7 and above 0.1."""
    one = JudgedCalls(np.array([threshold], np.float32), np.array([True]), np.array([False]), 1, 10)
    assert one.at(threshold).calls == 1


def test_promoters_are_right_within_a_distance_and_each_truth_counts_once() -> None:
    toy = genome([1000, 2000], tss_plus=[500], tss_minus=[1500], tss_plus_masked=[900])
    found = calls(
        "promoter", (0, 540, 1, 0.9), (0, 450, 1, 0.8), (1, 700, -1, 0.7), (0, 890, 1, 0.6), (1, 500, 1, 0.5)
    )  # fmt: skip
    assert judge_promoters(found, toy, 50).right.tolist() == [True, False, False, False, False]
    wide = judge_promoters(found, toy, 250)
    assert wide.right.tolist() == [True, False, True, False, False]
    assert wide.ambiguous.tolist() == [False, False, False, True, False]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("levels", [1000, 8])
def test_curve_is_that_of_scikit_learn_and_its_area_that_of_the_matching(seed: int, levels: int) -> None:
    from sklearn.metrics import precision_recall_curve as theirs

    rng = np.random.default_rng(seed)
    right = rng.random(200) < 0.3
    values = np.round((rng.random(200) + 0.5 * right) * levels) / levels
    curve = precision_recall_curve(values, right, int(right.sum()))
    precision, recall, thresholds = theirs(right, values, drop_intermediate=False)
    assert curve.threshold.tolist() == thresholds[::-1].tolist()
    assert curve.precision == pytest.approx(precision[:-1][::-1])
    assert curve.recall == pytest.approx(recall[:-1][::-1])
    more = int(right.sum()) + 17
    matches = TssMatches(values, np.where(right, 0, -1), more)
    assert precision_recall_curve(values, right, more).average_precision() == pytest.approx(matches.average_precision())


def test_a_thinned_curve_keeps_its_ends_and_lies_on_the_curve() -> None:
    rng = np.random.default_rng(1)
    right = rng.random(5000) < 0.4
    curve = precision_recall_curve(rng.random(5000) + right, right, 3000)
    thin = curve.thinned(50)
    assert 40 <= len(thin.recall) <= 51
    rows = np.searchsorted(-curve.threshold, -thin.threshold)
    assert thin.recall.tolist() == curve.recall[rows].tolist() and thin.precision.tolist() == curve.precision[rows].tolist()
    assert thin.recall[-1] == curve.recall[-1]
    assert np.diff(thin.recall).min() >= 0
    assert len(precision_recall_curve(np.zeros(0), np.zeros(0, bool), 3).thinned().recall) == 0


def listed(examples: Examples) -> list[tuple[float, bool]]:
    return sorted(zip(examples.probability.tolist(), examples.is_truth.tolist(), strict=True))


@pytest.mark.parametrize("contigs", [3, 12], ids=["in blocks", "by contig"])
def test_a_ranking_does_not_depend_on_the_pieces_it_comes_in(contigs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_scores, "BLOCK_BP", 64)
    rng = np.random.default_rng(contigs)
    ends = np.cumsum(rng.integers(50, 300, contigs)).tolist()
    scores = rng.normal(size=(2, ends[-1]))
    places = np.sort(rng.choice(ends[-1], 80, replace=False)).tolist()
    toy = genome(ends, donor_plus=places[::4], donor_minus=places[1::4], donor_plus_masked=places[2::4], acceptor_plus=[1])
    whole, pieces = SiteRanking(toy, "donor", -0.5), SiteRanking(toy, "donor", -0.5)
    for contig, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        whole.add(contig, 0, scores[:, start:end])
        cuts = [start, *sorted({int(x) for x in rng.integers(start, end, 3)}), end]
        for low, high in zip(cuts, cuts[1:], strict=False):
            pieces.add(contig, low - start, scores[:, low:high])
    a, b = whole.examples(), pieces.examples()
    assert listed(a) == listed(b)
    assert bootstrap(a, replicates=50) == bootstrap(b, replicates=50)
    groups = contigs if contigs >= 10 else sum(-(-(end - start) // 64) for start, end in zip([0, *ends], ends, strict=False))
    assert len(a.rest_examples) == groups

    counted = np.ones((2, ends[-1]), bool)
    counted[0, places[2::4]] = False
    truth = np.zeros((2, ends[-1]), bool)
    truth[0, places[::4]] = truth[1, places[1::4]] = True
    assert len(a.is_truth) + a.rest.examples == counted.sum()
    shown = counted & (scores >= -0.5)
    assert listed(a) == sorted(zip(scores[shown].tolist(), truth[shown].tolist(), strict=True))
    assert 0 < a.rest.truth == (truth & ~shown).sum()
