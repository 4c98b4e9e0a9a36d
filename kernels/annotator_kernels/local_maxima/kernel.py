"""Triton kernel that finds the local maxima of tracks that reach a threshold, and sees whether all values are finite.

Coordinates are 0-based positions of a row. The oracle is `annotator_kernels.local_maxima.op.local_maxima_reference`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
import triton.language as tl
from torch import Tensor

from annotator_kernels.backends import launch_on
from annotator_kernels.local_maxima.op import FoundMaxima, Maxima, check_maxima_arguments
from annotator_kernels.transfer import to_device, to_host_later

BLOCK_POSITIONS = 1024
"""Positions of one program."""

_LEAST_ROOM = 1 << 14

_VARYING = ["length", "tracks", "tiles", "row_stride", "position_stride", "track_stride", "capacity"]


@triton.jit(do_not_specialize=_VARYING)  # type: ignore[untyped-decorator]  # no recompilation where one is 1 or 16 m
def _local_maxima_kernel(  # type: ignore[no-untyped-def]
    logits_ptr,
    owned_ptr,
    real_ptr,
    reverse_ptr,
    least_ptr,
    radius_ptr,
    maxima_ptr,
    count_ptr,
    length,
    tracks,
    tiles,
    row_stride,
    position_stride,
    track_stride,
    capacity,
    LANES: tl.constexpr,
):
    """Write the maxima of one tile of one track of one row, `(row * length + position) * tracks + track` and the value's bits.

    They come in no order. All logits of the tile are looked at for values that are not finite; these are counted.

    Only what reaches the threshold looks at its neighbours, nearest first, and stops being loaded for once it is beaten. A
    neighbour that comes first on the plus strand beats an equal one.

    Grid: (R * tiles * C,); program p works on track p % C of tile p // C % tiles, so that neighbouring programs share the
    cache lines of tracks that lie side by side. Memory: logits float32 with any strides (in elements); maxima [capacity, 2]
    int64; count [2] int64: maxima, also those without room, and logits that are not finite.
    """
    program = tl.program_id(0).to(tl.int64)
    track = program % tracks
    row = program // tracks // tiles
    at = program // tracks % tiles * LANES + tl.arange(0, LANES)
    least = tl.load(least_ptr + track)
    inside = at < length
    mine = (at >= tl.load(owned_ptr + 2 * row)) & (at < tl.load(owned_ptr + 2 * row + 1)) & inside
    track_ptr = logits_ptr + row * row_stride + track * track_stride
    centre = tl.load(track_ptr + at * position_stride, mask=inside, other=0.0)
    odd = tl.sum((inside & ((tl.abs(centre) < float("inf")) == 0)).to(tl.int64))  # NaN is not below infinity
    if odd > 0:
        tl.atomic_add(count_ptr + 1, odd, sem="relaxed")
    site = mine & (centre >= least)
    if tl.max(site.to(tl.int32)) > 0:
        first = tl.maximum(tl.load(real_ptr + 2 * row), 0)
        last = tl.minimum(tl.load(real_ptr + 2 * row + 1), length)
        backward = tl.load(reverse_ptr + row) != 0
        forward = tl.load(reverse_ptr + row) == 0
        radius = tl.minimum(tl.load(radius_ptr + track), length)
        for step in range(1, radius + 1):
            left = at - step
            right = at + step
            is_left = site & (left >= first) & (left < last)
            is_right = site & (right >= first) & (right < last)
            before = tl.load(track_ptr + left * position_stride, mask=is_left, other=float("-inf"))
            after = tl.load(track_ptr + right * position_stride, mask=is_right, other=float("-inf"))
            beaten_left = is_left & ((before > centre) | ((before == centre) & forward))
            beaten_right = is_right & ((after > centre) | ((after == centre) & backward))
            site = site & ((beaten_left | beaten_right) == 0)
        slot = tl.atomic_add(count_ptr + tl.zeros([LANES], dtype=tl.int32), 1, mask=site, sem="relaxed")
        fits = site & (slot < capacity)
        tl.store(maxima_ptr + 2 * slot, (row * length + at) * tracks + track, mask=fits)
        tl.store(maxima_ptr + 2 * slot + 1, centre.to(tl.int32, bitcast=True).to(tl.int64), mask=fits)


def local_maxima(
    logits: Tensor,
    owned: Tensor,
    real: Tensor,
    reverse: Tensor,
    *,
    least: Tensor,
    radius: Tensor,
    capacity: int | None = None,
) -> Maxima:
    """Find the local maxima at or above a threshold; see `local_maxima_reference` for the rule.

    Args:
        logits: Logits, float32, [R, L, C], of any strides; none is copied.
        owned: First position a row may call, and one past its last, int64, [R, 2]; inside `real` and the row.
        real: First position that exists on the row's contig, and one past its last, int64, [R, 2]; others are not looked at.
        reverse: Whether a row is read from the minus strand, bool, [R].
        least: Lowest logit of a maximum, float32, [C]; infinity for a track that is not wanted.
        radius: Positions on either side that a maximum is compared with, >= 0, int64, [C].
        capacity: Maxima that the first pass has room for, >= 1; None is one in 64 logits. Where there are more, a second
            pass has room for all.

    Returns:
        The maxima, on the device of the logits, sorted by row, position, track; equal to `local_maxima_reference`.

    Raises:
        ValueError: An argument has a wrong shape, type or range, or the logits are not on a CUDA device (nor in Triton's
            interpreter, which needs TRITON_INTERPRET=1 before this module is imported).
    """
    found = queue_maxima(logits, owned, real, reverse, least=least, radius=radius, capacity=capacity)()
    return Maxima(*(field.to(logits.device) for field in found.maxima))


def queue_maxima(
    logits: Tensor,
    owned: Tensor,
    real: Tensor,
    reverse: Tensor,
    *,
    least: Tensor,
    radius: Tensor,
    capacity: int | None = None,
) -> Callable[[], FoundMaxima]:
    """Launch the search for local maxima, without waiting for it; arguments and errors as of `local_maxima`.

    Returns:
        A function that waits for the search and gives its result, on the host.

    Notes:
        Traffic is four bytes read a logit; neighbours of the few that reach the threshold come from the cache. Memory: sixteen
        bytes for each maximum there is room for, on the device and pinned on the host: how many there are is known only there,
        so one copy brings all.
    """
    check_maxima_arguments(logits, owned, real, reverse, least, radius)
    if capacity is not None and capacity < 1:
        raise ValueError(f"capacity must be >= 1, not {capacity}")
    device = logits.device
    current = launch_on(logits, "local_maxima", "logits", interpreted=triton.knobs.runtime.interpret)
    rows, length, tracks = logits.shape
    owned, real, reverse, least, radius = (to_device(each, device) for each in (owned, real, reverse, least, radius))
    tiles = triton.cdiv(length, BLOCK_POSITIONS)

    def launch(room: int) -> Callable[[], Tensor]:
        """Counts and maxima as one buffer, int64, [1 + room, 2], on their way to the host."""
        buffer = torch.empty(1 + room, 2, dtype=torch.int64, device=device)
        buffer[0] = 0
        with current:
            if logits.numel():
                _local_maxima_kernel[(rows * tiles * tracks,)](
                    logits,
                    owned,
                    real,
                    reverse.view(torch.uint8),
                    least,
                    radius,
                    buffer[1:],
                    buffer,
                    length,
                    tracks,
                    tiles,
                    *logits.stride(),
                    room,
                    LANES=BLOCK_POSITIONS,
                )
            return to_host_later(buffer)

    room = capacity or max(_LEAST_ROOM, logits.numel() // 64)
    coming = launch(room)

    def read() -> FoundMaxima:
        buffer = coming()
        found, odd = buffer[0].tolist()
        if found > room:
            buffer = launch(found)()
        code, order = buffer[1 : 1 + found, 0].sort()
        value = buffer[1 : 1 + found, 1].int().view(torch.float32)[order]
        at, track = code // max(tracks, 1), code % max(tracks, 1)
        row, at = at // max(length, 1), at % max(length, 1)
        return FoundMaxima(Maxima(row, at, track, value), odd == 0)

    return read
