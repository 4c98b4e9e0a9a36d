"""What a command tells while it works: logs on standard error, a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

logger = logging.getLogger("annotator")

LINE_EVERY_S = 15.0


def setup_logging(*, quiet: bool, verbose: bool) -> None:
    """Send the program's log lines to standard error."""
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    root = logging.getLogger("annotator")
    root.handlers[:] = [_Handler()]
    root.setLevel(level)
    root.propagate = False
    kernels = logging.getLogger("annotator_kernels")
    kernels.handlers[:] = root.handlers
    kernels.setLevel(level)  # which kernel runs where is said once
    kernels.propagate = False


class _Handler(logging.StreamHandler[Any]):
    """Writes to whatever standard error is now; a traceback only where one was asked for."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))


class LineProgress:
    """One log line every few seconds."""

    def __init__(self) -> None:
        """Nothing has begun."""
        self.total = self.done = self.first = 0
        self.began = self.told = 0.0

    def start(self, total_bp: int, done_bp: int) -> None:
        """Begin; tells how much an interrupted run had done."""
        self.total, self.done, self.first = total_bp, done_bp, done_bp
        self.began = self.told = time.monotonic()
        if done_bp:
            logger.info("resuming: %s of %s bp are done", f"{done_bp:,}", f"{total_bp:,}")

    def advance(self, bases: int) -> None:
        """Count a finished shard."""
        self.done += bases
        now = time.monotonic()
        if now - self.told >= LINE_EVERY_S:
            self.told = now
            rate = (self.done - self.first) / (now - self.began)
            left = (self.total - self.done) / rate
            logger.info("%.1f %% (%.0f kbp/s, about %.0f s left)", 100 * self.done / max(1, self.total), rate / 1e3, left)

    def stop(self, *, finished: bool) -> None:
        """Tell how long it took."""
        if finished:
            seconds = time.monotonic() - self.began
            logger.info("scanned %s bp in %.1f s", f"{self.done - self.first:,}", seconds)


class BarProgress(LineProgress):
    """A bar, for a terminal."""

    def start(self, total_bp: int, done_bp: int) -> None:
        """Show the bar."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        super().start(total_bp, done_bp)
        self.bar = Progress(
            TextColumn("scanning"), BarColumn(), TextColumn("{task.percentage:>5.1f} % {task.fields[rate]}"),
            TimeRemainingColumn(), console=Console(stderr=True), transient=True,
        )  # fmt: skip
        self.task = self.bar.add_task("scan", total=total_bp, completed=done_bp, rate="")
        self.bar.start()

    def advance(self, bases: int) -> None:
        """Move the bar."""
        self.done += bases
        rate = (self.done - self.first) / max(time.monotonic() - self.began, 1e-9)
        self.bar.update(self.task, completed=self.done, rate=f"{rate / 1e3:,.0f} kbp/s")

    def stop(self, *, finished: bool) -> None:
        """Remove the bar."""
        self.bar.stop()
        super().stop(finished=finished)


def make_progress(*, quiet: bool) -> LineProgress:
    """A bar on a terminal, lines elsewhere."""
    return BarProgress() if sys.stderr.isatty() and not quiet else LineProgress()
