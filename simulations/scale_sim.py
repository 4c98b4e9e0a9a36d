"""How a run behaves on 1 to 1,000 workers: the driver's own loop and schedule, on a simulated clock with simulated workers.

    python simulations/scale_sim.py                          # the tables of docs/scaling.md, as Markdown
    python simulations/scale_sim.py --shard-seconds run.json --workers 8 64      # with the rate of a run of yours
    python simulations/scale_sim.py --record-ms 10           # where syncing a part and a journal line takes longer

The driver's `Run` works as it is; its clock, its workers, its assemblies and its background thread are simulated.
So what is decided (who gets which shard, what is tried again, when the next assembly is opened) is the product's, and what takes
time is either measured or assumed:

- seconds a shard on a CPU worker, and opening and merging a Mb: from the end-to-end rows of results.jsonl, or --shard-seconds;
- what the driver spends on a lease, a result, a journal line, a turn of its loop: measured here beforehand, Ray's share too;
- 50 Mb/s for a GPU, the workers' start and all disturbances: assumed.

Every run is checked: each shard was finished exactly once or given up, none is lost or still held.
"""

from __future__ import annotations

import argparse
import heapq
import importlib
import itertools
import json
import logging
import os
import pickle
import random
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from annotator.genome.bases import StoredBases
from annotator.genome.contigs import Layout
from annotator.genome.files import FileStamp, GuardedFile
from annotator.genome.plan import PlanOptions, Shard, plan_shards
from annotator.genome.shard_input import pick_shard
from annotator.output.parts import publish_part
from annotator.pipeline.driver.run import Run
from annotator.pipeline.driver.schedule import Key, Schedule
from annotator.pipeline.executors.events import Event, Failed, Finished, Lost, Ready
from annotator.pipeline.executors.machine import Machine
from annotator.pipeline.options import ExecutionOptions, Sample
from annotator.pipeline.worker.order import ShardResult, WorkerReport
from annotator.results.plan import RunPlan
from annotator.results.workspace import FinishedShard, Workspace
from annotator.scan.options import BATCH_BP
from benchmarks.rows import RESULTS, append_row, circumstances

HUMAN_MB = (248.96, 242.19, 198.30, 190.21, 181.54, 170.81, 159.35, 145.14, 138.39, 133.80, 135.09, 133.28, 114.36, 107.04,
            101.99, 90.34, 83.26, 80.37, 58.62, 64.44, 46.71, 50.82, 156.04, 57.23)  # fmt: skip
"""GRCh38, chromosomes 1 to 22, X, Y."""
WHEAT_MB = (810.0,) * 21
LOADS = {"human": (HUMAN_MB, 1), "wheat": (WHEAT_MB, 1), "100 human": (HUMAN_MB, 100)}
WORKERS = (1, 8, 64, 256, 1000)
GPU_MB_PER_S = 50.0
"""An assumption: no GPU has been measured."""
SHARD_BP = 8_000_000
PART_BYTES = 260_000
"""Bytes of the part of a shard of 8 Mb: see docs/scaling.md."""
NODE_WORKERS = 8


@dataclass(frozen=True)
class Costs:
    """Seconds of the driver: measured by `calibrate`, the last two from results.jsonl."""

    lease_s: float = 0.0
    result_s: float = 0.0
    record_s: float = 0.0
    turn_s: float = 0.0
    turn_s_per_worker: float = 0.0
    open_s_per_mb: float = 0.0
    merge_s_per_mb: float = 0.0


@dataclass(frozen=True)
class Disturbances:
    """What goes wrong; all of it is assumed.

    Attributes:
        failures_per_worker_hour: A worker dies.
        losses_per_node_hour: Eight workers die at once.
        restart_s: Until a place can start its next worker.
        notice_s: Until the driver hears of a lost node.
        straggler_share: Share of all workers started that are slow.
        straggler_times: So many times slower.
        hangs: Shards whose first worker never answers.
        poison: Shards that end every worker, half-way.
        bad: Shards that every worker refuses and survives.
    """

    failures_per_worker_hour: float = 0.0
    losses_per_node_hour: float = 0.0
    restart_s: float = 5.0
    notice_s: float = 15.0
    straggler_share: float = 0.0
    straggler_times: float = 1.0
    hangs: int = 0
    poison: int = 0
    bad: int = 0


