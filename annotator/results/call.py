"""Calls at other thresholds, from the tracks of a finished run: no genome, model or device is needed; 0-based half-open."""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import operator
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl

from annotator.checks import check_number
from annotator.errors import InputError, UsageError
from annotator.files import file_sha256, write_json
from annotator.kinds import EVERY_KIND
from annotator.machine import usable_cpus
from annotator.output.formats.base import OutputRun
from annotator.output.formats.registry import make_formats
from annotator.output.merge import Merge, final_names
from annotator.output.parts import PartInfo
from annotator.output.rewrite import table_blocks
from annotator.output.track_files import LEAST_PROBABILITY, MAXIMA_FILE
from annotator.results.plan import COMMAND, GIVEN, LADDER, RunPlan
from annotator.results.results import BatchResults, Results, open_results
from annotator.results.rewriting import files_json, formats_json
from annotator.results.workspace import CALLED_FROM, CONTIGS_TSV, CONVERTED, FORMATS, RUN_JSON, TRACKS, WRITING, Workspace

logger = logging.getLogger(__name__)

_OF_THE_SCAN: Final = (
    "backends", "batch_bp_used", "peak_memory_bytes", "stage_s", "wall_s", "workers", CONVERTED, WRITING,
)  # fmt: skip
"""Entries of run.json that tell of the scan alone."""


def call(
    folder: Path,
    out_dir: Path,
    thresholds: Mapping[str, float],
    *,
    formats: Mapping[str, object],
    overwrite: bool = False,
    threads: int = 0,
    argv: Sequence[str] | None = None,
    tick: Callable[[], None] | None = None,
) -> None:
    """Write the calls that a run of `annotate --tracks` would have made at other thresholds into a results folder of their own.

    They are the model's calls of that run, row for row; motif hits are not among them, nor profiles.

    Args:
        folder: The results folder of `annotate --tracks`.
        out_dir: The results folder to write.
        thresholds: Probability by kind, or by `EVERY_KIND` for all others, from `LEAST_PROBABILITY` up to 1; a kind without one
            keeps that of the run.
        formats: Formats to write, as `AnnotateOptions.formats` holds them.
        overwrite: Replace the files of another run in `out_dir`.
        threads: How many compress; 0 for all CPUs of this process. The bytes do not depend on it.
        argv: The command line, for the record; None for a call from Python.
        tick: Called again and again; what it raises ends the work, and no file appears.

    Raises:
        UsageError: There is no finished run with tracks, a threshold is wrong, or `out_dir` holds something else.
        InputError: A record or the table of maxima is damaged.
        ResourceFault: A file cannot be written.
    """
    source = _source(folder)
    chosen = _chosen(source, thresholds)
    if out_dir.exists() and os.path.samefile(out_dir, folder):
        raise UsageError(f"{out_dir}: is the folder of the tracks; choose another for their calls")
    plan = _plan(source.run["plan"], chosen, _maxima_sha256(source))
    run = OutputRun(list(chosen), list(source.contigs), list(source.contigs.values()))
    workspace = Workspace(out_dir)
    try:
        workspace.refuse_foreign_files([*final_names(run, make_formats(formats)), CONTIGS_TSV, RUN_JSON])
        if not overwrite:
            workspace.refuse_other_plan(plan)
            finished = workspace.finished_run() or {}
            if finished.get(FORMATS) == formats_json(formats) and workspace.are_there(finished, finished["files"]):
                logger.info("%s: already complete, nothing to do", out_dir)
                return
        files = _write(source, workspace, run, formats, chosen, threads, tick)
        write_json(out_dir / RUN_JSON, _record(source, plan, formats, files_json(out_dir, files)) | {"argv": argv})
        workspace.finish()
    finally:
        workspace.abandon()
    for name, info in files.items():
        if info.rows:
            logger.info("%s: %s rows", out_dir / name, f"{info.rows:,}")


