"""Windows of real bases: where they come from, which strand, and which contigs are kept apart."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from annotator.errors import InputError, UsageError
from annotator.training.pretrain.corpus import Corpus, Tiles, draw_rows, read_corpus, tiled_rows

COMPLEMENT = bytes.maketrans(b"ACGTN", b"TGCAN")


def random_bases(count: int, seed: int) -> bytes:
    return np.frombuffer(b"ACGT", np.uint8)[np.random.default_rng(seed).integers(4, size=count)].tobytes()


def corpus_of(*contigs: bytes) -> Corpus:
    ends = np.cumsum([len(c) for c in contigs])
    return Corpus(tuple(f"c{i}" for i in range(len(contigs))), np.frombuffer(b"".join(contigs), np.uint8), ends, {"x.fa": ""})


def places(contigs: list[bytes], row: bytes) -> list[tuple[int, int, str]]:
    """(contig, start, strand) of every occurrence."""
    found = []
    for strand, text in (("+", row), ("-", row.translate(COMPLEMENT)[::-1])):
        for index, contig in enumerate(contigs):
            at = contig.find(text)
            if at >= 0:
                found.append((index, at, strand))
    return found


def test_held_out_contigs_are_kept_apart_and_everything_is_hashed(tmp_path: Path) -> None:
    (tmp_path / "a.fa").write_bytes(b">one first\nACGTN\nacg\n>two\nTTTT\n")
    (tmp_path / "b.fa.gz").write_bytes(gzip.compress(b">three\nGGRG\n"))
    corpus, apart = read_corpus([tmp_path / "a.fa", tmp_path / "b.fa.gz"], tmp_path / "spool", held_out=["two"])
    assert corpus.names == ("one", "three") and apart.names == ("two",)
    assert corpus.bases.tobytes() == b"ACGTNACGGGNG" and corpus.ends.tolist() == [8, 12]
    assert apart.bases.tobytes() == b"TTTT" and [c.tobytes() for c in corpus.contigs()] == [b"ACGTNACG", b"GGNG"]
    assert list(corpus.sha256) == [str(tmp_path / "a.fa"), str(tmp_path / "b.fa.gz")]
    with pytest.raises(UsageError, match="'four'.*a.fa"):
        read_corpus([tmp_path / "a.fa"], tmp_path / "spool", held_out=["two", "four"])


def test_random_windows_lie_within_a_contig_on_both_strands() -> None:
    contigs = [random_bases(400, 1), random_bases(30, 2), random_bases(200, 3)]
    rows = draw_rows(corpus_of(*contigs), 50, 2000, max_n_share=0.0, rng=np.random.default_rng(4))
    found = [places(contigs, row.tobytes()) for row in rows]
    assert all(len(f) == 1 for f in found)
    where = [f[0] for f in found]
    assert {contig for contig, _, _ in where} == {0, 2}  # the second is shorter than a window
    assert np.mean([strand == "+" for _, _, strand in where]) == pytest.approx(0.5, abs=0.05)
    share = np.mean([contig == 0 for contig, _, _ in where])
    assert share == pytest.approx(351 / (351 + 151), abs=0.04)
    starts = [start for contig, start, _ in where if contig == 0]
    assert min(starts) == 0 and max(starts) == 350
    assert len(set(starts)) > 300


def test_windows_rich_in_n_are_not_drawn() -> None:
    contig = random_bases(100, 1) + b"N" * 300 + random_bases(100, 2)
    rows = draw_rows(corpus_of(contig), 40, 500, max_n_share=0.25, rng=np.random.default_rng(0))
    unknown = (rows == ord("N")).sum(1)
    assert len(rows) == 500 and unknown.max() == 10 and (unknown == 0).any()
    with pytest.raises(InputError, match="x.fa: hardly a window of 150 bp"):
        draw_rows(corpus_of(contig), 150, 5, max_n_share=0.25, rng=np.random.default_rng(0))


def test_a_window_longer_than_every_contig_is_refused() -> None:
    corpus = corpus_of(random_bases(30, 1), random_bases(20, 2))
    for draw in (
        lambda: draw_rows(corpus, 31, 1, max_n_share=0.0, rng=np.random.default_rng(0)),
        lambda: tiled_rows(corpus, 31, 1),
        lambda: Tiles(corpus, 31, max_n_share=0.0, seed=0),
    ):
        with pytest.raises(InputError, match="x.fa: no contig has 31 bp"):
            draw()


def test_every_epoch_of_tiles_shows_each_base_about_once() -> None:
    contigs = [random_bases(1030, 1), random_bases(75, 2), random_bases(20, 3)]
    tiles = Tiles(corpus_of(*contigs), 50, max_n_share=0.0, seed=9)
    per_epoch = 20  # 19 windows of the first contig fit at any phase, and one of the second
    orders = []
    for epoch in range(3):
        rows = np.concatenate([tiles.rows(step, 4) for step in range(epoch * per_epoch // 4, (epoch + 1) * per_epoch // 4)])
        where = [places(contigs, row.tobytes())[0] for row in rows]
        orders.append([(contig, start) for contig, start, _ in where])
        assert {strand for _, _, strand in where} == {"+", "-"}
        covered = np.zeros(1030, int)
        for contig, start in orders[-1]:
            if contig == 0:
                covered[start : start + 50] += 1
        assert covered.max() == 1 and covered.sum() == 950
        assert sum(contig == 1 for contig, _ in orders[-1]) == 1
    assert all(order != sorted(order) for order in orders)
    assert len({tuple(order) for order in orders}) == 3 and len({min(order) for order in orders}) > 1


def test_a_step_of_tiles_depends_on_seed_and_step_alone() -> None:
    corpus = corpus_of(random_bases(500, 1) + b"N" * 200)
    forward = Tiles(corpus, 60, max_n_share=0.1, seed=3)
    rows = [forward.rows(step, 4) for step in range(8)]
    again = Tiles(corpus, 60, max_n_share=0.1, seed=3)
    for step in (5, 2, 7, 0):
        assert np.array_equal(again.rows(step, 4), rows[step])
    assert not np.array_equal(Tiles(corpus, 60, max_n_share=0.1, seed=4).rows(0, 4), rows[0])
    assert max(float((r == ord("N")).mean(1).max()) for r in rows) <= 0.1


def test_validation_windows_hold_no_n_and_are_spread() -> None:
    contigs = [random_bases(500, 1) + b"N" + random_bases(499, 2), random_bases(300, 3)]
    rows = tiled_rows(corpus_of(*contigs), 100, 1000)
    assert [places(contigs, row.tobytes())[0][:2] for row in rows] == [
        (0, s) for s in (0, 100, 200, 300, 400, 600, 700, 800, 900)
    ] + [(1, 0), (1, 100), (1, 200)]
    few = tiled_rows(corpus_of(*contigs), 100, 3)
    assert [places(contigs, row.tobytes())[0][:2] for row in few] == [(0, 0), (0, 600), (1, 200)]
    with pytest.raises(InputError, match="free of N"):
        tiled_rows(corpus_of(b"ACGTN" * 10), 10, 5)
