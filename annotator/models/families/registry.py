"""Families by name, and how a published configuration is told apart; a family's code is loaded when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from annotator.errors import UsageError
from annotator.models.options import FAMILIES, FAMILY_ROWS

if TYPE_CHECKING:
    from annotator.models.families.base import ModelFamily, ScanFamily


def scan_family(name: str) -> ScanFamily:
    """The family of a manifest.

    Raises:
        KeyError: There is none of this name.
    """
    found: ScanFamily = import_module(FAMILY_ROWS[name].module).FAMILY
    return found


def family(name: str) -> ModelFamily:
    """A family of language models by name.

    Raises:
        UsageError: There is none of this name.
    """
    if name not in FAMILIES:
        raise UsageError(f"no model family {name!r}: choose from {', '.join(FAMILIES)}")
    found: ModelFamily = import_module(FAMILY_ROWS[name].module).FAMILY
    return found


def detect_family(config: dict[str, Any]) -> str:
    """The family that a published `config.json` belongs to.

    Args:
        config: Its contents.

    Raises:
        ValueError: It fits none; the message names the field.
    """
    kind, size = config.get("model_type"), config.get("vocab_size")
    if kind == "biogpt":
        return "biogpt"
    if kind == "esm":
        return "nucleotide-transformer"
    if "alibi_starting_size" in config or (kind in (None, "bert") and size == 4096):
        return "dnabert2"  # its config.json has had no model_type since 2024
    if kind in (None, "bert", "dna") and size in {4**k + 5 for k in (3, 4, 5, 6)}:
        return "dnabert"
    raise ValueError(
        f"'model_type' is {kind!r} with 'vocab_size' {size!r}: no family of this program; name one ({', '.join(FAMILIES)})"
    )
