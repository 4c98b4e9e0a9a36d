"""The converter: the one place where pickles are opened, for their tensors only, and never run.

Published checkpoints (`pytorch_model.bin` beside a `config.json`) become directories of the same layout with safetensors and
without requests for code; OpenSpliceAI's state dicts become a model directory that `annotator annotate --model` takes.
"""

from __future__ import annotations

import json
import logging
import pickle
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from annotator.errors import InputError, UsageError
from annotator.files import file_sha256, stand_in
from annotator.kinds import CLADES, TRACK_KIND
from annotator.models.checkpoints import new_checkpoint, read_checkpoint
from annotator.models.directory import write_model
from annotator.models.families.dilated_cnn import CLASS_OF_TRACK, SKIP_EVERY, DilatedConfig, DilatedNet
from annotator.models.manifest import CODE_KEYS, Calibration, CladeSettings, Manifest
from annotator.models.mistaken import CONFIG_NAME, seen_in_folder, seen_in_name
from annotator.models.weights import (
    INDEX_NAME,
    PICKLES,
    WEIGHTS_NAME,
    build_with_weights,
    errors_naming,
    read_weights,
)
from annotator.tokens.vocabulary_file import TOKENIZER_NAME, VOCABULARY_NAME

logger = logging.getLogger(__name__)

DILATED_FAMILY = "dilated_cnn"
WIDTHS = (11,) * 8 + (21,) * 4 + (41,) * 4
DILATIONS = (1,) * 4 + (4,) * 4 + (10,) * 4 + (25,) * 4
"""Widths and dilations of OpenSpliceAI's residual units, in order.

Networks of 80 nt of context have the first 4 units, those of 400 nt 8, of 2000 nt 12, and of 10000 nt all 16.
"""
RADIUS_BP = 2
"""A splice site's call is the highest probability within so many bases, as with the bundled model."""
THRESHOLD = 0.5
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_ATTENTION_KEYS = frozenset({"attn_implementation", "_attn_implementation"})
_PICKLE_INDEX = "pytorch_model.bin.index.json"
_NOT_WEIGHTS = ("training_args", "optimizer", "scheduler", "rng_state", "scaler")


def convert(sources: Sequence[Path], out: Path, family: str | None = None) -> Path:
    """Convert pickled weights into a directory of plain data, checked by reading it back.

    Args:
        sources: A checkpoint directory; a file of weights beside its `config.json`; or OpenSpliceAI state dicts of one context
            length, whose probabilities the model then averages.
        out: The directory to make; must not exist.
        family: Family of the weights; None to tell it from them.

    Returns:
        `out`.

    Raises:
        UsageError: A source is missing, `out` exists, or the sources are not one model.
        InputError: A source is damaged, holds more than tensors, or does not fit its family; nothing of it was run.
        ResourceFault: The result cannot be written.
    """
    if out.exists() or out.is_symlink():
        raise UsageError(f"{out}: exists already")
    if missing := [path for path in sources if not path.exists()]:
        hint = seen_in_name(str(missing[0]), wants_model=False)
        raise UsageError(f"{missing[0]}: no such file or directory" + (f"; {hint}" if hint else ""))
    if len(sources) == 1 and sources[0].is_dir() and (sources[0] / CONFIG_NAME).is_file():
        return _convert_published(sources[0], _tensors_of_folder(sources[0]), out, family)
    if len(sources) == 1 and sources[0].is_dir() and (hint := _no_weights(sources[0])):
        raise UsageError(f"{sources[0]}: {hint}")
    files = [file for path in sources for file in (_weight_files(path) if path.is_dir() else [path])]
    if not files:
        raise UsageError(f"{', '.join(map(str, sources)) or 'no sources'}: neither a {CONFIG_NAME} nor a file of weights")
    states = {path: read_pickled_tensors(path) for path in files}
    if family == DILATED_FAMILY or (family is None and all("initial_conv.weight" in state for state in states.values())):
        return _convert_dilated(states, out)
    if len(files) > 1:
        raise UsageError(f"{files[1]}: several files are one model only where all are OpenSpliceAI state dicts")
    if not (files[0].parent / CONFIG_NAME).is_file():
        raise UsageError(f"{files[0]}: no {CONFIG_NAME} beside it, and not an OpenSpliceAI state dict")
    return _convert_published(files[0].parent, states[files[0]], out, family)


