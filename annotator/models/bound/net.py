"""The network behind the probability that a motif hit is bound: the hit's surroundings in, one logit for its factor out.

Coordinates: rows are windows around the middle of a hit, in the hit's reading direction.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from annotator.errors import InputError
from annotator.files import atomic_folder, file_sha256, write_faults
from annotator.models.bound.manifest import BOUND_JSON, BoundConfig, BoundManifest, read_bound
from annotator.models.weights import (
    WEIGHTS_NAME,
    build_with_weights,
    errors_naming,
    plain_tensors,
    read_safetensors,
    write_safetensors,
)

ROWS_PER_PASS = 64
_ONE_HOT = torch.zeros(256, 4)
_ONE_HOT[list(b"ACGT")] = torch.eye(4)


class BoundNet(nn.Module):
    """Filters over both strands, whose best match is taken at several distances from the hit, beside counts of bases.

    What is known of a hit is put together and normalised: the best match of every filter on either strand within each distance,
    and their soft maximum over the window; the shares of C, G and CpG at several widths, and CpG over what C and G let expect;
    the hit's own p-value; and its factor. A linear layer and a small hidden layer read it side by side.
    """

    def __init__(self, config: BoundConfig, factors: int) -> None:
        """Build with random weights."""
        super().__init__()
        self.config, self.factors = config, factors
        self.filters = nn.Parameter(0.05 * torch.randn(config.filters, 4, config.filter_bp))
        known = 2 * config.filters * (len(config.reach_bp) + 1) + 4 * len(config.share_bp) + 1 + factors
        self.norm = nn.BatchNorm1d(known, affine=False)
        self.hidden = nn.Linear(known, config.hidden)
        self.out = nn.Linear(config.hidden, factors)
        self.direct = nn.Linear(known, factors)

    def forward(self, rows: Tensor, surprise: Tensor, factor: Tensor, dropout: float = 0.0) -> Tensor:
        """Score hits.

        Args:
            rows: ASCII bases in reading direction, uint8, [R, L], L = window_bp; anything but A, C, G and T is unknown.
            surprise: -log10 of each hit's p-value, float32, [R].
            factor: Number of each hit's factor, int64, [R].
            dropout: Share of what is known, and of the hidden layer, left out; training only.

        Returns:
            Logits, each of the hit's own factor, float32, [R].
        """
        named = F.one_hot(factor, self.factors).to(surprise.dtype)
        bases = _ONE_HOT.to(rows.device)[rows.long()].transpose(1, 2)
        known = torch.cat([self._matches(bases), self._shares(bases), surprise[:, None], named], 1)
        known = F.dropout(self.norm(known), dropout, self.training)
        hidden = F.dropout(F.relu(_dense(self.hidden, known)), dropout, self.training)
        logits: Tensor = ((_dense(self.out, hidden) + _dense(self.direct, known)) * named).sum(1)
        return logits

    def _matches(self, bases: Tensor) -> Tensor:
        """Best matches of the filters and their mirror images near the hit, [R, 2 * filters * (distances + 1)]."""
        both = torch.cat([self.filters, self.filters.flip(1, 2)])  # A, C, G, T backwards is the complement
        matches = F.conv1d(bases, both, padding=self.config.filter_bp // 2)
        middle = self.config.window_bp // 2
        near = [matches[:, :, middle - reach : middle + reach + 1].amax(2) for reach in self.config.reach_bp]
        return torch.cat([*near, torch.logsumexp(matches, 2)], 1)

    def _shares(self, bases: Tensor) -> Tensor:
        """Shares of C, G, CpG and CpG over its expectation around the hit, [R, 4 * widths]."""
        middle, found = self.config.window_bp // 2, []
        for width in self.config.share_bp:
            inside = bases[:, :, middle - width // 2 : middle + width // 2]
            c, g = inside[:, 1].mean(1), inside[:, 2].mean(1)
            cpg = (inside[:, 1, :-1] * inside[:, 2, 1:]).mean(1)
            found += [c, g, cpg, cpg / (c * g + 0.01)]
        return torch.stack(found, 1)


class BoundEnsemble(nn.Module):
    """Networks of one shape whose logits are averaged: a few thousand hits leave much to the seed, and the mean evens it out."""

    def __init__(self, nets: Iterable[BoundNet]) -> None:
        """Hold the networks."""
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, rows: Tensor, surprise: Tensor, factor: Tensor) -> Tensor:
        """Mean of the networks' logits; arguments and result as of `BoundNet.forward`."""
        return torch.stack([net(rows, surprise, factor) for net in self.nets]).mean(0)


