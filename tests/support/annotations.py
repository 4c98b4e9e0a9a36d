"""A genome with introns that the detector finds, and annotation of it in whatever form a test needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.support.detector import ACCEPTOR, DONOR
from tests.support.runs import plant, random_bases, revcomp, write_fasta

CONTIG = "chr1"
GENES = 40
LENGTH = 300 + 600 * GENES
EXON_BP, INTRON_BP = 40, 160
Spans = Sequence[tuple[int, int]]


def strand_of(gene: int) -> str:
    """Strand of a gene: in turn."""
    return "+-"[gene % 2]


def exons_of(gene: int) -> list[tuple[int, int]]:
    """The two exons of a gene, 0-based half-open, ascending."""
    at = 300 + 600 * gene
    return [(at, at + EXON_BP), (at + EXON_BP + INTRON_BP, at + 2 * EXON_BP + INTRON_BP)]


def spliced_genome(path: Path) -> Path:
    """Write the genome: one contig of `GENES` genes of two exons, introns GT-AG, sites where the detector calls."""
    text = random_bases(LENGTH, 12)
    for gene in range(GENES):
        (_, low), (high, _) = exons_of(gene)
        if strand_of(gene) == "+":
            text = plant(plant(text, DONOR, low - 3), ACCEPTOR, high - 2)
        else:
            text = plant(plant(text, revcomp(ACCEPTOR), low - 4), revcomp(DONOR), high - 3)
    return write_fasta(path, {CONTIG: text})


def line(
    span: tuple[int, int],
    strand: str,
    attributes: str,
    *,
    kind: str = "exon",
    contig: str = CONTIG,
    shift: tuple[int, int] = (0, 0),
) -> str:
    """A line of GTF or GFF3; `shift` moves its start and end."""
    first, last = span[0] + 1 + shift[0], span[1] + shift[1]
    return f"{contig}\tx\t{kind}\t{first}\t{last}\t.\t{strand}\t.\t{attributes}\n"


def gtf(genes: Iterable[int] = range(GENES), *, shift: tuple[int, int] = (0, 0), strand: str = "", contig: str = CONTIG) -> str:
    """GTF of some genes, one transcript each."""
    return "".join(
        line(span, strand or strand_of(gene), f'gene_id "g{gene}"; transcript_id "t{gene}";', contig=contig, shift=shift)
        for gene in genes
        for span in exons_of(gene)
    )


def bed(genes: Iterable[int] = range(GENES), *, shift: int = 0, contig: str = CONTIG, turn: bool = False) -> str:
    """BED truth of some genes; `turn` writes the other strand."""
    rows = []
    for gene in genes:
        (_, low), (high, _) = exons_of(gene)
        strand = strand_of(gene)
        first, last = ("donor", "acceptor") if strand == "+" else ("acceptor", "donor")
        shown = {"+": "-", "-": "+"}[strand] if turn else strand
        rows += [(low - 1 + shift, first, shown), (high + shift, last, shown)]
    return "".join(f"{contig}\t{at}\t{at + 1}\t{kind}\t0\t{strand}\n" for at, kind, strand in rows)
