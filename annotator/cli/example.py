"""The command `annotator example`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from annotator.cli.progress import setup_logging
from annotator.errors import UsageError

logger = logging.getLogger("annotator")


def example(
    folder: Annotated[Path, typer.Argument(help="Where to write example.fa.gz and example.truth.bed.gz.")] = Path(),
    seed: Annotated[int | None, typer.Option(help="Another seed, another genome; 1 by default.")] = None,
    length: Annotated[int | None, typer.Option(help="Bases in all; 1,000,000 by default.")] = None,
    real: Annotated[bool, typer.Option("--real", help="A real human locus instead, 40 kb: plat.fa.gz, plat.gtf.gz.")] = False,
) -> None:
    """Write a small SYNTHETIC assembly with planted genes, and their sites beside it; or a real locus with its annotation."""
    setup_logging(quiet=False, verbose=False)
    if real:
        from annotator.example.real import write_real_example

        if seed is not None or length is not None:
            raise UsageError("--real writes one locus as it is: neither --seed nor --length change it")
        paths = write_real_example(folder)
    else:
        from annotator.example.genome import write_example

        given = {name: value for name, value in (("seed", seed), ("length_bp", length)) if value is not None}
        paths = tuple(write_example(folder, **given))
    for path in paths:
        logger.info("wrote %s", path)
