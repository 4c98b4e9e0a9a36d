"""The command `annotator call`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from annotator.cli.progress import setup_logging
from annotator.cli.run_options import Threshold, thresholds_given
from annotator.cli.values import Formats, NoHeader, Quiet, Threads, Verbose, comma_list, thread_count
from annotator.output.options import BedOptions, formats_asked


def call(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Results folder of annotator annotate --tracks.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Results folder for the calls; another than that of the tracks.")],
    threshold: Threshold = None,
    formats: Formats = "",
    no_header: NoHeader = False,
    overwrite: Annotated[bool, typer.Option(help="Replace the files of another run in the results folder.")] = False,
    threads: Threads = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Call a finished run again at other thresholds, from 0.01 up: from its tracks, without genome, model and motif hits."""
    setup_logging(quiet=quiet, verbose=verbose)
    asked, files = thresholds_given(threshold or []), formats_asked(comma_list(formats), BedOptions(not no_header))
    from annotator.results.call import call as write

    argv = (context.obj or {}).get("argv")
    write(folder, out, asked, formats=files, overwrite=overwrite, threads=thread_count(threads), argv=argv)
