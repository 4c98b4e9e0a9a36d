"""Calls as arrays: what leaves the device and what the output layer turns into tables.

Coordinates are 0-based half-open on the plus strand of the contig.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

KINDS = ("acceptor", "donor", "promoter", "tfbs")
"""Kinds in sorting order (by name); `Calls.kind` holds the index."""


@dataclass(frozen=True)
class Calls:
    """A batch of n calls, every field an array [n].

    Attributes:
        contig: Index into the genome's contig table, int64.
        start: First base of the feature, int64.
        end: One past its last base, int64.
        kind: Index into KINDS, uint8.
        strand: +1 or -1, int8.
        probability: Calibrated probability, float32; NaN for a bare motif hit.
        score: BED score 0..1000, uint16.
        position: Donor: the exon's last base; acceptor: the exon's first base; promoter: the TSS; tfbs: start. int64.
        motif: Index into the run's motif list, int32; -1 where there is none.
        p_value: float64; NaN where there is none.
        bits: float32; NaN where there is none.
    """

    contig: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    kind: NDArray[np.uint8]
    strand: NDArray[np.int8]
    probability: NDArray[np.float32]
    score: NDArray[np.uint16]
    position: NDArray[np.int64]
    motif: NDArray[np.int32]
    p_value: NDArray[np.float64]
    bits: NDArray[np.float32]

    def __len__(self) -> int:
        """Number of calls."""
        return len(self.start)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Calls:
        """The chosen rows, in the order given."""
        return Calls(*(getattr(self, field.name)[rows] for field in fields(self)))

    @staticmethod
    def concatenate(batches: list[Calls]) -> Calls:
        """All rows of all batches, in order."""
        if not batches:
            return Calls.empty()
        return Calls(*(np.concatenate([getattr(b, field.name) for b in batches]) for field in fields(Calls)))

    @staticmethod
    def empty() -> Calls:
        """No calls, right types."""
        types = (
            np.int64, np.int64, np.int64, np.uint8, np.int8, np.float32, np.uint16, np.int64, np.int32, np.float64, np.float32,
        )  # fmt: skip
        return Calls(*(np.empty(0, dtype) for dtype in types))
