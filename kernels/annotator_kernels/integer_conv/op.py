"""The operation `integer_conv`: a convolution whose sums are whole numbers, by torch's own oneDNN, and its plain-torch oracle.

No sum of it is rounded, so that its result does not depend on the order of the terms: every instruction set, number of threads and
split of the positions gives the same bits.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

LARGEST_INPUT = 255
LARGEST_WEIGHT = 63
"""Seven bits with the sign: two products of a byte and such a weight fit 16 bits, which is where instruction sets without
VNNI add them, and where eight bits would saturate."""
_EXACT = 1 << 24
"""Whole numbers up to this are exact in float32."""


class IntegerConv:
    """Weights of one `integer_conv`, packed for the CPU.

    Attributes:
        inputs: Channels of its input.
        outputs: Channels of its output.
        reach: Positions that one output position sees beside its own: (W - 1) * dilation.
    """

    def __init__(self, weight: Tensor, exponent: Tensor, bias: Tensor, *, dilation: int = 1) -> None:
        """Check and pack.

        Args:
            weight: int8, taps first, [W, I, O], of -63..63.
            exponent: What a unit of the weights stands for, as a power of two, integers [O].
            bias: Whole multiples of `2**exponent`, float32, [O].
            dilation: Positions between two taps, >= 1.

        Raises:
            ValueError: An argument has a wrong shape, type or range, or a sum could be too large to be exact.
        """
        _check(weight, exponent, bias, dilation)
        self.width, self.inputs, self.outputs = weight.shape
        self.dilation, self.reach = dilation, (self.width - 1) * dilation
        self.weight, self.exponent, self.bias = weight, exponent, bias
        self._scale = torch.ldexp(torch.ones(self.outputs), exponent)
        self._zeros = torch.zeros(self.outputs, dtype=torch.int64)
        self._packed: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """`y[b, l, o] = bias[o] + 2**exponent[o] * sum_{t, i} x[b, l + t * dilation, i] * weight[t, i, o]`, exactly.

        Args:
            x: uint8, contiguous, [B, L + reach, I]; the caller fills in what lies beyond the ends.

        Returns:
            float32, [B, L, O], contiguous.
        """
        images = x.transpose(1, 2).unsqueeze(2)  # [B, I, 1, L], channels last in memory
        shape, dilation = [[1, 1], [0, 0]], [1, self.dilation]
        if self._packed is None:
            kernel = self.weight.permute(2, 1, 0).unsqueeze(2).contiguous()
            self._packed = torch.ops.onednn.qconv_prepack(
                kernel, self._scale, 1.0, 0, *shape, dilation, 1, list(images.shape)
            )  # fmt: skip
        y: Tensor = torch.ops.onednn.qconv_pointwise(
            images, 1.0, 0, self._packed, self._scale, self._zeros, self.bias, *shape, dilation, 1, 1.0, 0, torch.float32,
            "none", [], "",
        )  # fmt: skip
        return y.squeeze(2).transpose(1, 2)

    def reference(self, x: Tensor) -> Tensor:
        """The same in float64, which is exact as well."""
        images, kernel = x.transpose(1, 2).double(), self.weight.permute(2, 1, 0).double()
        sums = F.conv1d(images, kernel, dilation=self.dilation).transpose(1, 2)
        return (torch.ldexp(sums, self.exponent) + self.bias.double()).float().contiguous()


def _check(weight: Tensor, exponent: Tensor, bias: Tensor, dilation: int) -> None:
    if weight.dim() != 3 or weight.dtype != torch.int8 or 0 in weight.shape:
        raise ValueError(f"weight must be int8 [W, I, O], not {weight.dtype} {list(weight.shape)}")
    if exponent.shape != weight.shape[2:] or exponent.is_floating_point():
        raise ValueError(f"exponent must be whole numbers [{weight.shape[2]}], not {exponent.dtype} {list(exponent.shape)}")
    if bias.dtype != torch.float32 or bias.shape != weight.shape[2:]:
        raise ValueError(f"bias must be float32 [{weight.shape[2]}], not {bias.dtype} {list(bias.shape)}")
    if dilation < 1:
        raise ValueError(f"dilation must be >= 1, not {dilation}")
    if int(weight.abs().amax()) > LARGEST_WEIGHT or int(weight.amin()) < -LARGEST_WEIGHT:
        raise ValueError(f"weights must lie within -{LARGEST_WEIGHT}..{LARGEST_WEIGHT}")
    if int(exponent.abs().amax()) > 64:
        raise ValueError("exponent must lie within -64..64")
    units = torch.ldexp(bias.double(), -exponent)
    if not bool(torch.isfinite(units).all()) or not torch.equal(units, units.round()):
        raise ValueError("bias must be whole multiples of 2**exponent")
    if int((weight.abs().double().sum((0, 1)) * LARGEST_INPUT + units.abs()).amax()) >= _EXACT:
        raise ValueError("a sum of the weights could reach 2**24, beyond which float32 is not exact")


@cache
def integer_engine_fault() -> str | None:
    """Why `integer_conv` cannot be used here, in a few words; None where it can and its sums are right."""
    if not hasattr(torch.ops.onednn, "qconv_pointwise") or not torch.backends.mkldnn.is_available():
        return f"torch {torch.__version__} has no integer convolutions of oneDNN on this machine"
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
