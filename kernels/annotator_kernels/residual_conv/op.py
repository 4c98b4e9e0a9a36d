"""The operation `residual_conv`: the public function, the checks of its arguments, and its plain-torch oracle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from annotator_kernels.backends import Backend, run_kernel


class Head(NamedTuple):
    """A linear map of the channels of each position, computed in float32 while they are at hand.

    Attributes:
        weight: Weights, float32, [C, O].
        bias: Bias, float32, [C].
    """

    weight: Tensor
    bias: Tensor


def residual_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    dilation: int = 1,
    slope: float = 1.0,
    residual: Tensor | None = None,
    head: Head | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Dilated convolution, bias, leaky ReLU, residual and head in one pass, channels last.

    Args:
        x: Activations, float32 or bfloat16, [B, L, I].
        weight: Weights, taps first, in the type of `x`, [W, I, O]; W odd.
        bias: Bias, float32, [O].
        dilation: Positions between two taps, >= 1.
        slope: Slope of the negative half of the leaky ReLU; 1 for no activation.
        residual: Tensor added last, in the type of `x`, [B, L, O]; None adds nothing.
        head: What is made of each position's sum; None gives the sum itself.
        backend: "triton" or "torch" run that or raise; "auto" runs Triton on a CUDA tensor where it can, else torch.

    Returns:
        Activations, [B, L, O], in the type of `x`, or with a head its values, float32, [B, L, C]; on the device of `x`. Backends
        differ by the rounding of that type and the order of float32 sums.

    Raises:
        BackendError: "triton" was asked for and cannot be imported.
        ValueError: An argument has a wrong shape, type or range, or "triton" was asked for on a CPU.
    """
    return run_kernel(
        "residual_conv",
        "annotator_kernels.residual_conv.kernel",
        residual_conv_reference,
        lambda function: function(x, weight, bias, dilation=dilation, slope=slope, residual=residual, head=head),
        device=x.device,
        backend=backend,
    )


def check_conv_arguments(
    x: Tensor, weight: Tensor, bias: Tensor, dilation: int, slope: float, residual: Tensor | None, head: Head | None = None
) -> None:
    """Refuse arguments that `residual_conv` (kernel or oracle) has no meaning for.

    Raises:
        ValueError: An argument has a wrong shape, type or range.
    """
    if x.dim() != 3 or x.dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f"x must be float32 or bfloat16 [B, L, I], not {x.dtype} {list(x.shape)}")
    if weight.dim() != 3 or weight.dtype != x.dtype or weight.shape[1] != x.shape[2] or len(weight) % 2 == 0:
        raise ValueError(f"weight must be {x.dtype} [odd W, {x.shape[2]}, O], not {weight.dtype} {list(weight.shape)}")
    if bias.dtype != torch.float32 or bias.shape != weight.shape[2:]:
        raise ValueError(f"bias must be float32 [{weight.shape[2]}], not {bias.dtype} {list(bias.shape)}")
    if dilation < 1:
        raise ValueError(f"dilation must be >= 1, not {dilation}")
    if not 0.0 <= slope <= 1.0:
        raise ValueError(f"slope must be 0..1, not {slope}")
    shape = (*x.shape[:2], weight.shape[2])
    if residual is not None and (residual.shape != shape or residual.dtype != x.dtype):
        raise ValueError(f"residual must be {x.dtype} {list(shape)}, not {residual.dtype} {list(residual.shape)}")
    if head is None:
        return
    if head.weight.dim() != 2 or head.weight.dtype != torch.float32 or head.weight.shape[1] != shape[2]:
        raise ValueError(f"head's weight must be float32 [C, {shape[2]}], not {head.weight.dtype} {list(head.weight.shape)}")
    if head.bias.dtype != torch.float32 or head.bias.shape != head.weight.shape[:1]:
        raise ValueError(f"head's bias must be float32 [{len(head.weight)}], not {head.bias.dtype} {list(head.bias.shape)}")


def residual_conv_reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    dilation: int = 1,
    slope: float = 1.0,
    residual: Tensor | None = None,
    head: Head | None = None,
) -> Tensor:
    """One block of the bundled model: dilated convolution, bias, leaky ReLU, and the residual added.

    `y[b, l, o] = residual[b, l, o] + f(bias[o] + sum_{t, i} x[b, l + (t - W // 2) * dilation, i] * weight[t, i, o])` with
    `f(z) = z if z >= 0 else slope * z` and zeros for x outside [0, L). Sums are float32. In bfloat16 the sum, what is left
    of it by f, and the result are rounded, where the kernel rounds once: as an oracle, call it on float32 copies.

    Args:
        x: Activations, channels last, float32 or bfloat16, [B, L, I].
        weight: Weights, taps first, in the type of `x`, [W, I, O]; W odd.
        bias: Bias, float32, [O]; a norm is folded into it and the weight beforehand.
        dilation: Positions between two taps, >= 1.
        slope: Slope of the negative half of the leaky ReLU; 1 for no activation.
        residual: Tensor added last, in the type of `x`, [B, L, O]; None adds nothing.
        head: What is made of each position's result, which is widened to float32; None gives the result itself.

    Returns:
        Activations, [B, L, O], in the type of `x`, or with a head its values, float32, [B, L, C]; contiguous, on the device
        of `x`.

    Raises:
        ValueError: An argument has a wrong shape, type or range.

    Notes:
        The cost is 2 * W * I * O FLOPs a position. Channels last is the layout in which oneDNN's convolutions are fastest and
        in which a down-sampling convolution (stride = width) is a plain matrix product over a reshaped view. On a GPU cuDNN
        rounds no factor to TensorFloat-32 here.
    """
    check_conv_arguments(x, weight, bias, dilation, slope, residual, head)
    if x.shape[1] == 0:
        return x.new_empty(len(x), 0, weight.shape[2]) if head is None else head.bias.new_empty(len(x), 0, len(head.bias))
    images = x.transpose(1, 2).unsqueeze(2)  # [B, I, 1, L], channels last in memory
    kernel = weight.permute(2, 1, 0).unsqueeze(2)  # [O, I, 1, W]
    padding = (0, dilation * (len(weight) // 2))
    with _full_float32(x.device):
        y = F.conv2d(images, kernel, bias.to(x.dtype), padding=padding, dilation=(1, dilation))
    y = y.squeeze(2).transpose(1, 2)
    if slope != 1.0:
        y = F.leaky_relu_(y, slope)
    if residual is not None:
        y = y.add_(residual)
    y = y.contiguous()
    return y if head is None else F.linear(y.float(), head.weight, head.bias)


@contextmanager
def _full_float32(device: torch.device) -> Iterator[None]:
    """Keeps cuDNN, whose default is otherwise, from rounding the factors of a float32 convolution."""
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
