"""Weights of `residual_conv` as its kernel reads them, made once for each tensor of weights and kept while that lives."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

_made: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
"""Of a tensor of weights: by fold and granule, its version when they were made, and what was made."""


def kernel_weights(weight: Tensor, fold: int, granule: int) -> Tensor:
    """Weights folded over groups of positions, with channels that the kernel's descriptors can address.

    Args:
        weight: Weights, float32 or bfloat16, [W, I, O]; W odd.
        fold: Positions of a group; 1 for none.
        granule: Number that the channels are filled up to a multiple of, with zeros.

    Returns:
        Weights, in the type of `weight`, contiguous, at an address that is a multiple of 16 bytes: [T, fold * I', fold * O'],
        with T as in `fold_positions`. `weight` itself where that is all of this.

    Notes:
        A weight that is changed in place is seen by its version. One made in inference mode has no version, so that it is
        prepared anew in each call. The stream is waited for once, as another one may make the next call.
    """
    taps, inputs, outputs = weight.shape
    if fold == 1 and not inputs % granule and not outputs % granule:
        return aligned(weight)
    keeps = not weight.is_inference()
    known: dict[tuple[int, int], tuple[int, Tensor]] = _made.setdefault(weight, {}) if keeps else {}  # type: ignore[no-untyped-call]
    version = weight._version if keeps else 0
    found = known.get((fold, granule))
    if found is None or found[0] != version:
        with torch.no_grad():
            made = fold_positions(filled(filled(weight, granule).transpose(1, 2), granule).transpose(1, 2), fold)
        found = known[fold, granule] = (version, aligned(made))
        if weight.is_cuda and not torch.cuda.is_current_stream_capturing():
            torch.cuda.current_stream(weight.device).synchronize()
    return found[1]


def fold_positions(weight: Tensor, fold: int) -> Tensor:
    """Weights of the same convolution over groups of positions.

    A contiguous [B, L, I] seen as [B, L / fold, fold * I] has a group's positions side by side in its channels. There a
    convolution of dilation 1 has fewer taps of larger matrices, some of whose blocks are zero.

    Args:
        weight: Weights, [W, I, O]; W odd.
        fold: Positions of a group.

    Returns:
        Weights, [T, fold * I, fold * O], T = 1 + 2 * ceil((W // 2) / fold).
    """
    taps, inputs, outputs = weight.shape
    reach = -(-(taps // 2) // fold)  # groups on either side
    groups = 2 * reach + 1
    # Block (group g, position p in) -> (position q out) is tap fold * (g - reach) + p - q + W // 2, or zero beyond the taps:
    # seen with q counted backward, all three step forward through the taps.
    beyond = reach * fold + fold - 1 - taps // 2
    padded = torch.nn.functional.pad(weight, (0, 0, 0, 0, beyond, beyond)).contiguous()
    tap = inputs * outputs
    blocks = padded.as_strided((groups, fold, fold, inputs, outputs), (fold * tap, tap, tap, outputs, 1)).flip(2)
    return blocks.transpose(2, 3).reshape(groups, fold * inputs, fold * outputs)


def filled(tensor: Tensor, granule: int) -> Tensor:
    """A tensor whose last dimension is filled up with zeros to a multiple of `granule`; itself where it is one."""
    missing = -tensor.shape[-1] % granule
    return torch.nn.functional.pad(tensor, (0, missing)) if missing else tensor


def aligned(tensor: Tensor) -> Tensor:
    """A tensor that is contiguous and begins at a multiple of 16 bytes, as descriptors want it: itself, or a copy."""
    tensor = tensor.contiguous()
    return tensor if tensor.data_ptr() % 16 == 0 else tensor.clone()