def _write(
    source: Results,
    workspace: Workspace,
    run: OutputRun,
    formats: Mapping[str, object],
    thresholds: Mapping[str, float],
    threads: int,
    tick: Callable[[], None] | None,
) -> dict[str, PartInfo]:
    """Write all files but run.json, in place of those that the folder has."""
    making, wanted = make_formats(formats), _at_threshold(thresholds)
    workspace.note_names([*final_names(run, making), CONTIGS_TSV])
    with Merge(
        workspace.out_dir, run=run, formats=making, tool_version=importlib.metadata.version("genome-annotator"),
        threads=threads or usable_cpus(), text_names=[CONTIGS_TSV], scratch=workspace.state,
    ) as merge:  # fmt: skip
        for block in table_blocks(source.path / MAXIMA_FILE):
            if tick:
                tick()
            merge.take_rows(block.filter(wanted))
        contigs = "".join(f"{name}\t{bp}\n" for name, bp in source.contigs.items())
        files = merge.finish({CONTIGS_TSV: contigs}, tick=tick)
    workspace.remove_all_but(files)
    return files


def _record(source: Results, plan: RunPlan, formats: Mapping[str, object], files: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of run.json."""
    kept = {name: entry for name, entry in source.run.items() if name not in _OF_THE_SCAN}
    kinds = plan.values["thresholds"]
    return kept | {
        "plan": plan.as_json(), FORMATS: formats_json(formats), TRACKS: {}, "files": files,
        CALLED_FROM: os.path.abspath(source.path), "motifs_out_of_reach": [], "counts": {}, "shards": [],
        "not_validated": [kind for kind in source.run.get("not_validated", ()) if kind in kinds],
    }  # fmt: skip


def _maxima_sha256(source: Results) -> str:
    """Hash of the table of maxima, which is the one that run.json tells."""
    path = source.path / MAXIMA_FILE
    try:
        sha256 = file_sha256(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if sha256 != source.run["files"].get(MAXIMA_FILE, {}).get("sha256"):
        raise InputError(f"{path}: is not what {RUN_JSON} says; annotate the genome again")
    return sha256


def _source(folder: Path) -> Results:
    """The run that has the tracks."""
    source = open_results(folder)
    if isinstance(source, BatchResults):
        raise UsageError(f"{folder}: holds several assemblies; give the folder of one: {', '.join(list(source.samples)[:5])}")
    if not source.run.get(TRACKS):
        raise UsageError(f"{folder}: has no tracks; annotate the genome with `tracks`")
    if source.run.get("exit_status") != 0:
        raise UsageError(f"{folder}: some contigs failed; give the command of annotate again, which tries them again")
    return source


def _chosen(source: Results, asked: Mapping[str, float]) -> dict[str, float]:
    """The threshold of each kind of the run's tracks."""
    of_run = source.thresholds
    for kind, p in asked.items():
        name = f'thresholds["{kind}"]'
        if kind not in (*of_run, EVERY_KIND):
            raise UsageError(f"the tracks of this run give {', '.join(of_run)}", name, p)
        if not LEAST_PROBABILITY <= check_number(name, p) <= 1:
            raise UsageError(f"a probability from {LEAST_PROBABILITY}, below which tracks hold nothing, up to 1", name, p)
    chosen = {kind: asked.get(kind, asked.get(EVERY_KIND, p)) for kind, p in of_run.items()}
    for kind, p in chosen.items():
        if p < LEAST_PROBABILITY:
            what = f"that of the run lies below {LEAST_PROBABILITY}, where tracks hold nothing; give another"
            raise UsageError(what, f'thresholds["{kind}"]', p)
    return chosen


def _plan(plan: Mapping[str, Any], thresholds: Mapping[str, float], maxima_sha256: str) -> RunPlan:
    """The plan of the calls: that of the scan, but for what they do without."""
    values = {name: value for name, value in plan.items() if name not in (GIVEN, COMMAND, LADDER)}
    without = {"motifs": None, "bound": None, "fdr": None, "tracks": False}
    tasks = [task for task in plan["tasks"] if task != "tfbs" or "tfbs" in thresholds]
    return RunPlan(values | without | {"tasks": tasks, "thresholds": dict(thresholds), CALLED_FROM: maxima_sha256})


def _at_threshold(thresholds: Mapping[str, float]) -> pl.Expr:
    """Whether a maximum is a call; compared as a scan compares: rounded to six decimals, in double precision."""
    p = pl.col("probability").cast(pl.Float64).round(6)
    return functools.reduce(operator.or_, ((pl.col("kind") == kind) & (p >= least) for kind, least in thresholds.items()))
