"""Where the time of a run goes."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class StageClock:
    """Adds up the seconds spent in each stage, in any number of threads.

    On CUDA work is queued: a stage that waits for the device (calls, motifs) is charged with what was queued before it, and
    stages of several shards go on beside each other, so that their seconds may add up to more than the run took.

    Attributes:
        seconds: Per stage, in the order the stages were first entered.
    """

    def __init__(self) -> None:
        """No time has passed."""
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._lock = threading.Lock()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Charge a block of code to a stage."""
        began = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[name] += time.perf_counter() - began

    def take(self) -> dict[str, float]:
        """Seconds by stage since this was asked last; they count anew from here."""
        with self._lock:
            seconds = dict(self.seconds)
            self.seconds.clear()
        return seconds
