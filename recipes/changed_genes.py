"""More to learn from than there is: genes that are changed at random, labelled anew by a teacher.

    python recipes/changed_genes.py --data DATA --teacher CONVERTED --copies 8 -o changed/

A copy holds every exon of the recipe's organisms that have a teacher, in sense direction: some in the order of their genes and
some not, with introns cut short, bases exchanged, inserted and deleted, more of them at the ends of exons. What the changes do to
the sites is the teacher's to say (a model of `annotator models convert`, which knows splice sites): a network that learns from
copies cannot know them by heart, and learns what breaks a site. Each copy is a FASTA and the teacher's predictions; the lines
that a recipe needs are printed. None but training sequence is read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pysam
from numpy.typing import NDArray

import annotator
from annotator.cli.recipe import read_recipe
from annotator.errors import AnnotatorError, UsageError
from annotator.kinds import SPLICE_TRACKS, STRANDS, Strand
from annotator.labels.genomes import load_genome
from annotator.labels.labelled import LabelledGenome

HERE = Path(__file__).resolve().parent
LEAST_PROBABILITY = 0.001
"""What the teacher gives less is 0 to the student."""
TOGETHER_BP = 400
"""Sites closer than this are of one piece: an exon, or several with a short intron."""
FLANK_BP = (150, 1200)
"""Bases that a piece keeps on either side, at most half of the way to the next one."""
GENE_PIECES = 6
"""Pieces that stay together, in half of the cases."""
RATES = (0.0, 0.01, 0.02, 0.04, 0.08, 0.12)
"""Shares of the bases that are exchanged; one is drawn for each piece."""
BASES = np.frombuffer(b"ACGT", np.uint8)
COMPLEMENT = np.frombuffer(bytes.maketrans(b"ACGT", b"TGCA"), np.uint8)
LINE_BP = 80


@dataclass(frozen=True)
class Piece:
    """Exons of one strand that lie close together, and what surrounds them.

    Attributes:
        bases: ASCII bases in sense direction, uint8, [n].
        first: Index of the first site.
        last: Index of the last site.
    """

    bases: NDArray[np.uint8]
    first: int
    last: int


def pieces_of(genome: LabelledGenome) -> Iterator[Piece]:
    """The pieces of a genome, contig by contig, in sense direction."""
    for start, end in zip(genome.contig_starts.tolist(), genome.contig_ends.tolist(), strict=True):
        for strand in STRANDS:
            sites = np.unique(np.concatenate([genome.sites[kind, strand] for kind in SPLICE_TRACKS]))
            sites = sites[(sites >= start) & (sites < end)] - start
            bases = genome.bases[start:end]
            if strand is Strand.MINUS:
                bases, sites = COMPLEMENT[bases[::-1]], (end - start - 1 - sites)[::-1]
            groups = np.split(sites, np.flatnonzero(np.diff(sites) >= TOGETHER_BP) + 1) if len(sites) else []
            for i, group in enumerate(groups):
                before = (int(groups[i - 1][-1]) + int(group[0])) // 2 if i else 0
                after = (int(group[-1]) + int(groups[i + 1][0])) // 2 if i + 1 < len(groups) else len(bases)
                low, high = max(before, int(group[0]) - FLANK_BP[1]), min(after, int(group[-1]) + FLANK_BP[1])
                yield Piece(bases[low:high], int(group[0]) - low, int(group[-1]) - low)


def changed(piece: Piece, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A piece with shorter flanks and changed bases, uint8."""
    left, right = (int(rng.integers(*FLANK_BP)) for _ in range(2))
    low, high = max(0, piece.first - left), min(len(piece.bases), piece.last + 1 + right)
    bases = piece.bases[low:high].copy()
    hit = rng.random(len(bases)) < rng.choice(RATES)
    bases[hit] = BASES[rng.integers(4, size=int(hit.sum()))]
    if rng.random() < 0.35:  # around a site, where changes tell most
        site = piece.first if rng.random() < 0.5 else piece.last
        near = site - low + rng.integers(-25, 26, size=int(rng.integers(1, 4)))
        near = near[(near >= 0) & (near < len(bases))]
        bases[near] = BASES[rng.integers(4, size=len(near))]
    for _ in range(int(rng.integers(1, 4)) if rng.random() < 0.3 else 0):
        at, length = int(rng.integers(len(bases))), int(rng.integers(1, 21))
        if rng.random() < 0.5:
            bases = np.delete(bases, slice(at, at + length))
        else:
            bases = np.insert(bases, at, BASES[rng.integers(4, size=length)])
    return bases


def copy_of(pieces: Sequence[Piece], seed: int) -> NDArray[np.uint8]:
    """All pieces once or so, end to end: genes in random order, half of them made of pieces of any gene."""
    rng = np.random.default_rng([77, seed])
    genes = np.array_split(np.arange(len(pieces)), max(1, len(pieces) // GENE_PIECES))
    made = []
    for number in rng.permutation(len(genes)):
        gene = genes[number]
        chosen = gene if rng.random() < 0.5 else rng.integers(len(pieces), size=len(gene))
        made += [changed(pieces[i], rng) for i in chosen]
    return np.concatenate(made)


def write_copy(bases: NDArray[np.uint8], name: str, path: Path) -> None:
    """One contig as BGZF FASTA."""
    text = bases.tobytes()
    with pysam.BGZFile(str(path), "w", None) as file:
        file.write(b">" + name.encode() + b"\n")
        for at in range(0, len(text), LINE_BP):
            file.write(text[at : at + LINE_BP] + b"\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run, and turn errors into one line and an exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--recipe", type=Path, default=HERE / "compact.toml")
    parser.add_argument("--teacher", required=True, help="A converted model that calls donors and acceptors.")
    parser.add_argument("--clade", default="vertebrate", help="Clade of the organisms.")
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args(argv)
    try:
        _make(args)
    except AnnotatorError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _make(args: argparse.Namespace) -> None:
    settings = read_recipe(args.recipe, args.data, "changed").of_clade(args.clade)
    taught = [organism for organism in settings.organisms if organism.teacher and organism.truth]
    if not taught:
        raise UsageError(f"{args.recipe}: no organism of this clade has both a truth and a teacher", "--clade", args.clade)
    args.out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="changed-") as scratch:
        genomes = [load_genome(organism, Path(scratch) / organism.name) for organism in taught]
        pieces = [piece for genome in genomes for piece in pieces_of(genome)]
        for number in range(args.seed, args.seed + args.copies):
            name = f"changed{number}"
            fasta, labels = args.out / f"{name}.fa.gz", args.out / f"{name}.teacher.parquet"
            write_copy(copy_of(pieces, number), name, fasta)
            run = Path(scratch) / name
            annotator.annotate(
                fasta, run, model=args.teacher, tasks=["splice"], thresholds=LEAST_PROBABILITY, threads=args.threads
            )
            (run / "predictions.parquet").replace(labels)
            print(
                f'[[organism]]\nname = "{name}"\nclade = "{args.clade}"\nfasta = "{fasta.resolve()}"\n'
                f'teacher = ["{labels.resolve()}"]\nweight = {0.3 / args.copies:.3f}\n',
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(main())
