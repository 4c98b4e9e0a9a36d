"""The compact network in whole numbers: bytes in, seven-bit weights, exact sums.

Streams (the fine path up to the trunk, the trunk, the fine path after it) are float32 in units of their own: a channel's byte is
its stream, cut off to a whole number of 0..255. Convolutions add bytes times weights exactly (`integer_conv`); all else is done
element by element, each a single rounding of IEEE arithmetic. So logits have the same bits on every CPU that has the engine, for
any number of threads, batch and window that shows a base the same surroundings.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional as F

from annotator.errors import EnvironmentFault, InputError
from annotator.models.families.compact.net import SLOPE, CompactNet
from annotator.models.families.compact.scan import fold
from annotator.models.manifest import Manifest
from annotator.tokens.vocabulary import KmerVocabulary
from annotator_kernels.integer_conv.op import IntegerConv, integer_conv_fault
from annotator_kernels.kmer.op import kmer_tokenize

STREAMS = ("fine", "trunk", "out")
"""The fine path up to the trunk, the trunk, and the fine path after it."""
LOW_BITS = 6
"""The head has weights of twice as many bits: high and low parts, the low ones in units of 2**-6 of the high ones."""
_PIECE_BP = 24_576
"""Bases of short rows that are computed together."""
_PIECE_VALUES = 32 * _PIECE_BP
"""Values of a long row's stream that a layer is added to at once."""
_INT16_BOUND = 32_767.0
_KEPT_BYTES = 31 << 20
"""Just below the largest block (32 MB) by which glibc raises that size."""


