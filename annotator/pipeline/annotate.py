"""The command `annotate`, from what was asked for to the results."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from annotator.errors import EnvironmentFault, PartialFailure, UsageError
from annotator.kinds import AUTO_CLADE
from annotator.pipeline.announce import announce_batch, announce_files, announce_hint, announce_next, announce_run
from annotator.pipeline.clade_fit import CladeFits, advises, with_chosen_clade
from annotator.pipeline.driver.assembly import Assembly
from annotator.pipeline.driver.progress import Progress
from annotator.pipeline.driver.run import AssemblyResult, Run
from annotator.pipeline.error_rate import DecoyThresholds
from annotator.pipeline.executors.choose import choose_executor
from annotator.pipeline.options import AnnotateOptions, ExecutionOptions, Sample
from annotator.pipeline.request import resolve
from annotator.pipeline.run_plan import follow_earlier_runs
from annotator.pipeline.samples import samples_given
from annotator.pipeline.worker.shard_task import ShardTask
from annotator.pipeline.worker.task import TaskFactory
from annotator.report.report import report_on_run
from annotator.results.batch import SUMMARY, BatchFolder
from annotator.results.workspace import RUN_JSON


def annotate_into(
    out_dir: Path,
    fasta: Sequence[str],
    sheet: Path | None,
    options: AnnotateOptions,
    execution: ExecutionOptions,
    progress: Progress,
    *,
    task: TaskFactory = ShardTask,
    argv: Sequence[str] | None = None,
    report: bool = True,
) -> None:
    """Annotate one assembly into a results folder, or several into folders inside it.

    Args:
        out_dir: The results folder.
        fasta: Paths of the assemblies; "-" is standard input.
        sheet: A sample sheet instead of paths.
        options: What to do.
        execution: Where to do it.
        progress: Told how far the run is.
        task: The work on each shard.
        argv: The command line, for the record; None for a call from Python.
        report: Write report.html into every results folder.

    Raises:
        PartialFailure: Contigs or assemblies failed; everything else is written.
        AnnotatorError: The run came to nothing; the exit code is that of the fault.
    """
    samples = samples_given(fasta, sheet, out_dir)
    if not samples[0].name:
        (result,) = annotate(samples, options, execution, progress, task=task, argv=argv)
        assert result.run is not None
        announce_files(out_dir, result.run)
        if report:
            report_on_run(out_dir)
        announce_next(out_dir)
        if result.exit_code:
            failed = result.run["failed_contigs"]
            raise PartialFailure(
                f"{failed['count']} contigs failed and are not in the files ({', '.join(failed['names'][:5])}); "
                f"{out_dir / RUN_JSON} says why, the same command tries them again"
            )
        return
    with closing(BatchFolder(out_dir)) as folder:
        results = annotate(samples, options, execution, progress, task=task, argv=argv)
        for result in results:
            announce_hint(result.sample.out_dir, result.run or {})
        first = results[0].error
        if (out_dir / SUMMARY).exists() and first and all(isinstance(result.error, UsageError) for result in results):
            raise PartialFailure(  # nothing was done, so what the folder tells of an earlier run is still true
                f"all {len(results)} assemblies are refused, and nothing is changed; {results[0].sample.name}: {first.reason}",
                first.field, first.value,
            )  # fmt: skip
        folder.summarise([result.summary() for result in results])
        for result in results if report else ():
            if result.run is not None:
                report_on_run(result.sample.out_dir)
    if failures := [result.sample.name for result in results if result.exit_code]:
        names = ", ".join(failures[:10]) + (" ..." if len(failures) > 10 else "")
        raise PartialFailure(f"{len(failures)} of {len(results)} assemblies failed: {names}; {out_dir / SUMMARY} says why")
    announce_batch(out_dir, len(results))


def annotate(
    samples: Sequence[Sample],
    options: AnnotateOptions,
    execution: ExecutionOptions,
    progress: Progress,
    *,
    task: TaskFactory = ShardTask,
    argv: Sequence[str] | None = None,
) -> list[AssemblyResult]:
    """Annotate assemblies; their shards share one queue and the same loaded models.

    Args:
        samples: The assemblies, each with a results folder of its own.
        options: What to do.
        execution: Where to do it.
        progress: Told how far the run is.
        task: The work on each shard.
        argv: The command line, for the record; None for a call from Python.

    Returns:
        One result per sample, in order. The final files of each appear only when all of them are complete.

    Raises:
        AnnotatorError: A fault that ends the run; that of an assembly's own only where it is the only one.
    """
    followed, folder = follow_earlier_runs(samples, options)
    with ExitStack() as stack:
        executor = stack.enter_context(closing(choose_executor(followed, execution)))
        try:
            machine = executor.machine(followed.device)
        except EnvironmentFault as error:
            if folder is None or followed.device == options.device:
                raise
            if not options.overwrite:
                raise EnvironmentFault(
                    f"{folder}: its run was begun on {followed.device}, which cannot be used here ({error}); overwrite it or "
                    "choose another folder"
                ) from error
            stack.close()
            followed = options
            executor = stack.enter_context(closing(choose_executor(options, execution)))
            machine = executor.machine(options.device)
        followed = with_chosen_clade(samples, followed, machine)
        request = resolve(followed, machine)
        announce_run(request)
        work = task(request.order, request.scanner)
        decoys = None if request.fdr is None else DecoyThresholds(request, request.fdr)
        # A driver of workers does without torch: there `annotator plan` compares the clades, or AUTO_CLADE.
        compares = executor.works_here and options.clade != AUTO_CLADE and advises(request)
        clades = CladeFits(request) if compares else None
        assemblies = [Assembly(sample, request, options, work, argv, decoys, clades) for sample in samples]
        return Run(assemblies, work, executor, execution, progress, request.order.batch_bp).work()
