"""The main loop of a run: opens assemblies, hands shards to workers, records what comes back; `Run.work` shows all of it."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from annotator.errors import AnnotatorError, InputError, ModelFault, Postponed, ResourceFault, UsageError
from annotator.pipeline.driver.assembly import Assembly
from annotator.pipeline.driver.background import Background
from annotator.pipeline.driver.progress import Progress
from annotator.pipeline.driver.schedule import GivenUp, Key, Schedule
from annotator.pipeline.executors.events import Event, Executor, Failed, Finished, Lost, Ready
from annotator.pipeline.options import SHARED, ExecutionOptions, Sample
from annotator.pipeline.worker.task import Task
from annotator.preflight import as_text
from annotator.results.workspace import rows_of_files

logger = logging.getLogger(__name__)

TICK_S = 0.5
"""Longest wait for news before deadlines are looked at again, seconds."""
GRACE_S = 30.0
"""Time for what workers still hold when the time of the run is up, seconds."""
LEAST_WAITING = 4
"""Shards that should wait for a worker, and one assembly behind the one in work; with less the next assembly is opened. Each open
one costs its contig table's memory.
"""
MOST_FAILED_AT_FIRST = 3
"""Shards given up before the first success that end an assembly: the fault is then not in the shards."""

_SAME_ANYWHERE = (ModelFault, InputError, UsageError)
"""Errors that would be the same on any worker."""


@dataclass(frozen=True)
class AssemblyResult:
    """What became of an assembly.

    Attributes:
        sample: The assembly.
        run: Contents of its run.json; None where it failed.
        error: The fault that ended it; None where there was none.
    """

    sample: Sample
    run: dict[str, Any] | None
    error: AnnotatorError | None = None

    @property
    def exit_code(self) -> int:
        """The exit code that a run over this assembly alone would have."""
        return self.error.exit_code if self.error else int(self.run["exit_status"]) if self.run else 1

    def summary(self) -> dict[str, Any]:
        """Its entry in batch.json."""
        return {
            "sample": self.sample.name, "fasta": as_text(self.sample.fasta), "exit_status": self.exit_code,
            "error": str(self.error) if self.error else None,
            "failed_contigs": self.run["failed_contigs"]["count"] if self.run else None,
            "rows": rows_of_files(self.run) if self.run else {},
        }  # fmt: skip


@dataclass
class Run:
    """The state of a run: which assemblies are open, and what became of the others.

    Attributes:
        assemblies: All assemblies of the run, in order.
        task: The work on each shard.
        executor: Where it is done.
        execution: How it is done.
        progress: Told how far the run is.
        batch_bp: Bases of a batch; a shard of fewer takes as long as one of so many.
        clock: Seconds that only go up.
        background: Makes what opens and merges assemblies beside the main loop, from how many it may at a time.
        errors: The faults of assemblies that failed, by index.
    """

    assemblies: list[Assembly]
    task: Task
    executor: Executor
    execution: ExecutionOptions
    progress: Progress
    batch_bp: int
    clock: Callable[[], float] = time.monotonic
    background: Callable[[int], Background] = Background
    errors: dict[int, AnnotatorError] = field(default_factory=dict)
    _open: dict[int, Assembly] = field(default_factory=dict)
    _started: bool = False
    _successes: int = 0

    def work(self) -> list[AssemblyResult]:
        """Open, hand out, record and merge until nothing is left.

        Returns:
            One result per assembly, in order.
        """
        self.schedule = Schedule(deadline_s=self.execution.shard_timeout_s, least_bases=self.batch_bp)
        self.began = self.clock()
        self.progress.start()
        complete = False
        self.beside = self.background(self.executor.helpers)
        self._coming = deque(range(len(self.assemblies)))
        try:
            self._start_early()
            while self._coming or self._open or self.beside.busy:
                self._give_out()
                self._feed()
                for event in self._news():
                    self._take(event)
                self._replace_the_overdue()
                self._stop_in_time()
                self._collect()
            complete = True
        finally:
            try:
                self.beside.stop()
                for assembly in self.assemblies:
                    assembly.close()
            finally:
                self.progress.stop(finished=complete)
        return [AssemblyResult(a.sample, a.result, self.errors.get(i)) for i, a in enumerate(self.assemblies)]

    def _start_early(self) -> None:
        """Make workers ready while the first FASTA is checked, where it is sure to have work for them."""
        if not self.executor.starts_early or not (shards := self.assemblies[0].sure_shards):
            return
        if not self.executor.replaces_workers:  # it loads the model in this thread
            index = self._coming.popleft()
            self.beside.run((index, "open"), self.assemblies[index].open, here=False)
        self._started = True
        self.executor.start(self.task)
        self.executor.want(shards)

    def _feed(self) -> None:
        """Open the next assembly where workers will soon want one."""
        plenty = self.schedule.waiting >= max(LEAST_WAITING, 2 * self.schedule.workers) and len(self._open) > 1
        idle = self._open and not self.schedule.in_flight  # the first is to be begun before the second is looked at
        if self._coming and self.beside.has_room and not (plenty or idle or self._time_is_up()):
            index = self._coming.popleft()
            self._in_background(index, "open", self.assemblies[index].open)

    def _in_background(self, index: int, what: str, job: Any) -> None:
        """Do something beside the main loop where workers are at work; else here and now, where a signal can end it at once."""
        self.beside.run((index, what), job, here=not self.schedule.in_flight)

    def _collect(self) -> None:
        """Take up what has been opened or merged."""
        for (index, what), error in self.beside.done():
            assembly = self.assemblies[index]
            if error is not None:
                self._fail(index, error)
            elif what == "open":
                self._opened(index, assembly)
            else:
                self._finished(index)

    def _opened(self, index: int, assembly: Assembly) -> None:
        if assembly.result is not None:  # an earlier run has done it all
            self._successes += 1
            self._finished(index)
            return
        self._open[index] = assembly
        total, todo = sum(shard.bases for shard in assembly.shards), assembly.todo
        assembly.announce()
        self.progress.add(total, total - sum(shard.bases for shard in todo))
        for shard in todo:
            self.schedule.add((index, shard.index), shard.bases)
        if todo and not self._started:
            self._started = True
            self.executor.start(self.task)
        self._finish_if_complete(index)

    def _give_out(self) -> None:
        """Give a shard to every worker that can take one."""
        if not self._started:
            return
        self.schedule.depth = self.executor.depth
        self.schedule.expected = self.executor.want(self.schedule.waiting + self.schedule.in_flight)
        staged = self.execution.bases_via != SHARED
        if not self._time_is_up():
            for worker, (index, shard) in self.schedule.assign(self.clock()):
                try:
                    self.executor.submit(worker, (index, shard), self.assemblies[index].input(shard, staged=staged))
                except AnnotatorError as error:  # its bases could not be staged
                    self.schedule.finished(worker, (index, shard), self.clock())  # it never got there
                    self._fail(index, error)

    def _news(self) -> list[Event]:
        if self.schedule.in_flight or self.schedule.waiting:
            return self.executor.wait(TICK_S)
        self.beside.wait(TICK_S)
        return []

    def _take(self, event: Event) -> None:
        """Draw the consequences of what a worker tells."""
        now = self.clock()
        match event:
            case Ready(worker):
                self.schedule.join(worker)
                self.progress.workers(self.schedule.workers)
            case Finished(worker, key, result, report):
                if self.schedule.finished(worker, key, now):
                    self._record(key, result, worker, report)
            case Failed(worker, (index, _) as key, error, sick):
                if isinstance(error, InputError) and self.executor.replaces_workers and self._can_be_read(key):
                    sick = True  # what is wrong is on the worker's side
                elif isinstance(error, AnnotatorError) and (
                    isinstance(error, _SAME_ANYWHERE) or not self.executor.replaces_workers
                ):
                    if self.schedule.finished(worker, key, now):
                        self._fail(index, error)
                    return
                elif isinstance(error, MemoryError) and not self.executor.replaces_workers:
                    raise error
                # without another worker the same work fails the same way
                verdict = self.schedule.failed(worker, key, _in_one_line(error), now, again=self.executor.replaces_workers)
                self._judge([verdict] if verdict else [], error)
                if sick:
                    self.executor.kill(worker, _in_one_line(error), blame=False)
            case Lost(worker, reason, blame):
                logger.warning("%s: %s", worker, reason)
                self._judge(self.schedule.lost(worker, reason, blame=blame))
                self.progress.workers(self.schedule.workers)

    def _record(self, key: Key, result: Any, worker: str, report: Any) -> None:
        index, shard = key
        assembly = self._open.get(index)
        if assembly is None:
            return
        self._successes += 1
        try:
            assembly.record(shard, result, worker, report)
        except AnnotatorError as error:
            self._fail(index, error)
            return
        self.progress.advance(assembly.shards[shard].bases)
        self._finish_if_complete(index)

    def _judge(self, verdicts: list[GivenUp], error: BaseException | None = None) -> None:
        """Give up what was tried too often; give up all where nothing ever worked."""
        for verdict in verdicts:
            index, shard = verdict.key
            if (assembly := self._open.get(index)) is None:
                continue
            assembly.give_up(shard, verdict.reason)
            if not self._successes and not assembly.done and (len(assembly.failed) >= MOST_FAILED_AT_FIRST or not assembly.todo):
                alone = len(self.assemblies) == 1 and error is not None and not self.executor.replaces_workers
                self._fail(index, error if alone and error else NothingWorks(verdict.reason))
                continue
            self.progress.drop(assembly.shards[shard].bases)
            self._finish_if_complete(index)

    def _finish_if_complete(self, index: int) -> None:
        if index in self._open and self._open[index].complete:
            self._in_background(index, "finish", self._open.pop(index).finish)

    def _finished(self, index: int) -> None:
        assembly = self.assemblies[index]
        assembly.forget()
        assert assembly.result is not None
        self.progress.finished(assembly.sample.name, int(assembly.result["exit_status"]))

    def _fail(self, index: int, error: BaseException) -> None:
        """One assembly ends; the rest go on, unless it is the only one or the fault is not its own."""
        assembly = self.assemblies[index]
        if len(self.assemblies) == 1:
            raise error
        if isinstance(error, OSError):
            error = ResourceFault(f"{error.filename or assembly.sample.out_dir}: {error.strerror or error}")
        if not isinstance(error, AnnotatorError):
            raise error
        logger.error("%s: %s", assembly.sample.fasta, error)
        self.errors[index] = error
        self.schedule.withdraw(index)
        if self._open.pop(index, None) is not None:
            self.progress.drop(sum(shard.bases for shard in assembly.todo))
        assembly.forget()
        self.progress.finished(assembly.sample.name, error.exit_code)

    def _can_be_read(self, key: Key) -> bool:
        """Whether the driver still reads the first base of a shard as it did when the FASTA was checked."""
        index, shard = key
        if index not in self._open:
            return True
        work = self._open[index].input(shard)
        try:
            work.bases.read(work.spans[0].contig, work.spans[0].start, work.spans[0].start + 1)
        except InputError:
            return False
        return True

    def _replace_the_overdue(self) -> None:
        for worker, (index, shard), allowed in self.schedule.overdue(self.clock()):
            place = self.assemblies[index].input(shard).place if index in self._open else f"shard {shard}"
            self.executor.kill(worker, f"no answer for {allowed:.0f} s on {place}", blame=True)

    def _time_is_up(self) -> bool:
        limit = self.execution.max_runtime_s
        return bool(limit) and self.clock() - self.began > limit

    def _stop_in_time(self) -> None:
        """With a longest time: nothing new after that time, and what is in flight gets a little longer."""
        if not self._time_is_up() or not (self._coming or self.schedule.waiting or self.schedule.in_flight):
            return
        if not self.schedule.in_flight or self.clock() - self.began > self.execution.max_runtime_s + GRACE_S:
            raise Postponed("time is up (`max_runtime_s`); what is finished is kept, the same command goes on")


def _in_one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


class NothingWorks(AnnotatorError):
    """Shard after shard failed and none succeeded."""

    def __init__(self, reason: str) -> None:
        """Say why the last one failed."""
        super().__init__(f"internal error: nothing could be computed; the last reason was: {reason}")
