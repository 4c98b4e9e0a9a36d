"""Motif matrices, their text formats, and the JASPAR releases that pyjaspar bundles.

Three text formats are read, told apart by their content: JASPAR (`>id name`, then four rows, bare or as `A [ 1 2 ]`),
MEME (`letter-probability matrix`; probabilities times nsites become counts) and TRANSFAC (`AC`, `ID`, `NA`, `PO`, `//`).
Files are streamed and everything in them is data: nothing is evaluated, expanded or looked up.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from annotator.errors import EnvironmentFault, InputError, UsageError

MAX_WIDTH = 64
MAX_MOTIFS = 100_000
MAX_FILE_BYTES = 256_000_000
MAX_LINE_BYTES = 65_536
MAX_COUNT = 1e12
_MAX_NAME = 256

JASPAR_RELEASE = "JASPAR2024"
"""The release a run uses; written to run.json."""

CLADE_TAXA: dict[str, tuple[str, ...]] = {
    "vertebrate": ("vertebrates",),
    "invertebrate": ("insects", "nematodes", "urochordates"),
    "plant": ("plants",),
    "fungi": ("fungi",),
}
"""JASPAR tax groups of each clade."""

_MEME_SITES = 20.0  # MEME's own default where nsites is not given
_PROBABILITY_SLACK = 0.02
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")  # all but the tab
_ROW_NUMBER = re.compile("[0-9]{1,6}")
_TRANSFAC_LINE = re.compile(r"(?:AC|ID|NA|DE|VV|XX|PO|P0|CC|BF|TY)(?:\s|$)")


@dataclass(frozen=True, eq=False)
class Motif:
    """A position frequency matrix.

    Attributes:
        matrix_id: Identifier, unique in a run, e.g. MA0004.1; printable, no blanks at its ends.
        name: Name of the transcription factor, e.g. Arnt; printable, no blanks at its ends.
        counts: Sites that hold each base, float64, [W, 4], columns A, C, G, T; W = 1..64; read-only.
    """

    matrix_id: str
    name: str
    counts: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Refuse a matrix that cannot be scored.

        Raises:
            InputError: The matrix cannot be scored; the message names the motif and the fault.
        """
        problem = _problem_of(self.matrix_id, "matrix id") or _problem_of(self.name, "name")
        if problem:
            raise InputError(f"motif {_quoted(self.matrix_id)}: {problem}")
        counts = np.array(self.counts, np.float64)
        problem = _problem_of_counts(counts)
        if problem:
            raise InputError(f"motif {self.matrix_id}: {problem}")
        counts.setflags(write=False)
        object.__setattr__(self, "counts", counts)

    @property
    def width(self) -> int:
        """Columns of the motif, bp."""
        return len(self.counts)


