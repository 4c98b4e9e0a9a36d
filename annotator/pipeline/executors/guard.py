"""Ends what a private Ray start leaves behind when its driver is killed: some of Ray's helpers would live on for a minute.

Run as a program of its own by `cluster.PrivateFolder`, with the folder of the start as its argument and a pipe from the driver
as its standard input. What belongs to the start has files of that folder open: all of Ray's processes write their logs there.
Imports nothing but the standard library.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

RAYS = rb"ray::|/ray/(?:core|_private|dashboard|autoscaler)/"
"""In the command lines of Ray's own processes."""
LOCK = "lock"
"""A file of the folder that drivers hold, and look at; they are not to be ended."""
PATIENCE_S = 15.0


def members(folder: str) -> set[int]:
    """Ray's processes of this user that have a file of the folder open."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/fd/*"):
        process = path.parents[1]
        try:
            target = os.readlink(path)
            if target.startswith(folder + "/") and target != f"{folder}/{LOCK}" and process.stat().st_uid == os.getuid():
                if re.search(RAYS, (process / "cmdline").read_bytes()):
                    found.add(int(process.name))
        except OSError:
            continue  # it is gone
    return found - {os.getpid(), os.getppid()}  # the driver, where it still lives, has logs of Ray open too


def main() -> int:
    """Wait for the driver's end, whichever it is; after a proper one nobody is left."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    folder = sys.argv[1]
    sys.stdin.read()
    deadline = time.monotonic() + PATIENCE_S
    while (left := members(folder)) and time.monotonic() < deadline:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.2)
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
