"""The command `annotator pretrain`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from annotator.cli.progress import setup_logging
from annotator.cli.values import (
    AllowDownload,
    Device,
    Quiet,
    Threads,
    Verbose,
    comma_list,
    json_table,
    one_of,
    resolved_model,
    thread_count,
)
from annotator.errors import UsageError
from annotator.models.options import FAMILIES
from annotator.preflight import check_run

logger = logging.getLogger("annotator")


def pretrain(
    fasta: Annotated[list[Path], typer.Argument(help="Genomes to learn from: plain, gzip or BGZF FASTA.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Run folder; the same command again goes on after a kill.")],
    family: Annotated[str, typer.Option(help=f"One of {', '.join(FAMILIES)}; a checkpoint says its own.")] = "",
    size: Annotated[str, typer.Option(help="tiny, small (the default), base or another of the family's sizes.")] = "",
    architecture: Annotated[Path | None, typer.Option(help="JSON file of fields that replace those of the size.")] = None,
    checkpoint: Annotated[str, typer.Option(help="Go on from this checkpoint (directory, or hub:OWNER/NAME@COMMIT).")] = "",
    val_fasta: Annotated[list[Path] | None, typer.Option(help="Genome to validate on; repeatable.")] = None,
    hold_out: Annotated[str, typer.Option(help="Contigs of the genomes that are validated on, comma-separated.")] = "",
    window_bp: Annotated[int, typer.Option(help="Bases of a window; 0 for 512.")] = 0,
    mask_share: Annotated[float | None, typer.Option(help="Share of the tokens that is hidden; 0.15 by default.")] = None,
    hidden_bp: Annotated[int, typer.Option(help="Stride-1 k-mers: a span hides 1 to this many bases.")] = 1,
    steps: Annotated[int, typer.Option(help="Optimiser steps in all.")] = 20_000,
    batch: Annotated[int, typer.Option(help="Windows a step.")] = 64,
    accumulation: Annotated[int, typer.Option(help="Parts a batch is computed in.")] = 1,
    learning_rate: Annotated[float, typer.Option(help="Peak, after the warm-up.")] = 4e-4,
    warmup: Annotated[int, typer.Option(help="Steps of warm-up.")] = 500,
    checkpoint_steps: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 500,
    validate_steps: Annotated[int, typer.Option(help="Steps between validations.")] = 1000,
    bf16: Annotated[bool, typer.Option("--bf16", help="Autocast to bfloat16.")] = False,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 1,
    licence: Annotated[str, typer.Option(help="Of the new weights; those that go on from a checkpoint keep its.")] = "not stated",
    allow_download: AllowDownload = False,
    device: Device = "auto",
    threads: Threads = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Pre-train a language model of DNA (masked or causal) on genomes, from scratch or from a checkpoint."""
    setup_logging(quiet=quiet, verbose=verbose)
    check_run(out, [*fasta, *(val_fasta or ())])
    if bool(family) == bool(checkpoint):
        raise UsageError("give --family (and --size) to begin, or --checkpoint to go on from one")
    if family == "biogpt" and mask_share is not None:
        raise UsageError("--mask-share: biogpt learns to continue, nothing is masked")
    from annotator.training.pretrain.options import CorpusOptions, MaskOptions, PretrainOptions, PretrainSettings
    from annotator.training.pretrain.run import run_pretraining

    settings = PretrainSettings(
        corpus=CorpusOptions(
            fasta=tuple(fasta), val_fasta=tuple(val_fasta or ()), held_out=comma_list(hold_out),
            **({"window_bp": window_bp} if window_bp else {}),  # type: ignore[arg-type]
        ),
        family=one_of("--family", family, FAMILIES) if family else None,
        size=size or ("small" if family else ""),
        architecture=json_table(architecture),
        checkpoint=Path(resolved_model(checkpoint, allow_download=allow_download)) if checkpoint else None,
        mask=MaskOptions(share=0.15 if mask_share is None else mask_share, longest_hidden_bp=hidden_bp),
        train=PretrainOptions(
            steps=steps, batch_windows=batch, accumulation=accumulation, learning_rate=learning_rate, warmup_steps=warmup,
            checkpoint_steps=checkpoint_steps, validate_steps=validate_steps, seed=seed, bf16=bf16,
        ),
        licence=licence,
    )  # fmt: skip
    logger.info("wrote %s", run_pretraining(settings, out, device=device, threads=thread_count(threads)))
