"""Plain-torch oracles of the kernels; each is also the path taken on a CPU.

Coordinates are 0-based; a window start may be negative or run past the block: bases outside the block count as ambiguous.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

AMBIGUOUS = 4
"""Code of every byte that is not one of the four bases."""

_LARGEST_STRIDE = 1 << 28
_CPU_PIECE_BASES = 1 << 17  # a piece and its temporaries stay in a core's L2 cache
_DEVICE_PIECE_BASES = 1 << 24
_HUGE_PAGE_BYTES = 1 << 22


def kmer_tokenize_reference(
    block: Tensor,
    starts: Tensor,
    reverse: Tensor,
    *,
    tokens: int,
    k: int,
    kmer_stride: int,
    code_table: Tensor,
    complement_table: Tensor,
    first_kmer_id: int,
    ambiguous_id: int,
    cls_id: int | None = None,
    sep_id: int | None = None,
    dtype: torch.dtype = torch.int32,
    out: Tensor | None = None,
) -> Tensor:
    """Cut windows out of a block of bases and turn them into k-mer ids.

    Window b covers the `span = (tokens - 1) * kmer_stride + k` bases `[starts[b], starts[b] + span)` of the block. Token t
    of a forward window starts at base `starts[b] + t * kmer_stride`; a reverse window is read as its reverse complement,
    so token t starts at base t * kmer_stride of that. `id = first_kmer_id + sum(code_i * 4**(k-1-i))`; a k-mer holding any
    base outside the block or any ambiguous byte gets `ambiguous_id`.

    Args:
        block: Bases as ASCII, uint8, [n].
        starts: First base of each window, int64, [B].
        reverse: Whether a window is read from the minus strand, bool, [B].
        tokens: k-mer tokens per window, >= 0.
        k: Bases per token, 1..8.
        kmer_stride: Bases between token starts, >= 1.
        code_table: Code 0..3 of each byte, or AMBIGUOUS, uint8, [256].
        complement_table: The same for the complement of each byte, uint8, [256].
        first_kmer_id: Id of the first k-mer.
        ambiguous_id: Id of a k-mer with an unknown base.
        cls_id: Id put before the k-mers, or None.
        sep_id: Id put after the k-mers, or None.
        dtype: Type of the ids, int32 or int64.
        out: Where to put the ids, contiguous, of the result's shape, type and device; None allocates.

    Returns:
        Token ids, [B, (cls) + tokens + (sep)], `dtype`, on the block's device; `out` itself where it was given.

    Raises:
        ValueError: An argument has a wrong shape, type or range.

    Notes:
        Horner's rule in doubling steps (2-mers, 4-mers, then k-mers) in the narrowest integer type, over pieces that stay
        in cache, so the cost is about one nanosecond a base and memory beyond the result does not grow with the input.
        Vocabulary orders: DNABERT and Nucleotide Transformer use A,T,C,G.
    """
    check_kmer_arguments(block, starts, reverse, tokens, k, kmer_stride, code_table, complement_table, dtype)
    lead, tail = int(cls_id is not None), int(sep_id is not None)
    ids = kmer_output(out, (len(starts), lead + tokens + tail), dtype, block.device)
    if cls_id is not None:
        ids[:, 0] = cls_id
    if sep_id is not None:
        ids[:, -1] = sep_id
    if tokens and len(starts):
        fill = _fill_on_cpu if block.device.type == "cpu" else _fill_on_device
        tables = (code_table, complement_table)
        fill(ids[:, lead : lead + tokens], block, starts, reverse, k, kmer_stride, tables, first_kmer_id, ambiguous_id)
    return ids


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


def _fill_on_cpu(
    ids: Tensor,
    block: Tensor,
    starts: Tensor,
    reverse: Tensor,
    k: int,
    kmer_stride: int,
    tables: tuple[Tensor, Tensor],
    first_kmer_id: int,
    ambiguous_id: int,
) -> None:
    """Write the k-mer ids [B, tokens].

    NumPy over torch's memory: on pieces this small its calls cost a third of torch's, and they do not wait for a pool of
    threads when other work has the cores.
    """
    body = ids.numpy()
    raw = block.numpy().data
    byte_tables = (tables[0].cpu().numpy().tobytes(), tables[1].cpu().numpy().tobytes())
    largest = max(abs(first_kmer_id), abs(ambiguous_id), abs(first_kmer_id - ambiguous_id)) + 4**k
    narrow = np.dtype(np.int16) if largest < 1 << 15 else body.dtype
    for rows, columns in _pieces(len(starts), ids.shape[1], k, kmer_stride, _CPU_PIECE_BASES):
        count = columns.stop - columns.start
        width = (count - 1) * kmer_stride + k
        begins = _piece_starts(starts[rows], reverse[rows], columns, ids.shape[1], kmer_stride)
        joined = bytearray().join(
            _codes_of_bytes(raw, start, width, byte_tables, backward)
            for start, backward in zip(begins.tolist(), reverse[rows].tolist(), strict=True)
        )
        codes: NDArray[np.uint8] = np.frombuffer(joined, np.uint8).reshape(len(begins), width)
        if AMBIGUOUS in joined:
            values = _kmer_values(codes & np.uint8(3), k, kmer_stride, count, narrow)
            values += first_kmer_id - ambiguous_id  # (id - ambiguous) * (k-mer is clean) + ambiguous: faster than a masked fill
            values *= _clean_kmers(codes, k, kmer_stride, count)
            values += ambiguous_id
        else:
            values = _kmer_values(codes, k, kmer_stride, count, narrow)
            values += first_kmer_id
        body[rows, columns] = values


def _fill_on_device(
    ids: Tensor,
    block: Tensor,
    starts: Tensor,
    reverse: Tensor,
    k: int,
    kmer_stride: int,
    tables: tuple[Tensor, Tensor],
    first_kmer_id: int,
    ambiguous_id: int,
) -> None:
    """Write the k-mer ids [B, tokens] in plain torch, on any device: Horner's rule base by base."""
    device = block.device
    starts, reverse = starts.to(device), reverse.to(device)
    both_tables = torch.cat([table.to(device) for table in tables])
    padded = torch.cat((block, block.new_zeros(1)))  # so that an empty block can be indexed too
    for rows, columns in _pieces(len(starts), ids.shape[1], k, kmer_stride, _DEVICE_PIECE_BASES):
        count = columns.stop - columns.start
        backward = reverse[rows, None]
        begins = _piece_starts(starts[rows], reverse[rows], columns, ids.shape[1], kmer_stride)[:, None]
        forward_steps = torch.arange(count, device=device) * kmer_stride
        steps = torch.where(backward, (count - 1) * kmer_stride + k - 1 - forward_steps, forward_steps)
        values = torch.zeros(steps.shape, dtype=torch.int64, device=device)
        clean = torch.ones(steps.shape, dtype=torch.bool, device=device)
        for i in range(k):
            positions = begins + torch.where(backward, steps - i, steps + i)
            inside = (positions >= 0) & (positions < len(block))
            bases = padded[positions.clamp(0, len(block))].long() + 256 * backward
            codes = both_tables[bases]
            clean &= inside & (codes < AMBIGUOUS)
            values = values * 4 + codes
        ids[rows, columns] = torch.where(clean, values + first_kmer_id, ambiguous_id).to(ids.dtype)


