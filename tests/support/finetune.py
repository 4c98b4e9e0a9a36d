"""Small things to learn: tables with a planted word, genomes with a planted grammar, and settings that learn them in seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from annotator.kinds import Kind
from annotator.labels.options import Organism
from annotator.models.checkpoints import write_checkpoint
from annotator.models.families.registry import family
from annotator.training.finetune.options import (
    FeatureTrack,
    FinetuneOptions,
    FinetuneSettings,
    GenomeData,
    GenomeFiles,
    TableData,
)
from tests.support.family_models import tokenizer_text
from tests.support.runs import plant, random_bases, revcomp, write_fasta

WORD = "GATTACACGT"
SHAPE: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "dnabert": SHAPE | {"k": 3, "max_position_embeddings": 256, "hidden_dropout_prob": 0.1},
    "dnabert2": SHAPE | {"vocab_size": 256, "hidden_dropout_prob": 0.1},
    "nucleotide-transformer": SHAPE,
    "biogpt": SHAPE | {"hidden_dropout_prob": 0.1},
}
"""A network of every family small enough to learn in a test, with dropout where the family has it."""


def write_table(path: Path, rows: int, seed: int, length: int = 60, shares: tuple[float, ...] = (0.5, 0.5)) -> Path:
    """Random windows; class 1 holds a word, class 2 its complement; every fifth row is 7 bp shorter."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["sequence,label"]
    for row in range(rows):
        label = int(rng.choice(len(shares), p=shares))
        sequence = "".join(rng.choice(list("ACGT"), length - 7 * (row % 5 == 4)))
        if label:
            word = WORD if label == 1 else WORD.translate(str.maketrans("ACGT", "TGCA"))
            sequence = plant(sequence, word, int(rng.integers(len(sequence) - len(word))))
        lines.append(f"{sequence},{label}")
    path.write_text("\n".join(lines) + "\n")
    return path


def tables(folder: Path, **data: Any) -> TableData:
    """Tables of 240 and 80 rows whose class 1 is a binding site, written where they are not there."""
    train, dev = folder / "train.csv", folder / "dev.csv"
    if not train.exists():
        write_table(train, 240, 1)
        write_table(dev, 80, 2)
    return TableData(train, dev, **({"classes": ("other", "MYB"), "features": (FeatureTrack("MYB", Kind.TFBS),)} | data))


def genome(folder: Path, name: str, seed: int, length: int = 12_000) -> GenomeFiles:
    """Introns that begin with GTAAGTCC and end with CCTTTCAG on both strands, and a palindrome that a factor binds."""
    text, sites, peaks = random_bases(length, seed), [], []
    folder.mkdir(parents=True, exist_ok=True)
    for i, at in enumerate(range(200, length - 300, 250)):
        intron = "GTAAGTCC" + "A" * 44 + "CCTTTCAG"
        strand = "+-"[i % 2]
        text = plant(text, intron if strand == "+" else revcomp(intron), at)
        donor, acceptor = (at - 1, at + 60) if strand == "+" else (at + 60, at - 1)
        sites += [f"chr1\t{p}\t{p + 1}\t{kind}\t0\t{strand}" for p, kind in ((donor, "donor"), (acceptor, "acceptor"))]
        text = plant(text, "TGACGTCATGACGTCA", at + 120)
        peaks.append(f"chr1\t{at + 108}\t{at + 148}")
    fasta = write_fasta(folder / f"{name}.fa", {"chr1": text})
    for path, lines in ((folder / f"{name}.sites.bed", sites), (folder / f"{name}.peaks.bed", peaks)):
        path.write_text("".join(line + "\n" for line in lines))
    organism = Organism(name, "vertebrate", fasta, folder / f"{name}.sites.bed")
    return GenomeFiles(organism, (("CRE", folder / f"{name}.peaks.bed"),))


def genomes(folder: Path, **data: Any) -> GenomeData:
    """A genome to learn from and one to validate on."""
    fields: dict[str, Any] = {"features": (FeatureTrack("CRE", Kind.TFBS),), "window_bp": 240, "margin_bp": 80, "sigma_bp": 3.0}
    return GenomeData((genome(folder, "one", 1),), (genome(folder, "two", 2, 6_000),), **(fields | data))


def scratch(name: str, data: TableData | GenomeData, folder: Path, **options: Any) -> FinetuneSettings:
    """Settings for a family's small network; one whose tokenizer is a file starts from a checkpoint written to `folder`."""
    given = FinetuneOptions(**({"steps": 24, "batch_windows": 16, "learning_rate": 2e-3, "validate_steps": 8} | options))
    settings = FinetuneSettings("toy", f"{name}:tiny", data, architecture=ARCHITECTURES[name], options=given)
    return replace(settings, base=str(checkpoint(name, folder)), architecture={}) if name == "dnabert2" else settings


def checkpoint(name: str, folder: Path, **changes: Any) -> Path:
    """A checkpoint with random weights from seed 3."""
    chosen = family(name)
    architecture = chosen.sizes["tiny"] | ARCHITECTURES[name] | changes
    torch.manual_seed(3)
    files = {"tokenizer.json": tokenizer_text()} if name == "dnabert2" else {}
    return write_checkpoint(folder / name, chosen, architecture, chosen.build(architecture), files=files)
