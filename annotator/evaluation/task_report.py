"""What classifiers of whole sequences are worth on tables of labelled ones, such as GUE's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from annotator.errors import AnnotatorError, InputError, ModelFault, UsageError
from annotator.evaluation.classification import ClassScores, class_scores
from annotator.labels.window_tables import FIRST_LINE, TABLE_SUFFIXES, WindowTable, read_window_table
from annotator.models.device import choose_device
from annotator.models.directory import read_model
from annotator.models.loading import load_window_classifier
from annotator.models.manifest import MANIFEST_NAME

logger = logging.getLogger(__name__)

SPLITS = ("test", "dev")
BATCH_BP = 49_152

Classifier = Callable[[Tensor], Tensor]
"""Rows of ASCII bases of one length, uint8, [R, L], to class logits, float32, [R, classes]."""


@dataclass(frozen=True)
class TaskScores:
    """Accuracy of one model on one table.

    Attributes:
        task: Folder of the table below the folder of all tables; the table's path where there is one table only.
        split: The table's name without its suffix.
        model: Name and version.
        weights_sha256: Hash of the model's weights file.
        class_names: What each label stands for.
        scores: The measures.
    """

    task: str
    split: str
    model: str
    weights_sha256: str
    class_names: tuple[str, ...]
    scores: ClassScores


@dataclass(frozen=True)
class TaskReport:
    """Accuracy on all tasks of a folder.

    Attributes:
        tasks: Tasks that were measured, by name.
        missing: Tasks without a table of the split, or without a model: what is not there.
        failed: Tasks that could not be measured: the error.
    """

    tasks: tuple[TaskScores, ...]
    missing: dict[str, str]
    failed: dict[str, str]


def evaluate_tables(
    models: Path, tables: Path, splits: Sequence[str] = SPLITS, *, device: str = "auto", precision: str = "auto", threads: int = 1
) -> TaskReport:
    """Measure a folder of models on a folder of tasks.

    A task is a folder at any depth of `tables` that holds tables (`test.csv`, `dev.tsv.gz`, ...); its model is the model
    directory at the same place below `models`, or the folder `model` in it. A task that fails does not end the others.

    Args:
        models: Folder of model directories.
        tables: Folder of tasks.
        splits: Splits to measure on: of each task the first that it has.
        device: auto, cpu, cuda or cuda:N.
        precision: auto, float32 or bfloat16.
        threads: CPU threads.

    Returns:
        The report; every task is in exactly one of its lists.

    Raises:
        UsageError: There is no such folder, or no task in it.
    """
    for folder in (models, tables):
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder")
    found = sorted({path.parent for path in tables.rglob("*") if path.is_file() and path.name.endswith(TABLE_SUFFIXES)})
    if not found:
        raise UsageError(f"{tables}: no folder in it holds a table (*{', *'.join(TABLE_SUFFIXES)})")
    device = choose_device(device)
    measured: list[TaskScores] = []
    missing: dict[str, str] = {}
    failed: dict[str, str] = {}
    for folder in found:
        place = folder.relative_to(tables)
        task = place.as_posix()
        model = next((path for path in (models / place, models / place / "model") if (path / MANIFEST_NAME).is_file()), None)
        table = next(filter(None, (_table_of(folder, split) for split in splits)), None)
        if table is None:
            missing[task] = f"no table of {' or '.join(splits)} in {folder}"
        elif model is None:
            missing[task] = f"no model at {models / place}"
        else:
            try:
                measured.append(evaluate_table(str(model), table, task=task, device=device, precision=precision, threads=threads))
            except AnnotatorError as error:
                failed[task] = str(error)
        logger.info("%s: %s", task, missing.get(task) or failed.get(task) or f"MCC {measured[-1].scores.mcc:.4f}")
    return TaskReport(tuple(measured), missing, failed)


def evaluate_table(
    model: str, table: Path, *, task: str = "", device: str = "auto", precision: str = "auto", threads: int = 1
) -> TaskScores:
    """Measure a model on a table.

    Args:
        model: A model directory that classifies windows.
        table: CSV or TSV as `read_window_table` reads it.
        task: What to call it; the table's path if empty.
        device: auto, cpu, cuda or cuda:N.
        precision: auto, float32 or bfloat16.
        threads: CPU threads.

    Returns:
        The measures.

    Raises:
        AnnotatorError: A file is missing or bad, the model classifies no windows, or the table has labels it does not know.
        ModelFault: The model gave NaN or infinity; the message names the line.
    """
    torch.set_num_threads(threads)
    folder, manifest = read_model(model)
    if manifest.window is None:
        raise InputError(f"{folder}: labels bases; a table needs a model that classifies windows (give a genome and its truth)")
    labelled = read_window_table(table)
    labelled.check_classes(len(manifest.window.classes))
    where = torch.device(choose_device(device))
    logits = table_logits(load_window_classifier(folder, manifest, where, precision), labelled, where)
    return TaskScores(
        task=task or str(table),
        split=table.name.partition(".")[0],
        model=f"{manifest.name} {manifest.version}",
        weights_sha256=manifest.weights_sha256,
        class_names=manifest.window.classes,
        scores=class_scores(logits, labelled.labels),
    )


def table_logits(classify: Classifier, table: WindowTable, device: torch.device) -> NDArray[np.float32]:
    """Class logits of every sequence of a table.

    Args:
        classify: The model, on `device`.
        table: The sequences.
        device: Where the model is.

    Returns:
        float32, [n, classes], in table order.

    Raises:
        ModelFault: One is NaN or infinite.
    """
    order: list[NDArray[np.int64]] = []
    found: list[NDArray[np.float32]] = []
    with torch.inference_mode():
        for rows in _batches(table):
            bases = b"".join(table.sequences[row] for row in rows.tolist())
            block = torch.frombuffer(bytearray(bases), dtype=torch.uint8).view(len(rows), -1)
            order.append(rows)
            found.append(classify(block.to(device)).float().cpu().numpy())
    logits = np.concatenate(found)[np.argsort(np.concatenate(order))]
    bad = np.flatnonzero(~np.isfinite(logits).all(1))
    if len(bad):
        raise ModelFault(f"{table.path} line {int(bad[0]) + FIRST_LINE}: the model gives NaN or infinity")
    return logits


def _batches(table: WindowTable) -> Iterator[NDArray[np.int64]]:
    """Rows of one length, as many as make BATCH_BP, by length and then in table order."""
    lengths = np.array([len(sequence) for sequence in table.sequences])
    for length in np.unique(lengths).tolist():
        rows = np.flatnonzero(lengths == length)
        size = max(1, BATCH_BP // length)
        yield from (rows[first : first + size] for first in range(0, len(rows), size))


def _table_of(folder: Path, split: str) -> Path | None:
    """The table of a split; None without one."""
    there = [path for suffix in TABLE_SUFFIXES if (path := folder / f"{split}{suffix}").is_file()]
    if len(there) > 1:
        logger.warning("%s: %s are there; %s is used", folder, " and ".join(path.name for path in there), there[0].name)
    return there[0] if there else None
