"""A memory check that needs no tool: every new tensor lies between guard bytes, and starts out poisoned where it is empty."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

GUARD_BYTES = 4096  # keeps the alignment that an allocator gives
GUARD = 0xA5
POISON = 0xFF  # NaN in every float type, -1 in every signed integer


class Guarded(TorchDispatchMode):
    """Moves each tensor that an operator makes into a buffer of its own, guards on both sides.

    `torch.empty` and its kin give poison, so that what a kernel forgets to write is seen by any comparison. A write up to
    GUARD_BYTES outside a tensor is found by `damaged`; a read outside is not.
    """

    def __init__(self) -> None:
        """Start with no buffer."""
        super().__init__()
        self.buffers: list[tuple[str, Tensor]] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operator; its results move if they are new ones."""
        result = func(*args, **(kwargs or {}))
        if any(value.alias_info is not None for value in func._schema.returns):
            return result
        name = str(func)
        if isinstance(result, Tensor):
            return self._move(name, result)
        if isinstance(result, (tuple, list)):
            return type(result)(self._move(name, value) if isinstance(value, Tensor) else value for value in result)
        return result

    def _move(self, name: str, tensor: Tensor) -> Tensor:
        if tensor.numel() == 0 or not tensor.is_contiguous() or tensor.layout != torch.strided:
            return tensor
        size = tensor.numel() * tensor.element_size()
        buffer = torch.full((GUARD_BYTES + size + GUARD_BYTES,), GUARD, dtype=torch.uint8, device=tensor.device)
        inside = buffer[GUARD_BYTES : GUARD_BYTES + size]
        if ".empty" in name or "_empty" in name:
            inside.fill_(POISON if tensor.dtype != torch.bool else 1)
        else:
            inside.copy_(tensor.reshape(-1).view(torch.uint8))
        self.buffers.append((f"{name} {list(tensor.shape)}", buffer))
        return inside.view(tensor.dtype).view(tensor.shape)

    def damaged(self) -> list[str]:
        """The tensors beside which something was written."""
        return [
            name
            for name, buffer in self.buffers
            if bool((buffer[:GUARD_BYTES] != GUARD).any()) or bool((buffer[-GUARD_BYTES:] != GUARD).any())
        ]


def run_guarded(call: Callable[[], Any]) -> tuple[Any, str]:
    """Call something that works on tensors.

    Returns:
        What it returns, and which of its tensors was written beside (empty where none was).

    Notes:
        BENCHMARK_GUARDS=0 in the environment leaves the guards out, for a memory checker that must see where tensors end.
    """
    if os.environ.get("BENCHMARK_GUARDS") == "0":
        return call(), ""
    with Guarded() as guarded:
        result = call()
    damaged = guarded.damaged()
    return result, f"written outside of {', '.join(damaged)}" if damaged else ""
