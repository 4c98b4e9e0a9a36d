"""From a shard's block of bases to per-base logits of both strands, window by window.

Coordinates: a row is one strand of one window, in the order that strand is read: position l of a forward row is base
start + l of the contig, position l of a reverse row is base start + reverse_shift + L - 1 - l.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from annotator.errors import ResourceFault
from annotator.genome.plan import UNKNOWN_BASE, Windows
from annotator.kinds import STRANDS, Strand
from annotator.models.faults import is_out_of_memory
from annotator.models.options import NOT_SCORED
from annotator.scan.block import Block
from annotator.scan.clock import StageClock
from annotator_kernels.transfer import to_device

logger = logging.getLogger(__name__)


class NotFinite(ArithmeticError):
    """The model gave NaN or infinity.

    Attributes:
        window: Index of the window in the shard's `Windows`.
        strand: Strand that was read.
    """

    def __init__(self, window: int, strand: Strand) -> None:
        """Name the window."""
        super().__init__(f"NaN or infinity in window {window}, strand {strand.symbol}")
        self.window, self.strand = window, strand


class ScanModel(Protocol):
    """What the engine asks of a model: rows of bases in, per-base logits out, on one device, in few shapes that do not change."""

    def embed(self, block: Tensor, starts: Tensor, reverse: Tensor, length: int) -> Any:
        """Cut rows [starts, starts + length) out of a block of bases (uint8) and make the network's input of them."""

    def logits(self, x: Any) -> Tensor:
        """Logits of that input, float32, [R, L, C], in the order each row is read."""


@dataclass(frozen=True)
class ScoredBatch:
    """Logits of some windows of one length.

    Attributes:
        rows: Indices of the windows in the shard's `Windows`, int64, [n].
        logits: float32, [2 * size, L, C], size >= n: row i is the plus strand of window rows[i], row size + i its minus
            strand; the rest fills the batch up and means nothing.
    """

    rows: NDArray[np.int64]
    logits: Tensor

    @property
    def size(self) -> int:
        """Windows the batch has room for."""
        return len(self.logits) // 2

    def plus_strand(self, windows: Windows) -> Tensor:
        """The logits by base of the plus strand.

        Args:
            windows: The shard's.

        Returns:
            float32, [n, 2, C, L]: strand (+, -), track, base of the window; NOT_SCORED where the minus strand ends short.
        """
        count = len(self.rows)
        minus = _shifted(self.logits[self.size :][:count].flip(1), windows.reverse_shift[self.rows])
        return torch.stack([self.logits[:count], minus], 1).transpose(2, 3).contiguous()

    def refuse_not_finite(self) -> None:
        """See that no window has a NaN or an infinity.

        Raises:
            NotFinite: One has; it names the first.
        """
        bad = (~torch.isfinite(self.logits)).flatten(1).any(1).cpu().numpy()
        for strand, first in zip(STRANDS, (0, self.size), strict=True):
            part = bad[first : first + len(self.rows)]
            if part.any():
                raise NotFinite(int(self.rows[int(part.argmax())]), strand)

    @staticmethod
    def of_plus_strand(rows: NDArray[np.int64], logits: Tensor, windows: Windows) -> ScoredBatch:
        """The batch whose `plus_strand` is `logits`, [n, 2, C, L], but for the bases that are not scored."""
        plus, minus = logits.transpose(2, 3).unbind(1)
        return ScoredBatch(rows, torch.cat([plus, _shifted(minus, -windows.reverse_shift[rows]).flip(1)]))


def _shifted(rows: Tensor, shifts: NDArray[np.int64]) -> Tensor:
    """Each row of [n, L, C] moved by its shift towards higher positions; NOT_SCORED comes in."""
    moved = rows.clone()
    for shift in np.unique(shifts[shifts != 0]).tolist():
        chosen = torch.from_numpy(np.flatnonzero(shifts == shift)).to(rows.device)
        moved[chosen] = torch.nn.functional.pad(rows[chosen], (0, 0, shift, -shift), value=NOT_SCORED)
    return moved


