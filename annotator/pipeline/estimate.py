"""`annotator plan`: what a run would do and take, from the plan itself and a short warm-up on pieces of the genome."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from annotator.genome.plan import PlanOptions, Shard, Span, plan_shards
from annotator.genome.regions import read_regions
from annotator.genome.shard_input import ShardInput, pick_shard, stage_bases
from annotator.genome.source import Genome, open_genome
from annotator.kinds import AUTO_CLADE, KINDS
from annotator.machine import usable_cpus
from annotator.output.formats.bed import refuse_unwritable_names
from annotator.pipeline.announce import TFBS_ROW_BYTES, in_bytes
from annotator.pipeline.clade_fit import CladeFits, advises, with_chosen_clade
from annotator.pipeline.error_rate import DecoyThresholds
from annotator.pipeline.executors.machine import this_process
from annotator.pipeline.options import AnnotateOptions, Sample
from annotator.pipeline.request import Request, resolve
from annotator.pipeline.worker.measures import peak_memory
from annotator.results.plan import LADDER

WARM_UP_S = 3.0
"""Pieces are worked on until this much time has passed, or all are done."""
PIECES = 24
"""Most pieces that are looked at, spread evenly over the shards."""


def estimate(samples: Sequence[Sample], options: AnnotateOptions, workers: int) -> dict[str, Any]:
    """Plan a run over some assemblies and measure how fast this machine would work on it.

    Args:
        samples: The assemblies; their results folders are not touched.
        options: Options of the run.
        workers: Local workers that would share the work; 0 for this process alone.

    Returns:
        Plain values, ready for JSON: the plan, counts, seconds, bytes.

    Raises:
        AnnotatorError: What `annotate` would raise for the same options and genomes.
    """
    machine = this_process(options.device)
    if machine.kind == "cpu" and not workers:
        machine = replace(machine, threads=usable_cpus())
    asked_clade, options = options.clade, with_chosen_clade(samples, options, machine)
    request = resolve(options, machine)
    windows = request.order.windows
    began = time.perf_counter()
    genomes: list[dict[str, Any]] = []
    pieces: list[ShardInput] = []
    decoys = None if request.fdr is None else DecoyThresholds(request, request.fdr)
    clades = CladeFits(request) if asked_clade != AUTO_CLADE and advises(request) else None
    for sample in samples:
        with tempfile.TemporaryDirectory(prefix="annotator-plan-") as spool:
            genome = open_genome(sample.fasta, Path(spool), options.genome)
            refuse_unwritable_names(genome.contigs.names, genome.path)
            regions = read_regions(options.regions, genome.contigs) if options.regions else None
            shards = list(plan_shards(genome.contigs.lengths, windows, regions))
            genomes.append(_describe(sample, genome, shards, windows))
            thresholds = None
            if clades:
                clades.advise(genome, regions)
            if decoys:
                found = decoys.find(genome, regions)
                decoys.tell(genome.path, found)
                thresholds, asked = found.thresholds, decoys.asked(genome.contigs.lengths, regions)
                genomes[-1] |= {"fdr": asked, "thresholds": thresholds, LADDER: found.ladder}
            staged = [stage_bases(piece, windows) for piece in _pieces(genome, shards, windows, max(1, PIECES // len(samples)))]
            pieces += [replace(piece, thresholds=thresholds) for piece in staged]
            genome.close()
    checked_s = time.perf_counter() - began
    measured = _warm_up(request, pieces)
    return _sum_up(request, genomes, measured, workers, checked_s)


def _describe(sample: Sample, genome: Genome, shards: list[Shard], shape: PlanOptions) -> dict[str, Any]:
    windows = sum(-(-(span.end - span.start) // shape.core_bp) for shard in shards for span in shard.spans)
    return {
        "sample": sample.name, "fasta": genome.path, "contigs": len(genome.contigs), "bp": genome.contigs.total_bp,
        "longest_contig_bp": genome.contigs.longest_bp, "to_scan_bp": sum(shard.bases for shard in shards),
        "n_bp": int(genome.contigs.n.sum()), "shards": len(shards), "windows": windows,
        "spool_bytes": genome.contigs.total_bp if genome.compression == "gzip" else 0,
    }  # fmt: skip


def _pieces(genome: Genome, shards: list[Shard], shape: PlanOptions, count: int) -> Iterator[ShardInput]:
    """Some windows' worth out of shards spread over the genome, as fragmented as it is."""
    for at in np.unique(np.linspace(0, len(shards) - 1, count).astype(int)).tolist() if shards else []:
        spans, room = [], 4 * shape.core_bp
        for span in shards[at].spans:
            middle = (span.end - span.start) // (2 * shape.core_bp) * shape.core_bp if span.end - span.start > room else 0
            start = span.start + middle
            spans.append(Span(span.contig, start, min(span.end, start + room)))
            room -= spans[-1].end - start
            if room <= 0:
                break
        yield pick_shard(Shard(at, tuple(spans)), genome.contigs.names, genome.bases)


