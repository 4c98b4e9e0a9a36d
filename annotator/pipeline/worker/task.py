"""What a run does with its shards. Driver and executors run any task; calling sites and motifs supplies one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from annotator.genome.contigs import ContigTable
from annotator.genome.plan import Shard
from annotator.genome.shard_input import ShardInput
from annotator.output.merge import Merge
from annotator.output.parts import PartInfo
from annotator.pipeline.worker.order import ShardResult, WorkerReport

Work = TypeVar("Work", contravariant=True)
Result = TypeVar("Result", covariant=True)


class WorkerTask(Protocol[Work, Result]):
    """The side of a task that an executor runs in its workers: `setup` once, then `begin` again and again.

    Picklable before `setup`. `announce` may be called from another thread than the rest.
    """

    @property
    def at_once(self) -> int:
        """Pieces of work that may be in a worker's hands together, all but one of them begun; 1 for one after the other."""

    def setup(self) -> None:
        """Load what is needed; called once, in the worker."""

    def announce(self, work: Work) -> None:
        """Hear that a piece of work will be processed soon."""

    def begin(self, work: Work) -> Callable[[], Result]:
        """Do the first half of one piece of work: all that wants the device to itself.

        Args:
            work: The piece.

        Returns:
            A function that does the rest and gives the result; called once, in any thread, while others may be begun.
        """

    def report(self) -> WorkerReport:
        """Tell of this worker; its seconds count anew from here. May be called from several threads."""


@dataclass(frozen=True)
class FinishedParts:
    """The parts of an assembly, ready to be merged.

    Attributes:
        paths: Parts in the order of the shards.
        expected: What the journal says of each.
        contigs: Contigs of the genome.
        leave_out: Names of contigs that a failed shard lies on.
        formats: File formats to write: name of each -> its options.
        scratch: Folder for temporary names, on the disk of the results folder.
    """

    paths: Sequence[Path]
    expected: Sequence[PartInfo]
    contigs: ContigTable
    leave_out: frozenset[str]
    formats: Mapping[str, object]
    scratch: Path


class Task(WorkerTask[ShardInput, ShardResult], Protocol):
    """The whole of a task: the driver plans and merges, the workers work on the shards between."""

    def plan(self, lengths: NDArray[np.int64], regions: dict[int, NDArray[np.int64]] | None) -> Iterable[Shard]:
        """Cut a genome into shards.

        Args:
            lengths: Contig lengths in bp, int64, [contigs].
            regions: Where given, the intervals [m, 2] per contig index that are wanted.
        """

    def file_names(self, contigs: ContigTable, formats: Mapping[str, object]) -> Sequence[str]:
        """Names of the files that `merge` writes for a genome, in formats as of `FinishedParts`."""

    def format_files(self, contigs: ContigTable, formats: Mapping[str, object]) -> Sequence[str]:
        """Names of those of them that are in the formats: the files that `rewrite` writes."""

    def begin_merge(self, contigs: ContigTable, formats: Mapping[str, object], out_dir: Path, scratch: Path) -> Merge:
        """Begin the final files before all parts are there.

        Args:
            contigs: Contigs of the genome.
            formats: File formats, as in `FinishedParts`.
            out_dir: The results folder.
            scratch: Folder for temporary names, on the same disk.
        """

    def merge(
        self, parts: FinishedParts, out_dir: Path, tick: Callable[[], None] | None, begun: Merge | None = None
    ) -> dict[str, PartInfo]:
        """Write the final files; all appear together, or none.

        Args:
            parts: What the workers made.
            out_dir: The results folder.
            tick: Called again and again; what it raises ends the merge, and no file appears.
            begun: A result of `begin_merge` that has taken all parts; none is left out then.

        Returns:
            File name -> rows and sha256.
        """

    def rewrite(
        self, out_dir: Path, contigs: ContigTable, formats: Mapping[str, object], tick: Callable[[], None] | None
    ) -> dict[str, PartInfo]:
        """Write the files in other formats again from those that `merge` wrote; arguments and result as of `merge`."""


TaskFactory = Callable[..., Task]
"""Makes the task of a run from its `WorkOrder` and, where there is one already, the order's motif scanner."""

AnyTask = WorkerTask[Any, Any]
