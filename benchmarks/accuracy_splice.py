"""Splice-site accuracy, defined as the data pack does: every (position, strand) is an example, ambiguous ones left out.

    python benchmarks/accuracy_splice.py --data DATA --organisms human,celegans --splits val,test
    python benchmarks/accuracy_splice.py --data DATA --organisms human,bnapus --clade plant
    python benchmarks/accuracy_splice.py --example FOLDER_OF_annotator_example

The model is measured as `annotator evaluate` does, each genome with the settings of its clade unless --clade names another.
Beside it stand a GT/AG baseline and OpenSpliceAI on the same bases. Thresholds are the model's own, set on validation data. The
calibration error is over local maxima with a probability of at least 0.02, in ten bins of equal count. Rows of OpenSpliceAI hold
precision by recall of its local maxima, so that its precision can be read off at any recall. One JSON line a genome and kind
goes to --json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from annotator.errors import AnnotatorError
from annotator.evaluation.baselines import splice_pwm_baseline
from annotator.evaluation.genome_report import CALLS_FROM, RANKED_FROM, REPLICATES, KindScores, measure
from annotator.evaluation.metrics import Interval, bootstrap
from annotator.evaluation.site_scores import JudgedCalls, SiteRanking
from annotator.kinds import STRANDS
from annotator.labels.genomes import load_genome
from annotator.labels.labelled import LabelledGenome
from annotator.labels.options import Organism
from annotator.models.directory import read_model
from annotator.models.loading import load_scan_model
from annotator.models.manifest import Manifest
from annotator.models.options import PRECISIONS
from benchmarks.openspliceai_net import contig_probabilities, load_openspliceai


@dataclass(frozen=True)
class InPack:
    """An organism of the data pack.

    Attributes:
        folder: Its folder.
        clade: Clade whose settings it is measured with.
        has_splits: Whether it is divided into train, val and test; otherwise it is never learnt from, and its split is "cross".
    """

    folder: str
    clade: str
    has_splits: bool = True


ORGANISMS = {
    "human": InPack("human", "vertebrate"),
    "human_regions": InPack("human", "vertebrate"),
    "celegans": InPack("celegans", "invertebrate"),
    "dpulex": InPack("daphnia", "invertebrate"),
    "bnapus": InPack("bnapus", "plant"),
    "athaliana": InPack("athaliana", "plant", has_splits=False),
    "panserina": InPack("fungi", "fungi"),
    "kimperatae": InPack("fungi", "fungi"),
    "scerevisiae": InPack("scerevisiae", "fungi", has_splits=False),
}
SPLICE = ("donor", "acceptor")
LOG_ODDS_FROM = -4.0
"""Bases of a lower log-odds are counted, not listed, as those below RANKED_FROM are of a probability."""
RADIUS_BP = 2
"""A base is a call where none within so many bases is higher: OpenSpliceAI's calls are made as the bundled model's are."""

Row = dict[str, object]


def pack_file(data: Path, name: str, split: str, what: str) -> Path:
    """A file of one split of one organism; `what` is the ending of its name."""
    return data / ORGANISMS[name].folder / f"{name}.{split}.{what}"


def splits_there(data: Path, names: Sequence[str], splits: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Organisms and splits that the data pack has; of each other one a line says that it is left out."""
    for name in names:
        for split in splits if ORGANISMS[name].has_splits else ("cross",):
            fasta = pack_file(data, name, split, "fa.gz")
            if fasta.exists():
                yield name, split
            else:
                print(f"{name}, {split}: left out, there is no {fasta}", flush=True)


def organism_genome(data: Path, name: str, split: str, spool: Path, max_bp: int = 0) -> LabelledGenome:
    """One split of one organism, or its first bases."""
    fasta, truth, mask = (pack_file(data, name, split, what) for what in ("fa.gz", "truth.bed.gz", "ambiguous.bed.gz"))
    organism = Organism(
        name, ORGANISMS[name].clade, fasta, truth, mask if mask.exists() else None, max_bp=max_bp, accept_annotation=True
    )
    return load_genome(organism, spool)


def weights_of(manifest: Manifest, clade: str) -> str:
    """The beginning of the sha256 of the weights that a clade is scanned with: figures of other weights are told apart by it."""
    return str(getattr(manifest.clades[clade], "weights_sha256", "") or manifest.weights_sha256)[:12]


