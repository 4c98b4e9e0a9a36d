"""The operation `local_maxima`: the public functions, their result, the checks of their arguments, and the plain-torch oracle.

Coordinates are 0-based positions of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from annotator_kernels.backends import Backend, run_kernel

_NEIGHBOURS_AT_ONCE = 1 << 20


class Maxima(NamedTuple):
    """Local maxima of some tracks, sorted by row, position, track; every field a tensor [n].

    Attributes:
        row: Row, int64.
        at: Position in the row, int64.
        track: Track, int64.
        value: Logit, float32.
    """

    row: Tensor
    at: Tensor
    track: Tensor
    value: Tensor


def local_maxima(
    logits: Tensor,
    owned: Tensor,
    real: Tensor,
    reverse: Tensor,
    *,
    least: Tensor,
    radius: Tensor,
    backend: Backend = "auto",
) -> Maxima:
    """Find the local maxima at or above a threshold; see `local_maxima_reference` for the rule.

    Args:
        logits: Logits, float32, [R, L, C].
        owned: First position a row may call, and one past its last, int64, [R, 2]; inside `real` and the row.
        real: First position that exists on the row's contig, and one past its last, int64, [R, 2].
        reverse: Whether a row is read from the minus strand, bool, [R].
        least: Lowest logit of a maximum, float32, [C]; infinity for a track that is not wanted.
        radius: Positions on either side that a maximum is compared with, >= 0, int64, [C].
        backend: "triton" or "torch" run that or raise; "auto" runs Triton on CUDA logits where it can, else torch.

    Returns:
        The maxima, on the device of the logits, sorted by row, position, track; the same from every backend.

    Raises:
        BackendError: "triton" was asked for and cannot be imported.
        ValueError: An argument has a wrong shape or type, or "triton" was asked for on a CPU.
    """
    return run_kernel(
        "local_maxima",
        "annotator_kernels.local_maxima.kernel",
        local_maxima_reference,
        lambda function: function(logits, owned, real, reverse, least=least, radius=radius),
        device=logits.device,
        backend=backend,
    )


class FoundMaxima(NamedTuple):
    """What a pass over some logits found, on the host.

    Attributes:
        maxima: The maxima.
        finite: Whether all logits of all rows were finite numbers.
    """

    maxima: Maxima
    finite: bool


def queue_maxima(
    logits: Tensor,
    owned: Tensor,
    real: Tensor,
    reverse: Tensor,
    *,
    least: Tensor,
    radius: Tensor,
    backend: Backend = "auto",
) -> Callable[[], FoundMaxima]:
    """Have the device look for the local maxima, and whether every logit is finite, in one pass.

    Args:
        logits: As of `local_maxima`, like all other arguments; must not be written to until the result has been read.
        owned: The same.
        real: The same.
        reverse: The same.
        least: The same.
        radius: The same.
        backend: The same.

    Returns:
        A function that waits for this pass, not for what was queued after it, and gives what was found; called once, in any
        thread. Where no kernel runs, everything is done before this returns.

    Raises:
        BackendError: "triton" was asked for and cannot be imported.
        ValueError: An argument has a wrong shape or type, or "triton" was asked for on a CPU.
    """
    return run_kernel(
        "local_maxima",
        "annotator_kernels.local_maxima.kernel",
        _queue_maxima_reference,
        lambda function: function(logits, owned, real, reverse, least=least, radius=radius),
        device=logits.device,
        backend=backend,
        wrapper="queue_maxima",
    )


def _queue_maxima_reference(
    logits: Tensor, owned: Tensor, real: Tensor, reverse: Tensor, *, least: Tensor, radius: Tensor
) -> Callable[[], FoundMaxima]:
    maxima = local_maxima_reference(logits, owned, real, reverse, least=least, radius=radius)
    finite = bool(torch.isfinite(logits.sum()))  # one pass without a temporary; a NaN or an infinity cannot cancel out
    found = FoundMaxima(Maxima(*(field.cpu() for field in maxima)), finite)
    return lambda: found


def check_maxima_arguments(logits: Tensor, owned: Tensor, real: Tensor, reverse: Tensor, least: Tensor, radius: Tensor) -> None:
    """Refuse arguments that `local_maxima` (kernel or oracle) has no meaning for.

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


def local_maxima_reference(
    logits: Tensor, owned: Tensor, real: Tensor, reverse: Tensor, *, least: Tensor, radius: Tensor
) -> Maxima:
    """Find the local maxima at or above a threshold.

    Position l of row r is a maximum of track c where `owned[r, 0] <= l < owned[r, 1]`, `logits[r, l, c] >= least[c]`, and no
    position within radius[c] of it that lies in [real[r, 0], real[r, 1]) and in the row is higher. Among equals the one wins
    that comes first on the plus strand: the lower position of a forward row, the higher one of a reverse row.

    Args:
        logits: Logits, float32, [R, L, C].
        owned: First position a row may call, and one past its last, int64, [R, 2]; inside `real` and the row.
        real: First position that exists on the row's contig, and one past its last, int64, [R, 2]; others are not looked at.
        reverse: Whether a row is read from the minus strand, bool, [R].
        least: Lowest logit of a maximum, float32, [C]; infinity for a track that is not wanted.
        radius: Positions on either side that a maximum is compared with, >= 0, int64, [C].

    Returns:
        The maxima, on the device of the logits, sorted by row, position, track.

    Raises:
        ValueError: An argument has a wrong shape or type.
    """
    check_maxima_arguments(logits, owned, real, reverse, least, radius)
    device, length = logits.device, logits.shape[1]
    owned, real, reverse, radius = owned.to(device), real.to(device), reverse.to(device), radius.to(device)
    row, at, track = (logits >= least.to(device)).nonzero(as_tuple=True)
    mine = (at >= owned[row, 0]) & (at < owned[row, 1])
    row, at, track = row[mine], at[mine], track[mine]
    if not len(row):
        return Maxima(row, at, track, logits.new_empty(0))
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
    return Maxima(row, at, track, logits[row, at, track])
