"""The compact network made ready to scan: one clade, norm and biases folded into the convolutions."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from annotator.errors import InputError
from annotator.models.compact import SLOPE, CompactConfig, CompactNet, ConvNorm
from annotator.models.manifest import Manifest


def load_compact(folder: Path, manifest: Manifest) -> CompactNet:
    """Read a compact network from its safetensors file.

    Raises:
        InputError: The file is damaged, or its tensors are not exactly those of the architecture.
    """
    path = folder / manifest.weights
    try:
        config = CompactConfig(**(manifest.architecture | {"dilations": tuple(manifest.architecture["dilations"])}))
    except (TypeError, KeyError) as error:
        raise InputError(f"{folder}: architecture of the manifest: {error}") from None
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path}: damaged safetensors file ({error})") from None
    reach = config.reach_bp + manifest.tokenizer["k"] + max(manifest.radius_bp.values())
    if manifest.plan["halo_bp"] < reach:
        raise InputError(f"{folder}: halo_bp = {manifest.plan['halo_bp']}, but a call can depend on bases {reach} bp away")
    net = CompactNet(config)
    expected = net.state_dict()
    for name, value in expected.items():
        if name not in tensors:
            raise InputError(f"{path}: tensor {name} is missing")
        if tensors[name].shape != value.shape:
            raise InputError(f"{path}: tensor {name} has shape {list(tensors[name].shape)}, expected {list(value.shape)}")
    if unexpected := sorted(set(tensors) - set(expected)):
        raise InputError(f"{path}: unexpected tensor {unexpected[0]}")
    net.load_state_dict(tensors)
    return net.eval()


def fold(layer: ConvNorm, clade: int) -> nn.Conv1d:
    """The convolution that equals a ConvNorm in eval mode for one clade, its activation left out."""
    conv, norm = layer.conv, layer.norm
    assert norm.running_var is not None and norm.running_mean is not None  # BatchNorm1d always tracks here
    factor = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    bias = torch.zeros_like(norm.running_mean) if conv.bias is None else conv.bias
    shift = (bias.double() - norm.running_mean.double()) * factor + norm.bias.double()
    if layer.clade is not None:
        shift = shift + layer.clade.weight[clade].double()
    folded = nn.Conv1d(
        conv.in_channels, conv.out_channels, conv.kernel_size[0], stride=conv.stride[0], dilation=conv.dilation[0],
        padding=conv.padding[0],
    )  # fmt: skip
    folded.weight.data = (conv.weight.double() * factor[:, None, None]).float()
    assert folded.bias is not None
    folded.bias.data = shift.float()
    return folded


class FoldedNet(nn.Module):
    """`CompactNet` for inference: the same function, fewer passes over memory."""

    def __init__(self, net: CompactNet, clade: int) -> None:
        """Fold a network for one clade."""
        super().__init__()
        self.config = net.config
        self.embed = net.embed
        self.stem = nn.ModuleList(fold(layer, clade) for layer in net.stem)  # type: ignore[arg-type]
        self.down = fold(net.down, clade)
        self.blocks = nn.ModuleList(fold(block, clade) for block in net.blocks)  # type: ignore[arg-type]
        self.up, self.mix, self.head = net.up, fold(net.mix, clade), net.head

    def forward(self, token_ids: Tensor) -> Tensor:
        """[B, L] ids -> [B, C, L] float32 logits; L a multiple of step_bp."""
        batch, length = token_ids.shape
        x = self.embed(token_ids).transpose(1, 2).contiguous()
        for layer in self.stem:
            x += F.leaky_relu_(layer(x), SLOPE)
        h = F.leaky_relu_(self.down(x), SLOPE)
        for block in self.blocks:
            h += F.leaky_relu_(block(h), SLOPE)
        step = self.config.step_bp
        up = self.up(h).view(batch, -1, step, length // step).transpose(2, 3)
        x += up.reshape(batch, -1, length)
        x += F.leaky_relu_(self.mix(x), SLOPE)
        logits: Tensor = self.head(x).float()
        return logits
