"""The compact network as a base of fine-tuning on genomes: a finished model's weights, or random ones, under tracks of one's own.

Coordinates: bases of a row in the order it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from annotator.errors import UsageError
from annotator.genome.plan import UNKNOWN_BASE
from annotator.models.directory import read_model
from annotator.models.families.compact.net import CompactConfig, CompactNet
from annotator.models.families.compact.scan import folded_on, load_compact
from annotator.models.manifest import Manifest
from annotator.models.track_set import TrackSet
from annotator.scan.windows import ScanModel
from annotator.tokens.kmer_rows import kmer_ids_of_rows
from annotator.tokens.vocabulary import KmerVocabulary
from annotator.training.finetune.base import Base
from annotator.training.finetune.options import COMPACT, COMPACT_RANDOM, NOT_STATED, FinetuneSettings


class CompactBases(nn.Module):
    """The compact network on rows of bases; it has one clade bias, that of the data."""

    def __init__(self, model: CompactNet, vocabulary: KmerVocabulary, *, dropout: float) -> None:
        """Join network and tokens.

        Args:
            model: The network.
            vocabulary: Ids of its tokens.
            dropout: Share of the trunk's channels left out of each block, and half that share of the embedding.
        """
        super().__init__()
        self.model, self.vocabulary, self._dropout = model, vocabulary, dropout

    def forward(self, rows: Tensor) -> Tensor:
        """ASCII bases, uint8, [R, L], to logits, float32, [R, L, C]; L is a multiple of the network's step."""
        k = self.vocabulary.k
        before = (k - 1) // 2
        ids = kmer_ids_of_rows(F.pad(rows, (before, k - 1 - before), value=UNKNOWN_BASE), self.vocabulary.scheme())
        clade = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        logits: Tensor = self.model(ids, clade, self._dropout)
        return logits

    def scanner(self, tracks: TrackSet, device: torch.device) -> ScanModel:
        """The network as a run scans with it, in eval mode."""
        del tracks
        return folded_on(self.model, 0, self.vocabulary, device)


def compact_bases(settings: FinetuneSettings, tracks: Sequence[str]) -> Base:
    """The compact network of a model with a head for other tracks, or the bundled one's shape with random weights.

    A track that the model has keeps its part of the head; the head of any other begins at random.

    Args:
        settings: Settings of the run.
        tracks: The tracks to learn, in order, C of them.

    Raises:
        UsageError: Something was asked for that this network does not do, or the model lacks the clade.
        AnnotatorError: The model is damaged.
    """
    refuse_for_compact_bases(settings)
    random = settings.base == COMPACT_RANDOM
    folder, manifest = read_model(COMPACT if random else settings.base)
    config = CompactConfig(**(_shape(manifest) | {"clades": 1, "tracks": len(tracks)}))
    model = CompactNet(config)
    if not random:
        if settings.clade not in manifest.clades:
            raise UsageError(f"{settings.base}: no settings for clade {settings.clade} (it has {', '.join(manifest.clades)})")
        with torch.random.fork_rng(devices=[]):  # the head above is drawn from the seed alone
            start = load_compact(folder, manifest, settings.clade).state_dict()
        model.load_state_dict(_with_head(start, model.state_dict(), manifest, settings.clade, tracks))
    vocabulary = KmerVocabulary(**manifest.tokenizer)
    described: dict[str, Any] = {"base": "random weights"}
    if not random:
        described = {"base": f"{manifest.name} {manifest.version}", "base_sha256": {manifest.weights: manifest.weights_sha256}}
    licence = settings.licence if random or manifest.licence == NOT_STATED else manifest.licence
    return Base(
        CompactBases(model, vocabulary, dropout=settings.options.dropout), model, COMPACT, config.as_dict(), manifest.tokenizer,
        {}, {}, licence, described, longest_bp=None, reach_bp=config.reach_bp + vocabulary.k, plan=manifest.plan,
    )  # fmt: skip


def refuse_for_compact_bases(settings: FinetuneSettings) -> None:
    """Raise UsageError where adapters, another architecture or several processes are asked of the compact network."""
    if settings.lora is not None:
        raise UsageError("compact has no linear modules to adapt with LoRA; all its weights learn")
    if settings.options.processes > 1:
        raise UsageError("compact learns in one process: its batch norms look at whole batches")
    if settings.architecture:
        raise UsageError("compact has its architecture here; `annotator train` takes another in its recipe")


def _shape(manifest: Manifest) -> dict[str, Any]:
    return manifest.architecture | {"dilations": tuple(manifest.architecture["dilations"])}


def _with_head(
    start: dict[str, Tensor], blank: dict[str, Tensor], manifest: Manifest, clade: str, tracks: Sequence[str]
) -> dict[str, Tensor]:
    """The weights of a model with the bias of one clade, and the parts of its head that belong to `tracks`."""
    index = manifest.clades[clade].index
    tensors = {name: value[index : index + 1] if name.endswith("clade.weight") else value for name, value in start.items()}
    for name in ("head.weight", "head.bias"):
        head = blank[name].clone()
        for row, track in enumerate(tracks):
            if track in manifest.tracks:
                head[row] = start[name][manifest.tracks.index(track)]
        tensors[name] = head
    return tensors
