"""The way from FASTA to files without the network: megabases a second of a run whose model costs nothing, on so many cores.

The command reads and checks a synthetic FASTA, plans it, reads the block of every shard and finds its windows, makes calls at
random places in the place of a model's, counts the bases around them, lays them out as parts, merges, and writes all files. The
check of the FASTA is measured once more by itself. With --at-once several shards are in work at a time, as on a GPU: one is
begun while threads read ahead and finish those before; and with --apart the merge begins when all shards are done, so that each
stage's own seconds are known (`benchmarks/hg38_estimate.py` works with these rows). Where there are several figures, or with
--against another checkout, the runs take turns, and there is no figure unless all files are the same, byte for byte.

    python benchmarks/host_path.py --cores 1 2
    python benchmarks/host_path.py --cores 1 2 --mb 300 --against ../before --repeats 3
    python benchmarks/host_path.py --cores 1 2 --mb 300 --bgzf --at-once 1 4 --apart
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LINE_BP = 60
CONTIG_MB = 50
"""Contigs are so long, the last one shorter."""
SOFT_MASKED, RUN_OF_N_BP = 0.5, 100_000
"""Half of the bases are in lower case, in stretches, and each contig has a run of N in its middle, as assemblies have."""


def write_genome(path: Path, mb: float, seed: int = 0) -> Path:
    """A FASTA file of random bases, as plain text."""
    rng = np.random.default_rng(seed)
    left, number = int(mb * 1e6), 0
    with path.open("wb") as file:
        while left:
            bases = min(left, CONTIG_MB * 1_000_000)
            left, number = left - bases, number + 1
            letters = rng.choice(np.frombuffer(b"ACGT", np.uint8), bases)
            letters[bases // 2 : bases // 2 + RUN_OF_N_BP] = ord("N")
            stretches = np.repeat(rng.random(bases // 300 + 1) < SOFT_MASKED, 300)[:bases]
            letters[stretches] |= 0x20
            file.write(f">chr{number} synthetic\n".encode())
            whole = bases // LINE_BP * LINE_BP
            lines = np.full((whole // LINE_BP, LINE_BP + 1), ord("\n"), np.uint8)
            lines[:, :LINE_BP] = letters[:whole].reshape(-1, LINE_BP)
            file.write(lines.tobytes())
            if whole < bases:
                file.write(letters[whole:].tobytes() + b"\n")
    return path


def compressed(fasta: Path) -> Path:
    """The same file as BGZF."""
    from annotator.output.formats.bgzf import BgzfWriter

    path = fasta.with_name(fasta.name + ".gz")
    with ThreadPoolExecutor(2) as pool, fasta.open("rb") as plain:
        writer = BgzfWriter(path, pool)
        while data := plain.read(16 << 20):
            writer.write(data)
        writer.finish()
        writer.close()
    return path


def one_run(
    fasta: Path, out: Path, calls_per_mb: float, workers: int, at_once: int = 1, *, apart: bool = False
) -> dict[str, Any]:
    """The command with a model that costs nothing, in this process.

    Args:
        fasta: The genome.
        out: A new results folder.
        calls_per_mb: Calls at random places.
        workers: Local processes; 0 works here.
        at_once: Shards in work at a time, if more than one as on a GPU.
        apart: Merge when all shards are done.
    """
    from annotator.calls.profiles import count_profiles, profiles_to_text, surroundings
    from annotator.cli.app import main as command
    from annotator.output.parts import part_bytes
    from annotator.output.table import calls_table
    from annotator.pipeline import annotate
    from annotator.pipeline.driver import assembly
    from annotator.pipeline.worker.measures import host_peak_bytes
    from annotator.pipeline.worker.order import ShardResult, WorkerReport
    from annotator.pipeline.worker.shard_task import ShardTask
    from annotator.scan.block import Block
    from annotator.scan.clock import StageClock
    from annotator.scan.windows import _windows_with_bases

    class FreeTask(ShardTask):
        """The work on a shard but for the network."""

        clock = StageClock()
        feed: Any = None
        first: float | None = None
        last = 0.0

        @property
        def at_once(self) -> int:
            """As told."""
            return at_once

        def setup(self) -> None:
            """There is no model."""
            if at_once > 1:
                import torch

                from annotator.scan.feed import BlockFeed

                self.feed = BlockFeed(self.order.windows, torch.device("cpu"), clock=self.clock, ahead=True)

        def announce(self, work: Any) -> None:
            """The block is read ahead where several shards are in work."""
            if self.feed:
                self.feed.announce(work)

        def report(self) -> WorkerReport:
            """The time spent since the last shard."""
            clock: Any = self.clock
            if hasattr(clock, "take"):
                seconds = clock.take()
            else:  # a checkout from before shards had halves
                seconds = dict(clock.seconds)
                clock.seconds.clear()
            return WorkerReport(seconds, {}, 1, {"host": host_peak_bytes()})

        def begin(self, work: Any) -> Callable[[], ShardResult]:
            """Read and find the windows; then make calls and lay them out."""
            FreeTask.first = FreeTask.first or time.perf_counter()
            if self.feed:
                block = self.feed.block(work).block
            else:
                with self.clock.stage("read"):
                    block = Block.read(work.spans, work.lengths, self.order.windows, work.bases.read)
            with self.clock.stage("windows"):
                windows = len(_windows_with_bases(block))
            return lambda: self.finish(work, block, windows)

        def finish(self, work: Any, block: Block, windows: int) -> ShardResult:
            """Make calls and lay them out."""
            with self.clock.stage("calls"):
                calls = random_calls(work, calls_per_mb)
            with self.clock.stage("profiles"):
                profiles = count_profiles(calls, work, surroundings(work, block, self.order.windows.halo_bp), self.order.labels)
            with self.clock.stage("write"):
                table = calls_table(calls, work.names, self.order.labels, "free", "")
                data, info = part_bytes(table, profiles_to_text(profiles))
            FreeTask.last = time.perf_counter()
            return ShardResult(data, info.rows, info.sha256, dict(Counter(bases=work.owned_bp, windows=windows)))

        def process(self, work: Any) -> ShardResult:
            """Both halves; how a checkout from before asks for them."""
            return self.begin(work)()

    annotate.advises = lambda request: False  # comparing the clades runs the network on a sample
    if apart:
        assembly.LEAST_AHEAD = sys.maxsize
    if at_once > 1:
        from annotator.pipeline.executors.events import DEPTH

        DEPTH["cpu"] = DEPTH["cuda"]
    began, before = time.perf_counter(), time.process_time()
    words = ["annotate", str(fasta), "-o", str(out), "--tasks", "splice", "-t", "1", "--device", "cpu", "--no-report", "-q"]
    code = command([*words, *(["--workers", str(workers)] if workers else [])], task=FreeTask)
    whole, cpu = time.perf_counter() - began, time.process_time() - before
    if code:
        sys.exit(code)
    run = json.loads((out / "run.json").read_text())
    digest = hashlib.sha256()
    for path in sorted(out.iterdir()):
        if path.name != "run.json":
            digest.update(path.name.encode() + path.read_bytes())
    return {
        "whole_s": whole, "cpu_s": cpu, "scan_s": FreeTask.last - (FreeTask.first or 0), "stage_s": run["stage_s"],
        "calls": run["files"]["predictions.parquet"]["rows"], "sha256": digest.hexdigest(), "peak_bytes": host_peak_bytes(),
    }  # fmt: skip


def random_calls(work: Any, per_mb: float) -> Any:
    """Donors and acceptors at random places of a shard, the same whatever else it holds."""
    from annotator.calls.batch import Calls
    from annotator.kinds import Kind

    def span_calls(contig: int, start: int, end: int) -> Calls:
        rng = np.random.default_rng([contig, start])
        position = np.unique(rng.integers(start + 5, max(end - 5, start + 6), int((end - start) * per_mb / 1e6)))
        n = len(position)
        donor = rng.random(n) < 0.5
        probability: NDArray[np.float32] = rng.random(n, np.float32)
        return Calls(
            contig=np.full(n, contig, np.int64), start=position + np.where(donor, 1, -2), end=position + np.where(donor, 3, 0),
            kind=np.where(donor, Kind.DONOR.code, Kind.ACCEPTOR.code).astype(np.uint8), strand=np.ones(n, np.int8),
            probability=probability, score=(probability * 1000).astype(np.uint16), position=position,
            motif=np.full(n, -1, np.int32), p_value=np.full(n, np.nan), bits=np.full(n, np.nan, np.float32),
        )  # fmt: skip

    return Calls.concatenate([span_calls(span.contig, span.start, span.end) for span in work.spans])


def one_check(fasta: Path, folder: Path) -> dict[str, Any]:
    """The check of the FASTA by itself."""
    from annotator.genome.options import GenomeOptions
    from annotator.genome.source import open_genome
    from annotator.pipeline.worker.measures import host_peak_bytes

    began, before = time.perf_counter(), time.process_time()
    genome = open_genome(fasta, folder, GenomeOptions())
    seconds, cpu = time.perf_counter() - began, time.process_time() - before
    genome.close()
    return {"check_s": seconds, "cpu_s": cpu, "bp": genome.contigs.total_bp, "peak_bytes": host_peak_bytes()}


def in_child(
    what: str, checkout: Path, cores: int, args: argparse.Namespace, fasta: Path, out: Path, at_once: int = 1
) -> dict[str, Any]:
    """One measurement in a process of its own, with the code of a checkout, on so many cores."""
    path = os.pathsep.join([str(checkout), str(checkout / "kernels")])
    words = [sys.executable, __file__, "--child", what, "--cores", str(cores), "--fasta", str(fasta), "--out", str(out)]
    words += ["--calls-per-mb", str(args.calls_per_mb), "--workers", str(args.workers), "--at-once", str(at_once)]
    words += ["--apart"] if args.apart else []
    done = subprocess.run(
        words, env=os.environ | {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{what} of {checkout}: {done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def child(args: argparse.Namespace) -> int:
    """What `in_child` started."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cores[0]])
    if args.child == "check":
        found = one_check(args.fasta, args.out)
    else:
        found = one_run(args.fasta, args.out, args.calls_per_mb, args.workers, args.at_once[0], apart=args.apart)
    print(json.dumps(found))
    return 0


