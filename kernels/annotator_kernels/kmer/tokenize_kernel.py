"""Triton kernel that cuts windows out of a block of bases and writes their k-mer ids.

Coordinates are 0-based; a window start may be negative or run past the block: bases outside the block count as ambiguous.
The oracle is `annotator_kernels.kmer.op.kmer_tokenize_reference`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from annotator_kernels.backends import launch_on
from annotator_kernels.kmer.op import check_window_arguments, kmer_output
from annotator_kernels.kmer.scheme import KmerScheme
from annotator_kernels.kmer.words import kmer_ids, packed_words

WORDS = 256
"""Words of eight bases that one program packs at stride 1, at most."""

BLOCK_TOKENS = 8 * (WORDS - 1)
"""Tokens of one program at stride 1, at most: one starts at each base of every word but the last."""

STRIDED_BLOCK_TOKENS = 512
"""Tokens of one program at other strides, at most; there each packs a word of its own."""


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

    `id = first_kmer_id + sum(code_i * 4**(K-1-i))`. At stride 1 each lane packs eight bases of its own into a word, so that
    every base is read and looked up once; a token is then cut out of its word and the next, which the lanes exchange. At
    other strides each token packs its own bases. Reverse windows are read from their right end, so that tokens lie in
    output order on either strand and the stores are coalesced.

    Grid: (B * tiles,); program p writes tile t = p % tiles of window p // tiles: 8 * (LANES - 1) tokens at stride 1, LANES
    tokens at others. Memory: block [n] uint8, ids [B, columns] row-major; all addresses int64.
    """
    program = tl.program_id(0)
    window = (program // tiles).to(tl.int64)
    tile = program % tiles
    start = tl.load(starts_ptr + window)
    backward = tl.load(reverse_ptr + window) != 0
    span = (tokens.to(tl.int64) - 1) * STRIDE + K
    if STRIDE == 1:
        first_token = tile.to(tl.int64) * (8 * (LANES - 1))
        words = packed_words(
            block_ptr, code_table_ptr, complement_table_ptr, n, start, span, backward, first_token, 8, 8, LANES
        )  # fmt: skip
        lane = tl.arange(0, LANES)
        end = tl.minimum(tokens - first_token, 8 * (LANES - 1)).to(tl.int32)
        after = tl.gather(words, tl.minimum(lane + 1, LANES - 1), 0)
        codes = (words << 16) | (after & 0xFFFF)
        ambiguous = (words & -65536) | (after >> 16)
        base = tl.arange(0, 8)[None, :]
        token = lane[:, None] * 8 + base
        ids = kmer_ids(codes[:, None], ambiguous[:, None], 2 * (16 - K) - 2 * base, first_kmer_id, ambiguous_id, K)
    else:
        first_token = tile.to(tl.int64) * LANES
        first = first_token * STRIDE
        words = packed_words(
            block_ptr, code_table_ptr, complement_table_ptr, n, start, span, backward, first, K, STRIDE, LANES
        )  # fmt: skip
        token = tl.arange(0, LANES)
        end = tl.minimum(tokens - first_token, LANES).to(tl.int32)
        ids = kmer_ids(words & 0xFFFF, words >> 16, 0, first_kmer_id, ambiguous_id, K)
    row_ptr = ids_ptr + window * columns
    tl.store(row_ptr + (first_token + HAS_CLS) + token, ids.to(ids_ptr.dtype.element_ty), mask=token < end)
    if tile == 0:
        if HAS_CLS:
            tl.store(row_ptr, cls_id)
        if HAS_SEP:
            tl.store(row_ptr + columns - 1, sep_id)


def kmer_tokenize(
    block: Tensor,
    starts: Tensor,
    reverse: Tensor,
    scheme: KmerScheme,
    *,
    tokens: int,
    dtype: torch.dtype = torch.int32,
    out: Tensor | None = None,
) -> Tensor:
    """Cut windows out of a block of bases and turn them into k-mer ids, in one launch.

    Args:
        block: Bases as ASCII, uint8, [n]; copied first where it is not contiguous.
        starts: First base of each window, int64, [B].
        reverse: Whether a window is read from the minus strand, bool, [B].
        scheme: How bases become ids.
        tokens: k-mer tokens per window, >= 0.
        dtype: Type of the ids, int32 or int64.
        out: Where to put the ids, contiguous, of the result's shape, type and device; None allocates.

    Returns:
        Token ids, [B, (cls) + tokens + (sep)], `dtype`, on the block's device; equal to `kmer_tokenize_reference`.

    Raises:
        ValueError: An argument has a wrong shape, type or range, or the block is not on a CUDA device (nor in Triton's
            interpreter, which needs TRITON_INTERPRET=1 before this module is imported).

    Notes:
        Traffic is one byte read and one id written a token at stride 1. A base is read and looked up once; a thread packs
        eight of them, and two packed words hold all the bases of eight tokens. About 30 instructions a token.
    """
    check_window_arguments(block, starts, reverse, tokens)
    device = block.device
    current = launch_on(block, "kmer_tokenize", "a block", interpreted=triton.knobs.runtime.interpret)
    columns = scheme.lead + tokens + scheme.tail
    ids = kmer_output(out, (len(starts), columns), dtype, device)
    if ids.numel() == 0:
        return ids
    block = block.contiguous()
    starts, reverse = starts.to(device).contiguous(), reverse.to(device).contiguous()
    if scheme.stride == 1:  # short windows take small programs, so that few lanes idle
        lanes = min(WORDS, max(32, triton.next_power_of_2(triton.cdiv(tokens, 8) + 1)))
        tile, warps = 8 * (lanes - 1), max(1, lanes // 64)
    else:
        lanes = min(STRIDED_BLOCK_TOKENS, max(32, triton.next_power_of_2(tokens)))
        tile, warps = lanes, max(1, lanes // 128)
    tiles = max(1, triton.cdiv(tokens, tile))  # a window without tokens may still have special ones
    with current:
        _kmer_tokenize_kernel[(len(starts) * tiles,)](
            block,
            starts,
            reverse.view(torch.uint8),
            *scheme.tables(device),
            ids,
            len(block),
            tokens,
            columns,
            tiles,
            scheme.first_kmer_id,
            scheme.ambiguous_id,
            scheme.cls_id or 0,
            scheme.sep_id or 0,
            K=scheme.k,
            STRIDE=scheme.stride,
            HAS_CLS=scheme.cls_id is not None,
            HAS_SEP=scheme.sep_id is not None,
            LANES=lanes,
            num_warps=warps,
        )
    return ids
