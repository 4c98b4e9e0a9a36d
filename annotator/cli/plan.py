"""The command `annotator plan`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from annotator.cli.progress import setup_logging
from annotator.cli.run_options import (
    Bound,
    Clade,
    DupNames,
    Fasta,
    Fdr,
    GapsAsN,
    MaskChars,
    Model,
    ModelThreads,
    Motifs,
    NoEofCheck,
    Precision,
    Regions,
    ShardBp,
    Sheet,
    Tasks,
    TfbsPvalue,
    Workers,
    annotate_options,
)
from annotator.cli.values import Device, Quiet, Verbose
from annotator.motifs.options import release_named
from annotator.pipeline.options import ExecutionOptions
from annotator.preflight import check_run


def plan(
    fasta: Fasta = None,
    sheet: Sheet = None,
    model: Model = "compact",
    clade: Clade = "",
    tasks: Tasks = "",
    fdr: Fdr = None,
    motifs: Motifs = "jaspar",
    tfbs_pvalue: TfbsPvalue = 1e-6,
    bound: Bound = "auto",
    regions: Regions = None,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: ModelThreads = 0,
    workers: Workers = 0,
    shard_bp: ShardBp = 0,
    dup_names: DupNames = "error",
    gaps_as_n: GapsAsN = False,
    mask_chars: MaskChars = "",
    no_eof_check: NoEofCheck = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Tell what annotate would do: windows, shards, time on this machine (measured on some of the genome), memory, bytes out."""
    setup_logging(quiet=quiet, verbose=verbose)
    options = annotate_options(
        model=model, clade=clade, tasks=tasks, threshold=None, fdr=fdr, motifs=motifs, tfbs_pvalue=tfbs_pvalue, bound=bound,
        regions=regions, device=device, precision=precision, threads=threads, shard_bp=shard_bp, dup_names=dup_names,
        gaps_as_n=gaps_as_n, mask_chars=mask_chars, no_eof_check=no_eof_check,
    )  # fmt: skip
    execution = ExecutionOptions(workers=workers)
    check_run(None, [None if fasta else sheet, *(fasta or []), None if release_named(motifs) else motifs], regions)
    from annotator.pipeline.estimate import estimate, to_text
    from annotator.pipeline.samples import samples_given

    found = estimate(samples_given(fasta or [], sheet, Path("results")), options, execution.workers)
    typer.echo(json.dumps(found, indent=1) if as_json else to_text(found))
