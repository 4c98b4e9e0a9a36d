"""Telling the faults of a device apart, whichever library they surface in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from annotator.errors import EnvironmentFault, ResourceFault

_WANT_OF_MEMORY = ("out of memory", "allocate memory", "ALLOC_FAILED")
_OF_THE_DEVICE = ("CUDA error", "Triton Error [CUDA]", "CUBLAS_STATUS", "CUDNN_STATUS", "cuDNN error")


def is_out_of_memory(fault: BaseException) -> bool:
    """Whether memory could not be had; torch's allocator has a class for that, its libraries and Triton have a text."""
    if isinstance(fault, torch.OutOfMemoryError):
        return True
    return isinstance(fault, RuntimeError) and any(text in str(fault) for text in _WANT_OF_MEMORY)


def is_device_fault(fault: BaseException) -> bool:
    """Whether the device itself failed; such a fault may surface in whatever is launched after the work that caused it."""
    if isinstance(fault, torch.AcceleratorError):
        return True
    return isinstance(fault, RuntimeError) and any(text in str(fault) for text in _OF_THE_DEVICE)


@contextmanager
def device_faults(device: torch.device, work: str) -> Iterator[None]:
    """Turn a device's faults into errors that say where they happened.

    Args:
        device: That computes.
        work: What is being done, e.g. "on chr1:0-2000000".

    Raises:
        ResourceFault: Its memory ran out.
        EnvironmentFault: It failed.
    """
    try:
        yield
    except RuntimeError as fault:
        said = (str(fault).splitlines() or [type(fault).__name__])[0]
        if is_out_of_memory(fault):
            raise ResourceFault(f"out of memory on {device} {work}: {said}") from fault
        if is_device_fault(fault):
            raise EnvironmentFault(
                f"{device} failed {work}: {said}; finished shards are kept, give the same command again"
            ) from fault
        raise
