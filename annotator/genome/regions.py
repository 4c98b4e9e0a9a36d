"""Reads BED regions; coordinates: 0-based half-open, as in BED."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotator.errors import InputError
from annotator.genome.contigs import ContigTable
from annotator.genome.decoding import DecodedInput
from annotator.genome.files import InputFile
from annotator.genome.headers import quote

_NOT_DATA = re.compile(rb"\s*(?:#|(?:track|browser)(?: |$)|$)")
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


def read_regions(path: str | Path, contigs: ContigTable) -> dict[int, NDArray[np.int64]]:
    """Read a BED file as a set of positions.

    Args:
        path: BED of 3 or more columns, plain, gzip or BGZF; "-" for standard input. Blank, "#", "track" and "browser"
            lines are passed over.
        contigs: The genome the regions lie on.

    Returns:
        Disjoint intervals per contig index, int64, [m, 2], sorted; overlapping and touching regions are merged. Regions of no
        length hold no position and leave nothing.

    Raises:
        UsageError: The path is missing or unreadable.
        InputError: A line names an unknown contig, or its coordinates are no numbers, reversed, or outside the contig.
    """
    spans: dict[int, list[tuple[int, int]]] = {}
    for line in iter_bed(path, contigs):
        if line.start < line.end:
            spans.setdefault(line.contig, []).append((line.start, line.end))
    return {contig: _merge(np.array(sorted(spans[contig]), np.int64)) for contig in sorted(spans)}


def iter_bed(path: str | Path, contigs: ContigTable) -> Iterator[BedLine]:
    """Read a BED file line by line; path, contigs and errors are those of `read_regions`.

    Yields:
        The lines that hold data, in file order.
    """
    with InputFile(path) as source:
        text = b"".join(DecodedInput(source, eof_check=True).blocks())
        label = source.label
    indices = contigs.index_by_name()
    for number, line in enumerate(text.split(b"\n"), start=1):
        if _NOT_DATA.match(line):
            continue
        fields = line.split(b"\t") if b"\t" in line else line.split()
        try:
            contig, start, end = _parse(fields, contigs, indices)
        except ValueError as error:
            raise InputError(f"{label}: line {number}: {error}") from None
        strand = fields[_STRAND_COLUMN].strip() if len(fields) > _STRAND_COLUMN else b""
        yield BedLine(contig, start, end, strand.decode() if strand in (b"+", b"-") else ".")


def _parse(fields: list[bytes], contigs: ContigTable, indices: dict[str, int]) -> tuple[int, int, int]:
    """Contig index, start and end of one BED line; ValueError says what is wrong with it."""
    if len(fields) < 3:
        raise ValueError(f"{len(fields)} columns; BED has at least 3 (contig, start, end)")
    name = fields[0].decode("utf-8", "backslashreplace")
    contig = indices.get(name)
    if contig is None:
        raise ValueError(f"contig {quote(name)} is not in the genome{_suggest(name, indices)}")
    start, end = (_coordinate(field.strip(), what) for field, what in ((fields[1], "start"), (fields[2], "end")))
    if start > end:
        raise ValueError(f"start {start} lies after end {end}")
    if end > contigs.lengths[contig]:
        raise ValueError(f"end {end} lies beyond contig {quote(name)} of {contigs.lengths[contig]} bp")
    return contig, start, end


def _coordinate(field: bytes, what: str) -> int:
    if not field.isdigit() or len(field) > _LONGEST_NUMBER:
        raise ValueError(f"{what} {quote(field.decode('utf-8', 'backslashreplace'))} is not a whole number from 0 up")
    return int(field)


def _suggest(name: str, indices: dict[str, int]) -> str:
    """The name the user may have meant, where naming habits (chr1 and 1, versions, case) explain the difference."""
    bare = name.lower().removeprefix("chr")
    mitochondrial = {"m": "mt", "mt": "m"}.get(bare, bare)
    candidates = {bare, mitochondrial, bare.split(".")[0]}
    for known in indices:
        folded = known.lower().removeprefix("chr")
        if folded in candidates or folded.split(".")[0] in candidates:
            return f"; did you mean {quote(known)}?"
    first = ", ".join(quote(known) for known in list(indices)[:3])
    return f" (its contigs begin with {first})"


def _merge(spans: NDArray[np.int64]) -> NDArray[np.int64]:
    """Disjoint intervals [m, 2] of sorted intervals [n, 2], n > 0."""
    reach = np.maximum.accumulate(spans[:, 1])
    begins = np.concatenate((np.ones(1, np.bool_), spans[1:, 0] > reach[:-1]))
    ends = np.concatenate((begins[1:], np.ones(1, np.bool_)))
    return np.stack((spans[begins, 0], reach[ends]), axis=1)
