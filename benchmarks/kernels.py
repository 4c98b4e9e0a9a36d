"""Every kernel and the bundled model's forward pass: parity first, then time, against ceilings measured in the same run.

    python benchmarks/kernels.py --device cuda                    # rows appended to benchmarks/results.jsonl
    python benchmarks/kernels.py --small --out /tmp/rows.jsonl    # in seconds, on a CPU

On CUDA the Triton kernels run at full size, each checked against its oracle at that size, between guard bytes, before it is
timed. On a CPU the kernels are checked on small shapes in Triton's interpreter (where triton is installed) and the oracle,
which is the path a CPU takes, is timed: such rows say "torch on cpu". A shape on which a kernel is wrong or
fails has no row, and the exit code is 1; a row is written as soon as it is measured, and a baseline that fails says so in it.
Fractions are of the median time; the ceilings (copy bandwidth counting bytes read and written, rate of
square matrix products: bf16 on CUDA, float32 on a CPU) are the best of theirs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from annotator_kernels.hardware import Timing, time_call
from annotator_kernels.versions import installed_version
from benchmarks.compact_forward import compact_forward
from benchmarks.kernel_problems import FULL, KERNELS, ON_CPU, SMALL, Problem, Sizes, problems
from benchmarks.rows import RESULTS, append_row, ceilings, circumstances, peak_memory_bytes, quantiles, watch_memory

HUMAN_BP = 3.1e9
MODEL = "compact_forward"
_SECONDS_A_CALL = 3.0


@dataclass(frozen=True)
class Run:
    """What a run measures, and on what.

    Attributes:
        device: Where.
        kernels: Names of the kernels.
        sizes: How much.
        repeats: Most calls of each.
        small: Whether the ceilings are measured on small shapes too.
    """

    device: torch.device
    kernels: tuple[str, ...]
    sizes: Sizes
    repeats: int
    small: bool


def iter_problems(run: Run, sizes: Sizes, kernels: Sequence[str]) -> Iterator[Problem]:
    """The shapes of the chosen kernels and of the model, one at a time."""
    for kernel in kernels:
        yield from compact_forward(sizes, run.device) if kernel == MODEL else problems(kernel, sizes, run.device)


def check(problem: Problem, backend: str) -> bool:
    """Compare one kernel with its oracle and say what came out."""
    found = problem.difference(backend)  # type: ignore[arg-type]
    print(f"parity {problem.kernel}, {problem.variant} ({backend}): {found or problem.bound}", flush=True)
    return not found


def interpreter_agrees(run: Run) -> bool:
    """Check the Triton kernels on small shapes in Triton's interpreter, here or in a process in which it is on."""
    kernels = [kernel for kernel in run.kernels if kernel != MODEL]
    if not kernels:
        return True
    if installed_version("triton") == "absent":
        print("parity: triton is not installed; what is timed below are the oracles themselves", flush=True)
        return True
    if os.environ.get("TRITON_INTERPRET") == "1":
        return all([check(problem, "triton") for problem in iter_problems(run, SMALL, kernels)])
    command = [sys.executable, __file__, "--device", "cpu", "--parity-only", "--small", "--kernels", *kernels]
    return subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, check=False).returncode == 0


def timed(call: Callable[[], object], run: Run) -> Timing:
    """Time a call that has run before; long ones less often."""
    begin = time.perf_counter()
    call()
    if run.device.type == "cuda":
        torch.cuda.synchronize(run.device)
    once = time.perf_counter() - begin
    return time_call(call, run.device, repeats=max(3, min(run.repeats, int(_SECONDS_A_CALL / max(once, 1e-6)))), warmup=1)


def measure(problem: Problem, run: Run, limits: dict[str, float], backend: str = "") -> dict[str, Any]:
    """Time one kernel and its baselines; the row's own fields. On a CPU the oracle is timed where no backend is named."""
    on_cuda = run.device.type == "cuda"
    backend = backend or ("triton" if on_cuda else "torch")
    path = backend if on_cuda else f"{backend} on cpu"
    watch_memory(run.device)
    timing = timed(lambda: problem.run(backend), run)  # type: ignore[arg-type]
    peak = peak_memory_bytes(run.device)
    p50 = timing.p50_s
    floor_s = max(problem.bytes_moved / limits["copy_bytes_per_s"], problem.flops / limits["matrix_flops_per_s"])
    row: dict[str, Any] = {
        "kernel": problem.kernel, "variant": problem.variant, "path": path, "shape": problem.shape, "parity": problem.bound,
        **quantiles(timing), "bases": problem.bases, "bases_per_s": problem.bases / p50,
        "bytes_per_base": problem.bytes_moved / problem.bases, "flops_per_base": problem.flops / problem.bases,
        "fraction_of_copy_bandwidth": problem.bytes_moved / p50 / limits["copy_bytes_per_s"],
        "fraction_of_matrix_rate": problem.flops / p50 / limits["matrix_flops_per_s"],
        "floor_s": floor_s, "fraction_of_floor": floor_s / p50, "peak_memory_bytes": peak,
        "baselines": {name: baseline(call, run) for name, call in problem.baselines.items()},
    }  # fmt: skip
    if problem.bar_genome_s is not None:
        row["human_genome_s_extrapolated"] = HUMAN_BP / row["bases_per_s"]
    if on_cuda and problem.bar is not None:
        row["bar_fraction_of_copy_bandwidth"] = problem.bar
        row["bar_met"] = row["fraction_of_copy_bandwidth"] >= problem.bar
    if on_cuda and problem.bar_genome_s is not None:
        row["bar_human_genome_s"] = problem.bar_genome_s
        row["bar_met"] = row["human_genome_s_extrapolated"] < problem.bar_genome_s
    return row


