"""Windows of real bases to pre-train on.

Coordinates: contigs lie end to end in one byte array; positions are 0-based within that array.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotator.errors import InputError, UsageError
from annotator.genome.options import GenomeOptions
from annotator.genome.source import Genome, open_genome
from annotator.training.dataset import reverse_complement

logger = logging.getLogger(__name__)

_N = ord("N")
_TRIES = 200
"""Draws of a window before the corpus is said to be all N; at the default limit a genome that is half N needs about one."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """Contigs in memory, one byte a base.

    Attributes:
        names: Names of the contigs.
        bases: Upper-case A, C, G, T and N, uint8, [n], contigs end to end.
        ends: One past the last base of each contig, int64, [contigs].
        sha256: Hash of each file they come from, by path.
    """

    names: tuple[str, ...]
    bases: NDArray[np.uint8]
    ends: NDArray[np.int64]
    sha256: dict[str, str]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Bases of each contig, int64, [contigs]."""
        return np.diff(self.ends, prepend=0)

    def contigs(self) -> Iterable[NDArray[np.uint8]]:
        """Bases of each contig in turn."""
        yield from np.split(self.bases, self.ends[:-1])


def read_corpus(fasta: Sequence[Path], spool_dir: Path, *, held_out: Sequence[str] = ()) -> tuple[Corpus, Corpus]:
    """Read FASTA files into memory.

    Args:
        fasta: Files, in the order their contigs will have.
        spool_dir: Where the reader may put decompressed bases.
        held_out: Names of contigs to keep apart.

    Returns:
        The contigs that were not held out, and those that were; each may be empty.

    Raises:
        UsageError: A held-out contig is in none of the files.
        AnnotatorError: A file is missing or bad.
    """
    kept: list[tuple[str, NDArray[np.uint8]]] = []
    apart: list[tuple[str, NDArray[np.uint8]]] = []
    hashes = {}
    for number, path in enumerate(fasta):
        genome = open_genome(path, spool_dir / str(number), GenomeOptions())
        hashes[str(path)] = genome.sha256
        for name, bases in _contigs(genome):
            (apart if name in held_out else kept).append((name, bases))
        genome.close()
    if missing := set(held_out) - {name for name, _ in apart}:
        raise UsageError(f"held-out contig {min(missing)!r} is in none of the files: {', '.join(map(str, fasta))}")
    return _joined(kept, hashes), _joined(apart, hashes)


