"""What a file format of the results folder is, apart from predictions.parquet, which every run has.

Coordinates of the tables that formats are given: 0-based half-open.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, slots=True)
class OutputRun:
    """What formats have to know of a run.

    Attributes:
        kinds: Kinds of call that the run reports, whether or not there are calls of them.
        contig_names: Names of all contigs, in FASTA order.
        contig_lengths: Their lengths in bp.
    """

    kinds: Collection[str]
    contig_names: Sequence[str]
    contig_lengths: Sequence[int] | NDArray[np.int64]

    @property
    def longest_contig_bp(self) -> int:
        """Length of the longest contig; 0 without contigs."""
        return int(np.asarray(self.contig_lengths, np.int64).max(initial=0))


@dataclass(frozen=True, slots=True)
class Target:
    """A file while it is written.

    Attributes:
        path: Temporary name that it is written under.
        final: Name that it gets once every file is complete; messages about faults give this one.
    """

    path: Path
    final: Path


class FormatWriter(Protocol):
    """One data file of a format, open for writing; a context that completes the file, or just closes it after an error."""

    @property
    def rows(self) -> int:
        """Calls written so far."""

    def write(self, table: pl.DataFrame) -> None:
        """Append those rows of a table that belong in this file.

        Args:
            table: Rows of `TABLE_SCHEMA`; over all calls they come in the order of predictions.parquet.

        Raises:
            ResourceFault: They cannot be written.
        """

    def index(self, target: Target) -> None:
        """Write an index of the completed file; several may be written at the same time, by different threads.

        Args:
            target: The index; its final name is one of those that `Format.names` gave for this file.

        Raises:
            ResourceFault: It cannot be written.
        """

    def __enter__(self) -> Self:
        """Itself."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Complete the file; after an error, close it as it is."""


class Format(Protocol):
    """A file format with its options. Equal tables and options give equal bytes."""

    @property
    def shows_q_values(self) -> bool:
        """Whether a file shows q-values, which are known once the whole genome is scanned; others are written before."""

    def names(self, run: OutputRun) -> Mapping[str, Sequence[str]]:
        """Names of the data files of a run, each with the names of its indices, in the order in which they are listed."""

    def open(self, name: str, target: Target, run: OutputRun, pool: Executor) -> FormatWriter:
        """Begin a data file.

        Args:
            name: One of the data files of `names`.
            target: Where it is written.
            run: The run.
            pool: Threads for work such as compression; the bytes do not depend on how many there are.

        Raises:
            ResourceFault: It cannot be written.
        """
