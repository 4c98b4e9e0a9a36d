"""The commands that learn and measure: train, pretrain, finetune, evaluate. They check what was typed and hand it on."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from annotator.cli.progress import setup_logging
from annotator.cli.values import (
    AllowDownload,
    Device,
    Quiet,
    Threads,
    Verbose,
    comma_list,
    existing,
    one_of,
    pairs,
    resolved_model,
    thread_count,
    whole_numbers,
)
from annotator.errors import InputError, PartialFailure, UsageError
from annotator.kinds import CLADES, DEFAULT_CLADE, Kind
from annotator.models.options import FAMILIES, PRECISIONS

logger = logging.getLogger("annotator")


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
    if bool(family) == bool(checkpoint):
        raise UsageError("give --family (and --size) to begin, or --checkpoint to go on from one")
    if family == "biogpt" and mask_share is not None:
        raise UsageError("--mask-share: biogpt learns to continue, nothing is masked")
    from annotator.training.pretrain.options import CorpusOptions, MaskOptions, PretrainOptions, PretrainSettings
    from annotator.training.pretrain.run import run_pretraining

    try:
        settings = PretrainSettings(
            corpus=CorpusOptions(
                fasta=tuple(fasta), val_fasta=tuple(val_fasta or ()), held_out=comma_list(hold_out),
                **({"window_bp": window_bp} if window_bp else {}),  # type: ignore[arg-type]
            ),
            family=one_of("--family", family, FAMILIES) if family else None,
            size=size or ("small" if family else ""),
            architecture=_json_table(architecture),
            checkpoint=Path(resolved_model(checkpoint, allow_download=allow_download)) if checkpoint else None,
            mask=MaskOptions(share=0.15 if mask_share is None else mask_share, longest_hidden_bp=hidden_bp),
            train=PretrainOptions(
                steps=steps, batch_rows=batch, accumulation=accumulation, learning_rate=learning_rate, warmup_steps=warmup,
                checkpoint_steps=checkpoint_steps, validate_steps=validate_steps, seed=seed, bf16=bf16,
            ),
            licence=licence,
        )  # fmt: skip
    except ValueError as error:
        raise UsageError(str(error)) from None
    logger.info("wrote %s", run_pretraining(settings, out, device=device, threads=thread_count(threads)))


def finetune(
    out: Annotated[Path, typer.Option("-o", "--out", help="Run folder; the same command again goes on after a kill.")],
    base: Annotated[
        str,
        typer.Option(help="Checkpoint directory, hub:OWNER/NAME@COMMIT, FAMILY:SIZE from scratch, or compact (from scratch)."),
    ] = "compact",
    train: Annotated[Path | None, typer.Option(help="Table sequence,label (GUE .csv, DNABERT .tsv; .gz) to learn from.")] = None,
    dev: Annotated[Path | None, typer.Option(help="Table to stop and calibrate on; a tenth of --train by default.")] = None,
    gue: Annotated[Path | None, typer.Option(help="Folder of tasks: every sub-folder with a train table, one run each.")] = None,
    classes: Annotated[str, typer.Option(help="What label 0, 1, ... stand for: other, tss, donor, acceptor or a name.")] = "",
    anchor: Annotated[
        list[str] | None, typer.Option(help="CLASS=BASE: the base of the window that donor, acceptor or tss speaks of.")
    ] = None,
    stride_bp: Annotated[int, typer.Option(help="Bases between windows when the model scans a genome; 0 chooses.")] = 0,
    fasta: Annotated[list[Path] | None, typer.Option(help="Genome to learn bases from; repeatable.")] = None,
    truth: Annotated[
        list[Path] | None, typer.Option("--truth", "--gtf", help="Its sites: BED or GTF/GFF3; one per --fasta.")
    ] = None,
    mask: Annotated[list[str] | None, typer.Option(help="BED left out of the loss; one per --fasta, '-' for none.")] = None,
    val_fasta: Annotated[list[Path] | None, typer.Option(help="Genome to stop and calibrate on.")] = None,
    val_truth: Annotated[list[Path] | None, typer.Option("--val-truth", "--val-gtf", help="Its sites.")] = None,
    val_mask: Annotated[list[str] | None, typer.Option(help="Its sites left out of scoring; '-' for none.")] = None,
    feature: Annotated[list[str] | None, typer.Option(help="NAME=BED of another track of --fasta; repeatable.")] = None,
    val_feature: Annotated[list[str] | None, typer.Option(help="NAME=BED of the same track of --val-fasta.")] = None,
    window_bp: Annotated[
        int, typer.Option(help="Bases of a window of a genome; 0 for as many as the model takes, at most 2,048.")
    ] = 0,
    margin_bp: Annotated[int, typer.Option(help="Bases at either side that are context only; 0 for a quarter.")] = 0,
    tfbs: Annotated[str, typer.Option(help="Names of classes or features that are binding sites, comma-separated.")] = "",
    clade: Annotated[str, typer.Option(help=f"Of the data: {', '.join(CLADES)}.")] = DEFAULT_CLADE,
    name: Annotated[str, typer.Option(help="Of the model; the run folder's by default.")] = "",
    family: Annotated[str, typer.Option(help="Of the checkpoint, where its config.json does not tell.")] = "",
    architecture: Annotated[Path | None, typer.Option(help="JSON file of fields that replace those of the size.")] = None,
    lora: Annotated[bool, typer.Option("--lora", help="Learn low-rank adapters instead of all weights.")] = False,
    lora_rank: Annotated[int | None, typer.Option(help="Of the adapters; 8 by default.")] = None,
    lora_alpha: Annotated[int | None, typer.Option(help="Their scale is alpha / rank; 16 by default.")] = None,
    lora_targets: Annotated[str, typer.Option(help="Linear modules that get one; the family's own by default.")] = "",
    epochs: Annotated[float | None, typer.Option(help="Passes over a table.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps; needed for genomes.")] = None,
    batch: Annotated[int | None, typer.Option(help="Windows a step, over all processes.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak, after the warm-up.")] = None,
    dropout: Annotated[float | None, typer.Option(help="Before the last layer (compact: in its trunk too).")] = None,
    class_weights: Annotated[str, typer.Option(help="none, or balanced.")] = "none",
    patience: Annotated[int | None, typer.Option(help="Validations without a gain before the run ends; 0 for never.")] = None,
    validate_steps: Annotated[int | None, typer.Option(help="Steps between validations; 0 chooses.")] = None,
    bf16: Annotated[bool | None, typer.Option("--bf16/--no-bf16", help="Autocast to bfloat16; by default on CUDA.")] = None,
    processes: Annotated[int, typer.Option(help="One a GPU, or several on a CPU; each learns its share of every batch.")] = 1,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 1,
    licence: Annotated[str, typer.Option(help="Of the new weights; those that start from a checkpoint keep its.")] = "not stated",
    allow_download: AllowDownload = False,
    device: Device = "auto",
    threads: Threads = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Fine-tune a model to classify windows or to label bases; the result is a model directory for annotate --model."""
    setup_logging(quiet=quiet, verbose=verbose)
    if sum(map(bool, (train, gue, fasta))) != 1:
        raise UsageError("give --train (a table), --gue (a folder of tasks) or --fasta (a genome with --truth or --feature)")
    of_tables = {"--classes": classes, "--anchor": anchor, "--stride-bp": stride_bp, "--epochs": epochs}
    of_genomes = {
        "--truth": truth, "--mask": mask, "--val-fasta": val_fasta, "--val-truth": val_truth, "--val-mask": val_mask,
        "--feature": feature, "--val-feature": val_feature, "--window-bp": window_bp, "--margin-bp": margin_bp,
    }  # fmt: skip
    _refuse_idle(of_tables if fasta else of_genomes, "a table" if fasta else "a genome (--fasta)")
    _refuse_idle({"--dev": dev} if train is None else {}, "--train")
    of_lora = {"--lora-rank": lora_rank, "--lora-alpha": lora_alpha, "--lora-targets": lora_targets}
    _refuse_idle({} if lora else of_lora, "--lora")
    _refuse_idle({} if classes or fasta else {"--anchor": anchor, "--tfbs": tfbs}, "--classes")
    from_scratch = base == "compact" or base.partition(":")[0] in FAMILIES
    _refuse_idle({"--family": family} if from_scratch else {}, "a checkpoint")
    if epochs is not None and steps:
        raise UsageError("--epochs and --steps: give one of them")
    one_of("--clade", clade, CLADES)
    from annotator.cli.recipe import genome_data
    from annotator.training.finetune.gue import run_finetuning_folder
    from annotator.training.finetune.options import (
        FeatureTrack,
        FinetuneSettings,
        GenomeData,
        LoraOptions,
        TableData,
        default_options,
    )
    from annotator.training.finetune.run import run_finetuning

    sites = comma_list(tfbs)
    named = dict.fromkeys((*comma_list(classes), *pairs("--feature", feature), *sites))
    features = tuple(
        FeatureTrack(track, Kind.TFBS if track in sites else Kind.FEATURE)
        for track in named
        if track not in ("other", "donor", "acceptor", "tss")
    )
    given = {
        "epochs": epochs, "steps": steps, "batch_rows": batch, "learning_rate": learning_rate, "patience": patience,
        "validate_steps": validate_steps, "bf16": bf16, "dropout": dropout,
    }  # fmt: skip
    chosen = {key: value for key, value in given.items() if value is not None}
    adapters = {key: value for key, value in (("rank", lora_rank), ("alpha", lora_alpha)) if value is not None}
    try:
        options = replace(
            default_options(base, lora=lora), class_weights=class_weights, processes=processes, seed=seed, **chosen  # type: ignore[arg-type]
        )  # fmt: skip
        data: TableData | GenomeData
        if fasta:
            data = genome_data(
                fasta, truth or [], mask or [], pairs("--feature", feature),
                val_fasta or [], val_truth or [], val_mask or [], pairs("--val-feature", val_feature), clade, features,
                window_bp=window_bp, margin_bp=margin_bp,
            )  # fmt: skip
        else:
            data = TableData(
                train=existing("--train", train) or Path(), dev=existing("--dev", dev), classes=comma_list(classes),
                anchor_bp=whole_numbers("--anchor", pairs("--anchor", anchor)), features=features, stride_bp=stride_bp,
            )  # fmt: skip
        settings = FinetuneSettings(
            name=name or out.resolve().name, base=resolved_model(base, allow_download=allow_download), data=data,
            family=family or None, architecture=_json_table(architecture), options=options, clade=clade, licence=licence,
            lora=LoraOptions(**adapters, targets=comma_list(lora_targets)) if lora else None,
        )  # fmt: skip
    except ValueError as error:
        raise UsageError(str(error)) from None
    if gue is None:
        run_finetuning(settings, out, device=device, threads=thread_count(threads))
        return
    runs = run_finetuning_folder(settings, existing("--gue", gue) or gue, out, device=device, threads=thread_count(threads))
    if failed := [f"{run.task}: {run.error}" for run in runs if run.model is None]:
        raise PartialFailure(f"{len(failed)} of {len(runs)} tasks failed: " + "; ".join(failed))


