"""Check BED9 files against the GA4GH BED specification and this project's rules, with nothing but the standard library.

It shares no code with the program that writes the files. Coordinates are 0-based half-open.

    python benchmarks/validate_bed.py results/*.bed.gz --fasta genome.fa.gz

Exit status: 0 every file is valid, 1 one is not, 2 a file cannot be read.
"""

from __future__ import annotations

import argparse
import gzip
import re
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

BGZF_EOF = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
MAX_MESSAGES = 20

_INTEGER = re.compile(r"0|[1-9][0-9]*")
_NAME = re.compile(r"[ -~]{1,255}")
_CHROM = re.compile(r"[^\x00-\x20\x7f]+")
_PROBABILITY = re.compile(r"\.|0(\.[0-9]+)?|1(\.0+)?")
_RGB = re.compile(r"0|(\d{1,3}),(\d{1,3}),(\d{1,3})")
_COMPLEMENT = bytes.maketrans(b"ACGT", b"TGCA")
_CANONICAL = {"donor": (b"GT", b"GC"), "acceptor": (b"AG",)}


@dataclass
class BedReport:
    """What was found in one file.

    Attributes:
        rows: Feature lines.
        columns: Columns of the first one; 0 for a file without features.
        errors: The first problems, with line numbers; empty for a valid file.
        sites: Splice sites seen, by name ("donor", "acceptor"); counted only where sequences were given.
        canonical: Those of them whose two bases, on their strand, are GT or GC (donor), AG (acceptor).
    """

    rows: int = 0
    columns: int = 0
    errors: list[str] = field(default_factory=list)
    sites: dict[str, int] = field(default_factory=lambda: {"donor": 0, "acceptor": 0})
    canonical: dict[str, int] = field(default_factory=lambda: {"donor": 0, "acceptor": 0})

    @property
    def valid(self) -> bool:
        """Whether nothing was found."""
        return not self.errors

    def add(self, message: str) -> None:
        """Note a problem, up to `MAX_MESSAGES`."""
        if len(self.errors) < MAX_MESSAGES:
            self.errors.append(message)


