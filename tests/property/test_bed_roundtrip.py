"""BED holds what Parquet holds, however the genome was cut."""

import gzip
import importlib.util
import tempfile
from collections.abc import Mapping
from pathlib import Path

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from annotator.kinds import KINDS
from annotator.output.options import BedOptions

_SPEC = importlib.util.spec_from_file_location("output_cases", Path(__file__).parents[1] / "support" / "output_cases.py")
assert _SPEC is not None
assert _SPEC.loader is not None
cases = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(cases)

ROWS = st.lists(
    st.tuples(st.sampled_from([0, 1, 3]), st.sampled_from(KINDS), st.integers(3, 2400), st.sampled_from([-1, 1])),
    max_size=60,
    unique=True,
)
CUTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2500)), max_size=6).map(sorted)


def read_bed(path: Path) -> list[dict[str, str]]:
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    names = next(line for line in lines if line.startswith("#chrom"))[1:].split("\t")
    return [dict(zip(names, line.split("\t"), strict=True)) for line in lines if not line.startswith("#")]


def text(value: float | None, form: str) -> str:
    return "." if value is None else format(value, form)


@given(ROWS, CUTS, st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_C02_bed_and_parquet_hold_the_same_calls(
    rows: list[tuple[int, str, int, int]], cuts: list[tuple[int, int]], seed: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        parts, infos = cases.write_parts(cases.make_calls(rows, seed, neural=0.5), cuts, Path(folder) / "parts")
        cases.merge(parts, out, expected=infos, bed=BedOptions(bed_extra=True), block_rows=16, tests=cases.TESTS)
        predictions = pl.read_parquet(out / "predictions.parquet").to_dicts()
        assert len(predictions) == len(rows)
        found = []
        for name in ("promoters.bed.gz", "splice_sites.bed.gz", "tfbs.bed.gz", "features.bed.gz"):
            found += read_bed(out / name)

    def common(row: Mapping[str, object]) -> tuple[object, ...]:
        return tuple(str(row[name]) for name in ("chrom", "start", "end", "kind", "strand", "score", "model"))

    def extras(row: Mapping[str, object]) -> tuple[object, ...]:
        return tuple(row.get(name, ".") for name in ("position", "probability", "motif_id", "p_value", "q_value", "bits"))

    expected = []
    for row in predictions:
        values = {
            "position": str(row["position"]) if row["kind"] != "tfbs" else ".",
            "probability": text(row["probability"], ".6f"),
            "motif_id": row["motif_id"] or ".",
            "p_value": text(row["p_value"], ".3g"),
            "q_value": text(row["q_value"], ".3g"),
            "bits": text(row["bits"], ".4f"),
        }
        expected.append((common(row), extras(values), row["name"].replace(" ", "_")))
    assert sorted((common(row), extras(row), row["name"]) for row in found) == sorted(expected)


@given(ROWS, CUTS)
@settings(max_examples=15, deadline=None)
def test_C09_cuts_never_change_a_byte(rows: list[tuple[int, str, int, int]], cuts: list[tuple[int, int]]) -> None:
    calls = cases.make_calls(rows, neural=0.5)
    with tempfile.TemporaryDirectory() as folder:
        whole, cut = Path(folder) / "whole", Path(folder) / "cut"
        cases.merge(cases.write_parts(calls, [], Path(folder) / "p1")[0], whole, block_rows=16)
        cases.merge(cases.write_parts(calls, cuts, Path(folder) / "p2")[0], cut, block_rows=16)
        assert cases.contents(whole) == cases.contents(cut)