def with_interval(name: str, figure: Interval) -> Row:
    """A figure and its 95 % interval; null where there is none."""
    value, low, high = (None if x != x else round(x, 4) for x in (figure.value, figure.low, figure.high))
    return {name: value, f"{name}_95": [low, high]}


def ranking_row(genome: LabelledGenome, kind: str, sites: int, top_k: Interval, auprc: Interval, label: Row) -> Row:
    """How well every base is ranked."""
    size: Row = {"kind": kind, "sites": sites, "bp": len(genome.bases)}
    return label | size | with_interval("top_k", top_k) | with_interval("auprc", auprc)


def model_row(scores: KindScores, genome: LabelledGenome, label: Row) -> Row:
    """The ranking, the calls at the shipped threshold, and how far probabilities can be believed."""
    called, diagram = scores.called, scores.reliability
    assert scores.top_k is not None and diagram is not None and scores.calibration_error is not None  # splice sites have them
    bins = zip(diagram.mean_probability, diagram.observed, diagram.count, strict=True)
    return ranking_row(genome, scores.kind, scores.truths, scores.top_k, scores.auprc, label) | {
        "threshold": called.threshold,
        "precision": round(called.precision, 4),
        "recall": round(called.recall, 4),
        "calls_per_mb": round(called.calls_per_mb, 1),
        "calibration_error": round(scores.calibration_error, 4),
        "reliability": [[round(float(mean), 3), round(float(seen), 3), int(n)] for mean, seen, n in bins if n],
    }


def track_rows(genome: LabelledGenome, tracks: np.ndarray, floor: float, label: Row, *, curves: bool = False) -> list[Row]:
    """The same of scores from elsewhere, [2 strands, 2 kinds, n]; curves where they are probabilities."""
    table = []
    for k, kind in enumerate(SPLICE):
        ranking = SiteRanking(genome, kind, floor)
        for contig, (start, end) in enumerate(zip(genome.contig_starts.tolist(), genome.contig_ends.tolist(), strict=True)):
            ranking.add(contig, 0, tracks[:, k, start:end])
        examples = ranking.examples()
        sites = int(examples.is_truth.sum()) + examples.rest.truth
        found = bootstrap(examples, replicates=REPLICATES)
        row = ranking_row(genome, kind, sites, found["top_k"], found["auprc"], label)
        if curves:
            judged = judge_track(genome, tracks[:, k], kind)
            curve = judged.curve().thinned()
            row["calibration_error"] = round(judged.calibration_error(), 4)
            row["curve"] = [[round(float(r), 4), round(float(p), 4)] for r, p in zip(curve.recall, curve.precision, strict=True)]
        table.append(row)
    return table


def judge_track(genome: LabelledGenome, track: NDArray[np.float32], kind: str) -> JudgedCalls:
    """Local maxima of a track of probabilities, [2 strands, n], held against the truth."""
    columns = []
    for row, strand in enumerate(STRANDS):
        bounds = zip(genome.contig_starts.tolist(), genome.contig_ends.tolist(), strict=True)
        place = np.concatenate([start + local_maxima(track[row, start:end], RADIUS_BP) for start, end in bounds])
        right = np.isin(place, genome.sites[kind, strand])
        columns.append((track[row, place], right, np.isin(place, genome.masked[kind, strand]) & ~right))
    probability, right, ambiguous = (np.concatenate(column) for column in zip(*columns, strict=True))
    truths = sum(len(genome.sites[kind, strand]) for strand in STRANDS)
    return JudgedCalls(probability, right, ambiguous, truths, len(genome.bases))


def local_maxima(values: NDArray[np.float32], radius: int) -> NDArray[np.int64]:
    """Positions of at least CALLS_FROM that no other within a radius is above; of equal ones the first."""
    kept = values >= CALLS_FROM
    padded = np.pad(values, radius, constant_values=-np.inf)
    for shift in range(1, radius + 1):
        kept &= values > padded[radius - shift : len(padded) - radius - shift]
        kept &= values >= padded[radius + shift : len(padded) - radius + shift]
    return np.flatnonzero(kept)


def show(row: Row) -> None:
    """A row on the terminal."""
    print("  ".join(f"{k}={v}" for k, v in row.items() if k not in ("reliability", "curve")), flush=True)
    for mean, observed, count in row.get("reliability", []):  # type: ignore[attr-defined]
        print(f"      probability {mean:.3f}: observed {observed:.3f}  {'#' * round(40 * observed)}  ({count})")


