"""The bigWig writer against other programs' readers: long contigs, many blocks, exact summaries, the same bytes however cut."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from annotator.output.formats.base import OutputRun, Target
from annotator.output.formats.bbi import ZOOM_BP
from annotator.output.formats.bigwig import BigWigWriter
from tests.property.test_formats_roundtrip import reader

CONTIGS = {"chr1": 400_000, "é|x y".replace(" ", "_"): 1, "empty": 0, "long": 4_294_967_295, "silent": 77, "last": 9000}
TOO_LONG = 4_294_967_296
MASK = (1 << 32) - 1
"""pyBigWig gives positions from 2^31 on as negative numbers."""


def values(seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Contig, position and thousandths of many bases: more blocks on the first contig than a node of the index has."""
    rng = np.random.default_rng(seed)
    rows = []
    for number, length in enumerate(CONTIGS.values()):
        count = min(length, 300_000 if number == 0 else 2000) if length != 77 else 0
        position = np.unique(np.append(rng.integers(0, length, count), length - 1) if count else np.empty(0, np.int64))
        rows.append((np.full(len(position), number, np.int64), position.astype(np.int64), rng.integers(10, 1001, len(position))))
    contig, position, steps = (np.concatenate(column) for column in zip(*rows, strict=True))
    return contig, position, steps


def write(path: Path, cuts: list[int], contigs: dict[str, int] | None = None) -> int:
    contigs = contigs or CONTIGS
    run = OutputRun(("donor",), list(contigs), list(contigs.values()))
    with ThreadPoolExecutor(2) as pool, BigWigWriter(Target(path, path), run, pool, 1000) as writer:
        for contig, position, steps in zip(*(np.split(column, cuts) for column in values()), strict=True):
            writer.write(contig, position, steps)
    return writer.rows


def test_every_value_is_read_back(tmp_path: Path) -> None:
    contig, position, steps = values()
    assert write(tmp_path / "t.bw", [1, 5, 5, 2000, 200_001]) == len(contig)
    for name in ("pyBigWig", "pybigtools"):
        file = reader(name).open(str(tmp_path / "t.bw"))
        assert file.chroms() == {name: bp for name, bp in CONTIGS.items() if bp}
        for number, (chrom, length) in enumerate(CONTIGS.items()):
            mine = contig == number
            if not mine.any():
                continue
            found = list(file.intervals(chrom, 0, length) if name == "pyBigWig" else file.records(chrom))
            starts, ends, read = (np.array(column) for column in zip(*found, strict=True))
            starts, ends = starts & MASK, ends & MASK
            assert (starts == position[mine]).all() and (ends == starts + 1).all()
            assert (read.astype(np.float32) == (steps[mine] / 1000).astype(np.float32)).all()
        file.close()


def test_a_stretch_is_found_through_the_index(tmp_path: Path) -> None:
    contig, position, _ = values()
    write(tmp_path / "t.bw", [])
    file = reader("pyBigWig").open(str(tmp_path / "t.bw"))
    for chrom, start, end in (("chr1", 0, 1), ("chr1", 200_000, 200_040), ("chr1", 399_999, 400_000), ("long", 2**31, 2**32 - 1)):
        mine = (contig == list(CONTIGS).index(chrom)) & (position >= start) & (position < end)
        assert [first & MASK for first, _, _ in file.intervals(chrom, start, end) or []] == position[mine].tolist()


def test_summaries_are_those_of_the_values(tmp_path: Path) -> None:
    contig, position, steps = values()
    write(tmp_path / "t.bw", [7, 100_000])
    file = reader("pyBigWig").open(str(tmp_path / "t.bw"))
    first = contig == 0
    for bin_bp in ZOOM_BP[:3]:  # pyBigWig takes the level of the bins that it is asked for
        bins = 400_000 // bin_bp
        at, mine = position[first] // bin_bp, steps[first] / 1000
        for kind, expected in (
            ("max", [mine[at == b].max() for b in range(bins)]), ("min", [mine[at == b].min() for b in range(bins)]),
            ("mean", [mine[at == b].mean() for b in range(bins)]), ("coverage", [(at == b).sum() / bin_bp for b in range(bins)]),
        ):  # fmt: skip
            assert file.stats("chr1", 0, bins * bin_bp, type=kind, nBins=bins) == pytest.approx(expected, rel=1e-5)
    header = file.header()
    assert header["nLevels"] == len(ZOOM_BP) and header["nBasesCovered"] == len(steps)
    assert header["sumData"] == int(steps.sum() / 1000) and header["version"] == 4


def test_the_bytes_do_not_depend_on_how_values_arrive(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    write(tmp_path / "one.bw", [])
    for number in range(3):
        write(tmp_path / "cut.bw", sorted(rng.integers(0, 300_000, 20).tolist()))
        assert (tmp_path / "cut.bw").read_bytes() == (tmp_path / "one.bw").read_bytes(), number


def test_a_contig_that_is_too_long_is_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    contig, _, _ = values()
    with caplog.at_level(logging.WARNING):
        rows = write(tmp_path / "t.bw", [], {**CONTIGS, "long": TOO_LONG})
    assert rows == len(contig) - (contig == 3).sum()
    assert caplog.messages == ["t.bw: without contig long, whose 4,294,967,296 bp are more than the format can count (2^32)"]
    assert "long" not in reader("pyBigWig").open(str(tmp_path / "t.bw")).chroms()


def test_a_track_without_values_is_a_file(tmp_path: Path) -> None:
    run = OutputRun(("donor",), ["c"], [5000])
    path = tmp_path / "t.bw"
    with ThreadPoolExecutor(1) as pool, BigWigWriter(Target(path, path), run, pool, 1000) as writer:
        pass
    assert writer.rows == 0
    file = reader("pyBigWig").open(str(path))
    assert file.chroms() == {"c": 5000} and file.intervals("c") is None and np.isnan(file.values("c", 0, 9)).all()
    assert list(reader("pybigtools").open(str(path)).records("c")) == []
