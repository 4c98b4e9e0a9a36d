"""Numbered lines of a motif file, and what the reader of a format makes of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from annotator.errors import InputError
from annotator.motifs.motif import quoted

MAX_FILE_BYTES = 256_000_000
MAX_LINE_BYTES = 65_536
ASSUMED_SITES = 20.0
"""Sites that probabilities stand for where a file does not say how many there were; MEME's own default."""
PROBABILITY_SLACK = 0.02
"""How far from 1 the probabilities of a position may sum up to."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")  # all but the tab


@dataclass(frozen=True)
class Record:
    """A motif in the form that the reader of a format found it.

    Attributes:
        line: Number of its first line, 1-based.
        matrix_id: Its id.
        name: Its name; the id where the file gives none.
        rows: Counts of A, C, G and T at each position.
    """

    line: int
    matrix_id: str
    name: str
    rows: list[list[float]]


class MotifLines:
    """Numbered lines of a text file, with the place that every complaint needs.

    Attributes:
        path: The file.
        number: Number of the line last handed out, 1-based.
        motif: Id of the motif that is being read; empty between motifs.
    """

    def __init__(self, path: Path, readline: Callable[[int], bytes]) -> None:
        """Begin at the first line.

        Args:
            path: The file, for messages.
            readline: Gives the next line with its end, at most so many bytes of it; nothing at the file's end.
        """
        self.path = path
        self.number = 0
        self.motif = ""
        self._readline = readline
        self._bytes = 0
        self._again: list[str] = []

    def __iter__(self) -> Iterator[str]:
        """Lines without their end."""
        while (line := self.next()) is not None:
            yield line

    def next(self) -> str | None:
        """The next line, or None at the end."""
        if self._again:
            self.number += 1
            return self._again.pop()
        raw = self._readline(MAX_LINE_BYTES + 1)
        if not raw:
            return None
        self.number += 1
        self._bytes += len(raw)
        if len(raw) > MAX_LINE_BYTES:
            self.fail(f"the line is longer than {MAX_LINE_BYTES} bytes")
        if self._bytes > MAX_FILE_BYTES:
            self.fail(f"the file holds more than {MAX_FILE_BYTES} bytes")
        try:
            line = raw.decode("utf-8-sig" if self.number == 1 else "utf-8")
        except UnicodeDecodeError:
            self.fail("not UTF-8 text")
        line = line.rstrip("\r\n")
        if _CONTROL.search(line):
            self.fail("the line holds control characters")
        return line

    def push_back(self, line: str) -> None:
        """Hand `line`, the last one, out once more; repeated, the one before it as well."""
        self._again.append(line)
        self.number -= 1

    def fail(self, problem: str, line: int | None = None) -> NoReturn:
        """Complain about a line, the one last handed out unless told otherwise.

        Raises:
            InputError: Always; the message names file, line and motif.
        """
        motif = f"motif {quoted(self.motif)}: " if self.motif else ""
        raise InputError(f"{self.path}: line {line or self.number}: {motif}{problem}")

    def numbers(self, tokens: list[str]) -> list[float]:
        """The tokens as numbers; `nan`, `inf`, underscores and expressions are none.

        Raises:
            InputError: A token is no number.
        """
        for token in tokens:
            if not _NUMBER.fullmatch(token):
                self.fail(f"{quoted(token)} is not a number")
        return [float(token) for token in tokens]

    def weights(self, tokens: list[str]) -> list[float]:
        """The tokens as counts or probabilities, none of them negative.

        Raises:
            InputError: A token is no number, or is negative, as the log-odds of a weight matrix are.
        """
        values = self.numbers(tokens)
        if values and min(values) < 0:
            self.fail("a weight matrix (log-odds: negative numbers) is not read; give counts or probabilities")
        return values


def are_probabilities(row: list[float]) -> bool:
    """Whether the numbers of a position sum to 1."""
    return abs(sum(row) - 1) <= PROBABILITY_SLACK and min(row) >= 0
