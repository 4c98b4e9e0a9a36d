"""A few runs that are killed at random moments, and what the script that does it would not let pass."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from simulations import chaos, chaos_processes, chaos_run

ROOT = Path(__file__).parents[2]


def disturb(out: Path, runs: int, seed: int, *kinds: str) -> None:
    """Disturbed runs of the toy stage, and the row about them."""
    options = ["--toy", "--runs", runs, "--seed", seed, "--run-timeout", 60, "--out", out, "--kinds", *kinds]
    env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"}
    command = [sys.executable, str(ROOT / "simulations" / "chaos.py"), *map(str, options)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    row = json.loads(out.read_text())
    assert (row["runs"], row["ok"], row["model"]) == (runs, runs, "toy") and row["kills"] >= runs
    assert set(row["by_kind"]) == set(kinds)


@pytest.mark.slow
def test_local_runs_that_are_killed(tmp_path: Path) -> None:
    disturb(tmp_path / "rows.jsonl", 5, 31, *chaos_run.LOCAL)


@pytest.mark.slow
@pytest.mark.ray
def test_runs_on_a_cluster_that_are_killed(tmp_path: Path) -> None:
    disturb(tmp_path / "rows.jsonl", 3, 31, *chaos_run.ON_CLUSTER)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> chaos_run.Run:
    """One that has ended, with two result files."""
    monkeypatch.setattr(chaos_processes, "GONE_S", 0.3)
    subject = chaos_run.Subject([sys.executable], [], 1.0)
    ended = chaos_run.Run(subject, "worker-kill", tmp_path, random.Random(1), 1.0)
    ended.out.mkdir()
    (ended.out / "predictions.parquet").write_bytes(b"rows")
    (ended.out / "splice.bed.gz").write_bytes(b"lines")
    (ended.out / "run.json").write_text('{"exit_status": 0, "failed_shards": []}')
    return ended


def test_a_good_run_passes(run: chaos_run.Run) -> None:
    run.check(chaos_processes.hashes(run.out))


@pytest.mark.parametrize("what", ["another byte", "a file more", "a file less"])
def test_other_results_do_not(what: str, run: chaos_run.Run) -> None:
    expected = chaos_processes.hashes(run.out)
    if what == "another byte":
        (run.out / "splice.bed.gz").write_bytes(b"linez")
    elif what == "a file more":
        (run.out / "promoter.bed.gz").write_bytes(b"")
    else:
        (run.out / "splice.bed.gz").unlink()
    with pytest.raises(chaos_run.Wrong, match="not the bytes of an undisturbed run: (splice|promoter).bed.gz"):
        run.check(expected)


@pytest.mark.parametrize("name", [".tmp-1-0123456789abcdef", ".annotator"])
def test_nor_does_what_is_left_in_the_folder(name: str, run: chaos_run.Run) -> None:
    (run.out / name).mkdir()
    with pytest.raises(chaos_run.Wrong, match="left behind"):
        run.check(chaos_processes.hashes(run.out))


def test_nor_failed_shards(run: chaos_run.Run) -> None:
    (run.out / "run.json").write_text('{"exit_status": 4, "failed_shards": [{"shard": 1}]}')
    with pytest.raises(chaos_run.Wrong, match="failed shards"):
        run.check(chaos_processes.hashes(run.out))


def test_nor_a_process_that_lives_on_and_it_is_ended(run: chaos_run.Run) -> None:
    script = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    subprocess.run([sys.executable, "-c", script], env=os.environ | {chaos_processes.RUN_MARK: run.token}, check=True)
    with pytest.raises(chaos_run.Wrong, match="processes left behind"):
        run.check(chaos_processes.hashes(run.out))
    run.end()
    assert not chaos_processes.what_stays(lambda: chaos_processes.names(chaos_processes.marked(run.token)))


def test_nor_the_folder_of_a_private_ray(run: chaos_run.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    run.pids.append(4711)
    (tmp_path / "annotator-ray-4711-abc").mkdir()
    with pytest.raises(chaos_run.Wrong, match="folders left behind"):
        run.check(chaos_processes.hashes(run.out))


def test_every_kind_has_its_turn() -> None:
    for seed in range(5):
        kinds = [chaos.kind_of(number, chaos_run.KINDS, seed) for number in range(16)]
        assert sorted(kinds[:8]) == sorted(kinds[8:]) == sorted(chaos_run.KINDS)
