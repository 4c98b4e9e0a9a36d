"""The same genome in this process, in local processes and in Ray actors, in turns; the same bytes, or no figure.

Rates are those of the scan: from the moment all workers are ready to the last shard, as the JSON progress tells them. What comes
before (Ray's start, torch, the model) is printed beside them.

    python benchmarks/executors.py --fasta yeast.fa.gz                         # 2 workers, three turns
    python benchmarks/executors.py --fasta worm.fa.gz --mb 450 --repeats 1     # repeated to 450 Mb: ten minutes a run
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from annotator.machine import usable_cpus
from benchmarks.end_to_end import real_bases, write_fasta
from benchmarks.rows import RESULTS, append_row, circumstances

EXECUTORS = {"process": (), "processes": ("--workers", "{n}"), "ray": ("--ray", "local", "--workers", "{n}")}
REFERENCE = "processes"


@dataclass(frozen=True)
class Turn:
    """One run.

    Attributes:
        start_s: From the process's start until all workers were ready.
        scan_s: From then until the last shard was there.
        scanned_bp: What was scanned in that time.
        whole_s: The whole command.
        sha256: Of the result files.
        driver_bytes: The driver's peak memory.
    """

    start_s: float
    scan_s: float
    scanned_bp: int
    whole_s: float
    sha256: str
    driver_bytes: int

    @property
    def rate(self) -> float:
        """Bases a second."""
        return self.scanned_bp / self.scan_s


def run(name: str, fasta: Path, out: Path, args: argparse.Namespace) -> Turn:
    """One command, its progress read as it comes."""
    workers = 1 if name == "process" else args.workers
    threads = args.workers if name == "process" and args.all_threads else 1
    command = [
        sys.executable, "-c", "import sys; from annotator.cli.app import main; sys.exit(main(sys.argv[1:]))", "annotate",
        str(fasta), "-o", str(out), "--clade", "invertebrate", "--tasks", args.tasks, "--device", args.device,
        "-t", str(threads), "-q", "--no-report", "--progress", "json", *(word.format(n=args.workers) for word in EXECUTORS[name]),
    ]  # fmt: skip
    began = time.monotonic()
    ready = last = None
    done_when_ready = done = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for text in process.stdout:
            line, now = json.loads(text), time.monotonic()
            if ready is None and line["workers"] >= workers:
                ready, done_when_ready = now, line["done_bp"]
            if line["event"] == "progress":
                last, done = now, line["done_bp"]
    if process.returncode or ready is None or last is None:
        sys.exit(f"{name}: ended with {process.returncode}")
    whole = time.monotonic() - began
    digest = hashlib.sha256()
    for path in sorted(out.iterdir()):
        if path.name != "run.json":
            digest.update(path.name.encode() + path.read_bytes())
    memory = json.loads((out / "run.json").read_text())["peak_memory_bytes"]["driver"]
    return Turn(ready - began, last - ready, done - done_when_ready, whole, digest.hexdigest(), memory)


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fasta", type=Path, required=True)
    parser.add_argument("--mb", type=float, default=0, help="repeat its bases to one contig of so many Mb; 0 takes it as it is")
    parser.add_argument("--executors", nargs="+", choices=EXECUTORS, default=["processes", "ray"])
    parser.add_argument("--workers", type=int, default=usable_cpus())
    parser.add_argument("--all-threads", action="store_true", help="of 'process': as many threads as the others have workers")
    parser.add_argument("--repeats", type=int, default=3, help="turns")
    parser.add_argument("--tasks", default="splice")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=RESULTS, help="rows are appended here")
    args = parser.parse_args()
    turns: dict[str, list[Turn]] = {name: [] for name in args.executors}
    with tempfile.TemporaryDirectory(prefix="executors-") as scratch:
        fasta = args.fasta
        if args.mb:
            size = int(args.mb * 1e6)
            fasta = write_fasta(Path(scratch) / "long.fa", real_bases(args.fasta, size), size)
        for turn in range(args.repeats):
            for name in args.executors:
                turns[name].append(run(name, fasta, Path(scratch) / f"{name}{turn}", args))
                one = turns[name][-1]
                print(
                    f"{name}: {one.rate / 1e3:.0f} kbp/s over {one.scan_s:.1f} s; ready after {one.start_s:.1f} s, whole command "
                    f"{one.whole_s:.1f} s, driver {one.driver_bytes / 1e6:.0f} MB",
                    flush=True,
                )
    hashes = {one.sha256 for every in turns.values() for one in every}
    if len(hashes) > 1 and not args.all_threads:
        sys.exit("the result files differ: no figure")
    medians = {name: sorted(one.rate for one in every)[len(every) // 2] for name, every in turns.items()}
    row: dict[str, Any] = {
        "benchmark": "executors", "fasta": args.fasta.name, "mb": args.mb, "workers": args.workers, "tasks": args.tasks,
        "rates": {name: [one.rate for one in every] for name, every in turns.items()},
        "start_s": {name: [one.start_s for one in every] for name, every in turns.items()},
        "scan_s": {name: [one.scan_s for one in every] for name, every in turns.items()},
        "whole_s": {name: [one.whole_s for one in every] for name, every in turns.items()},
        "driver_bytes": {name: max(one.driver_bytes for one in every) for name, every in turns.items()},
    }  # fmt: skip
    if REFERENCE in medians:
        row["ratio"] = {name: rate / medians[REFERENCE] for name, rate in medians.items()}
        print("of local processes:", {name: round(ratio, 3) for name, ratio in row["ratio"].items()})
    append_row(args.out, row | circumstances(torch.device("cpu")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
