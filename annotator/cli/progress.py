"""What a command tells while it works: logs on standard error, a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

import typer

from annotator.cli.values import with_flags

logger = logging.getLogger("annotator")

LINE_EVERY_S = 15.0
PROGRESS = ("auto", "bar", "lines", "json", "none")


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
        self.setFormatter(_Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))


class _Formatter(logging.Formatter):
    """Lines that mention flags where Python's would mention fields."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """The line of a record."""
        return with_flags(super().formatMessage(record))


class LineProgress:
    """One log line every few seconds; how far a run is."""

    def __init__(self) -> None:
        """Nothing has begun."""
        self.total = self.done = self.earlier = self.ready = 0
        self.began = self.last_line_s = 0.0

    def start(self) -> None:
        """Begin."""
        self.began = self.last_line_s = time.monotonic()

    def add(self, total_bp: int, done_bp: int) -> None:
        """More to scan; tells how much an interrupted run had done."""
        self.total, self.done, self.earlier = self.total + total_bp, self.done + done_bp, self.earlier + done_bp
        if done_bp:
            logger.info("resuming: %s of %s bp are done", f"{done_bp:,}", f"{total_bp:,}")

    def workers(self, count: int) -> None:
        """Remember how many; the rate counts from the first."""
        if count and not self.ready and self.done == self.earlier:
            self.began = time.monotonic()
        self.ready = count

    def advance(self, bases: int) -> None:
        """Count a finished shard."""
        self.done += bases
        now = time.monotonic()
        if now - self.last_line_s >= LINE_EVERY_S:
            self.last_line_s = now
            logger.info("%s", self.line())

    def line(self) -> str:
        """How far, how fast, how long still."""
        share = 100 * self.done / max(1, self.total)
        left = self.remaining_s
        return f"{share:.1f} % ({self.rate / 1e3:.0f} kbp/s" + (f", about {left:.0f} s left)" if left is not None else ")")

    @property
    def rate(self) -> float:
        """Bases a second, of this run alone."""
        return (self.done - self.earlier) / max(time.monotonic() - self.began, 1e-9)

    @property
    def remaining_s(self) -> float | None:
        """Seconds for what is known to be left; None before anything is done."""
        return (self.total - self.done) / self.rate if self.rate else None

    def drop(self, bases: int) -> None:
        """So much less to do."""
        self.total -= bases

    def finished(self, name: str, exit_code: int) -> None:
        """Tell of one assembly among several."""
        if name:
            logger.info("%s: %s", name, "done" if exit_code == 0 else f"failed with status {exit_code}")

    def stop(self, *, finished: bool) -> None:
        """Tell how long it took."""
        if finished:
            seconds = time.monotonic() - self.began
            logger.info("scanned %s bp in %.1f s", f"{self.done - self.earlier:,}", seconds)


class SilentProgress(LineProgress):
    """No lines but those about assemblies and the end."""

    def advance(self, bases: int) -> None:
        """Only count."""
        self.done += bases


class BarProgress(LineProgress):
    """A bar, for a terminal."""

    def start(self) -> None:
        """Show the bar."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        super().start()
        self.bar = Progress(
            TextColumn("scanning"), BarColumn(), TextColumn("{task.percentage:>5.1f} % {task.fields[rate]}"),
            TimeRemainingColumn(), console=Console(stderr=True), transient=True,
        )  # fmt: skip
        self.task = self.bar.add_task("scan", total=None, completed=0, rate="")
        self.bar.start()

    def add(self, total_bp: int, done_bp: int) -> None:
        """Lengthen the bar."""
        super().add(total_bp, done_bp)
        self.bar.update(self.task, total=self.total, completed=self.done)

    def advance(self, bases: int) -> None:
        """Move the bar."""
        self.done += bases
        many = f", {self.ready} workers" if self.ready > 1 else ""
        self.bar.update(self.task, completed=self.done, rate=f"{self.rate / 1e3:,.0f} kbp/s{many}")

    def stop(self, *, finished: bool) -> None:
        """Remove the bar."""
        self.bar.stop()
        super().stop(finished=finished)


class JsonProgress(LineProgress):
    """One JSON object a line on standard output, for machines."""

    def start(self) -> None:
        """The first line."""
        super().start()
        self._say("start")

    def add(self, total_bp: int, done_bp: int) -> None:
        """More to scan."""
        super().add(total_bp, done_bp)
        self._say("genome", genome_bp=total_bp, resumed_bp=done_bp)

    def workers(self, count: int) -> None:
        """Workers came or went."""
        super().workers(count)
        self._say("workers")

    def advance(self, bases: int) -> None:
        """Where the run is, with every shard."""
        self.done += bases
        self._say("progress")

    def finished(self, name: str, exit_code: int) -> None:
        """An assembly is finished."""
        super().finished(name, exit_code)
        self._say("assembly", sample=name, exit_status=exit_code)

    def stop(self, *, finished: bool) -> None:
        """The last line."""
        super().stop(finished=finished)
        self._say("end", finished=finished)

    def _say(self, event: str, **more: object) -> None:
        left = self.remaining_s
        line = {
            "event": event, "done_bp": self.done, "total_bp": self.total, "bp_per_s": round(self.rate),
            "remaining_s": None if left is None else round(left, 1), "elapsed_s": round(time.monotonic() - self.began, 1),
            "workers": self.ready, **more,
        }  # fmt: skip
        typer.echo(json.dumps(line))


def make_progress(kind: str = "auto", *, quiet: bool) -> LineProgress:
    """The listener asked for; by default a bar on a terminal, lines elsewhere."""
    if kind == "auto":
        kind = "bar" if sys.stderr.isatty() and not quiet else "lines"
    return {"bar": BarProgress, "lines": LineProgress, "json": JsonProgress, "none": SilentProgress}[kind]()
