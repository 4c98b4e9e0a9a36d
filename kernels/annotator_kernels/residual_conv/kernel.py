"""Triton kernel of one block of the bundled model: dilated convolution, bias, leaky ReLU, residual and head, in one pass.

Activations are channels last. They and the weights pass through tensor descriptors: a GPU with a tensor memory accelerator
(compute capability 9.0 and higher) copies whole tiles into shared memory by itself, fills up with zeros what lies beyond the
ends, and tells the tensor cores when a tile is there; on others Triton turns the descriptors into masked loads. The oracle is
`annotator_kernels.residual_conv.op.residual_conv_reference`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F
from triton.tools.tensor_descriptor import TensorDescriptor

from annotator_kernels.backends import launch_on
from annotator_kernels.residual_conv.op import Head, check_conv_arguments
from annotator_kernels.residual_conv.weights import aligned, filled, kernel_weights

FOLD = 4
"""Positions that are computed as one where there are few channels."""

WIDEST_HEAD = 128
"""Channels that a head reads in the pass of the convolution; those of more are read from memory."""

_ALIGNMENT_BYTES = 16
"""Rows of what a descriptor addresses begin at multiples of this."""


@triton.jit(do_not_specialize=["length", "tiles", "dilation"])  # type: ignore[untyped-decorator]
def _residual_conv_kernel(  # type: ignore[no-untyped-def]
    x_desc,
    weight_desc,
    bias_ptr,
    residual_desc,
    out_desc,
    head_weight_ptr,
    head_bias_ptr,
    logits_ptr,
    length,
    tiles,
    dilation,
    slope,
    W: tl.constexpr,
    I: tl.constexpr,  # noqa: E741  # the shape's name
    O: tl.constexpr,  # noqa: E741
    FOLD: tl.constexpr,
    LOGITS: tl.constexpr,
    BLOCK_L: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_O: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Compute one tile of one row: `y = residual + leaky(bias + sum over taps of x[shifted] @ weight[tap])`, or `head @ y`.

    A tap is a matrix product of the tile's rows, shifted by `(t - W // 2) * dilation`, with [I, O]; rows beyond the ends of
    the batch row count as zeros, and no row of a neighbour is read. Sums are float32, the result is rounded once. With a head
    y stays on the chip, not rounded, and LOGITS values a position are written.

    Grid: (B * tiles, cdiv(O, BLOCK_O)); program (p, o) computes positions [t * BLOCK_L, (t + 1) * BLOCK_L) of batch row
    p // tiles, t = p % tiles, and channels [o * BLOCK_O, (o + 1) * BLOCK_O). Descriptors: x [B, L, I], weight [W, I, O],
    residual and out [B, L, O], row-major. Memory: bias [O / FOLD], head weight [LOGITS, O / FOLD], logits [B, L * FOLD, LOGITS],
    where a position of L is FOLD of the caller's, side by side in its channels. What a launch does not need is None.
    """
    program = tl.program_id(0)
    row = program // tiles
    first = (program % tiles) * BLOCK_L
    out_block = tl.program_id(1) * BLOCK_O
    chunks: tl.constexpr = (I + BLOCK_I - 1) // BLOCK_I
    total = tl.zeros([BLOCK_L, BLOCK_O], dtype=tl.float32)
    for step in range(W * chunks):
        tap = step // chunks
        in_block = (step % chunks) * BLOCK_I
        # A tile that lies beyond an end is zeros wherever it is: so its address fits 32 bits for any dilation.
        shifted = first + dilation.to(tl.int64) * (tap - W // 2)
        at = tl.minimum(tl.maximum(shifted, -BLOCK_L), length).to(tl.int32)
        x = x_desc.load([row, at, in_block]).reshape(BLOCK_L, BLOCK_I)
        weight = weight_desc.load([tap, in_block, out_block]).reshape(BLOCK_I, BLOCK_O)
        if WIDEN:  # Triton's interpreter multiplies the bit patterns of bfloat16, not its values
            x, weight = x.to(tl.float32), weight.to(tl.float32)
        total = tl.dot(x, weight, total, input_precision="ieee")
    channel = out_block + tl.arange(0, BLOCK_O)
    total += tl.load(bias_ptr + channel % (O // FOLD), mask=channel < O, other=0.0)[None, :]
    total = tl.where(total >= 0, total, total * slope)
    if residual_desc is not None:
        total += residual_desc.load([row, first, out_block]).reshape(BLOCK_L, BLOCK_O).to(tl.float32)
    if out_desc is not None:
        out_desc.store([row, first, out_block], total.to(out_desc.dtype).reshape(1, BLOCK_L, BLOCK_O))
    else:
        parts = tl.reshape(total, [BLOCK_L, FOLD, BLOCK_O // FOLD])
        part_channel = tl.arange(0, BLOCK_O // FOLD)
        position = first.to(tl.int64) * FOLD + tl.arange(0, BLOCK_L)[:, None] * FOLD + tl.arange(0, FOLD)[None, :]
        target = logits_ptr + row.to(tl.int64) * length * (FOLD * LOGITS) + position * LOGITS
        for logit in tl.static_range(LOGITS):
            head = tl.load(head_weight_ptr + logit * (O // FOLD) + part_channel, mask=part_channel < O // FOLD, other=0.0)
            value = tl.sum(parts * head[None, None, :], 2) + tl.load(head_bias_ptr + logit)
            tl.store(target + logit, value, mask=position < length * FOLD)


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
        cores do not multiply exactly, smaller ones. 96 channels are read in steps of 32 and computed as 128.
    """
    block_o = min(max(triton.next_power_of_2(outputs), 16), 128)
    if dtype == torch.float32:
        return Tile(block_l=64, block_i=16 if inputs <= 16 else 32, block_o=min(block_o, 64), warps=8, stages=2)
    block_i = 64 if inputs % 64 == 0 else 32 if inputs > 16 else 16
    return Tile(
        block_l=256 if block_o <= 32 else 128, block_i=block_i, block_o=block_o, warps=4, stages=3 if block_i == 64 else 4
    )


def residual_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    dilation: int = 1,
    slope: float = 1.0,
    residual: Tensor | None = None,
    head: Head | None = None,
    tile: Tile | None = None,
) -> Tensor:
    """One block of the bundled model: dilated convolution, bias, leaky ReLU, residual and head, in one launch.

    Args:
        x: Activations, channels last, float32 or bfloat16, [B, L, I], L < 2**31.
        weight: Weights, taps first, in the type of `x`, [W, I, O]; W odd.
        bias: Bias, float32, [O]; a norm is folded into it and the weight beforehand.
        dilation: Positions between two taps, >= 1.
        slope: Slope of the negative half of the leaky ReLU; 1 for no activation.
        residual: Tensor added last, in the type of `x`, [B, L, O]; None adds nothing.
        head: What is made of each position's sum; None gives the sum itself.
        tile: Another tile than that of `choose_tile`, for measuring.

    Returns:
        Activations, [B, L, O], in the type of `x`, equal to `residual_conv_reference` up to the order of float32 sums, rounded
        once; or with a head its values, float32, [B, L, C], of sums that are not rounded. Contiguous, on the device of `x`.

    Raises:
        ValueError: An argument has a wrong shape, type or range, the tensors are on different devices, x is not on a CUDA
            device (nor in Triton's interpreter, which needs TRITON_INTERPRET=1 before this module is imported), or a
            gradient is wanted, which this kernel does not make.

    Notes:
        Where there are few channels (I and O up to 32, bfloat16, dilation 1, L a multiple of 4), four neighbouring
        positions are computed as one, with `fold_positions`: a third more multiplications, but a third of the loads, and
        matrices of a size that tensor cores like. A value that is not finite then reaches the whole group of four.

        Rows of 16 bytes: where I or O is no multiple of 8 (bfloat16) or 4 (float32), or a tensor is not contiguous, x and
        residual are copied first, filled up with zeros, and the result is a slice's copy. Weights are filled up and folded
        once, not per call. A head of more than WIDEST_HEAD channels reads the result from memory.
    """
    check_conv_arguments(x, weight, bias, dilation, slope, residual, head)
    current = launch_on(x, "residual_conv", "a tensor", interpreted=triton.knobs.runtime.interpret)
    given = [x, weight, bias, *([] if residual is None else [residual]), *(head or ())]
    if any(tensor.device != x.device for tensor in given):
        raise ValueError(f"residual_conv: tensors on different devices: {', '.join(str(tensor.device) for tensor in given)}")
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given):
        raise ValueError("residual_conv: the triton kernel makes no gradient; train with backend='torch'")
    batch, length, inputs = x.shape
    taps, _, outputs = weight.shape
    if length >= 1 << 31:
        raise ValueError(f"residual_conv: rows of {length} positions, fewer than 2**31 can be addressed")
    if head and outputs > WIDEST_HEAD:
        y = residual_conv(x, weight, bias, dilation=dilation, slope=slope, residual=residual, tile=tile)
        return F.linear(y.float(), head.weight, head.bias)
    granule = _ALIGNMENT_BYTES // x.element_size()
    wide = outputs + -outputs % granule
    if head:
        out = torch.empty((batch, length, len(head.bias)), dtype=torch.float32, device=x.device)
    else:
        out = torch.empty((batch, length, wide), dtype=x.dtype, device=x.device)
    if out.numel() == 0:
        return out if head else out[:, :, :outputs]
    fold = _positions_as_one(x, weight, dilation, head)
    kernel_weight = kernel_weights(weight, fold, granule)
    taps, inputs, channels = kernel_weight.shape
    shape = (batch, length // fold, inputs)
    seen = aligned(filled(x, granule)).view(shape)
    kept = None if residual is None else seen if residual is x else aligned(filled(residual, granule)).view(*shape[:2], channels)
    tile = tile or choose_tile(inputs, channels, x.dtype)
    tiles = triton.cdiv(shape[1], tile.block_l)
    out_tile = (1, tile.block_l, tile.block_o)
    with current:
        _residual_conv_kernel[(batch * tiles, triton.cdiv(channels, tile.block_o))](
            _descriptor(seen, (1, tile.block_l, tile.block_i)),
            _descriptor(kernel_weight, (1, tile.block_i, tile.block_o)),
            aligned(filled(bias, granule)),
            None if kept is None else _descriptor(kept, out_tile),
            None if head else _descriptor(out.view(*shape[:2], channels), out_tile),
            filled(head.weight, granule).contiguous() if head else None,
            head.bias.contiguous() if head else None,
            out if head else None,
            shape[1],
            tiles,
            dilation,
            slope,
            W=taps,
            I=inputs,
            O=channels,
            FOLD=fold,
            LOGITS=len(head.bias) if head else 0,
            BLOCK_L=tile.block_l,
            BLOCK_I=tile.block_i,
            BLOCK_O=tile.block_o,
            WIDEN=bool(triton.knobs.runtime.interpret),
            num_warps=tile.warps,
            num_stages=tile.stages,
        )
    return out if head or wide == outputs else out[:, :, :outputs].contiguous()


def _descriptor(tensor: Tensor, tile: tuple[int, int, int]) -> TensorDescriptor:
    """What the kernel loads tiles of a contiguous [B, L, C] by; strides as they are, also of dimensions of one."""
    _, rows, columns = tensor.shape
    return TensorDescriptor(tensor, list(tensor.shape), [rows * columns, columns, 1], list(tile))


def _positions_as_one(x: Tensor, weight: Tensor, dilation: int, head: Head | None) -> int:
    """Positions of x that are computed as one: FOLD where there are few channels, else 1."""
    taps, inputs, outputs = weight.shape
    few = x.dtype == torch.bfloat16 and max(inputs, outputs) <= 32 and taps > 1 and dilation == 1
    whole = head is None or outputs in (8, 16, 32)  # the kernel takes a group's sum apart into positions
    return FOLD if few and whole and x.shape[1] % FOLD == 0 else 1
