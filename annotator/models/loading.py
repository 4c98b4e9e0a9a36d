"""Any model directory made ready to score: one door for every family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from annotator.errors import InputError
from annotator.models.families.base import ScanFamily
from annotator.models.families.registry import scan_family
from annotator.models.manifest import MANIFEST_NAME, Manifest
from annotator.models.options import FAMILY_ROWS
from annotator.models.token_inference import SlidingScanner, WindowClassifier


def load_scan_model(folder: Path, manifest: Manifest, clade: str, device: torch.device, precision: str = "auto") -> Any:
    """Load a model for the window engine.

    Args:
        folder: The model directory.
        manifest: Its manifest.
        clade: One of the manifest's.
        device: Where it will run.
        precision: float32, bfloat16, int8 where the manifest names an integer copy, or auto for what `choose_precision` says.

    Returns:
        An `annotator.scan.windows.ScanModel`.

    Raises:
        AnnotatorError: The directory's parts do not fit each other.
    """
    if manifest.window is not None:
        return SlidingScanner(load_window_classifier(folder, manifest, device, precision), manifest)
    return _family(folder, manifest).load_scan_model(folder, manifest, clade, device, precision)


def load_window_classifier(folder: Path, manifest: Manifest, device: torch.device, precision: str = "auto") -> WindowClassifier:
    """Load a classifier of windows; arguments and errors as `load_scan_model`.

    Returns:
        From rows of ASCII bases, uint8, [R, L], to class logits, float32, [R, classes]. Rows longer than the model's context
        are halved until they fit and their logits averaged.
    """
    if manifest.window is None:
        raise InputError(f"{folder / MANIFEST_NAME}: the model labels bases; it does not classify windows")
    classifier: WindowClassifier = _family(folder, manifest).load_window_classifier(folder, manifest, device, precision)
    return classifier


def _family(folder: Path, manifest: Manifest) -> ScanFamily:
    if manifest.family not in FAMILY_ROWS:
        raise InputError(f"{folder / MANIFEST_NAME}: field 'family': {manifest.family!r} is not one this version can scan with")
    return scan_family(manifest.family)
