"""How many positions of a genome its motifs were compared with, counted where the bases are at hand.

Whole numbers that are added up, so they do not depend on how the genome was cut or in which order shards ended.

Coordinates: 0-based half-open on the plus strand of a contig; a position is the leftmost base of a motif's window.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotator.errors import InputError
from annotator.genome.plan import UNKNOWN_BASE
from annotator.genome.shard_input import ShardInput
from annotator.scan.block import Block


@dataclass(frozen=True)
class PositionCounts:
    """Positions of a part of a run at which a window of known bases begins.

    Attributes:
        contig: Name of the contig; None for all contigs between the shard's first and last, which fail or succeed with it alone.
        by_width: Positions by width of the window in bp.
    """

    contig: str | None
    by_width: dict[int, int]


def count_positions(widths: Collection[int], shard: ShardInput, block: Block) -> list[PositionCounts]:
    """Count the positions that a shard compares motifs with: those it owns, inside its regions, whose window has no N.

    Args:
        widths: Widths of the motifs in bp; none reaches beyond the context of the block's windows.
        shard: The shard.
        block: Its bases.

    Returns:
        One for each group of contigs, in a fixed order.
    """
    low, high, contig = _owned(shard, block)
    known = np.zeros(len(block.bases) + 2, bool)
    known[1:-1] = block.bases != UNKNOWN_BASE
    edges = np.flatnonzero(known[1:] != known[:-1])
    run_start, run_end = edges[::2], edges[1::2]
    first, last = shard.spans[0].contig, shard.spans[-1].contig
    group = np.where(contig == first, 0, np.where(contig == last, 2, 1))
    names = (shard.names[first], None, shard.names[last])
    found: dict[int, dict[int, int]] = {int(g): {} for g in np.unique(group)}
    for width in sorted(set(widths)):
        positions = _begun_before(high, run_start, run_end, width) - _begun_before(low, run_start, run_end, width)
        for g, by_width in found.items():
            by_width[width] = int(positions[group == g].sum())
    return [PositionCounts(names[g], by_width) for g, by_width in found.items()]


def _owned(shard: ShardInput, block: Block) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Start and end, in the block, of every interval of positions that the shard may call, and its contig; int64, [n] each."""
    shift = (block.windows.stretch_offset[:-1] - block.windows.stretch_start).tolist()
    rows: list[tuple[int, int, int]] = []
    for span, moved in zip(shard.spans, shift, strict=True):
        if shard.regions is None:
            rows.append((span.start + moved, span.end + moved, span.contig))
        elif (regions := shard.regions.get(span.contig)) is not None:
            inside = np.clip(regions, span.start, span.end)
            rows += [(start + moved, end + moved, span.contig) for start, end in inside[inside[:, 0] < inside[:, 1]].tolist()]
    low, high, contig = np.array(rows, np.int64).reshape(-1, 3).T
    return low, high, contig


def _begun_before(
    at: NDArray[np.int64], run_start: NDArray[np.int64], run_end: NDArray[np.int64], width: int
) -> NDArray[np.int64]:
    """How many windows of a width begin before some bases of the block and lie within one run of known bases; int64, [n]."""
    if not len(run_start):
        return np.zeros_like(at)
    room = np.maximum(run_end - width + 1 - run_start, 0)
    before = np.cumsum(room) - room
    run = np.searchsorted(run_start, at, side="left") - 1  # the last run that begins before it
    count: NDArray[np.int64] = before[run] + np.clip(at - run_start[run], 0, room[run])
    return np.where(run < 0, 0, count)


def positions_to_text(tested: Sequence[PositionCounts]) -> str:
    """The counts of a part as text that is kept inside the part."""
    return json.dumps([[each.contig, list(each.by_width.items())] for each in tested])


def sum_positions(texts: Iterable[tuple[str, str]], leave_out: Collection[str]) -> Counter[int]:
    """Positions of a run by width of the window in bp.

    Args:
        texts: Of each part its name, for the message, and its result of `positions_to_text`; no text counts nothing.
        leave_out: Contigs that the run does not report.

    Raises:
        InputError: A text is something else.
    """
    total: Counter[int] = Counter()
    for source, text in texts:
        try:
            for contig, by_width in json.loads(text or "[]"):
                if contig is None or contig not in leave_out:
                    total.update({int(width): int(count) for width, count in by_width})
        except (ValueError, TypeError):
            raise InputError(f"{source}: its counts of tested positions are damaged") from None
    return total
