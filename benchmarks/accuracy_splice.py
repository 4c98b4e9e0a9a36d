"""Splice-site accuracy, defined as the data pack does: every (position, strand) is an example, ambiguous ones left out.

    python benchmarks/accuracy_splice.py --data DATA --organisms human,celegans --splits val,test
    python benchmarks/accuracy_splice.py --example FOLDER_OF_annotator_example

Thresholds are the model's own, set on validation data. One JSON line per table row goes to --json.
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

from annotator.calls.sites import TrackRule, track_rules
from annotator.evaluation.baselines import splice_pwm_baseline
from annotator.evaluation.genomes import load_genome
from annotator.evaluation.labelled import TRACKS, LabelledGenome
from annotator.evaluation.metrics import bootstrap, calls_per_mb, reliability
from annotator.evaluation.options import Organism
from annotator.evaluation.scores import genome_calls, genome_logits
from annotator.evaluation.truth import ExampleCollector
from annotator.genome.plan import PlanOptions
from annotator.models.compact_inference import folded_on, load_compact
from annotator.models.options import PRECISIONS
from annotator.models.registry import read_model
from annotator.tokens.vocabulary import KmerVocabulary

CLADES = {"human": "vertebrate", "celegans": "invertebrate", "bnapus": "plant", "athaliana": "plant", "scerevisiae": "fungi"}
CROSS = ("athaliana", "scerevisiae")
FLOOR = {"probability": 1e-4, "log odds": -4.0}
"""Examples below are counted, not listed: top-k is exact, AUPRC a lower bound (annotator.evaluation.metrics)."""


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


def rows(genome: LabelledGenome, tracks: np.ndarray, floor: float, label: dict[str, str]) -> list[dict[str, object]]:
    """top-k and AUPRC with intervals of per-base tracks [2 strands, 2 kinds, n]."""
    block = None if len(genome.contig_ends) >= 10 else 1_000_000
    starts = genome.contig_starts
    table = []
    for k, kind in enumerate(TRACKS[:2]):
        collector = ExampleCollector(floor, block_bp=block)
        for contig, (a, b) in enumerate(zip(starts.tolist(), genome.contig_ends.tolist(), strict=True)):
            for s, strand in enumerate("+-"):
                site, masked = ([x - a for x in t[kind, strand] if a <= x < b] for t in (genome.sites, genome.masked))
                collector.add(contig, tracks[s, k, a:b], np.array(site, np.int64), np.array(masked, np.int64))
        examples = collector.examples()
        found = bootstrap(examples, replicates=200)
        table.append(
            label | {"kind": kind, "sites": int(examples.is_truth.sum()) + examples.rest.truth, "bp": len(genome.bases)}
            | {name: round(v.value, 4) for name, v in found.items()}
            | {f"{name}_95": [round(v.low, 4), round(v.high, 4)] for name, v in found.items()}
        )  # fmt: skip
    return table


def at_thresholds(
    genome: LabelledGenome, logits: np.ndarray, rules: list[TrackRule | None], label: dict[str, str]
) -> list[dict[str, object]]:
    """Precision, recall and calls per Mb at the shipped thresholds, and how far the probabilities can be believed."""
    table = []
    starts = np.concatenate([[0], genome.contig_ends[:-1]])
    for k, kind in enumerate(TRACKS[:2]):
        rule = rules[k]
        only: list[TrackRule | None] = [rule if i == k else None for i in range(len(rules))]
        calls = genome_calls(logits, genome, only)
        place = starts[calls.contig] + calls.position
        right = masked = 0
        for strand, sign in (("+", 1), ("-", -1)):
            mine = place[calls.strand == sign]
            hit = np.isin(mine, genome.sites[kind, strand])
            right += int(hit.sum())
            masked += int((np.isin(mine, genome.masked[kind, strand]) & ~hit).sum())
        truth = sum(len(genome.sites[kind, s]) for s in "+-")
        counted = len(calls) - masked
        low: list[TrackRule | None] = [
            TrackRule(kind, 0.01, rule.scale, rule.bias, rule.radius_bp) if i == k else None for i in range(len(rules))
        ]
        weak = genome_calls(logits, genome, low)
        at = starts[weak.contig] + weak.position
        truth_of, ambiguous = np.zeros(len(weak), bool), np.zeros(len(weak), bool)
        for strand, sign in (("+", 1), ("-", -1)):
            truth_of |= (weak.strand == sign) & np.isin(at, genome.sites[kind, strand])
            ambiguous |= (weak.strand == sign) & np.isin(at, genome.masked[kind, strand])
        counts = truth_of | ~ambiguous
        diagram = reliability(weak.probability[counts], truth_of[counts], 10)
        bins = zip(diagram.mean_probability, diagram.observed, diagram.count, strict=True)
        figures = {
            "kind": kind,
            "threshold": rule.threshold,
            "precision": round(right / max(counted, 1), 4),
            "recall": round(right / truth, 4),
            "calls_per_mb": round(calls_per_mb(len(calls), len(genome.bases)), 1),
            "calibration_error": round(diagram.expected_calibration_error(0.0), 4),
            "reliability": [[round(float(mean), 3), round(float(seen), 3), int(n)] for mean, seen, n in bins if n],
        }
        table.append(label | figures)
    return table


def show(row: dict[str, object]) -> None:
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
    net, vocabulary, plan = load_compact(folder, manifest), KmerVocabulary(**manifest.tokenizer), PlanOptions(**manifest.plan)
    out: list[dict[str, object]] = []

    def emit(table: list[dict[str, object]]) -> None:
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
            settings = manifest.clades[clade]
            if not args.no_model:
                began = time.time()
                scorer = folded_on(net, settings.index, vocabulary, torch.device("cpu"), args.precision)
                logits = genome_logits(scorer, genome, plan, tracks=len(TRACKS), device=torch.device("cpu"))
                rate = 2 * len(genome.bases) / (time.time() - began)
                rules = track_rules(manifest, clade, {kind: settings.thresholds[kind] for kind in ("donor", "acceptor")})
                tracks = np.stack(
                    [1 / (1 + np.exp(-(r.scale * logits[:, i].astype(np.float64) + r.bias))) for i, r in enumerate(rules) if r], 1
                ).astype(np.float32)
                label = {"organism": name, "split": split, "model": manifest.name, "computed_in": args.precision}
                emit(rows(genome, tracks, FLOOR["probability"], label))
                emit(at_thresholds(genome, logits, rules, label))
                print(f"  scored at {rate / 1e3:.0f} kbp x strand a second")
            if args.pwm and not args.example:
                train = organism_genome(args.data, name, "train", spool) if name not in CROSS else None
                if train is not None:
                    pwm = splice_pwm_baseline([(train.bases, train.sites)])
                    tracks = np.stack([np.stack(pwm[kind].score(genome.bases)) for kind in TRACKS[:2]], 1)
                    emit(rows(genome, tracks, FLOOR["log odds"], {"organism": name, "split": split, "model": "GT/AG PWM"}))
            for peer in filter(None, args.peers.split(",")):
                peer_net, context = load_openspliceai(args.data / "weights" / "openspliceai-mane" / peer)
                parts = np.split(genome.bases, genome.contig_ends[:-1])
                tracks = np.concatenate([contig_probabilities(peer_net, context, part) for part in parts], 2)
                emit(
                    rows(
                        genome,
                        tracks,
                        FLOOR["probability"],
                        {"organism": name, "split": split, "model": f"OpenSpliceAI {context}nt"},
                    )
                )
    if args.json:
        with args.json.open("a") as file:
            for row in out:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
