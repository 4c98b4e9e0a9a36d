"""Truth and annotation files (BED6, GTF, GFF2, GFF3) as splice sites and transcription starts.

Coordinates: 0-based in everything returned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotator.errors import InputError
from annotator.genome.contig_names import is_header, none_shared, twin
from annotator.kinds import LABEL_TRACKS, STRANDS, Strand
from annotator.labels.signals import GenomeBases, cut_without_signals
from annotator.labels.tally import MIN_INTRON_BP, Tally
from annotator.labels.text import format_of, integers, iter_rows
from annotator.labels.transcripts import read_transcripts

_STRANDS = {strand.symbol: strand for strand in STRANDS}


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
        introns: Contig, start, end (half-open) and strand of each intron used, int64, [m, 4]; none of a BED file.
        left_out: What was left out, one phrase a reason.
        remarks: What else is to be known about the file, one phrase each.
    """

    contig: NDArray[np.int64]
    position: NDArray[np.int64]
    kind: NDArray[np.uint8]
    strand: NDArray[np.int8]
    counts: Mapping[str, int] = field(default_factory=dict)
    introns: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 4), np.int64))
    left_out: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

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


def read_sites(
    path: Path,
    contig_lengths: Mapping[str, int],
    bases: GenomeBases | None = None,
    *,
    min_intron_bp: int = MIN_INTRON_BP,
    transcript_tss: bool = False,
) -> Sites:
    """Read splice sites and transcription starts from a BED6, GTF, GFF2 or GFF3 file, plain or gzipped.

    A BED line is one site: 1 bp wide, its name donor, acceptor or tss. Of GTF and GFF the exons are read (of a transcript without
    exon lines those that its CDS and UTR lines make): each gap between two consecutive exons of a transcript is an intron and
    gives a donor and an acceptor on the transcript's strand. Lines on contigs that the FASTA lacks are left out and counted.

    Args:
        path: The file; its format is known by its name, or else by its first line.
        contig_lengths: Length of each contig of the FASTA, in its order.
        bases: The bases of the same contigs; with them transcripts are cut at gaps that cannot be introns (see
            `cut_without_signals`).
        min_intron_bp: Shorter introns are left out and counted.
        transcript_tss: Whether the 5' end of each transcript (GTF, GFF) is a tss; those of models built from RNA are coarse.

    Returns:
        The sites. Counts: lines (sites or exons read), unknown_contig (lines left out), and of GTF and GFF transcripts,
        introns (distinct ones used), short_introns (distinct ones left out), unstranded (transcripts left out);
        and, where they occur, the other reasons and remarks of `annotator.labels.tally`.

    Raises:
        UsageError: The file is missing or unreadable.
        InputError: The file is wrong as a whole, or, of BED, one of its lines; or no contig of it is in the FASTA.
    """
    tally = Tally(path)
    if format_of(path) == "bed":
        return _sites(_read_bed(path, contig_lengths, tally), tally, ("lines", "unknown_contig"))
    transcripts = read_transcripts(path, contig_lengths, tally)
    if bases is not None:
        transcripts = cut_without_signals(transcripts, bases, tally)
    introns: set[tuple[int, int, int, int]] = set()
    rows: list[tuple[int, int, int, int]] = []
    for transcript in transcripts:
        if transcript.strand is None:
            tally.add("unstranded", transcript.name)
            continue
        introns.update((transcript.contig, int(a), int(b), transcript.strand) for a, b in transcript.introns)
        if transcript_tss:
            rows.append((transcript.contig, transcript.tss, LABEL_TRACKS.index("tss"), transcript.strand))
    used = sorted(row for row in introns if row[2] - row[1] >= min_intron_bp)
    tally.add("short_introns", count=len(introns) - len(used))
    tally.add("introns", count=len(used))
    for contig, start, end, strand in used:
        donor, acceptor = (start - 1, end) if strand == Strand.PLUS else (end, start - 1)
        rows += [(contig, donor, 0, strand), (contig, acceptor, 1, strand)]
    always = ("lines", "unknown_contig", "transcripts", "introns", "short_introns", "unstranded")
    return _sites(rows, tally, always, np.array(used, np.int64).reshape(-1, 4))


def _read_bed(path: Path, contig_lengths: Mapping[str, int], tally: Tally) -> list[tuple[int, int, int, int]]:
    """Contig, position, kind and strand of each line."""
    index = {name: i for i, name in enumerate(contig_lengths)}
    rows: list[tuple[int, int, int, int]] = []
    unknown: dict[str, int] = {}
    first, first_unknown = True, 0
    for number, fields in iter_rows(path):
        was_first, first = first, False
        if was_first and is_header(fields):
            tally.add("header", f"line {number}")
            continue
        try:
            name, position, kind, strand = _bed_site(fields if len(fields) > 1 else fields[0].split())
            contig = index.get(name)
            if contig is not None and position >= contig_lengths[name]:
                raise ValueError(
                    f'end {position + 1} lies beyond contig "{name}" of {contig_lengths[name]} bp;'
                    " is this annotation of another assembly?"
                )
        except ValueError as error:
            raise InputError(f"{path} line {number}: {error}") from None
        if contig is None:
            first_unknown = first_unknown or number
            unknown[name] = unknown.get(name, 0) + 1
        elif strand is None:
            tally.add("unstranded_sites", f"line {number}")
        else:
            tally.add("lines")
            rows.append((contig, position, kind, strand))
    if unknown and not rows:
        raise InputError(f"{path} line {first_unknown}: {none_shared(unknown, index)}")
    for name, count in unknown.items():
        meant = twin(name, index)
        tally.add("unknown_contig", f'"{name}"' + (f': does it mean "{meant}"?' if meant else ""), count)
    return rows


def _bed_site(fields: list[str]) -> tuple[str, int, int, Strand | None]:
    """Contig name, position, kind and strand of a line; ValueError says what is wrong with it."""
    if len(fields) < 6:
        raise ValueError(f"{len(fields)} tab-separated columns where BED6 has 6")
    start, end = integers(fields[1], fields[2])
    if start < 0 or end != start + 1:
        raise ValueError(f"a site is 1 bp wide, this one is {start}-{end}")
    if fields[3] not in LABEL_TRACKS:
        raise ValueError(f'name "{fields[3]}" is none of {", ".join(LABEL_TRACKS)}')
    if fields[5] not in (*_STRANDS, ".", "?"):
        raise ValueError(f'strand "{fields[5]}" is neither + nor -')
    return fields[0], start, LABEL_TRACKS.index(fields[3]), _STRANDS.get(fields[5])


def _sites(
    rows: Sequence[tuple[int, int, int, int]], tally: Tally, always: Sequence[str], introns: NDArray[np.int64] | None = None
) -> Sites:
    table = np.unique(np.array(rows, np.int64).reshape(-1, 4), axis=0)
    return Sites(
        table[:, 0], table[:, 1], table[:, 2].astype(np.uint8), table[:, 3].astype(np.int8),
        counts={**dict.fromkeys(always, 0), **{name: n for name, n in tally.counts.items() if n}},
        introns=np.empty((0, 4), np.int64) if introns is None else introns,
        left_out=tuple(tally.left_out()), remarks=tuple(tally.remarks()),
    )  # fmt: skip
