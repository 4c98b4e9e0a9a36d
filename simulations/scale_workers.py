"""Stand-ins for what the driver works with: its clock, assemblies, background thread, workers and progress."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from annotator.genome.plan import Shard, plan_shards
from annotator.pipeline.driver.schedule import Key
from annotator.pipeline.executors.events import Event, Failed, Finished, Lost, Ready
from annotator.pipeline.executors.machine import Machine
from annotator.pipeline.options import Sample
from simulations.scale_setting import NODE_WORKERS, Setting


@dataclass
class Clock:
    """Stands in for the driver's clock."""

    now: float = 0.0
    busy_s: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def charge(self, seconds: float) -> None:
        """The driver's thread works."""
        self.now += seconds
        self.busy_s += seconds


class SimAssembly:
    """An `Assembly` without files."""

    def __init__(self, index: int, lengths: tuple[int, ...], setting: Setting, clock: Clock) -> None:
        self.sample = Sample(f"{index}.fa", Path(), str(index))
        self.bases = sum(lengths)
        self.result: dict[str, int] | None = None
        self.shards: list[Shard] = []
        self.done: dict[int, float] = {}
        self.failed: dict[int, str] = {}
        self.opened_at = self.finished_at = float("nan")
        self._lengths, self._setting, self._clock = np.array(lengths, np.int64), setting, clock

    def open(self, tick: object = None) -> None:
        self.shards = list(plan_shards(self._lengths, self._setting.plan))
        self.opened_at = self._clock.now

    def announce(self) -> None:
        pass

    def finish(self, tick: object = None) -> None:
        self.result = {"exit_status": 4 if self.failed else 0}
        self.finished_at = self._clock.now

    @property
    def todo(self) -> list[Shard]:
        return [shard for shard in self.shards if shard.index not in self.done and shard.index not in self.failed]

    @property
    def complete(self) -> bool:
        return len(self.done) + len(self.failed) == len(self.shards)

    def input(self, shard: int, *, staged: bool = False) -> Any:
        self._clock.charge(self._setting.costs.lease_s)
        return SimpleNamespace(bases=self.shards[shard].bases, place=f"shard {shard}")

    def record(self, shard: int, result: object, worker: str, report: object) -> None:
        assert shard not in self.done and shard not in self.failed, f"shard {shard} was finished twice"
        self._clock.charge(self._setting.costs.record_s)
        self.done[shard] = self._clock.now

    def give_up(self, shard: int, reason: str) -> None:
        assert shard not in self.done and shard not in self.failed, f"shard {shard} was given up twice"
        self.failed[shard] = reason

    def close(self) -> None:
        pass

    forget = close


class SimBackground:
    """A `Background` whose tasks take as long as they are said to; as many go on at a time as it has threads."""

    def __init__(self, clock: Clock, seconds: Callable[[Any], float], threads: int) -> None:
        self._clock, self._seconds, self._threads = clock, seconds, threads
        self._queue: list[tuple[float, int, Any, Any]] = []
        self._done: deque[Any] = deque()
        self._order = itertools.count()
        self._free_at = [0.0] * threads
        self.total_s = 0.0

    def run(self, label: Any, task: Any, *, here: bool) -> None:
        seconds = self._seconds(label)
        self.total_s += seconds
        if here and not self.busy:
            self._clock.now += seconds
            task(None)
            self._done.append(label)
            return
        end = max(heapq.heappop(self._free_at), self._clock.now) + seconds
        heapq.heappush(self._free_at, end)
        heapq.heappush(self._queue, (end, next(self._order), label, task))

    @property
    def has_room(self) -> bool:
        return len(self._queue) < self._threads

    @property
    def busy(self) -> bool:
        return bool(self._queue or self._done)

    def done(self) -> list[tuple[Any, None]]:
        while self._queue and self._queue[0][0] <= self._clock.now:
            _, _, label, task = heapq.heappop(self._queue)
            task(None)
            self._done.append(label)
        ended, self._done = [(label, None) for label in self._done], deque()
        return ended

    def wait(self, timeout_s: float) -> None:
        if self._queue and not self._done:
            self._clock.now = min(self._clock.now + timeout_s, max(self._clock.now, self._queue[0][0]))

    def stop(self) -> None:
        pass


@dataclass(eq=False)
class SimWorker:
    """A worker: what it was given, and since when it has nothing to do."""

    name: str
    place: int
    times: float
    inbox: deque[tuple[float, Key, int]] = field(default_factory=deque)
    ready: bool = False
    working: bool = False
    hangs: bool = False
    idle_since: float = 0.0


