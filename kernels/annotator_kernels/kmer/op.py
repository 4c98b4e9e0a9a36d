"""The operations `kmer_tokenize` and `kmer_embed`: the public functions, the checks of their arguments, and their oracles.

The oracles are plain torch and also the path taken on a CPU. Coordinates are 0-based; a window start may be negative or run
past the block: bases outside the block count as ambiguous.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from annotator_kernels.backends import Backend, run_kernel
from annotator_kernels.kmer.cpu import fill_on_cpu, piece_starts, pieces
from annotator_kernels.kmer.scheme import AMBIGUOUS, KmerScheme

_DEVICE_PIECE_BASES = 1 << 24
_HUGE_PAGE_BYTES = 1 << 22


def kmer_tokenize(
    block: Tensor,
    starts: Tensor,
    reverse: Tensor,
    scheme: KmerScheme,
    *,
    tokens: int,
    dtype: torch.dtype = torch.int32,
    out: Tensor | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Cut windows out of a block of bases and turn them into k-mer ids, where the block lies.

    Args:
        block: Bases as ASCII, uint8, [n].
        starts: First base of each window, int64, [B].
        reverse: Whether a window is read from the minus strand, bool, [B].
        scheme: How bases become ids.
        tokens: k-mer tokens per window, >= 0.
        dtype: Type of the ids, int32 or int64.
        out: Where to put the ids, contiguous, of the result's shape, type and device; None allocates.
        backend: "triton" or "torch" run that or raise; "auto" runs Triton on a CUDA block where it can, else torch.

    Returns:
        Token ids, [B, (cls) + tokens + (sep)], `dtype`, on the block's device; the same from every backend; `out` itself
        where it was given.

    Raises:
        BackendError: "triton" was asked for and cannot be imported.
        ValueError: An argument has a wrong shape, type or range, or "triton" was asked for on a CPU.
    """
    return run_kernel(
        "kmer_tokenize",
        "annotator_kernels.kmer.tokenize_kernel",
        kmer_tokenize_reference,
        lambda function: function(block, starts, reverse, scheme, tokens=tokens, dtype=dtype, out=out),
        device=block.device,
        backend=backend,
    )


def kmer_embed(
    block: Tensor,
    starts: Tensor,
    reverse: Tensor,
    table: Tensor,
    scheme: KmerScheme,
    *,
    tokens: int,
    backend: Backend = "auto",
) -> Tensor:
    """Cut windows out of a block of bases and look their k-mers up in an embedding table.

    Args:
        block: Bases as ASCII, uint8, [n].
        starts: First base of each window, int64, [B].
        reverse: Whether a window is read from the minus strand, bool, [B].
        table: Embeddings, float32 or bfloat16, [V, H]; V above every id.
        scheme: How bases become ids.
        tokens: k-mer tokens per window, >= 0.
        backend: "triton" or "torch" run that or raise; "auto" runs Triton on a CUDA block where it can, else torch.

    Returns:
        Embeddings, [B, (cls) + tokens + (sep), H], of the table's type, on the block's device; differentiable with respect
        to the table. The same from every backend; the gradient to float32 rounding.

    Raises:
        BackendError: "triton" was asked for and cannot be imported.
        ValueError: An argument has a wrong shape, type or range, or "triton" was asked for on a CPU.
    """
    return run_kernel(
        "kmer_embed",
        "annotator_kernels.kmer.embed_kernel",
        kmer_embed_reference,
        lambda function: function(block, starts, reverse, table, scheme, tokens=tokens),
        device=block.device,
        backend=backend,
    )


def check_window_arguments(block: Tensor, starts: Tensor, reverse: Tensor, tokens: int) -> None:
    """Refuse windows that `kmer_tokenize` and `kmer_embed` (kernel or oracle) have no meaning for.

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


def check_table(table: Tensor, scheme: KmerScheme) -> None:
    """Refuse an embedding table that some id would read beyond.

    Raises:
        ValueError: The table has a wrong shape or type, or an id lies outside it.
    """
    if table.dim() != 2 or table.dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f"table must be float32 or bfloat16 [V, H], not {table.dtype} {list(table.shape)}")
    ids = scheme.ids
    if ids[0] < 0 or ids[-1] >= len(table):
        raise ValueError(f"ids {ids[0]}..{ids[-1]} do not fit a table of {len(table)} rows")


def kmer_output(out: Tensor | None, shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The caller's buffer for the ids after a check, or a new one.

    Args:
        out: The caller's buffer, or None.
        shape: Shape of the ids, [B, (cls) + tokens + (sep)].
        dtype: Type of the ids, int32 or int64.
        device: Device of the ids.

    Returns:
        A buffer of uninitialised ids.

    Raises:
        ValueError: The caller's buffer does not fit, or ids cannot have this type.
    """
    if dtype not in (torch.int32, torch.int64):
        raise ValueError(f"ids are int32 or int64, not {dtype}")
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


