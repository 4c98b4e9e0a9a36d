"""One assembly of a run, from its FASTA to its final files: opened, planned, journalled shard by shard, merged."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from annotator.files import write_json
from annotator.genome.plan import Shard
from annotator.genome.regions import read_regions
from annotator.genome.shard_input import ShardInput, pick_shard, stage_bases
from annotator.genome.source import open_genome
from annotator.kinds import REACH_BP
from annotator.output.formats.bed import refuse_unwritable_names
from annotator.output.options import formats_from_json
from annotator.output.parts import publish_part
from annotator.output.row_order import Border
from annotator.output.track_parts import tracks_path
from annotator.pipeline.announce import HINT, announce_genome, hint_where_nothing_was_called
from annotator.pipeline.clade_fit import CladeFits
from annotator.pipeline.driver.merge_ahead import MergeAhead, ReadyPart
from annotator.pipeline.error_rate import DecoyThresholds
from annotator.pipeline.options import AnnotateOptions, Sample
from annotator.pipeline.request import Request
from annotator.pipeline.run_plan import make_plan
from annotator.pipeline.run_record import Circumstances, run_json
from annotator.pipeline.worker.order import ShardResult, WorkerReport
from annotator.pipeline.worker.task import FinishedParts, Task
from annotator.results.plan import RunPlan
from annotator.results.rewriting import formats_json, rewrite_files
from annotator.results.workspace import (
    CONVERTED,
    FORMATS,
    RUN_JSON,
    FinishedShard,
    Workspace,
    lasting_files,
    recorded_plan,
)

logger = logging.getLogger(__name__)

LEAST_AHEAD = 4
"""Parts at the start of the genome with which merging begins beside the scan; fewer are soon merged at the end."""

Tick = Callable[[], None]


@dataclass
class Assembly:
    """What a run knows of one assembly. `open`, `finish` and `close` may run in another thread than the rest, one at a time.

    Attributes:
        sample: Path, results folder and name.
        request: What is done.
        options: What was asked for.
        task: The work on each shard.
        argv: The command line; None for a call from Python.
        decoys: Finds the thresholds where they follow from a false discovery rate; None where they are given.
        clades: Sees whether another clade fits the genome better; None where there is none to compare with.
        shards: All shards, by index.
        done: Finished shards by index.
        failed: Why shards were given up, by index.
        result: The contents of run.json, once there is one.
    """

    sample: Sample
    request: Request
    options: AnnotateOptions
    task: Task
    argv: Sequence[str] | None = None
    decoys: DecoyThresholds | None = None
    clades: CladeFits | None = None
    shards: list[Shard] = field(default_factory=list)
    done: dict[int, FinishedShard] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    _opened: float = 0.0
    _reports: dict[str, WorkerReport] = field(default_factory=dict)
    _stage_s: Counter[str] = field(default_factory=Counter)
    _write_s: float = 0.0
    _begun: bool = False
    _ahead: MergeAhead | None = None
    _taken: int = 0

    @property
    def sure_shards(self) -> int:
        """Shards that there are to do at the least, by the size of the FASTA; 0 where something was begun before."""
        out_dir, fasta = self.sample.out_dir, self.sample.fasta
        begun = recorded_plan(out_dir) is not None or (out_dir / RUN_JSON).exists()
        if begun or self.options.regions or not os.path.isfile(fasta):
            return 0
        return os.path.getsize(fasta) // (2 * self.request.order.windows.shard_bp)

    def open(self, tick: Tick | None = None) -> None:
        """Lock the results folder, check the FASTA, plan, and see what an earlier run has done.

        Args:
            tick: Called again and again; what it raises ends the opening.

        Raises:
            AnnotatorError: With the exit code of the fault; the folder is as it was.
        """
        self._opened = time.time()
        sample, options, request = self.sample, self.options, self.request
        self.workspace = workspace = Workspace(sample.out_dir)
        try:
            self.genome = genome = open_genome(sample.fasta, workspace.spool, options.genome, tick)
            refuse_unwritable_names(genome.contigs.names, genome.path)
            self.regions = read_regions(options.regions, genome.contigs, genome.warnings) if options.regions else None
            asked = self.decoys.asked(genome.contigs.lengths, self.regions) if self.decoys else None
            self.plan = make_plan(request, options, genome, self.regions, asked)
            workspace.refuse_foreign_files([*self.task.file_names(genome.contigs, options.formats), RUN_JSON])
            if self.decoys:
                self.plan = self._with_thresholds(self.decoys, tick)
            self._replaces = options.overwrite and not workspace.is_unfinished(self.plan)
            if not options.overwrite:
                workspace.refuse_other_plan(self.plan)
                if (finished := workspace.finished_run()) is not None:
                    self.result = self._with_formats(finished, tick)
                    workspace.finish()
                    return
            self.shards = list(self.task.plan(genome.contigs.lengths, self.regions))
            if not self._replaces:
                self.done = workspace.finished_shards(self.plan)
            if self.clades and not self.done:
                self.clades.advise(genome, self.regions, tick)
        except BaseException:
            workspace.abandon()
            raise

    def _with_thresholds(self, decoys: DecoyThresholds, tick: Tick | None) -> RunPlan:
        """The plan with thresholds by decoys: those of an earlier run of the same plan in this folder, or found now."""
        overwrite = self.options.overwrite
        if not overwrite:
            self.workspace.refuse_other_plan(self.plan, passing=("thresholds",))  # before anything is computed
        if (settled := self.workspace.settled_thresholds(self.plan, begun_only=overwrite)) is not None:
            return settled
        found = decoys.find(self.genome, self.regions, tick)
        decoys.tell(self.genome.path, found)
        return self.plan.with_thresholds(found.thresholds, found.ladder)

    def announce(self) -> None:
        """Say what was found in the genome, and how much of it is to be scanned."""
        announce_genome(self.request, self.genome, sum(shard.bases for shard in self.todo))

    def _with_formats(self, run: dict[str, Any], tick: Tick | None) -> dict[str, Any]:
        """The run.json of a finished run whose files have the format asked for; they are written anew where they have not."""
        out_dir, formats = self.sample.out_dir, formats_json(self.options.formats)
        if run.get(FORMATS) == formats and self.workspace.are_there(run, run["files"]):
            logger.info("%s: already complete, nothing to do", out_dir)
            return run
        logger.info("%s: already complete; its calls are written in the format asked for", out_dir)
        contigs, task = self.genome.contigs, self.task
        added = {
            key: value for key, value in (run.get(CONVERTED) or {}).items()
            if key not in formats and self.workspace.are_there(run, task.format_files(contigs, formats_from_json({key: value})))
        }  # fmt: skip
        keep = {*lasting_files(run), *task.format_files(contigs, formats_from_json(added))}
        return rewrite_files(
            self.workspace, run, task.format_files(contigs, self.options.formats),
            lambda: task.rewrite(out_dir, contigs, self.options.formats, tick),
            keep=keep, meanwhile={FORMATS: None},
            afterwards={FORMATS: formats, CONVERTED: added},
        )  # fmt: skip

    def _begin(self) -> None:
        """Before the first thing is written: until then the folder is as it was, whatever goes wrong."""
        if not self._begun:
            if self._replaces:
                self.workspace.clear()
            self.workspace.begin(self.plan)
            self._begun = True

    @property
    def todo(self) -> list[Shard]:
        """Shards that are neither done nor given up."""
        return [shard for shard in self.shards if shard.index not in self.done and shard.index not in self.failed]

    @property
    def complete(self) -> bool:
        """Whether every shard is done or given up."""
        return len(self.done) + len(self.failed) == len(self.shards)

    def input(self, shard: int, *, staged: bool = False) -> ShardInput:
        """What a worker needs to work on a shard; staged, its bases are read here and travel with it.

        Raises:
            InputError: The FASTA changed under the run.
        """
        cut = pick_shard(self.shards[shard], self.genome.contigs.names, self.genome.bases, self.regions)
        if self.decoys:
            cut = replace(cut, thresholds=self.plan.values["thresholds"])
        return stage_bases(cut, self.request.order.windows) if staged else cut

    def record(self, shard: int, result: ShardResult, worker: str, report: WorkerReport) -> None:
        """Publish a finished shard's part, then write it into the journal.

        Args:
            shard: Its index.
            result: What a worker made of it.
            worker: Name of the worker.
            report: What the worker tells of itself; its seconds are those for this shard.

        Raises:
            ResourceFault: It cannot be written.
        """
        began = time.perf_counter()
        self._begin()
        part = self.workspace.part(shard)
        if result.tracks_sha256:
            publish_part(result.tracks, tracks_path(part))
        publish_part(result.part, part)
        entry = FinishedShard(shard, result.rows, result.sha256, dict(result.counts), result.tracks_sha256)
        self.workspace.record(self.plan, entry)
        self.done[shard] = entry
        self._merge_ahead()
        self._stage_s.update(report.stage_s)
        self._reports[worker] = report
        self._write_s += time.perf_counter() - began

    def _merge_ahead(self) -> None:
        """Give the merge the parts whose turn has come, once there are enough and more are to come."""
        if self.failed:
            return
        ready = self._taken
        while ready < len(self.shards) and ready in self.done:
            ready += 1
        if self._ahead is None:
            if ready < LEAST_AHEAD or ready == len(self.shards):
                return
            contigs, formats, workspace = self.genome.contigs, self.options.formats, self.workspace
            self._ahead = MergeAhead(lambda: self.task.begin_merge(contigs, formats, workspace.out_dir, workspace.state))
        for shard in range(self._taken, ready):
            self._ahead.take(ReadyPart(self.workspace.part(shard), self.done[shard].info, self._border(shard)))
        self._taken = ready

    def _border(self, shard: int) -> Border | None:
        """Where the rows of later shards begin: a feature begins no more than REACH_BP before the first base of its shard."""
        if shard + 1 == len(self.shards):
            return None
        span = self.shards[shard + 1].spans[0]
        return self.genome.contigs.names[span.contig], max(0, span.start - REACH_BP)

    def _stop_ahead(self) -> None:
        if self._ahead is not None:
            self._ahead.stop()
            self._ahead = None

    def give_up(self, shard: int, reason: str) -> None:
        """Do a shard no more; the contigs it lies on will be missing from the final files."""
        self.failed[shard] = reason
        self._stop_ahead()  # what it has merged may have to be left out
        logger.error("%s: gave up on %s: %s", self.genome.path, self.input(shard).place, reason)

    def finish(self, tick: Tick | None = None) -> None:
        """Merge the parts into the final files and write run.json; keep the state where something failed, to try it again.

        Args:
            tick: Called again and again; what it raises ends the merge, and no file appears.

        Raises:
            ResourceFault: A file cannot be written.
        """
        self._begin()
        out_dir, contigs = self.sample.out_dir, self.genome.contigs
        failed = {contigs.names[span.contig] for shard in self.failed for span in self.shards[shard].spans}
        merged = [shard.index for shard in self.shards if shard.index in self.done]
        parts = FinishedParts(
            [self.workspace.part(shard) for shard in merged],
            [self.done[shard].info for shard in merged],
            contigs, frozenset(failed), self.options.formats, self.workspace.state,
        )  # fmt: skip
        began = time.perf_counter()
        self.workspace.note_names(self.task.file_names(contigs, self.options.formats))
        files = self.task.merge(parts, out_dir, tick, self._ahead.result(tick) if self._ahead else None)
        circumstances = Circumstances(
            seconds=time.time() - self._opened,
            stage_s=self._stage_s + Counter(write=self._write_s, merge=time.perf_counter() - began),  # type: ignore[call-overload]
            reports=self._reports,
            argv=self.argv,
        )
        run = run_json(
            self.request, self.plan, self.genome, out_dir, self.options.formats, files, self.shards, self.done, self.failed,
            circumstances,
        )  # fmt: skip
        self.workspace.remove_all_but(files)
        write_json(out_dir / RUN_JSON, run)
        self.workspace.finish(keep_state=bool(self.failed))
        self.result = run

    def close(self) -> None:
        """Release what is held, keeping what is needed to resume; harmless where `open` failed or `finish` has been."""
        self._stop_ahead()
        if hasattr(self, "workspace"):
            self.workspace.close() if self._begun or self.result else self.workspace.abandon()
        if hasattr(self, "genome"):
            self.genome.close()

    def forget(self) -> None:
        """Drop what a finished assembly holds in memory but what is told of it in the end."""
        self.close()
        self.shards, self.done = [], {}
        for large in ("genome", "regions", "plan"):
            self.__dict__.pop(large, None)
        if self.result is not None:
            hint = hint_where_nothing_was_called(self.result)
            self.result = {name: self.result[name] for name in ("files", "failed_contigs", "exit_status") if name in self.result}
            self.result |= {HINT: hint}
