"""OpenSpliceAI's architecture restated, to read its published state dicts for side-by-side measurement (never shipped).

Input one-hot A, C, G, T with N all zeros; output (neither, acceptor, donor) of one strand.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

UNITS = ((11, 1),) * 4 + ((11, 4),) * 4 + ((21, 10),) * 4 + ((41, 25),) * 4
"""Width and dilation of each residual unit; the 400-nt net uses the first 8, the 2000-nt net 12."""
SLOPE = 0.1


class _Unit(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.batchnorm1, self.batchnorm2 = nn.BatchNorm1d(32), nn.BatchNorm1d(32)
        self.conv1 = nn.Conv1d(32, 32, width, dilation=dilation, padding="same")
        self.conv2 = nn.Conv1d(32, 32, width, dilation=dilation, padding="same")

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.leaky_relu(self.batchnorm1(x), SLOPE))
        return x + self.conv2(F.leaky_relu(self.batchnorm2(h), SLOPE))


class _Skip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(32, 32, 1)


class OpenSpliceAI(nn.Module):
    """The published network for one context length."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.initial_conv, self.initial_skip = nn.Conv1d(4, 32, 1), _Skip()
        layers: list[nn.Module] = []
        for i, (width, dilation) in enumerate(UNITS[:units]):
            layers.append(_Unit(width, dilation))
            if i % 4 == 3:
                layers.append(_Skip())
        self.residual_units = nn.ModuleList(layers)
        self.final_conv = nn.Conv1d(32, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.initial_conv(x)
        skip = self.initial_skip.conv(x)
        for layer in self.residual_units:
            if isinstance(layer, _Skip):
                skip = skip + layer.conv(x)
            else:
                x = layer(x)
        return F.softmax(self.final_conv(skip), 1)


def load_openspliceai(path: Path) -> tuple[OpenSpliceAI, int]:
    """A published network and the bases of context it wants on both sides together."""
    context = int(path.name.split("_")[1].removesuffix("nt"))
    net = OpenSpliceAI({80: 4, 400: 8, 2000: 12, 10000: 16}[context])
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return net.eval(), context


_CODES = np.full(256, 4, np.uint8)
for _i, _base in enumerate(b"ACGT"):
    _CODES[_base] = _CODES[_base + 32] = _i


@torch.inference_mode()
def contig_probabilities(net: OpenSpliceAI, context: int, bases: np.ndarray, chunk_bp: int = 50_000) -> np.ndarray:
    """Donor and acceptor probability of every base, float32, [2 strands, 2, n], plus-strand order; N beyond the contig."""
    half = context // 2
    eye = torch.cat([torch.eye(4), torch.zeros(1, 4)])
    out = np.empty((2, 2, len(bases)), np.float32)
    codes = _CODES[bases]
    for strand, row in enumerate((codes, np.where(codes < 4, 3 - codes, 4)[::-1])):
        padded = np.concatenate([np.full(half, 4, np.uint8), row.astype(np.uint8), np.full(half, 4, np.uint8)])
        result = np.empty((2, len(bases)), np.float32)
        for start in range(0, len(bases), chunk_bp):
            end = min(start + chunk_bp, len(bases))
            piece = eye[torch.from_numpy(padded[start : end + context]).long()].T[None]
            p = net(piece)[0, :, half : half + end - start].numpy()
            result[0, start:end], result[1, start:end] = p[2], p[1]
        out[strand] = result if strand == 0 else result[:, ::-1]
    return out
