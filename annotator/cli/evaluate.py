"""The command `annotator evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from annotator.checks import check_count
from annotator.cli.progress import setup_logging
from annotator.cli.values import (
    AcceptAnnotation,
    Device,
    Quiet,
    Threads,
    Verbose,
    comma_list,
    existing,
    one_of,
    pairs,
    refuse_idle,
    thread_count,
)
from annotator.errors import PartialFailure, UsageError
from annotator.kinds import CLADES, DEFAULT_CLADE
from annotator.models.options import PRECISIONS
from annotator.preflight import check_run


def evaluate(
    model: Annotated[str, typer.Argument(help="Bundled model, model directory, or (with --gue) a folder of them.")],
    table: Annotated[Path | None, typer.Option(help="One labelled table, for a classifier of windows.")] = None,
    gue: Annotated[Path | None, typer.Option(help="Folder of tasks; the models lie at the same places below MODEL.")] = None,
    split: Annotated[str, typer.Option(help="Tables to take, comma-separated: of each task the first it has.")] = "test,dev",
    fasta: Annotated[Path | None, typer.Option(help="Genome, for a model that calls sites.")] = None,
    truth: Annotated[Path | None, typer.Option("--truth", "--gtf", help="Its sites: BED or GTF/GFF3.")] = None,
    feature: Annotated[
        list[str] | None, typer.Option(help="NAME=BED of the elements of a track of the user's own; repeatable.")
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="BED of sites that are neither truth nor error.")] = None,
    clade: Annotated[str, typer.Option(help=f"Of the genome: {', '.join(CLADES)}.")] = DEFAULT_CLADE,
    trim_bp: Annotated[int, typer.Option(help="Cut up to this much off contig ends at random: for loci around genes.")] = 0,
    hold_out: Annotated[str, typer.Option(help="Measure on these contigs of the genome alone, comma-separated.")] = "",
    accept_annotation: AcceptAnnotation = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here as well.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw them: .png or .svg (needs matplotlib).")] = None,
    replicates: Annotated[int, typer.Option(help="Draws of the bootstrap behind the intervals.")] = 1000,
    precision: Annotated[str, typer.Option(help=f"{', '.join(PRECISIONS)}.")] = "auto",
    device: Device = "auto",
    threads: Threads = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure a model: MCC, F1, AUROC and AUPRC on tables; top-k, AUPRC, precision, recall and reliability on a genome."""
    setup_logging(quiet=quiet, verbose=verbose)
    check_run(None, [])
    elements = [(track, Path(path)) for track, path in pairs("--feature", feature).items()]
    if sum(map(bool, (table, gue, fasta))) != 1 or bool(fasta) != bool(truth or elements):
        raise UsageError("give --table, or --gue, or --fasta with its --truth or --feature")
    if elements:
        refuse_idle({"--trim-bp": trim_bp, "--hold-out": hold_out, "--plot": plot if not truth else None}, "--truth alone")
    refuse_idle({"--mask": mask} if truth is None else {}, "--truth")
    if fasta is None:
        of_genomes = {"--mask": mask, "--trim-bp": trim_bp, "--hold-out": hold_out, "--accept-annotation": accept_annotation}
        refuse_idle(of_genomes, "--fasta")
    if not comma_list(split):
        raise UsageError(f"--split {split}: names no table")
    one_of("--clade", clade, CLADES)
    one_of("--precision", precision, PRECISIONS)
    check_count("replicates", replicates, least=1)
    check_count("trim_bp", trim_bp)
    from annotator.evaluation.genome_report import GenomeReport, evaluate_genome
    from annotator.evaluation.report_plot import check_plot, write_plot
    from annotator.evaluation.report_text import to_text, write_json
    from annotator.evaluation.task_report import TaskReport, evaluate_table, evaluate_tables
    from annotator.labels.options import Organism

    if plot is not None:
        check_plot(plot)
    where: dict[str, Any] = {"device": device, "precision": precision, "threads": thread_count(threads)}
    report: GenomeReport | TaskReport
    if table is not None:
        report = TaskReport((evaluate_table(model, existing("--table", table) or table, **where),), {}, {})
    elif gue is not None:
        report = evaluate_tables(Path(model), gue, comma_list(split), **where)
    else:
        assert fasta is not None
        given = [("--fasta", fasta), ("--truth", truth), ("--mask", mask), *(("--feature", bed) for _, bed in elements)]
        for option, path in given:
            existing(option, path)
        organism = Organism(
            fasta.name.partition(".")[0], clade, fasta, truth, mask, trim_bp=trim_bp, accept_annotation=accept_annotation
        )
        contigs = comma_list(hold_out)
        report = evaluate_genome(model, organism, replicates=replicates, held_out=contigs, features=elements, **where)
    typer.echo(to_text(report))
    if json_file is not None:
        write_json(report, json_file)
    if plot is not None:
        write_plot(report, plot)
    if isinstance(report, TaskReport) and not report.tasks and not report.failed:
        raise UsageError(
            f"{model}: nothing could be measured; " + "; ".join(f"{task}: {why}" for task, why in report.missing.items())
        )
    if isinstance(report, TaskReport) and report.failed:
        raise PartialFailure("; ".join(f"{task}: {why}" for task, why in report.failed.items()))
