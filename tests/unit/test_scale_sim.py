"""The simulated run: cases that can be worked out by hand, and what no disturbance may break."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from annotator.genome.plan import PlanOptions
from annotator.pipeline.driver.schedule import DEADLINE_FACTOR, LEAST_DEADLINE_S, Schedule
from simulations import scale_costs, scale_run, scale_sim
from simulations.scale_run import simulate
from simulations.scale_setting import Costs, Disturbances, Setting
from simulations.scale_workers import Clock, SimAssembly

PLAN = PlanOptions(shard_bp=8_000_000)
SHARD_BP = round(8_000_000 / PLAN.core_bp) * PLAN.core_bp
SHARD_S = 10.0
START_S = 20.0


def setting(workers: int, shards: int, assemblies: int = 1, **more: Any) -> Setting:
    """Shards of one length that all take ten seconds, driven by a driver that takes no time."""
    given: dict[str, Any] = {"spread": 0.0, "start_s": START_S, **more}
    return Setting(workers, ((SHARD_BP,) * shards,) * assemblies, (SHARD_S / SHARD_BP,), **given)


@pytest.mark.parametrize(("workers", "shards"), [(1, 1), (1, 7), (7, 7), (3, 7), (4, 8), (8, 3), (64, 640)])
def test_equal_shards_take_as_many_rounds_as_they_must(workers: int, shards: int) -> None:
    found = simulate(setting(workers, shards))
    rounds = -(-shards // workers)
    assert found.makespan_s == pytest.approx(START_S + rounds * SHARD_S)
    assert found.ideal_s == pytest.approx(shards * SHARD_S / workers)
    assert found.tail_s == pytest.approx(SHARD_S if shards % workers and shards > workers else 0.0)
    assert (found.shards, found.retried, found.given_up, found.deaths) == (shards, 0, 0, 0)


def test_the_driver_opens_and_merges_before_and_after() -> None:
    mb = 4 * SHARD_BP / 1e6
    found = simulate(setting(2, 4, costs=Costs(open_s_per_mb=1.0, merge_s_per_mb=2.0)))
    assert found.background_s == pytest.approx(3 * mb)
    assert found.makespan_s == pytest.approx(START_S + 2 * SHARD_S + 3 * mb)


def test_the_drivers_time_for_each_shard_adds_up() -> None:
    found = simulate(setting(1, 3, costs=Costs(lease_s=1.0, result_s=0.25, record_s=0.75)))
    # the second and third lease follow the first at once, while the worker is busy; so do the first two results
    assert found.driver_busy * found.makespan_s == pytest.approx(3 * 2.0)
    assert START_S + 3 * SHARD_S + 1 + 1 <= found.makespan_s <= START_S + 3 * SHARD_S + 6


def test_one_assembly_is_merged_while_another_is_scanned() -> None:
    costs = Costs(merge_s_per_mb=1e6 / SHARD_BP)  # a second for each shard
    found = simulate(setting(1, 10, assemblies=3, costs=costs))
    assert found.background_s == pytest.approx(30.0)
    assert found.makespan_s == pytest.approx(START_S + 30 * SHARD_S + 10.0, abs=1.0)  # only the last merge is waited for


def test_background_that_takes_longer_than_the_scan_is_the_limit() -> None:
    costs = Costs(open_s_per_mb=4e6 / SHARD_BP)  # 4 s of opening a shard; 10 s of scanning on 16 workers
    found = simulate(setting(16, 10, assemblies=20, costs=costs))
    assert 20 * 40.0 <= found.makespan_s < 20 * 40.0 + START_S + 3 * SHARD_S


def test_a_poison_and_a_bad_shard_are_given_up_and_nothing_else() -> None:
    found = simulate(setting(4, 50, disturbances=Disturbances(poison=1, bad=2)))
    assert (found.given_up, found.innocent, found.deaths) == (3, 0, 4)


def test_a_hanging_worker_is_noticed_at_its_deadline() -> None:
    found = simulate(setting(2, 40, disturbances=Disturbances(hangs=1, restart_s=0.0)))
    allowed = max(LEAST_DEADLINE_S, DEADLINE_FACTOR * SHARD_S)
    assert (found.given_up, found.deaths) == (0, 1) and found.retried >= 1
    assert START_S + allowed < found.makespan_s < START_S + 20 * SHARD_S + allowed + START_S + 2 * SHARD_S


def test_a_straggler_takes_its_time() -> None:
    wrong = Disturbances(straggler_share=1.0, straggler_times=3.0)
    assert simulate(setting(2, 4, disturbances=wrong)).makespan_s == pytest.approx(START_S + 2 * 3 * SHARD_S)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("workers", [1, 9, 40])
def test_whatever_happens_every_shard_is_done_once_or_given_up(workers: int, seed: int) -> None:
    wrong = Disturbances(
        failures_per_worker_hour=4.0, losses_per_node_hour=3.0, straggler_share=0.2, straggler_times=5.0, hangs=2, poison=1, bad=1
    )
    costs = Costs(1e-3, 1e-3, 5e-3, 1e-5, 1e-5, 0.03, 0.01)
    run = setting(workers, 30, assemblies=4, spread=0.3, costs=costs, disturbances=wrong, seed=seed)
    found = simulate(run)  # which checks
    assert found.shards == 120 and found.given_up >= 2 and found.deaths >= 4
    assert found.given_up - found.innocent == 2
    assert simulate(run) == found  # a seed is a run


def test_the_check_sees_what_is_wrong() -> None:
    run = setting(1, 3)
    assembly = SimAssembly(0, run.assemblies[0], run, Clock())
    assembly.open()
    for shard in range(2):
        assembly.record(shard, None, "w", None)
    leases = Counter({(0, shard): 1 for shard in range(3)})
    with pytest.raises(AssertionError, match="shards lost"):
        scale_run._check([assembly], Schedule(), leases)
    with pytest.raises(AssertionError, match="finished twice"):
        assembly.record(1, None, "w", None)
    assembly.give_up(2, "bad")
    with pytest.raises(AssertionError, match="was not merged"):
        scale_run._check([assembly], Schedule(), leases)
    assembly.finish()
    scale_run._check([assembly], Schedule(), leases)
    held = Schedule()
    held.add((0, 0), 1)
    with pytest.raises(AssertionError, match="still holds"):
        scale_run._check([assembly], held, leases)


def test_rates_from_rows_and_runs(tmp_path: Path) -> None:
    rows, run, lines = tmp_path / "rows.jsonl", tmp_path / "run.json", tmp_path / "lines.jsonl"
    stages = {"read": 1.0, "tokenise": 1.0, "model": 7.0, "calls": 1.0, "merge": 2.0, "write": 1.0}
    small = {
        "benchmark": "end_to_end",
        "precision": "float32",
        "case": "1 x 3 Mb",
        "bp": 3_000_000,
        "p50_s": 16.0,
        "stage_s": stages,
    }
    large = small | {"case": "1 x 80 Mb", "bp": 80_000_000, "p50_s": 23.7}
    rows.write_text("".join(json.dumps(row) + "\n" for row in (small, large, small | {"precision": "bfloat16", "p50_s": 1.0})))
    assert scale_costs.measured_rates(rows) == pytest.approx((10 / 80, 7.7 / 77, 2 / 80))
    run.write_text(json.dumps({"stage_s": stages, "counts": {"bases": 1000}}))
    assert scale_costs.read_shard_seconds(run) == pytest.approx((0.01,))
    told = [
        ("start", 0, 0.0, 0),
        ("workers", 0, 1.0, 2),
        ("progress", 100, 2.0, 2),
        ("progress", 300, 3.0, 2),
        ("end", 300, 9.0, 2),
    ]
    keys = ("event", "done_bp", "elapsed_s", "workers")
    lines.write_text("".join(json.dumps(dict(zip(keys, values, strict=True))) + "\n" for values in told))
    assert scale_costs.read_shard_seconds(lines) == pytest.approx((0.01,))
    lines.write_text(json.dumps({"event": "start"}) + "\n")
    with pytest.raises(ValueError, match="too short"):
        scale_costs.read_shard_seconds(lines)


def test_the_whole_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.jsonl"
    assert scale_sim.main(["--quick", "--record-ms", "10", "--out", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["workers"], row["run"]) for row in rows] == [
        (1, "undisturbed"),
        (1, "disturbed"),
        (8, "undisturbed"),
        (8, "disturbed"),
    ] * 2
    assert all(0 < row["efficiency"] <= 1 and row["costs"]["record_s"] == 0.01 for row in rows)
    assert all(row["given_up"] == (2 if row["run"] == "disturbed" else 0) for row in rows)
    assert capsys.readouterr().out.count("| a tenth of human |") == 4


def test_quicker_assemblies_are_no_slower() -> None:
    slow = setting(8, 24, costs=Costs(open_s_per_mb=0.1))
    assert simulate(replace(slow, costs=Costs())).makespan_s < simulate(slow).makespan_s
