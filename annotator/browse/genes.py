"""Genes of an annotation, for the search and as a track: whatever GTF or GFF file they come from, as BED12.

Coordinates: 0-based half-open.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from annotator.kinds import LABEL_TRACKS
from annotator.labels.sites import Sites, read_sites
from annotator.labels.text import format_of, iter_rows
from annotator.labels.transcripts import Transcript, read_transcripts

ANNOTATION_RGB: Final = "0,0,110"
_IDS = re.compile(r'(?:^|[;\s])(?:ID=|gene_id[ =]"?|transcript_id[ =]"?)([^";]+)')
_NAME = re.compile(r'(?:^|[;\s])(?:gene_name[ =]"?|Name=|gene=|gene[ ]"|gene_symbol[ =]"?)([^";]+)')
_UNPRINTABLE = re.compile(r"[^!-~]")


@dataclass(frozen=True)
class Gene:
    """A name of an annotation and where it lies.

    Attributes:
        name: What people call it.
        contig: Name of the contig.
        start: First base.
        end: One past the last base.
    """

    name: str
    contig: str
    start: int
    end: int


@dataclass(frozen=True)
class Annotation:
    """An annotation, ready for a page.

    Attributes:
        genes: Its genes by contig and position; none of a BED file of sites.
        bed: BED12 lines of its transcripts, or BED6 lines of its sites, as columns chrom, start, end and text, in no order.
    """

    genes: list[Gene]
    bed: pl.DataFrame


def read_annotation(path: Path, contigs: Mapping[str, int]) -> Annotation:
    """Read an annotation for the page.

    Args:
        path: BED of sites, GTF, GFF2 or GFF3, plain or gzipped.
        contigs: Length of each contig of the run.

    Raises:
        UsageError: The file cannot be read.
        InputError: It is damaged, or is of another assembly.
    """
    if format_of(path) == "bed":
        return Annotation([], _site_lines(read_sites(path, contigs), list(contigs)))
    transcripts, names = read_transcripts(path, contigs), _names(path)
    contig_names = list(contigs)
    genes: dict[tuple[int, str], list[int]] = {}
    rows: list[tuple[str, int, int, str]] = []
    for transcript in transcripts:
        gene = names.get(transcript.gene) or names.get(transcript.name) or transcript.gene or transcript.name
        start, end = int(transcript.exons[0, 0]), int(transcript.exons[-1, 1])
        for name in {gene, transcript.gene, transcript.name} - {""}:
            span = genes.setdefault((transcript.contig, name), [start, end])
            span[:] = min(span[0], start), max(span[1], end)
        contig = contig_names[transcript.contig]
        rows.append((contig, start, end, _bed12(contig, transcript, gene)))
    found = [Gene(name, contig_names[contig], *span) for (contig, name), span in genes.items()]
    return Annotation(found, _frame(rows))


def _frame(rows: list[tuple[str, int, int, str]]) -> pl.DataFrame:
    schema = {"chrom": pl.String, "start": pl.Int64, "end": pl.Int64, "text": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _bed12(contig: str, transcript: Transcript, gene: str) -> str:
    start, end = int(transcript.exons[0, 0]), int(transcript.exons[-1, 1])
    sizes = ",".join(str(b - a) for a, b in transcript.exons.tolist())
    starts = ",".join(str(a - start) for a, _ in transcript.exons.tolist())
    strand = "." if transcript.strand is None else transcript.strand.symbol
    columns = (
        contig, start, end, _UNPRINTABLE.sub("_", gene)[:255] or ".", 0, strand, start, start, ANNOTATION_RGB,
        len(transcript.exons), sizes, starts,
    )  # fmt: skip
    return "\t".join(map(str, columns))


def _site_lines(sites: Sites, contigs: list[str]) -> pl.DataFrame:
    rows = []
    columns = (sites.contig, sites.position, sites.kind, sites.strand)
    for contig, position, kind, strand in zip(*(column.tolist() for column in columns), strict=True):
        name = contigs[contig]
        text = f"{name}\t{position}\t{position + 1}\t{LABEL_TRACKS[kind]}\t0\t{'+' if strand > 0 else '-'}"
        rows.append((name, position, position + 1, text))
    return _frame(rows)


def _names(path: Path) -> dict[str, str]:
    """What people call the genes and transcripts of a file, by their ids."""
    names: dict[str, str] = {}
    for _, fields in iter_rows(path):
        if len(fields) < 9 or (name := _NAME.search(fields[8])) is None:
            continue
        for identifier in _IDS.findall(fields[8]):
            names.setdefault(urllib.parse.unquote(identifier.strip()), urllib.parse.unquote(name[1].strip()))
    return names
