"""From logits to calls: calibrated, thresholded local maxima of each track.

Coordinates: 0-based half-open on the plus strand. A donor's position is the exon's last base, an acceptor's the exon's first
base, a promoter's its TSS; the feature written is the intronic dinucleotide, or 300 bp around the TSS. Any other feature starts
at its position.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from annotator.calls.batch import Calls
from annotator.calls.rules import TrackRule
from annotator.genome.plan import UNKNOWN_BASE, Windows
from annotator.kinds import STRANDS, Strand
from annotator.models.manifest import PROBABILITY_DECIMALS, Calibration
from annotator.scan.block import Block
from annotator.scan.windows import ScoredBatch
from annotator_kernels.local_maxima.op import queue_maxima


def call_sites(
    batch: ScoredBatch,
    block: Block,
    rules: list[TrackRule | None],
    dropped: Counter[str],
) -> Calls:
    """Call the sites of some windows; each window calls only the bases its core owns.

    Args:
        batch: Logits of the windows.
        block: The shard's bases and windows.
        rules: One per track, or None for a track that is not wanted.
        dropped: Counts of local maxima above threshold that are not reported, by reason; added to.

    Returns:
        The calls, unsorted.

    Raises:
        NotFinite: The model gave a NaN or an infinity.
    """
    return QueuedSites(batch, block, rules).read(dropped)


class QueuedSites:
    """Sites of some windows that a device has been told to look for; a GPU goes on to the next windows meanwhile."""

    def __init__(self, batch: ScoredBatch, block: Block, rules: list[TrackRule | None]) -> None:
        """Queue the search behind the network; arguments as of `call_sites`."""
        self._batch, self._block, self._rules = batch, block, rules
        self._contig = block.contig_of(batch.rows)
        self._rows = rows = BatchRows.of(batch, block.windows, block.lengths[self._contig])
        self._maxima = queue_maxima(
            batch.logits, torch.from_numpy(rows.owned), torch.from_numpy(rows.real), torch.from_numpy(rows.reverse),
            least=torch.tensor([least_logit(rule) for rule in rules], dtype=torch.float32),
            radius=torch.tensor([rule.radius_bp if rule else 0 for rule in rules]),
        )  # fmt: skip

    def read(self, dropped: Counter[str]) -> Calls:
        """Wait for the search and make calls of what it found; once, in any thread.

        Args:
            dropped: As of `call_sites`.

        Raises:
            NotFinite: The model gave a NaN or an infinity.
        """
        sites, finite = self._maxima()
        batch, block, rows = self._batch, self._block, self._rows
        if not finite:
            batch.refuse_not_finite()
        windows, lengths = block.windows, block.lengths
        row, at, track, logit = (column.numpy() for column in sites)
        window = row % batch.size  # of the batch
        position = np.where(rows.reverse[row], rows.far[window] - 1 - at, rows.start[window] + at)
        contig = self._contig[window]
        in_block = windows.offset[batch.rows[window]] + position - rows.start[window]
        known = block.bases[in_block] != UNKNOWN_BASE
        found = []
        for index, rule in enumerate(self._rules):
            if rule is None:
                continue
            p = probability(logit, rule)
            wanted = (track == index) & (p >= rule.threshold)
            span = rule.kind.row.span
            for strand in STRANDS:
                mine = np.flatnonzero(wanted & (rows.reverse[row] == (strand is Strand.MINUS)))
                start, end = rule.kind.span(position[mine], strand, rule.width_bp)
                length = lengths[contig[mine]]
                if span is not None and span.clipped:
                    start, end = np.maximum(start, 0), np.minimum(end, length)
                    inside = np.ones(len(start), bool)
                else:
                    inside = (start >= 0) & (end <= length)
                    what = "intronic bases" if rule.kind.is_splice_site else "feature"
                    dropped[f"{what} beyond the contig"] += int((known[mine] & ~inside).sum())
                dropped["on an unknown base"] += int((~known[mine]).sum())
                calls = _calls(rule, contig[mine], start, end, strand, position[mine], p[mine])
                found.append(calls.take(known[mine] & inside))
        return Calls.concatenate(found)


@dataclass(frozen=True)
class BatchRows:
    """Where the rows of a batch lie: forward rows first, then reverse rows, each in reading order.

    Attributes:
        start: Contig position of the first base of each window, int64, [n].
        far: One past the last base of each window's reverse row, int64, [n].
        owned: Positions a row may call, int64, [2 * size, 2]; none in the rows that fill the batch up.
        real: Positions of a row that lie on its contig, int64, [2 * size, 2].
        reverse: bool, [2 * size].
    """

    start: NDArray[np.int64]
    far: NDArray[np.int64]
    owned: NDArray[np.int64]
    real: NDArray[np.int64]
    reverse: NDArray[np.bool_]

    @staticmethod
    def of(batch: ScoredBatch, windows: Windows, contig_length: NDArray[np.int64]) -> BatchRows:
        """The rows of a batch; `contig_length` is that of the contig of each window, int64, [n]."""
        size, count, length = batch.size, len(batch.rows), batch.logits.shape[1]
        start = windows.start[batch.rows]
        far = start + windows.reverse_shift[batch.rows] + length
        owned, real = np.zeros((2 * size, 2), np.int64), np.zeros((2 * size, 2), np.int64)
        core = windows.core_start[batch.rows], windows.core_end[batch.rows]
        contig = np.zeros_like(start), contig_length
        for interval, (low, high) in ((owned, core), (real, contig)):
            interval[:count] = np.stack([low - start, high - start], 1)
            interval[size : size + count] = np.stack([far - high, far - low], 1)
        return BatchRows(start, far, owned, np.clip(real, 0, length), np.arange(2 * size) >= size)


def least_logit(rule: TrackRule | None) -> float:
    """A logit just below which no base reaches the threshold; probabilities are compared exactly later."""
    if rule is None:
        return float("inf")
    floor = max(rule.threshold - 10.0**-PROBABILITY_DECIMALS, 1e-9)
    least = (np.log(floor / (1.0 - min(floor, 1.0 - 1e-9))) - rule.bias) / rule.scale
    return float(np.nextafter(np.float32(least), np.float32(-np.inf)))


def probability(logits: NDArray[np.float32], rule: TrackRule) -> NDArray[np.float64]:
    """Calibrated probability, rounded as it is compared and written."""
    return Calibration(rule.scale, rule.bias).probability(logits)


def _calls(
    rule: TrackRule,
    contig: NDArray[np.int64],
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    strand: Strand,
    position: NDArray[np.int64],
    p: NDArray[np.float64],
) -> Calls:
    n = len(contig)
    single = p.astype(np.float32)
    return Calls(
        contig=contig,
        start=start,
        end=end,
        kind=np.full(n, rule.kind.code, np.uint8),
        strand=np.full(n, strand, np.int8),
        probability=single,
        score=np.round(1000 * single.astype(np.float64)).astype(np.uint16),
        position=position,
        motif=np.full(n, rule.label, np.int32),
        p_value=np.full(n, np.nan),
        bits=np.full(n, np.nan, np.float32),
    )
