"""Repeated runs of a kernel find a result that differs now and then, in a single bit, which no bound would show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from annotator_kernels import backends
from annotator_kernels.repeats import REPEATED, REPEATS, repeat_kernel, same_bits
from annotator_kernels.self_check import check_kernels
from tests.support.kernels import KERNELS, OPERATIONS

CPU = torch.device("cpu")


def rarely_wrong(right: Callable[..., Any], spoil: Callable[[Any], Any], at: int) -> Callable[..., Any]:
    """An operation whose result is spoilt in its call number `at`."""
    calls = 0

    def run(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        result = right(*arguments, **options)
        return spoil(result) if calls == at else result

    return run


def last_bit(y: torch.Tensor) -> torch.Tensor:
    y.view(-1)[-1:].view(torch.int16)[0] ^= 1
    return y


def test_every_kernel_is_repeated_and_gives_the_same_bits() -> None:
    assert list(REPEATED) == KERNELS
    assert [repeat_kernel(name, CPU, "torch", 3) for name in KERNELS] == [""] * len(KERNELS)
    assert REPEATS == 200


@pytest.mark.parametrize("name", ["kmer_tokenize", "residual_conv", "local_maxima", "pwm_scan"])
def test_in_the_interpreter(name: str) -> None:
    pytest.importorskip("triton", reason="triton is not installed")
    if torch.cuda.is_available():
        pytest.skip("compiled kernels are repeated by the doctor")
    assert repeat_kernel(name, CPU, "triton", 2) == ""


def test_one_bit_of_one_run_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    op = OPERATIONS["residual_conv"]
    monkeypatch.setattr(op, "residual_conv_reference", rarely_wrong(op.residual_conv_reference, last_bit, 4))
    found = repeat_kernel("residual_conv", CPU, "torch", 5)
    assert found == "block of 96 channels: run 4 of 5 differs from the first in 1 of 12,672 values"


def test_a_hit_that_is_missing_once_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    op = OPERATIONS["pwm_scan"]
    shorter = rarely_wrong(op.pwm_scan_reference, lambda hits: type(hits)(*(column[:-1] for column in hits)), 2)
    monkeypatch.setattr(op, "pwm_scan_reference", shorter)
    assert repeat_kernel("pwm_scan", CPU, "torch", 5).startswith("hits: run 2 of 5 gave [")


def test_a_difference_fails_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    op = OPERATIONS["kmer_tokenize"]
    spoilt = rarely_wrong(op.kmer_tokenize_reference, lambda ids: ids + 1, 9)
    monkeypatch.setattr(op, "kmer_tokenize_reference", spoilt)
    monkeypatch.setattr(backends, "_chosen", {})
    checks = {check.name: check for check in check_kernels(CPU, repeats=20)}
    assert [name for name, check in checks.items() if not check.ok] == ["kmer_tokenize"]
    assert "of 20 differs from the first in" in checks["kmer_tokenize"].detail
    assert checks["pwm_scan"].detail.endswith("; 20 runs, the same bits")


def test_bits_are_compared_and_not_values() -> None:
    nan = torch.tensor([float("nan"), 0.0])
    assert same_bits(nan, nan.clone())
    assert not same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert same_bits(torch.tensor([[1, 2], [3, 4]]).T, torch.tensor([[1, 3], [2, 4]]))
