"""Whether the clade of a run is the one whose settings fit a genome best: measured on a sample before the scan."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from annotator.calls.clade_fit import CladeFit, best_clade, better_clade, clade_fit
from annotator.errors import ModelFault, ResourceFault, UsageError
from annotator.genome.decoys import sample_spans
from annotator.genome.regions import read_regions
from annotator.genome.source import Genome, open_genome
from annotator.kinds import AUTO_CLADE, SPLICE_TRACKS, Kind
from annotator.models.directory import read_model
from annotator.models.manifest import Manifest
from annotator.pipeline.executors.machine import Machine
from annotator.pipeline.options import BOUND_OFF, AnnotateOptions, Sample
from annotator.pipeline.request import Request, resolve
from annotator.pipeline.sample_scan import load_sample_scan

if TYPE_CHECKING:
    from annotator.calls.sample_scan import SampleScan

logger = logging.getLogger(__name__)

SAMPLED_PART: Final = 100
"""A sample is this part of what is scanned, within the limits below: it costs a few percent of a run at most."""
LEAST_SAMPLE_BP: Final = 200_000
LARGEST_SAMPLE_BP: Final = 2_000_000
CHOOSING_SAMPLE_BP: Final = 1_000_000
"""A sample that a clade is chosen on, and not just remarked upon, is at least so large."""

SPLICE_KINDS: Final = tuple(map(Kind, SPLICE_TRACKS))
Regions = dict[int, NDArray[np.int64]] | None


def comparable_clades(manifest: Manifest) -> list[str]:
    """Clades of a model whose donors and acceptors are validated: those that a genome can be compared with."""
    if manifest.window is not None:
        return []
    return [clade for clade, settings in manifest.clades.items() if set(SPLICE_KINDS) <= set(settings.validated)]


class CladeFits:
    """Measures how well a model's clades fit genomes; loads their networks when first asked, and serves one genome at a time."""

    def __init__(self, request: Request) -> None:
        """Nothing is loaded yet."""
        self._request = request
        self._scans: dict[str, SampleScan] = {}
        self._lock = threading.Lock()

    def measure(
        self, genome: Genome, regions: Regions, tick: Callable[[], None] | None = None, *, least_bp: int = LEAST_SAMPLE_BP
    ) -> dict[str, CladeFit]:
        """Scan a sample of a genome with the settings of every clade that can be compared, and of the run's own.

        Args:
            genome: The genome.
            regions: Wanted intervals [m, 2] per contig index, or None for all of the genome.
            tick: Called again and again; what it raises ends the scan.
            least_bp: Size of the sample in bp, where the genome has so much.

        Raises:
            AnnotatorError: The model cannot be loaded or fails, or the FASTA changed.
        """
        request, lengths = self._request, genome.contigs.lengths
        wanted = min(max(int(lengths.sum()) // SAMPLED_PART, least_bp), LARGEST_SAMPLE_BP)
        sample = sample_spans(lengths, request.order.windows, regions, wanted)
        fits = {}
        with self._lock:
            for clade in dict.fromkeys([*comparable_clades(request.manifest), request.order.clade]):
                if clade not in self._scans:
                    self._scans[clade] = load_sample_scan(request, clade, SPLICE_KINDS)
                fits[clade] = clade_fit(self._scans[clade].calls(sample, lengths, genome.bases.read, regions, tick).probability)
        return fits

    def advise(self, genome: Genome, regions: Regions, tick: Callable[[], None] | None = None) -> None:
        """Say so where another clade's settings fit a genome much better than those of the run.

        Advice fails no run: what goes wrong in the sample goes wrong in the scan too, which names the place.
        """
        own = self._request.order.clade
        try:
            fits = self.measure(genome, regions, tick)
        except (ModelFault, ResourceFault) as fault:
            logger.info("%s: the clades are not compared: %s", genome.path, fault)
            return
        if (better := better_clade(fits, own)) is not None:
            logger.warning(
                "%s: the settings of clade %s fit this genome better than those of %s (expected F1 of splice calls on a sample: "
                "%.2f against %.2f); choose with `clade`",
                genome.path, better, own, fits[better].expected_f1, fits[own].expected_f1,
            )  # fmt: skip


def advises(request: Request) -> bool:
    """Whether a run has clades to compare with its own, and splice calls that depend on the choice."""
    others = set(comparable_clades(request.manifest)) - {request.order.clade}
    return bool(others) and set(SPLICE_KINDS) <= set(request.order.kinds)


def with_chosen_clade(samples: Sequence[Sample], options: AnnotateOptions, machine: Machine) -> AnnotateOptions:
    """Options whose clade is the one that fits the genome best, where they leave the choice to the program.

    Args:
        samples: The assemblies; one, where the clade is to be chosen.
        options: What was asked for.
        machine: Where it is done.

    Raises:
        UsageError: There are several assemblies, the model has no clades to choose from, or the genome has too few splice calls.
        AnnotatorError: The FASTA is bad, or the model fails.
    """
    if options.clade != AUTO_CLADE:
        return options
    if len(samples) > 1:
        raise UsageError(
            "each of several assemblies may have another; name one, or annotate them one by one", "clade", AUTO_CLADE
        )
    sample = samples[0]
    for path in (sample.fasta, options.regions):
        if path is not None and not Path(path).is_file():
            raise UsageError(f"{path}: it has to be read twice, and is no file", "clade", AUTO_CLADE)
    manifest = read_model(options.model)[1]
    clades = comparable_clades(manifest)
    if len(clades) < 2:
        raise UsageError(f"the model {manifest.name} has no clades to choose from", "clade", AUTO_CLADE)
    # Splice calls alone are compared: what else a run does is looked up once its clade is known, and said once.
    alone = replace(options, clade=clades[0], tasks=(Kind.DONOR.task,), thresholds={}, fdr=None, bound=BOUND_OFF)
    request = resolve(alone, machine)
    with (
        tempfile.TemporaryDirectory(prefix="annotator-") as spool,
        closing(open_genome(sample.fasta, Path(spool), options.genome)) as genome,
    ):
        regions = read_regions(options.regions, genome.contigs, genome.warnings) if options.regions else None
        fits = CladeFits(request).measure(genome, regions, least_bp=CHOOSING_SAMPLE_BP)
    said = ", ".join(f"{clade} {fit.expected_f1:.2f}" for clade, fit in fits.items())
    if (best := best_clade(fits)) is None:
        raise UsageError(
            f"{sample.fasta}: too few splice calls to choose by (expected F1: {said}); name one", "clade", AUTO_CLADE
        )
    logger.info("clade: %s fits best (expected F1 of splice calls on a sample: %s)", best, said)
    return replace(options, clade=best)
