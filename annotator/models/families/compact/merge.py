"""Networks of single clades put into one model directory, each clade with the weights that were trained for it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from annotator.errors import UsageError
from annotator.models.directory import read_model, write_model
from annotator.models.manifest import MANIFEST_NAME, CladeSettings, Manifest
from annotator.models.weights import read_safetensors
from annotator.preflight import check_model_folder

logger = logging.getLogger(__name__)


def merge_clades(models: Sequence[str], out: Path, *, name: str, licence: str = "", version: str = "") -> Path:
    """Make one model of several, which differ in the clade that they are for.

    Every model gives its default clade: that clade's network, calibration and thresholds, under the clade's name.

    Args:
        models: Bundled models or model directories of the compact family that label bases, one a clade, in the order in which
            their clades are listed.
        out: Model directory to make; an older model is replaced when the new one is complete.
        name: Name of the new model.
        licence: Licence of the new weights; that of the first model by default.
        version: Version of the new model; the beginning of the weights' sha256 by default.

    Returns:
        `out`.

    Raises:
        UsageError: Two models are for the same clade, one has no clade of its own, they differ in what they read or label, or
            `out` holds something that is no model.
        AnnotatorError: A model is missing or damaged.
    """
    if not models:
        raise UsageError("no model to merge")
    check_model_folder(out, MANIFEST_NAME)
    first: Manifest | None = None
    tensors: dict[str, Tensor] = {}
    clades: dict[str, CladeSettings] = {}
    training: dict[str, Any] = {}
    metrics: dict[str, Any] = {"split": "validation"}
    for model in models:
        folder, manifest = read_model(model)
        if manifest.integers is not None:
            logger.info(
                "%s: its whole-number weights are not taken over; `annotator models quantize` makes those of the new model",
                folder,
            )
        clade = manifest.default_clade
        if manifest.family != "compact" or manifest.window is not None or not clade:
            raise UsageError(f"{folder}: not a compact model that labels bases and was trained for a clade of its own")
        if clade in clades:
            raise UsageError(f"{folder}: a second model for clade {clade}")
        first = first or manifest
        for field in ("architecture", "tokenizer", "plan", "tracks", "radius_bp"):
            if getattr(manifest, field) != getattr(first, field):
                raise UsageError(f"{folder}: its {field} is not that of {models[0]}, and one model has one")
        prefix = f"{manifest.clades[clade].network}." if manifest.clades[clade].network else ""
        found = read_safetensors(folder / manifest.weights)
        if not prefix:
            tensors |= {f"{clade}.{key}": value for key, value in found.items()}
        else:
            tensors |= {f"{clade}.{key.removeprefix(prefix)}": value for key, value in found.items() if key.startswith(prefix)}
        clades[clade] = replace(manifest.clades[clade], network=clade)
        training[clade] = manifest.training
        metrics |= {key: value for key, value in manifest.metrics.items() if key == clade}
    assert first is not None
    merged = replace(
        first, name=name, version=version, clades=clades, licence=licence or first.licence, training=training, metrics=metrics,
        default_clade="",
    )  # fmt: skip
    return write_model(out, merged, tensors)
