"""Triton kernel that cuts windows out of a block of bases and writes their k-mer ids.

Coordinates are 0-based; a window start may be negative or run past the block: bases outside the block count as ambiguous.
The oracle is `annotator_kernels.reference.kmer_tokenize_reference`.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor

from annotator_kernels.arguments import check_kmer_arguments, kmer_output

BLOCK_TOKENS = 1024
"""Tokens of one program: four in a row, which share their bases, from each of its lanes."""


_VARYING = ["n", "tokens", "columns", "tiles", "first_kmer_id", "ambiguous_id", "cls_id", "sep_id"]


@triton.jit(do_not_specialize=_VARYING)  # type: ignore[untyped-decorator]  # no recompilation where one is 1 or 16 m
def _kmer_tokenize_kernel(  # type: ignore[no-untyped-def]
    block_ptr,
    starts_ptr,
    reverse_ptr,
    code_table_ptr,
    complement_table_ptr,
    ids_ptr,
    n,
    tokens,
    columns,
    tiles,
    first_kmer_id,
    ambiguous_id,
    cls_id,
    sep_id,
    K: tl.constexpr,
    STRIDE: tl.constexpr,
    HAS_CLS: tl.constexpr,
    HAS_SEP: tl.constexpr,
    LANES: tl.constexpr,
):
    """Write one tile of one window.

    `id = first_kmer_id + sum(code_i * 4**(K-1-i))`, kept as a rolling value: a forward window shifts bases in at the low
    end, a reverse window shifts complements in at the high end and stores its tokens in mirrored order, so both read the
    block from left to right. `clean` counts the unambiguous bases since the last ambiguous one.

    Grid: (B * tiles,); program p writes tokens [t * 4 * LANES, (t + 1) * 4 * LANES) of window p // tiles, t = p % tiles,
    counted from the window's left end. Memory: block [n] uint8, ids [B, columns] row-major; all addresses int64.
    """
    program = tl.program_id(0).to(tl.int64)
    window = program // tiles
    tile = program % tiles
    start = tl.load(starts_ptr + window).to(tl.int64)
    backward = tl.load(reverse_ptr + window) != 0
    table_ptr = code_table_ptr
    if backward:
        table_ptr = complement_table_ptr
    left = (tile * LANES + tl.arange(0, LANES)) * 4  # each lane's first token, counted from the left
    first_base = start + left * STRIDE
    # Of the bases a lane reads, [inside_from, inside_to) exist; clamped, so that the test of each base is a 32-bit one.
    reach: tl.constexpr = 3 * STRIDE + K
    inside_from = tl.minimum(tl.maximum(-first_base, 0), reach).to(tl.int32)
    inside_to = tl.minimum(tl.maximum(n - first_base, 0), reach).to(tl.int32)
    lane_ptr = block_ptr + first_base
    value = tl.zeros([LANES], dtype=tl.int32)
    clean = tl.zeros([LANES], dtype=tl.int32)
    ids_0 = tl.zeros([LANES], dtype=ids_ptr.dtype.element_ty)
    ids_1 = ids_0
    ids_2 = ids_0
    ids_3 = ids_0
    for run in tl.static_range(4):
        for i in tl.static_range(K):
            if run == 0 or i >= K - STRIDE:  # the bases shared with the token before are in `value` already
                inside = (inside_from <= run * STRIDE + i) & (inside_to > run * STRIDE + i)
                base = tl.load(lane_ptr + (run * STRIDE + i), mask=inside, other=0)
                code = tl.load(table_ptr + base.to(tl.int32)).to(tl.int32)
                clean = tl.where(inside & (code < 4), clean + 1, 0)
                shifted_in_low = ((value << 2) | (code & 3)) & (4**K - 1)
                shifted_in_high = (value >> 2) | ((code & 3) << (2 * K - 2))
                value = tl.where(backward, shifted_in_high, shifted_in_low)  # a branch here would keep the loads apart
        ids = tl.where(clean >= K, first_kmer_id + value, ambiguous_id).to(ids_ptr.dtype.element_ty)
        if run == 0:
            ids_0 = ids
        elif run == 1:
            ids_1 = ids
        elif run == 2:
            ids_2 = ids
        else:
            ids_3 = ids
    ids = tl.interleave(tl.interleave(ids_0, ids_2), tl.interleave(ids_1, ids_3))
    token = tile * LANES * 4 + tl.arange(0, LANES * 4)
    row_ptr = ids_ptr + window * columns
    column = token
    if backward:
        column = tokens - 1 - token
    if HAS_CLS:
        column += 1
    tl.store(row_ptr + column, ids, mask=token < tokens)
    if tile == 0:
        if HAS_CLS:
            tl.store(row_ptr, cls_id)
        if HAS_SEP:
            tl.store(row_ptr + columns - 1, sep_id)


def kmer_tokenize(
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
    """Cut windows out of a block of bases and turn them into k-mer ids, in one launch.

    Args:
        block: Bases as ASCII, uint8, [n]; copied first where it is not contiguous.
        starts: First base of each window, int64, [B].
        reverse: Whether a window is read from the minus strand, bool, [B].
        tokens: k-mer tokens per window, >= 0.
        k: Bases per token, 1..8.
        kmer_stride: Bases between token starts, >= 1.
        code_table: Code 0..3 of each byte, or 4 for ambiguous, uint8, [256].
        complement_table: The same for the complement of each byte, uint8, [256].
        first_kmer_id: Id of the first k-mer.
        ambiguous_id: Id of a k-mer with an unknown base, or one outside the block.
        cls_id: Id put before the k-mers, or None.
        sep_id: Id put after the k-mers, or None.
        dtype: Type of the ids, int32 or int64.
        out: Where to put the ids, contiguous, of the result's shape, type and device; None allocates.

    Returns:
        Token ids, [B, (cls) + tokens + (sep)], `dtype`, on the block's device; equal to `kmer_tokenize_reference`.

    Raises:
        ValueError: An argument has a wrong shape, type or range, or the block is not on a CUDA device (nor in Triton's
            interpreter, which needs TRITON_INTERPRET=1 before this module is imported).

    Notes:
        Traffic is one byte read and one id written a token at stride 1. A lane makes four neighbouring tokens from their
        k + 3 bases (stride 1), and the ids pass through an interleave so that the stores are coalesced.
    """
    check_kmer_arguments(block, starts, reverse, tokens, k, kmer_stride, code_table, complement_table, dtype)
    device = block.device
    if not (block.is_cuda or triton.knobs.runtime.interpret):
        raise ValueError(f"kmer_tokenize: the triton kernel needs a block on a CUDA device, not on {device}")
    has_cls, has_sep = cls_id is not None, sep_id is not None
    columns = tokens + has_cls + has_sep
    ids = kmer_output(out, (len(starts), columns), dtype, device)
    if ids.numel() == 0:
        return ids
    block = block.contiguous()
    starts, reverse = starts.to(device).contiguous(), reverse.to(device).contiguous()
    code_table, complement_table = code_table.to(device).contiguous(), complement_table.to(device).contiguous()
    tiles = max(1, triton.cdiv(tokens, BLOCK_TOKENS))  # a window without tokens may still have special ones
    with torch.cuda.device(device) if block.is_cuda else nullcontext():  # Triton launches on the current device
        _kmer_tokenize_kernel[(len(starts) * tiles,)](
            block,
            starts,
            reverse.view(torch.uint8),
            code_table,
            complement_table,
            ids,
            len(block),
            tokens,
            columns,
            tiles,
            first_kmer_id,
            ambiguous_id,
            cls_id or 0,
            sep_id or 0,
            K=k,
            STRIDE=kmer_stride,
            HAS_CLS=has_cls,
            HAS_SEP=has_sep,
            LANES=BLOCK_TOKENS // 4,
        )
    return ids
