"""Files and folders that appear under their final name only when they are complete and on the disk; hashes; folder locks.

What is being written stands under `.tmp-<pid>-<random>` beside its final name, is flushed and renamed, and the folder is flushed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from annotator.errors import ResourceFault, UsageError

_TEMPORARY = re.compile(r"\.tmp-(\d+)-[0-9a-f]{16}")


@contextmanager
def atomic_file(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """Write one file atomically.

    Args:
        path: The final name; its folder exists.
        flush: As of `atomic_files`.

    Yields:
        A name in the same folder that the body has to write; it keeps the last suffix of `path`.

    Raises:
        ResourceFault: Any write failed; neither the temporary nor a new final file is left.
    """
    with atomic_files([path], flush=flush) as (temporary,):
        yield temporary


@contextmanager
def atomic_files(paths: Sequence[Path], scratch: Path | None = None, *, flush: bool = True) -> Iterator[list[Path]]:
    """Write several files of one folder that appear together, or not at all.

    The renames cannot be one step for the file system: a process killed between two of them leaves a part of the set,
    which is why a results folder counts as complete only by its run.json.

    Args:
        paths: The final names, all in one existing folder.
        scratch: Folder for the temporary names, on the same disk; None for the folder of the final ones.
        flush: Have the files on the disk before this returns, so that they outlast a machine that stops; without it they
            outlast the end of this process, however it comes.

    Yields:
        One temporary name per path, in order; the body has to write each.

    Raises:
        ResourceFault: Any write failed; no temporary is left, and none of `paths`.
    """
    folder = paths[0].parent
    temporaries = [temporary_name(scratch or folder, path.suffix) for path in paths]
    published: list[Path] = []
    complete = False
    try:
        with write_faults(paths[0] if len(paths) == 1 else folder):
            yield temporaries
        for temporary, path in zip(temporaries, paths, strict=True) if flush else ():
            with write_faults(path):
                _flush_to_disk(temporary)
        for temporary, path in zip(temporaries, paths, strict=True):
            with write_faults(path):
                os.replace(temporary, path)
                published.append(path)
        if flush:
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
    folder = temporary_name(parent)
    with write_faults(parent):
        folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # what stays is swept by the next run


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Write a whole folder, which takes the place of the one of that name only when it is complete.

    A reader sees the old folder or the new one, never a mixture; a process killed between the two renames leaves no folder
    of that name and the old one under a temporary name.

    Args:
        path: The final name; its parent exists.

    Yields:
        An empty folder beside it that the body fills with files.

    Raises:
        ResourceFault: Any write failed; the old folder, if there was one, stands as it was.
    """
    with temporary_folder(path.parent) as temporary:
        with write_faults(path):
            yield temporary
        with write_faults(path):
            for file in temporary.iterdir():
                _flush_to_disk(file)
            _flush_folder(temporary)
            old = temporary_name(path.parent)
            if path.exists():
                os.rename(path, old)
            try:
                os.rename(temporary, path)
            except OSError:
                if old.exists():
                    os.rename(old, path)
                raise
            _flush_folder(path.parent)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def write_faults(path: Path) -> Iterator[None]:
    """Turn a failed write inside the body into the one line the user sees.

    Raises:
        ResourceFault: On OSError, and on the ComputeError in which Polars wraps one.
    """
    polars = sys.modules.get("polars")  # looked up, not imported: training writes files where there is no Polars
    faults = (OSError,) if polars is None else (OSError, polars.exceptions.ComputeError)
    try:
        yield
    except faults as error:
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


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically.

    Raises:
        ResourceFault: It cannot be written.
    """
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, obj: Any) -> None:
    """Write `obj` as JSON, atomically, with sorted keys: equal objects give equal bytes.

    Raises:
        ResourceFault: It cannot be written.
        ValueError: It holds NaN or infinity, which JSON does not have.
    """
    write_text(path, json.dumps(obj, indent=2, sort_keys=True, allow_nan=False) + "\n")


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
    def closed(self) -> bool:
        """Whether it was let go."""
        return self._file.closed

    def close(self) -> None:
        """Let the lock go; harmless a second time."""
        self._file.close()


def temporary_name(folder: Path, suffix: str = "") -> Path:
    """A new name in a folder for what is being written; `sweep_temporaries` removes what a killed process left under one."""
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


_POINTER = b"version https://git-lfs"
_PAGE = re.compile(rb"\s*(<!--.*?-->\s*)*<(!doctype|html|head|body|\?xml|title)", re.IGNORECASE | re.DOTALL)
_PICKLED = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def stand_in(path: Path) -> str:
    """What a download or a checkout left in place of a file of data.

    Args:
        path: A file of weights, or a text file that comes with weights.

    Returns:
        What it is and what helps, such as "an empty file: ..."; nothing where it is none of the things known.
    """
    try:
        with path.open("rb") as file:
            start = file.read(1024)
    except OSError:
        return ""
    text = start.removeprefix(b"\xef\xbb\xbf")
    if not start:
        return "an empty file: its download failed; fetch it again"
    if text.startswith(_POINTER):
        return "a Git LFS pointer, not the file itself; `git lfs pull` in its repository fetches it"
    if _PAGE.match(text):
        return "a web page, not the file itself: fetch it from its download address (.../resolve/..., not .../blob/...)"
    header_follows = start[8:9] == b"{"  # a safetensors file: its length comes first, and can begin as a pickle does
    if path.suffix == ".safetensors" and start.startswith(_PICKLED) and not header_follows:
        return "a pickle under the name of a safetensors file; give it the name pytorch_model.bin and `annotator models convert`"
    weights = path.suffix in (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
    if start.startswith(b"\x1f\x8b"):
        return "a gzip file; unpack it first"
    if weights and len(start) < 1024 and _is_text(start):
        return f"a text file, not weights; it says {' '.join(start.decode('utf-8').split())[:80]!r}"
    return ""


def _is_text(content: bytes) -> bool:
    """Whether bytes are printable UTF-8."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter.isspace() for letter in text)
