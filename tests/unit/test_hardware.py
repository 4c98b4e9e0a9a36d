"""Measured rates and the description of a device."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from annotator_kernels import hardware
from annotator_kernels.hardware import (
    Timing,
    copy_bandwidth,
    describe_device,
    free_memory,
    matrix_rate,
    time_call,
    total_memory,
)
from annotator_kernels.versions import installed_version

CPU = torch.device("cpu")


@pytest.mark.parametrize(("repeats", "warmup"), [(1, 0), (5, 3), (4, 1)])
def test_every_call_is_made_and_the_warm_up_is_not_counted(repeats: int, warmup: int) -> None:
    calls: list[int] = []
    timing = time_call(lambda: calls.append(len(calls)), CPU, repeats=repeats, warmup=warmup)
    assert len(calls) == repeats + warmup and timing.repeats == repeats
    assert 0 < timing.p20_s <= timing.p50_s <= timing.p80_s


def test_a_sleep_takes_as_long_as_it_sleeps() -> None:
    timing = time_call(lambda: time.sleep(0.02), CPU, repeats=3, warmup=0)
    assert 0.02 <= timing.p20_s < 0.5


def test_quantiles(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 5.0, 10.0, 11.0, 20.0, 24.0, 30.0, 33.0, 40.0, 42.0, 50.0, 56.0])
    monkeypatch.setattr(hardware.time, "perf_counter", lambda: next(clock))
    assert time_call(lambda: None, CPU, repeats=6, warmup=0) == Timing(2.0, 3.5, 5.0, 6)


@pytest.mark.parametrize(("repeats", "warmup"), [(0, 3), (-1, 0), (1, -1)])
def test_impossible_counts_are_refused(repeats: int, warmup: int) -> None:
    with pytest.raises(ValueError, match="repeats must be >= 1"):
        time_call(lambda: None, CPU, repeats=repeats, warmup=warmup)


def test_a_fault_of_the_call_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        time_call(lambda: 1 / 0, CPU, repeats=1)


@pytest.mark.parametrize("size_bytes", [4, 1 << 20])
def test_copy_bandwidth_counts_both_directions(device: torch.device, size_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert copy_bandwidth(device, size_bytes=size_bytes) > 0
    monkeypatch.setattr(hardware, "time_call", lambda call, device, *, repeats: Timing(0.5, 1.0, 2.0, repeats))
    assert copy_bandwidth(device, size_bytes=size_bytes) == 4 * size_bytes


def test_copy_bandwidth_takes_at_most_a_quarter_of_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "free_memory", lambda device: 4 << 20)
    monkeypatch.setattr(hardware, "time_call", lambda call, device, *, repeats: Timing(1.0, 1.0, 1.0, repeats))
    assert copy_bandwidth(CPU) == 2 << 20


def test_copy_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="size_bytes must be >= 4, not 3"):
        copy_bandwidth(CPU, size_bytes=3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_matrix_rate_of_given_shapes(device: torch.device, dtype: torch.dtype) -> None:
    assert matrix_rate(device, dtype, shapes=[(33, 17, 65), (64, 64, 64)]) > 0


def test_matrix_rate_is_of_the_best_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "time_call", lambda call, device, *, repeats, warmup: Timing(2.0, 2.0, 2.0, repeats))
    assert matrix_rate(CPU, torch.float32, shapes=[(2, 3, 4), (5, 6, 7)]) == 5 * 6 * 7
    with pytest.raises(ValueError, match="no shape"):
        matrix_rate(CPU, torch.float32, shapes=[])


def test_matrix_rate_leaves_the_random_state_alone() -> None:
    state = torch.get_rng_state()
    matrix_rate(CPU, torch.float32, shapes=[(8, 8, 8)])
    assert torch.equal(torch.get_rng_state(), state)


def test_matrix_rate_fits_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, ...]] = []
    monkeypatch.setattr(hardware, "free_memory", lambda device: 1 << 20)
    monkeypatch.setattr(hardware, "_product_rate", lambda device, dtype, *shape: float(made.append(shape) or 1))
    matrix_rate(CPU, torch.float32)
    assert made == [(128, 128, 128)]


def test_description(device: torch.device) -> None:
    facts = describe_device(device)
    assert {"device", "name", "python", "torch", "triton", "cuda"} <= set(facts)
    assert facts["name"] and facts["torch"] == torch.__version__
    assert ("threads" if device.type == "cpu" else "multiprocessors") in facts
    if "total_bytes" in facts and "free_bytes" in facts:
        assert 0 < int(facts["free_bytes"]) <= int(facts["total_bytes"])
    assert describe_device(CPU)["threads"] == torch.get_num_threads()


def test_description_where_the_system_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_read", lambda path: "")
    facts = describe_device(CPU)
    assert "free_bytes" not in facts and "driver" not in facts
    assert isinstance(facts["name"], str)


FILES = {
    "/proc/meminfo": "MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable:    800 kB\n",
    "/proc/cpuinfo": "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n",
    "/proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\n",
}


def test_what_the_files_of_linux_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_read", lambda path: FILES.get(path, ""))
    facts = describe_device(CPU)
    assert (facts["name"], facts["driver"]) == ("Some CPU @ 2 GHz", "570.86.15")
    assert (facts["total_bytes"], facts["free_bytes"]) == (1_024_000, 819_200)


@pytest.mark.parametrize(
    ("files", "total", "free"),
    [
        ({"memory.max": "500000", "memory.current": "450000", "memory.stat": "anon 1\ninactive_file 20000\n"}, 500_000, 70_000),
        ({"memory.max": "max\n", "memory.current": "450000"}, 1_024_000, 819_200),
        ({"memory/memory.limit_in_bytes": "500000", "memory/memory.usage_in_bytes": "1000"}, 500_000, 499_000),
        ({"memory/memory.limit_in_bytes": "9223372036854771712", "memory/memory.usage_in_bytes": "1"}, 1_024_000, 819_200),
    ],
    ids=["limit", "unlimited", "version 1", "version 1 unlimited"],
)
def test_a_container_has_the_memory_it_is_allowed(
    files: dict[str, str], total: int, free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = FILES | {f"/sys/fs/cgroup/{name}": text for name, text in files.items()}
    monkeypatch.setattr(hardware, "_read", lambda path: known.get(path, ""))
    assert (total_memory(CPU), free_memory(CPU)) == (total, free)


def test_versions() -> None:
    assert installed_version("torch").startswith(torch.__version__.partition("+")[0])
    assert installed_version("no-such-distribution") == "absent"


def test_nothing_but_torch_is_imported() -> None:
    text = Path(hardware.__file__).read_text()
    assert "import triton" not in text and "import numpy" not in text
