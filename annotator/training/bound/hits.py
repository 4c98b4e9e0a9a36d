"""Motif hits with the truth of where their factor is bound, from genomes and peaks of ChIP-seq.

A hit counts as bound where it lies wholly inside a peak of its factor. Coordinates: 0-based half-open on the plus strand.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotator.calls.bound_hits import hit_windows
from annotator.genome.regions import read_regions
from annotator.genome.source import Genome
from annotator.motifs.scan import MotifScanner

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LabelledHits:
    """Motif hits, every field an array [n].

    Attributes:
        rows: Windows around the hits in reading direction, ASCII, uint8, [n, window_bp].
        contig: Index of the contig, int64.
        start: First base of the hit on its contig, int64.
        end: One past its last base, int64.
        motif: Index into the scanner's motifs, int64.
        factor: Index into the factors, int64.
        p_value: p-value of the hit, float64.
        bound: Whether the hit lies in a peak, bool.
    """

    rows: NDArray[np.uint8]
    contig: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    motif: NDArray[np.int64]
    factor: NDArray[np.int64]
    p_value: NDArray[np.float64]
    bound: NDArray[np.bool_]

    def __len__(self) -> int:
        """Number of hits."""
        return len(self.start)


def labelled_hits(genome: Genome, scanner: MotifScanner, peaks: Mapping[str, Path], window_bp: int) -> LabelledHits:
    """All hits of a genome, with their windows and labels.

    Args:
        genome: The genome.
        scanner: Its motifs have the names of the factors, whatever their case.
        peaks: BED or narrowPeak file per factor; the factors are numbered in this order.
        window_bp: Bases of a window.

    Raises:
        UsageError: A file of peaks is missing.
        InputError: A file of peaks does not fit the genome.
    """
    number = {name.upper(): index for index, name in enumerate(peaks)}
    inside = [read_regions(path, genome.contigs) for path in peaks.values()]
    factor_of = np.array([number[motif.name.upper()] for motif in scanner.motifs], np.int64)
    widths = np.array([motif.width for motif in scanner.motifs], np.int64)
    columns: list[list[NDArray[np.generic]]] = []
    for contig, length in enumerate(genome.contigs.lengths.tolist()):
        bases = genome.read_bases(contig, 0, length)
        hits = scanner.scan(bases)
        if not len(hits):
            continue
        end, factor = hits.start + widths[hits.motif], factor_of[hits.motif]
        zeros = np.zeros(len(hits), np.int64)
        rows = hit_windows(bases, zeros, hits.start, end, hits.strand, zeros + length, window_bp)
        bound = np.zeros(len(hits), bool)
        for index, intervals in enumerate(inside):
            mine = factor == index
            bound[mine] = _within(hits.start[mine], end[mine], intervals.get(contig))
        columns.append([rows, zeros + contig, hits.start, end, hits.motif.astype(np.int64), factor, hits.p_value, bound])
    if not columns:
        shape = np.zeros((0, window_bp), np.uint8)
        none = np.zeros(0, np.int64)
        return LabelledHits(shape, none, none, none, none, none, np.zeros(0), np.zeros(0, bool))
    return LabelledHits(*(np.concatenate(column) for column in zip(*columns, strict=True)))


def _within(start: NDArray[np.int64], end: NDArray[np.int64], intervals: NDArray[np.int64] | None) -> NDArray[np.bool_]:
    """Whether each [start, end) lies in one of some sorted disjoint intervals [m, 2]."""
    if intervals is None:
        return np.zeros(len(start), bool)
    at = np.searchsorted(intervals[:, 0], start, side="right") - 1
    found: NDArray[np.bool_] = (at >= 0) & (end <= intervals[np.maximum(at, 0), 1])
    return found
