"""What a compact network starts from: random weights, those of a finished model, or those of a bare checkpoint.

A start may be smaller than the network: it may have fewer clade biases, fewer channels in the trunk, and fewer blocks at its end.
What it lacks is added so that the network begins as the very function that the start is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from annotator.errors import InputError, UsageError
from annotator.files import file_sha256
from annotator.models.directory import read_model
from annotator.models.families.compact.net import CompactConfig, CompactNet
from annotator.models.families.compact.scan import load_compact
from annotator.models.manifest import Manifest
from annotator.models.weights import read_safetensors
from annotator.training.calibrate import own_clade
from annotator.training.compact.options import TrainingSettings

COMPACT = "compact"
TRUNK = ("down.", "blocks.", "up.weight")
"""Tensors that the channels of the trunk are a dimension of."""
_BLOCK = re.compile(r"blocks\.(\d+)\.")


def is_bare(init: str) -> bool:
    """Whether a start is a bare checkpoint, which says nothing of its architecture, and not a model."""
    return init.endswith(".safetensors")


def like_its_start(settings: TrainingSettings) -> TrainingSettings:
    """Settings with the architecture, the tokens and the windows of the model that the run goes on from.

    Args:
        settings: Settings whose `init` names a model.

    Returns:
        The settings; the network has a bias for each clade of today, also where the model has fewer.

    Raises:
        AnnotatorError: There is no such model, it is damaged, or it is of another family.
    """
    if is_bare(settings.init):
        raise UsageError("a bare checkpoint does not say its architecture; name the recipe that does", "init", settings.init)
    _, manifest = _model(settings.init)
    clades = max(manifest.architecture["clades"], CompactConfig.clades)
    return replace(
        settings, k=manifest.tokenizer["k"], architecture=manifest.architecture | {"clades": clades}, plan=manifest.plan,
        radius_bp=manifest.radius_bp,
    )  # fmt: skip


def first_network(settings: TrainingSettings) -> tuple[CompactNet, str | None]:
    """The network of a run with its first weights.

    Args:
        settings: Settings of the run.

    Returns:
        The network on the CPU, and the sha256 of the weights it goes on from; None where they are random.

    Raises:
        UsageError: The weights that the run is to go on from are those of another architecture.
        AnnotatorError: There is no such model or checkpoint, or it is damaged.
    """
    config = _config(settings.architecture)
    if not settings.init:
        return CompactNet(config), None
    if is_bare(settings.init):
        path = Path(settings.init)
        if not path.is_file():
            raise UsageError("no such file", "init", settings.init)
        return _grown(config, read_safetensors(path), path), file_sha256(path)
    folder, manifest = _model(settings.init)
    theirs = _config(manifest.architecture)
    _refuse_other("k", settings.k, manifest.tokenizer["k"], settings.init)
    grown = replace(
        theirs, clades=max(theirs.clades, config.clades), dilations=_longer(theirs.dilations, config.dilations),
        trunk_channels=max(theirs.trunk_channels, config.trunk_channels),
    )  # fmt: skip
    if grown != config:
        _refuse_other("architecture", config.as_dict(), theirs.as_dict(), settings.init)
    with torch.random.fork_rng(devices=[]):  # the network below alone draws: the same recipe is to give the same losses
        clade = own_clade([organism.clade for organism in settings.organisms], manifest.clades)
        start = load_compact(folder, manifest, clade).state_dict()
    return _grown(config, start, folder / manifest.weights), manifest.weights_sha256


def _model(init: str) -> tuple[Path, Manifest]:
    """Folder and manifest of a compact model that labels bases."""
    folder, manifest = read_model(init)
    if manifest.family != COMPACT or manifest.window is not None:
        what = "classifies windows" if manifest.window is not None else f"is of the family {manifest.family}"
        raise UsageError(f"it {what}; training goes on from a compact model that labels bases", "init", init)
    return folder, manifest


def _config(architecture: Mapping[str, Any]) -> CompactConfig:
    return CompactConfig(**{**architecture, "dilations": tuple(architecture["dilations"])})


def _longer(start: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    """The wanted dilations where those of a start are their beginning; else those of the start."""
    return wanted if wanted[: len(start)] == start else start


def _refuse_other(name: str, ours: object, theirs: object, init: str) -> None:
    if ours != theirs:
        raise UsageError(f"it has {name} {theirs}, but the recipe {ours}; leave the recipe out", "init", init)


def _grown(config: CompactConfig, start: Mapping[str, Tensor], source: Path) -> CompactNet:
    """A network in training mode that is the same function as a smaller start.

    Args:
        config: The architecture of the network.
        start: The weights of the start, by name.
        source: Their file, for messages.

    Raises:
        InputError: A tensor of the start is missing, unexpected or of another shape.

    Notes:
        A new clade begins as the clade-free bias. A new block has a norm whose weight and bias are 0: its output is 0 until it
        has learnt, and the gradient of that weight is not. New channels of the trunk begin random, and no old channel reads them.
    """
    net = CompactNet(config)
    blocks = 1 + max((int(found[1]) for name in start if (found := _BLOCK.match(name))), default=-1)
    expected = net.state_dict()
    if unexpected := sorted(set(start) - set(expected)):
        raise InputError(f"{source}: unexpected tensor {unexpected[0]}")
    tensors = {}
    for name, value in expected.items():
        block = _BLOCK.match(name)
        if block and int(block[1]) >= blocks:
            tensors[name] = torch.zeros_like(value) if name.endswith("norm.weight") else value
            continue
        if name not in start:
            raise InputError(f"{source}: tensor {name} is missing")
        given = start[name]
        if name.endswith("clade.weight") and given.ndim == 2 and 0 < len(given) < len(value):
            given = torch.cat([given, given[:1].expand(len(value) - len(given), -1)])
        if name.startswith(TRUNK) and _fits_in(given, value):
            given = _widened(given, value)
        if given.shape != value.shape:
            raise InputError(f"{source}: tensor {name} has shape {list(given.shape)}, the recipe's network {list(value.shape)}")
        tensors[name] = given
    net.load_state_dict(tensors)
    return net.train()


def _fits_in(given: Tensor, drawn: Tensor) -> bool:
    """Whether a tensor has as many dimensions as another, and none is longer."""
    return given.ndim == drawn.ndim and all(few <= many for few, many in zip(given.shape, drawn.shape, strict=True))


def _widened(given: Tensor, drawn: Tensor) -> Tensor:
    """A tensor of the trunk with more channels: the given ones as they are, the others as drawn.

    Args:
        given: Tensor of the start; the kernel of a convolution is [outputs, inputs, width], others [channels] or
            [clades, channels].
        drawn: The random tensor of the network.
    """
    if given.shape == drawn.shape:
        return given
    wide = drawn.clone()
    if given.ndim == 3:
        wide[: given.shape[0], given.shape[1] :] = 0.0
    wide[tuple(slice(size) for size in given.shape)] = given
    return wide
