"""The CPU path of `kmer_tokenize`: the oracle's ids by NumPy, on pieces that stay in a core's cache.

Coordinates are 0-based; a window start may be negative or run past the block: bases outside the block count as ambiguous.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from annotator_kernels.kmer.scheme import AMBIGUOUS, KmerScheme

CPU_PIECE_BASES = 1 << 17  # a piece and its temporaries stay in a core's L2 cache


def fill_on_cpu(ids: Tensor, block: Tensor, starts: Tensor, reverse: Tensor, scheme: KmerScheme) -> None:
    """Write the k-mer ids [B, tokens].

    NumPy over torch's memory: on pieces this small its calls cost a third of torch's, and they do not wait for a pool of
    threads when other work has the cores.
    """
    body = ids.numpy()
    raw = block.numpy().data
    code_table, complement_table = scheme.tables(ids.device)
    byte_tables = (code_table.numpy().tobytes(), complement_table.numpy().tobytes())
    k, stride, first_kmer_id, ambiguous_id = scheme.k, scheme.stride, scheme.first_kmer_id, scheme.ambiguous_id
    largest = max(abs(first_kmer_id), abs(ambiguous_id), abs(first_kmer_id - ambiguous_id)) + 4**k
    narrow = np.dtype(np.int16) if largest < 1 << 15 else body.dtype
    for rows, columns in pieces(len(starts), ids.shape[1], scheme, CPU_PIECE_BASES):
        count = columns.stop - columns.start
        width = scheme.span_bp(count)
        begins = piece_starts(starts[rows], reverse[rows], columns, ids.shape[1], stride)
        joined = bytearray().join(
            _codes_of_bytes(raw, start, width, byte_tables, backward)
            for start, backward in zip(begins.tolist(), reverse[rows].tolist(), strict=True)
        )
        codes: NDArray[np.uint8] = np.frombuffer(joined, np.uint8).reshape(len(begins), width)
        if AMBIGUOUS in joined:
            values = _kmer_values(codes & np.uint8(3), k, stride, count, narrow)
            values += first_kmer_id - ambiguous_id  # (id - ambiguous) * (k-mer is clean) + ambiguous: faster than a masked fill
            values *= _clean_kmers(codes, k, stride, count)
            values += ambiguous_id
        else:
            values = _kmer_values(codes, k, stride, count, narrow)
            values += first_kmer_id
        body[rows, columns] = values


def pieces(windows: int, tokens: int, scheme: KmerScheme, limit: int) -> Iterator[tuple[slice, slice]]:
    """Cut [windows, tokens] into (rows, columns) that cover about `limit` bases each."""
    column_step = min(tokens, max(1, scheme.tokens_in(limit)))
    row_step = max(1, limit // scheme.span_bp(column_step))
    for row in range(0, windows, row_step):
        for column in range(0, tokens, column_step):
            yield slice(row, min(row + row_step, windows)), slice(column, min(column + column_step, tokens))


def piece_starts(starts: Tensor, reverse: Tensor, columns: slice, tokens: int, stride: int) -> Tensor:
    """First base of a piece of each window; the columns of a reverse window count from its far end."""
    return starts + torch.where(reverse, (tokens - columns.stop) * stride, columns.start * stride)


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
    codes: NDArray[np.uint8], k: int, stride: int, tokens: int, dtype: np.dtype[np.signedinteger]
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
    last = (tokens - 1) * stride + 1
    widths = [width for width, wanted in ((4, k >= 4), (4, k == 8), (2, k & 2), (1, k & 1)) if wanted]
    values = powers[widths[0]][:, 0:last:stride].astype(dtype)
    offset = widths[0]
    for width in widths[1:]:
        values *= 1 << (2 * width)
        values |= powers[width][:, offset : offset + last : stride]
        offset += width
    return values


def _clean_kmers(codes: NDArray[np.uint8], k: int, stride: int, tokens: int) -> NDArray[np.bool_]:
    """Whether a k-mer has no ambiguous base, [rows, tokens]."""
    touched = codes.reshape(-1) & AMBIGUOUS
    covered = 1
    while covered < k:  # windows of 1, 2, 4 .. k bases; the ones across two rows are never used
        step = min(covered, k - covered)
        touched[:-step] |= touched[step:]
        covered += step
    clean: NDArray[np.bool_] = touched.reshape(codes.shape)[:, : (tokens - 1) * stride + 1 : stride] == 0
    return clean
