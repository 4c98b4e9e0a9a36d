"""Labelled genomes in memory, and training windows drawn from them.

Coordinates: all contigs of an organism lie end to end in one byte array; positions are 0-based within that array.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from annotator.training.options import WindowOptions

KINDS = ("donor", "acceptor", "tss")
STRANDS = ("+", "-")


@dataclass(frozen=True)
class LabelledGenome:
    """One organism's contigs with their sites.

    Attributes:
        name: Organism.
        clade: Index of its clade bias.
        bases: ASCII bases of all contigs end to end, uint8, [n].
        contig_ends: End of each contig in `bases`, int64, [contigs], ascending.
        contig_names: Their names, in the same order.
        sites: Positions of the truth of (kind, strand), int64, ascending.
        masked: Positions of (kind, strand) that are neither truth nor error, int64, ascending.
        kinds: The kinds this organism has labels for; the others are not learnt from it.
        trim_bp: Up to this much is hidden at random at each contig end, so that the end gives nothing away.
        weight: Share of the windows drawn from this organism, relative to the others.
    """

    name: str
    clade: int
    bases: NDArray[np.uint8]
    contig_ends: NDArray[np.int64]
    contig_names: tuple[str, ...]
    sites: dict[tuple[str, str], NDArray[np.int64]]
    masked: dict[tuple[str, str], NDArray[np.int64]]
    kinds: frozenset[str]
    trim_bp: int = 0
    weight: float = 1.0

    @property
    def contig_starts(self) -> NDArray[np.int64]:
        """Start of each contig in `bases`, int64, [contigs]."""
        return np.concatenate([[0], self.contig_ends[:-1]]).astype(np.int64)

    def contig_span(self, position: int) -> tuple[int, int]:
        """Start and end in `bases` of the contig that holds a position."""
        index = int(np.searchsorted(self.contig_ends, position, side="right"))
        return (int(self.contig_ends[index - 1]) if index else 0), int(self.contig_ends[index])


@dataclass(frozen=True)
class Batch:
    """Windows of one strand each.

    Attributes:
        bases: ASCII bases in reading direction, uint8, [B, L + k - 1]: base j of the window is column j + (k - 1) // 2.
        targets: Labels 0..1, float32, [B, L, C].
        weights: 1 where the loss counts, float32, [B, L, C].
        clade: int64, [B].
    """

    bases: NDArray[np.uint8]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32]
    clade: NDArray[np.int64]


_COMPLEMENT = np.full(256, ord("N"), np.uint8)
for _a, _b in zip(b"ACGTU", b"TGCAA", strict=True):
    _COMPLEMENT[_a] = _COMPLEMENT[_a + 32] = _b


def reverse_complement(bases: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Reverse complement of ASCII bases; anything unknown becomes N."""
    return _COMPLEMENT[bases[::-1]]


def draw_batch(genomes: list[LabelledGenome], options: WindowOptions, *, windows: int, k: int, rng: np.random.Generator) -> Batch:
    """Draw random windows.

    Args:
        genomes: Where from.
        options: How.
        windows: How many, B.
        k: Token width; k - 1 more bases than L are cut.
        rng: Source of all randomness.

    Returns:
        The windows, each read in a random direction.
    """
    length = options.window_bp
    shares = np.array([genome.weight for genome in genomes])
    shares = shares / shares.sum()
    bases = np.empty((windows, length + k - 1), np.uint8)
    targets = np.zeros((windows, length, len(KINDS)), np.float32)
    weights = np.zeros((windows, length, len(KINDS)), np.float32)
    clade = np.empty(windows, np.int64)
    for row in range(windows):
        genome = genomes[rng.choice(len(genomes), p=shares)]
        clade[row] = genome.clade if rng.random() > 0.1 else 0  # the clade-free bias must work as well
        start, strand = _draw_place(genome, options, rng)
        _cut(genome, start, strand, options, k, rng, bases[row], targets[row], weights[row])
    return Batch(bases, targets, weights, clade)


