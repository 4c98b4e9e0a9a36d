"""Is the factor bound at a motif hit? The bundled model of bound sites beside the p-value alone, on human loci.

    python benchmarks/accuracy_binding.py --data DATA

Every hit of the factors' JASPAR matrices with a p-value of at most 1e-4 is an example, on both strands. It is bound where it
lies wholly inside a ChIP-seq peak of its factor ("peak"), or where, in addition, no hit of its factor lies nearer to the peak's
summit ("nearest": the others of a peak are left out). The weights never saw val and test; calibration and the choice of the epoch
come from val. Beside the model: the p-value alone, C and G within 200 bp, and an oracle that knows Ensembl's annotation of open
chromatin and enhancers around the hit. Intervals are paired bootstraps over loci. One JSON line a row goes to --json.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from annotator.calls.bound_hits import surprise
from annotator.evaluation.classification import auroc
from annotator.evaluation.metrics import average_precision
from annotator.genome.options import GenomeOptions
from annotator.genome.regions import read_regions
from annotator.genome.source import Genome, open_genome
from annotator.models.bound.manifest import BUNDLED_BOUND, bound_folder
from annotator.models.bound.net import BoundScorer, load_bound
from annotator.motifs.jaspar_release import jaspar_motifs
from annotator.motifs.scan import MotifScanner
from annotator.training.bound.hits import LabelledHits, labelled_hits

REPLICATES, SEED = 1000, 1
BINS = 10

Floats = NDArray[np.float64]


def probabilities(scorer: BoundScorer, hits: LabelledHits) -> Floats:
    """Calibrated probability of each hit, as `annotate` writes it."""
    logits = scorer(torch.from_numpy(hits.rows), surprise(hits.p_value), torch.from_numpy(hits.factor)).numpy()
    found = np.zeros(len(hits))
    for name, number in scorer.manifest.index.items():
        mine = hits.factor == number
        found[mine] = scorer.manifest.factors[name].probability(logits[mine])
    return found


def in_annotation(genome: Genome, hits: LabelledHits, files: list[Path]) -> Floats:
    """Whether the middle of each hit lies in an annotated element."""
    inside = np.zeros(len(hits), bool)
    middle = (hits.start + hits.end) // 2
    for path in files:
        for contig, intervals in read_regions(path, genome.contigs).items():
            mine = np.flatnonzero(hits.contig == contig)
            at = np.searchsorted(intervals[:, 0], middle[mine], side="right") - 1
            inside[mine] |= (at >= 0) & (middle[mine] < intervals[np.maximum(at, 0), 1])
    return inside.astype(np.float64)


def gc_share(hits: LabelledHits, width: int = 200) -> Floats:
    """Share of C and G in the middle of each window."""
    middle = hits.rows.shape[1] // 2
    inside = hits.rows[:, middle - width // 2 : middle + width // 2]
    share: Floats = np.isin(inside, list(b"CG")).mean(1)
    return share


def nearest_to_summit(genome: Genome, hits: LabelledHits, factor: int, path: Path) -> NDArray[np.bool_]:
    """Whether a hit is the nearest one of its factor to the summit of a peak that it lies in."""
    names = genome.contigs.index_by_name()
    chosen = np.zeros(len(hits), bool)
    mine = np.flatnonzero((hits.factor == factor) & hits.bound)
    with gzip.open(path, "rt") as file:
        for line in file:
            name, start, end, *rest = line.split("\t")
            here = mine[(hits.contig[mine] == names[name]) & (hits.start[mine] >= int(start)) & (hits.end[mine] <= int(end))]
            if len(here):
                summit = int(start) + int(rest[6])
                distance = np.abs((hits.start[here] + hits.end[here]) / 2 - summit)
                chosen[here[distance == distance.min()]] = True
    return chosen


def compare(scores: dict[str, Floats], truth: NDArray[np.bool_], locus: NDArray[np.int64]) -> dict[str, object]:
    """AUROC and AUPRC of each score, and how much the model is above the others: paired bootstrap over loci."""
    row: dict[str, object] = {"hits": len(truth), "bound": int(truth.sum()), "loci": len(np.unique(locus))}
    for name, score in scores.items():
        row[f"{name}_auroc"], row[f"{name}_auprc"] = auroc(score, truth), average_precision(score, truth)
    rng = np.random.default_rng(SEED)
    of_locus = [np.flatnonzero(locus == one) for one in np.unique(locus)]
    drawn = []
    for _ in range(REPLICATES):
        some = np.concatenate([of_locus[i] for i in rng.integers(len(of_locus), size=len(of_locus))])
        if truth[some].any() and not truth[some].all():
            model, alone = (scores[name][some] for name in ("model", "p_value"))
            drawn.append(
                (
                    auroc(model, truth[some]) - auroc(alone, truth[some]),
                    average_precision(model, truth[some]) - average_precision(alone, truth[some]),
                )
            )
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    for index, name in enumerate(("auroc", "auprc")):
        row[f"{name}_above_p_value_95"] = [round(float(low[index]), 4), round(float(high[index]), 4)]
    return row


def calibration_error(p: Floats, truth: NDArray[np.bool_], least: float = 0.02) -> float:
    """Expected calibration error of the hits of at least some probability, in ten bins of equal count."""
    order = np.argsort(p, kind="stable")
    order = order[p[order] >= least]
    bins = [part for part in np.array_split(order, BINS) if len(part)]
    return float(sum(len(part) * abs(p[part].mean() - truth[part].mean()) for part in bins) / max(1, len(order)))


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default=BUNDLED_BOUND)
    parser.add_argument("--splits", default="val,test")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    scorer = load_bound(bound_folder(args.model), torch.device("cpu"))
    manifest = scorer.manifest
    motifs = [motif for motif in jaspar_motifs("vertebrates") if manifest.index_of(motif.name) >= 0]
    scanner = MotifScanner(motifs, p_value=manifest.hit_pvalue)
    for split in args.splits.split(","):
        base = args.data / "human"
        peaks = {name: base / f"human.{split}.{name.lower()}.narrowPeak.gz" for name in manifest.factors}
        with tempfile.TemporaryDirectory() as spool:
            genome = open_genome(base / f"human.{split}.fa.gz", Path(spool), GenomeOptions())
            hits = labelled_hits(genome, scanner, peaks, manifest.architecture.window_bp)
            elements = [base / f"human.{split}.{what}.bed.gz" for what in ("open_chromatin", "enhancer")]
            scores = {
                "model": probabilities(scorer, hits), "p_value": -hits.p_value, "gc": gc_share(hits),
                "oracle": in_annotation(genome, hits, elements),
            }  # fmt: skip
            nearest = {name: nearest_to_summit(genome, hits, index, peaks[name]) for name, index in manifest.index.items()}
            genome.close()
        for factor, index in manifest.index.items():
            ids = sorted({motif.matrix_id for motif in motifs if motif.name.upper() == factor})
            for matrix in ("all", *(ids if len(ids) > 1 else ())):
                of_matrix = [matrix in ("all", motif.matrix_id) for motif in motifs]
                mine = (hits.factor == index) & np.array(of_matrix)[hits.motif]
                for label in ("peak", "nearest"):
                    kept = mine & (~hits.bound | nearest[factor]) if label == "nearest" else mine
                    some = {name: score[kept] for name, score in scores.items()}
                    row = {"split": split, "factor": factor, "matrix": matrix, "label": label} | compare(
                        some, hits.bound[kept], hits.contig[kept]
                    )
                    if label == "peak":  # which is what the probability speaks of
                        row["calibration_error"] = calibration_error(some["model"], hits.bound[kept])
                    row = {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
                    print("  ".join(f"{key}={value}" for key, value in row.items()), flush=True)
                    if args.json:
                        with args.json.open("a") as file:
                            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
