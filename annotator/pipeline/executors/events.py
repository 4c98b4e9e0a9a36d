"""What an executor offers to whoever drives a run, and what it tells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from annotator.pipeline.driver.schedule import Key
from annotator.pipeline.executors.machine import Machine
from annotator.pipeline.worker.order import WorkerReport
from annotator.pipeline.worker.task import AnyTask

SETUP_TRIES = 3
"""Workers in a row that cannot be set up before a run, or one place of it, is given up."""
SETUP_TIMEOUT_S = 900.0
"""A worker that loads its model for so long is taken to hang."""


MOST_HELPERS = 8
"""Each may hold a contig table of 150 MB."""

DEPTH = {"cpu": 2, "cuda": 8}
"""Shards that a worker may hold, per kind of device. On a CPU it works on one and has the next at hand; on a GPU as many are read
ahead as are in work (`SHARDS_AT_ONCE`)."""


@dataclass(frozen=True)
class Ready:
    """A worker has joined and can take work."""

    worker: str


@dataclass(frozen=True)
class Finished:
    """A worker has done a piece of work."""

    worker: str
    key: Key
    result: Any
    report: WorkerReport = field(default_factory=WorkerReport)


@dataclass(frozen=True)
class Failed:
    """A worker could not do a piece of work; `sick`: it should not be given another."""

    worker: str
    key: Key
    error: BaseException
    sick: bool = False


@dataclass(frozen=True)
class Lost:
    """A worker is gone with what it held; `blame`: its work may have been the cause."""

    worker: str
    reason: str
    blame: bool = True


Event = Ready | Finished | Failed | Lost


class Executor(Protocol):
    """Where work is done: in this process, in local processes, in Ray actors."""

    replaces_workers: bool
    """Whether work that failed may be tried again in a fresh worker."""
    works_here: bool
    """Whether this very process works, and so loads the model."""

    @property
    def starts_early(self) -> bool:
        """Whether workers may be made ready while the first FASTA is still checked: not where that would take its CPUs."""

    @property
    def depth(self) -> int:
        """Pieces of work that a worker may hold."""

    @property
    def helpers(self) -> int:
        """Assemblies that the driver may open and merge at a time without taking CPUs from workers; at least 1."""

    def machine(self, device: str) -> Machine:
        """What the workers compute on.

        Args:
            device: auto, cpu, cuda or cuda:N.

        Raises:
            AnnotatorError: There is no such device.
        """

    def start(self, task: AnyTask) -> None:
        """Make ready to work; workers join by `Ready`.

        Raises:
            AnnotatorError: Nothing can be started.
        """

    def want(self, pieces: int) -> int:
        """Hear how many pieces of work are left, and start the workers that are missing for them.

        Returns:
            Workers that are ready or about to be.
        """

    def submit(self, worker: str, key: Key, work: Any) -> None:
        """Give a worker a piece of work; returns at once."""

    def wait(self, timeout_s: float) -> list[Event]:
        """What has happened; waits for something to happen, but not longer than `timeout_s`.

        Raises:
            AnnotatorError: No worker could be had, or none is left and none comes back.
        """

    def kill(self, worker: str, reason: str, *, blame: bool) -> None:
        """Stop a worker at once; `Lost` follows, with this reason and blame."""

    def close(self) -> None:
        """Stop everything; leaves no process behind."""
