"""Plain-torch oracles of the kernels; each is also the path taken on a CPU.

Coordinates are 0-based; a window start may be negative or run past the block: bases outside the block count as ambiguous.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from annotator_kernels.arguments import (
    MotifRows,
    PwmHits,
    Sites,
    check_conv_arguments,
    check_embed_arguments,
    check_kmer_arguments,
    check_scan_arguments,
    check_site_arguments,
    kmer_output,
)
from annotator_kernels.kmer_cpu import AMBIGUOUS, fill_on_cpu, piece_starts, pieces

_DEVICE_PIECE_BASES = 1 << 24
_NEIGHBOURS_AT_ONCE = 1 << 20


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
        fill = fill_on_cpu if block.device.type == "cpu" else _fill_on_device
        tables = (code_table, complement_table)
        fill(ids[:, lead : lead + tokens], block, starts, reverse, k, kmer_stride, tables, first_kmer_id, ambiguous_id)
    return ids


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
    for rows, columns in pieces(len(starts), ids.shape[1], k, kmer_stride, _DEVICE_PIECE_BASES):
        count = columns.stop - columns.start
        backward = reverse[rows, None]
        begins = piece_starts(starts[rows], reverse[rows], columns, ids.shape[1], kmer_stride)[:, None]
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


def kmer_embed_reference(
    block: Tensor,
    starts: Tensor,
    reverse: Tensor,
    table: Tensor,
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
) -> Tensor:
    """Cut windows out of a block of bases and look their k-mers up in an embedding table.

    `out[b, t] = table[id[b, t]]` with the ids of `kmer_tokenize`; differentiable with respect to the table.

    Args:
        block: Bases as ASCII, uint8, [n].
        starts: First base of each window, int64, [B].
        reverse: Whether a window is read from the minus strand, bool, [B].
        table: Embeddings, float32 or bfloat16, [V, H]; V above every id.
        tokens: k-mer tokens per window, >= 0.
        k: Bases per token, 1..8.
        kmer_stride: Bases between token starts, >= 1.
        code_table: Code 0..3 of each byte, or AMBIGUOUS, uint8, [256].
        complement_table: The same for the complement of each byte, uint8, [256].
        first_kmer_id: Id of the first k-mer.
        ambiguous_id: Id of a k-mer with an unknown base.
        cls_id: Id put before the k-mers, or None.
        sep_id: Id put after the k-mers, or None.

    Returns:
        Embeddings, [B, (cls) + tokens + (sep), H], of the table's type, on the block's device.

    Raises:
        ValueError: An argument has a wrong shape, type or range.
    """
    check_embed_arguments(table, k, first_kmer_id, ambiguous_id, cls_id, sep_id)
    ids = kmer_tokenize_reference(
        block, starts, reverse, tokens=tokens, k=k, kmer_stride=kmer_stride, code_table=code_table,
        complement_table=complement_table, first_kmer_id=first_kmer_id, ambiguous_id=ambiguous_id, cls_id=cls_id, sep_id=sep_id,
    )  # fmt: skip
    return F.embedding(ids, table)


def residual_conv_reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    dilation: int = 1,
    slope: float = 1.0,
    residual: Tensor | None = None,
) -> Tensor:
    """One block of the bundled model: dilated convolution, bias, leaky ReLU, and the residual added.

    `y[b, l, o] = residual[b, l, o] + f(bias[o] + sum_{t, i} x[b, l + (t - W // 2) * dilation, i] * weight[t, i, o])` with
    `f(z) = z if z >= 0 else slope * z` and zeros for x outside [0, L). Sums are float32. In bfloat16 the sum, what is left
    of it by f, and the result are rounded, where the kernel rounds once: as an oracle, call it on float32 copies.

    Args:
        x: Activations, channels last, float32 or bfloat16, [B, L, I].
        weight: Taps first, of x's type, [W, I, O]; W odd.
        bias: float32, [O]; a norm is folded into it and the weight beforehand.
        dilation: Positions between two taps, >= 1.
        slope: Of the negative half of the leaky ReLU; 1 for no activation.
        residual: Added last, of x's type, [B, L, O]; None adds nothing.

    Returns:
        [B, L, O], of x's type, contiguous, on x's device.

    Raises:
        ValueError: An argument has a wrong shape, type or range.

    Notes:
        2 * W * I * O FLOPs a position. Channels last is the layout in which oneDNN's convolutions are fastest and in which
        a down-sampling convolution (stride = width) is a plain matrix product over a reshaped view.
    """
    check_conv_arguments(x, weight, bias, dilation, slope, residual)
    if x.shape[1] == 0:
        return x.new_empty(len(x), 0, weight.shape[2])
    images = x.transpose(1, 2).unsqueeze(2)  # [B, I, 1, L], channels last in memory
    kernel = weight.permute(2, 1, 0).unsqueeze(2)  # [O, I, 1, W]
    y = F.conv2d(images, kernel, bias.to(x.dtype), padding=(0, dilation * (len(weight) // 2)), dilation=(1, dilation))
    y = y.squeeze(2).transpose(1, 2)
    if slope != 1.0:
        y = F.leaky_relu_(y, slope)
    if residual is not None:
        y = y.add_(residual)
    return y.contiguous()


def call_sites_reference(logits: Tensor, owned: Tensor, real: Tensor, reverse: Tensor, *, least: Tensor, radius: Tensor) -> Sites:
    """Find the local maxima at or above a threshold.

    Position l of row r is a site of track c where `owned[r, 0] <= l < owned[r, 1]`, `logits[r, l, c] >= least[c]`, and no
    position within radius[c] of it that lies in [real[r, 0], real[r, 1]) and in the row is higher. Of equals the one wins
    that comes first on the plus strand: the lower position of a forward row, the higher one of a reverse row.

    Args:
        logits: float32, [R, L, C].
        owned: First position a row may call, and one past its last, int64, [R, 2]; inside `real` and the row.
        real: The same for the positions that exist on the row's contig, int64, [R, 2]; others are not looked at.
        reverse: Whether a row is read from the minus strand, bool, [R].
        least: Lowest logit of a site, float32, [C]; infinity for a track that is not wanted.
        radius: Positions on either side that a site is compared with, >= 0, int64, [C].

    Returns:
        The sites, on the device of the logits, sorted by row, position, track.

    Raises:
        ValueError: An argument has a wrong shape or type.
    """
    check_site_arguments(logits, owned, real, reverse, least, radius)
    device, length = logits.device, logits.shape[1]
    owned, real, reverse, radius = owned.to(device), real.to(device), reverse.to(device), radius.to(device)
    row, at, track = (logits >= least.to(device)).nonzero(as_tuple=True)
    mine = (at >= owned[row, 0]) & (at < owned[row, 1])
    row, at, track = row[mine], at[mine], track[mine]
    if not len(row):
        return Sites(row, at, track, logits.new_empty(0))
    first, last = real[:, 0].clamp(min=0), real[:, 1].clamp(max=length)
    kept = []
    for c, reach in enumerate(radius.clamp(max=length).tolist()):  # tracks apart: a short radius does not pay for a long one
        steps = torch.arange(-reach, reach + 1, device=device)
        for part in torch.split((track == c).nonzero()[:, 0], max(1, _NEIGHBOURS_AT_ONCE // len(steps))):
            r = row[part, None]
            near = at[part, None] + steps
            seen = (near >= first[r]) & (near < last[r])
            value = logits[r, near.clamp(0, length - 1), c]
            centre = logits[r, at[part, None], c]
            before = torch.where(reverse[r], steps > 0, steps < 0)  # comes first on the plus strand
            beaten = seen & (steps != 0) & torch.where(before, value >= centre, value > centre)
            kept.append(part[~beaten.any(1)])
    keep = torch.cat(kept).sort().values
    row, at, track = row[keep], at[keep], track[keep]
    return Sites(row, at, track, logits[row, at, track])


def pwm_scan_reference(block: Tensor, rows: MotifRows, *, code_table: Tensor) -> PwmHits:
    """Every window whose integer score reaches its row's threshold.

    `score[p, r] = sum_{j < width[r]} steps[r, j, code(block[p + j])]`; a window that runs past the block, or holds a byte
    that is no base, never hits.

    Args:
        block: Bases as ASCII, uint8, [n].
        rows: The matrices, reverse complements as rows of their own.
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
