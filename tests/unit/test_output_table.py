"""Calls become a sorted table of the one schema."""

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from annotator.calls.batch import KINDS, Calls
from annotator.output.schema import SORT_KEY_IN_CONTIG, TABLE_SCHEMA, bed_files

_SPEC = importlib.util.spec_from_file_location("output_cases", Path(__file__).parents[1] / "support" / "output_cases.py")
assert _SPEC is not None
assert _SPEC.loader is not None
cases = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(cases)


def test_schema_is_the_agreed_one() -> None:
    assert TABLE_SCHEMA == {
        "chrom": pl.String,
        "start": pl.Int64,
        "end": pl.Int64,
        "kind": pl.String,
        "strand": pl.String,
        "probability": pl.Float32,
        "score": pl.UInt16,
        "position": pl.Int64,
        "name": pl.String,
        "motif_id": pl.String,
        "p_value": pl.Float64,
        "bits": pl.Float32,
        "model": pl.String,
    }


def test_rows_keep_their_values_and_are_sorted() -> None:
    calls, _ = cases.planted_calls()
    table = cases.table_of(calls)
    assert table.schema == TABLE_SCHEMA

    expected = []
    for i in range(len(calls)):
        motif = int(calls.motif[i])
        kind = KINDS[calls.kind[i]]
        expected.append(
            {
                "chrom": cases.NAMES[calls.contig[i]],
                "start": int(calls.start[i]),
                "end": int(calls.end[i]),
                "kind": kind,
                "strand": "+" if calls.strand[i] > 0 else "-",
                "probability": None if kind == "tfbs" else float(calls.probability[i]),
                "score": int(calls.score[i]),
                "position": int(calls.position[i]),
                "name": cases.MOTIFS[motif][1] if kind == "tfbs" else kind,
                "motif_id": cases.MOTIFS[motif][0] if kind == "tfbs" else None,
                "p_value": float(calls.p_value[i]) if kind == "tfbs" else None,
                "bits": float(calls.bits[i]) if kind == "tfbs" else None,
                "model": cases.MOTIF_MODEL if kind == "tfbs" else cases.MODEL,
            }
        )
    expected.sort(
        key=lambda row: (cases.NAMES.index(row["chrom"]), *("" if row[c] is None else row[c] for c in SORT_KEY_IN_CONTIG))
    )
    assert table.to_dicts() == expected


def test_ties_are_broken_by_every_column_of_the_key() -> None:
    rows = [(0, "tfbs", 100, -1), (0, "tfbs", 100, 1), (0, "tfbs", 100, 1), (0, "donor", 99, 1), (0, "acceptor", 102, 1)]
    calls = dataclasses.replace(
        cases.make_calls(rows),
        end=np.full(5, 110, np.int64),  # one span for all: only kind, strand, motif and position differ
        start=np.full(5, 100, np.int64),
        motif=np.array([1, 1, 2, -1, -1], np.int32),
    )
    table = cases.table_of(calls)
    assert table.select("kind", "strand", "motif_id").rows() == [
        ("acceptor", "+", None),
        ("donor", "+", None),
        ("tfbs", "+", "MA0001.1-b"),
        ("tfbs", "+", "MA0009.2"),
        ("tfbs", "-", "MA0009.2"),
    ]


def test_a_site_model_may_report_tfbs_without_motif() -> None:
    calls = dataclasses.replace(cases.make_calls([(0, "tfbs", 100, 1)]), motif=np.array([-1], np.int32))
    (row,) = cases.table_of(calls).to_dicts()
    assert (row["name"], row["motif_id"], row["model"]) == ("tfbs", None, cases.MODEL)


def test_no_calls_and_no_motifs() -> None:
    assert cases.table_of(Calls.empty(), [], []).schema == TABLE_SCHEMA
    assert cases.table_of(cases.make_calls([(3, "donor", 50, 1)]), motifs=[])["chrom"].to_list() == ["chr10"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("start", -1, "empty or negative span"),
        ("end", 51, "empty or negative span"),
        ("strand", 0, "no strand"),
        ("contig", 4, "unknown contig"),
        ("contig", -1, "unknown contig"),
        ("kind", 4, "unknown kind"),
        ("motif", 4, "unknown motif"),
        ("score", 1001, "score above 1000"),
        ("probability", np.nan, "not a number"),
        ("probability", np.inf, "infinite"),
        ("bits", np.inf, "infinite"),
    ],
)
def test_E04_impossible_calls_are_refused(field: str, value: float, message: str) -> None:
    calls = cases.make_calls([(0, "donor", 20, 1), (0, "donor", 50, 1)])
    column = getattr(calls, field).copy()
    column[1] = value
    with pytest.raises(ValueError, match=f"call 1 .*{message}"):
        cases.table_of(dataclasses.replace(calls, **{field: column}))


def test_files_of_the_wanted_kinds() -> None:
    assert [file.name for file in bed_files(["donor"])] == ["splice_sites.bed.gz"]
    assert [file.name for file in bed_files(KINDS)] == ["promoters.bed.gz", "splice_sites.bed.gz", "tfbs.bed.gz"]
    with pytest.raises(ValueError, match="unknown kinds"):
        bed_files(["enhancer"])
