"""What a run will do, settled before any base is computed: the worker's order, and the plan that decides the result."""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from annotator.errors import InputError, UsageError
from annotator.genome.plan import PlanOptions
from annotator.genome.source import Genome
from annotator.models.device import choose_precision
from annotator.models.manifest import MANIFEST_NAME, CladeSettings, Manifest
from annotator.models.motifs import CLADE_TAXA, JASPAR_RELEASE, Motif, jaspar_motifs, read_motifs
from annotator.models.registry import read_model
from annotator.output.schema import SCHEMA_VERSION
from annotator.pipeline.options import BATCH_BP, SHARD_BP, TASKS, AnnotateOptions
from annotator.pipeline.worker import WorkOrder, wanted_kinds
from annotator_kernels.hardware import installed_version

logger = logging.getLogger(__name__)

LIBRARIES = ("torch", "polars", "numpy")
"""What decides the last digits of a score, and the bytes of a file."""


@dataclass(frozen=True)
class Request:
    """A run's options with everything looked up that does not need the genome.

    Attributes:
        order: For the worker.
        manifest: Of the model.
        folder: Of the model.
        settings: Of the clade.
        tasks: In fixed order.
        motif_source: Name of the motif collection; empty without motifs.
    """

    order: WorkOrder
    manifest: Manifest
    folder: Path
    settings: CladeSettings
    tasks: tuple[str, ...]
    motif_source: str

    @property
    def reported_kinds(self) -> tuple[str, ...]:
        """Kinds of call the run's files hold."""
        return (*self.order.kinds, "tfbs") if self.order.motifs else self.order.kinds


def resolve(options: AnnotateOptions, device: str) -> Request:
    """Look up model, tasks, thresholds and motifs.

    Raises:
        AnnotatorError: One of them is wrong or missing.
    """
    folder, manifest = read_model(options.model)
    if manifest.family != "compact":
        raise InputError(f"model {options.model}: family {manifest.family!r} is not one this version can scan with")
    if options.clade not in manifest.clades:
        raise UsageError(f"--clade {options.clade}: the model has {', '.join(manifest.clades)}")
    settings = manifest.clades[options.clade]
    tasks = _tasks(options, settings)
    kinds = wanted_kinds(tasks)
    for kind in options.thresholds:
        if kind not in ("donor", "acceptor", "promoter"):
            raise UsageError(f"--threshold {kind}: no such kind; choose donor, acceptor or promoter")
    kind_of_device = torch.device(device).type
    motifs, source = _motifs(options) if "tfbs" in tasks else ((), "")
    order = WorkOrder(
        model=options.model,
        clade=options.clade,
        thresholds={kind: options.thresholds.get(kind, settings.thresholds[kind]) for kind in kinds},
        motifs=motifs,
        tfbs_pvalue=options.tfbs_pvalue,
        plan=PlanOptions(**(manifest.plan | {"shard_bp": options.shard_bp or SHARD_BP[kind_of_device]})),
        batch_bp=options.batch_bp or BATCH_BP[kind_of_device],
        device=device,
        precision=choose_precision(options.precision, device),
        threads=options.threads,
    )
    return Request(order, manifest, folder, settings, tasks, source)


def make_plan(
    request: Request, options: AnnotateOptions, genome: Genome, regions: dict[int, NDArray[np.int64]] | None
) -> dict[str, Any]:
    """Everything that decides the result, as plain values: two runs with equal plans write equal bytes."""
    order = request.order
    libraries = LIBRARIES if order.device == "cpu" else (*LIBRARIES, "triton")
    return {
        "program": importlib.metadata.version("genome-annotator"),
        "libraries": {name: installed_version(name) for name in libraries},
        "schema_version": SCHEMA_VERSION,
        "bed": asdict(options.bed),
        "fasta_sha256": genome.sha256,
        "contigs": {"count": len(genome.contigs), "bp": int(genome.contigs.lengths.sum()), "sha256": _contig_hash(genome)},
        "duplicate_names": options.genome.dup_names,
        "gaps_as_n": options.genome.gaps_as_n,
        "windows": asdict(order.plan),
        "batch_bp": order.batch_bp,
        "device": torch.device(order.device).type,
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
        "motifs": _motif_plan(order, request.motif_source),
        "regions_sha256": None if regions is None else _region_hash(regions),
    }


def _tasks(options: AnnotateOptions, settings: CladeSettings) -> tuple[str, ...]:
    """Tasks of the run, in fixed order; by default all but promoters where they are not validated."""
    if options.tasks is None:
        tasks = tuple(task for task in TASKS if task != "promoter" or "promoter" in settings.validated)
        if "promoter" not in tasks:
            logger.info("promoters are off: not validated for clade %s (ask for them with --tasks)", options.clade)
    else:
        if unknown := sorted(set(options.tasks) - set(TASKS)):
            raise UsageError(f"--tasks {unknown[0]}: choose from {', '.join(TASKS)}")
        tasks = tuple(task for task in TASKS if task in options.tasks)
    for kind in wanted_kinds(tasks):
        if kind not in settings.validated:
            logger.warning("%s calls are NOT VALIDATED for clade %s (%s)", kind, options.clade, settings.note)
    return tasks


def _motifs(options: AnnotateOptions) -> tuple[tuple[Motif, ...], str]:
    if options.motifs != "jaspar":
        return tuple(read_motifs(Path(options.motifs))), Path(options.motifs).name
    taxa = CLADE_TAXA[options.clade]
    motifs = tuple(motif for taxon in taxa for motif in jaspar_motifs(taxon, JASPAR_RELEASE))
    return motifs, f"{JASPAR_RELEASE} CORE {'+'.join(taxa)}"


def _motif_plan(order: WorkOrder, source: str) -> dict[str, Any] | None:
    if not order.motifs:
        return None
    digest = hashlib.sha256()
    for motif in order.motifs:
        digest.update(f"{motif.matrix_id}\t{motif.name}\t{motif.counts.tolist()}\n".encode())
    return {"source": source, "matrices": len(order.motifs), "sha256": digest.hexdigest(), "p_value": order.tfbs_pvalue}


def _contig_hash(genome: Genome) -> str:
    digest = hashlib.sha256("\n".join(genome.contigs.names).encode())
    digest.update(np.ascontiguousarray(genome.contigs.lengths).tobytes())
    return digest.hexdigest()


def _region_hash(regions: dict[int, NDArray[np.int64]]) -> str:
    digest = hashlib.sha256()
    for contig in sorted(regions):
        digest.update(np.array([contig, len(regions[contig])], np.int64).tobytes() + regions[contig].tobytes())
    return digest.hexdigest()
