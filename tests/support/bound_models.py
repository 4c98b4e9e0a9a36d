"""Small models of bound sites with random weights, for tests."""

from __future__ import annotations

from pathlib import Path

import torch

from annotator.models.bound.manifest import BoundConfig, BoundManifest
from annotator.models.bound.net import BoundEnsemble, BoundNet, write_bound
from annotator.models.manifest import Calibration

SMALL = BoundConfig(window_bp=128, filters=4, filter_bp=7, reach_bp=(4, 40), share_bp=(32, 128), hidden=8, networks=2)


def write_small_bound(folder: Path, factors: tuple[str, ...] = ("CTCF", "ZNF263"), config: BoundConfig = SMALL) -> BoundManifest:
    """Write a model whose logits spread over some units, so that a base more or less shows in the probability."""
    torch.manual_seed(5)
    model = BoundEnsemble(BoundNet(config, len(factors)) for _ in range(config.networks))
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.3)
    manifest = BoundManifest(
        name="small", version="", licence="Apache-2.0", weights="model.safetensors", weights_sha256="", clades=("vertebrate",),
        factors={name: Calibration(0.5, -0.25 * number) for number, name in enumerate(factors)}, hit_pvalue=1e-4,
        architecture=config,
    )  # fmt: skip
    return write_bound(folder, manifest, model.eval())
