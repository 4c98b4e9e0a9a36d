"""Dilated residual networks of the SpliceAI type (the family "dilated_cnn"): those that OpenSpliceAI publishes, ready to scan.

One-hot bases (N is all zeros), a 1x1 convolution, residual units of two dilated convolutions each, every one of them behind a
batch norm and a leaky ReLU; the stem and every fourth unit add to a skip sum, of which a 1x1 convolution and a softmax make
the probabilities of (neither, acceptor, donor). Jaganathan et al., Cell 2019; OpenSpliceAI, Chao et al., 2025.

Coordinates: a row is one strand of one window, in the order that strand is read.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from annotator.errors import InputError
from annotator.models.device import choose_precision
from annotator.models.manifest import LARGEST_SIZE, Manifest
from annotator.models.weights import build_with_weights, read_safetensors
from annotator.tokens.vocabulary import KmerVocabulary
from annotator_kernels.kmer.op import kmer_tokenize
from annotator_kernels.residual_conv.op import residual_conv

SLOPE = 0.1
SKIP_EVERY = 4
"""Units between two contributions to the skip sum."""
CLASS_OF_TRACK = {"acceptor": 1, "donor": 2}
"""Entry of the softmax; entry 0 is neither."""
BASES = KmerVocabulary(k=1, order="ACGT", first_kmer_id=1, ambiguous_id=0).scheme()
"""Bases as rows of the folded stem; row 0 is N."""


@dataclass(frozen=True)
class DilatedConfig:
    """Shape of the networks of a model.

    Attributes:
        channels: Channels of the residual stream.
        widths: Widths of the convolutions, bp, one entry per residual unit; odd.
        dilations: Bases between two taps, one entry per residual unit.
        networks: Networks whose probabilities are averaged.
    """

    channels: int
    widths: tuple[int, ...]
    dilations: tuple[int, ...]
    networks: int = 1

    def __post_init__(self) -> None:
        """Refuse a shape that cannot be built."""
        if len(self.widths) != len(self.dilations):
            raise ValueError(f"{len(self.widths)} widths, but {len(self.dilations)} dilations")
        if even := [width for width in self.widths if width % 2 == 0]:
            raise ValueError(f"width {even[0]} is not odd")

    @property
    def reach_bp(self) -> int:
        """Bases on either side that can change a logit; half of what OpenSpliceAI calls the flanking sequence."""
        return sum((width - 1) * dilation for width, dilation in zip(self.widths, self.dilations, strict=True))

    @property
    def weights(self) -> int:
        """Numbers in the convolutions of one network, biases and norms not counted."""
        skips = 1 + len(self.widths) // SKIP_EVERY
        return 2 * self.channels**2 * sum(self.widths) + skips * self.channels**2 + 7 * self.channels

    def flops_per_base(self) -> int:
        """Multiply-adds times two for one base of one strand, as they are scanned; window overhead not counted."""
        skips = 1 + len(self.widths) // SKIP_EVERY
        return 2 * self.networks * (2 * self.channels**2 * sum(self.widths) + 3 * skips * self.channels)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a manifest."""
        return asdict(self) | {"widths": list(self.widths), "dilations": list(self.dilations)}

    @staticmethod
    def from_dict(architecture: dict[str, Any]) -> DilatedConfig:
        """Read a manifest's `architecture`.

        Raises:
            ValueError: A field is missing, unknown, of the wrong type or impossible.
        """
        names = {field.name for field in fields(DilatedConfig)}
        if odd := sorted(names ^ architecture.keys()):
            raise ValueError(f"{odd[0]!r} is {'missing' if odd[0] in names else 'unknown'}")
        for name, value in architecture.items():
            listed = name in ("widths", "dilations")
            sizes = value if listed and isinstance(value, list) else [value]
            if not sizes or not all(type(size) is int and 0 < size <= LARGEST_SIZE for size in sizes):
                wanted = "a list of whole numbers" if listed else "a whole number"
                raise ValueError(f"{name!r} is {value!r}, not {wanted} of 1..{LARGEST_SIZE}")
        return DilatedConfig(**(architecture | {name: tuple(architecture[name]) for name in ("widths", "dilations")}))


class _Unit(nn.Module):
    def __init__(self, channels: int, width: int, dilation: int) -> None:
        super().__init__()
        self.batchnorm1, self.batchnorm2 = nn.BatchNorm1d(channels), nn.BatchNorm1d(channels)
        self.conv1, self.conv2 = (nn.Conv1d(channels, channels, width, dilation=dilation) for _ in range(2))


class _Skip(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, 1)


