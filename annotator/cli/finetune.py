"""The command `annotator finetune`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from annotator.cli.progress import setup_logging
from annotator.cli.values import (
    AcceptAnnotation,
    AllowDownload,
    Device,
    Quiet,
    Threads,
    Verbose,
    comma_list,
    existing,
    json_table,
    model_name,
    one_of,
    pairs,
    refuse_idle,
    resolved_model,
    thread_count,
    whole_numbers,
)
from annotator.errors import PartialFailure, UsageError
from annotator.kinds import CLADES, DEFAULT_CLADE, Kind
from annotator.models.options import FAMILIES
from annotator.preflight import check_run


def finetune(
    out: Annotated[Path, typer.Option("-o", "--out", help="Run folder; the same command again goes on after a kill.")],
    base: Annotated[
        str,
        typer.Option(
            help="Checkpoint directory, hub:OWNER/NAME@COMMIT, FAMILY:SIZE from scratch, or compact: from scratch for tables, "
            "from the bundled weights for genomes (which also take compact:random and the directory of a compact model)."
        ),
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
    sigma_bp: Annotated[
        float | None,
        typer.Option(help="Width of the bell around a tss or the middle of a feature that is learnt; 10 by default."),
    ] = None,
    tfbs: Annotated[str, typer.Option(help="Names of classes or features that are binding sites, comma-separated.")] = "",
    accept_annotation: AcceptAnnotation = False,
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
    licence: Annotated[str, typer.Option(help="Of the new weights; those of a checkpoint keep its, if stated.")] = "not stated",
    allow_download: AllowDownload = False,
    device: Device = "auto",
    threads: Threads = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Fine-tune a model to classify windows or to label bases; the result is a model directory for annotate --model."""
    setup_logging(quiet=quiet, verbose=verbose)
    check_run(out, [*(fasta or ()), *(val_fasta or ())])
    if sum(map(bool, (train, gue, fasta))) != 1:
        raise UsageError("give --train (a table), --gue (a folder of tasks) or --fasta (a genome with --truth or --feature)")
    of_tables = {"--classes": classes, "--anchor": anchor, "--stride-bp": stride_bp, "--epochs": epochs}
    of_genomes = {
        "--truth": truth, "--mask": mask, "--val-fasta": val_fasta, "--val-truth": val_truth, "--val-mask": val_mask,
        "--feature": feature, "--val-feature": val_feature, "--window-bp": window_bp, "--margin-bp": margin_bp,
        "--sigma-bp": sigma_bp, "--accept-annotation": accept_annotation,
    }  # fmt: skip
    refuse_idle(of_tables if fasta else of_genomes, "a table" if fasta else "a genome (--fasta)")
    refuse_idle({"--dev": dev} if train is None else {}, "--train")
    of_lora = {"--lora-rank": lora_rank, "--lora-alpha": lora_alpha, "--lora-targets": lora_targets}
    refuse_idle({} if lora else of_lora, "--lora")
    refuse_idle({} if classes or fasta else {"--anchor": anchor, "--tfbs": tfbs}, "--classes")
    sites_alone = fasta and base == "compact" and not feature and not val_feature
    if sites_alone:
        of_families = {
            "--tfbs": tfbs, "--lora": lora, "--architecture": architecture, "--patience": patience, "--sigma-bp": sigma_bp,
            "--class-weights": class_weights != "none",
        }  # fmt: skip
        refuse_idle(of_families, "a family or a checkpoint as --base, or with --feature, or with tables")
        if processes != 1:
            raise UsageError("--processes: compact learns in one process")
    from_scratch = base in ("compact", "compact:random") or base.partition(":")[0] in FAMILIES
    refuse_idle({"--family": family} if from_scratch else {}, "a checkpoint")
    if epochs is not None and steps:
        raise UsageError("--epochs and --steps: give one of them")
    one_of("--clade", clade, CLADES)
    from annotator.cli.recipe import genome_data, refuse_loose
    from annotator.training.finetune.start import refuse_bad_base

    refuse_loose("", fasta, {"truth": truth})
    refuse_loose("val-", val_fasta, {"truth": val_truth})
    model = model_name(name, out)
    if fasta and sites_alone:
        _continue_compact(
            (fasta, truth or [], mask or []), (val_fasta or [], val_truth or [], val_mask or []), out, clade=clade, name=model,
            licence=licence, window_bp=window_bp, margin_bp=margin_bp, accept_annotation=accept_annotation, device=device,
            threads=thread_count(threads),
            chosen={
                "steps": steps, "batch_windows": batch, "learning_rate": learning_rate, "dropout": dropout,
                "validate_steps": validate_steps, "bf16": bf16, "seed": seed,
            },
        )  # fmt: skip
        return
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
        "epochs": epochs, "steps": steps, "batch_windows": batch, "learning_rate": learning_rate, "patience": patience,
        "validate_steps": validate_steps, "bf16": bf16, "dropout": dropout,
    }  # fmt: skip
    chosen = {key: value for key, value in given.items() if value is not None}
    adapters = {key: value for key, value in (("rank", lora_rank), ("alpha", lora_alpha)) if value is not None}
    options = replace(
        default_options(base, lora=lora, genomes=bool(fasta)), processes=processes, seed=seed,
        class_weights=class_weights, **chosen,  # type: ignore[arg-type]
    )  # fmt: skip
    data: TableData | GenomeData
    if fasta:
        data = genome_data(
            fasta, truth or [], mask or [], pairs("--feature", feature),
            val_fasta or [], val_truth or [], val_mask or [], pairs("--val-feature", val_feature), clade, features,
            window_bp=window_bp, margin_bp=margin_bp, accept_annotation=accept_annotation,
        )  # fmt: skip
        data = data if sigma_bp is None else replace(data, sigma_bp=sigma_bp)
    else:
        data = TableData(
            train=existing("--train", train) or Path(), dev=existing("--dev", dev), classes=comma_list(classes),
            anchor_bp=whole_numbers("--anchor", pairs("--anchor", anchor)), features=features, stride_bp=stride_bp,
        )  # fmt: skip
    settings = FinetuneSettings(
        name=model, base=resolved_model(base, allow_download=allow_download), data=data,
        family=family or None, architecture=json_table(architecture), options=options, clade=clade, licence=licence,
        lora=LoraOptions(**adapters, targets=comma_list(lora_targets)) if lora else None,
    )  # fmt: skip
    refuse_bad_base(settings)
    if gue is None:
        run_finetuning(settings, out, device=device, threads=thread_count(threads))
        return
    runs = run_finetuning_folder(settings, existing("--gue", gue) or gue, out, device=device, threads=thread_count(threads))
    if failed := [f"{run.task}: {run.error}" for run in runs if run.model is None]:
        raise PartialFailure(f"{len(failed)} of {len(runs)} tasks failed: " + "; ".join(failed))


