"""Rows of the fault matrix about Ray: actors, nodes and drivers that are lost, clusters that are wrong, doors that are shut."""

from __future__ import annotations

import ipaddress
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from annotator.pipeline.executors.cluster import forget_token
from tests.support.runs import results
from tests.support.toy_runs import (
    ROOT,
    assert_gone,
    descendants,
    journalled,
    kill,
    start_toy_run,
    toy_genome,
    toy_run,
    wait_until,
)

pytestmark = pytest.mark.ray

HEALTH = {
    "health_check_period_ms": 500, "health_check_timeout_ms": 500, "health_check_failure_threshold": 3,
    "health_check_initial_delay_ms": 0,
}  # fmt: skip
"""A node that is gone is missed within two seconds instead of fifteen."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without room for work; each test adds the nodes it needs. Drivers are processes of their own."""
    before = dict(os.environ)
    os.environ |= {
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}",
    }  # fmt: skip
    import ray
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "object_store_memory": 100 << 20, "include_dashboard": False, "_system_config": HEALTH}
    running = Cluster(initialize_head=True, head_node_args=head)
    yield running
    running.shutdown()
    os.environ.clear()
    os.environ |= before
    forget_token(ray)


@pytest.fixture
def add_node(cluster: Any) -> Iterator[Any]:
    """Adds a node with one CPU; all are gone after the test."""
    added: list[Any] = []

    def add() -> Any:
        added.append(cluster.add_node(num_cpus=1, object_store_memory=100 << 20))
        return added[-1]

    yield add
    for node in added:
        if node in cluster.worker_nodes:
            cluster.remove_node(node, allow_graceful=True)


def start(cluster: Any, fasta: Path, out: Path, model: Path, *more: object, **toy: Any) -> subprocess.Popen[str]:
    return start_toy_run(fasta, out, model, "--ray", cluster.address, *more, **toy)


def finish(process: subprocess.Popen[str], timeout_s: float = 90) -> tuple[int, str, str]:
    out, error = process.communicate(timeout=timeout_s)
    assert "Traceback" not in error, error
    return process.returncode, out, error


def faults_at(place: str, what: str, times: int = 1) -> dict[str, tuple[str, int]]:
    return {place: (what, times)}


