"""Markov models of DNA: what a language model has to beat.

The order-n model guesses a base from the n before it. A masked language model sees both sides of a hidden base, so the fair
rival is the table that sees both: the same counts with bases after the hidden one in the context.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotator.training.dataset import reverse_complement
from annotator.training.pretrain.corpus import Corpus

_CODE = np.full(256, 4, np.uint8)
_CODE[list(b"ACGT")] = range(4)
_CHUNK_BP = 1 << 22
"""Bases counted at once; about 30 bytes of memory each."""


@dataclass(frozen=True, eq=False)
class MarkovModel:
    """Probability of a base given its neighbours.

    Attributes:
        left: Bases of context before it.
        right: Bases of context after it; 0 for a Markov model proper.
        bits: -log2 of the probability of A, C, G, T after each context, float32, [4 ** (left + right), 4]; a context is a number
            in base 4, its first base the highest digit.
    """

    left: int
    right: int
    bits: NDArray[np.float32]

    def bits_of(self, rows: NDArray[np.uint8], hidden: NDArray[np.bool_]) -> float:
        """Mean bits that chosen bases cost, each given its true neighbours.

        Args:
            rows: ASCII bases, only A, C, G, T around the chosen ones, uint8, [R, L].
            hidden: Bases to guess, at least `left` from the start and `right` from the end of a row, bool, [R, L].

        Raises:
            ValueError: None is chosen, or one of them has no such context.
        """
        at, column = hidden.nonzero()
        if not len(at) or column.min() < self.left or column.max() >= rows.shape[1] - self.right:
            raise ValueError(f"bases without {self.left} and {self.right} neighbours, or none at all")
        codes = _CODE[rows]
        around = np.zeros(len(at), np.int64)
        for offset in self._offsets():
            around = around * 4 + codes[at, column + offset]
        if max(codes[at, column + offset].max() for offset in (0, *self._offsets())) > 3:
            raise ValueError("bases beside an N")
        return float(self.bits[around, codes[at, column]].mean(dtype=np.float64))

    def _offsets(self) -> tuple[int, ...]:
        return _offsets(self.left, self.right)


def fit_markov(corpus: Corpus, *, left: int = 5, right: int = 0) -> MarkovModel:
    """Count every base of both strands after each context, and one more of each.

    Args:
        corpus: Contigs; contexts do not go across their ends, nor over an N.
        left: Bases of context before the guessed one.
        right: Bases of context after it.

    Returns:
        The model.

    Raises:
        ValueError: The table would have more than 4^14 entries.
    """
    if not 0 <= left + right <= 13:
        raise ValueError(f"{left} + {right} bases of context make too large a table")
    size = 4 ** (left + right + 1)
    counts = np.ones(size, np.int64)
    for contig in _pieces(corpus):
        for start in range(0, len(contig), _CHUNK_BP):
            # the context of a chunk's own bases reaches over its ends; on the other strand left and right change sides
            widest = max(left, right)
            piece = contig[max(0, start - widest) : start + _CHUNK_BP + widest]
            own = start - max(0, start - widest)
            length = min(_CHUNK_BP, len(contig) - start)
            for strand, first in ((piece, own), (reverse_complement(piece), len(piece) - own - length)):
                counts += _counted(strand, first, length, left, right)
    table = counts.reshape(-1, 4).astype(np.float64)
    return MarkovModel(left, right, (-np.log2(table / table.sum(1, keepdims=True))).astype(np.float32))


def _pieces(corpus: Corpus) -> Iterator[NDArray[np.uint8]]:
    """The contigs, short ones many at a time with an N between, which no context goes over: a count costs a whole table."""
    waiting: list[NDArray[np.uint8]] = []
    size = 0
    for contig in corpus.contigs():
        waiting += [contig, np.array([ord("N")], np.uint8)]
        size += len(contig)
        if size >= _CHUNK_BP:
            yield np.concatenate(waiting)
            waiting, size = [], 0
    if waiting:
        yield np.concatenate(waiting)


def _counted(bases: NDArray[np.uint8], first: int, length: int, left: int, right: int) -> NDArray[np.int64]:
    """How often each context and base occur, for the bases [first, first + length) that have a whole context."""
    codes = _CODE[bases]
    low, high = max(first, left), min(first + length, len(codes) - right)
    value = np.zeros(max(0, high - low), np.int64)
    whole = np.ones(len(value), bool)
    for offset in (*_offsets(left, right), 0):
        code = codes[low + offset : high + offset] if high > low else codes[:0]
        whole &= code < 4
        value = value * 4 + code
    return np.bincount(value[whole], minlength=4 ** (left + right + 1))


def _offsets(left: int, right: int) -> tuple[int, ...]:
    """Where the context lies, seen from the base."""
    return (*range(-left, 0), *range(1, right + 1))
