"""What the k-mer kernels share: up to eight bases packed into one word, and k-mer ids cut out of such words.

Coordinates are 0-based; bases outside the block count as ambiguous. A word holds its bases in reading order, the last one
lowest: in the low half their codes, two bits each, and in the high half, two bits each too, a one for an ambiguous base.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _squeeze(nibbles):  # type: ignore[no-untyped-def]
    """The low two bits of the eight nibbles of a word, side by side; the other bits of the nibbles are 0."""
    nibbles = (nibbles | (nibbles >> 2)) & 0x0F0F0F0F
    nibbles = (nibbles | (nibbles >> 4)) & 0x00FF00FF
    return (nibbles | (nibbles >> 8)) & 0x0000FFFF


@triton.jit  # type: ignore[untyped-decorator]
def _nibbles(lane_ptr, table_ptr, inside_from, inside_to, backward, BASES: tl.constexpr, MASKED: tl.constexpr):  # type: ignore[no-untyped-def]
    """Codes 0..4 of the BASES bases from `lane_ptr` on, a nibble each; without MASKED all of them exist."""
    upward = tl.zeros(lane_ptr.shape, dtype=tl.int32)
    downward = upward
    for i in tl.static_range(BASES):
        if MASKED:
            inside = (inside_from <= i) & (inside_to > i)
            base = tl.load(lane_ptr + i, mask=inside, other=0)
            code = tl.load(table_ptr + base.to(tl.int32), mask=inside, other=4)
        else:
            base = tl.load(lane_ptr + i)
            code = tl.load(table_ptr + base.to(tl.int32))
        code = code.to(tl.int32)
        upward = (upward << 4) + code
        downward = downward + (code << (4 * i))
    return tl.where(backward, downward, upward)


@triton.jit  # type: ignore[untyped-decorator]
def packed_words(  # type: ignore[no-untyped-def]
    block_ptr,
    code_table_ptr,
    complement_table_ptr,
    n,
    start,
    span,
    backward,
    first,
    BASES: tl.constexpr,
    STEP: tl.constexpr,
    LANES: tl.constexpr,
):
    """Pack the BASES bases at reading positions `first + lane * STEP` and after, for each lane.

    Reading position q of a window is base `start + q` of the block, or base `start + span - 1 - q` and complemented where
    the window is read backward.

    Args:
        block_ptr: Bases, uint8, [n].
        code_table_ptr: Code of each byte, uint8, [256].
        complement_table_ptr: Code of each byte's complement, uint8, [256].
        n: Bases in the block.
        start: First base of the window, int64.
        span: Bases of the window, int64.
        backward: Whether the window is read from the minus strand.
        first: Reading position of lane 0, int64.
        BASES: Bases of a word, 1..8.
        STEP: Bases between lanes.
        LANES: Words to make.

    Returns:
        Words, int32, [LANES].
    """
    table_ptr = code_table_ptr
    low = start + first  # lowest base of lane 0
    high = low + (LANES - 1) * STEP  # lowest base of the last lane
    lane = tl.arange(0, LANES).to(tl.int64) * STEP
    if backward:
        table_ptr = complement_table_ptr
        high = start + span - BASES - first
        low = high - (LANES - 1) * STEP
        lane = (LANES - 1) * STEP - lane
    position = low + lane
    if (low >= 0) & (high + BASES <= n):  # all but the tiles at the ends of the block: no test of each base
        nibbles = _nibbles(block_ptr + position, table_ptr, 0, BASES, backward, BASES, False)
    else:
        inside_from = tl.minimum(tl.maximum(-position, 0), BASES).to(tl.int32)
        inside_to = tl.minimum(tl.maximum(n - position, 0), BASES).to(tl.int32)
        nibbles = _nibbles(block_ptr + position, table_ptr, inside_from, inside_to, backward, BASES, True)
    return _squeeze(nibbles & 0x33333333) | (_squeeze((nibbles >> 2) & 0x11111111) << 16)


@triton.jit  # type: ignore[untyped-decorator]
def kmer_ids(codes, ambiguous, shift, first_kmer_id, ambiguous_id, K: tl.constexpr):  # type: ignore[no-untyped-def]
    """Cut one k-mer out of packed bases: `id = first_kmer_id + sum(code_i * 4**(K-1-i))`.

    Args:
        codes: Codes, two bits a base, the first base highest, int32.
        ambiguous: Laid out in the same way, not 0 for an ambiguous base, int32.
        shift: Bits below the last base of the k-mer.
        first_kmer_id: Id of the first k-mer.
        ambiguous_id: Id of a k-mer with an ambiguous base.
        K: Bases of the k-mer, 1..8.

    Returns:
        Ids, int32.
    """
    value = (codes >> shift) & (4**K - 1)
    known = ((ambiguous >> shift) & (4**K - 1)) == 0
    return tl.where(known, value + first_kmer_id, ambiguous_id)
