"""GFF3 and bigBed in other programs, each of which is skipped where it is not installed; 0-based half-open."""

from __future__ import annotations

import gzip
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl
import pytest

from tests.property.test_formats_roundtrip import as_bed, as_gff, by_file, by_gffutils, by_pybigtools, by_pybigwig, in_bed, reader
from tests.support.odd_runs import ODD_NAMES, many_sites, odd_table, write_every_format

CONTIGS = [(name, length) for name, length in zip(ODD_NAMES, (200_000, 5000, 70_000, 1, 300, 17, 2, 1000, 40_000), strict=True)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[pl.DataFrame, Path]:
    """A table of many calls, and the folder of its formats."""
    folder = tmp_path_factory.mktemp("formats")
    table = odd_table(CONTIGS, many_sites(CONTIGS, 6000))
    rows = write_every_format(CONTIGS, table, folder, block_rows=1000)
    assert rows["calls.gff3.gz"] == rows["calls.tsv.gz"] == table.height > 4000
    assert sum(count for name, count in rows.items() if name.endswith(".bb")) == table.height
    return table, folder


def program(name: str) -> str:
    from tests.integration.test_bed_readers import program as found

    return found(name)


@pytest.mark.parametrize("check", [(), ("-typecheck", "so")], ids=["form", "terms"])
def test_gff3_is_valid(check: tuple[str, ...], written: tuple[pl.DataFrame, Path]) -> None:
    command = [program("gt"), "gff3validator", *check, str(written[1] / "calls.gff3.gz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "input is valid GFF3", "")


def test_gff3_is_read_by_gffutils(written: tuple[pl.DataFrame, Path]) -> None:
    assert by_gffutils(written[1]) == as_gff(written[0])


PYRANGES = """
import json, sys
import pyranges
table = pyranges.read_gff3(sys.argv[1]).df
columns = ["Chromosome", "Start", "End", "Feature", "Strand", "position", "Name", "Score"]
print(json.dumps(table[columns].astype(str).values.tolist()))
"""
BCBIO = """
import gzip, json, sys
from BCBio import GFF
rows = []
with gzip.open(sys.argv[1], "rt", encoding="utf-8") as file:
    for record in GFF.parse(file):
        for feature in record.features:
            of = feature.qualifiers
            strand = "+" if feature.location.strand > 0 else "-"
            rows.append([record.id, int(feature.location.start), int(feature.location.end), feature.type, strand,
                         of["position"][0], of["Name"][0], of["score"][0]])
print(json.dumps(rows))
"""


@pytest.mark.parametrize(("package", "script"), [("pyranges", PYRANGES), ("BCBio", BCBIO)])
def test_gff3_is_read_by_packages_that_change_warnings(package: str, script: str, written: tuple[pl.DataFrame, Path]) -> None:
    reader(package)
    command = [sys.executable, "-W", "ignore", "-c", script, str(written[1] / "calls.gff3.gz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    # Neither package says whether it decodes what is escaped.
    names = [str(row[6]) for row in as_gff(written[0])]
    found = [
        (unquote(contig), int(start), int(end), term, strand, int(position) - 1, name if name in names else unquote(name),
         int(float(score)))
        for contig, start, end, term, strand, position, name, score in json.loads(done.stdout)
    ]  # fmt: skip
    assert sorted(found, key=repr) == as_gff(written[0])


def test_gff3_names_its_contigs_and_every_id_once(written: tuple[pl.DataFrame, Path]) -> None:
    lines = gzip.decompress((written[1] / "calls.gff3.gz").read_bytes()).decode().splitlines()
    assert lines[0] == "##gff-version 3"
    regions = [line.split(" ") for line in lines if line.startswith("##sequence-region")]
    assert [(unquote(name), int(first), int(last)) for _, name, first, last in regions] == [(n, 1, bp) for n, bp in CONTIGS]
    ids = [line.split("ID=")[1].split(";")[0] for line in lines if not line.startswith("#")]
    assert len(set(ids)) == len(ids) == written[0].height


@pytest.mark.parametrize("read", [by_pybigwig, by_pybigtools], ids=lambda read: read.__name__)
def test_bigbed_is_read(read: Any, written: tuple[pl.DataFrame, Path]) -> None:
    assert read(written[1]) == by_file(written[0])


def test_bigbed_says_that_nine_columns_are_those_of_bed(written: tuple[pl.DataFrame, Path]) -> None:
    """Programs that take extra columns for the blocks of BED12 draw neither them nor the TSS."""
    for name, columns in (("promoters", 13), ("tfbs", 16)):
        data = (written[1] / f"{name}.bb").read_bytes()
        assert struct.unpack_from("<HH", data, 32) == (columns, 9)
        sql = reader("pyBigWig").open(str(written[1] / f"{name}.bb")).SQL().decode()
        assert sql.count(";") == columns and sql.startswith(f"table {name}\n")


def test_summaries_of_bigbed_are_the_depth_of_calls(written: tuple[pl.DataFrame, Path]) -> None:
    table, folder = written
    file = reader("pybigtools").open(str(folder / "promoters.bb"))
    depth: dict[tuple[str, int], int] = {}
    for chrom, start, end in table.filter(pl.col("kind") == "promoter").select("chrom", "start", "end").iter_rows():
        for base in range(start, end):
            depth[chrom, base] = depth.get((chrom, base), 0) + 1
    summary = file.info()["summary"]
    assert (summary["basesCovered"], summary["sum"]) == (len(depth), sum(depth.values()))
    assert (summary["min"], summary["max"]) == (min(depth.values()), max(depth.values()))


def test_regions_of_a_large_bigbed_are_found_through_its_index(tmp_path: Path) -> None:
    """More blocks than a node of the index has, and more contigs than a node of their tree."""
    contigs = [(f"c{number}", 1000) for number in range(700)] + [("long", 3_000_000)]
    sites = many_sites(contigs, 3000) + [(700, kind, *rest) for _, kind, *rest in many_sites(contigs, 160_000, seed=2)]
    table = odd_table(contigs, [site for site in sites if site[1] == "tfbs"])
    pybigwig = reader("pyBigWig")
    table = pl.concat([table] * 6).sort("chrom", "start", maintain_order=True)
    order = {name: number for number, (name, _) in enumerate(contigs)}
    table = table.sort(pl.col("chrom").replace_strict(order, return_dtype=pl.Int64), "start", "end", maintain_order=True)
    write_every_format(contigs, table, tmp_path, block_rows=50_000)
    file = pybigwig.open(str(tmp_path / "tfbs.bb"))
    assert table.height > 512 * 256
    for chrom, start, end in (
        ("c0", 0, 1000),
        ("c699", 0, 1000),
        ("long", 0, 30),
        ("long", 1_500_000, 1_501_000),
        ("long", 0, 3_000_000),
    ):
        overlapping = table.filter(pl.col("chrom") == chrom, pl.col("start") < end, pl.col("end") > start)
        assert len(file.entries(chrom, start, end) or []) == overlapping.height
    assert in_bed(tmp_path, ".bed6.bed.gz") == as_bed(table)
