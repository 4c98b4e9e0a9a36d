"""benchmarks/side_by_side.py: ratios of one run as a table, and what ends it without a figure."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks import side_by_side


def run(**changes: Any) -> dict[str, Any]:
    line = {"rate": 2e6, "seconds": [12.0], "left_out": "", "memory_bytes": 400_000_000, "flops": 50_000}
    lines = {
        "compact, float32": line, "compact, int8": line | {"rate": 6e6},
        "compact, bfloat16": line | {"rate": None, "left_out": "no bfloat16"},
    }  # fmt: skip
    row = {
        "benchmark": "side_by_side", "bp": 12_000_000, "threads": 2, "rounds": 3, "commands": lines, "matrix_flops_per_s": 2e11,
        "peer": {"model": "model_10000nt_rs10.pt", "bp": 500_000, "seconds": [33.0], "rate": 20_000.0},
        "device": {"name": "a CPU"}, "commit": "abc", "date": "2026-01-02T03:04:05",
    }  # fmt: skip
    return row | changes


def test_ratios_are_within_the_run() -> None:
    lines = side_by_side.table(run()).splitlines()
    assert lines[0].startswith("12 Mb, 2 threads on a CPU, 3 rounds, fp32 matrix rate 200 GFLOP/s") and "2026-01-02." in lines[0]
    assert lines[4] == "| compact, float32 | 2,000 | 1.00 | 50% | **100** | 0.40 GB |"
    assert lines[5] == "| compact, int8 | 6,000 | 3.00 | 150% | **300** | 0.40 GB |"
    assert lines[6] == "| compact, bfloat16 | – | – | – | – | no bfloat16 |"
    assert lines[7] == "| `openspliceai predict`, model_10000nt_rs10, 0.5 Mb | 20.0 | 0.010 | – | 1 | – |"
    assert "| compact, float32 | 2,000 | 1.00 | 50% | – |" in side_by_side.table(run(peer=None))


def test_the_page_holds_the_newest_run(tmp_path: Path) -> None:
    page, rows = tmp_path / "page.md", tmp_path / "rows.jsonl"
    page.write_text("before\n<!-- side_by_side.py: begin -->\nold\n<!-- side_by_side.py: end -->\nafter\n")
    other = {"benchmark": "another"}
    rows.write_text("".join(json.dumps(row) + "\n" for row in (run(rounds=1), run(rounds=7), other)))
    side_by_side.write_page(rows, page)
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "7 rounds" in text and "old" not in text


def test_docs_hold_the_newest_run(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(side_by_side.PAGE.read_text())
    side_by_side.write_page(side_by_side.RESULTS, page)
    assert page.read_text() == side_by_side.PAGE.read_text(), "run `python benchmarks/side_by_side.py --page`"


def test_other_bytes_end_the_run_and_a_command_that_fails_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = {"compact, float32": side_by_side.Command([]), "two": side_by_side.Command([], same_as="compact, float32")}
    written = ["a", "b"]

    def write(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out/predictions.parquet").write_text(written.pop(0))
        (tmp_path / "out/run.json").write_text('{"peak_memory_bytes": {"host": 1}}')
        return subprocess.CompletedProcess([], 0, "", "")

    monkeypatch.setattr(subprocess, "run", write)
    side_by_side.take_turn("one", ours["compact, float32"], ours, tmp_path / "genome.fa", tmp_path / "out")
    with pytest.raises(SystemExit, match="two: other bytes than compact, float32"):
        side_by_side.take_turn("two", ours["two"], ours, tmp_path / "genome.fa", tmp_path / "out")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 5, "", "x\nerror: no int8 here\n"))
    side_by_side.take_turn("two", ours["two"], ours, tmp_path / "genome.fa", tmp_path / "out")
    assert ours["two"].why_not == "error: no int8 here" and not ours["two"].seconds
