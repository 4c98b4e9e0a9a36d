"""Every format of one run, read by a program that is not ours, gives the calls of the table; 0-based half-open."""

from __future__ import annotations

import csv
import gzip
import importlib
import tempfile
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl
import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotator.kinds import Kind
from tests.support.odd_runs import ODD_NAMES, Contig, Site, odd_table, write_every_format

CONTIGS = st.lists(
    st.tuples(st.sampled_from(ODD_NAMES), st.sampled_from([1, 2, 11, 300, 5000, 70_000])), min_size=1, max_size=4,
    unique_by=lambda contig: contig[0],
)  # fmt: skip
SITES = st.lists(
    st.tuples(
        st.integers(0, 3), st.sampled_from(list(Kind)), st.integers(0, 1 << 30), st.sampled_from([-1, 1]),
        st.sampled_from([1.0, 0.999999, 0.5, 0.010001, 0.0000005]),
    ),
    max_size=60,
)  # fmt: skip

BED_OF = {"promoter": "promoters", "donor": "splice_sites", "acceptor": "splice_sites", "tfbs": "tfbs", "feature": "features"}
SO_TERM = {
    "promoter": "promoter", "donor": "five_prime_cis_splice_site", "acceptor": "three_prime_cis_splice_site",
    "tfbs": "TF_binding_site", "feature": "sequence_feature",
}  # fmt: skip


