"""Tiles of elements by hand: which count, what they score, and the figures of a track."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from annotator.errors import InputError
from annotator.evaluation.classification import auroc
from annotator.evaluation.elements import TILE_BP, TileScores
from annotator.evaluation.metrics import NO_REST, Examples, bootstrap
from annotator.labels.genomes import load_elements
from annotator.labels.labelled import LabelledGenome


def genome_of(*contigs: str) -> LabelledGenome:
    ends = np.cumsum([len(contig) for contig in contigs])
    bases = np.frombuffer("".join(contigs).encode(), np.uint8)
    return LabelledGenome("toy", "plant", bases, ends, tuple(f"c{i}" for i in range(len(contigs))), {}, {}, frozenset({"CRE"}))


def spans(*pairs: tuple[int, int]) -> NDArray[np.int64]:
    return np.array(pairs, np.int64).reshape(-1, 2)


def test_tiles_are_inside_from_half_on_and_left_out_below() -> None:
    genome = genome_of("A" * 1000, "A" * 650)  # 5 and 3 tiles, and 50 bp that are none
    # c0: tile 1 by half, tile 2 by one base less, tile 4 whole; c1: one base of its tile 0, and the bases that are no tile
    tiles = TileScores(genome, spans((300, 499), (800, 1001), (1600, 1650)))
    for contig, length in enumerate((1000, 650)):
        tiles.add(contig, 0, np.tile(np.arange(length, dtype=np.float32), (2, 1)))
    examples = tiles.examples()
    assert examples.is_truth.tolist() == [False, True, False, True, False, False]
    assert examples.group.tolist() == [0, 0, 0, 0, 1, 1]
    assert examples.probability.tolist() == [199.0, 399.0, 799.0, 999.0, 399.0, 599.0]


def test_a_tile_scores_its_highest_base_of_either_strand_however_it_is_cut() -> None:
    genome = genome_of("C" * 500)
    scores = np.full((2, 500), -9.0, np.float32)
    scores[0, 10], scores[1, 399] = 3.0, 5.0
    tiles = TileScores(genome, spans((0, 200)))
    for start, end in ((0, 150), (150, 399), (399, 500)):
        tiles.add(0, start, scores[:, start:end])
    assert tiles.examples().probability.tolist() == [3.0, 5.0]
    found = tiles.scores("CRE", replicates=10)
    assert (found.elements, found.tiles, found.inside, found.base_rate) == (1, 2, 1, 0.5)
    assert (found.auroc.value, found.auprc.value) == (0.0, 0.5)


def test_tiles_of_n_are_left_out() -> None:
    genome = genome_of("N" * 100 + "A" * 100 + "N" * 99 + "A" * 101)
    tiles = TileScores(genome, spans((0, 400)))
    tiles.add(0, 0, np.zeros((2, 400), np.float32))
    assert tiles.examples().is_truth.tolist() == [True]


def test_auroc_of_the_bootstrap_is_that_of_pairs_with_ties() -> None:
    rng = np.random.default_rng(4)
    values, truth = rng.integers(12, size=300).astype(np.float64), rng.random(300) < 0.3
    group = rng.integers(9, size=300)
    none = np.zeros(9, np.int64)
    found = bootstrap(Examples(values, truth, group, none, none), replicates=200, measures=("auroc",))
    assert set(found) == {"auroc"} and found["auroc"].value == pytest.approx(auroc(values, truth), abs=1e-12)
    assert found["auroc"].low < found["auroc"].value < found["auroc"].high
    assert NO_REST.examples == 0
    alone = bootstrap(Examples(values, np.ones(300, bool), group, none, none), replicates=5, measures=("auroc",))
    assert np.isnan(alone["auroc"].value)


def test_elements_are_read_end_to_end_and_joined(tmp_path: Path) -> None:
    genome = genome_of("A" * 500, "A" * 500)
    bed = tmp_path / "cre.bed"
    bed.write_text("c1\t10\t20\tx\t0\t-\nc0\t5\t9\nc0\t7\t30\tx\t0\t+\nc1\t20\t25\n")
    assert load_elements(bed, genome).tolist() == [[5, 30], [510, 525]]
    bed.write_text("c1\t490\t501\n")
    with pytest.raises(InputError, match="line 1: end 501 lies beyond"):
        load_elements(bed, genome)
    assert TILE_BP == 200
