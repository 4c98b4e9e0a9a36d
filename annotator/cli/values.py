"""What the command line's modules share: options that come again, and the reading of their values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from annotator.errors import UsageError
from annotator.machine import usable_cpus

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Threads = Annotated[int, typer.Option("-t", "--threads", help="CPU threads; 0 takes all this process may use.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Warnings and errors only.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="More log lines.")]
AllowDownload = Annotated[
    bool,
    typer.Option("--allow-download", help="Fetch hub:OWNER/NAME@COMMIT from the Hugging Face hub if it is not in the cache."),
]


def comma_list(text: str) -> tuple[str, ...]:
    """Parts between commas, without the blanks around them."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def thread_count(asked: int) -> int:
    """Threads to use; 0 stands for all CPUs this process may use (macOS only knows how many there are)."""
    if asked < 0:
        raise UsageError(f"--threads {asked}: cannot be negative")
    return asked or usable_cpus()


def one_of(option: str, value: str, choices: tuple[str, ...]) -> str:
    """`value`, or UsageError where it is none of the choices."""
    if value not in choices:
        raise UsageError(f"{option} {value}: choose from {', '.join(choices)}")
    return value


def pairs(option: str, values: list[str] | None) -> dict[str, str]:
    """`NAME=VALUE`, repeatable, as a table.

    Raises:
        UsageError: One is not of this form, or a name comes twice.
    """
    table: dict[str, str] = {}
    for value in values or []:
        name, equals, rest = value.partition("=")
        if not (name and equals and rest) or name in table:
            raise UsageError(f"{option} {value}: give NAME=VALUE, each name once")
        table[name] = rest
    return table


def whole_numbers(option: str, values: dict[str, str]) -> dict[str, int]:
    """The same with whole numbers as values."""
    try:
        return {name: int(value) for name, value in values.items()}
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def existing(option: str, path: Path | None) -> Path | None:
    """The path, or UsageError where there is no such file or folder."""
    if path is not None and not path.exists():
        raise UsageError(f"{option} {path}: no such file or folder")
    return path


def resolved_model(reference: str, *, allow_download: bool) -> str:
    """A model as the rest of the program takes it: a hub reference becomes the folder of its snapshot."""
    if not reference.startswith("hub:"):
        return reference
    from annotator.models.hub import resolve_reference

    return str(resolve_reference(reference, allow_download=allow_download))
