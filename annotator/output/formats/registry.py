"""The formats there are: a new one is a file beside this one and a row here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from annotator.output.formats.base import Format
from annotator.output.formats.bed import BedFormat

FORMATS: Final[Mapping[str, Callable[[Any], Format]]] = {"bed": BedFormat}
"""Name of a format -> what makes it from its options."""


def make_formats(options: Mapping[str, object]) -> tuple[Format, ...]:
    """The formats of a run.

    Args:
        options: Name of each format -> its options, such as `{"bed": BedOptions()}`.

    Raises:
        ValueError: A format is unknown.
    """
    if unknown := sorted(set(options) - set(FORMATS)):
        raise ValueError(f"unknown formats {unknown}; known are {sorted(FORMATS)}")
    return tuple(FORMATS[name](value) for name, value in options.items())
