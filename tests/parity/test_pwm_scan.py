"""The motif-scan kernels against their oracle (in Triton's interpreter where there is no CUDA).

Coordinates are 0-based on the block.
"""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="triton is not installed: the kernel cannot run, not even in its interpreter")

from annotator_kernels.backends import Backend, KernelUnavailable
from annotator_kernels.pwm_scan import kernel, op
from annotator_kernels.pwm_scan.kernel import BLOCK_POSITIONS, BLOCK_ROWS
from annotator_kernels.pwm_scan.op import MotifRows, PwmHits, pwm_scan_reference
from tests.support.compiling import run_compiler

pytestmark = pytest.mark.usefixtures("poisoned_buffers")

CODES = torch.full((256,), 4, dtype=torch.uint8)
CODES[list(b"ACGT")] = torch.arange(4, dtype=torch.uint8)


@pytest.fixture(autouse=True)
def interpreter_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer, larger programs: the interpreter pays for each, also for those that find nothing to do."""
    if not torch.cuda.is_available():
        monkeypatch.setattr(kernel, "BLOCK_CANDIDATES", 256)
        monkeypatch.setattr(kernel, "_LEAST_ROOM", 256)


def random_block(n: int, *, clean: bool = False, seed: int = 0) -> Tensor:
    letters = b"ACGT" if clean else b"ACGT" * 40 + b"NnRYacgtuU-\x00\xff"
    generator = torch.Generator().manual_seed(n + seed)
    return torch.tensor(list(letters), dtype=torch.uint8)[torch.randint(len(letters), (n,), generator=generator)]


def random_rows(widths: list[int], *, rate: float = 0.01, columns: int | None = None, seed: int = 0) -> MotifRows:
    """Rows of random scores that about `rate` of random windows reach; garbage beyond a row's width."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randint(-4000, 2000, (len(widths), columns or max(widths), 4), generator=generator, dtype=torch.int32)
    thresholds = []
    for row, width in enumerate(widths):
        windows = torch.randint(4, (1000, width), generator=generator)
        scores = steps[row, :width].long().gather(1, windows.T).sum(0)
        thresholds.append(int(scores.sort().values[max(0, int(1000 * (1 - rate)) - 1)]))
    return MotifRows(steps, torch.tensor(widths), torch.tensor(thresholds, dtype=torch.int32))


def check(device: torch.device, block: Tensor, rows: MotifRows, *, capacity: int | None = None) -> PwmHits:
    """Compare the kernels' hits with the oracle's; the hits."""
    hits = kernel.pwm_scan(block.to(device), rows, code_table=CODES.to(device), capacity=capacity)
    assert {field.device.type for field in hits} == {device.type}
    oracle = pwm_scan_reference(block.cpu(), rows, code_table=CODES)
    for name in PwmHits._fields:
        mine, theirs = getattr(hits, name).cpu(), getattr(oracle, name)
        assert mine.dtype == theirs.dtype, name
        assert torch.equal(mine, theirs), name
    return oracle


WIDTHS = [1, 2, 5, 7, 8, 9, 12, 15, 16, 17, 31, 32, 33, 35]


@pytest.mark.parametrize("n", [0, 1, 2, 7, 8, 34, 35, BLOCK_POSITIONS - 1, BLOCK_POSITIONS, BLOCK_POSITIONS + 1, 1003])
def test_awkward_block_lengths(kernel_device: torch.device, n: int) -> None:
    hits = check(kernel_device, random_block(n), random_rows(WIDTHS))
    assert len(hits.start) > 50 or n < 1003


@pytest.mark.parametrize("width", [1, 8, 9, 16, 17, 32, 33, 63, 64, 65, 90])
def test_every_class_of_widths(kernel_device: torch.device, width: int) -> None:
    hits = check(kernel_device, random_block(400, clean=True), random_rows([width] * 3, rate=0.02))
    assert len(hits.start) > 3


