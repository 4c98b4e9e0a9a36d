"""The library: annotate genomes and read the results back. Every name in `__all__` is also one of `annotator` itself.

    import annotator
    results = annotator.annotate("genome.fa.gz", "results/", clade="plant", tasks=("splice",))
    results.calls(kind="donor", region="chr1:1-5000").collect()

Errors are classes of `annotator.errors`; each has the exit code of the command line, and names the argument it is about.
Log lines go to the logger `annotator`; nothing is printed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from annotator.checks import check_count, check_path
from annotator.errors import UsageError
from annotator.genome.options import GenomeOptions
from annotator.kinds import EVERY_KIND
from annotator.output.options import BedOptions, formats_asked
from annotator.pipeline.annotate import annotate_into
from annotator.pipeline.driver.progress import Progress, Silence
from annotator.pipeline.options import BOUND_AUTO, RAY_OFF, SHARED, AnnotateOptions, ExecutionOptions
from annotator.pipeline.worker.shard_task import ShardTask
from annotator.pipeline.worker.task import TaskFactory
from annotator.preflight import check_annotation
from annotator.results.results import BatchResults, Results, open_results, read_calls

__all__ = ["BatchResults", "Results", "annotate", "call", "convert", "open_results", "read_calls"]

AnyPath = str | os.PathLike[str]


def annotate(
    fasta: AnyPath | Sequence[AnyPath] | None,
    out_dir: AnyPath,
    *,
    sheet: AnyPath | None = None,
    model: AnyPath = "compact",
    clade: str = "",
    tasks: Sequence[str] | None = None,
    thresholds: float | Mapping[str, float] | None = None,
    fdr: float | None = None,
    motifs: AnyPath = "jaspar",
    tfbs_pvalue: float = 1e-6,
    bound: AnyPath = BOUND_AUTO,
    regions: AnyPath | None = None,
    device: str = "auto",
    precision: str = "auto",
    threads: int = 0,
    shard_bp: int = 0,
    batch_bp: int = 0,
    workers: int = 0,
    gpus_per_worker: float = 1.0,
    ray: str = RAY_OFF,
    bases_via: str = SHARED,
    shard_timeout_s: float = 0.0,
    node_timeout_s: float = 120.0,
    max_runtime_s: float = 0.0,
    tracks: bool = False,
    overwrite: bool = False,
    dup_names: Literal["error", "suffix"] = "error",
    gaps_as_n: bool = False,
    mask_chars: str = "",
    eof_check: bool = True,
    formats: Sequence[str] = (),
    bed6: bool = False,
    bed_extra: bool = False,
    header: bool = True,
    report: bool = True,
    progress: Progress | None = None,
    task: TaskFactory = ShardTask,
) -> Results:
    """Call promoters, splice sites and TF binding sites of assemblies on both strands, as `annotator annotate` does.

    The same call again goes on with a run that was cut short, and does nothing where there is nothing left to do. With `workers`
    or several GPUs, processes are spawned: a script then needs the usual `if __name__ == "__main__":`.

    Args:
        fasta: Path of an assembly (FASTA: plain, gzip or BGZF; "-" is standard input), or several paths; None with `sheet`.
        out_dir: The results folder; the results of several assemblies are in folders inside it.
        sheet: CSV with the columns sample and fasta, instead of paths.
        model: Bundled model's name or a model directory.
        clade: vertebrate, invertebrate, plant or fungi: chooses thresholds and the group of JASPAR; empty for the clade that the
            model was trained for, or else vertebrate.
        tasks: Some of promoter, splice, tfbs and feature; None for all, but promoter only where it is validated.
        thresholds: Probability by kind of call (donor, promoter, ...) in place of the model's; one number for all kinds.
        fdr: Share of the model's calls that may be chance, in place of thresholds: each genome's are set where decoys, made by
            shuffling a sample of it, say so.
        motifs: "jaspar" (the package's release), "jaspar2024" (that of a year, which needs pyjaspar), or a file of JASPAR,
            HOCOMOCO (pcm), MEME, STREME, DREME or TRANSFAC.
        tfbs_pvalue: A motif hit has this p-value or a smaller one.
        bound: "auto" gives motif hits of factors that the bundled model of bound sites knows their probability, in clades where
            it has been measured; "off" never; or the folder of such a model, for any clade.
        regions: BED file: only calls whose position lies in its regions.
        device: auto, cpu, cuda or cuda:N.
        precision: float32, bfloat16, int8 (whole numbers, on a CPU), or auto for what suits the model and the device.
        threads: CPU threads of each worker's model; 0 for all of this process, or 1 with workers or a GPU.
        shard_bp: Bases of a shard, the unit of work; 0 for the device's default.
        batch_bp: Bases of a batch on the device; 0 for the device's default.
        workers: How many workers, each with a model; 0 for one per GPU, all that a cluster holds, or none.
        gpus_per_worker: Share of a GPU that a worker takes.
        ray: "off", "auto" (RAY_ADDRESS or a private start), "local" (a private start), or the address of a cluster.
        bases_via: "shared" where workers read the FASTA at its path, "object-store" where they get bases through Ray
            (`--stage` on the command line).
        shard_timeout_s: Seconds a worker may take for a shard; 0 adapts to the rate seen.
        node_timeout_s: Seconds to wait for a worker where there is none.
        max_runtime_s: Stop after so many seconds, to be gone on with later; 0 for never.
        tracks: Write the probability by base of every track and strand too, as bigWig.
        overwrite: Replace the files of another run in the results folder.
        dup_names: "error" refuses contig names that come twice, "suffix" renames the later ones.
        gaps_as_n: Read "-", "." and "*" as N.
        mask_chars: Characters that read as N, such as "X" where repeats were masked with it.
        eof_check: Refuse BGZF input without its end marker.
        formats: Files to write beside predictions.parquet: some of bed9, bed6, bed-extra, gff3, bigbed, bedgraph and tsv; nothing
            for bed9.
        bed6: The format bed6: the first six columns of BED only.
        bed_extra: The format bed-extra: further columns after the nine of BED; some programs refuse such files.
        header: Write the `#chrom` line into BED files.
        report: Write report.html into the results folder.
        progress: Told how far the run is.
        task: The work on each shard, where it is to be another than calling sites and motifs.

    Returns:
        The results, opened; of several assemblies `BatchResults`, whose `samples` are the single ones.

    Raises:
        PartialFailure: Some contigs or assemblies failed; everything else is written and can be opened.
        AnnotatorError: The run came to nothing.
    """
    several = fasta if isinstance(fasta, Sequence) and not isinstance(fasta, str) else () if fasta is None else (fasta,)
    paths = [check_path("fasta", path) for path in several]
    if thresholds is not None and not isinstance(thresholds, Mapping):
        thresholds = {EVERY_KIND: thresholds}
    options = AnnotateOptions(
        model=check_path("model", model), clade=clade, tasks=_names(tasks), thresholds=dict(thresholds or {}),
        fdr=fdr, motifs=check_path("motifs", motifs), tfbs_pvalue=tfbs_pvalue, bound=check_path("bound", bound),
        regions=_path("regions", regions), device=device,
        precision=precision, threads=threads, shard_bp=shard_bp, batch_bp=batch_bp, tracks=tracks, overwrite=overwrite,
        genome=GenomeOptions(dup_names, gaps_as_n, eof_check, mask_chars),
        formats=formats_asked(formats, BedOptions(header, bed6, bed_extra)),
    )  # fmt: skip
    execution = ExecutionOptions(
        ray=ray, workers=workers, gpus_per_worker=gpus_per_worker, bases_via=bases_via, shard_timeout_s=shard_timeout_s,
        node_timeout_s=node_timeout_s, max_runtime_s=max_runtime_s,
    )  # fmt: skip
    out, listed = Path(check_path("out_dir", out_dir)), _path("sheet", sheet)
    check_annotation(out, paths, listed, options.motifs, options.regions)
    annotate_into(out, paths, listed, options, execution, progress or Silence(), task=task, report=report)
    return open_results(out)


def convert(folder: AnyPath, to: Sequence[str], *, header: bool = True, threads: int = 0) -> Results:
    """Write the calls of a results folder in further formats, as `annotator convert` does; genome and model are not needed.

    Args:
        folder: The results folder of one assembly or of several.
        to: Some of bed9, bed6, bed-extra, gff3, bigbed, bedgraph and tsv.
        header: Write the `#chrom` line into BED files.
        threads: How many compress; 0 for all CPUs of this process.

    Returns:
        The results, opened again: their files now include the new ones.

    Raises:
        AnnotatorError: There is no finished run, a format is unknown, or a file cannot be written.
    """
    from annotator.results.convert import convert as write

    path = Path(check_path("folder", folder))
    check_count("threads", threads)
    write(path, to, bed=BedOptions(header), threads=threads)
    return open_results(path)


def call(
    folder: AnyPath,
    out_dir: AnyPath,
    thresholds: float | Mapping[str, float] | None = None,
    *,
    formats: Sequence[str] = (),
    header: bool = True,
    overwrite: bool = False,
    threads: int = 0,
) -> Results:
    """Call a finished run again at other thresholds from its tracks, as `annotator call` does; the model is not needed.

    Args:
        folder: The results folder of `annotate(..., tracks=True)`.
        out_dir: The results folder for the calls; another one.
        thresholds: Probability by kind of call, from 0.01 up, or one number for all kinds; a kind without one keeps the run's.
        formats: Files to write beside predictions.parquet, as `annotate` takes them.
        header: Write the `#chrom` line into BED files.
        overwrite: Replace the files of another run in `out_dir`.
        threads: How many compress; 0 for all CPUs of this process.

    Returns:
        The new results: the calls that the run would have made at these thresholds, without motif hits and profiles.

    Raises:
        AnnotatorError: There is no finished run with tracks, a threshold is wrong, or a file cannot be written.
    """
    from annotator.results.call import call as write

    source, out = Path(check_path("folder", folder)), Path(check_path("out_dir", out_dir))
    check_count("threads", threads)
    asked = {EVERY_KIND: thresholds} if thresholds is not None and not isinstance(thresholds, Mapping) else thresholds or {}
    write(source, out, asked, formats=formats_asked(formats, BedOptions(header)), overwrite=overwrite, threads=threads)
    return open_results(out)


def _path(field: str, path: AnyPath | None) -> Path | None:
    return None if path is None else Path(check_path(field, path))


def _names(tasks: Sequence[str] | None) -> tuple[str, ...] | None:
    """Tasks as the options hold them; text alone is left as it is, for the options to refuse."""
    if tasks is not None and not isinstance(tasks, Iterable):
        raise UsageError('give a tuple such as ("splice",)', "tasks", tasks)
    return tasks if tasks is None or isinstance(tasks, str) else tuple(tasks)  # type: ignore[return-value]
