"""Seconds that a run is simulated with: measured here, read from rows of benchmarks, or from a run of the user's."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import pickle
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from annotator.genome.bases import StoredBases
from annotator.genome.contigs import Layout
from annotator.genome.files import FileStamp, GuardedFile
from annotator.genome.plan import PlanOptions, plan_shards
from annotator.genome.shard_input import pick_shard
from annotator.output.parts import publish_part
from annotator.pipeline.driver.schedule import Schedule
from annotator.pipeline.worker.order import ShardResult, WorkerReport
from annotator.results.plan import RunPlan
from annotator.results.workspace import FinishedShard, Workspace
from simulations.scale_setting import HUMAN_MB, PART_BYTES, SHARD_BP, Costs


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
