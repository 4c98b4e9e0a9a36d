"""The folder of a training run: locked while it runs, with a checkpoint that a kill cannot break and a file of metrics."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from annotator.errors import InputError, UsageError
from annotator.files import FolderLock, sweep_temporaries, write_faults, write_text
from annotator.models.weights import write_safetensors

STATE_NAME = "state.json"
METRICS_NAME = "metrics.jsonl"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder, so that two runs cannot write their checkpoints over each other's, and remove what a killed one left.

    Raises:
        UsageError: Another run holds it.
    """
    with write_faults(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with closing(FolderLock(folder / "lock", folder)):
        sweep_temporaries(folder)
        yield


def write_state(folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write a checkpoint: tensors first, then the small JSON that makes them current; a kill leaves the older pair whole.

    Args:
        folder: Folder of the run.
        step: Steps done; one of the two files is named after it.
        tensors: Tensors by name.
        state: JSON values: what the run is, and where it stands.

    Raises:
        ResourceFault: A file cannot be written.
    """
    name = f"state-{step}.safetensors"
    write_safetensors(folder / name, {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()})
    write_text(folder / STATE_NAME, json.dumps({"step": step, "tensors": name, **state}, indent=1))
    for old in folder.glob("state-*.safetensors"):
        if old.name != name:
            old.unlink()


def read_state(folder: Path, device: torch.device) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """The checkpoint of a folder.

    Returns:
        The JSON values and the tensors on `device`; None where no checkpoint has been written.

    Raises:
        InputError: The file is damaged.
    """
    path = folder / STATE_NAME
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return state, load_file(folder / state["tensors"], device=str(device))
    except (ValueError, KeyError, TypeError, SafetensorError, FileNotFoundError) as error:
        raise InputError(f"{path}: not a checkpoint of this program ({error})") from None


def refuse_another_run(folder: Path, then: Mapping[str, Any], now: Mapping[str, Any], may_change: Sequence[str]) -> None:
    """See that a folder's run is the one that is to go on.

    Args:
        folder: Folder of the run.
        then: The settings in its checkpoint.
        now: The settings asked for.
        may_change: Names of settings that may differ: a run's length, not what it learns from.

    Raises:
        UsageError: Another setting differs; the message names it with both values.
    """
    now = json.loads(json.dumps(now))  # as it would be read back
    for key in sorted(set(then) | set(now)):
        if key not in may_change and then.get(key) != now.get(key):
            old, new = (str(values.get(key))[:60] for values in (then, now))
            raise UsageError(f"{folder}: holds a run with {key} = {old}, now {new}; use another folder")


def append_metrics(folder: Path, row: Mapping[str, float]) -> None:
    """Add a line to the run's metrics, numbers rounded to five decimals."""
    with (folder / METRICS_NAME).open("a", encoding="utf-8") as file:
        file.write(json.dumps({key: value if isinstance(value, int) else round(value, 5) for key, value in row.items()}) + "\n")


def forget_metrics_after(folder: Path, step: int) -> None:
    """Drop the lines of steps that a kill undid."""
    path = folder / METRICS_NAME
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if line.endswith("}") and json.loads(line)["step"] <= step]
        path.write_text("".join(line + "\n" for line in lines))


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimiser's moments, by `<index of the parameter>.<name>`."""
    moments = optimizer.state_dict()["state"]
    return {f"{index}.{name}": torch.as_tensor(value) for index, state in moments.items() for name, value in state.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put the moments of `optimizer_tensors` back."""
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        moments.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under `<prefix>.<name>`."""
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of `<prefix>.<name>`, by name."""
    return {name[len(prefix) + 1 :]: value for name, value in tensors.items() if name.startswith(f"{prefix}.")}
