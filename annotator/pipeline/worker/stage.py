"""The work on shards as executors see it: `setup` once, then `process` shard after shard. Knows nothing of processes or Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from annotator.errors import EnvironmentFault
from annotator.pipeline.worker.order import ShardResult, WorkerReport, WorkOrder
from annotator_kernels.versions import installed_version

if TYPE_CHECKING:
    from annotator.genome.shard_input import ShardInput
    from annotator.motifs.scan import MotifScanner
    from annotator.pipeline.worker.shard_worker import ShardWorker

Work = TypeVar("Work", contravariant=True)
Result = TypeVar("Result", covariant=True)


class Stage(Protocol[Work, Result]):
    """What runs in a worker; picklable before `setup`. `announce` may be called from another thread than the rest."""

    def setup(self) -> None:
        """Load what is needed; called once, in the worker."""

    def announce(self, work: Work) -> None:
        """This will be processed soon."""

    def process(self, work: Work) -> Result:
        """Do one piece of work."""

    def report(self) -> WorkerReport:
        """What to tell of this worker; its seconds count anew from here."""


class AnnotateStage:
    """From a shard to the bytes of its part."""

    def __init__(self, order: WorkOrder, scanner: MotifScanner | None = None) -> None:
        """Nothing heavy happens before `setup`.

        Args:
            order: What to do.
            scanner: The order's motif scanner, where it was made already; left behind when the stage is pickled.
        """
        self.order, self._scanner = order, scanner
        self._worker: ShardWorker | None = None

    def __reduce__(self) -> tuple[type[AnnotateStage], tuple[WorkOrder]]:
        """The order is all that travels."""
        return AnnotateStage, (self.order,)

    def setup(self) -> None:
        """Load the model on the device.

        Raises:
            AnnotatorError: It cannot be loaded, or this worker would compute something else than the others.
        """
        from annotator.models.directory import read_model
        from annotator.pipeline.worker.shard_worker import ShardWorker  # torch comes in here

        for name, wanted in self.order.libraries.items():
            if (found := installed_version(name)) != wanted:
                raise EnvironmentFault(f"a worker has {name} {found}, the plan says {wanted}: results would not be the same")
        if self.order.weights_sha256 and read_model(self.order.model)[1].weights_sha256 != self.order.weights_sha256:
            raise EnvironmentFault(f"model {self.order.model} is another one where this worker runs")
        self._worker = ShardWorker(self.order, self._scanner)

    def announce(self, work: ShardInput) -> None:
        """On a GPU the shard's bases are read ahead."""
        self._loaded.feed.announce(work)

    def process(self, work: ShardInput) -> ShardResult:
        """Call a shard's sites and lay them out as a part."""
        from annotator.output.parts import part_bytes
        from annotator.output.table import calls_table

        worker, order = self._loaded, self.order
        calls, counts = worker.work(work)
        with worker.clock.stage("write"):
            table = calls_table(calls, work.names, order.labels, order.model_name, order.motif_source)
            data, info = part_bytes(table)
        return ShardResult(data, info.rows, info.sha256, dict(counts))

    def report(self) -> WorkerReport:
        """Time, kernels, batch and memory."""
        from annotator.pipeline.worker.measures import peak_memory
        from annotator_kernels.backends import chosen_backends

        worker = self._loaded
        seconds = dict(worker.clock.seconds)
        worker.clock.seconds.clear()
        return WorkerReport(seconds, chosen_backends(), worker.batch_bp, peak_memory(worker.device))

    @property
    def _loaded(self) -> ShardWorker:
        assert self._worker is not None, "setup comes first"
        return self._worker
