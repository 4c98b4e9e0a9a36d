"""The whole run: assemblies in, BED and Parquet out. The flow reads from top to bottom in `Run.work`."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from annotator.errors import AnnotatorError, InputError, ModelFault, Postponed, ResourceFault, UsageError
from annotator.pipeline.driver.assembly import Assembly
from annotator.pipeline.driver.background import Background
from annotator.pipeline.driver.progress import Progress
from annotator.pipeline.driver.schedule import GivenUp, Key, Schedule
from annotator.pipeline.executors.choose import choose_executor
from annotator.pipeline.executors.events import Event, Executor, Failed, Finished, Lost, Ready
from annotator.pipeline.options import SHARED, AnnotateOptions, ExecutionOptions, Sample
from annotator.pipeline.request import Request, resolve
from annotator.pipeline.run_record import announce_genome, announce_run
from annotator.pipeline.worker.stage import AnnotateStage

logger = logging.getLogger(__name__)

TICK_S = 0.5
"""How long nothing may happen before deadlines are looked at again."""
GRACE_S = 30.0
"""What is in flight when the time is up may take so long."""
LEAST_WAITING = 4
"""Shards that should wait for a worker, and one assembly behind the one in work; with less the next assembly is opened. Each open
one costs its contig table's memory.
"""
HOPELESS = 3
"""So many shards given up before the first success: the fault is not in the shards."""

_FATAL = (ModelFault, InputError, UsageError)
"""Would be the same on any worker."""


@dataclass(frozen=True)
class Outcome:
    """What became of an assembly.

    Attributes:
        sample: Which.
        run: The contents of its run.json; None where it failed.
        error: Why it failed.
    """

    sample: Sample
    run: dict[str, Any] | None
    error: AnnotatorError | None = None

    @property
    def exit_code(self) -> int:
        """As of a run over this assembly alone."""
        return self.error.exit_code if self.error else int(self.run["exit_status"]) if self.run else 1

    def summary(self) -> dict[str, Any]:
        """Its entry in batch.json."""
        files = self.run["files"] if self.run else {}
        return {
            "sample": self.sample.name, "fasta": self.sample.fasta, "exit_status": self.exit_code,
            "error": str(self.error) if self.error else None,
            "failed_contigs": self.run["failed_contigs"]["count"] if self.run else None,
            "rows": {name: entry["rows"] for name, entry in files.items() if not name.endswith((".csi", ".tbi"))},
        }  # fmt: skip


def annotate(
    samples: Sequence[Sample], options: AnnotateOptions, execution: ExecutionOptions, progress: Progress
) -> list[Outcome]:
    """Annotate assemblies; their shards share one queue and the same loaded models.

    Args:
        samples: The assemblies, each with a results folder of its own.
        options: What to do.
        execution: Where to do it.
        progress: Told how far the run is.

    Returns:
        One per sample, in order. The final files of each appear only when all of them are complete.

    Raises:
        AnnotatorError: With the exit code of a fault that ends the run; of an assembly's own only where it is the only one.
    """
    executor = choose_executor(options, execution)
    with closing(executor):
        request = resolve(options, executor.machine(options.device))
        announce_run(request)
        assemblies = [Assembly(sample, request, options) for sample in samples]
        return Run(assemblies, request, executor, execution, progress).work()


@dataclass
class Run:
    """The state of a run: which assemblies are open, and what became of the others."""

    assemblies: list[Assembly]
    request: Request
    executor: Executor
    execution: ExecutionOptions
    progress: Progress
    errors: dict[int, AnnotatorError] = field(default_factory=dict)
    _open: dict[int, Assembly] = field(default_factory=dict)
    _started: bool = False
    _successes: int = 0

    def work(self) -> list[Outcome]:
        """Open, hand out, record, merge, until nothing is left."""
        self.schedule = Schedule(deadline_s=self.execution.shard_timeout_s, least_bases=self.request.order.batch_bp)
        self.began = time.monotonic()
        self.progress.start()
        complete = False
        self.background = Background(self.executor.helpers)
        self._coming = deque(range(len(self.assemblies)))
        try:
            while self._coming or self._open or self.background.busy:
                self._give_out()
                self._feed()
                for event in self._news():
                    self._heed(event)
                self._replace_the_overdue()
                self._stop_in_time()
                self._collect()
            complete = True
        finally:
            try:
                self.background.stop()
                for assembly in self.assemblies:
                    assembly.close()
            finally:
                self.progress.stop(finished=complete)
        return [Outcome(a.sample, a.result, self.errors.get(i)) for i, a in enumerate(self.assemblies)]

    def _feed(self) -> None:
        """Open the next assembly where workers will soon want one."""
        plenty = self.schedule.waiting >= max(LEAST_WAITING, 2 * self.schedule.workers) and len(self._open) > 1
        idle = self._open and not self.schedule.in_flight  # the first is to be begun before the second is looked at
        if self._coming and self.background.has_room and not (plenty or idle or self._time_is_up()):
            index = self._coming.popleft()
            self._in_background(index, "open", self.assemblies[index].open)

    def _in_background(self, index: int, what: str, task: Any) -> None:
        """Beside the workers where some are at work; here and now, where a signal can end it at once, if not."""
        self.background.run((index, what), task, here=not self.schedule.in_flight)

    def _collect(self) -> None:
        """What the background has done."""
        for (index, what), error in self.background.done():
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
        announce_genome(self.request, assembly.genome, sum(shard.bases for shard in todo))
        self.progress.add(total, total - sum(shard.bases for shard in todo))
        for shard in todo:
            self.schedule.add((index, shard.index), shard.bases)
        if todo and not self._started:
            self._started = True
            self.executor.start(AnnotateStage(self.request.order, self.request.scanner))
        self._finish_if_complete(index)

    def _give_out(self) -> None:
        """Every worker that can take a shard gets one."""
        if not self._started:
            return
        self.schedule.expected = self.executor.want(self.schedule.waiting + self.schedule.in_flight)
        staged = self.execution.stage != SHARED
        if not self._time_is_up():
            for worker, (index, shard) in self.schedule.assign(time.monotonic()):
                try:
                    self.executor.submit(worker, (index, shard), self.assemblies[index].input(shard, staged=staged))
                except AnnotatorError as error:  # its bases could not be staged
                    self.schedule.finished(worker, (index, shard), time.monotonic())  # it never got there
                    self._fail(index, error)

    def _news(self) -> list[Event]:
        if self.schedule.in_flight or self.schedule.waiting:
            return self.executor.wait(TICK_S)
        self.background.wait(TICK_S)
        return []

    def _heed(self, event: Event) -> None:
        now = time.monotonic()
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
                elif isinstance(error, AnnotatorError) and (isinstance(error, _FATAL) or not self.executor.replaces_workers):
                    if self.schedule.finished(worker, key, now):
                        self._fail(index, error)
                    return
                elif isinstance(error, MemoryError) and not self.executor.replaces_workers:
                    raise error
                # without another worker the same work fails the same way
                verdict = self.schedule.failed(worker, key, _said(error), now, again=self.executor.replaces_workers)
                self._judge([verdict] if verdict else [], error)
                if sick:
                    self.executor.kill(worker, _said(error), blame=False)
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
            if not self._successes and not assembly.done and (len(assembly.failed) >= HOPELESS or not assembly.todo):
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
        for worker, (index, shard), allowed in self.schedule.overdue(time.monotonic()):
            place = self.assemblies[index].input(shard).place if index in self._open else f"shard {shard}"
            self.executor.kill(worker, f"no answer for {allowed:.0f} s on {place}", blame=True)

    def _time_is_up(self) -> bool:
        limit = self.execution.max_runtime_s
        return bool(limit) and time.monotonic() - self.began > limit

    def _stop_in_time(self) -> None:
        """With --max-runtime: nothing new after that time, and what is in flight gets a little longer."""
        if not self._time_is_up() or not (self._coming or self.schedule.waiting or self.schedule.in_flight):
            return
        if not self.schedule.in_flight or time.monotonic() - self.began > self.execution.max_runtime_s + GRACE_S:
            raise Postponed("time is up (--max-runtime); what is finished is kept, the same command goes on")


def _said(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


class NothingWorks(AnnotatorError):
    """Shard after shard failed and none succeeded."""

    def __init__(self, reason: str) -> None:
        """Say why the last one failed."""
        super().__init__(f"internal error: nothing could be computed; the last reason was: {reason}")
