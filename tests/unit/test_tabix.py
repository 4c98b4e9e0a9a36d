"""The indices made while a BED file is written: byte for byte those that htslib's tabix makes of the finished file."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pysam
import pytest

from annotator.kinds import Kind
from annotator.output.formats.base import OutputRun, Target
from annotator.output.formats.bed import BedFormat
from annotator.output.formats.bgzf import BLOCK_BYTES
from annotator.output.formats.lines import TBI_LIMIT_BP
from annotator.output.options import BedOptions
from annotator.output.schema import TABLE_SCHEMA

Row = tuple[str, int, int]

NAME = "features.bed.gz"


def features(rows: list[Row], seed: int = 0, longest_name: int = 20) -> pl.DataFrame:
    """A table of features; their names have random lengths, so that lines end anywhere in a BGZF block."""
    rng = random.Random(seed)
    columns: dict[str, object] = {name: None for name in TABLE_SCHEMA}
    chrom, start, end = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [])
    columns |= {"chrom": chrom, "start": start, "end": end, "position": start}
    columns["name"] = ["".join(rng.choices("abcdefgh", k=rng.randint(1, longest_name))) for _ in rows]
    fixed = {"kind": Kind.FEATURE.value, "strand": "+", "probability": 0.5, "score": 500, "model": "m"}
    frame = pl.DataFrame({name: columns[name] for name in columns if columns[name] is not None})
    return frame.with_columns(**{name: pl.lit(value) for name, value in fixed.items()}).select(
        (pl.col(name) if name in frame.columns or name in fixed else pl.lit(None).alias(name)).cast(dtype)
        for name, dtype in TABLE_SCHEMA.items()
    )


def write(rows: list[Row], folder: Path, *, block_rows: int, header: bool = True, seed: int = 0, longest_name: int = 20) -> Path:
    """A file of features with its indices, written in blocks of so many rows."""
    longest = max((end for _, _, end in rows), default=1)
    contigs = list(dict.fromkeys(chrom for chrom, _, _ in rows)) or ["c"]
    run = OutputRun([Kind.FEATURE], contigs, [longest] * len(contigs))
    form = BedFormat(BedOptions(header=header))
    table = features(rows, seed, longest_name)
    with ThreadPoolExecutor(2) as pool:
        with form.open(NAME, Target(folder / NAME, folder / NAME), run, pool) as writer:
            for start in range(0, len(rows), block_rows):
                writer.write(table.slice(start, block_rows))
        for name in form.names(run)[NAME]:
            writer.index(Target(folder / name, folder / name))
    return folder / NAME


def assert_like_htslib(path: Path) -> None:
    """Every index beside a file is what tabix makes."""
    for index in (path.with_name(path.name + ".csi"), path.with_name(path.name + ".tbi")):
        if not index.exists():
            continue
        theirs = path.with_name("theirs")
        pysam.tabix_index(
            str(path), preset="bed", csi=index.suffix == ".csi", index=str(theirs), force=True, keep_original=True
        )  # fmt: skip
        assert index.read_bytes() == theirs.read_bytes(), index.name


def rows_of(seed: int, contigs: list[str], count: Callable[[random.Random], int], step: int, widths: list[int]) -> list[Row]:
    rng = random.Random(seed)
    rows = []
    for contig in contigs:
        at = 0
        for _ in range(count(rng)):
            at += rng.randrange(step)
            rows.append((contig, at, at + rng.choice(widths)))
    return rows


@pytest.mark.parametrize("block_rows", [1000, 10**6])
@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([], id="no calls"),
        pytest.param([("c", 0, 1)], id="one call"),
        pytest.param(rows_of(1, ["chr1", "chr2"], lambda rng: 6000, 3000, [2, 300]), id="sites"),
        pytest.param(rows_of(2, ["chr1", "chr2"], lambda rng: 6000, 20, [15, 20]), id="dense"),
        pytest.param(rows_of(3, list("abcd"), lambda rng: rng.randrange(1, 4000), 500, [1, 100, 10**5, 10**6]), id="wide"),
        pytest.param(rows_of(4, [f"contig{i}" for i in range(700)], lambda rng: rng.randrange(1, 9), 50, [2, 300]), id="many"),
        pytest.param(rows_of(5, ["chr1"], lambda rng: 3000, 170_000, [2, 1 << 14, 1 << 20]), id="nearly 2^29"),
        pytest.param(rows_of(6, ["chr1"], lambda rng: 5000, 1 << 24, [2, 1 << 14, 1 << 27]), id="beyond 2^32"),
    ],
)
def test_the_indices_are_those_of_htslib(rows: list[Row], block_rows: int, tmp_path: Path) -> None:
    for number, header in enumerate((True, False)):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = write(rows, folder, block_rows=block_rows, header=header)
        longest = max((end for _, _, end in rows), default=1)
        assert path.with_name(f"{NAME}.tbi").exists() == (longest < TBI_LIMIT_BP)
        assert_like_htslib(path)


@pytest.mark.parametrize("seed", range(12))
def test_random_files(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    widths = [rng.randrange(1, 1 << rng.randrange(1, 22)) for _ in range(5)]
    contigs = [f"c{i}" for i in range(rng.randrange(1, 30))]
    rows = rows_of(seed, contigs, lambda _: rng.randrange(1, 1 << rng.randrange(1, 12)), 1 << rng.randrange(1, 18), widths)
    assert_like_htslib(write(rows, tmp_path, block_rows=rng.randrange(1, 5000), seed=seed, longest_name=rng.choice([1, 8, 200])))


@pytest.mark.parametrize("blocks", [1, 2])
def test_a_file_that_ends_with_a_block(blocks: int, tmp_path: Path) -> None:
    """Lines of 51 bytes, of which 1280 fill a block."""
    line = "c\t10000\t10002\t{}\t500\t+\t10000\t10002\t0,0,0\n"
    name = "n" * (51 - len(line.format("")))
    count = blocks * BLOCK_BYTES // 51
    rows = [("c", 10_000 + i, 10_002 + i) for i in range(count)]
    table = features(rows).with_columns(name=pl.lit(name))
    run = OutputRun([Kind.FEATURE], ["c"], [count + 10_002])
    with ThreadPoolExecutor(1) as pool:
        target = Target(tmp_path / NAME, tmp_path / NAME)
        with BedFormat(BedOptions(header=False)).open(NAME, target, run, pool) as writer:
            writer.write(table)
        for suffix in (".csi", ".tbi"):
            writer.index(Target(tmp_path / (NAME + suffix), tmp_path / (NAME + suffix)))
    with pysam.BGZFile(str(tmp_path / NAME), "rb", None) as file:
        assert len(file.read()) == blocks * BLOCK_BYTES
    assert_like_htslib(tmp_path / NAME)


def test_A22_csi_finds_rows_beyond_two_to_the_32(tmp_path: Path) -> None:
    starts = [5, 2**29, 2**31 + 7, 2**32 + 11, 17 * 10**9]
    path = write([("chr1", start, start + 2) for start in starts], tmp_path, block_rows=2)
    with pysam.TabixFile(str(path), index=f"{path}.csi") as rows:
        for start in starts:
            assert [int(line.split("\t")[1]) for line in rows.fetch("chr1", start, start + 1)] == [start]


def test_numbers_of_calls_are_told(tmp_path: Path) -> None:
    rows = rows_of(9, ["a", "b"], lambda rng: 100, 100, [5])
    path = write(rows, tmp_path, block_rows=30)
    with pysam.TabixFile(str(path), index=f"{path}.tbi") as file:
        assert file.contigs == ["a", "b"]
        assert np.array_equal([int(line.split("\t")[1]) for line in file.fetch()], [start for _, start, _ in rows])
