"""From logits to calls: calibrated, thresholded local maxima of each track.

Coordinates: 0-based half-open on the plus strand. A donor's position is the exon's last base, an acceptor's the exon's first
base, a promoter's its TSS; the feature written is the intronic dinucleotide, or 300 bp around the TSS.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from annotator.calls.batch import KINDS, Calls
from annotator.genome.plan import UNKNOWN_BASE, Span, Windows
from annotator.models.manifest import TRACK_KIND, Manifest

PROMOTER_UPSTREAM_BP = 249
PROMOTER_DOWNSTREAM_BP = 51
DECIMALS = 6
"""Probabilities are rounded to this many decimals before they are compared with a threshold."""


@dataclass(frozen=True)
class TrackRule:
    """How one track is called.

    Attributes:
        kind: What its calls are.
        threshold: Probability at and above which a local maximum is a call.
        scale: Of the calibration `sigmoid(scale * logit + bias)`; positive.
        bias: Of the calibration.
        radius_bp: A call is the highest base within this many bases on either side; ties go to the lower position.
    """

    kind: str
    threshold: float
    scale: float
    bias: float
    radius_bp: int


def track_rules(manifest: Manifest, clade: str, thresholds: dict[str, float]) -> list[TrackRule | None]:
    """Rules of a model's tracks for one clade.

    Args:
        manifest: The model's.
        clade: Whose calibration to use.
        thresholds: Probability per kind; a kind that is absent is not called.

    Returns:
        One per track, in order; None where its kind is not wanted.
    """
    fits = manifest.clades[clade].calibration
    kinds = [TRACK_KIND[track] for track in manifest.tracks]
    return [
        TrackRule(kind, thresholds[kind], fits[kind].scale, fits[kind].bias, manifest.radius_bp[kind])
        if kind in thresholds
        else None
        for kind in kinds
    ]


def call_sites(
    logits: Tensor,
    rows: NDArray[np.int64],
    windows: Windows,
    spans: tuple[Span, ...],
    lengths: NDArray[np.int64],
    block: NDArray[np.uint8],
    rules: list[TrackRule | None],
    dropped: Counter[str],
) -> Calls:
    """Call the sites of some windows; each window calls only the bases its core owns.

    Args:
        logits: float32, [B, 2, C, L]: strand (+, -), track, base.
        rows: Window of each row of `logits`, int64, [B].
        windows: The shard's windows.
        spans: The shard's spans.
        lengths: Contig lengths, int64.
        block: The shard's bases, ASCII uint8.
        rules: One per track, or None for a track that is not wanted.
        dropped: Counts of local maxima above threshold that are not reported, by reason; added to.

    Returns:
        The calls, unsorted.
    """
    contig_of_row = np.array([span.contig for span in spans], np.int64)[windows.span[rows]]
    found = []
    for track, rule in enumerate(rules):
        if rule is None:
            continue
        for strand_index, strand in enumerate((1, -1)):
            row, at, value = _local_maxima(logits[:, strand_index, track], rows, windows, lengths[contig_of_row], rule)
            if not len(row):
                continue
            position = windows.start[rows[row]] + at
            contig = contig_of_row[row]
            known = block[windows.offset[rows[row]] + at] != UNKNOWN_BASE
            start, end = feature_span(rule.kind, position, strand)
            length = lengths[contig]
            if rule.kind == "promoter":
                start, end = np.maximum(start, 0), np.minimum(end, length)
                inside = np.ones(len(start), bool)
            else:
                inside = (start >= 0) & (end <= length)
            dropped["on an unknown base"] += int((~known).sum())
            dropped["intronic bases beyond the contig"] += int((known & ~inside).sum())
            found.append(_calls(rule.kind, contig, start, end, strand, position, value).take(known & inside))
    return Calls.concatenate(found)


def feature_span(kind: str, position: NDArray[np.int64], strand: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Start and end of the feature of a site, not clipped.

    Args:
        kind: donor, acceptor or promoter.
        position: Exon-boundary base or TSS, int64.
        strand: +1 or -1.

    Returns:
        0-based half-open starts and ends, int64.
    """
    if kind == "promoter":
        up, down = PROMOTER_UPSTREAM_BP, PROMOTER_DOWNSTREAM_BP
        return (position - up, position + down) if strand > 0 else (position - down + 1, position + up + 1)
    if (kind == "donor") == (strand > 0):  # the intron lies to the right of the exon base
        return position + 1, position + 3
    return position - 2, position


def probability(logits: NDArray[np.float32], rule: TrackRule) -> NDArray[np.float64]:
    """Calibrated probability, rounded as it is compared and written."""
    p: NDArray[np.float64] = np.round(1.0 / (1.0 + np.exp(-(rule.scale * logits.astype(np.float64) + rule.bias))), DECIMALS)
    return p


def _local_maxima(
    logits: Tensor, rows: NDArray[np.int64], windows: Windows, contig_lengths: NDArray[np.int64], rule: TrackRule
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Row, base within the window and probability of the calls of one track, [B, L]."""
    # thresholds are rare events: find the few bases above it first, then look at their neighbours only
    floor = max(rule.threshold - 10.0**-DECIMALS, 1e-9)
    least = (np.log(floor / (1.0 - min(floor, 1.0 - 1e-9))) - rule.bias) / rule.scale
    candidate = (logits >= least).nonzero()
    row, at = candidate[:, 0].cpu().numpy(), candidate[:, 1].cpu().numpy()
    window = rows[row]
    position = windows.start[window] + at
    owned = (position >= windows.core_start[window]) & (position < windows.core_end[window])
    row, at, position = row[owned], at[owned], position[owned]
    if not len(row):
        return row, at, np.empty(0)
    reach = np.arange(-rule.radius_bp, rule.radius_bp + 1)
    width = logits.shape[1]
    values = np.empty(len(row), np.float32)
    highest = np.empty(len(row), bool)
    for first in range(0, len(row), 65536):  # bounds the neighbourhoods held at once
        part = slice(first, first + 65536)
        near = at[part, None] + reach
        real = (near >= 0) & (near < width)
        real &= (position[part, None] + reach >= 0) & (position[part, None] + reach < contig_lengths[row[part], None])
        index = torch.from_numpy(np.clip(near, 0, width - 1)).to(logits.device)
        taken = logits[torch.from_numpy(row[part]).to(logits.device)[:, None], index].cpu().numpy()
        taken = np.where(real, taken, -np.inf)
        centre = taken[:, rule.radius_bp]
        left, right = taken[:, : rule.radius_bp], taken[:, rule.radius_bp + 1 :]
        highest[part] = (left < centre[:, None]).all(1) & (right <= centre[:, None]).all(1)
        values[part] = centre
    p = probability(values, rule)
    keep = highest & (p >= rule.threshold)
    return row[keep], at[keep], p[keep]


def _calls(
    kind: str,
    contig: NDArray[np.int64],
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    strand: int,
    position: NDArray[np.int64],
    p: NDArray[np.float64],
) -> Calls:
    n = len(contig)
    single = p.astype(np.float32)
    return Calls(
        contig=contig,
        start=start,
        end=end,
        kind=np.full(n, KINDS.index(kind), np.uint8),
        strand=np.full(n, strand, np.int8),
        probability=single,
        score=np.round(1000 * single.astype(np.float64)).astype(np.uint16),
        position=position,
        motif=np.full(n, -1, np.int32),
        p_value=np.full(n, np.nan),
        bits=np.full(n, np.nan, np.float32),
    )