@pytest.mark.parametrize("count", [1, 31, 32, 33, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1])
def test_awkward_numbers_of_rows(kernel_device: torch.device, count: int) -> None:
    hits = check(kernel_device, random_block(150), random_rows([4] * count, rate=0.02, seed=count))
    assert len(hits.start)


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.9, 1.0])
def test_from_rare_hits_to_every_window(kernel_device: torch.device, rate: float) -> None:
    hits = check(kernel_device, random_block(150, clean=True), random_rows([3, 8, 11], rate=rate))
    assert abs(len(hits.start) - rate * 431) < 60


def test_rows_wider_than_the_filter_hit_up_to_both_ends_of_the_block(kernel_device: torch.device) -> None:
    """The best 64 of 70 columns do not begin with the first: starts are not the filter's positions."""
    steps = torch.full((1, 70, 4), 0, dtype=torch.int32)
    steps[:, 6:, 0] = 50
    rows = MotifRows(steps, torch.tensor([70]), torch.tensor([64 * 50], dtype=torch.int32))
    block = torch.full((75,), ord("A"), dtype=torch.uint8)
    assert check(kernel_device, block, rows).start.tolist() == list(range(6))
    assert check(kernel_device, block[:69], rows).start.tolist() == []


def test_the_threshold_itself_hits_and_one_step_below_does_not(kernel_device: torch.device) -> None:
    best = [5000, 900, 3, 70_000, 8000]
    steps = torch.tensor([[[v, v - 1, v - 2, v - 30_000] for v in best]] * 4, dtype=torch.int32)
    thresholds = torch.tensor([sum(best) - d for d in (0, 1, 2, 5)], dtype=torch.int32)
    rows = MotifRows(steps, torch.tensor([5] * 4), thresholds)
    block = torch.tensor(list(b"AAAAANACAAANAACCANAAAGANCCCCCTCCCCG"), dtype=torch.uint8)
    hits = check(kernel_device, block, rows)
    assert hits.row[hits.start == 0].tolist() == [0, 1, 2, 3]
    assert hits.row[hits.start == 6].tolist() == [1, 2, 3]
    assert hits.row[hits.start == 24].tolist() == [3]


def test_thresholds_out_of_reach_and_below_every_score(kernel_device: torch.device) -> None:
    rows = random_rows([4, 4, 9, 9])
    extremes = torch.tensor([2**31 - 1, -(2**31), 2**31 - 1, -(2**31)], dtype=torch.int32)
    hits = check(kernel_device, random_block(60, clean=True), MotifRows(rows.steps, rows.widths, extremes))
    assert set(hits.row.tolist()) == {1, 3} and len(hits.row) == 57 + 52
    nothing = MotifRows(rows.steps, rows.widths, torch.full((4,), 2**31 - 1, dtype=torch.int32))
    assert len(check(kernel_device, random_block(60), nothing).start) == 0


def test_scores_that_fill_their_integers(kernel_device: torch.device) -> None:
    """Budgets beyond 2**31: their quanta, and the scores on the way, need 64 bits."""
    generator = torch.Generator().manual_seed(3)
    steps = torch.randint(-(2**31), 2**31 - 1, (40, 6, 4), generator=generator, dtype=torch.int64).int()
    rows = MotifRows(steps, torch.full((40,), 6), torch.randint(-(2**31), 2**31 - 1, (40,), generator=generator).int())
    assert len(check(kernel_device, random_block(100), rows).start) > 100


def test_flat_columns(kernel_device: torch.device) -> None:
    rows = MotifRows(
        torch.full((2, 3, 4), -7, dtype=torch.int32), torch.tensor([3, 2]), torch.tensor([-21, -13], dtype=torch.int32)
    )
    block = torch.tensor(list(b"ACGTNACG"), dtype=torch.uint8)
    assert check(kernel_device, block, rows).start.tolist() == [0, 1, 5]


