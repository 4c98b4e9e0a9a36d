"""Lines of GTF, GFF2 and GFF3 files, grouped by transcript as they stand; `annotator.labels.transcripts` makes sense of them.

Coordinates: 0-based half-open; the 1-based closed spans of the files are converted while they are read.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from annotator.errors import InputError
from annotator.genome.contig_names import is_header, none_shared, twin
from annotator.kinds import STRANDS, Strand
from annotator.labels.tally import Tally
from annotator.labels.text import format_of, integers, iter_rows

CODING_PARTS = frozenset({"CDS", "five_prime_UTR", "three_prime_UTR", "5UTR", "3UTR", "UTR", "stop_codon"})
"""Lines that together make the exons of a transcript that has no exon lines."""
_ALIGNMENT = re.compile(r"(?:.*_)?match(?:_part|_set)?", re.IGNORECASE)
_STRANDS = {strand.symbol: strand for strand in STRANDS}
_UNSTRANDED = (".", "?")

_TRANSCRIPT = re.compile(r'(?:^|[;\s])transcript(?:_id|Id)[\s=]+"?([^";]+)"?')
_GENE = re.compile(r'(?:^|[;\s])gene_id[\s=]+"?([^";]+)"?')
_JGI_NAME = re.compile(r'(?:^|;)\s*name\s+"([^"]+)"')
_PARENT = re.compile(r"(?:^|;)\s*Parent=([^;]+)")
_ID = re.compile(r"(?:^|;)\s*ID=([^;]+)")
_NUMBER = re.compile(r'(?:^|[;\s])exon_?[nN]umber[\s=]+"?(\d+)"?')
_TRANS_SPLICED = re.compile(r"\btrans[-_ ]splic", re.IGNORECASE)
_CIRCULAR = re.compile(r"Is_circular=true", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"unknown_transcript_\d+$")
"""NCBI's name of the transcript of every gene that has none."""


class Owner(NamedTuple):
    """What an exon belongs to, as its line says it.

    Attributes:
        gene: gene_id of GTF (JGI: the name); empty for GFF3, where the parent says it.
        name: transcript_id, or the Parent of GFF3; empty where the line names a gene alone.
    """

    gene: str
    name: str

    @property
    def has_transcript(self) -> bool:
        """Whether the name is one of a transcript, not of none at all."""
        return bool(self.name) and not _PLACEHOLDER.match(self.name)


@dataclass
class ExonGroup:
    """Exons of one owner on one strand of a contig, in file order.

    Attributes:
        spans: Start and end of each.
        numbers: exon_number of each; None where the line has none.
        coding: Whether a CDS is among them, for groups made of CDS and UTR lines.
        trans_spliced: Whether a line says so.
    """

    spans: list[tuple[int, int]] = field(default_factory=list)
    numbers: list[int | None] = field(default_factory=list)
    coding: bool = False
    trans_spliced: bool = False


class Place(NamedTuple):
    """A line of a gene, a transcript or anything else that exons may belong to.

    Attributes:
        contig: Index of the contig.
        start: First base.
        end: One past the last base.
        type: Third column.
        parent: ID of the first parent; empty without one.
    """

    contig: int
    start: int
    end: int
    type: str
    parent: str


GroupKey = tuple[int, Strand | None, Owner]


@dataclass
class Lines:
    """The lines of a file that matter.

    Attributes:
        exons: Exon lines by contig, strand and owner.
        coding: CDS, UTR and stop codon lines, likewise.
        places: Lines of genes and transcripts: by Owner(gene, transcript) and Owner(gene, "") of GTF, by Owner("", ID) of GFF3.
        damaged: Owners of exon lines that cannot be used.
    """

    exons: dict[GroupKey, ExonGroup] = field(default_factory=dict)
    coding: dict[GroupKey, ExonGroup] = field(default_factory=dict)
    places: dict[Owner, list[Place]] = field(default_factory=dict)
    damaged: set[Owner] = field(default_factory=set)


def read_lines(path: Path, contig_lengths: Mapping[str, int], tally: Tally) -> Lines:
    """Read a GTF or GFF file.

    A line that cannot be used is counted and left out; the transcript it belongs to is `damaged`.

    Args:
        path: The file, plain or gzipped.
        contig_lengths: Length of each contig of the FASTA, in its order.
        tally: What is counted: `lines` (exons used, or CDS where there are none) and the reasons of `LEFT_OUT`.

    Returns:
        The lines.

    Raises:
        UsageError: The file is missing or unreadable.
        InputError: It is no text, no contig of it is in the FASTA, more lines are bad than good, or it has neither exon nor CDS.
    """
    reader = _Reader(path, contig_lengths, tally)
    for number, fields in iter_rows(path):
        try:
            reader.read(number, fields)
        except ValueError as error:
            reader.refuse(number, str(error))
    return reader.finish()


