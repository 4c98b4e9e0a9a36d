"""Triton kernel of one block of the bundled model: dilated convolution, bias, leaky ReLU, residual, in one pass.

Activations are channels last. The oracle is `annotator_kernels.residual_conv.op.residual_conv_reference`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from annotator_kernels.backends import launch_on
from annotator_kernels.residual_conv.op import check_conv_arguments

_FOLD = 4
"""Positions that are computed as one where there are few channels."""


@triton.jit(do_not_specialize=["length", "tiles", "dilation"])  # type: ignore[untyped-decorator]
def _residual_conv_kernel(  # type: ignore[no-untyped-def]
    x_ptr,
    weight_ptr,
    bias_ptr,
    residual_ptr,
    out_ptr,
    length,
    tiles,
    dilation,
    slope,
    W: tl.constexpr,
    I: tl.constexpr,  # noqa: E741  # the shape's name
    O: tl.constexpr,  # noqa: E741
    HAS_RESIDUAL: tl.constexpr,
    BLOCK_L: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_O: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Compute one tile of one row: `y = residual + leaky(bias + sum over taps of x[shifted] @ weight[tap])`.

    A tap is a matrix product of the tile's rows, shifted by `(t - W // 2) * dilation`, with [I, O]; rows beyond the ends of
    the batch row count as zeros, and no row of a neighbour is read. Sums are float32, the result is rounded once.

    Grid: (B * tiles, cdiv(O, BLOCK_O)); program (p, o) computes positions [t * BLOCK_L, (t + 1) * BLOCK_L) of batch row
    p // tiles, t = p % tiles, and channels [o * BLOCK_O, (o + 1) * BLOCK_O). Memory: x [B, L, I], weight [W, I, O], residual
    and out [B, L, O], row-major; the address of a tile is int64, offsets within it int32.
    """
    program = tl.program_id(0)
    first = (program % tiles).to(tl.int64) * BLOCK_L
    start = (program // tiles).to(tl.int64) * length + first
    row = tl.arange(0, BLOCK_L)
    out_channel = tl.program_id(1) * BLOCK_O + tl.arange(0, BLOCK_O)
    chunks: tl.constexpr = (I + BLOCK_I - 1) // BLOCK_I
    total = tl.zeros([BLOCK_L, BLOCK_O], dtype=tl.float32)
    for step in range(W * chunks):
        shift = dilation.to(tl.int64) * (step // chunks - W // 2)
        in_channel = (step % chunks) * BLOCK_I + tl.arange(0, BLOCK_I)
        row_from = tl.minimum(tl.maximum(-(first + shift), 0), BLOCK_L).to(tl.int32)
        row_to = tl.minimum(tl.maximum(length - (first + shift), 0), BLOCK_L).to(tl.int32)
        x_mask = ((row >= row_from) & (row < row_to))[:, None]
        weight_mask = (out_channel < O)[None, :]
        if I % BLOCK_I:
            x_mask = x_mask & (in_channel < I)[None, :]
            weight_mask = weight_mask & (in_channel < I)[:, None]
        x = tl.load(
            x_ptr + (start + shift) * I + (row[:, None] * I + in_channel[None, :]),
            mask=x_mask,
            other=0.0,
            cache_modifier=".ca",  # in L1: the next taps read most of these rows again
        )
        weight = tl.load(
            weight_ptr + (step // chunks) * (I * O) + (in_channel[:, None] * O + out_channel[None, :]),
            mask=weight_mask,
            other=0.0,
        )
        if WIDEN:  # Triton's interpreter multiplies the bit patterns of bfloat16, not its values
            x, weight = x.to(tl.float32), weight.to(tl.float32)
        total = tl.dot(x, weight, total, input_precision="ieee")
    total += tl.load(bias_ptr + out_channel, mask=out_channel < O, other=0.0)[None, :]
    total = tl.where(total >= 0, total, total * slope)
    offset = row[:, None] * O + out_channel[None, :]
    mask = (row < length - first)[:, None] & (out_channel < O)[None, :]
    if HAS_RESIDUAL:
        total += tl.load(residual_ptr + start * O + offset, mask=mask, other=0.0).to(tl.float32)
    tl.store(out_ptr + start * O + offset, total.to(out_ptr.dtype.element_ty), mask=mask)


class Tile(NamedTuple):
    """How a launch cuts a shape; part of the result's bits, so fixed for a shape and never tuned at run time.

    Attributes:
        block_l: Positions of a program.
        block_i: Input channels of a step.
        block_o: Output channels of a program.
        warps: Warps of a program.
        stages: Steps whose loads are under way at once.
    """

    block_l: int
    block_i: int
    block_o: int
    warps: int
    stages: int


def choose_tile(inputs: int, outputs: int, dtype: torch.dtype) -> Tile:
    """The tile for one shape.

    Args:
        inputs: Input channels I.
        outputs: Output channels O.
        dtype: Type of the activations.

    Returns:
        For bfloat16, tiles whose accumulators leave room for two programs on a multiprocessor; for float32, which the tensor
        cores do not multiply exactly, smaller ones. 96 channels are read in steps of 32 and written in a block of 128.
    """
    block_o = min(max(triton.next_power_of_2(outputs), 16), 128)
    if dtype == torch.float32:
        return Tile(block_l=64, block_i=16 if inputs <= 16 else 32, block_o=min(block_o, 64), warps=4, stages=2)
    block_i = 64 if inputs % 64 == 0 else 32 if inputs > 16 else 16
    return Tile(
        block_l=256 if block_o <= 32 else 128, block_i=block_i, block_o=block_o, warps=4, stages=3 if block_i == 64 else 4
    )


def fold_positions(weight: Tensor, bias: Tensor, fold: int) -> tuple[Tensor, Tensor]:
    """Weights of the same convolution over groups of positions.

    A contiguous [B, L, I] seen as [B, L / fold, fold * I] has a group's positions side by side in its channels. There a
    convolution of dilation 1 has fewer taps of larger matrices, some of whose blocks are zero.

    Args:
        weight: Weights, [W, I, O]; W odd.
        bias: Bias, [O].
        fold: Positions of a group.

    Returns:
        Weight [T, fold * I, fold * O], T = 1 + 2 * ceil((W // 2) / fold), and bias [fold * O].
    """
    taps, inputs, outputs = weight.shape
    reach = triton.cdiv(taps // 2, fold)  # groups on either side
    groups = 2 * reach + 1
    # Block (group g, position p in) -> (position q out) is tap fold * (g - reach) + p - q + W // 2, or zero beyond the taps:
    # seen with q counted backward, all three step forward through the taps.
    beyond = reach * fold + fold - 1 - taps // 2
    padded = torch.nn.functional.pad(weight, (0, 0, 0, 0, beyond, beyond)).contiguous()
    tap = inputs * outputs
    blocks = padded.as_strided((groups, fold, fold, inputs, outputs), (fold * tap, tap, tap, outputs, 1)).flip(2)
    return blocks.transpose(2, 3).reshape(groups, fold * inputs, fold * outputs), bias.repeat(fold)


def residual_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    dilation: int = 1,
    slope: float = 1.0,
    residual: Tensor | None = None,
) -> Tensor:
    """One block of the bundled model: dilated convolution, bias, leaky ReLU, and the residual added, in one launch.

    Args:
        x: Activations, channels last, float32 or bfloat16, [B, L, I]; copied first where it is not contiguous.
        weight: Weights, taps first, in the type of `x`, [W, I, O]; W odd.
        bias: Bias, float32, [O]; a norm is folded into it and the weight beforehand.
        dilation: Positions between two taps, >= 1.
        slope: Slope of the negative half of the leaky ReLU; 1 for no activation.
        residual: Tensor added last, in the type of `x`, [B, L, O]; None adds nothing.

    Returns:
        Activations, [B, L, O], in the type of `x`, contiguous, on its device; equal to `residual_conv_reference` up to the
        order of float32 sums, rounded once.

    Raises:
        ValueError: An argument has a wrong shape, type or range, the tensors are on different devices, x is not on a CUDA
            device (nor in Triton's interpreter, which needs TRITON_INTERPRET=1 before this module is imported), or a
            gradient is wanted, which this kernel does not make.

    Notes:
        Where there are few channels (I and O up to 32, bfloat16, dilation 1, L a multiple of 4), four neighbouring
        positions are computed as one, with `fold_positions`: a third more multiplications, but a third of the loads, and
        matrices of a size that tensor cores like. A value that is not finite then reaches the whole group of four.
    """
    check_conv_arguments(x, weight, bias, dilation, slope, residual)
    current = launch_on(x, "residual_conv", "a tensor", interpreted=triton.knobs.runtime.interpret)
    given = [x, weight, bias] if residual is None else [x, weight, bias, residual]
    if any(tensor.device != x.device for tensor in given):
        raise ValueError(f"residual_conv: tensors on different devices: {', '.join(str(tensor.device) for tensor in given)}")
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given):
        raise ValueError("residual_conv: the triton kernel makes no gradient; train with backend='torch'")
    batch, length, inputs = x.shape
    taps, _, outputs = weight.shape
    out = torch.empty((batch, length, outputs), dtype=x.dtype, device=x.device)
    if out.numel() == 0:
        return out
    x, weight, bias = x.contiguous(), weight.contiguous(), bias.contiguous()
    residual = None if residual is None else residual.contiguous()
    fold = _FOLD if x.dtype == torch.bfloat16 and max(inputs, outputs) <= 32 and taps > 1 and dilation == 1 else 1
    if fold > 1 and length % fold == 0:
        weight, bias = fold_positions(weight, bias, fold)
        taps, inputs, outputs = weight.shape
        length //= fold
    tile = choose_tile(inputs, outputs, x.dtype)
    tiles = triton.cdiv(length, tile.block_l)
    with current:
        _residual_conv_kernel[(batch * tiles, triton.cdiv(outputs, tile.block_o))](
            x,
            weight,
            bias,
            out if residual is None else residual,
            out,
            length,
            tiles,
            min(dilation, length),  # taps this far away are all beyond the ends
            slope,
            W=taps,
            I=inputs,
            O=outputs,
            HAS_RESIDUAL=residual is not None,
            BLOCK_L=tile.block_l,
            BLOCK_I=tile.block_i,
            BLOCK_O=tile.block_o,
            WIDEN=bool(triton.knobs.runtime.interpret),
            num_warps=tile.warps,
            num_stages=tile.stages,
        )
    return out
