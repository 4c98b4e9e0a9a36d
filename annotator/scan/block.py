"""A shard's block of bases with the windows cut from it.

Coordinates: `Windows.offset` is a window's first base within the block; everything else counts along the contig, 0-based.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotator.genome.plan import UNKNOWN_BASE, PlanOptions, Span, Windows, plan_windows
from annotator.genome.shard_input import stretches

ReadBases = Callable[[int, int, int], NDArray[np.uint8]]
"""(contig, start, end) -> upper-case ASCII bases of ACGTN, uint8 [end - start]."""


@dataclass(frozen=True)
class Block:
    """What the engine knows of a shard: its bases and where they come from.

    Attributes:
        bases: ASCII bases, uint8, [windows.stretch_offset[-1]]; N beyond contig ends.
        spans: The shard's spans of contigs.
        windows: The windows of the spans.
        lengths: Length of every contig of the genome, int64.
    """

    bases: NDArray[np.uint8]
    spans: tuple[Span, ...]
    windows: Windows
    lengths: NDArray[np.int64]

    @staticmethod
    def read(
        spans: tuple[Span, ...],
        lengths: NDArray[np.int64],
        plan: PlanOptions,
        read_bases: ReadBases,
        allocate: Callable[[int], NDArray[np.uint8]] | None = None,
    ) -> Block:
        """Read the block of some spans.

        Args:
            spans: The spans of a shard.
            lengths: Contig lengths, int64.
            plan: Shape of the windows.
            read_bases: Access to the genome.
            allocate: Makes the array the bases are read into, of a number of bytes; None for one in ordinary memory.

        Returns:
            The block.

        Raises:
            AnnotatorError: The genome could not be read.
        """
        windows = plan_windows(spans, lengths, plan)
        size = int(windows.stretch_offset[-1])
        bases = np.empty(size, np.uint8) if allocate is None else allocate(size)
        bases.fill(UNKNOWN_BASE)
        firsts = (windows.stretch_offset[:-1] - windows.stretch_start).tolist()  # where base 0 of the contig would lie
        for span, first, (start, end) in zip(spans, firsts, stretches(spans, windows, lengths), strict=True):
            bases[first + start : first + end] = read_bases(span.contig, start, end)
        return Block(bases, spans, windows, lengths)

    def contig_of(self, windows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Contig of each of some windows, given by their index, int64."""
        return np.array([span.contig for span in self.spans], np.int64)[self.windows.span[windows]]
