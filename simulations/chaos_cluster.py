"""A Ray cluster on this machine, from which disturbed runs lose nodes and actors."""

from __future__ import annotations

import os
import secrets
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parents[1]
NODES = 2
STORE_BYTES = 100 << 20
HEALTH = {
    "health_check_period_ms": 500, "health_check_timeout_ms": 500, "health_check_failure_threshold": 3,
    "health_check_initial_delay_ms": 0,
}  # fmt: skip
"""A node that is gone is missed within two seconds instead of fifteen."""


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
    signal.signal(signal.SIGTERM, end_with_143)  # Ray has put its own in place


def end_with_143(*_: object) -> NoReturn:
    """End this process as SIGTERM does, with what is to be cleaned up."""
    sys.exit(143)
