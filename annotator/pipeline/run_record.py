"""run.json, and what is said before a run begins."""

from __future__ import annotations

import logging
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from annotator.genome.plan import Shard
from annotator.genome.source import Genome
from annotator.motifs.scores import expected_hits
from annotator.output.parts import PartInfo
from annotator.pipeline.request import Request
from annotator.pipeline.worker.measures import host_peak_bytes
from annotator.pipeline.worker.order import WorkerReport
from annotator.results.workspace import FinishedShard, total_counts
from annotator_kernels.versions import installed_version

logger = logging.getLogger(__name__)

TFBS_ROW_BYTES = 40
"""Measured: bytes of a motif hit in tfbs.bed.gz and predictions.parquet together, about."""
MOST_NAMES = 1000
LIBRARIES = ("genome-annotator", "torch", "triton", "polars", "pysam", "numpy", "pyjaspar", "safetensors", "ray")


@dataclass(frozen=True)
class Circumstances:
    """What a run took, and from whom.

    Attributes:
        seconds: From start to end.
        stage_s: Seconds by stage, all workers together.
        reports: The last word of every worker.
    """

    seconds: float
    stage_s: Mapping[str, float]
    reports: dict[str, WorkerReport]

    @property
    def peak_memory_bytes(self) -> dict[str, int]:
        """By device, of the worker that held most; the driver's own is there where it is another process."""
        peaks: dict[str, int] = {"driver": host_peak_bytes()}
        for report in self.reports.values():
            for device, size in report.peak_memory_bytes.items():
                peaks[device] = max(peaks.get(device, 0), size)
        return peaks


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
    for kind, threshold in order.thresholds.items():
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


def run_json(
    request: Request,
    plan: dict[str, Any],
    genome: Genome,
    out_dir: Path,
    files: dict[str, PartInfo],
    shards: list[Shard],
    done: dict[int, FinishedShard],
    failed: dict[int, str],
    circumstances: Circumstances,
) -> dict[str, Any]:
    """The contents of run.json: what was asked, used, written, altered, skipped and given up."""
    names = genome.contigs.names
    empty = [names[i] for i in np.flatnonzero(genome.contigs.lengths == 0).tolist()]
    missing = sorted({span.contig for shard in failed for span in shards[shard].spans})
    scanner, reports = request.scanner, circumstances.reports
    return {
        "run_json_version": 2,
        "argv": sys.argv,
        "plan": plan,
        "files": {
            name: {"bytes": (out_dir / name).stat().st_size, "sha256": info.sha256, "rows": info.rows}
            for name, info in sorted(files.items())
        },
        "coordinate_system": "0-based-half-open",
        "input": {
            "path": genome.path,
            "compression": genome.compression,
            "altered_bases": genome.altered,
            "n_runs": genome.n_runs,
            "longest_n_run_bp": genome.longest_n_run_bp,
            "empty_contigs": {"count": len(empty), "names": empty[:MOST_NAMES]},
            "warnings": genome.warnings,
        },
        "counts": dict(sorted(total_counts(list(done.values())).items())),
        "failed_contigs": {"count": len(missing), "names": [names[contig] for contig in missing[:MOST_NAMES]]},
        "failed_shards": [
            {
                "shard": shard, "reason": reason,
                "spans": [[names[span.contig], span.start, span.end] for span in shards[shard].spans[:MOST_NAMES]],
            }
            for shard, reason in sorted(failed.items())
        ],
        "not_validated": [kind for kind in request.order.kinds if kind not in request.settings.validated],
        "motifs_out_of_reach": [scanner.motifs[i].matrix_id for i in scanner.skipped] if scanner else [],
        "shards": [
            {"shard": s.index, "rows": done[s.index].rows, "sha256": done[s.index].sha256} for s in shards if s.index in done
        ],
        "workers": sorted(reports),
        "backends": {name: how for report in reports.values() for name, how in report.backends.items()},
        "batch_bp_used": min((report.batch_bp for report in reports.values()), default=request.order.batch_bp),
        "versions": {name: installed_version(name) for name in LIBRARIES} | {"python": platform.python_version()},
        "wall_s": round(circumstances.seconds, 1),
        "peak_memory_bytes": circumstances.peak_memory_bytes,
        "stage_s": {stage: round(spent, 2) for stage, spent in circumstances.stage_s.items()},
        "exit_status": 4 if failed else 0,
    }  # fmt: skip


def in_bytes(count: float) -> str:
    """A number of bytes as people say it."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
