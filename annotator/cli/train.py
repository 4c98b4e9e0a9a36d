"""The command `annotator train`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from annotator.cli.progress import setup_logging
from annotator.cli.values import AcceptAnnotation, Device, Quiet, Threads, Verbose, comma_list, model_name, one_of, thread_count
from annotator.errors import UsageError
from annotator.kinds import CLADES, DEFAULT_CLADE
from annotator.preflight import check_run


def train(
    recipe: Annotated[
        Path | None,
        typer.Argument(
            help="TOML recipe: architecture, windows, schedule, and organisms if not given here; the bundled one by default."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Run folder: checkpoints, metrics.jsonl and the finished model.")
    ] = None,
    data: Annotated[Path, typer.Option(help="Folder that the recipe's paths are relative to.")] = Path(),
    pack: Annotated[
        Path | None, typer.Option(help="Read the genomes from a pack, a file of --write-pack, in place of their own files.")
    ] = None,
    write_pack: Annotated[
        Path | None,
        typer.Option(help="Write the genomes of the recipe (or of --fasta) and their labels to one .npz file, and end."),
    ] = None,
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
    val_clade: Annotated[list[str] | None, typer.Option(help="Its clade; that of the genomes learnt from by default.")] = None,
    only: Annotated[
        str,
        typer.Option(
            help="Learn from the recipe's genomes of this clade alone: a network of its own, for `annotator models merge`."
        ),
    ] = "",
    init: Annotated[
        str,
        typer.Option(
            help="Go on from the weights of a model (compact, or a model directory) or, with a recipe, a .safetensors checkpoint."
        ),
    ] = "",
    steps: Annotated[int | None, typer.Option(help="Optimiser steps; the recipe's by default, 1,500 with --init.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak; the recipe's by default, 5e-4 with --init.")] = None,
    name: Annotated[str, typer.Option(help="Of the model; the run folder's by default.")] = "",
    licence: Annotated[str, typer.Option(help="Of the new weights.")] = "not stated",
    hold_out: Annotated[
        str, typer.Option(help="Contigs of the genomes that are not learnt from but calibrated on, comma-separated.")
    ] = "",
    accept_annotation: AcceptAnnotation = False,
    device: Device = "auto",
    threads: Threads = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train the compact model; the same command again resumes after a kill."""
    setup_logging(quiet=quiet, verbose=verbose)
    if out is None and write_pack is None:
        raise UsageError("-o: give the run folder")
    if out is not None and write_pack is not None:
        raise UsageError("--write-pack: writes the pack and does not train; leave -o out")
    if pack is not None and (fasta or val_fasta or write_pack):
        raise UsageError("--pack: the genomes are those of the pack; leave --fasta, --val-fasta and --write-pack out")
    check_run(out, [recipe, pack, *(fasta or ()), *(val_fasta or ())])
    from annotator.cli.recipe import organisms_given, read_recipe, refuse_loose
    from annotator.training.compact.options import CONTINUED_LEARNING_RATE, CONTINUED_STEPS, RECIPE
    from annotator.training.compact.run import pack_recipe, run_training
    from annotator.training.compact.start import like_its_start

    for prefix, files, others in (
        ("", fasta, {"truth": truth, "mask": mask, "clade": clade}),
        ("val-", val_fasta, {"truth": val_truth, "mask": val_mask, "clade": val_clade}),
    ):
        refuse_loose(prefix, files, others)
    own = recipe is not None and recipe.resolve() != RECIPE.resolve()
    settings = replace(read_recipe(recipe or RECIPE, data, model_name(name, out) if out else name), licence=licence, init=init)
    if only:
        if fasta or (pack is not None and not own):
            raise UsageError("--only: chooses among the genomes of a recipe; name it, and leave --fasta out")
        settings = settings.of_clade(one_of("--only", only, CLADES))
    if pack is not None and not own:
        settings = replace(settings, organisms=(), promoters=(), validation=())
    if fasta:
        chosen = organisms_given("", fasta, truth or [], mask or [], clade or [])
        settings = replace(settings, organisms=chosen, promoters=(), validation=settings.validation if own else ())
    if val_fasta:
        clades = val_clade or ([settings.organisms[0].clade] * len(val_fasta) if settings.organisms else [])
        chosen = organisms_given("val-", val_fasta, val_truth or [], val_mask or [], clades)
        settings = replace(settings, validation=chosen)
    if held_out := comma_list(hold_out):
        settings = replace(settings, held_out=held_out, validation=settings.validation if val_fasta else ())
    if accept_annotation:
        organisms, validation = (
            tuple(replace(organism, accept_annotation=True) for organism in side)
            for side in (settings.organisms, settings.validation)
        )
        settings = replace(settings, organisms=organisms, validation=validation)
    if init and recipe is None:
        settings = like_its_start(settings)
        steps = CONTINUED_STEPS if steps is None else steps
        learning_rate = CONTINUED_LEARNING_RATE if learning_rate is None else learning_rate
    options = settings.train if steps is None else settings.train.of_length(steps)
    options = options if learning_rate is None else replace(options, learning_rate=learning_rate)
    if out is None:
        assert write_pack is not None
        pack_recipe(settings, write_pack)
        return
    run_training(replace(settings, train=options), out, device=device, threads=thread_count(threads), pack=pack)
