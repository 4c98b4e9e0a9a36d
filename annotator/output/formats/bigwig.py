"""Probabilities by base as bigWig: sparse, a base and a value each, where there is one; 0-based half-open."""

from __future__ import annotations

import struct
from concurrent.futures import Executor
from types import TracebackType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from annotator.files import write_faults
from annotator.output.formats.base import OutputRun, Target
from annotator.output.formats.bbi import BIGWIG_MAGIC, BbiFile, BbiKind, Contigs32, Stretches

_ITEMS: Final = 1024
"""Values of a block."""
_SECTION: Final = struct.Struct("<5IBBH")
_VARIABLE_STEP: Final = 2
_VALUE: Final = np.dtype([("start", "<u4"), ("value", "<f4")])


class BigWigWriter:
    """One bigWig file, as a context: leaving it writes what is missing.

    Attributes:
        rows: Bases with a value so far.
    """

    def __init__(self, target: Target, run: OutputRun, pool: Executor, steps_in_1: int) -> None:
        """Begin it.

        Args:
            target: The file.
            run: Contigs.
            pool: Threads that compress.
            steps_in_1: How many steps make a value of 1.
        """
        self.rows = 0
        self._target, self._steps_in_1 = target, steps_in_1
        contigs = Contigs32(run, target.final.name)
        self._number = contigs.number
        self._contig = -1
        self._position, self._steps = np.empty(0, np.int64), np.empty(0, np.int64)
        kind = BbiKind(BIGWIG_MAGIC, steps_in_1=steps_in_1, items=_ITEMS)
        with write_faults(target.final):
            self._file = BbiFile(target.path, kind, contigs.names, contigs.lengths, pool)

    def write(self, contig: NDArray[np.int64], position: NDArray[np.int64], steps: NDArray[np.int64]) -> None:
        """Append values; over the file, contigs and positions ascend.

        Args:
            contig: Index of the contig, int64, [n].
            position: The base, int64, [n].
            steps: Its value in steps, int64, [n].

        Raises:
            ResourceFault: They cannot be written.
        """
        number = self._number[contig]
        known = number >= 0
        number, position, steps = number[known], position[known], steps[known]
        if not len(number):
            return
        self.rows += len(number)
        with write_faults(self._target.final):
            self._file.summarise(Stretches(number, position, position + 1, steps))
            borders = np.flatnonzero(np.diff(number)) + 1
            for first, end in zip([0, *borders.tolist()], [*borders.tolist(), len(number)], strict=True):
                self._append(int(number[first]), position[first:end], steps[first:end])

    def _append(self, contig: int, position: NDArray[np.int64], steps: NDArray[np.int64]) -> None:
        if contig != self._contig:
            self._flush(0)
            self._contig = contig
        self._position, self._steps = np.concatenate([self._position, position]), np.concatenate([self._steps, steps])
        self._flush(len(self._position) % _ITEMS)

    def _flush(self, left: int) -> None:
        """Write what waits of a contig, but for the last `left` values."""
        whole = len(self._position) - left
        for first in range(0, whole, _ITEMS):
            position, steps = self._position[first : min(first + _ITEMS, whole)], self._steps[first : min(first + _ITEMS, whole)]
            values = np.empty(len(position), _VALUE)
            values["start"], values["value"] = position, steps / self._steps_in_1
            start, end = int(position[0]), int(position[-1]) + 1
            head = _SECTION.pack(self._contig, start, end, 0, 1, _VARIABLE_STEP, 0, len(position))
            self._file.block(head + values.tobytes(), len(position), self._contig, start, end)
        self._position, self._steps = self._position[whole:], self._steps[whole:]

    def __enter__(self) -> BigWigWriter:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Complete the file, or just close it where the body failed."""
        try:
            if error is None:
                with write_faults(self._target.final):
                    self._flush(0)
                    self._file.finish()
        finally:
            self._file.close()
