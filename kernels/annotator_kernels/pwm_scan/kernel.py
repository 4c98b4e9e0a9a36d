"""Triton kernels that scan a block of bases for all matrices at once: a filter on tensor cores, then exact scores.

Coordinates are 0-based on the block. The oracle is `annotator_kernels.pwm_scan.op.pwm_scan_reference`.

A window hits where its shortfall (steps lost against the best score of its row) fits the row's budget (best score -
threshold). For the filter, shortfalls are rounded down to multiples of a quantum, chosen for each row so that its budget is
at most 126 quanta: what fits the budget fits the rounded one, so no hit is lost, and few windows more get through. With

    q[j, b] = min(shortfall[j, b] // quantum, B + 1),  B = budget // quantum,  m[j] = max_b q[j, b],
    weight[j, b] = m[j] - q[j, b] - c[j],  0 <= c[j] <= m[j],  sum_j c[j] = sum_j m[j] - B - 1

a window of known bases passes where the sum of its weights is above 0. The weights fit int8, so a tile of positions times a
tile of rows is one product of a one-hot matrix [positions, 4 * columns] with [4 * columns, rows], exact in int32. An unknown
base lights all four of its column's entries; as an average window is far from a hit, so is one with unknown bases. Of 32
neighbouring rows one candidate (position, group of rows) is kept; the second kernel scores its 32 windows exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import pad
from triton.tools.tensor_descriptor import TensorDescriptor

from annotator_kernels.backends import KernelUnavailable, launch_on
from annotator_kernels.pwm_scan.op import MotifRows, PwmHits, check_scan_arguments

BLOCK_POSITIONS = 128
BLOCK_ROWS = 128
BLOCK_WEIGHTS = 1 << 14
"""Rows of a tile, and their weights (bytes) at most; fewer rows, but a power of two and a group, where a class has fewer.

