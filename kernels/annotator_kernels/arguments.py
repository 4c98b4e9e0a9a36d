"""What the kernels take and give: checks that the oracle and the launch wrapper of a kernel share, and composite types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_LARGEST_STRIDE = 1 << 28
_HUGE_PAGE_BYTES = 1 << 22


class KernelUnavailable(RuntimeError):
    """A launch wrapper knows that its kernel cannot be compiled for this device; the message names kernel and reason."""


def check_kmer_arguments(
    block: Tensor,
    starts: Tensor,
    reverse: Tensor,
    tokens: int,
    k: int,
    kmer_stride: int,
    code_table: Tensor,
    complement_table: Tensor,
    dtype: torch.dtype,
) -> None:
    """Refuse arguments that `kmer_tokenize` (kernel or oracle) has no meaning for.

    Raises:
        ValueError: An argument has a wrong shape, type or range.
    """
    if block.dtype != torch.uint8 or block.dim() != 1:
        raise ValueError(f"block must be uint8 [n], not {block.dtype} {list(block.shape)}")
    if starts.dtype != torch.int64 or starts.dim() != 1:
        raise ValueError(f"starts must be int64 [B], not {starts.dtype} {list(starts.shape)}")
    if reverse.dtype != torch.bool or reverse.shape != starts.shape:
        raise ValueError(f"reverse must be bool {list(starts.shape)}, not {reverse.dtype} {list(reverse.shape)}")
    if tokens < 0:
        raise ValueError(f"tokens must be >= 0, not {tokens}")
    if not 1 <= k <= 8:
        raise ValueError(f"k must be 1..8, not {k}")
    if not 1 <= kmer_stride <= _LARGEST_STRIDE:
        raise ValueError(f"kmer_stride must be 1..{_LARGEST_STRIDE}, not {kmer_stride}")
    for name, table in (("code_table", code_table), ("complement_table", complement_table)):
        if table.dtype != torch.uint8 or table.shape != (256,):
            raise ValueError(f"{name} must be uint8 [256], not {table.dtype} {list(table.shape)}")
    if dtype not in (torch.int32, torch.int64):
        raise ValueError(f"ids are int32 or int64, not {dtype}")


def kmer_output(out: Tensor | None, shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The caller's buffer after a check, or a new one.

    Args:
        out: The caller's buffer, or None.
        shape: Shape of the ids, [B, (cls) + tokens + (sep)].
        dtype: Type of the ids.
        device: Device of the ids.

    Returns:
        A buffer of uninitialised ids.

    Raises:
        ValueError: The caller's buffer does not fit.
    """
    if out is not None:
        if out.shape != shape or out.dtype != dtype or out.device != device or not out.is_contiguous():
            raise ValueError(
                f"out must be a contiguous {dtype} {list(shape)} on {device}, "
                f"not {out.dtype} {list(out.shape)} on {out.device} with strides {out.stride()}"
            )
        return out
    if device.type == "cpu" and shape[0] * shape[1] * dtype.itemsize >= _HUGE_PAGE_BYTES:
        # NumPy asks the kernel for huge pages and torch does not: a quarter of the time for the first touch of the memory.
        return torch.from_numpy(np.empty(shape, np.int32 if dtype == torch.int32 else np.int64))
    return torch.empty(shape, dtype=dtype, device=device)


def check_embed_arguments(
    table: Tensor, k: int, first_kmer_id: int, ambiguous_id: int, cls_id: int | None, sep_id: int | None
) -> None:
    """Refuse a table that some id would read beyond.

    Raises:
        ValueError: The table has a wrong shape or type, or an id lies outside it.
    """
    if table.dim() != 2 or table.dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f"table must be float32 or bfloat16 [V, H], not {table.dtype} {list(table.shape)}")
    ids = [first_kmer_id, first_kmer_id + 4**k - 1, ambiguous_id, *(i for i in (cls_id, sep_id) if i is not None)]
    if min(ids) < 0 or max(ids) >= len(table):
        raise ValueError(f"ids {min(ids)}..{max(ids)} do not fit a table of {len(table)} rows")


def check_conv_arguments(x: Tensor, weight: Tensor, bias: Tensor, dilation: int, slope: float, residual: Tensor | None) -> None:
    """Refuse arguments that `residual_conv` (kernel or oracle) has no meaning for.

    Raises:
        ValueError: An argument has a wrong shape, type or range.
    """
    if x.dim() != 3 or x.dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f"x must be float32 or bfloat16 [B, L, I], not {x.dtype} {list(x.shape)}")
    if weight.dim() != 3 or weight.dtype != x.dtype or weight.shape[1] != x.shape[2] or len(weight) % 2 == 0:
        raise ValueError(f"weight must be {x.dtype} [odd W, {x.shape[2]}, O], not {weight.dtype} {list(weight.shape)}")
    if bias.dtype != torch.float32 or bias.shape != weight.shape[2:]:
        raise ValueError(f"bias must be float32 [{weight.shape[2]}], not {bias.dtype} {list(bias.shape)}")
    if dilation < 1:
        raise ValueError(f"dilation must be >= 1, not {dilation}")
    if not 0.0 <= slope <= 1.0:
        raise ValueError(f"slope must be 0..1, not {slope}")
    shape = (*x.shape[:2], weight.shape[2])
    if residual is not None and (residual.shape != shape or residual.dtype != x.dtype):
        raise ValueError(f"residual must be {x.dtype} {list(shape)}, not {residual.dtype} {list(residual.shape)}")


class Sites(NamedTuple):
    """Local maxima of some tracks, sorted by row, position, track; every field a tensor [n].

    Attributes:
        row: int64.
        at: Position in the row, int64.
        track: int64.
        value: The logit, float32.
    """

    row: Tensor
    at: Tensor
    track: Tensor
    value: Tensor


def check_site_arguments(logits: Tensor, owned: Tensor, real: Tensor, reverse: Tensor, least: Tensor, radius: Tensor) -> None:
    """Refuse arguments that `call_sites` (kernel or oracle) has no meaning for.

    Raises:
        ValueError: An argument has a wrong shape or type.
    """
    if logits.dtype != torch.float32 or logits.dim() != 3:
        raise ValueError(f"logits must be float32 [R, L, C], not {logits.dtype} {list(logits.shape)}")
    rows, _, tracks = logits.shape
    for name, value, dtype, shape in (
        ("owned", owned, torch.int64, (rows, 2)),
        ("real", real, torch.int64, (rows, 2)),
        ("reverse", reverse, torch.bool, (rows,)),
        ("least", least, torch.float32, (tracks,)),
        ("radius", radius, torch.int64, (tracks,)),
    ):
        if value.dtype != dtype or value.shape != shape:
            raise ValueError(f"{name} must be {dtype} {list(shape)}, not {value.dtype} {list(value.shape)}")


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


def check_scan_arguments(block: Tensor, code_table: Tensor) -> None:
    """Refuse arguments that `pwm_scan` (kernel or oracle) has no meaning for.

    Raises:
        ValueError: An argument has a wrong shape or type.
    """
    if block.dtype != torch.uint8 or block.dim() != 1:
        raise ValueError(f"block must be uint8 [n], not {block.dtype} {list(block.shape)}")
    if code_table.dtype != torch.uint8 or code_table.shape != (256,):
        raise ValueError(f"code_table must be uint8 [256], not {code_table.dtype} {list(code_table.shape)}")