def draw_rows(corpus: Corpus, window_bp: int, rows: int, *, max_n_share: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Windows from anywhere, each read in a random direction; every start within a contig is as likely as any other.

    Args:
        corpus: Where from; contigs shorter than a window give none.
        window_bp: Bases of a window, L.
        rows: How many, R.
        max_n_share: Windows with a larger share of N are drawn again.
        rng: Source of all randomness.

    Returns:
        ASCII bases in reading direction, uint8, [R, L].

    Raises:
        InputError: No contig is that long, or there is next to nothing but N.
    """
    first, room = _starts(corpus, window_bp)
    ends = np.cumsum(room)
    found: list[NDArray[np.uint8]] = []
    missing = rows
    for _ in range(_TRIES):
        drawn = rng.integers(ends[-1], size=missing)
        contig = np.searchsorted(ends, drawn, side="right")
        windows = _cut(corpus, first[contig] + drawn - (ends[contig] - room[contig]), window_bp)
        found.append(windows[(windows == _N).mean(1) <= max_n_share])
        missing -= len(found[-1])
        if not missing:
            return _in_random_direction(np.concatenate(found), rng)
    raise InputError(f"{_files(corpus)}: hardly a window of {window_bp} bp has less than {max_n_share:.0%} N")


class Tiles:
    """Windows that touch: epoch after epoch every base about once, in random order and a random direction."""

    def __init__(self, corpus: Corpus, window_bp: int, *, max_n_share: float, seed: int) -> None:
        """Count the windows of an epoch.

        Args:
            corpus: Where from.
            window_bp: Bases of a window, L.
            max_n_share: Windows with a larger share of N are left out.
            seed: Epoch e depends on (seed, e) alone.

        Raises:
            InputError: No contig is that long.
        """
        self._corpus, self._window_bp, self._max_n_share, self._seed = corpus, window_bp, max_n_share, seed
        self._first, self._room = _starts(corpus, window_bp)
        self._epoch, self._order = -1, np.empty(0, np.int64)
        # Each contig gives the windows that fit at any phase, so that all epochs are of one length before N is looked at.
        self._per_contig = np.maximum(self._room // window_bp, 1)
        self._per_epoch = int(self._per_contig.sum())

    def rows(self, step: int, count: int) -> NDArray[np.uint8]:
        """The windows of a step.

        Args:
            step: 0-based.
            count: Windows a step, R; the same at every step.

        Returns:
            ASCII bases in reading direction, uint8, [R, L].

        Raises:
            InputError: There is next to nothing but N.
        """
        rng = np.random.default_rng([self._seed, step, 1])
        epoch, at = divmod(np.arange(step * count, (step + 1) * count), self._per_epoch)
        starts = np.concatenate([self._starts_of(int(e))[at[epoch == e]] for e in np.unique(epoch)])
        windows = _cut(self._corpus, starts, self._window_bp)
        bad = (windows == _N).mean(1) > self._max_n_share
        if bad.any():
            windows[bad] = draw_rows(
                self._corpus, self._window_bp, int(bad.sum()), max_n_share=self._max_n_share, rng=rng
            )  # fmt: skip
        return _in_random_direction(windows, rng)

    def _starts_of(self, epoch: int) -> NDArray[np.int64]:
        if epoch != self._epoch:
            rng = np.random.default_rng([self._seed, epoch, 2])
            slack = self._room - 1 - (self._per_contig - 1) * self._window_bp
            phase = rng.integers(np.minimum(slack, self._window_bp - 1) + 1)
            number = np.arange(self._per_epoch) - np.repeat(np.cumsum(self._per_contig) - self._per_contig, self._per_contig)
            starts = np.repeat(self._first + phase, self._per_contig) + number * self._window_bp
            self._epoch, self._order = epoch, rng.permutation(starts)
        return self._order


def tiled_rows(corpus: Corpus, window_bp: int, rows: int) -> NDArray[np.uint8]:
    """Windows without an N, spread evenly over the corpus, plus strand.

    Args:
        corpus: Where from.
        window_bp: Bases of a window, L.
        rows: How many, R; fewer where there are not so many that touch or hold N.

    Returns:
        ASCII bases, uint8, [R, L].

    Raises:
        InputError: There is none.
    """
    first, room = _starts(corpus, window_bp)
    tiles = np.concatenate([start + np.arange(0, n, window_bp) for start, n in zip(first, room, strict=True)])
    unknown = np.flatnonzero(corpus.bases == _N)
    tiles = tiles[np.searchsorted(unknown, tiles) == np.searchsorted(unknown, tiles + window_bp)]
    if not len(tiles):
        raise InputError(f"{_files(corpus)}: no window of {window_bp} bp is free of N")
    chosen = np.unique(np.linspace(0, len(tiles) - 1, min(rows, len(tiles))).astype(np.int64))
    return _cut(corpus, tiles[chosen], window_bp)


def _contigs(genome: Genome) -> Iterable[tuple[str, NDArray[np.uint8]]]:
    for index, (name, length) in enumerate(zip(genome.contigs.names, genome.contigs.lengths.tolist(), strict=True)):
        yield name, genome.read_bases(index, 0, length)


def _joined(contigs: list[tuple[str, NDArray[np.uint8]]], hashes: dict[str, str]) -> Corpus:
    bases = np.concatenate([b for _, b in contigs]) if contigs else np.empty(0, np.uint8)
    ends = np.cumsum([len(b) for _, b in contigs], dtype=np.int64)
    return Corpus(tuple(name for name, _ in contigs), bases, ends, hashes)


def _starts(corpus: Corpus, window_bp: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First base, and number of places a window can start at, of each contig that holds one."""
    lengths = corpus.lengths
    usable = lengths >= window_bp
    if not usable.any():
        raise InputError(f"{_files(corpus)}: no contig has {window_bp} bp")
    return (corpus.ends - lengths)[usable], (lengths - window_bp + 1)[usable]


def _cut(corpus: Corpus, starts: NDArray[np.int64], window_bp: int) -> NDArray[np.uint8]:
    windows: NDArray[np.uint8] = corpus.bases[starts[:, None] + np.arange(window_bp)]
    return windows


def _in_random_direction(windows: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    back = rng.random(len(windows)) < 0.5
    windows[back] = reverse_complement(windows[back].T).T  # its first axis is the one it reverses
    return windows


def _files(corpus: Corpus) -> str:
    return ", ".join(corpus.sha256) or "the corpus"
