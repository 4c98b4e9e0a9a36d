"""The errors that the command line turns into one line and an exit code."""

from __future__ import annotations


class AnnotatorError(Exception):
    """Base of all expected errors; the message is the one line the user sees.

    An error about one option carries that option's name and value apart from the reason: the message names the field as Python
    does (`threads=-1: cannot be negative`), and the command line writes the flag in its place (`--threads -1: cannot be
    negative`). A field that the reason mentions stands in backquotes, with a value where there is one: the command line turns
    `` `eof_check=False` `` into `--no-eof-check`.

    Attributes:
        exit_code: What the program ends with.
        reason: What is wrong.
        field: The option it is about, as a parameter of Python, such as `threads` or `thresholds["donor"]`; empty where the
            error is not about one option.
        value: What the option was given; None where the reason says enough.
    """

    exit_code = 1

    def __init__(self, reason: str, field: str = "", value: object = None) -> None:
        """Say what is wrong, and with which option."""
        super().__init__(*((reason, field, value) if field else (reason,)))  # what an error is made of again in another process
        self.reason, self.field, self.value = reason, field, value

    def __str__(self) -> str:
        """The message in Python's terms."""
        if not self.field:
            return self.reason
        shown = self.value if isinstance(self.value, str | int | float | tuple) else str(self.value)
        return f"{self.field}{'' if self.value is None else f'={shown!r}'}: {self.reason}"


class ModelFault(AnnotatorError):
    """The model gave NaN or infinity; the message names the window."""


class UsageError(AnnotatorError):
    """The options are wrong, a path is missing or unreadable, or a results folder belongs to another run."""

    exit_code = 2


class InputError(AnnotatorError):
    """The input data or a model file is bad; the message names file, contig and line (or byte, or field)."""

    exit_code = 3


class PartialFailure(AnnotatorError):
    """Some contigs, assemblies or tasks failed; everything else is written and the failures are listed."""

    exit_code = 4


class EnvironmentFault(AnnotatorError):
    """A device or a model is absent, or a cluster cannot be reached."""

    exit_code = 5


class ResourceFault(AnnotatorError):
    """The disk is full, memory ran out even with smaller batches, or a write failed."""

    exit_code = 6


class Postponed(AnnotatorError):
    """The run was told to stop before it was done, and can be resumed, as after SIGTERM."""

    exit_code = 143
