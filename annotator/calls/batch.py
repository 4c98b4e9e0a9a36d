"""Calls as arrays: what leaves the device and what the output layer turns into tables.

Coordinates are 0-based half-open on the plus strand of the contig.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Calls:
    """A batch of n calls, every field an array [n].

    Attributes:
        contig: Index into the genome's contig table, int64.
        start: First base of the feature, int64.
        end: One past its last base, int64.
        kind: Code of the kind (`annotator.kinds.Kind.code`), uint8.
        strand: Value of the `Strand`, +1 or -1, int8.
        probability: Calibrated probability, float32; NaN for a motif hit that no model of bound sites rates.
        score: BED score 0..1000, uint16.
        position: Donor: the exon's last base; acceptor: the exon's first base; promoter: the TSS; else: start. int64.
        motif: Index into the run's labels (its motifs, then the features of its model), int32; -1 where the kind is the name.
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
        columns: dict[str, Any] = {f.name: getattr(self, f.name)[rows] for f in fields(self)}
        return Calls(**columns)

    @staticmethod
    def concatenate(batches: list[Calls]) -> Calls:
        """All rows of all batches, in order."""
        if not batches:
            return Calls.empty()
        columns: dict[str, Any] = {f.name: np.concatenate([getattr(b, f.name) for b in batches]) for f in fields(Calls)}
        return Calls(**columns)

    @staticmethod
    def empty() -> Calls:
        """No calls, right types."""
        none: dict[str, Any] = {
            "contig": np.int64, "start": np.int64, "end": np.int64, "kind": np.uint8, "strand": np.int8,
            "probability": np.float32, "score": np.uint16, "position": np.int64, "motif": np.int32,
            "p_value": np.float64, "bits": np.float32,
        }  # fmt: skip
        return Calls(**{name: np.empty(0, dtype) for name, dtype in none.items()})


def inside_regions(calls: Calls, regions: Mapping[int, NDArray[np.int64]]) -> NDArray[np.bool_]:
    """Whether the position of each call lies in a region, bool, [n].

    Args:
        calls: The calls.
        regions: Sorted disjoint intervals [m, 2] per contig index; a contig that is absent has none.
    """
    return lie_inside(calls.contig, calls.position, regions)


def lie_inside(
    contig: NDArray[np.int64], position: NDArray[np.int64], regions: Mapping[int, NDArray[np.int64]]
) -> NDArray[np.bool_]:
    """Whether each of some bases lies in a region, bool, [n].

    Args:
        contig: Index of the contig of each, int64, [n].
        position: The base, int64, [n].
        regions: As of `inside_regions`.
    """
    inside = np.zeros(len(contig), bool)
    for region_contig, intervals in regions.items():
        mine = np.flatnonzero(contig == region_contig)
        at = np.searchsorted(intervals[:, 0], position[mine], side="right") - 1
        inside[mine] = (at >= 0) & (position[mine] < intervals[np.maximum(at, 0), 1])
    return inside
