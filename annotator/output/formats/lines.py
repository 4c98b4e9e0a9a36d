"""A file of text lines, compressed with BGZF and indexed by position: what BED, bedGraph, GFF3 and tables have in common.

Coordinates: 0-based half-open; what the text itself says is the business of its format.
"""

from __future__ import annotations

from concurrent.futures import Executor
from types import TracebackType
from typing import Final, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from annotator.files import write_faults
from annotator.output.formats.base import OutputRun, Target
from annotator.output.formats.bgzf import BgzfWriter, compress_file
from annotator.output.formats.tabix import BED_TEXT, TabixIndex, TextColumns

TBI_LIMIT_BP: Final = 1 << 29
"""TBI cannot address positions beyond this; CSI can."""

INDEX_LEVEL: Final = 6
"""zlib level of the indices: that of htslib's tabix."""


def index_suffixes(longest_contig_bp: int) -> tuple[str, ...]:
    """The indices of a compressed file of lines: always CSI, and TBI for older programs where its coordinates suffice."""
    return (".csi", ".tbi") if longest_contig_bp < TBI_LIMIT_BP else (".csi",)


def indexed(name: str, run: OutputRun) -> tuple[str, ...]:
    """Names of the indices of a file of lines."""
    return tuple(name + suffix for suffix in index_suffixes(run.longest_contig_bp))


class LineFile:
    """One compressed file of lines while it is written: a context that completes it, or just closes it after an error.

    Formats derive their writers from it.

    Attributes:
        rows: Calls written so far.
    """

    def __init__(self, target: Target, header: str, pool: Executor, columns: TextColumns = BED_TEXT) -> None:
        """Open the target's temporary name and write the header.

        Args:
            target: The file.
            header: Text before the first call, with its line ends.
            pool: Threads that compress.
            columns: Where in a line an index finds contig, start and end.
        """
        self.rows = 0
        text = header.encode()
        self._bytes = len(text)
        self._target = target
        self._index = TabixIndex(len(text), columns)
        with write_faults(target.final):
            self._stream = BgzfWriter(target.path, pool)
            try:
                self._stream.write(text)
            except BaseException:
                self._stream.close()
                raise

    def append(self, text: bytes, chrom: pl.Series, start: NDArray[np.int64], end: NDArray[np.int64]) -> None:
        """Write one line for each call.

        Args:
            text: The lines.
            chrom: Contig of each, as the text has it, [n].
            start: First base, int64, [n].
            end: One past the last base, int64, [n].
        """
        with write_faults(self._target.final):
            self._stream.write(text)
        line_ends = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n")) + 1 + self._bytes
        self._index.add(chrom, start, end, line_ends)
        self.rows += len(chrom)
        self._bytes += len(text)

    def index(self, target: Target) -> None:
        """Write the `.csi` or `.tbi`, as the final name says."""
        make = self._index.csi if target.final.suffix == ".csi" else self._index.tbi
        with write_faults(target.final):
            target.path.write_bytes(compress_file(make(self._stream.addresses), INDEX_LEVEL))

    def last_lines(self) -> None:
        """Write what a format has kept back until every call is there; most keep nothing."""

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Complete the file, or just close it where the body failed."""
        try:
            if error is None:
                self.last_lines()
                with write_faults(self._target.final):
                    self._stream.finish()
        finally:
            self._stream.close()
