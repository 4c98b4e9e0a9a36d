"""Picture of a locus: called sites of a finished run against the annotation. Needs `pip install ".[plot]"`.

python benchmarks/plot_locus.py results/ --fasta human.test.fa.gz --truth human.test.truth.bed.gz --gtf human.test.gtf.gz \
    --contig NAME -o docs/locus.png
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import polars as pl

from annotator.kinds import STRANDS, Kind, Strand
from annotator.labels.sites import read_sites
from annotator.labels.transcripts import read_transcripts

COLOURS = {kind: kind.hex_colour for kind in (Kind.DONOR, Kind.ACCEPTOR, Kind.PROMOTER)}


def contig_lengths(fasta: Path) -> dict[str, int]:
    """Length of each contig of a FASTA."""
    lengths: dict[str, int] = {}
    name = ""
    with gzip.open(fasta, "rt") if fasta.name.endswith(".gz") else fasta.open() as file:
        for line in file:
            if line.startswith(">"):
                name = line[1:].split()[0]
                lengths[name] = 0
            else:
                lengths[name] += len(line.strip())
    return lengths


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--fasta", type=Path, required=True)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--gtf", type=Path, required=True)
    parser.add_argument("--contig", required=True)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--end", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    lengths = contig_lengths(args.fasta)
    contig = list(lengths).index(args.contig)
    end = args.end or lengths[args.contig]
    transcripts = [t for t in read_transcripts(args.gtf, lengths) if t.contig == contig and t.strand]
    truth = read_sites(args.truth, lengths)
    calls = pl.read_parquet(args.results / "predictions.parquet").filter(
        (pl.col("chrom") == args.contig) & (pl.col("kind") != "tfbs") & pl.col("position").is_between(args.start, end)
    )
    figure, (top, plus, minus) = plt.subplots(3, 1, figsize=(11, 5), sharex=True, height_ratios=[1.2, 1, 1], layout="constrained")
    shown = sorted(transcripts, key=lambda t: (t.strand, int(t.exons[0, 0])))[:12]
    for row, transcript in enumerate(shown):
        colour = "#444444" if transcript.strand is Strand.PLUS else "#999999"
        top.plot([transcript.exons[0, 0], transcript.exons[-1, 1]], [row, row], color=colour, lw=0.8)
        for a, b in transcript.exons:
            top.add_patch(plt.Rectangle((a, row - 0.35), max(int(b - a), (end - args.start) // 1000), 0.7, color=colour))
    top.set_ylim(len(shown), -1)
    top.set_yticks([])
    top.set_ylabel("annotation\n(dark +, light -)")
    for axis, strand in zip((plus, minus), STRANDS, strict=True):
        for kind, colour in COLOURS.items():
            mine = calls.filter((pl.col("kind") == kind) & (pl.col("strand") == strand.symbol))
            axis.vlines(mine["position"], 0, mine["probability"], color=colour, lw=1.4, label=f"{kind} called")
            known = truth.positions(kind.row.track, strand).get(contig, [])
            axis.scatter(known, [-0.09] * len(known), marker="^", s=14, color=colour, clip_on=False)
        axis.set_ylim(-0.16, 1.02)
        axis.set_ylabel(f"strand {strand.symbol}\nprobability")
    plus.legend(loc="upper right", fontsize=8, ncols=3, title="lines: called, triangles: annotated", title_fontsize=8)
    minus.set_xlabel(f"{args.contig} (0-based)")
    minus.set_xlim(args.start, end)
    figure.savefig(args.out, dpi=120)


if __name__ == "__main__":
    main()
