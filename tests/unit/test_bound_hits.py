"""The windows around motif hits, and what hits and other calls look like afterwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from annotator.calls.batch import Calls
from annotator.calls.bound_hits import BoundHits, hit_windows, surprise
from annotator.calls.profiles import surroundings
from annotator.genome.options import GenomeOptions
from annotator.genome.plan import PlanOptions, plan_shards
from annotator.genome.shard_input import ShardInput, pick_shard, stage_bases
from annotator.genome.source import Genome, open_genome
from annotator.kinds import Kind
from annotator.models.bound.net import load_bound
from annotator.motifs.motif import MAX_WIDTH
from annotator.scan.block import Block
from tests.support.bound_models import SMALL, write_small_bound
from tests.support.runs import random_bases, revcomp, write_fasta

LENGTHS = {"a": 3000, "b": 9, "c": 700, "d": 40}


def window_of(text: str, start: int, end: int, strand: int, window_bp: int) -> str:
    """The window by its definition: around the middle, in reading direction, N beyond the contig."""
    if strand < 0:
        return window_of(revcomp(text), len(text) - end, len(text) - start, 1, window_bp)
    padded = "N" * window_bp + text + "N" * window_bp
    first = (start + end) // 2 - window_bp // 2 + window_bp
    return padded[first : first + window_bp]


def as_text(rows: np.ndarray) -> list[str]:
    return [bytes(row).decode() for row in rows]


@pytest.mark.parametrize("strand", [1, -1])
@pytest.mark.parametrize("width", [1, 2, 7, 8, 33])
def test_windows_follow_their_definition(strand: int, width: int) -> None:
    text = random_bases(150, 3)
    start = np.arange(0, 150 - width, 3)
    n = len(start)
    block = np.frombuffer(b"NNNNN" + text.encode() + b"ACGTACGT", np.uint8)  # the contig lies somewhere in its block
    rows = hit_windows(
        block, np.full(n, 5), start, start + width, np.full(n, strand, np.int8), np.full(n, 150), SMALL.window_bp
    )  # fmt: skip
    assert as_text(rows) == [window_of(text, int(at), int(at) + width, strand, SMALL.window_bp) for at in start]


@pytest.fixture
def genome(tmp_path: Path) -> Genome:
    records = {name: random_bases(length, seed) for seed, (name, length) in enumerate(LENGTHS.items())}
    return open_genome(write_fasta(tmp_path / "g.fa", records), tmp_path / "spool", GenomeOptions())


def hits_of(shard: ShardInput, rng: np.random.Generator) -> Calls:
    """Hits that start at the first and the last base of each span, and between, with one call that is no hit."""
    rows = []
    for span in shard.spans:
        for start in sorted({span.start, span.end - 1, *rng.integers(span.start, span.end, 4).tolist()}):
            width = min(int(rng.integers(1, MAX_WIDTH + 1)), int(shard.lengths[span.contig]) - start)
            rows.append((span.contig, start, start + width, int(rng.choice([1, -1])), int(rng.integers(0, 3))))
    contig, start, end, strand, motif = np.array(rows, np.int64).T
    n = len(rows)
    return Calls(
        contig, start, end, np.full(n, Kind.TFBS.code, np.uint8), strand.astype(np.int8), np.full(n, np.nan, np.float32),
        np.full(n, 400, np.uint16), start, motif.astype(np.int32), np.full(n, 1e-4), np.full(n, 9.0, np.float32),
    )  # fmt: skip


LABELS = (("MA1", "ctcf"), ("MA2", "Other"), ("MA3", "ZNF263"), (None, "CTCF"))


@pytest.mark.parametrize("halo_bp", [32, 512])
@pytest.mark.parametrize("staged", [False, True])
def test_hits_are_rated_the_same_at_every_border(genome: Genome, tmp_path: Path, halo_bp: int, staged: bool) -> None:
    """In shards of 100 bp, with halos shorter and longer than what a window needs, and with bases that were sent along."""
    write_small_bound(tmp_path / "model")
    scorer = load_bound(tmp_path / "model", torch.device("cpu"))
    bound = BoundHits(scorer, LABELS)
    plan = PlanOptions(window_bp=2 * halo_bp + 64, halo_bp=halo_bp, pad_bp=16, smallest_bp=32, shard_bp=100, align_bp=8)
    rng = np.random.default_rng(1)
    texts = {name: genome.read_bases(i, 0, length).tobytes().decode() for i, (name, length) in enumerate(LENGTHS.items())}
    seen = 0
    for planned in plan_shards(genome.contigs.lengths, plan):
        shard = pick_shard(planned, genome.contigs.names, genome.bases)
        if staged:
            shard = stage_bases(shard, plan)
        block = Block.read(shard.spans, shard.lengths, plan, shard.bases.read)
        calls = hits_of(shard, rng)
        rated, count = bound.rate(calls, shard, surroundings(shard, block, halo_bp))
        assert count == int((calls.motif != 1).sum())
        for row in range(len(calls)):
            if calls.motif[row] == 1:
                assert np.isnan(rated.probability[row]) and rated.score[row] == 400
                continue
            text = texts[shard.names[calls.contig[row]]]
            window = window_of(text, int(calls.start[row]), int(calls.end[row]), int(calls.strand[row]), SMALL.window_bp)
            factor = 0 if calls.motif[row] == 0 else 1
            alone = torch.tensor([list(window.encode())], dtype=torch.uint8)
            logit = scorer(alone, torch.tensor([4.0]), torch.tensor([factor])).numpy()
            expected = scorer.manifest.factors[("CTCF", "ZNF263")[factor]].probability(logit)[0]
            assert rated.probability[row] == np.float32(expected)
            assert rated.score[row] == round(1000 * float(np.float32(expected)))
            seen += 1
    assert seen > 60
    genome.close()


def test_calls_of_other_kinds_and_names_stay_as_they_are(genome: Genome, tmp_path: Path) -> None:
    write_small_bound(tmp_path / "model")
    bound = BoundHits(load_bound(tmp_path / "model", torch.device("cpu")), LABELS)
    plan = PlanOptions(window_bp=512, halo_bp=64, pad_bp=16, smallest_bp=32, shard_bp=100_000, align_bp=8)
    shard = pick_shard(next(iter(plan_shards(genome.contigs.lengths, plan))), genome.contigs.names, genome.bases)
    block = Block.read(shard.spans, shard.lengths, plan, shard.bases.read)
    calls = hits_of(shard, np.random.default_rng(2))
    for motif in (-1, 1, 3):  # a splice site, a hit of another factor, and a track that a user called CTCF
        calls.motif[:] = motif
        rated, count = bound.rate(calls, shard, surroundings(shard, block, 64))
        assert count == 0 and rated is calls
    genome.close()


def test_a_p_value_of_zero_has_a_finite_surprise() -> None:
    assert surprise(np.array([1e-4, 0.0])).tolist() == pytest.approx([4.0, 307.65], abs=0.01)
