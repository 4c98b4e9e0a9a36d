"""`annotator train`: genomes in, a model directory out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from annotator.errors import UsageError
from annotator.evaluation.metrics import topk
from annotator.evaluation.scores import genome_logits, site_examples
from annotator.files import temporary_folder, write_faults
from annotator.genome.plan import PlanOptions
from annotator.kinds import SPLICE_TRACKS
from annotator.labels.labelled import LabelledGenome, hold_out
from annotator.labels.options import Organism, PromoterWindows
from annotator.models.device import choose_device
from annotator.models.families.compact.net import CLADE_INDEX, COMPACT_TRACKS, CompactNet
from annotator.models.families.compact.scan import folded_on
from annotator.tokens.kmer_rows import kmer_ids_of_rows
from annotator.tokens.vocabulary import KmerVocabulary
from annotator.training.compact.data import NO_VALIDATION, TrainingData, check_files, chosen, entries, identity_of, read_files
from annotator.training.compact.export import export_model
from annotator.training.compact.options import TrainingSettings
from annotator.training.compact.pack import read_pack, write_pack
from annotator.training.compact.start import first_network
from annotator.training.dataset import draw_batch, lesson_of
from annotator.training.loop import Loop
from annotator.training.run_folder import locked
from annotator.training.task import PartLoss, Share, Task

logger = logging.getLogger(__name__)

WATCHED_BP = 2_700_000
"""Bases of each validation genome scored during a run; the finished model is calibrated on all of them."""


def run_training(settings: TrainingSettings, out: Path, *, device: str, threads: int, pack: Path | None = None) -> Path:
    """Train (or go on training), calibrate on validation data, and write `<out>/model`.

    Args:
        settings: The recipe.
        out: Run folder.
        device: auto, cpu, cuda or cuda:N.
        threads: CPU threads.
        pack: A pack to read the genomes from, in place of their files. It has all that the recipe learns from and validates on;
            where the recipe names none, all of the pack's are taken.

    Returns:
        The model directory.

    Raises:
        AnnotatorError: Bad files, options or device, or a folder that holds another run.
    """
    if pack is None:
        check_files(settings)
    chosen_device = torch.device(choose_device(device))
    torch.set_num_threads(threads)
    with locked(out):
        if settings.init:
            first_network(settings)  # what does not fit is said before genomes are read
        torch.manual_seed(settings.train.seed)
        if pack is None:
            with temporary_folder(out) as spool:
                data = read_files(settings, spool)
        else:
            data = chosen(read_pack(pack), entries(settings), settings.validation, str(pack))
            if settings.held_out:
                data = replace(data, validation=())
            if not data.validation and not settings.held_out:
                raise UsageError(f"{pack}: {NO_VALIDATION}; give --hold-out, or write a pack that has some")
            settings = _of_pack(settings, data)
        genomes, held = _apart(data, settings)
        net, start = first_network(settings)
        identity = _identity(settings, data) | ({"init": start} if start else {})
        loop = Loop(net, CompactTask(settings, genomes, held, chosen_device), out, identity=identity, device=chosen_device)
        loop.run()
        loop.load_final_weights()
        return export_model(settings, net, genomes, held, out / "model", device=chosen_device, steps=loop.step)


def pack_recipe(settings: TrainingSettings, path: Path) -> None:
    """Write the genomes of a recipe as one file that training reads in place of theirs.

    Args:
        settings: The recipe.
        path: The pack; an older one is replaced when the new one is complete.

    Raises:
        AnnotatorError: A genome's file is missing or bad, or the pack cannot be written.
    """
    check_files(settings)
    with write_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(path.parent) as spool:
        data = read_files(settings, spool)
    write_pack(path, data)
    logger.info("wrote %s: %d genomes, %s bytes", path, len(data.learnt) + len(data.validation), f"{path.stat().st_size:,}")


class CompactTask(Task):
    """Splice sites and transcription start sites of labelled genomes, learnt base by base."""

    # A run's length, not what it learns from.
    may_change = ("steps", "warmup_steps", "decay_steps", "validate_steps", "checkpoint_steps")

    def __init__(
        self,
        settings: TrainingSettings,
        genomes: list[LabelledGenome],
        validation: Sequence[LabelledGenome],
        device: torch.device,
    ) -> None:
        """Hold the data.

        Args:
            settings: The recipe.
            genomes: Genomes to learn from.
            validation: Genomes to watch; the first WATCHED_BP bases of each are scored.
            device: Where the network is.
        """
        self.options = self._train = settings.train
        self._windows, self._plan, self._device = settings.windows, PlanOptions(**settings.plan), device
        self._vocabulary = KmerVocabulary(settings.k)
        self._lessons = [lesson_of(genome, settings.train.truth_share) for genome in genomes]
        self._watched = [_first_bases(genome) for genome in validation]

    def losses(self, net: nn.Module, step: int, share: Share) -> Iterator[PartLoss]:
        """See `Task`; one process learns from whole batches."""
        options, windows = self._train, self._windows
        batch = draw_batch(
            self._lessons, windows, windows=options.batch_windows, k=self._vocabulary.k,
            rng=np.random.default_rng([options.seed, step]),
        )  # fmt: skip
        ids = kmer_ids_of_rows(torch.from_numpy(batch.bases), self._vocabulary.scheme()).to(self._device)
        targets, weights, clade = (
            torch.from_numpy(values).to(self._device) for values in (batch.targets, batch.weights, batch.clade)
        )
        with torch.autocast(self._device.type, torch.bfloat16, enabled=options.autocasts(self._device.type)):
            logits = net(ids, clade, options.dropout)
        loss, parts = batch_loss(logits, targets, weights, options.tss_loss_weight)
        yield PartLoss(
            loss, dict(zip(COMPACT_TRACKS, parts, strict=True)), {"kbp": options.batch_windows * windows.window_bp / 1000}
        )  # fmt: skip

    def validate(self, net: nn.Module) -> dict[str, float]:
        """top-k of donors and acceptors of every watched genome, by `val_<genome>_<kind>`.

        Scored through the windows that the finished model scans with. There is no score: the last averaged weights are kept.
        """
        assert isinstance(net, CompactNet)
        # The making of a network draws random numbers, and the dropout of later steps depends on them. The bundled weights were
        # made by runs that scored such a copy, and the same recipe is to give the same losses.
        copy = CompactNet(net.config).to(self._device)
        copy.load_state_dict(net.state_dict())
        return validation_topk(copy.eval(), self._watched, self._vocabulary, self._plan, self._device)

    def decays(self, weight: nn.Parameter) -> bool:
        """Whether weight decay applies to a weight: to convolutions alone, not to embeddings."""
        return weight.ndim > 2

    def seed_torch(self, step: int, rank: int) -> None:
        """Leave torch's random state alone: dropout goes on from the seed of the run, as it did for the bundled weights."""


