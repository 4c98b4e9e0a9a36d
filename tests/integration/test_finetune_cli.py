"""`annotator finetune` as it is typed: tables of either format, several processes, adapters of every family, bad options."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from annotator.cli.app import main
from annotator.models.families.registry import family
from annotator.models.lora import merge_lora
from annotator.models.task_heads import TaskModel
from annotator.training.finetune import run as module
from annotator.training.finetune.options import LoraOptions, TableData
from annotator.training.finetune.tables import TableTask
from annotator.training.loop import Loop
from tests.support.finetune import ARCHITECTURES, checkpoint, genomes, scratch, tables, write_table
from tests.support.runs import annotate, random_bases, write_fasta

CPU = torch.device("cpu")


def finetune(*arguments: object) -> int:
    return main(["finetune", *map(str, arguments), "--threads", "1", "--device", "cpu", "--quiet"])


def manifest_of(run: Path) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads((run / "model" / "manifest.json").read_text())
    return raw


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that an error is."""
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    return line


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_with_lora_adapters_and_the_head_learn_and_nothing_else(name: str, tmp_path: Path) -> None:
    settings = replace(scratch(name, tables(tmp_path), tmp_path, dropout=0.0), lora=LoraOptions(rank=2))
    base, task = module._prepare(settings, CPU, tmp_path)
    assert isinstance(task, TableTask) and isinstance(base.model, TaskModel)
    before = {path: value.detach().clone() for path, value in base.model.state_dict().items()}
    (tmp_path / "run").mkdir()
    loop = Loop(base.net, task, tmp_path / "run", identity={}, device=CPU)
    for _ in range(3):
        loop._one_step()
    moved = {path for path, value in base.model.state_dict().items() if not value.equal(before[path])}
    head = {f"head.{path}" for path in base.model.head.state_dict()}
    adapters = {path for path in before if "lora_" in path}
    assert moved == head | adapters
    adapted = {path.split(".lora_")[0].rpartition(".")[2] for path in adapters}
    assert adapted == set(family(name).lora_targets)
    base.net.eval()
    with torch.inference_mode():
        learnt = task.logits(base.net, task.dev.sequences)
        merge_lora(base.model.backbone)
        np.testing.assert_allclose(task.logits(base.net, task.dev.sequences), learnt, atol=1e-4)
    assert "lora" not in " ".join(base.model.state_dict())


def test_a_dnabert_table_makes_a_model_that_annotates(tmp_path: Path) -> None:
    write_table(tmp_path / "rows.csv", 60, 1)
    lines = ["sequence\tlabel"]
    for line in (tmp_path / "rows.csv").read_text().splitlines()[1:]:
        sequence, label = line.split(",")
        lines.append(" ".join(sequence[i : i + 6] for i in range(len(sequence) - 5)) + f"\t{label}")
    (tmp_path / "train.tsv").write_text("\n".join(lines) + "\n")
    shape = tmp_path / "shape.json"
    shape.write_text(json.dumps(ARCHITECTURES["dnabert"]))
    for suffix, table in (("tsv", tmp_path / "train.tsv"), ("csv", tmp_path / "rows.csv")):
        options = ("--classes", "other,MYB", "--tfbs", "MYB", "--steps", 3, "--batch", 8, "--architecture", shape)
        assert finetune("--base", "dnabert:tiny", "--train", table, "-o", tmp_path / suffix, *options) == 0
    weights = [(tmp_path / suffix / "model" / "model.safetensors").read_bytes() for suffix in ("tsv", "csv")]
    assert weights[0] == weights[1], "k-mers are read as the bases they are made of"
    assert manifest_of(tmp_path / "tsv")["window"]["window_bp"] == 60
    fasta = write_fasta(tmp_path / "genome.fa", {"chr1": random_bases(2_000, 9)})
    assert annotate(fasta, "-o", tmp_path / "results", "--model", tmp_path / "tsv" / "model") == 0


