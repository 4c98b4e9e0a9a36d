"""The whole run: one assembly in, BED and Parquet out. The flow reads from top to bottom in `annotate`."""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import platform
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from annotator.errors import EnvironmentFault, InputError, UsageError
from annotator.genome.plan import PlanOptions, Shard, plan_shards
from annotator.genome.regions import read_regions
from annotator.genome.source import Genome, open_genome
from annotator.models.manifest import CladeSettings, Manifest
from annotator.models.motif_scores import expected_hits
from annotator.models.motifs import CLADE_TAXA, JASPAR_RELEASE, Motif, jaspar_motifs, read_motifs
from annotator.models.registry import read_model
from annotator.output.bed import refuse_unwritable_names
from annotator.output.merge import final_names, merge_parts
from annotator.output.parts import PartInfo, write_part
from annotator.output.publish import write_json
from annotator.output.schema import SCHEMA_VERSION
from annotator.output.table import calls_table
from annotator.pipeline.options import TASKS, AnnotateOptions
from annotator.pipeline.worker import ShardWorker, WorkOrder, wanted_kinds
from annotator.pipeline.workspace import RUN_JSON, FinishedShard, Workspace, total_counts
from annotator_kernels.dispatch import chosen_backends

logger = logging.getLogger(__name__)

SHARD_BP = {"cpu": 2_000_000, "cuda": 8_000_000}
BATCH_BP = {"cpu": 65_536, "cuda": 4_194_304}
MOST_HITS_A_SHARD = 10_000_000
"""Hits of a shard are held in memory: this many take about 2 GB."""
TFBS_ROW_BYTES = 40
"""Measured: bytes of a motif hit in tfbs.bed.gz and predictions.parquet together, about."""


class Progress(Protocol):
    """What a run tells about how far it is."""

    def start(self, total_bp: int, done_bp: int) -> None:
        """Work begins; some may have been done by an earlier, interrupted run."""

    def advance(self, bases: int) -> None:
        """A shard is finished."""

    def finish(self) -> None:
        """All shards are finished."""


def annotate(options: AnnotateOptions, progress: Progress) -> dict[str, Any]:
    """Annotate one assembly.

    Args:
        options: What to do.
        progress: Told how far the run is.

    Returns:
        The contents of run.json.

    Raises:
        AnnotatorError: With the exit code of the fault; final files appear only when all of them are complete.
    """
    started = time.time()
    device = choose_device(options.device)
    workspace = Workspace(options.out_dir)
    try:
        try:
            genome = open_genome(options.fasta, workspace.spool, options.genome)
            refuse_unwritable_names(genome.contigs.names)
            order, plan = _prepare(options, genome, device)
            if options.overwrite:
                workspace.clear()
            workspace.refuse_other_plan(plan)
            if (finished := workspace.finished_run()) is not None:
                logger.info("%s: already complete, nothing to do", options.out_dir)
                workspace.finish()
                return finished
            kinds = _reported_kinds(order)
            longest_bp = int(genome.contigs.lengths.max(initial=0))
            workspace.refuse_foreign_files([*final_names(kinds, longest_bp), RUN_JSON])
            for warning in genome.warnings:
                logger.warning("%s", warning)
            worker = ShardWorker(order, genome.contigs.lengths, genome.read_bases)
            _announce(worker, plan, genome)
            done = workspace.begin(plan)
        except BaseException:
            workspace.abandon()
            raise
        shards = list(plan_shards(genome.contigs.lengths, order.plan, order.regions))
        _compute(shards, worker, plan, genome, workspace, done, progress)
        merged = merge_parts(
            [workspace.part(shard.index) for shard in shards], options.out_dir, contig_names=genome.contigs.names,
            longest_contig_bp=longest_bp, kinds=kinds, tool_version=plan["program"], threads=options.threads,
            expected=[PartInfo(done[shard.index].rows, done[shard.index].sha256) for shard in shards],
        )  # fmt: skip
        run = _run_json(options, plan, genome, worker, merged, shards, done, time.time() - started)
        write_json(options.out_dir / RUN_JSON, run)
        workspace.finish()
        return run
    finally:
        workspace.close()


