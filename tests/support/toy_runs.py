"""Runs of the whole command with the toy task in place of the model, in this process or in one of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from annotator.cli.app import main
from tests.support.runs import write_fasta
from tests.support.toy_task import ToyTask

ROOT = Path(__file__).parents[2]
SHARD_BP = 448
"""One window of the detector's plan: a genome of a few kilobases has many shards."""


def toy_genome(path: Path, seed: int = 1) -> Path:
    """Contigs of several shards, one of none, and small ones that share one."""
    rng = np.random.default_rng(seed)
    lengths = {"chr1": 4000, "chr2": 1500, "empty": 0, "t1": 60, "t2": 90, "t3": 40, "chr3": 900}
    records = {name: "".join(rng.choice(list("ACGT"), length)) for name, length in lengths.items()}
    for name, text in records.items():
        for at in range(20, len(text) - 10, 150):
            text = text[:at] + "CAGGT" + text[at + 5 :]
        records[name] = text
    return write_fasta(path, records)


def arguments(fasta: Path | None, out: Path, model: Path, *more: object) -> list[str]:
    """Arguments of `annotator annotate` over a toy genome, or over what `more` says."""
    fixed = ["--model", str(model), "--tasks", "splice", "--shard-bp", str(SHARD_BP), "-t", "1", "--device", "cpu"]
    return ["annotate", *([str(fasta)] if fasta else []), "-o", str(out), *fixed, *map(str, more)]


def toy_run(fasta: Path, out: Path, model: Path, *more: object, **toy: Any) -> int:
    """The command in this process; keywords are those of ToyTask."""
    return main(arguments(fasta, out, model, "--quiet", *more), task=partial(ToyTask, **toy))


def start_toy_run(
    fasta: Path | None, out: Path, model: Path, *more: object, before: str = "", **toy: Any
) -> subprocess.Popen[str]:
    """The command in a process of its own; `before` is Python that runs first."""
    script = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'kernels')!r}]\n"
        f"from functools import partial\nfrom tests.support.toy_task import ToyTask\n{before}\n"
        "if __name__ == '__main__':\n    from annotator.cli.app import main\n"
        f"    sys.exit(main(sys.argv[1:], task=partial(ToyTask, **{toy!r})))\n"
    )
    env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"}
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments(fasta, out, model, *more)], env=env, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None, timeout_s: float = 60) -> None:
    """Until a condition holds; an error where the process ends before, or time runs out."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"ended with {process.returncode}: {process.communicate()}")
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def journalled(out: Path) -> int:
    """Finished shards of a run that is not."""
    path = out / ".annotator" / "journal.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def descendants(pid: int) -> list[psutil.Process]:
    """A process's children and theirs."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def assert_gone(processes: list[psutil.Process], timeout_s: float = 10) -> None:
    """All of them, soon."""
    _, alive = psutil.wait_procs(processes, timeout=timeout_s)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


def kill(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """SIGKILL; what it had started."""
    children = descendants(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    return children
