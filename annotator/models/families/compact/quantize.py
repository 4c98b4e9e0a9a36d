"""The integer copy of a compact model: made from its weights and from what its activations do on real bases."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from annotator.errors import InputError, UsageError
from annotator.genome.options import GenomeOptions
from annotator.genome.plan import UNKNOWN_BASE
from annotator.genome.source import open_genome
from annotator.models.directory import read_model, write_model
from annotator.models.families.compact.integer import LOW_BITS, fold_up, up_bias
from annotator.models.families.compact.net import CompactNet
from annotator.models.families.compact.scan import FoldedNet, fold, load_compact
from annotator.models.weights import read_safetensors
from annotator.tokens.vocabulary import KmerVocabulary
from annotator_kernels.integer_conv.op import EXACT, LARGEST_EXPONENT, LARGEST_INPUT, LARGEST_WEIGHT, largest_sums
from annotator_kernels.residual_conv.op import residual_conv

logger = logging.getLogger(__name__)

WINDOW_BP = 24_576
"""Bases of a calibration window; a shorter contig is one by itself."""
LEAST_BP = 1_000
MOST_WINDOWS = 24
"""Calibration windows of a clade, evenly spaced; the ranges of channels hardly change beyond a dozen."""


def quantize_model(model: str, bases: Mapping[str, Sequence[NDArray[np.uint8]]], out: Path) -> Path:
    """Write a model again, with an integer copy of each of its networks.

    Args:
        model: Bundled model's name or a model directory, of the compact family, that labels bases.
        bases: Sequences by clade, ASCII in upper case, uint8; the ranges of a network's activations are measured on those of
            the clades that it serves.
        out: Model directory to make; it may be the model's own.

    Returns:
        `out`.

    Raises:
        UsageError: The model is of another kind, or a network has no clade with sequences.
        InputError: The sequences of a clade hold too little.
        AnnotatorError: The model is missing or damaged.
    """
    folder, manifest = read_model(model)
    if manifest.family != "compact" or manifest.window is not None:
        raise UsageError(
            f"the model {manifest.name} is none of the compact family that labels bases, which alone can have whole numbers"
        )
    vocabulary = KmerVocabulary(**manifest.tokenizer)
    copies: dict[str, Tensor] = {}
    if unknown := sorted(set(bases) - set(manifest.clades)):
        raise UsageError(f"the model has {', '.join(manifest.clades)}", "bases", unknown[0])
    for network in dict.fromkeys(settings.network for settings in manifest.clades.values()):
        clades = [clade for clade, settings in manifest.clades.items() if settings.network == network]
        given = {clade: bases[clade] for clade in clades if clade in bases}
        if not given:
            raise UsageError(f"no bases of {' or '.join(clades)} to measure the network's activations on", "bases")
        net = load_compact(folder, manifest, clades[0])
        ranges = Ranges()
        for clade, sequences in given.items():
            windows = calibration_windows(sequences, net.config.step_bp)
            if not windows:
                raise InputError(f"the bases given for {clade} hold no {LEAST_BP} bp of which half are known")
            ranges.measure(FoldedNet(net, manifest.clades[clade].index, vocabulary), windows)
            logger.info(
                "%s: ranges of activations measured on %d windows, %s bp", clade, len(windows), f"{sum(map(len, windows)):,}"
            )
        prefix = f"{network}." if network else ""
        copies |= {prefix + name: value for name, value in quantize_net(net, ranges).items()}
    return write_model(out, replace(manifest, integers=None), read_safetensors(folder / manifest.weights), integers=copies)


def read_sequences(fasta: Path) -> list[NDArray[np.uint8]]:
    """The sequences of a FASTA, as `quantize_model` takes them.

    Raises:
        AnnotatorError: The file is missing or bad.
    """
    with tempfile.TemporaryDirectory(prefix="quantize-") as spool:
        genome = open_genome(fasta, Path(spool), GenomeOptions())
        with closing(genome):
            return [genome.read_bases(i, 0, int(length)) for i, length in enumerate(genome.contigs.lengths)]


def calibration_windows(sequences: Sequence[NDArray[np.uint8]], step_bp: int) -> list[NDArray[np.uint8]]:
    """Evenly spaced windows, uint8, of at least LEAST_BP of which half are known; their lengths are multiples of step_bp."""
    found = []
    for sequence in sequences:
        size = min(WINDOW_BP, len(sequence)) // step_bp * step_bp
        if size >= LEAST_BP:
            found += [sequence[start : start + size] for start in range(0, len(sequence) - size + 1, size)]
    known = [window for window in found if 2 * np.count_nonzero(window == UNKNOWN_BASE) <= len(window)]
    return [known[i] for i in np.linspace(0, len(known) - 1, min(len(known), MOST_WINDOWS)).round().astype(int)]


class Ranges:
    """The smallest and the largest value of each channel of the three streams."""

    def __init__(self) -> None:
        """Nothing has been seen."""
        self.low: dict[str, Tensor] = {}
        self.high: dict[str, Tensor] = {}

    @torch.inference_mode()
    def measure(self, net: FoldedNet, windows: Sequence[NDArray[np.uint8]]) -> None:
        """Run a network over windows, both strands of each, and take its streams in."""
        starts, reverse = torch.zeros(2, dtype=torch.int64), torch.tensor([False, True])
        for window in windows:
            length = len(window)
            x = net.embed(torch.from_numpy(np.array(window)), starts, reverse, length)
            rows, _, fine = x.shape
            self._see("fine", x)
            for layer in net.stem:
                x = layer(x, x)
                self._see("fine", x)
            eight = x.view(rows, -1, net.config.step_bp * fine)
            h = net.down(eight)
            self._see("trunk", h)
            for block in net.blocks:
                h = block(h, h)
                self._see("trunk", h)
            x = net.up(h, eight).view(rows, length, fine)
            self._see("out", x)
            mix = net.mix  # without the head that it ends in
            self._see("out", residual_conv(x, mix.weight, mix.bias, dilation=mix.dilation, slope=mix.slope, residual=x))

    def _see(self, stream: str, values: Tensor) -> None:
        low, high = values.amin((0, 1)), values.amax((0, 1))
        self.low[stream] = torch.minimum(self.low.get(stream, low), low)
        self.high[stream] = torch.maximum(self.high.get(stream, high), high)

    def bytes_of(self, stream: str) -> tuple[Tensor, Tensor]:
        """Unit of each channel's byte, float32 [H], and the byte that stands for 0, uint8 [H]."""
        low, high = self.low[stream].double().clamp(max=0), self.high[stream].double().clamp(min=0)
        unit = ((high - low) / LARGEST_INPUT).clamp(min=1e-6)
        return unit.float(), (-low / unit).round().clamp(0, LARGEST_INPUT).to(torch.uint8)


