"""Whether shards are better finished in threads beside the one that launches, or in processes: who holds up whom.

A launching thread does small torch operations one after another, as a launch of kernels is, while shards are finished beside it
(calls counted around, table, part) by a number of threads of the same process, or by as many processes, which compete for the
same cores but not for the interpreter's lock. They take turns. Where launching takes no longer beside threads than beside
processes, threads it is: a process would have to be sent the bases and the calls of every shard.

    python benchmarks/interpreter_lock.py --finishers 2 --repeats 5
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SHARD_BP = 8_847_360
"""Bases of a shard on a GPU."""
LAUNCHES = 20_000


def finishing(calls_per_mb: float) -> Callable[[], tuple[bytes, Any]]:
    """A function that finishes one shard of random bases."""
    from annotator.calls.profiles import Surroundings, count_profiles, profiles_to_text
    from annotator.genome.plan import Span
    from annotator.genome.shard_input import ShardInput
    from annotator.output.parts import part_bytes
    from annotator.output.table import calls_table
    from benchmarks.host_path import random_calls

    bases: Any = np.random.default_rng(0).choice(np.frombuffer(b"ACGT", np.uint8), SHARD_BP)
    zero, lengths = np.zeros(1, np.int64), np.array([SHARD_BP], np.int64)
    work = ShardInput((Span(0, 0, SHARD_BP),), ["c"], lengths, bases=bases)
    around = Surroundings(bases, zero, zero)
    calls = random_calls(work, calls_per_mb)

    def finish() -> tuple[bytes, Any]:
        profiles = count_profiles(calls, work, around, ())
        return part_bytes(calls_table(calls, work.names, (), "free", ""), profiles_to_text(profiles))

    return finish


def work_until(stop: Any, calls_per_mb: float, count: Any, ready: Any = None) -> None:
    """Finish shards until told to stop; count them."""
    finish = finishing(calls_per_mb)
    finish()
    if ready:
        ready.release()
    while not stop.is_set():
        finish()
        with count.get_lock():
            count.value += 1


def launch_s() -> float:
    """Seconds that LAUNCHES small operations take."""
    import torch

    x = torch.zeros(4)
    began = time.perf_counter()
    for _ in range(LAUNCHES):
        x = x + 1
    return time.perf_counter() - began


def beside(kind: str, finishers: int, calls_per_mb: float) -> tuple[float, float]:
    """Seconds of launching beside finishers of a kind, and shards that they finished a second meanwhile."""
    context = multiprocessing.get_context("spawn")
    maker: Any = threading.Thread if kind == "threads" else context.Process
    stop, ready, count = context.Event(), context.Semaphore(0), context.Value("q", 0)
    team = [maker(target=work_until, args=(stop, calls_per_mb, count, ready)) for _ in range(finishers)]
    for member in team:
        member.start()
    for _ in team:
        ready.acquire()
    before = count.value
    seconds = launch_s()
    finished = count.value - before
    stop.set()
    for member in team:
        member.join()
    return seconds, finished / seconds


def main() -> int:
    """Measure in turns, and append a row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--finishers", type=int, default=2)
    parser.add_argument("--calls-per-mb", type=float, default=500)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="the row is appended here; default benchmarks/results.jsonl")
    args = parser.parse_args()

    import torch

    from benchmarks.rows import RESULTS, append_row, circumstances

    torch.set_num_threads(1)
    launch_s()
    runs: dict[str, list[tuple[float, float]]] = {"alone": [], "threads": [], "processes": []}
    for _ in range(args.repeats):
        runs["alone"].append((launch_s(), 0.0))
        for kind in ("threads", "processes"):
            runs[kind].append(beside(kind, args.finishers, args.calls_per_mb))
    row: dict[str, Any] = {"benchmark": "interpreter_lock", "finishers": args.finishers, "calls_per_mb": args.calls_per_mb}
    for kind, every in runs.items():
        row |= {f"{kind}_us": [1e6 * seconds / LAUNCHES for seconds, _ in every], f"{kind}_shards_per_s": [n for _, n in every]}
    append_row(args.out or RESULTS, row | circumstances(torch.device("cpu")))
    for kind in runs:
        launches, shards = np.median(row[f"{kind}_us"]), np.median(row[f"{kind}_shards_per_s"])
        print(f"{kind}: {launches:.1f} us a launch, {shards:.1f} shards finished a second")
    return 0


if __name__ == "__main__":
    sys.exit(main())