def evaluate(
    model: Annotated[str, typer.Argument(help="Bundled model, model directory, or (with --gue) a folder of them.")],
    table: Annotated[Path | None, typer.Option(help="One labelled table, for a classifier of windows.")] = None,
    gue: Annotated[Path | None, typer.Option(help="Folder of tasks; the models lie at the same places below MODEL.")] = None,
    split: Annotated[str, typer.Option(help="Tables to take, comma-separated: of each task the first it has.")] = "test,dev",
    fasta: Annotated[Path | None, typer.Option(help="Genome, for a model that calls sites.")] = None,
    truth: Annotated[Path | None, typer.Option("--truth", "--gtf", help="Its sites: BED or GTF/GFF3.")] = None,
    mask: Annotated[Path | None, typer.Option(help="BED of sites that are neither truth nor error.")] = None,
    clade: Annotated[str, typer.Option(help=f"Of the genome: {', '.join(CLADES)}.")] = DEFAULT_CLADE,
    trim_bp: Annotated[
        int, typer.Option(min=0, help="Cut up to this much off contig ends at random: for loci around genes.")
    ] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here as well.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw them: .png or .svg (needs matplotlib).")] = None,
    replicates: Annotated[int, typer.Option(min=1, help="Draws of the bootstrap behind the intervals.")] = 1000,
    precision: Annotated[str, typer.Option(help=f"{', '.join(PRECISIONS)}.")] = "auto",
    device: Device = "auto",
    threads: Threads = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure a model: MCC, F1, AUROC and AUPRC on tables; top-k, AUPRC, precision, recall and reliability on a genome."""
    setup_logging(quiet=quiet, verbose=verbose)
    if sum(map(bool, (table, gue, fasta))) != 1 or bool(fasta) != bool(truth):
        raise UsageError("give --table, or --gue, or --fasta with its --truth")
    if fasta is None and (mask or trim_bp):
        raise UsageError("--mask and --trim-bp go with --fasta")
    if not comma_list(split):
        raise UsageError(f"--split {split}: names no table")
    one_of("--clade", clade, CLADES)
    one_of("--precision", precision, PRECISIONS)
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
        assert fasta is not None and truth is not None
        for option, path in (("--fasta", fasta), ("--truth", truth), ("--mask", mask)):
            existing(option, path)
        organism = Organism(fasta.name.partition(".")[0], clade, fasta, truth, mask, trim_bp=trim_bp)
        report = evaluate_genome(model, organism, replicates=replicates, **where)
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


def _refuse_idle(options: dict[str, Any], belongs_to: str) -> None:
    """Raise UsageError where an option was given that nothing would look at."""
    if idle := [name for name, value in options.items() if value]:
        raise UsageError(f"{idle[0]}: only with {belongs_to}")


def _json_table(path: Path | None) -> dict[str, Any]:
    """Contents of a JSON file that holds one object; nothing where there is no file."""
    if path is None:
        return {}
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from None
    if not isinstance(raw, dict):
        raise InputError(f"{path}: not a JSON object")
    return raw
