"""The spool: all bases of a genome end to end in one flat file, for input that cannot be read at random.

Coordinates: byte i of the file is flat base i, all contigs end to end in file order.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from annotator.errors import ResourceFault
from annotator.files import temporary_name
from annotator.genome.files import FileStamp

SPOOL_NAME = "bases.bin"


class SpoolWriter:
    """Writes the spool under a temporary name; a context manager that leaves nothing behind unless published."""

    def __init__(self, folder: Path) -> None:
        """Begin a spool.

        Args:
            folder: Folder for the spool; it is made where it does not exist.

        Raises:
            ResourceFault: The folder cannot be made or written to.
        """
        self._path = folder / SPOOL_NAME
        self._temporary = temporary_name(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = open(self._temporary, "xb", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise self._fault(error) from error

    def __enter__(self) -> Self:
        """The open spool."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close it; remove the temporary file where it was not published."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def write(self, bases: bytes) -> None:
        """Append bases.

        Raises:
            ResourceFault: The disk is full, or a write failed otherwise.
        """
        view = memoryview(bases)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise self._fault(error) from error

    def publish(self, label: str) -> FileStamp:
        """Flush to the disk and give the file its name.

        Args:
            label: The name of the input, for later messages.

        Returns:
            The stamp of the finished file.

        Raises:
            ResourceFault: A write failed.
        """
        try:
            os.fsync(self._file.fileno())
            now = os.fstat(self._file.fileno())
            os.replace(self._temporary, self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise self._fault(error) from error
        path = os.path.abspath(self._path)
        return FileStamp(path, f"{label} (spooled to {self._path})", now.st_size, now.st_mtime_ns)

    def _fault(self, error: OSError) -> ResourceFault:
        return ResourceFault(f"{self._path}: cannot write the bases: {error.strerror}")
