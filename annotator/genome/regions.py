"""Reads BED regions; coordinates: 0-based half-open, as in BED."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotator.errors import InputError
from annotator.genome.contig_names import is_header, left_out, none_shared
from annotator.genome.contigs import ContigTable
from annotator.genome.decoding import DecodedInput
from annotator.genome.files import InputFile
from annotator.genome.headers import quote

logger = logging.getLogger(__name__)

_NOT_DATA = re.compile(rb"\s*(?:#|(?:track|browser)(?: |$)|$)")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LONGEST_NUMBER = 18
_STRAND_COLUMN = 5


@dataclass(frozen=True)
class BedLine:
    """A line of a BED file.

    Attributes:
        contig: Index of the contig.
        start: First base.
        end: One past the last base.
        strand: "+", "-", or "." where the line does not say.
    """

    contig: int
    start: int
    end: int
    strand: str


def read_regions(path: str | Path, contigs: ContigTable, warnings: list[str] | None = None) -> dict[int, NDArray[np.int64]]:
    """Read a BED file as a set of positions.

    Args:
        path: BED of 3 or more columns, plain, gzip or BGZF; "-" for standard input. Blank, "#", "track" and "browser" lines, a
            byte order mark and a header line are passed over, and so are lines on contigs that the genome lacks.
        contigs: The genome the regions lie on.
        warnings: Where lines about what was passed over go; None for the log.

    Returns:
        Disjoint intervals per contig index, int64, [m, 2], sorted; overlapping and touching regions are merged. Regions of no
        length hold no position and leave nothing.

    Raises:
        UsageError: The path is missing or unreadable.
        InputError: No contig of the file is in the genome, or coordinates are no numbers, reversed, or outside the contig.
    """
    told = [] if warnings is None else warnings
    spans: dict[int, list[tuple[int, int]]] = {}
    for line in iter_bed(path, contigs, told):
        if line.start < line.end:
            spans.setdefault(line.contig, []).append((line.start, line.end))
    if not spans:
        told.append(f"{path}: holds no region, so nothing of the genome is looked at")
    for text in told if warnings is None else ():
        logger.warning("%s", text)
    return {contig: _merge(np.array(sorted(spans[contig]), np.int64)) for contig in sorted(spans)}


def iter_bed(path: str | Path, contigs: ContigTable, warnings: list[str]) -> Iterator[BedLine]:
    """Read a BED file line by line; path, contigs and errors are those of `read_regions`.

    Args:
        path: The file.
        contigs: The genome that it lies on.
        warnings: Lines about what was passed over are added here, at the end of the file.

    Yields:
        The lines on contigs of the genome, in file order.
    """
    label = str(path)
    indices = contigs.index_by_name()
    unknown: Counter[str] = Counter()
    first_unknown = 0
    found = False
    for number, name, start, end, strand in _rows(path, warnings):
        contig = indices.get(name, indices.get(name.strip('"')))  # R puts quotes around text
        if contig is None:
            first_unknown = first_unknown or number
            unknown[name] += 1
            continue
        if end > contigs.lengths[contig]:
            raise InputError(
                f"{label}: line {number}: end {end} lies beyond contig {quote(name)} of {contigs.lengths[contig]} bp"
            )
        found = True
        yield BedLine(contig, start, end, strand)
    if unknown and not found:
        raise InputError(f"{label}: line {first_unknown}: {none_shared(unknown, indices)}")
    if unknown:
        warnings.append(f"{label}: {left_out(unknown.total(), unknown, indices)}")


def check_bed(path: str | Path) -> None:
    """See that a BED file can be read, before there is a genome that it lies on.

    Raises:
        UsageError: The path is missing or unreadable.
        InputError: Coordinates are no numbers or reversed.
    """
    for _ in _rows(path, []):
        pass


def _rows(path: str | Path, warnings: list[str]) -> Iterator[tuple[int, str, int, int, str]]:
    """Line, contig name, start, end and strand of the lines that hold data; what was passed over is added to the warnings."""
    with InputFile(path) as source:
        text = b"".join(DecodedInput(source, eof_check=True).blocks()).removeprefix(_BYTE_ORDER_MARK)
        label = source.label
    columns, first = 0, True
    for number, line in enumerate(text.split(b"\n"), start=1):
        if _NOT_DATA.match(line):
            continue
        fields = line.split(b"\t") if b"\t" in line else line.split()
        if first and is_header([_shown(field) for field in fields]):
            warnings.append(f"{label}: line {number} is a header and was passed over")
            first, columns = False, len(fields)
            continue
        first = False
        if columns and len(fields) == columns + 1:  # R's write.table names the rows, but not the column of their names
            fields = fields[1:]
        try:
            name, start, end = _parse(fields)
        except ValueError as error:
            raise InputError(f"{label}: line {number}: {error}") from None
        strand = fields[_STRAND_COLUMN].strip() if len(fields) > _STRAND_COLUMN else b""
        yield number, name, start, end, strand.decode() if strand in (b"+", b"-") else "."


def _shown(field: bytes) -> str:
    return field.decode("utf-8", "backslashreplace")


def _parse(fields: list[bytes]) -> tuple[str, int, int]:
    """Contig name, start and end of one BED line; ValueError says what is wrong with it."""
    if len(fields) < 3:
        raise ValueError(f"{len(fields)} columns; BED has at least 3 (contig, start, end)")
    start, end = (_coordinate(field.strip().strip(b'"'), what) for field, what in ((fields[1], "start"), (fields[2], "end")))
    if start > end:
        raise ValueError(f"start {start} lies after end {end}")
    return _shown(fields[0]), start, end


def _coordinate(field: bytes, what: str) -> int:
    if not field.isdigit() or len(field) > _LONGEST_NUMBER:
        raise ValueError(f"{what} {quote(_shown(field))} is not a whole number from 0 up")
    return int(field)


def _merge(spans: NDArray[np.int64]) -> NDArray[np.int64]:
    """Disjoint intervals [m, 2] of sorted intervals [n, 2], n > 0."""
    reach = np.maximum.accumulate(spans[:, 1])
    begins = np.concatenate((np.ones(1, np.bool_), spans[1:, 0] > reach[:-1]))
    ends = np.concatenate((begins[1:], np.ones(1, np.bool_)))
    return np.stack((spans[begins, 0], reach[ends]), axis=1)
