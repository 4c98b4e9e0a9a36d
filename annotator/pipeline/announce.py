"""What is said of a run: what was decided, what was found in a genome, where the results are."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import Any

from annotator.genome.source import Genome
from annotator.kinds import Kind
from annotator.motifs.scores import expected_hits
from annotator.output.schema import PREDICTIONS_FILE
from annotator.pipeline.request import Request
from annotator.results.workspace import rows_of_files

logger = logging.getLogger(__name__)

HINT = "hint"
"""Key of what is left of a run's run.json in memory: what to try where nothing was called."""
TFBS_ROW_BYTES = 40
"""Measured: bytes of a motif hit in tfbs.bed.gz and predictions.parquet together, about."""


def announce_run(request: Request) -> None:
    """Say what was decided before any genome is looked at."""
    order, scanner = request.order, request.scanner
    logger.info(
        "clade %s; tasks %s; model %s %s", order.clade, ",".join(request.tasks), request.manifest.name, request.manifest.version
    )
    logger.info(
        "computing on %s in %s, %s", order.device, order.precision,
        "through Triton kernels where they can run" if order.device.startswith("cuda") else "through plain torch",
    )  # fmt: skip
    if request.fdr is not None:
        logger.info("thresholds: where decoys of each genome say that %.3g of the calls are chance", request.fdr)
    for kind, threshold in order.thresholds.items() if request.fdr is None else ():
        logger.info("threshold %s: probability >= %.3f", kind, threshold)
    if scanner:
        logger.info(
            "motifs: %s, %d matrices (%d cannot reach p <= %g)", order.motif_source, len(scanner.motifs), len(scanner.skipped),
            scanner.p_value,
        )  # fmt: skip


def announce_genome(request: Request, genome: Genome, bases: int) -> None:
    """Say what was found in a genome; `bases` is how many will be scanned."""
    for warning in genome.warnings:
        logger.warning("%s", warning)
    by_chance = ""
    if request.scanner:
        hits = expected_hits(request.scanner.matrices, bases)
        by_chance = f"; by chance about {hits:,.0f} motif hits, {in_bytes(hits * TFBS_ROW_BYTES)} on disk"
    contigs, total = len(genome.contigs), genome.contigs.total_bp
    logger.info("%s: %d contigs, %s bp (%s to scan)%s", genome.path, contigs, f"{total:,}", f"{bases:,}", by_chance)


def announce_files(out_dir: Path, run: dict[str, Any]) -> None:
    """Say where the calls of an assembly are, from the contents of its run.json."""
    for name, rows in rows_of_files(run).items():
        logger.info("%s: %s rows", out_dir / name, f"{rows:,}")
    announce_hint(out_dir, run)


def announce_next(out_dir: Path) -> None:
    """Say how to look at the results of an assembly."""
    logger.info("to look at them: annotator browse %s", shlex.quote(str(out_dir)))


def announce_hint(out_dir: Path, run: dict[str, Any]) -> None:
    """Say what to try where nothing was called in an assembly that is done with."""
    if hint := run.get(HINT):
        logger.warning("%s: %s", out_dir, hint)


def hint_where_nothing_was_called(run: dict[str, Any]) -> str:
    """What to try where the model called nothing at all in an assembly; nothing where it did.

    Args:
        run: Contents of its run.json.
    """
    plan, found = run.get("plan", {}), rows_of_files(run)
    thresholds = plan.get("thresholds", {})
    calls = found.get(PREDICTIONS_FILE)
    if not thresholds or any(found.get(Kind(kind).row.bed_file, calls) for kind in thresholds):  # a run may write no BED
        return ""
    asked = ", ".join(f"{kind} {threshold:.3f}" for kind, threshold in thresholds.items())
    regions = ", or other `regions`" if plan.get("regions_sha256") else ""
    instead = "a lower one (`thresholds=0.1`)" if plan.get("fdr") is None else "a higher `fdr`, or `thresholds` in its place"
    return (
        f"0 calls: no site reached its threshold ({asked}) with the settings of clade {plan['clade']}; "
        f"try {instead}, or another `clade`{regions}"
    )


def announce_batch(out_dir: Path, assemblies: int) -> None:
    """Say where the folders of several assemblies are."""
    logger.info("%d assemblies in %s", assemblies, out_dir)


def in_bytes(count: float) -> str:
    """A number of bytes as people say it."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
