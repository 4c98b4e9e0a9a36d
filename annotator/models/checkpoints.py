"""Checkpoints of the published families: read from a directory with strict checks, and written by pre-training.

Two layouts are read. The published one is `config.json`, `model.safetensors` (or its index and shards) and the tokenizer's
files, under the published tensor names. This program's own is the same files, where `config.json` holds the family's name and
architecture, and the tensors are those of `LanguageModel`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from annotator.errors import EnvironmentFault, InputError
from annotator.files import atomic_folder, write_faults
from annotator.models.families import registry as family_registry
from annotator.models.families.base import Architecture, LanguageModel, ModelFamily, Published
from annotator.models.manifest import LARGEST_SIZE, read_model_json
from annotator.models.mistaken import CONFIG_NAME, seen_in_folder
from annotator.models.options import FAMILIES
from annotator.models.weights import (
    WEIGHTS_NAME,
    build_with_weights,
    errors_naming,
    plain_tensors,
    read_weights,
    write_safetensors,
)
from annotator.tokens.batch import RowTokenizer
from annotator.tokens.vocabulary_file import read_vocabulary

logger = logging.getLogger(__name__)

FAMILY_KEY = "annotator_family"
LICENCE_KEY = "licence"
SPECIAL_IDS = ("pad_token_id", "mask_token_id")
"""Fields of a `config.json` that a vocabulary file beside it decides."""
_OWN_KEYS = frozenset({FAMILY_KEY, LICENCE_KEY})
_BAD_FIELD = (KeyError, ValueError, TypeError, AttributeError, ArithmeticError, RuntimeError)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that has passed every check.

    Attributes:
        family: The model family it belongs to.
        architecture: The architecture of the network.
        model: In eval mode, float32, on the CPU.
        has_lm_head: Whether the checkpoint brought weights for `model.lm_head`; otherwise those are random (seed 0).
        window_head: Tensors of a published classifier, by the names of a `WindowHead`; empty where it has none.
        tokenizer: The tokenizer of the network's vocabulary.
        licence: Licence of these weights, and what it forbids.
        folder: The directory it was read from.
    """

    family: ModelFamily
    architecture: Architecture
    model: LanguageModel
    has_lm_head: bool
    window_head: dict[str, Tensor]
    tokenizer: RowTokenizer
    licence: str
    folder: Path


def read_checkpoint(folder: Path, family: str | None = None) -> Checkpoint:
    """Read a checkpoint directory; nothing in it is ever run.

    Args:
        folder: The directory.
        family: Name of its family; None to tell it from `config.json`.

    Raises:
        EnvironmentFault: There is no such directory, or a weights file is missing.
        InputError: A file is missing, damaged or a pickle, asks for code, or does not fit the others; the message names the
            file and the field or tensor.
    """
    if not folder.is_dir():
        raise EnvironmentFault(f"{folder}: no such checkpoint directory")
    config = _read_config(folder)
    chosen, architecture = _architecture(config, folder / CONFIG_NAME, family)
    source, tensors = read_weights(folder)
    refuse_absurd(architecture, len(tensors), folder / CONFIG_NAME)
    tokenizer = _tokenizer(chosen, architecture, folder)
    own = FAMILY_KEY in config
    parts = _own_parts(tensors) if own else chosen.translate(tensors, architecture)
    if parts.unexpected:
        raise InputError(f"{source}: unexpected tensor {min(parts.unexpected)}; the family {chosen.name} has none of this name")
    named = {f"backbone.{name}": value for name, value in parts.backbone.items()}
    named |= {f"lm_head.{name}": value for name, value in parts.lm_head.items()}
    model = build_with_weights(lambda: chosen.build(architecture), named, source, may_lack="lm_head.")
    settle_special_ids(model, tokenizer)
    _check_window_head(parts.window_head, model.backbone.hidden, source)
    licence = str(config.get(LICENCE_KEY) or "not stated") if own else chosen.licence
    logger.info("%s: %s, licence of the weights: %s", folder, chosen.title, licence)
    has_lm_head = bool(parts.lm_head) or not model.lm_head.state_dict()  # BioGPT's is the embedding and nothing else
    return Checkpoint(chosen, architecture, model, has_lm_head, parts.window_head, tokenizer, licence, folder)


def write_checkpoint(
    folder: Path,
    chosen: ModelFamily,
    architecture: Architecture,
    model: LanguageModel,
    *,
    licence: str = "not stated",
    files: Mapping[str, str] | None = None,
) -> Path:
    """Write a network as a checkpoint directory of this program's layout; equal networks give equal bytes.

    Args:
        folder: Where to; made with its parents. A folder that is there is replaced as a whole.
        chosen: The network's family.
        architecture: The architecture it was built from.
        model: The network.
        licence: Licence of the weights: that of the checkpoint they started from, or the user's own.
        files: Text of the files that decide the ids, by name: a tokenizer's `files`.

    Returns:
        `folder`.

    Raises:
        ResourceFault: A file cannot be written; an older checkpoint stands as it was.
    """
    config = {FAMILY_KEY: chosen.name, LICENCE_KEY: licence, **architecture}
    encoded = {name: text.encode() for name, text in (files or {}).items()}
    with new_checkpoint(folder, config, plain_tensors(model), encoded):
        return folder


