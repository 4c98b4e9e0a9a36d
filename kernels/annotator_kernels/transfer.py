"""Small tensors on their way between host and device, without either waiting for the other."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device, contiguous; for work that the current stream is given after this.

    From ordinary memory CUDA may let the host wait until the stream is empty, so what goes to a GPU goes through pinned memory.

    Args:
        tensor: Any tensor; on the device already, it is not copied.
        device: Where it is wanted.
    """
    if device.type == "cuda" and not tensor.is_cuda:
        return tensor.contiguous().pin_memory().to(device, non_blocking=True)
    return tensor.to(device).contiguous()


def to_host_later(tensor: Tensor) -> Callable[[], Tensor]:
    """Queue a copy of a tensor to the host.

    Args:
        tensor: What the current stream of its device has been told to make.

    Returns:
        A function that waits for the copy, not for what was queued after it, and gives it; for any thread. A tensor on the CPU
        is given as it is.
    """
    if not tensor.is_cuda:
        return lambda: tensor
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    copy.copy_(tensor, non_blocking=True)
    arrived = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # a thread that waits sleeps
    arrived.record(torch.cuda.current_stream(tensor.device))

    def wait() -> Tensor:
        arrived.synchronize()
        return copy

    return wait
