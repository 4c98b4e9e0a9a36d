"""Estimated and annotated error rates of a labelled genome, with the detector: every count is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from annotator.calls.error_rate import LADDER, LadderCounts
from annotator.evaluation.decoy_fit import AnnotatedLadder, annotated_ladders, fit_decoys
from annotator.kinds import STRANDS, Kind, Strand
from annotator.labels.labelled import LabelledGenome
from annotator.models.directory import read_model
from tests.support.detector import DONOR, write_detector
from tests.support.runs import plant, random_bases, revcomp

LENGTH = 120_000
PLANTED = 900


@pytest.fixture(scope="module")
def genome() -> LabelledGenome:
    """Donor words on two contigs: of ten the truth has eight, one is ambiguous and one is false."""
    text = random_bases(LENGTH, seed=6)
    starts = np.linspace(50, LENGTH - 50, PLANTED).astype(np.int64)
    for start in starts.tolist():
        text = plant(text, DONOR, start)
    position = starts + 2
    turn = np.arange(PLANTED) % 10
    none = np.empty(0, np.int64)
    sites = {(track, strand): none for track in ("donor", "acceptor", "tss") for strand in STRANDS}
    return LabelledGenome(
        name="toy", clade="plant", bases=np.frombuffer(text.encode(), np.uint8),
        contig_ends=np.array([70_000, LENGTH], np.int64), contig_names=("a", "b"),
        sites=sites | {("donor", Strand.PLUS): position[turn < 8], ("donor", Strand.MINUS): position[turn == 9]},
        masked=sites | {("donor", Strand.PLUS): position[turn == 8]}, kinds=frozenset({"donor", "tss"}),
    )  # fmt: skip


def test_calls_are_told_apart_by_the_truth_of_their_own_strand(genome: LabelledGenome, tmp_path: Path) -> None:
    folder, manifest = read_model(str(write_detector(tmp_path / "model")))
    found = annotated_ladders(folder, manifest, "plant", genome)
    assert list(found) == [Kind.DONOR]  # acceptors have no labels here, and a promoter is no single base
    ladder = found[Kind.DONOR]
    text = genome.bases.tobytes().decode()
    words = text.count(DONOR) + text.count(revcomp(DONOR))  # those planted, and few that came about beside them
    true, ambiguous = PLANTED * 8 // 10, PLANTED // 10
    false = words - true - ambiguous
    assert PLANTED <= words < PLANTED + 20
    assert set(ladder.counts.calls.tolist()) == {words}  # the detector is certain at every threshold
    assert set(ladder.true_calls.tolist()) == {true} and set(ladder.false_calls.tolist()) == {false}
    annotated = false / (true + false)
    assert ladder.annotated == pytest.approx(np.full(len(LADDER), annotated))
    decoys = int(ladder.counts.decoy_calls[0])
    assert 10 < decoys < 200
    assert ladder.missing == pytest.approx(annotated) and not ladder.error_rate.any()  # false or not annotated: all are certain
    assert fit_decoys([found]) == {}
    assert 10 < decoys < 200


def test_what_the_annotation_lacks_is_taken_out_of_a_fit() -> None:
    calls = np.linspace(5000, 1000, len(LADDER)).astype(np.int64)
    decoys = np.geomspace(1500, 12, len(LADDER)).astype(np.int64)
    rate = np.minimum(0.9 * ((decoys + 1) / calls) ** 0.7, 1)
    rate[-1] = 0.0  # the most certain calls are all true
    lacking = 0.1  # of the true sites
    false = np.round(calls * (rate + lacking * (1 - rate))).astype(np.int64)
    ladder = AnnotatedLadder(LadderCounts(calls, decoys), calls - false, false)
    assert ladder.missing == pytest.approx(lacking, abs=1e-3)
    np.testing.assert_allclose(ladder.error_rate, rate, atol=1e-3)
    fit = fit_decoys([{Kind.DONOR: ladder}, {}])[Kind.DONOR]
    assert fit.factor == pytest.approx(0.9, rel=0.03) and fit.power == pytest.approx(0.7, rel=0.03)
