"""One simulated run of the driver, and the check that each shard was finished exactly once or given up."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from annotator.genome.plan import plan_shards
from annotator.pipeline.driver.run import Run
from annotator.pipeline.driver.schedule import Key, Schedule
from annotator.pipeline.options import ExecutionOptions
from annotator.scan.options import BATCH_BP
from simulations.scale_setting import Setting
from simulations.scale_workers import Clock, Silent, SimAssembly, SimBackground, SimExecutor


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
