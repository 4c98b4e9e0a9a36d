"""Matrices under a `>id name` line: JASPAR (a row for each base) and HOCOMOCO's pcm (a row for each position).

Four bare rows of four numbers may be either. The other matrices of the file then decide; where they do not, the file is
refused: a matrix read the wrong way round finds sites of another motif.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from annotator.motifs.formats.lines import ASSUMED_SITES, MotifLines, Record, are_probabilities
from annotator.motifs.motif import MAX_WIDTH, quoted

_MAX_WAITING = 100_000
_SEQUENCE = re.compile("[ACGTUNacgtun]{4,}")
_NUMBER_FIELD = re.compile(r"-?[0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?")


class _Rows(Enum):
    """What the rows of a matrix stand for."""

    BASES = "a row for each base"
    POSITIONS = "a row for each position"


@dataclass(frozen=True)
class _Matrix:
    """A matrix as it stands in the file; `rows` is None where it may be read either way."""

    line: int
    matrix_id: str
    name: str
    values: list[list[float]]
    rows: _Rows | None


def read_jaspar(lines: MotifLines) -> Iterator[Record]:
    """Read a file of matrices under `>` lines.

    Args:
        lines: The file, at its first `>` line.

    Yields:
        The motifs in file order. Probabilities by position stand for ASSUMED_SITES sites.

    Raises:
        InputError: The file is damaged or of a format that is not read, or nothing tells which way round a matrix is.
    """
    decided: _Matrix | None = None  # the first matrix that can be read in one way only
    waiting: list[_Matrix] = []
    for matrix in _matrices(lines):
        if matrix.rows is None and decided is None:
            waiting.append(matrix)
            if len(waiting) > _MAX_WAITING:
                break
            continue
        decided = decided or matrix
        if matrix.rows and decided.rows and matrix.rows != decided.rows:
            other = f"that of {quoted(decided.matrix_id)} (line {decided.line}) {decided.rows.value}"
            lines.motif = matrix.matrix_id
            lines.fail(f"its matrix has {matrix.rows.value}, but {other}", matrix.line)
        for ready in (*waiting, matrix):
            yield _record(ready, decided.rows)
        waiting.clear()
    if waiting:
        lines.motif = waiting[0].matrix_id
        lines.fail(
            "four rows of four numbers may be bases by positions (JASPAR) or positions by bases (HOCOMOCO), and no other motif "
            "of the file tells which; begin the rows with A, C, G and T",
            waiting[0].line,
        )


def _record(matrix: _Matrix, rows: _Rows | None) -> Record:
    positions = matrix.values
    if rows is _Rows.BASES:
        positions = [list(column) for column in zip(*matrix.values, strict=True)]
    elif all(map(are_probabilities, positions)):
        positions = [[value * ASSUMED_SITES for value in row] for row in positions]
    return Record(matrix.line, matrix.matrix_id, matrix.name, positions)


def _matrices(lines: MotifLines) -> Iterator[_Matrix]:
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        if not line.startswith(">"):
            lines.fail(f"expected a line that starts with >, not {quoted(line)}")
        start = lines.number
        matrix_id, name = _header(lines, line)
        lines.motif = matrix_id
        values, rows = _values(lines)
        yield _Matrix(start, matrix_id, name, values, rows)
        lines.motif = ""


def _header(lines: MotifLines, line: str) -> tuple[str, str]:
    """Id and name; a third field after a tab describes the motif."""
    fields = [field.strip() for field in line[1:].strip().split("\t")]
    if len(fields) > 2 and _NUMBER_FIELD.fullmatch(fields[2]):
        lines.fail("this is a HOMER motif file, which is not read; convert it to MEME, JASPAR or TRANSFAC")
    words = line[1:].split(None, 1)
    if not words:
        lines.fail("the header names no motif")
    return words[0], words[1].split("\t")[0].strip() if len(words) > 1 else words[0]


def _values(lines: MotifLines) -> tuple[list[list[float]], _Rows | None]:
    """The rows up to the next header, blank line or the file's end; rows with letters come in the order A, C, G, T."""
    bases: dict[str, list[float]] = {}
    values: list[list[float]] = []
    has_letters = False
    while (line := lines.next()) is not None and line.strip() and not line.startswith(">"):
        if has_letters and len(values) == 4:
            lines.fail(f"expected a line that starts with >, not {quoted(line)}")
        letter, tokens = _tokens(lines, line)
        has_letters |= bool(letter)
        base = letter or "ACGT"[len(values) % 4]
        if has_letters and base in bases:
            lines.fail(f"two rows for {base}")
        bases[base] = lines.weights(tokens)
        values.append(bases[base])
        if len(values[-1]) != len(values[0]):
            lines.fail("its rows differ in length")
        if len(values) > MAX_WIDTH:
            lines.fail(f"its width is over {MAX_WIDTH}; 1 to {MAX_WIDTH} is allowed")
    if len(bases) < 4 and (has_letters or not values or len(values[0]) != 4):
        lines.fail("four rows (A, C, G, T) are needed, or rows of four numbers")
    if not has_letters and len(values) != 4 and len(values[0]) != 4:
        lines.fail(f"four rows (A, C, G, T) are needed, or rows of four numbers, not {len(values)} of {len(values[0])}")
    if line is not None:
        lines.push_back(line)
    if has_letters:
        return [bases[base] for base in "ACGT"], _Rows.BASES
    if len(values[0]) != 4:
        return values, _Rows.BASES
    return values, None if len(values) == 4 else _Rows.POSITIONS


def _tokens(lines: MotifLines, row: str) -> tuple[str, list[str]]:
    """Base (empty where the row has none) and numbers of `A [ 1 2 ]`, `A | 1 2`, `A 1 2` or `1 2`."""
    tokens = row.replace("[", " ").replace("]", " ").replace("|", " ").split()
    if tokens and _SEQUENCE.fullmatch(tokens[0]):
        lines.fail("sequences (FASTA, or a list of binding sites) are not read as a motif; give a matrix of counts")
    if tokens and tokens[0].upper() in ("A:", "C:", "G:", "T:"):
        lines.fail("UniPROBE's format is not read; leave out the colons after A, C, G and T, which makes it JASPAR's")
    base = tokens.pop(0).upper() if tokens and tokens[0].upper() in ("A", "C", "G", "T") else ""
    if len(tokens) > MAX_WIDTH:
        lines.fail(f"its width is {len(tokens)}; 1 to {MAX_WIDTH} is allowed")
    return base, tokens
