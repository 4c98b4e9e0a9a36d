"""The whole run: one assembly in, BED and Parquet out. The flow reads from top to bottom in `annotate`."""

from __future__ import annotations

import logging
import time
from typing import Any, Protocol

from annotator.genome.plan import Shard, plan_shards
from annotator.genome.regions import read_regions
from annotator.genome.source import Genome, open_genome
from annotator.models.device import choose_device
from annotator.output.bed import refuse_unwritable_names
from annotator.output.merge import final_names, merge_parts
from annotator.output.parts import PartInfo, write_part
from annotator.output.publish import write_json
from annotator.output.table import calls_table
from annotator.pipeline.options import AnnotateOptions
from annotator.pipeline.prepare import Request, make_plan, resolve
from annotator.pipeline.report import announce, run_json
from annotator.pipeline.worker import ShardWorker, Target
from annotator.pipeline.workspace import RUN_JSON, FinishedShard, Workspace

logger = logging.getLogger(__name__)


class Progress(Protocol):
    """What a run tells about how far it is."""

    def start(self, total_bp: int, done_bp: int) -> None:
        """Work begins; some may have been done by an earlier, interrupted run."""

    def advance(self, bases: int) -> None:
        """A shard is finished."""

    def stop(self, *, finished: bool) -> None:
        """No more shards: all are done, or the run was cut short."""


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
    request = resolve(options, choose_device(options.device))
    workspace = Workspace(options.out_dir)
    try:
        try:
            genome = open_genome(options.fasta, workspace.spool, options.genome)
            refuse_unwritable_names(genome.contigs.names, genome.path)
            regions = read_regions(options.regions, genome.contigs) if options.regions else None
            plan = make_plan(request, options, genome, regions)
            longest_bp = int(genome.contigs.lengths.max(initial=0))
            workspace.refuse_foreign_files([*final_names(request.reported_kinds, longest_bp), RUN_JSON])
            if not options.overwrite:
                workspace.refuse_other_plan(plan)
                if (finished := workspace.finished_run()) is not None:
                    logger.info("%s: already complete, nothing to do", options.out_dir)
                    workspace.finish()
                    return finished
            worker = ShardWorker(request.order, Target(genome.contigs.names, genome.contigs.lengths, genome.read_bases, regions))
            shards = list(plan_shards(genome.contigs.lengths, request.order.plan, regions))
            announce(request, worker, genome, sum(shard.bases for shard in shards))
            if options.overwrite:
                workspace.clear()
            done = workspace.begin(plan)
        except BaseException:
            workspace.abandon()
            raise
        _compute(shards, worker, request, genome, plan, workspace, done, progress)
        with worker.clock.stage("merge"):
            files = merge_parts(
                [workspace.part(shard.index) for shard in shards], options.out_dir, contig_names=genome.contigs.names,
                longest_contig_bp=longest_bp, kinds=request.reported_kinds, tool_version=plan["program"], bed=options.bed,
                expected=[PartInfo(done[shard.index].rows, done[shard.index].sha256) for shard in shards],
                threads=options.threads,
            )  # fmt: skip
        run = run_json(request, plan, genome, worker, options.out_dir, files, shards, done, time.time() - started)
        write_json(options.out_dir / RUN_JSON, run)
        workspace.finish()
        return run
    finally:
        workspace.close()


def _compute(
    shards: list[Shard],
    worker: ShardWorker,
    request: Request,
    genome: Genome,
    plan: dict[str, Any],
    workspace: Workspace,
    done: dict[int, FinishedShard],
    progress: Progress,
) -> None:
    """Work on every shard that is not done; each becomes a published part and a line of the journal. Adds to `done`."""
    labels = request.labels
    progress.start(sum(shard.bases for shard in shards), sum(shard.bases for shard in shards if shard.index in done))
    finished = False
    try:
        for result in worker.results(shard for shard in shards if shard.index not in done):
            with worker.clock.stage("write"):
                table = calls_table(result.calls, genome.contigs.names, labels, request.manifest.name, request.motif_source)
                part = write_part(table, workspace.part(result.shard.index))
                entry = FinishedShard(result.shard.index, part.rows, part.sha256, dict(result.counts))
                workspace.record(plan, entry)
            done[result.shard.index] = entry
            progress.advance(result.shard.bases)
        finished = True
    finally:
        progress.stop(finished=finished)