def main() -> int:
    """Measure, and append a row for each checkout and number of cores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--mb", type=float, default=100, help="bases of the synthetic genome")
    parser.add_argument("--fasta", type=Path, help="this genome instead of a synthetic one")
    parser.add_argument("--calls-per-mb", type=float, default=500)
    parser.add_argument("--workers", type=int, default=0, help="local processes; 0 works in the driver's own")
    parser.add_argument("--at-once", type=int, nargs="+", default=[1], help="shards in work at a time")
    parser.add_argument("--apart", action="store_true", help="merge when all shards are done")
    parser.add_argument("--bgzf", action="store_true", help="the synthetic genome as BGZF")
    parser.add_argument("--repeats", type=int, default=3, help="turns")
    parser.add_argument("--against", type=Path, help="another checkout, such as one from before a change")
    parser.add_argument("--out", type=Path, help="rows are appended here; default benchmarks/results.jsonl")
    parser.add_argument("--child", choices=["run", "check"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return child(args)

    import torch

    from benchmarks.rows import RESULTS, append_row, circumstances

    here = Path(__file__).parents[1]
    variants = [("this", here, at_once) for at_once in args.at_once]
    variants += [("against", args.against.resolve(), 1)] if args.against else []
    with tempfile.TemporaryDirectory(prefix="host-path-") as scratch:
        fasta = args.fasta or write_genome(Path(scratch) / "genome.fa", args.mb)
        fasta = compressed(fasta) if args.bgzf else fasta
        for cores in args.cores:
            runs: list[list[dict[str, Any]]] = [[] for _ in variants]
            for turn in range(args.repeats):
                for every, (name, checkout, at_once) in zip(runs, variants, strict=True):
                    found = in_child("check", checkout, cores, args, fasta, Path(scratch) / "spool")
                    checked = {"check_s": found["check_s"], "check_cpu_s": found["cpu_s"], "bp": found["bp"]}
                    checked["check_peak_bytes"] = found["peak_bytes"]
                    out = Path(scratch) / f"{name}{at_once}{cores}{turn}"
                    every.append(in_child("run", checkout, cores, args, fasta, out, at_once) | checked)
                    shutil.rmtree(out)
            if len({run["sha256"] for every in runs for run in every}) > 1:
                sys.exit("the result files differ: no figure")
            for every, (name, _, at_once) in zip(runs, variants, strict=True):
                best = min(every, key=lambda run: run["whole_s"])
                row = {
                    "benchmark": "host_path", "checkout": name, "cores": cores, "workers": args.workers, "at_once": at_once,
                    "apart": args.apart, "fasta": fasta.name, "bp": best["bp"], "calls": best["calls"],
                    **{key: [run[key] for run in every] for key in ("whole_s", "cpu_s", "scan_s", "check_s", "check_cpu_s")},
                    "stage_s": best["stage_s"], "mb_per_s": best["bp"] / 1e6 / best["whole_s"],
                    "check_mb_per_s": best["bp"] / 1e6 / min(run["check_s"] for run in every),
                    "peak_bytes": max(run["peak_bytes"] for run in every),
                    "check_peak_bytes": max(run["check_peak_bytes"] for run in every),
                }  # fmt: skip
                append_row(args.out or RESULTS, row | circumstances(torch.device("cpu")))
                stages = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in best["stage_s"].items())
                print(
                    f"{name}, {cores} cores, {at_once} at once: {row['mb_per_s']:.0f} Mb/s whole command ({best['whole_s']:.1f} "
                    f"s), scan {best['scan_s']:.2f} s, FASTA check alone {row['check_mb_per_s']:.0f} Mb/s, peak "
                    f"{row['peak_bytes'] / 1e6:.0f} MB; CPU seconds {best['cpu_s']:.1f}, check {best['check_cpu_s']:.2f}; by "
                    f"stage: {stages}",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