def baseline(call: Callable[[], object], run: Run) -> dict[str, Any]:
    """Times of another way to the result, or why it has none: it is not what is measured, and costs no row."""
    try:
        return quantiles(timed(call, run))
    except Exception as fault:  # a graph that cannot be captured, no memory for a second copy: whatever it is, it is told
        return {"failed": one_line(fault)}


def one_line(fault: Exception) -> str:
    """An exception's class and the beginning of what it says."""
    return f"{type(fault).__name__}: {' '.join(str(fault).split())}"[:300]


def describe(row: dict[str, Any]) -> str:
    """One line of a table."""
    text = (
        f"{row['kernel']:16}{row['variant']:44}{row['path']:14}{1e3 * row['p50_s']:10.3f} ms{row['bases_per_s'] / 1e6:12.1f} Mb/s"
        f"{100 * row['fraction_of_copy_bandwidth']:8.1f} % copy{100 * row['fraction_of_matrix_rate']:7.1f} % matrix"
    )
    if "human_genome_s_extrapolated" in row:
        text += f"  human genome (extrapolated): {row['human_genome_s_extrapolated']:.0f} s"
    for name, times in row["baselines"].items():
        told = times.get("failed") or f"{times['p50_s'] / row['p50_s']:.2f} x the time"
        text += f"\n{'':16}{told}: {name}"
    return text + ("" if row.get("bar_met", True) else "\n                BELOW ITS BAR")


def check_and_measure(run: Run, out: Path | None) -> bool:
    """Check every shape and measure it.

    Args:
        run: What, on what.
        out: Where each row is appended once it is measured; None for no times.

    Returns:
        Whether every kernel is right on every shape.
    """
    on_cuda = run.device.type == "cuda"
    if not on_cuda and not interpreter_agrees(run):
        return False
    if out is None and not on_cuda:
        return True
    common = {"benchmark": "kernels", **circumstances(run.device)}
    limits = ceilings(run.device, small=run.small) if out else {}
    right = True
    for problem in iter_problems(run, run.sizes, run.kernels):
        # On a CPU the timed path of a kernel is the oracle itself.
        backend = "triton" if on_cuda else "torch" if problem.kernel == MODEL else None
        right = one_shape(problem, backend, partial(measure, problem, run, limits), common | {"ceilings": limits}, out) and right
    return right


def one_shape(
    problem: Problem, backend: str | None, measured: Callable[[], dict[str, Any]], common: dict[str, Any], out: Path | None
) -> bool:
    """Check one shape, measure it and write its row; a fault costs this row alone.

    Args:
        problem: The shape.
        backend: What is checked; None for nothing.
        measured: Makes the row's own fields.
        common: The other ones.
        out: File of the rows; None for no times.

    Returns:
        Whether all went well.
    """
    try:
        if backend is not None and not check(problem, backend):
            return False
        if out is not None:
            row = common | measured()
            append_row(out, row)
            print(describe(row), flush=True)
    except Exception as fault:  # the other shapes are still of use
        print(f"FAILED {problem.kernel}, {problem.variant}: {one_line(fault)}", flush=True)
        return False
    return True


def main(argv: Sequence[str] | None = None) -> int:
    """Check, measure, append rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--kernels", nargs="+", choices=(*KERNELS, MODEL), default=(*KERNELS, MODEL), metavar="NAME")
    parser.add_argument("--out", type=Path, default=RESULTS, help="rows are appended here")
    parser.add_argument("--repeats", type=int, default=20, help="most timed calls of each")
    parser.add_argument("--small", action="store_true", help="small shapes: seconds on a CPU, for tests and memory checkers")
    parser.add_argument("--parity-only", action="store_true", help="no times, no rows")
    options = parser.parse_args(argv)
    device = torch.device(options.device)
    torch.backends.cudnn.allow_tf32 = False  # or the float32 oracles of bfloat16 kernels would hardly be better than they
    sizes = SMALL if options.small else FULL if device.type == "cuda" else ON_CPU
    run = Run(device, tuple(options.kernels), sizes, options.repeats, options.small)
    if not check_and_measure(run, None if options.parity_only else options.out):
        print("a kernel differs from its oracle: no figure", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
