"""Workers that are made ready while the FASTA is checked: the same files, the same words, nothing left behind."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from annotator.errors import EnvironmentFault
from annotator.genome.bases import StagedBases
from annotator.genome.plan import PlanOptions, Span
from annotator.genome.shard_input import ShardInput
from annotator.kinds import Kind
from annotator.pipeline.driver.assembly import Assembly
from annotator.pipeline.executors import processes
from annotator.pipeline.executors.inline import InlineExecutor
from annotator.pipeline.executors.processes import ProcessExecutor
from annotator.pipeline.worker.order import WorkOrder
from annotator.pipeline.worker.shard_worker import ShardWorker
from tests.support.detector import DONOR
from tests.support.runs import results
from tests.support.toy_runs import toy_run
from tests.support.toy_task import ToyTask

EXECUTORS = pytest.mark.parametrize("executor", [(), ("--workers", "2")], ids=["this process", "2 processes"])


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens in which order, where executors start early; on a CPU of two cores two workers would not."""
    seen: list[str] = []
    for executor in (InlineExecutor, ProcessExecutor):
        monkeypatch.setattr(executor, "starts_early", True)
    spawn, setup, opened = processes.ProcessExecutor._spawn, ToyTask.setup, Assembly.open

    def noted_spawn(self: ProcessExecutor, place: int) -> object:
        seen.append("start")
        return spawn(self, place)

    def noted_setup(self: ToyTask) -> None:
        seen.append("start")
        setup(self)

    def noted_open(self: Assembly, tick: object = None) -> None:
        opened(self, tick)  # type: ignore[arg-type]
        seen.append("checked")

    monkeypatch.setattr(ProcessExecutor, "_spawn", noted_spawn)
    monkeypatch.setattr(ToyTask, "setup", noted_setup)
    monkeypatch.setattr(Assembly, "open", noted_open)
    return seen


@EXECUTORS
def test_C09_the_same_bytes(
    executor: tuple[str, ...], fasta: Path, model: Path, undisturbed: dict[str, bytes], early: list[str], tmp_path: Path
) -> None:
    assert toy_run(fasta, tmp_path / "out", model, *executor) == 0
    assert results(tmp_path / "out") == undisturbed
    assert early.index("start") < early.index("checked") or not executor
    assert early.count("start") == (2 if executor else 1)


@EXECUTORS
def test_a_bad_file_is_told_as_ever_and_nothing_is_left(
    executor: tuple[str, ...], fasta: Path, model: Path, early: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.fa"
    bad.write_bytes(fasta.read_bytes() + b">last\nACGT!\n")
    assert toy_run(bad, tmp_path / "out", model, *executor) == 3
    assert "contig 'last', line" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["bad.fa"] and "checked" not in early


@EXECUTORS
def test_a_worker_that_cannot_be_set_up_ends_the_run(
    executor: tuple[str, ...], fasta: Path, model: Path, early: list[str], tmp_path: Path
) -> None:
    assert toy_run(fasta, tmp_path / "out", model, *executor, setup_fault="device") == EnvironmentFault.exit_code
    assert not (tmp_path / "out").exists()


def test_what_was_begun_before_starts_nothing_early(fasta: Path, model: Path, early: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert toy_run(fasta, out, model) == 0
    early.clear()
    assert toy_run(fasta, out, model) == 0
    assert early == ["checked"]  # there is nothing to do


def test_a_small_genome_starts_nothing_early(model: Path, early: list[str], tmp_path: Path) -> None:
    (tmp_path / "small.fa").write_text(">c\n" + "ACGTCAGGTA" * 60 + "\n")
    assert toy_run(tmp_path / "small.fa", tmp_path / "out", model, "--workers", "2") == 0
    assert early == ["checked", "start", "start"]


def test_warming_up_leaves_nothing_behind(model: Path) -> None:
    plan = PlanOptions(window_bp=1024, halo_bp=288, pad_bp=64, smallest_bp=128, shard_bp=448)
    order = WorkOrder(
        str(model), "invertebrate", {Kind.DONOR: 0.5, Kind.ACCEPTOR: 0.5}, (), 1e-4, plan, 1024, "cpu", "float32", 1
    )
    text = bytearray(b"C" * 1000)
    text[100:106] = text[500:506] = DONOR.encode()
    bases = np.frombuffer(bytes(text), np.uint8)
    staged = StagedBases(np.zeros(1, np.int64), np.zeros(1, np.int64), np.array([0, 1000], np.int64), bases)
    work = ShardInput((Span(0, 0, 1000),), ["c"], np.array([1000], np.int64), staged)
    cold, warm = ShardWorker(order), ShardWorker(order)
    warm.warm_up()
    assert not warm.clock.take()
    one, other = cold.work(work), warm.work(work)
    assert sorted(one.calls.position.tolist()) == sorted(other.calls.position.tolist()) == [102, 502]
    assert one.counts == other.counts
