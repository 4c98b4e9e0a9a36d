"""Estimated false discovery rates of splice calls beside the share of calls that annotation lacks, at rates that users ask for.

    python benchmarks/fdr.py --data DATA --json fdr.json
    python benchmarks/fdr.py --data DATA --genomes celegans --sample-mb 2 --rates 0.05,0.1

A clade's decoy fit (factor and power) is made on its validation genome; with it the thresholds of the test genomes are chosen, as
`annotator annotate --fdr` chooses them, and only then are the calls compared with the truth. --manifest takes the fits of the
model's manifest instead. A ratio of 1 is a perfect estimate; annotation lacks true sites, so more than 1 is expected.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from annotator.calls.error_rate import LADDER, PLAIN
from annotator.evaluation.decoy_fit import AnnotatedLadder, annotated_ladders, fit_decoys
from annotator.kinds import Kind
from annotator.labels.genomes import load_genome
from annotator.labels.options import Organism
from annotator.models.directory import read_model
from annotator.models.manifest import DecoyFit


@dataclass(frozen=True)
class Measured:
    """A test genome, and the validation genome of its clade.

    Attributes:
        clade: Clade of both.
        validation: Files of the validation genome up to `.fa.gz`, relative to the data pack.
        test: Files of the test genome.
    """

    clade: str
    validation: str
    test: str


GENOMES = {
    "celegans": Measured("invertebrate", "celegans/celegans.val", "celegans/celegans.test"),
    "athaliana": Measured("plant", "bnapus/bnapus.val", "athaliana/athaliana.cross"),
    "bnapus": Measured("plant", "bnapus/bnapus.val", "bnapus/bnapus.test"),
    "human_regions": Measured("vertebrate", "human/human_regions.val", "human/human_regions.test"),
    "fungi": Measured("fungi", "fungi/panserina.val", "fungi/kimperatae.val"),
}
DEFAULT = "celegans,athaliana,bnapus"
Row = dict[str, object]


def scan(model: str, data: Path, files: str, clade: str, sample_bp: int) -> dict[Kind, AnnotatedLadder]:
    """A genome of the pack, called as it is and shuffled."""
    folder, manifest = read_model(model)
    base = data / files
    mask = base.with_name(f"{base.name}.ambiguous.bed.gz")
    organism = Organism(
        base.name, clade, base.with_name(f"{base.name}.fa.gz"), base.with_name(f"{base.name}.truth.bed.gz"),
        mask if mask.exists() else None, accept_annotation=True,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as spool:
        genome = load_genome(organism, Path(spool))
    return annotated_ladders(folder, manifest, clade, genome, sample_bp=sample_bp)


def rows(name: str, ladders: dict[Kind, AnnotatedLadder], fits: dict[Kind, DecoyFit], rates: list[float]) -> list[Row]:
    """One row for each kind and rate."""
    table: list[Row] = []
    for kind, ladder in ladders.items():
        fit = fits.get(kind, PLAIN)
        for rate in rates:
            threshold = ladder.counts.threshold(rate, fit)
            row: Row = {"genome": name, "kind": kind.value, "asked": rate, "fit": asdict(fit), "threshold": threshold}
            if threshold is not None:
                at = LADDER.index(threshold)
                estimate, annotated = float(ladder.counts.estimates(fit)[at]), float(ladder.annotated[at])
                row |= {
                    "calls": int(ladder.counts.calls[at]), "decoy_calls": int(ladder.counts.decoy_calls[at]),
                    "without_fit": round(float(ladder.counts.estimates()[at]), 4), "estimate": round(estimate, 4),
                    "annotated": round(annotated, 4), "ratio": round(annotated / estimate, 2),
                }  # fmt: skip
            table.append(row)
    return table


def ladder_rows(name: str, ladders: dict[Kind, AnnotatedLadder]) -> list[Row]:
    """One row for each kind: the counts of every threshold."""
    return [
        {
            "genome": name, "kind": kind.value, "threshold": list(LADDER), "calls": ladder.counts.calls.tolist(),
            "decoy_calls": ladder.counts.decoy_calls.tolist(), "true_calls": ladder.true_calls.tolist(),
            "false_calls": ladder.false_calls.tolist(),
        }
        for kind, ladder in ladders.items()
    ]  # fmt: skip


def write_rows(path: Path | None, table: list[Row]) -> None:
    """Add rows to a file."""
    if path:
        with path.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in table)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="compact")
    parser.add_argument("--genomes", default=DEFAULT, help=f"comma-separated from {', '.join(GENOMES)}")
    parser.add_argument("--rates", default="0.05,0.1,0.2")
    parser.add_argument("--sample-mb", type=float, default=3.0, help="sampled of each genome; 0 for as much as a run samples")
    parser.add_argument("--manifest", action="store_true", help="take the fits of the model's manifest, and make none")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ladders", type=Path, help="all ladders, validation genomes too, are added to this file likewise")
    parser.add_argument("--json", type=Path, help="rows are added to this file, one JSON object a line")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rates, sample_bp = [float(rate) for rate in args.rates.split(",")], round(args.sample_mb * 1e6)
    _, manifest = read_model(args.model)
    fitted: dict[str, dict[Kind, DecoyFit]] = {}
    table: list[Row] = []
    for name in args.genomes.split(","):
        measured, began = GENOMES[name], time.perf_counter()
        clade = measured.clade if measured.clade in manifest.clades else manifest.clade_for("")
        if args.manifest:
            fitted[clade] = manifest.clades[clade].decoy_fit
        elif clade not in fitted:
            ladders = scan(args.model, args.data, measured.validation, clade, sample_bp)
            write_rows(args.ladders, ladder_rows(measured.validation, ladders))
            fitted[clade] = fit_decoys(ladders)
            said = {kind.value: asdict(fit) for kind, fit in fitted[clade].items()}
            print(f"decoy_fit of clade {clade}, made on {measured.validation}: {json.dumps(said)}", flush=True)
        ladders = scan(args.model, args.data, measured.test, clade, sample_bp)
        write_rows(args.ladders, ladder_rows(measured.test, ladders))
        for row in rows(measured.test, ladders, fitted[clade], rates):
            print("  ".join(f"{key}={value}" for key, value in row.items()), flush=True)
            table.append({"model": manifest.name, "version": manifest.version, "clade": clade} | row)
        print(f"  {name}: {time.perf_counter() - began:.0f} s", flush=True)
    write_rows(args.json, table)


if __name__ == "__main__":
    main()
