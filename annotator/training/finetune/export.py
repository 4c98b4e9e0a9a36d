"""A fine-tuned network made into a model directory that `annotate` takes."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from annotator.files import file_sha256, write_text
from annotator.models.manifest import MANIFEST_NAME, Manifest, read_manifest
from annotator.models.weights import WEIGHTS_NAME, plain_tensors, write_safetensors
from annotator.training.finetune.options import FinetuneSettings
from annotator.training.finetune.start import TOKENIZER_NAME, Base
from annotator.training.task import Outcome

logger = logging.getLogger(__name__)


def export_finetuned(
    settings: FinetuneSettings, base: Base, model: nn.Module, outcome: Outcome, described: dict[str, Any], folder: Path
) -> Path:
    """Write a model directory.

    Args:
        settings: Of the run.
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
    temporary = folder.with_name(f".tmp-{os.getpid()}-{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    write_safetensors(temporary / WEIGHTS_NAME, plain_tensors(model))
    tokenizer = base.tokenizer
    if base.tokenizer_json is not None:
        write_text(temporary / TOKENIZER_NAME, base.tokenizer_json)
        tokenizer = {"file": TOKENIZER_NAME, "sha256": file_sha256(temporary / TOKENIZER_NAME)}
    options = asdict(settings.options) | {"lora": asdict(settings.lora) if settings.lora else None}
    manifest = Manifest(
        name=settings.name, version=settings.version, family=base.family, architecture=base.architecture, tokenizer=tokenizer,
        plan=outcome.plan, tracks=outcome.tracks, radius_bp=outcome.radius_bp, clades=outcome.clades, licence=base.licence,
        weights=WEIGHTS_NAME, weights_sha256=file_sha256(temporary / WEIGHTS_NAME),
        training={**base.described, **described, "options": options, "torch": torch.__version__, "note": settings.note},
        metrics={"split": "dev", **outcome.metrics}, window=outcome.window, features=outcome.features, head=base.head,
    )  # fmt: skip
    write_text(temporary / MANIFEST_NAME, manifest.to_json())
    read_manifest(temporary)  # what cannot be read back is not published
    replaced = folder.with_name(f".tmp-{os.getpid()}-replaced")
    if folder.exists():
        os.replace(folder, replaced)  # a model that is being deleted would be half a model
    os.replace(temporary, folder)
    shutil.rmtree(replaced, ignore_errors=True)
    logger.info("wrote %s", folder)
    return folder
