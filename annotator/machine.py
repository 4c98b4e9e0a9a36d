"""What this machine has, told without loading torch."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path


def usable_cpus() -> int:
    """CPUs this process may use; macOS only knows how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus_in_sight() -> int:
    """NVIDIA GPUs of this machine that its environment does not hide, by the driver's files; nothing is loaded."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    folder = Path("/proc/driver/nvidia/gpus")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


@cache
def suits_integers() -> bool:
    """Whether whole numbers are multiplied faster than float32 on this CPU, by what it is: x86-64 with AVX2 or more, on Linux.

    There `int8` has been measured faster with every set of instructions (`benchmarks/int8_forward.py`), and torch comes with its
    integer convolutions. By what the CPU is and not by a trial, so that every process of a machine says the same.
    """
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").partition("\nflags")[2].partition("\n")[0]
    except OSError:
        return False
    return platform.machine() == "x86_64" and "avx2" in flags.split()
