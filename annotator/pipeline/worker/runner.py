"""Pieces of work in two halves: one is begun at a time, and the one before is finished meanwhile."""

from __future__ import annotations

import threading
from typing import Any

from annotator.pipeline.worker.order import WorkerReport
from annotator.pipeline.worker.task import AnyTask


class TaskRunner:
    """Does pieces of work of a task that is set up, for as many threads as ask.

    Threads take turns at the first half, which belongs to the device, so that each keeps it busy while the others finish what
    it gave them: nearly all of that is NumPy, Polars and zlib, which let go of the interpreter's lock, and a process beside
    would have to be sent the bases and the calls. A task that wants its pieces in order gets them so, whoever asks.
    """

    def __init__(self, task: AnyTask) -> None:
        """Nothing is begun.

        Args:
            task: What to do; `setup` has been called.
        """
        self._task = task
        self._room = threading.Semaphore(task.at_once)
        self._turn = threading.Lock()

    def run(self, work: Any) -> tuple[Any, WorkerReport]:
        """Do a piece of work.

        Args:
            work: What the task takes.

        Returns:
            Its result, and what the worker tells of itself.

        Raises:
            Exception: Whatever the task raises.
        """
        with self._room:
            with self._turn:
                finish = self._task.begin(work)
            return finish(), self._task.report()
