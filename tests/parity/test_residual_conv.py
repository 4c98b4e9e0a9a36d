"""The fused convolution against its oracle (in Triton's interpreter where there is no CUDA).

Bounds: the oracle computes the same inputs in float32. A float32 result may differ by 1e-5 of the sum of the absolute products
(the order of the sums); a bfloat16 result by that and by 2**-8 of its size: one rounding. Triton's interpreter cuts off
where a GPU rounds to nearest, so 2**-7 there.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="triton is not installed: the kernel cannot run, not even in its interpreter")

from annotator_kernels.residual_conv import op, weights
from annotator_kernels.residual_conv.kernel import WIDEST_HEAD, residual_conv
from annotator_kernels.residual_conv.op import Head, residual_conv_reference
from annotator_kernels.residual_conv.weights import fold_positions, kernel_weights

GUARD = 64
ROUNDING = 2**-8 if torch.cuda.is_available() else 2**-7
BOTH_TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
STEM, DOWN, BLOCK, UP, HEAD = (32, 32, 9), (256, 96, 1), (96, 96, 5), (96, 256, 1), (32, 3, 1)


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Makes `torch.empty` hand out NaN between guards; the buffers it handed out."""
    buffers: list[Tensor] = []

    def empty(shape: tuple[int, ...], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        count = int(torch.Size(shape).numel())
        buffers.append(torch.full((count + 2 * GUARD,), float("nan"), dtype=dtype, device=device))
        return buffers[-1][GUARD : GUARD + count].view(shape)

    monkeypatch.setattr(torch, "empty", empty)
    return buffers


def random_case(
    batch: int, length: int, shape: tuple[int, int, int], dtype: torch.dtype, *, residual: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """x, weight, bias and residual of a shape (I, O, W)."""
    inputs, outputs, taps = shape
    generator = torch.Generator().manual_seed(length)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator)

    x, weight = normal(batch, length, inputs).to(dtype), (normal(taps, inputs, outputs) / (taps * inputs) ** 0.5).to(dtype)
    return x, weight, normal(outputs), normal(batch, length, outputs).to(dtype) if residual else None


def check(
    device: torch.device,
    case: tuple[Tensor, Tensor, Tensor, Tensor | None],
    *,
    dilation: int = 1,
    slope: float = 0.1,
    run: Callable[..., Tensor] = residual_conv,
) -> Tensor:
    """Run the kernel and hold it to the bounds; the result."""
    x, weight, bias, residual = case
    moved = [None if tensor is None else tensor.to(device) for tensor in case]
    y = run(*moved[:3], dilation=dilation, slope=slope, residual=moved[3])
    assert y.dtype == x.dtype and y.is_contiguous()
    wide = [tensor.cpu().float() for tensor in (x, weight, bias)]
    oracle = residual_conv_reference(
        *wide, dilation=dilation, slope=slope, residual=None if residual is None else residual.cpu().float()
    )  # fmt: skip
    products = residual_conv_reference(*(tensor.abs() for tensor in wide), dilation=dilation)
    bound = 1e-5 * (products + oracle.abs()) + (ROUNDING * oracle.abs() if x.dtype == torch.bfloat16 else 0)
    assert y.shape == oracle.shape
    assert bool(((y.cpu().float() - oracle).abs() <= bound).all())  # NaN fails too
    return y.cpu()


def check_guards(buffers: list[Tensor], count: int) -> None:
    assert len(buffers) == count
    for buffer in buffers:
        assert bool(buffer[:GUARD].isnan().all()) and bool(buffer[len(buffer) - GUARD :].isnan().all())


@BOTH_TYPES
@pytest.mark.parametrize(
    ("shape", "residual"),
    [(STEM, True), (DOWN, False), (BLOCK, True), (UP, True), (HEAD, False)],
    ids=["stem", "down", "block", "up", "head"],
)
def test_the_shapes_of_the_bundled_model(
    kernel_device: torch.device, poisoned: list[Tensor], shape: tuple[int, int, int], residual: bool, dtype: torch.dtype
) -> None:
    check(kernel_device, random_case(2, 70, shape, dtype, residual=residual))
    check_guards(poisoned, 1)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (3, 5, 3), (16, 16, 7), (17, 33, 3), (40, 130, 1)], ids=lambda shape: "x".join(map(str, shape))
)
@BOTH_TYPES
def test_other_channel_counts(
    kernel_device: torch.device, poisoned: list[Tensor], shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    check(kernel_device, random_case(2, 37, shape, dtype, residual=True), dilation=3)
    check_guards(poisoned, 1)


@pytest.mark.parametrize("length", [1, 2, 3, 63, 64, 65, 1003])
def test_awkward_lengths_in_float32(kernel_device: torch.device, length: int) -> None:
    check(kernel_device, random_case(2, length, (16, 8, 5), torch.float32, residual=True))


@pytest.mark.parametrize("length", [1, 2, 3, 5, 255, 256, 257, 1003])
def test_awkward_lengths_in_bfloat16(kernel_device: torch.device, length: int) -> None:
    check(kernel_device, random_case(2, length, (16, 8, 5), torch.bfloat16, residual=True), dilation=2)


@pytest.mark.parametrize("length", [4, 8, 508, 512, 516])
def test_awkward_lengths_of_folded_positions(kernel_device: torch.device, poisoned: list[Tensor], length: int) -> None:
    check(kernel_device, random_case(2, length, STEM, torch.bfloat16, residual=True))
    check_guards(poisoned, 1)


@pytest.mark.parametrize("dilation", [1, 4, 16, 64, 90, 1 << 30])
def test_dilations(kernel_device: torch.device, dilation: int) -> None:
    check(kernel_device, random_case(1, 150, BLOCK, torch.bfloat16, residual=True), dilation=dilation)


@pytest.mark.parametrize("slope", [0.0, 0.1, 1.0])
@BOTH_TYPES
def test_slopes(kernel_device: torch.device, slope: float, dtype: torch.dtype) -> None:
    check(kernel_device, random_case(1, 20, (16, 16, 3), dtype, residual=True), slope=slope)


@pytest.mark.parametrize(("batch", "length"), [(0, 20), (2, 0)], ids=["no rows", "no positions"])
def test_nothing(kernel_device: torch.device, batch: int, length: int) -> None:
    x, weight, bias, residual = random_case(batch, length, STEM, torch.bfloat16, residual=True)
    assert residual is not None
    y = residual_conv(*(tensor.to(kernel_device) for tensor in (x, weight, bias)), residual=residual.to(kernel_device))
    assert y.shape == (batch, length, 32) and y.dtype == torch.bfloat16


@pytest.mark.parametrize(("shape", "length"), [(STEM, 64), (STEM, 65), (BLOCK, 64)], ids=["folded", "stem", "block"])
def test_a_row_does_not_read_its_neighbours(kernel_device: torch.device, shape: tuple[int, int, int], length: int) -> None:
    x, weight, bias, residual = random_case(3, length, shape, torch.bfloat16, residual=True)
    assert residual is not None
    alone = check(kernel_device, (x[1:2], weight, bias, residual[1:2]), dilation=1)
    x[0], x[2] = 1e30, -1e30
    together = residual_conv(
        *(tensor.to(kernel_device) for tensor in (x, weight, bias)), slope=0.1, residual=residual.to(kernel_device)
    )
    assert torch.equal(together[1:2].cpu(), alone)


def test_the_middle_tap_copies() -> None:
    """By hand: weights that copy the base before, zeros at the left end."""
    x = torch.arange(1.0, 9.0).bfloat16().view(1, 4, 2)
    weight = torch.stack([torch.eye(2), torch.zeros(2, 2), torch.zeros(2, 2)]).bfloat16()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    y = residual_conv(x.to(device), weight.to(device), torch.zeros(2, device=device))
    assert y.tolist() == [[[0, 0], [1, 2], [3, 4], [5, 6]]]


def test_non_contiguous_tensors(kernel_device: torch.device) -> None:
    x, weight, bias, residual = random_case(2, 40, (32, 32, 5), torch.bfloat16, residual=True)
    assert residual is not None
    turned = [tensor.transpose(0, -1).contiguous().transpose(0, -1) for tensor in (x, weight, residual)]
    assert not any(tensor.is_contiguous() for tensor in turned)
    check(kernel_device, (turned[0], turned[1], bias.repeat_interleave(2)[::2], turned[2]))


def test_a_residual_that_is_the_input_and_repeated_runs(kernel_device: torch.device) -> None:
    x, weight, bias, _ = random_case(2, 100, STEM, torch.bfloat16, residual=False)
    runs = [check(kernel_device, (x, weight, bias, x)) for _ in range(2)]
    assert torch.equal(*runs)


@pytest.mark.parametrize("taps", [1, 3, 5, 9, 11])
@pytest.mark.parametrize("fold", [1, 2, 4])
def test_folded_weights_make_the_same_convolution(taps: int, fold: int) -> None:
    x, weight, bias, _ = random_case(2, 24, (3, 2, taps), torch.float32, residual=False)
    folded = fold_positions(weight, fold)
    assert folded.shape == (1 + 2 * -(-(taps // 2) // fold), fold * 3, fold * 2)
    y = residual_conv_reference(x.view(2, 24 // fold, fold * 3), folded, bias.repeat(fold), slope=0.1).view(2, 24, 2)
    torch.testing.assert_close(y, residual_conv_reference(x, weight, bias, slope=0.1))


def check_head(device: torch.device, length: int, shape: tuple[int, int, int], dtype: torch.dtype, tracks: int = 3) -> None:
    """Hold the kernel with a head to the float32 oracle; the sum below is not rounded where one program has all its channels."""
    x, weight, bias, residual = random_case(2, length, shape, dtype, residual=True)
    generator = torch.Generator().manual_seed(tracks)
    head = Head(torch.randn(tracks, shape[1], generator=generator), torch.randn(tracks, generator=generator))
    assert residual is not None
    moved = [tensor.to(device) for tensor in (x, weight, bias)]
    on_device = Head(*(tensor.to(device) for tensor in head))
    y = residual_conv(*moved, slope=0.1, residual=residual.to(device), head=on_device).cpu()
    wide = [tensor.float() for tensor in (x, weight, bias)]
    oracle = residual_conv_reference(*wide, slope=0.1, residual=residual.float(), head=head)
    terms = residual_conv_reference(
        *(tensor.abs() for tensor in wide), residual=residual.float().abs(), head=Head(*(tensor.abs() for tensor in head))
    )
    assert y.dtype == torch.float32 and y.shape == (2, length, tracks) and y.is_contiguous()
    rounding = ROUNDING if dtype == torch.bfloat16 and shape[1] > WIDEST_HEAD else 0.0
    assert bool(((y - oracle).abs() <= (1e-5 + rounding) * terms).all())


@BOTH_TYPES
@pytest.mark.parametrize("length", [1, 2, 4, 64, 508, 515])
def test_a_head_in_the_same_launch(kernel_device: torch.device, poisoned: list[Tensor], length: int, dtype: torch.dtype) -> None:
    check_head(kernel_device, length, STEM, dtype)
    check_guards(poisoned, 1)


@pytest.mark.parametrize(
    ("shape", "tracks"), [((12, 12, 3), 2), ((24, 20, 5), 1), ((8, 8, 3), 5), ((40, 130, 1), 3)],
    ids=["filled up", "no power of two", "few channels", "wider than a program"],
)  # fmt: skip
@BOTH_TYPES
def test_heads_of_other_widths(kernel_device: torch.device, shape: tuple[int, int, int], tracks: int, dtype: torch.dtype) -> None:
    check_head(kernel_device, 36, shape, dtype, tracks)


def test_a_head_of_the_wrong_shape_is_refused(kernel_device: torch.device) -> None:
    x, weight, bias, _ = random_case(1, 8, (4, 6, 3), torch.float32, residual=False)
    for head, message in (
        (Head(torch.zeros(3, 4), torch.zeros(3)), r"head's weight must be float32 \[C, 6\]"),
        (Head(torch.zeros(3, 6).bfloat16(), torch.zeros(3)), "head's weight must be float32"),
        (Head(torch.zeros(3, 6), torch.zeros(2)), r"head's bias must be float32 \[3\]"),
    ):
        for run in (residual_conv, residual_conv_reference):
            with pytest.raises(ValueError, match=message):
                run(*(tensor.to(kernel_device) for tensor in (x, weight, bias)), head=head)


def test_weights_are_folded_once_and_again_when_they_change(monkeypatch: pytest.MonkeyPatch) -> None:
    _, weight, _, _ = random_case(1, 8, (16, 32, 5), torch.bfloat16, residual=False)
    folds: list[int] = []

    def counted(weight: Tensor, fold: int) -> Tensor:
        folds.append(fold)
        return fold_positions(weight, fold)

    monkeypatch.setattr(weights, "fold_positions", counted)
    first = kernel_weights(weight, 4, 8)
    assert first.shape == (3, 64, 128)
    assert kernel_weights(weight, 4, 8) is first and folds == [4]
    with torch.no_grad():
        weight.mul_(2)
    assert torch.equal(kernel_weights(weight, 4, 8), 2 * first) and folds == [4, 4]
    assert kernel_weights(weight, 1, 8) is weight and folds == [4, 4]
    before = len(weights._made)
    del weight
    assert len(weights._made) == before - 1, "kept as long as the weights only"


def test_weights_of_inference_mode_have_no_version_and_are_never_stale() -> None:
    with torch.inference_mode():
        weight = torch.ones(3, 4, 4)
        assert kernel_weights(weight, 4, 4).max() == 1
        weight.mul_(2)
        assert kernel_weights(weight, 4, 4).max() == 2


def test_filled_up_weights_are_zero_beyond_their_channels() -> None:
    weight = torch.ones(3, 5, 9)
    filled = kernel_weights(weight, 1, 8)
    assert filled.shape == (3, 8, 16) and torch.equal(filled[:, :5, :9], weight) and filled.sum() == weight.sum()


def test_the_oracle_lets_cudnn_round_no_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    def rounds() -> bool:
        return bool(torch.backends.cudnn.allow_tf32)

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    seen = [rounds()]
    with op._full_float32(torch.device("cuda")):
        seen.append(rounds())
    seen.append(rounds())
    with pytest.raises(KeyError), op._full_float32(torch.device("cuda")):
        raise KeyError
    seen.append(rounds())
    with op._full_float32(torch.device("cpu")):  # nothing of a CPU
        seen.append(rounds())
    assert seen == [True, False, True, True, True]


def test_rows_too_long_to_address_are_refused(kernel_device: torch.device) -> None:
    x = torch.zeros(1, 1, 8, device=kernel_device).expand(1, 1 << 31, 8)
    with pytest.raises(ValueError, match=r"rows of 2147483648 positions, fewer than 2\*\*31"):
        residual_conv(x, torch.zeros(1, 8, 8, device=kernel_device), torch.zeros(8, device=kernel_device))


def test_the_operation_runs_it(kernel_device: torch.device) -> None:
    def run(*arguments: Tensor, **options: object) -> Tensor:
        return op.residual_conv(*arguments, **options, backend="triton")  # type: ignore[arg-type]

    check(kernel_device, random_case(1, 30, BLOCK, torch.bfloat16, residual=True), dilation=4, run=run)


def test_a_wanted_gradient_is_refused(kernel_device: torch.device) -> None:
    x, weight, bias, _ = (
        None if t is None else t.to(kernel_device) for t in random_case(1, 8, (4, 4, 3), torch.float32, residual=False)
    )
    assert x is not None and weight is not None and bias is not None
    with pytest.raises(ValueError, match="makes no gradient"):
        residual_conv(x, weight.requires_grad_(), bias)
    with torch.no_grad():
        residual_conv(x, weight, bias)


def test_kernel_refuses_a_cpu_tensor_outside_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    import triton

    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
    x, weight, bias, _ = random_case(1, 8, (4, 4, 3), torch.float32, residual=False)
    with pytest.raises(ValueError, match="needs a tensor on a CUDA device, not on cpu"):
        residual_conv(x, weight, bias)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("shape", [STEM, BLOCK], ids=["folded", "block"])
def test_more_than_2_to_the_31_values(shape: tuple[int, int, int]) -> None:
    """The last positions of a row of more than 2**31 values equal those of a short row with the same end."""
    device = torch.device("cuda")
    inputs, outputs, _ = shape
    length = (1 << 31) // inputs + 4096
    _, weight, bias, _ = random_case(1, 1, shape, torch.bfloat16, residual=False)
    weight, bias = weight.to(device), bias.to(device)
    x = torch.randn(4096, inputs, device=device).bfloat16().repeat(length // 4096 + 1, 1)[None, -length:]
    y = residual_conv(x, weight, bias, dilation=1, slope=0.1, residual=x if inputs == outputs else None)
    short = x[:, -2048:]
    expected = residual_conv(short, weight, bias, dilation=1, slope=0.1, residual=short if inputs == outputs else None)
    assert torch.equal(y[:, -1024:], expected[:, -1024:])
