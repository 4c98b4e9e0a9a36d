"""Labelled genomes from disk, read by the same reader as everything else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotator.errors import InputError
from annotator.genome.contigs import ContigTable
from annotator.genome.options import GenomeOptions
from annotator.genome.regions import iter_bed, read_regions
from annotator.genome.source import open_genome
from annotator.kinds import LABEL_TRACKS, STRANDS, Strand
from annotator.labels.check import AnnotationReport, report_on
from annotator.labels.labelled import LabelledGenome, SoftTable, has_labels
from annotator.labels.options import Organism
from annotator.labels.signals import GenomeBases
from annotator.labels.sites import read_sites
from annotator.labels.teacher import read_teacher


def load_genome(organism: Organism, spool_dir: Path, features: Sequence[tuple[str, Path]] = ()) -> LabelledGenome:
    """Read an organism's bases and sites into memory; what was left out, and whether the introns look like introns, is logged.

    Args:
        organism: Files and how to use them.
        spool_dir: Where the reader may put decompressed bases.
        features: (track, BED file) of features beside the sites. A line becomes a site at its central base, on both strands
            where it has none.

    Returns:
        The labelled genome.

    Raises:
        AnnotatorError: A file is missing or bad, its truth holds no site (or none of a kind that is asked for), is not a truth
            of this genome, or its teacher speaks of another one.
    """
    genome = open_genome(organism.fasta, spool_dir, GenomeOptions())
    names, lengths = genome.contigs.names, genome.contigs.lengths
    ends = np.cumsum(lengths)
    bases = np.concatenate([genome.read_bases(i, 0, int(length)) for i, length in enumerate(lengths)])
    by_name = dict(zip(names, lengths.tolist(), strict=True))
    starts = ends - lengths
    tracks = (*LABEL_TRACKS, *(track for track, _ in features))
    masked = {(kind, strand): np.empty(0, np.int64) for kind in tracks for strand in STRANDS}
    sites = dict(masked)
    whole = GenomeBases(bases, starts, ends)
    reports: dict[str, AnnotationReport] = {}
    if organism.truth:
        read = read_sites(organism.truth, by_name, whole)
        reports["truth"] = report_on(organism.truth, read, whole)
        reports["truth"].judge(accept=organism.accept_annotation)
        sites |= read.end_to_end(starts)
    widths = {}
    for track, path in features:
        warnings: list[str] = []
        centres, widths[track] = _centres(path, genome.contigs, starts, warnings)
        reports[track] = AnnotationReport(path, {}, remarks=tuple(line.removeprefix(f"{path}: ") for line in warnings))
        reports[track].judge(accept=True)
        sites |= {(track, strand): places for strand, places in centres.items()}
    if organism.mask:
        read = read_sites(organism.mask, by_name, whole)
        reports["mask"] = report_on(organism.mask, read, whole)
        reports["mask"].judge(accept=organism.accept_annotation, refuse=False)
        masked |= read.end_to_end(starts)
    annotation = {what: report.as_dict() for what, report in reports.items()}
    teacher: SoftTable = {}
    if organism.teacher:
        teacher, annotation["teacher"] = read_teacher(organism.teacher, by_name, starts)
        if not organism.truth:  # no truth contradicts the teacher anywhere
            masked |= {key: soft.positions for key, soft in teacher.items()}
    if organism.max_bp:
        bases, ends = _first(bases, ends, organism.max_bp)
        sites, masked = ({key: value[value < len(bases)] for key, value in table.items()} for table in (sites, masked))
        teacher = {key: soft.before(len(bases)) for key, soft in teacher.items()}
    kinds = frozenset(kind for kind in tracks if has_labels(kind, sites, {} if organism.truth else teacher))
    if not kinds:
        left_out = "; ".join(reports["truth"].left_out) if organism.truth else ""
        raise InputError(
            f"{organism.truth or organism.fasta}: no donor, acceptor, tss or feature to learn from"
            + (f"; left out: {left_out}" if left_out else "")
        )
    if missing := [kind for kind in organism.learn if kind not in kinds]:
        raise InputError(f"{organism.truth or organism.fasta}: no {missing[0]}, which `learn` of {organism.name} names")
    return LabelledGenome(
        organism.name, organism.clade, bases, ends, tuple(names[: len(ends)]), sites, masked,
        kinds.difference(LABEL_TRACKS).union(organism.learn) if organism.learn else kinds,
        organism.trim_bp, organism.weight, widths, annotation, teacher,
    )  # fmt: skip


def load_elements(path: Path, genome: LabelledGenome) -> NDArray[np.int64]:
    """Read the lines of a BED file as stretches of a genome, whatever their strand.

    Args:
        path: The BED file.
        genome: A whole genome from `load_genome`, neither trimmed nor parted.

    Returns:
        Disjoint spans, contigs end to end, int64, [m, 2], ascending; lines that touch or overlap are one.

    Raises:
        UsageError: The file is missing or unreadable.
        InputError: It does not fit the genome, or a line is bad.
    """
    starts, none = genome.contig_starts, np.zeros(len(genome.contig_names), np.int64)
    contigs = ContigTable(list(genome.contig_names), genome.contig_ends - starts, none, none, none, none, none, none)
    found = read_regions(path, contigs, [])  # `load_genome` has said what was passed over
    return np.concatenate([np.empty((0, 2), np.int64), *(spans + starts[contig] for contig, spans in found.items())])


def _centres(
    path: Path, contigs: ContigTable, starts: NDArray[np.int64], warnings: list[str]
) -> tuple[dict[Strand, NDArray[np.int64]], int]:
    """Central bases of a BED file's lines by strand, contigs end to end, and the lines' median width."""
    found: dict[Strand, set[int]] = {strand: set() for strand in STRANDS}
    widths = []
    for line in iter_bed(path, contigs, warnings):
        if line.start == line.end:
            continue
        widths.append(line.end - line.start)
        for strand in STRANDS:
            if line.strand in (strand.symbol, "."):
                found[strand].add(int(starts[line.contig]) + (line.start + line.end) // 2)
    if not widths:
        raise InputError(f"{path}: no line to learn from")
    return {strand: np.array(sorted(places), np.int64) for strand, places in found.items()}, int(np.median(widths))


def _first(bases: NDArray[np.uint8], ends: NDArray[np.int64], limit: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The first `limit` bases, the last contig cut short."""
    kept = np.minimum(ends[: int(np.searchsorted(ends, limit)) + 1], limit)
    return bases[: int(kept[-1])], kept
