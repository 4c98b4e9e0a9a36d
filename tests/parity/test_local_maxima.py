"""The kernel that finds local maxima against its oracle (in Triton's interpreter where there is no CUDA).

Coordinates are 0-based positions of a row.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="triton is not installed: the kernel cannot run, not even in its interpreter")

from annotator_kernels.backends import Backend
from annotator_kernels.local_maxima import op
from annotator_kernels.local_maxima.kernel import BLOCK_POSITIONS, local_maxima
from annotator_kernels.local_maxima.op import Maxima, local_maxima_reference
from tests.support.compiling import run_compiler

pytestmark = pytest.mark.usefixtures("poisoned_buffers")
INFINITY = float("inf")
NAN = float("nan")


def random_logits(rows: int, length: int, tracks: int, *, levels: int = 9) -> Tensor:
    """Few levels, so that ties are many."""
    generator = torch.Generator().manual_seed(rows * length + tracks)
    return torch.randint(levels, (rows, length, tracks), generator=generator).float() - levels // 2


def check(
    device: torch.device,
    logits: Tensor,
    *,
    owned: list[tuple[int, int]] | None = None,
    real: list[tuple[int, int]] | None = None,
    reverse: list[bool] | None = None,
    least: list[float] | None = None,
    radius: list[int] | None = None,
    capacity: int | None = None,
) -> list[tuple[int, int, int]]:
    """Compare the kernel's maxima with the oracle's; (row, position, track) of each."""
    rows, length, tracks = logits.shape
    whole = [(0, length)] * rows
    arguments = [
        torch.tensor(owned or whole, dtype=torch.int64).reshape(rows, 2),
        torch.tensor(real or whole, dtype=torch.int64).reshape(rows, 2),
        torch.tensor(reverse or [i % 2 == 1 for i in range(rows)], dtype=torch.bool),
    ]
    options = {
        "least": torch.tensor(least or [2.0] * tracks),
        "radius": torch.tensor(radius or [3] * tracks, dtype=torch.int64),
    }
    oracle = local_maxima_reference(logits.cpu(), *arguments, **options)
    on_device = {name: value.to(device) for name, value in options.items()}
    maxima = local_maxima(logits.to(device), *(a.to(device) for a in arguments), **on_device, capacity=capacity)
    assert {field.device.type for field in maxima} == {device.type}
    for name in Maxima._fields:
        mine, theirs = getattr(maxima, name).cpu(), getattr(oracle, name)
        assert mine.dtype == theirs.dtype, name
        assert torch.equal(mine, theirs), name
    return list(zip(oracle.row.tolist(), oracle.at.tolist(), oracle.track.tolist(), strict=True))


@pytest.mark.parametrize("length", [0, 1, 2, 7, BLOCK_POSITIONS - 1, BLOCK_POSITIONS, BLOCK_POSITIONS + 1, 1003, 2500])
def test_awkward_lengths(kernel_device: torch.device, length: int) -> None:
    maxima = check(kernel_device, random_logits(2, length, 2))
    assert len(maxima) > 100 or length < 1003


@pytest.mark.parametrize(("rows", "tracks"), [(0, 2), (1, 1), (2, 0), (5, 1), (1, 6), (3, 5)])
def test_rows_and_tracks(kernel_device: torch.device, rows: int, tracks: int) -> None:
    maxima = check(kernel_device, random_logits(rows, 60, tracks))
    assert {(row, track) for row, _, track in maxima} == {(row, track) for row in range(rows) for track in range(tracks)}


@pytest.mark.parametrize("radius", [0, 1, 2, 10, 49, 50, 51, 400])
def test_radii(kernel_device: torch.device, radius: int) -> None:
    maxima = check(kernel_device, random_logits(2, 50, 2), radius=[radius, 3])
    assert radius < 49 or len([maximum for maximum in maxima if maximum[2] == 0]) == 2


def test_each_track_has_its_own_threshold_and_radius(kernel_device: torch.device) -> None:
    maxima = check(kernel_device, random_logits(2, 200, 4), least=[0.0, 3.0, 4.0, INFINITY], radius=[0, 9, 1, 2])
    assert {track for _, _, track in maxima} == {0, 1, 2}


@pytest.mark.parametrize(("backward", "expected"), [(False, [2, 8]), (True, [4, 9])], ids=["forward", "reverse"])
def test_ties_go_to_the_first_on_the_plus_strand(kernel_device: torch.device, backward: bool, expected: list[int]) -> None:
    logits = torch.zeros(1, 12, 1)
    logits[0, [2, 3, 4, 8, 9], 0] = 5.0
    maxima = check(kernel_device, logits, reverse=[backward], radius=[2])
    assert [at for _, at, _ in maxima] == expected


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "reverse"])
def test_a_plateau_across_the_border_of_two_programs(kernel_device: torch.device, backward: bool) -> None:
    logits = torch.full((1, 2 * BLOCK_POSITIONS, 1), -1.0)
    logits[0, BLOCK_POSITIONS - 3 : BLOCK_POSITIONS + 3, 0] = 4.0
    maxima = check(kernel_device, logits, reverse=[backward], radius=[10])
    assert [at for _, at, _ in maxima] == [BLOCK_POSITIONS + 2 if backward else BLOCK_POSITIONS - 3]


def test_only_owned_positions_call_and_only_real_ones_are_looked_at(kernel_device: torch.device) -> None:
    owned = [(0, 40), (10, 30), (35, 35), (0, 1), (39, 40), (12, 20)]
    real = [(0, 40), (10, 30), (0, 40), (-5, 1), (39, 100), (5, 33)]
    maxima = check(kernel_device, random_logits(6, 40, 2), owned=owned, real=real, least=[-1.0, 1.0])
    assert {row for row, _, _ in maxima} >= {0, 1, 5} and 2 not in {row for row, _, _ in maxima}


def test_a_higher_position_beyond_the_owned_ones_beats_and_one_that_is_not_real_does_not(kernel_device: torch.device) -> None:
    logits = torch.zeros(1, 10, 1)
    logits[0, :, 0] = torch.tensor([9.0, 0, 3, 0, 0, 0, 0, 3, 0, 9])
    maxima = check(kernel_device, logits, owned=[(2, 8)], real=[(1, 10)])
    assert maxima == [(0, 2, 0)]


def test_nan_and_infinity(kernel_device: torch.device) -> None:
    """NaN is never called and beats nothing."""
    logits = random_logits(2, 80, 3)
    logits[:, ::7] = NAN
    logits[:, 3::11] = -INFINITY
    logits[0, 40] = INFINITY
    maxima = check(kernel_device, logits, least=[2.0, -100.0, NAN])
    called = {float(logits[maximum]) for maximum in maxima}
    assert INFINITY in called and -INFINITY not in called and len(called) == len({value for value in called if value == value})
    assert {track for _, _, track in maxima} == {0, 1}
    check(kernel_device, logits, least=[-INFINITY, INFINITY, 0.0])


@pytest.mark.parametrize("neighbours", [1, 7, 40])
def test_how_the_oracle_is_cut_changes_nothing(neighbours: int, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, span, backward = random_logits(2, 90, 3), torch.tensor([[0, 90]] * 2), torch.tensor([False, True])
    options = {"least": torch.tensor([0.0, 1.0, -9.0]), "radius": torch.tensor([2, 0, 30])}
    whole = local_maxima_reference(logits, span, span, backward, **options)
    order = [tuple(maximum) for maximum in torch.stack(whole[:3], 1).tolist()]
    assert order == sorted(order) and {track for _, _, track in order} == {0, 1, 2}
    monkeypatch.setattr(op, "_NEIGHBOURS_AT_ONCE", neighbours)
    assert all(map(torch.equal, local_maxima_reference(logits, span, span, backward, **options), whole))


def test_nothing_reaches_the_threshold(kernel_device: torch.device) -> None:
    assert check(kernel_device, random_logits(2, 100, 2), least=[50.0, INFINITY]) == []


@pytest.mark.parametrize("capacity", [1, 5, 239, 240, 241])
def test_maxima_without_room_come_in_a_second_pass(kernel_device: torch.device, capacity: int) -> None:
    maxima = check(kernel_device, random_logits(2, 60, 2), least=[-9.0, -9.0], radius=[0, 0], capacity=capacity)
    assert len(maxima) == 240


@pytest.mark.parametrize("layout", ["permuted", "strided", "expanded"])
def test_logits_of_any_strides(kernel_device: torch.device, layout: str) -> None:
    if layout == "permuted":
        logits = random_logits(2, 3, 90).to(kernel_device).transpose(1, 2)
    elif layout == "strided":
        logits = random_logits(4, 180, 6).to(kernel_device)[1::2, 3::2, ::3]
    else:
        logits = random_logits(1, 90, 3).to(kernel_device).expand(4, 90, 3)
    assert not logits.is_contiguous()
    assert check(kernel_device, logits)


def test_repeated_runs_give_the_same_bytes(kernel_device: torch.device) -> None:
    runs = [check(kernel_device, random_logits(3, 300, 2)) for _ in range(2)]
    assert runs[0] == runs[1]


def test_bad_arguments_are_refused(kernel_device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    import triton

    with pytest.raises(ValueError, match="capacity must be >= 1, not 0"):
        check(kernel_device, random_logits(1, 5, 1), capacity=0)
    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
    with pytest.raises(ValueError, match="local_maxima: the triton kernel needs logits on a CUDA device, not on cpu"):
        check(torch.device("cpu"), random_logits(1, 5, 1))


ODD = {"none": [], "NaN": [(1, 7, 1, NAN)], "infinity": [(0, 89, 0, INFINITY)], "-infinity": [(1, 0, 2, -INFINITY)]}
ODD["both infinities"] = ODD["infinity"] + ODD["-infinity"]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("backend", ["triton", "torch"])
def test_one_pass_finds_maxima_and_whether_all_logits_are_finite(kernel_device: torch.device, backend: Backend, odd: str) -> None:
    """Values that no row owns and no track wants count too; what was found is on the host."""
    logits = random_logits(2, 90, 3)
    for row, at, track, value in ODD[odd]:
        logits[row, at, track] = value
    span, reverse = torch.tensor([[0, 90], [0, 90]]), torch.tensor([False, True])
    owned = torch.tensor([[10, 60], [30, 30]])
    options = {"least": torch.tensor([2.0, 2.0, INFINITY]), "radius": torch.tensor([3, 3, 3])}
    read = op.queue_maxima(logits.to(kernel_device), owned, span, reverse, **options, backend=backend)
    maxima, finite = read()
    assert finite == (odd == "none")
    oracle = local_maxima_reference(logits, owned, span, reverse, **options)
    assert len(oracle.at) > 1 and {field.device.type for field in maxima} == {"cpu"}
    assert all(map(torch.equal, maxima, oracle))


@pytest.mark.parametrize("backend", ["triton", "torch"])
def test_explicit_choice(kernel_device: torch.device, backend: Backend) -> None:
    span = torch.tensor([[0, 20]], device=kernel_device)
    maxima = op.local_maxima(
        random_logits(1, 20, 1).to(kernel_device), span, span, torch.zeros(1, dtype=torch.bool, device=kernel_device),
        least=torch.ones(1, device=kernel_device), radius=torch.ones(1, dtype=torch.int64, device=kernel_device), backend=backend,
    )  # fmt: skip
    assert len(maxima.at) > 2


def test_compiles_for_a_gpu_that_is_not_here(tmp_path: Path) -> None:
    """The interpreter accepts what the compiler does not: compile for Hopper, which needs no GPU."""
    script = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from annotator_kernels.local_maxima.kernel import _local_maxima_kernel as kernel
constants = {"LANES": 1024}
types = {"logits_ptr": "*fp32", "owned_ptr": "*i64", "real_ptr": "*i64", "reverse_ptr": "*u8", "least_ptr": "*fp32",
         "radius_ptr": "*i64", "maxima_ptr": "*i64", "count_ptr": "*i64", "row_stride": "i64"}
signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in kernel.arg_names}
ptx = triton.compile(ASTSource(kernel, signature, constants), target=GPUTarget("cuda", 90, 32)).asm["ptx"]
print(".entry" in ptx, ".local" in ptx)
"""
    assert run_compiler(script, tmp_path) == "True False\n"


@pytest.mark.gpu
@pytest.mark.slow
def test_addresses_beyond_int32() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    length = 2**30 + 3000
    logits = torch.full((1, length, 3), -9.0, device="cuda")  # 3 * 2**30 logits
    expected = [(5, 0), (2**30 - 1, 1), (2**30 + 1500, 2), (length - 1, 0)]
    for at, track in expected:
        logits[0, at, track] = 4.0
        logits[0, at - 1, track] = 3.0
    span = torch.tensor([[0, length]])
    maxima = local_maxima(logits, span, span, torch.tensor([False]), least=torch.full((3,), 2.0), radius=torch.tensor([2, 2, 2]))
    assert list(zip(maxima.at.tolist(), maxima.track.tolist(), strict=True)) == expected
    assert maxima.value.tolist() == [4.0] * 4
