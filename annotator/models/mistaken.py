"""What a path or name that is no model, or no checkpoint, seems to be, and which command is meant: one line, for messages."""

from __future__ import annotations

import re
from pathlib import Path

from annotator.models.manifest import MANIFEST_NAME
from annotator.models.options import FAMILIES

CONFIG_NAME = "config.json"
ADAPTER_NAME = "adapter_config.json"
_HUB = re.compile(r"(?:https?://huggingface\.co/)?([\w.-]+/[\w.-]+)/?", re.ASCII)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


def seen_in_folder(folder: Path, *, wants_model: bool) -> str:
    """What a folder seems to be.

    Args:
        folder: The folder; it is not what was wanted.
        wants_model: Whether a model to annotate with was wanted; otherwise a checkpoint to begin from.

    Returns:
        What it is and what helps; nothing where it looks like none of the things known.
    """
    if (folder / "model" / MANIFEST_NAME).is_file():
        if wants_model:
            return f"the folder of a run; its model is {folder / 'model'}"
        return f"the folder of a run, with a finished model; give `annotator annotate --model {folder / 'model'}`"
    if (folder / "checkpoint" / CONFIG_NAME).is_file():
        command = "`annotator finetune --base" if wants_model else "give"
        return f"the folder of a pre-training run; {command} {folder / 'checkpoint'}{'`' if wants_model else ''}"
    if (folder / "snapshots").is_dir():
        found = sorted(str(path) for path in (folder / "snapshots").iterdir() if path.is_dir())
        return f"a repository in the hub's cache; give one of its snapshots: {', '.join(found[:3]) or 'there is none'}"
    has_config = (folder / CONFIG_NAME).is_file()
    if (folder / ADAPTER_NAME).is_file() and not has_config:
        return (
            "an adapter alone (adapter_config.json), without the network it changes; merge it into its base model "
            "(peft's merge_and_unload, then save_pretrained) and give that folder to `annotator finetune --base`"
        )
    if wants_model and has_config:
        return f"a checkpoint, which calls nothing yet; `annotator finetune --base {folder}` makes a model of it"
    if not wants_model and (folder / MANIFEST_NAME).is_file():
        return f"a finished model; give `annotator annotate --model {folder}`, or begin from a checkpoint"
    if not has_config and any(path.suffix in _PICKLES for path in folder.iterdir()):
        return f"pickled weights; `annotator models convert {folder} -o NEW_FOLDER` makes plain data of them"
    return ""


def seen_in_name(name: str, *, wants_model: bool) -> str:
    """What a name that is no folder seems to be; arguments and result as in `seen_in_folder`."""
    if name.startswith("hub:"):
        return f"a checkpoint on the hub, which calls nothing yet; `annotator finetune --base {name}` makes a model of it"
    family = name.partition(":")[0]
    if family in FAMILIES:
        said = f"a family of networks with random weights: `annotator finetune --base {family}:SIZE`"
        return said if wants_model else f"give the size of the network, such as {family}:small, or a checkpoint of the family"
    if (found := _HUB.fullmatch(name)) and Path(name).suffix not in _PICKLES:
        given = f"hub:{found[1]}@COMMIT --allow-download"
        what = f"`annotator finetune --base {given}`" if wants_model else f"give {given}"
        return f"if it is a model of the Hugging Face hub: {what}, with the 40 digits of a commit"
    return ""
