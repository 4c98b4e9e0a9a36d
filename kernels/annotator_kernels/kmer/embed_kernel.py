"""Triton kernels that cut windows out of a block of bases and look their k-mers up in an embedding table, with gradient.

Coordinates are 0-based; a window start may be negative or run past the block: bases outside the block count as ambiguous.
The oracle is `annotator_kernels.kmer.op.kmer_embed_reference`.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from annotator_kernels.backends import launch_on
from annotator_kernels.kmer.op import check_table, check_window_arguments
from annotator_kernels.kmer.scheme import KmerScheme
from annotator_kernels.kmer.tokenize_kernel import kmer_tokenize
from annotator_kernels.kmer.words import kmer_ids, packed_words

PIECE_TOKENS = 512
"""Tokens whose gradients one program of the backward pass adds up."""

_WIDEST_TILE = 256
_TILE_VALUES = 8192
_SUM_ROWS = 32

_VARYING = ["n", "tokens", "columns", "tiles", "first_kmer_id", "ambiguous_id", "cls_id", "sep_id"]


@triton.jit(do_not_specialize=_VARYING)  # type: ignore[untyped-decorator]  # no recompilation where one is 1 or 16 m
def _kmer_embed_kernel(  # type: ignore[no-untyped-def]
    block_ptr,
    starts_ptr,
    reverse_ptr,
    table_ptr,
    code_table_ptr,
    complement_table_ptr,
    out_ptr,
    n,
    tokens,
    columns,
    tiles,
    first_kmer_id,
    ambiguous_id,
    cls_id,
    sep_id,
    H: tl.constexpr,
    K: tl.constexpr,
    STRIDE: tl.constexpr,
    HAS_CLS: tl.constexpr,
    HAS_SEP: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    """Write one tile of one window: `out[b, c] = table[id[b, c]]`.

    Each column packs its own k bases, although its neighbours share them: beside H values written, these reads, which hit
    L1, are few. The table's rows come from L1 and L2; the output is stored for streaming, so that it drives no row out.

    Grid: (B * tiles,); program p writes columns [t * BLOCK_T, (t + 1) * BLOCK_T) of window p // tiles, t = p % tiles, all H
    values in steps of BLOCK_H. Memory: block [n] uint8, table [V, H], out [B, columns, H], row-major; all addresses int64.
    """
    program = tl.program_id(0)
    window = (program // tiles).to(tl.int64)
    first_column = (program % tiles).to(tl.int64) * BLOCK_T
    start = tl.load(starts_ptr + window)
    backward = tl.load(reverse_ptr + window) != 0
    span = (tokens.to(tl.int64) - 1) * STRIDE + K
    first = (first_column - HAS_CLS) * STRIDE
    words = packed_words(
        block_ptr, code_table_ptr, complement_table_ptr, n, start, span, backward, first, K, STRIDE, BLOCK_T
    )  # fmt: skip
    ids = kmer_ids(words & 0xFFFF, words >> 16, 0, first_kmer_id, ambiguous_id, K)
    column = tl.arange(0, BLOCK_T)
    if HAS_CLS:
        ids = tl.where(first_column + column == 0, cls_id, ids)
    if HAS_SEP:
        ids = tl.where(first_column + column == columns - 1, sep_id, ids)
    end = tl.minimum(columns - first_column, BLOCK_T).to(tl.int32)
    written = (column < end)[:, None]
    source = table_ptr + ids.to(tl.int64)[:, None] * H
    target = out_ptr + (window * columns + first_column) * H + column[:, None] * H
    for left in tl.static_range(0, H, BLOCK_H):
        h = left + tl.arange(0, BLOCK_H)[None, :]
        mask = written
        if left + BLOCK_H > H:
            mask = written & (h < H)
        values = tl.load(source + h, mask=mask)
        tl.store(target + h, values, mask=mask, cache_modifier=".cs")


@triton.jit  # type: ignore[untyped-decorator]
def _add_rows_kernel(  # type: ignore[no-untyped-def]
    source_ptr,
    order_ptr,
    from_ptr,
    to_ptr,
    out_ptr,
    H: tl.constexpr,
    ORDERED: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    """Add up one range of rows: `out[p] = sum(source[order[r]] for r in [from[p], to[p]))`, in float32 and a fixed order.

    Grid: (ranges, cdiv(H, BLOCK_H)). Memory: source [M, H] and out [ranges, H] row-major, order, from and to int64; without
    ORDERED, `order[r] = r`.
    """
    program = tl.program_id(0).to(tl.int64)
    h = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)[None, :]
    begin = tl.load(from_ptr + program)
    length = tl.load(to_ptr + program) - begin
    row = tl.arange(0, BLOCK_R)
    total = tl.zeros([BLOCK_R, BLOCK_H], dtype=tl.float32)
    for done in range(0, length, BLOCK_R):
        real = row < length - done
        at = begin + done + row
        if ORDERED:
            at = tl.load(order_ptr + at, mask=real, other=0)
        values = tl.load(source_ptr + at[:, None] * H + h, mask=real[:, None] & (h < H), other=0.0)
        total += values.to(tl.float32)
    column = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    tl.store(out_ptr + program * H + column, tl.sum(total, 0).to(out_ptr.dtype.element_ty), mask=column < H)


class _KmerEmbed(Function):
    """`kmer_embed` as a node of the autograd graph: differentiable with respect to the table."""

    @staticmethod
    def forward(
        ctx: Any, table: Tensor, block: Tensor, starts: Tensor, reverse: Tensor, scheme: KmerScheme, tokens: int
    ) -> Tensor:
        """Launch the forward kernel, and keep what the ids can be made from again."""
        ctx.save_for_backward(block, starts, reverse)
        ctx.scheme, ctx.tokens, ctx.table_shape, ctx.table_type = scheme, tokens, table.shape, table.dtype
        return _embed(table, block, starts, reverse, scheme, tokens)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient of the table: for each row the sum over the tokens that have its id."""
        nothing = (None,) * 5
        if not ctx.needs_input_grad[0]:
            return None, *nothing
        block, starts, reverse = ctx.saved_tensors
        ids = kmer_tokenize(block, starts, reverse, ctx.scheme, tokens=ctx.tokens)
        vocabulary, width = ctx.table_shape
        return add_rows_by_id(ids.flatten(), gradient.reshape(-1, width), vocabulary, ctx.table_type), *nothing


