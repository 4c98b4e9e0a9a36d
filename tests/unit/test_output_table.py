"""Calls become a sorted table of the one schema."""

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from annotator.calls.batch import Calls
from annotator.kinds import KINDS
from annotator.output.formats.bed import bed_files
from annotator.output.schema import SORT_KEY_IN_CONTIG, TABLE_SCHEMA

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
        "q_value": pl.Float64,
        "bits": pl.Float32,
        "model": pl.String,
    }


def test_rows_keep_their_values_and_are_sorted() -> None:
    calls, _ = cases.planted_calls()
    table = cases.table_of(calls)
    assert table.schema == TABLE_SCHEMA

    expected = []
    for i in range(len(calls)):
        kind = KINDS[calls.kind[i]]
        motif_id, label = cases.LABELS[calls.motif[i]] if kind in ("tfbs", "feature") else (None, kind)
        hit = motif_id is not None
        expected.append(
            {
                "chrom": cases.NAMES[calls.contig[i]],
                "start": int(calls.start[i]),
                "end": int(calls.end[i]),
                "kind": kind,
                "strand": "+" if calls.strand[i] > 0 else "-",
                "probability": None if hit else float(calls.probability[i]),
                "score": int(calls.score[i]),
                "position": int(calls.position[i]),
                "name": label,
                "motif_id": motif_id,
                "p_value": float(calls.p_value[i]) if hit else None,
                "q_value": None,
                "bits": float(calls.bits[i]) if hit else None,
                "model": cases.MOTIF_MODEL if hit else cases.MODEL,
            }
        )
    expected.sort(
        key=lambda row: (cases.NAMES.index(row["chrom"]), *("" if row[c] is None else row[c] for c in SORT_KEY_IN_CONTIG))
    )
    assert table.to_dicts() == expected
    sources = {(row["kind"], row["model"]) for row in expected}
    assert sources == {(kind, cases.MODEL) for kind in KINDS} | {("tfbs", cases.MOTIF_MODEL)}


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


@pytest.mark.parametrize("kind", ["tfbs", "feature"])
@pytest.mark.parametrize(("label", "name"), [(4, "CTCF"), (5, "polyA signal"), (6, "AGL3"), (-1, None)])
def test_a_call_of_the_models_own_track_has_no_matrix(kind: str, label: int, name: str | None) -> None:
    calls = dataclasses.replace(
        cases.make_calls([(0, kind, 100, 1)], neural=1.0),
        motif=np.array([label], np.int32),
        probability=np.array([0.625], np.float32),
    )
    (row,) = cases.table_of(calls).to_dicts()
    assert (row["kind"], row["name"], row["model"]) == (kind, name or kind, cases.MODEL)  # without label: named after its kind
    assert (row["probability"], row["motif_id"], row["p_value"], row["bits"]) == (0.625, None, None, None)


def test_of_one_span_the_models_calls_stand_before_motif_hits_in_the_order_given() -> None:
    labels = [("", "empty id"), ("MA1", "b"), (None, "z"), (None, "a")]
    calls = dataclasses.replace(
        cases.make_calls([(0, "tfbs", 100, 1)] * 4),
        motif=np.array([1, 0, 2, 3], np.int32),
        probability=np.full(4, 0.5, np.float32),
    )
    table = cases.table_of(calls, labels=labels)
    assert table.select("motif_id", "name").rows() == [(None, "z"), (None, "a"), ("", "empty id"), ("MA1", "b")]
    assert table.equals(table.sort(SORT_KEY_IN_CONTIG, nulls_last=False, maintain_order=True))


def test_no_calls_and_no_motifs() -> None:
    assert cases.table_of(Calls.empty(), [], []).schema == TABLE_SCHEMA
    assert cases.table_of(cases.make_calls([(3, "donor", 50, 1)]), labels=[])["chrom"].to_list() == ["chr10"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("start", -1, "empty or negative span"),
        ("end", 51, "empty or negative span"),
        ("strand", 0, "no strand"),
        ("contig", 4, "unknown contig"),
        ("contig", -1, "unknown contig"),
        ("kind", 5, "unknown kind"),
        ("motif", 7, "unknown motif"),
        ("motif", -2, "unknown motif"),
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


@pytest.mark.parametrize("label", [4, -1])
def test_E04_only_a_motif_hit_may_lack_a_probability(label: int) -> None:
    hit = cases.make_calls([(0, "tfbs", 50, 1)])
    assert cases.table_of(hit)["probability"].to_list() == [None]
    with pytest.raises(ValueError, match=r"call 0 .*probability that is not a number"):
        cases.table_of(dataclasses.replace(hit, motif=np.array([label], np.int32)))


def test_files_of_the_wanted_kinds() -> None:
    standard = ["promoters.bed.gz", "splice_sites.bed.gz", "tfbs.bed.gz"]
    assert [file.name for file in bed_files(["donor"])] == ["splice_sites.bed.gz"]
    assert [file.name for file in bed_files(["feature"])] == ["features.bed.gz"]
    assert [file.name for file in bed_files(set(KINDS) - {"feature"})] == standard
    assert [file.name for file in bed_files(KINDS)] == [*standard, "features.bed.gz"]
    with pytest.raises(ValueError, match="unknown kinds"):
        bed_files(["enhancer"])