def choose_device(device: str) -> str:
    """The torch device of a run: "cpu" or "cuda[:N]".

    Raises:
        EnvironmentFault: It was asked for by name and is not there.
        UsageError: No such kind of device.
    """
    if device == "auto":
        chosen = "cuda" if torch.cuda.is_available() else "cpu"
        logger.info("device: %s (chosen automatically)", chosen)
        return chosen
    if device == "cpu":
        return device
    kind, _, index = device.partition(":")
    if kind != "cuda" or (index and not index.isdigit()):
        raise UsageError(f"--device {device}: choose auto, cpu, cuda or cuda:N")
    if not torch.cuda.is_available() or int(index or 0) >= torch.cuda.device_count():
        raise EnvironmentFault(f"--device {device}: no such device here ({torch.cuda.device_count()} CUDA devices)")
    return device


def _prepare(options: AnnotateOptions, genome: Genome, device: str) -> tuple[WorkOrder, dict[str, Any]]:
    """Everything that decides the result: the worker's order, and the same as plain values for the plan."""
    kind = torch.device(device).type
    manifest, settings = _model(options)
    tasks = _tasks(options, settings)
    kinds = wanted_kinds(tasks)
    if unused := sorted(set(options.thresholds) - {"donor", "acceptor", "promoter"}):
        raise UsageError(f"--threshold {unused[0]}: no such kind; choose donor, acceptor or promoter")
    thresholds = {name: options.thresholds.get(name, settings.thresholds[name]) for name in kinds}
    shape = PlanOptions(**(manifest.plan | {"shard_bp": options.shard_bp or SHARD_BP[kind]}))
    motifs, source = _motifs(options) if "tfbs" in tasks else ((), None)
    regions = read_regions(options.regions, genome.contigs) if options.regions else None
    order = WorkOrder(
        model=options.model, clade=options.clade, kinds=kinds, thresholds=thresholds, motifs=motifs,
        tfbs_pvalue=options.tfbs_pvalue, plan=shape, batch_bp=options.batch_bp or BATCH_BP[kind], device=device,
        threads=options.threads, regions=regions,
    )  # fmt: skip
    plan = {
        "program": importlib.metadata.version("genome-annotator"),
        "schema_version": SCHEMA_VERSION,
        "fasta_sha256": genome.sha256,
        "contigs": {"count": len(genome.contigs), "bp": int(genome.contigs.lengths.sum()), "sha256": _contig_hash(genome)},
        "duplicate_names": options.genome.dup_names,
        "gaps_as_n": options.genome.gaps_as_n,
        "windows": asdict(shape),
        "batch_bp": order.batch_bp,
        "device": kind,
        "threads": options.threads,
        "model": {"name": manifest.name, "version": manifest.version, "sha256": manifest.weights_sha256},
        "clade": options.clade,
        "tasks": list(tasks),
        "thresholds": thresholds,
        "motifs": source,
        "tfbs_pvalue": options.tfbs_pvalue if motifs else None,
        "regions_sha256": hashlib.sha256(options.regions.read_bytes()).hexdigest() if options.regions else None,
    }
    return order, plan


def _model(options: AnnotateOptions) -> tuple[Manifest, CladeSettings]:
    _, manifest = read_model(options.model)
    if manifest.family != "compact":
        raise InputError(f"model {options.model}: family {manifest.family!r} is not one this version can scan with")
    if options.clade not in manifest.clades:
        raise UsageError(f"--clade {options.clade}: the model has {', '.join(manifest.clades)}")
    return manifest, manifest.clades[options.clade]


def _tasks(options: AnnotateOptions, settings: CladeSettings) -> tuple[str, ...]:
    """Tasks of the run, in fixed order; by default those validated in the clade, and motifs."""
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


def _motifs(options: AnnotateOptions) -> tuple[tuple[Motif, ...], dict[str, Any]]:
    if options.motifs == "jaspar":
        taxa = CLADE_TAXA[options.clade]
        motifs = [motif for taxon in taxa for motif in jaspar_motifs(taxon, JASPAR_RELEASE)]
        source = f"{JASPAR_RELEASE} CORE {'+'.join(taxa)}"
    else:
        motifs = read_motifs(Path(options.motifs))
        source = Path(options.motifs).name
    digest = hashlib.sha256()
    for motif in motifs:
        digest.update(f"{motif.matrix_id}\t{motif.name}\t{motif.counts.tolist()}\n".encode())
    return tuple(motifs), {"source": source, "matrices": len(motifs), "sha256": digest.hexdigest()}


