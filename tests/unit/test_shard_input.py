"""Shards cut loose from their genome: the same bases from file, from a pickle, and from a copy that travels."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from annotator.errors import InputError
from annotator.genome.options import GenomeOptions
from annotator.genome.plan import PlanOptions, plan_shards
from annotator.genome.shard_input import pick_shard, stage_bases
from annotator.genome.source import Genome, open_genome
from annotator.scan.block import Block

PLAN = PlanOptions(window_bp=256, halo_bp=64, pad_bp=16, smallest_bp=32, shard_bp=600, align_bp=8)
LENGTHS = {"a": 5000, "b": 7, "none": 0, "c": 333, "d": 70_000, "e": 1}


@pytest.fixture(params=["plain", "gzip", "bgzf"])
def genome(request: pytest.FixtureRequest, tmp_path: Path) -> Genome:
    import gzip

    import pysam

    rng = np.random.default_rng(3)
    path = tmp_path / "g.fa"
    with path.open("w") as file:
        for name, length in LENGTHS.items():
            text = "".join(rng.choice(list("ACGTn"), length))
            file.write(f">{name}\n" + "".join(text[i : i + 61] + "\n" for i in range(0, length, 61)))
    if request.param == "gzip":
        path.write_bytes(gzip.compress(path.read_bytes()))
    if request.param == "bgzf":
        pysam.tabix_compress(str(path), str(tmp_path / "g.fa.gz"))
        path = tmp_path / "g.fa.gz"
    return open_genome(path, tmp_path / "spool", GenomeOptions())


def test_the_block_of_a_shard_is_the_same_however_its_bases_come(genome: Genome) -> None:
    lengths = genome.contigs.lengths
    regions = {0: np.array([[10, 20], [4000, 4001]], np.int64), 4: np.array([[69_000, 70_000]], np.int64)}
    shards = [*plan_shards(lengths, PLAN), *plan_shards(lengths, PLAN, regions)]
    assert len(shards) > 100
    for shard in shards:
        expected = Block.read(shard.spans, lengths, PLAN, genome.read_bases).bases
        loose = pick_shard(shard, genome.contigs.names, genome.bases, regions)
        for one in (loose, pickle.loads(pickle.dumps(loose)), pickle.loads(pickle.dumps(stage_bases(loose, PLAN)))):
            assert np.array_equal(Block.read(one.spans, one.lengths, PLAN, one.bases.read).bases, expected)
        assert one.owned_bp == shard.bases
        assert [one.names[span.contig] for span in one.spans] == [genome.contigs.names[span.contig] for span in shard.spans]
        assert {one.names[i]: r.tolist() for i, r in (one.regions or {}).items()} == {
            genome.contigs.names[c]: r.tolist() for c, r in regions.items() if c in {span.contig for span in shard.spans}
        }
    genome.close()


def test_what_was_not_staged_is_an_error_and_nothing_else(genome: Genome) -> None:
    shard = list(plan_shards(genome.contigs.lengths, PLAN))[3]
    staged = stage_bases(pick_shard(shard, genome.contigs.names, genome.bases), PLAN).bases
    for contig, start, end in ((0, 0, 10), (5, 0, 1), (0, 4000, 4999)):
        with pytest.raises(ValueError, match="was not staged"):
            staged.read(contig, start, end)
    genome.close()


def test_the_table_of_a_bgzf_file_that_travels_is_short(tmp_path: Path) -> None:
    import pysam

    path = tmp_path / "g.fa"
    path.write_text("".join(f">c{i}\n{'ACGT' * 20_000}\n" for i in range(40)))
    pysam.tabix_compress(str(path), str(tmp_path / "g.fa.gz"))
    genome = open_genome(tmp_path / "g.fa.gz", tmp_path / "spool", GenomeOptions())
    shard = next(iter(plan_shards(genome.contigs.lengths, PLAN)))
    loose = pick_shard(shard, genome.contigs.names, genome.bases)
    assert len(pickle.dumps(loose)) < 2000 < len(pickle.dumps(genome.bases))
    (tmp_path / "g.fa.gz").write_bytes((tmp_path / "g.fa.gz").read_bytes() + b"more")
    with pytest.raises(InputError, match="changed"):
        loose.bases.read(0, 0, 1)
    genome.close()
