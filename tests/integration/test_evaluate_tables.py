"""`evaluate_tables` end to end: which tables and models are found, how rows are scored, and what is written about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from annotator.cli.app import main
from annotator.errors import InputError, ModelFault, UsageError
from annotator.evaluation import task_report
from annotator.evaluation.genome_report import evaluate_genome
from annotator.evaluation.report_plot import write_plot
from annotator.evaluation.report_text import to_text
from annotator.evaluation.task_report import evaluate_table, evaluate_tables
from annotator.labels.options import Organism
from annotator.models.directory import read_model
from annotator.models.loading import load_window_classifier
from tests.support.evaluation import check_files, guanines, write_table, write_window_model
from tests.support.runs import random_bases, write_fasta

CPU = torch.device("cpu")


def test_a_table_is_scored_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, table = write_window_model(tmp_path / "m"), write_table(tmp_path / "test.csv")
    monkeypatch.setattr(task_report, "BATCH_BP", 300)
    shapes: list[tuple[int, ...]] = []

    def classify(rows: Tensor) -> Tensor:
        shapes.append(tuple(rows.shape))
        return guanines(rows)

    monkeypatch.setattr(task_report, "load_window_classifier", lambda *_: classify)
    found = evaluate_table(str(model), table, device="cpu")
    rows = [line.split(",") for line in table.read_text().splitlines()[1:]]
    right = [(bases.count("G") / len(bases) > 0.3) == (label == "1") for bases, label in rows]
    assert found.scores.accuracy == pytest.approx(np.mean(right)) and 0.5 < found.scores.accuracy < 1
    assert (found.scores.sequences, found.split, found.task) == (40, "test", str(table))
    assert (found.model, found.class_names) == ("tiny 1", ("other", "tss"))
    assert {length for _, length in shapes} == {30, 60, 61}
    assert all(count * length <= 300 for count, length in shapes) and sum(count for count, _ in shapes) == 40


def test_a_real_family_classifies_a_table_and_scans_a_genome(tmp_path: Path) -> None:
    model, table = write_window_model(tmp_path / "m", real=True), write_table(tmp_path / "test.csv", rows=12)
    found = evaluate_table(str(model), table, device="cpu")
    assert found == evaluate_table(str(model), table, device="cpu")
    folder, manifest = read_model(str(model))
    classify = load_window_classifier(folder, manifest, CPU)
    logits = []
    with torch.inference_mode():
        for line in table.read_text().splitlines()[1:]:
            logits.append(classify(torch.tensor([list(line.split(",")[0].encode())], dtype=torch.uint8))[0].numpy())
    together = task_report.table_logits(classify, task_report.read_window_table(table), CPU)
    assert together == pytest.approx(np.array(logits), abs=1e-4)
    fasta = write_fasta(tmp_path / "toy.fa", {"c1": random_bases(3_000, 1)})
    truth = tmp_path / "truth.bed"
    truth.write_text("c1\t500\t501\ttss\t0\t+\nc1\t900\t901\tdonor\t0\t+\n")
    organism = Organism("toy", "vertebrate", fasta, truth)
    scanned = evaluate_genome(str(model), organism, thresholds={"promoter": 0.2}, device="cpu", replicates=10)
    assert [kind.within_bp for kind in scanned.kinds] == [50, 250, 500] and scanned.kinds[0].truths == 1
    assert scanned.kinds[0].called.calls > 0
    assert scanned.skipped == {"donor": "the model has no such track"}


def test_bad_tables_and_models_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, table = write_window_model(tmp_path / "m"), write_table(tmp_path / "test.csv")
    with pytest.raises(InputError, match="labels bases; a table needs a model that classifies windows"):
        evaluate_table("compact", table, device="cpu")
    with table.open("a") as file:
        file.write("ACGT,2\n")
    with pytest.raises(InputError, match=r"test\.csv line 42: label 2, but the classes are 0\.\.1"):
        evaluate_table(str(model), table, device="cpu")
    table = write_table(tmp_path / "dev.csv")

    def broken(rows: Tensor) -> Tensor:
        logits = guanines(rows)
        logits[rows.shape[1] == 61] = torch.nan
        return logits

    monkeypatch.setattr(task_report, "load_window_classifier", lambda *_: broken)
    first = next(i for i, line in enumerate(table.read_text().splitlines(), 1) if len(line.split(",")[0]) == 61)
    with pytest.raises(ModelFault, match=rf"dev\.csv line {first}: the model gives NaN or infinity"):
        evaluate_table(str(model), table, device="cpu")


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Models and tables: two tasks that work, one without a model, one without a test split, one broken table."""
    models, tables = tmp_path / "models", tmp_path / "tables"
    write_window_model(models / "tf" / "0")
    write_window_model(models / "prom" / "core" / "model", name="core")
    write_window_model(models / "dev_only")
    write_window_model(models / "broken")
    write_table(tables / "tf" / "0" / "test.csv", 1)
    write_table(tables / "tf" / "0" / "train.csv", 2)
    write_table(tables / "prom" / "core" / "test.tsv", 3)
    write_table(tables / "no_model" / "test.csv")
    write_table(tables / "dev_only" / "dev.csv", 4)
    (tables / "broken").mkdir()
    (tables / "broken" / "test.csv").write_text("sequence,label\nACGT,x\n")
    (tables / "notes.txt").write_text("no table\n")
    tsv = tables / "prom" / "core" / "test.tsv"
    tsv.write_text(tsv.read_text().replace(",", "\t"))
    monkeypatch.setattr(task_report, "load_window_classifier", lambda *_: guanines)
    return models, tables


