"""What goes on beside the main loop: opening the next assemblies, and merging finished ones, while workers are at work."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

PATIENCE_S = 8.0
"""A task that does not stop by then is left to end with the process; what it was writing is swept by the next run."""

Label = Any
Task = Callable[[Callable[[], None]], None]
"""Takes a tick to call again and again, which raises when it is time to stop."""


class Stopped(BaseException):
    """Raised inside a task that is to end; no error."""


class Background:
    """Tasks in threads, or in this one; what was given first is begun first."""

    def __init__(self, threads: int = 1) -> None:
        """Nothing to do.

        Args:
            threads: Tasks at a time.
        """
        self._most = threads
        self._tasks: deque[tuple[Label, Task]] = deque()
        self._done: deque[tuple[Label, BaseException | None]] = deque()
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._running = 0
        self._threads: list[threading.Thread] = []

    def run(self, label: Label, task: Task, *, here: bool) -> None:
        """Do a task.

        Args:
            label: Comes back with its end.
            task: What to do.
            here: Before this call returns, in this thread; whatever but an Exception ends it passes through.
        """
        if here and not self.busy:
            try:
                task(self._tick)
            except Exception as error:
                self._done.append((label, error))
            else:
                self._done.append((label, None))
            return
        with self._changed:
            self._tasks.append((label, task))
            self._running += 1
            self._changed.notify_all()
        if len(self._threads) < min(self._most, self._running):
            self._threads.append(threading.Thread(target=self._work, name="background", daemon=True))
            self._threads[-1].start()

    @property
    def has_room(self) -> bool:
        """Whether another task would be begun at once."""
        return self._running < self._most

    @property
    def busy(self) -> bool:
        """Whether a task is running or waiting, or has ended unnoticed."""
        return bool(self._running or self._done)

    def done(self) -> list[tuple[Label, BaseException | None]]:
        """Tasks that have ended since this was asked last, with the error of those that failed."""
        ended = []
        while self._done:
            ended.append(self._done.popleft())
        return ended

    def wait(self, timeout_s: float) -> None:
        """Wait for a task to end; not at all where none is running."""
        with self._changed:
            self._changed.wait_for(lambda: self._done or not self._running, timeout_s)

    def stop(self) -> None:
        """Let what is running end early; drop the rest."""
        self._stop.set()
        with self._changed:
            self._tasks.clear()
            self._changed.notify_all()
        deadline = time.monotonic() + PATIENCE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _tick(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._tasks or self._stop.is_set())
                if self._stop.is_set():
                    return
                label, task = self._tasks.popleft()
            error: BaseException | None = None
            try:
                task(self._tick)
            except Stopped:
                return
            except BaseException as fault:
                error = fault
            with self._changed:
                self._done.append((label, error))
                self._running -= 1
                self._changed.notify_all()
