"""Score every base of one sequence on both strands, without files of results.

    python examples/predict_sequence.py SEQUENCE.fa.gz

Only the first record is scored. `annotator example` writes a small assembly to try it with.
"""

from __future__ import annotations

import gzip
import sys

import numpy as np

import annotator


def first_record(path: str) -> str:
    """The bases of the first record of a FASTA file."""
    with (gzip.open if path.endswith(".gz") else open)(path, "rt") as file:
        records = file.read().split(">")
    return "".join(records[1].splitlines()[1:])


def main(path: str) -> None:
    """Print the most probable donor and acceptor of each strand."""
    sequence = first_record(path)
    tracks = annotator.load_model("compact", clade="vertebrate").predict(sequence)
    print(f"{len(sequence)} bases; tracks: {', '.join(tracks.names)}")
    for track in ("donor", "acceptor"):
        for strand in "+-":
            probability = tracks.probability(track, strand)  # one for each base, in the order of the plus strand
            best = int(np.nanargmax(probability))  # NaN where the sequence is unknown
            print(f"{track}\t{strand}\tbase {best} (from 0)\tprobability {probability[best]:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:2] or ["example.fa.gz"])
