"""From a shard's block of bases to per-base logits of both strands, window by window.

Coordinates: positions inside a window are 0-based on the plus strand, whatever strand a track belongs to.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from annotator.genome.plan import UNKNOWN_BASE, Span, Windows
from annotator.tokens.vocabulary import KmerVocabulary
from annotator_kernels.dispatch import kmer_tokenize

logger = logging.getLogger(__name__)

NOT_SCORED = -30.0
"""Logit of the few bases at a window's edge that the shifted minus strand does not reach."""

ReadBases = Callable[[int, int, int], NDArray[np.uint8]]
"""(contig, start, end) -> upper-case ASCII bases of ACGTN, uint8 [end - start]."""


def read_block(spans: tuple[Span, ...], windows: Windows, lengths: NDArray[np.int64], read_bases: ReadBases) -> NDArray[np.uint8]:
    """Read the block a shard's windows are cut from.

    Args:
        spans: The shard's spans.
        windows: Their windows.
        lengths: Contig lengths, int64.
        read_bases: Access to the genome.

    Returns:
        ASCII bases, uint8, [windows.stretch_offset[-1]]; N beyond contig ends.
    """
    block = np.full(int(windows.stretch_offset[-1]), UNKNOWN_BASE, np.uint8)
    for i, span in enumerate(spans):
        start, offset = int(windows.stretch_start[i]), int(windows.stretch_offset[i])
        end = start + int(windows.stretch_offset[i + 1]) - offset
        low, high = max(start, 0), min(end, int(lengths[span.contig]))
        block[offset + low - start : offset + high - start] = read_bases(span.contig, low, high)
    return block


@dataclass(frozen=True)
class ScoredBatch:
    """Logits of some windows of one length.

    Attributes:
        rows: Indices of the windows in the shard's `Windows`, int64, [B].
        logits: float32, [B, 2, C, L]: strand (+, -), track, base of the window on the plus strand.
    """

    rows: NDArray[np.int64]
    logits: Tensor


class WindowScorer:
    """Runs a per-base network over windows, both strands in one batch, always in the same shapes.

    The bits of a score depend on the batch's shape, so every batch of one window length has the same number of rows; the
    last one is filled up with windows of N and the surplus dropped.
    """

    def __init__(
        self, net: torch.nn.Module, vocabulary: KmerVocabulary, *, batch_bp: int, device: torch.device, bf16: bool = False
    ) -> None:
        """Hold a network.

        Args:
            net: [B, L] token ids -> [B, C, L] logits of one strand.
            vocabulary: Ids the network was trained with.
            batch_bp: Bases of a batch (both strands of each window count once); at least one window.
            device: Where to compute.
            bf16: Autocast to bfloat16 (CUDA).
        """
        self.net, self.vocabulary, self.device = net.to(device).eval(), vocabulary, device
        self.batch_bp, self.bf16 = batch_bp, bf16

    def score(self, block: NDArray[np.uint8], windows: Windows) -> Iterator[ScoredBatch]:
        """Score every window whose core holds at least one known base.

        Args:
            block: The shard's bases, ASCII, uint8.
            windows: Where its windows lie.

        Yields:
            Batches, by window length and then in window order.

        Raises:
            FloatingPointError: The network gave a NaN or an infinity.
        """
        known = _windows_with_bases(block, windows)
        on_device = torch.from_numpy(block).to(self.device)
        for length in np.unique(windows.length[known]).tolist():
            rows = known[windows.length[known] == length]
            size = max(1, self.batch_bp // length)
            for first in range(0, len(rows), size):
                chosen = rows[first : first + size]
                logits = self._logits(on_device, windows.offset[chosen], windows.reverse_shift[chosen], length, size)
                if not bool(torch.isfinite(logits).all()):
                    raise FloatingPointError(f"the model gave NaN or infinity in a window at base {windows.start[chosen[0]]}")
                yield ScoredBatch(chosen, logits)

    @torch.inference_mode()
    def _logits(self, block: Tensor, offsets: NDArray[np.int64], shifts: NDArray[np.int64], length: int, size: int) -> Tensor:
        """[len(offsets), 2, C, length] logits, computed in a batch of `size` windows."""
        k = self.vocabulary.k
        before, after = (k - 1) // 2, k - 1 - (k - 1) // 2  # a base's token covers this many bases on either side of it
        far = len(block)  # a start past the block reads as N
        starts = torch.full((2 * size,), far, dtype=torch.int64)
        starts[: len(offsets)] = torch.from_numpy(offsets) - before
        starts[size : size + len(offsets)] = torch.from_numpy(offsets + shifts) - after
        reverse = torch.arange(2 * size) >= size
        ids = kmer_tokenize(
            block, starts.to(self.device), reverse.to(self.device), tokens=length, k=k, kmer_stride=1,
            code_table=self.vocabulary.code_table.to(self.device),
            complement_table=self.vocabulary.complement_table.to(self.device),
            first_kmer_id=self.vocabulary.first_kmer_id, ambiguous_id=self.vocabulary.ambiguous_id,
        )  # fmt: skip
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.net(ids).float()
        both = torch.stack([logits[:size], logits[size:].flip(-1)], 1)[: len(offsets)]
        for shift in np.unique(shifts[shifts > 0]).tolist():  # back onto the bases of the plus strand; what is lost is halo
            rows = torch.from_numpy(np.flatnonzero(shifts == shift)).to(self.device)
            both[rows, 1] = torch.nn.functional.pad(both[rows, 1, :, :-shift], (shift, 0), value=NOT_SCORED)
        return both


def _windows_with_bases(block: NDArray[np.uint8], windows: Windows) -> NDArray[np.int64]:
    """Indices of the windows whose core is not all N: a run of N costs no model call."""
    first = windows.offset + windows.core_start - windows.start
    known = np.concatenate([[0], np.cumsum(block != UNKNOWN_BASE, dtype=np.int64)])
    return np.flatnonzero(known[first + windows.core_end - windows.core_start] > known[first])
