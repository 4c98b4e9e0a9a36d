"""Rows of results.jsonl: what each one says about where, when and on what it was measured."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from annotator_kernels.hardware import Timing, copy_bandwidth, describe_device, matrix_rate
from annotator_kernels.versions import installed_version

RESULTS = Path(__file__).parent / "results.jsonl"


def commit() -> str:
    """The checkout's commit, with a + where files have changed since; $BENCHMARK_COMMIT where there is no checkout."""
    if given := os.environ.get("BENCHMARK_COMMIT"):
        return given
    command = ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def circumstances(device: torch.device) -> dict[str, Any]:
    """Fields of every row of a run: commit, date, device and versions."""
    facts = describe_device(device)
    versions = {name: facts.pop(name) for name in ("python", "torch", "triton", "cuda", "driver") if name in facts}
    versions |= {"numpy": installed_version("numpy"), "transformers": installed_version("transformers")}
    facts.pop("free_bytes", None)
    return {"commit": commit(), "date": datetime.now(UTC).isoformat(timespec="seconds"), "device": facts, "versions": versions}


def ceilings(device: torch.device, *, small: bool) -> dict[str, float]:
    """What the device can do, measured now: bytes copied (read + written) and FLOPs of square matrix products a second."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    return {
        "copy_bytes_per_s": copy_bandwidth(device, size_bytes=1 << 24 if small else None),
        "matrix_flops_per_s": matrix_rate(device, dtype, shapes=[(256, 256, 256)] if small else None),
    }


def quantiles(timing: Timing) -> dict[str, float | int]:
    """The times of one call."""
    return {"p20_s": timing.p20_s, "p50_s": timing.p50_s, "p80_s": timing.p80_s, "repeats": timing.repeats}


def watch_memory(device: torch.device) -> None:
    """Start counting the peak memory anew; a process on a CPU cannot, and its peak is that of its whole life."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_bytes(device: torch.device) -> int:
    """Most bytes held on the device since `watch_memory`, or on a CPU the process's largest resident set."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Add one line."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
