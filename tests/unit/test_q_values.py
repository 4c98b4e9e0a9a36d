"""q-values of motif hits, and the positions they are counted over."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from annotator.calls.tested_positions import count_positions, positions_to_text, sum_positions
from annotator.errors import InputError
from annotator.genome.bases import StagedBases
from annotator.genome.plan import PlanOptions, Shard, Span, plan_shards
from annotator.genome.shard_input import ShardInput
from annotator.motifs.q_values import q_values
from annotator.scan.block import Block
from tests.support import output_cases as cases

PLAN = PlanOptions(window_bp=1024, halo_bp=288, pad_bp=64, smallest_bp=128, shard_bp=900)


def benjamini_hochberg(p: NDArray[np.float64], tests: int) -> NDArray[np.float64]:
    """The q-value of each hit, from the definition, all other tests having p = 1."""
    ratio = {x: x * tests / (tests if x == 1 else (p <= x).sum()) for x in {*p.tolist(), 1.0}}
    return np.array([min(ratio[x] for x in ratio if x >= value) for value in p])


@pytest.mark.parametrize("seed", range(5))
def test_they_are_those_of_benjamini_and_hochberg(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.sort(10 ** -rng.uniform(1, 6, 12))
    hits = rng.integers(1, 9, 12)
    tests = int(hits.sum()) + int(rng.integers(0, 300))
    found = q_values(values, hits, tests)
    np.testing.assert_allclose(np.repeat(found, hits), benjamini_hochberg(np.repeat(values, hits), tests), rtol=1e-12)
    assert (np.diff(found) >= 0).all() and found.max() <= 1


def test_they_are_those_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    p = np.random.default_rng(1).uniform(size=5000) ** 3
    every = np.concatenate([p, np.ones(20_000)])
    values, hits = np.unique(p, return_counts=True)
    expected = stats.false_discovery_control(every, method="bh")[: len(p)]
    np.testing.assert_allclose(q_values(values, hits, len(every))[np.searchsorted(values, p)], expected, rtol=1e-12)


def test_more_hits_than_tests_are_impossible() -> None:
    with pytest.raises(ValueError, match="7 hits of 6 tests"):
        q_values(np.array([0.01, 0.1]), np.array([3, 4]), 6)


def test_a_run_has_those_of_all_its_parts(tmp_path: Path) -> None:
    """Whatever the cut; contigs that are left out count nothing."""
    calls, _ = cases.planted_calls(n=900)
    for name, leave_out in (("all", ()), ("some", ("chr2",))):
        parts, _ = cases.write_parts(calls, [(0, 2000), (1, 1000), (3, 500)], tmp_path / name / "parts")
        cases.merge(parts, tmp_path / name, leave_out=leave_out, tests=cases.TESTS)
        table = pl.read_parquet(tmp_path / name / "predictions.parquet")
        assert table.filter(pl.col("p_value").is_null())["q_value"].is_null().all()
        hits = table.filter(pl.col("p_value").is_not_null())
        assert hits["motif_id"].n_unique() == len(cases.MOTIFS) and len(hits) > 50
        for (motif_id,), mine in hits.group_by("motif_id"):
            p = mine["p_value"].to_numpy()
            np.testing.assert_allclose(mine["q_value"].to_numpy(), benjamini_hochberg(p, cases.TESTS[motif_id]), rtol=1e-12)


def texts_of(
    genome: list[bytes], shards: list[Shard], widths: list[int], regions: dict[int, NDArray[np.int64]] | None = None
) -> list[str]:
    """What each shard counts, as its part holds it."""
    lengths = np.array([len(bases) for bases in genome], np.int64)
    flat = np.frombuffer(b"".join(genome), np.uint8)
    starts = np.zeros(len(genome), np.int64)
    staged = StagedBases(np.arange(len(genome)), starts, np.concatenate([[0], np.cumsum(lengths)]), flat)
    texts = []
    for shard in shards:
        work = ShardInput(shard.spans, [f"c{i}" for i in range(len(genome))], lengths, staged, regions)
        block = Block.read(work.spans, lengths, PLAN, staged.read)
        texts.append(positions_to_text(count_positions(widths, work, block)))
    return texts


def by_hand(genome: list[bytes], width: int, regions: dict[int, NDArray[np.int64]] | None = None) -> list[int]:
    """Positions of each contig whose window is without N."""
    counts = []
    for contig, bases in enumerate(genome):
        starts = (i for i in range(len(bases) - width + 1) if b"N" not in bases[i : i + width])
        inside = regions.get(contig, np.empty((0, 2))) if regions is not None else np.array([[0, len(bases)]])
        counts.append(sum(any(a <= i < b for a, b in inside) for i in starts))
    return counts


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("with_regions", [False, True])
def test_tested_positions_are_counted_once_wherever_shards_end(seed: int, with_regions: bool) -> None:
    rng = np.random.default_rng(seed)
    genome = []
    for length in (2600, 5, 0, 700, 1, 12, 30, 1500):
        bases = rng.choice(list(b"ACGT"), length).astype(np.uint8)
        for start in rng.integers(0, max(length, 1), length // 150):
            bases[start : start + rng.integers(1, 40)] = ord("N")
        genome.append(bases.tobytes())
    regions = {0: np.array([[3, 450], [451, 460], [900, 2600]]), 3: np.array([[0, 700]]), 7: np.array([[5, 6], [700, 1400]])}
    wanted = regions if with_regions else None
    lengths = np.array([len(bases) for bases in genome], np.int64)
    shards = list(plan_shards(lengths, PLAN, wanted))
    widths = [1, 6, 6, 20, 64]
    texts = texts_of(genome, shards, widths, wanted)
    assert len(shards) > 3
    total = sum_positions((("part", text) for text in texts), ())
    assert dict(total) == {width: sum(by_hand(genome, width, wanted)) for width in set(widths)}
    ends = {shard.spans[0].contig for shard in shards} | {shard.spans[-1].contig for shard in shards}
    for left_out in ends:  # only such contigs can fail while a shard that holds some of them does not
        rest = sum_positions((("part", text) for text in texts), {f"c{left_out}"})
        alone = {w: sum(n for c, n in enumerate(by_hand(genome, w, wanted)) if c != left_out) for w in set(widths)}
        assert {w: rest[w] for w in widths} == alone


def test_a_shard_of_nothing_but_n_tests_nothing() -> None:
    assert sum_positions([("p", text) for text in texts_of([b"N" * 500], [Shard(0, (Span(0, 0, 448),))], [7])], ()) == {7: 0}


@pytest.mark.parametrize("text", ["{", "[[1]]", json.dumps([[None, [["x", 1]]]])])
def test_damaged_counts_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^0001\.parquet: its counts of tested positions are damaged"):
        sum_positions([("0001.parquet", text)], ())
