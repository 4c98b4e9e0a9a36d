"""Running the command in tests, and reading what it wrote."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import polars as pl

from annotator.cli.app import main
from annotator.pipeline.worker.task import TaskFactory
from annotator.results.pages import REPORT_HTML, REPORT_MQC

COMPLEMENT = str.maketrans("ACGT", "TGCA")


def python_path() -> dict[str, str]:
    """The environment in which another interpreter sees this checkout."""
    root = Path(__file__).parents[2]
    return os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'kernels'}"}


def revcomp(sequence: str) -> str:
    """Reverse complement."""
    return sequence.translate(COMPLEMENT)[::-1]


def random_bases(length: int, seed: int) -> str:
    """Random sequence without the detector's words."""
    rng = np.random.default_rng(seed)
    text = "".join(rng.choice(list("ACGT"), length))
    for word in ("AAGGTA", "AGCATC", "TATTCA"):
        for banned in (word, revcomp(word)):
            while banned in text:
                text = text.replace(banned, "CCCCCC")
    return text


def plant(sequence: str, word: str, at: int) -> str:
    """Write a word into a sequence."""
    return sequence[:at] + word + sequence[at + len(word) :]


def write_fasta(path: Path, records: dict[str, str], width: int = 60) -> Path:
    """Write records as plain FASTA."""
    with path.open("w") as file:
        for name, sequence in records.items():
            file.write(f">{name}\n")
            for i in range(0, len(sequence), width):
                file.write(sequence[i : i + width] + "\n")
    return path


def annotate(*arguments: object, task: TaskFactory | None = None) -> int:
    """Run `annotator annotate ARGUMENTS --quiet --threads 1`, with another task than the real one where it is given."""
    return main(["annotate", *map(str, arguments), "--quiet", "--threads", "1"], task=task)


def table(folder: Path) -> pl.DataFrame:
    """The calls of a run."""
    return pl.read_parquet(folder / "predictions.parquet")


def sites(folder: Path) -> set[tuple[str, str, str, int]]:
    """(chrom, kind, strand, position) of the model's calls."""
    frame = table(folder).filter(pl.col("kind") != "tfbs")
    return set(frame.select("chrom", "kind", "strand", "position").iter_rows())


def bed_lines(path: Path) -> list[list[str]]:
    """Data lines of a BED file, split at tabs."""
    with gzip.open(path, "rt") as file:
        return [line.rstrip("\n").split("\t") for line in file if not line.startswith("#")]


def results(folder: Path) -> dict[str, bytes]:
    """Bytes of all result files but run.json and the pages, which tell of it."""
    others = ("run.json", REPORT_HTML, REPORT_MQC)
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file() and p.name not in others}
