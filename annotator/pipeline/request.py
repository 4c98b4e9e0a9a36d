"""What a run will do, settled before any base is computed: the worker's order, and the plan that decides the result."""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotator.errors import UsageError
from annotator.genome.plan import PlanOptions
from annotator.genome.source import Genome
from annotator.kinds import TASKS, Kind
from annotator.models.directory import BUNDLED, read_model
from annotator.models.manifest import MANIFEST_NAME, CladeSettings, Manifest
from annotator.models.options import FAMILY_ROWS
from annotator.motifs.read import CLADE_TAXA, JASPAR_RELEASE, Motif, jaspar_motifs, read_motifs
from annotator.motifs.scan import MotifScanner
from annotator.output.schema import SCHEMA_VERSION
from annotator.pipeline.executors.machine import Machine
from annotator.pipeline.options import EVERY_KIND, SHARD_BP, AnnotateOptions
from annotator.pipeline.worker.order import WorkOrder, motif_scanner
from annotator.scan.options import BATCH_BP
from annotator_kernels.versions import installed_version

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
        scanner: The order's motif scanner; None without motifs.
    """

    order: WorkOrder
    manifest: Manifest
    folder: Path
    settings: CladeSettings
    tasks: tuple[str, ...]
    scanner: MotifScanner | None

    @property
    def reported_kinds(self) -> tuple[Kind, ...]:
        """Kinds of call the run's files hold."""
        return tuple(dict.fromkeys((*self.order.kinds, Kind.TFBS) if self.order.motifs else self.order.kinds))


def resolve(options: AnnotateOptions, machine: Machine) -> Request:
    """Look up model, tasks, thresholds and motifs.

    Args:
        options: What the user asked for.
        machine: What the workers compute on.

    Raises:
        AnnotatorError: One of them is wrong or missing.
    """
    folder, manifest = read_model(options.model)
    if options.clade not in manifest.clades:
        raise UsageError(f"the model has {', '.join(manifest.clades)}", "clade", options.clade)
    logger.info("model: %s %s, licence of the weights: %s", manifest.name, manifest.version, manifest.licence)
    settings = manifest.clades[options.clade]
    tasks = _tasks(options, manifest, settings)
    kinds = tuple(kind for kind in manifest.track_set.kinds if kind.task in tasks)
    for kind, least in options.thresholds.items():
        if kind not in (*manifest.track_set.kinds, EVERY_KIND):
            raise UsageError(f"the model calls {', '.join(manifest.track_set.kinds)}", f'thresholds["{kind}"]', least)
        if kind not in (*kinds, EVERY_KIND):
            logger.warning("--threshold %s: this run calls %s only", kind, ", ".join(kinds) or "motifs")
    motifs, source = _motifs(options) if "tfbs" in tasks else ((), "")
    order = WorkOrder(
        model=options.model if folder.parent == BUNDLED else str(folder.resolve()),
        clade=options.clade,
        thresholds={kind: settings.thresholds[kind] for kind in kinds} | _chosen(options.thresholds, kinds),
        motifs=motifs,
        tfbs_pvalue=options.tfbs_pvalue,
        plan=PlanOptions(**(manifest.plan | {"shard_bp": options.shard_bp or SHARD_BP[machine.kind]})),
        batch_bp=options.batch_bp or max(BATCH_BP[machine.kind], manifest.plan["window_bp"]),
        device=machine.device,
        precision=manifest.precision(options.precision, machine.native_precision),
        threads=options.threads or machine.threads,
        model_name=manifest.name,
        motif_source=source,
        labels=(
            *((motif.matrix_id, motif.name) for motif in motifs),
            *((None, track) for track in manifest.track_set.feature_names),
        ),
        weights_sha256=manifest.weights_sha256,
        libraries=_libraries(manifest, machine),
    )
    return Request(order, manifest, folder, settings, tasks, motif_scanner(order))


