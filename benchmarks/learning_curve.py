"""How many annotated sites a new species needs: the bundled network trained on with parts of a genome that it never saw.

    python benchmarks/learning_curve.py --data DATA --init MODEL --json rows.jsonl

`annotator train --init MODEL` on the first so many bases of Daphnia's training contigs (the part holds about the number of splice
sites asked for), the same steps for every part; top-k on the first 2.7 Mb of its validation contigs, as training validates.
The first row, of 0 sites, is the model as it is, with the settings of its clade.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from annotator.cli.recipe import read_recipe
from annotator.genome.plan import PlanOptions
from annotator.kinds import SPLICE_TRACKS
from annotator.labels.genomes import load_genome
from annotator.labels.options import Organism
from annotator.tokens.vocabulary import KmerVocabulary
from annotator.training.compact.options import CONTINUED_LEARNING_RATE, RECIPE, TrainingSettings
from annotator.training.compact.run import run_training, validation_topk
from annotator.training.compact.start import first_network, like_its_start

VALIDATED_BP = 2_700_000


def daphnia(data: Path, split: str, max_bp: int = 0) -> Organism:
    """A split of the genome."""
    base = data / f"daphnia/dpulex.{split}"
    fasta, truth = (base.with_name(f"{base.name}.{suffix}") for suffix in ("fa.gz", "truth.bed.gz"))
    return Organism("dpulex", "invertebrate", fasta, truth, max_bp=max_bp)


def bases_with(organism: Organism, sites: int, spool: Path) -> tuple[int, int]:
    """The number of bases from the first on that hold so many splice sites, and how many they hold."""
    genome = load_genome(organism, spool)
    places = sorted(int(at) for (kind, _), found in genome.sites.items() if kind in SPLICE_TRACKS for at in found)
    if sites >= len(places):
        return len(genome.bases), len(places)
    return places[sites] + 1, sites


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--init", default="compact", help="a model that never saw the species")
    parser.add_argument("--sites", default="500,2000,10000,40000")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="rows are added to this file, one JSON object a line")
    args = parser.parse_args()
    logging.disable(logging.INFO)
    torch.set_num_threads(args.threads)
    base = replace(read_recipe(RECIPE, args.data, "dpulex"), init=args.init, promoters=())
    rows = []
    with tempfile.TemporaryDirectory(prefix="curve-") as scratch:
        spool = Path(scratch)
        validation = daphnia(args.data, "val", VALIDATED_BP)
        for sites in (0, *map(int, args.sites.split(","))):
            began = time.perf_counter()
            max_bp, held = bases_with(daphnia(args.data, "train"), sites, spool / "count") if sites else (0, 0)
            organism = daphnia(args.data, "train", max_bp)
            settings = like_its_start(replace(base, organisms=(organism,), validation=(validation,)))
            scores = trained(settings, args.steps, args.threads, spool / f"run-{sites}") if sites else untouched(settings, spool)
            row = {
                "genome": "dpulex.val", "init": args.init, "sites": held, "bp": max_bp, "steps": args.steps if sites else 0,
                **{kind: round(scores[f"val_dpulex_{kind}"], 4) for kind in SPLICE_TRACKS},
                "seconds": round(time.perf_counter() - began),
            }  # fmt: skip
            print("  ".join(f"{key}={value}" for key, value in row.items()), flush=True)
            rows.append(row)
    if args.json:
        with args.json.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def untouched(settings: TrainingSettings, spool: Path) -> dict[str, float]:
    """top-k of the model as it is."""
    net = first_network(settings)[0].eval()
    genome = load_genome(settings.validation[0], spool / "val")
    return validation_topk(net, [genome], KmerVocabulary(settings.k), PlanOptions(**settings.plan), torch.device("cpu"))


def trained(settings: TrainingSettings, steps: int, threads: int, out: Path) -> dict[str, float]:
    """top-k at the end of a run."""
    options = replace(settings.train.of_length(steps), learning_rate=CONTINUED_LEARNING_RATE, validate_steps=steps)
    run_training(replace(settings, train=options), out, device="cpu", threads=threads)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return next(line for line in reversed(lines) if "val_dpulex_donor" in line)


if __name__ == "__main__":
    main()
