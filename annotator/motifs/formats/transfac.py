"""TRANSFAC's motif format (`AC`, `ID`, `NA`, `PO`, numbered rows, `//`), which HOCOMOCO and JASPAR write as well."""

from __future__ import annotations

import re
from collections.abc import Iterator

from annotator.motifs.formats.lines import MotifLines, Record
from annotator.motifs.motif import MAX_WIDTH

FIRST_LINE = re.compile(r"(?:AC|ID|NA|DE|VV|XX|PO|P0|CC|BF|TY)(?:\s|$)")
_ROW_NUMBER = re.compile("[0-9]{1,6}")
_STAMP = "STAMP's format (DE, then rows without a PO line that orders the bases) is not read; convert it to TRANSFAC or MEME"


def read_transfac(lines: MotifLines) -> Iterator[Record]:
    """Read a file in TRANSFAC's format.

    Args:
        lines: The file, at its first line with a tag.

    Yields:
        The motifs in file order.

    Raises:
        InputError: The file is damaged.
    """
    fields: dict[str, str] = {}
    rows: list[list[float]] = []
    order: list[int] | None = None
    start = row_number = 0
    for line in lines:
        words = line.split()
        if not words or line.startswith("#"):
            continue
        start = start or lines.number
        tag = words[0]
        if tag == "//":
            record = _record(lines, start, fields, rows if order is not None else None)
            if record is not None:
                yield record
            fields, rows, order, start, lines.motif = {}, [], None, 0, ""
        elif tag in ("PO", "P0"):
            if order is not None or sorted(words[1:5]) != list("ACGT"):
                lines.fail("a matrix needs one header line with the bases A, C, G and T")
            order = [words[1:5].index(base) for base in "ACGT"]
        elif tag in ("AC", "ID", "NA"):
            if tag in fields:
                lines.fail(f"a second {tag} line; the motif before lacks its //")
            fields[tag] = line.strip()[2:].strip()
            lines.motif = fields.get("AC") or fields.get("ID") or ""
        elif _ROW_NUMBER.fullmatch(tag):
            if order is None:
                lines.fail("a matrix row before its header line (PO), which orders the bases" if fields else _STAMP)
            if rows and int(tag) != row_number + 1:
                lines.fail("a matrix row is missing")
            row_number = int(tag)
            values = lines.weights(words[1:5])
            if len(values) != 4 or len(words) > 6:  # a sixth word is the consensus letter
                lines.fail("a matrix row must hold four counts")
            if len(rows) == MAX_WIDTH:
                lines.fail(f"it has more than {MAX_WIDTH} rows")
            rows.append([values[i] for i in order])
    if fields or rows:
        lines.fail("the file ends inside a motif (no //)")


def _record(lines: MotifLines, start: int, fields: dict[str, str], rows: list[list[float]] | None) -> Record | None:
    """The motif of an entry; None for an entry that names none, such as the version header."""
    matrix_id = fields.get("AC") or fields.get("ID") or ""
    if rows is None and not matrix_id:
        return None
    if rows is None or not matrix_id:
        lines.fail("a matrix without an AC or ID line" if rows else "it has no matrix")
    return Record(start, matrix_id, fields.get("NA") or fields.get("ID") or matrix_id, rows)
