"""The bundled architecture: k-mer tokens in, per-base donor, acceptor and TSS logits of one strand out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from annotator.kinds import CLADES, LABEL_TRACKS

COMPACT_TRACKS = LABEL_TRACKS
"""The outputs of the bundled network, in order: the sites that annotations give."""
CLADE_INDEX = {"vertebrate": 1, "invertebrate": 2, "plant": 3, "fungi": 4}
"""Entry of the clade embedding that a network learns a clade in; 0 is the clade-free one. A model's manifest says which entry it
scans with: models of the time before fungi were learnt have four entries, and take 0 for them."""
assert set(CLADE_INDEX) == set(CLADES)

SLOPE = 0.1
"""Negative slope of the leaky ReLU, as in the SpliceAI family."""


@dataclass(frozen=True)
class CompactConfig:
    """Shape of a compact network.

    Attributes:
        vocabulary_size: Token ids the embedding knows.
        fine_channels: Channels of the full-resolution path.
        fine_width: Width of its convolutions, bp.
        trunk_channels: Channels of the coarse trunk.
        trunk_width: Width of its convolutions, in trunk steps.
        dilations: One residual block per entry, in trunk steps.
        step_bp: Bases per trunk step.
        clades: Number of clade biases; entry 0 is the clade-free one.
        tracks: Output tracks (donor, acceptor, TSS).
    """

    vocabulary_size: int = 4101
    fine_channels: int = 32
    fine_width: int = 9
    trunk_channels: int = 96
    trunk_width: int = 5
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 1)
    step_bp: int = 8
    clades: int = 5
    tracks: int = 3

    @property
    def reach_bp(self) -> int:
        """Bases on either side that can change a logit (k-mer overhang not counted)."""
        fine = 3 * (self.fine_width // 2)
        trunk = sum(self.dilations) * (self.trunk_width // 2) * self.step_bp
        return fine + trunk + 2 * self.step_bp

    @property
    def weights(self) -> int:
        """Numbers in the embedding and the convolutions, biases and norms not counted."""
        fine, trunk = self.fine_channels, self.trunk_channels
        blocks = len(self.dilations) * trunk**2 * self.trunk_width
        resample = 2 * fine * trunk * self.step_bp
        return self.vocabulary_size * fine + 3 * fine**2 * self.fine_width + blocks + resample + fine * self.tracks

    def flops_per_base(self) -> int:
        """Multiply-adds times two for one base of one strand, window overhead not counted."""
        fine = 3 * 2 * self.fine_channels**2 * self.fine_width + 2 * self.fine_channels * self.tracks
        trunk = len(self.dilations) * 2 * self.trunk_channels**2 * self.trunk_width // self.step_bp
        resample = 2 * 2 * self.fine_channels * self.trunk_channels
        return fine + trunk + resample

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a manifest."""
        return asdict(self) | {"dilations": list(self.dilations)}


class ConvNorm(nn.Module):
    """Convolution, batch norm and a per-clade bias, then a leaky ReLU; norm and bias fold into the convolution."""

    def __init__(self, inputs: int, outputs: int, width: int, *, dilation: int = 1, stride: int = 1, clades: int = 0) -> None:
        """Build with 'same' padding; stride > 1 means width == stride and no padding."""
        super().__init__()
        padding = 0 if stride > 1 else dilation * (width // 2)
        self.conv = nn.Conv1d(inputs, outputs, width, stride=stride, dilation=dilation, padding=padding)
        self.norm = nn.BatchNorm1d(outputs)
        self.clade = nn.Embedding(clades, outputs) if clades else None
        if self.clade is not None:
            nn.init.zeros_(self.clade.weight)

    def forward(self, x: Tensor, clade: Tensor | None = None, dropout: float = 0.0) -> Tensor:
        """[B, inputs, L] -> [B, outputs, L / stride]; dropout takes whole channels of a window, in training only."""
        y = self.norm(self.conv(x))
        if self.clade is not None and clade is not None:
            y = y + self.clade(clade)[:, :, None].to(y.dtype)
        activated: Tensor = F.dropout1d(F.leaky_relu(y, SLOPE), dropout, self.training)
        return activated


class CompactNet(nn.Module):
    """A thin full-resolution path beside a dilated trunk at 1/step_bp resolution.

    One strand at a time: both strands of a window are two rows of a batch, so the six tracks of a window come from one
    pass and calls on a contig and on its reverse complement are made by the same weights.
    """

    def __init__(self, config: CompactConfig) -> None:
        """Build with random weights."""
        super().__init__()
        self.config = config
        fine, trunk = config.fine_channels, config.trunk_channels
        self.embed = nn.Embedding(config.vocabulary_size, fine)
        nn.init.normal_(self.embed.weight, std=0.5)
        self.stem = nn.ModuleList(ConvNorm(fine, fine, config.fine_width) for _ in range(2))
        self.down = ConvNorm(fine, trunk, config.step_bp, stride=config.step_bp, clades=config.clades)
        self.blocks = nn.ModuleList(
            ConvNorm(trunk, trunk, config.trunk_width, dilation=d, clades=config.clades) for d in config.dilations
        )
        self.up = nn.Conv1d(trunk, fine * config.step_bp, 1)
        self.mix = ConvNorm(fine, fine, config.fine_width)
        self.head = nn.Conv1d(fine, config.tracks, 1)
        nn.init.constant_(self.head.bias, -6.0)  # type: ignore[arg-type]

    def forward(self, token_ids: Tensor, clade: Tensor | None = None, dropout: float = 0.0) -> Tensor:
        """Score every base.

        Args:
            token_ids: k-mer ids, int32 or int64, [B, L]; L a multiple of step_bp.
            clade: Index of each row's clade, int64, [B].
            dropout: Share of the trunk's channels left out of each block, and half that share of the embedding; training only.

        Returns:
            Logits, float32, [B, L, C].
        """
        fine, _ = self.features(token_ids, clade, dropout)
        logits: Tensor = self.head(fine).transpose(1, 2).float()
        return logits

    def features(self, token_ids: Tensor, clade: Tensor | None = None, dropout: float = 0.0) -> tuple[Tensor, Tensor]:
        """What the head reads, and the trunk below it.

        Args:
            token_ids: k-mer ids, int32 or int64, [B, L]; L a multiple of step_bp.
            clade: Index of each row's clade, int64, [B].
            dropout: Share of the trunk's channels left out of each block; training only.

        Returns:
            Channels of every base, [B, fine_channels, L], and of every step, [B, trunk_channels, L / step_bp].
        """
        batch, length = token_ids.shape
        x = F.dropout(self.embed(token_ids), dropout / 2, self.training).transpose(1, 2)
        for layer in self.stem:
            x = x + layer(x)
        h = self.down(x, clade)
        for block in self.blocks:
            h = h + block(h, clade, dropout)
        steps = length // self.config.step_bp
        up = self.up(h).view(batch, self.config.fine_channels, self.config.step_bp, steps)
        x = x + up.transpose(2, 3).reshape(batch, self.config.fine_channels, length)
        return x + self.mix(x), h
