"""Chooses for each call between the Triton kernel and the plain-torch oracle, and says what it chose."""

from __future__ import annotations

import importlib
import logging
import subprocess
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from annotator_kernels.arguments import KernelUnavailable, MotifRows, PwmHits, Sites
from annotator_kernels.reference import (
    call_sites_reference,
    kmer_embed_reference,
    kmer_tokenize_reference,
    pwm_scan_reference,
    residual_conv_reference,
)

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


def kmer_embed(
    block: Tensor,
    starts: Tensor,
    reverse: Tensor,
    table: Tensor,
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
    backend: Backend = "auto",
) -> Tensor:
    """Cut windows out of a block of bases and look their k-mers up in an embedding table.

    Args:
        block: As in `kmer_tokenize`, and so are the other arguments not named here.
        starts: First base of each window, int64, [B].
        reverse: Whether a window is read from the minus strand, bool, [B].
        table: Embeddings, float32 or bfloat16, [V, H]; V above every id.
        tokens: k-mer tokens per window, >= 0.
        k: Bases per token, 1..8.
        kmer_stride: Bases between token starts, >= 1.
        code_table: uint8, [256].
        complement_table: uint8, [256].
        first_kmer_id: Id of the first k-mer.
        ambiguous_id: Id of a k-mer with an unknown base.
        cls_id: Id put before the k-mers, or None.
        sep_id: Id put after the k-mers, or None.
        backend: "triton" or "torch" run that or raise; "auto" runs Triton on a CUDA block where it can, else torch.

    Returns:
        Embeddings, [B, (cls) + tokens + (sep), H], of the table's type, on the block's device; differentiable with respect
        to the table. The same from every backend; the gradient to float32 rounding.

    Raises:
        BackendError: "triton" was asked for and cannot be imported.
        ValueError: An argument has a wrong shape, type or range, or "triton" was asked for on a CPU.
    """

    def call(function: Callable[..., Tensor]) -> Tensor:
        return function(
            block, starts, reverse, table, tokens=tokens, k=k, kmer_stride=kmer_stride, code_table=code_table,
            complement_table=complement_table, first_kmer_id=first_kmer_id, ambiguous_id=ambiguous_id, cls_id=cls_id,
            sep_id=sep_id,
        )  # fmt: skip

    return run_kernel("kmer_embed", kmer_embed_reference, call, device=block.device, backend=backend)


def residual_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    dilation: int = 1,
    slope: float = 1.0,
    residual: Tensor | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Dilated convolution, bias, leaky ReLU and residual in one pass, channels last.

    Args:
        x: float32 or bfloat16, [B, L, I].
        weight: Taps first, of x's type, [W, I, O]; W odd.
        bias: float32, [O].
        dilation: Positions between two taps, >= 1.
        slope: Of the negative half of the leaky ReLU; 1 for no activation.
        residual: Added last, of x's type, [B, L, O]; None adds nothing.
        backend: "triton" or "torch" run that or raise; "auto" runs Triton on a CUDA tensor where it can, else torch.

    Returns:
        [B, L, O], of x's type; backends differ by the rounding of x's type and the order of float32 sums.

    Raises:
        BackendError: "triton" was asked for and cannot be imported.
        ValueError: An argument has a wrong shape, type or range, or "triton" was asked for on a CPU.
    """

    def call(function: Callable[..., Tensor]) -> Tensor:
        return function(x, weight, bias, dilation=dilation, slope=slope, residual=residual)

    return run_kernel("residual_conv", residual_conv_reference, call, device=x.device, backend=backend)


def call_sites(
    logits: Tensor,
    owned: Tensor,
    real: Tensor,
    reverse: Tensor,
    *,
    least: Tensor,
    radius: Tensor,
    backend: Backend = "auto",
) -> Sites:
    """Find the local maxima at or above a threshold; see `call_sites_reference` for the rule.

    Args:
        logits: float32, [R, L, C].
        owned: First position a row may call, and one past its last, int64, [R, 2]; inside `real` and the row.
        real: The same for the positions that exist on the row's contig, int64, [R, 2].
        reverse: Whether a row is read from the minus strand, bool, [R].
        least: Lowest logit of a site, float32, [C]; infinity for a track that is not wanted.
        radius: Positions on either side that a site is compared with, >= 0, int64, [C].
        backend: "triton" or "torch" run that or raise; "auto" runs Triton on CUDA logits where it can, else torch.

    Returns:
        The sites, on the device of the logits, sorted by row, position, track; the same from every backend.

    Raises:
        BackendError: "triton" was asked for and cannot be imported.
        ValueError: An argument has a wrong shape or type, or "triton" was asked for on a CPU.
    """

    def call(function: Callable[..., Sites]) -> Sites:
        return function(logits, owned, real, reverse, least=least, radius=radius)

    return run_kernel("call_sites", call_sites_reference, call, device=logits.device, backend=backend)


def pwm_scan(block: Tensor, rows: MotifRows, *, code_table: Tensor, backend: Backend = "auto") -> PwmHits:
    """Every window whose integer score reaches its row's threshold, all matrices at once.

    Args:
        block: Bases as ASCII, uint8, [n].
        rows: The matrices, reverse complements as rows of their own.
        code_table: Code 0..3 (the last axis of `rows.steps`) of each byte, or 4 for no base, uint8, [256].
        backend: "triton" or "torch" run that or raise; "auto" runs Triton on a CUDA block where it can, else torch.

    Returns:
        The hits, on the block's device, sorted by start, then row; the same from every backend.

    Raises:
        BackendError: "triton" was asked for and cannot be imported, or the device is too old for the kernel.
        ValueError: An argument has a wrong shape or type, or "triton" was asked for on a CPU.
    """

    def call(function: Callable[..., PwmHits]) -> PwmHits:
        return function(block, rows, code_table=code_table)

    return run_kernel("pwm_scan", pwm_scan_reference, call, device=block.device, backend=backend)


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
            wrapper = _load(kernel)
        except ImportError as fault:
            raise BackendError(f"{kernel}: the triton backend was asked for, but triton cannot be imported: {fault}") from fault
        try:
            result = call(wrapper)
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
            result = call(_load(kernel))
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


def _load(kernel: str) -> Callable[..., Any]:
    """The launch wrapper; only this import needs triton."""
    wrapper: Callable[..., Any] = getattr(importlib.import_module(f"annotator_kernels.{kernel}"), kernel)
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