class DilatedNet(nn.Module):
    """The parameters of one network under the names they are published with; `FoldedNet` is what runs.

    Attributes:
        units: The residual units.
        skips: What follows the stem and then every fourth unit.
    """

    def __init__(self, config: DilatedConfig) -> None:
        """Build with random weights."""
        super().__init__()
        channels = config.channels
        self.initial_conv, self.initial_skip = nn.Conv1d(4, channels, 1), _Skip(channels)
        self.residual_units = nn.ModuleList()
        for number, (width, dilation) in enumerate(zip(config.widths, config.dilations, strict=True), 1):
            self.residual_units.append(_Unit(channels, width, dilation))
            if number % SKIP_EVERY == 0:
                self.residual_units.append(_Skip(channels))
        self.final_conv = nn.Conv1d(channels, 3, 1)

    @property
    def units(self) -> list[_Unit]:
        """In order."""
        return [layer for layer in self.residual_units if isinstance(layer, _Unit)]

    @property
    def skips(self) -> list[_Skip]:
        """In order."""
        return [self.initial_skip, *(layer for layer in self.residual_units if isinstance(layer, _Skip))]


def build_networks(config: DilatedConfig) -> nn.ModuleDict:
    """The networks of a model with random weights; their tensors are `networks.<i>.<published name>`."""
    return nn.ModuleDict({"networks": nn.ModuleList(DilatedNet(config) for _ in range(config.networks))})


