"""The operation `integer_conv`: a convolution of whole numbers, by oneDNN's integer instructions in torch, and its oracle.

No sum of it is ever rounded: terms are whole, and what they add up to, times a power of two, is exact in float32. So the
result has the same bits for every instruction set, number of threads and shape of a batch.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

LARGEST_INPUT = 255
LARGEST_WEIGHT = 63
"""Seven bits with the sign: instruction sets without VNNI add two products of a byte and a weight in 16 bits, which two such
products fit and two of a weight of eight bits would overflow (they saturate, silently)."""
EXACT = 1 << 24
"""Whole numbers below this are exact in float32."""
LARGEST_EXPONENT = 64


class IntegerConv:
    """Weights of one `integer_conv`, packed for the CPU at the first call.

    Attributes:
        weight: int8, taps first, [W, I, O].
        exponent: What a unit of the sums stands for, as a power of two, integers [O].
        bias: float32, [O].
        dilation: Positions between two taps.
        reach: Positions that an output position sees beside its own: (W - 1) * dilation.
        bound: No result is larger in size than this.
    """

    def __init__(self, weight: Tensor, exponent: Tensor, bias: Tensor, *, dilation: int = 1) -> None:
        """Check the arguments.

        Args:
            weight: int8, taps first, [W, I, O], within -63..63.
            exponent: What a unit of the sums stands for, as a power of two, integers [O], within -64..64.
            bias: Whole multiples of `2**exponent`, float32, [O].
            dilation: Positions between two taps, >= 1.

        Raises:
            ValueError: An argument has a wrong shape, type or range, or a sum could be too large to be exact.
        """
        _check(weight, exponent, bias, dilation)
        self.weight, self.exponent, self.bias, self.dilation = weight, exponent, bias, dilation
        self.reach = (len(weight) - 1) * dilation
        self.bound = float(torch.ldexp(largest_sums(weight), exponent).add(bias.double().abs()).amax())
        self._scale = torch.ldexp(torch.ones(len(exponent)), exponent)
        self._zeros = torch.zeros(len(exponent), dtype=torch.int64)
        self._packed: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """`y[b, l, o] = bias[o] + 2**exponent[o] * sum_{t, i} x[b, l + t * dilation, i] * weight[t, i, o]`, exactly.

        Args:
            x: uint8, contiguous, [B, L + reach, I]; the caller fills in what lies beyond the ends.

        Returns:
            float32, [B, L, O], contiguous.
        """
        images = x.transpose(1, 2).unsqueeze(2)  # [B, I, 1, L + reach], channels last in memory
        stride, padding, dilation = [1, 1], [0, 0], [1, self.dilation]
        if self._packed is None:
            kernel = self.weight.permute(2, 1, 0).unsqueeze(2).contiguous()
            self._packed = torch.ops.onednn.qconv_prepack(
                kernel, self._scale, 1.0, 0, stride, padding, dilation, 1, list(images.shape)
            )
        y: Tensor = torch.ops.onednn.qconv_pointwise(
            images, 1.0, 0, self._packed, self._scale, self._zeros, self.bias, stride, padding, dilation, 1,
            1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return y.squeeze(2).transpose(1, 2)

    def reference(self, x: Tensor) -> Tensor:
        """The same by plain torch in float64, which is exact as well."""
        kernel = self.weight.permute(2, 1, 0).double()
        sums = F.conv1d(x.transpose(1, 2).double(), kernel, dilation=self.dilation).transpose(1, 2)
        return (torch.ldexp(sums, self.exponent) + self.bias.double()).float().contiguous()


def largest_sums(weight: Tensor) -> Tensor:
    """The largest size of each output's sum of products, float64 [O], of weights [W, I, O]."""
    return weight.double().abs().sum((0, 1)) * LARGEST_INPUT


def _check(weight: Tensor, exponent: Tensor, bias: Tensor, dilation: int) -> None:
    if weight.dim() != 3 or weight.dtype != torch.int8 or 0 in weight.shape:
        raise ValueError(f"weight must be int8 [W, I, O], not {weight.dtype} {list(weight.shape)}")
    outputs = weight.shape[2:]
    if exponent.shape != outputs or exponent.is_floating_point():
        raise ValueError(f"exponent must be whole numbers {list(outputs)}, not {exponent.dtype} {list(exponent.shape)}")
    if bias.dtype != torch.float32 or bias.shape != outputs:
        raise ValueError(f"bias must be float32 {list(outputs)}, not {bias.dtype} {list(bias.shape)}")
    if dilation < 1:
        raise ValueError(f"dilation must be >= 1, not {dilation}")
    if int(weight.short().abs().amax()) > LARGEST_WEIGHT:
        raise ValueError(f"weights must lie within -{LARGEST_WEIGHT}..{LARGEST_WEIGHT}")
    if int(exponent.long().abs().amax()) > LARGEST_EXPONENT:
        raise ValueError(f"exponents must lie within -{LARGEST_EXPONENT}..{LARGEST_EXPONENT}")
    units = torch.ldexp(bias.double(), -exponent.long())
    if not bool(torch.isfinite(units).all()) or not torch.equal(units, units.round()):
        raise ValueError("bias must be whole multiples of 2**exponent")
    if float((largest_sums(weight) + units.abs()).amax()) >= EXACT:
        raise ValueError("a sum could reach 2**24, from where on float32 is not exact")


@cache
def integer_conv_fault() -> str | None:
    """Why `integer_conv` cannot be used here, in a few words; None where it can and a trial of the largest sums is right."""
    if not torch._C._has_mkldnn or not hasattr(torch.ops.onednn, "qconv_pointwise"):
        return f"torch {torch.__version__} comes without integer convolutions of oneDNN here"
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(0, 2, (3, 64, 32), generator=generator).mul(2 * LARGEST_WEIGHT).sub(LARGEST_WEIGHT).to(torch.int8)
    weight[:, :, 0] = LARGEST_WEIGHT
    conv = IntegerConv(weight, torch.full((32,), -7), torch.arange(32) / 128)
    x = torch.randint(0, 2, (1, 130, 64), generator=generator).mul(LARGEST_INPUT).to(torch.uint8)
    x[:, :40] = LARGEST_INPUT
    try:
        right = torch.equal(conv(x), conv.reference(x))
    except RuntimeError as error:
        return f"torch {torch.__version__} refuses integer convolutions ({' '.join(str(error).split())[:120]})"
    return None if right else "integer convolutions of torch give wrong sums on this machine"
