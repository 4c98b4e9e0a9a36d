"""Finds motif hits with the scan kernel; `annotator.motifs.scan` says what a hit is.

Coordinates are 0-based on the plus strand of the block.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from annotator.motifs.scores import ScoredMatrix
from annotator.motifs.tables import CODES, WindowBits
from annotator_kernels.backends import Backend
from annotator_kernels.pwm_scan.op import MotifRows, pwm_scan

HITS_AT_ONCE = 1 << 17
"""Hits whose windows are gathered on the device at once: 9 bytes for each of their bases."""


class KernelScan:
    """Matrices in the form that the kernel takes; row 2 * i is matrix i, row 2 * i + 1 its reverse complement."""

    def __init__(self, matrices: list[ScoredMatrix]) -> None:
        """Put both strands of the matrices into one tensor.

        Args:
            matrices: Matrices that can reach their threshold, at least one.
        """
        widths = [m.width for m in matrices]
        steps = np.zeros((2 * len(matrices), max(widths), 4), np.int32)
        for i, matrix in enumerate(matrices):
            steps[2 * i, : matrix.width] = matrix.steps
            steps[2 * i + 1, : matrix.width] = matrix.steps[::-1, ::-1]
        self.thresholds = np.repeat([m.best - len(m.tail) + 1 for m in matrices], 2)
        self.rows = MotifRows(
            torch.from_numpy(steps),
            torch.from_numpy(np.repeat(np.array(widths, np.int64), 2)),
            torch.from_numpy(self.thresholds.astype(np.int32)),
        )
        self.bits = WindowBits(matrices)
        self.code_table = torch.frombuffer(bytearray(CODES), dtype=torch.uint8)

    def iter_hits(
        self, bases: NDArray[np.uint8] | Tensor, backend: Backend
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
        """Find the hits of a block; only they, and the bases under them, leave the device.

        Args:
            bases: ASCII, uint8, [n].
            backend: Backend of `pwm_scan`: "auto", "triton" or "torch".

        Yields:
            Start, row and budget left (score - threshold), int64, and bits, float32, of some hits, by start and row.
        """
        block = torch.from_numpy(np.array(bases)) if isinstance(bases, np.ndarray) else bases
        hits = pwm_scan(block, self.rows, code_table=self.code_table, backend=backend)
        columns = torch.arange(self.rows.steps.shape[1], device=block.device)
        for first in range(0, len(hits.start), HITS_AT_ONCE):
            some = slice(first, first + HITS_AT_ONCE)
            # A window narrower than the widest is followed by bases that are not its own, or by the last again and again.
            window = block[(hits.start[some, None] + columns).clamp(max=len(block) - 1)].cpu().numpy()
            codes = np.frombuffer(window.tobytes().translate(CODES), np.uint8)
            row = hits.row[some].cpu().numpy()
            left = hits.score[some].cpu().numpy().astype(np.int64) - self.thresholds[row]
            bits = self.bits.of(codes, np.arange(len(row), dtype=np.int64) * window.shape[1], row)
            yield hits.start[some].cpu().numpy(), row, left, bits
