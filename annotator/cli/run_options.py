"""What annotate and plan have in common: their options, and the run's options made of them."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from annotator.cli.values import comma_list
from annotator.errors import UsageError
from annotator.genome.options import GenomeOptions
from annotator.kinds import AUTO_CLADE, CLADES, DEFAULT_CLADE, EVERY_KIND, TASKS
from annotator.models.options import PRECISIONS
from annotator.pipeline.options import AnnotateOptions, ExecutionOptions

logger = logging.getLogger("annotator")

Fasta = Annotated[
    list[str] | None,
    typer.Argument(help="FASTA: plain, gzip or BGZF; '-' reads standard input. Several: results in OUT/<sample>/."),
]
Sheet = Annotated[
    Path | None, typer.Option(help="CSV with the columns sample,fasta instead of FASTA arguments; paths from the sheet's folder.")
]
Out = Annotated[Path, typer.Option("-o", "--out", help="Results folder; the same command again resumes or does nothing.")]
Model = Annotated[str, typer.Option(help="Bundled model (annotator models list) or a model directory.")]
Clade = Annotated[
    str,
    typer.Option(
        help=f"One of {', '.join(CLADES)}: chooses network, thresholds and JASPAR's group; the model's own by default, or "
        f"{DEFAULT_CLADE}; {AUTO_CLADE}: the one that fits the genome best."
    ),
]
Tasks = Annotated[
    str, typer.Option(help=f"Comma-separated from {','.join(TASKS)}. Default: all, but promoter only where validated.")
]
Threshold = Annotated[
    list[str] | None, typer.Option(help="KIND=P (donor, promoter, tfbs, ...), repeatable, or one number for all.")
]
Fdr = Annotated[
    float | None,
    typer.Option(
        help="Share of the model's calls that may be chance, such as 0.05: thresholds are set where decoys of the genome say so."
    ),
]
Motifs = Annotated[
    str, typer.Option(help="'jaspar' (2026), an earlier one such as 'jaspar2024' (needs pyjaspar), or a file of motifs.")
]
TfbsPvalue = Annotated[float, typer.Option(help="p-value threshold of a motif hit.")]
Bound = Annotated[
    str,
    typer.Option(help="Probability that motif hits are bound: auto (bundled model, where it fits), off, or a model directory."),
]
Regions = Annotated[Path | None, typer.Option(help="BED file: only calls positioned in these regions.")]
Precision = Annotated[
    str, typer.Option(help=f"{', '.join(PRECISIONS)}; auto: bfloat16 on CUDA, on a CPU int8 where the model has it.")
]
ModelThreads = Annotated[
    int,
    typer.Option(
        "-t", "--threads",
        help="CPU threads of each worker's model, part of the plan; 0: all in one process, 1 with --workers, --ray or a GPU.",
    ),
]  # fmt: skip
DupNames = Annotated[str, typer.Option(help="Duplicate contig names: error, or suffix to rename.")]
GapsAsN = Annotated[bool, typer.Option("--gaps-as-n", help="Read '-', '.' and '*' as N instead of refusing.")]
MaskChars = Annotated[
    str, typer.Option("--mask-chars", help="Characters that read as N too, such as X where repeats were masked with it.")
]
NoEofCheck = Annotated[bool, typer.Option("--no-eof-check", help="Accept BGZF input without its end marker.")]
ShardBp = Annotated[int, typer.Option(help="Bases of a shard, part of the plan; 0: 2 Mb on a CPU, 8 Mb on CUDA.")]
Workers = Annotated[
    int,
    typer.Option(help="Workers, each with a model: local processes or Ray actors. 0: one per GPU, all a cluster holds, or none."),
]
GpusPerWorker = Annotated[float, typer.Option(help="Share of a GPU that a worker takes; 0.5 puts two on one.")]
Ray = Annotated[
    str, typer.Option(help="off; auto: RAY_ADDRESS or a private start; local: a private start; or the address of a cluster.")
]
Stage = Annotated[str, typer.Option(help="shared: workers read the FASTA at its path; object-store: they get bases through Ray.")]
ShardTimeout = Annotated[float, typer.Option(help="Seconds a worker may take for a shard; 0 adapts to the rate seen.")]
NodeTimeout = Annotated[float, typer.Option(help="Seconds to wait for a worker where there is none.")]


def annotate_options(
    *, clade: str, tasks: str, threshold: list[str] | None, shard_bp: int, dup_names: str, gaps_as_n: bool, mask_chars: str,
    no_eof_check: bool,    **others: Any,
) -> AnnotateOptions:  # fmt: skip
    """What is to be done, from the options of the command line.

    Args:
        clade: A clade, or nothing for the model's own.
        tasks: Names between commas; nothing for the default.
        threshold: Each `KIND=P`, or one number for all kinds.
        shard_bp: Bases of a shard; 0 for the device's default.
        dup_names: "error" or "suffix".
        gaps_as_n: Read gaps as N.
        mask_chars: Characters that read as N too.
        no_eof_check: Accept BGZF input without its end marker.
        others: Fields of `AnnotateOptions` that are typed as they are meant.

    Raises:
        UsageError: One is wrong.
    """
    return AnnotateOptions(
        clade=clade, tasks=comma_list(tasks) if tasks else None, thresholds=thresholds_given(threshold or []),
        shard_bp=shard_bp or None,
        genome=GenomeOptions(dup_names=dup_names, gaps_as_n=gaps_as_n, eof_check=not no_eof_check, mask_chars=mask_chars),  # type: ignore[arg-type]
        **others,
    )  # fmt: skip


def execution_options(*, shard_timeout: float, node_timeout: float, max_runtime: str, **others: Any) -> ExecutionOptions:
    """Where and how to work, from the options of the command line.

    Args:
        shard_timeout: Seconds.
        node_timeout: Seconds.
        max_runtime: A time such as 3h30m, or nothing for no end.
        others: Fields of `ExecutionOptions` that are typed as they are meant.

    Raises:
        UsageError: One is wrong.
    """
    return ExecutionOptions(
        shard_timeout_s=shard_timeout, node_timeout_s=node_timeout, max_runtime_s=_seconds(max_runtime), **others
    )


def _seconds(text: str) -> float:
    """Seconds of a time such as 3h30m, 90m, 45s or a bare number; 0 for no text."""
    if not text:
        return 0.0
    if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        return float(text)
    parts = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text, re.ASCII)
    if not parts or not any(parts.groups()):
        raise UsageError(f"--max-runtime {text}: not a time such as 3h30m, 90m or 3600")
    return sum(float(part or 0) * unit for part, unit in zip(parts.groups(), (3600, 60, 1), strict=True))


def thresholds_given(values: list[str]) -> dict[str, float]:
    """Probability per kind, from `KIND=P` or a bare number for all kinds; later ones win."""
    chosen: dict[str, float] = {}
    for value in values:
        kind, equals, number = value.rpartition("=")
        try:
            p = float(number)
        except ValueError:
            raise UsageError(f"--threshold {value}: not KIND=P or a number") from None
        chosen = chosen | {kind: p} if equals else {EVERY_KIND: p}
    return chosen