def read_motifs(path: Path) -> list[Motif]:
    """Read every motif of a JASPAR, MEME or TRANSFAC file, in file order.

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
            return _read(_Lines(path, gzip.GzipFile(fileobj=raw).readline if zipped else raw.readline))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: damaged gzip file: {error}") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error


def jaspar_motifs(tax_group: str, release: str = JASPAR_RELEASE) -> list[Motif]:
    """The latest version of every JASPAR CORE matrix of a tax group, sorted by matrix id.

    Args:
        tax_group: Tax group in JASPAR's words: vertebrates, insects, nematodes, urochordates, plants, fungi.
        release: JASPAR release that the installed pyjaspar bundles.

    Returns:
        The non-redundant collection of that release.

    Raises:
        EnvironmentFault: pyjaspar is not installed or its database is missing.
        UsageError: There is no such release or tax group.
    """
    try:
        import pyjaspar
    except ImportError as error:
        raise EnvironmentFault(f"JASPAR matrices need the package pyjaspar (or give a motif file): {error}") from error
    if release not in pyjaspar.jaspar_releases:
        raise UsageError(f"{release}: no such JASPAR release; pyjaspar has {', '.join(sorted(pyjaspar.jaspar_releases))}")
    try:
        database = pyjaspar.jaspardb(release=release)
    except ValueError as error:  # its way of saying that the bundled file is not there
        raise EnvironmentFault(f"pyjaspar lacks the database of {release}: {error}") from error
    try:
        known = {row[0] for row in database.conn.execute("SELECT DISTINCT VAL FROM MATRIX_ANNOTATION WHERE TAG = 'tax_group'")}
        if tax_group not in known:
            raise UsageError(f"{tax_group}: no such tax group in {release}; it has {', '.join(sorted(known))}")
        records = list(database.fetch_motifs(collection="CORE", tax_group=tax_group))
    finally:
        database.conn.close()
    motifs = [Motif(r.matrix_id, r.name, np.array([r.counts[base] for base in "ACGT"]).T) for r in records]
    return sorted(motifs, key=lambda motif: motif.matrix_id)


def _problem_of(text: str, what: str) -> str | None:
    if not text or text != text.strip():
        return f"its {what} is empty or has blanks at its ends"
    if not text.isprintable():
        return f"its {what} {_quoted(text)} holds control characters"
    return f"its {what} is longer than {_MAX_NAME} characters" if len(text) > _MAX_NAME else None


def _problem_of_counts(counts: NDArray[np.float64]) -> str | None:
    if counts.ndim != 2 or counts.shape[1] != 4:
        return f"counts must be [W, 4], not {list(counts.shape)}"
    if not 1 <= len(counts) <= MAX_WIDTH:
        return f"its width is {len(counts)}; 1 to {MAX_WIDTH} is allowed"
    bad = ~((counts >= 0) & (counts <= MAX_COUNT)).all(axis=1)  # NaN fails both
    if bad.any():
        return f"column {int(bad.argmax()) + 1} holds a count that is not a number from 0 to {MAX_COUNT:g}"
    empty = counts.sum(axis=1) == 0
    return f"column {int(empty.argmax()) + 1} is all zero" if empty.any() else None


def _quoted(text: str) -> str:
    return ascii(text if len(text) <= 60 else text[:57] + "...")


class _Lines:
    """Numbered lines of a text file, with the place that every complaint needs."""

    def __init__(self, path: Path, readline: Callable[[int], bytes]) -> None:
        self.path = path
        self.number = 0  # 1-based, of the line last handed out
        self.motif = ""  # id of the motif being read
        self._readline = readline
        self._bytes = 0
        self._again: str | None = None

    def __iter__(self) -> Iterator[str]:
        """Lines without their end."""
        while (line := self.next()) is not None:
            yield line

    def next(self) -> str | None:
        """The next line, or None at the end."""
        if self._again is not None:
            line, self._again = self._again, None
            self.number += 1
            return line
        raw = self._readline(MAX_LINE_BYTES + 1)
        if not raw:
            return None
        self.number += 1
        self._bytes += len(raw)
        if len(raw) > MAX_LINE_BYTES:
            self.fail(f"the line is longer than {MAX_LINE_BYTES} bytes")
        if self._bytes > MAX_FILE_BYTES:
            self.fail(f"the file holds more than {MAX_FILE_BYTES} bytes")
        try:
            line = raw.decode("utf-8-sig" if self.number == 1 else "utf-8")
        except UnicodeDecodeError:
            self.fail("not UTF-8 text")
        line = line.rstrip("\r\n")
        if _CONTROL.search(line):
            self.fail("the line holds control characters")
        return line

    def push_back(self, line: str) -> None:
        """Hand `line`, the last one, out once more."""
        self._again = line
        self.number -= 1

    def fail(self, problem: str, line: int | None = None) -> NoReturn:
        """Complain about a line, the one last handed out unless told otherwise."""
        motif = f"motif {_quoted(self.motif)}: " if self.motif else ""
        raise InputError(f"{self.path}: line {line or self.number}: {motif}{problem}")

    def numbers(self, tokens: list[str]) -> list[float]:
        """The tokens as numbers; `nan`, `inf`, underscores and expressions are none."""
        for token in tokens:
            if not _NUMBER.fullmatch(token):
                self.fail(f"{_quoted(token)} is not a number")
        return [float(token) for token in tokens]


@dataclass(frozen=True)
class _Record:
    """A motif in the form that the reader of a format found it; `line` is the number of its first line."""

    line: int
    matrix_id: str
    name: str
    rows: list[list[float]]


def _read(lines: _Lines) -> list[Motif]:
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


def _records(lines: _Lines) -> Iterator[_Record]:
    """The reader that the first line with content asks for."""
    for line in lines:
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        lines.push_back(line)
        if text.startswith(">"):
            return _jaspar(lines)
        if text.startswith("MEME version"):
            return _meme(lines)
        if _TRANSFAC_LINE.match(line):
            return _transfac(lines)
        lines.next()
        lines.fail(f"neither JASPAR, MEME nor TRANSFAC starts with {_quoted(text)}")
    return iter(())


def _jaspar(lines: _Lines) -> Iterator[_Record]:
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        if not line.startswith(">"):
            lines.fail(f"expected a line that starts with >, not {_quoted(line)}")
        start, header = lines.number, line[1:].split(None, 1)
        matrix_id = header[0] if header else ""
        lines.motif = matrix_id
        if not matrix_id:
            lines.fail("the header names no motif")
        rows: dict[str, list[float]] = {}
        for expected in "ACGT":
            row = lines.next()
            if row is None or row.startswith(">") or not row.strip():
                lines.fail("four rows (A, C, G, T) are needed")
            base, values = _jaspar_row(lines, row, expected)
            if base in rows:
                lines.fail(f"two rows for {base}")
            rows[base] = values
            if len(values) != len(rows[next(iter(rows))]):
                lines.fail("its rows differ in length")
        yield _Record(start, matrix_id, header[1].strip() if len(header) > 1 else matrix_id, _transposed(rows))
        lines.motif = ""


def _jaspar_row(lines: _Lines, row: str, expected: str) -> tuple[str, list[float]]:
    """Base and counts of `A [ 1 2 ]`, `A | 1 2`, `A 1 2` or `1 2`."""
    tokens = row.replace("[", " ").replace("]", " ").replace("|", " ").split()
    base = tokens.pop(0).upper() if tokens and tokens[0].upper() in ("A", "C", "G", "T") else expected
    if len(tokens) > MAX_WIDTH:
        lines.fail(f"its width is {len(tokens)}; 1 to {MAX_WIDTH} is allowed")
    return base, lines.numbers(tokens)


def _transposed(rows: dict[str, list[float]]) -> list[list[float]]:
    return [list(column) for column in zip(*(rows[base] for base in "ACGT"), strict=True)]


def _meme(lines: _Lines) -> Iterator[_Record]:
    start, matrix_id, name = 0, "", ""
    for line in lines:
        words = line.split()
        if not words:
            continue
        if words[0] in ("ALPHABET", "ALPHABET=") and words[1:] != ["ACGT"]:
            lines.fail(f"the alphabet must be ACGT, not {_quoted(' '.join(words[1:]))}")
        elif words[0] == "MOTIF":
            if len(words) < 2 or matrix_id:
                lines.fail("it has no letter-probability matrix" if matrix_id else "the MOTIF line names no motif")
            start, matrix_id, name = lines.number, words[1], words[2] if len(words) > 2 else words[1]
            lines.motif = matrix_id
        elif line.strip().startswith("letter-probability matrix"):
            if not matrix_id:
                lines.fail("a matrix without a MOTIF line of its own")
            yield _Record(start, matrix_id, name, _meme_matrix(lines, line))
            lines.motif = matrix_id = ""
    if matrix_id:
        lines.fail("it has no letter-probability matrix")


def _meme_matrix(lines: _Lines, header: str) -> list[list[float]]:
    """Counts of the matrix that follows its header line."""
    said = {key: lines.numbers([value])[0] for key, value in re.findall(r"\b(alength|w|nsites)=\s*(\S+)", header)}
    if said.get("alength", 4.0) != 4.0:
        lines.fail(f"alength must be 4, not {said['alength']:g}")
    sites = said.get("nsites", _MEME_SITES)
    if not 0 < sites <= MAX_COUNT:
        lines.fail(f"nsites must be above 0 and at most {MAX_COUNT:g}, not {sites:g}")
    rows: list[list[float]] = []
    while (line := lines.next()) is not None:
        words = line.split()
        if not words and not rows:
            continue
        if not words or words[0] in ("URL", "MOTIF") or set(words[0]) == {"-"}:
            lines.push_back(line)
            break
        if len(rows) == MAX_WIDTH:
            lines.fail(f"it has more than {MAX_WIDTH} rows")
        values = lines.numbers(words)
        if len(values) != 4 or abs(sum(values) - 1) > _PROBABILITY_SLACK or min(values) < 0:
            lines.fail("a row must be four probabilities that sum to 1")
        rows.append([value * sites for value in values])
    if "w" in said and said["w"] != len(rows):
        lines.fail(f"w= {said['w']:g} rows were announced, {len(rows)} found")
    return rows


def _transfac(lines: _Lines) -> Iterator[_Record]:
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
            record = _transfac_record(lines, start, fields, rows if order is not None else None)
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
            if order is None or (rows and int(tag) != row_number + 1):
                lines.fail("a matrix row is missing" if order else "a matrix row before its header line")
            row_number = int(tag)
            values = lines.numbers(words[1:5])
            if len(values) != 4 or len(words) > 6:  # a sixth word is the consensus letter
                lines.fail("a matrix row must hold four counts")
            if len(rows) == MAX_WIDTH:
                lines.fail(f"it has more than {MAX_WIDTH} rows")
            rows.append([values[i] for i in order])
    if fields or rows:
        lines.fail("the file ends inside a motif (no //)")


def _transfac_record(lines: _Lines, start: int, fields: dict[str, str], rows: list[list[float]] | None) -> _Record | None:
    """The motif of an entry; None for an entry that names none, such as the version header."""
    matrix_id = fields.get("AC") or fields.get("ID") or ""
    if rows is None and not matrix_id:
        return None
    if rows is None or not matrix_id:
        lines.fail("a matrix without an AC or ID line" if rows else "it has no matrix")
    return _Record(start, matrix_id, fields.get("NA") or fields.get("ID") or matrix_id, rows)