def batch_loss(logits: Tensor, targets: Tensor, weights: Tensor, tss_weight: float) -> tuple[Tensor, list[float]]:
    """Binary cross-entropy of a kilobase, summed over tracks.

    Args:
        logits: Logits of every base, float32, [B, L, C].
        targets: Labels 0..1, float32, [B, L, C].
        weights: 1 where the loss counts, float32, [B, L, C].
        tss_weight: Factor of the last track.

    Returns:
        The loss, and each track's own part of it.
    """
    losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none") * weights
    parts = losses.sum((0, 1)) / weights.sum((0, 1)).clamp(min=1.0) * 1000.0
    factors = torch.tensor([1.0, 1.0, tss_weight], device=parts.device)
    return (parts * factors).sum(), parts.detach().tolist()


def validation_topk(
    net: CompactNet, genomes: Sequence[LabelledGenome], vocabulary: KmerVocabulary, plan: PlanOptions, device: torch.device
) -> dict[str, float]:
    """top-k of donors and acceptors of every validation genome, by `val_<genome>_<kind>`."""
    scores = {}
    for genome in genomes:
        model = folded_on(net, CLADE_INDEX[genome.clade], vocabulary, device)
        logits = genome_logits(model, genome, plan, tracks=len(COMPACT_TRACKS), device=device)
        for kind in SPLICE_TRACKS:
            scores[f"val_{genome.name}_{kind}"] = float(topk(*site_examples(logits, genome, kind, COMPACT_TRACKS)))
    return scores


def _apart(data: TrainingData, settings: TrainingSettings) -> tuple[list[LabelledGenome], list[LabelledGenome]]:
    """The genomes to learn from and those to validate on, contigs that are held out among the latter."""
    genomes, held_out = hold_out([source.genome for source in data.learnt], settings.held_out)
    validation = [source.genome for source in data.validation] + held_out
    if not genomes:
        raise UsageError(f"--hold-out {','.join(settings.held_out)}: no contig with a site is left to learn from")
    for genome in genomes:
        logger.info("%s: %s bp, %d sites", genome.name, f"{len(genome.bases):,}", sum(map(len, genome.sites.values())))
    return genomes, validation


def _of_pack(settings: TrainingSettings, data: TrainingData) -> TrainingSettings:
    """The settings with the genomes that a pack holds."""
    learnt = [source.entry for source in data.learnt]
    return replace(
        settings,
        organisms=tuple(entry for entry in learnt if isinstance(entry, Organism)),
        promoters=tuple(entry for entry in learnt if isinstance(entry, PromoterWindows)),
        validation=tuple(source.entry for source in data.validation if isinstance(source.entry, Organism)),
    )


def _identity(settings: TrainingSettings, data: TrainingData) -> dict[str, Any]:
    """What makes a run this run, beside its options: a resumed one must agree."""
    held_out = {"held_out": settings.held_out} if settings.held_out else {}
    genomes = {f"organism {source.entry.name}": identity_of(source) for source in data.learnt}
    return {**asdict(settings.windows), "k": settings.k, "architecture": settings.architecture, **genomes, **held_out}


def _first_bases(genome: LabelledGenome) -> LabelledGenome:
    """The first WATCHED_BP bases of a validation genome."""
    limit = min(WATCHED_BP, len(genome.bases))
    ends = np.minimum(genome.contig_ends, limit)
    ends = ends[: int(np.searchsorted(ends, limit)) + 1]
    sites, masked = ({key: value[value < limit] for key, value in table.items()} for table in (genome.sites, genome.masked))
    names = genome.contig_names[: len(ends)]
    return replace(genome, bases=genome.bases[:limit], contig_ends=ends, contig_names=names, sites=sites, masked=masked)