With 128 rows of 64 columns the stages of the pipeline would need more shared memory (104 KiB) than sm_86 and sm_120 have.
"""

GROUP_ROWS = 32
"""Rows of one candidate: one for each lane of a warp, which then reads neighbouring scores."""

BLOCK_CANDIDATES = 16
CLASS_COLUMNS = (8, 16, 32, 64)
"""Columns of the filter; a row is filtered in the narrowest class that holds it, a wider one by its best 64 columns."""

SPAN_BP = 1 << 24
MOST_CANDIDATES = 1 << 26
"""Positions of a launch, and candidates it may hold (8 bytes each): a span with more of them is halved."""

LEAST_CAPABILITY = (8, 0)
"""Older devices have no int8 product that Triton compiles to: it would print its whole program, then fail."""

_MOST_QUANTA = 127
_LEAST_ROOM = 1 << 14
_LEAST_RATE = 0.25


_VARYING = ["n", "first", "last", "capacity", "groups", "first_group", "tiles"]


@triton.jit(do_not_specialize=_VARYING)  # type: ignore[untyped-decorator]  # no recompilation where one is 1 or 16 m
def _pwm_scan_kernel(  # type: ignore[no-untyped-def]
    block_ptr,
    code_table_ptr,
    weights_desc,
    candidates_ptr,
    counts_ptr,
    n,
    first,
    last,
    capacity,
    groups,
    first_group,
    tiles,
    COLUMNS: tl.constexpr,
    POSITIONS: tl.constexpr,
    ROWS: tl.constexpr,
    GROUP: tl.constexpr,
):
    """Write the candidates of one tile of positions, `position * groups + group`, in no order; count those without room too.

    Grid: (ceil((last - first) / POSITIONS),); program p filters positions first + [p * POSITIONS, (p + 1) * POSITIONS) by all
    rows of one class. The one-hot matrix of a tile is built once and stays on the chip; the weights pass by from the L2 cache,
    through a descriptor (see `annotator_kernels.residual_conv.kernel`). Memory: block [n] uint8; weights
    [tiles * ROWS, 4 * COLUMNS] int8 row-major; candidates [capacity] and counts [2] int64.
    """
    DEPTH: tl.constexpr = 4 * COLUMNS
    at = first + tl.program_id(0).to(tl.int64) * POSITIONS + tl.arange(0, POSITIONS)
    first_byte = tl.load(block_ptr + at, mask=at < last, other=0)
    wanted = (at < last) & (tl.load(code_table_ptr + first_byte.to(tl.int32)) < 4)
    if tl.max(wanted.to(tl.int32)) > 0:  # runs of N cost nothing
        where = at[:, None] + tl.arange(0, COLUMNS)[None, :]
        inside = where < n
        byte = tl.load(block_ptr + where, mask=inside, other=0)
        code = tl.where(inside, tl.load(code_table_ptr + byte.to(tl.int32)).to(tl.int32), 4)
        lit = (code[:, :, None] == tl.arange(0, 4)[None, None, :]) | (code[:, :, None] >= 4)
        one_hot = tl.reshape(lit.to(tl.int8), [POSITIONS, DEPTH])
        group = first_group.to(tl.int64) + tl.arange(0, ROWS // GROUP)
        for tile in tl.range(0, tiles, num_stages=3):
            weights = weights_desc.load([tile * ROWS, 0])
            total = tl.dot(one_hot, weights.T, out_dtype=tl.int32)
            best = tl.max(tl.reshape(total, [POSITIONS, ROWS // GROUP, GROUP]), axis=2)
            passes = (best > 0) & wanted[:, None]
            slot = tl.atomic_add(counts_ptr + tl.zeros_like(best), 1, mask=passes, sem="relaxed")
            tl.store(candidates_ptr + slot, at[:, None] * groups + group[None, :], mask=passes & (slot < capacity))
            group += ROWS // GROUP


@triton.jit(do_not_specialize=["n", "capacity", "groups", "columns", "rows", "room"])  # type: ignore[untyped-decorator]
def _pwm_score_kernel(  # type: ignore[no-untyped-def]
    block_ptr,
    code_table_ptr,
    candidates_ptr,
    counts_ptr,
    steps_ptr,
    facts_ptr,
    keys_ptr,
    scores_ptr,
    n,
    capacity,
    groups,
    columns,
    rows,
    room,
    CANDIDATES: tl.constexpr,
    GROUP: tl.constexpr,
):
    """Score the windows of some candidates and write the hits, `start * rows + row` and the score, in no order.

    Grid: (ceil(capacity / CANDIDATES),); programs past the number of candidates, which only the device knows, do nothing.
    Memory: steps int32 [groups, columns, 4, GROUP]; facts int64 [4, groups * GROUP]: row or -1, width, offset of the filter's
    first column from the row's, threshold; keys int64 [room], scores int32 [room].
    """
    first = tl.program_id(0).to(tl.int64) * CANDIDATES
    count = tl.minimum(tl.load(counts_ptr), capacity)
    if first < count:
        index = first + tl.arange(0, CANDIDATES)
        candidate = tl.load(candidates_ptr + index, mask=index < count, other=0)
        group = candidate % groups
        lane = tl.arange(0, GROUP)[None, :]
        fact_ptr = facts_ptr + group[:, None] * GROUP + lane
        slots = groups.to(tl.int64) * GROUP
        row = tl.load(fact_ptr)
        width = tl.load(fact_ptr + slots)
        start = (candidate // groups)[:, None] - tl.load(fact_ptr + 2 * slots)
        threshold = tl.load(fact_ptr + 3 * slots)
        hit = (index < count)[:, None] & (row >= 0) & (start >= 0) & (start + width <= n)
        score = tl.zeros([CANDIDATES, GROUP], dtype=tl.int64)
        window_ptr = block_ptr + start
        step_ptr = steps_ptr + group[:, None] * columns * (4 * GROUP) + lane
        for column in range(0, tl.max(tl.where(hit, width, 0)).to(tl.int32)):
            read = hit & (column < width)
            byte = tl.load(window_ptr + column, mask=read, other=0)
            code = tl.load(code_table_ptr + byte.to(tl.int32), mask=read, other=0).to(tl.int32)
            score += tl.load(step_ptr + (4 * column + (code & 3)) * GROUP, mask=read, other=0)
            hit = hit & (code < 4)
        hit = hit & (score >= threshold)
        slot = tl.atomic_add(counts_ptr + 1 + tl.zeros_like(row), 1, mask=hit, sem="relaxed")
        fits = hit & (slot < room)
        tl.store(keys_ptr + slot, start * rows + row, mask=fits)
        tl.store(scores_ptr + slot, score.to(tl.int32), mask=fits)


@dataclass(frozen=True)
class _WidthClass:
    """Rows that share the columns of the filter: weights int8 [tiles * tile_rows, 4 * columns]."""

    columns: int
    weights: Tensor
    tile_rows: int
    first_group: int


@dataclass
class _Tables:
    """What the kernels read of some rows, on one device; the score kernel says how steps and facts are laid out."""

    classes: list[_WidthClass]
    groups: int
    columns: int
    steps: Tensor
    facts: Tensor
    rate: float = _LEAST_RATE
    """Candidates to make room for, a position: a guess at first, then a little more than the last span had."""


_tables: WeakKeyDictionary[MotifRows, dict[torch.device, _Tables]] = WeakKeyDictionary()


def pwm_scan(block: Tensor, rows: MotifRows, *, code_table: Tensor, capacity: int | None = None) -> PwmHits:
    """Every window whose integer score reaches its row's threshold, all matrices in a launch or few.

    Args:
        block: Bases as ASCII, uint8, [n]; copied first where it is not contiguous.
        rows: The matrices, reverse complements as rows of their own; what the kernels need of them is made once a device
            and kept as long as `rows` is, so its tensors must not change.
        code_table: Code 0..3 (the last axis of `rows.steps`) of each byte, or 4 for no base, uint8, [256].
        capacity: Candidates, and hits, that a first pass over a span has room for, >= 1; None goes by what was seen before.
            Where there are more, a second pass has room for all: it costs time, never hits.

    Returns:
        The hits, on the block's device, sorted by start, then row; equal to `pwm_scan_reference`.

    Raises:
        KernelUnavailable: The device's compute capability is below LEAST_CAPABILITY.
        ValueError: An argument has a wrong shape, type or range, or the block is not on a CUDA device (nor in Triton's
            interpreter, which needs TRITON_INTERPRET=1 before this module is imported).
        torch.OutOfMemoryError: The device has no memory for the candidates of BLOCK_POSITIONS, or for the hits of the block.

    Notes:
        A row of a class of W columns costs 8 * W integer operations a position, and a byte of weights from the L2 cache for
        every BLOCK_POSITIONS positions and each of its 4 * W weights. Memory beyond the hits: 8 bytes for each of at most
        MOST_CANDIDATES candidates, and 12 for each of a quarter as many hits; where there is less, spans are halved.
    """
    check_scan_arguments(block, code_table)
    if capacity is not None and capacity < 1:
        raise ValueError(f"capacity must be >= 1, not {capacity}")
    device = block.device
    current = launch_on(block, "pwm_scan", "a block", interpreted=triton.knobs.runtime.interpret)
    if block.is_cuda:
        _check_capability(device)
    tables = _tables_on(rows, device)
    keys = [torch.empty(0, dtype=torch.int64, device=device)]
    scores = [torch.empty(0, dtype=torch.int32, device=device)]
    block, code_table = block.contiguous(), code_table.to(device).contiguous()
    n = len(block) if tables.groups else 0
    spans = [(first, min(first + SPAN_BP, n)) for first in range(0, n, SPAN_BP)]
    with current:
        while spans:
            first, last = spans.pop()
            found = None
            try:
                found = _scan_span(block, code_table, tables, len(rows.widths), first, last, capacity)
            except torch.OutOfMemoryError:
                if last - first <= BLOCK_POSITIONS:
                    raise
            if found is None:
                torch.cuda.empty_cache()  # out here, where no traceback holds the tensors of the attempt
                spans += [(first, (first + last) // 2), ((first + last) // 2, last)]
            else:
                keys.append(found[0])
                scores.append(found[1])
    key, order = torch.cat(keys).sort()
    count = max(1, len(rows.widths))
    return PwmHits(key // count, key % count, torch.cat(scores)[order])


def _check_capability(device: torch.device) -> None:
    """Refuse a CUDA device before Triton compiles for it in vain."""
    found = torch.cuda.get_device_capability(device)
    if found < LEAST_CAPABILITY:
        least = ".".join(map(str, LEAST_CAPABILITY))
        raise KernelUnavailable(f"pwm_scan needs compute capability {least} or higher, this device has {found[0]}.{found[1]}")


def _scan_span(
    block: Tensor, code_table: Tensor, tables: _Tables, rows: int, first: int, last: int, capacity: int | None
) -> tuple[Tensor, Tensor] | None:
    """Keys and scores of the hits whose filter begins in [first, last), in no order; None where it has too many candidates."""
    room = min(capacity or max(_LEAST_ROOM, int(tables.rate * (last - first))), MOST_CANDIDATES)
    hit_room = capacity or max(_LEAST_ROOM, room // 4)
    counts, candidates = _filter(block, code_table, tables, first, last, room)
    keys, scores = _score(block, code_table, tables, counts, candidates, rows, hit_room)
    passed, hits = counts.tolist()  # the host waits for the device here alone, unless room is short
    tables.rate = max(_LEAST_RATE, 1.1 * passed / (last - first))
    if passed > room:
        if passed > MOST_CANDIDATES and last - first > BLOCK_POSITIONS:
            return None
        del candidates, keys, scores  # before larger ones are made
        counts, candidates = _filter(block, code_table, tables, first, last, passed)
        keys, scores = _score(block, code_table, tables, counts, candidates, rows, hit_room)
        hits = int(counts[1])
    if hits > hit_room:
        del keys, scores
        keys, scores = _score(block, code_table, tables, counts, candidates, rows, hits)
    return keys[:hits].clone(), scores[:hits].clone()


def _filter(block: Tensor, code_table: Tensor, tables: _Tables, first: int, last: int, room: int) -> tuple[Tensor, Tensor]:
    """Counts [candidates, hits so far] and the candidates of positions [first, last), as many as there is room for."""
    counts = torch.zeros(2, dtype=torch.int64, device=block.device)
    candidates = torch.empty(room, dtype=torch.int64, device=block.device)
    for part in tables.classes:
        _pwm_scan_kernel[(triton.cdiv(last - first, BLOCK_POSITIONS),)](
            block,
            code_table,
            TensorDescriptor.from_tensor(part.weights, [part.tile_rows, 4 * part.columns]),
            candidates,
            counts,
            len(block),
            first,
            last,
            room,
            tables.groups,
            part.first_group,
            len(part.weights) // part.tile_rows,
            COLUMNS=part.columns,
            POSITIONS=BLOCK_POSITIONS,
            ROWS=part.tile_rows,
            GROUP=GROUP_ROWS,
            num_warps=8,
        )
    return counts, candidates


def _score(
    block: Tensor, code_table: Tensor, tables: _Tables, counts: Tensor, candidates: Tensor, rows: int, room: int
) -> tuple[Tensor, Tensor]:
    """Keys and scores of the candidates' hits, as many as there is room for; their number is counts[1]."""
    counts[1] = 0
    keys = torch.empty(room, dtype=torch.int64, device=block.device)
    scores = torch.empty(room, dtype=torch.int32, device=block.device)
    _pwm_score_kernel[(triton.cdiv(len(candidates), BLOCK_CANDIDATES),)](
        block, code_table, candidates, counts, tables.steps, tables.facts, keys, scores,
        len(block), len(candidates), tables.groups, tables.columns, rows, room,
        CANDIDATES=BLOCK_CANDIDATES, GROUP=GROUP_ROWS, num_warps=4,
    )  # fmt: skip
    return keys, scores


