"""The command `annotator example`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from annotator.cli.progress import setup_logging

logger = logging.getLogger("annotator")


def example(
    folder: Annotated[Path, typer.Argument(help="Where to write example.fa.gz and example.truth.bed.gz.")] = Path(),
    seed: Annotated[int, typer.Option(help="Another seed, another genome.")] = 1,
    length: Annotated[int, typer.Option(help="Bases in all.")] = 1_000_000,
) -> None:
    """Write a small SYNTHETIC assembly with planted genes, and their sites beside it."""
    setup_logging(quiet=False, verbose=False)
    from annotator.example.genome import write_example

    files = write_example(folder, seed=seed, length_bp=length)
    for path in files:
        logger.info("wrote %s", path)
