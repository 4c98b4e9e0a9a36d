"""Per-base tracks of whole spans, put together from the windows that own their bases.

Coordinates: 0-based half-open on the plus strand of a contig.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from annotator.models.options import NOT_SCORED
from annotator.scan.block import Block
from annotator.scan.windows import ScoredBatch


class SpanTracks:
    """The tracks of a shard's spans, filled batch by batch: each base gets the logits of the window whose core owns it.

    Attributes:
        logits: Per span, float32, [2, C, span length]: strand (+, -), track, base in plus-strand order; NOT_SCORED where
            no window was scored (runs of N), or not yet.
    """

    def __init__(self, block: Block, *, tracks: int) -> None:
        """Nothing is scored yet.

        Args:
            block: The shard's spans and windows.
            tracks: Tracks of the model, C.
        """
        self._block = block
        self.logits = [np.full((2, tracks, span.end - span.start), NOT_SCORED, np.float32) for span in block.spans]

    def add(self, batch: ScoredBatch) -> None:
        """Take over the cores of a batch's windows; waits for the device."""
        windows, spans = self._block.windows, self._block.spans
        logits: NDArray[np.float32] = batch.plus_strand(windows).cpu().numpy()
        for row, window in enumerate(batch.rows.tolist()):
            index = int(windows.span[window])
            first, last = int(windows.core_start[window]), int(windows.core_end[window])
            in_window, in_span = first - int(windows.start[window]), first - spans[index].start
            count = last - first
            self.logits[index][:, :, in_span : in_span + count] = logits[row, :, :, in_window : in_window + count]
