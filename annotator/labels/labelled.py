"""Labelled genomes in memory.

Coordinates: all contigs of an organism lie end to end in one byte array; positions are 0-based within that array.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotator.errors import UsageError
from annotator.kinds import STRANDS, Strand

SiteTable = dict[tuple[str, Strand], NDArray[np.int64]]
"""Ascending positions of each (track, strand)."""


@dataclass(frozen=True)
class SoftSites:
    """What a teacher says about one track and strand; it gives every position that is not listed the probability 0.

    Attributes:
        positions: Ascending positions, each once, int64, [n].
        probability: The teacher's probability of a site at each, float32, [n].
    """

    positions: NDArray[np.int64]
    probability: NDArray[np.float32]

    def before(self, end: int) -> SoftSites:
        """The positions before `end`."""
        count = int(np.searchsorted(self.positions, end))
        return SoftSites(self.positions[:count], self.probability[:count])


SoftTable = Mapping[tuple[str, Strand], SoftSites]
"""A teacher's probabilities by (track, strand)."""

TRIM_SEED = 7
"""Seed of `trim_contigs` wherever loci are calibrated or scored, so that all do so on the same bases."""


@dataclass(frozen=True)
class LabelledGenome:
    """One organism's contigs with their sites.

    Attributes:
        name: Organism.
        clade: Clade of the organism, one of `CLADES`.
        bases: ASCII bases of all contigs end to end, uint8, [n].
        contig_ends: End of each contig in `bases`, int64, [contigs], ascending.
        contig_names: Their names, in the same order.
        sites: Positions of the truth of each (track, strand), int64, ascending.
        masked: Positions of each (track, strand) that are neither truth nor error, int64, ascending.
        kinds: The kinds this organism has labels for; the others are not learnt from it.
        trim_bp: Up to this much is hidden at random at each contig end, so that the end gives nothing away.
        weight: Share of the windows drawn from this organism, relative to the others.
        feature_bp: Median width of each kind that is a feature, which the sites are the centres of.
        annotation: What was read and left out of the truth, the mask and the features, as of `AnnotationReport.as_dict`.
        teacher: Probabilities of a teacher, for both strands of each track that it knows; empty where there is none.
    """

    name: str
    clade: str
    bases: NDArray[np.uint8]
    contig_ends: NDArray[np.int64]
    contig_names: tuple[str, ...]
    sites: SiteTable
    masked: SiteTable
    kinds: frozenset[str]
    trim_bp: int = 0
    weight: float = 1.0
    feature_bp: Mapping[str, int] = field(default_factory=dict)
    annotation: Mapping[str, Any] = field(default_factory=dict)
    teacher: SoftTable = field(default_factory=dict)

    @property
    def contig_starts(self) -> NDArray[np.int64]:
        """Start of each contig in `bases`, int64, [contigs]."""
        return np.concatenate([[0], self.contig_ends[:-1]]).astype(np.int64)

    def contig_span(self, position: int) -> tuple[int, int]:
        """Start and end in `bases` of the contig that holds a position."""
        index = int(np.searchsorted(self.contig_ends, position, side="right"))
        return (int(self.contig_ends[index - 1]) if index else 0), int(self.contig_ends[index])


def split_contigs(genome: LabelledGenome, names: Sequence[str]) -> tuple[LabelledGenome | None, LabelledGenome | None]:
    """Part a genome by contigs.

    Args:
        genome: The genome.
        names: Contigs to set apart; those that the genome lacks are passed over.

    Returns:
        The genome without them, and these contigs alone; None where no contig is left.
    """
    apart = np.isin(np.array(genome.contig_names), list(names))
    return _of_contigs(genome, ~apart, may_be_taught=True), _of_contigs(genome, apart)


def hold_out(genomes: Sequence[LabelledGenome], names: Sequence[str]) -> tuple[list[LabelledGenome], list[LabelledGenome]]:
    """Set contigs of several genomes apart.

    Args:
        genomes: The genomes.
        names: Contigs to set apart; each belongs to at least one of the genomes.

    Returns:
        The genomes without them (those that have other contigs), and what was set apart of each (where there is any).

    Raises:
        UsageError: A contig is in none of the genomes, nothing is left, or nothing that was set apart has a site.
    """
    if not names:
        return list(genomes), []
    present = {name for genome in genomes for name in genome.contig_names}
    if missing := sorted(set(names) - present):
        raise UsageError(
            f"held-out contig {missing[0]!r} is in none of the genomes: {', '.join(genome.name for genome in genomes)}"
        )
    kept, apart = zip(*(split_contigs(genome, names) for genome in genomes), strict=True)
    rest, held = ([genome for genome in side if genome is not None] for side in (kept, apart))
    if not any(genome.kinds for genome in held):
        raise UsageError(f"the held-out contigs ({', '.join(names)}) have no site to measure or to set thresholds on")
    return [genome for genome in rest if genome.kinds], held


