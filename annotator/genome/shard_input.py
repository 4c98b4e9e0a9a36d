"""A shard without the rest of its genome: small, picklable, and all that is needed to work on it anywhere.

Coordinates: 0-based half-open on the plus strand; contigs are numbered from 0 within the shard.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotator.genome.bases import StagedBases, StoredBases
from annotator.genome.plan import PlanOptions, Shard, Span, Windows, plan_windows

CONTEXT_BP = 320
"""Bases on either side of what a shard owns that can be read wherever the shard is worked on, unless the contig ends there."""


@dataclass(frozen=True, eq=False)
class ShardInput:
    """The input of a worker: one shard and access to its bases.

    Attributes:
        spans: Spans that the shard owns.
        names: Contig names, for messages and the table.
        lengths: Contig lengths in bp, int64.
        bases: Access to the bases.
        regions: Sorted disjoint intervals [m, 2] per contig; only calls positioned inside are kept. None keeps all.
        thresholds: Probability per kind of call in this genome; None for those that all genomes of a run share.
    """

    spans: tuple[Span, ...]
    names: list[str]
    lengths: NDArray[np.int64]
    bases: StoredBases | StagedBases
    regions: dict[int, NDArray[np.int64]] | None = None
    thresholds: Mapping[Any, float] | None = None

    @property
    def owned_bp(self) -> int:
        """Bases the shard owns."""
        return sum(span.end - span.start for span in self.spans)

    @property
    def place(self) -> str:
        """The place of the shard in the genome, for messages."""
        first = self.spans[0]
        more = f" and {len(self.spans) - 1} more" if len(self.spans) > 1 else ""
        return f"{self.names[first.contig]}:{first.start}-{first.end}{more}"


def pick_shard(
    shard: Shard, names: list[str], bases: StoredBases, regions: dict[int, NDArray[np.int64]] | None = None
) -> ShardInput:
    """The input of one shard of a genome.

    Args:
        shard: A shard of the genome's plan.
        names: Names of all contigs.
        bases: Bases of all contigs.
        regions: Regions of all contigs, as in `ShardInput`.
    """
    contigs = np.unique(np.array([span.contig for span in shard.spans], np.int64))
    number = {contig: i for i, contig in enumerate(contigs.tolist())}
    picked = bases.pick(contigs)
    return ShardInput(
        spans=tuple(replace(span, contig=number[span.contig]) for span in shard.spans),
        names=[names[contig] for contig in number],
        lengths=picked.lengths,
        bases=picked,
        regions=None if regions is None else {i: regions[contig] for contig, i in number.items() if contig in regions},
    )


def stretches(spans: tuple[Span, ...], windows: Windows, lengths: NDArray[np.int64]) -> list[tuple[int, int]]:
    """The bases [start, end) of its contig that the block of a shard needs for each span."""
    sizes = np.diff(windows.stretch_offset)
    return [
        (max(0, start), min(int(lengths[span.contig]), start + size))
        for span, start, size in zip(spans, windows.stretch_start.tolist(), sizes.tolist(), strict=True)
    ]


def stage_bases(shard: ShardInput, plan: PlanOptions) -> ShardInput:
    """The same shard with its bases read, each span with the context its windows see and CONTEXT_BP at the least.

    Raises:
        InputError: The file changed, or is gone, since it was scanned.
    """
    seen = stretches(shard.spans, plan_windows(shard.spans, shard.lengths, plan), shard.lengths)
    wanted = [
        (max(0, min(start, span.start - CONTEXT_BP)), min(int(shard.lengths[span.contig]), max(end, span.end + CONTEXT_BP)))
        for span, (start, end) in zip(shard.spans, seen, strict=True)
    ]
    offset = np.concatenate([[0], np.cumsum([end - start for start, end in wanted])]).astype(np.int64)
    bases = np.empty(int(offset[-1]), np.uint8)
    for span, (start, end), at in zip(shard.spans, wanted, offset.tolist(), strict=False):
        bases[at : at + end - start] = shard.bases.read(span.contig, start, end)
    contig = np.array([span.contig for span in shard.spans], np.int64)
    return replace(shard, bases=StagedBases(contig, np.array([start for start, _ in wanted], np.int64), offset, bases))