def test_columns_beyond_a_width_are_not_read(kernel_device: torch.device) -> None:
    rows = random_rows([3, 8, 20], columns=80)
    block = random_block(200)
    hits = check(kernel_device, block, rows)
    poisoned = rows.steps.clone()
    for row, width in enumerate(rows.widths.tolist()):
        poisoned[row, width:] = 2**31 - 1
    again = check(kernel_device, block, MotifRows(poisoned, rows.widths, rows.thresholds))
    assert len(hits.start) and all(map(torch.equal, hits, again))


def test_unknown_bases_never_hit(kernel_device: torch.device) -> None:
    rows = random_rows([1, 6, 12], rate=1.0)
    for text in (b"N" * 300, b"n" * 130 + b"ACGTACGT" + b"N" * 140, b"ACGNACGRACGT"):
        check(kernel_device, torch.tensor(list(text), dtype=torch.uint8), rows)


def test_no_rows(kernel_device: torch.device) -> None:
    rows = MotifRows(
        torch.zeros((0, 3, 4), dtype=torch.int32), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int32)
    )
    assert len(check(kernel_device, random_block(30), rows).start) == 0


@pytest.mark.parametrize("capacity", [1, 7, 50, 100_000])
def test_hits_without_room_come_in_a_second_pass(kernel_device: torch.device, capacity: int) -> None:
    hits = check(kernel_device, random_block(200, clean=True), random_rows([3, 8, 11], rate=0.1), capacity=capacity)
    assert 50 < len(hits.start) < 100


def test_more_hits_than_candidates(kernel_device: torch.device) -> None:
    """32 rows of one group hit at once: room for the candidates is too little for the hits."""
    steps = torch.zeros((32, 1, 4), dtype=torch.int32)
    rows = MotifRows(steps, torch.ones(32, dtype=torch.int64), torch.zeros(32, dtype=torch.int32))
    block = random_block(20, clean=True)
    for capacity in (19, 20, 21):
        assert len(check(kernel_device, block, rows, capacity=capacity).start) == 640


