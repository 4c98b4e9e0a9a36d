"""The Triton kernel against its oracle (in Triton's interpreter where there is no CUDA), and the choice between the two.

Coordinates are 0-based; a window start may be negative or run past the block.
"""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="triton is not installed: the kernel cannot run, not even in its interpreter")

from annotator.tokens.vocabulary import KmerVocabulary, dnabert_vocabulary
from annotator_kernels import backends
from annotator_kernels.backends import Backend, BackendError, KernelUnavailable, chosen_backends, run_kernel
from annotator_kernels.kmer import op
from annotator_kernels.kmer.op import kmer_tokenize_reference
from annotator_kernels.kmer.tokenize_kernel import BLOCK_TOKENS, kmer_tokenize
from tests.support.compiling import run_compiler
from tests.support.kernels import WRAPPERS

POISON = -77
GUARD = 64


def random_block(n: int, *, clean: bool = False) -> Tensor:
    letters = b"ACGT" if clean else b"ACGT" * 12 + b"NnRYacgtuU-\x00\xff"
    generator = torch.Generator().manual_seed(n)
    return torch.tensor(list(letters), dtype=torch.uint8)[torch.randint(len(letters), (n,), generator=generator)]


def check(
    device: torch.device,
    block: Tensor,
    windows: list[tuple[int, bool]],
    *,
    tokens: int,
    vocabulary: KmerVocabulary,
    kmer_stride: int = 1,
    cls_id: int | None = None,
    sep_id: int | None = None,
    dtype: torch.dtype = torch.int32,
) -> Tensor:
    """Run the kernel into a poisoned buffer with guards on both sides and compare it with the oracle; the ids."""
    shape = (len(windows), tokens + (cls_id is not None) + (sep_id is not None))
    buffer = torch.full((shape[0] * shape[1] + 2 * GUARD,), POISON, dtype=dtype, device=device)
    starts = torch.tensor([start for start, _ in windows], dtype=torch.int64)
    reverse = torch.tensor([backward for _, backward in windows], dtype=torch.bool)

    scheme = vocabulary.scheme(kmer_stride, cls_id=cls_id, sep_id=sep_id)

    def run(function: Callable[..., Tensor], device: torch.device, out: Tensor | None) -> Tensor:
        return function(block.to(device), starts.to(device), reverse.to(device), scheme, tokens=tokens, dtype=dtype, out=out)

    ids = run(kmer_tokenize, device, buffer[GUARD : len(buffer) - GUARD].view(shape))
    oracle = run(kmer_tokenize_reference, torch.device("cpu"), torch.full(shape, POISON, dtype=dtype))
    assert oracle.dtype == dtype
    assert not bool((oracle == POISON).any())
    assert torch.equal(ids.cpu(), oracle)
    assert buffer[:GUARD].tolist() == buffer[len(buffer) - GUARD :].tolist() == [POISON] * GUARD
    return ids.cpu()


def strides(k: int) -> list[int]:
    return sorted({1, k})


