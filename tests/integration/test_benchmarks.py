"""The benchmark scripts on a CPU: their rows, what a wrong kernel does to them, and the tables of benchmarks/README.md."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from annotator.genome.plan import PlanOptions
from annotator.pipeline import annotate
from annotator.pipeline.worker.order import WorkOrder
from annotator.scan.options import BATCH_BP
from annotator_kernels import backends
from benchmarks import compact_forward, cost_model, end_to_end, family_cost, guarded, gue, host_path, kernel_problems, kernels
from tests.support.kernels import OPERATIONS

ROOT = Path(__file__).parents[2]
COMMON = {"benchmark", "commit", "date", "device", "versions", "variant", "path", "shape", "parity", "p20_s", "p50_s", "p80_s",
          "repeats", "bases_per_s", "fraction_of_matrix_rate", "peak_memory_bytes"}  # fmt: skip


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def in_the_interpreter() -> None:
    pytest.importorskip("triton", reason="triton is not installed: the kernels cannot run, not even in its interpreter")
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("the kernels were imported for CUDA")


@pytest.mark.slow
@pytest.mark.usefixtures("in_the_interpreter")
def test_rows_of_the_kernels(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    assert kernels.main(["--device", "cpu", "--small", "--repeats", "3", "--out", str(out)]) == 0
    rows = read_rows(out)
    assert {row["kernel"] for row in rows} == {*kernel_problems.KERNELS, "compact_forward"}
    for row in rows:
        assert COMMON <= row.keys()
        assert row["path"] == "torch on cpu"
        assert 0 < row["p20_s"] <= row["p50_s"] <= row["p80_s"]
        assert row["bytes_per_base"] > 0
        assert row["fraction_of_copy_bandwidth"] > 0
        assert {"python", "torch", "triton", "numpy"} <= row["versions"].keys()
        assert "bar_met" not in row, "bars are a GPU's"
    by_kernel = {row["kernel"]: row for row in rows}
    assert by_kernel["compact_forward"]["flops_per_base"] == cost_model.COMPACT.flops_per_base()
    assert "human_genome_s_extrapolated" not in by_kernel["pwm_scan"], "a CPU does not scan with the oracle"
    assert len([row for row in rows if row["kernel"] == "residual_conv"]) == 7


@pytest.mark.usefixtures("in_the_interpreter")
@pytest.mark.parametrize(
    ("kernel", "oracle"),
    [("kmer_tokenize", "kmer_tokenize_reference"), ("residual_conv", "residual_conv_reference")],
    ids=["exact", "within a bound"],
)
def test_a_kernel_that_differs_ends_the_run_without_a_row(
    kernel: str, oracle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = getattr(OPERATIONS[kernel], oracle)

    def wrong(*args: Any, **options: Any) -> torch.Tensor:
        result: torch.Tensor = right(*args, **options)
        result[-1, -1] += 1
        return result

    monkeypatch.setattr(OPERATIONS[kernel], oracle, wrong)
    out = tmp_path / "rows.jsonl"
    assert kernels.main(["--device", "cpu", "--small", "--kernels", kernel, "--out", str(out)]) == 1
    assert not out.exists()
    assert "a kernel differs from its oracle: no figure" in capsys.readouterr().err


def test_without_triton_the_oracles_are_timed_and_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kernels, "installed_version", lambda name: "absent")
    out = tmp_path / "rows.jsonl"
    command = ["--device", "cpu", "--small", "--repeats", "3", "--kernels", "local_maxima", "--out", str(out)]
    assert kernels.main(command) == 0
    assert "triton is not installed" in capsys.readouterr().out
    assert [row["path"] for row in read_rows(out)] == ["torch on cpu"]


@pytest.mark.parametrize("fallen", ["residual_conv", "kmer_embed"])
def test_a_forward_pass_with_a_fallen_back_kernel_has_no_row(
    fallen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The forward pass of a CPU stands in for one on CUDA, whose kernels all said "triton" but one."""
    report = backends._report

    def one_falls_back(where: str, choice: str, level: int) -> None:
        report(where, "torch (PassManager::run failed)" if where.startswith(fallen) else "triton", level)

    monkeypatch.setattr(backends, "_chosen", {})
    monkeypatch.setattr(backends, "_report", one_falls_back)
    (problem,) = compact_forward.compact_forward(kernel_problems.SMALL, torch.device("cpu"))
    problem.run("torch")
    for call in (problem.run, problem.difference):
        with pytest.raises(SystemExit, match=rf"triton was asked for, but {fallen}/cpu: torch \(PassManager.*no figure"):
            call("triton")
    monkeypatch.setattr(kernels, "check", lambda problem, backend: not problem.difference("triton"))
    out = tmp_path / "rows.jsonl"
    with pytest.raises(SystemExit):
        kernels.main(["--device", "cpu", "--small", "--kernels", "compact_forward", "--out", str(out)])
    assert not out.exists()
    fallen = "no kernel"
    problem.run("triton")
    assert problem.difference("triton") == ""


