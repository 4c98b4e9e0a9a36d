"""run.json: what a run was asked, what it used, and what became of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from annotator.genome.files import STDIN_PATHS
from annotator.genome.plan import Shard
from annotator.genome.source import Genome
from annotator.output.parts import PartInfo
from annotator.output.track_files import LEAST_PROBABILITY
from annotator.pipeline.request import Request
from annotator.pipeline.worker.measures import host_peak_bytes
from annotator.pipeline.worker.order import WorkerReport
from annotator.preflight import as_text
from annotator.results.plan import RunPlan
from annotator.results.rewriting import files_json, formats_json
from annotator.results.workspace import RUN_JSON_VERSION, TRACKS, FinishedShard, total_counts
from annotator_kernels.versions import installed_version

MOST_NAMES = 1000
LIBRARIES = ("genome-annotator", "torch", "triton", "polars", "pysam", "numpy", "safetensors", "ray")


@dataclass(frozen=True)
class Circumstances:
    """What a run took, and from whom.

    Attributes:
        seconds: Time from start to end.
        stage_s: Seconds by stage of the work, all workers together.
        reports: The last report of every worker.
        argv: The command line; None for a call from Python, of which plan and formats tell.
    """

    seconds: float
    stage_s: Mapping[str, float]
    reports: dict[str, WorkerReport]
    argv: Sequence[str] | None = None

    @property
    def peak_memory_bytes(self) -> dict[str, int]:
        """Bytes by device of the worker that held most; the driver's own is there where it is another process."""
        peaks: dict[str, int] = {"driver": host_peak_bytes()}
        for report in self.reports.values():
            for device, size in report.peak_memory_bytes.items():
                peaks[device] = max(peaks.get(device, 0), size)
        return peaks


def run_json(
    request: Request,
    plan: RunPlan,
    genome: Genome,
    out_dir: Path,
    formats: Mapping[str, object],
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
        "run_json_version": RUN_JSON_VERSION,
        "argv": circumstances.argv,
        "plan": plan.as_json(),
        "formats": formats_json(formats),
        TRACKS: {
            track.file: {"track": track.name, "kind": track.kind, "strand": track.strand.symbol, "least": LEAST_PROBABILITY}
            for track in request.order.tracks
        },
        "files": files_json(out_dir, files),
        "coordinate_system": "0-based-half-open",
        "input": {
            "path": as_text(genome.path),
            "absolute_path": None if genome.path in STDIN_PATHS else as_text(os.path.abspath(genome.path)),
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
