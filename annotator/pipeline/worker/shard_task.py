"""The task of `annotate`: from the bases of a shard to its calls, and from all parts to the final files."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from annotator.calls.profiles import profiles_from_text, profiles_json, profiles_to_text, sum_profiles
from annotator.calls.tested_positions import positions_to_text, sum_positions
from annotator.errors import EnvironmentFault
from annotator.genome.contigs import ContigTable
from annotator.genome.plan import Shard, plan_shards
from annotator.kinds import STRANDS
from annotator.machine import usable_cpus
from annotator.output.formats.base import OutputRun
from annotator.output.formats.registry import make_formats
from annotator.output.formats.write import format_names
from annotator.output.merge import Merge, final_names
from annotator.output.parts import PROFILES, TESTED, PartInfo, part_bytes, read_part_text
from annotator.output.rewrite import rewrite_formats
from annotator.output.table import calls_table
from annotator.output.track_parts import tracks_bytes, values_table
from annotator.pipeline.worker.order import CARD, SHARDS_AT_ONCE, ShardResult, WorkerReport, WorkOrder
from annotator.pipeline.worker.task import FinishedParts
from annotator.results.workspace import BESIDE_CALLS, CONTIGS_TSV, PROFILES_JSON
from annotator_kernels.versions import installed_version

if TYPE_CHECKING:
    from annotator.genome.shard_input import ShardInput
    from annotator.motifs.scan import MotifScanner
    from annotator.pipeline.worker.shard_worker import ShardFindings, ShardWorker


class ShardTask:
    """Calls the sites and motifs of shards. Knows nothing of processes or Ray; torch is loaded by `setup`."""

    def __init__(self, order: WorkOrder, scanner: MotifScanner | None = None) -> None:
        """Nothing heavy happens before `setup`.

        Args:
            order: What to do.
            scanner: The order's motif scanner, where it was made already; left behind when the task is pickled.
        """
        self.order, self._scanner = order, scanner
        self._worker: ShardWorker | None = None

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        """The order is all that travels."""
        return type(self), (self.order,)

    # -- in the driver

    def plan(self, lengths: NDArray[np.int64], regions: dict[int, NDArray[np.int64]] | None) -> Iterable[Shard]:
        """Cut a genome into the shards of the order's windows."""
        return plan_shards(lengths, self.order.windows, regions)

    def file_names(self, contigs: ContigTable, formats: Mapping[str, object]) -> tuple[str, ...]:
        """Names of the calls' files and of those beside them."""
        return (*final_names(self._output(contigs), make_formats(formats), self.order.tracks), *BESIDE_CALLS)

    def format_files(self, contigs: ContigTable, formats: Mapping[str, object]) -> tuple[str, ...]:
        """Names of the files in the formats."""
        return format_names(self._output(contigs), make_formats(formats))

    def _output(self, contigs: ContigTable) -> OutputRun:
        return OutputRun(self.order.reported_kinds, contigs.names, contigs.lengths)

    def begin_merge(self, contigs: ContigTable, formats: Mapping[str, object], out_dir: Path, scratch: Path) -> Merge:
        """Begin predictions.parquet, the files of the formats, contigs.tsv and profiles.json.

        Raises:
            ResourceFault: A file cannot be written.
        """
        return self._merge(contigs, formats, out_dir, scratch, frozenset())

    def _merge(
        self, contigs: ContigTable, formats: Mapping[str, object], out_dir: Path, scratch: Path, leave_out: frozenset[str]
    ) -> Merge:
        return Merge(
            out_dir, run=self._output(contigs), formats=make_formats(formats), tool_version=program_version(),
            threads=usable_cpus(), leave_out=leave_out, text_names=BESIDE_CALLS, has_hits=bool(self.order.motifs),
            scratch=scratch, tracks=self.order.tracks,
        )  # fmt: skip

    def merge(
        self, parts: FinishedParts, out_dir: Path, tick: Callable[[], None] | None = None, begun: Merge | None = None
    ) -> dict[str, PartInfo]:
        """Write predictions.parquet, the files of the formats, contigs.tsv and profiles.json.

        Raises:
            InputError: A part is missing or damaged.
            ResourceFault: A file cannot be written.
        """
        contigs, order = parts.contigs, self.order
        counted = (profiles_from_text(read_part_text(path, PROFILES), str(path)) for path in parts.paths)
        features = [name for matrix, name in order.labels if matrix is None]
        profiles = sum_profiles(counted, order.reported_kinds, features, parts.leave_out)
        tested = sum_positions(((str(path), read_part_text(path, TESTED)) for path in parts.paths), parts.leave_out)
        lines = (f"{name}\t{length}\n" for name, length in zip(contigs.names, contigs.lengths.tolist(), strict=True))
        tests = {motif.matrix_id: len(STRANDS) * tested[motif.width] for motif in order.motifs}
        texts = {CONTIGS_TSV: "".join(lines), PROFILES_JSON: profiles_json(profiles)}
        with begun or self._merge(contigs, parts.formats, out_dir, parts.scratch, parts.leave_out) as merge:
            if begun is None:
                merge.take_all(parts.paths, parts.expected, tick)
            return merge.finish(texts, tests, tick)

    def rewrite(
        self, out_dir: Path, contigs: ContigTable, formats: Mapping[str, object], tick: Callable[[], None] | None = None
    ) -> dict[str, PartInfo]:
        """Write the files of the formats again from predictions.parquet.

        Raises:
            InputError: predictions.parquet cannot be read.
            ResourceFault: A file cannot be written.
        """
        return rewrite_formats(out_dir, self._output(contigs), make_formats(formats), threads=usable_cpus(), tick=tick)

    # -- in a worker

    def setup(self) -> None:
        """Load the model on the device.

        Raises:
            AnnotatorError: It cannot be loaded, or this worker would compute something else than the others.
        """
        from annotator.models.bound.manifest import bound_folder, read_bound
        from annotator.models.device import card_name
        from annotator.models.directory import read_model
        from annotator.pipeline.worker.shard_worker import ShardWorker  # torch comes in here

        for name, wanted in self.order.libraries.items():
            found = card_name(self.order.device) if name == CARD else installed_version(name)
            if found != wanted:
                raise EnvironmentFault(f"a worker has {name} {found}, the plan says {wanted}: results would not be the same")
        if self.order.weights_sha256:
            found_here = read_model(self.order.model)[1]
            integers_sha256 = found_here.integers.sha256 if found_here.integers else ""
            if (found_here.weights_sha256, integers_sha256) != (self.order.weights_sha256, self.order.integers_sha256):
                raise EnvironmentFault(f"model {self.order.model} is another one where this worker runs")
        if self.order.bound and read_bound(bound_folder(self.order.bound)).weights_sha256 != self.order.bound_sha256:
            raise EnvironmentFault(f"model of bound sites {self.order.bound} is another one where this worker runs")
        self._worker = ShardWorker(self.order, self._scanner)
        if self._worker.device.type != "cpu":
            self._worker.warm_up()  # while the FASTA is still checked

    def announce(self, work: ShardInput) -> None:
        """Read the shard's bases ahead where the model is on a GPU."""
        self._loaded.feed.announce(work)

    @property
    def at_once(self) -> int:
        """Several on a GPU; on a CPU finishing one beside another would take CPUs from the model."""
        return 1 if self.order.device == "cpu" else SHARDS_AT_ONCE

    def begin(self, work: ShardInput) -> Callable[[], ShardResult]:
        """Have the network look at a shard; the rest calls its sites and lays them out as a part, with what was counted."""
        worker, order = self._loaded, self.order
        find = worker.begin(work)

        def finish() -> ShardResult:
            found = find()
            with worker.clock.stage("write"):
                table = calls_table(found.calls, work.names, order.labels, order.model_name, order.motif_source)
                data, info = part_bytes(table, profiles_to_text(found.profiles), positions_to_text(found.tested))
                tracks = self._tracks_of(found, work) if order.tracks else (b"", "")
            return ShardResult(data, info.rows, info.sha256, dict(found.counts), *tracks)

        return finish

    def _tracks_of(self, found: ShardFindings, work: ShardInput) -> tuple[bytes, str]:
        """The second channel of a part."""
        order = self.order
        maxima = calls_table(found.maxima, work.names, order.labels, order.model_name, order.motif_source)
        return tracks_bytes(values_table(found.values, work.names), maxima)

    def report(self) -> WorkerReport:
        """Time, kernels, batch and memory."""
        from annotator.pipeline.worker.measures import peak_memory
        from annotator_kernels.backends import chosen_backends

        worker = self._loaded
        return WorkerReport(worker.clock.take(), chosen_backends(), worker.batch_bp, peak_memory(worker.device))

    @property
    def _loaded(self) -> ShardWorker:
        assert self._worker is not None, "setup comes first"
        return self._worker


def program_version() -> str:
    """Version of this program, as plans and Parquet metadata tell it."""
    return importlib.metadata.version("genome-annotator")