def test_spans_and_their_halves_change_nothing(kernel_device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    block, rows = random_block(450, clean=True), random_rows([3, 8, 7], rate=0.1)
    monkeypatch.setattr(kernel, "SPAN_BP", 300)
    monkeypatch.setattr(kernel, "MOST_CANDIDATES", 60)
    assert len(check(kernel_device, block, rows).start) > 100


def test_the_room_of_a_span_is_remembered(kernel_device: torch.device) -> None:
    rows = random_rows([3] * 40, rate=0.5)
    block = random_block(600, clean=True)
    check(kernel_device, block, rows)
    tables = kernel._tables[rows][torch.zeros(0, device=kernel_device).device]
    assert tables.rate > 0.25
    check(kernel_device, block, rows)
    assert kernel._tables[rows][torch.zeros(0, device=kernel_device).device] is tables
    check(kernel_device, torch.full((300,), ord("N"), dtype=torch.uint8), rows)
    assert tables.rate == 0.25, "one repetitive span must not cost later ones memory"


def test_candidates_and_hits_have_rooms_of_their_own(kernel_device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    rooms, score = [], kernel._score

    def spy(*arguments: Any) -> tuple[Tensor, Tensor]:
        rooms.append((len(arguments[4]), arguments[6]))
        return score(*arguments)

    monkeypatch.setattr(kernel, "_score", spy)
    monkeypatch.setattr(kernel, "_LEAST_ROOM", 64)
    rows = random_rows([3] * 4, rate=0.5)
    tables = kernel._tables_on(rows, torch.zeros(0, device=kernel_device).device)
    tables.rate = 1.0
    hits = check(kernel_device, random_block(400, clean=True), rows)
    assert rooms == [(400, 100), (400, len(hits.start))]


def test_a_span_without_memory_is_halved(kernel_device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    spans, alive, run_filter, run_score = [], [], kernel._filter, kernel._score

    def spy(block: Tensor, codes: Tensor, tables: Any, first: int, last: int, room: int) -> tuple[Tensor, Tensor]:
        spans.append((first, last))
        return run_filter(block, codes, tables, first, last, room)

    def full_once(block: Tensor, codes: Tensor, tables: Any, counts: Tensor, candidates: Tensor, *rest: Any) -> Any:
        if not alive:
            alive.append(weakref.ref(candidates))
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return run_score(block, codes, tables, counts, candidates, *rest)

    def empty_cache() -> None:
        assert alive[0]() is None, "the failed attempt still holds its candidates"
        alive.append(None)

    monkeypatch.setattr(kernel, "_filter", spy)
    monkeypatch.setattr(kernel, "_score", full_once)
    monkeypatch.setattr(kernel.torch.cuda, "empty_cache", empty_cache)
    assert len(check(kernel_device, random_block(450, clean=True), random_rows([3, 8, 7], rate=0.1)).start) > 100
    assert spans == [(0, 450), (225, 450), (0, 225)] and len(alive) == 2


def test_no_memory_even_for_one_block_of_positions_is_raised(
    kernel_device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = []

    def full(block: Tensor, codes: Tensor, tables: Any, first: int, last: int, room: int) -> None:
        spans.append(last - first)
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(kernel, "_filter", full)
    with pytest.raises(torch.OutOfMemoryError):
        check(kernel_device, random_block(4 * BLOCK_POSITIONS), random_rows([3]))
    assert spans == [4 * BLOCK_POSITIONS, 2 * BLOCK_POSITIONS, BLOCK_POSITIONS]


@pytest.mark.parametrize("capability", [(7, 0), (7, 5)])
def test_E03_older_devices_are_refused_before_anything_compiles(
    capability: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    with pytest.raises(KernelUnavailable, match=rf"pwm_scan needs compute capability 8\.0 .*{capability[0]}\.{capability[1]}"):
        kernel._check_capability(torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    kernel._check_capability(torch.device("cuda"))


def test_tiles_of_the_widest_class_fit_the_shared_memory_of_smaller_devices() -> None:
    tables = kernel._tables_on(random_rows([8] * 300 + [32] * 300 + [64] * 300), torch.device("cpu"))
    assert [(part.columns, part.tile_rows) for part in tables.classes] == [(8, 128), (32, 128), (64, 64)]


def test_tables_go_with_their_rows() -> None:
    rows = random_rows([3])
    kernel._tables_on(rows, torch.device("cpu"))
    gone = weakref.ref(rows)
    del rows
    gc.collect()
    assert gone() is None


def test_non_contiguous_block(kernel_device: torch.device) -> None:
    rows = random_rows([4, 9])
    assert len(check(kernel_device, random_block(500).to(kernel_device)[::2], rows).start)


def test_repeated_runs_give_the_same_bytes(kernel_device: torch.device) -> None:
    block, rows = random_block(300).to(kernel_device), random_rows([4, 9, 4, 9], rate=0.1)
    runs = [kernel.pwm_scan(block, rows, code_table=CODES) for _ in range(2)]
    assert all(map(torch.equal, *runs))


def test_the_filter_loses_no_hit_and_lets_few_others_through() -> None:
    rows = random_rows([10] * 200, rate=0.001, seed=5)
    steps = rows.steps.long()
    budgets = steps.amax(2).sum(1) - rows.thresholds
    weights, _ = kernel._filter_weights(steps, budgets, 16)
    windows = torch.randint(4, (10_000, 10), generator=torch.Generator().manual_seed(1))
    exact = sum(steps[:, j, windows[:, j]] for j in range(10)) >= rows.thresholds[:, None]
    passes = sum(weights[:, j, windows[:, j]].int() for j in range(10)) > 0
    assert not bool((exact & ~passes).any())
    assert 500 < int(exact.sum()) <= int(passes.sum()) < 1.3 * int(exact.sum())


def test_bad_capacity_is_refused(kernel_device: torch.device) -> None:
    with pytest.raises(ValueError, match="capacity must be >= 1, not 0"):
        kernel.pwm_scan(random_block(3).to(kernel_device), random_rows([2]), code_table=CODES, capacity=0)


def test_kernel_refuses_a_cpu_block_outside_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    import triton

    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
    with pytest.raises(ValueError, match="pwm_scan: the triton kernel needs a block on a CUDA device, not on cpu"):
        op.pwm_scan(random_block(9), random_rows([2]), code_table=CODES, backend="triton")


@pytest.mark.parametrize("backend", ["triton", "torch"])
def test_explicit_choice(kernel_device: torch.device, backend: Backend) -> None:
    block, rows = random_block(90).to(kernel_device), random_rows([2, 5], rate=0.1)
    hits = op.pwm_scan(block, rows, code_table=CODES, backend=backend)
    assert all(map(torch.equal, (field.cpu() for field in hits), pwm_scan_reference(block.cpu(), rows, code_table=CODES)))


def test_compiles_for_a_gpu_that_is_not_here(tmp_path: Path) -> None:
    """The interpreter accepts what the compiler does not: compile for Hopper, with the filter on its tensor cores.

    The widest class is also compiled for sm_86, whose 101,376 bytes of shared memory are the fewest.
    """
    script = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from annotator_kernels.pwm_scan.kernel import _pwm_scan_kernel, _pwm_score_kernel
types = {"block_ptr": "*u8", "code_table_ptr": "*u8", "candidates_ptr": "*i64", "counts_ptr": "*i64",
         "steps_ptr": "*i32", "facts_ptr": "*i64", "keys_ptr": "*i64", "scores_ptr": "*i32", "n": "i64"}
for kernel, constants, capability in ((_pwm_scan_kernel, {"COLUMNS": 16, "POSITIONS": 128, "ROWS": 128, "GROUP": 32}, 90),
                                      (_pwm_scan_kernel, {"COLUMNS": 64, "POSITIONS": 128, "ROWS": 64, "GROUP": 32}, 86),
                                      (_pwm_score_kernel, {"CANDIDATES": 16, "GROUP": 32}, 90)):
    if "ROWS" in constants:
        types["weights_desc"] = f"tensordesc<i8[{constants['ROWS']}, {4 * constants['COLUMNS']}]>"
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in kernel.arg_names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(kernel.arg_names) if name.endswith("_ptr")}
    source = ASTSource(kernel, signature, constants, aligned)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 8})
    ptx = compiled.asm["ptx"]
    product = "mma.sync.aligned.m16n8k32" if capability < 90 else "wgmma.mma_async.sync.aligned.m64n128k32.s32.s8.s8"
    print(".entry" in ptx, product in ptx, ".local" in ptx, compiled.metadata.shared <= 101_376)
"""
    expected = "True True False True\nTrue True False True\nTrue False False True\n"
    assert run_compiler(script, tmp_path) == expected


@pytest.mark.gpu
@pytest.mark.slow
def test_addresses_beyond_int32() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    n = 2**31 + 5000
    block = torch.full((n,), ord("N"), dtype=torch.uint8, device="cuda")
    site = torch.tensor(list(b"ACGTTGCAAC"), dtype=torch.uint8, device="cuda")
    starts = [0, 2**31 - 5, 2**31 + 100, n - 10]
    for start in starts:
        block[start : start + 10] = site
    steps = torch.full((3, 10, 4), -100, dtype=torch.int32)
    steps[:, range(10), CODES[site.cpu().long()].long()] = 10
    rows = MotifRows(steps, torch.full((3,), 10), torch.tensor([100, 101, 90], dtype=torch.int32))
    hits = kernel.pwm_scan(block, rows, code_table=CODES)
    assert hits.start.tolist() == [start for start in starts for _ in range(2)]
    assert hits.row.tolist() == [0, 2] * 4 and hits.score.tolist() == [100] * 8