NONE = Disturbances()
ROUGH = Disturbances(
    failures_per_worker_hour=0.1, losses_per_node_hour=0.01, restart_s=30.0, straggler_share=0.02, straggler_times=4.0,
    hangs=1, poison=1, bad=1,
)  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """A run to simulate.

    Attributes:
        workers: Number of workers.
        assemblies: Contig lengths in bp of each.
        seconds_per_base: Seconds that a worker takes for a base, drawn from for each shard.
        spread: A shard takes up to this share longer or shorter.
        start_s: Until a worker is ready.
        costs: Seconds of the driver.
        helpers: Assemblies that it opens and merges at a time.
        disturbances: What goes wrong.
        seed: Seed of all that is drawn.
        plan: Shape of windows and shards.
    """

    workers: int
    assemblies: tuple[tuple[int, ...], ...]
    seconds_per_base: tuple[float, ...]
    spread: float = 0.1
    start_s: float = 20.0
    costs: Costs = Costs()
    helpers: int = 1
    disturbances: Disturbances = NONE
    seed: int = 1
    plan: PlanOptions = PlanOptions(shard_bp=SHARD_BP)


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


@dataclass(frozen=True)
class Simulated:
    """What came of a run.

    Attributes:
        makespan_s: From the command's start to its end.
        ideal_s: All shards once, without a pause, on all workers.
        scan_s: From the first lease to the last result.
        tail_s: Longest time a worker had nothing to do when the last result came.
        driver_busy: Share of the makespan in which the driver's thread worked.
        background_s: Opening and merging, all together.
        shards: In all.
        retried: Leased more than once.
        given_up: Never finished.
        innocent: Those given up that were neither poison nor bad.
        deaths: Workers lost.
        most_open: Assemblies open at the same time.
    """

    makespan_s: float
    ideal_s: float
    scan_s: float
    tail_s: float
    driver_busy: float
    background_s: float
    shards: int
    retried: int
    given_up: int
    innocent: int
    deaths: int
    most_open: int

    @property
    def efficiency(self) -> float:
        """Ideal over makespan."""
        return self.ideal_s / self.makespan_s


def simulate(setting: Setting) -> Simulated:
    """Run the driver; check that no shard was lost and none was finished twice.

    Raises:
        AssertionError: One was.
    """
    clock = Clock()
    assemblies = [SimAssembly(i, lengths, setting, clock) for i, lengths in enumerate(setting.assemblies)]
    unlucky = _choose_unlucky(setting)
    fated = dict(unlucky)
    executor = SimExecutor(setting, clock, unlucky)
    progress = Silent()
    costs = setting.costs

    def seconds(label: tuple[int, str]) -> float:
        per_mb = costs.open_s_per_mb if label[1] == "open" else costs.merge_s_per_mb
        return per_mb * assemblies[label[0]].bases / 1e6

    def background(threads: int) -> SimBackground:
        executor.background = SimBackground(clock, seconds, threads)
        return executor.background

    stand_ins: Any = assemblies
    simulated: Any = {"task": None, "clock": clock.monotonic, "background": background}
    run = Run(
        stand_ins, executor=executor, execution=ExecutionOptions(), progress=progress, batch_bp=BATCH_BP["cpu"], **simulated
    )
    with _silence():
        run.work()
    _check(assemblies, run.schedule, executor.leases)
    assert executor.background is not None
    last = max(max(a.done.values(), default=0.0) for a in assemblies)
    owned = sum(shard.bases for a in assemblies for shard in a.shards)
    given_up = {(i, shard) for i, a in enumerate(assemblies) for shard in a.failed}
    return Simulated(
        makespan_s=clock.now,
        ideal_s=owned * float(np.mean(setting.seconds_per_base)) / setting.workers,
        scan_s=last - assemblies[0].opened_at,
        tail_s=executor.longest_tail_s(last),
        driver_busy=clock.busy_s / clock.now if clock.now else 0.0,
        background_s=executor.background.total_s,
        shards=sum(len(a.shards) for a in assemblies),
        retried=sum(count > 1 for count in executor.leases.values()),
        given_up=len(given_up),
        innocent=sum(fated.get(key) not in ("poison", "bad") for key in given_up),
        deaths=executor.deaths,
        most_open=progress.most_open,
    )