def quantize_net(net: CompactNet, ranges: Ranges) -> dict[str, Tensor]:
    """Weights, exponents, units and zeros of a network.

    Args:
        net: The network.
        ranges: What its streams do.

    Returns:
        Per stream `unit`, float32 [H], and `zero`, uint8 [H]; per convolution `weight`, int8 [W, I, O], and `exponent`, int8 [O].
        What they stand for: see `IntegerNet`. Biases are made when the network is loaded, for the clade of the run.
    """
    found: dict[str, Tensor] = {}
    for stream in ("fine", "trunk", "out"):
        found[f"{stream}.unit"], found[f"{stream}.zero"] = ranges.bytes_of(stream)
    fine, trunk, out = (found[f"{stream}.unit"].double() for stream in ("fine", "trunk", "out"))
    step, clades = net.config.step_bp, range(max(1, net.config.clades))

    def add(name: str, weight: Tensor, biases: Sequence[Tensor], unit_in: Tensor, unit_out: Tensor) -> None:
        scaled = weight.double() * unit_in[None, :, None] / unit_out
        bias = torch.stack([bias.detach().double() for bias in biases]).abs().amax(0) / unit_out
        found[f"{name}.weight"], exponent = whole_weights(scaled, bias)
        found[f"{name}.exponent"] = exponent.to(torch.int8)

    def add_layer(name: str, layer: object, unit_in: Tensor, unit_out: Tensor) -> None:
        folded = [fold(layer, clade) for clade in clades]  # type: ignore[arg-type]
        weight = folded[0][0]
        add(name, weight.reshape(1, -1, weight.shape[2]) if name == "down" else weight, [b for _, b in folded], unit_in, unit_out)

    for i, layer in enumerate(net.stem):
        add_layer(f"stem.{i}", layer, fine, fine)
    add_layer("down", net.down, fine.repeat(step), trunk)
    for i, block in enumerate(net.blocks):
        add_layer(f"blocks.{i}", block, trunk, trunk)
    # The fine path is carried over into the units of `out`, and with it what stands for 0.
    shift = 256.0 * (1.0 + fine / out)
    add("up", fold_up(net), [up_bias(net).abs() + (shift * out).repeat(step)], trunk, out.repeat(step))
    add_layer("mix", net.mix, out, out)
    assert net.head.bias is not None
    head = (net.head.weight.detach()[:, :, 0].t().double() * out[:, None])[None]
    high, exponent = whole_weights(head, net.head.bias.detach().double().abs())
    low = ((torch.ldexp(head, -exponent) - high) * 2**LOW_BITS).round()
    found["head.weight"] = torch.cat([high, low.to(torch.int8)], 2)
    found["head.exponent"] = torch.cat([exponent, exponent - LOW_BITS]).to(torch.int8)
    return found


def whole_weights(scaled: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Real weights as whole numbers of seven bits times a power of two for each output.

    Args:
        scaled: Weights in units of the output stream per unit of a byte, float64, [W, I, O].
        bias: The largest bias in the output's unit, float64 [O], at least 0.

    Returns:
        int8 [W, I, O], and exponents, int64 [O]: the smallest ones by which no sum can reach 2**24.
    """
    largest = scaled.abs().amax((0, 1)).clamp(min=2.0**-40)
    exponent = (
        torch.ceil(torch.log2(largest / (LARGEST_WEIGHT + 0.5))).long().clamp(-LARGEST_EXPONENT // 2, LARGEST_EXPONENT // 2)
    )
    while True:
        whole = torch.ldexp(scaled, -exponent).round().clamp(-LARGEST_WEIGHT, LARGEST_WEIGHT)
        # The bias is made up of its own, and of what the bytes for 0 add up to.
        too_large = 2 * largest_sums(whole) + torch.ldexp(bias, -exponent) >= EXACT - 2
        if not too_large.any():
            return whole.to(torch.int8).contiguous(), exponent
        exponent = exponent + too_large.long()
