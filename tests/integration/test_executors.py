"""The same command in this process, in local processes and in Ray actors: the same bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from annotator.cli.app import main
from annotator.errors import UsageError
from annotator.example.genome import write_example
from annotator.pipeline.executors.choose import choose_executor
from annotator.pipeline.executors.inline import InlineExecutor
from annotator.pipeline.executors.machine import Machine
from annotator.pipeline.executors.processes import ProcessExecutor
from annotator.pipeline.options import AnnotateOptions, ExecutionOptions
from tests.support.runs import python_path, results
from tests.support.toy_task import CutShort

SHARD_BP = 100_000
EXECUTORS = [
    pytest.param(("--workers", "2"), id="2 processes"),
    pytest.param(("--ray", "local", "--workers", "2"), id="Ray, 2 actors", marks=pytest.mark.ray),
    pytest.param(("--ray", "local", "--workers", "1"), id="Ray, 1 actor", marks=[pytest.mark.ray, pytest.mark.slow]),
    pytest.param(
        ("--ray", "local", "--workers", "4", "--stage", "object-store"), id="Ray, 4 actors, bases through its store",
        marks=[pytest.mark.ray, pytest.mark.slow],
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Genes of a synthetic genome, as plain gzip: read from the spool."""
    return write_example(tmp_path_factory.mktemp("example"), length_bp=500_000).fasta


def arguments(fasta: Path, out: Path, *more: str) -> list[str]:
    return ["annotate", str(fasta), "-o", str(out), "-t", "1", "--device", "cpu", "--shard-bp", str(SHARD_BP), "-q", *more]


@pytest.fixture(scope="module")
def in_process(fasta: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("in-process") / "out"
    assert main(arguments(fasta, out)) == 0
    assert len(pl.read_parquet(out / "predictions.parquet")) > 300
    return out


@pytest.mark.parametrize("executor", EXECUTORS)
def test_C09_the_bytes_do_not_depend_on_the_executor(
    executor: tuple[str, ...], fasta: Path, in_process: Path, tmp_path: Path
) -> None:
    """The bundled model, with all its kinds of call."""
    script = (
        "import sys; from annotator.cli.app import main; code = main(sys.argv[1:]); print('torch' in sys.modules); sys.exit(code)"
    )
    command = [sys.executable, "-c", script, *arguments(fasta, tmp_path / "out", *executor)]
    done = subprocess.run(command, env=python_path(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert results(tmp_path / "out") == results(in_process)
    assert done.stdout == "False\n"  # the driver never loads torch
    ours, theirs = (json.loads((folder / "run.json").read_text()) for folder in (in_process, tmp_path / "out"))
    assert ours["plan"] == theirs["plan"] and ours["shards"] == theirs["shards"] and ours["counts"] == theirs["counts"]
    assert theirs["workers"] and {"host", "driver"} <= set(theirs["peak_memory_bytes"])


@pytest.mark.ray
@pytest.mark.slow
def test_ray_starts_twice_in_one_process(fasta: Path, in_process: Path, tmp_path: Path) -> None:
    """As in a notebook: each start has a token of its own, and the environment is the user's again after it."""
    script = (
        "import os, sys; from annotator.cli.app import main; before = dict(os.environ);"
        "codes = [main([*sys.argv[1:], '-o', out]) for out in ('a', 'b')];"
        "print({n: v for n, v in os.environ.items() if n.startswith('RAY_AUTH') and before.get(n) != v}); sys.exit(max(codes))"
    )
    command = ["annotate", str(fasta), "-t", "1", "--device", "cpu", "--shard-bp", str(SHARD_BP), "-q", "--ray", "local"]
    done = subprocess.run(
        [sys.executable, "-c", script, *command, "--workers", "1"], env=python_path(), cwd=tmp_path, capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "{}\n"
    assert results(tmp_path / "a") == results(tmp_path / "b") == results(in_process)


def test_C09_shard_sizes_give_the_same_files(fasta: Path, in_process: Path, tmp_path: Path) -> None:
    assert main(arguments(fasta, tmp_path / "out", "--shard-bp", "250000")) == 0
    assert results(tmp_path / "out") == results(in_process)
    plans = [json.loads((folder / "run.json").read_text())["plan"] for folder in (in_process, tmp_path / "out")]
    assert [plan["shard_bp"] for plan in plans] == [SHARD_BP, 250_000]


def test_a_run_begun_in_one_executor_goes_on_in_another(fasta: Path, in_process: Path, tmp_path: Path) -> None:
    assert main(arguments(fasta, tmp_path / "out"), task=partial(CutShort, after=2)) == 130
    assert main(arguments(fasta, tmp_path / "out", "--workers", "1")) == 0
    assert results(tmp_path / "out") == results(in_process)


def test_which_executor_a_run_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    options = AnnotateOptions(device="auto")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert isinstance(choose_executor(options, ExecutionOptions()), InlineExecutor)
    assert isinstance(choose_executor(options, ExecutionOptions(workers=1)), ProcessExecutor)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert isinstance(choose_executor(options, ExecutionOptions()), InlineExecutor)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    assert isinstance(choose_executor(options, ExecutionOptions()), ProcessExecutor)
    for device in ("cpu", "cuda:1"):
        assert isinstance(choose_executor(AnnotateOptions(device=device), ExecutionOptions()), InlineExecutor)
    with pytest.raises(UsageError, match="bases_via='object-store': only with Ray"):
        choose_executor(options, ExecutionOptions(bases_via="object-store"))


@pytest.mark.parametrize(
    ("visible", "device", "share", "workers", "expected"),
    [
        (None, "cuda", 1.0, 0, ["0", "1", "2"]), ("5,6,GPU-7", "cuda", 1.0, 0, ["5", "6", "GPU-7"]),
        (None, "cuda", 0.5, 0, ["0", "0", "1", "1", "2", "2"]), (None, "cuda", 1.0, 2, ["0", "1"]),
        (None, "cuda", 1.0, 4, ["0", "1", "2", "0"]), ("5,6,7", "cuda:1", 1.0, 2, ["6", "6"]),
    ],
)  # fmt: skip
def test_every_worker_sees_one_gpu(
    visible: str | None, device: str, share: float, workers: int, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from annotator.pipeline.executors import processes

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(processes, "_ask", lambda function, argument: Machine(argument, "bfloat16", 3))
    executor = ProcessExecutor(workers, gpus_per_worker=share)
    machine = executor.machine(device)
    assert machine.kind == "cuda" and machine.device == "cuda"  # the one it sees
    assert [executor.environment(place)["CUDA_VISIBLE_DEVICES"] for place in range(len(expected))] == expected
    assert executor.workers == len(expected)
