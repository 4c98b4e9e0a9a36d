"""The command `annotator train`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from annotator.cli.progress import setup_logging
from annotator.cli.values import Device, Quiet, Threads, Verbose, thread_count
from annotator.kinds import DEFAULT_CLADE


def train(
    recipe: Annotated[
        Path, typer.Argument(help="TOML recipe: architecture, windows, schedule, and organisms if not given here.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Run folder: checkpoints, metrics.jsonl and the finished model.")],
    data: Annotated[Path, typer.Option(help="Folder that the recipe's paths are relative to.")] = Path(),
    fasta: Annotated[list[Path] | None, typer.Option(help="Genome to learn from; repeatable, replaces the recipe's.")] = None,
    truth: Annotated[
        list[Path] | None,
        typer.Option("--truth", "--gtf", help="Its sites: BED (donor, acceptor, tss) or GTF/GFF3; one per --fasta."),
    ] = None,
    mask: Annotated[
        list[str] | None, typer.Option(help="BED of sites left out of the loss; one per --fasta, '-' for none.")
    ] = None,
    clade: Annotated[list[str] | None, typer.Option(help=f"Clade; one per --fasta; default {DEFAULT_CLADE}.")] = None,
    val_fasta: Annotated[list[Path] | None, typer.Option(help="Genome to calibrate on; repeatable, as --fasta.")] = None,
    val_truth: Annotated[list[Path] | None, typer.Option("--val-truth", "--val-gtf", help="Its sites.")] = None,
    val_mask: Annotated[list[str] | None, typer.Option(help="Its sites left out of scoring; '-' for none.")] = None,
    val_clade: Annotated[list[str] | None, typer.Option(help="Its clade.")] = None,
    device: Device = "auto",
    threads: Threads = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train the compact model; the same command again resumes after a kill."""
    setup_logging(quiet=quiet, verbose=verbose)
    from annotator.cli.recipe import organisms_given, read_recipe
    from annotator.training.compact.run import run_training

    settings = read_recipe(recipe, data)
    if fasta:
        chosen = organisms_given("", fasta, truth or [], mask or [], clade or [])
        settings = replace(settings, organisms=chosen)
    if val_fasta:
        chosen = organisms_given("val-", val_fasta, val_truth or [], val_mask or [], val_clade or [])
        settings = replace(settings, validation=chosen)
    run_training(settings, out, device=device, threads=thread_count(threads))