def kmer_tokenize_reference(
    block: Tensor,
    starts: Tensor,
    reverse: Tensor,
    scheme: KmerScheme,
    *,
    tokens: int,
    dtype: torch.dtype = torch.int32,
    out: Tensor | None = None,
) -> Tensor:
    """Cut windows out of a block of bases and turn them into k-mer ids.

    Window b covers the `span = (tokens - 1) * stride + k` bases `[starts[b], starts[b] + span)` of the block. Token t of a
    forward window starts at base `starts[b] + t * stride`; a reverse window is read as its reverse complement, so token t
    starts at base t * stride of that. A k-mer that holds an ambiguous byte or a base outside the block gets the scheme's
    `ambiguous_id`.

    Args:
        block: Bases as ASCII, uint8, [n].
        starts: First base of each window, int64, [B].
        reverse: Whether a window is read from the minus strand, bool, [B].
        scheme: How bases become ids.
        tokens: k-mer tokens per window, >= 0.
        dtype: Type of the ids, int32 or int64.
        out: Where to put the ids, contiguous, of the result's shape, type and device; None allocates.

    Returns:
        Token ids, [B, (cls) + tokens + (sep)], `dtype`, on the block's device; `out` itself where it was given.

    Raises:
        ValueError: An argument has a wrong shape, type or range.

    Notes:
        Horner's rule in doubling steps (2-mers, 4-mers, then k-mers) in the narrowest integer type, over pieces that stay
        in cache, so the cost is about one nanosecond a base and memory beyond the result does not grow with the input.
    """
    check_window_arguments(block, starts, reverse, tokens)
    ids = kmer_output(out, (len(starts), scheme.lead + tokens + scheme.tail), dtype, block.device)
    _write_ids(ids, block, starts, reverse, scheme, tokens)
    return ids


def kmer_embed_reference(
    block: Tensor, starts: Tensor, reverse: Tensor, table: Tensor, scheme: KmerScheme, *, tokens: int
) -> Tensor:
    """Cut windows out of a block of bases and look their k-mers up in an embedding table.

    `out[b, t] = table[id[b, t]]` with the ids of `kmer_tokenize`; differentiable with respect to the table.

    Args:
        block: Bases as ASCII, uint8, [n].
        starts: First base of each window, int64, [B].
        reverse: Whether a window is read from the minus strand, bool, [B].
        table: Embeddings, float32 or bfloat16, [V, H]; V above every id.
        scheme: How bases become ids.
        tokens: k-mer tokens per window, >= 0.

    Returns:
        Embeddings, [B, (cls) + tokens + (sep), H], of the table's type, on the block's device.

    Raises:
        ValueError: An argument has a wrong shape, type or range.
    """
    check_table(table, scheme)
    check_window_arguments(block, starts, reverse, tokens)
    ids = kmer_output(None, (len(starts), scheme.lead + tokens + scheme.tail), torch.int32, block.device)
    _write_ids(ids, block, starts, reverse, scheme, tokens)
    return F.embedding(ids, table)


def _write_ids(ids: Tensor, block: Tensor, starts: Tensor, reverse: Tensor, scheme: KmerScheme, tokens: int) -> None:
    """Write the special tokens and the k-mer ids of every window."""
    if scheme.cls_id is not None:
        ids[:, 0] = scheme.cls_id
    if scheme.sep_id is not None:
        ids[:, -1] = scheme.sep_id
    if tokens and len(starts):
        fill = fill_on_cpu if block.device.type == "cpu" else _fill_on_device
        fill(ids[:, scheme.lead : scheme.lead + tokens], block, starts, reverse, scheme)


def _fill_on_device(ids: Tensor, block: Tensor, starts: Tensor, reverse: Tensor, scheme: KmerScheme) -> None:
    """Write the k-mer ids [B, tokens] in plain torch, on any device: Horner's rule base by base."""
    device, k, stride = block.device, scheme.k, scheme.stride
    starts, reverse = starts.to(device), reverse.to(device)
    both_tables = torch.cat(scheme.tables(device))
    padded = torch.cat((block, block.new_zeros(1)))  # so that an empty block can be indexed too
    for rows, columns in pieces(len(starts), ids.shape[1], scheme, _DEVICE_PIECE_BASES):
        count = columns.stop - columns.start
        backward = reverse[rows, None]
        begins = piece_starts(starts[rows], reverse[rows], columns, ids.shape[1], stride)[:, None]
        forward_steps = torch.arange(count, device=device) * stride
        steps = torch.where(backward, (count - 1) * stride + k - 1 - forward_steps, forward_steps)
        values = torch.zeros(steps.shape, dtype=torch.int64, device=device)
        clean = torch.ones(steps.shape, dtype=torch.bool, device=device)
        for i in range(k):
            positions = begins + torch.where(backward, steps - i, steps + i)
            inside = (positions >= 0) & (positions < len(block))
            bases = padded[positions.clamp(0, len(block))].long() + 256 * backward
            codes = both_tables[bases]
            clean &= inside & (codes < AMBIGUOUS)
            values = values * 4 + codes
        ids[rows, columns] = torch.where(clean, values + scheme.first_kmer_id, scheme.ambiguous_id).to(ids.dtype)