def has_labels(kind: str, sites: SiteTable, teacher: SoftTable) -> bool:
    """Whether there is a site of a kind, or a teacher's word on one."""
    places = [sites[kind, strand] for strand in STRANDS]
    places += [teacher[kind, strand].positions for strand in STRANDS if (kind, strand) in teacher]
    return any(map(len, places))


def _of_contigs(genome: LabelledGenome, chosen: NDArray[np.bool_], *, may_be_taught: bool = False) -> LabelledGenome | None:
    """Some contigs of a genome, closed up.

    Args:
        genome: The genome.
        chosen: Which contigs, [contigs].
        may_be_taught: A genome without a truth keeps the kinds that its teacher knows: it is learnt from, not measured on.
    """
    if not chosen.any() or chosen.all():
        return genome if chosen.any() else None
    starts, lengths = genome.contig_starts, genome.contig_ends - genome.contig_starts
    ends = np.cumsum(lengths[chosen])
    shift = np.zeros(len(chosen), np.int64)
    shift[chosen] = starts[chosen] - (ends - lengths[chosen])

    def is_chosen(positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        return chosen[np.searchsorted(genome.contig_ends, positions, side="right")]

    def moved(positions: NDArray[np.int64]) -> NDArray[np.int64]:
        here = positions[is_chosen(positions)]
        return here - shift[np.searchsorted(genome.contig_ends, here, side="right")]

    sites, masked = ({key: moved(value) for key, value in table.items()} for table in (genome.sites, genome.masked))
    teacher = {
        key: SoftSites(moved(soft.positions), soft.probability[is_chosen(soft.positions)]) for key, soft in genome.teacher.items()
    }
    known = teacher if may_be_taught and not any(map(len, genome.sites.values())) else {}
    return replace(
        genome,
        bases=np.concatenate([genome.bases[a : a + n] for a, n in zip(starts[chosen], lengths[chosen], strict=True)]),
        contig_ends=ends, contig_names=tuple(np.array(genome.contig_names)[chosen].tolist()), sites=sites, masked=masked,
        kinds=frozenset(kind for kind in genome.kinds if has_labels(kind, sites, known)), teacher=teacher,
    )  # fmt: skip


def trim_contigs(genome: LabelledGenome, trim_bp: int, seed: int) -> LabelledGenome:
    """A copy with up to `trim_bp` cut at random off both ends of every contig, so that a site's distance to the end says nothing.

    Args:
        genome: Loci cut around genes.
        trim_bp: Most that is cut at an end; contigs left shorter than 1 kb are kept whole.
        seed: The same seed cuts the same.

    Returns:
        The trimmed genome; sites that fell away are gone.
    """
    rng = np.random.default_rng(seed)
    starts = genome.contig_starts
    cuts = rng.integers(trim_bp + 1, size=(len(starts), 2))
    lengths = genome.contig_ends - starts
    cuts[lengths - cuts.sum(1) < 1000] = 0
    low, high = starts + cuts[:, 0], genome.contig_ends - cuts[:, 1]
    ends = np.cumsum(high - low)
    shift = low - np.concatenate([[0], ends[:-1]])

    def moved(positions: NDArray[np.int64]) -> NDArray[np.int64]:
        contig = np.searchsorted(genome.contig_ends, positions, side="right")
        inside = (positions >= low[contig]) & (positions < high[contig])
        there: NDArray[np.int64] = positions[inside] - shift[contig[inside]]
        return there

    bases = np.concatenate([genome.bases[a:b] for a, b in zip(low, high, strict=True)])
    sites = {key: moved(value) for key, value in genome.sites.items()}
    masked = {key: moved(value) for key, value in genome.masked.items()}
    return replace(genome, bases=bases, contig_ends=ends, sites=sites, masked=masked, trim_bp=0)
