"""Annotate the synthetic example, ask the results some questions, and compare them with the truth.

    python examples/annotate_and_query.py FOLDER

FOLDER is made where it is absent; the example (200 kb) and its results go there.
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

import annotator
from annotator.example.genome import write_example


def main(folder: str) -> None:
    """Annotate the example in `folder` and print what was found."""
    example = write_example(Path(folder), length_bp=200_000)
    results = annotator.annotate(str(example.fasta), f"{folder}/results", clade="vertebrate", tasks=("promoter", "splice"))

    print("calls of each kind:")
    for kind, count in results.calls().group_by("kind").len().sort("kind").collect().iter_rows():
        print(f"  {kind}\t{count}")

    contig = next(iter(results.contigs))
    region = f"{contig}:1-20000"  # 1-based and closed, as genome browsers write it
    donors = results.calls(kind="donor", region=region).sort("probability", descending=True).collect()
    print(f"donors in {region}: {donors.height}")
    for call in donors.head(3).iter_rows(named=True):
        print(f"  exon ends at base {call['position']} of strand {call['strand']}, probability {call['probability']:.3f}")

    columns = ["chrom", "position", "end", "kind", "score", "strand"]
    truth = pl.read_csv(example.truth, separator="\t", has_header=False, new_columns=columns).filter(pl.col("kind") == "donor")
    found = results.calls(kind="donor").collect().join(truth, on=["chrom", "position", "strand"], how="semi")
    print(f"planted donors that were called: {found.height} of {truth.height}")


if __name__ == "__main__":  # local processes start this file again
    main(*sys.argv[1:2] or ["example"])
