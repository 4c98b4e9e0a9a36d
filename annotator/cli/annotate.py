"""The commands about runs over genomes: annotate, plan, verify."""

from __future__ import annotations

import json
import logging
import re
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from annotator.cli.progress import PROGRESS, make_progress, setup_logging
from annotator.cli.values import Device, Quiet, Verbose, comma_list, one_of
from annotator.errors import InputError, PartialFailure, UsageError
from annotator.genome.options import GenomeOptions
from annotator.kinds import CLADES, DEFAULT_CLADE, TASKS
from annotator.models.options import PRECISIONS
from annotator.output.options import BedOptions
from annotator.pipeline.options import EVERY_KIND, STAGES, AnnotateOptions, ExecutionOptions

logger = logging.getLogger("annotator")


Fasta = Annotated[
    list[str] | None,
    typer.Argument(help="FASTA: plain, gzip or BGZF; '-' reads standard input. Several: results in OUT/<sample>/."),
]
Sheet = Annotated[
    Path | None, typer.Option(help="CSV with the columns sample,fasta instead of FASTA arguments; paths from the sheet's folder.")
]
Out = Annotated[Path, typer.Option("-o", "--out", help="Results folder; the same command again resumes or does nothing.")]
Model = Annotated[str, typer.Option(help="Bundled model (annotator models list) or a model directory.")]
Clade = Annotated[
    str, typer.Option(help=f"One of {', '.join(CLADES)}: chooses thresholds and the JASPAR group; default {DEFAULT_CLADE}.")
]
Tasks = Annotated[
    str, typer.Option(help=f"Comma-separated from {','.join(TASKS)}. Default: all, but promoter only where validated.")
]
Threshold = Annotated[
    list[str] | None, typer.Option(help="KIND=P (donor, promoter, tfbs, ...), repeatable, or one number for all.")
]
Motifs = Annotated[str, typer.Option(help="'jaspar', or a JASPAR, MEME or TRANSFAC file.")]
TfbsPvalue = Annotated[float, typer.Option(help="p-value threshold of a motif hit.")]
Regions = Annotated[Path | None, typer.Option(help="BED file: only calls positioned in these regions.")]
Precision = Annotated[str, typer.Option(help=f"{', '.join(PRECISIONS)}; auto is bfloat16 on CUDA, float32 on a CPU.")]
ModelThreads = Annotated[
    int,
    typer.Option(
        "-t", "--threads",
        help="CPU threads of each worker's model, part of the plan; 0: all in one process, 1 with --workers, --ray or a GPU.",
    ),
]  # fmt: skip
DupNames = Annotated[str, typer.Option(help="Duplicate contig names: error, or suffix to rename.")]
GapsAsN = Annotated[bool, typer.Option("--gaps-as-n", help="Read '-', '.' and '*' as N instead of refusing.")]
NoEofCheck = Annotated[bool, typer.Option("--no-eof-check", help="Accept BGZF input without its end marker.")]
ShardBp = Annotated[int, typer.Option(help="Bases of a shard, part of the plan; 0: 2 Mb on a CPU, 8 Mb on CUDA.")]
Workers = Annotated[
    int,
    typer.Option(help="Workers, each with a model: local processes or Ray actors. 0: one per GPU, all a cluster holds, or none."),
]
GpusPerWorker = Annotated[float, typer.Option(help="Share of a GPU that a worker takes; 0.5 puts two on one.")]
Ray = Annotated[
    str, typer.Option(help="off; auto: RAY_ADDRESS or a private start; local: a private start; or the address of a cluster.")
]
Stage = Annotated[str, typer.Option(help="shared: workers read the FASTA at its path; object-store: they get bases through Ray.")]
ShardTimeout = Annotated[float, typer.Option(help="Seconds a worker may take for a shard; 0 adapts to the rate seen.")]
NodeTimeout = Annotated[float, typer.Option(help="Seconds to wait for a worker where there is none.")]


