"""Scores of labelled genomes by a network in training, through the windows the finished model will scan with.

Coordinates: contigs end to end, as in `LabelledGenome`.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from annotator.evaluation.metrics import topk
from annotator.genome.plan import PlanOptions, plan_shards, plan_windows
from annotator.models.compact import CompactNet
from annotator.models.compact_inference import folded_on
from annotator.scan.windows import WindowScorer, read_block
from annotator.tokens.vocabulary import KmerVocabulary
from annotator.training.dataset import KINDS, LabelledGenome

BATCH_BP = 49_152


def genome_logits(
    net: CompactNet,
    genome: LabelledGenome,
    vocabulary: KmerVocabulary,
    plan: PlanOptions,
    *,
    clade: int,
    device: torch.device,
    precision: str = "auto",
) -> NDArray[np.float32]:
    """Logits of every base and both strands.

    Args:
        net: The network, in eval mode.
        genome: What to score.
        vocabulary: Its token ids.
        plan: Shape of windows.
        clade: Entry of the clade embedding.
        device: Where to compute.
        precision: float32, bfloat16, or auto for the device's own.

    Returns:
        float32, [2, C, n]: strand (+, -), track, base; -30 where nothing was scored (runs of N).
    """
    starts = genome.contig_starts
    lengths = genome.contig_ends - starts
    scorer = WindowScorer(folded_on(net, clade, vocabulary, device, precision), batch_bp=BATCH_BP, device=device)
    out = np.full((2, len(KINDS), len(genome.bases)), -30.0, np.float32)

    def read(contig: int, start: int, end: int) -> NDArray[np.uint8]:
        return genome.bases[starts[contig] + start : starts[contig] + end]

    for shard in plan_shards(lengths, plan):
        windows = plan_windows(shard.spans, lengths, plan)
        block = read_block(shard.spans, windows, lengths, read)
        for batch in scorer.score(block, windows):
            logits = batch.plus_strand(windows).cpu().numpy()
            for row, window in enumerate(batch.rows.tolist()):
                first, last = int(windows.core_start[window]), int(windows.core_end[window])
                shift = int(starts[shard.spans[int(windows.span[window])].contig])
                inside = first - int(windows.start[window])
                out[:, :, shift + first : shift + last] = logits[row, :, :, inside : inside + last - first]
    return out


def splice_examples(
    logits: NDArray[np.float32], genome: LabelledGenome, kind: str
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Every (position, strand) of one kind, ambiguous ones left out.

    Args:
        logits: From `genome_logits`.
        genome: Where they come from.
        kind: donor, acceptor or tss.

    Returns:
        Logits, float32, [m], and whether each is a truth site, [m].
    """
    track = KINDS.index(kind)
    values, labels = [], []
    for row, strand in enumerate("+-"):
        truth = np.zeros(len(genome.bases), bool)
        truth[genome.sites[kind, strand]] = True
        keep = np.ones(len(genome.bases), bool)
        keep[genome.masked[kind, strand]] = False
        keep |= truth
        values.append(logits[row, track][keep])
        labels.append(truth[keep])
    return np.concatenate(values), np.concatenate(labels)


def validation_topk(
    net: CompactNet, genomes: list[LabelledGenome], vocabulary: KmerVocabulary, plan: PlanOptions, device: torch.device
) -> dict[str, float]:
    """top-k of donors and acceptors of every validation genome, by `<genome>_<kind>`."""
    scores = {}
    for genome in genomes:
        logits = genome_logits(net, genome, vocabulary, plan, clade=genome.clade, device=device)
        for kind in ("donor", "acceptor"):
            scores[f"{genome.name}_{kind}"] = topk(*splice_examples(logits, genome, kind))
    return scores