def _draw_place(genome: LabelledGenome, options: WindowOptions, rng: np.random.Generator) -> tuple[int, str]:
    inner = options.window_bp - 2 * options.margin_bp
    if rng.random() < options.site_fraction:
        odds = np.array([w if kind in genome.kinds else 0.0 for kind, w in zip(KINDS, options.kind_weights, strict=True)])
        kind = KINDS[rng.choice(len(KINDS), p=odds / odds.sum())]
        plus, minus = genome.sites[kind, "+"], genome.sites[kind, "-"]
        pick = int(rng.integers(len(plus) + len(minus)))
        strand = "+" if pick < len(plus) else "-"
        site = int(plus[pick] if strand == "+" else minus[pick - len(plus)])
        return site - options.margin_bp - int(rng.integers(inner)), strand
    return int(rng.integers(len(genome.bases))) - options.window_bp // 2, STRANDS[int(rng.integers(2))]


def _cut(
    genome: LabelledGenome,
    start: int,
    strand: str,
    options: WindowOptions,
    k: int,
    rng: np.random.Generator,
    bases: NDArray[np.uint8],
    targets: NDArray[np.float32],
    weights: NDArray[np.float32],
) -> None:
    """Fill one row of a batch with the window [start, start + window_bp)."""
    length, margin = options.window_bp, options.margin_bp
    low, high = genome.contig_span(min(max(start + length // 2, 0), len(genome.bases) - 1))
    if genome.trim_bp:
        left, right = rng.integers(genome.trim_bp + 1, size=2)
        if high - low > left + right + 1000:
            low, high = low + int(left), high - int(right)
    if rng.random() < options.cut_fraction:
        point = start + int(rng.integers(length))
        if rng.random() < 0.5:
            low = max(low, min(point, high - 1))
        else:
            high = min(high, max(point, low + 1))
    before = (k - 1) // 2 if strand == "+" else k - 1 - (k - 1) // 2
    first, last = start - before, start - before + len(bases)
    row = np.full(len(bases), ord("N"), np.uint8)
    a, b = max(first, low), min(last, high)
    if a < b:
        row[a - first : b - first] = genome.bases[a:b]
    _mutate(row, first, genome, options.mutation_rate, rng)
    bases[:] = row if strand == "+" else reverse_complement(row)

    track_weights = np.zeros((length, len(KINDS)), np.float32)
    a, b = max(start + margin, low), min(start + length - margin, high)
    for track, kind in enumerate(KINDS):
        if kind not in genome.kinds or a >= b:
            continue
        track_weights[a - start : b - start, track] = 1.0
        masked = _between(genome.masked[kind, strand], start, start + length)
        track_weights[masked - start, track] = 0.0
        if kind == "tss":
            reach = int(4 * options.tss_sigma_bp)
            for site in _between(genome.sites[kind, strand], start - reach, start + length + reach):
                around = np.arange(max(site - reach, start), min(site + reach + 1, start + length))
                bell = np.exp(-0.5 * ((around - site) / options.tss_sigma_bp) ** 2)
                np.maximum.at(targets[:, track], around - start, bell.astype(np.float32))
        else:
            targets[_between(genome.sites[kind, strand], start, start + length) - start, track] = 1.0
    weights[:] = track_weights
    if strand == "-":
        targets[:] = targets[::-1].copy()
        weights[:] = weights[::-1].copy()


_BASES = np.frombuffer(b"ACGT", np.uint8)


PROTECTED_BP = 12
"""No base this near to a splice site is changed: what makes the site one stays."""


def _mutate(row: NDArray[np.uint8], first: int, genome: LabelledGenome, rate: float, rng: np.random.Generator) -> None:
    """Replace a share of the bases of [first, first + len(row)) by random ones, in place, away from splice sites."""
    if not rate:
        return
    changed = rng.random(len(row)) < rate
    changed &= row != ord("N")
    for kind in ("donor", "acceptor"):
        for strand in STRANDS:
            sites = _between(genome.sites[kind, strand], first - PROTECTED_BP, first + len(row) + PROTECTED_BP) - first
            near = (sites[:, None] + np.arange(-PROTECTED_BP, PROTECTED_BP + 1)).ravel()
            changed[near[(near >= 0) & (near < len(row))]] = False
    row[changed] = _BASES[rng.integers(4, size=int(changed.sum()))]


def _between(positions: NDArray[np.int64], start: int, end: int) -> NDArray[np.int64]:
    return positions[np.searchsorted(positions, start) : np.searchsorted(positions, end)]


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
