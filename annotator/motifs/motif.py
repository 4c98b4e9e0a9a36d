"""A motif: a matrix of counts with an id and a name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotator.errors import InputError

MAX_WIDTH = 64
MAX_MOTIFS = 100_000
MAX_COUNT = 1e12
_MAX_NAME = 256


@dataclass(frozen=True, eq=False)
class Motif:
    """A position frequency matrix.

    Attributes:
        matrix_id: Identifier, unique in a run, e.g. MA0004.1; printable, no blanks at its ends.
        name: Name of the transcription factor, e.g. Arnt; printable, no blanks at its ends.
        counts: Sites that hold each base, float64, [W, 4], columns A, C, G, T; W = 1..64; read-only.
    """

    matrix_id: str
    name: str
    counts: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Refuse a matrix that cannot be scored.

        Raises:
            InputError: The matrix cannot be scored; the message names the motif and the fault.
        """
        problem = _problem_of(self.matrix_id, "matrix id") or _problem_of(self.name, "name")
        if problem:
            raise InputError(f"motif {quoted(self.matrix_id)}: {problem}")
        counts = np.array(self.counts, np.float64)
        problem = _problem_of_counts(counts)
        if problem:
            raise InputError(f"motif {self.matrix_id}: {problem}")
        counts.setflags(write=False)
        object.__setattr__(self, "counts", counts)

    @property
    def width(self) -> int:
        """Columns of the motif, bp."""
        return len(self.counts)


def _problem_of(text: str, what: str) -> str | None:
    if not text or text != text.strip():
        return f"its {what} is empty or has blanks at its ends"
    if not text.isprintable():
        return f"its {what} {quoted(text)} holds control characters"
    return f"its {what} is longer than {_MAX_NAME} characters" if len(text) > _MAX_NAME else None


def _problem_of_counts(counts: NDArray[np.float64]) -> str | None:
    if counts.ndim != 2 or counts.shape[1] != 4:
        return f"counts must be [W, 4], not {list(counts.shape)}"
    if not 1 <= len(counts) <= MAX_WIDTH:
        return f"its width is {len(counts)}; 1 to {MAX_WIDTH} is allowed"
    bad = ~((counts >= 0) & (counts <= MAX_COUNT)).all(axis=1)  # NaN fails both
    if bad.any():
        return f"column {int(bad.argmax()) + 1} holds a count that is not a number from 0 to {MAX_COUNT:g}"
    empty = counts.sum(axis=1) == 0
    return f"column {int(empty.argmax()) + 1} is all zero" if empty.any() else None


def quoted(text: str) -> str:
    """Text from a file for a message: quoted, printable, not endless."""
    return ascii(text if len(text) <= 60 else text[:57] + "...")