def test_a_table_of_sequences_beyond_the_context_and_of_all_lengths(tmp_path: Path) -> None:
    train = write_table(tmp_path / "train.csv", 40, 1, length=300)
    with train.open("a") as file:
        for row, length in enumerate((20, 257, 700, 1003)):
            file.write(f"{random_bases(length, row)},{row % 2}\n")
    base = checkpoint("dnabert", tmp_path)  # takes 256 tokens
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"licence": "CC-BY-NC-SA-4.0, no commercial use"}))
    options = ("--steps", 3, "--batch", 44, "--licence", "MIT")
    assert finetune("--base", base, "--train", train, "--dev", train, *options, "-o", tmp_path / "run") == 0
    manifest = manifest_of(tmp_path / "run")
    assert manifest["licence"] == "CC-BY-NC-SA-4.0, no commercial use"
    assert manifest["window"]["window_bp"] == 300 and sum(manifest["training"]["data"]["train"]["rows"]) == 44
    fasta = write_fasta(tmp_path / "genome.fa", {"chr1": random_bases(2_000, 9)})
    assert annotate(fasta, "-o", tmp_path / "results", "--model", tmp_path / "run" / "model") == 0


@pytest.mark.slow
def test_two_processes_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = checkpoint("dnabert", tmp_path, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    write_table(tmp_path / "train.csv", 61, 1)
    options = ("--base", base, "--train", tmp_path / "train.csv", "--steps", 3, "--batch", 9, "--class-weights", "balanced")
    assert finetune(*options, "--processes", 2, "-o", tmp_path / "run") == 0
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left == {"lock", "metrics.jsonl", "model", "state.json", "state-3.safetensors"}
    assert manifest_of(tmp_path / "run")["training"]["options"]["processes"] == 2
    capsys.readouterr()
    assert finetune(*options, "--processes", 2, "--learning-rate", 0.1, "-o", tmp_path / "run") == 2
    assert "holds a run with learning_rate = " in error_of(capsys)


@pytest.mark.slow
def test_a_terminated_run_ends_all_its_processes(tmp_path: Path) -> None:
    write_table(tmp_path / "train.csv", 60, 1)
    options = ["--train", "train.csv", "--base", "dnabert:tiny", "--steps", "100000", "--batch", "8", "--processes", "2"]
    command = [sys.executable, "-c", "from annotator.cli.app import main_entry; main_entry()", "finetune", *options]
    command += ["-o", "run", "--device", "cpu", "--threads", "1"]
    run = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, start_new_session=True)
    try:
        until = time.monotonic() + 120
        while not (tmp_path / "run" / "meeting").exists() and time.monotonic() < until:
            time.sleep(0.2)
        run.send_signal(signal.SIGTERM)
        said = run.communicate(timeout=60)[1]  # ends when nobody holds the other end any more: neither the run nor a child
        assert run.returncode == 143 and b"error: terminated" in said
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    assert not (tmp_path / "run" / "meeting").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--tfbs", "MYB"), "--tfbs: only with --classes"),
        (("--anchor", "tss=3"), "--anchor: only with --classes"),
        (("--classes", "other,MYB", "--tfbs", "MYC"), "MYC: none of the classes other, MYB"),
        (("--classes", "other,tss", "--anchor", "tss=3", "--anchor", "donor=3"), "donor: none of the classes other, tss"),
        (("--lora-rank", "4"), "--lora-rank: only with --lora"),
        (("--lora-targets", "query"), "--lora-targets: only with --lora"),
        (("--family", "dnabert"), "--family: only with a checkpoint"),
        (("--steps", "3", "--epochs", "1"), "--epochs and --steps"),
        (("--epochs", "inf"), "--epochs inf: give a number"),
        (("--stride-bp", "61"), "windows of 60 bp every 61 bp"),
        (("--window-bp", "100"), "--window-bp: only with a genome"),
        (("--processes", "64", "--base", "dnabert:tiny", "--batch", "64"), "54 rows to learn from, too few for 64 processes"),
    ],
)
def test_options_that_nothing_would_look_at_are_refused(
    options: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(tmp_path / "train.csv", 60, 1)
    assert finetune("--train", tmp_path / "train.csv", "-o", tmp_path / "run", *options) == 2
    assert said in error_of(capsys)
    assert not (tmp_path / "run" / "model").exists()


def test_pretrain_refuses_a_size_beside_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fasta = write_fasta(tmp_path / "genome.fa", {"a": random_bases(3_000, 1), "b": random_bases(3_000, 2)})
    base = checkpoint("dnabert", tmp_path)
    options = ["--hold-out", "b", "--checkpoint", str(base), "--window-bp", "100", "--threads", "1", "--device", "cpu"]
    assert main(["pretrain", str(fasta), "-o", str(tmp_path / "run"), *options, "--size", "tiny"]) == 2
    assert "--size: not with a checkpoint" in error_of(capsys)


def test_pretraining_that_diverges_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fasta = write_fasta(tmp_path / "genome.fa", {"a": random_bases(3_000, 1), "b": random_bases(3_000, 2)})
    options = ["--hold-out", "b", "--family", "dnabert", "--size", "tiny", "--window-bp", "64", "--batch", "2", "--quiet"]
    options += ["--learning-rate", "1e20", "--warmup", "0", "--steps", "9", "--threads", "1", "--device", "cpu"]
    assert main(["pretrain", str(fasta), "-o", str(tmp_path / "run"), *options]) == 1
    line = error_of(capsys)
    assert "the loss is" in line and "internal" not in line


def test_both_tables_are_known_by_their_hashes_though_of_one_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, dev = write_table(tmp_path / "a" / "t.csv", 40, 1), write_table(tmp_path / "b" / "t.csv", 40, 2)
    shape = tmp_path / "shape.json"
    shape.write_text(json.dumps({"k": 3}))
    options = ("--train", train, "--dev", dev, "--steps", 2, "--batch", 8, "--architecture", shape, "-o", tmp_path / "run")
    assert finetune(*options) == 0
    data = manifest_of(tmp_path / "run")["training"]["data"]
    assert data["train"]["sha256"] != data["dev"]["sha256"]
    write_table(train, 40, 3)
    assert finetune(*options) == 2
    assert "holds a run with data_sha256" in error_of(capsys)


def test_a_run_on_a_genome_goes_on_with_the_windows_it_began_with(tmp_path: Path) -> None:
    settings = scratch("dnabert", genomes(tmp_path), tmp_path)
    base, task = module._prepare(settings, CPU, tmp_path)
    wider = replace(settings, data=genomes(tmp_path, window_bp=250))
    one, other = (module._identity(s, *module._prepare(s, CPU, tmp_path)) for s in (settings, wider))
    assert {key for key in one if one[key] != other[key]} == {"window_bp"}
    assert not list(tmp_path.glob("*spool*"))


def test_a_genome_that_cannot_be_read_leaves_no_spool(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = genomes(tmp_path)
    files = data.train[0].organism
    (tmp_path / "two.fa").write_text(">chr1\nACG!T\n")
    options = ("--fasta", files.fasta, "--truth", files.truth, "--val-fasta", tmp_path / "two.fa", "--val-truth", files.truth)
    assert finetune(*options, "--base", "dnabert:tiny", "--steps", 2, "-o", tmp_path / "run") == 3
    assert "two.fa" in error_of(capsys)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"lock"}


def test_an_export_that_is_killed_leaves_the_older_model_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(
        scratch("dnabert", TableData(write_table(tmp_path / "train.csv", 40, 1)), tmp_path, steps=2), lora=LoraOptions(rank=2)
    )
    run = tmp_path / "run"
    module.run_finetuning(settings, run, device="cpu", threads=1)
    whole = load_file(run / "model" / "model.safetensors")

    class Killed(BaseException):
        pass

    def dies(*given: object) -> None:
        raise Killed

    monkeypatch.setattr("annotator.models.directory.read_manifest", dies)
    with pytest.raises(Killed):
        module.run_finetuning(settings, run, device="cpu", threads=1)
    assert all(value.equal(whole[name]) for name, value in load_file(run / "model" / "model.safetensors").items())
    monkeypatch.undo()
    module.run_finetuning(settings, run, device="cpu", threads=1)
    assert not list(run.glob(".tmp-*"))
