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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import psutil

from annotator.example.genome import write_example
from annotator.files import file_sha256

ROOT = Path(__file__).parents[1]
LOCAL = ("worker-kill", "worker-stop", "driver-kill", "signal")
KINDS = (*LOCAL, "ray-private", "ray-actor", "ray-node", "ray-driver")
ON_CLUSTER = ("ray-actor", "ray-node", "ray-driver")
ON_DRIVER = ("driver-kill", "signal", "ray-private", "ray-driver")
SIGNALS = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGUSR1: 143}
GENOME_BP = 600_000
NODES = 2
STORE_BYTES = 100 << 20
HEALTH = {
    "health_check_period_ms": 500, "health_check_timeout_ms": 500, "health_check_failure_threshold": 3,
    "health_check_initial_delay_ms": 0,
}  # fmt: skip
"""A node that is gone is missed within two seconds instead of fifteen."""
MOST_COMMANDS = 9
RUN_MARK, MARK = "CHAOS_RUN", "CHAOS"
"""In the environment of every process of a run, and of all runs with their cluster."""
GONE_S = 30.0
TOY = (
    "import sys\nfrom functools import partial\nfrom tests.support.toy_task import ToyTask\n"
    "if __name__ == '__main__':\n    from annotator.cli.app import main\n"
    "    sys.exit(main(sys.argv[1:], task=partial(ToyTask, pace_s=0.08)))\n"
)


class Wrong(Exception):
    """A run did not end as it must."""


@dataclass(frozen=True)
class Subject:
    """The command whose runs are disturbed."""

    program: list[str]
    arguments: list[str]
    shard_timeout_s: float

    def command(self, out: Path, *more: object) -> list[str]:
        return [*self.program, "annotate", *self.arguments, "-o", str(out), *map(str, more)]


@dataclass
class Run:
    """One disturbed run: the command, given again and again until it is done."""

    subject: Subject
    kind: str
    folder: Path
    rng: random.Random
    timeout_s: float
    cluster: Any = None
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    kills: list[str] = field(default_factory=list)
    pids: list[int] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def work(self, shards: int) -> None:
        """Disturb, and repeat the command, until it ends with 0.

        Raises:
            Wrong: It took too long, or ended in a way it should not.
        """
        deadline = time.monotonic() + self.timeout_s
        more = self._options()
        moments = sorted(
            self.rng.randint(0 if self.kind in ON_DRIVER else 1, shards) for _ in range(self.rng.choice([1, 1, 2, 3]))
        )
        for number in range(MOST_COMMANDS):
            allowed = self._start(number, more)
            while moments and self._reach(moments[0], deadline):
                moments.pop(0)
                allowed |= self._disturb(deadline)
                if self.kind in ON_DRIVER:
                    break
            try:
                code = self._running.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise Wrong(f"not done after {self.timeout_s:.0f} s: {self._last_words(number)}") from None
            if code not in allowed:
                raise Wrong(f"command {number + 1} ended with {code}: {self._last_words(number)}")
            if code == 0:
                return
        raise Wrong(f"not done after {MOST_COMMANDS} commands")

    def _options(self) -> list[object]:
        if self.kind in ON_CLUSTER:
            return ["--ray", self.cluster.address]
        if self.kind == "ray-private":
            return ["--ray", "local", "--workers", 1]
        if self.kind == "worker-stop":
            return ["--workers", 2, "--shard-timeout", self.subject.shard_timeout_s]
        return ["--workers", 2 if self.kind == "worker-kill" else self.rng.choice([0, 2])]

    def _start(self, number: int, more: Sequence[object]) -> set[int]:
        path = f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"
        env = os.environ | {RUN_MARK: self.token, "PYTHONPATH": path, "PYTHONFAULTHANDLER": "1"}
        with (self.folder / f"log{number}.txt").open("wb") as log:
            self.process = subprocess.Popen(
                self.subject.command(self.out, *more), stdout=log, stderr=log, env=env, start_new_session=True
            )
        self.pids.append(self.process.pid)
        return {0}

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self.process is not None
        return self.process

    def _reach(self, lines: int, deadline: float) -> bool:
        """Wait until so many shards are journalled, and a little longer; False where the command ended before."""
        if not self._wait_until(lambda: journalled(self.out) >= lines, deadline):
            return False
        time.sleep(self.rng.uniform(0, 3.0 if lines == 0 else 0.5))
        return self._running.poll() is None

    def _wait_until(self, condition: Callable[[], bool], deadline: float) -> bool:
        while time.monotonic() < deadline and self._running.poll() is None:
            if condition():
                return True
            time.sleep(0.01)
        return False

    def _disturb(self, deadline: float) -> set[int]:
        """Hit a victim; the exit codes that are then allowed beside 0."""
        if self.kind == "signal" or (self.kind == "ray-private" and self.rng.random() < 0.5):
            sign = self.rng.choice(sorted(SIGNALS))
            self.kills.append(signal.Signals(sign).name)
            whole_group = sign == signal.SIGINT and self.rng.random() < 0.5  # as Ctrl-C does
            (os.killpg if whole_group else os.kill)(self._running.pid, sign)
            return {SIGNALS[sign], -sign}  # the latter while Python still starts
        if self.kind in ON_DRIVER:
            self.kills.append("driver")
            self._running.kill()
            return {-signal.SIGKILL}
        if self.kind == "ray-node":
            self._take_a_node_away()
            return set()
        find = actors if self.kind == "ray-actor" else self._workers
        if self._wait_until(lambda: bool(find()), deadline):
            victim = self.rng.choice(sorted(find(), key=lambda process: process.pid))
            self.kills.append("actor" if self.kind == "ray-actor" else "worker")
            victim.send_signal(signal.SIGSTOP if self.kind == "worker-stop" else signal.SIGKILL)
        return set()

    def _take_a_node_away(self) -> None:
        nodes = sorted(self.cluster.worker_nodes, key=lambda node: str(node.node_id))
        self.cluster.remove_node(self.rng.choice(nodes), allow_graceful=False)
        self.kills.append("node")
        time.sleep(self.rng.uniform(0, 3.0))
        fill(self.cluster)

    def _workers(self) -> list[psutil.Process]:
        return [process for process in descendants(self._running.pid) if any("spawn_main" in word for word in words(process))]

    def _last_words(self, number: int) -> str:
        lines = (self.folder / f"log{number}.txt").read_text(errors="replace").splitlines()
        return " / ".join(lines[-6:])

    def check(self, expected: dict[str, str]) -> None:
        """Compare the results, and look for what is left.

        Raises:
            Wrong: Something is.
        """
        found = hashes(self.out)
        if different := [name for name in sorted(expected.keys() | found.keys()) if expected.get(name) != found.get(name)]:
            raise Wrong(f"not the bytes of an undisturbed run: {', '.join(different)}")
        told = json.loads((self.out / "run.json").read_text())
        if told["exit_status"] != 0 or told["failed_shards"]:
            raise Wrong(f"run.json tells of failed shards: {told['failed_shards']}")
        if left := [path for path in self.out.rglob("*") if path.name.startswith((".tmp-", ".annotator"))]:
            raise Wrong(f"left behind: {', '.join(map(str, left))}")
        for what, find in (("processes", self._left_processes), ("folders", self._left_folders)):
            if still := what_stays(find):
                raise Wrong(f"{what} left behind: {still}")

    def _left_processes(self) -> list[str]:
        return names(marked(self.token) + (actors() if self.kind in ON_CLUSTER else []))

    def _left_folders(self) -> list[str]:
        parent = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
        return [str(path) for pid in self.pids for path in parent.glob(f"annotator-ray-{pid}-*")]

    def end(self) -> None:
        """Whatever happened, nothing of this run lives on."""
        for process in marked(self.token):
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        if self.process is not None:
            self.process.wait()


