"""The bundled model end to end: share of the hardware's rate, where the time goes, growth with genome length and contig count.

    python benchmarks/end_to_end.py --fasta celegans.test.fa.gz --peer-model model_10000nt_rs10.pt     # whole commands
    python benchmarks/end_to_end.py --device cuda --no-files                                           # the engine alone

Whole commands (`annotator annotate`, a process each, FASTA to BED and Parquet) are timed on genomes cut from the FASTA's bases,
repeated where more are wanted: one contig of 3, 12 and 80 Mb, and 60,000 contigs of 200 bp. Beforehand, parity: the network
that scans against the network that was trained, and every repetition of a run byte for byte.

--no-files needs no polars and no pysam: shards of an in-memory genome go through the worker (blocks to the device, model, calls,
motifs) and the calls are counted, not written. Its parity: the calls on the device against those of the CPU in float32 on the
FASTA's first bases, or on an example genome: motif hits equal, model calls but for those near the threshold.

FLOPs are the model's own for every base and strand once; what windows add at their borders is not counted as work done.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from annotator.example.genome import write_example
from annotator.genome.bases import StagedBases
from annotator.genome.plan import PlanOptions, Shard, plan_shards
from annotator.genome.shard_input import ShardInput
from annotator.kinds import DEFAULT_CLADE, KINDS
from annotator.machine import usable_cpus
from annotator.models.device import native_precision
from annotator.models.directory import read_model
from annotator.models.families.compact.scan import load_compact
from annotator.models.loading import load_scan_model
from annotator.models.manifest import Manifest
from annotator.models.options import PRECISIONS
from annotator.motifs.motif import Motif
from annotator.pipeline.options import SHARD_BP
from annotator.pipeline.worker.order import SHARDS_AT_ONCE, WorkOrder
from annotator.pipeline.worker.shard_worker import ShardFindings, ShardWorker
from annotator.scan.options import BATCH_BP
from annotator.tokens.vocabulary import KmerVocabulary
from annotator_kernels.backends import chosen_backends
from benchmarks.rows import RESULTS, append_row, ceilings, circumstances, peak_memory_bytes, watch_memory

CLADE = "invertebrate"
CONTIG_CASE = (60_000, 200)
NEAR = 0.05
"""Calls whose probability is as near to the threshold as this are not compared: rounding may decide them."""
SHIFT_BP = {"donor": 0, "acceptor": 0, "promoter": 16}
"""Distance at which two calls are the same one: a promoter's peak is flat, so that rounding shifts its top by a few bases."""
LEAST_COMPARED = 100
LEAST_AGREEMENT = 0.99


@dataclass(frozen=True)
class Measured:
    """Runs of one case: seconds of each, then of the median one its peak bytes of memory, calls, and seconds by stage."""

    times: tuple[float, ...]
    memory_bytes: int
    calls: int
    stages: dict[str, float]

    @property
    def seconds(self) -> float:
        """The median (of two, the longer)."""
        return sorted(self.times)[len(self.times) // 2]

    @staticmethod
    def of(runs: list[Measured]) -> Measured:
        """Several runs of the same case as one."""
        middle = sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]
        return replace(middle, times=tuple(run.seconds for run in runs))


def real_bases(fasta: Path | None, bases: int) -> NDArray[np.uint8]:
    """Bases of a FASTA, repeated up to `bases`; random ones without a FASTA."""
    if fasta is None:
        return np.frombuffer(b"ACGT", np.uint8)[np.random.default_rng(1).integers(0, 4, bases)]
    opener = gzip.open if fasta.read_bytes()[:2] == b"\x1f\x8b" else open
    with opener(fasta, "rb") as file:
        text = b"".join(line.strip() for line in file if not line.startswith(b">"))
    return np.resize(np.frombuffer(text.upper(), np.uint8), bases)


def write_fasta(path: Path, bases: NDArray[np.uint8], contig_bp: int) -> Path:
    """Contigs of one length, in lines of 80."""
    with path.open("wb") as file:
        for index, start in enumerate(range(0, len(bases), contig_bp)):
            text = bases[start : start + contig_bp].tobytes()
            file.write(f">contig{index + 1}\n".encode())
            file.writelines(text[i : i + 80] + b"\n" for i in range(0, len(text), 80))
    return path


