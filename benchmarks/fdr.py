"""Estimated false discovery rates of splice calls beside the share of calls that annotation lacks, at rates that users ask for.

    python benchmarks/fdr.py --data DATA --json fdr.json
    python benchmarks/fdr.py --data DATA --genomes celegans,fungi --validation celegans,fungi --sample-mb 2 --rates 0.05,0.1

The fit of decoys to error rates (`decoy_fit` of a manifest) is made on validation genomes, all together, or with --by-clade on
that of the same clade alone; --manifest takes those of the model. With it the thresholds of the test genomes are chosen as
`annotator annotate --fdr` chooses them, and only then are the calls compared with the truth. `annotated` is the share of the
calls that the truth lacks, `corrected` the same without what the annotation of the test genome lacks, as the calls that the model
is most certain of show it. A ratio of 1 is a perfect estimate.
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
TESTED, FITTED = "celegans,athaliana,bnapus", "celegans,bnapus"
"""Names that are measured, and names whose validation genomes are fitted on, by default."""
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
                    "corrected": round(float(ladder.error_rate[at]), 4),
                    "corrected_ratio": round(float(ladder.error_rate[at]) / estimate, 2),
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
    parser.add_argument("--genomes", default=TESTED, help=f"comma-separated from {', '.join(GENOMES)}")
    parser.add_argument("--rates", default="0.05,0.1,0.2")
    parser.add_argument("--sample-mb", type=float, default=3.0, help="sampled of each genome; 0 for as much as a run samples")
    parser.add_argument("--validation", default=FITTED, help="names whose validation genomes the fit is made on")
    parser.add_argument("--by-clade", action="store_true", help="fit each clade on its own validation genome")
    parser.add_argument("--manifest", action="store_true", help="take the fits of the model's manifest, and make none")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ladders", type=Path, help="all ladders, validation genomes too, are added to this file likewise")
    parser.add_argument("--json", type=Path, help="rows are added to this file, one JSON object a line")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rates, sample_bp = [float(rate) for rate in args.rates.split(",")], round(args.sample_mb * 1e6)
    _, manifest = read_model(args.model)
    clade_of = {name: each.clade if each.clade in manifest.clades else manifest.clade_for("") for name, each in GENOMES.items()}

    def ladders_of(name: str, files: str) -> dict[Kind, AnnotatedLadder]:
        began = time.perf_counter()
        ladders = scan(args.model, args.data, files, clade_of[name], sample_bp)
        write_rows(args.ladders, ladder_rows(files, ladders))
        print(f"{files}: {time.perf_counter() - began:.0f} s", flush=True)
        return ladders

    names = args.genomes.split(",")
    validation = {
        name: ladders_of(name, GENOMES[name].validation) for name in ([] if args.manifest else args.validation.split(","))
    }  # fmt: skip
    fits: dict[str, dict[Kind, DecoyFit]] = {}
    for name in names:
        clade = clade_of[name]
        own = [ladders for other, ladders in validation.items() if not args.by_clade or clade_of[other] == clade]
        fits[clade] = manifest.clades[clade].decoy_fit if args.manifest else fit_decoys(own)
        print(
            f"decoy_fit of clade {clade}: {json.dumps({kind.value: asdict(fit) for kind, fit in fits[clade].items()})}",
            flush=True,
        )
    table: list[Row] = []
    for name in names:
        clade = clade_of[name]
        for row in rows(GENOMES[name].test, ladders_of(name, GENOMES[name].test), fits[clade], rates):
            print("  ".join(f"{key}={value}" for key, value in row.items()), flush=True)
            table.append({"model": manifest.name, "version": manifest.version, "clade": clade} | row)
    write_rows(args.json, table)


if __name__ == "__main__":
    main()
