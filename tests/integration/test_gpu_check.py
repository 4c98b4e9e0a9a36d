"""What is run on a borrowed GPU: the script in two parts, with a stand-in for Python and for real on a CPU, and its scripts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from annotator.calls.batch import Calls
from annotator.kinds import Kind
from annotator.motifs.motif import Motif
from benchmarks import conv_variants, end_to_end, forward_profile, gpu_real, kernel_problems, kernels

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
STAND_IN = """#!/usr/bin/env bash
# Stands in for Python: notes what it is asked for, fails where it is told to, and adds a row where it is given a file for rows.
printf '%s\\n' "$*" >>"$ASKED"
if [[ $1 == - ]]; then cat >/dev/null; fi
if [[ -n $BROKEN && $* == *"$BROKEN"* ]]; then
    echo "something broke"
    exit 3
fi
while (($#)); do
    if [[ $1 == --out ]]; then echo '{"benchmark": "stand-in", "p50_s": 1}' >>"$2"; fi
    shift
done
"""


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., tuple[int, str, list[str]]]:
    """Runs a part with the stand-in; exit status, output, and what Python was asked for."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    program, asked = tmp_path / "python", tmp_path / "asked"
    program.write_text(STAND_IN)
    program.chmod(0o755)

    def run(part: str, broken: str = "", **env: str) -> tuple[int, str, list[str]]:
        asked.write_text("")
        told = {"PYTHON": str(program), "ASKED": str(asked), "BROKEN": broken, "OUT": str(tmp_path / "out"), "DEVICE": "cpu"}
        command = [bash, str(ROOT / "benchmarks" / "gpu_check.sh"), *part.split()]
        done = subprocess.run(command, env=os.environ | told | env, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout + done.stderr, asked.read_text().splitlines()

    return run


def test_both_parts_and_their_few_files(check: Callable[..., tuple[int, str, list[str]]], tmp_path: Path) -> None:
    code, out, asked = check("1", PACK="some.npz")
    assert code == 0, out
    scripts = [line.split()[0] for line in asked if line.startswith("benchmarks/")]
    assert scripts == ["benchmarks/kernels.py", "benchmarks/forward_profile.py", "benchmarks/gpu_real.py"]
    code, out, asked = check("2")
    assert code == 0, out
    named = [line.split("--kernels ")[1] for line in asked if "kernels.py" in line and "--parity-only" not in line]
    assert named == ["residual_conv", "pwm_scan", "kmer_embed", "kmer_tokenize", "local_maxima"]
    assert [line.split("--shapes ")[1] for line in asked if "conv_variants" in line] == ["stem", "mix", "down", "trunk", "up"]
    assert any("--parity-only --small" in line for line in asked) and any("transformer.py" in line for line in asked)
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == ["part1.log", "part2.log", "rows.jsonl"]
    assert len((tmp_path / "out" / "rows.jsonl").read_text().splitlines()) == 3 + 5 + 5 + 1


@pytest.mark.parametrize(
    ("part", "broken", "rows"),
    [
        ("1", "--kernels compact_forward", 2),
        ("1", "- cpu", 3),
        ("2", "--kernels pwm_scan", 10),
        ("2", "--shapes stem", 10),
        ("2", "--parity-only", 11),
    ],
)
def test_a_step_that_fails_costs_its_own_rows_alone(
    part: str, broken: str, rows: int, check: Callable[..., tuple[int, str, list[str]]], tmp_path: Path
) -> None:
    code, out, _ = check(part, broken, PACK="some.npz")
    assert code == 1 and "FAILED (exit status " in out and "something broke" in out
    assert len((tmp_path / "out" / "rows.jsonl").read_text().splitlines()) == rows


def test_out_of_time_is_said_and_nothing_hangs(check: Callable[..., tuple[int, str, list[str]]]) -> None:
    code, out, asked = check("2", BUDGET_S="4")
    assert code == 1 and out.count("FAILED (out of time)") == 4 and "no time left for: " in out
    assert not [line for line in asked if line.startswith("benchmarks/")]


def test_real_bases_are_skipped_without_their_file(check: Callable[..., tuple[int, str, list[str]]]) -> None:
    code, out, asked = check("1")
    assert code == 0 and "skipped: PACK names no file" in out and not [line for line in asked if "gpu_real" in line]


@pytest.mark.parametrize("part", ["", "3", "kernels"])
def test_another_part_is_refused(part: str, check: Callable[..., tuple[int, str, list[str]]], tmp_path: Path) -> None:
    code, out, asked = check(part)
    assert (code, out, asked) == (2, "usage: benchmarks/gpu_check.sh 1|2\n", [])
    assert not (tmp_path / "out").exists()


def first_loci(data: Path, bases: int) -> gpu_real.Pack:
    """A pack of so many bases, to the end of a locus, and of three matrices."""
    whole = gpu_real.make_pack(data)
    assert len(whole.names) == 40 and len(whole.truth) > 1000 and len(whole.motifs) > 20
    few = int(np.searchsorted(np.cumsum(whole.lengths), bases)) + 1
    return replace(
        whole, names=whole.names[:few], lengths=whole.lengths[:few], bases=whole.bases[: int(whole.lengths[:few].sum())],
        truth=whole.truth[whole.truth[:, 0] < few], motifs=whole.motifs[:3],
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("part", ["1", "2"])
def test_both_parts_for_real_on_a_cpu(part: str, data_pack: Path, tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="triton is not installed: its interpreter is not there either")
    env = os.environ | {
        "PYTHON": sys.executable,
        "OUT": str(tmp_path / "out"),
        "DEVICE": "cpu",
        "SMALL": "1",
        "BUDGET_S": "900",
        "PATIENCE": "6",
    }
    env["PACK"] = str(tmp_path / "pack.npz")
    first_loci(data_pack, 500_000).write(Path(env["PACK"]))
    done = subprocess.run(
        ["bash", str(ROOT / "benchmarks" / "gpu_check.sh"), part],
        env=env,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    found = {row["benchmark"] for row in rows}
    assert found >= ({"kernels", "forward_profile", "gpu_real"} if part == "1" else {"kernels", "conv_variants", "transformer"})
    assert len(list((tmp_path / "out").iterdir())) <= 8


def toy_problem(variant: str, difference: str = "", fault: Exception | None = None) -> kernel_problems.Problem:
    """A shape of a kernel that does nothing."""

    def run(backend: str) -> None:
        if fault is not None:
            raise fault

    return kernel_problems.Problem(
        "toy",
        variant,
        {"outputs": 8},
        bases=8,
        bytes_moved=8,
        flops=8,
        run=run,
        difference=lambda backend: difference,
        bound="equal",
    )


def test_a_wrong_or_failing_shape_costs_its_own_row_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def capture() -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    good = replace(toy_problem("good"), baselines={"a graph": capture, "itself": lambda: None})
    shapes = [toy_problem("wrong", "3 of 8 values differ"), toy_problem("broken", fault=RuntimeError("no\nmemory")), good]
    monkeypatch.setattr(kernels, "iter_problems", lambda run, sizes, chosen: iter(shapes))
    monkeypatch.setattr(kernels, "interpreter_agrees", lambda run: True)
    monkeypatch.setattr(kernels, "MODEL", "toy")  # so that it is checked on a CPU too
    out = tmp_path / "rows.jsonl"
    run = kernels.Run(CPU, ("toy",), kernel_problems.SMALL, 3, True)
    assert kernels.check_and_measure(run, out) is False
    (row,) = [json.loads(line) for line in out.read_text().splitlines()]
    assert row["variant"] == "good" and row["ceilings"]["copy_bytes_per_s"] > 0
    assert row["baselines"]["a graph"] == {"failed": "RuntimeError: operation not permitted when stream is capturing"}
    assert row["baselines"]["itself"]["p50_s"] > 0
    printed = capsys.readouterr().out
    assert "FAILED toy, broken: RuntimeError: no memory" in printed and "stream is capturing: a graph" in printed


def test_variants_in_the_interpreter_and_one_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("triton", reason="triton is not installed")
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("the kernels were imported for CUDA")
    tried = [("broken", (24, 32, 128, 4, 3)), ("the one that is taken", None), ("64 positions", (64, 64, 128, 4, 3))]
    monkeypatch.setattr(conv_variants, "tiles", lambda problem, small: iter(tried))  # 24 is no power of two
    out = tmp_path / "rows.jsonl"
    assert conv_variants.main(["--device", "cpu", "--small", "--repeats", "3", "--shapes", "up", "--out", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["variant"] for row in rows] == ["up; tile the one that is taken", "up; tile 64 positions"]
    assert {row["path"] for row in rows} == {"triton in its interpreter"} and kernel_problems.conv_tile.get() is None
    assert "FAILED residual_conv, up; tile broken: " in capsys.readouterr().out


def test_profile_of_the_forward_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.jsonl"
    assert forward_profile.main(["--device", "cpu", "--small", "--out", str(out)]) == 0
    row = json.loads(out.read_text())
    assert row["kernels"] and 0 < sum(kernel["seconds"] for kernel in row["kernels"]) <= 1.001 * row["device_s"]
    assert "convolution" in capsys.readouterr().out


def test_a_wrong_forward_pass_has_no_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward_profile, "compact_forward", lambda sizes, device: [toy_problem("wrong", "relative error 1")])
    assert forward_profile.main(["--device", "cpu", "--small", "--out", str(tmp_path / "rows")]) == 1
    assert not (tmp_path / "rows").exists()


def toy_pack(copies: int = 1) -> gpu_real.Pack:
    sites = np.array([[0, 5, Kind.DONOR.code, 1], [1, 7, Kind.DONOR.code, -1], [1, 9, Kind.ACCEPTOR.code, 1]], np.int64)
    doubtful = np.array([[0, 6, Kind.DONOR.code, 1]], np.int64)
    motifs = tuple(Motif(f"M{width}", f"m{width}", np.arange(4.0 * width).reshape(-1, 4) + 1) for width in (3, 5))
    bases = np.frombuffer(b"ACGTNACGTACG" * copies, np.uint8)
    return gpu_real.Pack(["a", "b"], np.array([5, 7], np.int64), bases, sites, doubtful, motifs)


def test_a_pack_comes_back_as_it_was_and_holds_no_pickle(tmp_path: Path) -> None:
    pack, path = toy_pack(), tmp_path / "pack.npz"
    pack.write(path)
    back = gpu_real.Pack.read(path)
    assert back.names == pack.names
    for name in ("lengths", "bases", "truth", "doubtful"):
        assert np.array_equal(getattr(back, name), getattr(pack, name))
    assert [(m.matrix_id, m.name, m.counts.tolist()) for m in back.motifs] == [
        (m.matrix_id, m.name, m.counts.tolist()) for m in pack.motifs
    ]


def calls_at(*rows: tuple[int, int, Kind, int, float]) -> Calls:
    """Calls by (contig, position, kind, strand, probability)."""
    contig, at, kinds, strand, probability = (list(column) for column in zip(*rows, strict=True))
    position, nothing = np.array(at, np.int64), np.full(len(rows), np.nan)
    return Calls(
        np.array(contig, np.int64), position, position + 1, np.array([kind.code for kind in kinds], np.uint8),
        np.array(strand, np.int8), np.array(probability, np.float32), np.zeros(len(rows), np.uint16), position,
        np.full(len(rows), -1, np.int32), nothing, nothing.astype(np.float32),
    )  # fmt: skip


def test_accuracy_and_copies_by_hand() -> None:
    first = [(0, 5, Kind.DONOR, 1, 0.9), (0, 6, Kind.DONOR, 1, 0.8), (1, 7, Kind.DONOR, 1, 0.7), (1, 9, Kind.ACCEPTOR, 1, 0.6)]
    again: list[Any] = [(contig + 2, *rest) for contig, *rest in first]
    calls = calls_at(*first, *again)
    expected = {"donor_recall": 0.5, "donor_precision": 0.5, "acceptor_recall": 1.0, "acceptor_precision": 1.0}
    assert gpu_real.accuracy(calls, toy_pack()) == expected
    assert gpu_real.copies_differ(calls, 2, 2) == 0
    other = [*again[:3], (3, 9, Kind.ACCEPTOR, 1, np.nextafter(np.float32(0.6), np.float32(1)))]
    assert gpu_real.copies_differ(calls_at(*first, *again, *((c + 2, *rest) for c, *rest in other)), 2, 3) == 1
    assert gpu_real.copies_differ(calls_at(*first, *again[1:]), 2, 2) == 1


@pytest.mark.slow
def test_real_loci_on_a_cpu(
    data_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = first_loci(data_pack, 400_000)
    size = len(small.bases)
    small.write(tmp_path / "pack.npz")
    monkeypatch.setattr(end_to_end, "LEAST_COMPARED", 10)
    out = tmp_path / "rows.jsonl"
    options = ["--device", "cpu", "--mb", str(2 * size / 1e6), "--parity-mb", "0.2", "--threads", "1", "--out", str(out)]
    assert gpu_real.main(["--pack", str(tmp_path / "pack.npz"), *options]) == 0
    row = json.loads(out.read_text())
    assert row["copies"] == 2 and row["bp"] == 2 * size and row["donor_recall"] > 0.5 and row["donor_precision"] > 0.5
    assert "motif hits, equal: True" in capsys.readouterr().out
