"""Enhancers and open chromatin learnt from few labelled elements: from scratch, and from the bundled network.

    OMP_NUM_THREADS=1 python benchmarks/low_data.py --data DATA --elements 50,200,900 -o low_data/

Loci of human.train are taken in an order drawn from the seed until they hold the wanted number of elements (both tracks
together); loci of human.val, chosen in the same way, set the thresholds, which no figure here depends on. Each network learns
both tracks at once, for the same number of steps, and the averaged weights of the last step are kept. Then all of human.val and
human.test are scored in tiles (annotator/evaluation/elements.py); intervals are 95 %, drawn over loci. Beside the networks stands
the share of G and C in a tile and in its surroundings, which learns nothing. The same command goes on after a kill: what is
learnt stays learnt.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from annotator.evaluation.elements import TILE_BP, ElementScores, TileScores
from annotator.evaluation.genome_report import evaluate_genome
from annotator.labels.genomes import load_elements, load_genome
from annotator.labels.labelled import LabelledGenome
from annotator.labels.options import Organism
from annotator.models.directory import read_model
from annotator.training.finetune.options import (
    COMPACT,
    COMPACT_RANDOM,
    FeatureTrack,
    FinetuneOptions,
    FinetuneSettings,
    GenomeData,
    GenomeFiles,
    default_options,
)
from annotator.training.finetune.run import run_finetuning
from benchmarks.rows import RESULTS, append_row, circumstances

TRACKS = ("enhancer", "open_chromatin")
STARTS = {"from scratch": COMPACT_RANDOM, "bundled": COMPACT}
AROUND_BP = (TILE_BP, 1000)
"""Bases around the middle of a base's surroundings whose G and C are counted."""
DEV_ELEMENTS = 25
BATCH_WINDOWS = 16


@dataclass(frozen=True)
class Loci:
    """Some loci of a split as files.

    Attributes:
        fasta: Their bases.
        beds: (track, BED file) of their elements.
        loci: How many they are.
        counts: Elements by track.
    """

    fasta: Path
    beds: tuple[tuple[str, Path], ...]
    loci: int
    counts: dict[str, int]

    @property
    def files(self) -> GenomeFiles:
        """What fine-tuning reads."""
        return GenomeFiles(Organism(self.fasta.name.partition(".")[0], "vertebrate", self.fasta, None), self.beds)


def split_of(data: Path, split: str) -> Loci:
    """A whole split of the pack."""
    base = data / "human"
    beds = tuple((track, base / f"human.{split}.{track}.bed.gz") for track in TRACKS)
    counts = {track: sum(1 for _ in _lines(path)) for track, path in beds}
    return Loci(base / f"human.{split}.fa.gz", beds, sum(1 for _ in _records(base / f"human.{split}.fa.gz")), counts)


def some_loci(whole: Loci, elements: int, seed: int, folder: Path) -> Loci:
    """Loci of a split, in an order drawn from the seed, until they hold so many elements."""
    lines = {track: list(_lines(path)) for track, path in whole.beds}
    held: dict[str, int] = {}
    for found in lines.values():
        for line in found:
            held[line.split("\t", 1)[0]] = held.get(line.split("\t", 1)[0], 0) + 1
    records = dict(_records(whole.fasta))
    names = sorted(records)
    chosen: set[str] = set()
    for index in np.random.default_rng(seed).permutation(len(names)):
        if sum(held.get(name, 0) for name in chosen) >= elements:
            break
        chosen.add(names[index])
    folder.mkdir(parents=True, exist_ok=True)
    fasta = folder / "loci.fa"
    fasta.write_text("".join(f">{name}\n{records[name]}\n" for name in names if name in chosen))
    beds, counts = [], {}
    for track, found in lines.items():
        kept = [line for line in found if line.split("\t", 1)[0] in chosen]
        beds.append((track, folder / f"{track}.bed"))
        beds[-1][1].write_text("".join(f"{line}\n" for line in kept))
        counts[track] = len(kept)
    return Loci(fasta, tuple(beds), len(chosen), counts)


