"""Stretches of FASTA text that need no closer look: lines of one length, or a piece of one long line, of ACGTN in either case.

Nearly all of a genome is such text. What a scanner has to know of it does not depend on what came before, so threads find it out
while the scanner is elsewhere in the file; the rest goes to the scanner as it stands.

Coordinates: 0-based within the stretch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotator.machine import usable_cpus

_NEWLINE, _RETURN, _HEADER = ord("\n"), ord("\r"), ord(">")
_UPPER = 0xDF
"""Turns a letter into its upper case, and what is no letter into none."""
_LOWER_BIT = 0x20
_KNOWN, _N = b"ACGT", ord("N")
LEAST_BYTES = 32_768
"""A shorter stretch is not worth the trouble of setting it apart."""
_MAX_THREADS = 4
_CHUNK_BYTES = 1 << 17
"""So much is looked at at once: what is made of it stays in a core's cache."""


@dataclass(frozen=True, eq=False)
class EvenLines:
    """Whole lines of one length.

    Attributes:
        data: The text.
        lines: How many lines, two or more.
        line_bases: Bases on each.
        line_bytes: Bytes of each, with its end.
        lower_case: Bases in lower case.
        n: Bases that are N.
        n_starts: First base of each run of N, int64, [runs]; bases count from the start of the stretch, without line ends.
            Runs may touch.
        n_ends: One past the last base of each run, int64, [runs].
        bases: The bases in upper case, without line ends; empty where they were not asked for.
    """

    data: bytes
    lines: int
    line_bases: int
    line_bytes: int
    lower_case: int
    n: int
    n_starts: NDArray[np.int64]
    n_ends: NDArray[np.int64]
    bases: bytes

    @staticmethod
    def read(data: bytes, line_bytes: int, *, with_bases: bool = False) -> EvenLines | None:
        """Look at text that may be such a stretch.

        Args:
            data: Text, a multiple of `line_bytes` long.
            line_bytes: Bytes of its first line, with its end.
            with_bases: Whether `bases` is wanted.

        Returns:
            What it is; None where it is something else.
        """
        rows = np.frombuffer(data, np.uint8).reshape(-1, line_bytes)
        ends = 2 if line_bytes > 1 and rows[0, -2] == _RETURN else 1
        line_bases = line_bytes - ends
        if not line_bases or (rows[:, -1] != _NEWLINE).any() or (ends == 2 and (rows[:, -2] != _RETURN).any()):
            return None
        at_once = max(1, _CHUNK_BYTES // line_bytes)
        n = lower_case = 0
        edges, bases = [], []
        for start in range(0, len(rows), at_once):
            text = rows[start : start + at_once].reshape(-1)
            upper = text & _UPPER
            is_n = upper == _N
            here = int(np.count_nonzero(is_n))
            if here + _count_known(upper) != len(text) // line_bytes * line_bases:
                return None
            lower_case += int(np.count_nonzero(text & _LOWER_BIT))
            if here:
                edges.append(start * line_bases + _edges(is_n.reshape(-1, line_bytes)[:, :line_bases].reshape(-1)))
                n += here
            if with_bases:
                bases.append(upper.reshape(-1, line_bytes)[:, :line_bases].tobytes())
        borders = np.concatenate([np.empty(0, np.int64), *edges])
        return EvenLines(
            data, len(rows), line_bases, line_bytes, lower_case, n, borders[::2], borders[1::2], b"".join(bases)
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class EvenRun:
    """Bases of one line, without its end: they begin the line, or go on from what came before.

    Attributes:
        data: The text.
        lower_case: Bases in lower case.
        n: Bases that are N.
        n_starts: First base of each run of N, int64, [runs], from the start of the stretch. Runs may touch.
        n_ends: One past the last base of each run, int64, [runs].
        bases: The bases in upper case; empty where they were not asked for.
    """

    data: bytes
    lower_case: int
    n: int
    n_starts: NDArray[np.int64]
    n_ends: NDArray[np.int64]
    bases: bytes

    @staticmethod
    def read(data: bytes, *, with_bases: bool = False) -> EvenRun | None:
        """Look at text that may be such a stretch.

        Args:
            data: Text.
            with_bases: Whether `bases` is wanted.

        Returns:
            What it is; None where it is something else.
        """
        whole = np.frombuffer(data, np.uint8)
        n = lower_case = 0
        edges, bases = [], []
        for start in range(0, len(whole), _CHUNK_BYTES):
            text = whole[start : start + _CHUNK_BYTES]
            upper = text & _UPPER
            is_n = upper == _N
            here = int(np.count_nonzero(is_n))
            if here + _count_known(upper) != len(text):
                return None
            lower_case += int(np.count_nonzero(text & _LOWER_BIT))
            if here:
                edges.append(start + _edges(is_n))
                n += here
            if with_bases:
                bases.append(upper.tobytes())
        borders = np.concatenate([np.empty(0, np.int64), *edges])
        return EvenRun(data, lower_case, n, borders[::2], borders[1::2], b"".join(bases))


def _count_known(upper: NDArray[np.integer[Any]]) -> int:
    """How many letters are A, C, G or T."""
    return sum(int(np.count_nonzero(upper == letter)) for letter in _KNOWN)


def _edges(is_n: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Start and end of each run of true values in turn, int64, [2 * runs]."""
    padded = np.zeros(len(is_n) + 2, np.bool_)
    padded[1:-1] = is_n
    return np.flatnonzero(padded[1:] != padded[:-1])


Piece = bytes | EvenLines | EvenRun


def even_pieces(blocks: Iterator[bytes], *, with_bases: bool = False, ahead: bool = True) -> Generator[list[Piece], None, None]:
    """The same text, with what is even set apart.

    Args:
        blocks: The text, cut anywhere.
        with_bases: Whether the bases of even lines are wanted.
        ahead: Look at further blocks in threads meanwhile; otherwise a block is given before the next is asked for.

    Yields:
        Pieces that follow each other; joined they are the text.

    Raises:
        Exception: What `blocks` raises, after all that it gave before.
    """
    cut = _at_line_ends(blocks)
    if not ahead:
        for data, begins_line in cut:
            yield pieces_of(data, begins_line=begins_line, with_bases=with_bases)
        return
    threads = min(_MAX_THREADS, usable_cpus())
    coming: deque[Future[list[Piece]]] = deque()
    fault: BaseException | None = None
    with ThreadPoolExecutor(threads, thread_name_prefix="even-lines") as pool:
        try:
            while fault is None:
                try:
                    data, begins_line = next(cut)
                except StopIteration:
                    break
                except Exception as error:
                    fault = error
                    break
                coming.append(pool.submit(pieces_of, data, begins_line=begins_line, with_bases=with_bases))
                if len(coming) > threads:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            for waiting in coming:
                waiting.cancel()
    if fault is not None:
        raise fault


def _at_line_ends(blocks: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """The text in blocks that end with a line where they hold the end of one, each with whether it begins with a line."""
    held, begins_line = b"", True
    while True:
        try:
            block = next(blocks)
        except StopIteration:
            break
        except Exception:
            if held:
                yield held, begins_line
            raise
        end = block.rfind(b"\n") + 1
        data = held + (block[:end] or block)
        held = block[end:] if end else b""
        yield data, begins_line
        begins_line = bool(end)
    if held:
        yield held, begins_line


def pieces_of(data: bytes, *, begins_line: bool, with_bases: bool = False) -> list[Piece]:
    """A block of text with its even stretches set apart.

    Args:
        data: The block.
        begins_line: Whether a line begins with it.
        with_bases: Whether the bases of even lines are wanted.
    """
    text = np.frombuffer(data, np.uint8)
    marks = np.flatnonzero(text == _HEADER)  # far faster than a search for two bytes, which stops at each line
    headers = marks[np.where(marks > 0, text[marks - 1] == _NEWLINE, begins_line)]
    pieces: list[Piece] = []
    given = 0  # what comes before this byte is in `pieces`

    def give(even: EvenLines | EvenRun | None, at: int) -> None:
        """Take a stretch that begins at a byte, and what comes before it."""
        nonlocal given
        if even is not None:
            if at > given:
                pieces.append(data[given:at])
            pieces.append(even)
            given = at + len(even.data)

    def look_at_line(at: int, stop: int) -> None:
        """Set the bases of one long line apart, up to its end or a byte."""
        end = data.find(b"\n", at, stop)
        line = data[at : stop if end < 0 else end].rstrip(b"\r")
        if len(line) >= LEAST_BYTES:
            give(EvenRun.read(line, with_bases=with_bases), at)

    if not begins_line:
        look_at_line(0, len(data))
    first = 0 if begins_line else data.find(b"\n") + 1 or len(data)
    bounds = np.concatenate(([first], headers, [len(data)]))
    for long in np.flatnonzero(np.diff(bounds) >= LEAST_BYTES).tolist():
        start, stop = bounds[long : long + 2].tolist()
        at = data.find(b"\n", start) + 1 or stop if data[start : start + 1] == b">" else start
        line_bytes = data.find(b"\n", at, stop) + 1 - at
        whole = (stop - at) // line_bytes * line_bytes if line_bytes > 0 else 0
        if whole >= max(LEAST_BYTES, 2 * line_bytes):
            give(EvenLines.read(data[at : at + whole], line_bytes, with_bases=with_bases), at)
        else:
            look_at_line(at, stop)
    if given < len(data):
        pieces.append(data[given:])
    return pieces
