"""Lines of annotation files, plain or gzipped: fields by line number, whatever editors and spreadsheets left in them."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

from annotator.errors import InputError, UsageError
from annotator.genome.contig_names import is_header

LabelFormat = Literal["bed", "gtf", "gff3"]
_KNOWN: dict[str, LabelFormat] = {".bed": "bed", ".gtf": "gtf", ".gff2": "gtf", ".gff3": "gff3"}


def iter_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Read the lines that hold data.

    Comments, blank lines, "track" and "browser" lines are passed over, and everything from "##FASTA" or a FASTA record on. A byte
    order mark, carriage returns and quotes around fields are taken off. Bytes that are not UTF-8 become backslash escapes: only
    names and numbers matter.

    Args:
        path: The file.

    Yields:
        Line number, 1-based, and the fields between tabs.

    Raises:
        UsageError: The file is missing or unreadable.
        InputError: It is no text, or damaged.
    """
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                text = line.rstrip("\r\n")
                if number == 1:
                    text = text.removeprefix("\ufeff")
                if text.startswith(("##FASTA", ">")):
                    return
                if not text.strip() or text.startswith("#"):
                    continue
                if "\0" in text:
                    kind = (
                        "UTF-16; save it as UTF-8"
                        if number == 1 and text.startswith(("\\xff\\xfe", "\\xfe\\xff"))
                        else "binary data"
                    )
                    raise InputError(f"{path} line {number}: this is not text ({kind})")
                fields = text.split("\t")
                if len(fields) < 3 and text.split(maxsplit=1)[0] in ("track", "browser"):
                    continue
                yield number, _unquoted(fields) if text.startswith('"') else fields
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path} after line {number}: damaged or cut gzip data ({error})") from error
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error


def format_of(path: Path) -> LabelFormat:
    """The format of an annotation, by the end of its name or else by its first line.

    Raises:
        UsageError: The file is missing or unreadable.
        InputError: It is none of the three.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in (".gz", ".bgz")]
    if suffixes and suffixes[-1] in _KNOWN:
        return _KNOWN[suffixes[-1]]
    for number, fields in iter_rows(path):
        if len(fields) >= 9 and fields[3].isdigit() and fields[4].isdigit():
            return "gff3" if "=" in fields[8].split(";")[0] else "gtf"
        if len(fields) >= 3 and fields[1].isdigit() and fields[2].isdigit():
            return "bed"
        if not is_header(fields):
            raise InputError(f"{path} line {number}: this is neither BED nor GTF nor GFF3")
    return "bed"  # nothing but comments: no site in any of the formats


def integers(first: str, second: str) -> tuple[int, int]:
    """Two coordinates; ValueError where they are no whole numbers."""
    if not all(text.strip().lstrip("-").isdecimal() and text.isascii() for text in (first, second)):
        raise ValueError(f'"{first}" and "{second}" should be whole numbers')
    return int(first), int(second)


def _unquoted(fields: list[str]) -> list[str]:
    """Fields without the quotes that R and spreadsheets put around text; quotes within are doubled or escaped there."""
    return [
        field[1:-1].replace('""', '"').replace('\\"', '"') if len(field) > 1 and field[0] == field[-1] == '"' else field
        for field in fields
    ]


def _open(path: Path) -> IO[str]:
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    if zipped:
        return gzip.open(path, "rt", encoding="utf-8", errors="backslashreplace")
    return open(path, encoding="utf-8", errors="backslashreplace")
