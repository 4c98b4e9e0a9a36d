"""The command `annotator report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from annotator.cli.progress import setup_logging
from annotator.cli.values import Quiet, Verbose


def report(
    folders: Annotated[list[Path], typer.Argument(help="Results folders; several are shown side by side.", metavar="RESULTS...")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The page; by default report.html in the folder.")] = None,
    truth: Annotated[Path | None, typer.Option(help="GTF, GFF3 or BED of sites: accuracy and reliability of one run.")] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write report.html: what was found, how sure it is, where it lies, what was skipped, how it was made."""
    setup_logging(quiet=quiet, verbose=verbose)
    from annotator.report.report import write_report

    typer.echo(write_report(folders, out, truth))
