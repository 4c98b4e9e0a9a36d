"""Rows D of the fault matrix that need no Ray: workers and drivers that die, hang, are told to stop, or fail."""

from __future__ import annotations

import gc
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest

from tests.support.runs import results
from tests.support.toy_runs import (
    assert_gone,
    descendants,
    journalled,
    kill,
    start_toy_run,
    toy_run,
    wait_until,
)

RETRIED = ("kill", "exit 0", "exit 1", "segfault", "raise", "memory", "numpy memory", "device", "resource")
"""What a worker may do; none of it counts as done, and once is not the end."""


def run_json(out: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((out / "run.json").read_text())
    return content


@pytest.mark.parametrize("what", RETRIED)
def test_D01_D13_a_worker_that_fails_once_changes_nothing(
    what: str, model: Path, fasta: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    faults = {"chr1:896": (what, 1)}
    code = toy_run(fasta, tmp_path / "out", model, "--workers", 1, folder=str(tmp_path), faults=faults)
    assert code == 0 and results(tmp_path / "out") == undisturbed
    assert (tmp_path / "chr1:896").stat().st_size == 2  # tried again
    assert len(list(tmp_path.glob("worker-*"))) == (1 if what == "raise" else 2)  # and by a fresh worker


@pytest.mark.parametrize("what", ["kill", "raise", "memory"])
def test_D01_D13_a_poison_shard_is_named_and_the_rest_is_finished(
    what: str, model: Path, fasta: Path, undisturbed: dict[str, bytes], tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    faults = {"chr1:896": (what, 4)}
    out = tmp_path / "out"
    assert toy_run(fasta, out, model, "--workers", 2, folder=str(tmp_path), faults=faults) == 4
    error = capfd.readouterr().err
    assert "gave up on chr1:896-1344" in error and "1 contigs failed" in error and "Traceback" not in error
    told = run_json(out)
    assert told["exit_status"] == 4 and told["failed_contigs"] == {"count": 1, "names": ["chr1"]}
    (shard,) = told["failed_shards"]  # type: ignore[misc]
    assert shard["spans"] == [["chr1", 896, 1344]]  # type: ignore[index]
    assert set(pl.read_parquet(out / "predictions.parquet")["chrom"]) == {"chr2", "chr3", "t1", "t2", "t3"}
    # the same command tries it again, and it alone
    before = len(list(tmp_path.glob("worker-*")))
    assert toy_run(fasta, out, model, folder=str(tmp_path), faults=faults) == 0
    assert results(out) == undisturbed and (tmp_path / "chr1:896").stat().st_size == 5
    assert len(list(tmp_path.glob("worker-*"))) == before + 1 and not (out / ".annotator").exists()


def test_D13_a_bad_window_in_this_process_is_left_out_at_once(
    model: Path, fasta: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    out, faults = tmp_path / "out", {"chr1:896": ("raise", 1)}
    assert toy_run(fasta, out, model, folder=str(tmp_path), faults=faults) == 4
    assert (tmp_path / "chr1:896").stat().st_size == 1
    assert toy_run(fasta, out, model, folder=str(tmp_path), faults=faults) == 0
    assert results(out) == undisturbed


@pytest.mark.parametrize(("what", "code", "workers"), [("input", 3, 0), ("model", 1, 0), ("model", 1, 1)])
def test_D13_what_no_worker_could_do_better_ends_the_run(
    what: str, code: int, workers: int, model: Path, fasta: Path, tmp_path: Path
) -> None:
    faults = {"chr1:896": (what, 99)}
    out = tmp_path / "out"
    assert toy_run(fasta, out, model, "--workers", workers, folder=str(tmp_path), faults=faults) == code
    assert (tmp_path / "chr1:896").stat().st_size == 1
    assert [path.name for path in out.iterdir()] == [".annotator"]


@pytest.mark.parametrize(("what", "code"), [("memory", 6), ("device", 5), ("resource", 6)])
def test_D13_a_sick_process_without_workers_ends_the_run(
    what: str, code: int, model: Path, fasta: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    out, faults = tmp_path / "out", {"chr1:896": (what, 1)}
    assert toy_run(fasta, out, model, folder=str(tmp_path), faults=faults) == code
    assert toy_run(fasta, out, model, folder=str(tmp_path), faults=faults) == 0
    assert results(out) == undisturbed


@pytest.mark.parametrize(
    ("what", "code"), [("exit 1", 5), ("kill", 5), ("raise", 5), ("device", 5), ("input", 3), ("resource", 6)]
)
def test_D13_workers_that_cannot_be_set_up_are_not_tried_for_ever(
    what: str, code: int, model: Path, fasta: Path, tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "out"
    assert toy_run(fasta, out, model, "--workers", 1, folder=str(tmp_path), setup_fault=what) == code
    assert len(list(tmp_path.glob("worker-*"))) == (1 if what == "input" else 3)
    assert capfd.readouterr().err.count("error:") == 1


def test_D13_where_nothing_works_the_run_ends_early(
    model: Path, fasta: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    faults = {f"chr1:{start}": ("raise", 99) for start in range(0, 4000, 448)}
    faults |= {f"chr2:{start}": ("raise", 99) for start in range(0, 1500, 448)} | {"t1:0": ("raise", 99)}
    faults |= {f"chr3:{start}": ("raise", 99) for start in range(0, 900, 448)}
    assert toy_run(fasta, tmp_path / "out", model, "--workers", 1, folder=str(tmp_path), faults=faults) == 1
    assert "ValueError: bad window" in capfd.readouterr().err
    assert not (tmp_path / "out" / "run.json").exists()


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_D06_a_killed_driver_goes_on_where_it_was(
    workers: int, model: Path, fasta: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = start_toy_run(fasta, out, model, "--workers", workers, folder=str(tmp_path), pace_s=0.2)
    wait_until(lambda: journalled(out) >= 5, process)
    assert_gone(kill(process))
    done = journalled(out)
    assert not (out / "run.json").exists()
    stale = out / ".annotator" / "parts" / f".tmp-{process.pid}-{'0' * 16}.parquet"
    stale.write_bytes(b"torn")
    (out / f".tmp-{process.pid}-{'1' * 16}").mkdir()
    faults = {f"chr1:{start}": ("slow", 0) for start in range(0, 4000, 448)}  # counts the shards that are computed again
    assert toy_run(fasta, out, model, "--workers", workers, folder=str(tmp_path), faults=faults) == 0
    assert results(out) == undisturbed
    assert len(list(tmp_path.glob("chr1:*"))) <= 9 - (done - 2)  # largest first: chr1's are among the first done
    assert sorted(p.name for p in out.iterdir() if p.name.startswith(".")) == []


SIGNALS = [
    (signal.SIGTERM, 143),
    pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
    pytest.param(signal.SIGUSR1, 143, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("sign", "code"), SIGNALS)
def test_D07_a_signal_ends_the_run_cleanly(
    sign: signal.Signals, code: int, workers: int, model: Path, fasta: Path, undisturbed: dict[str, bytes], tmp_path: Path,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    process = start_toy_run(fasta, out, model, "--workers", workers, folder=str(tmp_path), pace_s=0.2)
    wait_until(lambda: journalled(out) >= 3, process)
    children, began = descendants(process.pid), time.monotonic()
    os.killpg(process.pid, sign) if sign == signal.SIGINT else os.kill(process.pid, sign)  # Ctrl-C reaches the workers too
    _, error = process.communicate(timeout=30)
    assert process.returncode == code and time.monotonic() - began < 10, error
    assert "same command" in error and "Traceback" not in error
    assert_gone(children)
    assert [path.name for path in out.iterdir()] == [".annotator"]
    assert toy_run(fasta, out, model) == 0
    assert results(out) == undisturbed


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_D07_a_second_signal_ends_it_at_once(workers: int, model: Path, fasta: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    slow_to_go = (
        "import time\nfrom annotator.pipeline.driver.background import Background\n"
        "Background.stop = lambda self: time.sleep(60)\n"
    )
    process = start_toy_run(fasta, out, model, "--workers", workers, folder=str(tmp_path), pace_s=0.2, before=slow_to_go)
    wait_until(lambda: journalled(out) >= 2, process)
    children = descendants(process.pid)
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(timeout=5) == 130
    process.communicate()
    assert_gone(children)


@pytest.mark.parametrize("beside", [True, False], ids=["beside the scan", "at the end"])
def test_D08_sigterm_while_merging_leaves_no_final_file(
    beside: bool, model: Path, fasta: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    out, begun = tmp_path / "out", tmp_path / "begun"
    slow = (
        "import pathlib, time, annotator.output.formats.bed as bed\n"
        "genuine = bed.bed_lines\n"
        f"bed.bed_lines = lambda *a: (pathlib.Path({str(begun)!r}).touch(), time.sleep(60), genuine(*a))[2]\n"
    )
    process = start_toy_run(fasta, out, model, before=slow, pace_s=0.2 if beside else 0.0)
    wait_until(lambda: any((out / ".annotator").glob(".tmp-*.gz")) if beside else begun.exists(), process)
    time.sleep(0.3)
    assert begun.exists() != beside
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 143, error
    assert [path.name for path in out.iterdir()] == [".annotator"]
    assert not list((out / ".annotator").glob(".tmp-*"))
    assert toy_run(fasta, out, model) == 0
    assert results(out) == undisturbed


def test_D09_a_worker_that_hangs_is_replaced(model: Path, fasta: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    faults = {"chr1:896": ("hang", 1), "chr2:0": ("hang", 1)}
    more = ("--workers", 2, "--shard-timeout", 1)
    assert toy_run(fasta, tmp_path / "out", model, *more, folder=str(tmp_path), faults=faults) == 0
    assert results(tmp_path / "out") == undisturbed
    assert (tmp_path / "chr1:896").stat().st_size == (tmp_path / "chr2:0").stat().st_size == 2


def test_D09_a_worker_that_is_stopped_in_the_middle_is_replaced(
    model: Path, fasta: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = start_toy_run(fasta, out, model, "--workers", 2, "--shard-timeout", 2, folder=str(tmp_path), pace_s=0.2)
    wait_until(lambda: journalled(out) >= 2, process)
    worker = int(min(tmp_path.glob("worker-*")).name.removeprefix("worker-"))
    os.kill(worker, signal.SIGSTOP)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 0 and "no answer for 2 s" in error, error
    assert results(out) == undisturbed
    assert_gone([psutil.Process(worker)] if psutil.pid_exists(worker) else [])


def held() -> tuple[int, int, int, int]:
    """File descriptors, threads, shared memory segments, temporary files of this process."""
    temporary = [name for name in os.listdir("/tmp") if name.startswith("annotator") and f"-{os.getpid()}-" in name]
    shared = [name for name in os.listdir("/dev/shm") if not name.startswith("plasma")]  # of a Ray that runs beside
    return len(os.listdir("/proc/self/fd")), threading.active_count(), len(shared), len(temporary)


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "runs"), [(0, 100), (2, 4)])
def test_D14_many_runs_in_a_row_leak_nothing(
    workers: int, runs: int, model: Path, fasta: Path, undisturbed: dict[str, bytes], tmp_path: Path,
) -> None:  # fmt: skip
    for number in range(3 if workers == 0 else 1):
        assert toy_run(fasta, tmp_path / f"warm{number}", model, "--workers", workers) == 0
    children = descendants(os.getpid())
    before = held()
    for number in range(runs):
        assert toy_run(fasta, tmp_path / f"out{number}", model, "--workers", workers) == 0
        assert results(tmp_path / f"out{number}") == undisturbed
    wait_until(lambda: threading.active_count() <= before[1])
    gc.collect()
    assert all(now <= then for now, then in zip(held(), before, strict=True))
    assert len(descendants(os.getpid())) <= len(children)


def test_D14_a_clock_that_jumps_changes_nothing(
    model: Path, fasta: Path, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    jumps = iter([now, now - 1e9, now + 1e9] * 10_000)
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    assert toy_run(fasta, tmp_path / "out", model) == 0
    assert results(tmp_path / "out") == undisturbed


@pytest.mark.slow
def test_D09_a_worker_that_hangs_while_it_is_set_up_is_replaced(
    model: Path, fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("annotator.pipeline.executors.processes.SETUP_TIMEOUT_S", 4.0)
    assert toy_run(fasta, tmp_path / "out", model, "--workers", 1, folder=str(tmp_path), setup_fault="hang") == 5
    assert "it took more than 4 s" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_D13_a_file_that_only_a_worker_cannot_read_is_that_workers_fault(
    model: Path, fasta: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    out, faults = tmp_path / "out", {"chr1:896": ("input", 1)}
    assert toy_run(fasta, out, model, "--workers", 1, folder=str(tmp_path), faults=faults) == 0
    assert results(out) == undisturbed and len(list(tmp_path.glob("worker-*"))) == 2


def test_B12_D13_a_file_that_changed_under_the_workers_ends_the_run(model: Path, fasta: Path, tmp_path: Path) -> None:
    changing, out = tmp_path / "g.fa", tmp_path / "out"
    changing.write_bytes(fasta.read_bytes())
    process = start_toy_run(changing, out, model, "--workers", 1, folder=str(tmp_path), pace_s=0.2)
    wait_until(lambda: journalled(out) >= 2, process)
    with changing.open("a") as file:
        file.write("ACGT\n")
    _, error = process.communicate(timeout=60)
    assert process.returncode == 3 and "changed during the run" in error
    assert not (out / "run.json").exists()


def test_D13_a_worker_whose_answer_makes_no_sense_is_replaced(
    model: Path, fasta: Path, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from annotator.pipeline.executors import processes

    pipes: list[object] = []
    genuine = processes._PROCESSES.Pipe

    def first_is_torn() -> tuple[object, object]:
        ours, theirs = genuine()
        pipes.append(ours)
        return (Torn(ours) if len(pipes) == 1 else ours), theirs

    monkeypatch.setattr(processes._PROCESSES, "Pipe", first_is_torn)
    assert toy_run(fasta, tmp_path / "out", model, "--workers", 1, folder=str(tmp_path)) == 0
    assert results(tmp_path / "out") == undisturbed and len(list(tmp_path.glob("worker-*"))) == 2


class Torn:
    """A pipe whose third message cannot be read."""

    def __init__(self, pipe: Any) -> None:
        self.pipe, self.messages = pipe, 0

    def recv(self) -> object:
        self.messages += 1
        message = self.pipe.recv()
        if self.messages == 3:
            raise ValueError("unpickling stack underflow")
        return message

    def send(self, message: object) -> None:
        self.pipe.send(message)

    def close(self) -> None:
        self.pipe.close()


def test_C06_overwrite_goes_on_with_its_own_unfinished_run(
    model: Path, fasta: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    out, faults = tmp_path / "out", {"chr3:448": ("input", 1)}
    assert toy_run(fasta, out, model, "--threshold", "0.9") == 0
    assert toy_run(fasta, out, model, "--overwrite", folder=str(tmp_path), faults=faults) == 3
    assert journalled(out) > 5 and not (out / "run.json").exists()
    faults |= {f"chr1:{start}": ("slow", 0) for start in range(0, 4000, 448)}  # counts
    assert toy_run(fasta, out, model, "--overwrite", folder=str(tmp_path), faults=faults) == 0
    assert results(out) == undisturbed and len(list(tmp_path.glob("chr1:*"))) <= 1  # its last shard is a small one


def test_another_number_of_threads_is_named_in_the_refusal(
    model: Path, fasta: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert toy_run(fasta, tmp_path / "out", model) == 0
    assert toy_run(fasta, tmp_path / "out", model, "-t", 2) == 2
    assert "with threads 1, not 2; leave it out" in capfd.readouterr().err


@pytest.mark.slow
def test_dead_workers_leave_no_threads_and_no_files_open(model: Path, fasta: Path, tmp_path: Path) -> None:
    faults = {f"chr1:{start}": ("exit 1", 2) for start in range(0, 4000, 448)}
    gc.collect()
    before = held()
    assert toy_run(fasta, tmp_path / "out", model, "--workers", 1, folder=str(tmp_path), faults=faults) == 0
    assert len(list(tmp_path.glob("worker-*"))) > 10
    wait_until(lambda: threading.active_count() <= before[1])
    gc.collect()
    assert held()[0] <= before[0] + 2  # the two of multiprocessing's resource tracker
