"""One thing beside the main loop: opening the next assembly, or merging a finished one, while workers are at work."""

from __future__ import annotations

import threading
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
    """Tasks one after the other in a thread, or in this one."""

    def __init__(self) -> None:
        """Nothing to do."""
        self._tasks: deque[tuple[Label, Task]] = deque()
        self._done: deque[tuple[Label, BaseException | None]] = deque()
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._running = 0
        self._thread: threading.Thread | None = None

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
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="background", daemon=True)
            self._thread.start()
        with self._changed:
            self._changed.notify_all()

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
        """Wait for a task to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._done or not self._running, timeout_s)

    def stop(self) -> None:
        """Let what is running end early; drop the rest."""
        self._stop.set()
        with self._changed:
            self._tasks.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(PATIENCE_S)

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
