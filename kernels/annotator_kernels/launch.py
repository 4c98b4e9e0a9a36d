"""Where a Triton kernel may be launched."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import triton
from torch import Tensor


def launch_on(tensor: Tensor, kernel: str, what: str) -> AbstractContextManager[object]:
    """The context in which to launch a kernel on a tensor: Triton launches on the current device, which need not be its.

    Args:
        tensor: Any of the kernel's tensors.
        kernel: The kernel's name, for the message.
        what: What the tensor is called there.

    Returns:
        A context that may be entered more than once.

    Raises:
        ValueError: The tensor is not on a CUDA device (nor in Triton's interpreter, which needs TRITON_INTERPRET=1 before a
            kernel is imported).
    """
    if tensor.is_cuda:
        return torch.cuda.device(tensor.device)
    if triton.knobs.runtime.interpret:
        return nullcontext()
    raise ValueError(f"{kernel}: the triton kernel needs {what} on a CUDA device, not on {tensor.device}")
