"""What whole numbers cost in accuracy: `int8` beside `float32` on the same bases, with paired intervals.

    python -m benchmarks.int8_accuracy --data DATA --json benchmarks/results.jsonl

Top-k and AUPRC are over every (position, strand) as in accuracy_splice.py; a difference is int8 less float32, and its interval a
bootstrap that draws the same blocks of the contigs for both. Calls at the shipped thresholds are judged too. One JSON line a
genome and kind. The model must have an integer copy; its ranges were measured on validation bases.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from annotator.calls.batch import Calls
from annotator.calls.rules import track_rules
from annotator.errors import AnnotatorError
from annotator.evaluation.genome_report import RANKED_FROM
from annotator.evaluation.metrics import bootstrap_difference
from annotator.evaluation.scores import score_shards
from annotator.evaluation.site_scores import SiteRanking, judge_splice
from annotator.genome.plan import PlanOptions
from annotator.kinds import Kind
from annotator.labels.labelled import LabelledGenome
from annotator.models.directory import read_model
from annotator.models.loading import load_scan_model
from annotator.models.manifest import Manifest
from benchmarks.accuracy_splice import SPLICE, Row, emit, organism_genome, splits_there, weights_of, with_interval

CPU = torch.device("cpu")
PRECISIONS = ("int8", "float32")


def scored(
    folder: Path, manifest: Manifest, genome: LabelledGenome, precision: str
) -> tuple[dict[str, SiteRanking], Calls, float]:
    """Rankings of the splice sites, the calls at the shipped thresholds, and the CPU seconds it took."""
    began, clade = time.process_time(), genome.clade
    settings = manifest.clades[clade]
    floor = float(np.log(RANKED_FROM / (1 - RANKED_FROM)))
    rankings = {
        kind: SiteRanking(genome, kind, (floor - settings.calibration[Kind(kind)].bias) / settings.calibration[Kind(kind)].scale)
        for kind in SPLICE
    }
    rules = track_rules(manifest, clade, {Kind(kind): settings.thresholds[Kind(kind)] for kind in SPLICE})
    model, found = load_scan_model(folder, manifest, clade, CPU, precision), []
    plan = PlanOptions(**manifest.plan)
    for shard in score_shards(model, genome, plan, tracks=len(manifest.tracks), device=CPU, rules=rules):
        found.append(shard.calls)
        for span, logits in zip(shard.spans, shard.logits, strict=True):
            for kind, ranking in rankings.items():
                ranking.add(span.contig, span.start, logits[:, manifest.tracks.index(kind)])
    return rankings, Calls.concatenate(found), time.process_time() - began


def rows(folder: Path, manifest: Manifest, genome: LabelledGenome, label: Row, replicates: int) -> list[Row]:
    """One row a kind."""
    both = {precision: scored(folder, manifest, genome, precision) for precision in PRECISIONS}
    table = []
    for kind in SPLICE:
        examples = {precision: rankings[kind].examples() for precision, (rankings, _, _) in both.items()}
        differences = bootstrap_difference(examples["int8"], examples["float32"], replicates=replicates)
        row: Row = label | {"kind": kind, "bp": len(genome.bases)}
        for name, difference in differences.items():
            row |= with_interval(f"{name}_difference", difference)
        threshold = manifest.clades[genome.clade].thresholds[Kind(kind)]
        for precision, (_, calls, _) in both.items():
            at = judge_splice(calls, genome, kind).at(threshold)
            row |= {f"{precision}_precision": round(at.precision, 4), f"{precision}_recall": round(at.recall, 4)}
        row |= {f"{precision}_cpu_s": round(seconds, 1) for precision, (_, _, seconds) in both.items()}
        table.append(row)
    return table


def main() -> int:
    """Run; a fault of the data or the model is one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="compact")
    parser.add_argument("--organisms", default="celegans,human,athaliana,bnapus,kimperatae")
    parser.add_argument("--splits", default="test", help="of the organisms that have splits")
    parser.add_argument("--max-bp", type=int, default=0, help="measure on the first so many bases of each")
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="rows are added to this file, one JSON object a line")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    try:
        folder, manifest = read_model(args.model)
        if manifest.integers is None:
            parser.error(f"{args.model} has no integer copy")
        with tempfile.TemporaryDirectory() as scratch:
            for name, split in splits_there(args.data, args.organisms.split(","), args.splits.split(",")):
                genome = organism_genome(args.data, name, split, Path(scratch), args.max_bp)
                label: Row = {
                    "benchmark": "int8_accuracy", "organism": name, "split": split, "model": manifest.name,
                    "version": manifest.version,
                    "weights": weights_of(manifest, genome.clade), "integers": manifest.integers.sha256[:12],
                    "clade": genome.clade,
                }  # fmt: skip
                emit(rows(folder, manifest, genome, label, args.replicates), args.json)
    except AnnotatorError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
