"""Fine-tuning: every base learns, a killed run ends where an unbroken one ends, and the models annotate."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from annotator.errors import AnnotatorError, UsageError
from annotator.evaluation.classification import class_scores
from annotator.labels.window_tables import read_window_table
from annotator.models.directory import read_model
from annotator.models.loading import load_window_classifier
from annotator.training.finetune.gue import GUE_TASKS, run_finetuning_folder, table_data
from annotator.training.finetune.options import (
    FinetuneOptions,
    FinetuneSettings,
    LoraOptions,
    TableData,
    default_options,
)
from annotator.training.finetune.run import run_finetuning
from annotator.training.finetune.tables import TableTask, read_tables
from annotator.training.loop import Loop
from annotator.training.task import Share
from tests.support.finetune import ARCHITECTURES, WORD, checkpoint, genomes, scratch, tables, write_table
from tests.support.runs import annotate, plant, random_bases, table, write_fasta

CPU = torch.device("cpu")


def compact(folder: Path, **options: Any) -> FinetuneSettings:
    shape = {"k": 3, "fine_channels": 16, "trunk_channels": 16}
    given = {
        "epochs": 8,
        "least_steps": 0,
        "batch_windows": 16,
        "learning_rate": 5e-3,
        "ema": 0.9,
        "dropout": 0.1,
        "bf16": False,
    } | options
    chosen = replace(default_options("compact", lora=False), **given)
    return FinetuneSettings("toy", "compact", tables(folder), architecture=shape, options=chosen)


def finetune(settings: FinetuneSettings, out: Path) -> Path:
    return run_finetuning(settings, out, device="cpu", threads=1)


def manifest_of(model: Path) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads((model / "manifest.json").read_text())
    return raw


def metrics_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def classify(model: Path, sequences: list[bytes]) -> np.ndarray:
    """Class logits by the classifier that a run uses, a sequence at a time."""
    folder, manifest = read_model(str(model))
    net = load_window_classifier(folder, manifest, CPU)
    with torch.inference_mode():
        return np.concatenate([net(torch.tensor([list(sequence)], dtype=torch.uint8)).numpy() for sequence in sequences])


def break_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Loop._one_step

    def dies(self: Loop) -> None:
        if self.step == step:
            raise KeyboardInterrupt
        real(self)

    monkeypatch.setattr(Loop, "_one_step", dies)


def test_the_compact_classifier_learns_and_annotates(tmp_path: Path) -> None:
    model = finetune(compact(tmp_path), tmp_path / "run")
    manifest = manifest_of(model)
    assert manifest["metrics"]["mcc"] > 0.8 and manifest["metrics"]["tfbs"]["f1"] > 0.8
    assert 0.2 < manifest["clades"]["vertebrate"]["thresholds"]["tfbs"] < 0.8
    assert [clade for clade, value in manifest["clades"].items() if value["validated"]] == ["vertebrate"]
    assert set(manifest["training"]["data"]["train"]) == {"file", "rows", "sha256"}
    at = [700, 1500, 2600]
    text = random_bases(4_000, 9)
    for place in at:
        text = plant(text, WORD, place)
    fasta, out = write_fasta(tmp_path / "genome.fa", {"chr1": text}), tmp_path / "results"
    assert annotate(fasta, "-o", out, "--model", model) == 0
    found = table(out)
    calls = found.filter(found["model"].str.starts_with("toy"))
    assert set(calls["name"]) == {"MYB"} and set(calls["end"] - calls["start"]) == {60}
    for place in at:
        hit = calls.filter((calls["start"] <= place) & (calls["end"] >= place + len(WORD)))
        assert set(hit["strand"]) == {"+", "-"}, "the classifier has no direction"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_killed_and_resumed_ends_at_the_same_weights(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lora = LoraOptions(rank=2) if name in ("dnabert2", "biogpt") else None
    settings = replace(scratch(name, tables(tmp_path), tmp_path, checkpoint_steps=5, ema=0.5), lora=lora)
    whole = finetune(settings, tmp_path / "whole")
    with monkeypatch.context() as patch:
        break_at(13, patch)
        with pytest.raises(KeyboardInterrupt):
            finetune(settings, tmp_path / "broken")
    assert json.loads((tmp_path / "broken" / "state.json").read_text())["step"] == 10
    broken = finetune(settings, tmp_path / "broken")
    assert (whole / "manifest.json").read_bytes() == (broken / "manifest.json").read_bytes()
    assert (whole / "model.safetensors").read_bytes() == (broken / "model.safetensors").read_bytes()
    rows = [[{k: v for k, v in row.items() if k not in ("seconds", "loss")} for row in metrics_of(tmp_path / run)]
            for run in ("whole", "broken")]  # fmt: skip
    assert rows[0] == rows[1] and [row["step"] for row in rows[0]] == [8, 16, 24]
    assert not any("lora" in tensor for tensor in load_file(whole / "model.safetensors"))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_written_model_is_the_one_that_was_measured(name: str, tmp_path: Path) -> None:
    settings = replace(scratch(name, tables(tmp_path), tmp_path), lora=LoraOptions(rank=2) if name == "dnabert" else None)
    model = finetune(settings, tmp_path / "run")
    dev = read_window_table(tmp_path / "dev.csv")
    again = class_scores(classify(model, dev.sequences), dev.labels)
    stated = manifest_of(model)["metrics"]
    assert stated["auroc"] == pytest.approx(again.auroc, abs=2e-4) and stated["mcc"] == pytest.approx(again.mcc, abs=1e-3)


@pytest.mark.parametrize("window", [True, False], ids=["windows", "bases"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_weight_that_can_learn_has_a_part_in_the_loss(name: str, window: bool, tmp_path: Path) -> None:
    from annotator.training.finetune.run import _prepare

    settings = scratch(name, tables(tmp_path) if window else genomes(tmp_path), tmp_path)
    base, task = _prepare(settings, CPU, tmp_path)
    task.loss(base.net, 0, Share()).backward()
    assert not [path for path, value in base.net.named_parameters() if value.grad is None]


def test_processes_share_a_batch(tmp_path: Path) -> None:
    data = tables(tmp_path)
    options = FinetuneOptions(batch_windows=10, class_weights="balanced")
    task = TableTask(data, options, "plant", CPU)

    def net(sequences: list[bytes]) -> torch.Tensor:
        return torch.tensor([[0.3, sequence.count(b"A") / 10] for sequence in sequences])

    whole = task.loss(net, 3, Share())  # type: ignore[arg-type]
    parts = [task.loss(net, 3, Share(rank, 3)) for rank in range(3)]  # type: ignore[arg-type]
    torch.testing.assert_close(whole, sum(parts, torch.zeros(())))


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    base = checkpoint("dnabert", tmp_path, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    options = FinetuneOptions(steps=6, batch_windows=9, learning_rate=1e-3, dropout=0.0, class_weights="balanced")
    models = []
    for processes in (1, 2):
        settings = FinetuneSettings("toy", str(base), tables(tmp_path), options=replace(options, processes=processes))
        models.append(load_file(finetune(settings, tmp_path / f"{processes}") / "model.safetensors"))
    start = load_file(base / "model.safetensors")
    moved = max(float((models[0][name] - start[name]).abs().max()) for name in start.keys() & models[0].keys())
    apart = max(float((models[0][name] - models[1][name]).abs().max()) for name in models[0])
    assert moved > 1e-3 and apart < 1e-5


def test_a_run_that_gains_nothing_ends_and_keeps_its_best(tmp_path: Path) -> None:
    settings = compact(tmp_path, epochs=60, validate_steps=4, patience=3, learning_rate=0.01)
    model = finetune(settings, tmp_path / "run")
    rows = metrics_of(tmp_path / "run")
    best = max(range(len(rows)), key=lambda i: (rows[i]["score"], -i))
    training = manifest_of(model)["training"]
    assert len(rows) == best + 4 and training["best_step"] == rows[best]["step"]
    assert training["steps_done"] == rows[-1]["step"] < 60 * 15
    assert manifest_of(model)["metrics"]["mcc"] == pytest.approx(rows[best]["mcc"], abs=1e-5)


def test_what_is_longer_than_the_context_is_averaged_not_cut(tmp_path: Path) -> None:
    write_table(tmp_path / "long" / "train.csv", 60, 1, length=700)
    data = TableData(tmp_path / "long" / "train.csv", dev_share=0.3)
    settings = scratch("dnabert", data, tmp_path, steps=2, validate_steps=2)
    base, task = _prepared(settings, tmp_path)
    sequence = task.train.sequences[0]
    assert len(sequence) > (base.longest_bp or 0) == 256
    base.net.eval()
    with torch.inference_mode():
        changed = sequence[:-1] + (b"A" if sequence[-1:] != b"A" else b"C")
        whole, other = base.net([sequence]), base.net([changed])
        quarters = [sequence[i * len(sequence) // 4 : (i + 1) * len(sequence) // 4] for i in range(4)]
        mean = sum(base.net([part]) * len(part) for part in quarters) / len(sequence)
    torch.testing.assert_close(whole, mean, atol=1e-5, rtol=1e-5)
    assert not torch.equal(whole, other), "the last base counts"
    model = finetune(settings, tmp_path / "run")
    dev = task.dev
    again = class_scores(classify(model, dev.sequences), dev.labels)
    assert manifest_of(model)["metrics"]["auroc"] == pytest.approx(again.auroc, abs=1e-4)


def _prepared(settings: FinetuneSettings, out: Path) -> tuple[Any, Any]:
    from annotator.training.finetune.run import _prepare

    return _prepare(settings, CPU, out)


def test_bases_of_genomes_are_learnt_and_annotated(tmp_path: Path) -> None:
    options = {"steps": 80, "learning_rate": 5e-3, "validate_steps": 40, "dropout": 0.0}
    settings = scratch("dnabert", genomes(tmp_path), tmp_path, **options)
    model = finetune(settings, tmp_path / "run")
    manifest = manifest_of(model)
    assert manifest["tracks"] == ["donor", "acceptor", "CRE"]
    for kind in ("donor", "acceptor", "tfbs"):
        assert manifest["metrics"][kind]["f1"] > 0.9, kind
    out = tmp_path / "results"
    assert annotate(tmp_path / "two.fa", "-o", out, "--model", model, "--tfbs-pvalue", "1e-9") == 0
    found = table(out)
    calls = {(row["kind"], row["position"], row["strand"]) for row in found.iter_rows(named=True) if row["kind"] != "tfbs"}
    fields = [line.split() for line in (tmp_path / "two.sites.bed").read_text().splitlines()]
    truth = {(field[3], int(field[1]), field[5]) for field in fields}
    assert len(calls & truth) > 0.9 * len(truth) and len(calls) < 1.1 * len(truth)
    peaks = [line.split() for line in (tmp_path / "two.peaks.bed").read_text().splitlines()]
    sites = found.filter(found["name"] == "CRE")
    near = [any(abs(start - int(peak[1])) <= 10 for peak in peaks) for start in sites["start"].to_list()]
    assert len(near) >= len(peaks) and sum(near) > 0.9 * len(near)


def test_another_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    settings = compact(tmp_path, epochs=1)
    finetune(settings, tmp_path / "run")
    with pytest.raises(UsageError, match="learning_rate"):
        finetune(compact(tmp_path, epochs=1, learning_rate=0.02), tmp_path / "run")
    write_table(tmp_path / "train.csv", 240, 5)
    with pytest.raises(UsageError, match="data_sha256"):
        finetune(settings, tmp_path / "run")


def test_a_dev_table_is_split_off_by_the_seed(tmp_path: Path) -> None:
    path = write_table(tmp_path / "train.csv", 200, 1, shares=(0.8, 0.2))
    data = TableData(path, dev_share=0.25)
    train, dev = read_tables(data, seed=1)
    again, other = read_tables(data, seed=1)[1], read_tables(data, seed=2)[1]
    assert len(train) + len(dev) == 200 and set(train.sequences).isdisjoint(dev.sequences)
    assert dev.labels.mean() == pytest.approx(read_window_table(path).labels.mean(), abs=0.02)
    assert dev.sequences == again.sequences != other.sequences


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": {"classes": ("other", "tss")}}, "class tss needs an anchor"),
        ({"data": {"classes": ("other", "tss"), "anchor_bp": {"tss": 60}}}, "class tss needs an anchor"),
        ({"data": {"classes": ("other", "WRKY")}}, "class WRKY is none of"),
        ({"data": {"classes": ("other", "MYB", "WRKY")}}, "2 labels, but the classes named"),
        ({"lora": LoraOptions()}, "nothing to adapt"),
        ({"options": {"processes": 2}}, "one process"),
        ({"architecture": {"depth": 3}}, "architecture.depth"),
        ({"base": "dnabert:huge"}, "sizes of dnabert are"),
        ({"base": "dnabert2:tiny"}, "from scratch: .*tokenizer"),
        ({"base": "nowhere"}, "nowhere"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    settings = compact(tmp_path, **change.pop("options", {}))
    settings = replace(settings, data=tables(tmp_path, **change.pop("data", {})), **change)
    if "base" in change:
        settings = replace(settings, architecture={})
    with pytest.raises(AnnotatorError, match=said) as caught:
        finetune(settings, tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_genomes_need_steps_and_room(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="number of steps"):
        finetune(scratch("dnabert", genomes(tmp_path), tmp_path, steps=0), tmp_path / "run")
    with pytest.raises(UsageError, match="too short"):
        finetune(scratch("dnabert", genomes(tmp_path, margin_bp=40), tmp_path), tmp_path / "run")


def test_a_folder_of_tasks_goes_on_after_a_failure(tmp_path: Path) -> None:
    tasks = tmp_path / "tasks"
    for task in ("prom/prom_core_all", "tf/0", "own"):
        write_table(tasks / task / "train.csv", 60, 1, length=40)
    (tasks / "broken").mkdir()
    (tasks / "broken" / "train.csv").write_text("sequence,label\nACGT,x\n")
    options = replace(default_options("compact", lora=False), steps=2, bf16=False, batch_windows=8)
    settings = FinetuneSettings("gue", "compact", TableData(Path()), architecture={"k": 3}, options=options)
    runs = {run.task: run for run in run_finetuning_folder(settings, tasks, tmp_path / "out", device="cpu", threads=1)}
    assert list(runs) == ["broken", "own", "prom/prom_core_all", "tf/0"]
    assert runs["broken"].model is None and "line 2" in runs["broken"].error
    found = {task: manifest_of(run.model) for task, run in runs.items() if run.model}
    assert set(found) == {"own", "prom/prom_core_all", "tf/0"}
    assert {task: tuple(manifest["window"]["classes"]) for task, manifest in found.items()} == {
        "own": ("other", "own"), "prom/prom_core_all": ("other", "tss"), "tf/0": ("other", "tf-0"),
    }  # fmt: skip
    assert found["prom/prom_core_all"]["window"]["anchor_bp"] == {"tss": 33}
    assert found["tf/0"]["features"] == {"tf-0": {"kind": "tfbs", "width_bp": 40}}
    assert found["own"]["features"] == {"own": {"kind": "feature", "width_bp": 40}}
    assert [found[task]["architecture"]["both_strands"] for task in ("prom/prom_core_all", "tf/0")] == [False, True]
    with pytest.raises(UsageError, match="no train.csv"):
        run_finetuning_folder(settings, tmp_path / "out", tmp_path / "more", device="cpu", threads=1)


@pytest.mark.data
def test_the_anchors_of_gue_are_where_the_signals_are(data_pack: Path) -> None:
    def counts(task: str, label: int, words: set[bytes]) -> np.ndarray:
        table = read_window_table(data_pack / "gue" / task / "dev.csv.gz")
        chosen = [sequence for sequence, own in zip(table.sequences, table.labels, strict=True) if own == label]
        return np.array([sum(s[i : i + 2] in words for s in chosen) for i in range(len(chosen[0]) - 1)])

    initiator = {pyrimidine + purine for pyrimidine in (b"C", b"T") for purine in (b"A", b"G")}
    for task in ("prom/prom_core_all", "prom/prom_300_tata"):
        anchor = table_data(data_pack / "gue" / task, None).anchor_bp["tss"]
        assert counts(task, 1, initiator).argmax() == anchor - 1
    splice = re.compile(r"splice/\w+")
    classes, anchors = next((c, a) for pattern, c, a in GUE_TASKS if pattern == splice.pattern)
    assert counts("splice/reconstructed", classes.index("donor"), {b"GT"}).argmax() == anchors["donor"] + 1
    assert counts("splice/reconstructed", classes.index("acceptor"), {b"AG"}).argmax() == anchors["acceptor"] - 2


def test_validating_changes_nothing_that_is_learnt(tmp_path: Path) -> None:
    states = []
    for every in (3, 12):
        finetune(compact(tmp_path, steps=12, validate_steps=every, patience=0), tmp_path / f"{every}")
        states.append(load_file(tmp_path / f"{every}" / "state-12.safetensors"))
    names = [name for name in states[0] if name.startswith(("net.", "average.", "optimizer."))]
    assert len(names) > 50 and all(torch.equal(states[0][name], states[1][name]) for name in names)


def test_batch_norms_are_settled_on_what_the_network_is_used_on(tmp_path: Path) -> None:
    settings = compact(tmp_path, dropout=0.5)
    base, task = _prepared(settings, tmp_path)
    norms = [module for module in base.net.modules() if isinstance(module, torch.nn.BatchNorm1d)]
    seen: list[torch.Tensor] = []
    base.net.train()
    task.loss(base.net, 0, Share())
    base.net.eval()
    task.settle(base.net)
    assert norms and not any(module.training or module.momentum is None for module in norms)
    hook = norms[0].register_forward_hook(lambda module, given, out: seen.append(given[0].detach()))
    task.logits(base.net, task.train.sequences)
    hook.remove()
    inputs = torch.cat([part.transpose(0, 1).flatten(1) for part in seen], 1)
    mean, variance = norms[0].running_mean, norms[0].running_var
    assert mean is not None and variance is not None
    torch.testing.assert_close(mean, inputs.mean(1), atol=0.02, rtol=0.02)
    torch.testing.assert_close(variance, inputs.var(1), atol=0.02, rtol=0.05)
