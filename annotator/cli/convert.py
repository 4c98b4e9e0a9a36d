"""The command `annotator convert`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from annotator.cli.progress import setup_logging
from annotator.cli.values import NoHeader, Quiet, Threads, Verbose, comma_list, thread_count
from annotator.output.options import FORMAT_NAMES, BedOptions

logger = logging.getLogger("annotator")


def convert(
    folder: Annotated[Path, typer.Argument(help="Results folder of annotator annotate, of one assembly or of several.")],
    to: Annotated[str, typer.Option(help=f"Formats to add, comma-separated from {','.join(FORMAT_NAMES)}.")],
    no_header: NoHeader = False,
    threads: Threads = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write the calls of a finished run in further formats, from predictions.parquet: without genome, model and scan."""
    setup_logging(quiet=quiet, verbose=verbose)
    from annotator.results.convert import convert as write

    written = write(folder, comma_list(to), bed=BedOptions(not no_header), threads=thread_count(threads))
    for path, names in written.items():
        for name in names:
            logger.info("%s", path / name)