class _FoldedUnit(nn.Module):
    """A residual unit whose second norm is folded into its first convolution; taps first, channels last."""

    scale: Tensor
    shift: Tensor
    weight1: Tensor
    weight2: Tensor
    bias1: Tensor
    bias2: Tensor

    def __init__(self, unit: _Unit, dilation: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.dilation = dilation
        scale, shift = _affine(unit.batchnorm1)
        factor, offset = _affine(unit.batchnorm2)
        assert unit.conv1.bias is not None and unit.conv2.bias is not None
        weight1, bias1 = unit.conv1.weight.double() * factor[:, None, None], unit.conv1.bias.double() * factor + offset
        for name, value in (
            ("scale", scale),
            ("shift", shift),
            ("weight1", _taps(weight1)),
            ("weight2", _taps(unit.conv2.weight)),
        ):
            self.register_buffer(name, value.detach().to(dtype))
        for name, value in (("bias1", bias1), ("bias2", unit.conv2.bias)):
            self.register_buffer(name, value.detach().float())

    def forward(self, x: Tensor) -> Tensor:
        """[R, L, H] -> [R, L, H]."""
        h = F.leaky_relu_(torch.addcmul(self.shift, x, self.scale), SLOPE)
        h = residual_conv(h, self.weight1, self.bias1, dilation=self.dilation, slope=SLOPE)
        return residual_conv(h, self.weight2, self.bias2, dilation=self.dilation, residual=x)


class FoldedNet(nn.Module):
    """One network for inference: the same function as the published one in fewer passes over memory.

    The stem is a row of a table for each base; the skip sum, and the convolution that makes three classes of it, are linear,
    so that each skip is one product with a [H, 3] matrix.
    """

    table: Tensor
    heads: Tensor
    bias: Tensor

    def __init__(self, net: DilatedNet, config: DilatedConfig, dtype: torch.dtype) -> None:
        """Fold a network; `dtype` is that of weights and activations, float32 or bfloat16."""
        super().__init__()
        stem, final = net.initial_conv, net.final_conv
        assert stem.bias is not None and final.bias is not None
        rows = torch.cat([torch.zeros(1, config.channels), stem.weight.detach()[:, :, 0].T]) + stem.bias.detach()
        self.register_buffer("table", rows.to(dtype))
        self.units = nn.ModuleList(_FoldedUnit(unit, d, dtype) for unit, d in zip(net.units, config.dilations, strict=True))
        out = final.weight.detach().double()[:, :, 0]
        heads, bias = [], final.bias.detach().double()
        for skip in net.skips:
            assert skip.conv.bias is not None
            heads.append(out @ skip.conv.weight.detach().double()[:, :, 0])
            bias = bias + out @ skip.conv.bias.detach().double()
        self.register_buffer("heads", torch.stack(heads).float())
        self.register_buffer("bias", bias.float())

    def forward(self, ids: Tensor) -> Tensor:
        """Class logits (neither, acceptor, donor), float32, [R, L, 3], of base ids, [R, L]."""
        x = F.embedding(ids, self.table)
        logits = F.linear(x.float(), self.heads[0], self.bias)
        for number, unit in enumerate(self.units, 1):
            x = unit(x)
            if number % SKIP_EVERY == 0:
                logits += F.linear(x.float(), self.heads[number // SKIP_EVERY])
        return logits


class DilatedCnn(nn.Module):
    """A model of one or several networks as the window engine asks for it (`annotator.scan.windows.ScanModel`)."""

    def __init__(self, networks: list[DilatedNet], config: DilatedConfig, tracks: tuple[str, ...], dtype: torch.dtype) -> None:
        """Fold the networks.

        Args:
            networks: With their weights.
            config: Their shape.
            tracks: Output tracks, of `CLASS_OF_TRACK`, in the order wanted.
            dtype: Type of weights and activations, float32 or bfloat16.
        """
        super().__init__()
        self.config, self.tracks = config, tracks
        self.networks = nn.ModuleList(FoldedNet(net, config, dtype) for net in networks)

    def embed(self, block: Tensor, starts: Tensor, reverse: Tensor, length: int) -> Tensor:
        """Cut rows out of a block of bases.

        Args:
            block: ASCII bases, uint8, [n].
            starts: Leftmost base of each row, int64, [R]; what lies outside the block counts as N.
            reverse: Whether a row is read from the minus strand, bool, [R].
            length: Bases of a row, L.

        Returns:
            Base ids of `BASES`, int32, [R, L], in the order each row is read.
        """
        return kmer_tokenize(block, starts, reverse, BASES, tokens=length)

    def logits(self, x: Tensor) -> Tensor:
        """One-vs-rest log-odds: their sigmoid is the networks' mean softmax probability.

        Args:
            x: From `embed`, [R, L].

        Returns:
            float32, [R, L, C], in the order of `tracks`.
        """
        odds = [self._log_chances(net(x)) for net in self.networks]
        if len(odds) == 1:
            return odds[0][0] - odds[0][1]
        yes, no = (torch.stack(part).logsumexp(0) for part in zip(*odds, strict=True))
        return yes - no

    def _log_chances(self, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of each track's softmax probability and of its complement, both [R, L, C]."""
        total = classes.logsumexp(2, keepdim=True)
        yes = torch.stack([classes[:, :, CLASS_OF_TRACK[track]] for track in self.tracks], 2) - total
        rest = [[c for c in range(3) if c != CLASS_OF_TRACK[track]] for track in self.tracks]
        no = torch.stack([torch.logaddexp(classes[:, :, a], classes[:, :, b]) for a, b in rest], 2) - total
        return yes, no


def load(folder: Path, manifest: Manifest, device: torch.device, precision: str = "auto") -> DilatedCnn:
    """Read a model directory of this family.

    Args:
        folder: The directory.
        manifest: Its manifest.
        device: Where the model will run.
        precision: Type of weights and activations: float32, bfloat16, or auto for what `choose_precision` says.

    Returns:
        The model on its device, in eval mode.

    Raises:
        EnvironmentFault: The weights file is missing.
        InputError: It is damaged, its tensors are not exactly those of the architecture, or the manifest does not fit it.
    """
    try:
        config = DilatedConfig.from_dict(manifest.architecture)
    except ValueError as error:
        raise InputError(f"{folder}: architecture of the manifest: {error}") from None
    if odd := [track for track in manifest.tracks if track not in CLASS_OF_TRACK]:
        raise InputError(f"{folder}: track {odd[0]!r} of the manifest is not one of {', '.join(CLASS_OF_TRACK)}")
    reach = config.reach_bp + max(manifest.radius_bp.values())
    if manifest.plan["halo_bp"] < reach:
        raise InputError(f"{folder}: halo_bp = {manifest.plan['halo_bp']}, but a call can depend on bases {reach} bp away")
    path = folder / manifest.weights
    tensors = read_safetensors(path)
    if 2 * config.networks * config.weights > path.stat().st_size:  # an absurd architecture costs no time
        raise InputError(f"{path}: too small for {config.networks} networks of {config.weights:,} weights")
    networks = build_with_weights(lambda: build_networks(config), tensors, path)["networks"]
    dtype = getattr(torch, choose_precision(precision, str(device)))
    nets = [net for net in networks.modules() if isinstance(net, DilatedNet)]
    return DilatedCnn(nets, config, manifest.tracks, dtype).to(device).eval()


def _affine(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Factor and offset of a batch norm in eval mode, float64, [H]."""
    assert norm.running_mean is not None and norm.running_var is not None  # always tracked here
    factor = norm.weight.detach().double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return factor, norm.bias.detach().double() - norm.running_mean.double() * factor


def _taps(weight: Tensor) -> Tensor:
    """[O, I, W] -> [W, I, O], contiguous."""
    return weight.permute(2, 1, 0).contiguous()


class DilatedFamily:
    """Networks of dilated convolutions, OpenSpliceAI's converted ones; see `ScanFamily`."""

    def load_scan_model(self, folder: Path, manifest: Manifest, clade: str, device: torch.device, precision: str) -> DilatedCnn:
        """Load a network that labels bases; it has no bias of a clade."""
        return load(folder, manifest, device, manifest.precision(precision, choose_precision("auto", str(device)), str(device)))

    def load_window_classifier(self, folder: Path, manifest: Manifest, device: torch.device, precision: str) -> NoReturn:
        """Refuse: these networks label bases.

        Raises:
            InputError: Always.
        """
        raise InputError(f"{folder}: field 'window': this family labels bases")


FAMILY = DilatedFamily()
