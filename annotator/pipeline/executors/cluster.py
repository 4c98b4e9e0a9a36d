"""Ray's surroundings: what its environment must hold before it is imported, where a private start lives, who answers an address.

Ray's wire is pickle: whoever holds a cluster's token can run code on it. So a private start listens on loopback only, with a
token of its own, and without a dashboard.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from annotator.errors import EnvironmentFault, UsageError
from annotator.files import FolderLock
from annotator.pipeline.executors import guard

logger = logging.getLogger(__name__)

CONNECT_S = 10.0
HEAD_S = 2.0

_JOINING = {
    "RAY_AUTH_MODE": "token",
    "RAY_NUM_REDIS_GET_RETRIES": "3", "RAY_gcs_rpc_server_connect_timeout_s": "2", "RAY_py_gcs_connect_timeout_s": "10",
}  # fmt: skip
"""The last three: a cluster that accepts a connection and says nothing is given up after half a minute, not after fourteen."""

_LONGEST_SOCKET = 107
_SOCKET_IN_SESSION = "/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"


_PRIVATE = {
    "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # or it would bind to all interfaces, whatever address is asked for
}  # fmt: skip


class RayEnvironment:
    """What Ray reads from the environment while it is imported and when it starts; as it was before, once restored.

    A process may start Ray several times (two calls in a notebook), and join a cluster of its user between them.
    """

    def __init__(self, *, private: bool) -> None:
        """Set it.

        Args:
            private: A token of this run alone, loopback only, nothing reported to anybody; otherwise what joining a cluster
                takes: a token is asked for unless the user says otherwise.
        """
        if private:
            settings = _PRIVATE | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
        else:
            settings = {name: value for name, value in _JOINING.items() if name not in os.environ}
        self._before = {name: os.environ.get(name) for name in settings}
        os.environ.update(settings)

    def restore(self) -> None:
        """Put back what was there; once is enough, twice does no harm."""
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._before = {}


def forget_token(ray: Any) -> None:
    """Ray reads a token once a process: make it read again, or a second start would knock with the first one's."""
    try:
        ray._raylet.AuthenticationTokenLoader.instance().reset_cache()
    except AttributeError:  # a version that keeps none
        logger.debug("this version of Ray has no cache of its token")


class PrivateFolder:
    """Where a private start keeps sockets and logs; gone when the start is, even where the driver is killed.

    Attributes:
        path: The folder.
    """

    def __init__(self) -> None:
        """Make it, sweep those of dead processes, and set the guard.

        Raises:
            EnvironmentFault: The path is too long for a socket, or cannot be written.
        """
        parent = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
        longest = parent / f"annotator-ray-{os.getpid()}-12345678"
        if len(str(longest) + _SOCKET_IN_SESSION) > _LONGEST_SOCKET:
            raise EnvironmentFault(f"{parent}: too long a path for Ray's sockets; set RAY_TMPDIR to a shorter folder")
        try:
            for old in parent.glob("annotator-ray-*"):
                _sweep(old)
            self.path = Path(tempfile.mkdtemp(prefix=f"annotator-ray-{os.getpid()}-", dir=parent))
            self._lock = FolderLock(self.path / guard.LOCK, self.path)
        except OSError as error:
            raise EnvironmentFault(f"{parent}: {error.strerror}; set RAY_TMPDIR to a folder that can be written") from None
        self._guard = subprocess.Popen(
            [sys.executable, "-S", guard.__file__, str(self.path)], stdin=subprocess.PIPE, start_new_session=True
        )

    def close(self) -> None:
        """Let the guard end what is left, and the folder go."""
        self._lock.close()
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait()


def _sweep(folder: Path) -> None:
    """Remove the folder of a start whose driver is gone: its lock can be had."""
    try:
        FolderLock(folder / guard.LOCK, folder).close()
    except (UsageError, OSError):
        return  # in use, another user's, or not there any more
    shutil.rmtree(folder, ignore_errors=True)


def answers(address: str) -> bool:
    """Whether something listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=HEAD_S):
            return True
    except (OSError, ValueError):
        return False


def look_at(address: str) -> None:
    """See that something listens there, since Ray itself would try for a quarter of an hour; warn where others may reach it.

    Raises:
        EnvironmentFault: Nothing does.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdigit():
        return  # "auto", or a name that Ray finds fault with
    try:
        with socket.create_connection((host, int(port)), timeout=CONNECT_S):
            pass
    except OSError as error:
        raise EnvironmentFault(f"nothing answers there ({error.strerror or error})", "ray", address) from None
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        logger.warning('`ray="%s"`: whoever holds the token of this cluster can run code on it and on this machine', address)


def workers_that_fit(needs: dict[str, float], nodes: list[dict[str, Any]]) -> int:
    """Workers that the nodes hold, busy or not.

    Args:
        needs: num_cpus and num_gpus of a worker.
        nodes: The nodes that `ray.nodes()` tells of.
    """
    wanted = [(name, need) for name, need in (("CPU", needs["num_cpus"]), ("GPU", needs["num_gpus"])) if need]
    return sum(min(int(node["Resources"].get(name, 0) / need) for name, need in wanted) for node in nodes if node["Alive"])


def resource_table(needs: dict[str, float], nodes: list[dict[str, Any]], free: dict[str, float]) -> str:
    """What a worker needs, beside what each node has and what is free in all."""
    has = [
        f"{node['NodeManagerAddress']} has {node['Resources'].get('CPU', 0):g} CPUs, {node['Resources'].get('GPU', 0):g} GPUs"
        for node in nodes
        if node["Alive"]
    ]
    return (
        f"a worker needs {needs['num_cpus']:g} CPUs and {needs['num_gpus']:g} GPUs; "
        f"{'; '.join(has[:20]) or 'there is no node'}; free: {free.get('CPU', 0):g} CPUs, {free.get('GPU', 0):g} GPUs"
    )


def first_line(error: BaseException) -> str:
    """What an error of Ray's says, without colours and the remote traceback."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("The actor is dead", "The actor died", "ModuleNotFoundError"))]
    return (told or lines or [type(error).__name__])[-1 if told else 0][:300]