def _pieces(windows: int, tokens: int, k: int, kmer_stride: int, limit: int) -> Iterator[tuple[slice, slice]]:
    """Cut [windows, tokens] into (rows, columns) that cover about `limit` bases each."""
    column_step = min(tokens, max(1, (limit - k) // kmer_stride + 1))
    row_step = max(1, limit // ((column_step - 1) * kmer_stride + k))
    for row in range(0, windows, row_step):
        for column in range(0, tokens, column_step):
            yield slice(row, min(row + row_step, windows)), slice(column, min(column + column_step, tokens))


def _piece_starts(starts: Tensor, reverse: Tensor, columns: slice, tokens: int, kmer_stride: int) -> Tensor:
    """First base of a piece of each window; the columns of a reverse window count from its far end."""
    return starts + torch.where(reverse, (tokens - columns.stop) * kmer_stride, columns.start * kmer_stride)


def _codes_of_bytes(raw: memoryview, start: int, width: int, tables: tuple[bytes, bytes], backward: bool) -> bytearray:
    """Codes of one window in reading direction; `bytearray.translate` is the fastest byte table short of compiled code."""
    if 0 <= start <= len(raw) - width:
        codes = bytearray(raw[start : start + width]).translate(tables[backward])
    else:
        low, high = min(max(start, 0), len(raw)), min(max(start + width, 0), len(raw))
        outside = bytearray([AMBIGUOUS])
        codes = outside * min(max(-start, 0), width) + bytearray(raw[low:high]).translate(tables[backward])
        codes += outside * (width - len(codes))
    return codes[::-1] if backward else codes


def _kmer_values(
    codes: NDArray[np.uint8], k: int, kmer_stride: int, tokens: int, dtype: np.dtype[np.signedinteger]
) -> NDArray[np.signedinteger]:
    """Values of the k-mers, `dtype`, [rows, tokens]; every code is below 4."""
    powers = {1: codes}  # width -> values of all k-mers of that width, stride 1, still one byte each
    for width in (2, 4):
        if width <= k:
            # One long row is faster than many; k-mers across two rows, and past the end, are never used.
            half, whole = powers[width // 2].reshape(-1), np.empty(codes.size, np.uint8)
            usable = whole[: codes.size - width // 2]
            np.multiply(half[: usable.size], 1 << width, out=usable)
            usable |= half[width // 2 :]
            powers[width] = whole.reshape(codes.shape)
    last = (tokens - 1) * kmer_stride + 1
    widths = [width for width, wanted in ((4, k >= 4), (4, k == 8), (2, k & 2), (1, k & 1)) if wanted]
    values = powers[widths[0]][:, 0:last:kmer_stride].astype(dtype)
    offset = widths[0]
    for width in widths[1:]:
        values *= 1 << (2 * width)
        values |= powers[width][:, offset : offset + last : kmer_stride]
        offset += width
    return values


def _clean_kmers(codes: NDArray[np.uint8], k: int, kmer_stride: int, tokens: int) -> NDArray[np.bool_]:
    """Whether a k-mer has no ambiguous base, [rows, tokens]."""
    touched = codes.reshape(-1) & AMBIGUOUS
    covered = 1
    while covered < k:  # windows of 1, 2, 4 .. k bases; the ones across two rows are never used
        step = min(covered, k - covered)
        touched[:-step] |= touched[step:]
        covered += step
    clean: NDArray[np.bool_] = touched.reshape(codes.shape)[:, : (tokens - 1) * kmer_stride + 1 : kmer_stride] == 0
    return clean
