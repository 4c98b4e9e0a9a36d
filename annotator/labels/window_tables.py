"""Tables of labelled sequences: GUE's CSV and DNABERT's TSV, plain or compressed.

Line 1 is the header; row i of a table stands on line i + 2 of its file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotator.errors import InputError
from annotator.genome.alphabet import BASE_TABLE, CLASS_TABLE, GAP, LETTERS, describe_byte
from annotator.genome.decoding import DecodedInput
from annotator.genome.files import InputFile
from annotator.genome.headers import quote

TABLE_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
"""Ends of the names of labelled tables, in the order in which they are looked for."""
COLUMNS = ("sequence", "label")
FIRST_LINE = 2
_INDEX_NAMES = ("", "index", "unnamed: 0", "row.names", "rownames")
"""Names of a column of row numbers, in lower case."""
_LONGEST_LABEL = 6
_BASES = bytes(letter for letter in LETTERS if BASE_TABLE[letter] and not CLASS_TABLE[letter] & GAP)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class WindowTable:
    """Sequences, each of one class.

    Attributes:
        sequences: ASCII bases of ACGTN (IUPAC codes read as N, U as T, as in a FASTA file), each at least one base long.
        labels: Class of each, int64, [n], from 0 up.
        path: The file they were read from, for messages.
    """

    sequences: list[bytes]
    labels: NDArray[np.int64]
    path: Path

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self.sequences)

    def check_classes(self, classes: int) -> None:
        """See that every label is one of 0..classes - 1.

        Raises:
            InputError: One is not; the message names its line.
        """
        beyond = np.flatnonzero(self.labels >= classes)
        if len(beyond):
            row = int(beyond[0])
            raise InputError(
                f"{self.path} line {row + FIRST_LINE}: label {self.labels[row]}, but the classes are 0..{classes - 1}"
            )


def find_table(folder: Path, split: str) -> Path | None:
    """The table of a split (train, dev, test) in a folder, whatever its format; None where there is none."""
    return next((path for suffix in TABLE_SUFFIXES if (path := folder / f"{split}{suffix}").is_file()), None)


def read_window_table(path: Path) -> WindowTable:
    """Read a table of two columns, `sequence` and `label`, separated by commas or tabs as its header says.

    Quotes around fields are taken off, and a column of row numbers or names, as R and pandas write it, is passed over.
    A sequence is written out, or as DNABERT's k-mers: words of one length, each the one before moved on by a base.

    Args:
        path: Plain, gzip or BGZF, told by its content.

    Returns:
        The table, in file order.

    Raises:
        UsageError: The file is missing or unreadable.
        InputError: Another header (also that of a table of pairs), no row, a row that has not two fields, an empty sequence, a
            letter that is no base, k-mers that do not join, a label that is no whole number from 0 up; or damaged data. The
            message names the line.
    """
    with InputFile(path) as source:
        text = b"".join(DecodedInput(source, eof_check=True).blocks())
    header, *rows = text.removeprefix(_BYTE_ORDER_MARK).rstrip().split(b"\n")
    separator = b"\t" if b"\t" in header else b","
    try:
        names = [_plain(name) for name in header.rstrip(b"\r").split(separator)]
        sequence_column, label_column = _columns(names)
    except ValueError as error:
        raise InputError(f"{path} line 1: {error}") from None
    if not rows:
        raise InputError(f"{path}: no row below the header")
    sequences: list[bytes] = []
    labels = np.empty(len(rows), np.int64)
    # R's write.table quotes all text, and names rows, but not the column of their names
    named = header.startswith(b'"') and rows[0].count(separator) == len(names)
    for row, line in enumerate(rows):
        fields = line.rstrip(b"\r").split(separator)[named:]
        try:
            if len(fields) != len(names):
                raise ValueError(f"{len(fields)} fields; the header has {len(names)}")
            sequences.append(_bases(_plain(fields[sequence_column])))
            labels[row] = _label(_plain(fields[label_column]))
        except ValueError as error:
            raise InputError(f"{path} line {row + FIRST_LINE}: {error}") from None
    return WindowTable(sequences, labels, path)


def _plain(field: bytes) -> bytes:
    """A field without blanks and without the quotes that R puts around text."""
    field = field.strip()
    return field[1:-1].strip() if len(field) > 1 and field[:1] == field[-1:] == b'"' else field


def _columns(names: list[bytes]) -> tuple[int, int]:
    """Indices of the columns of the sequence and of the label."""
    found = [name.decode("utf-8", "backslashreplace") for name in names]
    shown = [name for name in found if name.lower() not in _INDEX_NAMES]
    if len([name for name in shown if name.startswith("sequence")]) > 1:
        raise ValueError(f"columns {', '.join(shown)}: a table of pairs; only single sequences are classified")
    if missing := [name for name in COLUMNS if name not in shown]:
        raise ValueError(f"no column {quote(missing[0])}; the header should be sequence,label (or the two with a tab between)")
    if len(shown) > len(COLUMNS) or len(found) > len(COLUMNS) + 1:
        raise ValueError(f"{len(found)} columns ({', '.join(found)}); a table has two, sequence and label")
    return found.index("sequence"), found.index("label")


def _bases(field: bytes) -> bytes:
    words = field.split()
    if not words:
        raise ValueError("the sequence is empty")
    if wrong := b"".join(words).translate(None, _BASES):
        raise ValueError(f"{describe_byte(wrong[0])} in the sequence is no base")
    bases = words[0] + b"".join(word[-1:] for word in words[1:])
    k = len(words[0])
    if len(words) > 1 and any(word != bases[i : i + k] for i, word in enumerate(words)):
        raise ValueError(f"the words of the sequence are no k-mers: each should be the one before (k = {k}) moved on by a base")
    return bases.translate(BASE_TABLE)


def _label(field: bytes) -> int:
    if not field.isdigit() or len(field) > _LONGEST_LABEL:
        raise ValueError(f"label {quote(field.decode('utf-8', 'backslashreplace'))} is not a whole number from 0 up")
    return int(field)
