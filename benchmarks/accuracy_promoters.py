"""Promoter accuracy: human loci trimmed at random by 0 to 4.5 kb at each end, whole contigs of Daphnia, and human background.

    python benchmarks/accuracy_promoters.py --data DATA

A call is right when an annotated TSS lies within d bp on the same strand; each TSS counts once (data pack README). Thresholds are
the shipped ones; intervals are 95 % bootstraps over contigs, or 1 Mb blocks of a genome of few. Baselines on human loci:
CpG (local maxima of a CpG score, each a call on both strands; islands themselves have no rank to draw at equal recall), blind
(base 5,000 of each trimmed locus on the plus strand and its mirror on the minus strand) and position (the same bases of the
untrimmed loci, moved along with the trimming: an oracle that knows how the loci were cut, and reads no base). The CpG threshold
is set where its recall on the same loci equals the model's. Daphnia contigs are chromosomes' parts, cut around no gene: no
baseline by position there. On whole human regions, whose TSS are known in part only, the calls are counted and not judged.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from annotator.calls.batch import Calls
from annotator.calls.rules import track_rules
from annotator.errors import AnnotatorError
from annotator.evaluation.baselines import cpg_promoter_calls
from annotator.evaluation.genome_report import CALLS_FROM
from annotator.evaluation.metrics import Places, TssMatches, bootstrap_ratio, calibration_error, calls_per_mb, match_tss
from annotator.evaluation.scores import score_shards, sites_as_places
from annotator.evaluation.site_scores import BLOCK_BP, MANY_CONTIGS, PROMOTER_MATCH_BP, PROMOTER_WITHIN_BP
from annotator.genome.plan import PlanOptions
from annotator.kinds import Kind, Strand
from annotator.labels.labelled import TRIM_SEED, LabelledGenome, trim_contigs
from annotator.models.directory import read_model
from annotator.models.loading import load_scan_model
from annotator.models.manifest import Manifest
from annotator.training.compact.export import TRIM_BP
from benchmarks.accuracy_splice import ORGANISMS, Row, emit, organism_genome, splits_there, weights_of, with_interval

JUDGED, BACKGROUND = ("human", "dpulex"), "human_regions"
FAR_BP = 10_000
"""A base is far from genes where no annotated site of either strand lies within this."""
CPU = torch.device("cpu")


def promoter_calls(folder: Path, manifest: Manifest, genome: LabelledGenome) -> tuple[Places, NDArray[np.float32]]:
    """Calls from CALLS_FROM up, and their probabilities."""
    scan = load_scan_model(folder, manifest, genome.clade, CPU)
    rules = track_rules(manifest, genome.clade, {Kind.PROMOTER: CALLS_FROM})
    plan = PlanOptions(**manifest.plan)
    shards = score_shards(scan, genome, plan, tracks=len(manifest.tracks), device=CPU, rules=rules)
    calls = Calls.concatenate([shard.calls for shard in shards])
    return Places(calls.contig, calls.position, calls.strand), calls.probability


def cpg_calls(genome: LabelledGenome) -> tuple[Places, NDArray[np.float64]]:
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


def groups_of(genome: LabelledGenome, places: Places) -> tuple[NDArray[np.int64], int]:
    """What the bootstrap draws together: the group of each place, and how many groups there are."""
    lengths = genome.contig_ends - genome.contig_starts
    block_bp = BLOCK_BP if len(lengths) < MANY_CONTIGS else int(lengths.max())
    blocks = -(-lengths // block_bp)
    first = np.cumsum(blocks) - blocks
    return first[places.contig] + places.position // block_bp, int(blocks.sum())


def intervals(genome: LabelledGenome, calls: Places, truth: Places, matches: TssMatches, threshold: float) -> Row:
    """Precision and recall at a threshold with their bootstrap intervals."""
    called = matches.probability >= threshold
    right = called & (matches.truth_row >= 0)
    of_calls, groups = groups_of(genome, calls)
    of_truth, _ = groups_of(genome, truth)

    def count(group: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(group, minlength=groups)

    precision = bootstrap_ratio(count(of_calls[right]), count(of_calls[called]))
    recall = bootstrap_ratio(count(of_truth[matches.truth_row[right]]), count(of_truth))
    return with_interval("precision", precision) | with_interval("recall", recall)


def judged_rows(folder: Path, manifest: Manifest, whole: LabelledGenome, label: Row) -> list[Row]:
    """Precision and recall at each distance; beside baselines where contigs are loci cut around genes."""
    loci = whole.name == "human"
    genome = trim_contigs(whole, TRIM_BP, TRIM_SEED) if loci else whole
    places, probability = promoter_calls(folder, manifest, genome)
    truth = sites_as_places(genome.sites, "tss", genome.contig_ends)
    threshold = manifest.clades[genome.clade].thresholds[Kind.PROMOTER]
    baselines = Baselines(whole, genome, truth) if loci else None
    table = []
    for within in PROMOTER_WITHIN_BP:
        matches = match_tss(places, probability, truth, within)
        here = matches.at(threshold)
        row = label | {"within_bp": within, "tss": len(truth), "bp": len(genome.bases), "threshold": threshold}
        row |= intervals(genome, places, truth, matches, threshold)
        row |= {"calls_per_mb": calls_per_mb(here.calls, len(genome.bases)), "average_precision": matches.average_precision()}
        if within == PROMOTER_MATCH_BP:
            row["calibration_error"] = calibration_error(probability, matches.truth_row >= 0)
        if baselines:
            row |= baselines.figures(matches, here.recall, within)
        table.append({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()})
    return table


class Baselines:
    """What can be had on loci without a network: CpG maxima, and the place that genes have in a locus."""

    def __init__(self, whole: LabelledGenome, trimmed: LabelledGenome, truth: Places) -> None:
        """Find their calls.

        Args:
            whole: The loci as they were cut.
            trimmed: The loci that are scored.
            truth: Their TSS.
        """
        self._truth, self._cpg = truth, cpg_calls(trimmed)
        self._blind = sites_as_places(positional_calls(trimmed).sites, "tss", trimmed.contig_ends)
        oracle = trim_contigs(positional_calls(whole), TRIM_BP, TRIM_SEED)
        self._fixed = sites_as_places(oracle.sites, "tss", trimmed.contig_ends)

    def figures(self, ours: TssMatches, recall: float, within: int) -> Row:
        """Their precision and recall, and the model's precision at the same recall.

        Args:
            ours: The model's calls.
            recall: Recall of the model at its threshold.
            within: The distance that is right.
        """
        position = match_tss(self._fixed, np.ones(len(self._fixed)), self._truth, within).at(0.5)
        blind = match_tss(self._blind, np.ones(len(self._blind)), self._truth, within).at(0.5)
        cpg = match_tss(*self._cpg, self._truth, within)
        cpg_precision, cpg_recall = at_recall(cpg, recall)
        return {
            "cpg_average_precision": cpg.average_precision(), "cpg_precision": cpg_precision, "cpg_recall": cpg_recall,
            "ours_at_cpg_recall": at_recall(ours, cpg_recall)[0],
            "blind_precision": blind.precision, "blind_recall": blind.recall,
            "ours_at_blind_recall": at_recall(ours, blind.recall)[0],
            "position_precision": position.precision, "position_recall": position.recall,
            "ours_at_position_recall": at_recall(ours, position.recall)[0],
        }  # fmt: skip


def background_row(folder: Path, manifest: Manifest, genome: LabelledGenome, label: Row) -> Row:
    """Calls per Mb of known bases: of all of them, and of those far from any annotated site."""
    places, probability = promoter_calls(folder, manifest, genome)
    threshold = manifest.clades[genome.clade].thresholds[Kind.PROMOTER]
    called = probability >= threshold
    at = (genome.contig_starts[places.contig] + places.position)[called]
    known = np.isin(genome.bases, np.frombuffer(b"ACGTacgt", np.uint8))
    far = known.copy()
    for site in np.unique(np.concatenate([*genome.sites.values(), *genome.masked.values()])).tolist():
        low, high = genome.contig_span(site)
        far[max(low, site - FAR_BP) : min(high, site + FAR_BP + 1)] = False
    return label | {
        "threshold": threshold, "known_bp": int(known.sum()), "calls": len(at),
        "calls_per_mb": round(calls_per_mb(len(at), int(known.sum())), 2),
        "far_bp": int(far.sum()), "far_calls": int(far[at].sum()),
        "far_calls_per_mb": round(calls_per_mb(int(far[at].sum()), int(far.sum())), 2),
    }  # fmt: skip


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
    parser.add_argument("--organisms", default=",".join((*JUDGED, BACKGROUND)))
    parser.add_argument("--splits", default="val,test", help=f"of {BACKGROUND} only test, where it is asked for")
    parser.add_argument("--max-bp", type=int, default=0, help="measure on the first so many bases of each")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="rows are added to this file, one JSON object a line")
    args = parser.parse_args()
    names, splits = args.organisms.split(","), args.splits.split(",")
    if unknown := [name for name in names if name not in (*JUDGED, BACKGROUND)]:
        parser.error(f"--organisms: {unknown[0]} is not one of {', '.join((*JUDGED, BACKGROUND))}")
    torch.set_num_threads(args.threads)
    folder, manifest = read_model(args.model)
    for name in names:
        clade = ORGANISMS[name].clade
        if clade not in manifest.clades:
            print(f"{name}: left out, {args.model} has no settings for clade {clade}", flush=True)
            continue
        asked = splits if name in JUDGED else [split for split in splits if split == "test"]
        for _, split in splits_there(args.data, [name], asked):
            with tempfile.TemporaryDirectory() as scratch:
                genome = organism_genome(args.data, name, split, Path(scratch), args.max_bp)
            label: Row = {
                "organism": name, "split": split, "model": manifest.name, "version": manifest.version,
                "weights": weights_of(manifest, clade), "clade": clade,
                "validated": Kind.PROMOTER in manifest.clades[clade].validated,
            }  # fmt: skip
            judged = name in JUDGED
            found = judged_rows(folder, manifest, genome, label) if judged else [background_row(folder, manifest, genome, label)]
            emit(found, args.json)


if __name__ == "__main__":
    sys.exit(main())
