"""Work in this process: the default for one device."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

from annotator.machine import usable_cpus
from annotator.pipeline.driver.schedule import Key
from annotator.pipeline.executors.events import Event, Failed, Finished, Ready
from annotator.pipeline.executors.machine import Machine, this_process
from annotator.pipeline.worker.task import AnyTask

WORKER = "this process"


class InlineExecutor:
    """One worker, which works whenever it is waited for."""

    replaces_workers = False
    works_here = True
    helpers = 1

    def __init__(self) -> None:
        """Nothing is loaded yet."""
        self._task: AnyTask | None = None
        self._queue: deque[tuple[Key, Any]] = deque()
        self._is_announced = False
        self._machine = Machine("cpu")

    @property
    def starts_early(self) -> bool:
        """On a GPU, where loading is mostly waiting."""
        return self._machine.kind != "cpu"

    def machine(self, device: str) -> Machine:
        """The device of this process; on a CPU its model may have all threads."""
        self._machine = machine = this_process(device)
        return replace(machine, threads=usable_cpus()) if machine.kind == "cpu" else machine

    def start(self, task: AnyTask) -> None:
        """Load the model here and now."""
        task.setup()
        self._task = task

    def want(self, pieces: int) -> int:
        """There is one worker, whatever is left."""
        return 1

    def submit(self, worker: str, key: Key, work: Any) -> None:
        """Queue a piece of work."""
        assert self._task is not None
        self._task.announce(work)
        self._queue.append((key, work))

    def wait(self, timeout_s: float) -> list[Event]:
        """Do the next piece of work."""
        if not self._is_announced:
            self._is_announced = True
            return [Ready(WORKER)]
        if not self._queue or self._task is None:
            return []
        key, work = self._queue.popleft()
        try:
            result = self._task.process(work)
        except Exception as error:  # whatever it is, whoever drives decides
            return [Failed(WORKER, key, error)]
        return [Finished(WORKER, key, result, self._task.report())]

    def kill(self, worker: str, reason: str, *, blame: bool) -> None:
        """Never asked: nothing runs here while somebody could ask."""

    def close(self) -> None:
        """Drop what is queued."""
        self._queue.clear()
