"""From the names of a published state dict to this program's."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from annotator.models.families.base import LanguageModel, Published

_OLD_NORM_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
"""Names of norms in files from before 2019, and of every ESM that transformers 5.23 saves."""
WINDOW_HEAD_NAMES = frozenset({"dense.weight", "dense.bias", "out.weight", "out.bias"})


def sort_tensors(
    state: dict[str, Tensor], network: LanguageModel, renames: Sequence[tuple[str, str]], ignored: Sequence[str]
) -> Published:
    r"""Give every tensor of a checkpoint its place.

    Args:
        state: The published state dict.
        network: A network of the architecture, with or without data (device meta): what is not among its names is unexpected.
        renames: Regular expressions of whole published names, and what they become: `backbone.*`, `lm_head.*` or
            `window_head.*` (with \1 for a group); the first that fits counts. A LayerNorm's `gamma` and `beta` are read as
            `weight` and `bias`. Two tensors may become one if they are equal, as a tied decoder and its embedding are; where
            they are not, the later name is unexpected.
        ignored: Regular expressions of whole names that mean nothing here.

    Returns:
        The tensors by part, not copied; `ignored` and `unexpected` in alphabetical order.
    """
    known = set(network.state_dict()) | {f"window_head.{name}" for name in WINDOW_HEAD_NAMES}
    found: dict[str, Tensor] = {}
    left_out: list[str] = []
    unexpected: list[str] = []
    for name in sorted(state):
        target = _renamed(name, renames)
        if target in known and target not in found:
            found[target] = state[name]
        elif target in found and torch.equal(found[target], state[name]):
            left_out.append(name)
        elif target is None and any(re.fullmatch(pattern, name) for pattern in ignored):
            left_out.append(name)
        else:
            unexpected.append(name)

    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}

    return Published(part("backbone."), part("lm_head."), part("window_head."), tuple(left_out), tuple(unexpected))


def _renamed(name: str, renames: Sequence[tuple[str, str]]) -> str | None:
    for old, new in _OLD_NORM_NAMES.items():
        if name.endswith(old):
            name = name.removesuffix(old) + new
    for pattern, target in renames:
        match = re.fullmatch(pattern, name)
        if match is not None:
            return match.expand(target)
    return None