@pytest.mark.slow
@pytest.mark.parametrize("what", ["kill", "exit 0", "memory"])
def test_D02_D13_an_actor_that_fails_once_changes_nothing(
    what: str, cluster: Any, add_node: Any, fasta: Path, model: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    add_node()
    process = start(cluster, fasta, tmp_path / "out", model, folder=str(tmp_path), faults=faults_at("chr1:896", what))
    code, _, error = finish(process)
    assert code == 0, error
    assert results(tmp_path / "out") == undisturbed
    assert (tmp_path / "chr1:896").stat().st_size == 2


@pytest.mark.slow
def test_D02_a_poison_shard_is_named(
    cluster: Any, add_node: Any, fasta: Path, model: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    add_node()
    out, toy = tmp_path / "out", {"folder": str(tmp_path), "faults": faults_at("chr1:896", "exit 1", 4)}
    code, _, error = finish(start(cluster, fasta, out, model, **toy))
    assert code == 4 and "gave up on chr1:896-1344" in error
    assert json.loads((out / "run.json").read_text())["failed_contigs"]["names"] == ["chr1"]
    code, _, error = finish(start(cluster, fasta, out, model, **toy))
    assert code == 0 and results(out) == undisturbed


@pytest.mark.slow
def test_D03_a_node_is_lost(
    cluster: Any, add_node: Any, fasta: Path, model: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    nodes = [add_node(), add_node(), add_node()]
    process = start(cluster, fasta, tmp_path / "out", model, folder=str(tmp_path), pace_s=0.4)
    wait_until(lambda: journalled(tmp_path / "out") >= 3, process)
    cluster.remove_node(nodes[0], allow_graceful=False)
    lost = time.monotonic()
    code, _, error = finish(process)
    assert code == 0 and time.monotonic() - lost < 30, error
    assert results(tmp_path / "out") == undisturbed


@pytest.mark.slow
def test_D04_all_worker_nodes_are_lost(
    cluster: Any, add_node: Any, fasta: Path, model: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    out, nodes = tmp_path / "out", [add_node(), add_node()]
    process = start(cluster, fasta, out, model, "--node-timeout", 12, folder=str(tmp_path), pace_s=0.4)
    wait_until(lambda: journalled(out) >= 3, process)
    for node in nodes:
        cluster.remove_node(node, allow_graceful=False)
    code, _, error = finish(process)
    assert code == 6 and "all workers are lost" in error and "same command" in error
    done = journalled(out)
    assert done >= 3 and not (out / "run.json").exists()
    add_node()
    code, _, error = finish(start(cluster, fasta, out, model, folder=str(tmp_path)))
    assert code == 0 and "resuming" in error and results(out) == undisturbed


@pytest.mark.slow
def test_D05_a_node_that_joins_is_used(
    cluster: Any, add_node: Any, fasta: Path, model: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    add_node()
    out = tmp_path / "out"
    process = start(cluster, fasta, out, model, "--progress", "json", folder=str(tmp_path), pace_s=1.5)
    wait_until(lambda: journalled(out) >= 1, process)
    add_node()
    joined = time.monotonic()
    wait_until(lambda: len(list(tmp_path.glob("worker-*"))) == 2, process, timeout_s=30)
    used = time.monotonic() - joined
    code, told, error = finish(process)
    assert code == 0 and used < 30, error
    assert max(json.loads(line)["workers"] for line in told.splitlines()) == 2
    assert results(out) == undisturbed


@pytest.mark.slow
def test_D09_an_actor_that_hangs_is_replaced(
    cluster: Any, add_node: Any, fasta: Path, model: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    add_node()
    faults = faults_at("chr1:896", "hang")
    process = start(cluster, fasta, tmp_path / "out", model, "--shard-timeout", 2, folder=str(tmp_path), faults=faults)
    code, _, error = finish(process)
    assert code == 0 and "no answer for 2 s on chr1:896-1344" in error
    assert results(tmp_path / "out") == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", [("--device", "cuda"), ("-t", "64", "--workers", "1"), ("-t", "64")], ids=["no GPU", "named", "as many as fit"]
)
def test_D10_a_worker_that_cannot_be_placed_ends_the_run(
    more: tuple[str, ...], cluster: Any, add_node: Any, fasta: Path, model: Path, tmp_path: Path
) -> None:
    add_node()
    began = time.monotonic()
    code, _, error = finish(start(cluster, fasta, tmp_path / "out", model, "--node-timeout", 3, *more))
    assert code == 5 and time.monotonic() - began < 30
    assert "no worker could be placed" in error and "has 1 CPUs, 0 GPUs" in error and "a worker needs" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_bases_travel_where_workers_do_not_see_the_file(
    cluster: Any, add_node: Any, fasta: Path, model: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    add_node()
    hide = "from annotator.genome.bases import StoredBases\n"  # the driver reads; a worker that did would find no such attribute
    process = start(cluster, fasta, tmp_path / "out", model, "--stage", "object-store", before=hide, folder=str(tmp_path))
    code, _, error = finish(process)
    assert code == 0, error
    assert results(tmp_path / "out") == undisturbed


@pytest.mark.slow
def test_bases_that_cannot_be_staged_end_their_assembly_and_no_other(
    cluster: Any, add_node: Any, fasta: Path, model: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    add_node()
    other = toy_genome(tmp_path / "other.fa", seed=7)
    changes = (
        "import annotator.pipeline.driver.assembly as assembly\ngenuine = assembly.Assembly.open\n"
        "def opened(self, tick=None):\n"
        "    genuine(self, tick)\n"
        "    if self.sample.name == 'other':\n"
        "        open(self.sample.fasta, 'a').write('A')\n"
        "assembly.Assembly.open = opened\n"
    )
    more = (str(fasta), "--stage", "object-store")
    process = start(cluster, other, tmp_path / "out", model, *more, before=changes, folder=str(tmp_path))
    code, _, error = finish(process)
    assert code == 4 and "changed during the run" in error
    assert results(tmp_path / "out" / "g") == undisturbed


@pytest.mark.slow
def test_D13_a_node_on_which_nothing_can_be_set_up_does_not_end_the_run(
    cluster: Any, add_node: Any, fasta: Path, model: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    add_node()
    process = start(cluster, fasta, tmp_path / "out", model, folder=str(tmp_path), pace_s=1.0, setups=1)
    wait_until(lambda: journalled(tmp_path / "out") >= 1, process)
    add_node()
    code, _, error = finish(process)
    assert code == 0 and "one worker less: the GPU fell off" in error, error
    assert results(tmp_path / "out") == undisturbed


@pytest.mark.slow
def test_the_head_of_a_cluster_is_lost(fasta: Path, model: Path, tmp_path: Path) -> None:
    soon = "import annotator.pipeline.executors.ray_actors as actors; actors.HEAD_LOST_S = 5.0"
    out = tmp_path / "out"
    process = start_toy_run(fasta, out, model, "--ray", "local", "--workers", "1", folder=str(tmp_path), pace_s=3.0, before=soon)
    wait_until(lambda: journalled(out) >= 1, process)
    (head,) = [each for each in descendants(process.pid) if each.name() == "gcs_server"]
    children = descendants(process.pid)
    head.kill()
    code, _, error = finish(process, 60)
    assert code == 6 and "head of the cluster is lost" in error and journalled(out) >= 1
    assert_gone(children, 20)


def no_ray(before: str, fasta: Path, out: Path, model: Path, *more: object, **environment: str) -> tuple[int, str]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
            patch.delenv(name, raising=False)
        for name, value in environment.items():
            patch.setenv(name, value)
        code, _, error = finish(start_toy_run(fasta, out, model, *more, before=before))
    return code, error


def test_D11_without_ray(fasta: Path, model: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    absent = "sys.modules['ray'] = None"
    code, error = no_ray(absent, fasta, tmp_path / "out", model, "--ray", "local")
    assert code == 5 and error.count("error:") == 1 and "Ray cannot be imported" in error and not (tmp_path / "out").exists()
    assert no_ray(absent, fasta, tmp_path / "out", model, "--ray", "off")[0] == 0
    assert results(tmp_path / "out") == undisturbed


def test_D11_a_ray_that_is_too_old(fasta: Path, model: Path, tmp_path: Path) -> None:
    code, error = no_ray("import ray; ray.__version__ = '2.53.1'", fasta, tmp_path / "out", model, "--ray", "local")
    assert code == 5 and "Ray 2.53.1 is too old" in error


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no-such-host.invalid:6379", "garbage", "auto-nothing"])
def test_D11_nobody_answers(address: str, fasta: Path, model: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    code, error = no_ray("", fasta, tmp_path / "out", model, "--ray", address)
    assert code == 5 and time.monotonic() - began < 60 and error.count("error:") == 1 and address in error
    assert not (tmp_path / "out").exists()


def test_D11_rays_client_protocol_is_refused(fasta: Path, model: Path, tmp_path: Path) -> None:
    code, error = no_ray("", fasta, tmp_path / "out", model, "--ray", "ray://127.0.0.1:10001")
    assert code == 2 and "HOST:6379" in error and not (tmp_path / "out").exists()


def test_D11_something_else_answers(fasta: Path, model: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        began = time.monotonic()
        code, error = no_ray("", fasta, tmp_path / "out", model, "--ray", f"127.0.0.1:{server.getsockname()[1]}")
        assert code == 5 and time.monotonic() - began < 80, error


@pytest.mark.slow
@pytest.mark.parametrize("token", ["", "0" * 64])
def test_D11_F04_a_cluster_lets_nobody_in_without_its_token(
    token: str, cluster: Any, add_node: Any, fasta: Path, model: Path, tmp_path: Path
) -> None:
    add_node()
    environment = {"RAY_AUTH_TOKEN": token} if token else {"HOME": str(tmp_path)}
    code, error = no_ray("", fasta, tmp_path / "out", model, "--ray", cluster.address, **environment)
    assert code == 5 and "Ray cannot join" in error, error
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_D12_a_home_that_cannot_be_written(fasta: Path, model: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    code, error = no_ray("", fasta, tmp_path / "out", model, "--ray", "local", "--workers", "1", HOME="/proc/none")
    assert code == 0, error
    assert results(tmp_path / "out") == undisturbed


@pytest.mark.parametrize("folder", ["long", "/proc/none"])
def test_D12_folders_that_ray_cannot_use(folder: str, fasta: Path, model: Path, tmp_path: Path) -> None:
    if folder == "long":
        folder = str(tmp_path / ("x" * 60))
        os.mkdir(folder)
    code, error = no_ray("", fasta, tmp_path / "out", model, "--ray", "local", RAY_TMPDIR=folder)
    assert code == 5 and "set RAY_TMPDIR" in error and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_D12_little_shared_memory(fasta: Path, model: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    small = "mount -t tmpfs -o size=64m tmpfs /dev/shm"
    if subprocess.run(["unshare", "-m", "sh", "-c", small], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespaces here")
    mount = (
        "import ctypes, os\n"
        "assert ctypes.CDLL(None).unshare(0x20000) == 0\n"
        f"assert os.system('mount --make-rprivate / && {small}') == 0"
    )
    code, error = no_ray(mount, fasta, tmp_path / "out", model, "--ray", "local", "--workers", "1", "--stage", "object-store")
    assert code == 0, error
    assert results(tmp_path / "out") == undisturbed


@pytest.mark.slow
def test_D06_a_killed_driver_of_a_private_start_leaves_nobody(
    fasta: Path, model: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    more = ("--ray", "local", "--workers", "1")
    process = start_toy_run(fasta, out, model, *more, folder=str(tmp_path), pace_s=0.2)
    wait_until(lambda: journalled(out) >= 5, process)
    assert_gone(kill(process), timeout_s=30)
    code, _, error = finish(start_toy_run(fasta, out, model, *more, folder=str(tmp_path)))
    assert code == 0 and "resuming" in error and results(out) == undisturbed
    assert not list(Path(os.environ.get("RAY_TMPDIR", "/tmp")).glob(f"annotator-ray-{process.pid}-*"))  # swept by the rerun


@pytest.mark.slow
@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_D07_a_signal_ends_a_private_start_cleanly(
    sign: signal.Signals, code: int, fasta: Path, model: Path, undisturbed: dict[str, bytes], tmp_path: Path,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    process = start_toy_run(fasta, out, model, "--ray", "local", "--workers", "1", folder=str(tmp_path), pace_s=0.2)
    wait_until(lambda: journalled(out) >= 3, process)
    children, began = descendants(process.pid), time.monotonic()
    os.killpg(process.pid, sign) if sign == signal.SIGINT else os.kill(process.pid, sign)
    ended, _, error = finish(process, 30)
    assert ended == code and time.monotonic() - began < 10 and "same command" in error
    assert_gone(children)
    assert not list(Path(os.environ.get("RAY_TMPDIR", "/tmp")).glob(f"annotator-ray-{process.pid}-*"))
    assert toy_run(fasta, out, model) == 0
    assert results(out) == undisturbed


@pytest.mark.slow
def test_the_guard_spares_a_driver_whose_own_command_line_speaks_of_ray(fasta: Path, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ray" / "core"
    folder.mkdir(parents=True)
    (folder / "g.fa").write_bytes(fasta.read_bytes())
    process = start_toy_run(folder / "g.fa", folder / "out", model, "--ray", "local", "--workers", "1", folder=str(tmp_path))
    code, _, error = finish(process)
    assert code == 0, error
    assert not list(Path(os.environ.get("RAY_TMPDIR", "/tmp")).glob(f"annotator-ray-{process.pid}-*"))


def test_F04_a_private_start_listens_on_loopback_only_and_has_no_dashboard(fasta: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start_toy_run(fasta, out, model, "--ray", "local", "--workers", "1", folder=str(tmp_path), pace_s=0.3)
    wait_until(lambda: journalled(out) >= 1, process)
    listening = set()
    for each in [psutil.Process(process.pid), *descendants(process.pid)]:
        for connection in each.net_connections(kind="inet"):
            if connection.status == psutil.CONN_LISTEN:
                listening.add((connection.laddr.ip.removeprefix("::ffff:"), connection.laddr.port))
    tokens = {token for each in descendants(process.pid) if (token := each.environ().get("RAY_AUTH_TOKEN"))}
    code, _, error = finish(process)
    assert code == 0, error
    assert listening and all(ipaddress.ip_address(ip).is_loopback for ip, _ in listening), listening
    assert 8265 not in {port for _, port in listening}
    assert len(tokens - {os.environ.get("RAY_AUTH_TOKEN")}) == 1  # made by the run itself, never taken from outside


@pytest.mark.slow
def test_the_driver_of_a_cluster_loads_no_torch(cluster: Any, add_node: Any, fasta: Path, model: Path, tmp_path: Path) -> None:
    add_node()
    tell = "import atexit; atexit.register(lambda: print('torch' in sys.modules))"
    code, told, error = finish(start(cluster, fasta, tmp_path / "out", model, before=tell, folder=str(tmp_path)))
    assert code == 0 and told == "False\n", error
