"""How probable it is that the factor of a motif hit is bound there, from the bases around the hit.

Coordinates: 0-based half-open on the plus strand of the contig. A window lies around the middle of its hit and is read in the
hit's direction, so a contig and its reverse complement have the same windows. Bases beyond the contig are N.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from annotator.calls.batch import Calls
from annotator.calls.profiles import Surroundings, span_of
from annotator.errors import ModelFault
from annotator.genome.plan import UNKNOWN_BASE
from annotator.genome.shard_input import ShardInput
from annotator.kinds import Strand
from annotator.models.bound.net import BoundScorer
from annotator.tokens.vocabulary import COMPLEMENT_BYTE

_HITS_AT_ONCE: Final = 1 << 14
"""Hits whose windows are held in memory together: about 100 MB."""


class BoundHits:
    """Gives the motif hits of factors that a model knows their probability to be bound."""

    def __init__(self, scorer: BoundScorer, labels: Sequence[tuple[str | None, str]]) -> None:
        """Look up which labels the model knows.

        Args:
            scorer: The model.
            labels: (matrix id, name) of the run's motifs and (None, name) of its features; `Calls.motif` indexes them.
        """
        self._scorer = scorer
        known = [-1 if matrix is None else scorer.manifest.index_of(name) for matrix, name in labels]
        self._factor = np.array([*known, -1], np.int64)  # the last is that of label -1

    def rate(self, calls: Calls, shard: ShardInput, around: Surroundings) -> tuple[Calls, int]:
        """Fill in probability and BED score of the hits that the model knows; every other call stays as it is.

        Args:
            calls: Calls of a shard; the position of each lies in a span of it.
            shard: The shard.
            around: Its bases, with CONTEXT_BP on either side of each span unless the contig ends there.

        Returns:
            The calls, in the same order, and how many of them were rated.

        Raises:
            ModelFault: The model gave NaN or infinity.
        """
        factor = self._factor[calls.motif]
        rated = np.flatnonzero(factor >= 0)
        if not len(rated):
            return calls, 0
        probability, score = calls.probability.copy(), calls.score.copy()
        for begin in range(0, len(rated), _HITS_AT_ONCE):
            some = rated[begin : begin + _HITS_AT_ONCE]
            hits = calls.take(some)
            origin = (around.offset - around.start)[span_of(hits, shard.spans, shard.lengths)]
            rows = hit_windows(
                around.bases, origin, hits.start, hits.end, hits.strand, shard.lengths[hits.contig],
                self._scorer.manifest.architecture.window_bp,
            )  # fmt: skip
            logits = self._scorer(torch.from_numpy(rows), surprise(hits.p_value), torch.from_numpy(factor[some])).numpy()
            if not np.isfinite(logits).all():
                raise ModelFault(f"model {self._scorer.manifest.name}: NaN or infinity around a motif hit in {shard.place}")
            for name, number in self._scorer.manifest.index.items():
                mine = factor[some] == number
                calibrated = self._scorer.manifest.factors[name].probability(logits[mine]).astype(np.float32)
                probability[some[mine]] = calibrated
                score[some[mine]] = np.round(1000 * calibrated.astype(np.float64)).astype(np.uint16)
        return replace(calls, probability=probability, score=score), len(rated)


def surprise(p_value: NDArray[np.float64]) -> torch.Tensor:
    """-log10 of p-values, float32; one that is 0 in float64 counts as the smallest number there is."""
    return torch.from_numpy(-np.log10(np.maximum(p_value, np.finfo(np.float64).tiny)).astype(np.float32))


def hit_windows(
    bases: NDArray[np.uint8], origin: NDArray[np.int64], start: NDArray[np.int64], end: NDArray[np.int64],
    strand: NDArray[np.int8], length: NDArray[np.int64], window_bp: int,
) -> NDArray[np.uint8]:  # fmt: skip
    """The windows around motif hits.

    Args:
        bases: ASCII bases that hold the windows as far as they lie on their contigs, uint8, [m].
        origin: Index in `bases` where base 0 of each hit's contig lies or would lie, [n].
        start: First base of each hit on its contig, [n].
        end: One past its last base, [n].
        strand: +1 or -1, [n].
        length: Length of each hit's contig, bp, [n].
        window_bp: Bases of a window, even.

    Returns:
        ASCII bases in reading direction, uint8, [n, window_bp].
    """
    minus = strand == Strand.MINUS
    first = (start + end + minus) // 2 - window_bp // 2  # the middle of an odd width is rounded in reading direction
    steps = np.arange(window_bp)
    position = first[:, None] + np.where(minus[:, None], window_bp - 1 - steps, steps)
    on_contig = (position >= 0) & (position < length[:, None])
    letters = bases[np.where(on_contig, origin[:, None] + position, 0)]
    letters = np.where(minus[:, None], COMPLEMENT_BYTE.numpy()[letters], letters)
    return np.where(on_contig, letters, np.uint8(UNKNOWN_BASE))