def what_stays(find: Callable[[], list[str]]) -> list[str]:
    """What is found still after some patience."""
    deadline = time.monotonic() + GONE_S
    while (still := find()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return still


def names(processes: list[psutil.Process]) -> list[str]:
    """For messages."""
    return [" ".join(words(process))[:120] or str(process.pid) for process in processes]


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of all result files but run.json."""
    return {path.name: file_sha256(path) for path in folder.iterdir() if path.is_file() and path.name != "run.json"}


def journalled(out: Path) -> int:
    """Finished shards of a run that is not."""
    try:
        return (out / ".annotator" / "journal.jsonl").read_bytes().count(b"\n")
    except OSError:
        return 0


def words(process: psutil.Process) -> list[str]:
    """A process's command line; empty where it is gone or a zombie."""
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def descendants(pid: int) -> list[psutil.Process]:
    """A process's children and theirs."""
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def actors() -> list[psutil.Process]:
    """Processes of our cluster that hold one of the product's workers."""
    return [process for process in descendants(os.getpid()) if any(word.startswith("ray::RayWorker") for word in words(process))]


def marked(token: str, mark: str = RUN_MARK) -> list[psutil.Process]:
    """Living processes that a run started, however their parents ended."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(mark) == token and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


class Cluster:
    """A Ray cluster of two nodes and a head without room for work, started when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: Any = None

    def get(self) -> Any:
        if self._running is None:
            os.environ |= {
                "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0",
                "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}",
            }  # fmt: skip
            from ray.cluster_utils import Cluster as RayCluster

            head = {
                "num_cpus": 0, "object_store_memory": STORE_BYTES, "include_dashboard": False, "_system_config": HEALTH,
                "temp_dir": str(self._folder),
            }  # fmt: skip
            self._running = RayCluster(initialize_head=True, head_node_args=head)
        fill(self._running)
        return self._running

    def shutdown(self) -> None:
        if self._running is not None:
            self._running.shutdown()


def fill(cluster: Any) -> None:
    """Add the nodes that are missing."""
    while len(cluster.worker_nodes) < NODES:
        cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
    signal.signal(signal.SIGTERM, _end)  # Ray has put its own in place


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
    signal.signal(signal.SIGTERM, _end)
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


def _end(*_: object) -> NoReturn:
    sys.exit(143)


if __name__ == "__main__":
    sys.exit(main())