class IntegerNet:
    """`CompactNet` for inference in whole numbers; an `annotator.scan.windows.ScanModel`, on the CPU."""

    def __init__(self, net: CompactNet, clade: int, vocabulary: KmerVocabulary, copy: Mapping[str, Tensor]) -> None:
        """Join a network with its integer copy.

        Args:
            net: The network.
            clade: Index of its clade bias.
            vocabulary: Ids it was trained with.
            copy: Tensors of `annotator.models.families.compact.quantize.quantize_net`.

        Raises:
            ValueError: A tensor is missing, unexpected or out of range; the message names it.
        """
        config = net.config
        self.config, self.scheme = config, vocabulary.scheme()
        self._copy = dict(copy)
        units = {stream: _unit(self._take(f"{stream}.unit"), stream) for stream in STREAMS}
        zeros = {stream: self._take(f"{stream}.zero") for stream in STREAMS}
        channels = {"fine": config.fine_channels, "trunk": config.trunk_channels, "out": config.fine_channels}
        for stream in STREAMS:
            if not units[stream].shape == zeros[stream].shape == (channels[stream],) or zeros[stream].dtype != torch.uint8:
                raise ValueError(f"tensor {stream}.unit or {stream}.zero has a wrong shape or type")
        fine, trunk, out = STREAMS
        self._zeros, step = zeros, config.step_bp
        shifts = {stream: zeros[stream].double() + 0.5 for stream in STREAMS}  # a byte is the stream cut off: half up

        def conv(
            name: str, bias: Tensor, zero: Tensor, unit: Tensor, dilation: int = 1, shift: float | Tensor = 0.0
        ) -> IntegerConv:
            weight, exponent = self._take(f"{name}.weight"), self._take(f"{name}.exponent")
            try:
                return IntegerConv(weight, exponent, _whole_bias(weight, exponent, bias, zero, unit, shift), dilation=dilation)
            except (ValueError, RuntimeError) as error:
                raise ValueError(f"tensors {name}: {error}") from None

        self._stem = [
            conv(f"stem.{i}", fold(layer, clade)[1], zeros[fine], units[fine])  # type: ignore[arg-type]
            for i, layer in enumerate(net.stem)
        ]
        self._down = conv("down", fold(net.down, clade)[1], zeros[fine].repeat(step), units[trunk])
        self._down_shift = shifts[trunk].float()
        self._blocks = [
            conv(f"blocks.{i}", fold(block, clade)[1], zeros[trunk], units[trunk], dilation)  # type: ignore[arg-type]
            for i, (block, dilation) in enumerate(zip(net.blocks, config.dilations, strict=True))
        ]
        self._ratio = (units[fine].double() / units[out].double()).float()
        shift = shifts[out] - shifts[fine] * self._ratio.double()
        self._up = conv("up", up_bias(net), zeros[trunk], units[out].repeat(step), shift=shift.repeat(step))
        self._mix = conv("mix", fold(net.mix, clade)[1], zeros[out], units[out])
        assert net.head.bias is not None
        bias = torch.cat([net.head.bias.detach(), torch.zeros(config.tracks)])
        self._head = conv("head", bias, zeros[out], torch.ones(2 * config.tracks))
        if self._copy:
            raise ValueError(f"unexpected tensor {sorted(self._copy)[0]}")
        self._table = (net.embed.weight.detach().double() / units[fine].double() + shifts[fine]).float()
        self._byte_table = self._table.clamp(0, 255).to(torch.uint8)
        self._bounds = self._stream_bounds()
        self._room = torch.empty(0)  # of the fine path, kept from call to call
        # The C library gives back to the system what it has never seen come and go, and to get that anew, page by page, takes a
        # tenth of a call. A block that is set free once is the size below which it keeps memory from then on.
        torch.empty(_KEPT_BYTES, dtype=torch.uint8)

    def _take(self, name: str) -> Tensor:
        if name not in self._copy:
            raise ValueError(f"tensor {name} is missing")
        return self._copy.pop(name)

    def _stream_bounds(self) -> list[float]:
        """The largest size that the stream can have after each step, in the order of `logits`."""
        bounds = [float(self._table.abs().amax())]
        for conv in self._stem:
            bounds.append(bounds[-1] + conv.bound)
        through = bounds[-1]
        bounds.append(self._down.bound + float(self._down_shift.amax()))
        for conv in self._blocks:
            bounds.append(bounds[-1] + conv.bound)
        bounds.append(through * float(self._ratio.amax()) + self._up.bound)
        bounds.append(bounds[-1] + self._mix.bound)
        return bounds[1:]

    def embed(self, block: Tensor, starts: Tensor, reverse: Tensor, length: int) -> Tensor:
        """Cut rows out of a block of bases.

        Args:
            block: ASCII bases, uint8, [n].
            starts: Leftmost base of each row, int64, [R]; what lies outside the block counts as N.
            reverse: Whether a row is read from the minus strand, bool, [R].
            length: Bases of a row, L; a multiple of step_bp.

        Returns:
            Ids of the k-mer around each base, int32, [R, L], in the order each row is read.
        """
        k = self.scheme.k
        before = (k - 1) // 2  # a base's k-mer covers this many bases before it, and k - 1 - before after it
        overhang = torch.where(reverse, k - 1 - before, before)
        return kmer_tokenize(block, starts - overhang, reverse, self.scheme, tokens=length)

    def logits(self, x: Tensor) -> Tensor:
        """Score every base.

        Args:
            x: From `embed`, [R, L].

        Returns:
            float32, [R, L, C].
        """
        rows = max(1, _PIECE_BP // max(1, x.shape[1]))
        logits = x.new_empty((*x.shape, self.config.tracks), dtype=torch.float32)
        for first in range(0, len(x), rows):
            logits[first : first + rows] = self._rows(x[first : first + rows])
        return logits

    @torch.inference_mode()
    def _rows(self, ids: Tensor) -> Tensor:
        rows, length = ids.shape
        fine, trunk, out = (self._zeros[stream] for stream in STREAMS)
        bounds, flat = iter(self._bounds), ids.reshape(-1)
        if self._room.numel() < flat.numel() * self.config.fine_channels:
            self._room = torch.empty(flat.numel() * self.config.fine_channels)
        room = self._room[: flat.numel() * self.config.fine_channels].view(flat.numel(), -1)
        x = torch.index_select(self._table, 0, flat, out=room).view(rows, length, -1)
        given = _Bytes(x, fine, self._stem[0].reach)
        given.inside.copy_(self._byte_table.index_select(0, flat).view(x.shape))
        for layer, reach in zip(self._stem, [*(layer.reach for layer in self._stem[1:]), 0], strict=True):
            given = _residual(layer, given, x, _Bytes(x, fine, reach), next(bounds))
        h = self._down(given.all.view(rows, length // self.config.step_bp, -1))
        h = F.leaky_relu_(h, SLOPE).add_(self._down_shift)
        given = _Bytes(h, trunk, self._blocks[0].reach)
        given.fill(h, slice(None), next(bounds))
        for layer, reach in zip(self._blocks, [*(layer.reach for layer in self._blocks[1:]), 0], strict=True):
            given = _residual(layer, given, h, _Bytes(h, trunk, reach), next(bounds))
        x, carried = x.view(rows, h.shape[1], -1), _Bytes(x, out, self._mix.reach)
        bound = next(bounds)
        for steps in _pieces(x):
            x[:, steps].view(rows, -1, self.config.fine_channels).mul_(self._ratio)
            x[:, steps].add_(self._up(given.all[:, steps]))
        x = x.view(rows, length, -1)
        for bases in _pieces(x):
            carried.fill(x[:, bases], bases, bound)
        given = _residual(self._mix, carried, x, _Bytes(x, out, 0), next(bounds))
        high, low = self._head(given.all).chunk(2, 2)
        return high + low


class _Bytes:
    """The bytes of a stream, uint8, with half of `reach` more positions at either end, which stand for 0.

    Attributes:
        all: [R, L + reach, H].
        inside: Those of the stream's own positions, [R, L, H].
    """

    def __init__(self, stream: Tensor, zero: Tensor, reach: int) -> None:
        rows, length, channels = stream.shape
        half = reach // 2
        self.all = torch.empty(rows, length + reach, channels, dtype=torch.uint8)
        self.inside = self.all[:, half : half + length]
        if half:
            self.all[:, :half] = zero
            self.all[:, half + length :] = zero

    def fill(self, part: Tensor, where: slice, bound: float) -> None:
        """Cut a part of the stream off to whole numbers of 0..255; `bound` is the largest size that its values can have."""
        if bound < _INT16_BOUND:  # the same numbers sooner: torch makes bytes of float32 one by one, and int16 many at once
            self.inside[:, where] = part.to(torch.int16).clamp_(0, 255)
        else:
            self.inside[:, where] = part.clamp(0, 255).to(torch.int16)


def _residual(conv: IntegerConv, given: _Bytes, stream: Tensor, following: _Bytes, bound: float) -> _Bytes:
    """Add a layer to a stream, in place, and fill the bytes that the layer after it is given; returns these."""
    for where in _pieces(stream):
        part = stream[:, where]
        part.add_(F.leaky_relu_(conv(given.all[:, where.start : where.stop + conv.reach]), SLOPE))
        following.fill(part, where, bound)
    return following


def _pieces(stream: Tensor) -> list[slice]:
    """Positions of a stream [R, L, H] piece by piece; all at once where there are several rows, which are short.

    Pieces change no bit, and hold less memory at a time.
    """
    rows, length, channels = stream.shape
    step = length if rows > 1 else max(1, _PIECE_VALUES // channels)
    return [slice(first, min(first + step, length)) for first in range(0, length, max(1, step))]


def up_bias(net: CompactNet) -> Tensor:
    """Bias of the up-sampling convolution in the order of its integer copy: base of the step, then channel."""
    assert net.up.bias is not None
    return net.up.bias.detach().view(net.config.fine_channels, net.config.step_bp).t().reshape(-1)


def fold_up(net: CompactNet) -> Tensor:
    """Weights of the up-sampling convolution in the same order, [1, I, O]."""
    config = net.config
    return net.up.weight.detach().view(config.fine_channels, config.step_bp, -1).permute(2, 1, 0).reshape(
        1, -1, config.step_bp * config.fine_channels
    )  # fmt: skip


def _unit(unit: Tensor, stream: str) -> Tensor:
    if unit.dtype != torch.float32 or not bool(torch.isfinite(unit).all()) or not bool((unit > 0).all()):
        raise ValueError(f"tensor {stream}.unit is not float32 above 0")
    return unit


def _whole_bias(weight: Tensor, exponent: Tensor, bias: Tensor, zero: Tensor, unit: Tensor, shift: float | Tensor) -> Tensor:
    """A bias in units of the output stream, less what the bytes for 0 add up to, in whole multiples of 2**exponent."""
    exponent = exponent.long()
    wanted = torch.ldexp(bias.double() / unit.double() + shift, -exponent).round()
    return torch.ldexp(wanted - (weight.double() * zero.double()[None, :, None]).sum((0, 1)), exponent).float()


def load_integer(folder: Path, manifest: Manifest, net: CompactNet, clade: str) -> IntegerNet:
    """The integer copy of a clade's network, ready to scan.

    Args:
        folder: The model directory.
        manifest: Its manifest, which names an integer copy.
        net: The network of that clade.
        clade: One of the manifest's.

    Raises:
        EnvironmentFault: This machine has no integer convolutions, or wrong ones.
        InputError: The file is damaged or not that of this architecture.
    """
    if (fault := integer_conv_fault()) is not None:
        raise EnvironmentFault(f"{fault}; choose float32", "precision", "int8")
    assert manifest.integers is not None
    path, settings = folder / manifest.integers.file, manifest.clades[clade]
    prefix = f"{settings.network}." if settings.network else ""
    try:
        with safe_open(path, framework="pt") as file:
            copy = {key.removeprefix(prefix): file.get_tensor(key) for key in file.keys() if key.startswith(prefix)}  # noqa: SIM118
        return IntegerNet(net, settings.index, KmerVocabulary(**manifest.tokenizer), copy)
    except SafetensorError as error:
        raise InputError(f"{path}: damaged safetensors file ({error})") from None
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{path}: {error}") from None
