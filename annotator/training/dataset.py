"""Training windows drawn from labelled genomes.

Coordinates: all contigs of an organism lie end to end in one byte array; positions are 0-based within that array.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotator.kinds import LABEL_TRACKS, SPLICE_TRACKS, STRANDS, Strand
from annotator.labels.labelled import LabelledGenome
from annotator.models.families.compact.net import CLADE_INDEX
from annotator.training.options import WindowOptions


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


def draw_batch(
    genomes: list[LabelledGenome],
    options: WindowOptions,
    *,
    windows: int,
    k: int,
    rng: np.random.Generator,
    tracks: Sequence[str] = LABEL_TRACKS,
) -> Batch:
    """Draw random windows.

    Args:
        genomes: Where from.
        options: How.
        windows: How many, B.
        k: Token width; k - 1 more bases than L are cut.
        rng: Source of all randomness.
        tracks: Kinds of site to label, C; as many as `options.kind_weights`.

    Returns:
        The windows, each read in a random direction. Splice sites are labelled at their base, all others as a bell around it.
    """
    length = options.window_bp
    shares = np.array([genome.weight for genome in genomes])
    shares = shares / shares.sum()
    bases = np.empty((windows, length + k - 1), np.uint8)
    targets = np.zeros((windows, length, len(tracks)), np.float32)
    weights = np.zeros((windows, length, len(tracks)), np.float32)
    clade = np.empty(windows, np.int64)
    for row in range(windows):
        genome = genomes[rng.choice(len(genomes), p=shares)]
        clade[row] = CLADE_INDEX[genome.clade] if rng.random() > 0.1 else 0  # the clade-free bias must work as well
        start, strand = _draw_place(genome, options, tracks, rng)
        _cut(genome, start, strand, options, k, tracks, rng, bases[row], targets[row], weights[row])
    return Batch(bases, targets, weights, clade)


def _draw_place(
    genome: LabelledGenome, options: WindowOptions, tracks: Sequence[str], rng: np.random.Generator
) -> tuple[int, Strand]:
    inner = options.window_bp - 2 * options.margin_bp
    if rng.random() < options.site_fraction:
        odds = np.array([w if kind in genome.kinds else 0.0 for kind, w in zip(tracks, options.kind_weights, strict=True)])
        kind = tracks[rng.choice(len(tracks), p=odds / odds.sum())]
        plus, minus = (genome.sites[kind, strand] for strand in STRANDS)
        pick = int(rng.integers(len(plus) + len(minus)))
        strand, site = (Strand.PLUS, plus[pick]) if pick < len(plus) else (Strand.MINUS, minus[pick - len(plus)])
        return int(site) - options.margin_bp - int(rng.integers(inner)), strand
    return int(rng.integers(len(genome.bases))) - options.window_bp // 2, STRANDS[int(rng.integers(2))]


def _cut(
    genome: LabelledGenome,
    start: int,
    strand: Strand,
    options: WindowOptions,
    k: int,
    tracks: Sequence[str],
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
    before = (k - 1) // 2 if strand is Strand.PLUS else k - 1 - (k - 1) // 2
    first, last = start - before, start - before + len(bases)
    row = np.full(len(bases), ord("N"), np.uint8)
    a, b = max(first, low), min(last, high)
    if a < b:
        row[a - first : b - first] = genome.bases[a:b]
    _mutate(row, first, genome, options.mutation_rate, rng)
    bases[:] = row if strand is Strand.PLUS else reverse_complement(row)

    track_weights = np.zeros((length, len(tracks)), np.float32)
    a, b = max(start + margin, low), min(start + length - margin, high)
    for track, kind in enumerate(tracks):
        if kind not in genome.kinds or a >= b:
            continue
        track_weights[a - start : b - start, track] = 1.0
        masked = _between(genome.masked[kind, strand], start, start + length)
        track_weights[masked - start, track] = 0.0
        if kind not in SPLICE_TRACKS:
            reach = int(4 * options.tss_sigma_bp)
            for site in _between(genome.sites[kind, strand], start - reach, start + length + reach):
                around = np.arange(max(site - reach, start), min(site + reach + 1, start + length))
                bell = np.exp(-0.5 * ((around - site) / options.tss_sigma_bp) ** 2)
                np.maximum.at(targets[:, track], around - start, bell.astype(np.float32))
        else:
            targets[_between(genome.sites[kind, strand], start, start + length) - start, track] = 1.0
    weights[:] = track_weights
    if strand is Strand.MINUS:
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
    for kind in SPLICE_TRACKS:
        for strand in STRANDS:
            sites = _between(genome.sites[kind, strand], first - PROTECTED_BP, first + len(row) + PROTECTED_BP) - first
            near = (sites[:, None] + np.arange(-PROTECTED_BP, PROTECTED_BP + 1)).ravel()
            changed[near[(near >= 0) & (near < len(row))]] = False
    row[changed] = _BASES[rng.integers(4, size=int(changed.sum()))]


def _between(positions: NDArray[np.int64], start: int, end: int) -> NDArray[np.int64]:
    return positions[np.searchsorted(positions, start) : np.searchsorted(positions, end)]
