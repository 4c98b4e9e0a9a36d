"""The bundled architecture as a classifier of windows: its features pooled over the window, both strands through one network.

Coordinates: bases of a row in the order it is read.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from annotator.errors import InputError
from annotator.genome.plan import UNKNOWN_BASE
from annotator.models.device import choose_precision
from annotator.models.families.compact.net import CompactConfig, CompactNet
from annotator.models.manifest import LARGEST_SIZE, MANIFEST_NAME, Manifest
from annotator.models.weights import build_with_weights, read_safetensors
from annotator.tokens.batch import reverse_complement_rows
from annotator.tokens.kmer_rows import kmer_ids_of_rows
from annotator.tokens.vocabulary import KmerVocabulary

ROWS_PER_PASS = 256


@dataclass(frozen=True)
class CompactWindowConfig:
    """Shape of a compact window classifier.

    Of the few shapes tried on GUE's development tables none was clearly better than the defaults; a scanner of one-hot bases
    with the same pooling does as well, in less time. On promoters k = 4 does far better than 6, on binding sites either does.

    Attributes:
        window_bp: Bases of a window.
        k: Token width.
        both_strands: Score the reverse complement too and average: for what has no direction.
        fine_channels: Channels of the full-resolution path.
        fine_width: Width of its convolutions, bp.
        trunk_channels: Channels of the dilated trunk.
        trunk_width: Width of its convolutions, in trunk steps.
        dilations: One residual block per entry, in trunk steps.
        step_bp: Bases per trunk step.
    """

    window_bp: int
    k: int = 6
    both_strands: bool = False
    fine_channels: int = 32
    fine_width: int = 9
    trunk_channels: int = 64
    trunk_width: int = 5
    dilations: tuple[int, ...] = (1, 2)
    step_bp: int = 4

    @staticmethod
    def from_json(raw: dict[str, Any]) -> CompactWindowConfig:
        """From a manifest's architecture.

        Raises:
            ValueError: A field is missing, unknown or impossible; the message names it.
        """
        if odd := sorted(set(raw) ^ set(CompactWindowConfig.__dataclass_fields__)):
            raise ValueError(f"'architecture.{odd[0]}' is {'unknown' if odd[0] in raw else 'missing'}")
        for name, value in raw.items():
            sizes = value if isinstance(value, list) else [value]
            whole = all(type(size) is int and 0 < size <= LARGEST_SIZE for size in sizes)
            fits = whole and isinstance(value, list) == (name == "dilations")
            if not (type(value) is bool if name == "both_strands" else fits):
                raise ValueError(f"'architecture.{name}' is {value!r}")
        config = CompactWindowConfig(**(raw | {"dilations": tuple(raw["dilations"])}))
        if config.k > 8 or config.fine_width % 2 == 0 or config.trunk_width % 2 == 0:
            raise ValueError("'architecture': k lies within 1..8, fine_width and trunk_width are odd")
        return config

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a manifest."""
        return asdict(self) | {"dilations": list(self.dilations)}

    @property
    def net(self) -> CompactConfig:
        """Shape of the network below the pooling."""
        return CompactConfig(
            vocabulary_size=KmerVocabulary(self.k).size, fine_channels=self.fine_channels, fine_width=self.fine_width,
            trunk_channels=self.trunk_channels, trunk_width=self.trunk_width, dilations=self.dilations, step_bp=self.step_bp,
            clades=0,
        )  # fmt: skip