class SimExecutor:
    """An `Executor` of simulated workers."""

    replaces_workers = True

    def __init__(self, setting: Setting, clock: Clock, unlucky: dict[Key, str]) -> None:
        self._setting, self._clock, self._unlucky = setting, clock, unlucky
        self._random = random.Random(setting.seed)
        self._workers: dict[str, SimWorker] = {}
        self._free: list[tuple[float, int]] = [(0.0, place) for place in range(setting.workers)]
        self._coming: list[tuple[float, int, Callable[[], None]]] = []
        self._news: list[Event] = []
        self._order = itertools.count()
        self.leases: Counter[Key] = Counter()
        self._when = 0.0
        self._wanted = self.deaths = 0
        self.background: SimBackground | None = None

    # -- what the driver sees

    @property
    def starts_early(self) -> bool:
        return False

    depth = 2

    @property
    def helpers(self) -> int:
        return self._setting.helpers

    def machine(self, device: str) -> Machine:
        return Machine("cpu")

    def start(self, task: object) -> None:
        self._next_loss()

    def want(self, pieces: int) -> int:
        self._wanted = pieces
        while self._free and self._free[0][0] <= self._clock.now and len(self._workers) < pieces:
            self._spawn(heapq.heappop(self._free)[1])
        return len(self._workers)

    def submit(self, worker: str, key: Key, work: Any) -> None:
        self.leases[key] += 1
        if (running := self._workers.get(worker)) is not None:
            running.inbox.append((self._clock.now, key, work.bases))
            if not running.working and len(running.inbox) == 1:
                self._begin(running)

    def wait(self, timeout_s: float) -> list[Event]:
        costs, clock = self._setting.costs, self._clock
        clock.charge(costs.turn_s + costs.turn_s_per_worker * len(self._workers))
        self._happen(clock.now)
        if not self._news:
            # where no deadline can pass and nothing is opened or merged, the turns between are alike
            hangs = any(worker.hangs for worker in self._workers.values())
            missing = self._free and len(self._workers) < self._wanted
            alike = self._coming and not (hangs or missing or (self.background and self.background.busy))
            until = max(clock.now, self._coming[0][0]) if alike else clock.now + timeout_s
            while not self._news and self._coming and self._coming[0][0] <= until:
                clock.now = max(clock.now, self._coming[0][0])
                self._happen(clock.now)
            if not self._news:
                clock.now = max(clock.now, until)
        told, self._news = self._news, []
        clock.charge(costs.result_s * sum(isinstance(event, Finished) for event in told))
        return told

    def kill(self, worker: str, reason: str, *, blame: bool) -> None:
        if (running := self._workers.get(worker)) is not None:
            self._die(running, reason, self._clock.now, blame=blame)

    def close(self) -> None:
        pass

    # -- what happens

    def _at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._coming, (when, next(self._order), what))

    def _happen(self, now: float) -> None:
        while self._coming and self._coming[0][0] <= now:
            when, _, what = heapq.heappop(self._coming)
            self._when = when
            what()

    def _spawn(self, place: int) -> None:
        wrong, now = self._setting.disturbances, self._clock.now
        times = wrong.straggler_times if self._random.random() < wrong.straggler_share else 1.0
        worker = SimWorker(f"w{next(self._order)}", place, times)
        self._workers[worker.name] = worker
        start_s = self._setting.start_s * (1 + self._setting.spread * self._random.uniform(-1, 1))
        self._at(now + start_s, lambda: self._join(worker))
        if wrong.failures_per_worker_hour:
            life = self._random.expovariate(wrong.failures_per_worker_hour / 3600)
            self._at(now + life, lambda: self._die(worker, "the worker was ended by SIGKILL", self._when))

    def _join(self, worker: SimWorker) -> None:
        if worker.name in self._workers:
            worker.ready, worker.idle_since = True, self._when
            self._news.append(Ready(worker.name))

    def _begin(self, worker: SimWorker) -> None:
        arrived, key, bases = worker.inbox[0]
        worker.working = True
        began = max(arrived, worker.idle_since)
        rate = self._random.choice(self._setting.seconds_per_base)
        seconds = bases * rate * worker.times * (1 + self._setting.spread * self._random.uniform(-1, 1))
        fate = self._unlucky.get(key, "")
        if fate == "hangs":
            self._unlucky[key] = "hung"
            worker.hangs = True
        elif fate == "poison":
            self._at(began + seconds / 2, lambda: self._die(worker, "the worker was ended by SIGSEGV", self._when))
        else:  # also one that hung in another worker
            self._at(began + seconds, lambda: self._end(worker, key, failed=fate == "bad"))

    def _end(self, worker: SimWorker, key: Key, *, failed: bool) -> None:
        if worker.name not in self._workers:
            return
        worker.inbox.popleft()
        worker.working, worker.idle_since = False, self._when
        if failed:
            self._news.append(Failed(worker.name, key, ValueError("bad window")))
        else:
            self._news.append(Finished(worker.name, key, None))
        if worker.inbox:
            self._begin(worker)

    def _die(self, worker: SimWorker, reason: str, when: float, *, blame: bool = True, notice_s: float = 0.0) -> None:
        if self._workers.pop(worker.name, None) is None:
            return
        self.deaths += 1
        heapq.heappush(self._free, (when + notice_s + self._setting.disturbances.restart_s, worker.place))
        if worker.ready:
            lost = Lost(worker.name, reason, blame)
            self._at(when + notice_s, lambda: self._news.append(lost))

    def _next_loss(self) -> None:
        nodes = -(-self._setting.workers // NODE_WORKERS)
        if rate := self._setting.disturbances.losses_per_node_hour * nodes:
            node = self._random.randrange(nodes)
            self._at(self._clock.now + self._random.expovariate(rate / 3600), lambda: self._lose(node))

    def _lose(self, node: int) -> None:
        for worker in [w for w in self._workers.values() if w.place // NODE_WORKERS == node]:
            self._die(worker, f"node {node} is gone", self._when, blame=False, notice_s=self._setting.disturbances.notice_s)
        self._next_loss()

    def longest_tail_s(self, last: float) -> float:
        """How long a worker had had nothing to do when the last result came."""
        return max((last - worker.idle_since for worker in self._workers.values() if worker.ready), default=0.0)


class Silent:
    """A `Progress` that counts the assemblies in memory."""

    def __init__(self) -> None:
        self.open = self.most_open = 0

    def add(self, total_bp: int, done_bp: int) -> None:
        self.open += 1
        self.most_open = max(self.most_open, self.open)

    def finished(self, name: str, exit_code: int) -> None:
        self.open -= 1

    def _ignore(self, *values: object, **options: object) -> None:
        pass

    start = workers = advance = drop = stop = _ignore
