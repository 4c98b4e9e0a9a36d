"""The contig table: names, lengths and what was altered, as a struct of arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ContigTable:
    """Contigs in file order; a million of them cost about 150 MB and no Python object but the name.

    Attributes:
        names: First word of each header, unique.
        lengths: Length in bp, int64, [contigs].
        n: Bases given as N or n, int64, [contigs].
        iupac_as_n: Ambiguity codes (RYSWKMBDHV) read as N, int64, [contigs].
        u_as_t: U read as T, int64, [contigs].
        gap_as_n: "-", "." and "*" read as N, int64, [contigs].
        lower_case: Bases given in lower case (read as upper case), int64, [contigs].
        mask_as_n: Masking characters that the user named, read as N, int64, [contigs].
    """

    names: list[str]
    lengths: NDArray[np.int64]
    n: NDArray[np.int64]
    iupac_as_n: NDArray[np.int64]
    u_as_t: NDArray[np.int64]
    gap_as_n: NDArray[np.int64]
    lower_case: NDArray[np.int64]
    mask_as_n: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of contigs."""
        return len(self.names)

    @property
    def total_bp(self) -> int:
        """Bases of all contigs together."""
        return int(self.lengths.sum())

    @property
    def longest_bp(self) -> int:
        """Length of the longest contig; 0 without contigs."""
        return int(self.lengths.max(initial=0))

    def index_by_name(self) -> dict[str, int]:
        """Contig index of each name."""
        return {name: index for index, name in enumerate(self.names)}

    def altered(self) -> dict[str, int]:
        """Bases of all contigs that are not read as they stand, or that say nothing (N), by kind."""
        kinds = ("iupac_as_n", "u_as_t", "gap_as_n", "mask_as_n", "lower_case", "n")
        return {kind: int(getattr(self, kind).sum()) for kind in kinds}


@dataclass(frozen=True, eq=False)
class Layout:
    """The positions of the bases of each contig in a file whose lines are even within a contig.

    Attributes:
        offsets: Byte of the contig's first base, int64, [contigs].
        line_bases: Bases on each line but the last, int64, [contigs], at least 1.
        line_bytes: Bytes from one line's first base to the next line's, int64, [contigs].
    """

    offsets: NDArray[np.int64]
    line_bases: NDArray[np.int64]
    line_bytes: NDArray[np.int64]

    def byte_span(self, contig: int, start: int, end: int) -> tuple[int, int]:
        """First byte and one past the last byte that hold bases [start, end), start < end, of a contig."""
        offset, bases, width = int(self.offsets[contig]), int(self.line_bases[contig]), int(self.line_bytes[contig])
        first_line, first_column = divmod(start, bases)
        last_line, last_column = divmod(end - 1, bases)
        return offset + first_line * width + first_column, offset + last_line * width + last_column + 1

    def pick(self, contigs: NDArray[np.int64]) -> Layout:
        """The layout of these contigs alone."""
        return Layout(self.offsets[contigs], self.line_bases[contigs], self.line_bytes[contigs])


def flat_layout(lengths: NDArray[np.int64]) -> Layout:
    """The layout of a file that holds all contigs end to end, one byte a base and nothing else."""
    bases = np.maximum(lengths, 1)
    return Layout(offsets=np.cumsum(lengths) - lengths, line_bases=bases, line_bytes=bases)