def test_windows_are_those_of_the_engine() -> None:
    assert kernel_problems.FULL.windows * kernel_problems.FULL.window_bp == BATCH_BP["cuda"]


def compare(device_calls: end_to_end.Found, cpu_calls: end_to_end.Found, monkeypatch: pytest.MonkeyPatch) -> None:
    """`compare_with_cpu` with these calls in place of two workers'."""
    orders: list[WorkOrder] = []

    def calls_of(order: WorkOrder, bases: Any) -> end_to_end.Found:
        orders.append(order)
        return (device_calls, cpu_calls)[len(orders) - 1]

    monkeypatch.setattr(end_to_end, "_calls_of", calls_of)
    order = WorkOrder(
        "compact", "invertebrate", {"donor": 0.5, "promoter": 0.3}, (), 1e-6, PlanOptions(), 1, "cuda", "bfloat16", 1
    )
    end_to_end.compare_with_cpu(order, np.zeros(9, np.uint8))
    assert [(one.device, one.precision) for one in orders] == [("cuda", "bfloat16"), ("cpu", "float32")]
    assert [one.thresholds for one in orders] == [{"donor": pytest.approx(0.45), "promoter": pytest.approx(0.25)}] * 2


DONOR, PROMOTER, TFBS = (end_to_end.KINDS.index(kind) for kind in ("donor", "promoter", "tfbs"))
DONORS: end_to_end.Found = {(DONOR, 1, at, -1): 0.9 for at in range(100)}
PROMOTERS: end_to_end.Found = {(PROMOTER, -1, at, -1): 0.9 for at in range(100)}
HITS: end_to_end.Found = {(TFBS, 1, at, 4): float("nan") for at in range(5)}


