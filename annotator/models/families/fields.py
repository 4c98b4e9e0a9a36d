"""Checks that the families' configurations share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

LARGEST_SIZE = 1 << 20
"""The largest value of any size in an architecture; far beyond what a network has."""


def check_architecture(architecture: Any) -> None:
    """Refuse a frozen dataclass whose values cannot make a network; a whole number in a float field becomes a float.

    Args:
        architecture: Its int fields are sizes, 1..2**20, its float fields finite and 0 or more, its bool fields true or
            false. `hidden_size` must be a multiple of `num_attention_heads`, dropout rates be below 1.

    Raises:
        ValueError: A field is of another type or range; named.
    """
    for field in fields(architecture):
        value = getattr(architecture, field.name)
        if field.type == "bool":
            valid = isinstance(value, bool)
        elif field.type == "int":
            valid = type(value) is int and 1 <= value <= LARGEST_SIZE
        else:
            valid = type(value) in (int, float) and 0 <= value < (1 if field.name.endswith("_prob") else LARGEST_SIZE)
        if not valid:
            raise ValueError(f"{field.name}: cannot be {value!r}")
        if field.type == "float":
            object.__setattr__(architecture, field.name, float(value))  # transformers' configurations refuse 0 for 0.0
    if architecture.hidden_size % architecture.num_attention_heads:
        raise ValueError(
            f"hidden_size: {architecture.hidden_size} is no multiple of {architecture.num_attention_heads} attention heads"
        )


def require(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Refuse a published configuration that asks for what a family's network does not do.

    Args:
        config: The parsed `config.json`.
        defaults: Field to the only value it may have, or to a tuple of values, of which the first is what it has where it is
            absent.

    Raises:
        ValueError: A field has another value; named.
    """
    for name, allowed in defaults.items():
        values = allowed if isinstance(allowed, tuple) else (allowed,)
        value = config.get(name, values[0])
        if value not in values:
            choices = " or ".join(repr(value) for value in values)
            raise ValueError(f"{name}: {value!r} is not supported, only {choices}")


def pick(config: Mapping[str, Any], names: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """Fields of a configuration.

    Raises:
        KeyError: One of `names` is absent.
    """
    return {name: config[name] for name in names} | {name: config[name] for name in optional if name in config}
