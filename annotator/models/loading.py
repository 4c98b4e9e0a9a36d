"""Any model directory made ready to score: one door for every family."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from annotator.errors import InputError
from annotator.models.device import choose_precision
from annotator.models.manifest import MANIFEST_NAME, Manifest
from annotator.models.options import FAMILIES
from annotator.models.token_inference import SlidingScanner, TokenClassifier, TokenScanner, WindowClassifier

if TYPE_CHECKING:
    from annotator.models.task_heads import TaskModel
    from annotator.tokens.batch import RowTokenizer


def load_scan_model(folder: Path, manifest: Manifest, clade: str, device: torch.device, precision: str = "auto") -> Any:
    """Load a model for the window engine.

    Args:
        folder: The model directory.
        manifest: Its manifest.
        clade: One of the manifest's.
        device: Where it will run.
        precision: float32, bfloat16, or auto for what `choose_precision` says.

    Returns:
        An `annotator.scan.windows.ScanModel`.

    Raises:
        AnnotatorError: The directory's parts do not fit each other.
    """
    if manifest.window is not None:
        return SlidingScanner(load_window_classifier(folder, manifest, device, precision), manifest)
    if manifest.family == "compact":
        from annotator.models.families.compact.scan import folded_on, load_compact
        from annotator.tokens.vocabulary import KmerVocabulary

        net = load_compact(folder, manifest)
        return folded_on(net, manifest.clades[clade].index, KmerVocabulary(**manifest.tokenizer), device, precision)
    if manifest.family == "dilated_cnn":
        from annotator.models.families.dilated_cnn import load

        return load(folder, manifest, device, manifest.precision(precision, choose_precision("auto", str(device))))
    model, tokenizer = _token_model(folder, manifest, device, precision)
    return TokenScanner(model, tokenizer, manifest.track_set, device)


def load_window_classifier(folder: Path, manifest: Manifest, device: torch.device, precision: str = "auto") -> WindowClassifier:
    """Load a classifier of windows; arguments and errors as `load_scan_model`.

    Returns:
        From rows of ASCII bases, uint8, [R, L], to class logits, float32, [R, classes]. Rows longer than the model's context
        are halved until they fit and their logits averaged.
    """
    if manifest.window is None:
        raise InputError(f"{folder / MANIFEST_NAME}: the model labels bases; it does not classify windows")
    if manifest.family == "compact":
        from annotator.models.families.compact.window import load_compact_window

        return load_compact_window(folder, manifest, device, precision)
    model, tokenizer = _token_model(folder, manifest, device, precision)
    return TokenClassifier(model, tokenizer, device)


def _token_model(folder: Path, manifest: Manifest, device: torch.device, precision: str) -> tuple[TaskModel, RowTokenizer]:
    if manifest.family not in FAMILIES:
        raise InputError(f"{folder / MANIFEST_NAME}: field 'family': {manifest.family!r} is not one this version can scan with")
    from annotator.models.task_models import load_task_model

    model, tokenizer = load_task_model(folder, manifest)
    return model.to(device, getattr(torch, choose_precision(precision, str(device)))).eval(), tokenizer