def _tables_on(rows: MotifRows, device: torch.device) -> _Tables:
    """The tables of some rows on a device, made where they are not there yet."""
    made = _tables.setdefault(rows, {})
    if device not in made:
        made[device] = _make_tables(rows, device)
    return made[device]


def _make_tables(rows: MotifRows, device: torch.device) -> _Tables:
    """Sort the rows into classes and compute their weights; rows that even the best score does not reach are left out."""
    steps, widths, thresholds = rows.steps.cpu().long(), rows.widths.cpu(), rows.thresholds.cpu().long()
    used = torch.arange(steps.shape[1]) < widths[:, None]
    steps = torch.where(used[:, :, None], steps, 0)
    budgets = steps.amax(2).sum(1) - thresholds if steps.numel() else thresholds
    classes: list[_WidthClass] = []
    facts, grouped = [], []
    groups = narrower = 0
    for columns in CLASS_COLUMNS:
        fits = (widths <= columns) | (columns == CLASS_COLUMNS[-1])
        chosen = ((widths > narrower) & fits & (budgets >= 0)).nonzero()[:, 0]
        narrower = columns
        if not len(chosen):
            continue
        most_rows = min(BLOCK_ROWS, BLOCK_WEIGHTS // (4 * columns))
        tile_rows = max(GROUP_ROWS, min(most_rows, triton.next_power_of_2(len(chosen))))
        empty = -len(chosen) % tile_rows  # rows of zeros, which never pass
        weight, offset = _filter_weights(steps[chosen], budgets[chosen], columns)
        weight = pad(weight.view(len(chosen), 4 * columns), (0, 0, 0, empty))
        classes.append(_WidthClass(columns, weight.to(device), tile_rows, groups))
        groups += len(weight) // GROUP_ROWS
        fact = torch.stack([chosen, widths[chosen], offset, thresholds[chosen]])
        facts.append(torch.cat([fact, torch.tensor([[-1], [0], [0], [0]]).expand(4, empty)], 1))
        own = pad(steps[chosen], (0, 0, 0, 0, 0, empty)).int()
        grouped.append(own.view(-1, GROUP_ROWS, *own.shape[1:]).permute(0, 2, 3, 1))
    if not classes:
        none = torch.empty(0, dtype=torch.int32, device=device)
        return _Tables([], 0, 0, none, none)
    return _Tables(classes, groups, steps.shape[1], torch.cat(grouped).to(device), torch.cat(facts, 1).to(device))


def _filter_weights(steps: Tensor, budgets: Tensor, columns: int) -> tuple[Tensor, Tensor]:
    """The module's `weight` of some rows of one class.

    Args:
        steps: Scores, zero beyond a row's width, int64, [R, W, 4].
        budgets: Best score - threshold, >= 0, int64, [R].
        columns: Columns of the class.

    Returns:
        Weights, int8, [R, columns, 4], zero beyond a row's width; first column filtered of each row, int64, [R].
    """
    quantum = budgets // _MOST_QUANTA + 1
    budget = budgets // quantum
    lost = torch.minimum((steps.amax(2, keepdim=True) - steps) // quantum[:, None, None], budget[:, None, None] + 1)
    offset = torch.zeros_like(budgets)
    if steps.shape[1] > columns:
        offset = lost.sum(2).unfold(1, columns, 1).sum(2).argmax(1)
        taken = (offset[:, None] + torch.arange(columns))[:, :, None].expand(-1, -1, 4)
        lost = lost.gather(1, taken)
    else:
        lost = pad(lost, (0, 0, 0, columns - steps.shape[1]))
    most = lost.amax(2)
    upto = most.cumsum(1)
    total = upto[:, -1:]
    least = total - budget[:, None]  # a window passes where what it keeps of `most` sums to this
    share = upto * (least - 1).clamp(min=0) // total.clamp(min=1)
    centre = share.diff(dim=1, prepend=torch.zeros_like(total))
    centre[:, :1] -= (least <= 0).long()  # everything passes: 1 above what is lost
    return (most[:, :, None] - lost - centre[:, :, None]).to(torch.int8), offset
