"""Thresholds by false discovery rate: settled for each genome before its scan, on the driver's own device."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from annotator.calls.error_rate import PLAIN, ErrorRate, choose_by_error_rate
from annotator.genome.decoys import DECOY_SEED, SHUFFLED_BP, sample_spans
from annotator.genome.source import Genome
from annotator.pipeline.request import Request
from annotator.pipeline.sample_scan import load_sample_scan

if TYPE_CHECKING:
    from annotator.calls.sample_scan import SampleScan

logger = logging.getLogger(__name__)

Regions = dict[int, NDArray[np.int64]] | None


class DecoyThresholds:
    """Finds the thresholds of genomes; loads the model when the first genome asks, and serves one genome at a time."""

    def __init__(self, request: Request, fdr: float) -> None:
        """Nothing is loaded yet.

        Args:
            request: What is done.
            fdr: Share of the calls that may be chance.
        """
        self._request, self._fdr = request, fdr
        self._scan: SampleScan | None = None
        self._lock = threading.Lock()

    def asked(self, lengths: NDArray[np.int64], regions: Regions) -> dict[str, Any]:
        """What a plan says of the estimate before it is made: the rate, how decoys are made, and what they cost.

        Args:
            lengths: Contig lengths in bp, int64.
            regions: Wanted intervals [m, 2] per contig index, or None for all of the genome.
        """
        sample = sample_spans(lengths, self._request.order.windows, regions)
        sampled_bp = sum(span.end - span.start for spans in sample for span in spans)
        order, fits = self._request.order, self._request.settings.decoy_fit
        return {
            "rate": self._fdr, "seed": DECOY_SEED, "shuffled_bp": SHUFFLED_BP, "sampled_bp": sampled_bp,
            "scanned_bp": 2 * sampled_bp, "fit": {kind: asdict(fits.get(kind, PLAIN)) for kind in order.kinds},
        }  # fmt: skip

    def find(self, genome: Genome, regions: Regions, tick: Callable[[], None] | None = None) -> ErrorRate:
        """Scan a sample of the genome and decoys of it.

        Args:
            genome: The genome.
            regions: Wanted intervals [m, 2] per contig index, or None for all of the genome.
            tick: Called again and again; what it raises ends the scan.

        Raises:
            AnnotatorError: The model cannot be loaded or fails, or the FASTA changed.
        """
        order, lengths = self._request.order, genome.contigs.lengths
        sample = sample_spans(lengths, order.windows, regions)
        sampled_bp = sum(span.end - span.start for spans in sample for span in spans)
        logger.info("%s: %.2f Mb of it are scanned as they are and as decoys", genome.path, sampled_bp / 1e6)
        with self._lock:
            counts = self._loaded().count(sample, lengths, genome.bases.read, regions, tick)
        return choose_by_error_rate(counts, self._fdr, self._request.settings.decoy_fit, order.thresholds)

    def tell(self, genome: str, found: ErrorRate) -> None:
        """Say which thresholds a genome has, and in one warning which kinds keep those of the model."""
        for kind, threshold in found.thresholds.items():
            if kind not in found.missed:
                estimate = next(row["fdr"] for row in found.ladder[kind] if row["threshold"] == threshold)
                logger.info("%s: threshold %s: probability >= %.3f (estimated FDR %.3f)", genome, kind, threshold, estimate)
        if found.missed:
            logger.warning(
                "%s: `fdr=%g` cannot be estimated or reached (%s); the model's thresholds are used: %s", genome, self._fdr,
                "; ".join(found.missed.values()), ", ".join(f"{kind} {found.thresholds[kind]:.3f}" for kind in found.missed),
            )  # fmt: skip

    def _loaded(self) -> SampleScan:
        if self._scan is None:
            self._scan = load_sample_scan(self._request, self._request.order.clade, self._request.order.kinds)
        return self._scan
