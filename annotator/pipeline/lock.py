"""A folder held by one process at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from annotator.errors import UsageError


class FolderLock:
    """An advisory lock that goes with its process, however that ends."""

    def __init__(self, path: Path, folder: Path) -> None:
        """Take the lock.

        Args:
            path: The lock file; its folder exists.
            folder: What it stands for, for the message.

        Raises:
            UsageError: Another process holds it.
            OSError: The file cannot be made.
        """
        while True:
            self._file = path.open("a+")
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._file.seek(0)
                holder = self._file.read().strip() or "unknown"
                self._file.close()
                raise UsageError(f"{folder}: locked by pid {holder}, another run is writing there") from None
            except OSError:  # some network file systems know no locks
                self._file.close()
                raise
            if self._is_still(path):
                break
            self._file.close()  # its last holder removed it just now: lock the file that is there
        try:
            self._file.truncate(0)
            os.write(self._file.fileno(), str(os.getpid()).encode())  # not through a buffer, which closing would flush again
        except OSError:
            self._file.close()
            raise

    def _is_still(self, path: Path) -> bool:
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), path.stat())
        except FileNotFoundError:
            return False

    @property
    def released(self) -> bool:
        """Whether it was let go."""
        return self._file.closed

    def release(self) -> None:
        """Let the lock go; harmless a second time."""
        self._file.close()
