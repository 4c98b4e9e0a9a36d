"""Calls of finished runs in further formats, from predictions.parquet: no genome, model or device is needed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from annotator.errors import InputError, UsageError
from annotator.machine import usable_cpus
from annotator.output.formats.base import OutputRun
from annotator.output.formats.registry import make_formats
from annotator.output.formats.write import format_names
from annotator.output.options import BED, BedOptions, formats_asked, formats_from_json
from annotator.output.rewrite import rewrite_formats
from annotator.results.results import BatchResults, Results, open_results
from annotator.results.rewriting import formats_json, rewrite_files
from annotator.results.workspace import CONVERTED, FORMATS, Workspace

logger = logging.getLogger(__name__)


def convert(
    folder: Path,
    to: Sequence[str],
    *,
    bed: BedOptions | None = None,
    threads: int = 0,
    tick: Callable[[], None] | None = None,
) -> dict[Path, list[str]]:
    """Write the calls of a results folder, or of every sample's in that of a batch, in further formats.

    Files are added to those of the folder, and named in its run.json. BED files of another shape than the run's own have it in
    their names.

    Args:
        folder: The results folder of `annotate`.
        to: Names of formats, out of `FORMAT_NAMES`.
        bed: Whether BED files have a header line; None for what is usual.
        threads: How many compress; 0 for all CPUs of this process. The bytes do not depend on it.
        tick: Called again and again; what it raises ends the writing.

    Returns:
        Names of the files that were written, by results folder.

    Raises:
        UsageError: There is no finished run, a format is unknown, or a file of another program is in the way.
        InputError: A record or predictions.parquet is damaged.
        ResourceFault: A file cannot be written.
    """
    bed = bed or BedOptions()
    if not to:
        raise UsageError("name one at the least", "to")
    formats_asked(to, bed, field="to")  # refuses unknown names before anything is opened
    results = open_results(folder)
    runs = results.samples.values() if isinstance(results, BatchResults) else (results,)
    if not runs:
        raise UsageError(f"{folder}: no sample of it has results")
    return {run.path: _convert(run, to, bed, threads or usable_cpus(), tick) for run in runs}


def output_run(results: Results) -> OutputRun:
    """What formats have to know of a finished run, from its folder.

    Raises:
        InputError: A record is damaged.
        UsageError: The folder is of an earlier version.
    """
    plan = results.run["plan"]
    try:
        kinds = [*plan["thresholds"], *(["tfbs"] if plan["motifs"] else [])]
    except (KeyError, TypeError):
        raise InputError(f"{results.path}: its run.json is damaged") from None
    return OutputRun(list(dict.fromkeys(kinds)), list(results.contigs), list(results.contigs.values()))


def _convert(results: Results, to: Sequence[str], bed: BedOptions, threads: int, tick: Callable[[], None] | None) -> list[str]:
    workspace = Workspace(results.path)
    try:
        results = Results(results.path, workspace.read_run())  # as it is now that nobody else writes it
        asked, own, added = _formats(results, to, bed)
        run, formats = output_run(results), make_formats(asked)
        names = format_names(run, formats)
        workspace.refuse_foreign_files(list(names))
        converted = added | formats_json({key: options for key, options in asked.items() if key not in own})
        rewrite_files(
            workspace, results.run, names,
            lambda: rewrite_formats(results.path, run, formats, threads=threads, tick=tick),
            keep=results.run["files"], meanwhile={}, afterwards={CONVERTED: converted},
        )  # fmt: skip
        return list(names)
    finally:
        workspace.abandon()  # the lock and, unless a run goes on here, its folder


def _formats(results: Results, to: Sequence[str], bed: BedOptions) -> tuple[dict[str, object], dict[str, Any], dict[str, Any]]:
    """The formats to write, those of the run itself, and those added before, as run.json has them."""
    own, added = results.run.get(FORMATS), results.run.get(CONVERTED) or {}
    if own is None:
        raise UsageError(f"{results.path}: writing its files was cut short; give the command of annotate again")
    try:
        known = formats_from_json({**added, **own})
    except (TypeError, UsageError):
        raise InputError(f"{results.path}: its run.json is damaged") from None
    ours = known.get(BED)
    asked = formats_asked(to, bed, own_bed=ours.shape if isinstance(ours, BedOptions) else "", field="to")
    # What the run itself writes keeps its options: so the same command of annotate finds nothing to do.
    return {key: known[key] if key in own else options for key, options in asked.items()}, own, added
