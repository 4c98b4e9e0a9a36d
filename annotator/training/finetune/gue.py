"""One fine-tuning run for every task in a folder of tables, as in GUE."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path

from annotator.errors import AnnotatorError, UsageError
from annotator.kinds import Kind
from annotator.labels.window_tables import find_table
from annotator.training.finetune.options import OTHER, FeatureTrack, FinetuneSettings, TableData
from annotator.training.finetune.run import run_finetuning

logger = logging.getLogger(__name__)

GUE_TASKS = (
    (r"prom(_|/prom_)core_\w+", (OTHER, "tss"), {"tss": 33}),
    (r"prom(_|/prom_)300_\w+", (OTHER, "tss"), {"tss": 249}),
    (r"splice/\w+", ("acceptor", "donor", OTHER), {"acceptor": 200, "donor": 199}),
)
"""Folders of GUE: what their labels mean and which base of the window that is; seen in the tables themselves (the pyrimidine and
purine of the initiator at 32 and 33, or 248 and 249; GT at 200 and AG at 198)."""
_GUE_FACTORS = r"(tf|mouse)/\d+"
"""Folders of GUE whose label 1 is a window that a transcription factor binds."""


@dataclass(frozen=True)
class TaskRun:
    """One task of a folder.

    Attributes:
        task: Path of its folder, relative to the folder of all.
        model: The model directory; None where the task failed.
        error: Why it failed.
    """

    task: str
    model: Path | None
    error: str = ""


def run_finetuning_folder(settings: FinetuneSettings, tables: Path, out: Path, *, device: str, threads: int) -> list[TaskRun]:
    """Fine-tune on every sub-folder that has a train table, one after the other; a failing one does not stop the others.

    Args:
        settings: Settings of every run; name, tables, and (unless it names classes) the meaning of labels are each task's own.
        tables: The folder of all.
        out: Each run goes to the same relative path below it.
        device: auto, cpu, cuda or cuda:N, as `run_finetuning` takes it.
        threads: CPU threads of each process.

    Returns:
        A row a task, in order of their paths.

    Raises:
        UsageError: There is no such folder, or no train table in it.
    """
    if not tables.is_dir():
        raise UsageError(f"{tables}: no such folder")
    folders = sorted(path for path in [tables, *tables.rglob("*")] if path.is_dir() and find_table(path, "train"))
    if not folders:
        raise UsageError(f"{tables}: no train.csv (or .tsv, .gz) in it or below it")
    done: list[TaskRun] = []
    for folder in folders:
        task = folder.relative_to(tables).as_posix()
        logger.info("%s: task %d of %d", task, len(done) + 1, len(folders))
        try:
            name = task.replace("/", "-") if task != "." else settings.name
            own = replace(settings, name=name, data=table_data(folder, settings.data))
            done.append(TaskRun(task, run_finetuning(own, out / task, device=device, threads=threads)))
        except AnnotatorError as error:
            logger.error("%s: %s", task, error)
            done.append(TaskRun(task, None, str(error)))
    return done


def table_data(folder: Path, template: object) -> TableData:
    """The tables of a task's folder with what their labels mean.

    Args:
        folder: With a train table and perhaps a dev table.
        template: A `TableData` whose other fields are taken; where it names no classes, those of GUE are known by the folder's
            path. Anything else stands for the defaults.

    Raises:
        UsageError: There is no train table.
    """
    train = find_table(folder, "train")
    if train is None:
        raise UsageError(f"{folder}: no train table (train.csv or .tsv, plain or .gz)")
    given = template if isinstance(template, TableData) else TableData(train)
    data = replace(given, train=train, dev=find_table(folder, "dev"))
    if data.classes:
        return data
    path = folder.resolve().as_posix()
    for pattern, classes, anchors in GUE_TASKS:
        if re.search(rf"/{pattern}$", path):
            return replace(data, classes=classes, anchor_bp=anchors)
    if found := re.search(rf"/({_GUE_FACTORS})$", path):
        factor = found[1].replace("/", "-")
        return replace(data, classes=(OTHER, factor), features=(FeatureTrack(factor, Kind.TFBS),))
    return data
