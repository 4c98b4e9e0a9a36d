"""Estimated false discovery rates beside annotated ones: what the decoy fit of a clade is made on, and what it is judged by.

Coordinates: 0-based positions in an array that holds all contigs of a genome end to end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotator.calls.batch import Calls
from annotator.calls.error_rate import LadderCounts, at_least, count_ladder, fit_to_annotation
from annotator.calls.sample_scan import SampleScan
from annotator.genome.decoys import sample_spans
from annotator.genome.plan import PlanOptions
from annotator.kinds import STRANDS, Kind
from annotator.labels.labelled import LabelledGenome, SiteTable
from annotator.models.manifest import DecoyFit, Manifest


@dataclass(frozen=True, eq=False)
class AnnotatedLadder:
    """The calls of one kind on a labelled genome and its decoys, by threshold of the ladder.

    Attributes:
        counts: All calls, and those on decoys.
        true_calls: Calls that the truth has, int64, [len(LADDER)].
        false_calls: Calls that it does not have, int64, [len(LADDER)]; calls on ambiguous sites are in neither.
    """

    counts: LadderCounts
    true_calls: NDArray[np.int64]
    false_calls: NDArray[np.int64]

    @property
    def annotated(self) -> NDArray[np.float64]:
        """Share of the calls that the truth does not have, 0 where there are none; float64, [len(LADDER)]."""
        share: NDArray[np.float64] = self.false_calls / np.maximum(self.true_calls + self.false_calls, 1)
        return share


def annotated_ladders(
    folder: Path, manifest: Manifest, clade: str, genome: LabelledGenome, device: str = "cpu", *, sample_bp: int = 0
) -> dict[Kind, AnnotatedLadder]:
    """Scan a sample of a labelled genome and its decoys, as a run with a false discovery rate does.

    Args:
        folder: The model directory.
        manifest: Its manifest.
        clade: One of the manifest's.
        genome: The genome.
        device: torch device.
        sample_bp: Bases to sample, about; 0 for as many as a run samples.

    Returns:
        One for each splice kind that the model calls and the genome has labels for. Only of these is a site one base: whether a
        call of another kind is true depends on a tolerance.

    Raises:
        AnnotatorError: The model cannot be loaded or fails.
    """
    kinds = [kind for kind in manifest.track_set.kinds if kind.is_splice_site and kind.row.track in genome.kinds]
    lengths = genome.contig_ends - genome.contig_starts
    starts = genome.contig_starts.tolist()
    sample = sample_spans(lengths, PlanOptions(**manifest.plan), sample_bp=sample_bp)
    scan = SampleScan(folder, manifest, clade, kinds, device)
    real, decoy = scan.calls_and_decoys(
        sample, lengths, lambda contig, a, b: genome.bases[starts[contig] + a : starts[contig] + b]
    )
    found = {}
    for kind in kinds:
        calls, on_decoys = real.take(real.kind == kind.code), decoy.take(decoy.kind == kind.code)
        true, ambiguous = (_among(calls, table, kind, genome) for table in (genome.sites, genome.masked))
        p = calls.probability
        found[kind] = AnnotatedLadder(
            count_ladder(p, on_decoys.probability), at_least(p[true]), at_least(p[~true & ~ambiguous])
        )  # fmt: skip
    return found


def fit_decoys(ladders: Mapping[Kind, AnnotatedLadder]) -> dict[Kind, DecoyFit]:
    """The decoy fits of a clade from a validation genome, for `CladeSettings.decoy_fit`; a kind with too few calls has none.

    Args:
        ladders: A result of `annotated_ladders`.
    """
    fits = {kind: fit_to_annotation(ladder.counts, ladder.annotated) for kind, ladder in ladders.items()}
    return {kind: fit for kind, fit in fits.items() if fit is not None}


def _among(calls: Calls, table: SiteTable, kind: Kind, genome: LabelledGenome) -> NDArray[np.bool_]:
    """Whether each call stands on a site of a table, strand included; bool, [n]."""
    position = genome.contig_starts[calls.contig] + calls.position
    found = np.zeros(len(calls), bool)
    for strand in STRANDS:
        found |= (calls.strand == strand) & np.isin(position, table[kind.row.track, strand])
    return found