def _announce(worker: ShardWorker, plan: dict[str, Any], genome: Genome) -> None:
    """Say what was decided before the work begins."""
    contigs = plan["contigs"]
    logger.info(
        "%s: %d contigs, %s bp; clade %s; tasks %s; model %s %s", genome.path, contigs["count"], f"{contigs['bp']:,}",
        plan["clade"], ",".join(plan["tasks"]), plan["model"]["name"], plan["model"]["version"],
    )  # fmt: skip
    for kind, threshold in plan["thresholds"].items():
        logger.info("threshold %s: probability >= %.3f", kind, threshold)
    if worker.scanner:
        a_shard = expected_hits(worker.scanner.matrices, worker.order.plan.shard_bp)
        if a_shard > MOST_HITS_A_SHARD:
            raise UsageError(
                f"--tfbs-pvalue {worker.scanner.p_value:g}: about {a_shard:,.0f} hits in every {worker.order.plan.shard_bp:,} bp, "
                f"more than {MOST_HITS_A_SHARD:,} are not held in memory; choose a smaller one"
            )
        hits = expected_hits(worker.scanner.matrices, contigs["bp"])
        logger.info(
            "motifs: %s, %d matrices (%d cannot reach p <= %g); by chance about %s hits, %s on disk", plan["motifs"]["source"],
            len(worker.scanner.motifs), len(worker.scanner.skipped), worker.scanner.p_value, f"{hits:,.0f}",
            _bytes(hits * TFBS_ROW_BYTES),
        )  # fmt: skip


def _compute(
    shards: list[Shard],
    worker: ShardWorker,
    plan: dict[str, Any],
    genome: Genome,
    workspace: Workspace,
    done: dict[int, FinishedShard],
    progress: Progress,
) -> None:
    """Work on every shard that is not done; each becomes a published part and a line of the journal. Adds to `done`."""
    progress.start(sum(shard.bases for shard in shards), sum(shard.bases for shard in shards if shard.index in done))
    motifs = [(motif.matrix_id, motif.name) for motif in worker.order.motifs]
    motif_model = plan["motifs"]["source"] if motifs else ""
    for shard in shards:
        if shard.index in done:
            continue
        result = worker.process(shard)
        table = calls_table(result.calls, genome.contigs.names, motifs, plan["model"]["name"], motif_model)
        part = write_part(table, workspace.part(shard.index))
        entry = FinishedShard(shard.index, part.rows, part.sha256, dict(result.counts))
        workspace.record(plan, entry)
        done[shard.index] = entry
        progress.advance(shard.bases)
    progress.finish()


def _reported_kinds(order: WorkOrder) -> tuple[str, ...]:
    return (*order.kinds, "tfbs") if order.motifs else order.kinds


def _run_json(
    options: AnnotateOptions,
    plan: dict[str, Any],
    genome: Genome,
    worker: ShardWorker,
    merged: dict[str, PartInfo],
    shards: list[Shard],
    done: dict[int, FinishedShard],
    seconds: float,
) -> dict[str, Any]:
    lengths: NDArray[np.int64] = genome.contigs.lengths
    files = {
        name: {"bytes": (options.out_dir / name).stat().st_size, "sha256": info.sha256, "rows": info.rows}
        for name, info in sorted(merged.items())
    }
    return {
        "run_json_version": 1,
        "plan": plan,
        "files": files,
        "coordinate_system": "0-based-half-open",
        "input": {
            "path": genome.path,
            "compression": genome.compression,
            "altered_bases": genome.altered,
            "empty_contigs": int((lengths == 0).sum()),
            "warnings": genome.warnings,
        },
        "counts": dict(sorted(total_counts(list(done.values())).items())),
        "not_validated": [kind for kind in worker.order.kinds if kind not in worker.validated],
        "motifs_out_of_reach": [worker.scanner.motifs[i].matrix_id for i in worker.scanner.skipped] if worker.scanner else [],
        "shards": [
            {"shard": shard.index, "rows": done[shard.index].rows, "sha256": done[shard.index].sha256} for shard in shards
        ],
        "backends": chosen_backends(),
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("genome-annotator", "torch", "polars", "pysam", "numpy", "pyjaspar")
        }
        | {"python": platform.python_version()},
        "wall_s": round(seconds, 1),
        "exit_status": 0,
    }


def _contig_hash(genome: Genome) -> str:
    digest = hashlib.sha256("\n".join(genome.contigs.names).encode())
    digest.update(np.ascontiguousarray(genome.contigs.lengths).tobytes())
    return digest.hexdigest()


def _bytes(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