def _warm_up(request: Request, pieces: list[ShardInput]) -> dict[str, Any]:
    """Load the model and work on the pieces for a few seconds."""
    from annotator.pipeline.worker.shard_worker import ShardWorker

    began = time.perf_counter()
    worker = ShardWorker(request.order, request.scanner)
    if pieces:
        worker.work(pieces[0])  # tables are built and kernels compiled
    load_s = time.perf_counter() - began
    bases, seconds = 0, 0.0
    rows: Counter[str] = Counter()
    for piece in pieces:
        began = time.perf_counter()
        calls = worker.work(piece).calls
        seconds += time.perf_counter() - began
        bases += piece.owned_bp
        rows.update(KINDS[kind].value for kind in calls.kind.tolist())
        if seconds > WARM_UP_S:
            break
    return {
        "load_s": load_s, "bases": bases, "seconds": seconds, "rows": dict(rows), "memory": peak_memory(worker.device),
    }  # fmt: skip


def _sum_up(
    request: Request, genomes: list[dict[str, Any]], measured: dict[str, Any], workers: int, checked_s: float
) -> dict[str, Any]:
    order = request.order
    todo = sum(genome["to_scan_bp"] for genome in genomes)
    shards = sum(genome["shards"] for genome in genomes)
    rate = measured["bases"] / measured["seconds"] if measured["seconds"] else 0.0
    useful = max(1, min(workers or 1, shards))
    rows = {kind: round(count / measured["bases"] * todo) for kind, count in sorted(measured["rows"].items())}
    scan_s = todo / rate / useful if rate else 0.0
    return {
        "genomes": genomes,
        "model": request.manifest.name,
        "clade": order.clade,
        "tasks": list(request.tasks),
        "device": order.device,
        "precision": order.precision,
        "workers": useful,
        "threads_per_worker": order.threads,
        "window_bp": order.windows.window_bp,
        "halo_bp": order.windows.halo_bp,
        "shard_bp": order.windows.shard_bp,
        "batch_bp": order.batch_bp,
        "measured": {
            "bp": measured["bases"], "seconds": round(measured["seconds"], 2), "bp_per_s": round(rate),
            "load_s": round(measured["load_s"], 1), "check_s": round(checked_s, 1),
        },
        "expected_s": round(checked_s + measured["load_s"] + scan_s, 1),
        "expected_rows": rows,
        "expected_bytes_out": sum(rows.values()) * TFBS_ROW_BYTES,
        "temporary_bytes": sum(rows.values()) * TFBS_ROW_BYTES + max((g["spool_bytes"] for g in genomes), default=0),
        "memory_bytes_per_worker": {device: size + 3 * order.windows.shard_bp for device, size in measured["memory"].items()},
    }  # fmt: skip


def to_text(found: dict[str, Any]) -> str:
    """The text of an estimate, for people."""
    measured, rows = found["measured"], found["expected_rows"]
    lines = []
    for genome in found["genomes"]:
        lines.append(
            f"{genome['sample'] or genome['fasta']}: {genome['contigs']:,} contigs, {genome['bp']:,} bp ({genome['n_bp']:,} N), "
            f"longest {genome['longest_contig_bp']:,}; {genome['to_scan_bp']:,} bp to scan in {genome['windows']:,} windows, "
            f"{genome['shards']:,} shards"
        )
        if asked := genome.get("fdr"):
            chosen = ", ".join(f"{kind} {threshold:.3f}" for kind, threshold in genome["thresholds"].items())
            lines.append(
                f"thresholds at a false discovery rate of {asked['rate']:g}: {chosen}; {asked['scanned_bp'] / 1e6:.2f} Mb "
                f"scanned for it, half of them decoys (seed {asked['seed']})"
            )
    memory = ", ".join(f"{device} {in_bytes(size)}" for device, size in found["memory_bytes_per_worker"].items())
    alone = found["workers"] == 1
    decoys = " and scan decoys" if any("fdr" in genome for genome in found["genomes"]) else ""
    lines += [
        f"windows of {found['window_bp']:,} bp with halos of {found['halo_bp']:,}; shards of about {found['shard_bp']:,}; "
        f"batches of {found['batch_bp']:,}",
        f"model {found['model']}, clade {found['clade']}, tasks {','.join(found['tasks'])}; {found['device']} in "
        f"{found['precision']}, workers {found['workers']}, threads each {found['threads_per_worker']}",
        f"measured on {measured['bp']:,} bp of it: {measured['bp_per_s'] / 1e3:,.0f} kbp a second and worker, both strands; "
        f"{measured['load_s']:.1f} s to load, {measured['check_s']:.1f} s to check the input{decoys}",
        f"expected time: {_duration(found['expected_s'])}" + ("" if alone else " if workers do not slow each other down"),
        f"expected calls: {', '.join(f'{count:,} {kind}' for kind, count in rows.items()) or 'none'}; about "
        f"{in_bytes(found['expected_bytes_out'])} of results, {in_bytes(found['temporary_bytes'])} more until they are merged",
        f"memory of a worker: {memory}",
    ]
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"