def _continue_compact(
    learnt: tuple[list[Path], list[Path], list[str]], held: tuple[list[Path], list[Path], list[str]], out: Path, *,
    clade: str, name: str, licence: str, window_bp: int, margin_bp: int, accept_annotation: bool, device: str, threads: int,
    chosen: dict[str, Any],
) -> None:  # fmt: skip
    """Go on from the bundled weights with genomes, as `annotator train --init compact` does.

    Args:
        learnt: Genomes to learn from, the sites of each, and the masks.
        held: Genomes to calibrate on, the same way.
        out: Run folder.
        clade: Clade of all genomes.
        name: Name of the model.
        licence: Licence of the weights.
        window_bp: Bases of a window; 0 for the recipe's.
        margin_bp: Bases at either side that are context only; 0 for the recipe's, or a quarter of `window_bp`.
        accept_annotation: Go on where most introns lack the signals of splice sites.
        device: auto, cpu, cuda or cuda:N.
        threads: CPU threads.
        chosen: Fields of `TrainOptions`; None where the default stays.
    """
    from annotator.cli.recipe import organisms_given, read_recipe
    from annotator.training.compact.options import CONTINUED_LEARNING_RATE, CONTINUED_STEPS, RECIPE
    from annotator.training.compact.run import run_training
    from annotator.training.compact.start import like_its_start

    if not held[0]:
        raise UsageError("--val-fasta: needed with --fasta; thresholds come from it")
    given = {"learning_rate": CONTINUED_LEARNING_RATE} | {key: value for key, value in chosen.items() if value is not None}
    settings = replace(read_recipe(RECIPE, Path(), name), licence=licence, init="compact")
    margin = margin_bp or (window_bp // 4 if window_bp else settings.windows.margin_bp)
    options = replace(settings.train.of_length(given.pop("steps", CONTINUED_STEPS)), **given)
    windows = replace(settings.windows, window_bp=window_bp or settings.windows.window_bp, margin_bp=margin)
    if windows.window_bp % settings.architecture["step_bp"]:
        raise UsageError(f"--window-bp {window_bp}: compact needs a multiple of {settings.architecture['step_bp']}")
    organisms, validation = (
        tuple(
            replace(organism, accept_annotation=accept_annotation)
            for organism in organisms_given(prefix, *files, [clade] * len(files[0]))
        )
        for prefix, files in (("", learnt), ("val-", held))
    )
    settings = replace(settings, train=options, windows=windows, organisms=organisms, promoters=(), validation=validation)
    run_training(like_its_start(settings), out, device=device, threads=threads)
