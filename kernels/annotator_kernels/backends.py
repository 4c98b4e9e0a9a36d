"""The choice, for each call, between the Triton kernel and the plain-torch oracle; and where a kernel may be launched."""

from __future__ import annotations

import importlib
import logging
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

Backend = Literal["auto", "triton", "torch"]
R = TypeVar("R")

_log = logging.getLogger(__name__)
_chosen: dict[str, str] = {}
_given_up: set[str] = set()

_SETUP_FAULTS: tuple[tuple[type[Exception], str], ...] = (
    (subprocess.SubprocessError, ""),  # the C compiler or ldconfig fails
    (OSError, ""),  # no launch wrapper opens a file: the cache cannot be written, or ldconfig, ptxas or a header is missing
    (AssertionError, "libcuda.so"),  # the driver's library is not found
    (RuntimeError, "C compiler"),  # there is none
    (RuntimeError, "Failed to load newly compiled"),  # a launcher
    (RuntimeError, "active drivers"),  # none, or several
    (RuntimeError, "cache dir"),  # "Could not create or locate cache dir"
    (RuntimeError, "Cannot find ptxas"),
    (RuntimeError, "Triton only support CUDA"),  # ptxas is too old
    (RuntimeError, "PassManager::run failed"),  # the compiler has no code for this device
    (RuntimeError, "translate module to LLVM IR"),
)
"""Class and text of the faults of setting up Triton or compiling a kernel that are not of a class of Triton's own."""


class BackendError(RuntimeError):
    """The backend that was asked for cannot run here."""


class KernelUnavailable(RuntimeError):
    """A launch wrapper knows that its kernel cannot be compiled for this device; the message names kernel and reason."""


def chosen_backends() -> dict[str, str]:
    """What has run in this process, for run.json.

    Returns:
        `"kernel/device type"` -> `"triton"`, or `"torch"` with the reason, e.g. `{"kmer_tokenize/cpu": "torch (no CUDA
        tensor)"}`.
    """
    return dict(_chosen)


def run_kernel(
    kernel: str,
    module: str,
    reference: Callable[..., R],
    call: Callable[[Callable[..., R]], R],
    *,
    device: torch.device,
    backend: Backend,
    wrapper: str = "",
) -> R:
    """Run one kernel on the backend asked for, or on the best one there is.

    Args:
        kernel: Name of the operation, and of its launch wrapper.
        module: Module that holds the launch wrapper; imported only where the kernel is to run, as it needs triton.
        reference: Plain-torch oracle, which takes the same arguments as the wrapper.
        call: Function that calls the wrapper or the oracle, whichever it is given, with the arguments.
        device: Device of the tensors.
        backend: "auto", "triton" or "torch".
        wrapper: Name of the launch wrapper where it is not that of the operation.

    Returns:
        What the wrapper or the oracle returns.

    Raises:
        BackendError: "triton" was asked for and cannot be imported, or has no code for this device.
        ValueError: There is no such backend.
    """
    where = f"{kernel}/{device.type}"
    if backend == "torch":
        result = call(reference)
        _chosen[where] = "torch (asked for)"
        return result
    if backend == "triton":
        try:
            launch = _load(wrapper or kernel, module)
        except ImportError as fault:
            raise BackendError(f"{kernel}: the triton backend was asked for, but triton cannot be imported: {fault}") from fault
        try:
            result = call(launch)
        except KernelUnavailable as fault:
            raise BackendError(f"the triton backend was asked for, but {fault}") from fault
        _chosen[where] = "triton (asked for)"
        return result
    if backend != "auto":
        raise ValueError(f"backend must be auto, triton or torch, not {backend!r}")
    if device.type != "cuda":
        _report(where, "torch (no CUDA tensor)", logging.DEBUG)
    elif where not in _given_up:
        try:
            result = call(_load(wrapper or kernel, module))
        except ImportError as fault:
            _give_up(where, f"torch (triton cannot be imported: {fault})")
        except KernelUnavailable as fault:
            _give_up(where, f"torch ({fault})")
        except Exception as fault:  # a kernel that does not compile costs speed; any other fault is the caller's to see
            if not _is_compile_fault(fault):
                raise
            _give_up(where, f"torch (the kernel does not compile: {type(fault).__name__}: {fault})")
        else:
            _report(where, "triton", logging.INFO)
            return result
    elif not _chosen.get(where, "").startswith("torch"):  # "triton" was asked for since
        _chosen[where] = "torch (the kernel was given up before)"
    return call(reference)


def launch_on(tensor: Tensor, kernel: str, what: str, *, interpreted: bool) -> AbstractContextManager[object]:
    """The context in which to launch a kernel on a tensor: Triton launches on the current device, which need not be its.

    Args:
        tensor: Any of the kernel's tensors.
        kernel: Name of the operation, for the message.
        what: Name of the tensor there.
        interpreted: Whether Triton's interpreter runs the kernels, on any device.

    Returns:
        A context that may be entered more than once.

    Raises:
        ValueError: The tensor is not on a CUDA device, and the interpreter is off.
    """
    if tensor.is_cuda:
        return torch.cuda.device(tensor.device)
    if interpreted:
        return nullcontext()
    raise ValueError(f"{kernel}: the triton kernel needs {what} on a CUDA device, not on {tensor.device}")


def _load(name: str, module: str) -> Callable[..., Any]:
    """The launch wrapper; only this import needs triton."""
    wrapper: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return wrapper


def _is_compile_fault(fault: Exception) -> bool:
    """Whether Triton could not be set up or could not build the kernel; a fault of the running kernel is none."""
    if any(isinstance(fault, kind) and text in str(fault) for kind, text in _SETUP_FAULTS):
        return True
    return any(cls.__module__.partition(".")[0] == "triton" for cls in type(fault).__mro__)


def _report(where: str, choice: str, level: int) -> None:
    if _chosen.get(where) != choice:
        _chosen[where] = choice
        _log.log(level, "%s: %s", where, choice)


def _give_up(where: str, choice: str) -> None:
    _given_up.add(where)
    _report(where, choice, logging.WARNING)
