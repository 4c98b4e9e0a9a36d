"""run.json, and what is said before a run begins."""

from __future__ import annotations

import logging
import platform
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from annotator.genome.plan import Shard
from annotator.genome.source import Genome
from annotator.models.motif_scores import expected_hits
from annotator.output.parts import PartInfo
from annotator.pipeline.prepare import Request
from annotator.pipeline.worker import ShardWorker
from annotator.pipeline.workspace import FinishedShard, total_counts
from annotator_kernels.dispatch import chosen_backends
from annotator_kernels.hardware import installed_version

logger = logging.getLogger(__name__)

TFBS_ROW_BYTES = 40
"""Measured: bytes of a motif hit in tfbs.bed.gz and predictions.parquet together, about."""
MOST_NAMES = 1000
LIBRARIES = ("genome-annotator", "torch", "triton", "polars", "pysam", "numpy", "pyjaspar", "safetensors")


def announce(request: Request, worker: ShardWorker, genome: Genome, bases: int) -> None:
    """Say what was decided before the work begins; `bases` is how many will be scanned."""
    for warning in genome.warnings:
        logger.warning("%s", warning)
    logger.info(
        "%s: %d contigs, %s bp (%s to scan); clade %s; tasks %s; model %s %s", genome.path, len(genome.contigs),
        f"{int(genome.contigs.lengths.sum()):,}", f"{bases:,}", request.order.clade, ",".join(request.tasks),
        request.manifest.name, request.manifest.version,
    )  # fmt: skip
    logger.info(
        "computing on %s in %s, %s", request.order.device, request.order.precision,
        "through Triton kernels where they can run" if worker.device.type == "cuda" else "through plain torch",
    )  # fmt: skip
    for kind, threshold in request.order.thresholds.items():
        logger.info("threshold %s: probability >= %.3f", kind, threshold)
    if worker.scanner:
        hits = expected_hits(worker.scanner.matrices, bases)
        logger.info(
            "motifs: %s, %d matrices (%d cannot reach p <= %g); by chance about %s hits, %s on disk", request.motif_source,
            len(worker.scanner.motifs), len(worker.scanner.skipped), worker.scanner.p_value, f"{hits:,.0f}",
            _bytes(hits * TFBS_ROW_BYTES),
        )  # fmt: skip


def run_json(
    request: Request,
    plan: dict[str, Any],
    genome: Genome,
    worker: ShardWorker,
    out_dir: Path,
    files: dict[str, PartInfo],
    shards: list[Shard],
    done: dict[int, FinishedShard],
    seconds: float,
) -> dict[str, Any]:
    """The contents of run.json: what was asked, used, written, altered and skipped."""
    empty = [genome.contigs.names[i] for i in np.flatnonzero(genome.contigs.lengths == 0).tolist()]
    scanner = worker.scanner
    return {
        "run_json_version": 1,
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
        "not_validated": [kind for kind in request.order.kinds if kind not in request.settings.validated],
        "motifs_out_of_reach": [scanner.motifs[i].matrix_id for i in scanner.skipped] if scanner else [],
        "shards": [{"shard": s.index, "rows": done[s.index].rows, "sha256": done[s.index].sha256} for s in shards],
        "backends": chosen_backends(),
        "batch_bp_used": worker.batch_bp,
        "versions": {name: installed_version(name) for name in LIBRARIES} | {"python": platform.python_version()},
        "wall_s": round(seconds, 1),
        "peak_memory_bytes": peak_memory(worker.device),
        "stage_s": {stage: round(spent, 2) for stage, spent in worker.clock.seconds.items()},
        "exit_status": 0,
    }


def peak_memory(device: torch.device) -> dict[str, int]:
    """Most bytes this process held, on the host and on its GPU.

    Linux tells it of this program alone; elsewhere (and there with getrusage too) a process inherits its parent's peak.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    peaks = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")]  # some sandboxes leave it out
    unit = 1 if sys.platform == "darwin" else 1024
    host = peaks[0] if peaks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    if device.type != "cuda":
        return {"host": host}
    return {"host": host, str(device): torch.cuda.max_memory_allocated(device)}


def _bytes(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
