"""The plan of one assembly's run, and what it takes over from a run that is already in the results folder."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotator.errors import UsageError
from annotator.genome.source import Genome
from annotator.models.bound.manifest import BOUND_JSON, bound_folder
from annotator.models.manifest import MANIFEST_NAME
from annotator.output.schema import SCHEMA_VERSION
from annotator.pipeline.options import AnnotateOptions, Sample
from annotator.pipeline.request import Request
from annotator.pipeline.worker.order import WorkOrder
from annotator.results.plan import CHOSEN, COMMAND, GIVEN, PLAN_VERSION, RunPlan
from annotator.results.workspace import recorded_plan

logger = logging.getLogger(__name__)


def make_plan(
    request: Request,
    options: AnnotateOptions,
    genome: Genome,
    regions: dict[int, NDArray[np.int64]] | None,
    fdr: dict[str, Any] | None = None,
) -> RunPlan:
    """Everything that decides the calls: two runs with equal plans write equal calls. The format of the files is no part of it.

    Args:
        request: What is done.
        options: What the user asked for.
        genome: The assembly.
        regions: Wanted intervals [m, 2] per contig index, or None for all of the genome.
        fdr: The false discovery rate asked for and how it is estimated; None where thresholds are given.
    """
    order = request.order
    windows = asdict(order.windows)
    values = {
        "plan_version": PLAN_VERSION,
        "program": importlib.metadata.version("genome-annotator"),
        "libraries": order.libraries,
        "schema_version": SCHEMA_VERSION,
        "fasta_sha256": genome.text_sha256,
        "contigs": {"count": len(genome.contigs), "bp": genome.contigs.total_bp, "sha256": _contig_hash(genome)},
        "duplicate_names": options.genome.dup_names,
        "gaps_as_n": options.genome.gaps_as_n,
        "mask_chars": "".join(sorted(set(options.genome.mask_chars.upper()))),
        "shard_bp": windows.pop("shard_bp"),
        "windows": windows,
        "batch_bp": order.batch_bp,
        "device": order.device.partition(":")[0],
        "precision": order.precision,
        "threads": order.threads,
        "model": {
            "name": request.manifest.name,
            "version": request.manifest.version,
            "weights_sha256": request.manifest.weights_sha256,
            "manifest_sha256": hashlib.sha256((request.folder / MANIFEST_NAME).read_bytes()).hexdigest(),
        },
        "clade": order.clade,
        "tasks": list(request.tasks),
        "thresholds": order.thresholds,
        "fdr": fdr,
        "tracks": bool(order.tracks),
        "motifs": _motif_plan(order),
        "bound": _bound_plan(request),
        "regions_sha256": None if regions is None else _region_hash(regions),
    }
    return RunPlan(values, given_values(options), _command_sha256(options, genome.path))


def _command_sha256(options: AnnotateOptions, fasta: str) -> str:
    """Hash of what the user asked for of an assembly, but for what the program could have chosen, which plans hold by itself."""
    asked = {f.name: getattr(options, f.name) for f in fields(options) if f.name not in (*CHOSEN, "overwrite", "formats")}
    asked |= {"genome": asdict(options.genome), "fasta": fasta}
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()


def given_values(options: AnnotateOptions) -> frozenset[str]:
    """Names of those values that the program could have chosen and the user gave."""
    return frozenset(name for name in CHOSEN if getattr(options, name) not in (None, 0, "auto"))


def follow_earlier_runs(samples: Sequence[Sample], options: AnnotateOptions) -> tuple[AnnotateOptions, Path | None]:
    """Take what the user left to the program from an unfinished run, so that the same command goes on with it anywhere.

    Args:
        samples: The assemblies of the run.
        options: What the user asked for.

    Returns:
        The options, with values of the first results folder that has shards to do; and that folder. A folder whose run differs
        in what the user gave is not followed: it will be refused when it is opened. Overwriting follows only a run that the
        same command began and that has no files yet; any other is replaced, and leaves no trace in the new one.
    """
    given = given_values(options)
    for sample in samples:
        recorded = recorded_plan(sample.out_dir, begun_only=options.overwrite) or {}
        if recorded.get("plan_version") != PLAN_VERSION or any(name not in recorded for name in CHOSEN):
            continue
        if any(recorded[name] != _kind_of(getattr(options, name)) for name in given):
            continue
        if options.overwrite and (
            recorded.get(GIVEN) != sorted(given) or recorded.get(COMMAND) != _command_sha256(options, sample.fasta)
        ):
            continue
        taken = {name: recorded[name] for name in CHOSEN if name not in given}
        try:
            followed = replace(options, **taken)
        except UsageError:  # a damaged plan; the folder is refused when it is opened
            continue
        if taken:
            logger.info("%s: %s as before", sample.out_dir, ", ".join(f"{name} {value}" for name, value in taken.items()))
        return followed, sample.out_dir
    return options, None


def _kind_of(value: Any) -> Any:
    """A value as a plan holds it: of a device, only its kind."""
    return value.partition(":")[0] if isinstance(value, str) else value


def _motif_plan(order: WorkOrder) -> dict[str, Any] | None:
    if not order.motifs:
        return None
    digest = hashlib.sha256()
    for motif in order.motifs:
        digest.update(f"{motif.matrix_id}\t{motif.name}\t{motif.counts.tolist()}\n".encode())
    return {
        "source": order.motif_source,
        "matrices": len(order.motifs),
        "sha256": digest.hexdigest(),
        "p_value": order.tfbs_pvalue,
    }


def _bound_plan(request: Request) -> dict[str, Any] | None:
    """The model of bound sites and the factors it rates; None where there is none."""
    if request.bound is None:
        return None
    manifest = (bound_folder(request.order.bound) / BOUND_JSON).read_bytes()
    return {
        "name": request.bound.name,
        "factors": list(request.bound.factors),
        "weights_sha256": request.bound.weights_sha256,
        "manifest_sha256": hashlib.sha256(manifest).hexdigest(),
    }


def _contig_hash(genome: Genome) -> str:
    digest = hashlib.sha256("\n".join(genome.contigs.names).encode())
    digest.update(np.ascontiguousarray(genome.contigs.lengths).tobytes())
    return digest.hexdigest()


def _region_hash(regions: dict[int, NDArray[np.int64]]) -> str:
    digest = hashlib.sha256()
    for contig in sorted(regions):
        digest.update(np.array([contig, len(regions[contig])], np.int64).tobytes() + regions[contig].tobytes())
    return digest.hexdigest()