def test_a_folder_of_tasks_leaves_none_unsaid(tasks: tuple[Path, Path], tmp_path: Path) -> None:
    models, tables = tasks
    found = evaluate_tables(models, tables, ("test",), device="cpu")
    assert [(task.task, task.split, task.model) for task in found.tasks] == [
        ("prom/core", "test", "core 1"),
        ("tf/0", "test", "tiny 1"),
    ]
    assert found.tasks[1].scores == evaluate_table(str(models / "tf/0"), tables / "tf/0/test.csv", device="cpu").scores
    assert found.missing == {
        "dev_only": f"no table of test in {tables / 'dev_only'}",
        "no_model": f"no model at {models / 'no_model'}",
    }
    assert list(found.failed) == ["broken"] and "test.csv line 2: label 'x'" in found.failed["broken"]
    text = to_text(found).splitlines()
    assert text[0].split() == ["task", "split", "sequences", "classes", "MCC", "F1", "macro", "F1", "accuracy", "AUROC", "AUPRC"]
    mean = np.mean([task.scores.mcc for task in found.tasks])
    assert text[3].startswith("mean of 2") and text[3].split()[3:5] == ["80", f"{mean:.4f}"]
    assert "missing (2):" in text and "failed (1):" in text
    (tmp_path / "out").mkdir()
    check_files(found, evaluate_tables(models, tables, ("test",), device="cpu"), tmp_path / "out")


def test_of_several_splits_the_first_that_is_there(tasks: tuple[Path, Path]) -> None:
    found = evaluate_tables(*tasks, ("test", "dev"), device="cpu")
    assert {task.task: task.split for task in found.tasks} == {"dev_only": "dev", "prom/core": "test", "tf/0": "test"}
    assert list(found.missing) == ["no_model"]


def test_folders_without_tasks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="absent: no such folder"):
        evaluate_tables(tmp_path, tmp_path / "absent")
    with pytest.raises(UsageError, match="no folder in it holds a table"):
        evaluate_tables(tmp_path, tmp_path)


@pytest.mark.parametrize(
    "wrong", [("--mask", "m.bed"), ("--trim-bp", "5"), ("--trim-bp", "-1"), ("--replicates", "-3"), ("--split", ",")]
)
def test_options_that_mean_nothing_are_refused(wrong: tuple[str, str], tmp_path: Path) -> None:
    assert main(["evaluate", str(tmp_path), "--table", "t.csv", *wrong]) == 2


def test_a_report_without_a_task_still_says_why(tmp_path: Path) -> None:
    write_table(tmp_path / "tables" / "a" / "test.csv")
    (tmp_path / "models").mkdir()
    found = evaluate_tables(tmp_path / "models", tmp_path / "tables", device="cpu")
    assert to_text(found).splitlines()[:3] == ["no task was measured", "", "missing (1):"]
    write_plot(found, tmp_path / "plot.png")
