"""Where the time of the bundled model's forward pass goes: seconds of every kernel of the device, by torch's profiler.

    python benchmarks/forward_profile.py --device cuda            # a table, and a row in benchmarks/results.jsonl
    python benchmarks/forward_profile.py --small --out /tmp/rows.jsonl

The pass is checked against the network as it was trained first; one that is wrong has no figure, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.compact_forward import compact_forward
from benchmarks.kernel_problems import FULL, ON_CPU, SMALL, Problem
from benchmarks.rows import RESULTS, append_row, circumstances

PASSES = 5


def device_seconds(problem: Problem, device: torch.device, passes: int) -> list[dict[str, Any]]:
    """Seconds of one pass by kernel (on a CPU: by operator, without what it calls), the longest first."""
    on_cuda = device.type == "cuda"
    problem.run("auto")  # compiled, and caches warm
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    with profile(activities=activities) as profiled:
        for _ in range(passes):
            problem.run("auto")
        if on_cuda:
            torch.cuda.synchronize(device)
    rows = []
    for event in profiled.key_averages():
        if on_cuda and event.device_type != torch.autograd.DeviceType.CUDA:  # type: ignore[attr-defined]
            continue
        microseconds = event.self_device_time_total if on_cuda else event.self_cpu_time_total
        if microseconds:
            rows.append({"name": event.key[:80], "calls": event.count / passes, "seconds": microseconds / 1e6 / passes})
    return sorted(rows, key=lambda row: -row["seconds"])


def main(argv: Sequence[str] | None = None) -> int:
    """Check, profile, print, append the row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the row is appended here")
    parser.add_argument("--small", action="store_true", help="one short window")
    options = parser.parse_args(argv)
    device = torch.device(options.device)
    sizes = SMALL if options.small else FULL if device.type == "cuda" else ON_CPU
    (problem,) = compact_forward(sizes, device)
    if found := problem.difference("triton" if device.type == "cuda" else "torch"):
        print(f"the forward pass is wrong: {found}: no figure", file=sys.stderr)
        return 1
    kernels = device_seconds(problem, device, PASSES)
    total = sum(row["seconds"] for row in kernels)
    print(f"{problem.bases:,} bases x strands; {1e3 * total:.3f} ms of the device in a pass")
    for row in kernels[:20]:
        print(f"{1e3 * row['seconds']:10.3f} ms {row['seconds'] / total:6.1%} {row['calls']:7.0f} calls  {row['name']}")
    append_row(options.out, {
        "benchmark": "forward_profile", "variant": "eager", "shape": problem.shape, "bases": problem.bases,
        "parity": problem.bound, "device_s": total, "kernels": kernels[:20], **circumstances(device),
    })  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
