"""The genome of a run, found again and held against what run.json says of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from annotator.errors import AnnotatorError, InputError
from annotator.files import temporary_folder
from annotator.genome.options import GenomeOptions
from annotator.genome.source import Genome, open_genome
from annotator.labels.signals import GenomeBases
from annotator.results.results import Results

logger = logging.getLogger(__name__)


@contextmanager
def genome_of_run(results: Results, given: Path | None) -> Iterator[Genome | None]:
    """The genome that a run read, open for the time of the body.

    Args:
        results: The run.
        given: The path that the user gives; None for the one in run.json, if it is still there and the same.

    Yields:
        The genome; None where none was given and the recorded one cannot be used, which is logged.

    Raises:
        UsageError: The given path cannot be read.
        InputError: The given genome is damaged, or is not the run's.
    """
    path = Path(given) if given is not None else _recorded(results)
    if path is None:
        yield None
        return
    with temporary_folder(results.path) as spool:
        try:
            genome = open_genome(path, spool, _options(results))
            refuse_other_genome(genome, results)
        except AnnotatorError as error:
            if given is not None:
                raise
            logger.warning("no sequence is shown: %s", error)
            yield None
            return
        try:
            yield genome
        finally:
            genome.close()


def refuse_other_genome(genome: Genome, results: Results) -> None:
    """See that a genome is the one that a run read, however it is compressed now.

    Raises:
        InputError: Its contigs or its bytes are others; the message names the first difference.
    """
    contigs, mine = results.contigs, dict(zip(genome.contigs.names, genome.contigs.lengths.tolist(), strict=True))
    said = f"{genome.path}: is not the genome of {results.path}"
    if absent := [name for name in contigs if name not in mine]:
        raise InputError(f"{said}: {len(absent):,} of {len(contigs):,} contigs are not in it, such as {absent[0]!r}")
    if more := [name for name in mine if name not in contigs]:
        raise InputError(f"{said}: it has {len(more):,} contigs more, such as {more[0]!r}")
    for name, length in mine.items():
        if length != contigs[name]:
            raise InputError(f"{said}: contig {name!r} has {length:,} bp, not {contigs[name]:,}")
    if genome.text_sha256 != results.run["plan"].get("fasta_sha256"):
        raise InputError(f"{said}: names and lengths are the same, but the bases or the text are not (sha256)")


def whole_genome(genome: Genome) -> GenomeBases:
    """All bases in memory, one byte each."""
    lengths = genome.contigs.lengths
    pieces = [genome.read_bases(contig, 0, length) for contig, length in enumerate(lengths.tolist())]
    ends = np.cumsum(lengths)
    return GenomeBases(np.concatenate([*pieces, np.zeros(0, np.uint8)]), ends - lengths, ends)


def _recorded(results: Results) -> Path | None:
    """The path in run.json, where there is still a file."""
    recorded = results.run.get("input", {}).get("absolute_path")
    if recorded and Path(recorded).is_file():
        return Path(recorded)
    logger.warning("no sequence is shown: the genome is not at %s any more; give its path after the folder", recorded or "a file")
    return None


def _options(results: Results) -> GenomeOptions:
    """How the run read its FASTA."""
    plan = results.run["plan"]
    return GenomeOptions(
        dup_names=plan.get("duplicate_names", "error"), gaps_as_n=bool(plan.get("gaps_as_n")), eof_check=False,
        mask_chars=plan.get("mask_chars", ""),
    )  # fmt: skip
