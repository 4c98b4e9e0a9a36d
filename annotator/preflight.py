"""What can be found wrong before models, motifs and genomes are loaded, so that a run ends in its first second."""

from __future__ import annotations

import errno
import os
import re
import resource
import stat
from collections.abc import Sequence
from pathlib import Path

from annotator.errors import ResourceFault, UsageError
from annotator.files import FolderLock, temporary_folder
from annotator.genome.files import STDIN_PATHS
from annotator.machine import usable_cpus
from annotator.motifs.options import release_named

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_PROBE_BYTES = 1 << 16
_LEAST_ADDRESS_SPACE = 1500 << 20
_ADDRESS_SPACE_PER_CPU = 16 << 20
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


def check_run(out: Path | None, inputs: Sequence[str | os.PathLike[str] | None], regions: Path | None = None) -> None:
    """Check what a command reads and writes.

    Args:
        out: The folder for results, if the command writes any.
        inputs: Files that the command cannot do without; None is passed over.
        regions: A BED file, whose syntax is looked at as well.

    Raises:
        UsageError: A path is none that can be used.
        InputError: The BED file is wrong.
        ResourceFault: The folder cannot be written, or memory is limited to less than the libraries take.
    """
    check_memory_limit()
    if out is not None:
        check_out_folder(out)
    for path in (*inputs, regions):
        if path is not None:
            check_readable(path)
    if regions is not None and os.path.isfile(regions):
        from annotator.genome.regions import check_bed

        check_bed(regions)


def check_annotation(out: Path, fasta: Sequence[str], sheet: Path | None, motifs: str, regions: Path | None) -> None:
    """Check what `annotate` reads and writes; of several assemblies each is looked at in its turn, and fails alone.

    Args:
        out: The results folder.
        fasta: Paths of the assemblies.
        sheet: A sample sheet instead of paths.
        motifs: A motif file, or the name of a JASPAR release.
        regions: A BED file.

    Raises:
        AnnotatorError: The errors of `check_run`.
    """
    several = len(fasta) > 1 or (fasta and sheet is not None)  # paths and a sheet at once are refused where samples are made
    check_run(out, [] if several else [*fasta, sheet], regions)
    if not release_named(motifs):
        try:
            check_readable(motifs)
        except UsageError as error:
            raise UsageError(error.reason, "motifs") from None


def check_memory_limit() -> None:
    """See that a limit on address space (`ulimit -v`, `h_vmem`) leaves room for the libraries.

    With less, libraries end the process in ways of their own when they get no memory.

    Raises:
        ResourceFault: The limit is too low.
    """
    limit = address_space_limit()
    least = _LEAST_ADDRESS_SPACE + usable_cpus() * _ADDRESS_SPACE_PER_CPU
    if limit is not None and limit < least:
        raise ResourceFault(
            f"out of memory: address space is limited to {limit >> 20} MiB (ulimit -v), and the libraries alone take "
            f"{least >> 20} MiB; raise the limit"
        )


def address_space_limit() -> int | None:
    """Bytes of address space that this process may take; None without a limit."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def check_readable(path: str | os.PathLike[str]) -> None:
    """See that an input file is there; standard input is, and what it or a FIFO holds is not looked at.

    Raises:
        UsageError: There is no such file, or it may not be read.
    """
    text = str(path)
    if text in STDIN_PATHS:
        return
    try:
        mode = os.stat(path).st_mode
        problem = os.strerror(errno.EISDIR) if stat.S_ISDIR(mode) else ""
        problem = problem or ("" if os.access(path, os.R_OK) else os.strerror(errno.EACCES))
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or str(error)
        if _URL.match(text):
            problem = "this is a URL; fetch the file first"
    if problem:
        raise UsageError(f"{text}: cannot read: {problem}")


def check_out_folder(out: Path) -> None:
    """See that results can be written to a folder, which need not be there yet; nothing is left behind.

    Args:
        out: The folder.

    Raises:
        UsageError: The path is a URL or not UTF-8, leads through a link to nowhere or through a file, or is a file.
        ResourceFault: The folder is read-only or full, or its file system has no locks.
    """
    if _URL.match(str(out)):
        raise UsageError(f"{out}: this is a URL; results are written to a folder of this machine")
    whole = Path(os.path.abspath(out))
    if not is_utf8(whole):
        raise UsageError(
            f"{os.fsencode(whole)!r}: the path is not UTF-8, or the locale is not; choose another folder or set LC_ALL=C.UTF-8"
        )
    existing = whole
    while not existing.exists():
        if existing.is_symlink():
            raise UsageError(
                f"{out if existing == whole else existing}: is a link to {os.readlink(existing)}, which is not there"
            )
        existing = existing.parent
    if not existing.is_dir():
        raise UsageError(f"{out}: {'is not a folder' if existing == whole else f'{existing} is not a folder'}")
    _write_something(existing, out)


def check_model_folder(out: Path, manifest_name: str) -> None:
    """See that a folder that a model is to be written to holds nothing else: what it held would be gone.

    Args:
        out: The folder, which need not be there yet.
        manifest_name: File that tells a model of the kind.

    Raises:
        UsageError: There is a file of that name, or a folder that holds something and is no such model.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is not a folder")
    if out.is_dir() and not (out / manifest_name).is_file() and any(out.iterdir()):
        raise UsageError(f"{out}: holds something that is no model (no {manifest_name}) and would be lost; choose another folder")


def is_utf8(path: str | Path) -> bool:
    """Whether every library sees the same path: some take paths as UTF-8 whatever the locale says."""
    try:
        return os.fsencode(path) == os.fspath(path).encode("utf-8")
    except UnicodeEncodeError:
        return False


def as_text(path: str) -> str:
    """A path as files name it: bytes that are not text in UTF-8 stand in hexadecimal digits behind a backslash and an x."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _write_something(existing: Path, out: Path) -> None:
    """Make a folder, lock it, write to it, and remove it.

    Raises:
        ResourceFault: One of these is refused.
    """
    with temporary_folder(existing) as folder:
        try:
            lock = FolderLock(folder / "lock", out)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                told = "its file system has no locks, without which two runs could write there at a time; choose another folder"
                raise ResourceFault(f"cannot write {out}: {told}") from None
            raise ResourceFault(f"cannot write {out}: {error.strerror}") from None
        try:
            with open(folder / "probe", "wb", buffering=0) as file:
                file.write(bytes(_PROBE_BYTES))
                os.fsync(file.fileno())
        except OSError as error:
            raise ResourceFault(f"cannot write {out}: {error.strerror}") from None
        finally:
            lock.close()