def make_plan(
    request: Request, options: AnnotateOptions, genome: Genome, regions: dict[int, NDArray[np.int64]] | None
) -> dict[str, Any]:
    """Everything that decides the result, as plain values: two runs with equal plans write equal bytes."""
    order = request.order
    return {
        "program": importlib.metadata.version("genome-annotator"),
        "libraries": order.libraries,
        "schema_version": SCHEMA_VERSION,
        "bed": asdict(options.bed),
        "fasta_sha256": genome.sha256,
        "contigs": {"count": len(genome.contigs), "bp": int(genome.contigs.lengths.sum()), "sha256": _contig_hash(genome)},
        "duplicate_names": options.genome.dup_names,
        "gaps_as_n": options.genome.gaps_as_n,
        "windows": asdict(order.plan),
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
        "motifs": _motif_plan(order),
        "regions_sha256": None if regions is None else _region_hash(regions),
    }


def _tasks(options: AnnotateOptions, manifest: Manifest, settings: CladeSettings) -> tuple[str, ...]:
    """Tasks of the run, in fixed order; by default all the model and the motifs can do, but promoters only where validated."""
    possible = {kind.task for kind in manifest.track_set.kinds} | {"tfbs"}
    if options.tasks is None:
        tasks = tuple(task for task in TASKS if task in possible)
        if "promoter" in tasks and "promoter" not in settings.validated:
            tasks = tuple(task for task in tasks if task != "promoter")
            logger.info("promoters are off: not validated for clade %s (ask for them with --tasks)", options.clade)
    else:
        if absent := sorted(set(options.tasks) - possible):
            raise UsageError(f"the model {manifest.name} calls {', '.join(manifest.track_set.kinds)} only", "tasks", absent[0])
        tasks = tuple(task for task in TASKS if task in options.tasks)
    for kind in manifest.track_set.kinds:
        if kind.task in tasks and kind not in settings.validated:
            logger.warning("%s calls are NOT VALIDATED for clade %s (%s)", kind, options.clade, settings.note)
    return tasks


def _libraries(manifest: Manifest, machine: Machine) -> dict[str, str]:
    """Versions of what decides the last digits of a score, and the bytes of a file."""
    of_device = () if machine.kind == "cpu" else ("triton",)
    row = FAMILY_ROWS.get(manifest.family)  # an unknown family is refused, with its file, where the model is loaded
    names = (*LIBRARIES, *of_device, *(row.libraries if row else ()))
    return {name: installed_version(name) for name in names}


def _chosen(thresholds: dict[str, float], kinds: tuple[Kind, ...]) -> dict[Kind, float]:
    """The user's thresholds of these kinds."""
    every = dict.fromkeys(kinds, thresholds[EVERY_KIND]) if EVERY_KIND in thresholds else {}
    return every | {kind: thresholds[kind] for kind in kinds if kind in thresholds}


def _motifs(options: AnnotateOptions) -> tuple[tuple[Motif, ...], str]:
    if options.motifs != "jaspar":
        return tuple(read_motifs(Path(options.motifs))), Path(options.motifs).name
    taxa = CLADE_TAXA[options.clade]
    motifs = tuple(motif for taxon in taxa for motif in jaspar_motifs(taxon, JASPAR_RELEASE))
    return motifs, f"{JASPAR_RELEASE} CORE {'+'.join(taxa)}"


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


def _contig_hash(genome: Genome) -> str:
    digest = hashlib.sha256("\n".join(genome.contigs.names).encode())
    digest.update(np.ascontiguousarray(genome.contigs.lengths).tobytes())
    return digest.hexdigest()


def _region_hash(regions: dict[int, NDArray[np.int64]]) -> str:
    digest = hashlib.sha256()
    for contig in sorted(regions):
        digest.update(np.array([contig, len(regions[contig])], np.int64).tobytes() + regions[contig].tobytes())
    return digest.hexdigest()
