"""What a device is and how fast it is: its name, its memory, and the rates measured on it that kernels are held against."""

from __future__ import annotations

import math
import os
import platform
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from annotator_kernels.versions import installed_version

_CUDA_COPY_BYTES = 1 << 31
_CPU_COPY_BYTES = 1 << 28
_COPY_REPEATS = {"cuda": 20, "cpu": 5}
_CPU_SIZES = (512, 1024, 1536)
_CUDA_SIZES = (4096, 8192, 16384)
_SECONDS_A_SHAPE = 0.4
_UNLIMITED_BYTES = 1 << 60


@dataclass(frozen=True)
class Timing:
    """Times of one call, in seconds.

    Attributes:
        p20_s: A fifth of the calls were at most as long: the figure to compute rates from, little disturbed by other work.
        p50_s: The median.
        p80_s: Four fifths of the calls were at most as long.
        repeats: Timed calls.
    """

    p20_s: float
    p50_s: float
    p80_s: float
    repeats: int


def time_call(call: Callable[[], object], device: torch.device, *, repeats: int, warmup: int = 3) -> Timing:
    """Time a call that works on a device.

    Args:
        call: What to time; its result is dropped.
        device: Where it computes. On CUDA its work must be on the device's current stream.
        repeats: Timed calls, >= 1.
        warmup: Calls before them, >= 0.

    Returns:
        Quantiles of the single calls.

    Raises:
        ValueError: `repeats` or `warmup` is too small.

    Notes:
        On CUDA, events around each call: the device's own time, without the wait for the host unless the host is the
        slower of the two. Caches stay warm between calls, so inputs should be larger than them where that matters.
    """
    if repeats < 1 or warmup < 0:
        raise ValueError(f"repeats must be >= 1 and warmup >= 0, not {repeats} and {warmup}")
    for _ in range(warmup):
        call()
    seconds = _cuda_seconds(call, device, repeats) if device.type == "cuda" else _host_seconds(call, repeats)
    seconds.sort()
    p20, p50, p80 = (_quantile(seconds, share) for share in (0.2, 0.5, 0.8))
    return Timing(p20, p50, p80, repeats)


