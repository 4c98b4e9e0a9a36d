"""Options of a run of `annotator annotate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from annotator.genome.options import GenomeOptions
from annotator.output.options import BedOptions

TASKS = ("promoter", "splice", "tfbs", "feature")
TASK_OF_KIND = {"promoter": "promoter", "donor": "splice", "acceptor": "splice", "tfbs": "tfbs", "feature": "feature"}
EVERY_KIND = "all"
"""Key of a threshold that holds for every kind without one of its own."""

SHARD_BP = {"cpu": 2_000_000, "cuda": 8_000_000}
BATCH_BP = {"cpu": 49_152, "cuda": 90 * 49_152}
"""Of the bundled model on CUDA two such batches are one shard, so that hardly a row is there to fill up."""


@dataclass(frozen=True)
class AnnotateOptions:
    """One run over one assembly.

    Attributes:
        fasta: Path of the assembly, or "-".
        out_dir: Results folder.
        model: Bundled model's name or a model directory.
        clade: Which thresholds, motif group and clade bias to use.
        tasks: Subset of TASKS; None for all, but promoters only where they are validated.
        thresholds: Probability per kind that replaces the model's.
        motifs: "jaspar", or a motif file.
        tfbs_pvalue: A motif hit has this p-value or a smaller one.
        regions: BED file; only calls whose position lies in a region.
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: "float32", "bfloat16", or "auto" for the device's own; part of the plan.
        threads: CPU threads of the model; part of the plan, since the bits of a score depend on it.
        shard_bp: Bases of a shard; None for the device's default.
        batch_bp: Bases of a batch; None for the device's default.
        overwrite: Replace the files of an earlier run in `out_dir`.
        genome: How the FASTA is read.
        bed: Shape of the BED files.
    """

    fasta: str
    out_dir: Path
    model: str = "compact"
    clade: str = "vertebrate"
    tasks: tuple[str, ...] | None = None
    thresholds: dict[str, float] = field(default_factory=dict)
    motifs: str = "jaspar"
    tfbs_pvalue: float = 1e-6
    regions: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    threads: int = 1
    shard_bp: int | None = None
    batch_bp: int | None = None
    overwrite: bool = False
    genome: GenomeOptions = field(default_factory=GenomeOptions)
    bed: BedOptions = field(default_factory=BedOptions)
