"""Small model directories of every published family, with random weights, for runs from FASTA to files."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
import torch

from annotator.kinds import CLADES
from annotator.models.families.registry import family
from annotator.models.manifest import Calibration, CladeSettings, Manifest, WindowTask
from annotator.models.task_heads import HeadOptions, TaskModel
from annotator.models.track_set import Feature
from annotator.models.weights import plain_tensors, write_safetensors
from annotator.tokens.bpe import train_bpe

CASES = {
    "dnabert": ("dnabert", "tiny"),
    "dnabert2": ("dnabert2", "tiny"),
    "nucleotide-transformer-v1": ("nucleotide-transformer", "v1-tiny"),
    "nucleotide-transformer-v2": ("nucleotide-transformer", "tiny"),
    "biogpt": ("biogpt", "tiny"),
}
"""Families and sizes, by the name of the test."""

BASES_PLAN = {"window_bp": 384, "halo_bp": 96, "pad_bp": 12, "smallest_bp": 96, "align_bp": 12}
WINDOWS_PLAN = {"window_bp": 768, "halo_bp": 96, "pad_bp": 96, "smallest_bp": 192, "align_bp": 12}


@cache
def tokenizer_text() -> str:
    """A byte-pair tokenizer of the tiny size, learnt from random bases."""
    rng = np.random.default_rng(5)
    return train_bpe(("".join(rng.choice(list("ACGT"), 2000)) for _ in range(50)), 256)


def write_family_model(folder: Path, case: str, *, window: bool, threshold: float = 0.5) -> Path:
    """Write a model directory of a family: random weights from seed 1, a head that labels bases or classifies windows."""
    name, size = CASES[case]
    chosen = family(name)
    architecture = chosen.sizes[size]
    folder.mkdir(parents=True)
    tokenizer = {}
    if name == "dnabert2":
        text = tokenizer_text()
        (folder / "tokenizer.json").write_text(text)
        tokenizer = {"file": "tokenizer.json", "sha256": hashlib.sha256(text.encode()).hexdigest()}
    tracks = ("tss", "CTCF") if window else ("donor", "acceptor", "tss", "CTCF")
    features = {"CTCF": Feature("tfbs", 48 if window else 20)}
    task = WindowTask(48, 12, ("other", "tss", "CTCF"), {"tss": 24}) if window else None
    head = HeadOptions(outputs=len(task.classes) if task else len(tracks), width=16, kernel_bp=5)
    torch.manual_seed(1)
    model = TaskModel.build(
        chosen.build(architecture).backbone, head, window=window, causal=chosen.causal, dense=chosen.dense_window_head
    )
    with torch.no_grad():
        for parameter in model.head.parameters():  # so that scores differ from base to base, and every class has its turn
            parameter.normal_(std=0.1 if window else 0.4)
        model.head.out.bias.zero_()
    write_safetensors(folder / "model.safetensors", plain_tensors(model))
    kinds = ("promoter", "tfbs") if window else ("donor", "acceptor", "promoter", "tfbs")
    settings = CladeSettings(0, dict.fromkeys(kinds, threshold), dict.fromkeys(kinds, Calibration()), kinds, "a test")
    manifest = Manifest(
        name=f"{case}-tiny", version="0", family=name, architecture=architecture, tokenizer=tokenizer,
        plan=WINDOWS_PLAN if window else BASES_PLAN, tracks=tracks, radius_bp=dict.fromkeys(kinds, 8),
        clades=dict.fromkeys(CLADES, settings), licence="Apache-2.0", weights="model.safetensors",
        weights_sha256=hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(), window=task, features=features,
        head=asdict(head),
    )  # fmt: skip
    (folder / "manifest.json").write_text(manifest.to_json())
    return folder
