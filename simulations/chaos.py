"""Kill, stop and signal runs at random moments: each must end with the bytes of an undisturbed run and leave nothing behind.

    python simulations/chaos.py                               # 50 runs of the bundled model on a generated genome
    python simulations/chaos.py --toy --runs 9 --kinds worker-kill driver-kill signal
    python simulations/chaos.py --seed 7 --only 12            # run 12 of seed 7 again, alone

A run's kind, moments and victims follow from the seed and its number; when exactly a process is hit is up to the machine. A
moment is a number of lines in the journal of finished shards, and a little later. Kinds:

- worker-kill, worker-stop: SIGKILL a local worker process; SIGSTOP one, with --shard-timeout.
- driver-kill, signal: SIGKILL the command, or send it SIGTERM, SIGINT or SIGUSR1; then give the same command until it is done.
- ray-private: the same to a command with a Ray of its own (--ray local).
- ray-actor, ray-node, ray-driver: SIGKILL an actor, take a node away, SIGKILL the command of a run on a cluster of two nodes.

Compared is the sha256 of every result file but run.json with those of a run in one process. A result folder may hold no
temporary file and no state, no process that the run started may live on, nor a folder of a private Ray.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from annotator.example.genome import write_example
from simulations.chaos_cluster import ROOT, Cluster, end_with_143
from simulations.chaos_processes import MARK, hashes, marked, names, what_stays
from simulations.chaos_run import KINDS, ON_CLUSTER, Run, Subject, Wrong

GENOME_BP = 600_000
TOY = (
    "import sys\nfrom functools import partial\nfrom tests.support.toy_task import ToyTask\n"
    "if __name__ == '__main__':\n    from annotator.cli.app import main\n"
    "    sys.exit(main(sys.argv[1:], task=partial(ToyTask, pace_s=0.08)))\n"
)


def prepare(folder: Path, *, toy: bool) -> tuple[Subject, dict[str, str], int]:
    """The command, its undisturbed results, and the number of its shards."""
    if toy:
        from tests.support.detector import write_detector
        from tests.support.toy_runs import SHARD_BP, toy_genome

        fasta, model = toy_genome(folder / "g.fa"), write_detector(folder / "model")
        options = ["--model", str(model), "--shard-bp", str(SHARD_BP)]
        program = [sys.executable, "-c", TOY]
    else:
        fasta = write_example(folder / "genome", seed=1, length_bp=GENOME_BP).fasta
        options = ["--shard-bp", "100000"]
        program = [shutil.which("annotator") or str(Path(sys.executable).with_name("annotator"))]
    subject = Subject(program, [str(fasta), *options, "--tasks", "splice", "-t", "1", "--device", "cpu"], 2.0 if toy else 10.0)
    out = folder / "undisturbed"
    env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"}
    done = subprocess.run(subject.command(out), env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"the undisturbed run failed:\n{done.stderr}")
    run = json.loads((out / "run.json").read_text())
    rows = run["files"]["predictions.parquet"]["rows"]
    print(f"undisturbed: {len(run['shards'])} shards, {rows:,} calls, {len(hashes(out))} files", flush=True)
    return subject, hashes(out), len(run["shards"])


def kind_of(number: int, kinds: Sequence[str], seed: int) -> str:
    """Every kind once, in some order, then every kind once more."""
    turn, place = divmod(number, len(kinds))
    return random.Random(f"{seed} {turn}").sample(list(kinds), len(kinds))[place]


def one_run(
    number: int,
    kind: str,
    args: argparse.Namespace,
    folder: Path,
    cluster: Cluster,
    prepared: tuple[Subject, dict[str, str], int],
) -> tuple[list[str], str]:
    """(What was hit, what is wrong) of one run; one that ended before it was hit is done again."""
    subject, expected, shards = prepared
    for attempt in range(3):
        place = folder / f"run{number}.{attempt}"
        place.mkdir()
        rng = random.Random(f"{args.seed} {number} {attempt}")
        run = Run(subject, kind, place, rng, args.run_timeout, cluster.get() if kind in ON_CLUSTER else None)
        try:
            run.work(max(1, shards >> attempt))
            run.check(expected)
        except Wrong as wrong:
            return run.kills, f"{wrong} (see {place})"
        finally:
            run.end()
        shutil.rmtree(place)
        if run.kills:
            return run.kills, ""
    return [], "three times the run ended before it was hit"


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that stays where a run in it went wrong."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        yield folder
    finally:
        if not list(folder.glob("run*")):
            shutil.rmtree(folder)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 1 where a run went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--only", type=int, help="this run alone, counted from 1")
    parser.add_argument("--toy", action="store_true", help="the toy stage of the tests in place of the model")
    parser.add_argument("--minutes", type=float, default=40.0, help="no run begins later than this")
    parser.add_argument("--run-timeout", type=float, default=180.0, help="seconds for a run with all its repetitions")
    parser.add_argument("--out", type=Path, help="a summary row is appended here")
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, end_with_143)
    began = time.monotonic()
    os.environ[MARK] = token = secrets.token_hex(8)
    seconds: defaultdict[str, float] = defaultdict(float)
    runs, hits, wrong = Counter[str](), Counter[str](), Counter[str]()
    with scratch() as folder:
        cluster = Cluster(folder / "ray")
        try:
            prepared = prepare(folder, toy=args.toy)
            for number in range(args.runs):
                if args.only not in (None, number + 1):
                    continue
                if time.monotonic() - began > 60 * args.minutes:
                    print(f"time is up after {number} of {args.runs} runs")
                    break
                kind, start = kind_of(number, args.kinds, args.seed), time.monotonic()
                kills, fault = one_run(number + 1, kind, args, folder, cluster, prepared)
                took = time.monotonic() - start
                runs[kind], hits[kind], wrong[kind] = runs[kind] + 1, hits[kind] + len(kills), wrong[kind] + bool(fault)
                seconds[kind] += took
                print(f"{number + 1:3} {kind:11} {','.join(kills) or '-':28} {took:6.1f} s  {fault or 'ok'}", flush=True)
        finally:
            cluster.shutdown()
            left = what_stays(lambda: names([each for each in marked(token, MARK) if each.pid != os.getpid()]))
    total, bad = sum(runs.values()), sum(wrong.values())
    print(f"seed {args.seed}: {total - bad} of {total} runs ok, {sum(hits.values())} kills, {time.monotonic() - began:.0f} s")
    if left:
        print(f"processes left behind: {left}")
    if args.out:
        import torch

        from benchmarks.rows import append_row, circumstances

        by_kind = {
            kind: {"runs": runs[kind], "kills": hits[kind], "wrong": wrong[kind], "s": round(seconds[kind], 1)}
            for kind in sorted(runs)
        }
        append_row(args.out, {
            "benchmark": "chaos", "model": "toy" if args.toy else "compact", "genome_bp": None if args.toy else GENOME_BP,
            "shards": prepared[2], "seed": args.seed, "runs": total, "ok": total - bad, "kills": sum(hits.values()),
            "by_kind": by_kind, "seconds": round(time.monotonic() - began, 1), **circumstances(torch.device("cpu")),
        })  # fmt: skip
    return 1 if bad or left else 0


if __name__ == "__main__":
    sys.exit(main())
