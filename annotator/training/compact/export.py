"""A trained network made into a model directory: calibrated, thresholded, measured on validation data."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from annotator.errors import UsageError
from annotator.evaluation.metrics import average_precision, topk
from annotator.evaluation.scores import genome_logits, site_examples
from annotator.genome.plan import PlanOptions
from annotator.kinds import CLADES, Kind
from annotator.labels.labelled import TRIM_SEED, LabelledGenome, trim_contigs
from annotator.models.directory import write_model
from annotator.models.families.compact.net import CLADE_INDEX, COMPACT_TRACKS, CompactNet
from annotator.models.families.compact.scan import folded_on
from annotator.models.manifest import Calibration, CladeSettings, Manifest
from annotator.models.weights import plain_tensors
from annotator.tokens.vocabulary import KmerVocabulary
from annotator.training.calibrate import (
    LEAST_AUPRC,
    best_threshold,
    calibrated_on,
    calibration_error_of,
    candidates,
    matched_precision,
    own_clade,
    reached,
)
from annotator.training.compact.data import described, entries
from annotator.training.compact.options import TrainingSettings

logger = logging.getLogger(__name__)

TRIM_BP = 4500
"""How validation loci are trimmed before promoters are calibrated; benchmarks trim theirs the same way."""


def export_model(
    settings: TrainingSettings,
    net: CompactNet,
    genomes: list[LabelledGenome],
    validation: list[LabelledGenome],
    folder: Path,
    *,
    device: torch.device,
    steps: int,
    clades_of: Sequence[str] = CLADES,
    card: Mapping[str, str] | None = None,
) -> Path:
    """Calibrate on validation genomes and write a model directory.

    Args:
        settings: The recipe.
        net: The trained network, in eval mode.
        genomes: Genomes learnt from.
        validation: Genomes with truth, none of them trained on.
        folder: Where to; replaced when complete.
        device: Where to compute.
        steps: Optimiser steps the weights have seen.
        clades_of: Clades that the model is to have settings for.
        card: What else there is to know of the training, in words, by the names of `annotator.models.describe.CARD`.

    Returns:
        `folder`.
    """
    vocabulary, plan = KmerVocabulary(settings.k), PlanOptions(**settings.plan)
    clades, metrics = {}, {}
    sides = (*settings.validation, *(settings.organisms if settings.held_out else ()))
    centred = {organism.name for organism in sides if organism.gene_centred}
    learnt = {genome.clade for genome in genomes}
    for clade in clades_of:
        place = CLADE_INDEX[clade]
        own = [genome for genome in validation if genome.clade == clade]
        index = place if own or settings.init or clade in learnt else 0  # the bias of a clade that was never seen says nothing
        # a clade without validation data borrows the clade-free bias, calibrated on whole chromosomes of the others
        used = own or [genome for genome in validation if genome.name not in centred]
        if not used:
            continue
        clades[clade], figures = _calibrate(net, used, index, vocabulary, plan, settings, own=bool(own), device=device)
        if centred.intersection(genome.name for genome in own):
            note = f"{clades[clade].note}, which are loci cut around genes: precision on whole chromosomes is lower"
            clades[clade] = replace(clades[clade], note=note)
        if own:
            metrics[clade] = figures
        logger.info("%s: %s", clade, json.dumps(figures))

    if not clades:
        raise UsageError("no validation genome can set thresholds: all are gene-centred loci of other clades")
    manifest = Manifest(
        name=settings.name, version="", family="compact", architecture=net.config.as_dict(),
        tokenizer={"k": settings.k, "order": "ATCG", "first_kmer_id": 5, "ambiguous_id": 1},
        plan=settings.plan, tracks=COMPACT_TRACKS, radius_bp=settings.radius_bp, clades=clades,
        licence=settings.licence, weights="", weights_sha256="",
        training={
            "recipe": settings.recipe, "init": settings.init or "random weights",
            "organisms": [described(entry) for entry in entries(settings)],
            "held_out": list(settings.held_out),
            "annotation": {
                split: {genome.name: dict(genome.annotation) for genome in side}
                for split, side in (("train", genomes), ("validation", validation))
            },
            "windows": asdict(settings.windows), "schedule": asdict(settings.train), "steps_done": steps,
            "device": device.type, "torch": torch.__version__, "note": settings.note,
            **(card or {}),
        },
        metrics={"split": "validation", **metrics}, default_clade=own_clade([entry.clade for entry in entries(settings)], clades),
    )  # fmt: skip
    write_model(folder, manifest, plain_tensors(net))
    logger.info("wrote %s", folder)
    return folder


def _calibrate(
    net: CompactNet, genomes: list[LabelledGenome], index: int, vocabulary: KmerVocabulary, plan: PlanOptions,
    settings: TrainingSettings, *, own: bool, device: torch.device,
) -> tuple[CladeSettings, dict[str, Any]]:  # fmt: skip
    """Calibration, thresholds and figures of one clade."""
    model = folded_on(net, index, vocabulary, device)
    scored = [(g, genome_logits(model, g, plan, tracks=len(COMPACT_TRACKS), device=device)) for g in genomes]
    thresholds: dict[Kind, float] = {}
    calibration: dict[Kind, Calibration] = {}
    figures: dict[str, Any] = {"genomes": [genome.name for genome in genomes]}
    for kind in (Kind.DONOR, Kind.ACCEPTOR):
        pairs = [site_examples(logits, genome, kind, COMPACT_TRACKS) for genome, logits in scored]
        values, labels = np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])
        found = [candidates(logits, genome, settings.radius_bp, kind, COMPACT_TRACKS) for genome, logits in scored]
        calibration[kind] = calibrated_on(kind, found)
        thresholds[kind], figures[kind] = best_threshold(found, calibration[kind])
        if own:
            figures[kind] |= _ranking(values, labels) | {"calibration_error": calibration_error_of(found, calibration[kind])}
    labelled = [genome for genome in genomes if "tss" in genome.kinds]
    if labelled:
        trimmed = [trim_contigs(genome, TRIM_BP, TRIM_SEED) for genome in labelled]
        logits = [genome_logits(model, g, plan, tracks=len(COMPACT_TRACKS), device=device) for g in trimmed]
        found = [
            candidates(x, g, settings.radius_bp, Kind.PROMOTER, COMPACT_TRACKS) for x, g in zip(logits, trimmed, strict=True)
        ]
        calibration[Kind.PROMOTER] = calibrated_on(Kind.PROMOTER, found)
        thresholds[Kind.PROMOTER], figures[Kind.PROMOTER] = best_threshold(found, calibration[Kind.PROMOTER])
        if own:
            figures[Kind.PROMOTER] |= {
                "auprc": matched_precision(found),
                "calibration_error": calibration_error_of(found, calibration[Kind.PROMOTER]),
            }
    else:
        thresholds[Kind.PROMOTER], calibration[Kind.PROMOTER] = 0.5, Calibration()
    validated, said = reached({kind: figures[kind]["auprc"] for kind in thresholds if own and kind in figures}, LEAST_AUPRC)
    names = ", ".join(genome.name for genome in genomes)
    note = f"calibrated on validation data of {names}; {said}" if own else f"no data of this clade: borrowed from {names}"
    figures = {key: _known(value) if isinstance(value, dict) else value for key, value in figures.items()}
    return CladeSettings(index, thresholds, calibration, validated, note), figures


def _known(figures: Mapping[str, float]) -> dict[str, float]:
    """Figures with four decimals, without those that too few sites leave undefined: JSON has no NaN."""
    return {name: round(value, 4) for name, value in figures.items() if not math.isnan(value)}


def _ranking(values: NDArray[np.float32], labels: NDArray[np.bool_]) -> dict[str, float]:
    """top-k and AUPRC over all examples."""
    return {"topk": float(topk(values, labels)), "auprc": float(average_precision(values, labels))}
