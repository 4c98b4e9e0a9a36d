"""Errors of workers on their way to the driver, and what they say about the worker."""

from __future__ import annotations

from annotator.errors import AnnotatorError, EnvironmentFault, ResourceFault


class WorkerError(Exception):
    """Stands for an error of a worker that has no class the driver knows; the message names the class."""


def make_portable(error: BaseException, *, setup: bool = False) -> BaseException:
    """The error in a form that any process can read.

    Args:
        error: What was raised.
        setup: While a worker was set up: an unknown error then speaks against the environment.
    """
    if isinstance(error, AnnotatorError):
        return type(error)(*map(str, error.args))  # without its causes, which may not travel
    if isinstance(error, MemoryError):
        return MemoryError(str(error))  # NumPy's own kind cannot be made again from its text
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return EnvironmentFault(f"a worker could not be set up: {text}") if setup else WorkerError(text)


def worth_replacing(error: BaseException) -> bool:
    """Whether the worker, rather than its work, may be what is wrong: its device failed or its memory ran out."""
    return isinstance(error, EnvironmentFault | ResourceFault | MemoryError)
