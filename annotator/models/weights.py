"""Weights in safetensors files: read with strict checks, loaded only where they are exactly a network's, written whole."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from annotator.errors import EnvironmentFault, InputError, ResourceFault
from annotator.files import atomic_file, stand_in
from annotator.models.manifest import read_model_json

logger = logging.getLogger(__name__)

WEIGHTS_NAME = "model.safetensors"
INTEGERS_NAME = "integers.safetensors"
INDEX_NAME = "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
"""Suffixes of files that only the converter opens."""

Net = TypeVar("Net", bound=nn.Module)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors of one safetensors file, on the CPU.

    Raises:
        EnvironmentFault: There is no such file, or it cannot be read.
        InputError: It is damaged.
    """
    if not path.is_file():
        raise EnvironmentFault(f"{path}: weights file is missing")
    if instead := stand_in(path):
        raise InputError(f"{path}: {instead}")
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path}: damaged safetensors file ({error})") from None
    except OSError as error:
        raise EnvironmentFault(f"{path}: {error.strerror or error}") from None
    return tensors


def read_weights(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    """Tensors of a directory: of `model.safetensors`, or of the shards that its index names.

    Returns:
        The file that errors about the tensors should name, and the tensors on the CPU.

    Raises:
        EnvironmentFault: A shard is missing.
        InputError: There are no safetensors files, one is damaged, or the index does not fit them.
    """
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    single, index = folder / WEIGHTS_NAME, folder / INDEX_NAME
    if single.is_file() or index.is_file():
        if pickles:
            logger.info("%s: %s left unread; only `annotator models convert` opens pickles", folder, ", ".join(pickles))
        return (single, read_safetensors(single)) if single.is_file() else (index, _read_shards(index))
    if pickles:
        if instead := stand_in(folder / pickles[0]):
            raise InputError(f"{folder / pickles[0]}: {instead}")
        raise InputError(
            f"{folder / pickles[0]}: a pickle, which can run code when it is opened; "
            f"`annotator models convert` makes a {WEIGHTS_NAME} of it safely"
        )
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    said = f"; rename {others[0]} if it holds the weights" if others else "; not a checkpoint"
    raise InputError(f"{folder}: no {WEIGHTS_NAME}{said}")


def _read_shards(index: Path) -> dict[str, Tensor]:
    raw = read_model_json(index)
    places = raw.get("weight_map") if isinstance(raw, dict) else None
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise InputError(f"{index}: field 'weight_map' is not a table of tensor names and file names")
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(places.values())):
        path = index.parent / name
        if Path(name).name != name or path.suffix != ".safetensors":
            raise InputError(f"{index}: field 'weight_map': {name!r} is not a .safetensors file beside it")
        shard = read_safetensors(path)
        expected = {tensor for tensor, place in places.items() if place == name}
        if odd := sorted(expected ^ shard.keys()):
            what = "is missing, but the index says it is there" if odd[0] in expected else "is not in the index"
            raise InputError(f"{path}: tensor {odd[0]} {what}")
        tensors |= shard
    return tensors


def build_with_weights(
    build: Callable[[], Net], tensors: Mapping[str, Tensor], source: Path, *, may_lack: str | None = None
) -> Net:
    """Build a network whose weights are exactly these; torch's random state stays as it was.

    Args:
        build: Makes the network with random weights.
        tensors: By name; names that stand for one and the same tensor of the network (tied weights) need one value.
        source: File to name in errors.
        may_lack: Prefix of names that may be absent together; they then keep weights drawn from seed 0.

    Returns:
        The network in eval mode, on the CPU.

    Raises:
        InputError: A tensor is missing, unexpected, of the wrong shape or type, or tied to one of another value.

    Notes:
        The network is built without memory first, so that an absurd architecture costs none.
    """
    with torch.device("meta"):
        _check(build(), tensors, source, may_lack)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build()
    with torch.no_grad():
        for name, value in net.state_dict(keep_vars=True).items():
            if name in tensors:
                value.copy_(tensors[name])
    return net.eval()


def _check(blank: nn.Module, tensors: Mapping[str, Tensor], source: Path, may_lack: str | None) -> None:
    expected: dict[str, Tensor] = blank.state_dict(keep_vars=True)
    if unexpected := sorted(tensors.keys() - expected.keys()):
        raise InputError(f"{source}: unexpected tensor {unexpected[0]}")
    optional = may_lack is not None and not any(name.startswith(may_lack) for name in tensors)
    given: dict[int, str] = {}  # name of the value of each tensor of the network
    for name in expected.keys() & tensors.keys():
        given.setdefault(id(expected[name]), name)
    for name, place in expected.items():
        if id(place) not in given and not (optional and may_lack is not None and name.startswith(may_lack)):
            raise InputError(f"{source}: tensor {name} is missing")
        if name not in tensors:
            continue
        value = tensors[name]
        if value.shape != place.shape:
            raise InputError(f"{source}: tensor {name} has shape {list(value.shape)}, expected {list(place.shape)}")
        if value.is_floating_point() != place.is_floating_point():
            raise InputError(f"{source}: tensor {name} is of type {value.dtype}, expected {place.dtype}")
        first = given[id(place)]
        if first != name and not torch.equal(tensors[first], value):
            raise InputError(f"{source}: tensor {name} differs from {first}, but they are one and the same in this network")


@contextmanager
def errors_naming(folder: Path, *, instead_of: Path) -> Iterator[None]:
    """Make the errors of the body name a folder that the user knows in place of the temporary one that is being filled.

    Raises:
        InputError: The body raised one.
        ResourceFault: The body raised one.
    """
    try:
        yield
    except (InputError, ResourceFault) as error:
        raise type(error)(str(error).replace(str(instead_of), str(folder))) from None


def plain_tensors(net: nn.Module) -> dict[str, Tensor]:
    """A network's state for `write_safetensors`: on the CPU, and of tied weights only the first name."""
    seen: set[int] = set()
    tensors: dict[str, Tensor] = {}
    for name, value in net.state_dict(keep_vars=True).items():
        if id(value) not in seen:
            seen.add(id(value))
            tensors[name] = value.detach().cpu().contiguous()
    return tensors


def write_safetensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, whole or not at all.

    Raises:
        ResourceFault: It cannot be written.
    """
    with atomic_file(path) as temporary:
        temporary.touch()
        usual = temporary.stat().st_mode  # the library makes a file that its owner alone can read
        try:
            save_file(dict(tensors), temporary, metadata={"format": "pt"})
        except SafetensorError as error:  # which is no OSError, also where the disk is full
            raise ResourceFault(f"{path}: cannot be written ({error})") from None
        temporary.chmod(usual)
