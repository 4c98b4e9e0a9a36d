"""The command `annotator browse`."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from annotator.cli.progress import setup_logging
from annotator.cli.values import Quiet, Verbose, refuse_idle
from annotator.errors import EnvironmentFault


def browse(
    folder: Annotated[Path, typer.Argument(help="Results folder of annotator annotate.", metavar="RESULTS")],
    genome: Annotated[Path | None, typer.Argument(help="Its FASTA; by default the path in run.json, if it is there.")] = None,
    locus: Annotated[list[str] | None, typer.Option(help="Region to list first, such as chr1:1-5000; repeatable.")] = None,
    genes: Annotated[Path | None, typer.Option(help="GTF or GFF3: its genes are shown and can be searched.")] = None,
    truth: Annotated[
        Path | None, typer.Option(help="GTF, GFF3 or BED of sites: shown, and calls coloured right, extra or missed.")
    ] = None,
    assembly: Annotated[str, typer.Option(help="Name of the assembly at UCSC, such as hg38, for the track hub.")] = "",
    serve: Annotated[bool, typer.Option("--serve", help="Serve the page on this machine, for genomes of any size.")] = False,
    port: Annotated[int, typer.Option(help="Port of --serve; 0 for any.")] = 0,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the system's web browser.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make a genome browser of a results folder: browse.html, in one file that needs no network."""
    setup_logging(quiet=quiet, verbose=verbose)
    refuse_idle({} if serve else {"--port": port}, "--serve")
    from annotator.browse.browse import BrowseOptions, served_page, write_browse_page
    from annotator.stopping import Terminated

    options = BrowseOptions(genome, tuple(locus or ()), genes, truth, assembly)
    if not serve:
        path = write_browse_page(folder, options)
        typer.echo(path)
        if show:
            _open(path.resolve().as_uri())
        return
    with served_page(folder, options, port) as server:
        typer.echo(server.url)
        if show:
            _open(server.url)
        try:
            server.serve_forever()
        except Terminated as stop:  # Ctrl-C is how this ends
            if stop.exit_code != 130:
                raise


def _open(address: str) -> None:
    """Open an address.

    Raises:
        EnvironmentFault: There is no web browser.
    """
    try:
        opened = webbrowser.open(address)
    except webbrowser.Error:
        opened = False
    if not opened:
        raise EnvironmentFault(f"no web browser was found here; open {address} in one")