def reader(name: str) -> Any:
    """A package that reads one of the formats; skips where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError:
        pytest.skip(f"{name} is not installed")


def rows(table: pl.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    return sorted(table.select(columns).iter_rows(), key=repr)


def cleaned(name: str) -> str:
    """A name as BED has it."""
    return "".join(letter if "!" <= letter <= "~" else "_" for letter in name)


def as_bed(table: pl.DataFrame) -> list[tuple[Any, ...]]:
    columns = table.select("chrom", "start", "end", "name", "score", "strand")
    return sorted(((*row[:3], cleaned(row[3]), *row[4:]) for row in columns.iter_rows()), key=repr)


def in_bed(folder: Path, ending: str) -> list[tuple[Any, ...]]:
    found = []
    for path in sorted(folder.glob(f"*{ending}")):
        if len(path.name.split(".")) != len(ending.split(".")):  # of another shape
            continue
        with pysam.TabixFile(str(path), index=f"{path}.csi", encoding="utf-8") as file:
            for line in file.fetch():
                chrom, start, end, name, score, strand, *_ = line.split("\t")
                found.append((chrom, int(start), int(end), name, int(score), strand))
    return sorted(found, key=repr)


def in_tsv(folder: Path) -> list[tuple[Any, ...]]:
    with gzip.open(folder / "calls.tsv.gz", "rt", encoding="utf-8", newline="") as file:
        return sorted(
            (
                (row["chrom"], int(row["start"]), int(row["end"]), row["kind"], row["strand"], int(row["position"]), row["name"],
                 float(row["probability"]) if row["probability"] else None, float(row["p_value"]) if row["p_value"] else None)
                for row in csv.DictReader(file, delimiter="\t")
            ),
            key=repr,
        )  # fmt: skip


def in_bedgraph(folder: Path) -> list[tuple[Any, ...]]:
    found = []
    for path in folder.glob("*.bedgraph.gz"):
        kind, strand, *_ = path.name.split(".")
        with pysam.TabixFile(str(path), index=f"{path}.csi", encoding="utf-8") as file:
            before = ("", 0)
            for line in file.fetch():
                chrom, start, end, value = line.split("\t")
                assert int(end) == int(start) + 1 and (chrom != before[0] or int(start) >= before[1])
                before = chrom, int(end)
                found.append((chrom, int(start), kind, "+" if strand == "plus" else "-", round(float(value), 6)))
    return sorted(found, key=repr)


def values_of(table: pl.DataFrame) -> list[tuple[Any, ...]]:
    best: dict[tuple[Any, ...], float] = {}
    for row in table.iter_rows(named=True):
        key = row["chrom"], row["position"], row["kind"], row["strand"]
        value = float(row["score"]) if row["kind"] == "tfbs" else round(row["probability"], 6)
        best[key] = max(best.get(key, 0.0), value)
    return sorted(((*key, value) for key, value in best.items()), key=repr)


def by_file(table: pl.DataFrame) -> list[tuple[Any, ...]]:
    found = []
    for row in table.iter_rows(named=True):
        thick = (row["position"], row["position"] + 1) if row["kind"] == "promoter" else (row["start"], row["end"])
        place = BED_OF[row["kind"]], row["chrom"], row["start"], row["end"]
        found.append((*place, cleaned(row["name"]), row["score"], *thick, row["strand"]))
    return sorted(found, key=repr)


def bigbed_row(stem: str, chrom: str, start: int, end: int, rest: str) -> tuple[Any, ...]:
    name, score, strand, thick_start, thick_end, *_ = rest.split("\t")
    return stem, chrom, start, end, name, int(score), int(thick_start), int(thick_end), strand


def by_pybigwig(folder: Path) -> list[tuple[Any, ...]]:
    pybigwig, found = reader("pyBigWig"), []
    for path in folder.glob("*.bb"):
        file = pybigwig.open(str(path))
        assert file.isBigBed()
        for chrom, length in file.chroms().items():
            found += [bigbed_row(path.stem, chrom, *entry) for entry in file.entries(chrom, 0, length) or []]
        file.close()
    return sorted(found, key=repr)


def by_pybigtools(folder: Path) -> list[tuple[Any, ...]]:
    pybigtools, found = reader("pybigtools"), []
    for path in folder.glob("*.bb"):
        file = pybigtools.open(str(path))
        for chrom in file.chroms():
            for start, end, *rest in file.records(chrom):
                found.append(bigbed_row(path.stem, chrom, start, end, "\t".join(map(str, rest))))
        file.close()
    return sorted(found, key=repr)


def by_gffutils(folder: Path) -> list[tuple[Any, ...]]:
    gffutils = reader("gffutils")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        database = gffutils.create_db(str(folder / "calls.gff3.gz"), ":memory:", merge_strategy="error")
        found = [
            (unquote(feature.seqid), feature.start - 1, feature.end, feature.featuretype, feature.strand,
             int(feature.attributes["position"][0]) - 1, feature.attributes["Name"][0], int(feature.score))
            for feature in database.all_features()
        ]  # fmt: skip
        database.conn.close()
    return sorted(found, key=repr)


def as_gff(table: pl.DataFrame) -> list[tuple[Any, ...]]:
    found = [
        (row["chrom"], row["start"], row["end"], SO_TERM[row["kind"]], row["strand"], row["position"], row["name"], row["score"])
        for row in table.iter_rows(named=True)
    ]
    return sorted(found, key=repr)


def written(contigs: list[Contig], sites: list[Site], folder: str) -> tuple[pl.DataFrame, Path]:
    table = odd_table(contigs, sites)
    write_every_format(contigs, table, Path(folder))
    return table, Path(folder)


@given(CONTIGS, SITES)
@settings(max_examples=10, deadline=None)
def test_text_formats_hold_the_calls(contigs: list[Contig], sites: list[Site]) -> None:
    with tempfile.TemporaryDirectory() as name:
        table, folder = written(contigs, sites, name)
        for ending in (".bed.gz", ".bed6.bed.gz", ".bed-extra.bed.gz"):
            assert in_bed(folder, ending) == as_bed(table)
        assert in_tsv(folder) == rows(
            table.with_columns(pl.col("probability").cast(pl.String).cast(pl.Float64)),
            *("chrom", "start", "end", "kind", "strand", "position", "name", "probability", "p_value"),
        )
        assert in_bedgraph(folder) == values_of(table)


@pytest.mark.parametrize("read", [by_pybigwig, by_pybigtools], ids=lambda read: read.__name__)
@given(CONTIGS, SITES)
@settings(max_examples=10, deadline=None)
def test_bigbed_holds_the_calls(read: Any, contigs: list[Contig], sites: list[Site]) -> None:
    with tempfile.TemporaryDirectory() as name:
        table, folder = written(contigs, sites, name)
        assert read(folder) == by_file(table)


@given(CONTIGS, SITES)
@settings(max_examples=10, deadline=None)
def test_gff3_holds_the_calls(contigs: list[Contig], sites: list[Site]) -> None:
    with tempfile.TemporaryDirectory() as name:
        table, folder = written(contigs, sites, name)
        if table.height:  # gffutils takes a file without features for a fault
            assert by_gffutils(folder) == as_gff(table)


@given(CONTIGS, SITES, st.integers(1, 61))
@settings(max_examples=8, deadline=None)
def test_how_rows_are_cut_into_tables_never_changes_a_byte(contigs: list[Contig], sites: list[Site], block_rows: int) -> None:
    table = odd_table(contigs, sites)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        write_every_format(contigs, table, Path(one), block_rows=10**6)
        write_every_format(contigs, table, Path(other), block_rows)
        for path in Path(one).iterdir():
            assert path.read_bytes() == (Path(other) / path.name).read_bytes(), path.name
