"""What a simulated run is made of: its load, its workers, the seconds of its driver and what goes wrong."""

from __future__ import annotations

from dataclasses import dataclass

from annotator.genome.plan import PlanOptions

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
