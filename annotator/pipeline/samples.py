"""Several assemblies in one run: their names and their results folders."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence
from pathlib import Path

from annotator.errors import InputError, UsageError
from annotator.genome.files import STDIN_PATHS
from annotator.pipeline.options import Sample
from annotator.preflight import is_utf8
from annotator.results.batch import SUMMARY

SHEET_COLUMNS = ["sample", "fasta"]
LONGEST_NAME = 200

_EXTENSIONS = re.compile(r"(\.(fasta|fa|fna|fas|ffn|seq))?(\.(gz|bgz|bgzf))?$", re.IGNORECASE)
_NO_FOLDER = re.compile(r"^[.-]|[/\\\x00-\x20\x7f]|^$")


def samples_given(fasta: Sequence[str], sheet: Path | None, out_dir: Path) -> list[Sample]:
    """The assemblies of a run.

    Args:
        fasta: Paths; a single one has its results in `out_dir` itself, several in folders named after their files.
        sheet: Instead of paths: CSV with the columns sample and fasta; paths are relative to the sheet's folder.
        out_dir: The results folder.

    Raises:
        UsageError: Neither or both are given, the sheet is missing, or names do not make folders of their own.
        InputError: The sheet's content is wrong; the message names the line.
    """
    if bool(fasta) == bool(sheet):
        raise UsageError("give FASTA files or `sheet`" + (", not both" if fasta else ""))
    if sheet is not None:
        return [Sample(path, out_dir / name, name) for name, path in _read_sheet(sheet)]
    if len(fasta) == 1:
        return [Sample(fasta[0], out_dir)]
    named: dict[str, str] = {}
    for path in fasta:
        if path in STDIN_PATHS:
            raise UsageError(f"{path}: standard input can only be annotated alone")
        name = _EXTENSIONS.sub("", _portable(Path(path).name))
        if (fault := _no_folder(name)) is not None:
            raise UsageError(f"{path}: {fault}; name it in a sample sheet (`sheet`)")
        if name in named:
            raise UsageError(f"{named[name]} and {path}: both would be sample {name}; name them in a sample sheet (`sheet`)")
        named[name] = path
    return [Sample(path, out_dir / name, name) for name, path in named.items()]


def _portable(name: str) -> str:
    """A file's name with an underscore for what is no text in the locale, so that it can be that of a folder anywhere."""
    return name if is_utf8(name) else os.fsencode(name).decode("ascii", "replace").replace("\ufffd", "_")


def _read_sheet(sheet: Path) -> list[tuple[str, str]]:
    try:
        text = sheet.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(str(error.strerror), "sheet", sheet) from None
    except UnicodeDecodeError:
        raise InputError(f"{sheet}: not text in UTF-8") from None
    reader = csv.reader(text.splitlines(), strict=True)
    rows: dict[str, str] = {}
    header: list[str] | None = None
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            cells = [cell.strip() for cell in row]
            if header is None:
                header = cells
                if sorted(header) != sorted(SHEET_COLUMNS):
                    raise InputError(
                        f"{sheet}: line {reader.line_num}: the columns are {','.join(SHEET_COLUMNS)}, not {','.join(cells)}"
                    )
                continue
            if len(cells) != len(header):
                raise InputError(f"{sheet}: line {reader.line_num}: {len(cells)} columns, not {len(header)}")
            entry = dict(zip(header, cells, strict=True))
            name, path = entry["sample"], entry["fasta"]
            if (fault := _no_folder(name)) is not None:
                raise InputError(f"{sheet}: line {reader.line_num}: {fault}")
            if name in rows:
                raise InputError(f"{sheet}: line {reader.line_num}: sample {name} comes twice")
            if not path or path in STDIN_PATHS:
                raise InputError(f"{sheet}: line {reader.line_num}: sample {name} needs a file")
            rows[name] = str(sheet.parent / path)
    except csv.Error as error:
        raise InputError(f"{sheet}: line {reader.line_num}: {error}") from None
    if not rows:
        raise InputError(f"{sheet}: no samples")
    return list(rows.items())


def _no_folder(name: str) -> str | None:
    """Why a sample's name cannot be that of its folder."""
    if not is_utf8(name):
        return f"{ascii(name[:40])} cannot be the name of a folder in this locale; set LC_ALL=C.UTF-8"
    if _NO_FOLDER.search(name) or len(name.encode()) > LONGEST_NAME or name == SUMMARY:
        return f"{name[:40]!r} cannot be the name of a sample (1 to {LONGEST_NAME} bytes, no '/', blank or leading '.' or '-')"
    return None
