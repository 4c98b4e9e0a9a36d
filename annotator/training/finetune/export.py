"""A fine-tuned network made into a model directory that `annotate` takes."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from annotator.models.directory import write_model
from annotator.models.manifest import Manifest
from annotator.models.weights import plain_tensors
from annotator.training.finetune.base import Base
from annotator.training.finetune.options import FinetuneSettings
from annotator.training.finetune.task import Outcome

logger = logging.getLogger(__name__)


def export_finetuned(
    settings: FinetuneSettings, base: Base, model: nn.Module, outcome: Outcome, described: dict[str, Any], folder: Path
) -> Path:
    """Write a model directory.

    Args:
        settings: Settings of the run.
        base: What the run started from.
        model: The trained network, its adapters merged.
        outcome: Thresholds, calibration and figures.
        described: The data, the best step and the device, for the manifest.
        folder: Where to; replaced when complete.

    Returns:
        `folder`.

    Raises:
        ResourceFault: A file cannot be written.
    """
    tokenizer = base.tokenizer
    for name, text in base.files.items():
        tokenizer = {"file": name, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    options = asdict(settings.options) | {"lora": asdict(settings.lora) if settings.lora else None}
    manifest = Manifest(
        name=settings.name, version=settings.version, family=base.family, architecture=base.architecture, tokenizer=tokenizer,
        plan=outcome.plan, tracks=outcome.tracks, radius_bp=outcome.radius_bp, clades=outcome.clades, licence=base.licence,
        weights="", weights_sha256="", default_clade=settings.clade,
        training={**base.described, **described, "options": options, "torch": torch.__version__, "note": settings.note},
        metrics={"split": "dev", **outcome.metrics}, window=outcome.window, features=outcome.features, head=base.head,
    )  # fmt: skip
    write_model(folder, manifest, plain_tensors(model), base.files)
    logger.info("wrote %s", folder)
    return folder