def _dense(layer: nn.Linear, x: Tensor) -> Tensor:
    """What the layer gives, summed row by row: of a matrix product the bits of a row depend on where it stands."""
    return (x[:, None] * layer.weight).sum(2) + layer.bias


class BoundScorer:
    """Trained networks ready to use.

    Attributes:
        manifest: What it says about itself.
    """

    def __init__(self, model: BoundEnsemble, manifest: BoundManifest, device: torch.device) -> None:
        """Put the networks in eval mode, on a device."""
        self.manifest, self._model, self._device = manifest, model.to(device).eval(), device

    @torch.inference_mode()
    def __call__(self, rows: Tensor, surprise: Tensor, factor: Tensor) -> Tensor:
        """Logits of hits, in passes of one shape, so that the bits of a hit do not depend on the others.

        Args:
            rows: As of `BoundNet.forward`, any number of them, on any device.
            surprise: The same.
            factor: The same.

        Returns:
            Logits, float32, [R], on the CPU.
        """
        logits = [torch.zeros(0)]
        for first in range(0, len(rows), ROWS_PER_PASS):
            some = [column[first : first + ROWS_PER_PASS] for column in (rows, surprise, factor)]
            count = len(some[0])
            filled = [torch.cat([part, part[-1:].expand(ROWS_PER_PASS - count, *part.shape[1:])]) for part in some]
            logits.append(self._model(*(part.to(self._device) for part in filled))[:count].float().cpu())
        return torch.cat(logits)


def load_bound(folder: Path, device: torch.device) -> BoundScorer:
    """Read a model of bound sites.

    Args:
        folder: Its folder.
        device: Where it will run, in float32.

    Raises:
        EnvironmentFault: A file is missing.
        InputError: The manifest is bad, or the tensors are not exactly its own.
    """
    manifest = read_bound(folder)
    path = folder / manifest.weights
    tensors = read_safetensors(path)
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise InputError(f"{path}: tensor {name} holds NaN or infinity")
    config, factors = manifest.architecture, len(manifest.factors)
    model = build_with_weights(lambda: BoundEnsemble(BoundNet(config, factors) for _ in range(config.networks)), tensors, path)
    return BoundScorer(model, manifest, device)


def write_bound(folder: Path, manifest: BoundManifest, model: BoundEnsemble) -> BoundManifest:
    """Write a model of bound sites, which takes the place of an older one only when it is complete and has been read back.

    Args:
        folder: Where to; made with its parents.
        manifest: What the model is; file name, hash and version of the weights are filled in here.
        model: The networks.

    Returns:
        The manifest as it was written.

    Raises:
        ResourceFault: A file cannot be written; an older model stands as it was.
    """
    with write_faults(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder) as temporary, errors_naming(folder, instead_of=temporary):
        write_safetensors(temporary / WEIGHTS_NAME, plain_tensors(model))
        digest = file_sha256(temporary / WEIGHTS_NAME)
        complete = replace(manifest, weights=WEIGHTS_NAME, weights_sha256=digest, version=digest[:12])
        (temporary / BOUND_JSON).write_text(complete.to_json(), encoding="utf-8")
        load_bound(temporary, torch.device("cpu"))
    return complete
