"""Promoter accuracy on human loci trimmed at random by 0 to 4.5 kb at each end, beside two baselines at equal recall.

    python benchmarks/accuracy_promoters.py --data DATA

A call is right when an annotated TSS lies within d bp on the same strand; each TSS counts once (data pack README). Baselines:
CpG (local maxima of a CpG score, each a call on both strands; islands themselves have no rank to draw at equal recall), blind
(base 5,000 of each trimmed locus on the plus strand and its mirror on the minus strand) and position (the same bases of the
untrimmed loci, moved along with the trimming: an oracle that knows how the loci were cut, and reads no base).
The model's threshold is the shipped one; the CpG threshold is set where its recall on the same loci equals the model's.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accuracy_splice import organism_genome

from annotator.calls.batch import Calls
from annotator.calls.rules import track_rules
from annotator.evaluation.baselines import cpg_promoter_calls
from annotator.evaluation.genome_report import CALLS_FROM
from annotator.evaluation.metrics import Places, TssMatches, calls_per_mb, match_tss
from annotator.evaluation.scores import score_shards, sites_as_places
from annotator.evaluation.site_scores import PROMOTER_WITHIN_BP
from annotator.genome.plan import PlanOptions
from annotator.kinds import Strand
from annotator.labels.labelled import TRIM_SEED, LabelledGenome, trim_contigs
from annotator.models.directory import read_model
from annotator.models.loading import load_scan_model
from annotator.training.compact.export import TRIM_BP


def cpg_calls(genome: LabelledGenome) -> tuple[Places, np.ndarray]:
    """CpG maxima of every contig, on both strands."""
    contigs, positions, scores = [], [], []
    start = 0
    for contig, end in enumerate(genome.contig_ends.tolist()):
        at, score = cpg_promoter_calls(genome.bases[start:end])
        contigs.append(np.full(len(at), contig))
        positions.append(at)
        scores.append(score)
        start = end
    contig, position, score = (np.concatenate(x) for x in (contigs, positions, scores))
    strand = np.repeat(np.array([1, -1], np.int8), len(contig))
    return Places(np.tile(contig, 2), np.tile(position, 2), strand), np.tile(score, 2)


def positional_calls(genome: LabelledGenome) -> LabelledGenome:
    """A genome whose "truth" is base 5,000 of each contig on the plus strand and its mirror on the minus strand."""
    keep = genome.contig_ends - genome.contig_starts > 5000
    marks = {("tss", Strand.PLUS): (genome.contig_starts + 5000)[keep], ("tss", Strand.MINUS): (genome.contig_ends - 5001)[keep]}
    return replace(genome, sites=marks, masked={})


def at_recall(matches: TssMatches, recall: float) -> tuple[float, float]:
    """Precision and recall at the first threshold that reaches a recall (or the highest recall there is)."""
    order = np.argsort(-matches.probability, kind="stable")
    right = np.cumsum(matches.truth_row[order] >= 0)
    reached = np.flatnonzero(right >= recall * matches.truths)
    last = int(reached[0]) if len(reached) else len(right) - 1
    return float(right[last] / (last + 1)), float(right[last] / matches.truths)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="compact")
    parser.add_argument("--splits", default="val,test")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    folder, manifest = read_model(args.model)
    plan, cpu = PlanOptions(**manifest.plan), torch.device("cpu")
    threshold = manifest.clades["vertebrate"].thresholds["promoter"]
    rules = track_rules(manifest, "vertebrate", {"promoter": CALLS_FROM})
    for split in args.splits.split(","):
        with tempfile.TemporaryDirectory() as scratch:
            whole = organism_genome(args.data, "human", split, Path(scratch))
        genome = trim_contigs(whole, TRIM_BP, TRIM_SEED)
        scan = load_scan_model(folder, manifest, "vertebrate", cpu)
        shards = score_shards(scan, genome, plan, tracks=len(manifest.tracks), device=cpu, rules=rules)
        calls = Calls.concatenate([shard.calls for shard in shards])
        places = Places(calls.contig, calls.position, calls.strand)
        truth = sites_as_places(genome.sites, "tss", genome.contig_ends)
        cpg, cpg_score = cpg_calls(genome)
        blind = sites_as_places(positional_calls(genome).sites, "tss", genome.contig_ends)
        oracle = trim_contigs(positional_calls(whole), TRIM_BP, TRIM_SEED)
        fixed = sites_as_places(oracle.sites, "tss", genome.contig_ends)
        for within in PROMOTER_WITHIN_BP:
            ours = match_tss(places, calls.probability, truth, within)
            here = ours.at(threshold)
            position = match_tss(fixed, np.ones(len(fixed)), truth, within).at(0.5)
            unaware = match_tss(blind, np.ones(len(blind)), truth, within).at(0.5)
            cpg_matches = match_tss(cpg, cpg_score, truth, within)
            cpg_precision, cpg_recall = at_recall(cpg_matches, here.recall)
            at_cpg_recall, _ = at_recall(ours, cpg_recall)
            at_position_recall, _ = at_recall(ours, position.recall)
            row = {
                "split": split, "within_bp": within, "tss": len(truth), "threshold": threshold,
                "precision": here.precision, "recall": here.recall, "calls_per_mb": calls_per_mb(here.calls, len(genome.bases)),
                "average_precision": ours.average_precision(), "cpg_average_precision": cpg_matches.average_precision(),
                "cpg_precision": cpg_precision, "cpg_recall": cpg_recall, "ours_at_cpg_recall": at_cpg_recall,
                "blind_precision": unaware.precision, "blind_recall": unaware.recall,
                "ours_at_blind_recall": at_recall(ours, unaware.recall)[0],
                "position_precision": position.precision, "position_recall": position.recall,
                "ours_at_position_recall": at_position_recall,
            }  # fmt: skip
            row = {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}
            print("  ".join(f"{k}={v}" for k, v in row.items()), flush=True)
            if args.json:
                with args.json.open("a") as file:
                    file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
