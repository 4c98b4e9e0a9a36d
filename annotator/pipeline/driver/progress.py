"""What a run tells while it works; who listens is the command line's business."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """A listener."""

    def start(self) -> None:
        """Work begins."""

    def add(self, total_bp: int, done_bp: int) -> None:
        """An assembly has been looked at; some of it may have been done by an earlier, interrupted run."""

    def workers(self, count: int) -> None:
        """Workers are ready, as many as `count`."""

    def advance(self, bases: int) -> None:
        """A shard is finished."""

    def drop(self, bases: int) -> None:
        """Bases will not be scanned after all."""

    def finished(self, name: str, exit_code: int) -> None:
        """An assembly is finished, or failed with this code."""

    def stop(self, *, finished: bool) -> None:
        """No more shards: all are done, or the run was cut short."""


class Silence:
    """A listener that tells nobody."""

    def start(self) -> None:
        """Do nothing."""

    def add(self, total_bp: int, done_bp: int) -> None:
        """Do nothing."""

    def workers(self, count: int) -> None:
        """Do nothing."""

    def advance(self, bases: int) -> None:
        """Do nothing."""

    def drop(self, bases: int) -> None:
        """Do nothing."""

    def finished(self, name: str, exit_code: int) -> None:
        """Do nothing."""

    def stop(self, *, finished: bool) -> None:
        """Do nothing."""