@pytest.mark.parametrize("kmer_stride", [1, 6])
@pytest.mark.parametrize("n", [0, 1, 5, 6, 7, BLOCK_TOKENS - 1, BLOCK_TOKENS, BLOCK_TOKENS + 1, 1003])
def test_awkward_block_lengths(kernel_device: torch.device, n: int, kmer_stride: int) -> None:
    tokens = max(0, (n - 6) // kmer_stride + 1)
    windows = [(0, False), (0, True), (-3, True), (n - 2, False)]
    check(kernel_device, random_block(n), windows, tokens=tokens, vocabulary=dnabert_vocabulary(6), kmer_stride=kmer_stride)


@pytest.mark.parametrize(
    "tokens", [0, 1, 7, 8, 9, 247, 248, 249, 1016, 1017, BLOCK_TOKENS - 1, BLOCK_TOKENS, BLOCK_TOKENS + 1, 2 * BLOCK_TOKENS]
)
def test_awkward_token_counts(kernel_device: torch.device, tokens: int) -> None:
    block = random_block(tokens + 2)
    check(kernel_device, block, [(0, False), (0, True)], tokens=tokens, vocabulary=KmerVocabulary(3), cls_id=2, sep_id=3)


@pytest.mark.parametrize("tokens", [1, 31, 32, 33, 511, 512, 513, 1025])
def test_awkward_token_counts_at_a_stride(kernel_device: torch.device, tokens: int) -> None:
    block = random_block(2 * tokens + 1)
    windows = [(0, False), (0, True)]
    check(kernel_device, block, windows, tokens=tokens, vocabulary=KmerVocabulary(3), kmer_stride=2, cls_id=2, sep_id=3)


@pytest.mark.parametrize(
    ("k", "kmer_stride"), [(k, stride) for k in range(1, 9) for stride in strides(k)] + [(3, 2), (4, 9), (8, 5)]
)
@pytest.mark.parametrize("clean", [True, False])
def test_every_k_and_stride_on_both_strands(kernel_device: torch.device, k: int, kmer_stride: int, clean: bool) -> None:
    windows = [(start, backward) for start in (-7, 0, 20, 95) for backward in (False, True)]
    check(kernel_device, random_block(100, clean=clean), windows, tokens=9, vocabulary=KmerVocabulary(k), kmer_stride=kmer_stride)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize(("cls_id", "sep_id"), [(None, None), (2, None), (None, 3), (2, 3)])
def test_special_tokens_and_types(
    kernel_device: torch.device, dtype: torch.dtype, cls_id: int | None, sep_id: int | None
) -> None:
    ids = check(
        kernel_device, random_block(50), [(0, False), (3, True)], tokens=40, vocabulary=dnabert_vocabulary(6), cls_id=cls_id,
        sep_id=sep_id, dtype=dtype,
    )  # fmt: skip
    assert ids.dtype == dtype
    if cls_id is not None:
        assert ids[:, 0].tolist() == [cls_id] * 2
    if sep_id is not None:
        assert ids[:, -1].tolist() == [sep_id] * 2


def test_windows_wholly_outside_the_block_are_ambiguous(kernel_device: torch.device) -> None:
    windows = [(start, backward) for start in (-(1 << 40), -20, 30, 1 << 40) for backward in (False, True)]
    ids = check(kernel_device, random_block(30, clean=True), windows, tokens=10, vocabulary=dnabert_vocabulary(6))
    assert set(ids.flatten().tolist()) == {1}


def test_no_windows(kernel_device: torch.device) -> None:
    assert check(kernel_device, random_block(30), [], tokens=10, vocabulary=KmerVocabulary(6), cls_id=2).shape == (0, 11)


def test_dnabert_ids(kernel_device: torch.device) -> None:
    block = torch.tensor(list(b"ACGTACGTNACGTAC"), dtype=torch.uint8)
    ids = check(kernel_device, block, [(0, False)], tokens=10, vocabulary=dnabert_vocabulary(6), cls_id=2, sep_id=3)
    assert ids.tolist() == [[2, 727, 2896, 3378, 1, 1, 1, 1, 1, 1, 727, 3]]


def test_the_palindrome_reads_the_same_backward(kernel_device: torch.device) -> None:
    block = torch.tensor(list(b"ACGTACGT"), dtype=torch.uint8)
    ids = check(kernel_device, block, [(0, False), (0, True)], tokens=3, vocabulary=dnabert_vocabulary(6))
    assert ids.tolist() == [[727, 2896, 3378]] * 2


def test_non_contiguous_block_and_starts(kernel_device: torch.device) -> None:
    scheme = dnabert_vocabulary(6).scheme()
    block, starts = random_block(80).to(kernel_device)[::2], torch.tensor([0, 9, 3, 9], device=kernel_device)[::2]
    reverse = torch.tensor([True, False, False, False], device=kernel_device)[::2]
    ids = kmer_tokenize(block, starts, reverse, scheme, tokens=20)
    expected = kmer_tokenize_reference(block.cpu(), starts.cpu(), reverse.cpu(), scheme, tokens=20)
    assert torch.equal(ids.cpu(), expected)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("kmer_stride", [1, 2])
def test_a_block_of_more_than_2_to_the_31_bases(kmer_stride: int, backward: bool) -> None:
    """One window over all of it: its first and last ids are those of short windows there."""
    device, scheme = torch.device("cuda"), dnabert_vocabulary(6).scheme(kmer_stride)
    unit = random_block(4096).to(device)
    block = unit.repeat((1 << 31) // len(unit) + 5)
    tokens = scheme.tokens_in(len(block))
    span = scheme.span_bp(tokens)

    def run(start: int, tokens: int) -> Tensor:
        starts, reverse = torch.tensor([start], device=device), torch.tensor([backward], device=device)
        return kmer_tokenize(block, starts, reverse, scheme, tokens=tokens)

    ids = run(0, tokens)
    short_span = 2999 * kmer_stride + 6
    left, right = run(0, 3000), run(span - short_span, 3000)
    first, last = (right, left) if backward else (left, right)
    assert torch.equal(ids[:, :3000], first)
    assert torch.equal(ids[:, -3000:], last)


def test_repeated_runs_give_the_same_bytes(kernel_device: torch.device) -> None:
    runs = [
        check(kernel_device, random_block(300), [(0, True), (5, False)], tokens=250, vocabulary=KmerVocabulary(8))
        for _ in range(2)
    ]
    assert torch.equal(*runs)


def test_compiles_for_a_gpu_that_is_not_here(tmp_path: Path) -> None:
    """The interpreter accepts what the compiler does not: compile for Hopper, which needs no GPU."""
    script = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from annotator_kernels.kmer.tokenize_kernel import _kmer_tokenize_kernel as kernel
constants = {"K": 6, "STRIDE": 1, "HAS_CLS": True, "HAS_SEP": True, "LANES": 256}
types = {"block_ptr": "*u8", "starts_ptr": "*i64", "reverse_ptr": "*u8", "code_table_ptr": "*u8",
         "complement_table_ptr": "*u8", "ids_ptr": "*i32", "n": "i64"}
signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in kernel.arg_names}
print(".entry" in triton.compile(ASTSource(kernel, signature, constants), target=GPUTarget("cuda", 90, 32)).asm["ptx"])
"""
    assert run_compiler(script, tmp_path) == "True\n"


# --- the choice of a backend


@pytest.fixture
def fresh_choices(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(backends, "_chosen", {})
    monkeypatch.setattr(backends, "_given_up", set())
    yield


@pytest.fixture
def no_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, WRAPPERS["kmer_tokenize"], raising=False)


def tokenize(backend: Backend, device: str = "cpu") -> list[list[int]]:
    block = torch.tensor(list(b"ACGTACGT"), dtype=torch.uint8, device=device)
    start, reverse = torch.zeros(1, dtype=torch.int64, device=device), torch.zeros(1, dtype=torch.bool, device=device)
    return op.kmer_tokenize(block, start, reverse, dnabert_vocabulary(6).scheme(), tokens=3, backend=backend).tolist()


@pytest.mark.usefixtures("fresh_choices")
def test_automatic_choice(device: torch.device) -> None:
    assert tokenize("auto", device.type) == [[727, 2896, 3378]]
    assert chosen_backends() == {f"kmer_tokenize/{device.type}": "triton" if device.type == "cuda" else "torch (no CUDA tensor)"}


@pytest.mark.usefixtures("fresh_choices")
@pytest.mark.parametrize("backend", ["triton", "torch"])
def test_explicit_choice(kernel_device: torch.device, backend: Backend) -> None:
    assert tokenize(backend, kernel_device.type) == [[727, 2896, 3378]]
    assert chosen_backends() == {f"kmer_tokenize/{kernel_device.type}": f"{backend} (asked for)"}


@pytest.mark.usefixtures("fresh_choices", "no_triton")
def test_E03_explicit_triton_without_triton_fails_loudly() -> None:
    with pytest.raises(BackendError, match="kmer_tokenize: the triton backend was asked for, but triton cannot be imported"):
        tokenize("triton")
    assert chosen_backends() == {}


@pytest.mark.usefixtures("fresh_choices", "no_triton")
def test_E03_without_triton_the_choice_is_torch_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        assert run_some("kmer_tokenize", "auto") == "oracle"
    assert chosen_backends()["kmer_tokenize/cuda"].startswith("torch (triton cannot be imported:")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def run_some(kernel: str, backend: Backend) -> str:
    """Run an operation on a GPU that need not be there."""
    wrapper = WRAPPERS.get(kernel, "a module that is never imported")
    return run_kernel(kernel, wrapper, lambda: "oracle", lambda f: f(), device=torch.device("cuda"), backend=backend)


def _wrapper_that_raises(fault: Exception) -> Callable[[str, str], Callable[[], str]]:
    def wrapper() -> str:
        raise fault

    return lambda kernel, module: wrapper


def _setup_faults() -> list[Exception]:
    """Errors that Triton raises where it cannot be set up, or cannot compile a kernel for the device."""
    from triton.runtime.errors import OutOfResources

    return [
        OutOfResources(2, 1, "shared memory"),
        RuntimeError("PassManager::run failed"),
        RuntimeError("Failed to find C compiler. Please specify via CC environment variable."),
        RuntimeError("0 active drivers ([]). There should only be one."),
        RuntimeError("Could not create or locate cache dir"),
        RuntimeError("Cannot find ptxas"),
        subprocess.CalledProcessError(1, "gcc"),
        AssertionError("libcuda.so cannot found!\nPlease make sure GPU is set up."),
        FileNotFoundError(2, "No such file or directory", "/sbin/ldconfig"),
        PermissionError(13, "Permission denied", ".triton/cache/ABC"),
        OSError(28, "No space left on device"),
    ]


_RUNNING_FAULTS = [
    RuntimeError("an illegal memory access"),
    RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
    RuntimeError("Triton Error [CUDA]: out of memory"),
    torch.AcceleratorError("CUDA error: unspecified launch failure"),
    torch.OutOfMemoryError("CUDA out of memory."),
    ValueError("bad k"),
    AssertionError("rows"),
]


def _name_of(fault: Exception) -> str:
    return f"{type(fault).__name__} {str(fault)[:40]}".replace("\n", " ")


@pytest.mark.usefixtures("fresh_choices")
@pytest.mark.parametrize("fault", _setup_faults(), ids=_name_of)
def test_E03_a_kernel_that_does_not_compile_falls_back_once(
    fault: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(backends, "_load", _wrapper_that_raises(fault))
    for _ in range(2):
        assert run_some("some", "auto") == "oracle"
    assert chosen_backends()["some/cuda"].startswith("torch (the kernel does not compile:")
    assert len(caplog.records) == 1
    with pytest.raises(type(fault)):
        run_some("some", "triton")


@pytest.mark.usefixtures("fresh_choices")
@pytest.mark.parametrize("fault", _RUNNING_FAULTS, ids=_name_of)
def test_faults_of_the_running_kernel_are_not_swallowed(fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_load", _wrapper_that_raises(fault))
    with pytest.raises(type(fault), match=re.escape(str(fault))):
        run_some("some", "auto")
    assert chosen_backends() == {}


@pytest.mark.usefixtures("fresh_choices")
def test_E03_a_kernel_that_is_unavailable_falls_back_once_and_asked_for_it_raises(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reason = "some needs compute capability 8.0 or higher, this device has 7.5"
    monkeypatch.setattr(backends, "_load", _wrapper_that_raises(KernelUnavailable(reason)))
    for _ in range(2):
        assert run_some("some", "auto") == "oracle"
    assert chosen_backends() == {"some/cuda": f"torch ({reason})"}
    assert len(caplog.records) == 1
    with pytest.raises(BackendError, match=f"the triton backend was asked for, but {reason}"):
        run_some("some", "triton")


@pytest.mark.usefixtures("fresh_choices")
def test_a_kernel_given_up_is_not_reported_as_triton_after_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_load", _wrapper_that_raises(RuntimeError("PassManager::run failed")))
    run_some("some", "auto")
    monkeypatch.setattr(backends, "_load", lambda kernel, module: lambda: "kernel")
    assert run_some("some", "triton") == "kernel"
    assert chosen_backends() == {"some/cuda": "triton (asked for)"}
    assert run_some("some", "auto") == "oracle"
    assert chosen_backends() == {"some/cuda": "torch (the kernel was given up before)"}


def test_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="backend must be auto, triton or torch"):
        tokenize("fast")  # type: ignore[arg-type]


def test_kernel_refuses_a_cpu_block_outside_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    import triton

    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
    with pytest.raises(ValueError, match="needs a block on a CUDA device, not on cpu"):
        tokenize("triton")
