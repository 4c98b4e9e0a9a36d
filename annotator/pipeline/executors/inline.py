"""Work in this process: the default for one device."""

from __future__ import annotations

import queue
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

from annotator.machine import usable_cpus
from annotator.pipeline.driver.background import PATIENCE_S
from annotator.pipeline.driver.schedule import Key
from annotator.pipeline.executors.events import DEPTH, Event, Failed, Finished, Ready
from annotator.pipeline.executors.machine import Machine, this_process
from annotator.pipeline.worker.runner import TaskRunner
from annotator.pipeline.worker.task import AnyTask

WORKER = "this process"


class InlineExecutor:
    """One worker: on a CPU it works whenever it is waited for, on a GPU in a few threads beside the driver's."""

    replaces_workers = False
    works_here = True
    helpers = 1

    def __init__(self) -> None:
        """Nothing is loaded yet."""
        self._task: AnyTask | None = None
        self._runner: TaskRunner | None = None
        self._inbox: queue.SimpleQueue[tuple[Key, Any] | None] = queue.SimpleQueue()
        self._news: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._is_announced = self._is_closed = False
        self._machine = Machine("cpu")

    @property
    def starts_early(self) -> bool:
        """On a GPU, where loading is mostly waiting."""
        return self._machine.kind != "cpu"

    @property
    def depth(self) -> int:
        """As the device wants it."""
        return DEPTH[self._machine.kind]

    def machine(self, device: str) -> Machine:
        """The device of this process; on a CPU its model may have all threads."""
        self._machine = machine = this_process(device)
        return replace(machine, threads=usable_cpus()) if machine.kind == "cpu" else machine

    def start(self, task: AnyTask) -> None:
        """Load the model here and now."""
        task.setup()
        self._task, self._runner = task, TaskRunner(task)
        for _ in range(task.at_once if task.at_once > 1 else 0):
            self._threads.append(threading.Thread(target=self._work_on, name="work", daemon=True))
            self._threads[-1].start()

    def want(self, pieces: int) -> int:
        """There is one worker, whatever is left."""
        return 1

    def submit(self, worker: str, key: Key, work: Any) -> None:
        """Queue a piece of work."""
        assert self._task is not None
        self._task.announce(work)
        self._inbox.put((key, work))

    def wait(self, timeout_s: float) -> list[Event]:
        """Do the next piece of work, or hear what the threads have done."""
        if not self._is_announced:
            self._is_announced = True
            return [Ready(WORKER)]
        events: list[Event] = []
        with suppress(queue.Empty):
            if not self._threads:
                given = self._inbox.get_nowait()
                return [self._do(*given)] if given else []
            events.append(self._news.get(timeout=timeout_s))
            while True:
                events.append(self._news.get_nowait())
        return events

    def _do(self, key: Key, work: Any) -> Event:
        assert self._runner is not None
        try:
            return Finished(WORKER, key, *self._runner.run(work))
        except Exception as error:  # whatever it is, whoever drives decides
            return Failed(WORKER, key, error)

    def _work_on(self) -> None:
        while (given := self._inbox.get()) is not None and not self._is_closed:
            try:
                event = self._do(*given)
            except BaseException as error:  # a thread that ended would be waited for in vain
                event = Failed(WORKER, given[0], error)
            self._news.put(event)

    def kill(self, worker: str, reason: str, *, blame: bool) -> None:
        """Never asked: nothing runs here while somebody could ask."""

    def close(self) -> None:
        """Drop what is queued; threads end with the piece they are at."""
        self._is_closed = True
        for _ in self._threads:
            self._inbox.put(None)
        deadline = time.monotonic() + PATIENCE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
