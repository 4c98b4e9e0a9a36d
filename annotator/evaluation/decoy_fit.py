"""Estimated false discovery rates beside annotated ones: what the decoy fit of a clade is made on, and what it is judged by.

Coordinates: 0-based positions in an array that holds all contigs of a genome end to end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotator.calls.batch import Calls
from annotator.calls.error_rate import LadderCounts, at_least, count_ladder, fit_decoy_calls
from annotator.calls.sample_scan import SampleScan
from annotator.genome.decoys import sample_spans
from annotator.genome.plan import PlanOptions
from annotator.kinds import STRANDS, Kind
from annotator.labels.labelled import LabelledGenome, SiteTable
from annotator.models.manifest import DecoyFit, Manifest

CERTAIN_CALLS = 200
"""Calls that the share of missing annotation is read from: the most certain ones, so many or more."""


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

    @property
    def missing(self) -> float:
        """Share of true sites that the truth lacks, at most: the lowest annotated error rate over CERTAIN_CALLS or more calls."""
        judged = self.annotated[self.true_calls + self.false_calls >= CERTAIN_CALLS]
        return float(judged.min(initial=1.0)) if len(judged) else 0.0

    @property
    def error_rate(self) -> NDArray[np.float64]:
        """The annotated error rates without what the truth lacks; float64, [len(LADDER)]."""
        missing = self.missing
        rate: NDArray[np.float64] = np.maximum(self.annotated - missing, 0.0) / (1.0 - missing) if missing < 1 else self.annotated
        return rate


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


def fit_decoys(genomes: Sequence[Mapping[Kind, AnnotatedLadder]]) -> dict[Kind, DecoyFit]:
    """The decoy fits of validation genomes, for `CladeSettings.decoy_fit`; a kind with too few calls has none.

    What an annotation lacks is taken out first, by the calls that the model is most certain of: else a poor annotation would be
    taken for a poor model.

    Args:
        genomes: Results of `annotated_ladders`: one genome, or several that are to share a fit.
    """
    fits = {}
    for kind in dict.fromkeys(kind for ladders in genomes for kind in ladders):
        mine = [ladders[kind] for ladders in genomes if kind in ladders]
        fit = fit_decoy_calls([(ladder.counts, ladder.error_rate) for ladder in mine])
        if fit is not None:
            fits[kind] = fit
    return fits


def _among(calls: Calls, table: SiteTable, kind: Kind, genome: LabelledGenome) -> NDArray[np.bool_]:
    """Whether each call stands on a site of a table, strand included; bool, [n]."""
    position = genome.contig_starts[calls.contig] + calls.position
    found = np.zeros(len(calls), bool)
    for strand in STRANDS:
        found |= (calls.strand == strand) & np.isin(position, table[kind.row.track, strand])
    return found
