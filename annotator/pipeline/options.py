"""Options of a run of `annotator annotate`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from annotator.checks import check_choice, check_count, check_device, check_flags, check_number
from annotator.errors import UsageError
from annotator.genome.options import GenomeOptions
from annotator.kinds import AUTO_CLADE, CLADES, TASKS
from annotator.models.options import PRECISIONS
from annotator.output.options import DEFAULT_FORMATS

SHARD_BP = {"cpu": 2_000_000, "cuda": 8_000_000}
"""Bases of a shard by default, per kind of device."""

LONGEST_WAIT_S = 1e9
"""Seconds that no wait for a worker may reach; clocks and queues do not take just any number."""

RAY_OFF, RAY_AUTO, RAY_LOCAL = "off", "auto", "local"
SHARED, OBJECT_STORE = "shared", "object-store"
BOUND_AUTO, BOUND_OFF = "auto", "off"
WAYS = (SHARED, OBJECT_STORE)


@dataclass(frozen=True)
class Sample:
    """One assembly of a run.

    Attributes:
        fasta: Path of the assembly, or "-".
        out_dir: Its results folder.
        name: What the user calls it; empty for a run over one assembly.
    """

    fasta: str
    out_dir: Path
    name: str = ""


@dataclass(frozen=True)
class AnnotateOptions:
    """What is to be done, the same for every assembly of a run.

    Attributes:
        model: Bundled model's name or a model directory.
        clade: Clade that chooses thresholds, motif group and network; empty for the model's own, or else the default;
            `AUTO_CLADE` for the one that fits the genome best.
        tasks: Subset of TASKS; None for all, but promoters only where they are validated.
        thresholds: Probability per kind, above 0 and at most 1, that replaces the model's; EVERY_KIND stands for all others.
        fdr: Share of the model's calls that may be chance: thresholds are set where decoys of the same genome say so. None for
            the model's thresholds or those of `thresholds`.
        motifs: "jaspar" for the package's release of JASPAR, "jaspar2024" for that of a year, or a motif file.
        tfbs_pvalue: A motif hit has this p-value or a smaller one.
        bound: "auto" gives motif hits the probability to be bound in clades and of factors that the bundled model knows, "off"
            never; else the folder of a model of bound sites, for any clade.
        regions: BED file; only calls whose position lies in a region.
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: "float32", "bfloat16", "int8", or "auto" for what suits the model and the device; part of the plan.
        threads: CPU threads of a worker's model, 0 for what suits the executor; part of the plan, since the bits of a score
            depend on it.
        shard_bp: Bases of a shard; None or 0 for the device's default.
        batch_bp: Bases of a batch; None or 0 for the device's default.
        tracks: Write the probability by base of every track and strand too; part of the plan.
        overwrite: Replace the files of an earlier run in a results folder.
        genome: How the FASTA is read.
        formats: File formats to write beside predictions.parquet: name of each -> its options, which only the format looks into.
    """

    model: str = "compact"
    clade: str = ""
    tasks: tuple[str, ...] | None = None
    thresholds: dict[str, float] = field(default_factory=dict)
    fdr: float | None = None
    motifs: str = "jaspar"
    tfbs_pvalue: float = 1e-6
    bound: str = BOUND_AUTO
    regions: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    threads: int = 0
    shard_bp: int | None = None
    batch_bp: int | None = None
    tracks: bool = False
    overwrite: bool = False
    genome: GenomeOptions = field(default_factory=GenomeOptions)
    formats: Mapping[str, object] = field(default_factory=lambda: dict(DEFAULT_FORMATS))

    def __post_init__(self) -> None:
        """Refuse impossible values; what depends on the model or the machine is checked when a run looks them up.

        Raises:
            UsageError: One is wrong; the message names the field.
        """
        if self.clade:
            check_choice("clade", self.clade, (*CLADES, AUTO_CLADE))
        check_choice("precision", self.precision, PRECISIONS)
        check_device(self.device)
        self._check_tasks()
        for kind, probability in self.thresholds.items():
            name = f'thresholds["{kind}"]'
            if not 0 < check_number(name, probability) <= 1:
                raise UsageError("a probability lies above 0 and not above 1", name, probability)
        if self.fdr is not None:
            if not 0 < check_number("fdr", self.fdr) < 1:
                raise UsageError("lies between 0 and 1", "fdr", self.fdr)
            if self.thresholds:
                raise UsageError("sets the threshold of every kind; leave out `thresholds`, or this", "fdr", self.fdr)
        if not 0 < check_number("tfbs_pvalue", self.tfbs_pvalue) < 1:
            raise UsageError("lies between 0 and 1", "tfbs_pvalue", self.tfbs_pvalue)
        if self.regions is not None and not Path(self.regions).exists():
            raise UsageError("no such file", "regions", self.regions)
        for name in ("threads", "shard_bp", "batch_bp"):
            if (value := getattr(self, name)) is not None:
                check_count(name, value)
        check_flags(self, "tracks", "overwrite")

    def _check_tasks(self) -> None:
        given: object = self.tasks
        if isinstance(given, str):  # it would be taken for a tuple of its letters
            raise UsageError(f"give a tuple such as ({given!r},)", "tasks", given)
        if self.tasks is None:
            return
        if not self.tasks:
            raise UsageError("name one at the least; left out, it means all that the model can do", "tasks")
        for task in self.tasks:
            check_choice("tasks", task, TASKS)


@dataclass(frozen=True)
class ExecutionOptions:
    """Where and how shards are worked on; nothing here changes a byte of the result, given the threads of a worker.

    Attributes:
        ray: "off", "auto" (RAY_ADDRESS, or else a private start), "local" (a private start), or the address of a cluster.
        workers: How many; 0 for one per GPU, for as many as a cluster holds, or one on a CPU without Ray.
        gpus_per_worker: Share of a GPU that a worker takes.
        bases_via: "shared" for workers that read the FASTA themselves, "object-store" for those that do not see it.
        shard_timeout_s: A worker that takes longer for a shard is replaced; 0 adapts to the rate seen.
        node_timeout_s: How long to wait for a worker where there is none.
        max_runtime_s: Stop after so long, to be resumed; 0 for never.
    """

    ray: str = RAY_OFF
    workers: int = 0
    gpus_per_worker: float = 1.0
    bases_via: str = SHARED
    shard_timeout_s: float = 0.0
    node_timeout_s: float = 120.0
    max_runtime_s: float = 0.0

    def __post_init__(self) -> None:
        """Refuse impossible values.

        Raises:
            UsageError: One is wrong; the message names the field.
        """
        check_choice("bases_via", self.bases_via, WAYS)
        check_count("workers", self.workers)
        share = check_number("gpus_per_worker", self.gpus_per_worker)
        if not (0 < share <= 1 or share == int(share) > 1):
            raise UsageError("a share above 0, up to 1, or a whole number", "gpus_per_worker", share)
        for name, limit in (("shard_timeout_s", LONGEST_WAIT_S), ("node_timeout_s", LONGEST_WAIT_S), ("max_runtime_s", math.inf)):
            if not 0 <= check_number(name, value := getattr(self, name)) < limit:
                raise UsageError("seconds from 0 up", name, value)
