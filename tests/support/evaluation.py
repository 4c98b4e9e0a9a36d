"""Reports written twice, a classifier of windows as a model directory, and tables for it."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from annotator.evaluation.genome_report import GenomeReport
from annotator.evaluation.report_plot import write_plot
from annotator.evaluation.report_text import write_json
from annotator.evaluation.task_report import TaskReport
from annotator.models.families.registry import family
from annotator.models.manifest import Calibration, CladeSettings, Manifest, WindowTask
from annotator.models.task_heads import HeadOptions, TaskModel


def check_files(report: GenomeReport | TaskReport, again: GenomeReport | TaskReport, folder: Path) -> None:
    """Two reports of the same thing give the same bytes, and the pictures are pictures."""
    for name, made in (("a", report), ("b", again)):
        write_json(made, folder / f"{name}.json")
        for suffix in ("png", "svg"):
            write_plot(made, folder / f"{name}.{suffix}")
    for suffix in ("json", "png", "svg"):
        assert (folder / f"a.{suffix}").read_bytes() == (folder / f"b.{suffix}").read_bytes()
    assert (folder / "a.png").read_bytes().startswith(b"\x89PNG") and b"<svg" in (folder / "a.svg").read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == [f"{n}.{s}" for n in "ab" for s in ("json", "png", "svg")]


def write_window_model(folder: Path, *, name: str = "tiny", real: bool = False) -> Path:
    """A classifier of windows of 60 bp: a DNABERT of random weights, or, where the test classifies itself, its manifest."""
    architecture, tensors = {}, {"none": torch.zeros(1)}
    if real:
        chosen = family("dnabert")
        architecture = chosen.sizes["tiny"]
        torch.manual_seed(1)
        backbone = chosen.build(architecture).backbone
        model = TaskModel.build(backbone, HeadOptions(2), window=True, causal=chosen.causal, dense=chosen.dense_window_head)
        tensors = {key: value.contiguous() for key, value in model.state_dict().items()}
    folder.mkdir(parents=True)
    weights = folder / "model.safetensors"
    save_file(tensors, weights)
    kinds = {"promoter": 0.5}
    manifest = Manifest(
        name=name, version="1", family="dnabert", architecture=architecture, tokenizer={},
        plan={"window_bp": 512, "halo_bp": 128, "pad_bp": 128, "smallest_bp": 256, "align_bp": 8}, tracks=("tss",),
        radius_bp={"promoter": 50}, clades={"vertebrate": CladeSettings(0, kinds, {"promoter": Calibration()}, (), "a test")},
        licence="Apache-2.0", weights=weights.name, weights_sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
        window=WindowTask(60, 8, ("other", "tss"), {"tss": 30}), head=asdict(HeadOptions(2)),
    )  # fmt: skip
    (folder / "manifest.json").write_text(manifest.to_json())
    return folder


def write_table(path: Path, seed: int = 1, rows: int = 40) -> Path:
    """Sequences of three lengths; class 1 is richer in G."""
    rng = np.random.default_rng(seed)
    lines = ["sequence,label"]
    for label in rng.integers(2, size=rows).tolist():
        length = int(rng.choice([30, 60, 61]))
        lines.append("".join(rng.choice(list("ACGT"), length, p=[0.2, 0.2, 0.2 + 0.2 * label, 0.4 - 0.2 * label])) + f",{label}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def guanines(rows: Tensor) -> Tensor:
    """Logits that call class 1 where more than 30 % are G."""
    share = (rows == ord("G")).float().mean(1)
    return torch.stack([torch.full_like(share, 0.3), share], 1)
