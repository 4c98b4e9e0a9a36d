"""Options of a run of `annotator annotate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from annotator.genome.options import GenomeOptions
from annotator.output.options import BedOptions

EVERY_KIND = "all"
"""Key of a threshold that holds for every kind without one of its own."""

SHARD_BP = {"cpu": 2_000_000, "cuda": 8_000_000}
BATCH_BP = {"cpu": 49_152, "cuda": 90 * 49_152}
"""Of the bundled model on CUDA two such batches are one shard, so that hardly a row is there to fill up."""

RAY_OFF, RAY_AUTO, RAY_LOCAL = "off", "auto", "local"
SHARED, OBJECT_STORE = "shared", "object-store"
STAGES = (SHARED, OBJECT_STORE)


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
        clade: Which thresholds, motif group and clade bias to use.
        tasks: Subset of TASKS; None for all, but promoters only where they are validated.
        thresholds: Probability per kind that replaces the model's.
        motifs: "jaspar", or a motif file.
        tfbs_pvalue: A motif hit has this p-value or a smaller one.
        regions: BED file; only calls whose position lies in a region.
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: "float32", "bfloat16", or "auto" for the device's own; part of the plan.
        threads: CPU threads of a worker's model, 0 for what suits the executor; part of the plan, since the bits of a score
            depend on it.
        shard_bp: Bases of a shard; None for the device's default.
        batch_bp: Bases of a batch; None for the device's default.
        overwrite: Replace the files of an earlier run in a results folder.
        genome: How the FASTA is read.
        bed: Shape of the BED files.
    """

    model: str = "compact"
    clade: str = "vertebrate"
    tasks: tuple[str, ...] | None = None
    thresholds: dict[str, float] = field(default_factory=dict)
    motifs: str = "jaspar"
    tfbs_pvalue: float = 1e-6
    regions: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    threads: int = 0
    shard_bp: int | None = None
    batch_bp: int | None = None
    overwrite: bool = False
    genome: GenomeOptions = field(default_factory=GenomeOptions)
    bed: BedOptions = field(default_factory=BedOptions)


@dataclass(frozen=True)
class ExecutionOptions:
    """Where and how shards are worked on; nothing here changes a byte of the result, given the threads of a worker.

    Attributes:
        ray: "off", "auto" (RAY_ADDRESS, or else a private start), "local" (a private start), or the address of a cluster.
        workers: How many; 0 for one per GPU, for as many as a cluster holds, or one on a CPU without Ray.
        gpus_per_worker: Share of a GPU that a worker takes.
        stage: "shared" for workers that read the FASTA themselves, "object-store" for those that do not see it.
        shard_timeout_s: A worker that takes longer for a shard is replaced; 0 adapts to the rate seen.
        node_timeout_s: How long to wait for a worker where there is none.
        max_runtime_s: Stop after so long, to be resumed; 0 for never.
    """

    ray: str = RAY_OFF
    workers: int = 0
    gpus_per_worker: float = 1.0
    stage: str = "shared"
    shard_timeout_s: float = 0.0
    node_timeout_s: float = 120.0
    max_runtime_s: float = 0.0
