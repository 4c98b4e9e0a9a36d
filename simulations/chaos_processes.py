"""The processes, files and folders of disturbed runs: found, named and hashed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from annotator.files import file_sha256

RUN_MARK, MARK = "CHAOS_RUN", "CHAOS"
"""In the environment of every process of a run, and of all runs with their cluster."""
GONE_S = 30.0


def what_stays(find: Callable[[], list[str]]) -> list[str]:
    """What is found still after some patience."""
    deadline = time.monotonic() + GONE_S
    while (still := find()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return still


def names(processes: list[psutil.Process]) -> list[str]:
    """For messages."""
    return [" ".join(words(process))[:120] or str(process.pid) for process in processes]


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of all result files but run.json."""
    return {path.name: file_sha256(path) for path in folder.iterdir() if path.is_file() and path.name != "run.json"}


def journalled(out: Path) -> int:
    """Finished shards of a run that is not."""
    try:
        return (out / ".annotator" / "journal.jsonl").read_bytes().count(b"\n")
    except OSError:
        return 0


def words(process: psutil.Process) -> list[str]:
    """A process's command line; empty where it is gone or a zombie."""
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def descendants(pid: int) -> list[psutil.Process]:
    """A process's children and theirs."""
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def actors() -> list[psutil.Process]:
    """Processes of our cluster that hold one of the product's workers."""
    return [process for process in descendants(os.getpid()) if any(word.startswith("ray::RayWorker") for word in words(process))]


def marked(token: str, mark: str = RUN_MARK) -> list[psutil.Process]:
    """Living processes that a run started, however their parents ended."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(mark) == token and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found
