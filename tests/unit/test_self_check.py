"""The check of the kernels finds a kernel that is wrong, also where its oracle is wrong in the same way."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from annotator_kernels import backends, self_check
from annotator_kernels.local_maxima.op import Maxima
from annotator_kernels.pwm_scan.op import PwmHits
from annotator_kernels.self_check import _KmerCase, check_kernels
from tests.support.kernels import KERNELS, OPERATIONS, WRAPPERS

CPU = torch.device("cpu")


def verdicts(device: torch.device = CPU, backend: backends.Backend = "auto") -> dict[str, bool]:
    return {check.name: check.ok for check in check_kernels(device, backend)}


def all_but(name: str) -> dict[str, bool]:
    return {kernel: kernel != name for kernel in KERNELS}


def test_all_is_well(device: torch.device) -> None:
    checks = check_kernels(device)
    assert [check.name for check in checks] == KERNELS
    assert all(check.ok for check in checks), checks
    if device.type == "cpu":
        assert {check.path for check in checks} == {"torch (no CUDA tensor)"}
    assert "equal" in checks[0].detail and "bound" in checks[2].detail


def test_the_same_findings_twice() -> None:
    assert check_kernels(CPU, "torch") == check_kernels(CPU, "torch")
    assert {check.path for check in check_kernels(CPU, "torch")} == {"torch (asked for)"}


@pytest.mark.parametrize("name", KERNELS)
def test_the_triton_kernel_in_its_interpreter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton", reason="triton is not installed")
    if torch.cuda.is_available():
        pytest.skip("compiled kernels are checked above")
    if name == "kmer_embed":  # the interpreter takes a minute for the gradient of the full cases
        small = (_KmerCase(3, 1, 31, False), _KmerCase(2, 2, 17, True), _KmerCase(3, 1, 29, True))
        monkeypatch.setattr(self_check, "_KMER_CASES", small)
    assert self_check._CHECKS[name](CPU, "triton")


def one_wrong_id(ids: Tensor) -> Tensor:
    ids[-1, -2] += 1
    return ids


def last_left_out(found: Any) -> Any:
    return type(found)(*(column[:-1] for column in found))


def other_order(found: Any) -> Any:
    return type(found)(*(column.flip(0) for column in found))


WRONG: list[tuple[str, Callable[[Any], Any]]] = [
    ("kmer_tokenize", one_wrong_id),
    ("kmer_tokenize", lambda ids: ids[:, :-1]),
    ("kmer_tokenize", lambda ids: ids.long() if ids.dtype == torch.int32 else ids.int()),
    ("kmer_embed", lambda x: x * 1.0001),
    ("kmer_embed", lambda x: x + (x - x.detach()) * 0.001),  # right values, wrong gradient
    ("kmer_embed", lambda x: x + float("nan")),
    ("residual_conv", lambda y: y + 0.05),
    ("residual_conv", lambda y: y.roll(1, 1)),
    ("residual_conv", lambda y: y * float("nan")),
    ("residual_conv", lambda y: y.double()),
    ("local_maxima", last_left_out),
    ("local_maxima", other_order),
    ("local_maxima", lambda m: Maxima(m.row, m.at + 1, m.track, m.value)),
    ("pwm_scan", last_left_out),
    ("pwm_scan", other_order),
    ("pwm_scan", lambda h: PwmHits(h.start, h.row, h.score + 1)),
]


@pytest.mark.parametrize("oracle_too", [False, True], ids=["kernel", "kernel and oracle"])
@pytest.mark.parametrize(("name", "spoil"), WRONG)
def test_a_wrong_result_is_found(
    name: str, spoil: Callable[[Any], Any], oracle_too: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = f"{name}_reference"
    right = getattr(OPERATIONS[name], reference)

    def wrong(*arguments: Any, **options: Any) -> Any:
        return spoil(right(*arguments, **options))

    monkeypatch.setattr(OPERATIONS[name], reference, wrong)
    if oracle_too:
        monkeypatch.setattr(self_check, reference, wrong)
    right_one = KERNELS[KERNELS.index(name) - 1]  # the other three cost time and say nothing more
    monkeypatch.setattr(self_check, "_CHECKS", {kernel: self_check._CHECKS[kernel] for kernel in (right_one, name)})
    assert verdicts() == {right_one: True, name: False}


def test_a_wrong_result_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    op = OPERATIONS["kmer_tokenize"]
    right = op.kmer_tokenize_reference
    monkeypatch.setattr(op, "kmer_tokenize_reference", lambda *a, **o: one_wrong_id(right(*a, **o)))
    detail = check_kernels(CPU)[0].detail
    assert "1 of 6,366 differ from the oracle, first at [5, 1059]: " in detail


@pytest.mark.parametrize("fault", [ValueError("bad\nshape"), RuntimeError("an illegal memory access"), KeyError("k")])
def test_a_fault_is_reported_and_the_other_kernels_are_checked(fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise fault

    monkeypatch.setattr(OPERATIONS["pwm_scan"], "pwm_scan_reference", broken)
    monkeypatch.setattr(backends, "_chosen", {})
    checks = check_kernels(CPU)
    assert {check.name: check.ok for check in checks} == all_but("pwm_scan")
    assert checks[-1].path == "none"
    assert checks[-1].detail.startswith(type(fault).__name__) and "\n" not in checks[-1].detail


def test_the_end_of_the_program_is_not_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(OPERATIONS["pwm_scan"], "pwm_scan_reference", interrupted)
    with pytest.raises(KeyboardInterrupt):
        check_kernels(CPU)


def test_a_backend_that_is_asked_for_and_absent_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    for wrapper in WRAPPERS.values():
        monkeypatch.delitem(sys.modules, wrapper, raising=False)
    checks = check_kernels(CPU, "triton")
    assert not any(check.ok for check in checks)
    assert all(check.detail.startswith("BackendError: ") and "cannot be imported" in check.detail for check in checks)