def gc_scores(genome: LabelledGenome, whole: Loci, around_bp: int, replicates: int) -> list[ElementScores]:
    """What the share of G and C around each base is worth."""
    gc = np.isin(genome.bases, np.frombuffer(b"GC", np.uint8)).astype(np.float32)
    shares: list[NDArray[np.float64]] = []
    for start, end in zip(genome.contig_starts, genome.contig_ends, strict=True):
        total = np.concatenate([[0.0], np.cumsum(gc[start:end], dtype=np.float64)])
        middle = np.arange(end - start) // TILE_BP * TILE_BP + TILE_BP // 2  # of the tile that a base lies in
        low, high = np.maximum(middle - around_bp // 2, 0), np.minimum(middle + around_bp // 2, end - start)
        shares.append((total[high] - total[np.minimum(low, high)]) / np.maximum(high - low, 1))
    found = []
    for track, path in whole.beds:
        tiles = TileScores(genome, load_elements(path, genome))
        for contig, share in enumerate(shares):
            tiles.add(contig, 0, np.stack([share, share]))
        found.append(tiles.scores(track, replicates=replicates))
    return found


def learn(start: str, train: Loci, dev: Loci, options: FinetuneOptions, window_bp: int, sigma_bp: float, out: Path) -> Path:
    """One run of fine-tuning; its model directory."""
    data = GenomeData(
        (train.files,), (dev.files,), tuple(map(FeatureTrack, TRACKS)), window_bp=window_bp, sigma_bp=sigma_bp
    )  # fmt: skip
    settings = FinetuneSettings(out.name, STARTS[start], data, options=options)
    out.mkdir(parents=True, exist_ok=True)
    return run_finetuning(settings, out, device="cpu", threads=1)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--elements", default="50,200,900")
    parser.add_argument("--starts", default=",".join(STARTS), help=f"comma-separated from {', '.join(STARTS)}")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--window-bp", type=int, default=2048)
    parser.add_argument("--sigma-bp", type=float, default=150.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replicates", type=int, default=500)
    parser.add_argument("-o", "--out", type=Path, default=Path("low_data"))
    parser.add_argument("--json", type=Path, default=RESULTS, help="rows are added to this file, one JSON object a line")
    args = parser.parse_args()
    torch.set_num_threads(1)
    facts = {
        "benchmark": "low_data", **circumstances(torch.device("cpu")), "tile_bp": TILE_BP, "steps": args.steps,
        "batch_windows": BATCH_WINDOWS, "window_bp": args.window_bp, "sigma_bp": args.sigma_bp, "seed": args.seed,
    }  # fmt: skip
    splits = {split: split_of(args.data, split) for split in ("test", "val")}
    dev = some_loci(splits["val"], DEV_ELEMENTS, args.seed, args.out / "dev")
    runs: list[tuple[Path, dict[str, Any]]] = []
    for elements in map(int, args.elements.split(",")):
        train = some_loci(split_of(args.data, "train"), elements, args.seed, args.out / f"train_{elements}")
        for start in args.starts.split(","):
            folder = args.out / f"{STARTS[start].replace(':', '_')}_{elements}"
            options = replace(
                default_options(STARTS[start], lora=False, genomes=True), batch_windows=BATCH_WINDOWS, steps=args.steps,
                validate_steps=args.steps, patience=0, seed=args.seed, bf16=True,
            )  # fmt: skip
            began, fresh = _cpu_s(), not folder.exists()
            model = learn(start, train, dev, options, args.window_bp, args.sigma_bp, folder)
            run = {
                "start": start, "base": read_model(str(model))[1].training["base"], "elements": elements, "loci": train.loci,
                "labelled": train.counts, "learning_rate": options.learning_rate,
                "learning_cpu_s": round(_cpu_s() - began) if fresh else None,
            }  # fmt: skip
            print(json.dumps(run), flush=True)
            runs.append((model, run))
    for split, whole in splits.items():
        for model, run in runs:
            measured = evaluate_genome(
                str(model), whole.files.organism, features=whole.beds, device="cpu", replicates=args.replicates
            )
            report(args.json, facts, run | {"split": split}, measured.elements)
    for split, whole in splits.items():
        with tempfile.TemporaryDirectory() as spool:
            genome = load_genome(whole.files.organism, Path(spool), whole.beds)
        for around_bp in AROUND_BP:
            found = gc_scores(genome, whole, around_bp, args.replicates)
            report(args.json, facts, {"start": f"GC of {around_bp} bp", "elements": 0, "split": split}, found)


def report(path: Path, facts: dict[str, Any], run: dict[str, Any], found: Sequence[ElementScores]) -> None:
    """Print and keep a row for each track."""
    for track in found:
        print(
            f"{run['split']:4}  {run['start']:12}  {run['elements']:4}  {track.name:14}  base rate {track.base_rate:.4f}"
            f"  AUROC {track.auroc.value:.3f} ({track.auroc.low:.3f}-{track.auroc.high:.3f})"
            f"  AUPRC {track.auprc.value:.4f} ({track.auprc.low:.4f}-{track.auprc.high:.4f})",
            flush=True,
        )
        figures = {"track": track.name, "tiles": track.tiles, "inside": track.inside, "base_rate": round(track.base_rate, 5)}
        for name, interval in (("auroc", track.auroc), ("auprc", track.auprc)):
            figures[name] = [round(value, 4) for value in (interval.value, interval.low, interval.high)]
        append_row(path, facts | run | figures)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _lines(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt") as file:
        yield from filter(None, (line.rstrip("\n") for line in file))


def _records(path: Path) -> Iterator[tuple[str, str]]:
    name, parts = "", [""]
    with gzip.open(path, "rt") as file:
        for line in file:
            if line.startswith(">"):
                if name:
                    yield name, "".join(parts)
                name, parts = line[1:].split()[0], []
            else:
                parts.append(line.strip())
    if name:
        yield name, "".join(parts)


if __name__ == "__main__":
    main()
