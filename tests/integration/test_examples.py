"""The scripts in examples/, each run on the synthetic example, against what predictions.parquet holds."""

from __future__ import annotations

import runpy
from pathlib import Path

import polars as pl
import pytest

from annotator.cli.app import main as annotator_main
from tests.support.runs import bed_lines

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, argument: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What a script prints, line by line."""
    capsys.readouterr()
    runpy.run_path(str(EXAMPLES / name))["main"](str(argument))
    return capsys.readouterr().out.splitlines()


def counts(table: Path) -> dict[str, int]:
    return dict(pl.read_parquet(table).group_by("kind").len().iter_rows())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("example")


def test_annotate_and_query_then_predict_sequence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = run("annotate_and_query.py", folder, capsys)
    calls = pl.read_parquet(folder / "results/predictions.parquet")
    printed = dict(line.split() for line in lines if line.startswith("  ") and "\t" in line)
    assert {kind: int(count) for kind, count in printed.items()} == counts(folder / "results/predictions.parquet")
    first = calls.filter(kind="donor", chrom="synthetic_1").filter(pl.col("start") < 20_000)
    assert f"donors in synthetic_1:1-20000: {first.height}" in lines
    truth = {(f[0], int(f[1]), f[5]) for f in bed_lines(folder / "example.truth.bed.gz") if f[3] == "donor"}
    called = set(calls.filter(kind="donor").select("chrom", "position", "strand").iter_rows())
    assert lines[-1] == f"planted donors that were called: {len(called & truth)} of {len(truth)}" and called & truth

    lines = run("predict_sequence.py", folder / "example.fa.gz", capsys)
    assert lines[0] == "80000 bases; tracks: donor, acceptor, tss"
    for line in lines[1:]:  # the most probable base of a track is a call, with the same probability
        kind, strand, base, probability = line.split("\t")
        best = calls.filter(kind=kind, strand=strand, chrom="synthetic_1").sort("probability", descending=True)
        assert base == f"base {best['position'][0]} (from 0)"
        assert float(probability.split()[1]) == pytest.approx(best["probability"][0], abs=2e-3)
    assert len(lines) == 5


def test_batch_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fastas = []
    for name in ("first", "second"):
        assert annotator_main(["example", str(tmp_path / name), "--length", "100000", "--seed", str(len(name))]) == 0
        fastas.append(str((tmp_path / name / "example.fa.gz").rename(tmp_path / f"{name}.fa.gz")))
    assert annotator_main(["annotate", *fastas, "-o", str(tmp_path / "results"), "--tasks", "splice"]) == 0
    lines = run("batch_summary.py", tmp_path / "results", capsys)
    printed: dict[str, dict[str, int]] = {}
    for line in lines[1:-1]:
        sample, kind, count, rate = line.split("\t")
        printed.setdefault(sample, {})[kind] = int(count)
        assert float(rate) == pytest.approx(int(count) * 10, abs=0.1)  # 100 kb
    assert printed == {name: counts(tmp_path / f"results/{name}/predictions.parquet") for name in ("first", "second")}
    tables = {name: pl.read_parquet(tmp_path / f"results/{name}/predictions.parquet") for name in printed}
    best = max(tables, key=lambda name: tables[name]["probability"].max())
    assert f" of {best}, " in lines[-1]
