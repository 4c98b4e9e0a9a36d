"""Reads motif files: JASPAR, HOCOMOCO's pcm, MEME (with the text output of MEME, STREME and DREME) and TRANSFAC.

The format is told by the content. Files are streamed and everything in them is data: nothing is evaluated, expanded or
looked up. Formats that are known but not read are refused by their name.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from annotator.errors import InputError, UsageError
from annotator.motifs.formats.jaspar import read_jaspar
from annotator.motifs.formats.lines import MotifLines, Record
from annotator.motifs.formats.meme import VERSION_LINE, read_meme
from annotator.motifs.formats.transfac import FIRST_LINE, read_transfac
from annotator.motifs.motif import MAX_MOTIFS, Motif, quoted

_BANNER = "****"
_BANNER_LINES = 20
"""In so many lines the text output of the MEME programs comes to its line `MEME version`."""
_HINT_LINES = 10

_NOT_READ = (
    (re.compile(r"Pos(?:ition)?\s+A\s+C\s+G\s+T\b"), "CIS-BP's format"),
    (re.compile(r"[ACGT]:\s"), "UniPROBE's format"),
    (re.compile(r"Gene:|Protein:"), "UniPROBE's format"),
    (re.compile(r"<"), "XML or HTML (the MEME programs write a .txt beside it)"),
    (re.compile(r"log-odds matrix"), "a log-odds matrix"),
    (re.compile(r"MOTIF\s|letter-probability matrix|ALPHABET"), f"MEME's format without its line {VERSION_LINE!r}"),
    (re.compile(r"[-+.0-9eE\s]+$"), "a matrix without a line >name above it"),
)
"""How lines of formats begin that are not read, and what they are."""


def read_motifs(path: Path) -> list[Motif]:
    """Read every motif of a file, in file order.

    Args:
        path: The file, plain or gzip (told by its first bytes).

    Returns:
        At least one motif, ids all different.

    Raises:
        UsageError: The file is missing or unreadable.
        InputError: It is no motif file, damaged, beyond a limit, or holds an unusable motif; names file, line and motif.
    """
    path = Path(path)
    try:
        with path.open("rb") as raw:
            zipped = raw.peek(2)[:2] == b"\x1f\x8b"
            return _read(MotifLines(path, gzip.GzipFile(fileobj=raw).readline if zipped else raw.readline))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: damaged gzip file: {error}") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error


def _read(lines: MotifLines) -> list[Motif]:
    motifs: list[Motif] = []
    first_seen: dict[str, int] = {}
    for record in _records(lines):
        lines.motif = record.matrix_id
        if len(motifs) == MAX_MOTIFS:
            lines.fail(f"the file holds more than {MAX_MOTIFS} motifs", record.line)
        if record.matrix_id in first_seen:
            lines.fail(f"the matrix id is used twice, first at line {first_seen[record.matrix_id]}", record.line)
        first_seen[record.matrix_id] = record.line
        try:
            motifs.append(Motif(record.matrix_id, record.name, np.array(record.rows).reshape(-1, 4)))
        except InputError as error:
            raise InputError(f"{lines.path}: line {record.line}: {error}") from error
        lines.motif = ""
    if not motifs:
        lines.fail("the file holds no motif")
    return motifs


def _records(lines: MotifLines) -> Iterator[Record]:
    """The reader that the first line with content asks for."""
    for line in lines:
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if text.startswith(_BANNER) and not _skip_banner(lines):
            break
        if text.startswith((VERSION_LINE, _BANNER)):
            return read_meme(lines)
        lines.push_back(line)
        if text.startswith(">"):
            return read_jaspar(lines)
        if FIRST_LINE.match(line):
            return read_transfac(lines)
        _refuse(lines, text)
    return iter(())


def _skip_banner(lines: MotifLines) -> bool:
    """Move past the line `MEME version`; False at the file's end.

    Raises:
        InputError: It does not follow, as in the output of programs that write no motifs.
    """
    start = lines.number
    for line in lines:
        if line.startswith(VERSION_LINE):
            return True
        if lines.number - start == _BANNER_LINES:
            lines.fail(f"no line {VERSION_LINE!r} follows: neither JASPAR, MEME nor TRANSFAC starts so", start)
    return False


def _refuse(lines: MotifLines, text: str) -> None:
    """Say what the file is, as far as the lines to come tell, at the line that comes next.

    Raises:
        InputError: Always.
    """
    ahead = [line.strip() for line in islice(lines, _HINT_LINES)]
    known = next((what for line in ahead for start, what in _NOT_READ if start.match(line)), "")
    number = lines.number - len(ahead) + 1
    hint = f"; this is {known}, which is not read: convert it to MEME, JASPAR or TRANSFAC" if known else ""
    lines.fail(f"neither JASPAR, MEME nor TRANSFAC starts with {quoted(text)}{hint}", number)
