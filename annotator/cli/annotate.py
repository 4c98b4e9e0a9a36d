"""The command `annotator annotate`."""

from __future__ import annotations

from typing import Annotated

import typer

from annotator.cli.progress import PROGRESS, make_progress, setup_logging
from annotator.cli.run_options import (
    Bound,
    Clade,
    DupNames,
    Fasta,
    Fdr,
    GapsAsN,
    GpusPerWorker,
    MaskChars,
    Model,
    ModelThreads,
    Motifs,
    NodeTimeout,
    NoEofCheck,
    Out,
    Precision,
    Ray,
    Regions,
    ShardBp,
    ShardTimeout,
    Sheet,
    Stage,
    Tasks,
    TfbsPvalue,
    Threshold,
    Workers,
    annotate_options,
    execution_options,
)
from annotator.cli.values import Device, Formats, NoHeader, Quiet, Verbose, comma_list, one_of
from annotator.output.options import BedOptions, formats_asked
from annotator.preflight import check_annotation


def annotate(
    context: typer.Context,
    out: Out,
    fasta: Fasta = None,
    sheet: Sheet = None,
    model: Model = "compact",
    clade: Clade = "",
    tasks: Tasks = "",
    threshold: Threshold = None,
    fdr: Fdr = None,
    motifs: Motifs = "jaspar",
    tfbs_pvalue: TfbsPvalue = 1e-6,
    bound: Bound = "auto",
    regions: Regions = None,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: ModelThreads = 0,
    workers: Workers = 0,
    gpus_per_worker: GpusPerWorker = 1.0,
    ray: Ray = "off",
    stage: Stage = "shared",
    shard_timeout: ShardTimeout = 0.0,
    node_timeout: NodeTimeout = 120.0,
    max_runtime: Annotated[str, typer.Option(help="Stop after 3h30m, 90m or 3600 (seconds), to be resumed; exit 143.")] = "",
    shard_bp: ShardBp = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace the files of another run in the results folder.")] = False,
    dup_names: DupNames = "error",
    gaps_as_n: GapsAsN = False,
    mask_chars: MaskChars = "",
    tracks: Annotated[
        bool,
        typer.Option(
            "--tracks", help="Write the probability by base of every track and strand too, as bigWig; part of the plan."
        ),
    ] = False,
    formats: Formats = "",
    bed6: Annotated[bool, typer.Option("--bed6", help="Plain BED6, without thick parts and colours: --formats bed6.")] = False,
    bed_extra: Annotated[
        bool,
        typer.Option(
            "--bed-extra", help="More columns, such as probability: --formats bed-extra; IGV desktop refuses such files."
        ),
    ] = False,
    no_header: NoHeader = False,
    no_eof_check: NoEofCheck = False,
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no report.html.")] = False,
    progress: Annotated[str, typer.Option(help=f"{', '.join(PROGRESS)}; json is one object a line on standard output.")] = "auto",
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Call promoters, splice sites and TF binding sites of assemblies, both strands."""
    setup_logging(quiet=quiet, verbose=verbose)
    options = annotate_options(
        model=model, clade=clade, tasks=tasks, threshold=threshold, fdr=fdr, motifs=motifs, tfbs_pvalue=tfbs_pvalue, bound=bound,
        regions=regions, device=device, precision=precision, threads=threads, shard_bp=shard_bp, tracks=tracks,
        overwrite=overwrite, dup_names=dup_names, gaps_as_n=gaps_as_n, mask_chars=mask_chars, no_eof_check=no_eof_check,
        formats=formats_asked(comma_list(formats), BedOptions(not no_header, bed6, bed_extra)),
    )  # fmt: skip
    execution = execution_options(
        workers=workers, gpus_per_worker=gpus_per_worker, ray=ray, bases_via=stage, shard_timeout=shard_timeout,
        node_timeout=node_timeout, max_runtime=max_runtime,
    )  # fmt: skip
    listener = make_progress(one_of("--progress", progress, PROGRESS), quiet=quiet)
    given = fasta or []
    check_annotation(out, given, sheet, motifs, regions)
    from annotator.pipeline.annotate import annotate_into

    annotate_into(out, given, sheet, options, execution, listener, report=not no_report, **(context.obj or {}))
