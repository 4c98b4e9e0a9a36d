"""The command `annotator verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from annotator.errors import InputError


def verify(folder: Annotated[Path, typer.Argument(help="Results folder of annotator annotate.")]) -> None:
    """Check every file of a results folder against the sha256 in its run.json."""
    from annotator.results.verify import verify as check

    checked, faults = check(folder)
    for fault in faults:
        typer.echo(fault)
    if faults:
        raise InputError(f"{folder}: {len(faults)} of {checked} files or samples are not what run.json says")
    typer.echo(f"{folder}: {checked} files as run.json says")