@contextmanager
def new_checkpoint(
    folder: Path, config: dict[str, Any], tensors: Mapping[str, Tensor], files: Mapping[str, bytes]
) -> Iterator[Path]:
    """Write the files of a checkpoint into a folder that takes its name, and the place of an older one, after the body.

    Args:
        folder: The final name; made with its parents.
        config: Contents of `config.json`.
        tensors: The weights, by name, on the CPU.
        files: Further files, such as the tokenizer's, by name.

    Yields:
        The complete folder under a temporary name, for the body to check.

    Raises:
        ResourceFault: A file cannot be written; an older checkpoint stands as it was.
    """
    with write_faults(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder) as temporary:
        with errors_naming(folder, instead_of=temporary):
            write_safetensors(temporary / WEIGHTS_NAME, tensors)
        for name, contents in {**files, CONFIG_NAME: (json.dumps(config, indent=1) + "\n").encode()}.items():
            (temporary / name).write_bytes(contents)
        yield temporary


def _read_config(folder: Path) -> dict[str, Any]:
    """Contents of `config.json`; no configuration beside it may ask for code either."""
    for path in sorted(folder.glob("*config.json")):
        raw = read_model_json(path)
        if not isinstance(raw, dict):
            raise InputError(f"{path}: not a JSON object")
        if path.name == CONFIG_NAME:
            config = raw
    if not (folder / CONFIG_NAME).is_file():
        raise InputError(f"{folder}: {seen_in_folder(folder, wants_model=False) or f'no {CONFIG_NAME}; not a checkpoint'}")
    return config


def settle_special_ids(model: nn.Module, tokenizer: RowTokenizer) -> None:
    """Tell a network the ids of padding and of hidden tokens, which a vocabulary file may have put anywhere."""
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module.num_embeddings == tokenizer.vocabulary_size:
            if module.padding_idx is not None:
                module.padding_idx = tokenizer.pad_id
        if hasattr(module, "mask_token_id") and tokenizer.mask_id is not None:
            setattr(module, "mask_token_id", tokenizer.mask_id)  # noqa: B010 - of a stock class, which declares nothing


def _architecture(config: dict[str, Any], path: Path, name: str | None) -> tuple[ModelFamily, Architecture]:
    """Family and architecture that a `config.json` stands for."""
    own = config.get(FAMILY_KEY)
    if own is not None:
        if own not in FAMILIES:
            raise InputError(f"{path}: field {FAMILY_KEY!r}: {own!r} is not one of {', '.join(FAMILIES)}")
        if name not in (None, own):
            raise InputError(f"{path}: a checkpoint of the family {own}, not of {name}")
        return family_registry.family(own), {key: value for key, value in config.items() if key not in _OWN_KEYS}
    try:
        chosen = family_registry.family(name or family_registry.detect_family(config))
        return chosen, chosen.read_config(_usual_ids(config, path))
    except _BAD_FIELD as error:
        raise InputError(f"{path}: field {_reason(error)}") from None


def _usual_ids(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """A configuration without those ids of special tokens that are the vocabulary's beside it."""
    found = read_vocabulary(path.parent) if {config.get(field) for field in SPECIAL_IDS} != {None} else None
    left = dict(config)
    for field, names in zip(SPECIAL_IDS, (("[PAD]", "<pad>"), ("[MASK]", "<mask>")), strict=True):
        ids = [found.ids[name] for name in names if name in found.ids] if found else []
        if ids and config.get(field) == ids[0]:
            del left[field]
    return left


def _own_parts(tensors: dict[str, Tensor]) -> Published:
    """The tensors of this program's layout, sorted into the parts of a network."""
    parts: dict[str, dict[str, Tensor]] = {"backbone": {}, "lm_head": {}}
    unexpected = []
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        if part in parts:
            parts[part][rest] = value
        else:
            unexpected.append(name)
    return Published(parts["backbone"], parts["lm_head"], {}, (), tuple(unexpected))


def _tokenizer(chosen: ModelFamily, architecture: Architecture, folder: Path) -> RowTokenizer:
    """The tokenizer, with as many ids as the network has."""
    path = folder / CONFIG_NAME
    try:
        tokenizer = chosen.tokenizer(architecture, folder)
        with torch.device("meta"):  # a network without memory says how many ids it has
            blank = chosen.build(architecture)
            size = blank.lm_head(torch.empty(1, blank.backbone.hidden)).shape[1]
    except _BAD_FIELD as error:
        raise InputError(f"{path}: not an architecture of {chosen.name}: {_reason(error)}") from None
    if tokenizer.vocabulary_size != size:
        raise InputError(f"{path}: a network of {size} ids, but the tokenizer has {tokenizer.vocabulary_size}")
    return tokenizer


def refuse_absurd(architecture: Architecture, tensors: int, path: Path) -> None:
    """Raise InputError where a network of this size cannot be meant, before one is built."""
    for key, value in architecture.items():
        if not isinstance(value, int) or isinstance(value, bool):
            continue
        if not 0 <= value <= LARGEST_SIZE:
            raise InputError(f"{path}: field {key!r} is {value}, not within 0..{LARGEST_SIZE}")
        if "layer" in key and value > tensors:
            raise InputError(f"{path}: field {key!r} is {value}, but the checkpoint has only {tensors} tensors")


def _check_window_head(head: dict[str, Tensor], hidden: int, source: Path) -> None:
    """Raise InputError where a published classifier does not fit its network."""
    classes = len(head["out.weight"]) if "out.weight" in head else None
    shapes = {"dense.weight": [hidden, hidden], "dense.bias": [hidden], "out.weight": [classes, hidden], "out.bias": [classes]}
    for name, value in head.items():
        if list(value.shape) != shapes.get(name):
            raise InputError(f"{source}: tensor {name} of the classifier has shape {list(value.shape)}, not {shapes.get(name)}")


def _reason(error: Exception) -> str:
    """The message of an exception, or its class where it has none."""
    return str(error) or type(error).__name__