@pytest.mark.parametrize(
    "extra",
    [{}, {(DONOR, 1, 990, -1): 0.46}, {(DONOR, 1, 990, -1): 0.54}, {(PROMOTER, 1, 990, -1): 0.34}, {(DONOR, 1, 990, -1): 0.99}],
    ids=["equal", "below", "above", "promoter", "one of a hundred"],
)
def test_calls_near_the_threshold_need_not_agree(
    extra: end_to_end.Found, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(DONORS | PROMOTERS | HITS | extra, DONORS | PROMOTERS | HITS, monkeypatch)
    compare(DONORS | PROMOTERS | HITS, DONORS | PROMOTERS | HITS | extra, monkeypatch)
    assert "5 motif hits, equal: True" in capsys.readouterr().out


def test_a_call_near_the_threshold_on_one_side_only_is_left_out() -> None:
    ours = {(DONOR, 1, 3, -1): 0.58, (DONOR, 1, 9, -1): 0.6}
    cpu = {(DONOR, 1, 3, -1): 0.53, (DONOR, 1, 9, -1): 0.57}
    assert end_to_end.agreement(ours, cpu, DONOR, 0.5) == (1, 1)


def test_a_shifted_promoter_is_the_same_call_and_a_shifted_donor_is_not() -> None:
    for kind, shift, agreeing in ((PROMOTER, 16, 1), (PROMOTER, -16, 1), (PROMOTER, 17, 0), (DONOR, 1, 0)):
        name = end_to_end.KINDS[kind]
        ours, cpu = {(kind, 1, 500 + shift, -1): 0.9}, {(kind, 1, 500, -1): 0.9, (kind, -1, 500 + shift, -1): 0.1}
        compared, shared = end_to_end.agreement(ours, cpu, kind, 0.5, end_to_end.SHIFT_BP[name])
        assert (compared, shared) == (2 - agreeing, agreeing)


@pytest.mark.parametrize(
    ("ours", "message"),
    [
        (DONORS | PROMOTERS, "motif hits are not the CPU's"),
        (DONORS | PROMOTERS | HITS | {(TFBS, 1, 7, 4): 0.0}, "motif hits are not the CPU's"),
        (DONORS | HITS, "promoter calls are not the CPU's"),
        (DONORS | PROMOTERS | HITS | {(DONOR, 1, at, -1): 0.9 for at in (200, 201)}, "donor calls are not the CPU's"),
    ],
    ids=["no hits", "one hit more", "a kind without calls", "two donors more"],
)
def test_other_calls_than_the_cpus_end_the_run(ours: end_to_end.Found, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=message):
        compare(ours, DONORS | PROMOTERS | HITS, monkeypatch)


def test_too_few_calls_prove_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    few = dict(list(DONORS.items())[:99])
    with pytest.raises(SystemExit, match="99 calls to compare with the CPU's, 100 are needed"):
        compare(few | HITS, few | HITS, monkeypatch)


@pytest.mark.slow
def test_the_engine_alone_without_files(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    command = [sys.executable, "benchmarks/end_to_end.py", "--no-files", "--device", "cpu", "--small", "--motifs", "20",
               "--threads", "2", "--out", str(out)]  # fmt: skip
    env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert "parity of donor calls: " in done.stdout and "motif hits, equal: True" in done.stdout
    (row,) = read_rows(out)
    assert row["benchmark"] == "end_to_end_engine" and row["calls"] > 20


@pytest.mark.slow
def test_row_of_the_transformer(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    command = [sys.executable, "benchmarks/transformer.py", "--device", "cpu", "--small", "--repeats", "3", "--out", str(out)]
    env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (row,) = read_rows(out)
    assert COMMON <= row.keys()
    assert row["path"] == "torch.float32 on cpu"
    assert row["shape"]["layers"] == 2
    hidden, tokens, ids = 768, 64, 2 * 64
    assert row["flops"] == 2 * ids * (2 * 12 * hidden**2 + 4 * tokens * hidden)
    assert row["human_genome_s_extrapolated"] is None, "two layers are not a DNABERT"


def test_readme_holds_the_tables_of_the_cost_model() -> None:
    text = cost_model.README.read_text()
    assert cost_model.with_tables(text) == text, "run `python benchmarks/cost_model.py --write`"


def test_the_pages_of_the_families_hold_their_costs() -> None:
    found = family_cost.tables()
    for page in sorted(family_cost.PAGES.glob("*.md")):
        text = page.read_text()
        assert family_cost.with_tables(text, found) == text, "run `python benchmarks/family_cost.py --write`"


def test_flops_of_the_families_are_those_that_torch_counts() -> None:
    lines = list(family_cost.check())
    assert len(lines) == 4 and not [line for line in lines if "DIFFERENT" in line]


def test_gue_figures_stand_beside_the_published_ones() -> None:
    scores = {"sequences": 1000, "mcc": 0.6438, "f1": 0.8316, "auroc": 0.8964, "auprc": 0.8783}
    lines = gue.markdown({"tasks": [{"task": "tf/0", "split": "test", "scores": scores}]})
    assert lines[2] == "| tf/0 | test | 1,000 | **64.4** | 0.832 | 0.896 | 0.878 | 68.0 | 66.8 | 66.6 | 72.0 |"
    assert {len(line.split("|")) for line in lines} == {13}


def test_costs_by_hand() -> None:
    tokens, hidden = 512, 768
    a_layer = 3 * 2 * hidden**2 + 2 * hidden**2 + 2 * 2 * hidden * 3072 + 2 * 2 * tokens * hidden
    assert cost_model.DNABERT_6.flops_per_token() == 12 * a_layer
    causal = cost_model.Transformer("toy", 1, 1, 0, 3, 3, causal=True)
    assert causal.flops_per_token() * 3 == 3 * 2 * 4 + 2 * 2 * (1 + 2 + 3)
    device = cost_model.Device("toy", 1e6, 1e3, 2)
    assert cost_model.floor_s(causal, device, 1000) == (1000 * causal.bytes_per_base(2) / 1e3, "bytes")
    assert causal.bytes_per_base(2) == 2 * 14


def test_measured_ceilings_take_the_place_of_nominal_ones(tmp_path: Path) -> None:
    row = {"benchmark": "kernels", "date": "2026-01-02T03:04:05+00:00", "device": {"device": "cuda", "name": "toy"},
           "ceilings": {"copy_bytes_per_s": 1.0, "matrix_flops_per_s": 2.0}}  # fmt: skip
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row | {"ceilings": {**row["ceilings"], "copy_bytes_per_s": x}}) for x in (9.0, 7.0)))
    assert cost_model.measured_devices(path) == [cost_model.Device("toy, measured 2026-01-02", 2.0, 7.0, 2)]


def test_guards_see_a_write_outside_and_poison_a_value_never_written() -> None:
    result, damage = guarded.run_guarded(lambda: torch.empty(5))
    assert damage == ""
    assert bool(result.isnan().all())

    def writes_beside() -> None:
        torch.zeros(3, dtype=torch.int32).as_strided((4,), (1,)).fill_(1)

    assert "written outside of aten.zeros" in guarded.run_guarded(writes_beside)[1]


def test_the_host_path_runs_without_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotate, "advises", annotate.advises)  # the script replaces it, for a process of its own
    fasta = host_path.write_genome(tmp_path / "g.fa", 3.00003)
    checked = host_path.one_check(fasta, tmp_path / "spool")
    assert checked["bp"] == 3_000_030 and checked["check_s"] > 0
    one = host_path.one_run(fasta, tmp_path / "out", calls_per_mb=200, workers=0)
    assert 590 <= one["calls"] <= 600  # a few fall on the same base
    assert {"read", "windows", "calls", "profiles", "write", "merge"} == set(one["stage_s"])
    assert host_path.one_run(fasta, tmp_path / "again", calls_per_mb=200, workers=0)["sha256"] == one["sha256"]
