"""The choice of an executor."""

from __future__ import annotations

from annotator.errors import UsageError
from annotator.machine import gpus_in_sight
from annotator.pipeline.executors.events import Executor
from annotator.pipeline.executors.inline import InlineExecutor
from annotator.pipeline.executors.processes import ProcessExecutor
from annotator.pipeline.options import RAY_OFF, SHARED, AnnotateOptions, ExecutionOptions


def choose_executor(options: AnnotateOptions, execution: ExecutionOptions) -> Executor:
    """In this process unless workers are asked for, or several GPUs are there.

    Raises:
        EnvironmentFault: Ray was asked for and cannot be used.
        UsageError: Options that do not go together.
    """
    if execution.ray != RAY_OFF:
        from annotator.pipeline.executors.ray_actors import RayExecutor

        return RayExecutor(options, execution)
    if execution.bases_via != SHARED:
        raise UsageError("only with Ray; local processes read the FASTA themselves", "bases_via", execution.bases_via)
    by_default = ExecutionOptions()
    if execution.node_timeout_s != by_default.node_timeout_s:
        raise UsageError("only with Ray", "node_timeout_s")
    if execution.gpus_per_worker > 1:
        raise UsageError("a local process takes one GPU or a share of it", "gpus_per_worker", execution.gpus_per_worker)
    if execution.workers or (options.device in ("auto", "cuda") and gpus_in_sight() > 1):
        return ProcessExecutor(execution.workers, gpus_per_worker=execution.gpus_per_worker)
    for field, given in (("shard_timeout_s", execution.shard_timeout_s), ("gpus_per_worker", execution.gpus_per_worker - 1)):
        if given:
            raise UsageError("only with workers, Ray or several GPUs; this process cannot replace itself", field)
    return InlineExecutor()