def emit(table: Sequence[Row], path: Path | None) -> None:
    """Rows on the terminal and, where one is given, at the end of a file; a figure that there is not (NaN) is null."""
    for row in table:
        show(row)
    if path:
        with path.open("a") as file:
            for row in table:
                file.write(json.dumps({key: None if value != value else value for key, value in row.items()}) + "\n")


def main() -> int:
    """Run; a fault of the data or the model is one line."""
    try:
        run()
    except AnnotatorError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def run() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="compact")
    parser.add_argument("--clade", default="", help="measure every organism with this clade's settings")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="bfloat16 is what a GPU computes in")
    parser.add_argument("--organisms", default=",".join(ORGANISMS))
    parser.add_argument("--splits", default="val,test", help="of the organisms that have splits")
    parser.add_argument("--max-bp", type=int, default=0, help="measure on the first so many bases of each")
    parser.add_argument("--peers", default="", help="OpenSpliceAI state dicts, e.g. model_400nt_rs10.pt,model_10000nt_rs10.pt")
    parser.add_argument("--peer-folder", default="openspliceai-mane", help="folder of DATA/weights that holds them")
    parser.add_argument("--pwm", action="store_true", help="add the GT/AG position-weight-matrix baseline")
    parser.add_argument("--no-model", action="store_true", help="baselines and peers only")
    parser.add_argument("--example", type=Path, help="score against the truth of an `annotator example` folder instead")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="rows are added to this file, one JSON object a line")
    args = parser.parse_args()
    names = args.organisms.split(",")
    if unknown := [name for name in names if name not in ORGANISMS]:
        parser.error(f"--organisms: {unknown[0]} is not one of {', '.join(ORGANISMS)}")
    folder, manifest = read_model(args.model)
    if args.clade and args.clade not in manifest.clades:
        parser.error(f"--clade: {args.model} has no settings for {args.clade} (it has {', '.join(manifest.clades)})")
    torch.set_num_threads(args.threads)
    cpu = torch.device("cpu")
    with tempfile.TemporaryDirectory() as scratch:
        spool = Path(scratch)
        jobs = [("example", "synthetic")] if args.example else list(splits_there(args.data, names, args.splits.split(",")))
        for name, split in jobs:
            if args.example:
                files = args.example / "example.fa.gz", args.example / "example.truth.bed.gz"
                genome = load_genome(Organism(name, "vertebrate", *files), spool)
            else:
                if not args.clade and ORGANISMS[name].clade not in manifest.clades:
                    print(f"{name}: left out, {args.model} has no settings for clade {ORGANISMS[name].clade}", flush=True)
                    continue
                genome = organism_genome(args.data, name, split, spool, args.max_bp)
            place: Row = {"organism": name, "split": split}
            if not args.no_model:
                began, clade = time.time(), args.clade or genome.clade
                scan = load_scan_model(folder, manifest, clade, cpu, args.precision)
                kinds, _ = measure(scan, manifest, genome, clade, cpu)
                label = place | {
                    "model": manifest.name, "version": manifest.version, "weights": weights_of(manifest, clade), "clade": clade,
                    "computed_in": args.precision,
                }  # fmt: skip
                emit([model_row(scores, genome, label) for scores in kinds if scores.kind in SPLICE], args.json)
                rate = 2 * len(genome.bases) / (time.time() - began)
                print(f"  measured at {rate / 1e3:.0f} kbp x strand a second")
            if args.pwm and list(splits_there(args.data, [name], ["train"])) == [(name, "train")]:
                train = organism_genome(args.data, name, "train", spool)
                pwm = splice_pwm_baseline([(train.bases, train.sites)])
                tracks = np.stack([np.stack(pwm[kind].score(genome.bases)) for kind in SPLICE], 1)
                emit(track_rows(genome, tracks, LOG_ODDS_FROM, place | {"model": "GT/AG PWM"}), args.json)
            for peer in filter(None, args.peers.split(",")):
                peer_net, context = load_openspliceai(args.data / "weights" / args.peer_folder / peer)
                parts = np.split(genome.bases, genome.contig_ends[:-1])
                tracks = np.concatenate([contig_probabilities(peer_net, context, part) for part in parts], 2)
                species = (
                    "" if args.peer_folder == "openspliceai-mane" else f" ({args.peer_folder.removeprefix('openspliceai-')})"
                )
                label = place | {"model": f"OpenSpliceAI {context}nt{species}"}
                emit(track_rows(genome, tracks, RANKED_FROM, label, curves=True), args.json)


if __name__ == "__main__":
    sys.exit(main())
