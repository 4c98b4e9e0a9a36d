"""From logits to sparse tracks: the calibrated probability of each base and strand where it is not next to nothing.

Coordinates: 0-based on the plus strand of the contig.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from annotator.calls.rules import TrackRule
from annotator.calls.sites import BatchRows, least_logit, probability
from annotator.genome.plan import UNKNOWN_BASE
from annotator.kinds import STRANDS, Strand
from annotator.scan.block import Block
from annotator.scan.windows import ScoredBatch


@dataclass(frozen=True, eq=False)
class TrackValues:
    """Values of tracks, every field an array [n].

    Attributes:
        channel: 2 x place of the track among those of the model, and 1 more on the minus strand, int64.
        contig: Index into the genome's contig table, int64.
        position: The base, int64.
        probability: Calibrated probability, rounded as it is compared with thresholds, float64.
    """

    channel: NDArray[np.int64]
    contig: NDArray[np.int64]
    position: NDArray[np.int64]
    probability: NDArray[np.float64]

    def take(self, rows: NDArray[np.bool_]) -> TrackValues:
        """The chosen rows."""
        columns: dict[str, Any] = {f.name: getattr(self, f.name)[rows] for f in fields(self)}
        return TrackValues(**columns)

    @staticmethod
    def concatenate(batches: list[TrackValues]) -> TrackValues:
        """All rows of all batches, in order."""
        if not batches:
            return TrackValues.none()
        columns: dict[str, Any] = {f.name: np.concatenate([getattr(b, f.name) for b in batches]) for f in fields(TrackValues)}
        return TrackValues(**columns)

    @staticmethod
    def none() -> TrackValues:
        """No values."""
        none = np.empty(0, np.int64)
        return TrackValues(none, none, none, np.empty(0))


def track_values(batch: ScoredBatch, block: Block, rules: list[TrackRule | None]) -> TrackValues:
    """The probabilities of some windows that reach the threshold of their track's rule; each window tells of its own core only.

    Args:
        batch: Logits of the windows.
        block: The shard's bases and windows; unknown bases have no values.
        rules: One per track; None for a track that is not wanted.

    Returns:
        The values, unsorted. The comparison happens on the device, so only they come back.
    """
    windows = block.windows
    contig_of_window = block.contig_of(batch.rows)
    rows = BatchRows.of(batch, windows, block.lengths[contig_of_window])
    device, length = batch.logits.device, batch.logits.shape[1]
    owned, at = torch.from_numpy(rows.owned).to(device), torch.arange(length, device=device)
    mine = (at >= owned[:, :1]) & (at < owned[:, 1:])
    least = torch.tensor([least_logit(rule) for rule in rules], dtype=torch.float32, device=device)
    found = (batch.logits >= least) & mine[:, :, None]
    where = found.nonzero(as_tuple=True)
    logits = batch.logits[where].float().cpu().numpy()
    row, base, track = (column.cpu().numpy() for column in where)
    window = row % batch.size  # of the batch
    position = np.where(rows.reverse[row], rows.far[window] - 1 - base, rows.start[window] + base)
    in_block = windows.offset[batch.rows[window]] + position - rows.start[window]
    kept = block.bases[in_block] != UNKNOWN_BASE
    p = np.zeros(len(logits))
    for index, rule in enumerate(rules):
        if rule is not None:
            of_track = np.flatnonzero(track == index)
            p[of_track] = probability(logits[of_track], rule)
            kept[of_track] &= p[of_track] >= rule.threshold
    channel = len(STRANDS) * track + np.where(rows.reverse[row], Strand.MINUS.row, Strand.PLUS.row)
    return TrackValues(channel, contig_of_window[window], position, p).take(kept)
