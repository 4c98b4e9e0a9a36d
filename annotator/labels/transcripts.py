"""Transcripts of GTF, GFF2 and GFF3 files: exons joined by contig, strand, gene and transcript, and cut where they are not one.

Coordinates: 0-based half-open.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotator.errors import InputError
from annotator.kinds import Strand
from annotator.labels.gff import ExonGroup, GroupKey, Lines, Owner, Place, read_lines
from annotator.labels.tally import MAX_INTRON_BP, Tally
from annotator.labels.text import format_of


@dataclass(frozen=True, eq=False)
class Transcript:
    """One transcript.

    Attributes:
        contig: Index into the contigs in the order given to the reader.
        strand: Its strand; None where the file does not say.
        name: transcript_id, or the Parent of its exons.
        exons: Start and end of each exon, ascending along the contig, half-open, overlapping or touching
            ones joined, int64, [n, 2].
        gene: gene_id, or the topmost parent; empty where the file does not say.
        of_gene: Whether the exons hang on a gene, not on a transcript: they may be those of several isoforms.
    """

    contig: int
    strand: Strand | None
    name: str
    exons: NDArray[np.int64]
    gene: str = ""
    of_gene: bool = False

    @property
    def introns(self) -> NDArray[np.int64]:
        """Start and end of each intron, ascending along the contig, half-open, int64, [n - 1, 2]."""
        return np.stack([self.exons[:-1, 1], self.exons[1:, 0]], axis=1)

    @property
    def tss(self) -> int:
        """The first base transcribed; meaningless without a strand."""
        return int(self.exons[0, 0] if self.strand is Strand.PLUS else self.exons[-1, 1] - 1)

    def cut(self, gaps: Iterable[int]) -> list[Transcript]:
        """The parts that are left when gaps between exons are no introns.

        Args:
            gaps: Number of each gap, 0-based.
        """
        cuts = sorted(gap + 1 for gap in set(gaps))
        return [replace(self, exons=exons) for exons in np.split(self.exons, cuts)] if cuts else [self]


def read_transcripts(path: Path, contig_lengths: Mapping[str, int], tally: Tally | None = None) -> list[Transcript]:
    """Read the transcripts of a GTF, GFF2 or GFF3 file, plain or gzipped, in order of their first exon line.

    Exons belong together when contig, strand, gene and transcript are the same. They are cut apart where the file shows that
    they are several loci: lines of the transcript or the gene at several places, an exon_number that starts again, an exon of
    another gene or strand of the same transcript name in between, a gap of more than `MAX_INTRON_BP`.

    Args:
        path: The file.
        contig_lengths: Length of each contig of the FASTA, in its order.
        tally: What was read and left out is counted here.

    Returns:
        The transcripts.

    Raises:
        UsageError: The file is missing or unreadable.
        InputError: The file is a BED file, or see `read_lines`.
    """
    if format_of(path) == "bed":
        raise InputError(f"{path}: a BED file holds sites, not transcripts; a GTF or GFF3 file is needed")
    tally = tally or Tally(path)
    lines = read_lines(path, contig_lengths, tally)
    parts = [part for key, group in lines.exons.items() for part in _parts(key, group, lines, tally)]
    parts += _coding_parts(lines, parts, tally)
    for owner in sorted(lines.damaged):
        tally.add("incomplete", owner.name or owner.gene)
    _count_mixed_strands(parts, tally)
    exon_starts = _exon_starts(parts)
    found = []
    for part in parts:
        if part.owner not in lines.damaged:
            found += _transcripts(part, exon_starts[part.contig, part.owner.name], tally)
    tally.add("transcripts", count=len(found))
    tally.add("single_exon", count=sum(len(transcript.exons) == 1 for transcript in found))
    return found


@dataclass
class _Part:
    """Exons that lie at one locus of one gene and strand.

    Attributes:
        contig: Index of the contig.
        strand: Strand; None where the file does not say.
        owner: What the exon lines name.
        gene: The gene, where the file says it.
        of_gene: Whether the exons hang on a gene.
        group: The exons, in file order.
    """

    contig: int
    strand: Strand | None
    owner: Owner
    gene: str
    of_gene: bool
    group: ExonGroup

    @property
    def label(self) -> str:
        """Name for messages."""
        return self.owner.name if self.owner.has_transcript else self.gene or self.owner.name


def _parts(key: GroupKey, group: ExonGroup, lines: Lines, tally: Tally) -> list[_Part]:
    """Exons of one name, apart by gene and by locus: by the lines of transcripts and genes that they lie within."""
    contig, strand, owner = key
    places = [place for place in lines.places.get(owner, ()) if place.contig == contig]
    parts: dict[tuple[str, int, int], _Part] = {}
    # where a name has one line, as nearly all have, all its exons are of that line's gene
    sure = owner.gene or (_top(places[0], owner.name, lines) if len(places) == 1 else "")
    if len(places) < 2 and sum(p.contig == contig for p in lines.places.get(_gene_owner(owner, sure), ())) < 2:
        of_gene = _is_gene(places[0]) if places and not owner.gene else not owner.has_transcript
        return [_Part(contig, strand, owner, sure, of_gene, group)]
    for span, number in zip(group.spans, group.numbers, strict=True):
        holding = [place for place in places if place.start <= span[0] and span[1] <= place.end]
        place = min(holding or places, key=lambda place: place.end - place.start, default=None)
        gene = owner.gene or (_top(place, owner.name, lines) if place else "")
        of_gene = _is_gene(place) if place and not owner.gene else not owner.has_transcript
        above = [p for p in lines.places.get(_gene_owner(owner, gene), ()) if p.contig == contig]
        alike = [p for p in places if owner.gene or _top(p, owner.name, lines) == gene]
        part = parts.setdefault(
            (gene, _locus(alike, span), _locus(above, span)),
            _Part(contig, strand, owner, gene, of_gene, ExonGroup(coding=group.coding, trans_spliced=group.trans_spliced)),
        )
        part.group.spans.append(span)
        part.group.numbers.append(number)
    found = list(parts.values())
    tally.add("several_loci", found[0].label, len(found) - 1)
    return found


def _gene_owner(owner: Owner, gene: str) -> Owner:
    """What the lines of a gene are found under: gene_id of GTF, ID of GFF3."""
    return Owner(owner.gene, "") if owner.gene else Owner("", gene)


def _is_gene(place: Place) -> bool:
    """Whether a line is one of a gene (gene, pseudogene, ncRNA_gene, ...), not of a transcript."""
    return place.type.lower().endswith("gene")


def _top(place: Place, name: str, lines: Lines) -> str:
    """ID of the topmost parent of a line of GFF3: its own where it has none."""
    seen = {name}
    while place.parent and place.parent not in seen:
        name = place.parent
        seen.add(name)
        above = lines.places.get(Owner("", name), ())
        if not above:
            break
        place = next((p for p in above if p.contig == place.contig), above[0])
    return name


def _locus(places: Sequence[Place], span: tuple[int, int]) -> int:
    """Index of the locus (overlapping lines taken together) that holds a span; 0 where there is but one, -1 where none does."""
    loci = _joined([(place.start, place.end) for place in places])[0]
    if len(loci) < 2:
        return 0
    return next((i for i, (start, end) in enumerate(loci) if start <= span[0] and span[1] <= end), -1)


def _coding_parts(lines: Lines, exon_parts: Sequence[_Part], tally: Tally) -> list[_Part]:
    """Exons made of CDS and UTR lines, for transcripts that have no exon lines."""
    named = {(part.contig, part.owner) for part in exon_parts}
    genes = {(part.contig, part.gene) for part in exon_parts if part.gene}
    found: list[_Part] = []
    for key, group in lines.coding.items():
        if not group.coding or (key[0], key[2]) in named:
            continue
        # a CDS that hangs on a gene says nothing more where the gene's transcripts have exon lines
        parts = [part for part in _parts(key, group, lines, tally) if not (part.of_gene and (part.contig, part.gene) in genes)]
        for part in parts:
            tally.add("coding_only", part.label)
        found += parts
    return found


def _count_mixed_strands(parts: Sequence[_Part], tally: Tally) -> None:
    strands = defaultdict(set)
    for part in parts:
        if part.owner.has_transcript or part.of_gene:
            strands[part.contig, part.gene, part.label].add(part.strand)
    for (_, _, label), found in strands.items():
        if len(found) > 1:
            tally.add("mixed_strands", label)


def _exon_starts(parts: Sequence[_Part]) -> Mapping[tuple[int, str], NDArray[np.int64]]:
    """First bases of all exons of each transcript name on each contig, whatever gene and strand, ascending."""
    starts: dict[tuple[int, str], list[int]] = defaultdict(list)
    for part in parts:
        starts[part.contig, part.owner.name] += [start for start, _ in part.group.spans]
    return {key: np.sort(np.array(values, np.int64)) for key, values in starts.items()}


def _transcripts(part: _Part, exon_starts: NDArray[np.int64], tally: Tally) -> list[Transcript]:
    """The transcripts of one part: none, one, or several where gaps between its exons are no introns."""
    exons, numbers, overlap = _joined(part.group.spans, part.group.numbers)
    if part.of_gene and overlap:
        tally.add("isoforms_of_gene", part.label)
        return []
    if part.group.trans_spliced:
        tally.add("trans_spliced", part.label)
        return []
    if overlap and not part.group.coding:
        runs = _runs(part.group)
        if are_copies([[end - start for start, end in run.spans] for run in runs]):
            tally.add("several_loci", part.label, len(runs) - 1)
            return [t for run in runs for t in _transcripts(replace(part, group=run), exon_starts[:0], tally)]
        tally.add("overlapping_exons", part.label)
    table = np.array(exons, np.int64)
    gap_starts, gap_ends = table[:-1, 1], table[1:, 0]
    long = set(np.flatnonzero(gap_ends - gap_starts > MAX_INTRON_BP).tolist())
    loci = set(_restarts(numbers, part.strand))
    if part.owner.name:  # exons of this part never lie in its own gaps
        inside = np.searchsorted(exon_starts, gap_ends) > np.searchsorted(exon_starts, gap_starts)
        loci |= set(np.flatnonzero(inside).tolist())
    tally.add("long_gaps", part.label, len(long - loci))
    tally.add("several_loci", part.label, len(loci))
    whole = Transcript(part.contig, part.strand, part.owner.name or part.gene, table, part.gene, part.of_gene)
    return whole.cut(long | loci)


def are_copies(lists: Sequence[Sequence[int]]) -> bool:
    """Whether lists of exon lengths are those of one transcript at several loci: alike, within a tenth, and of at least two."""
    first = lists[0]
    return len(first) > 1 and all(
        len(other) == len(first) and all(abs(a - b) <= max(3, a // 10) for a, b in zip(first, other, strict=True))
        for other in lists
    )


def _runs(group: ExonGroup) -> list[ExonGroup]:
    """Exons in file order, apart wherever the next one overlaps the last or lies before it, in the way that most go."""
    runs: list[ExonGroup] = []
    steps = np.diff([start for start, _ in group.spans])
    forward = (steps > 0).sum() >= (steps < 0).sum()
    last = None
    for span, number in zip(group.spans, group.numbers, strict=True):
        if last is None or (span[0] < last[1] if forward else span[1] > last[0]):
            runs.append(ExonGroup())
        runs[-1].spans.append(span)
        runs[-1].numbers.append(number)
        last = span
    return runs


def _restarts(numbers: Sequence[int | None], strand: Strand | None) -> Iterator[int]:
    """Gaps at which exon_number starts again; none where exons are not numbered, no number comes twice, or all have the same."""
    known = [number for number in numbers if number is not None]
    different = len(set(known))
    if len(known) < len(numbers) or different == len(known) or (different == 1 and len(known) > 2):
        return
    steps = np.diff(np.array(known, np.int64))
    rising, falling = int((steps > 0).sum()), int((steps < 0).sum())
    forward = rising > falling if rising != falling else strand is not Strand.MINUS
    yield from np.flatnonzero(steps <= 0 if forward else steps >= 0).tolist()


def _joined(
    spans: Sequence[tuple[int, int]], numbers: Sequence[int | None] | None = None
) -> tuple[list[list[int]], list[int | None], bool]:
    """Spans ascending, overlapping and touching ones joined; the number of the first of each; whether different ones overlap."""
    joined: list[list[int]] = []
    kept: list[int | None] = []
    overlap = False
    last = None
    for start, end, number in sorted(
        ((*span, number) for span, number in zip(spans, numbers or [None] * len(spans), strict=True)), key=lambda row: row[:2]
    ):
        if joined and start <= joined[-1][1]:
            overlap |= start < joined[-1][1] and (start, end) != last
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end])
            kept.append(number)
        last = (start, end)
    return joined, kept, overlap