@contextmanager
def _silence() -> Iterator[None]:
    """Without the driver's log, which is about workers that do not exist."""
    logger = logging.getLogger("annotator")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _choose_unlucky(setting: Setting) -> dict[Key, str]:
    """Fates of the shards that hang, kill or are refused."""
    wrong, rng = setting.disturbances, random.Random(setting.seed)
    fates = ["hangs"] * wrong.hangs + ["poison"] * wrong.poison + ["bad"] * wrong.bad
    if not fates:
        return {}
    counts = [sum(1 for _ in plan_shards(np.array(lengths, np.int64), setting.plan)) for lengths in setting.assemblies]
    keys = [(i, shard) for i, count in enumerate(counts) for shard in range(count)]
    return dict(zip(rng.sample(keys, len(fates)), fates, strict=True))


def _check(assemblies: Sequence[SimAssembly], schedule: Schedule, leases: Counter[Key]) -> None:
    for i, assembly in enumerate(assemblies):
        everything = set(range(len(assembly.shards)))
        assert not set(assembly.done) & set(assembly.failed), f"assembly {i}: shards both done and given up"
        assert set(assembly.done) | set(assembly.failed) == everything, f"assembly {i}: shards lost"
        assert all(leases[i, shard] for shard in everything), f"assembly {i}: a shard nobody worked on"
        assert assembly.result is not None, f"assembly {i} was not merged"
    assert schedule.waiting == schedule.in_flight == 0, "the schedule still holds shards"


# -- what is measured


def calibrate(*, repeats: int = 200, ray: bool = True) -> Costs:
    """Time what the driver does for a shard, on this machine's temporary folder: medians."""
    lengths = np.array([int(mb * 1e6) for mb in HUMAN_MB], np.int64)
    names = [f"chr{i + 1}" for i in range(len(lengths))]
    layout = Layout(np.zeros_like(lengths), np.full_like(lengths, 60), np.full_like(lengths, 61))
    with tempfile.TemporaryDirectory() as scratch:
        bases = StoredBases("genome.fa", lengths, layout, GuardedFile(FileStamp("/data/genome.fa", "genome.fa", 0, 0)), None)
        shards = list(plan_shards(lengths, PlanOptions(shard_bp=SHARD_BP)))
        numbers = itertools.cycle(range(len(shards)))
        data = np.random.default_rng(1).bytes(PART_BYTES)
        answer = ("finished", ((0, 1), ShardResult(data, 3000, "0" * 64, {"bases": 1}), WorkerReport()))
        workspace = Workspace(Path(scratch) / "out")
        plan = RunPlan({f"field {i}": "x" * 40 for i in range(30)})
        workspace.begin(plan)

        def record() -> None:
            shard = next(numbers)
            publish_part(data, workspace.part(shard))
            workspace.record(plan, FinishedShard(shard, 3000, "0" * 64, {"bases": 8_000_000, "donor": 1000}))

        lease_s = _median(lambda: pickle.dumps(((0, 1), pick_shard(shards[next(numbers)], names, bases))), repeats)
        record_s = _median(record, repeats)
        workspace.close()
    one, many = (_median(partial(_turn, _busy_schedule(workers)), repeats) for workers in (1, 1000))
    result_s = _median(lambda: pickle.loads(pickle.dumps(answer)), repeats)  # the worker's part with it: a little too much
    costs = Costs(lease_s, result_s, record_s, one, (many - one) / 999)
    return _with_ray(costs, repeats) if ray else costs


def _busy_schedule(workers: int) -> Schedule:
    schedule = Schedule()
    for worker in range(workers):
        schedule.join(f"w{worker}")
        schedule.add((0, worker), SHARD_BP)
    list(schedule.assign(0.0))
    return schedule


