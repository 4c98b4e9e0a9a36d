"""The operation `pwm_scan`: the public function, its types, the checks of its arguments, and its plain-torch oracle.

Coordinates are 0-based on the block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from annotator_kernels.backends import Backend, run_kernel
from annotator_kernels.kmer.scheme import AMBIGUOUS


@dataclass(frozen=True, eq=False)
class MotifRows:
    """Matrices to scan for, one row per matrix and strand.

    Attributes:
        steps: Integer score of each base in each column, int32, [R, W, 4]; columns beyond a row's width are not read.
        widths: Columns of each row, 1..W, int64, [R].
        thresholds: Lowest score of a hit, int32, [R].
    """

    steps: Tensor
    widths: Tensor
    thresholds: Tensor

    def __post_init__(self) -> None:
        """Refuse tensors that do not fit together.

        Raises:
            ValueError: One of them has a wrong shape, type or range.
        """
        rows = len(self.steps)
        if self.steps.dtype != torch.int32 or self.steps.dim() != 3 or self.steps.shape[2] != 4:
            raise ValueError(f"steps must be int32 [R, W, 4], not {self.steps.dtype} {list(self.steps.shape)}")
        if self.widths.dtype != torch.int64 or self.widths.shape != (rows,):
            raise ValueError(f"widths must be int64 [{rows}], not {self.widths.dtype} {list(self.widths.shape)}")
        if self.thresholds.dtype != torch.int32 or self.thresholds.shape != (rows,):
            raise ValueError(f"thresholds must be int32 [{rows}], not {self.thresholds.dtype} {list(self.thresholds.shape)}")
        if rows and not 1 <= int(self.widths.min()) <= int(self.widths.max()) <= self.steps.shape[1]:
            raise ValueError(f"widths must be 1..{self.steps.shape[1]}")


class PwmHits(NamedTuple):
    """Hits of a motif scan, sorted by start and row; every field a tensor [n].

    Attributes:
        start: Leftmost base of the hit in the block, int64.
        row: Index into the scan's `MotifRows`, int64.
        score: Integer score, int32.
    """

    start: Tensor
    row: Tensor
    score: Tensor


def pwm_scan(block: Tensor, rows: MotifRows, *, code_table: Tensor, backend: Backend = "auto") -> PwmHits:
    """Every window whose integer score reaches its row's threshold, all matrices at once.

    Args:
        block: Bases as ASCII, uint8, [n].
        rows: Matrices, reverse complements as rows of their own.
        code_table: Code 0..3 (the last axis of `rows.steps`) of each byte, or 4 for no base, uint8, [256].
        backend: "triton" or "torch" run that or raise; "auto" runs Triton on a CUDA block where it can, else torch.

    Returns:
        The hits, on the block's device, sorted by start, then row; the same from every backend.

    Raises:
        BackendError: "triton" was asked for and cannot be imported, or the device is too old for the kernel.
        ValueError: An argument has a wrong shape or type, or "triton" was asked for on a CPU.
    """
    return run_kernel(
        "pwm_scan",
        "annotator_kernels.pwm_scan.kernel",
        pwm_scan_reference,
        lambda function: function(block, rows, code_table=code_table),
        device=block.device,
        backend=backend,
    )


def check_scan_arguments(block: Tensor, code_table: Tensor) -> None:
    """Refuse arguments that `pwm_scan` (kernel or oracle) has no meaning for.

    Raises:
        ValueError: An argument has a wrong shape or type.
    """
    if block.dtype != torch.uint8 or block.dim() != 1:
        raise ValueError(f"block must be uint8 [n], not {block.dtype} {list(block.shape)}")
    if code_table.dtype != torch.uint8 or code_table.shape != (256,):
        raise ValueError(f"code_table must be uint8 [256], not {code_table.dtype} {list(code_table.shape)}")


def pwm_scan_reference(block: Tensor, rows: MotifRows, *, code_table: Tensor) -> PwmHits:
    """Every window whose integer score reaches its row's threshold.

    `score[p, r] = sum_{j < width[r]} steps[r, j, code(block[p + j])]`; a window that runs past the block, or holds a byte
    that is no base, never hits.

    Args:
        block: Bases as ASCII, uint8, [n].
        rows: Matrices, reverse complements as rows of their own.
        code_table: Code 0..3 (the last axis of `rows.steps`) of each byte, or AMBIGUOUS, uint8, [256].

    Returns:
        The hits, on the block's device, sorted by start, then row.

    Raises:
        ValueError: An argument has a wrong shape or type.
    """
    check_scan_arguments(block, code_table)
    device = block.device
    codes = code_table.to(device)[block.long()].long()
    unknown_before = F.pad((codes >= AMBIGUOUS).long().cumsum(0), (1, 0))
    found = []
    for row, (width, threshold) in enumerate(zip(rows.widths.tolist(), rows.thresholds.tolist(), strict=True)):
        windows = len(block) - width + 1
        if windows <= 0:
            continue
        columns = F.pad(rows.steps[row, :width].to(device).long(), (0, 1))  # an unknown base scores 0 and is dropped below
        score = torch.zeros(windows, dtype=torch.int64, device=device)
        for column in range(width):
            score += columns[column, codes[column : column + windows]]
        hit = (score >= threshold) & (unknown_before[width:] == unknown_before[: len(unknown_before) - width])
        start = hit.nonzero()[:, 0]
        found.append((start, torch.full_like(start, row), score[start].int()))
    if not found:
        none = torch.empty(0, dtype=torch.int64, device=device)
        return PwmHits(none, none, none.int())
    start, row_of_hit, score = (torch.cat(column) for column in zip(*found, strict=True))
    order = torch.argsort(start * len(rows.steps) + row_of_hit)
    return PwmHits(start[order], row_of_hit[order], score[order])
