"""Fixtures of the parity tests."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

POISON = -77
GUARD = 64


@pytest.fixture
def kernel_device() -> torch.device:
    """Where the kernels run: on CUDA, or on the CPU in the interpreter."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def poisoned_buffers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every buffer a wrapper makes by `torch.empty(n)` holds a sentinel, and guards on both sides that nothing may write."""
    buffers: list[Tensor] = []
    plain_empty = torch.empty

    def poisoned(*size: Any, **options: Any) -> Tensor:
        if len(size) != 1 or not isinstance(size[0], int):  # no buffer of the wrapper's
            return plain_empty(*size, **options)
        buffers.append(torch.full((size[0] + 2 * GUARD,), POISON, **options))
        return buffers[-1][GUARD : GUARD + size[0]]

    monkeypatch.setattr(torch, "empty", poisoned)
    yield
    for buffer in buffers:
        assert buffer[:GUARD].tolist() == buffer[len(buffer) - GUARD :].tolist() == [POISON] * GUARD
