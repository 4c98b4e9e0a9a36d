"""Every error the command line turns into one line and an exit code."""

from __future__ import annotations


class AnnotatorError(Exception):
    """Base of all expected errors; the message is the one line the user sees."""

    exit_code = 1


class ModelFault(AnnotatorError):
    """The model gave NaN or infinity; the message names the window."""


class UsageError(AnnotatorError):
    """Wrong options, a missing or unreadable path, or a results folder of another run."""

    exit_code = 2


class InputError(AnnotatorError):
    """Bad input data or a bad model file; the message names file, contig and line (or byte, or field)."""

    exit_code = 3


class PartialFailure(AnnotatorError):
    """Some contigs, assemblies or tasks failed; everything else is written and the failures are listed."""

    exit_code = 4


class EnvironmentFault(AnnotatorError):
    """No such device, a model that is absent, a cluster that cannot be reached."""

    exit_code = 5


class ResourceFault(AnnotatorError):
    """Out of disk, out of memory after backing off, or any write failure."""

    exit_code = 6


class Postponed(AnnotatorError):
    """The run was told to stop before it was done, and can go on: as after SIGTERM."""

    exit_code = 143
