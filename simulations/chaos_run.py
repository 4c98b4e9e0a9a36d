"""One disturbed run: a command whose processes are hit at random moments, given again until it is done, and checked."""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from simulations.chaos_cluster import ROOT, fill
from simulations.chaos_processes import RUN_MARK, actors, descendants, hashes, journalled, marked, names, what_stays, words

LOCAL = ("worker-kill", "worker-stop", "driver-kill", "signal")
KINDS = (*LOCAL, "ray-private", "ray-actor", "ray-node", "ray-driver")
ON_CLUSTER = ("ray-actor", "ray-node", "ray-driver")
ON_DRIVER = ("driver-kill", "signal", "ray-private", "ray-driver")
SIGNALS = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGUSR1: 143}
MOST_COMMANDS = 9


class Wrong(Exception):
    """A run did not end as it must."""


@dataclass(frozen=True)
class Subject:
    """The command whose runs are disturbed."""

    program: list[str]
    arguments: list[str]
    shard_timeout_s: float

    def command(self, out: Path, *more: object) -> list[str]:
        return [*self.program, "annotate", *self.arguments, "-o", str(out), "--no-report", *map(str, more)]


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