def annotate(
    out: Out,
    fasta: Fasta = None,
    sheet: Sheet = None,
    model: Model = "compact",
    clade: Clade = "",
    tasks: Tasks = "",
    threshold: Threshold = None,
    motifs: Motifs = "jaspar",
    tfbs_pvalue: TfbsPvalue = 1e-6,
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
    bed6: Annotated[bool, typer.Option("--bed6", help="Plain BED6, without colours and extra columns.")] = False,
    no_header: Annotated[bool, typer.Option("--no-header", help="BED without comment lines.")] = False,
    no_eof_check: NoEofCheck = False,
    progress: Annotated[str, typer.Option(help=f"{', '.join(PROGRESS)}; json is one object a line on standard output.")] = "auto",
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Call promoters, splice sites and TF binding sites of assemblies, both strands."""
    setup_logging(quiet=quiet, verbose=verbose)
    options = _options(
        model=model, clade=clade, tasks=tasks, threshold=threshold, motifs=motifs, tfbs_pvalue=tfbs_pvalue, regions=regions,
        device=device, precision=precision, threads=threads, shard_bp=shard_bp, overwrite=overwrite, dup_names=dup_names,
        gaps_as_n=gaps_as_n, no_eof_check=no_eof_check, bed=BedOptions(header=not no_header, bed6=bed6),
    )  # fmt: skip
    execution = _execution(
        workers=workers, gpus_per_worker=gpus_per_worker, ray=ray, stage=stage, shard_timeout=shard_timeout,
        node_timeout=node_timeout, max_runtime=max_runtime,
    )  # fmt: skip
    listener = make_progress(one_of("--progress", progress, PROGRESS), quiet=quiet)
    from annotator.pipeline.annotate import annotate as run
    from annotator.pipeline.samples import samples_given
    from annotator.results.batch import BatchFolder

    samples = samples_given(fasta or [], sheet, out)
    if not samples[0].name:
        (outcome,) = run(samples, options, execution, listener)
        assert outcome.run is not None
        _tell(out, outcome.run)
        return
    with closing(BatchFolder(out)) as folder:
        outcomes = run(samples, options, execution, listener)
        folder.summarise([outcome.summary() for outcome in outcomes])
    if failed := [outcome for outcome in outcomes if outcome.exit_code]:
        names = ", ".join(outcome.sample.name for outcome in failed[:10]) + (" ..." if len(failed) > 10 else "")
        raise PartialFailure(f"{len(failed)} of {len(outcomes)} assemblies failed: {names}; {out / 'batch.json'} says why")
    logger.info("%d assemblies in %s", len(outcomes), out)


def _tell(out: Path, run: dict[str, Any]) -> None:
    """Where the results are; PartialFailure where some are missing."""
    for name, entry in run["files"].items():
        if not name.endswith((".csi", ".tbi")):
            logger.info("%s: %s rows", out / name, f"{entry['rows']:,}")
    if run["exit_status"]:
        failed = run["failed_contigs"]
        raise PartialFailure(
            f"{failed['count']} contigs failed and are not in the files ({', '.join(failed['names'][:5])}); "
            f"{out / 'run.json'} says why, the same command tries them again"
        )


def plan(
    fasta: Fasta = None,
    sheet: Sheet = None,
    model: Model = "compact",
    clade: Clade = "",
    tasks: Tasks = "",
    motifs: Motifs = "jaspar",
    tfbs_pvalue: TfbsPvalue = 1e-6,
    regions: Regions = None,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: ModelThreads = 0,
    workers: Workers = 0,
    shard_bp: ShardBp = 0,
    dup_names: DupNames = "error",
    gaps_as_n: GapsAsN = False,
    no_eof_check: NoEofCheck = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Tell what annotate would do: windows, shards, time on this machine (measured on some of the genome), memory, bytes out."""
    setup_logging(quiet=quiet, verbose=verbose)
    options = _options(
        model=model, clade=clade, tasks=tasks, threshold=None, motifs=motifs, tfbs_pvalue=tfbs_pvalue, regions=regions,
        device=device, precision=precision, threads=threads, shard_bp=shard_bp, overwrite=False, dup_names=dup_names,
        gaps_as_n=gaps_as_n, no_eof_check=no_eof_check, bed=BedOptions(),
    )  # fmt: skip
    if workers < 0:
        raise UsageError(f"--workers {workers}: cannot be negative")
    from annotator.pipeline.estimate import estimate, to_text
    from annotator.pipeline.samples import samples_given

    found = estimate(samples_given(fasta or [], sheet, Path("results")), options, workers)
    typer.echo(json.dumps(found, indent=1) if as_json else to_text(found))


def verify(folder: Annotated[Path, typer.Argument(help="Results folder of annotator annotate.")]) -> None:
    """Check every file of a results folder against the sha256 in its run.json."""
    from annotator.results.verify import verify as check

    checked, faults = check(folder)
    for fault in faults:
        typer.echo(fault)
    if faults:
        raise InputError(f"{folder}: {len(faults)} of {checked} files or samples are not what run.json says")
    typer.echo(f"{folder}: {checked} files as run.json says")


def _options(
    *, clade: str, tasks: str, threshold: list[str] | None, tfbs_pvalue: float, regions: Path | None, precision: str,
    threads: int, shard_bp: int, dup_names: str, gaps_as_n: bool, no_eof_check: bool, **others: Any,
) -> AnnotateOptions:  # fmt: skip
    """The options of a run from those of the command line.

    Raises:
        UsageError: One is wrong.
    """
    if not clade:
        clade = DEFAULT_CLADE
        logger.info("clade: %s (the default; choose with --clade)", clade)
    if not 0 < tfbs_pvalue < 1:
        raise UsageError(f"--tfbs-pvalue {tfbs_pvalue:g}: lies between 0 and 1")
    if regions is not None and not regions.exists():
        raise UsageError(f"--regions {regions}: no such file")
    for option, value in (("--threads", threads), ("--shard-bp", shard_bp)):
        if value < 0:
            raise UsageError(f"{option} {value}: cannot be negative")
    return AnnotateOptions(
        clade=one_of("--clade", clade, CLADES), tasks=comma_list(tasks) or None, thresholds=_thresholds(threshold or []),
        tfbs_pvalue=tfbs_pvalue, regions=regions, precision=one_of("--precision", precision, PRECISIONS), threads=threads,
        shard_bp=shard_bp or None,
        genome=GenomeOptions(
            dup_names=one_of("--dup-names", dup_names, ("error", "suffix")),  # type: ignore[arg-type]
            gaps_as_n=gaps_as_n, eof_check=not no_eof_check,
        ),
        **others,
    )  # fmt: skip


def _execution(
    *, workers: int, gpus_per_worker: float, ray: str, stage: str, shard_timeout: float, node_timeout: float, max_runtime: str
) -> ExecutionOptions:
    if workers < 0:
        raise UsageError(f"--workers {workers}: cannot be negative")
    if not (0 < gpus_per_worker <= 1 or gpus_per_worker == int(gpus_per_worker) > 1):
        raise UsageError(f"--gpus-per-worker {gpus_per_worker:g}: a share above 0, up to 1, or a whole number")
    for option, value in (("--shard-timeout", shard_timeout), ("--node-timeout", node_timeout)):
        if not 0 <= value < 1e9:
            raise UsageError(f"{option} {value:g}: seconds from 0 up")
    return ExecutionOptions(
        ray=ray, workers=workers, gpus_per_worker=gpus_per_worker, stage=one_of("--stage", stage, STAGES),
        shard_timeout_s=shard_timeout, node_timeout_s=node_timeout, max_runtime_s=_seconds("--max-runtime", max_runtime),
    )  # fmt: skip


def _seconds(option: str, text: str) -> float:
    """3h30m, 90m, 45s or a bare number of seconds."""
    if not text:
        return 0.0
    if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        return float(text)
    parts = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text, re.ASCII)
    if not parts or not any(parts.groups()):
        raise UsageError(f"{option} {text}: not a time such as 3h30m, 90m or 3600")
    return sum(float(part or 0) * unit for part, unit in zip(parts.groups(), (3600, 60, 1), strict=True))


def _thresholds(values: list[str]) -> dict[str, float]:
    """`KIND=P` or a bare number for all kinds; later ones win."""
    chosen: dict[str, float] = {}
    for value in values:
        kind, equals, number = value.rpartition("=")
        try:
            p = float(number)
        except ValueError:
            raise UsageError(f"--threshold {value}: not KIND=P or a number") from None
        if not 0.0 < p <= 1.0:
            raise UsageError(f"--threshold {value}: a probability lies above 0 and not above 1")
        chosen = chosen | {kind: p} if equals else {EVERY_KIND: p}
    return chosen
