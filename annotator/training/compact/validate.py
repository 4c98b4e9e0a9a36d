"""What a training run watches: top-k on validation genomes, through the windows the finished model will scan with."""

from __future__ import annotations

import torch

from annotator.evaluation.metrics import topk
from annotator.evaluation.scores import genome_logits, site_examples
from annotator.genome.plan import PlanOptions
from annotator.kinds import LABEL_TRACKS, SPLICE_TRACKS
from annotator.labels.labelled import LabelledGenome
from annotator.models.families.compact.net import CLADE_INDEX, CompactNet
from annotator.models.families.compact.scan import folded_on
from annotator.tokens.vocabulary import KmerVocabulary


def validation_topk(
    net: CompactNet, genomes: list[LabelledGenome], vocabulary: KmerVocabulary, plan: PlanOptions, device: torch.device
) -> dict[str, float]:
    """top-k of donors and acceptors of every validation genome, by `<genome>_<kind>`."""
    scores = {}
    for genome in genomes:
        logits = genome_logits(
            folded_on(net, CLADE_INDEX[genome.clade], vocabulary, device), genome, plan, tracks=len(LABEL_TRACKS), device=device
        )
        for kind in SPLICE_TRACKS:
            scores[f"{genome.name}_{kind}"] = topk(*site_examples(logits, genome, kind, LABEL_TRACKS))
    return scores
