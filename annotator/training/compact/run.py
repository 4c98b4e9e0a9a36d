"""`annotator train`: genomes in, a model directory out."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from annotator.errors import UsageError
from annotator.files import file_sha256
from annotator.genome.plan import PlanOptions
from annotator.labels.genomes import load_genome
from annotator.labels.labelled import LabelledGenome
from annotator.labels.options import Organism
from annotator.models.device import choose_device
from annotator.models.families.compact.net import CompactConfig, CompactNet
from annotator.tokens.vocabulary import KmerVocabulary
from annotator.training.compact.export import export_model
from annotator.training.compact.options import TrainingSettings
from annotator.training.compact.validate import validation_topk
from annotator.training.loop import Trainer
from annotator.training.run_folder import locked

logger = logging.getLogger(__name__)

WATCH_BP = 2_700_000
"""Bases of each validation genome scored during a run; the finished model is calibrated on all of them."""


def run_training(settings: TrainingSettings, out: Path, *, device: str, threads: int) -> Path:
    """Train (or go on training), calibrate on validation data, and write `<out>/model`.

    Args:
        settings: The recipe.
        out: Run folder.
        device: auto, cpu, cuda or cuda:N.
        threads: CPU threads.

    Returns:
        The model directory.

    Raises:
        AnnotatorError: Bad files, options or device, or a folder that holds another run.
    """
    if not settings.organisms:
        raise UsageError("nothing to learn from: give --fasta and --truth, or [[organism]] in the recipe")
    if not settings.validation:
        raise UsageError("no validation data: thresholds come from it; give --val-fasta and --val-truth, or [[validation]]")
    chosen = torch.device(choose_device(device))
    torch.set_num_threads(threads)
    torch.manual_seed(settings.train.seed)
    vocabulary = KmerVocabulary(settings.k)
    plan = PlanOptions(**settings.plan)
    with locked(out):
        spool = out / "spool"
        genomes = [load_genome(organism, spool / organism.name) for organism in settings.organisms]
        validation = [load_genome(organism, spool / f"val-{organism.name}") for organism in settings.validation]
        shutil.rmtree(spool, ignore_errors=True)
        for genome in genomes:
            logger.info("%s: %s bp, %d sites", genome.name, f"{len(genome.bases):,}", sum(map(len, genome.sites.values())))
        watched = [_watched(genome) for genome in validation]
        net = CompactNet(CompactConfig(**(settings.architecture | {"dilations": tuple(settings.architecture["dilations"])})))
        trainer = Trainer(
            net, vocabulary, genomes, settings.windows, settings.train, out, device=chosen, identity=_identity(settings),
            validate=lambda averaged: validation_topk(averaged, watched, vocabulary, plan, chosen),
        )  # fmt: skip
        trainer.run()
        return export_model(settings, trainer.averaged(), validation, out / "model", device=chosen, steps=trainer.step)


def _identity(settings: TrainingSettings) -> dict[str, Any]:
    """What makes a run this run, beside its options: a resumed one must agree."""
    return {"k": settings.k, "architecture": settings.architecture} | {
        f"organism {organism.name}": _organism(organism) for organism in settings.organisms
    }


def _organism(organism: Organism) -> dict[str, Any]:
    files = {"fasta": organism.fasta, "truth": organism.truth, "mask": organism.mask}
    hashes = {name: file_sha256(path) if path else None for name, path in files.items()}
    return {"clade": organism.clade, "trim_bp": organism.trim_bp, "weight": organism.weight, "max_bp": organism.max_bp} | hashes


def _watched(genome: LabelledGenome) -> LabelledGenome:
    """The first few million bases of a validation genome."""
    limit = min(WATCH_BP, len(genome.bases))
    ends = np.minimum(genome.contig_ends, limit)
    ends = ends[: int(np.searchsorted(ends, limit)) + 1]
    sites, masked = ({key: value[value < limit] for key, value in table.items()} for table in (genome.sites, genome.masked))
    names = genome.contig_names[: len(ends)]
    return replace(genome, bases=genome.bases[:limit], contig_ends=ends, contig_names=names, sites=sites, masked=masked)
