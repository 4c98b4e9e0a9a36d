"""The formats there are: a new one is a file beside this one, a row here, and a name in `annotator/output/options.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from annotator.output.formats.base import Format
from annotator.output.formats.bed import BedFormat
from annotator.output.formats.bedgraph import BedGraphFormat
from annotator.output.formats.bigbed import BigBedFormat
from annotator.output.formats.gff3 import Gff3Format
from annotator.output.formats.tsv import TsvFormat
from annotator.output.options import BED, BED_SHAPES

FORMATS: Final[Mapping[str, Callable[[Any], Format]]] = {
    BED: BedFormat,
    **{shape: partial(BedFormat, shape=shape) for shape in BED_SHAPES},
    "gff3": Gff3Format,
    "bigbed": BigBedFormat,
    "bedgraph": BedGraphFormat,
    "tsv": TsvFormat,
}
"""Key of a format -> what makes it from its options."""


def make_formats(options: Mapping[str, object]) -> tuple[Format, ...]:
    """The formats of a run.

    Args:
        options: Key of each format -> its options, such as `{"bed": BedOptions()}`.

    Raises:
        ValueError: A format is unknown.
    """
    if unknown := sorted(set(options) - set(FORMATS)):
        raise ValueError(f"unknown formats {unknown}; known are {sorted(FORMATS)}")
    return tuple(FORMATS[name](value) for name, value in options.items())
