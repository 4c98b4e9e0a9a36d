"""Signals that ask the program to end: the first unwinds the stack, a second one ends the process at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""The signals that end a run. Schedulers send SIGUSR1 some time before the time limit; it means the same as SIGTERM."""

_holding = 0
_held: int | None = None


class Terminated(BaseException):
    """A signal arrived; unwinds the stack so that nothing is left half-written.

    It is no KeyboardInterrupt, because Typer would end the program at that without a message.

    Attributes:
        exit_code: 130 for SIGINT, otherwise 143.
    """

    def __init__(self, signum: int) -> None:
        """Hold the exit code of a signal."""
        super().__init__(signum)
        self.exit_code = 130 if signum == signal.SIGINT else 143


@contextmanager
def signals_unwind() -> Iterator[None]:
    """A context in whose body a signal raises Terminated in the main thread."""
    previous: dict[int, Any] = {each: signal.signal(each, _stop) for each in SIGNALS}
    try:
        yield
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)


@contextmanager
def held_back() -> Iterator[None]:
    """A context at whose end a signal raises that arrived within it, for code that an exception at any line would break."""
    global _holding, _held
    _holding += 1
    try:
        yield
    finally:
        _holding -= 1
        if not _holding and _held is not None:
            signum, _held = _held, None
            raise Terminated(signum)


def _stop(signum: int, frame: FrameType | None) -> None:
    global _held
    for each in SIGNALS:
        signal.signal(each, _stop_at_once)
    if _holding:
        _held = signum
        return
    raise Terminated(signum)


def _stop_at_once(signum: int, frame: FrameType | None) -> None:
    os._exit(Terminated(signum).exit_code)  # workers see that their pipe is closed, and end too