def copy_bandwidth(device: torch.device, *, size_bytes: int | None = None) -> float:
    """Measure how fast a device copies memory to itself.

    Args:
        device: The device.
        size_bytes: Bytes to copy, >= 4; None takes 256 MiB on a CPU, 2 GiB on CUDA, and no more than a quarter of the
            memory that is free.

    Returns:
        Bytes read plus bytes written, per second, at the 20th percentile of the times.

    Raises:
        ValueError: `size_bytes` is too small.
    """
    if size_bytes is None:
        size_bytes = _CUDA_COPY_BYTES if device.type == "cuda" else _CPU_COPY_BYTES
        free_bytes = free_memory(device)
        if free_bytes is not None:
            size_bytes = max(4, min(size_bytes, free_bytes // 4))
    elements = size_bytes // 4
    if elements < 1:
        raise ValueError(f"size_bytes must be >= 4, not {size_bytes}")
    source = torch.ones(elements, dtype=torch.float32, device=device)
    target = torch.zeros_like(source)  # touched here, so that no page fault is timed
    timing = time_call(lambda: target.copy_(source), device, repeats=_COPY_REPEATS.get(device.type, 5))
    return 2 * 4 * elements / timing.p20_s


def matrix_rate(device: torch.device, dtype: torch.dtype, *, shapes: Sequence[tuple[int, int, int]] | None = None) -> float:
    """Measure the rate of matrix products on a device.

    Args:
        device: The device.
        dtype: Type of both factors and of the product, float32 or bfloat16.
        shapes: (M, N, K) of products [M, K] x [K, N]; None takes a few square ones, about a second in all.

    Returns:
        FLOP per second (2 * M * N * K a product) of the best shape, each at the 20th percentile of its times.

    Raises:
        ValueError: There is no shape.

    Notes:
        On a CPU with `torch.get_num_threads()` threads. On CUDA float32 follows torch's setting (full precision unless
        TensorFloat-32 was allowed). Factors are random: a GPU draws less power, and runs faster, on constant ones.
    """
    if shapes is None:
        sizes = _CUDA_SIZES if device.type == "cuda" else _CPU_SIZES
        free_bytes = free_memory(device)
        room = math.inf if free_bytes is None else free_bytes // 4
        shapes = [(size, size, size) for size in sizes if 3 * size * size * dtype.itemsize <= room] or [(sizes[0] // 4,) * 3]
    if not shapes:
        raise ValueError("no shape to measure")
    return max(_product_rate(device, dtype, *shape) for shape in shapes)


def _product_rate(device: torch.device, dtype: torch.dtype, m: int, n: int, k: int) -> float:
    generator = torch.Generator(device).manual_seed(0)
    a = torch.randn(m, k, device=device, generator=generator).to(dtype)
    b = torch.randn(k, n, device=device, generator=generator).to(dtype)
    product = torch.empty(m, n, dtype=dtype, device=device)

    def call() -> None:
        torch.mm(a, b, out=product)

    with torch.inference_mode():
        once = time_call(call, device, repeats=1, warmup=1).p50_s
        repeats = max(3, min(50, int(_SECONDS_A_SHAPE / max(once, 1e-6))))
        timing = time_call(call, device, repeats=repeats, warmup=1)
    return 2 * m * n * k / timing.p20_s


def describe_device(device: torch.device) -> dict[str, str | int]:
    """Name a device and the software that drives it.

    Args:
        device: A CPU, or a CUDA device that exists.

    Returns:
        `device`, `name`, `threads` (CPU) or `multiprocessors` and `capability` (CUDA), `total_bytes` and `free_bytes` of
        its memory, and the versions `python`, `torch`, `triton` ("absent" where it is not installed), `cuda` ("none" where
        torch is built without) and `driver` (the NVIDIA driver's). A fact that the system does not tell is left out.
    """
    facts: dict[str, str | int] = {"device": str(device)}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts["name"] = properties.name
        facts["multiprocessors"] = properties.multi_processor_count
        facts["capability"] = f"{properties.major}.{properties.minor}"
    else:
        facts["name"] = _cpu_name()
        facts["threads"] = torch.get_num_threads()
    for name, count in (("total_bytes", total_memory(device)), ("free_bytes", free_memory(device))):
        if count is not None:
            facts[name] = count
    facts |= {"python": platform.python_version(), "torch": torch.__version__, "triton": installed_version("triton")}
    facts["cuda"] = torch.version.cuda or "none"
    driver = _driver_version()
    if driver is not None:
        facts["driver"] = driver
    return facts


def total_memory(device: torch.device) -> int | None:
    """Bytes of memory of a device; a CPU's are the host's, or the container's limit; None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    found = [_meminfo_bytes("MemTotal"), _container_limit_bytes()]
    if found[0] is None and "SC_PHYS_PAGES" in os.sysconf_names:
        found[0] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min((count for count in found if count is not None), default=None)


def free_memory(device: torch.device) -> int | None:
    """Bytes that may still be allocated on a device; None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    found = [_meminfo_bytes("MemAvailable")]
    limit, used = _container_limit_bytes(), _cgroup_bytes("memory.current", "memory/memory.usage_in_bytes")
    if limit is not None and used is not None:
        # Cached files count as used, but give way to an allocation.
        found.append(max(0, limit - used) + (_cgroup_cache_bytes() or 0))
    return min((count for count in found if count is not None), default=None)


def _host_seconds(call: Callable[[], object], repeats: int) -> list[float]:
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return seconds


def _cuda_seconds(call: Callable[[], object], device: torch.device, repeats: int) -> list[float]:
    with torch.cuda.device(device):  # events are of the current device
        events = [(_event(), _event()) for _ in range(repeats)]
        torch.cuda.synchronize()
        for begin, end in events:
            begin.record()
            call()
            end.record()
        torch.cuda.synchronize()
        return [begin.elapsed_time(end) / 1000 for begin, end in events]


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _quantile(ascending: list[float], share: float) -> float:
    """The value at a share of the way through sorted values, linear between neighbours."""
    place = share * (len(ascending) - 1)
    below = int(place)
    above = min(below + 1, len(ascending) - 1)
    return ascending[below] + (place - below) * (ascending[above] - ascending[below])


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:  # another system, or a container that hides it
        return ""


def _cpu_name() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def _meminfo_bytes(field: str) -> int | None:
    found = re.search(rf"^{field}:\s*(\d+) kB$", _read("/proc/meminfo"), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _cgroup_bytes(unified: str, legacy: str) -> int | None:
    """A number of this process's memory cgroup, as a container sees it: version 2 or else 1."""
    text = (_read(f"/sys/fs/cgroup/{unified}") or _read(f"/sys/fs/cgroup/{legacy}")).strip()
    return int(text) if text.isdigit() else None


def _container_limit_bytes() -> int | None:
    limit = _cgroup_bytes("memory.max", "memory/memory.limit_in_bytes")
    return limit if limit is not None and limit < _UNLIMITED_BYTES else None


def _cgroup_cache_bytes() -> int | None:
    text = _read("/sys/fs/cgroup/memory.stat") or _read("/sys/fs/cgroup/memory/memory.stat")
    found = re.search(r"^(?:total_)?inactive_file (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else None


def _driver_version() -> str | None:
    found = re.search(r"Kernel Module.*?\s(\d+\.\d+(?:\.\d+)?)\s", _read("/proc/driver/nvidia/version"))
    return found[1] if found else None
