"""Training windows drawn from labelled genomes.

Coordinates: all contigs of an organism lie end to end in one byte array; positions are 0-based within that array.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


LEAST_TARGET = 0.05
"""Windows are put around splice sites whose target is above this; no base near one is changed."""


@dataclass(frozen=True)
class Targets:
    """What is learnt about one track and strand; every position that is not listed has the target 0.

    Attributes:
        positions: Ascending positions, int64, [n].
        values: The target at each, 0..1, float32, [n]. One of a track that is no splice site stands for a bell around it.
        unknown: Ascending positions without a loss, int64, [m].
        places: The positions to put windows around, ascending, int64, [p].
    """

    positions: NDArray[np.int64]
    values: NDArray[np.float32]
    unknown: NDArray[np.int64]
    places: NDArray[np.int64]


@dataclass(frozen=True)
class Lesson:
    """A labelled genome with the targets of its tracks.

    Attributes:
        genome: The genome.
        targets: Targets by (track, strand), of the kinds that the genome has labels for.
        fixed: Ascending positions of splice sites of either strand, int64: no base near one is changed.
    """

    genome: LabelledGenome
    targets: Mapping[tuple[str, Strand], Targets]
    fixed: NDArray[np.int64]

    def has_places(self, kind: str) -> bool:
        """Whether there is a site of a kind to put a window around."""
        return kind in self.genome.kinds and any(len(self.targets[kind, strand].places) for strand in STRANDS)


def lesson_of(genome: LabelledGenome, truth_share: float = 1.0) -> Lesson:
    """What is to be learnt from a genome: its truth, or where there is a teacher, a mixture of the two.

    Args:
        genome: The genome.
        truth_share: Share of the truth in the targets of tracks that a teacher knows; the teacher's probability has the rest.
            Where the truth is masked the teacher alone counts. Without a teacher masked positions have no loss.
    """
    targets = {(kind, strand): _targets(genome, kind, strand, truth_share) for kind in sorted(genome.kinds) for strand in STRANDS}
    sites = [found.places for (kind, _), found in targets.items() if kind in SPLICE_TRACKS]
    return Lesson(genome, targets, np.unique(np.concatenate([np.empty(0, np.int64), *sites])))


def _targets(genome: LabelledGenome, kind: str, strand: Strand, truth_share: float) -> Targets:
    sites, masked = genome.sites[kind, strand], genome.masked[kind, strand]
    soft = genome.teacher.get((kind, strand))
    if soft is None:
        return Targets(sites, np.ones(len(sites), np.float32), masked, sites)
    positions = np.union1d(sites, soft.positions)
    values = np.zeros(len(positions), np.float32)
    values[np.searchsorted(positions, soft.positions)] = soft.probability
    known = ~np.isin(positions, masked)
    values[known] *= np.float32(1 - truth_share)
    values[known & np.isin(positions, sites)] += np.float32(truth_share)
    return Targets(positions, values, np.empty(0, np.int64), positions[values > LEAST_TARGET])


def draw_batch(
    lessons: Sequence[Lesson],
    options: WindowOptions,
    *,
    windows: int,
    k: int,
    rng: np.random.Generator,
    tracks: Sequence[str] = LABEL_TRACKS,
) -> Batch:
    """Draw random windows.

    Args:
        lessons: Where from; genomes are drawn by their weights.
        options: How.
        windows: How many, B.
        k: Token width; k - 1 more bases than L are cut.
        rng: Source of all randomness.
        tracks: Kinds of site to label, C; as many as `options.kind_weights`.

    Returns:
        The windows, each read in a random direction. Splice sites are labelled at their base, all others as a bell around it.
    """
    length = options.window_bp
    shares = np.array([lesson.genome.weight for lesson in lessons])
    shares = shares / shares.sum()
    bases = np.empty((windows, length + k - 1), np.uint8)
    targets = np.zeros((windows, length, len(tracks)), np.float32)
    weights = np.zeros((windows, length, len(tracks)), np.float32)
    clade = np.empty(windows, np.int64)
    for row in range(windows):
        chosen = lessons[rng.choice(len(lessons), p=shares)]
        # the clade-free bias must work as well
        clade[row] = CLADE_INDEX[chosen.genome.clade] if rng.random() > 0.1 else 0
        start, place, strand = _draw_place(chosen, options, tracks, rng)
        _cut(chosen, start, place, strand, options, k, tracks, rng, bases[row], targets[row], weights[row])
    return Batch(bases, targets, weights, clade)


def _draw_place(
    lesson: Lesson, options: WindowOptions, tracks: Sequence[str], rng: np.random.Generator
) -> tuple[int, int, Strand]:
    """Start of a window, the position that it is put around, and its strand."""
    inner = options.window_bp - 2 * options.margin_bp
    odds = np.array(
        [weight if lesson.has_places(kind) else 0.0 for kind, weight in zip(tracks, options.kind_weights, strict=True)]
    )
    if rng.random() < options.site_fraction and odds.any():
        kind = tracks[rng.choice(len(tracks), p=odds / odds.sum())]
        plus, minus = (lesson.targets[kind, strand].places for strand in STRANDS)
        pick = int(rng.integers(len(plus) + len(minus)))
        strand, place = (Strand.PLUS, plus[pick]) if pick < len(plus) else (Strand.MINUS, minus[pick - len(plus)])
        return int(place) - options.margin_bp - int(rng.integers(inner)), int(place), strand
    place = int(rng.integers(len(lesson.genome.bases)))
    return place - options.window_bp // 2, place, STRANDS[int(rng.integers(2))]


def _cut(
    lesson: Lesson,
    start: int,
    place: int,
    strand: Strand,
    options: WindowOptions,
    k: int,
    tracks: Sequence[str],
    rng: np.random.Generator,
    bases: NDArray[np.uint8],
    targets: NDArray[np.float32],
    weights: NDArray[np.float32],
) -> None:
    """Fill one row of a batch with the window [start, start + window_bp), of the contig that holds `place`."""
    genome = lesson.genome
    length, margin = options.window_bp, options.margin_bp
    contig = low, high = genome.contig_span(place)
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
    _mutate(row, first, lesson.fixed, options.mutation_rate, rng)
    bases[:] = row if strand is Strand.PLUS else reverse_complement(row)

    track_weights = np.zeros((length, len(tracks)), np.float32)
    a, b = max(start + margin, low), min(start + length - margin, high)
    for track, kind in enumerate(tracks):
        if kind not in genome.kinds or a >= b:
            continue
        track_weights[a - start : b - start, track] = 1.0
        learnt = lesson.targets[kind, strand]
        track_weights[learnt.unknown[_between(learnt.unknown, start, start + length)] - start, track] = 0.0
        if kind not in SPLICE_TRACKS:
            reach = int(4 * options.tss_sigma_bp)
            first_site, end_site = max(start - reach, contig[0]), min(start + length + reach, contig[1])
            for site in learnt.positions[_between(learnt.positions, first_site, end_site)]:
                around = np.arange(max(site - reach, start), min(site + reach + 1, start + length))
                bell = np.exp(-0.5 * ((around - site) / options.tss_sigma_bp) ** 2)
                np.maximum.at(targets[:, track], around - start, bell.astype(np.float32))
        else:
            here = _between(learnt.positions, start, start + length)
            targets[learnt.positions[here] - start, track] = learnt.values[here]
    weights[:] = track_weights
    if strand is Strand.MINUS:
        targets[:] = targets[::-1].copy()
        weights[:] = weights[::-1].copy()


_BASES = np.frombuffer(b"ACGT", np.uint8)
PROTECTED_BP = 12
"""No base this near to a splice site is changed: what makes the site one stays."""


def _mutate(row: NDArray[np.uint8], first: int, fixed: NDArray[np.int64], rate: float, rng: np.random.Generator) -> None:
    """Replace a share of the bases of [first, first + len(row)) by random ones, in place, away from the positions `fixed`."""
    if not rate:
        return
    changed = rng.random(len(row)) < rate
    changed &= row != ord("N")
    sites = fixed[_between(fixed, first - PROTECTED_BP, first + len(row) + PROTECTED_BP)] - first
    near = (sites[:, None] + np.arange(-PROTECTED_BP, PROTECTED_BP + 1)).ravel()
    changed[near[(near >= 0) & (near < len(row))]] = False
    row[changed] = _BASES[rng.integers(4, size=int(changed.sum()))]


def _between(positions: NDArray[np.int64], start: int, end: int) -> slice:
    """Where positions of [start, end) stand among ascending ones."""
    return slice(int(np.searchsorted(positions, start)), int(np.searchsorted(positions, end)))
