"""Real bases on a GPU, from a file that travels to a machine without polars and pysam: the human test loci, their sites, motifs.

    python benchmarks/gpu_real.py --make gpu_pack.npz --data DATA         # where the data pack is; 1.4 MB, never committed
    python benchmarks/gpu_real.py --pack gpu_pack.npz --device cuda       # a row in benchmarks/results.jsonl

Parity first: calls on the device against those of the CPU in float32 on the first loci (motif hits equal, model calls but for
those near the threshold). Then the engine on all loci, several times over, each locus a contig: bases a second, precision and
recall of the shipped thresholds, and whether every copy of a locus has the same calls with the same bits.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from annotator.calls.batch import Calls
from annotator.genome.bases import StagedBases
from annotator.genome.plan import PlanOptions, plan_shards
from annotator.genome.shard_input import ShardInput
from annotator.kinds import Kind, Strand
from annotator.machine import usable_cpus
from annotator.models.device import choose_precision
from annotator.models.directory import read_model
from annotator.motifs.motif import Motif
from annotator.motifs.read import read_motifs
from annotator.pipeline.options import SHARD_BP
from annotator.pipeline.worker.order import WorkOrder
from annotator.pipeline.worker.shard_worker import ShardWorker
from annotator.scan.options import BATCH_BP
from annotator_kernels.backends import chosen_backends
from benchmarks.end_to_end import compare_with_cpu
from benchmarks.rows import RESULTS, append_row, circumstances, peak_memory_bytes, watch_memory

CLADE = "vertebrate"
SITE_KINDS = (Kind.DONOR, Kind.ACCEPTOR)
JASPAR = "tfbs/jaspar2024/JASPAR2024_CORE_vertebrates_non-redundant_pfms_transfac.txt"
EVERY_MOTIF = 20
"""One in so many of the vertebrate matrices is packed."""


@dataclass(frozen=True)
class Pack:
    """What is in the file.

    Attributes:
        names: Of the loci.
        lengths: Bases of each locus, int64.
        bases: All of them end to end, ASCII, uint8.
        truth: Known sites, int64, [n, 4]: locus, position (0-based), kind's code, strand.
        doubtful: Sites that are neither right nor wrong, in the same form.
        motifs: Some matrices.
    """

    names: list[str]
    lengths: NDArray[np.int64]
    bases: NDArray[np.uint8]
    truth: NDArray[np.int64]
    doubtful: NDArray[np.int64]
    motifs: tuple[Motif, ...]

    def write(self, path: Path) -> None:
        """As arrays, nothing pickled."""
        with path.open("wb") as file:
            np.savez_compressed(
                file, names=np.array(self.names), lengths=self.lengths, bases=self.bases, truth=self.truth,
                doubtful=self.doubtful,
                motif_ids=np.array([motif.matrix_id for motif in self.motifs]),
                motif_names=np.array([motif.name for motif in self.motifs]),
                motif_widths=np.array([len(motif.counts) for motif in self.motifs]),
                motif_counts=np.concatenate([motif.counts for motif in self.motifs]),
            )  # fmt: skip

    @staticmethod
    def read(path: Path) -> Pack:
        """Read what `write` wrote."""
        with np.load(path, allow_pickle=False) as file:
            ends = np.cumsum(file["motif_widths"]).tolist()
            counts = [file["motif_counts"][begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
            motifs = tuple(
                Motif(str(matrix), str(name), one)
                for matrix, name, one in zip(file["motif_ids"], file["motif_names"], counts, strict=True)
            )
            names = [str(name) for name in file["names"]]
            return Pack(names, file["lengths"], file["bases"], file["truth"], file["doubtful"], motifs)


def make_pack(data: Path) -> Pack:
    """From the data pack: the human test loci, their sites, and one in EVERY_MOTIF matrices."""
    stem = data / "human" / "human.test"
    names, parts = [], []
    with gzip.open(f"{stem}.fa.gz", "rt") as file:
        for record in file.read().split(">")[1:]:
            head, _, text = record.partition("\n")
            names.append(head.split()[0])
            parts.append(np.frombuffer(text.replace("\n", "").upper().encode(), np.uint8))
    lengths = np.array([len(part) for part in parts], np.int64)
    truth, doubtful = (_sites(Path(f"{stem}.{which}.bed.gz"), names) for which in ("truth", "ambiguous"))
    return Pack(names, lengths, np.concatenate(parts), truth, doubtful, tuple(read_motifs(data / JASPAR)[::EVERY_MOTIF]))


def _sites(path: Path, names: list[str]) -> NDArray[np.int64]:
    """Donors and acceptors of a BED file of one-base sites."""
    index = {name: number for number, name in enumerate(names)}
    kinds = {kind.value: kind.code for kind in SITE_KINDS}
    with gzip.open(path, "rt") as file:
        fields = [line.rstrip("\n").split("\t") for line in file if not line.startswith("#")]
    rows = [(index[f[0]], int(f[1]), kinds[f[3]], int(Strand.parse(f[5]))) for f in fields if f[3] in kinds]
    return np.array(rows, np.int64).reshape(-1, 4)


def scan(order: WorkOrder, pack: Pack, copies: int) -> tuple[Calls, float, dict[str, float]]:
    """Calls of some copies of all loci, each a contig; seconds after a first shard, which compiles; seconds by stage."""
    lengths = np.tile(pack.lengths, copies)
    pieces = np.arange(len(lengths))
    ends = np.concatenate([[0], np.cumsum(lengths)])
    stored = StagedBases(pieces, np.zeros(len(pieces), np.int64), ends, np.tile(pack.bases, copies))
    names = pack.names * copies
    shards = [ShardInput(shard.spans, names, lengths, stored) for shard in plan_shards(lengths, order.windows)]
    worker = ShardWorker(order)
    worker.work(shards[0])
    worker.clock.seconds.clear()
    began = time.perf_counter()
    found = []
    for shard, following in zip(shards, [*shards[1:], None], strict=True):
        if following is not None:
            worker.feed.announce(following)
        found.append(worker.work(shard).calls)
    return Calls.concatenate(found), time.perf_counter() - began, dict(worker.clock.seconds)


def accuracy(calls: Calls, pack: Pack) -> dict[str, float]:
    """Precision and recall of each kind of site, at the thresholds the calls were made with; the first copy alone."""
    found: dict[str, float] = {}
    for kind in SITE_KINDS:
        mine = (calls.kind == kind.code) & (calls.contig < len(pack.names))
        called = set(zip(calls.contig[mine].tolist(), calls.position[mine].tolist(), calls.strand[mine].tolist(), strict=True))
        truth, doubtful = (
            {(locus, at, strand) for locus, at, code, strand in sites.tolist() if code == kind.code}
            for sites in (pack.truth, pack.doubtful)
        )
        called -= doubtful - truth
        right = len(called & truth)
        found |= {f"{kind}_recall": right / max(1, len(truth)), f"{kind}_precision": right / max(1, len(called))}
    return found


def copies_differ(calls: Calls, loci: int, copies: int) -> int:
    """Copies whose calls are not those of the first, bit by bit."""

    def of(copy: int) -> list[tuple[Any, ...]]:
        mine = np.flatnonzero(calls.contig // loci == copy)
        bits = calls.probability[mine].view(np.uint32).tolist()
        columns = (calls.contig[mine] % loci, calls.position[mine], calls.kind[mine], calls.strand[mine], calls.motif[mine])
        return sorted(zip(*(column.tolist() for column in columns), bits, strict=True))

    first = of(0)
    return sum(of(copy) != first for copy in range(1, copies))


def main(argv: Sequence[str] | None = None) -> int:
    """Make the file, or check and measure with it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--make", type=Path, metavar="FILE", help="write the file from the data pack, and do nothing else")
    parser.add_argument("--data", type=Path, help="the data pack, for --make")
    parser.add_argument("--pack", type=Path, help="the file")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--mb", type=float, default=200, help="bases of the timed run, at least all loci")
    parser.add_argument("--parity-mb", type=float, default=2, help="bases that the CPU scans too")
    parser.add_argument("--threads", type=int, default=usable_cpus())
    parser.add_argument("--out", type=Path, default=RESULTS, help="the row is appended here")
    options = parser.parse_args(argv)
    if options.make:
        if options.data is None:
            parser.error("--make needs --data")
        make_pack(options.data).write(options.make)
        return 0
    if options.pack is None:
        parser.error("--pack or --make is needed")
    torch.set_num_threads(options.threads)
    pack, device = Pack.read(options.pack), torch.device(options.device)
    manifest = read_model("compact")[1]
    thresholds = manifest.clades[CLADE].thresholds
    order = WorkOrder(
        model="compact", clade=CLADE, thresholds={kind: thresholds[kind] for kind in (*SITE_KINDS, Kind.PROMOTER)},
        motifs=pack.motifs, tfbs_pvalue=1e-5, windows=PlanOptions(**(manifest.plan | {"shard_bp": SHARD_BP[device.type]})),
        batch_bp=BATCH_BP[device.type], device=options.device, precision=choose_precision("auto", device.type),
        threads=options.threads,
    )  # fmt: skip
    compare_with_cpu(order, pack.bases[: int(1e6 * options.parity_mb)])
    copies = max(1, round(1e6 * options.mb / len(pack.bases)))
    watch_memory(device)
    calls, seconds, stages = scan(order, pack, copies)
    bases = copies * len(pack.bases)
    measured, differing = accuracy(calls, pack), copies_differ(calls, len(pack.names), copies)
    print(
        f"{bases / 1e6:.1f} Mb, {len(pack.motifs)} matrices: {bases / seconds / 1e6:.2f} Mb/s, both strands; {len(calls):,} calls"
    )
    print(", ".join(f"{name} {value:.3f}" for name, value in measured.items()))
    print(f"{differing} of {copies - 1} copies have other calls or bits than the first")
    append_row(options.out, {
        "benchmark": "gpu_real", "variant": "human test loci", "bp": bases, "loci": len(pack.names), "copies": copies,
        "copies_that_differ": differing, "seconds": seconds, "bases_per_s": bases / seconds, "calls": len(calls),
        "matrices": len(pack.motifs), "stage_s": stages, "precision": order.precision, "backends": chosen_backends(),
        "peak_memory_bytes": peak_memory_bytes(device), **measured, **circumstances(device),
    })  # fmt: skip
    return 1 if differing and device.type == "cuda" else 0


if __name__ == "__main__":
    sys.exit(main())