def _turn(schedule: Schedule) -> None:
    """The parts of the driver's loop that look at every worker."""
    list(schedule.assign(1.0))
    schedule.overdue(1.0)
    for _ in range(3):
        schedule.waiting + schedule.in_flight  # noqa: B018


def _with_ray(costs: Costs, repeats: int) -> Costs:
    """Add what Ray takes from the driver: a call, an answer, and two looks at two calls a worker."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray: Any = importlib.import_module("ray")

    ray.init(
        address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
        object_store_memory=100 << 20,
    )  # fmt: skip

    class Echo:
        def answer(self, size: int) -> bytes:
            return bytes(size)

        def never(self) -> None:
            time.sleep(3600)

    actor_class = ray.remote(num_cpus=0, max_concurrency=2)(Echo)
    actor, stuck = actor_class.remote(), actor_class.remote()
    ray.get(actor.answer.remote(1))
    refs = []
    call_s = _median(lambda: refs.append(actor.answer.remote(PART_BYTES)), repeats)
    ray.wait(refs, num_returns=len(refs))
    answers = iter(refs)
    get_s = _median(lambda: ray.get(next(answers)), repeats)
    pending = [stuck.never.remote() for _ in range(2000)] + [ray.put(1)]

    def look() -> None:
        ray.wait(list(dict.fromkeys(pending)), num_returns=1, timeout=0.5)
        ray.wait(list(pending), num_returns=len(pending), timeout=0)

    look_s = _median(look, min(repeats, 20))
    ray.kill(actor)
    ray.kill(stuck)
    ray.shutdown()
    return replace(
        costs, lease_s=costs.lease_s + call_s, result_s=costs.result_s + get_s,
        turn_s_per_worker=costs.turn_s_per_worker + look_s / 1000,
    )  # fmt: skip


def _median(task: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        task()
        times.append(time.perf_counter() - began)
    return sorted(times)[repeats // 2]


def measured_rates(path: Path) -> tuple[float, float, float]:
    """Seconds a Mb of a two-thread CPU worker, of opening and of merging, from the latest float32 rows of `end_to_end.py`."""
    rows = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        if row.get("benchmark") == "end_to_end" and row["precision"] == "float32":
            rows[row["case"]] = row
    small, large = rows["1 x 3 Mb"], rows["1 x 80 Mb"]
    mb, stages = large["bp"] / 1e6, large["stage_s"]
    worker_s = sum(stages[name] for name in ("read", "tokenise", "model", "calls")) / mb
    rest = [row["p50_s"] - sum(row["stage_s"].values()) for row in (small, large)]
    return worker_s, (rest[1] - rest[0]) / (mb - small["bp"] / 1e6), stages["merge"] / mb


def read_shard_seconds(path: Path) -> tuple[float, ...]:
    """Seconds a base of one worker, from a run.json (their mean) or from the lines of `--progress json` (one a shard).

    Raises:
        ValueError: The file says nothing of the kind.
    """
    text = path.read_text()
    lines = [json.loads(line) for line in text.splitlines()] if text.startswith('{"event"') else []
    if not lines:
        run = json.loads(text)
        seconds = sum(spent for stage, spent in run["stage_s"].items() if stage not in ("write", "merge"))
        return (seconds / run["counts"]["bases"],)
    told = [line for line in lines if line["event"] in ("workers", "progress")]
    samples = []
    for before, after in itertools.pairwise(told):
        bases, seconds = after["done_bp"] - before["done_bp"], after["elapsed_s"] - before["elapsed_s"]
        if after["event"] == before["event"] == "progress" and bases and seconds > 0:
            samples.append(seconds * max(1, after["workers"]) / bases)
    if not samples:
        raise ValueError(f"{path}: too short to tell how long a shard takes")
    return tuple(samples)


# -- tables


def duration(seconds: float) -> str:
    """As people say it."""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.1f} s"


def table_row(load: str, workers: int, clean: Simulated, rough: Simulated) -> str:
    cells = (
        load, f"{workers:,}", duration(clean.ideal_s), _with_share(clean.makespan_s, clean.efficiency), duration(clean.tail_s),
        f"{100 * clean.driver_busy:.1f} %", duration(clean.background_s), _with_share(rough.makespan_s, rough.efficiency),
        duration(rough.tail_s), f"{rough.retried:,}", f"{rough.given_up:,}",
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _with_share(seconds: float, efficiency: float) -> str:
    return f"{duration(seconds)} ({100 * efficiency:.2g} %)"


HEAD = (
    "| | workers | ideal | undisturbed: makespan (efficiency) | longest idle tail | driver busy | opening and merging "
    "| disturbed: makespan (efficiency) | longest idle tail | shards retried | given up |\n" + "|---" * 11 + "|"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS)
    parser.add_argument("--loads", nargs="+", choices=LOADS, default=list(LOADS))
    parser.add_argument("--shard-seconds", type=Path, help="run.json, or the lines of --progress json, of a run of one's own")
    parser.add_argument("--mb-per-s", type=float, help="of a worker; in place of a measured CPU worker and an assumed GPU")
    parser.add_argument("--start-s", type=float, default=20.0, help="until a worker is ready (assumed)")
    parser.add_argument("--helpers", type=int, default=8, help="assemblies that the driver opens and merges at a time")
    parser.add_argument("--record-ms", type=float, help="publish a part and journal it; measured here by default")
    parser.add_argument("--spread", type=float, default=0.1, help="shards take up to this share longer or shorter")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-ray", action="store_true", help="costs of local processes")
    parser.add_argument("--quick", action="store_true", help="tries the script: few workers, one small load")
    parser.add_argument("--out", type=Path, default=RESULTS, help="rows are appended here")
    args = parser.parse_args(argv)
    cpu_s_per_mb, open_s_per_mb, merge_s_per_mb = measured_rates(RESULTS)
    if args.shard_seconds:
        rates = {f"{args.shard_seconds.name}": read_shard_seconds(args.shard_seconds)}
    elif args.mb_per_s:
        rates = {f"{args.mb_per_s:g} Mb/s, as given": (1e-6 / args.mb_per_s,)}
    else:
        rates = {
            f"{1 / cpu_s_per_mb:.2f} Mb/s: two CPU cores, measured": (cpu_s_per_mb / 1e6,),
            f"{GPU_MB_PER_S:g} Mb/s: a GPU, assumed": (1e-6 / GPU_MB_PER_S,),
        }
    loads = {name: LOADS[name] for name in args.loads}
    if args.quick:
        loads, args.workers = {"a tenth of human": (tuple(mb / 10 for mb in HUMAN_MB), 2)}, [1, 8]
    costs = calibrate(repeats=20 if args.quick else 200, ray=not (args.no_ray or args.quick))
    costs = replace(costs, open_s_per_mb=open_s_per_mb, merge_s_per_mb=merge_s_per_mb)
    if args.record_ms is not None:
        costs = replace(costs, record_s=args.record_ms / 1e3)
    told = ", ".join(f"{name.removesuffix('_s')} {1e3 * value:.3g} ms" for name, value in asdict(costs).items())
    print(f"driver: {told}\n\ndisturbed: {ROUGH}")
    where = circumstances(torch.device("cpu"))
    for rate, seconds_per_base in rates.items():
        print(f"\n{rate}\n\n{HEAD}", flush=True)
        for load, (lengths_mb, count) in loads.items():
            lengths = tuple(int(mb * 1e6) for mb in lengths_mb)
            for workers in args.workers:
                found = {}
                for name, wrong in (("undisturbed", NONE), ("disturbed", ROUGH)):
                    setting = Setting(
                        workers, (lengths,) * count, seconds_per_base, args.spread, args.start_s, costs, args.helpers, wrong,
                        args.seed,
                    )  # fmt: skip
                    found[name] = one = simulate(setting)
                    append_row(args.out, {
                        "benchmark": "scale_sim", "load": load, "workers": workers, "rate": rate, "run": name,
                        **asdict(one), "efficiency": one.efficiency, "start_s": args.start_s, "helpers": args.helpers,
                        "spread": args.spread, "seed": args.seed, "costs": asdict(costs), "disturbances": asdict(wrong), **where,
                    })  # fmt: skip
                print(table_row(load, workers, found["undisturbed"], found["disturbed"]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
