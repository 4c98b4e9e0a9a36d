"""Options that check themselves: the field in Python's terms, the flag in the command line's."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer.main

import annotator
from annotator.cli.app import app, main
from annotator.cli.evaluate import evaluate
from annotator.cli.finetune import finetune
from annotator.cli.pretrain import pretrain
from annotator.cli.progress import setup_logging
from annotator.cli.recipe import read_recipe
from annotator.cli.train import train
from annotator.cli.values import FLAG_OF_FIELD, in_flags, with_flags
from annotator.errors import AnnotatorError, EnvironmentFault, InputError, UsageError
from annotator.genome.options import GenomeOptions
from annotator.labels.options import Organism
from annotator.output.options import BedOptions
from annotator.pipeline.options import AnnotateOptions, ExecutionOptions
from annotator.training.compact.options import RECIPE, TrainOptions
from annotator.training.finetune.options import FeatureTrack, FinetuneOptions, GenomeData, LoraOptions, TableData
from annotator.training.options import LoopOptions, WindowOptions
from annotator.training.pretrain.options import CorpusOptions, MaskOptions, PretrainOptions

NO_FLAG = {"batch_bp", "genome"}
"""Fields that the command line has no flag for: one chosen by the program, and one that holds options itself."""

WRONG: list[tuple[Callable[..., object], dict[str, Any], str, str]] = [
    (AnnotateOptions, {"threads": -1}, "threads=-1: cannot be negative", "--threads -1: cannot be negative"),
    (AnnotateOptions, {"threads": "two"}, "threads='two': give a whole number", "--threads two: give a whole number"),
    (AnnotateOptions, {"threads": True}, "threads=True: give a whole number", "--threads True: give a whole number"),
    (AnnotateOptions, {"shard_bp": -5}, "shard_bp=-5: cannot be negative", "--shard-bp -5: cannot be negative"),
    (AnnotateOptions, {"clade": "fish"}, "clade='fish': choose from vert", "--clade fish: choose from vert"),
    (AnnotateOptions, {"precision": "int8"}, "precision='int8': choose", "--precision int8: choose from auto, float32"),
    (AnnotateOptions, {"device": "tpu"}, "device='tpu': choose auto, cpu", "--device tpu: choose auto, cpu, cuda or cuda:N"),
    (AnnotateOptions, {"tasks": ("genes",)}, "tasks='genes': choose from promoter", "--tasks genes: choose from promoter"),
    (AnnotateOptions, {"tasks": "splice"}, "tasks='splice': give a tuple such as ('splice',)", "--tasks splice: give a tuple"),
    (AnnotateOptions, {"tasks": ()}, "tasks: name one at the least", "--tasks: name one"),
    (AnnotateOptions, {"thresholds": {"donor": 2}}, 'thresholds["donor"]=2: a probability', "--threshold donor=2: a probab"),
    (AnnotateOptions, {"thresholds": {"all": 0.0}}, 'thresholds["all"]=0.0: a probability', "--threshold 0: a probability lies"),
    (AnnotateOptions, {"thresholds": {"tfbs": "x"}}, "thresholds[\"tfbs\"]='x': give a number", "--threshold tfbs=x: give a n"),
    (AnnotateOptions, {"tfbs_pvalue": 1.0}, "tfbs_pvalue=1.0: lies between", "--tfbs-pvalue 1: lies between 0 and 1"),
    (AnnotateOptions, {"tfbs_pvalue": float("nan")}, "tfbs_pvalue=nan: give a number", "--tfbs-pvalue nan: give a number"),
    (AnnotateOptions, {"regions": Path("no.bed")}, "regions='no.bed': no such file", "--regions no.bed: no such file"),
    (AnnotateOptions, {"overwrite": "no"}, "overwrite='no': give True or False", "--overwrite no: give True or False"),
    (AnnotateOptions, {"tracks": 1}, "tracks=1: give True or False", "--tracks 1: give True or False"),
    (GenomeOptions, {"dup_names": "drop"}, "dup_names='drop': choose from error, suffix", "--dup-names drop: choose from error"),
    (GenomeOptions, {"eof_check": 1}, "eof_check=1: give True or False", "--no-eof-check 1: give True or False"),
    (BedOptions, {"bed6": None}, "bed6: give True or False", "--bed6: give True or False"),
    (ExecutionOptions, {"workers": -2}, "workers=-2: cannot be negative", "--workers -2: cannot be negative"),
    (ExecutionOptions, {"gpus_per_worker": 1.5}, "gpus_per_worker=1.5: a share", "--gpus-per-worker 1.5: a share above 0"),
    (
        ExecutionOptions,
        {"bases_via": "disk"},
        "bases_via='disk': choose from shared",
        "--stage disk: choose from shared",
    ),
    (ExecutionOptions, {"shard_timeout_s": -0.5}, "shard_timeout_s=-0.5: seconds", "--shard-timeout -0.5: seconds from 0 up"),
    (ExecutionOptions, {"node_timeout_s": 1e9}, "node_timeout_s=1000000000.0: seconds", "--node-timeout 1e+09: seconds from 0"),
    (ExecutionOptions, {"max_runtime_s": -1}, "max_runtime_s=-1: seconds from 0 up", "--max-runtime -1: seconds from 0 up"),
]


@pytest.mark.parametrize(
    ("options", "given", "python", "flags"), WRONG, ids=[f"{next(iter(given))}-{i}" for i, (_, given, *_) in enumerate(WRONG)]
)
def test_a_wrong_value_is_named_in_the_terms_of_whoever_gave_it(
    options: Callable[..., object], given: dict[str, Any], python: str, flags: str
) -> None:
    with pytest.raises(UsageError) as caught:
        options(**given)
    assert str(caught.value).startswith(python) and caught.value.field.partition("[")[0] == next(iter(given))
    assert in_flags(caught.value).startswith(flags)


TRAINING = (
    TrainOptions, WindowOptions, PretrainOptions, CorpusOptions, MaskOptions, FinetuneOptions, LoraOptions, TableData, GenomeData,
    Organism,
)  # fmt: skip
"""Options of the commands that train and measure."""
WRONG_TRAINING: list[tuple[type, dict[str, Any], str]] = [
    (LoopOptions, {"batch_windows": 0}, "batch_windows=0: give 1 or more"),
    (LoopOptions, {"steps": 1.5}, "steps=1.5: give a whole number"),
    (LoopOptions, {"learning_rate": float("nan")}, "learning_rate=nan: give a number"),
    (LoopOptions, {"learning_rate": 0.0}, "learning_rate=0.0: give a number above 0"),
    (LoopOptions, {"epsilon": -1.0}, "epsilon=-1.0: give a number above 0"),
    (LoopOptions, {"clip": 0.0}, "clip=0.0: give a number above 0"),
    (LoopOptions, {"warmup_steps": -1}, "warmup_steps=-1: cannot be negative"),
    (LoopOptions, {"decay_steps": -1}, "decay_steps=-1: cannot be negative"),
    (LoopOptions, {"weight_decay": -0.1}, "weight_decay=-0.1: cannot be negative"),
    (LoopOptions, {"betas": (0.9, 1.0)}, "betas=1.0: a share from 0 and below 1"),
    (LoopOptions, {"ema": 1.0}, "ema=1.0: a share from 0 and below 1"),
    (LoopOptions, {"seed": -1}, "seed=-1: cannot be negative"),
    (TrainOptions, {"steps": 0}, "steps=0: give 1 or more"),
    (TrainOptions, {"tss_loss_weight": -1.0}, "tss_loss_weight=-1.0: cannot be negative"),
    (WindowOptions, {"window_bp": 100, "margin_bp": 50}, "margin_bp=50: leaves nothing of a window of 100 bp"),
    (WindowOptions, {"site_fraction": 1.1}, "site_fraction=1.1: a share from 0 up to 1"),
    (WindowOptions, {"kind_weights": (0.0, 0.0)}, "kind_weights=(0.0, 0.0): one must be above 0"),
    (WindowOptions, {"tss_sigma_bp": 0}, "tss_sigma_bp=0: give a number above 0"),
    (PretrainOptions, {"validate_steps": 0}, "validate_steps=0: give 1 or more"),
    (PretrainOptions, {"warmup_steps": 4, "steps": 3}, "warmup_steps=4: longer than the run of 3 steps"),
    (PretrainOptions, {"accumulation": 65}, "accumulation=65: more parts than the 64 windows of a batch"),
    (CorpusOptions, {"fasta": (), "windows": "some"}, "windows='some': choose from random, tiled"),
    (CorpusOptions, {"fasta": (), "max_n_share": 1}, "max_n_share=1: a share from 0 and below 1"),
    (MaskOptions, {"share": 0.0}, "share=0.0: a share above 0 and below 1"),
    (MaskOptions, {"swap_share": 0.3}, "swap_share=0.3: more than 1 with the 0.8 that are hidden"),
    (FinetuneOptions, {"patience": -1}, "patience=-1: cannot be negative"),
    (FinetuneOptions, {"class_weights": "some"}, "class_weights='some': choose from none, balanced"),
    (FinetuneOptions, {"processes": 33}, "processes=33: more than the 32 windows of a batch"),
    (FeatureTrack, {"name": "CRE", "kind": "donor"}, "kind='donor': choose from "),
    (TableData, {"train": Path(), "dev_share": 1.0}, "dev_share=1.0: a share above 0 and below 1"),
    (GenomeData, {"train": (), "dev": (), "sigma_bp": 0}, "sigma_bp=0: give a number above 0"),
    (Organism, {"name": "o", "clade": "", "fasta": Path(), "truth": None, "weight": 0}, "weight=0: give a number above 0"),
]


@pytest.mark.parametrize(("options", "given", "said"), WRONG_TRAINING, ids=[said for *_, said in WRONG_TRAINING])
def test_a_wrong_value_of_training_is_named_by_its_field(options: type, given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        options(**given)
    assert str(caught.value).startswith(said) and caught.value.field == said.partition("=")[0]


WRONG_FLAGS = {
    "train": {"steps": "0", "learning-rate": "-1"},
    "pretrain": {
        "window-bp": "-1", "mask-share": "7", "hidden-bp": "0", "steps": "-1", "batch": "0", "accumulation": "65",
        "learning-rate": "0", "warmup": "-3", "checkpoint-steps": "0", "validate-steps": "0", "seed": "-1",
    },
    "finetune": {
        "stride-bp": "-2", "lora-rank": "0", "lora-alpha": "-1", "epochs": "0", "steps": "-1", "batch": "0",
        "learning-rate": "-0.5", "dropout": "1", "class-weights": "some", "patience": "-1", "validate-steps": "-1",
        "processes": "0", "seed": "-1",
    },
    "finetune --base dnabert:tiny, of a genome": {"window-bp": "-1", "margin-bp": "-1", "sigma-bp": "-1"},
    "finetune of a genome": {
        "window-bp": "-1", "margin-bp": "5000", "steps": "0", "batch": "0", "learning-rate": "0", "dropout": "1",
        "validate-steps": "-1", "seed": "-1",
    },
    "evaluate": {"trim-bp": "-1", "replicates": "0"},
}  # fmt: skip
"""A wrong value of every flag with a number or a choice, by command."""


@pytest.mark.parametrize(
    ("command", "flag", "value"),
    [(command, flag, value) for command, flags in WRONG_FLAGS.items() for flag, value in flags.items()],
)
def test_a_wrong_value_of_training_is_named_by_its_flag(
    command: str, flag: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fasta, truth, table = (str(tmp_path / name) for name in ("g.fa", "t.bed", "t.csv"))
    for path in (fasta, truth, table):
        Path(path).write_text("")
    genome = ["--fasta", fasta, "--truth", truth]
    more = {
        "train": [], "pretrain": [fasta, "--family", "dnabert"], "finetune": ["--train", table],
        "evaluate": ["compact", *genome],
    }  # fmt: skip
    words = more.get(command, [*genome, "--val-fasta", fasta, "--val-truth", truth])
    words += ["--base", "dnabert:tiny"] * ("dnabert" in command) + ["--lora"] * ("lora" in flag)
    words += ["-o", str(tmp_path / "run")] * (command != "evaluate")
    assert main([command.split()[0], *words, f"--{flag}", value, "--device", "cpu", "-q"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"annotator: error: --{flag} {value}: ") and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_every_number_of_a_training_command_has_a_wrong_value() -> None:
    for function in (train, pretrain, finetune, evaluate):
        name = function.__name__
        tried = {"threads"} | {flag for command, flags in WRONG_FLAGS.items() if command.split()[0] == name for flag in flags}
        hints = get_type_hints(function)
        numbers = {option.replace("_", "-") for option, kind in hints.items() if kind in (int, float, int | None, float | None)}
        assert len(numbers) > 2 and numbers <= tried


def test_a_recipe_is_told_its_field(tmp_path: Path) -> None:
    for old, new, said in (
        ("batch_windows = 16", "batch_windows = 0", "train.batch_windows=0: give 1 or more"),
        ("margin_bp = 1024", "margin_bp = 4096", "windows.margin_bp=4096: leaves nothing of a window of 8192 bp"),
    ):
        text = RECIPE.read_text()
        assert old in text
        (tmp_path / "r.toml").write_text(text.replace(old, new))
        with pytest.raises(InputError, match=rf"r\.toml: field {said}"):
            read_recipe(tmp_path / "r.toml", Path(), "m")


def test_every_field_stands_for_a_flag_of_annotate() -> None:
    parameters = typer.main.get_command(app).commands["annotate"].params  # type: ignore[attr-defined]
    flags = {flag for parameter in parameters for flag in parameter.opts}
    names = {f.name for options in (AnnotateOptions, ExecutionOptions, GenomeOptions, BedOptions) for f in fields(options)}
    assert {in_flags(UsageError("wrong", name)).removesuffix(": wrong") for name in names - NO_FLAG} <= flags
    training = {f.name for options in TRAINING for f in fields(options)}
    assert set(FLAG_OF_FIELD) <= names | training and NO_FLAG <= names


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--threads", "-1"], "--threads -1: cannot be negative"),
        (["-t", "-1"], "--threads -1: cannot be negative"),
        (["--threshold", "donor=2"], "--threshold donor=2: a probability lies above 0 and not above 1"),
        (["--threshold", "donor=x"], "--threshold donor=x: not KIND=P or a number"),
        (["--threshold", "1.5"], "--threshold 1.5: a probability lies above 0 and not above 1"),
        (["--threshold", "exon=0.5"], "--threshold exon=0.5: the model calls donor, acceptor, promoter"),
        (["--tasks", ","], "--tasks: name one at the least"),
        (["--tasks", "splice,feature"], "--tasks feature: the model compact"),
        (["--max-runtime", "soon"], "--max-runtime soon: not a time such as 3h30m, 90m or 3600"),
        (["--stage", "object-store"], "--stage object-store: only with Ray"),
        (["--node-timeout", "5"], "--node-timeout: only with Ray"),
        (["--workers", "1", "--gpus-per-worker", "2"], "--gpus-per-worker 2: a local process takes one GPU"),
        (["--gpus-per-worker", "0.5"], "--gpus-per-worker: only with workers, Ray or several GPUs"),
        (["--dup-names", "drop"], "--dup-names drop: choose from error, suffix"),
        (["--progress", "loud"], "--progress loud: choose from auto"),
        (["--formats", "gff3,xls"], "--formats xls: choose from bed9, bed6, bed-extra, gff3, bigbed, bedgraph, tsv"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_command_line_names_the_flag(more: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "g.fa").write_text(">c\nACGT\n")
    command = ["annotate", str(tmp_path / "g.fa"), "-o", str(tmp_path / "out"), "--device", "cpu", "--quiet", *more]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"annotator: error: {said}") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "call", "code", "flags", "python"),
    [
        (["--model", "nope"], {"model": "nope"}, 5, "--model: no model 'nope': neither", "model: no model 'nope': neither"),
        (["--motifs", "no.meme"], {"motifs": "no.meme"}, 2, "--motifs: no.meme: cannot read", "motifs: no.meme: cannot read"),
        (["--ray", "foo"], {"ray": "foo"}, 5, "--ray foo: Ray cannot join", "ray='foo': Ray cannot join the cluster at foo"),
        (["--sheet", "s.csv"], {"sheet": "s.csv"}, 2, "give FASTA files or --sheet, not", "give FASTA files or `sheet`, not"),
        ([], {}, 3, "--dup-names suffix renames them", '`dup_names="suffix"` renames them'),
    ],
)  # fmt: skip
def test_both_ways_in_name_the_option_in_their_own_terms(
    more: list[str], call: dict[str, Any], code: int, flags: str, python: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fasta, out = tmp_path / "g.fa", tmp_path / "out"
    fasta.write_text(">c\nACGT\n>c\nACGT\n")
    assert main(["annotate", str(fasta), "-o", str(out), "--device", "cpu", "-q", *more]) == code
    error = capsys.readouterr().err
    assert flags in error and "`" not in error
    with pytest.raises(AnnotatorError) as caught:
        annotator.annotate(fasta, out, device="cpu", **call)
    assert python in str(caught.value) and "--" not in str(caught.value) and in_flags(caught.value) in error


def test_fields_that_a_message_mentions_become_flags() -> None:
    assert with_flags("a `clade` or `thresholds=0.1`") == "a --clade or --threshold 0.1"
    assert with_flags("`eof_check=False`, `gaps_as_n=True`") == "--no-eof-check, --gaps-as-n"
    assert with_flags("`give` it to `annotator annotate --model x`") == "`give` it to `annotator annotate --model x`"
    record = logging.LogRecord("annotator", logging.INFO, "", 0, "promoters are off (`tasks`)", (), None)
    setup_logging(quiet=True, verbose=False)
    assert logging.getLogger("annotator").handlers[0].format(record).endswith("INFO promoters are off (--tasks)")


def test_plan_checks_its_workers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "g.fa", "--workers", "-1", "-q"]) == 2
    assert capsys.readouterr().err == "annotator: error: --workers -1: cannot be negative\n"


def test_an_error_about_a_field_survives_the_way_between_processes() -> None:
    for error in (EnvironmentFault("no such device here", "device", "cuda:7"), UsageError("only with Ray", "node_timeout_s")):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error) and str(again) == str(error) and in_flags(again) == in_flags(error)
    assert in_flags(UsageError("give FASTA files")) == str(UsageError("give FASTA files")) == "give FASTA files"


COMMANDS = [
    *(
        ("annotate",),
        ("plan",),
        ("verify",),
        ("browse",),
        ("report",),
        ("convert",),
        ("call",),
        ("example",),
        ("train",),
        ("pretrain",),
        ("finetune",),
        ("evaluate",),
    ),
    *(("doctor",), ("models", "list"), ("models", "show"), ("models", "convert"), ("models", "merge")),
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_of_a_command(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert text.startswith(f"Usage: annotator {' '.join(words)} [OPTIONS]")
    assert f"Example: annotator {' '.join(words)}" in text


def test_every_command_has_its_test_of_help() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    models = {("models", name) for name in commands["models"].commands}
    assert set(COMMANDS) == {(name,) for name in commands if name != "models"} | models