def read_pickled_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a state dict saved by torch, on the CPU; anything else in the file is refused without being run.

    Raises:
        InputError: The file is damaged, or holds more than tensors; the message names the entry where there is one.
    """
    if instead := stand_in(path):
        raise InputError(f"{path}: {instead}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles torch may not understand: it raises where it does not
            raw = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own text advises to open the file with its code, which this program never does.
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        said = f"holds {named[1]}, which is no tensor" if named else "holds more than tensors, or is damaged"
        raise InputError(f"{path}: {said}; nothing of it was run") from None
    except (RuntimeError, LookupError, ValueError, TypeError, AttributeError, AssertionError, EOFError, OSError) as error:
        reason = " ".join(str(error).split()).partition("weights_only")[0][:200]
        raise InputError(f"{path}: not a state dict saved by torch ({reason})") from None
    for wrapper in _WRAPPERS:
        if isinstance(raw, dict) and isinstance(raw.get(wrapper), dict):
            raw = raw[wrapper]
    if not isinstance(raw, dict) or not raw:
        raise InputError(f"{path}: not a state dict, but a {type(raw).__name__}")
    for name, value in raw.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized:
            raise InputError(f"{path}: entry {name!r} is not a plain tensor")
    prefix = "module." if all(name.startswith("module.") for name in raw) else ""
    # A clone each: tensors that share memory cannot be written as safetensors.
    return {name.removeprefix(prefix): value.detach().clone().contiguous() for name, value in raw.items()}


def _no_weights(folder: Path) -> str:
    """What a folder without weights to convert seems to be; nothing where it has some."""
    return "" if _weight_files(folder) else seen_in_folder(folder, wants_model=False)


def _weight_files(folder: Path) -> list[Path]:
    """Pickled weights of a directory, by name; not what trainers leave beside them."""
    return [path for path in sorted(folder.iterdir()) if path.suffix in PICKLES and not path.name.startswith(_NOT_WEIGHTS)]


def _tensors_of_folder(folder: Path) -> dict[str, Tensor]:
    """Tensors of a published checkpoint, from safetensors where there are some."""
    if (folder / WEIGHTS_NAME).is_file() or (folder / INDEX_NAME).is_file():
        return read_weights(folder)[1]
    index = folder / _PICKLE_INDEX
    if not index.is_file():
        files = _weight_files(folder)
        if len(files) != 1:
            found = f"several files of weights ({', '.join(path.name for path in files)})" if files else "no file of weights"
            raise UsageError(f"{folder}: {found}; name the one to convert")
        return read_pickled_tensors(files[0])
    raw = _read_json(index)
    names = raw.get("weight_map")
    shards = sorted({str(name) for name in names.values()}) if isinstance(names, dict) else []
    tensors: dict[str, Tensor] = {}
    for name in shards:
        if Path(name).name != name or not (folder / name).is_file():
            raise InputError(f"{index}: field 'weight_map': {name!r} is not a file beside it")
        tensors |= read_pickled_tensors(folder / name)
    if not isinstance(names, dict) or tensors.keys() != names.keys():
        raise InputError(f"{index}: field 'weight_map' does not name the tensors of its files")
    return tensors


def _convert_published(folder: Path, tensors: dict[str, Tensor], out: Path, family: str | None) -> Path:
    config = _without_code(_read_json(folder / CONFIG_NAME), folder / CONFIG_NAME)
    files = {name: (folder / name).read_bytes() for name in (TOKENIZER_NAME, VOCABULARY_NAME) if (folder / name).is_file()}
    with new_checkpoint(out, config, tensors, files) as temporary, errors_naming(folder, instead_of=temporary):
        read_checkpoint(temporary, family)  # the user knows the source, which is what the errors name
    return out


def _read_json(path: Path) -> dict[str, Any]:
    if instead := stand_in(path):
        raise InputError(f"{path}: {instead}")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from None
    if not isinstance(raw, dict):
        raise InputError(f"{path}: not a JSON object")
    return raw


def _without_code(value: Any, path: Path) -> Any:
    """A configuration without the keys, at any depth, by which transformers would import code; says what it drops."""
    if isinstance(value, list):
        return [_without_code(inner, path) for inner in value]
    if not isinstance(value, dict):
        return value
    dropped = value.keys() & (CODE_KEYS | _ATTENTION_KEYS)
    for key in sorted(dropped):
        logger.info("%s: %s left out; this program runs no code of a model's", path, key)
    return {key: _without_code(inner, path) for key, inner in value.items() if key not in dropped}


def _convert_dilated(states: dict[Path, dict[str, Tensor]], out: Path) -> Path:
    """A model directory of OpenSpliceAI's networks, averaged."""
    config: DilatedConfig | None = None
    tensors: dict[str, Tensor] = {}
    for number, (path, state) in enumerate(states.items()):
        own = _dilated_config(path, state)
        if config is not None and own != config:
            raise InputError(f"{path}: another context length than {next(iter(states))}: {2 * own.reach_bp} nt")
        config = own
        build_with_weights(lambda: DilatedNet(own), state, path)  # noqa: B023 - called at once
        tensors |= {f"networks.{number}.{name}": value for name, value in state.items()}
    assert config is not None
    config = DilatedConfig(config.channels, config.widths, config.dilations, len(states))
    write_model(out, _dilated_manifest(config, list(states)), tensors)
    logger.info("%s: OpenSpliceAI's weights are licensed under GPL-3.0; so is what is made of them", out)
    return out


