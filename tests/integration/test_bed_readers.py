"""The BED files in other programs: each reads every line, with the nine columns that were written.

A program that is not installed is skipped. Coordinates are 0-based half-open.
"""

import gzip
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pysam
import pytest

from annotator.output.options import BedOptions
from tests.support.igv_desktop import drawn, igv, program

_SPEC = importlib.util.spec_from_file_location("output_cases", Path(__file__).parents[1] / "support" / "output_cases.py")
assert _SPEC is not None
assert _SPEC.loader is not None
cases = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(cases)

Row = tuple[str, int, int, str, int, str, int, int, str]
"""The columns of a BED9 line."""

KINDS_OF_FILE = {
    "promoters.bed.gz": ("promoter",),
    "splice_sites.bed.gz": ("donor", "acceptor"),
    "tfbs.bed.gz": ("tfbs",),
    "features.bed.gz": ("feature",),
}
COLOURS = {
    "promoter": "0,114,178",
    "donor": "230,159,0",
    "acceptor": "204,121,167",
    "tfbs": "86,180,233",
    "feature": "0,0,0",
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of final files with many calls of every kind."""
    folder = tmp_path_factory.mktemp("readers")
    calls, genome = cases.planted_calls()
    parts, _ = cases.write_parts(calls, [(0, 3000)], folder / "parts")
    cases.merge(parts, folder / "out")
    cases.merge(parts, folder / "extra", bed=BedOptions(bed_extra=True))
    fasta = folder / "genome.fa"
    fasta.write_text("".join(f">{name}\n{sequence.decode()}\n" for name, sequence in genome.items()))
    pysam.faidx(str(fasta))
    return folder


def written(results: Path, name: str) -> list[Row]:
    """What the file `name` has to hold, from predictions.parquet."""
    table = pl.read_parquet(results / "out" / "predictions.parquet").filter(pl.col("kind").is_in(KINDS_OF_FILE[name]))
    return [
        (
            *(row["chrom"], row["start"], row["end"], row["name"].replace(" ", "_"), row["score"], row["strand"]),
            *((row["position"], row["position"] + 1) if row["kind"] == "promoter" else (row["start"], row["end"])),
            COLOURS[row["kind"]],
        )
        for row in table.iter_rows(named=True)
    ]


def to_row(fields: list[str]) -> Row:
    chrom, start, end, name, score, strand, thick_start, thick_end, rgb = fields
    return chrom, int(start), int(end), name, int(score), strand, int(thick_start), int(thick_end), rgb


def output_of(*command: object, cwd: Path | None = None) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=120, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def by_python(module: str, script: str, path: Path) -> list[Row]:
    """The rows that a script prints as JSON; it runs by itself, since such packages change logging and warnings on import."""
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    return [to_row(fields) for fields in json.loads(output_of(sys.executable, "-c", script, path))]


def read_by_pysam(path: Path, _: Path) -> list[Row]:
    with pysam.TabixFile(str(path), index=f"{path}.csi", parser=pysam.asBed()) as rows:
        return [
            (r.contig, r.start, r.end, r.name, int(r.score), r.strand, int(r.thickStart), int(r.thickEnd), r.itemRGB)
            for r in rows.fetch()
        ]


def read_by_bedtools(path: Path, _: Path) -> list[Row]:
    lines = output_of(program("bedtools"), "intersect", "-u", "-a", path, "-b", path).splitlines()
    return [to_row(line.split("\t")) for line in lines]


PYRANGES = """
import json, sys
import pyranges
table = pyranges.read_bed(sys.argv[1]).df
columns = ["Chromosome", "Start", "End", "Name", "Score", "Strand", "ThickStart", "ThickEnd", "ItemRGB"]
assert list(table.columns) == columns, table.columns
print(json.dumps(table.astype(str).values.tolist()))
"""


def read_by_pyranges(path: Path, _: Path) -> list[Row]:
    return by_python("pyranges", PYRANGES, path)


PYGENOMETRACKS = """
import json, sys
from pygenometracks.readBed import ReadBed
from pygenometracks.utilities import opener
bed = ReadBed(opener(sys.argv[1]))
assert bed.file_type == "bed9", bed.file_type
print(json.dumps([[*map(str, row[:4]), str(int(row.score)), row.strand, str(row.thick_start), str(row.thick_end),
                   ",".join(map(str, row.rgb))] for row in bed]))
"""


def read_by_pygenometracks(path: Path, _: Path) -> list[Row]:
    return by_python("pygenometracks", PYGENOMETRACKS, path)


def read_by_crossmap(path: Path, folder: Path) -> list[Row]:
    """The lines, lifted to the assembly that they are on."""
    chains = [f"chain 1 {n} {bp} + 0 {bp} {n} {bp} + 0 {bp} {i}\n{bp}\n\n" for i, (n, bp) in enumerate(cases.CONTIGS.items())]
    (folder / "same.chain").write_text("".join(chains))
    output_of(program("CrossMap"), "bed", folder / "same.chain", path, folder / "lifted.bed")
    return [to_row(line.split("\t")) for line in (folder / "lifted.bed").read_text().splitlines()]


def read_by_genometools(path: Path, _: Path) -> list[Row]:
    """Feature and thick part of each line, as GFF3 names them, without colours; it writes the score 1000 as 1e+03."""
    found: list[Row] = []
    for line in output_of(program("gt"), "bed_to_gff3", path).splitlines():
        if line.startswith("#"):
            continue
        chrom, _, what, start, end, score, strand, _, attributes = line.split("\t")
        name = dict(pair.split("=") for pair in attributes.split(";"))["Name"]
        if what == "BED_feature":
            feature = chrom, int(start) - 1, int(end), name, int(float(score)), strand
        else:
            assert what == "BED_thick_feature"
            found.append((*feature, int(start) - 1, int(end), ""))
    return found


READERS: list[Callable[[Path, Path], list[Row]]] = [
    read_by_pysam,
    read_by_bedtools,
    read_by_pyranges,
    read_by_pygenometracks,
    read_by_crossmap,
    read_by_genometools,
]


@pytest.mark.parametrize("name", KINDS_OF_FILE)
@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__.removeprefix("read_by_"))
def test_every_line_is_read_with_its_nine_columns(
    results: Path, tmp_path: Path, read: Callable[[Path, Path], list[Row]], name: str
) -> None:
    expected = written(results, name)
    if read is read_by_genometools:
        expected = [(*row[:8], "") for row in expected]
    assert len(expected) > 100
    assert sorted(read(results / "out" / name, tmp_path)) == sorted(expected)


def test_extra_columns_are_what_other_programs_trip_over(results: Path, tmp_path: Path) -> None:
    """The reason for BED9; where this fails, the help of --bed-extra and the format can be thought over again."""
    path = results / "extra" / "splice_sites.bed.gz"
    assert gzip.decompress(path.read_bytes()).count(b"\n") > 100
    assert read_by_crossmap(path, tmp_path) == []


@pytest.mark.slow
def test_igv_desktop_draws_a_promoter_with_its_tss(results: Path, tmp_path: Path) -> None:
    sites = [(1000, 1), (1300, -1)]  # promoters on 751-1051 and 1250-1550
    parts, _ = cases.write_parts(cases.make_calls([(0, "promoter", at, strand) for at, strand in sites]), [], tmp_path / "parts")
    cases.merge(parts, tmp_path / "out")
    path, picture = tmp_path / "out" / "promoters.bed.gz", tmp_path / "promoters.png"
    log = igv(
        tmp_path, results / "genome.fa", f"snapshotDirectory {tmp_path}", f"load {path}", "goto chr2:700-1600", "expand",
        f"snapshot {picture.name}",
    )  # fmt: skip
    assert f"Loading resource:  {path}" in log and "Error loading track" not in log, log
    heights = drawn(picture, COLOURS["promoter"])
    thin, thick = min(heights.values()), max(heights.values())
    assert thin < thick
    first, last = min(heights), max(heights)
    bp_per_pixel = (1550 - 751) / (last - first + 1)
    ticks = [751 + (column - first) * bp_per_pixel for column, height in heights.items() if height == thick]
    assert len(ticks) == 2 and np.abs(np.array(ticks) - [at for at, _ in sites]).max() <= 2 * bp_per_pixel, ticks
    assert 2 * 300 / bp_per_pixel * 0.95 < len(heights) < 2 * 300 / bp_per_pixel * 1.05  # 300 bp each, nothing between


@pytest.mark.slow
def test_igv_desktop_loads_every_file(results: Path, tmp_path: Path) -> None:
    paths = [results / "out" / name for name in KINDS_OF_FILE]
    picture = tmp_path / "all.png"
    log = igv(
        tmp_path, results / "genome.fa", f"snapshotDirectory {tmp_path}", *(f"load {path}" for path in paths),
        "goto chr2:1000-1200", "expand", f"snapshot {picture.name}",
    )  # fmt: skip
    assert all(f"Loading resource:  {path}" in log for path in paths) and "Error loading track" not in log, log
    for name in KINDS_OF_FILE:
        near = [row for row in written(results, name) if row[0] == "chr2" and row[1] < 1200 and row[2] > 1000]
        assert near and all(drawn(picture, row[8]) for row in near), name


@pytest.mark.slow
def test_igv_desktop_refuses_extra_columns(results: Path, tmp_path: Path) -> None:
    """What the help of --bed-extra says."""
    log = igv(tmp_path, results / "genome.fa", f"load {results / 'extra' / 'promoters.bed.gz'}")
    assert "Error loading track" in log