def run_command(fasta: Path, out: Path, args: argparse.Namespace) -> Measured:
    """Time `annotator annotate`, from the start of its process to its end."""
    program = shutil.which("annotator") or str(Path(sys.executable).with_name("annotator"))
    command = [program, "annotate", str(fasta), "-o", str(out), "--clade", CLADE, "--tasks", args.tasks]
    command += ["--device", "cpu", "--precision", args.precision, "-t", str(args.threads), "--no-report", "-q"]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    run = json.loads((out / "run.json").read_text())
    return Measured((seconds,), run["peak_memory_bytes"]["host"], run["files"]["predictions.parquet"]["rows"], run["stage_s"])


def forward_deviation(manifest: Manifest, folder: Path, device: torch.device, precision: str) -> float:
    """Largest difference of a logit between the network that scans (on the device) and the one that was trained (CPU)."""
    vocabulary = KmerVocabulary(**manifest.tokenizer)
    net = load_compact(folder, manifest, DEFAULT_CLADE)
    scanning = load_scan_model(folder, manifest, DEFAULT_CLADE, device, precision)
    block = torch.from_numpy(real_bases(None, 4096 + 5).copy())
    with torch.inference_mode():
        row = torch.tensor([2]).to(device), torch.tensor([False]).to(device), 4096
        got = scanning.logits(scanning.embed(block.to(device), *row)).cpu()
        text = block.numpy().tobytes().decode()
        ids = torch.tensor([[vocabulary.encode(text[i : i + vocabulary.k]) for i in range(4096)]])
        expected = net(ids, torch.tensor([manifest.clades[DEFAULT_CLADE].index]))
    return float((got - expected).abs().max())


def whole_commands(args: argparse.Namespace, flops: int, where: dict[str, Any]) -> None:
    """Every case as a command of its own; prints the tables and appends the rows."""
    rates = ceilings(torch.device("cpu"), small=args.small)
    cases = {f"1 x {mb:g} Mb": (int(mb * 1e6), int(mb * 1e6)) for mb in args.mb}
    count, length = (600, 200) if args.small else CONTIG_CASE
    cases[f"{count:,} x {length} bp"] = (count * length, length)
    bases = real_bases(args.fasta, max(total for total, _ in cases.values()))
    measured: dict[str, Measured] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, (total, contig_bp) in cases.items():
            fasta = write_fasta(folder / "genome.fa", bases[:total], contig_bp)
            out = folder / f"out{len(measured)}"
            runs = [run_command(fasta, out, args)]
            for _ in range(args.repeats - 1):
                shutil.rmtree(folder / "again", ignore_errors=True)
                runs.append(run_command(fasta, folder / "again", args))
                for path in (path for path in sorted(out.iterdir()) if path.is_file() and path.name != "run.json"):
                    if path.read_bytes() != (folder / "again" / path.name).read_bytes():
                        sys.exit(f"{path.name}: two runs wrote different bytes: no speed is worth printing")
            measured[name] = Measured.of(runs)
            _append(args.out, "end_to_end", name, total, measured[name], flops, rates, where, args.tasks)
    print(f"fp32 matrix rate {rates['matrix_flops_per_s'] / 1e9:.0f} GFLOP/s on {args.threads} threads, in this run\n")
    columns = ("genome", "seconds", "kbp x strand a second", "GFLOP/s (share of the fp32 matrix rate)", "peak RSS", "calls")
    print("| " + " | ".join(columns) + " |")
    print("|---|---|---|---|---|---|")
    for name, one in measured.items():
        total = cases[name][0]
        rate = 2 * total * flops / one.seconds
        print(
            f"| {name} | {one.seconds:.1f} ({min(one.times):.1f} to {max(one.times):.1f}) "
            f"| {2 * total / one.seconds / 1e3:.0f} "
            f"| {rate / 1e9:.0f} ({rate / rates['matrix_flops_per_s']:.0%}) "
            f"| {one.memory_bytes / 1e6:.0f} MB | {one.calls:,} |"
        )
    longest = max(measured, key=lambda name: cases[name][0])
    print(f"\n| stage ({longest}) | seconds | share |\n|---|---|---|")
    one = measured[longest]
    stages = one.stages | {"start, check of the FASTA, rest": one.seconds - sum(one.stages.values())}
    for stage, seconds in stages.items():
        print(f"| {stage} | {seconds:.1f} | {seconds / one.seconds:.1%} |")
    if args.peer_model:
        _against_peer(
            args, {2 * cases[name][0] / one.seconds for name, one in measured.items() if contig_case(cases[name])}, where
        )


