"""How a worker keeps its device busy: what is queued before what is read, and what it lets go of when memory runs out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from annotator.calls.batch import Calls
from annotator.calls.sites import QueuedSites
from annotator.genome.bases import StagedBases
from annotator.genome.plan import PlanOptions, Span
from annotator.genome.shard_input import ShardInput
from annotator.kinds import Kind
from annotator.models.families.compact.scan import FoldedNet
from annotator.pipeline.worker.order import WorkOrder
from annotator.pipeline.worker.shard_worker import ShardWorker
from annotator.scan.windows import WindowScorer
from tests.support.detector import DONOR, write_detector

PLAN = PlanOptions(window_bp=1024, halo_bp=288, pad_bp=64, smallest_bp=128, shard_bp=10_000)
LENGTH = 6 * PLAN.core_bp


@pytest.fixture
def worker(tmp_path: Path) -> ShardWorker:
    """One window a batch, as on a GPU that may owe two."""
    thresholds = {Kind.DONOR: 0.5, Kind.ACCEPTOR: 0.5}
    model = str(write_detector(tmp_path / "model"))
    worker = ShardWorker(WorkOrder(model, "invertebrate", thresholds, (), 1e-4, PLAN, 1024, "cpu", "float32", 1))
    worker.most_unread = 2
    return worker


def shard() -> ShardInput:
    """A contig of six windows with a donor in each."""
    bases = np.full(LENGTH, ord("C"), np.uint8)
    for window in range(6):
        at = window * PLAN.core_bp + 100
        bases[at : at + 6] = np.frombuffer(DONOR.encode(), np.uint8)
    zero, lengths = np.zeros(1, np.int64), np.array([LENGTH], np.int64)
    return ShardInput((Span(0, 0, LENGTH),), ["c"], lengths, StagedBases(zero, zero, np.array([0, LENGTH]), bases))


def note(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens in which order: q a batch is queued, r one is read."""
    seen: list[str] = []
    logits, read = FoldedNet.logits, QueuedSites.read

    def noted_logits(self: FoldedNet, x: torch.Tensor) -> torch.Tensor:
        seen.append("q")
        return logits(self, x)

    def noted_read(self: QueuedSites, dropped: Counter[str]) -> Calls:
        seen.append("r")
        return read(self, dropped)

    monkeypatch.setattr(FoldedNet, "logits", noted_logits)
    monkeypatch.setattr(QueuedSites, "read", noted_read)
    return seen


def test_the_next_batch_is_queued_before_one_is_read(worker: ShardWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = note(monkeypatch)
    finish = worker.begin(shard())
    assert "".join(seen) == "qqqrqrqrqr"
    assert len(finish().calls) == 6
    assert "".join(seen) == "qqqrqrqrqrrr"


def test_a_cpu_reads_each_batch_at_once(worker: ShardWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.most_unread = 0
    seen = note(monkeypatch)
    assert len(worker.work(shard()).calls) == 6
    assert "".join(seen) == "qr" * 6


def test_out_of_memory_lets_go_of_what_is_owed_before_batches_are_halved(
    worker: ShardWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert worker.scorer is not None
    worker.scorer.batch_bp = 2048
    seen, whole, halved = note(monkeypatch), WindowScorer._logits, []

    def small(self: WindowScorer, *arguments: object) -> torch.Tensor:
        if seen.count("q") - seen.count("r") == 2 and "fault" not in seen:
            seen.append("fault")
            raise torch.OutOfMemoryError("out of memory")
        return whole(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(WindowScorer, "_logits", small)
    monkeypatch.setattr(WindowScorer, "_halve", lambda *_: halved.append(1))
    assert len(worker.work(shard()).calls) == 6
    assert seen == ["q", "q", "fault", "r", "r", "q", "r"] and not halved


def test_a_warmed_up_worker_has_spent_no_time(worker: ShardWorker) -> None:
    worker.warm_up()
    assert not worker.clock.take()
    worker.work(shard())
    first = worker.clock.take()
    assert first["model"] > 0 and not worker.clock.take()
