"""Fine-tuned models of the published families: their directories read with the checks a checkpoint gets."""

from __future__ import annotations

from pathlib import Path

import torch

from annotator.errors import InputError
from annotator.genome.plan import PlanOptions
from annotator.models.checkpoints import refuse_absurd, settle_special_ids
from annotator.models.device import choose_precision
from annotator.models.directory import refuse_other_file
from annotator.models.families.registry import family
from annotator.models.manifest import MANIFEST_NAME, Manifest
from annotator.models.task_heads import BaseHead, HeadOptions, TaskModel
from annotator.models.token_inference import TokenClassifier, TokenScanner
from annotator.models.weights import build_with_weights, read_safetensors
from annotator.tokens.batch import RowTokenizer
from annotator.tokens.vocabulary_file import TOKENIZER_NAME, VOCABULARY_NAME

BPE_FAMILY = "dnabert2"
"""The family whose tokens nothing but a file knows."""


def load_task_model(folder: Path, manifest: Manifest) -> tuple[TaskModel, RowTokenizer]:
    """Read a fine-tuned model.

    Args:
        folder: The model directory.
        manifest: Its manifest; the family is a published one.

    Returns:
        The network in eval mode, float32, on the CPU; its tokenizer.

    Raises:
        EnvironmentFault: The tokenizer's file is missing.
        InputError: Architecture, head, tokenizer and tensors do not fit each other; the message names field or tensor.
    """
    chosen = family(manifest.family)
    where = folder / MANIFEST_NAME
    window = manifest.window is not None
    named = manifest.tokenizer.get("file")
    if named not in (None, TOKENIZER_NAME, VOCABULARY_NAME):
        raise InputError(
            f"{where}: field 'tokenizer.file' is {named!r}; only {TOKENIZER_NAME} and {VOCABULARY_NAME} are ever read"
        )
    if named is not None:
        refuse_other_file(folder / named, str(manifest.tokenizer.get("sha256")))
    elif chosen.name == BPE_FAMILY:
        raise InputError(f"{where}: field 'tokenizer.file' is missing; without its sha256 {TOKENIZER_NAME} could be any")
    try:
        options = HeadOptions.from_json(manifest.head)
        tokenizer = chosen.tokenizer(manifest.architecture, folder if named else None)
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{where}: field {error}") from None
    outputs = len(manifest.window.classes) if manifest.window else len(manifest.tracks)
    if options.outputs != outputs:
        raise InputError(f"{where}: field 'head.outputs' is {options.outputs}, but there are {outputs} tracks or classes")

    def build() -> TaskModel:
        backbone = chosen.build(manifest.architecture).backbone
        return TaskModel.build(backbone, options, window=window, causal=chosen.causal, dense=chosen.dense_window_head)

    path = folder / manifest.weights
    tensors = read_safetensors(path)
    refuse_absurd(manifest.architecture, len(tensors), where)
    try:
        model = build_with_weights(build, tensors, path)
    except (KeyError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise InputError(f"{where}: field 'architecture' is none of {chosen.name}: {error}") from None
    settle_special_ids(model, tokenizer)
    _refuse_narrow_plan(manifest, model, tokenizer, where)
    return model, tokenizer


def load_token_scanner(folder: Path, manifest: Manifest, device: torch.device, precision: str) -> TokenScanner:
    """A fine-tuned model that labels bases, ready to scan; arguments and errors as `annotator.models.loading.load_scan_model`."""
    return TokenScanner(*_on_device(folder, manifest, device, precision), manifest.track_set, device)


def load_token_classifier(folder: Path, manifest: Manifest, device: torch.device, precision: str) -> TokenClassifier:
    """A fine-tuned classifier of windows; arguments and errors as `annotator.models.loading.load_window_classifier`."""
    return TokenClassifier(*_on_device(folder, manifest, device, precision), device)


def _on_device(folder: Path, manifest: Manifest, device: torch.device, precision: str) -> tuple[TaskModel, RowTokenizer]:
    model, tokenizer = load_task_model(folder, manifest)
    return model.to(device, getattr(torch, choose_precision(precision, str(device)))).eval(), tokenizer


def _refuse_narrow_plan(manifest: Manifest, model: TaskModel, tokenizer: RowTokenizer, where: Path) -> None:
    """Raise InputError where windows and halos do not suit the network."""
    plan, longest = PlanOptions(**manifest.plan), tokenizer.longest_bp()
    if manifest.window is not None:
        return  # a window may be longer than the context: its halves are averaged
    if longest is not None and plan.window_bp > longest:
        raise InputError(f"{where}: field 'plan.window_bp' is {plan.window_bp}; the model takes {longest} bp")
    assert isinstance(model.head, BaseHead)
    widest = max((feature.width_bp for feature in manifest.features.values()), default=0)
    least = model.head.reach_bp + max(manifest.radius_bp.values(), default=0) + widest
    if plan.halo_bp < least:
        raise InputError(f"{where}: field 'plan.halo_bp' is {plan.halo_bp}; heads, radii and features reach {least} bp")
