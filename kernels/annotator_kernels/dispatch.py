"""Chooses for each call between the Triton kernel and the plain-torch oracle, and says what it chose."""

from __future__ import annotations

import importlib
import logging
import subprocess
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from annotator_kernels.reference import kmer_tokenize_reference

Backend = Literal["auto", "triton", "torch"]
R = TypeVar("R")

_log = logging.getLogger(__name__)
_chosen: dict[str, str] = {}
_given_up: set[str] = set()


class BackendError(RuntimeError):
    """The backend that was asked for cannot run here."""


def chosen_backends() -> dict[str, str]:
    """What has run in this process, for run.json.

    Returns:
        `"kernel/device type"` -> `"triton"`, or `"torch"` with the reason, e.g. `{"kmer_tokenize/cpu": "torch (no CUDA
        tensor)"}`.
    """
    return dict(_chosen)


def kmer_tokenize(
    block: Tensor,
    starts: Tensor,
    reverse: Tensor,
    *,
    tokens: int,
    k: int,
    kmer_stride: int,
    code_table: Tensor,
    complement_table: Tensor,
    first_kmer_id: int,
    ambiguous_id: int,
    cls_id: int | None = None,
    sep_id: int | None = None,
    dtype: torch.dtype = torch.int32,
    out: Tensor | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Cut windows out of a block of bases and turn them into k-mer ids, where the block lies.

    Args:
        block: Bases as ASCII, uint8, [n].
        starts: First base of each window, int64, [B].
        reverse: Whether a window is read from the minus strand, bool, [B].
        tokens: k-mer tokens per window, >= 0.
        k: Bases per token, 1..8.
        kmer_stride: Bases between token starts, >= 1.
        code_table: Code 0..3 of each byte, or 4 for ambiguous, uint8, [256].
        complement_table: The same for the complement of each byte, uint8, [256].
        first_kmer_id: Id of the first k-mer.
        ambiguous_id: Id of a k-mer with an unknown base, or one outside the block.
        cls_id: Id put before the k-mers, or None.
        sep_id: Id put after the k-mers, or None.
        dtype: Type of the ids, int32 or int64.
        out: Where to put the ids, or None; see `kmer_tokenize_reference`.
        backend: "triton" or "torch" run that or raise; "auto" runs Triton on a CUDA block where it can, else torch.

    Returns:
        Token ids, [B, (cls) + tokens + (sep)], `dtype`, on the block's device; the same from every backend.

    Raises:
        BackendError: "triton" was asked for and cannot be imported.
        ValueError: An argument has a wrong shape, type or range, or "triton" was asked for on a CPU.
    """

    def call(function: Callable[..., Tensor]) -> Tensor:
        return function(
            block, starts, reverse, tokens=tokens, k=k, kmer_stride=kmer_stride, code_table=code_table,
            complement_table=complement_table, first_kmer_id=first_kmer_id, ambiguous_id=ambiguous_id, cls_id=cls_id,
            sep_id=sep_id, dtype=dtype, out=out,
        )  # fmt: skip

    return run_kernel("kmer_tokenize", kmer_tokenize_reference, call, device=block.device, backend=backend)


def run_kernel(
    kernel: str,
    reference: Callable[..., R],
    call: Callable[[Callable[..., R]], R],
    *,
    device: torch.device,
    backend: Backend,
) -> R:
    """Run one kernel on the backend asked for, or on the best one there is.

    Args:
        kernel: Name of the kernel: of its module in this package and of the launch wrapper in it.
        reference: The plain-torch oracle, of the wrapper's signature.
        call: Calls the wrapper or the oracle with the arguments.
        device: Where the tensors lie.
        backend: "auto", "triton" or "torch".

    Returns:
        What the wrapper or the oracle returns.

    Raises:
        BackendError: "triton" was asked for and cannot be imported.
        ValueError: There is no such backend.
    """
    where = f"{kernel}/{device.type}"
    if backend == "torch":
        result = call(reference)
        _chosen[where] = "torch (asked for)"
        return result
    if backend == "triton":
        try:
            wrapper = _load(kernel)
        except ImportError as fault:
            raise BackendError(f"{kernel}: the triton backend was asked for, but triton cannot be imported: {fault}") from fault
        result = call(wrapper)
        _chosen[where] = "triton (asked for)"
        return result
    if backend != "auto":
        raise ValueError(f"backend must be auto, triton or torch, not {backend!r}")
    if device.type != "cuda":
        _report(where, "torch (no CUDA tensor)", logging.DEBUG)
    elif where not in _given_up:
        try:
            result = call(_load(kernel))
        except ImportError as fault:
            _give_up(where, f"torch (triton cannot be imported: {fault})")
        except Exception as fault:  # a kernel that does not compile costs speed; any other fault is the caller's to see
            if not _is_compile_fault(fault):
                raise
            _give_up(where, f"torch (the kernel does not compile: {type(fault).__name__}: {fault})")
        else:
            _report(where, "triton", logging.INFO)
            return result
    return call(reference)


def _load(kernel: str) -> Callable[..., Any]:
    """The launch wrapper; only this import needs triton."""
    wrapper: Callable[..., Any] = getattr(importlib.import_module(f"annotator_kernels.{kernel}"), kernel)
    return wrapper


def _is_compile_fault(fault: Exception) -> bool:
    """Whether Triton could not build the kernel or its launcher; a fault of the running kernel is none."""
    if isinstance(fault, subprocess.CalledProcessError):  # the C compiler, on the launcher
        return True
    if type(fault) is RuntimeError and "C compiler" in str(fault):
        return True
    return any(cls.__module__.partition(".")[0] == "triton" for cls in type(fault).__mro__)


def _report(where: str, choice: str, level: int) -> None:
    if _chosen.get(where) != choice:
        _chosen[where] = choice
        _log.log(level, "%s: %s", where, choice)


def _give_up(where: str, choice: str) -> None:
    _given_up.add(where)
    _report(where, choice, logging.WARNING)
