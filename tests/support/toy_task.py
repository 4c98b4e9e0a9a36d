"""A task without a model: quick to start anywhere, its calls follow from the bases, and it fails when told to."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from annotator.calls.batch import Calls
from annotator.calls.profiles import count_profiles, profiles_to_text, read_surroundings
from annotator.errors import EnvironmentFault, InputError, ModelFault, ResourceFault
from annotator.genome.shard_input import ShardInput
from annotator.kinds import KINDS
from annotator.output.parts import part_bytes
from annotator.output.table import calls_table
from annotator.pipeline.worker.order import ShardResult, WorkerReport, WorkOrder
from annotator.pipeline.worker.shard_task import ShardTask

WORD = re.compile(b"(?=CAGGT)")


class ToyTask(ShardTask):
    """Calls a donor at every CAGGT of the plus strand.

    Only the first `setups` of its workers can be set up, where that is given.
    `faults` maps a place ("chr1:0", contig and start of a span) to (what happens there, how many times in all).
    With several shards `at_once`, all of the work is in the second half, and so in several threads.
    """

    at_once = 1

    def __init__(
        self, order: WorkOrder, scanner: object = None, *, folder: str = "", faults: dict[str, tuple[str, int]] | None = None,
        setup_fault: str = "", pace_s: float = 0.0, setups: int = 0, at_once: int = 1,
    ) -> None:  # fmt: skip
        super().__init__(order)
        self.at_once = at_once
        self.folder, self.faults = folder, faults or {}
        self.setup_fault, self.pace_s, self.setups = setup_fault, pace_s, setups
        self.announced = 0

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return _remade, (self.order, self.folder, self.faults, self.setup_fault, self.pace_s, self.setups, self.at_once)

    def setup(self) -> None:
        if self.folder:
            (Path(self.folder) / f"worker-{os.getpid()}").touch()
        if self.setup_fault:
            self._fail(self.setup_fault)
        if self.setups and len(list(Path(self.folder).glob("worker-*"))) > self.setups:
            self._fail("device")

    def announce(self, work: ShardInput) -> None:
        self.announced += 1

    def report(self) -> WorkerReport:
        return WorkerReport({"toy": 0.0}, {}, 1, {"host": 1})

    def begin(self, work: ShardInput) -> Callable[[], ShardResult]:
        if self.at_once > 1:
            return lambda: self._process(work)
        result = self._process(work)
        return lambda: result

    def _process(self, work: ShardInput) -> ShardResult:
        for span in work.spans:
            place = f"{work.names[span.contig]}:{span.start}"
            what, times = self.faults.get(place, ("", 0))
            if what and self._count(place) <= times:
                self._fail(what)
        time.sleep(self.pace_s)
        found = []
        for span in work.spans:
            text = bytes(work.bases.read(span.contig, span.start, min(int(work.lengths[span.contig]), span.end + 4)))
            at = np.array([m.start() for m in WORD.finditer(text)], np.int64)
            position = at[at < span.end - span.start] + span.start + 2
            found.append(_donors(position[position + 3 <= work.lengths[span.contig]], span.contig))
        table = calls_table(Calls.concatenate(found), work.names, self.order.labels, "toy", "")
        profiles = count_profiles(Calls.concatenate(found), work, read_surroundings(work), self.order.labels)
        data, info = part_bytes(table, profiles_to_text(profiles))
        return ShardResult(data, info.rows, info.sha256, {"bases": work.owned_bp})

    def _count(self, place: str) -> int:
        path = Path(self.folder) / place.replace("/", "_")
        with path.open("a") as file:
            file.write("x")
        return path.stat().st_size

    def _fail(self, what: str) -> None:
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif what == "exit 0":
            sys.exit(0)
        elif what == "exit 1":
            os._exit(1)
        elif what == "segfault":
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what a fault handler may say of it
            ctypes.string_at(0)
        elif what == "hang":
            time.sleep(600)
        elif what == "slow":
            time.sleep(1.5)
        else:
            if what == "numpy memory":
                np.empty(1 << 50)
            raise {
                "raise": ValueError("bad window"), "memory": MemoryError("no room"),
                "device": EnvironmentFault("the GPU fell off"),
                "input": InputError("g.fa: changed during the run"), "model": ModelFault("NaN in window chr1:0-1000"),
                "resource": ResourceFault("out of memory on cuda"),
            }[what]  # fmt: skip


class ManyAtOnce(ShardTask):
    """The real work as it is done on a GPU: blocks read ahead, batches queued before others are read, several shards in work."""

    at_once = 4

    def setup(self) -> None:
        from annotator.scan.feed import BlockFeed  # torch comes in here

        super().setup()
        worker = self._loaded
        worker.most_unread = 2
        worker.feed = BlockFeed(self.order.windows, worker.device, clock=worker.clock, ahead=True)


class CutShort(ShardTask):
    """The real work of a run that is interrupted after a number of shards."""

    def __init__(self, order: WorkOrder, scanner: object = None, *, after: int) -> None:
        super().__init__(order)
        self.left = after

    def begin(self, work: ShardInput) -> Callable[[], ShardResult]:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return super().begin(work)


def _remade(
    order: WorkOrder, folder: str, faults: dict[str, tuple[str, int]], setup_fault: str, pace_s: float, setups: int, at_once: int
) -> ToyTask:
    return ToyTask(
        order, folder=folder, faults=faults, setup_fault=setup_fault, pace_s=pace_s, setups=setups, at_once=at_once
    )  # fmt: skip


def _donors(position: np.ndarray, contig: int) -> Calls:
    n = len(position)
    return Calls(
        contig=np.full(n, contig, np.int64), start=position + 1, end=position + 3,
        kind=np.full(n, KINDS.index("donor"), np.uint8), strand=np.ones(n, np.int8),
        probability=np.full(n, 0.5, np.float32), score=np.full(n, 500, np.uint16), position=position,
        motif=np.full(n, -1, np.int32), p_value=np.full(n, np.nan), bits=np.full(n, np.nan, np.float32),
    )  # fmt: skip
