"""Input files as bytes: read once from start to end with a running sha256, or later at random and guarded against change."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self

from annotator.errors import InputError, UsageError

STDIN_PATHS = ("-", "/dev/stdin")
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FileStamp:
    """The size and time by which a file is known to be still the one that was scanned.

    Attributes:
        path: Absolute path.
        label: The path as the user gave it, for messages.
        size: Number of bytes.
        mtime_ns: Time of the last modification.
    """

    path: str
    label: str
    size: int
    mtime_ns: int

    def check(self, now: os.stat_result) -> None:
        """Compare with the file's present state.

        Raises:
            InputError: Size or modification time differ.
        """
        if now.st_size != self.size or now.st_mtime_ns != self.mtime_ns:
            raise InputError(f"{self.label}: changed during the run (size or modification time differ from when it was scanned)")

    def check_path(self) -> None:
        """Look at the path and compare.

        Raises:
            InputError: The file is gone, or changed.
        """
        try:
            now = os.stat(self.path)
        except OSError as error:
            raise InputError(f"{self.label}: changed during the run ({error.strerror})") from None
        self.check(now)


class InputFile:
    """A file, FIFO or standard input that is read once; a context manager.

    Attributes:
        label: The path as the user gave it, for messages.
        is_regular: Whether the file can be opened again; False for standard input whatever lies behind it.
    """

    def __init__(self, path: str | Path) -> None:
        """Open a path; "-" and "/dev/stdin" mean standard input.

        Raises:
            UsageError: The path is missing, a directory, not permitted, or a terminal.
        """
        self.label = str(path)
        self._sha256 = hashlib.sha256()
        try:
            if self.label in STDIN_PATHS:
                self._file = open(0, "rb", buffering=_BUFFER_BYTES, closefd=False)  # noqa: SIM115
            else:
                self._file = open(path, "rb", buffering=_BUFFER_BYTES)  # noqa: SIM115
        except (OSError, ValueError) as error:
            raise UsageError(f"{self.label}: cannot read: {getattr(error, 'strerror', None) or error}") from None
        if self._file.isatty():
            raise UsageError(f"{self.label}: standard input is a terminal; pipe a FASTA file in")
        self.is_regular = self.label not in STDIN_PATHS and stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)

    def __enter__(self) -> Self:
        """The open file."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close it."""
        self._file.close()

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, fewer only at the end of the file.

        Raises:
            UsageError: The system cannot read on.
        """
        try:
            data = self._file.read(size)
        except OSError as error:
            raise UsageError(f"{self.label}: cannot read: {error.strerror}") from None
        self._sha256.update(data)
        return data

    def blocks(self, size: int) -> Iterator[bytes]:
        """The rest of the file in pieces of `size` bytes."""
        while data := self.read(size):
            yield data

    def sha256(self) -> str:
        """The sha256 of the bytes read so far, in hexadecimal digits."""
        return self._sha256.hexdigest()

    def stamp(self) -> FileStamp:
        """The file's present state."""
        now = os.fstat(self._file.fileno())
        return FileStamp(os.path.abspath(self.label), self.label, now.st_size, now.st_mtime_ns)


def read_ahead(blocks: Iterator[bytes]) -> Generator[bytes, None, None]:
    """The same blocks, with the next one made in a thread meanwhile (reading, hashing and zlib all release the GIL)."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, blocks, None)
        while (block := coming.result()) is not None:
            coming = pool.submit(next, blocks, None)
            yield block


class GuardedFile:
    """Random access to a file that must not change; safe across threads and processes, reopened after unpickling."""

    def __init__(self, stamp: FileStamp) -> None:
        """Guard the file that the stamp was taken from; it is opened at the first read."""
        self.stamp = stamp
        self._lock = Lock()
        self._descriptor: int | None = None

    def __reduce__(self) -> tuple[type[GuardedFile], tuple[FileStamp]]:
        """A pickle carries no open file."""
        return GuardedFile, (self.stamp,)

    def read(self, offset: int, size: int) -> bytearray:
        """Read bytes.

        Args:
            offset: First byte, 0-based.
            size: Number of bytes.

        Returns:
            Exactly `size` bytes.

        Raises:
            InputError: The file changed, or is gone, since it was scanned.
        """
        data = bytearray(size)
        descriptor = self.check()
        done, view = 0, memoryview(data)
        try:
            while done < size:
                count = os.preadv(descriptor, [view[done:]], offset + done)
                if not count:
                    raise InputError(f"{self.stamp.label}: changed during the run (ends before byte {offset + size})")
                done += count
        except OSError as error:
            raise InputError(f"{self.stamp.label}: cannot be read any more: {error.strerror}") from None
        return data

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def check(self) -> int:
        """Open the file if it is not, and see that it is unchanged.

        Returns:
            The descriptor.

        Raises:
            InputError: The file changed, or is gone, since it was scanned.
        """
        try:
            with self._lock:
                if self._descriptor is None:
                    self._descriptor = os.open(self.stamp.path, os.O_RDONLY | os.O_CLOEXEC)
            self.stamp.check(os.fstat(self._descriptor))
        except OSError as error:
            raise InputError(f"{self.stamp.label}: cannot be read any more: {error.strerror}") from None
        return self._descriptor

    def __del__(self) -> None:
        """Do not leak the descriptor."""
        self.close()
