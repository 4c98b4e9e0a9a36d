"""What is learnt at each base: truth, teacher, masks, and the windows that are drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from annotator.kinds import STRANDS, Strand
from annotator.labels.labelled import LabelledGenome, SoftSites
from annotator.training.dataset import Batch, draw_batch, lesson_of
from annotator.training.options import WindowOptions

TRACKS = ("donor", "acceptor", "tss")
PLUS, MINUS = Strand.PLUS, Strand.MINUS


def table(**places: list[int]) -> dict[tuple[str, Strand], np.ndarray]:
    """Sites of the plus strand by kind; the minus strand has none."""
    return {(kind, s): np.array(places.get(kind, []) if s is PLUS else [], np.int64) for kind in TRACKS for s in STRANDS}


def genome(lengths: list[int], kinds: set[str], sites: dict, masked: dict | None = None) -> LabelledGenome:
    bases = np.frombuffer(b"ACGT" * (sum(lengths) // 4 + 1), np.uint8)[: sum(lengths)]
    names = tuple(f"c{i}" for i in range(len(lengths)))
    return LabelledGenome("toy", "fungi", bases, np.cumsum(lengths), names, sites, masked or table(), frozenset(kinds))


def taught(toy: LabelledGenome, positions: list[int], values: list[float]) -> LabelledGenome:
    empty = SoftSites(np.empty(0, np.int64), np.empty(0, np.float32))
    soft = {(kind, strand): empty for kind in TRACKS[:2] for strand in STRANDS}
    return replace(toy, teacher=soft | {("donor", PLUS): SoftSites(np.array(positions), np.array(values, np.float32))})


def test_truth_and_teacher_are_mixed_and_the_teacher_alone_counts_where_the_truth_is_masked() -> None:
    #                       truth 10 (masked, too), 20, 30; teacher 10, 20, 40 (masked), 50
    toy = genome([100], {"donor", "tss"}, table(donor=[10, 20, 30], tss=[5]), table(donor=[10, 40, 60], tss=[7]))
    found = lesson_of(taught(toy, [10, 20, 40, 50, 60], [0.5, 0.5, 0.25, 0.0625, 0.001]), 0.25)
    learnt = found.targets["donor", PLUS]
    assert dict(zip(learnt.positions.tolist(), learnt.values.tolist(), strict=True)) == pytest.approx(
        {10: 0.5, 20: 0.25 + 0.75 * 0.5, 30: 0.25, 40: 0.25, 50: 0.75 * 0.0625, 60: 0.001}
    )
    assert learnt.places.tolist() == [10, 20, 30, 40] and not len(learnt.unknown)
    assert found.targets["tss", PLUS].unknown.tolist() == [7] and found.targets["tss", PLUS].values.tolist() == [1.0]
    assert found.fixed.tolist() == [10, 20, 30, 40]
    assert not len(found.targets["donor", MINUS].positions)


def test_without_a_teacher_masked_sites_have_no_loss() -> None:
    learnt = lesson_of(genome([100], {"donor"}, table(donor=[10, 20]), table(donor=[20, 40])), 0.25).targets["donor", PLUS]
    assert learnt.positions.tolist() == [10, 20] == learnt.places.tolist()
    assert learnt.values.tolist() == [1.0, 1.0] and learnt.unknown.tolist() == [20, 40]


def windows(toy: LabelledGenome, **changes: object) -> Batch:
    options = WindowOptions(**({"window_bp": 64, "margin_bp": 8, "cut_fraction": 0.0} | changes))  # type: ignore[arg-type]
    return draw_batch([lesson_of(toy, 0.5)], options, windows=64, k=1, rng=np.random.default_rng(3))


def test_windows_hold_the_targets_at_their_bases() -> None:
    toy = taught(
        genome([400], {"donor", "acceptor"}, table(donor=[200], acceptor=[210]), table(donor=[230])), [230, 240], [0.75, 0.5]
    )
    toy = replace(toy, bases=toy.bases.copy())
    toy.bases[200], toy.bases[230], toy.bases[240] = ord("N"), ord("R"), ord("Y")  # found again in the windows of the plus strand
    batch = windows(toy, site_fraction=1.0, kind_weights=(1.0, 0.0, 0.0))
    seen = {letter: set() for letter in "NRY"}
    for bases, target, weight in zip(batch.bases, batch.targets, batch.weights, strict=True):
        for column in np.flatnonzero(weight[:, 0]):
            if chr(bases[column]) in seen:
                seen[chr(bases[column])].add(float(target[column, 0]))
        assert set(np.unique(target[:, 0]).tolist()) <= {0.0, 0.5, 0.25, 0.75}
        assert (weight[:8] == 0).all() and (weight[-8:] == 0).all() and weight[8:-8, :2].all()
        assert not weight[:, 2].any()  # no tss is known here
    assert seen == {"N": {0.5}, "R": {0.75}, "Y": {0.25}}
    assert set(batch.clade.tolist()) <= {0, 4} and 4 in batch.clade


def test_a_window_is_of_the_contig_of_its_site() -> None:
    """Also where a contig is shorter than half a window: a window's middle often lies in another one."""
    toy = genome([20] * 50, {"tss"}, table(tss=list(range(10, 1000, 20))))
    batch = windows(toy, site_fraction=1.0, kind_weights=(0.4, 0.4, 0.2))
    assert ((batch.bases != ord("N")).sum(1) >= 18).all()  # the site may lie at the very margin of the window
    assert (batch.weights[:, :, :2] == 0).all() and (batch.weights[:, :, 2].sum(1) <= 20).all()
    peak = batch.targets[:, :, 2].argmax(1)
    assert (batch.bases[np.arange(64), peak] != ord("N")).all() and (batch.targets[:, :, 2].max(1) == 1).all()
    assert ((batch.targets[:, :, 2] == 1).sum(1) == 1).all()  # and no bell of a neighbour reaches into the contig


def test_kinds_without_odds_are_drawn_anywhere() -> None:
    toy = genome([400], {"tss"}, table(tss=[200]))
    assert windows(toy, site_fraction=1.0, kind_weights=(0.5, 0.5, 0.0)).bases.shape == (64, 64)


def test_no_base_near_a_place_is_changed() -> None:
    toy = taught(genome([400], {"donor", "acceptor"}, table(donor=[100], acceptor=[300])), [200, 250], [0.9, 0.05])
    bases = np.full(400, ord("Y"), np.uint8)
    for site in (100, 200, 300):  # and not 250, whose target is 0.025
        bases[site - 12 : site + 13] = ord("R")
    toy = replace(toy, bases=bases)
    batch = windows(toy, window_bp=600, margin_bp=0, site_fraction=0.0, mutation_rate=1.0)
    forward = [row for row in batch.bases if (row == ord("R")).any()]  # read backwards, R and Y are N
    assert max((row == ord("R")).sum() for row in forward) == 75
    assert not any((row == ord("Y")).any() for row in forward)