class _Reader:
    """Reads line after line into `Lines`."""

    def __init__(self, path: Path, contig_lengths: Mapping[str, int], tally: Tally) -> None:
        self._path, self._lengths, self._tally = path, contig_lengths, tally
        self._index = {name: i for i, name in enumerate(contig_lengths)}
        self._escaped = format_of(path) == "gff3"
        self._lines = Lines()
        self._unknown: dict[str, int] = {}
        self._beyond: list[tuple[str, str]] = []
        self._circular: set[str] = set()
        self._first_fault = ""
        self._rows = self._first_unknown = 0
        self._exons = self._parts = 0

    def read(self, number: int, fields: list[str]) -> None:
        """Take one line; ValueError says why it cannot be used."""
        self._rows += 1
        if len(fields) < 9:
            raise ValueError(f"{len(fields)} tab-separated columns where GTF and GFF3 have 9")
        if self._rows == 1 and is_header(fields):
            self._tally.add("header", f"line {number}")
            return
        kind, attributes = fields[2], fields[8]
        if kind == "exon" or kind in CODING_PARTS:
            self._read_exon(number, kind, fields)
        elif _ALIGNMENT.fullmatch(kind):
            self._tally.add("alignment", kind)
        else:
            if _CIRCULAR.search(attributes):
                self._circular.add(self._name(fields[0]))
            self._read_place(kind, fields)

    def _read_exon(self, number: int, kind: str, fields: list[str]) -> None:
        owners = list(_owners(fields[8]))
        name = self._name(fields[0])
        try:
            contig = self._index.get(name)
            if contig is None:
                self._first_unknown = self._first_unknown or number
                self._unknown[name] = self._unknown.get(name, 0) + 1
                return
            start, end = _span(fields)
            if fields[6] not in (*_STRANDS, *_UNSTRANDED):
                raise ValueError(f'strand "{fields[6]}" is none of + - .')
        except ValueError:
            self._lines.damaged.update(owners)
            raise
        if end > self._lengths[name]:
            fault = f'line {number}: end {end} lies beyond contig "{name}" of {self._lengths[name]} bp'
            self._first_fault = self._first_fault or f"{self._path} {fault}; is this annotation of another assembly?"
            self._beyond.append((name, fault))
            self._lines.damaged.update(owners)
            return
        if not owners:
            self._first_fault = self._first_fault or (
                f"{self._path} line {number}: the exon has neither a transcript_id (GTF) nor a Parent (GFF3)"
            )
            self._tally.add("no_owner", f"line {number}")
            return
        if kind == "exon":
            self._exons += 1
        else:
            self._parts += 1
        found = _NUMBER.search(fields[8])
        groups = self._lines.exons if kind == "exon" else self._lines.coding
        for owner in owners:
            group = groups.setdefault((contig, _STRANDS.get(fields[6]), owner), ExonGroup())
            group.spans.append((start, end))
            group.numbers.append(int(found[1]) if found else None)
            group.coding |= kind == "CDS"
            group.trans_spliced |= bool(_TRANS_SPLICED.search(fields[8]))

    def _read_place(self, kind: str, fields: list[str]) -> None:
        """Note where a gene or a transcript lies; lines that do not say it properly say nothing."""
        contig = self._index.get(self._name(fields[0]))
        identity, parent = _ID.search(fields[8]), _PARENT.search(fields[8])
        if identity is not None:
            owner = Owner("", _unescaped(identity[1]))
        elif kind in ("gene", "transcript", "mRNA") and (named := list(_owners(fields[8]))):
            owner = Owner(named[0].gene, "") if kind == "gene" else named[0]
        else:
            return
        if contig is None:
            return
        try:
            start, end = _span(fields)
        except ValueError:
            return
        above = _unescaped(parent[1].split(",")[0]) if parent else ""
        self._lines.places.setdefault(owner, []).append(Place(contig, start, end, kind, above))

    def refuse(self, number: int, reason: str) -> None:
        """Count a line that cannot be used."""
        self._first_fault = self._first_fault or f"{self._path} line {number}: {reason}"
        self._tally.add("bad_line", f"line {number}: {reason}")

    def finish(self) -> Lines:
        """The lines, or the error of a file that cannot be believed."""
        tally, path = self._tally, self._path
        for name, fault in self._beyond:
            tally.add("across_origin" if name in self._circular else "beyond_contig", fault)
        used = self._exons or (self._parts if any(group.coding for group in self._lines.coding.values()) else 0)
        tally.add("lines", count=used)
        for name, count in self._unknown.items():
            meant = twin(name, self._index)
            tally.add("unknown_contig", f'"{name}"' + (f': does it mean "{meant}"?' if meant else ""), count)
        if not used and self._unknown:
            raise InputError(f"{path} line {self._first_unknown}: {none_shared(self._unknown, self._index)}")
        if self._first_fault and (not used or tally.counts["bad_line"] + tally.counts["beyond_contig"] > used):
            raise InputError(self._first_fault)
        if not used:
            aligned = tally.counts["alignment"]
            raise InputError(
                f"{path}: no exon features and no CDS: introns are read from them, genes alone do not tell"
                + (f"; its {aligned:,} lines of alignments (cDNA_match and the like) are no transcripts" if aligned else "")
            )
        return self._lines

    def _name(self, text: str) -> str:
        return urllib.parse.unquote(text) if self._escaped else text


def _span(fields: list[str]) -> tuple[int, int]:
    """Start and end; ValueError where the line has no 1-based closed span."""
    first_1based, last_1based = integers(fields[3], fields[4])
    if not 1 <= first_1based <= last_1based:
        raise ValueError(f"{first_1based}-{last_1based} is no 1-based closed span")
    return first_1based - 1, last_1based


def _owners(attributes: str) -> Iterator[Owner]:
    """What an exon belongs to; GFF3 allows several, and none is possible too."""
    if parents := _PARENT.search(attributes):
        for parent in parents[1].strip().split(","):
            yield Owner("", _unescaped(parent))
        return
    transcript = _TRANSCRIPT.search(attributes)
    gene = _GENE.search(attributes) or _JGI_NAME.search(attributes)
    if transcript or gene:
        yield Owner(gene[1] if gene else "", transcript[1] if transcript else "")


def _unescaped(text: str) -> str:
    return urllib.parse.unquote(text.strip().strip('"'))
