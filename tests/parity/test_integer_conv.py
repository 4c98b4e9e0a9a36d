"""Convolutions of whole numbers against their oracle: every bit, for the largest sums too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from annotator_kernels.integer_conv.op import LARGEST_WEIGHT, IntegerConv, integer_conv_fault

pytestmark = pytest.mark.skipif(integer_conv_fault() is not None, reason=f"no integer convolutions: {integer_conv_fault()}")


def case(
    batch: int, length: int, inputs: int, outputs: int, width: int, dilation: int, *, extreme: bool = False
) -> tuple[IntegerConv, Tensor]:
    """Weights and bytes; extreme ones are the largest there are, all of one sign in a channel."""
    generator = torch.Generator().manual_seed(length + inputs)
    weight = torch.randint(-LARGEST_WEIGHT, LARGEST_WEIGHT + 1, (width, inputs, outputs), generator=generator).to(torch.int8)
    x = torch.randint(0, 256, (batch, length + (width - 1) * dilation, inputs), generator=generator).to(torch.uint8)
    if extreme:
        weight, x = weight.sign() * LARGEST_WEIGHT, x.clamp(min=255)
        weight[:, :, 0], weight[:, :, 1] = LARGEST_WEIGHT, -LARGEST_WEIGHT
    exponent = torch.randint(-14, -4, (outputs,), generator=generator)
    bias = torch.ldexp(torch.randint(-5000, 5000, (outputs,), generator=generator).float(), exponent)
    return IntegerConv(weight, exponent, bias, dilation=dilation), x


@pytest.mark.parametrize("extreme", [False, True], ids=["any", "largest"])
@pytest.mark.parametrize(
    ("batch", "length", "inputs", "outputs", "width", "dilation"),
    [
        (1, 1003, 32, 32, 9, 1), (3, 64, 32, 32, 9, 1), (1, 99, 96, 96, 5, 64), (2, 129, 96, 96, 5, 128), (1, 130, 256, 96, 1, 1),
        (2, 65, 96, 256, 1, 1), (1, 1000, 32, 6, 1, 1), (1, 1, 16, 16, 3, 2), (1, 333, 128, 128, 5, 8), (2, 50, 160, 160, 5, 2),
    ],
)  # fmt: skip
def test_every_bit_is_that_of_the_oracle(
    batch: int, length: int, inputs: int, outputs: int, width: int, dilation: int, extreme: bool
) -> None:
    conv, x = case(batch, length, inputs, outputs, width, dilation, extreme=extreme)
    found = conv(x)
    assert found.shape == (batch, length, outputs) and found.is_contiguous()
    assert torch.equal(found, conv.reference(x))
    assert float(found.abs().amax()) <= conv.bound
    assert torch.equal(conv(x[:, : width * dilation]), conv.reference(x[:, : width * dilation]))  # another shape, packed already


def weights() -> dict[str, Any]:
    return {
        "weight": torch.ones(3, 8, 4, dtype=torch.int8), "exponent": torch.full((4,), -3), "bias": torch.arange(4) / 8,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weight": torch.ones(3, 8, 4)}, "weight must be int8"),
        ({"weight": torch.full((3, 8, 4), 64, dtype=torch.int8)}, "within -63..63"),
        ({"weight": torch.full((3, 8, 4), -128, dtype=torch.int8)}, "within -63..63"),
        ({"exponent": torch.zeros(4)}, "exponent must be whole numbers"),
        ({"exponent": torch.full((4,), 65)}, "exponents must lie"),
        ({"bias": torch.arange(4) / 16}, "whole multiples"),
        ({"bias": torch.full((4,), float("nan"))}, "whole multiples"),
        ({"bias": torch.full((4,), 2.0**21)}, "2\\*\\*24"),
        ({"bias": torch.zeros(5)}, "bias must be float32"),
        ({"weight": torch.full((300, 8, 4), 63, dtype=torch.int8)}, "2\\*\\*24"),
    ],
)
def test_arguments_whose_sums_would_not_be_exact_are_refused(change: dict[str, Tensor], said: str) -> None:
    IntegerConv(**weights())
    with pytest.raises(ValueError, match=said):
        IntegerConv(**(weights() | change))
    with pytest.raises(ValueError, match="dilation"):
        IntegerConv(**weights(), dilation=0)
