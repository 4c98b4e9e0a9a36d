"""Motif hits on both strands of a block of bases, on a CPU or a GPU, exact and the same on both.

Coordinates are 0-based half-open on the plus strand of the block.

A window hits where its integer score reaches its matrix' threshold. A CPU looks windows up in tables (`motif_tables`), a GPU
scores all of them (`annotator_kernels.pwm_scan`); scores are integers, and p-values and bits come from one function on the
compact list of hits, so both give the same hits to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from annotator.errors import InputError
from annotator.motifs.motif import MAX_MOTIFS, Motif
from annotator.motifs.scores import PSEUDOCOUNT, UNIFORM, score_matrix, strand_symmetric
from annotator.motifs.tables import ROW_BITS, SeedTables

if TYPE_CHECKING:
    from torch import Tensor

    from annotator.motifs.kernel import KernelScan
    from annotator_kernels.backends import Backend


@dataclass(frozen=True, eq=False)
class MotifHits:
    """Hits of one block, sorted by start, motif, strand (+ before -); every field an array [n].

    Attributes:
        start: Leftmost base of the match on the plus strand, int64.
        motif: Index into the scanner's motifs, int32.
        strand: +1 or -1, int8.
        score: Integer score, in 1/STEPS_PER_BIT bit, int32.
        bits: Log-odds, summed in float64, float32.
        p_value: P(a background window scores at least `score`), float64.
    """

    start: NDArray[np.int64]
    motif: NDArray[np.int32]
    strand: NDArray[np.int8]
    score: NDArray[np.int32]
    bits: NDArray[np.float32]
    p_value: NDArray[np.float64]

    def __len__(self) -> int:
        """Number of hits."""
        return len(self.start)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> MotifHits:
        """The chosen hits, in the order given."""
        return MotifHits(*(getattr(self, field.name)[rows] for field in fields(self)))


class MotifScanner:
    """Finds every window of either strand whose p-value is at or below a threshold.

    Attributes:
        motifs: The motifs, in the order that `MotifHits.motif` counts.
        matrices: Their scored matrices, same order.
        p_value: The threshold, for one window of one strand.
        background: Background used, A, C, G, T, averaged over the two strands.
        halo_bp: Bases needed on either side of a span so that every window that touches it is seen whole.
        skipped: Indices of the motifs too short or too vague to reach the threshold; they can never hit.
    """

    def __init__(
        self,
        motifs: Sequence[Motif],
        p_value: float = 1e-6,
        background: tuple[float, float, float, float] = UNIFORM,
        pseudocount: float = PSEUDOCOUNT,
    ) -> None:
        """Score the matrices.

        Args:
            motifs: 1 to 100,000 motifs.
            p_value: Threshold, above 0, at most 0.1.
            background: Frequencies of A, C, G, T. Both strands are read, so A and T, and C and G, are averaged: a hit
                and its reverse complement then have one score and one p-value.
            pseudocount: Sites added to each column.

        Raises:
            InputError: No motif, or too many.
            UsageError: An option is out of range.
        """
        if not 1 <= len(motifs) <= MAX_MOTIFS:
            raise InputError(f"{len(motifs)} motifs to scan with; 1 to {MAX_MOTIFS} are allowed")
        self.motifs = tuple(motifs)
        self.p_value = p_value
        self.background = strand_symmetric(background)
        self.halo_bp = max(m.width for m in self.motifs) - 1
        matrices = [score_matrix(m.counts, p_value, self.background, pseudocount) for m in self.motifs]
        self._tails = np.concatenate([m.tail for m in matrices])
        ends = np.cumsum([len(m.tail) for m in matrices])
        self._tail_end = ends - 1
        self.matrices = tuple(
            replace(m, tail=self._tails[end - len(m.tail) : end]) for m, end in zip(matrices, ends.tolist(), strict=True)
        )
        self._thresholds = np.array([m.best - len(m.tail) + 1 for m in self.matrices], np.int64)
        self.skipped = tuple(i for i, m in enumerate(self.matrices) if m.threshold is None)
        self._scored = np.array([i for i, m in enumerate(self.matrices) if m.threshold is not None], np.int64)
        self._reachable = [self.matrices[i] for i in self._scored]

    @cached_property
    def _tables(self) -> SeedTables:
        """Built by the first scan on a CPU: a run on a GPU never needs them."""
        return SeedTables(self._reachable)

    @cached_property
    def _kernel(self) -> KernelScan:
        from annotator.motifs.kernel import KernelScan  # only here is torch needed

        return KernelScan(self._reachable)

    def prepare(self) -> None:
        """Build the tables of a CPU now rather than in the first scan."""
        if self._reachable:
            _ = self._tables

    def scan(self, bases: NDArray[np.uint8] | Tensor, *, backend: Backend | None = None) -> MotifHits:
        """All hits that lie wholly inside a block.

        Args:
            bases: ASCII, uint8, [n]; upper-case A, C, G, T are bases, a window that holds any other byte never hits.
            backend: None takes tables for an array or a tensor on the CPU, and for one on a GPU the kernel as `pwm_scan`
                chooses it. Anything else makes that choice on any device; "torch" and "auto" are slow on a CPU.

        Returns:
            The hits. Pieces that overlap by `halo_bp`, scanned one by one, have the same hits once the doubles are dropped.

        Raises:
            ValueError: The bases are no uint8 [n], or "triton" was asked for on a CPU.
            BackendError: "triton" was asked for and cannot be imported.

        Notes:
            Memory on a CPU: some hundred bytes for each base of PIECE_BP and each of LIVE_CANDIDATES, and the hits.
        """
        if str(bases.dtype).rpartition(".")[2] != "uint8" or bases.ndim != 1:
            raise ValueError(f"bases must be uint8 [n], not {bases.dtype} {list(bases.shape)}")
        if not self._reachable:
            found = []
        elif backend is None and (isinstance(bases, np.ndarray) or bases.device.type != "cuda"):
            found = list(self._tables.iter_hits(bases if isinstance(bases, np.ndarray) else bases.cpu().numpy()))
        else:
            found = list(self._kernel.iter_hits(bases, backend or "auto"))
        none = np.empty(0, np.int64)
        start, row, left = (np.concatenate([none, *(part[i] for part in found)]) for i in range(3))
        bits = np.concatenate([np.empty(0, np.float32), *(part[3] for part in found)])
        order = np.argsort((start << ROW_BITS) | row)
        start, row, left, bits = start[order], row[order], left[order], bits[order]
        motif = self._scored[row >> 1]
        return MotifHits(
            start=start,
            motif=motif.astype(np.int32),
            strand=(1 - 2 * (row & 1)).astype(np.int8),
            score=(self._thresholds[motif] + left).astype(np.int32),
            bits=bits,
            p_value=self._tails[self._tail_end[motif] - left],
        )
