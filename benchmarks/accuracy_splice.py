"""Splice-site accuracy, defined as the data pack does: every (position, strand) is an example, ambiguous ones left out.

    python benchmarks/accuracy_splice.py --data DATA --organisms human,celegans --splits val,test
    python benchmarks/accuracy_splice.py --example FOLDER_OF_annotator_example

The model is measured as `annotator evaluate` does, beside a GT/AG baseline and OpenSpliceAI on the same bases. Thresholds are the
model's own, set on validation data. One JSON line per table row goes to --json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from openspliceai_net import contig_probabilities, load_openspliceai

from annotator.evaluation.baselines import splice_pwm_baseline
from annotator.evaluation.genome_report import RANKED_FROM, REPLICATES, KindScores, measure
from annotator.evaluation.metrics import Interval, bootstrap
from annotator.evaluation.site_scores import SiteRanking
from annotator.labels.genomes import load_genome
from annotator.labels.labelled import LabelledGenome
from annotator.labels.options import Organism
from annotator.models.directory import read_model
from annotator.models.loading import load_scan_model
from annotator.models.options import PRECISIONS

CLADES = {"human": "vertebrate", "celegans": "invertebrate", "bnapus": "plant", "athaliana": "plant", "scerevisiae": "fungi"}
CROSS = ("athaliana", "scerevisiae")
SPLICE = ("donor", "acceptor")
LOG_ODDS_FROM = -4.0
"""Bases of a lower log-odds are counted, not listed, as those below RANKED_FROM are of a probability."""

Row = dict[str, object]


def organism_genome(data: Path, name: str, split: str, spool: Path) -> LabelledGenome:
    """One split of one organism."""
    base = data / name
    mask = base / f"{name}.{split}.ambiguous.bed.gz"
    return load_genome(
        Organism(
            name,
            CLADES[name],
            base / f"{name}.{split}.fa.gz",
            base / f"{name}.{split}.truth.bed.gz",
            mask if mask.exists() else None,
        ),
        spool,
    )


def ranking_row(genome: LabelledGenome, kind: str, sites: int, top_k: Interval, auprc: Interval, label: Row) -> Row:
    """How well every base is ranked."""
    figures = {"top_k": top_k, "auprc": auprc}
    return (
        label | {"kind": kind, "sites": sites, "bp": len(genome.bases)}
        | {name: round(figure.value, 4) for name, figure in figures.items()}
        | {f"{name}_95": [round(figure.low, 4), round(figure.high, 4)] for name, figure in figures.items()}
    )  # fmt: skip


def track_rows(genome: LabelledGenome, tracks: np.ndarray, floor: float, label: Row) -> list[Row]:
    """The same of scores from elsewhere, [2 strands, 2 kinds, n]."""
    table = []
    for k, kind in enumerate(SPLICE):
        ranking = SiteRanking(genome, kind, floor)
        for contig, (start, end) in enumerate(zip(genome.contig_starts.tolist(), genome.contig_ends.tolist(), strict=True)):
            ranking.add(contig, 0, tracks[:, k, start:end])
        examples = ranking.examples()
        sites = int(examples.is_truth.sum()) + examples.rest.truth
        found = bootstrap(examples, replicates=REPLICATES)
        table.append(ranking_row(genome, kind, sites, found["top_k"], found["auprc"], label))
    return table


def threshold_row(scores: KindScores, label: Row) -> Row:
    """The calls at the shipped threshold, and how far probabilities can be believed."""
    called, diagram = scores.called, scores.reliability
    assert diagram is not None and scores.calibration_error is not None  # of splice sites there always are
    bins = zip(diagram.mean_probability, diagram.observed, diagram.count, strict=True)
    return label | {
        "kind": scores.kind,
        "threshold": called.threshold,
        "precision": round(called.precision, 4),
        "recall": round(called.recall, 4),
        "calls_per_mb": round(called.calls_per_mb, 1),
        "calibration_error": round(scores.calibration_error, 4),
        "reliability": [[round(float(mean), 3), round(float(seen), 3), int(n)] for mean, seen, n in bins if n],
    }


def show(row: Row) -> None:
    """One line on the terminal."""
    print("  ".join(f"{k}={v}" for k, v in row.items() if k != "reliability"), flush=True)
    for mean, observed, count in row.get("reliability", []):  # type: ignore[attr-defined]
        print(f"      probability {mean:.3f}: observed {observed:.3f}  {'#' * round(40 * observed)}  ({count})")


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="compact")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="bfloat16 is what a GPU computes in")
    parser.add_argument("--organisms", default="human,celegans,bnapus,athaliana,scerevisiae")
    parser.add_argument("--splits", default="val,test")
    parser.add_argument("--peers", default="", help="comma-separated OpenSpliceAI state dicts, e.g. model_400nt_rs10.pt")
    parser.add_argument("--pwm", action="store_true", help="add the GT/AG position-weight-matrix baseline")
    parser.add_argument("--no-model", action="store_true", help="baselines and peers only")
    parser.add_argument("--example", type=Path, help="score against the truth of an `annotator example` folder instead")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    folder, manifest = read_model(args.model)
    cpu = torch.device("cpu")
    out: list[Row] = []

    def emit(table: list[Row]) -> None:
        for row in table:
            show(row)
            out.append(row)

    with tempfile.TemporaryDirectory() as scratch:
        spool = Path(scratch)
        if args.example:
            example = Organism("example", "vertebrate", args.example / "example.fa.gz", args.example / "example.truth.bed.gz")
            jobs = [("example", "synthetic", load_genome(example, spool))]
        else:
            wanted = [
                (name, split) for name in args.organisms.split(",")
                for split in (("cross",) if name in CROSS else args.splits.split(","))
            ]  # fmt: skip
            jobs = [(name, split, organism_genome(args.data, name, split, spool)) for name, split in wanted]
        for name, split, genome in jobs:
            clade = CLADES.get(name, "vertebrate")
            place: Row = {"organism": name, "split": split}
            if not args.no_model:
                began = time.time()
                scan = load_scan_model(folder, manifest, clade, cpu, args.precision)
                kinds, _ = measure(scan, manifest, genome, clade, cpu)
                label = place | {"model": manifest.name, "computed_in": args.precision}
                splice = [(scores, scores.top_k) for scores in kinds if scores.top_k is not None]
                emit([ranking_row(genome, s.kind, s.truths, top_k, s.auprc, label) for s, top_k in splice])
                emit([threshold_row(scores, label) for scores, _ in splice])
                rate = 2 * len(genome.bases) / (time.time() - began)
                print(f"  measured at {rate / 1e3:.0f} kbp x strand a second")
            if args.pwm and not args.example and name not in CROSS:
                train = organism_genome(args.data, name, "train", spool)
                pwm = splice_pwm_baseline([(train.bases, train.sites)])
                tracks = np.stack([np.stack(pwm[kind].score(genome.bases)) for kind in SPLICE], 1)
                emit(track_rows(genome, tracks, LOG_ODDS_FROM, place | {"model": "GT/AG PWM"}))
            for peer in filter(None, args.peers.split(",")):
                peer_net, context = load_openspliceai(args.data / "weights" / "openspliceai-mane" / peer)
                parts = np.split(genome.bases, genome.contig_ends[:-1])
                tracks = np.concatenate([contig_probabilities(peer_net, context, part) for part in parts], 2)
                emit(track_rows(genome, tracks, RANKED_FROM, place | {"model": f"OpenSpliceAI {context}nt"}))
    if args.json:
        with args.json.open("a") as file:
            for row in out:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
