"""Checks that frozen dataclasses of options make of their own values; each names the field that is wrong."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable

from annotator.errors import UsageError


def check_choice(field: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a value that is none of the choices.

    Args:
        field: Name of the field, for the message.
        value: What it was given.
        choices: What it may be.

    Raises:
        UsageError: The value is none of them.
    """
    if value not in choices:
        raise UsageError(f"choose from {', '.join(choices)}", field, value)


def check_choices(field: str, values: object, choices: tuple[str, ...]) -> tuple[str, ...]:
    """One of the choices, or several of them, as a tuple.

    Args:
        field: Name of the field, for the message.
        values: What it was given: text, or a sequence of texts.
        choices: What each may be.

    Raises:
        UsageError: It is something else, or one is none of the choices.
    """
    several = (values,) if isinstance(values, str) or not isinstance(values, Iterable) else tuple(values)
    for value in several:
        check_choice(field, value, choices)
    return several


def check_path(field: str, value: object) -> str:
    """A path as text; arguments as of `check_choice`.

    Raises:
        UsageError: The value is neither text nor a path.
    """
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(path, str):
        raise UsageError("give a path, as text or pathlib.Path", field, value if value is not None else "None")
    return path


def check_count(field: str, value: object, *, least: int = 0) -> None:
    """Refuse a value that is not a whole number from `least` up; the other arguments are those of `check_choice`.

    Raises:
        UsageError: The value is another number, or none.
    """
    if type(value) is not int:
        raise UsageError("give a whole number", field, value)
    if value < least:
        raise UsageError(f"give {least} or more" if least else "cannot be negative", field, value)


def check_positive(field: str, value: object) -> None:
    """Refuse a value that is not a finite number above 0; arguments as of `check_choice`.

    Raises:
        UsageError: The value is another number, or none.
    """
    if check_number(field, value) <= 0:
        raise UsageError("give a number above 0", field, value)


def check_not_negative(field: str, value: object) -> None:
    """Refuse a value that is not a finite number from 0 up; arguments as of `check_choice`.

    Raises:
        UsageError: The value is another number, or none.
    """
    if check_number(field, value) < 0:
        raise UsageError("cannot be negative", field, value)


def check_share(field: str, value: object, *, some: bool = False, whole: bool = False) -> None:
    """Refuse a value that is no share from 0 to below 1; the other arguments are those of `check_choice`.

    Args:
        field: Name of the field, for the message.
        value: What it was given.
        some: Refuse 0.
        whole: Allow 1.

    Raises:
        UsageError: The value is another number, or none.
    """
    share = check_number(field, value)
    if not 0 <= share <= 1 or (some and share == 0) or (share == 1 and not whole):
        raise UsageError(f"a share {'above' if some else 'from'} 0 {'up to' if whole else 'and below'} 1", field, value)


def check_number(field: str, value: object) -> float:
    """Refuse a value that is not a finite number; arguments as of `check_choice`.

    Returns:
        The number.

    Raises:
        UsageError: The value is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError("give a number", field, value)
    return value


def check_flags(options: object, *fields: str) -> None:
    """Refuse a value that is neither True nor False, such as the text "no", in fields that say yes or no.

    Args:
        options: Dataclass that has the fields.
        fields: Their names.

    Raises:
        UsageError: One of them holds something else.
    """
    for field in fields:
        if not isinstance(value := getattr(options, field), bool):
            raise UsageError("give True or False", field, value)


def check_device(device: object) -> None:
    """Refuse what names no kind of device; whether this machine has it is not looked at.

    Args:
        device: What the field `device` was given: auto, cpu, cuda or cuda:N.

    Raises:
        UsageError: It is none of them.
    """
    if not isinstance(device, str) or not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device, re.ASCII):
        raise UsageError("choose auto, cpu, cuda or cuda:N", "device", device)