def _embed(table: Tensor, block: Tensor, starts: Tensor, reverse: Tensor, scheme: KmerScheme, tokens: int) -> Tensor:
    """Launch the forward kernel."""
    columns, width = scheme.lead + tokens + scheme.tail, table.shape[1]
    out = torch.empty((len(starts), columns, width), dtype=table.dtype, device=table.device)
    if out.numel() == 0:
        return out
    block_h = min(triton.next_power_of_2(width), _WIDEST_TILE)
    block_t = min(_TILE_VALUES // block_h, 256)
    tiles = triton.cdiv(columns, block_t)
    with launch_on(table, "kmer_embed", "a table", interpreted=triton.knobs.runtime.interpret):
        _kmer_embed_kernel[(len(starts) * tiles,)](
            block,
            starts,
            reverse.view(torch.uint8),
            table,
            *scheme.tables(table.device),
            out,
            len(block),
            tokens,
            columns,
            tiles,
            scheme.first_kmer_id,
            scheme.ambiguous_id,
            scheme.cls_id or 0,
            scheme.sep_id or 0,
            H=width,
            K=scheme.k,
            STRIDE=scheme.stride,
            HAS_CLS=scheme.cls_id is not None,
            HAS_SEP=scheme.sep_id is not None,
            BLOCK_T=block_t,
            BLOCK_H=block_h,
        )
    return out


def add_rows_by_id(ids: Tensor, rows: Tensor, vocabulary: int, dtype: torch.dtype) -> Tensor:
    """Add up the rows that have the same id, in a fixed order: the same bits on every run.

    Args:
        ids: int32 or int64, [M], each in [0, vocabulary).
        rows: float32 or bfloat16, [M, H], on the device of `ids`.
        vocabulary: Rows of the result.
        dtype: Type of the result, float32 or bfloat16.

    Returns:
        Sums, [vocabulary, H], rounded once from float32; zeros for an id that does not occur.

    Notes:
        The tokens are sorted by id (stable) and each id's run is cut into pieces of PIECE_TOKENS, so that a run of one
        k-mer, such as a stretch of N, occupies many programs. One launch adds up the pieces, a second one the pieces of
        each id. There are at most `vocabulary + M / PIECE_TOKENS` pieces: the grid needs no answer from the device.
    """
    device, width = rows.device, rows.shape[1]
    out = torch.empty((vocabulary, width), dtype=dtype, device=device)
    if out.numel() == 0:
        return out
    in_order, order = ids.sort(stable=True)
    bounds = torch.searchsorted(in_order, torch.arange(vocabulary + 1, dtype=ids.dtype, device=device))
    begins, ends = bounds[:-1], bounds[1:]
    last_piece = ((ends - begins + PIECE_TOKENS - 1) // PIECE_TOKENS).cumsum(0)  # one past the last piece of each id
    first_piece = torch.cat((last_piece.new_zeros(1), last_piece[:-1]))
    piece = torch.arange(vocabulary + len(ids) // PIECE_TOKENS, device=device)
    owner = torch.searchsorted(last_piece, piece, right=True).clamp(max=vocabulary - 1)
    piece_begins = begins[owner] + (piece - first_piece[owner]) * PIECE_TOKENS
    piece_ends = torch.minimum(piece_begins + PIECE_TOKENS, ends[owner])  # before the begin, for those beyond the last one
    partial = torch.empty((len(piece), width), dtype=torch.float32, device=device)
    _add_rows(rows.contiguous(), order, piece_begins, piece_ends, partial)
    _add_rows(partial, None, first_piece, last_piece, out)
    return out


def _add_rows(source: Tensor, order: Tensor | None, begins: Tensor, ends: Tensor, out: Tensor) -> None:
    """Launch the kernel that adds up ranges of rows."""
    width = source.shape[1]
    block_h = min(triton.next_power_of_2(width), 128)
    with launch_on(out, "kmer_embed", "rows", interpreted=triton.knobs.runtime.interpret):
        _add_rows_kernel[(len(begins), triton.cdiv(width, block_h))](
            source,
            order if order is not None else begins,
            begins,
            ends,
            out,
            H=width,
            ORDERED=order is not None,
            BLOCK_R=_SUM_ROWS,
            BLOCK_H=block_h,
        )


def kmer_embed(block: Tensor, starts: Tensor, reverse: Tensor, table: Tensor, scheme: KmerScheme, *, tokens: int) -> Tensor:
    """Cut windows out of a block of bases and look their k-mers up in an embedding table, in one launch.

    Args:
        block: Bases as ASCII, uint8, [n]; copied first where it is not contiguous.
        starts: First base of each window, int64, [B].
        reverse: Whether a window is read from the minus strand, bool, [B].
        table: Embeddings, float32 or bfloat16, [V, H], on the block's device; V above every id.
        scheme: How bases become ids.
        tokens: k-mer tokens per window, >= 0.

    Returns:
        Embeddings, [B, (cls) + tokens + (sep), H], of the table's type, on the block's device; equal to
        `kmer_embed_reference`. The gradient of the table is added up in float32, in the same order on every run, and
        rounded once.

    Raises:
        ValueError: An argument has a wrong shape, type or range, the table is not on the block's device, or that is not a
            CUDA device (nor Triton's interpreter, which needs TRITON_INTERPRET=1 before this module is imported).

    Notes:
        Traffic is H values written and `stride` bytes read a token; the table's rows come from the caches. The backward pass
        makes the ids again, sorts them (which dominates) and reads the gradient once.
    """
    check_table(table, scheme)
    check_window_arguments(block, starts, reverse, tokens)
    device = block.device
    launch_on(block, "kmer_embed", "a block", interpreted=triton.knobs.runtime.interpret)  # refuses before anything is copied
    if table.device != device:
        raise ValueError(f"kmer_embed: the table is on {table.device}, the block on {device}")
    starts, reverse = starts.to(device).contiguous(), reverse.to(device).contiguous()
    out: Tensor = _KmerEmbed.apply(table.contiguous(), block.contiguous(), starts, reverse, scheme, tokens)  # type: ignore[no-untyped-call]
    return out
