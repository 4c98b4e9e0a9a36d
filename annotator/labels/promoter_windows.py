"""Tables of short windows, promoters and others, as a genome whose contigs are the windows.

Coordinates: 0-based; contigs end to end, as in `LabelledGenome`. Rows of a table are counted from 1 below its header.
"""

from __future__ import annotations

import csv
import gzip
import logging
import zlib
from pathlib import Path

import numpy as np

from annotator.errors import InputError, UsageError
from annotator.kinds import LABEL_TRACKS, STRANDS, Strand
from annotator.labels.labelled import LabelledGenome
from annotator.labels.options import PromoterWindows
from annotator.labels.window_tables import FIRST_LINE, read_window_table

logger = logging.getLogger(__name__)

_LEFT_OUT_COLUMNS = ["table", "row", "split"]


def load_promoter_windows(source: PromoterWindows) -> LabelledGenome:
    """Read windows whose TSS lies at a known base; what was left out is logged.

    Args:
        source: Tables, and how to use them.

    Returns:
        A genome with a contig for each window. The TSS of a promoter is on the plus strand; no other kind of site is known. A
        sequence that comes again is taken once.

    Raises:
        UsageError: A file is missing or unreadable.
        InputError: A table is wrong, has a window that is too short to hold the TSS, or lies outside the folder of the rows to be
            left out; or nothing is left.
    """
    refused = _rows_left_out(source.left_out) if source.left_out else {}
    windows: dict[bytes, bool] = {}
    names: list[str] = []
    counts = {"rows": 0, "left_out": 0, "repeated": 0}
    for path in source.tables:
        table = read_window_table(path)
        table.check_classes(2)
        rows = refused.get(_name_in(path, source.left_out), set()) if source.left_out else set()
        if beyond := [row for row in rows if not 1 <= row <= len(table)]:
            raise InputError(f"{source.left_out}: row {beyond[0]} of {path.name}, which has {len(table)} rows")
        for row, (sequence, label) in enumerate(zip(table.sequences, table.labels.tolist(), strict=True), start=1):
            counts["rows"] += 1
            if len(sequence) <= source.tss_index:
                line = row - 1 + FIRST_LINE
                raise InputError(
                    f"{path} line {line}: {len(sequence)} bp have no base {source.tss_index}, where the TSS should be"
                )
            if row in rows:
                counts["left_out"] += 1
            elif sequence in windows:
                counts["repeated"] += 1
            else:
                windows[sequence] = bool(label)
                names.append(f"{path.name}:{row}")
    ends = np.cumsum([len(sequence) for sequence in windows]).astype(np.int64)
    is_promoter = np.fromiter(windows.values(), np.bool_, len(windows))
    starts = np.concatenate([np.zeros(1, np.int64), ends])[:-1]
    empty = {(kind, strand): np.empty(0, np.int64) for kind in LABEL_TRACKS for strand in STRANDS}
    sites = empty | {("tss", Strand.PLUS): starts[is_promoter] + source.tss_index}
    if not is_promoter.any():
        raise InputError(
            f"{source.tables[0]}: no promoter to learn from; left out: {counts['left_out']} of {counts['rows']} rows"
        )
    logger.info(
        "%s: %d windows, %d of them promoters; %d rows left out, %d repeated", source.name, len(windows), is_promoter.sum(),
        counts["left_out"], counts["repeated"],
    )  # fmt: skip
    bases = np.frombuffer(b"".join(windows), np.uint8)
    return LabelledGenome(
        source.name, source.clade, bases, ends, tuple(names), sites, empty, frozenset({"tss"}),
        weight=source.weight, annotation={"truth": {"files": [path.name for path in source.tables], "counts": counts}},
    )  # fmt: skip


def _name_in(path: Path, left_out: Path) -> str:
    """A table's name from the folder of the rows to be left out."""
    try:
        return path.resolve().relative_to(left_out.resolve().parent).as_posix()
    except ValueError:
        raise InputError(f"{left_out}: names tables of its own folder, but {path} lies elsewhere") from None


def _rows_left_out(path: Path) -> dict[str, set[int]]:
    """Rows that are never learnt from, by table."""
    found: dict[str, set[int]] = {}
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            reader = csv.reader(file, delimiter="\t")
            if next(reader, None) != _LEFT_OUT_COLUMNS:
                raise InputError(f"{path} line 1: the header should be {', '.join(_LEFT_OUT_COLUMNS)}, separated by tabs")
            for fields in reader:
                if len(fields) != len(_LEFT_OUT_COLUMNS) or not fields[1].isdecimal():
                    raise InputError(f"{path} line {reader.line_num}: no table, row and split: {' '.join(fields)[:60]!r}")
                found.setdefault(fields[0], set()).add(int(fields[1]))
    except (gzip.BadGzipFile, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a table of text, or damaged ({error})") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    return found
