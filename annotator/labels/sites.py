"""Truth and annotation files (BED6, GTF, GFF3) as splice sites, transcription starts and transcripts.

Coordinates: 0-based in everything returned; the 1-based closed spans of GTF and GFF3 are converted while they are read.
"""

from __future__ import annotations

import gzip
import re
import urllib.parse
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray

from annotator.errors import InputError, UsageError
from annotator.kinds import LABEL_TRACKS, STRANDS, Strand

MIN_INTRON_BP = 30
"""Shorter gaps between exons are taken for annotation artefacts (frame repairs, indels): the shortest introns that are known
to be spliced by a spliceosome in animals, plants and fungi are longer."""

Format = Literal["bed", "gtf", "gff3"]

_STRANDS = {strand.symbol: strand for strand in STRANDS}
_UNSTRANDED = (".", "?")
_GTF_TRANSCRIPT = re.compile(r'(?:^|[;\s])transcript_id\s+"?([^";]+)"?')
_GFF3_PARENT = re.compile(r"(?:^|;)\s*Parent=([^;]+)")


@dataclass(frozen=True)
class Sites:
    """Sites of one genome, sorted by contig, position, kind, strand, each once.

    Attributes:
        contig: Index into the contigs in the order given to the reader, int64, [n].
        position: Donor: the exon's last base; acceptor: the exon's first base (transcript order); tss: the first base
            transcribed. int64, [n].
        kind: Index into `LABEL_TRACKS`, uint8, [n].
        strand: +1 or -1, int8, [n].
        counts: What was read and what was left out, by name (see `read_sites`).
    """

    contig: NDArray[np.int64]
    position: NDArray[np.int64]
    kind: NDArray[np.uint8]
    strand: NDArray[np.int8]
    counts: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of sites."""
        return len(self.position)

    def rows(self, kind: str, strand: Strand) -> NDArray[np.bool_]:
        """Mask of the sites of one kind and strand, [n]."""
        chosen: NDArray[np.bool_] = (self.kind == LABEL_TRACKS.index(kind)) & (self.strand == strand)
        return chosen

    def positions(self, kind: str, strand: Strand) -> dict[int, NDArray[np.int64]]:
        """Ascending positions of one kind and strand by contig index; contigs without any are absent."""
        chosen = self.rows(kind, strand)
        contigs, positions = self.contig[chosen], self.position[chosen]
        starts = np.flatnonzero(np.diff(contigs, prepend=-1))
        return {int(contigs[a]): part for a, part in zip(starts, np.split(positions, starts[1:]), strict=False)}

    def end_to_end(self, contig_starts: NDArray[np.int64]) -> dict[tuple[str, Strand], NDArray[np.int64]]:
        """Ascending positions of every (kind, strand) in an array that holds all contigs end to end.

        Args:
            contig_starts: Where each contig starts in that array, int64, ascending in contig order.

        Returns:
            An entry for each of the six (kind, strand), empty where there is no site.
        """
        places = contig_starts[self.contig] + self.position
        return {(kind, strand): places[self.rows(kind, strand)] for kind in LABEL_TRACKS for strand in STRANDS}


@dataclass(frozen=True)
class Transcript:
    """One transcript.

    Attributes:
        contig: Index into the contigs in the order given to the reader.
        strand: Its strand; None where the file does not say.
        name: transcript_id, or the Parent of its exons.
        exons: Start and end of each exon, ascending along the contig, half-open, overlapping or touching
            ones joined, int64, [n, 2].
    """

    contig: int
    strand: Strand | None
    name: str
    exons: NDArray[np.int64]

    @property
    def introns(self) -> NDArray[np.int64]:
        """Start and end of each intron, ascending along the contig, half-open, int64, [n - 1, 2]."""
        return np.stack([self.exons[:-1, 1], self.exons[1:, 0]], axis=1)

    @property
    def tss(self) -> int:
        """The first base transcribed; meaningless without a strand."""
        return int(self.exons[0, 0] if self.strand is Strand.PLUS else self.exons[-1, 1] - 1)


def read_sites(
    path: Path,
    contig_lengths: Mapping[str, int],
    *,
    min_intron_bp: int = MIN_INTRON_BP,
    transcript_tss: bool = False,
    ignore_unknown_contigs: bool = False,
) -> Sites:
    """Read splice sites and transcription starts from a BED6, GTF or GFF3 file, plain or gzipped.

    A BED line is one site: 1 bp wide, its name donor, acceptor or tss. Of GTF and GFF3 the exons are read: each gap between
    two consecutive exons of a transcript is an intron and gives a donor and an acceptor on the transcript's strand.

    Args:
        path: The file; its format is known by its name, or else by its first line.
        contig_lengths: Length of each contig of the FASTA, in its order.
        min_intron_bp: Shorter introns are left out and counted.
        transcript_tss: Whether the 5' end of each transcript (GTF, GFF3) is a tss; those of models built from RNA are coarse.
        ignore_unknown_contigs: Leave out lines on contigs that the FASTA lacks, and count them, instead of refusing the file.

    Returns:
        The sites. Counts: lines (sites or exons read), unknown_contig (lines left out), and of GTF and GFF3 transcripts,
        introns (distinct ones used), short_introns (distinct ones left out), unstranded (transcripts left out).

    Raises:
        UsageError: The file is missing or unreadable.
        InputError: The file, one of its lines or a contig name is wrong.
    """
    if _format(path) == "bed":
        return _read_bed(path, contig_lengths, ignore_unknown_contigs)
    transcripts, counts = _read_exons(path, contig_lengths, ignore_unknown_contigs)
    introns: set[tuple[int, int, int, Strand]] = set()
    rows: list[tuple[int, int, int, int]] = []
    for transcript in transcripts:
        if transcript.strand is None:
            counts["unstranded"] += 1
            continue
        introns.update((transcript.contig, int(a), int(b), transcript.strand) for a, b in transcript.introns)
        if transcript_tss:
            rows.append((transcript.contig, transcript.tss, LABEL_TRACKS.index("tss"), transcript.strand))
    for contig, start, end, strand in introns:
        if end - start < min_intron_bp:
            counts["short_introns"] += 1
            continue
        counts["introns"] += 1
        donor, acceptor = (start - 1, end) if strand is Strand.PLUS else (end, start - 1)
        rows += [(contig, donor, 0, strand), (contig, acceptor, 1, strand)]
    return _sites(rows, counts)


def read_transcripts(path: Path, contig_lengths: Mapping[str, int], *, ignore_unknown_contigs: bool = False) -> list[Transcript]:
    """Read the transcripts of a GTF or GFF3 file, plain or gzipped, in order of their first exon line.

    Args:
        path: The file.
        contig_lengths: Length of each contig of the FASTA, in its order.
        ignore_unknown_contigs: Leave out lines on contigs that the FASTA lacks instead of refusing the file.

    Returns:
        The transcripts; exons of one name on two contigs or strands make separate transcripts.

    Raises:
        UsageError: The file is missing or unreadable.
        InputError: The file is a BED file, or one of its lines or a contig name is wrong.
    """
    if _format(path) == "bed":
        raise InputError(f"{path}: a BED file holds sites, not transcripts; a GTF or GFF3 file is needed")
    return _read_exons(path, contig_lengths, ignore_unknown_contigs)[0]


class _Contigs:
    """Looks up contig names, and words the complaint about an unknown one."""

    def __init__(self, contig_lengths: Mapping[str, int], path: Path, ignore_unknown: bool) -> None:
        self._index = {name: i for i, name in enumerate(contig_lengths)}
        self._lengths = contig_lengths
        self._path = path
        self._ignore_unknown = ignore_unknown

    def find(self, name: str, line: int, end: int) -> int | None:
        """Index of a contig; None for an unknown one that may be ignored."""
        index = self._index.get(name)
        if index is None:
            if self._ignore_unknown:
                return None
            twin = name[3:] if name.startswith("chr") else f"chr{name}"
            hint = f'; the FASTA calls it "{twin}": rename one of the two' if twin in self._index else ""
            raise InputError(f'{self._path} line {line}: contig "{name}" is not in the FASTA{hint}')
        if end > self._lengths[name]:
            raise InputError(
                f'{self._path} line {line}: end {end} lies beyond contig "{name}" of {self._lengths[name]} bp;'
                " is this annotation of another assembly?"
            )
        return index


def _read_bed(path: Path, contig_lengths: Mapping[str, int], ignore_unknown: bool) -> Sites:
    contigs = _Contigs(contig_lengths, path, ignore_unknown)
    counts: Counter[str] = Counter(lines=0, unknown_contig=0)
    rows: list[tuple[int, int, int, int]] = []
    for number, fields in _lines(path):
        if fields[0].startswith(("track", "browser")) and len(fields) < 6:
            continue
        if len(fields) < 6:
            raise InputError(f"{path} line {number}: {len(fields)} tab-separated columns where BED6 has 6")
        start, end = _integers(fields[1], fields[2], path, number)
        if start < 0 or end != start + 1:
            raise InputError(f"{path} line {number}: a site is 1 bp wide, this one is {start}-{end}")
        if fields[3] not in LABEL_TRACKS:
            raise InputError(f'{path} line {number}: name "{fields[3]}" is none of {", ".join(LABEL_TRACKS)}')
        if fields[5] not in _STRANDS:
            raise InputError(f'{path} line {number}: strand "{fields[5]}" is neither + nor -')
        contig = contigs.find(fields[0], number, end)
        if contig is None:
            counts["unknown_contig"] += 1
            continue
        counts["lines"] += 1
        rows.append((contig, start, LABEL_TRACKS.index(fields[3]), _STRANDS[fields[5]]))
    return _sites(rows, counts)


def _read_exons(path: Path, contig_lengths: Mapping[str, int], ignore_unknown: bool) -> tuple[list[Transcript], Counter[str]]:
    contigs = _Contigs(contig_lengths, path, ignore_unknown)
    counts: Counter[str] = Counter(lines=0, unknown_contig=0, transcripts=0, introns=0, short_introns=0, unstranded=0)
    exons: dict[tuple[int, Strand | None, str], list[tuple[int, int]]] = {}
    gff3 = _format(path) == "gff3"
    for number, fields in _lines(path):
        if len(fields) < 9:
            raise InputError(f"{path} line {number}: {len(fields)} tab-separated columns where GTF and GFF3 have 9")
        if fields[2] != "exon":
            continue
        first_1based, last_1based = _integers(fields[3], fields[4], path, number)
        if not 1 <= first_1based <= last_1based:
            raise InputError(f"{path} line {number}: {first_1based}-{last_1based} is no 1-based closed span")
        if fields[6] not in (*_STRANDS, *_UNSTRANDED):
            raise InputError(f'{path} line {number}: strand "{fields[6]}" is none of + - .')
        name = urllib.parse.unquote(fields[0]) if gff3 else fields[0]
        contig = contigs.find(name, number, last_1based)
        if contig is None:
            counts["unknown_contig"] += 1
            continue
        counts["lines"] += 1
        for transcript in _owners(fields[8], path, number):
            exons.setdefault((contig, _STRANDS.get(fields[6]), transcript), []).append((first_1based - 1, last_1based))
    if not counts["lines"] and not counts["unknown_contig"]:
        raise InputError(f"{path}: no exon features; introns are read from exons, genes or CDS alone do not tell")
    counts["transcripts"] = len(exons)
    return [Transcript(*key, _joined(spans)) for key, spans in exons.items()], counts


def _owners(attributes: str, path: Path, line: int) -> list[str]:
    """Transcripts an exon belongs to; GFF3 allows several."""
    parents = _GFF3_PARENT.search(attributes)
    if parents is not None:
        return [urllib.parse.unquote(parent) for parent in parents[1].strip().split(",")]
    transcript = _GTF_TRANSCRIPT.search(attributes)
    if transcript is None:
        raise InputError(f"{path} line {line}: the exon has neither a transcript_id (GTF) nor a Parent (GFF3)")
    return [transcript[1]]


def _joined(spans: list[tuple[int, int]]) -> NDArray[np.int64]:
    """Spans ascending, overlapping and touching ones joined."""
    joined: list[list[int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end])
    return np.array(joined, np.int64)


def _sites(rows: Sequence[tuple[int, int, int, int]], counts: Counter[str]) -> Sites:
    table = np.unique(np.array(rows, np.int64).reshape(-1, 4), axis=0)
    return Sites(table[:, 0], table[:, 1], table[:, 2].astype(np.uint8), table[:, 3].astype(np.int8), dict(counts))


def _integers(first: str, second: str, path: Path, line: int) -> tuple[int, int]:
    try:
        return int(first), int(second)
    except ValueError:
        raise InputError(f'{path} line {line}: "{first}" and "{second}" should be whole numbers') from None


def _format(path: Path) -> Format:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in (".gz", ".bgz")]
    known: dict[str, Format] = {".bed": "bed", ".gtf": "gtf", ".gff2": "gtf", ".gff3": "gff3"}
    if suffixes and suffixes[-1] in known:
        return known[suffixes[-1]]
    for number, fields in _lines(path):
        if len(fields) >= 9 and fields[3].isdigit() and fields[4].isdigit():
            return "gff3" if "=" in fields[8].split(";")[0] else "gtf"
        if len(fields) >= 3 and fields[1].isdigit() and fields[2].isdigit():
            return "bed"
        raise InputError(f"{path} line {number}: this is neither BED nor GTF nor GFF3")
    return "bed"  # nothing but comments: no site in any of the formats


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and tab-separated fields of each line that holds data."""
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                text = line.rstrip("\r\n")
                if text.startswith("##FASTA"):
                    return
                if text and not text.startswith("#"):
                    yield number, text.split("\t")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path} after line {number}: damaged or cut gzip data ({error})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} after line {number}: this is not text ({error})") from error
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error


def _open(path: Path) -> IO[str]:
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rt", encoding="utf-8") if zipped else open(path, encoding="utf-8")
