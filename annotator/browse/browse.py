"""The command `browse`: from a results folder to a page, and to the files for other browsers beside it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from annotator.browse.genes import Annotation, read_annotation
from annotator.browse.loci import Locus, LocusGroup, list_loci, named_loci
from annotator.browse.page import Page, page_html
from annotator.browse.reference import genome_of_run, whole_genome
from annotator.browse.serve import PageServer, Served
from annotator.browse.sessions import TWO_BIT, reads_at_random, write_sessions
from annotator.browse.tracks import Track, annotation_track, call_tracks, probability_tracks, verdict_tracks
from annotator.browse.two_bit import fits_two_bit, write_two_bit
from annotator.errors import InputError, UsageError
from annotator.files import atomic_folder, temporary_folder
from annotator.genome.source import Genome
from annotator.kinds import Kind
from annotator.output.schema import PREDICTIONS_FILE
from annotator.results.judged import Judged, judge
from annotator.results.pages import BROWSE_FOLDER, BROWSE_HTML, identity, refuse_foreign_page, write_page
from annotator.results.results import BatchResults, Results, open_results

logger = logging.getLogger(__name__)

MAX_SEQUENCE_BP: Final = 100_000_000
"""A page holds the sequence of a genome up to this size; of a larger one the names and lengths of its contigs."""
MAX_PAGE_BYTES: Final = 400_000_000
"""Browsers hold no longer text than about half a gigabyte."""
MAX_GENES: Final = 200_000
_GENES_LISTED: Final = 8
_BASE64: Final = 4 / 3


@dataclass(frozen=True)
class BrowseOptions:
    """What a page shows beside the calls.

    Attributes:
        genome: FASTA of the run; None for the path in its run.json.
        loci: Regions to list first, such as "chr1:1-5000".
        genes: GTF or GFF3 whose genes are shown and searched.
        truth: BED of sites, GTF or GFF3 that the calls are held against.
        assembly: Name of the assembly at UCSC, for the track hub.
    """

    genome: Path | None = None
    loci: tuple[str, ...] = ()
    genes: Path | None = None
    truth: Path | None = None
    assembly: str = ""


def write_browse_page(folder: Path, options: BrowseOptions) -> Path:
    """Write browse.html into a results folder, and the files for other browsers into a folder beside it.

    Args:
        folder: The results folder of one assembly.
        options: What to show.

    Returns:
        The page.

    Raises:
        UsageError: There is no finished run, a path or a region is wrong, or a file of that name is not ours.
        InputError: Genome or annotation is damaged, or not of this run.
        ResourceFault: Something cannot be written.
    """
    results = _open(folder)
    for name in (BROWSE_HTML, BROWSE_FOLDER):
        refuse_foreign_page(results.path / name)
    with temporary_folder(results.path) as work, _made(results, options, work, MAX_SEQUENCE_BP) as page:
        size = sum(path.stat().st_size for path in page.files.values()) * _BASE64
        if size > MAX_PAGE_BYTES:
            raise UsageError(f"{results.path}: the page would hold {size / 1e6:,.0f} MB, too much for a browser; use --serve")
        path = results.path / BROWSE_HTML
        write_page(path, page_html(page, served=False))
        logger.info("%s: %.1f MB", path, path.stat().st_size / 1e6)
    return path


@contextmanager
def served_page(folder: Path, options: BrowseOptions, port: int) -> Iterator[PageServer]:
    """A server of the page of a results folder, which listens already; the files for other browsers are written as well.

    Args:
        folder: The results folder of one assembly.
        options: What to show.
        port: Port on the loopback address; 0 for a free one.

    Yields:
        The server; its `url` opens the page. What it serves is removed after the body.

    Raises:
        UsageError: As of `write_browse_page`, or the port is in use.
        InputError: As of `write_browse_page`.
        ResourceFault: As of `write_browse_page`.
    """
    results = _open(folder)
    refuse_foreign_page(results.path / BROWSE_FOLDER)
    served = Served("", {})
    with PageServer(served, port) as server, temporary_folder(results.path) as work:
        with _made(results, options, work, None) as page:
            server.served = Served(page_html(page, served=True), page.files, served.token)
        yield server


def _open(folder: Path) -> Results:
    results = open_results(folder)
    if isinstance(results, BatchResults):
        names = ", ".join(list(results.samples)[:5])
        raise UsageError(f"{folder}: holds several assemblies; give the folder of one of them: {names}")
    if not (results.path / PREDICTIONS_FILE).is_file():
        raise InputError(f"{results.path / PREDICTIONS_FILE}: missing")
    return results


@contextmanager
def _made(results: Results, options: BrowseOptions, work: Path, most_bp: int | None) -> Iterator[Page]:
    """The page, its files in `work`; the sequence where it has at most `most_bp` bases, or any number for None."""
    kinds = results.kinds
    for option, path in (("genes", options.genes), ("truth", options.truth)):
        if path is not None and not path.is_file():
            raise UsageError("no such file", option, str(path))
    with genome_of_run(results, options.genome) as genome:
        bases = whole_genome(genome) if options.truth and genome and genome.contigs.total_bp <= MAX_SEQUENCE_BP else None
        judged = judge(results, options.truth, bases) if options.truth else None
        groups = list_loci(results, kinds, options.loci, judged)
        tracks, names = _annotations(results, options, work)
        tracks = [*call_tracks(results, kinds, work), *probability_tracks(results), *tracks]
        if judged is not None:
            tracks += verdict_tracks(judged, results, work)
        sequence = _sequence(results, options, genome, groups)
        shown = sequence if most_bp is None or sum(results.contigs.values()) <= most_bp else None
        if sequence and not shown:
            logger.info("the page shows no sequence: the genome has more than %s bp; --serve shows it", f"{most_bp:,}")
        if names:
            groups.append(LocusGroup("Genes", names[:_GENES_LISTED]))
        names = [*names[:MAX_GENES], *named_loci(results, kinds), *(locus for group in groups[:-1] for locus in group.loci)]
        yield Page(
            title=results.path.resolve().name, run=identity(results.run), facts=_facts(results, judged, shown), kinds=kinds,
            judged=judged is not None, contigs=results.contigs, sequence=shown, tracks=tracks, groups=groups, names=names,
        )  # fmt: skip


def _annotations(results: Results, options: BrowseOptions, work: Path) -> tuple[list[Track], list[Locus]]:
    """A track for each annotation, and the names of its genes."""
    read: dict[Path, Annotation] = {}
    for path in (options.genes, options.truth):
        if path is not None and path.resolve() not in read:
            read[path.resolve()] = read_annotation(path, results.contigs)
    tracks, names = [], []
    for number, (path, annotation) in enumerate(read.items()):
        tracks.append(annotation_track(path.name, annotation, results, work / f"annotation_{number}.bed.gz"))
        names += [Locus(gene.name, gene.contig, gene.start, gene.end) for gene in annotation.genes]
    return tracks, names


def _sequence(results: Results, options: BrowseOptions, genome: Genome | None, groups: list[LocusGroup]) -> Path | None:
    """Write the folder for other browsers; the sequence in it, where there is one."""
    fits = genome is not None and fits_two_bit(genome.contigs.names, genome.contigs.lengths)
    if genome is not None and not fits:
        logger.warning("no sequence is shown: a name of more than 255 letters, or more than 16 Gb, which 2bit cannot hold")
    folder = results.path / BROWSE_FOLDER
    first = groups[0].loci[0] if groups else None
    with atomic_folder(folder) as temporary:
        if genome is not None and fits:
            write_two_bit(temporary / TWO_BIT, genome.contigs.names, genome.bases)
        fasta = Path(genome.path) if genome is not None and reads_at_random(Path(genome.path)) else None
        files = write_sessions(temporary, results, first, sequence=fits, fasta=fasta, assembly=options.assembly)
    logger.info("%s: %s", folder, ", ".join(files))
    return folder / TWO_BIT if fits else None


def _facts(results: Results, judged: Judged | None, sequence: Path | None) -> list[str]:
    """Sentences about the run."""
    plan = results.run["plan"]
    model, thresholds = plan["model"], ", ".join(f"{kind} {value:.3g}" for kind, value in results.thresholds.items())
    contigs = results.contigs
    facts = [
        f"Model {model['name']} {model['version']}, clade {plan['clade']}; thresholds: {thresholds or 'none'}. "
        f"{len(contigs):,} contigs, {sum(contigs.values()):,} bp.",
    ]
    if failed := results.run.get("failed_contigs", {}).get("count"):
        facts.append(f"{failed:,} contigs failed and have no calls: {', '.join(results.failed_contigs[:5])}.")
    if plan.get("regions_sha256"):
        facts.append("The run looked at regions of the genome only; elsewhere there are no calls.")
    if judged is not None:
        said = [_of_truth(judged, kind, truths) for kind, truths in judged.truths.items()]
        facts.append(f"Against {judged.path.name}: {'; '.join(said)}.")
    if sequence is None:
        facts.append("The sequence is not shown.")
    return facts


def _of_truth(judged: Judged, kind: Kind, truths: int) -> str:
    missed = int((judged.missed["kind"] == kind).sum())
    calls = int((judged.calls["kind"] == kind).sum())
    return f"{kind}: {truths - missed:,} of {truths:,} found, {calls - (truths - missed):,} extra"
