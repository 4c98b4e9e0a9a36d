"""Scores and calls of labelled genomes, through the windows and the code that a run uses.

Coordinates: contigs end to end, as in `LabelledGenome`, unless a function says otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from annotator.calls.batch import Calls
from annotator.calls.rules import TrackRule
from annotator.calls.sites import call_sites
from annotator.evaluation.metrics import Places
from annotator.genome.plan import PlanOptions, Span, Windows, plan_shards
from annotator.kinds import STRANDS
from annotator.labels.labelled import LabelledGenome, SiteTable
from annotator.scan.block import Block
from annotator.scan.tracks import SpanTracks
from annotator.scan.windows import ScanModel, ScoredBatch, WindowScorer

BATCH_BP = 49_152


@dataclass(frozen=True)
class ScoredShard:
    """One shard of a genome.

    Attributes:
        spans: Its spans, in coordinates of their contigs.
        logits: Logits of each span, float32, [2, C, span length]: strand (+, -), track, base; NOT_SCORED where nothing was
            scored (runs of N).
        calls: Calls of all spans; positions are within contigs.
    """

    spans: tuple[Span, ...]
    logits: list[NDArray[np.float32]]
    calls: Calls


def score_shards(
    model: ScanModel,
    genome: LabelledGenome,
    plan: PlanOptions,
    *,
    tracks: int,
    device: torch.device,
    rules: Sequence[TrackRule | None] | None = None,
) -> Iterator[ScoredShard]:
    """Score a genome shard by shard, so that memory grows with the longest shard and not with the genome.

    Args:
        model: What scores, on `device`.
        genome: What to score.
        plan: Shape of windows and shards.
        tracks: How many the model has, C.
        device: Where to compute.
        rules: How to call each track, in the code that a run calls with; None calls nothing.

    Yields:
        Shards in contig order; their spans tile every contig.
    """
    starts = genome.contig_starts
    lengths = genome.contig_ends - starts
    scorer = WindowScorer(model, batch_bp=max(BATCH_BP, plan.window_bp), device=device)

    def read(contig: int, start: int, end: int) -> NDArray[np.uint8]:
        return genome.bases[starts[contig] + start : starts[contig] + end]

    for shard in plan_shards(lengths, plan):
        block = Block.read(shard.spans, lengths, plan, read)
        stitched = SpanTracks(block, tracks=tracks)
        calls = []
        for batch in scorer.score(block):
            stitched.add(batch)
            if rules is not None:
                calls.append(call_sites(batch, block, list(rules), Counter()))
        yield ScoredShard(shard.spans, stitched.logits, Calls.concatenate(calls))


def genome_logits(
    model: ScanModel, genome: LabelledGenome, plan: PlanOptions, *, tracks: int, device: torch.device
) -> NDArray[np.float32]:
    """Logits of every base and both strands.

    Args:
        model: What scores, on `device`.
        genome: What to score.
        plan: Shape of windows.
        tracks: How many the model has, C.
        device: Where to compute.

    Returns:
        float32, [2, C, n]: strand (+, -), track, base; NOT_SCORED where nothing was scored (runs of N).
    """
    out = np.empty((2, tracks, len(genome.bases)), np.float32)
    for shard in score_shards(model, genome, plan, tracks=tracks, device=device):
        for span, logits in zip(shard.spans, shard.logits, strict=True):
            start = int(genome.contig_starts[span.contig])
            out[:, :, start + span.start : start + span.end] = logits
    return out


def site_examples(
    logits: NDArray[np.float32], genome: LabelledGenome, kind: str, tracks: Sequence[str]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Every (position, strand) of one kind, ambiguous ones left out.

    Args:
        logits: From `genome_logits`.
        genome: Where they come from.
        kind: donor, acceptor, tss or another of the tracks.
        tracks: Tracks of the logits, in order.

    Returns:
        Logits, float32, [m], and whether each is a truth site, [m].
    """
    track = tracks.index(kind)
    values, labels = [], []
    for strand in STRANDS:
        truth = np.zeros(len(genome.bases), bool)
        truth[genome.sites[kind, strand]] = True
        keep = np.ones(len(genome.bases), bool)
        keep[genome.masked[kind, strand]] = False
        keep |= truth
        values.append(logits[strand.row, track][keep])
        labels.append(truth[keep])
    return np.concatenate(values), np.concatenate(labels)


def genome_calls(logits: NDArray[np.float32], genome: LabelledGenome, rules: list[TrackRule | None]) -> Calls:
    """Calls of a whole genome from its logits, by the code that makes them in a run; positions are within contigs.

    Args:
        logits: [2, C, n] as from `genome_logits`.
        genome: Where they come from.
        rules: One per track.

    Returns:
        The calls.
    """
    ends, starts = genome.contig_ends, genome.contig_starts
    lengths = (ends - starts).astype(np.int64)
    count = len(lengths)
    zeros = np.zeros(count, np.int64)
    windows = Windows(np.arange(count), zeros, lengths, zeros, lengths, starts, zeros, zeros, np.append(starts, ends[-1]))
    block = Block(genome.bases, tuple(Span(i, 0, int(n)) for i, n in enumerate(lengths)), windows, lengths)
    found = []
    for i in range(count):
        batch = ScoredBatch.of_plus_strand(np.array([i]), torch.from_numpy(logits[None, :, :, starts[i] : ends[i]]), windows)
        found.append(call_sites(batch, block, rules, Counter()))
    return Calls.concatenate(found)


def sites_as_places(sites: SiteTable, kind: str, contig_ends: NDArray[np.int64]) -> Places:
    """Sites of one kind, from positions end to end to positions within contigs."""
    starts = np.concatenate([[0], contig_ends[:-1]])
    position = np.concatenate([sites[kind, strand] for strand in STRANDS])
    strand = np.repeat(np.array(STRANDS, np.int8), [len(sites[kind, strand]) for strand in STRANDS])
    contig = np.searchsorted(contig_ends, position, side="right")
    return Places(contig, position - starts[contig], strand)
