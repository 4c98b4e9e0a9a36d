"""The estimate for hg38: how stages scale, what goes on at the same time, and the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import hg38_estimate
from benchmarks.hg38_estimate import HG38_BP, Stage, estimate, markdown, with_table


def row(cores: int, *, apart: bool, scan_s: float, check_s: float, merge_s: float, **more: Any) -> dict[str, Any]:
    """A row of a tenth of hg38, measured twice; starting took 2 s."""
    whole_s = 2 + scan_s + check_s + merge_s
    return {
        "benchmark": "host_path", "checkout": "this", "at_once": 4, "apart": apart, "cores": cores, "bp": HG38_BP // 10,
        "whole_s": [whole_s + 1, whole_s], "scan_s": [scan_s, scan_s + 1], "check_s": [check_s + 1, check_s],
        "cpu_s": [scan_s + merge_s + check_s] * 2, "check_cpu_s": [check_s, check_s], "stage_s": {"merge": merge_s}, "calls": 1,
    } | more  # fmt: skip


ROWS = [
    row(1, apart=True, scan_s=4.0, check_s=2.0, merge_s=3.0),
    row(2, apart=True, scan_s=2.0, check_s=1.5, merge_s=3.0),
    row(2, apart=False, scan_s=2.0, check_s=1.5, merge_s=0.25),
]


@pytest.mark.parametrize(
    ("two_s", "cores", "threads", "expected"),
    [
        (4.0, 16, 16, 0.5), (4.0, 16, 4, 2.0), (4.0, 2, 16, 4.0), (4.0, 1, 16, 8.0), (8.0, 16, 16, 8.0), (6.0, 2, 16, 6.0),
        (6.0, 4, 16, 5.0), (9.0, 16, 16, 8.0), (1.0, 16, 16, 0.5),
    ],
)  # fmt: skip
def test_never_faster_than_linear_and_what_does_not_scale_stays(two_s: float, cores: int, threads: int, expected: float) -> None:
    assert Stage("x", 8.0, two_s, threads).seconds(cores) == pytest.approx(expected)


def test_what_is_done_at_the_same_time_counts_once() -> None:
    found = estimate(ROWS, 16, gpu_s=9.0, ready_s=12.0)
    assert found is not None
    by_name = {part.name: part.seconds for phase in found.phases for part in phase}
    assert by_name["shards on the host"] == pytest.approx(10.0)  # 40 s, four at once
    assert by_name["FASTA check"] == pytest.approx(20 * (0.5 + 0.5 / 4))
    assert by_name["merge"] == pytest.approx(30.0) and by_name["what is left of the merge"] == pytest.approx(2.5)
    assert by_name["CPU seconds of both, shared by all cores"] == pytest.approx(70 / 16)
    assert [round(max(part.seconds for part in phase), 6) for phase in found.phases] == [2.0, 12.5, 30.0, 2.5]
    assert found.seconds == pytest.approx(47.0)


def test_a_slow_gpu_is_what_the_scan_takes_and_one_core_has_to_do_everything() -> None:
    slow, one = estimate(ROWS, 16, gpu_s=100.0, ready_s=0.0), estimate(ROWS, 1, gpu_s=0.0, ready_s=0.0)
    assert slow is not None and one is not None
    assert slow.seconds == pytest.approx(2 + 12.5 + 100 + 2.5)
    assert one.seconds == pytest.approx(2 + 20 + 70 + 2.5)


def test_a_measured_gpu_takes_the_place_of_arithmetic() -> None:
    engine = {"benchmark": "end_to_end_engine", "device": {"device": "cuda"}, "bp": HG38_BP // 100, "p50_s": 0.5}
    found = estimate([*ROWS, engine, engine | {"device": {"device": "cpu"}}], 16)
    assert found is not None
    assert {part.name: part.seconds for part in found.phases[2]}["GPU"] == pytest.approx(50.0)


def test_the_latest_rows_of_this_checkout_count() -> None:
    later = [row(1, apart=True, scan_s=40.0, check_s=2.0, merge_s=3.0), row(2, apart=True, scan_s=40.0, check_s=2, merge_s=3)]
    others = [each | change for each in later for change in ({"checkout": "against"}, {"at_once": 1})]
    assert estimate([*later, *ROWS, *others], 16) == estimate(ROWS, 16)
    found = estimate([*ROWS, *later], 16)
    assert found is not None and {part.name: part.seconds for part in found.phases[2]}["shards on the host"] == 400


def test_without_rows_there_is_no_figure() -> None:
    assert estimate(ROWS[1:], 16) is None and markdown(None) == "Not measured yet."


def test_the_table_stands_between_its_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page, rows = tmp_path / "speed.md", tmp_path / "rows.jsonl"
    page.write_text(with_table(f"# Speed\n\n{hg38_estimate.BEGIN}\nold\n{hg38_estimate.END}\n\nend\n", "older"))
    rows.write_text("".join(json.dumps(each) + "\n" for each in ROWS))
    monkeypatch.setattr(hg38_estimate, "PAGE", page)
    assert hg38_estimate.main(["--rows", str(rows), "--cores", "16", "--write", "--gpu-s", "9", "--ready-s", "12"]) == 0
    text, printed = page.read_text(), capsys.readouterr().out
    assert text.startswith("# Speed\n\n") and text.endswith(f"\n{hg38_estimate.END}\n\nend\n") and "old" not in text
    assert printed in text + "\n" and "| **whole command** | | | | **47** |" in printed
    assert "| FASTA check | 20.0 | 15.0 | 12.5 | 12.5 |" in printed and "| GPU |  |  | 9.0 | meanwhile |" in printed


def test_the_page_has_the_marks() -> None:
    page = hg38_estimate.PAGE.read_text()
    assert page.count(hg38_estimate.BEGIN) == page.count(hg38_estimate.END) == 1