class CompactWindow(nn.Module):
    """Rows of bases in, class logits out.

    The features of the full-resolution path and of the trunk are pooled over the window's known bases in three ways (their
    maximum, their mean, and a mean in which each position has a weight of its own: windows are aligned, on a peak or on a
    transcription start), and one linear layer reads them.
    """

    def __init__(self, config: CompactWindowConfig, classes: int) -> None:
        """Build with random weights."""
        super().__init__()
        self.config, self.scheme = config, KmerVocabulary(config.k).scheme()
        self.net = CompactNet(config.net)
        del self.net.head  # the per-base outputs, which nothing here reads
        steps = -(-config.window_bp // config.step_bp)
        self.pools = nn.ModuleList([_Pool(config.fine_channels, steps * config.step_bp), _Pool(config.trunk_channels, steps)])
        self.out = nn.Linear(3 * (config.fine_channels + config.trunk_channels), classes)

    def forward(self, rows: Tensor, dropout: float = 0.0) -> Tensor:
        """Classify rows.

        Args:
            rows: ASCII bases in reading direction, uint8, [R, L]. A row shorter than a window is filled up with N; of one that
                is longer, evenly spaced windows that cover it are classified, and their logits averaged.
            dropout: Share of the trunk's channels left out, half of it of the embedding, and before the output; training only.

        Returns:
            Logits, float32, [R, classes].
        """
        window = self.config.window_bp
        surplus = rows.shape[1] - window
        if surplus <= 0:
            return self._window(F.pad(rows, (0, -surplus), value=UNKNOWN_BASE), dropout)
        count = -(-rows.shape[1] // window)
        starts = [surplus * part // (count - 1) for part in range(count)]
        return torch.stack([self._window(rows[:, start : start + window], dropout) for start in starts]).mean(0)

    def _window(self, rows: Tensor, dropout: float) -> Tensor:
        """Logits of rows of window_bp bases."""
        if not self.config.both_strands:
            return self._strand(rows, dropout)
        ahead, back = self._strand(torch.cat([rows, reverse_complement_rows(rows)]), dropout).chunk(2)
        return (ahead + back) / 2

    def _strand(self, rows: Tensor, dropout: float) -> Tensor:
        step, k = self.config.step_bp, self.config.k
        rows = F.pad(rows, (0, -rows.shape[1] % step), value=UNKNOWN_BASE)
        before = (k - 1) // 2
        ids = kmer_ids_of_rows(F.pad(rows, (before, k - 1 - before), value=UNKNOWN_BASE), self.scheme)
        known = rows != UNKNOWN_BASE
        fine, trunk = self.net.features(ids, None, dropout)
        pooled = [
            pool(x, inside)
            for pool, x, inside in zip(self.pools, (fine, trunk), (known, known.view(len(rows), -1, step).any(2)), strict=True)
        ]
        logits: Tensor = self.out(F.dropout(torch.cat(pooled, 1), dropout, self.training)).float()
        return logits


class _Pool(nn.Module):
    """[R, H, L] to [R, 3 H]: maximum, mean and mean weighted by position."""

    def __init__(self, channels: int, length: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(1.0 + 0.1 * torch.randn(channels, length))

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        """Pool over the known columns, bool [R, L]; over all of them in a row that has none."""
        inside = (known | ~known.any(1, keepdim=True))[:, None]
        share = inside.to(x.dtype) / inside.sum(2, keepdim=True)
        highest = x.masked_fill(~inside, float("-inf")).amax(2)
        return torch.cat([highest, (x * share).sum(2), (x * share * self.weight).sum(2)], 1)


class CompactWindowClassifier:
    """A trained network ready to use; the `WindowClassifier` that `load_compact_window` gives."""

    def __init__(self, model: CompactWindow) -> None:
        """Hold a network in eval mode, on its device."""
        self.model = model

    def __call__(self, rows: Tensor) -> Tensor:
        """Class logits of rows, uint8 [R, L] to float32 [R, classes]; always passes of one shape, so bits do not depend on R."""
        out = []
        for first in range(0, len(rows), ROWS_PER_PASS):
            part = rows[first : first + ROWS_PER_PASS]
            filled = torch.cat([part, part[-1:].expand(ROWS_PER_PASS - len(part), -1)])
            out.append(self.model(filled)[: len(part)])
        return torch.cat(out) if out else torch.zeros(0, self.model.out.out_features, device=rows.device)


def load_compact_window(
    folder: Path, manifest: Manifest, device: torch.device, precision: str = "auto"
) -> CompactWindowClassifier:
    """Read a compact window classifier.

    Args:
        folder: The model directory.
        manifest: Its manifest, of a window classifier of the family "compact".
        device: Where it will run.
        precision: float32, bfloat16, or auto for what `choose_precision` says.

    Raises:
        InputError: The architecture is impossible, or the tensors are not exactly its own.
    """
    assert manifest.window is not None
    try:
        config = CompactWindowConfig.from_json(manifest.architecture)
    except ValueError as error:
        raise InputError(f"{folder / MANIFEST_NAME}: field {error}") from None
    path = folder / manifest.weights
    classes = len(manifest.window.classes)
    model = build_with_weights(lambda: CompactWindow(config, classes), read_safetensors(path), path)
    dtype = getattr(torch, choose_precision(precision, str(device)))
    return CompactWindowClassifier(model.to(device, dtype).eval())