def validate_bed(
    path: Path,
    contig_lengths: Mapping[str, int] | None = None,
    sequences: Mapping[str, bytes] | None = None,
    standard_columns: int = 9,
    extra: bool = False,
) -> BedReport:
    """Check one file.

    Args:
        path: A BED file; one that ends in .gz has to be BGZF.
        contig_lengths: Lengths of all contigs; without it ends are not checked.
        sequences: Upper-case contigs, to count canonical splice sites.
        standard_columns: How many of the columns are standard BED: 6 or 9.
        extra: Whether further columns may follow. Elsewhere they would be taken for the blocks of BED12.

    Returns:
        The report.

    Raises:
        OSError: The file cannot be read.
    """
    report = BedReport()
    data = path.read_bytes()
    if path.suffix == ".gz":
        _check_bgzf(data, report)
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            report.add(f"not a whole gzip file: {error}")
            return report
    state = _State(report, contig_lengths, sequences, standard_columns, extra)
    lines = data.split(b"\n")
    if lines.pop():
        report.add("the file does not end with a line feed")
    for number, line in enumerate(lines, 1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            report.add(f"line {number}: not UTF-8")
            continue
        state.read_line(number, text)
    return report


class _State:
    """Line after line of one file."""

    def __init__(
        self,
        report: BedReport,
        contig_lengths: Mapping[str, int] | None,
        sequences: Mapping[str, bytes] | None,
        standard_columns: int,
        extra: bool,
    ) -> None:
        self._report = report
        self._lengths = contig_lengths
        self._sequences = sequences
        self._standard = standard_columns
        self._extra = extra
        self._header: list[str] | None = None
        self._probability: int | None = None
        self._seen: set[str] = set()
        self._previous: tuple[str, int, int] | None = None

    def read_line(self, number: int, text: str) -> None:
        if text.startswith("#"):
            if number > 1:
                self._report.add(f"line {number}: a comment after the first line")
            if not text.startswith("#chrom\t"):
                self._report.add(f"line {number}: a comment that is not the #chrom line")
            else:
                self._header = text[1:].split("\t")
                self._probability = self._header.index("probability") if "probability" in self._header else None
            return
        fields = text.split("\t")
        self._report.rows += 1
        if self._report.rows == 1:
            self._report.columns = len(fields)
        for message in self._problems(fields):
            self._report.add(f"line {number}: {message}")

    def _problems(self, fields: list[str]) -> Iterator[str]:
        if re.match(r"(track|browser)( |$)", fields[0]):
            yield "a track or browser line is not BED"
            return
        if len(fields) < self._standard or (len(fields) > self._standard and not self._extra):
            yield f"{len(fields)} columns, not {self._standard}{' or more' if self._extra else ''}"
            return
        if len(fields) != self._report.columns:
            yield f"{len(fields)} columns, the first feature has {self._report.columns}"
        if self._header is not None and len(fields) != len(self._header):
            yield f"{len(fields)} columns, the header names {len(self._header)}"
        elif self._probability is not None and not _PROBABILITY.fullmatch(fields[self._probability]):
            yield f"probability {fields[self._probability]!r} is not '.' or a decimal from 0 to 1"
        if any(not value or "\r" in value for value in fields):
            yield "an empty column or a carriage return"
        chrom, name, score, strand = fields[0], fields[3], fields[4], fields[5]
        if not _CHROM.fullmatch(chrom):
            yield f"contig name {chrom!r}"
        if not (_INTEGER.fullmatch(fields[1]) and _INTEGER.fullmatch(fields[2])):
            yield f"coordinates {fields[1]!r}, {fields[2]!r} are not integers"
            return
        start, end = int(fields[1]), int(fields[2])
        if not start < end:
            yield f"start {start} is not before end {end}"
        if self._lengths is not None and chrom not in self._lengths:
            yield f"contig {chrom!r} is not in the FASTA"
        elif self._lengths is not None and end > self._lengths[chrom]:
            yield f"end {end} lies beyond {chrom!r}, {self._lengths[chrom]} bp"
        yield from self._order_problems(chrom, start, end)
        if not _NAME.fullmatch(name):
            yield f"name {name[:40]!r} is not 1 to 255 printable ASCII characters"
        if not _INTEGER.fullmatch(score) or int(score) > 1000:
            yield f"score {score!r} is not an integer from 0 to 1000"
        if strand not in ("+", "-", "."):
            yield f"strand {strand!r}"
        if self._standard >= 9:
            yield from _display_problems(fields, start, end)
        if name in _CANONICAL and self._sequences is not None:
            self._count_site(name, self._sequences.get(chrom, b"")[start:end], strand)

    def _order_problems(self, chrom: str, start: int, end: int) -> Iterator[str]:
        if self._previous is None or self._previous[0] != chrom:
            if chrom in self._seen:
                yield f"the lines of contig {chrom!r} are not together"
            self._seen.add(chrom)
        elif (start, end) < self._previous[1:]:
            yield f"not sorted: {start}-{end} after {self._previous[1]}-{self._previous[2]}"
        self._previous = (chrom, start, end)

    def _count_site(self, name: str, bases: bytes, strand: str) -> None:
        if strand == "-":
            bases = bases.translate(_COMPLEMENT)[::-1]
        self._report.sites[name] += 1
        self._report.canonical[name] += bases in _CANONICAL[name]


def _display_problems(fields: list[str], start: int, end: int) -> Iterator[str]:
    thick_start, thick_end, rgb = fields[6:9]
    if not (_INTEGER.fullmatch(thick_start) and _INTEGER.fullmatch(thick_end)):
        yield f"thick part {thick_start!r}, {thick_end!r} is not given in integers"
    elif not start <= int(thick_start) <= int(thick_end) <= end:
        yield f"thick part {thick_start}-{thick_end} lies outside {start}-{end}"
    colour = _RGB.fullmatch(rgb)
    if colour is None or any(part is not None and int(part) > 255 for part in colour.groups()):
        yield f"itemRgb {rgb!r}"


def _check_bgzf(data: bytes, report: BedReport) -> None:
    """Follow the chain of BGZF blocks to the end marker."""
    offset = 0
    while offset < len(data):
        header = data[offset : offset + 18]
        if len(header) < 18 or header[:4] != b"\x1f\x8b\x08\x04" or header[12:16] != b"BC\x02\x00":
            report.add(f"byte {offset}: not a BGZF block")
            return
        offset += int.from_bytes(header[16:18], "little") + 1
    if offset != len(data) or not data.endswith(BGZF_EOF):
        report.add("no BGZF end marker: the file is truncated")


def read_fasta(path: Path) -> dict[str, bytes]:
    """Contigs of a FASTA, plain or gzip, upper case, by the first word of their header."""
    raw = path.read_bytes()
    text = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    contigs: dict[str, bytes] = {}
    for record in re.split(rb"(?:\A|\n)>", text)[1:]:
        header, _, sequence = record.partition(b"\n")
        words = header.split()
        contigs[words[0].decode() if words else ""] = b"".join(sequence.split()).upper()
    return contigs


def main(argv: list[str] | None = None) -> int:
    """Run as a script; returns the exit status."""
    parser = argparse.ArgumentParser(description="Check BED9 files.")
    parser.add_argument("files", nargs="+", type=Path, help="BED files; .gz ones must be BGZF")
    parser.add_argument("--fasta", type=Path, help="the genome: checks ends and counts canonical splice sites")
    parser.add_argument("--bed6", action="store_true", help="six columns")
    parser.add_argument("--extra", action="store_true", help="further columns may follow the standard ones")
    options = parser.parse_args(argv)
    status = 0
    try:
        sequences = None if options.fasta is None else read_fasta(options.fasta)
        lengths = None if sequences is None else {name: len(sequence) for name, sequence in sequences.items()}
        for path in options.files:
            report = validate_bed(path, lengths, sequences, 6 if options.bed6 else 9, options.extra)
            print(f"{path}: {report.rows} rows, {report.columns} columns, {'valid' if report.valid else 'INVALID'}")
            for name, count in report.sites.items():
                if count:
                    share = report.canonical[name] / count
                    print(f"{path}: {report.canonical[name]} of {count} {name}s canonical ({share:.2%})")
            for message in report.errors:
                print(f"{path}: {message}")
            status = max(status, int(not report.valid))
    except OSError as error:
        print(f"cannot read {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    return status


if __name__ == "__main__":
    sys.exit(main())