class WindowScorer:
    """Runs a per-base network over windows, both strands in one batch, always in the same shapes.

    The bits of a score depend on the batch's shape, so every batch of one window length has the same number of rows; the
    last one is filled up with windows of N and the surplus dropped.

    Attributes:
        batch_bp: Bases of a batch; halved where the device's memory did not hold one, and then kept.
    """

    def __init__(self, model: ScanModel, *, batch_bp: int, device: torch.device, clock: StageClock | None = None) -> None:
        """Hold a model.

        Args:
            model: On `device`, ready to infer.
            batch_bp: Bases of a batch (both strands of each window count once); at least one window.
            device: Where to compute.
            clock: Told how long each stage takes.
        """
        self.model, self.device, self.batch_bp = model, device, batch_bp
        self.clock = clock or StageClock()

    def score(self, block: Block) -> Iterator[ScoredBatch]:
        """Score every window whose core holds at least one known base.

        Args:
            block: The shard's bases and windows.

        Yields:
            Batches, by window length and then in window order.

        Raises:
            NotFinite: The model gave a NaN or an infinity.
            ResourceFault: Not even one window fits the device's memory.
        """
        for batch in self.queue(block, torch.from_numpy(block.bases).to(self.device)):
            if not bool(torch.isfinite(batch.logits.sum())):  # one pass without a temporary; nothing can cancel them out
                batch.refuse_not_finite()
            yield batch

    def queue(self, block: Block, on_device: Tensor, make_room: Callable[[], bool] = lambda: False) -> Iterator[ScoredBatch]:
        """The same, without a wait for the device; the logits are still to be looked at for NaN and infinity.

        Args:
            block: The shard's bases and windows.
            on_device: The same bases on the device.
            make_room: Called where the device's memory ran out: lets go of batches that were yielded; False where there are none.

        Yields:
            Batches, by window length and then in window order.

        Raises:
            ResourceFault: Not even one window fits the device's memory.
        """
        windows, known = block.windows, _windows_with_bases(block)
        for length in np.unique(windows.length[known]).tolist():
            rows = known[windows.length[known] == length]
            first = 0
            while first < len(rows):
                size = max(1, self.batch_bp // length)
                chosen = rows[first : first + size]
                logits = None
                try:
                    logits = self._logits(on_device, windows.offset[chosen], windows.reverse_shift[chosen], length, size)
                except RuntimeError as fault:
                    if not is_out_of_memory(fault):
                        raise
                if logits is None:  # only here is the fault gone, and with it what the attempt held
                    if not make_room():
                        self._halve(length, size)
                    continue
                yield ScoredBatch(chosen, logits)
                first += size

    @torch.inference_mode()
    def _logits(self, block: Tensor, offsets: NDArray[np.int64], shifts: NDArray[np.int64], length: int, size: int) -> Tensor:
        """[2 * size, length, C] logits of windows that start at `offsets` of the block; see `ScoredBatch`."""
        starts = torch.full((2, size), 2 * len(block) + length, dtype=torch.int64)  # past the block, which reads as N
        starts[0, : len(offsets)] = torch.from_numpy(offsets)
        starts[1, : len(offsets)] = torch.from_numpy(offsets + shifts)
        reverse = torch.arange(2 * size, device=self.device) >= size
        with self.clock.stage("tokenise"):
            x = self.model.embed(block, to_device(starts.view(-1), self.device), reverse, length)
        with self.clock.stage("model"):
            return self.model.logits(x)

    def _halve(self, length: int, size: int) -> None:
        """Take half the windows from now on; what is computed differs then in its last bits from a run that had the room."""
        if size == 1:
            raise ResourceFault(f'out of memory on {self.device}: not even one window of {length} bp fits; use `device="cpu"`')
        self.batch_bp = size // 2 * length
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        logger.warning(
            "out of memory on %s with %d windows of %d bp at once: going on with %d (scores may differ in their last digits)",
            self.device, size, length, size // 2,
        )  # fmt: skip


def _windows_with_bases(block: Block) -> NDArray[np.int64]:
    """Indices of the windows whose core is not all N: a run of N costs no model call."""
    windows = block.windows
    first = windows.offset + windows.core_start - windows.start
    known = block.bases[first] != UNKNOWN_BASE  # nearly every core begins with a known base, and few have to be looked through
    for window in np.flatnonzero(~known).tolist():
        start = int(first[window])
        core = block.bases[start : start + int(windows.core_end[window] - windows.core_start[window])]
        known[window] = bool((core != UNKNOWN_BASE).any())
    return np.flatnonzero(known)
