"""From motif hits in a shard's block to calls.

Coordinates: 0-based half-open on the plus strand; a hit belongs to the shard that owns its leftmost base.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from annotator.calls.batch import Calls
from annotator.kinds import Kind
from annotator.motifs.scan import MotifHits
from annotator.scan.block import Block


def motif_calls(hits: MotifHits, widths: NDArray[np.int64], block: Block) -> Calls:
    """Place hits on their contigs and keep those whose start the shard owns.

    Args:
        hits: Hits in block coordinates.
        widths: Width of each motif of the run, int64.
        block: The shard's bases and windows.

    Returns:
        The calls, unsorted.
    """
    windows, spans = block.windows, block.spans
    stretch = np.searchsorted(windows.stretch_offset, hits.start, side="right") - 1
    start = hits.start - windows.stretch_offset[stretch] + windows.stretch_start[stretch]
    contig, first, last = (np.array([getattr(s, name) for s in spans], np.int64)[stretch] for name in ("contig", "start", "end"))
    owned = (start >= first) & (start < last)
    p_value = hits.p_value
    with np.errstate(divide="ignore"):
        score = np.minimum(1000, np.round(-100 * np.log10(p_value)))
    n = len(start)
    return Calls(
        contig=contig,
        start=start,
        end=start + widths[hits.motif],
        kind=np.full(n, Kind.TFBS.code, np.uint8),
        strand=hits.strand.astype(np.int8),
        probability=np.full(n, np.nan, np.float32),
        score=score.astype(np.uint16),
        position=start,
        motif=hits.motif.astype(np.int32),
        p_value=p_value,
        bits=hits.bits.astype(np.float32),
    ).take(owned)