def contig_case(case: tuple[int, int]) -> bool:
    """Whether a case is one long contig."""
    return case[0] == case[1]


def _against_peer(args: argparse.Namespace, rates: set[float], where: dict[str, Any]) -> None:
    """The peer's whole command on the same bases, one strand."""
    with tempfile.TemporaryDirectory() as scratch:
        bases = int(args.peer_mb * 1e6)
        fasta = write_fasta(Path(scratch) / "peer.fa", real_bases(args.fasta, bases), bases)
        flank = args.peer_model.name.split("_")[1].removesuffix("nt")
        command = [
            args.peer,
            "predict",
            "-i",
            str(fasta),
            "-m",
            str(args.peer_model),
            "-f",
            flank,
            "-o",
            str(Path(scratch) / "peer"),
        ]
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - began
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    peer = bases / seconds
    print(
        f"\nopenspliceai predict ({args.peer_model.name}): {peer / 1e3:.1f} kbp x strand a second; ratio {max(rates) / peer:.1f}"
    )
    row = {"benchmark": "end_to_end_peer", "peer": args.peer_model.name, "peer_bp": bases, "peer_bases_per_s": peer}
    append_row(args.out, row | {"ratio": max(rates) / peer, **where})


def engine_alone(args: argparse.Namespace, flops: int, where: dict[str, Any]) -> None:
    """Shards of an in-memory genome through the worker; prints one line and appends a row."""
    device = torch.device(args.device)
    rates = ceilings(device, small=args.small)
    total = int((1 if args.small else args.engine_mb) * 1e6)
    bases = real_bases(args.fasta, total // 2)
    bases = np.concatenate([bases, real_bases(None, total - len(bases))])
    manifest = read_model("compact")[1]
    plan = PlanOptions(**(manifest.plan | {"shard_bp": SHARD_BP[device.type]}))
    settings = manifest.clades[CLADE]
    order = WorkOrder(
        model="compact", clade=CLADE, thresholds={kind: settings.thresholds[kind] for kind in ("donor", "acceptor", "promoter")},
        motifs=_random_motifs(args.motifs), tfbs_pvalue=1e-6, windows=plan, batch_bp=BATCH_BP[device.type], device=args.device,
        precision=args.precision, threads=args.threads,
    )  # fmt: skip
    lengths = np.array([total], np.int64)
    genome = whole_contig("generated", bases)
    compare_with_cpu(order, parity_bases(args.fasta, 1_000_000 if args.small else 2_000_000))
    worker = ShardWorker(order)
    shards = [genome(shard) for shard in plan_shards(lengths, plan)]
    worker.work(shards[0])  # compiles the kernels
    worker.clock.take()
    watch_memory(device)
    began = time.perf_counter()
    calls = count_calls(worker, shards)
    seconds = time.perf_counter() - began
    memory = peak_memory_bytes(device)
    one = Measured((seconds,), memory, calls, worker.clock.take())
    name = f"engine alone, {total / 1e6:g} Mb, {len(order.motifs)} matrices"
    _append(args.out, "end_to_end_engine", name, total, one, flops, rates, where, "all")
    rate = 2 * total * flops / seconds
    print(
        f"{name} on {device}: {total / seconds / 1e6:.2f} Mb/s of genome, both strands; {rate / 1e9:.0f} GFLOP/s, "
        f"{rate / rates['matrix_flops_per_s']:.1%} of the matrix rate; peak memory {memory / 1e6:.0f} MB; {calls:,} calls"
    )
    print("stages:", {stage: round(spent, 2) for stage, spent in one.stages.items()}, chosen_backends())


def count_calls(worker: ShardWorker, shards: list[ShardInput]) -> int:
    """Calls of all shards, worked on as in a run: on a GPU one is begun while others are finished."""
    at_once = 1 if worker.device.type == "cpu" else SHARDS_AT_ONCE
    calls, coming = 0, deque[Future[ShardFindings]]()
    with ThreadPoolExecutor(at_once) as pool:
        for shard, following in zip(shards, [*shards[1:], None], strict=True):
            if following is not None:
                worker.feed.announce(following)
            coming.append(pool.submit(worker.begin(shard)))
            while len(coming) >= at_once:
                calls += len(coming.popleft().result().calls)
        return calls + sum(len(each.result().calls) for each in coming)


def parity_bases(fasta: Path | None, bases: int) -> NDArray[np.uint8]:
    """The first bases of the FASTA; of an example genome without one, as random bases have hardly a gene."""
    if fasta is not None:
        return real_bases(fasta, bases)
    with tempfile.TemporaryDirectory() as scratch:
        return real_bases(write_example(Path(scratch), length_bp=bases).fasta, bases)


Found = dict[tuple[int, int, int, int], float]
"""Probability of each call by kind, strand, position and motif."""


def compare_with_cpu(order: WorkOrder, bases: NDArray[np.uint8]) -> None:
    """End the program where the device's calls are not those of the CPU in float32, but for calls near the threshold."""
    lowered = {kind: max(threshold - NEAR, 1e-3) for kind, threshold in order.thresholds.items()}
    windows = replace(order.windows, shard_bp=SHARD_BP["cpu"])
    order_here = replace(order, thresholds=lowered, windows=windows)
    order_cpu = replace(order_here, device="cpu", precision="float32", batch_bp=BATCH_BP["cpu"])
    ours, cpu = (_calls_of(one, bases) for one in (order_here, order_cpu))
    motifs_equal = {key for key in ours if key[3] >= 0} == {key for key in cpu if key[3] >= 0}
    hits = sum(key[3] >= 0 for key in cpu)
    print(f"parity with the CPU in float32 on {len(bases):,} bp: {hits:,} motif hits, equal: {motifs_equal}")
    compared, agreeing = 0, 0
    for kind, threshold in order.thresholds.items():
        here, there = agreement(ours, cpu, KINDS.index(kind), threshold, SHIFT_BP[kind])
        print(f"parity of {kind} calls: {there:,} of {here:,} agree (within {SHIFT_BP[kind]} bp; near the threshold left out)")
        compared, agreeing = compared + here, agreeing + there
        if there < LEAST_AGREEMENT * here:
            sys.exit(f"the device's {kind} calls are not the CPU's: no speed is worth printing")
    apart = [abs(ours[key] - cpu[key]) for key in ours.keys() & cpu.keys() if key[3] < 0]
    print(f"largest difference of a shared call's probability: {max(apart, default=0):.4f}")
    if not motifs_equal:
        sys.exit("the device's motif hits are not the CPU's: no speed is worth printing")
    if compared < LEAST_COMPARED:
        sys.exit(f"{compared} calls to compare with the CPU's, {LEAST_COMPARED} are needed: no speed is worth printing")


def agreement(ours: Found, cpu: Found, kind: int, threshold: float, shift_bp: int = 0) -> tuple[int, int]:
    """Compare the model calls of a kind, found with a threshold lower by NEAR on both sides.

    Args:
        ours: Calls on the device.
        cpu: Calls on the CPU.
        kind: Index into KINDS.
        threshold: Threshold of the kind.
        shift_bp: Distance at which two calls are the same one; less than the distance of two calls of one side.

    Returns:
        Calls compared: those of either side whose probability is not within NEAR of the threshold on any side that has
        them; how many of them both sides have.
    """
    cpu = {key: p for key, p in cpu.items() if key[0] == kind and key[3] < 0}
    shifts = sorted(range(-shift_bp, shift_bp + 1), key=abs)
    moved = {}
    for (call_kind, strand, at, motif), p in ours.items():
        if call_kind == kind and motif < 0:
            near = [key for shift in shifts if (key := (kind, strand, at + shift, motif)) in cpu]
            moved[near[0] if near else (kind, strand, at, motif)] = p
    ours = moved
    keys = ours.keys() | cpu.keys()
    clear = {key for key in keys if all(found[key] >= threshold + NEAR for found in (ours, cpu) if key in found)}
    return len(clear), len(clear & ours.keys() & cpu.keys())


def _calls_of(order: WorkOrder, bases: NDArray[np.uint8]) -> Found:
    """Calls of a worker on one contig."""
    lengths = np.array([len(bases)], np.int64)
    worker, genome = ShardWorker(order), whole_contig("parity", bases)
    found = [worker.work(genome(shard)).calls for shard in plan_shards(lengths, order.windows)]
    return {
        (int(kind), int(strand), int(position), int(motif)): float(probability)
        for calls in found
        for kind, strand, position, motif, probability in zip(
            calls.kind, calls.strand, calls.position, calls.motif, calls.probability, strict=True
        )
    }


def whole_contig(name: str, bases: NDArray[np.uint8]) -> Callable[[Shard], ShardInput]:
    """From a shard of a genome of one contig, held in memory, to what a worker takes."""
    lengths = np.array([len(bases)], np.int64)
    stored = StagedBases(np.zeros(1, np.int64), np.zeros(1, np.int64), np.array([0, len(bases)], np.int64), bases)
    return lambda shard: ShardInput(shard.spans, [name], lengths, stored)


def _random_motifs(count: int) -> tuple[Motif, ...]:
    """Matrices of 6 to 20 columns with JASPAR-like information; real ones need a package that a GPU machine may lack."""
    rng = np.random.default_rng(7)
    motifs = []
    for index in range(count):
        width = int(rng.integers(6, 21))
        frequency = rng.dirichlet([0.25] * 4, width)
        motifs.append(Motif(f"RND{index}", f"random{index}", np.round(frequency * 500)))
    return tuple(motifs)


def _append(
    path: Path, benchmark: str, case: str, total: int, one: Measured, flops: int, rates: dict[str, float], where: dict[str, Any],
    tasks: str,
) -> None:  # fmt: skip
    append_row(path, {
        "benchmark": benchmark, "case": case, "bp": total, **_quantiles(one.times), "peak_memory_bytes": one.memory_bytes,
        "calls": one.calls, "stage_s": one.stages, "flops_per_base_and_strand": flops,
        "share_of_matrix_rate": 2 * total * flops / one.seconds / rates["matrix_flops_per_s"], **rates, "tasks": tasks, **where,
    })  # fmt: skip


def _quantiles(times: tuple[float, ...]) -> dict[str, float | int]:
    p20, p50, p80 = np.quantile(times, [0.2, 0.5, 0.8]).tolist()
    return {"p20_s": p20, "p50_s": p50, "p80_s": p80, "repeats": len(times)}


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fasta", type=Path, help="where real bases come from; random ones without")
    parser.add_argument("--mb", type=float, nargs="+", default=[3, 12, 80], help="lengths of the one-contig genomes")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each command")
    parser.add_argument("--tasks", default="splice", help="of the whole commands")
    parser.add_argument("--threads", type=int, default=usable_cpus())
    parser.add_argument("--precision", choices=PRECISIONS, default="auto")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="of --no-files")
    parser.add_argument("--no-files", action="store_true", help="the engine alone, on an in-memory genome")
    parser.add_argument("--engine-mb", type=float, default=200, help="bases of --no-files, half of them from --fasta")
    parser.add_argument("--motifs", type=int, default=800, help="random matrices of --no-files; 0 for none")
    parser.add_argument("--peer", default="openspliceai", help="the peer's command")
    parser.add_argument("--peer-model", type=Path, help="its state dict; without it the peer is not run")
    parser.add_argument("--peer-mb", type=float, default=0.5)
    parser.add_argument("--small", action="store_true", help="tiny genomes: tries the script, measures nothing")
    parser.add_argument("--out", type=Path, default=RESULTS, help="rows are appended here")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device if args.no_files else "cpu")
    if args.peer_model and shutil.which(args.peer) is None:
        sys.exit(f"{args.peer}: not found; install it into an environment of its own, then --peer ITS/bin/openspliceai")
    folder, manifest = read_model("compact")
    args.precision = precision = manifest.precision(args.precision, native_precision(device.type), device.type)
    deviation = forward_deviation(manifest, folder, device, precision)
    bound = {"bfloat16": 0.5, "int8": 2.0}.get(precision, 1e-3)
    print(f"largest difference of a logit from the trained network: {deviation:.2g} (bound {bound:g})")
    if not deviation <= bound:
        sys.exit("the network that scans is not the one that was trained: no speed is worth printing")
    flops = load_compact(folder, manifest, DEFAULT_CLADE).config.flops_per_base()
    where = {"precision": precision, "threads": args.threads, **circumstances(device)}
    if args.small:
        args.mb, args.repeats = [0.1, 0.2], 2
    (engine_alone if args.no_files else whole_commands)(args, flops, where)
    return 0


if __name__ == "__main__":
    sys.exit(main())