def _dilated_config(path: Path, state: dict[str, Tensor]) -> DilatedConfig:
    """Shape of the network a state dict is of; its dilations are not in it, so only the published ones are known."""
    units = sorted(int(name.split(".")[1]) for name in state if name.startswith("residual_units.") and ".conv1.weight" in name)
    widths = tuple(int(state[f"residual_units.{unit}.conv1.weight"].shape[-1]) for unit in units)
    stem = state.get("initial_conv.weight")
    if stem is None or not widths or len(widths) % SKIP_EVERY or widths != WIDTHS[: len(widths)]:
        raise InputError(f"{path}: not an OpenSpliceAI state dict of 80, 400, 2000 or 10000 nt of context")
    return DilatedConfig(len(stem), widths, DILATIONS[: len(widths)])


def _dilated_manifest(config: DilatedConfig, sources: list[Path]) -> Manifest:
    """The manifest of averaged networks; its version is the one that `write_model` takes from the weights."""
    halo = -(-(config.reach_bp + RADIUS_BP) // 8) * 8
    tracks = tuple(CLASS_OF_TRACK)
    networks = "the network's softmax" if config.networks == 1 else f"the mean softmax of {config.networks} networks"
    kinds = tuple(TRACK_KIND[track] for track in tracks)
    settings = CladeSettings(
        index=0,
        thresholds=dict.fromkeys(kinds, THRESHOLD),
        calibration=dict.fromkeys(kinds, Calibration()),
        validated=(),
        note=f"uncalibrated: the probability is {networks}, and the threshold {THRESHOLD} was not chosen on data",
    )
    mean = f"-mean{config.networks}" if config.networks > 1 else ""
    return Manifest(
        name=f"openspliceai-{2 * config.reach_bp}nt{mean}",
        version="",
        family=DILATED_FAMILY,
        architecture=config.as_dict(),
        tokenizer={},
        plan={
            "window_bp": 98304,
            "halo_bp": halo,
            "pad_bp": halo,  # the networks were trained with that much N beyond a contig's end
            "smallest_bp": 1 << (3 * halo).bit_length(),
            "align_bp": 1,
        },
        tracks=tracks,
        radius_bp=dict.fromkeys(kinds, RADIUS_BP),
        clades=dict.fromkeys(CLADES, settings),
        licence="GPL-3.0-only",
        weights="",
        weights_sha256="",
        training={
            "note": "weights of OpenSpliceAI (Chao et al., 2025), converted; none of this program's training",
            "files": [{"name": path.name, "sha256": file_sha256(path)} for path in sources],
        },
    )
