"""Files that appear under their final name only when they are complete and on the disk.

A file is written to `.tmp-<pid>-<random>` in its own folder, flushed, renamed, and the folder is flushed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from annotator.errors import ResourceFault

_TEMPORARY = re.compile(r"\.tmp-(\d+)-[0-9a-f]{16}")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Write one file atomically.

    Args:
        path: The final name; its folder exists.

    Yields:
        A name in the same folder that the body has to write; it keeps the last suffix of `path`.

    Raises:
        ResourceFault: Any write failed; neither the temporary nor a new final file is left.
    """
    with atomic_files([path]) as (temporary,):
        yield temporary


@contextmanager
def atomic_files(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Write several files of one folder that appear together, or not at all.

    The renames cannot be one step for the file system: a process killed between two of them leaves a part of the set,
    which is why a results folder counts as complete only by its run.json.

    Args:
        paths: The final names, all in one existing folder.

    Yields:
        One temporary name per path, in order; the body has to write each.

    Raises:
        ResourceFault: Any write failed; no temporary is left, and none of `paths`.
    """
    folder = paths[0].parent
    temporaries = [_temporary_name(folder, path.suffix) for path in paths]
    published: list[Path] = []
    complete = False
    try:
        with write_faults(paths[0] if len(paths) == 1 else folder):
            yield temporaries
        for temporary, path in zip(temporaries, paths, strict=True):
            with write_faults(path):
                _flush_to_disk(temporary)
        for temporary, path in zip(temporaries, paths, strict=True):
            with write_faults(path):
                os.replace(temporary, path)
                published.append(path)
        with write_faults(folder):
            _flush_folder(folder)
        complete = True
    finally:
        if not complete:
            for leftover in (*temporaries, *published):
                leftover.unlink(missing_ok=True)


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A folder `.tmp-<pid>-<random>` in `parent` for the time of the body.

    Raises:
        ResourceFault: It cannot be made.
    """
    folder = _temporary_name(parent)
    with write_faults(parent):
        folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # what stays is swept by the next run


@contextmanager
def write_faults(path: Path) -> Iterator[None]:
    """Turn a failed write inside the body into the one line the user sees.

    Raises:
        ResourceFault: On OSError, and on the ComputeError in which Polars wraps one.
    """
    try:
        yield
    except (OSError, pl.exceptions.ComputeError) as error:
        raise ResourceFault(f"cannot write {path}: {_reason(error, path)}") from error


def sweep_temporaries(folder: Path) -> int:
    """Remove what killed processes left: `.tmp-<pid>-*` whose process is gone.

    This process's own id counts as gone, because in a container every run has the same id. So call it before writing,
    while holding the folder's lock.

    Args:
        folder: An existing folder; sub-folders other than temporaries are not entered.

    Returns:
        How many were removed.

    Raises:
        ResourceFault: One cannot be removed.
    """
    removed = 0
    with write_faults(folder):
        for entry in sorted(folder.iterdir()):
            match = _TEMPORARY.match(entry.name)
            if match is None or _is_running(int(match.group(1))):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
            removed += 1
    return removed


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_json(path: Path, obj: Any) -> None:
    """Write `obj` as JSON, atomically, with sorted keys: equal objects give equal bytes.

    Raises:
        ResourceFault: It cannot be written.
        ValueError: It holds NaN or infinity, which JSON does not have.
    """
    text = json.dumps(obj, indent=2, sort_keys=True, allow_nan=False) + "\n"
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _temporary_name(folder: Path, suffix: str = "") -> Path:
    return folder / f".tmp-{os.getpid()}-{secrets.token_hex(8)}{suffix}"


def _flush_to_disk(path: Path) -> None:
    # Opened for writing: fsync of a read-only descriptor is refused on some systems.
    with path.open("rb+") as handle:
        os.fsync(handle.fileno())


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network and FUSE file systems do not know fsync of a folder; the files themselves are flushed.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _is_running(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True  # it is another user's
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _reason(error: BaseException, path: Path) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    reason = " ".join(str(error).split())
    told = re.search(r"[^:]+ \(os error \d+\)", reason)
    if told:  # Polars: the system's reason behind "File out of specification: underlying IO error:"
        return told.group().strip()
    # htslib says that a write failed, not why; the space left is nearly always the answer.
    folder = path if path.is_dir() else path.parent
    return f"{reason} ({shutil.disk_usage(folder).free} bytes free there)" if folder.is_dir() else reason
