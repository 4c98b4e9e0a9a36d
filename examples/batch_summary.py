"""Compare the assemblies of a batch: how many calls of each kind in a million bases.

annotator annotate first.fa.gz second.fa.gz -o results/
python examples/batch_summary.py results/
"""

from __future__ import annotations

import sys

import polars as pl

import annotator


def main(folder: str) -> None:
    """Print a line for each assembly and kind, and the most probable call of all."""
    batch = annotator.open_results(folder)
    print("sample\tkind\tcalls\tcalls per Mb")
    for name, results in batch.samples.items():
        bases = sum(results.contigs.values())
        for kind, count in results.calls().group_by("kind").len().sort("kind").collect().iter_rows():
            print(f"{name}\t{kind}\t{count}\t{1e6 * count / bases:.1f}")
    best = batch.calls().sort("probability", descending=True, nulls_last=True).select(pl.all().head(1)).collect()
    for call in best.iter_rows(named=True):
        print(f"most probable of all: a {call['kind']} of {call['sample']}, {call['chrom']}:{call['start'] + 1}-{call['end']}")


if __name__ == "__main__":
    main(*sys.argv[1:2] or ["results"])
