"""Runs every kernel on a small awkward input and compares it with its oracle, and both with plain loops.

Where a kernel's path is the oracle itself (on a CPU), only the loops can show a fault: they share no code with it.
Coordinates are 0-based.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from annotator_kernels.backends import Backend, chosen_backends
from annotator_kernels.kmer.op import kmer_embed, kmer_embed_reference, kmer_tokenize, kmer_tokenize_reference
from annotator_kernels.kmer.scheme import AMBIGUOUS, KmerScheme
from annotator_kernels.local_maxima.op import Maxima, local_maxima, local_maxima_reference
from annotator_kernels.pwm_scan.op import MotifRows, PwmHits, pwm_scan, pwm_scan_reference
from annotator_kernels.repeats import repeat_kernel
from annotator_kernels.residual_conv.op import Head, residual_conv, residual_conv_reference

_ORDER = "ATCG"
_COMPLEMENT = str.maketrans("ACGT", "TGCA")
_FIRST_KMER_ID, _AMBIGUOUS_ID, _CLS_ID, _SEP_ID = 5, 1, 2, 3
_BASES = 1103  # a prime, and more than one block of any kernel
_FLOAT32_BOUND, _BFLOAT16_BOUND = 1e-5, 2**-7
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class KernelCheck:
    """What the check of one kernel found.

    Attributes:
        name: Kernel.
        path: What ran: "triton", or "torch" with the reason; "none" where nothing ran to its end.
        ok: Whether the result is right.
        detail: What was compared, with the largest deviation and its bound; or the fault.
    """

    name: str
    path: str
    ok: bool
    detail: str


class _Mismatch(Exception):
    """The result is not the expected one; the message says where."""


def check_kernels(device: torch.device, backend: Backend = "auto", *, repeats: int = 1) -> list[KernelCheck]:
    """Run each kernel on a device and hold it against its oracle and against plain loops, both on the CPU.

    Args:
        device: Device on which the kernels run.
        backend: Backend to check: "triton" or "torch", or "auto" for the one that the operations choose themselves.
        repeats: Runs of each kernel on one more input, whose results must have the same bits, >= 1.

    Returns:
        One check a kernel, in fixed order. Ids, hits and maxima must be equal; floats must lie within a bound, relative to
        the sum of the absolute terms of each element. A kernel that raises is a failed check with the exception's type and
        message: reporting it is the purpose here.

    Notes:
        Inputs are drawn with a fixed seed and hold lower case, N and other ambiguous letters, windows on both strands that
        stick out of the block, ties, and lengths that no block size divides. About a second on a CPU.
    """
    checks = []
    for name, check in _CHECKS.items():
        before = chosen_backends().get(f"{name}/{device.type}")
        try:
            detail, ok = check(device, backend), True
            if repeats > 1:
                if difference := repeat_kernel(name, device, backend, repeats):
                    raise _Mismatch(difference)
                detail += f"; {repeats} runs, the same bits"
        except _Mismatch as mismatch:
            detail, ok = str(mismatch), False
        except Exception as fault:
            checks.append(KernelCheck(name, before or "none", False, f"{type(fault).__name__}: {' '.join(str(fault).split())}"))
            continue
        checks.append(KernelCheck(name, chosen_backends()[f"{name}/{device.type}"], ok, detail))
    return checks


# --- k-mers


@dataclass(frozen=True)
class _KmerCase:
    k: int
    stride: int
    tokens: int
    special: bool

    def scheme(self) -> KmerScheme:
        """The k-mers and ids of this case."""
        cls_id, sep_id = (_CLS_ID, _SEP_ID) if self.special else (None, None)
        forward, complement = _code_table(_ORDER), _code_table(_ORDER.translate(_COMPLEMENT))
        return KmerScheme(self.k, self.stride, forward, complement, _FIRST_KMER_ID, _AMBIGUOUS_ID, cls_id, sep_id)


_KMER_CASES = (_KmerCase(6, 1, 1061, False), _KmerCase(6, 6, 177, True), _KmerCase(3, 1, 1027, True))


def _code_table(order: str) -> Tensor:
    table = torch.full((256,), AMBIGUOUS, dtype=torch.uint8)
    for code, base in enumerate(order):
        table[[ord(base), ord(base.lower())]] = code
    return table


def _kmer_input(seed: int) -> tuple[str, Tensor, Tensor, Tensor]:
    """A sequence, the same as a block, and windows on both strands, some of which stick out of it."""
    generator = torch.Generator().manual_seed(seed)
    letters = "ACGT" * 40 + "acgt" * 4 + "NnRy-"
    text = "".join(letters[i] for i in torch.randint(len(letters), (_BASES,), generator=generator).tolist())
    starts = torch.tensor([0, 0, -7, 23, 60, 60])
    return text, torch.tensor(list(text.encode()), dtype=torch.uint8), starts, torch.arange(len(starts)) % 2 == 1


def _looked_up_ids(text: str, starts: Tensor, reverse: Tensor, case: _KmerCase) -> Tensor:
    """The ids by a dictionary of all k-mers, from upper-case text."""
    ids = {"".join(kmer): _FIRST_KMER_ID + i for i, kmer in enumerate(product(_ORDER, repeat=case.k))}
    span = (case.tokens - 1) * case.stride + case.k
    rows = []
    for start, backward in zip(starts.tolist(), reverse.tolist(), strict=True):
        window = "".join(text[i] if 0 <= i < len(text) else "?" for i in range(start, start + span)).upper()
        if backward:
            window = window.translate(_COMPLEMENT)[::-1]
        row = [ids.get(window[t * case.stride :][: case.k], _AMBIGUOUS_ID) for t in range(case.tokens)]
        rows.append([_CLS_ID, *row, _SEP_ID] if case.special else row)
    return torch.tensor(rows)


def _check_kmer_tokenize(device: torch.device, backend: Backend) -> str:
    compared = 0
    for seed, case in enumerate(_KMER_CASES):
        text, block, starts, reverse = _kmer_input(seed)
        dtype = torch.int64 if case.special else torch.int32
        scheme, tokens = case.scheme(), case.tokens
        given = (block.to(device), starts.to(device), reverse.to(device))
        ids = kmer_tokenize(*given, scheme, tokens=tokens, dtype=dtype, backend=backend).cpu()
        if ids.dtype != dtype:
            raise _Mismatch(f"ids are {ids.dtype}, not {dtype}")
        oracle = kmer_tokenize_reference(block, starts, reverse, scheme, tokens=tokens, dtype=dtype)
        _same("ids", ids, oracle, "the oracle")
        _same("ids", ids, _looked_up_ids(text, starts, reverse, case).to(dtype), "plain loops")
        compared += ids.numel()
    return f"{compared:,} ids equal"


def _check_kmer_embed(device: torch.device, backend: Backend) -> str:
    worst = 0.0
    for seed, (case, dtype) in enumerate(zip(_KMER_CASES, (torch.float32, torch.bfloat16, torch.float32), strict=True)):
        text, block, starts, reverse = _kmer_input(seed)
        generator = torch.Generator().manual_seed(seed)
        rows = _FIRST_KMER_ID + 4**case.k
        values = torch.randn(rows, 20, generator=generator).to(dtype)
        scheme, tokens = case.scheme(), case.tokens
        table = values.to(device).requires_grad_()
        given = (block.to(device), starts.to(device), reverse.to(device))
        out = kmer_embed(*given, table, scheme, tokens=tokens, backend=backend)
        ids = _looked_up_ids(text, starts, reverse, case)
        oracle = kmer_embed_reference(block, starts, reverse, values, scheme, tokens=tokens)
        _same("embeddings", out.detach().cpu(), oracle, "the oracle")
        _same("embeddings", out.detach().cpu(), values[ids], "plain loops")
        upstream = torch.randn(*ids.shape, 20, generator=generator).to(dtype)
        out.backward(upstream.to(device))  # type: ignore[no-untyped-call]
        if table.grad is None:
            raise _Mismatch("no gradient reached the table")
        sums, sizes = np.zeros((rows, 20)), np.zeros((rows, 20))
        terms = upstream.double().view(-1, 20).numpy()
        np.add.at(sums, ids.flatten().numpy(), terms)
        np.add.at(sizes, ids.flatten().numpy(), abs(terms))
        # Where the gradient is added up in bfloat16, as torch does on some devices, the error grows with the additions.
        bound = _FLOAT32_BOUND if dtype == torch.float32 else _BFLOAT16_BOUND
        deviation = _deviation("gradient", table.grad, sums, sizes, bound)
        worst = max(worst, deviation) if dtype == torch.float32 else worst
    return f"embeddings equal; float32 gradient within {worst:.1e} (bound {_FLOAT32_BOUND:.0e})"


# --- convolution


def _check_residual_conv(device: torch.device, backend: Backend) -> str:
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        worst, bound = 0.0, _FLOAT32_BOUND if dtype == torch.float32 else _BFLOAT16_BOUND
        for taps, dilation, channels, slope, added in ((9, 4, (24, 24), 0.1, True), (3, 1, (24, 40), 1.0, False)):
            generator = torch.Generator().manual_seed(taps)
            inner, outer = channels
            x = torch.randn(2, 131, inner, generator=generator).to(dtype)
            weight = torch.randn(taps, inner, outer, generator=generator).to(dtype)
            bias = torch.randn(outer, generator=generator)
            residual = torch.randn(2, 131, outer, generator=generator).to(dtype) if added else None
            y = residual_conv(
                x.to(device), weight.to(device), bias.to(device), dilation=dilation, slope=slope,
                residual=None if residual is None else residual.to(device), backend=backend,
            )  # fmt: skip
            if y.dtype != dtype:
                raise _Mismatch(f"the result is {y.dtype}, not {dtype}")
            expected, size = _convolved(x, weight, bias, dilation, slope, residual)
            oracle = residual_conv_reference(x, weight, bias, dilation=dilation, slope=slope, residual=residual)
            worst = max(worst, _deviation("result", y, expected, size, bound))
            _deviation("oracle's result", oracle, expected, size, bound)
        worst = max(worst, _check_head(device, backend, dtype, bound))
        found.append(f"{str(dtype).removeprefix('torch.')} within {worst:.1e} (bound {bound:.0e})")
    return ", ".join(found)


def _check_head(device: torch.device, backend: Backend, dtype: torch.dtype, bound: float) -> float:
    """Largest deviation of a convolution with a head: the same loops, and a product in float64."""
    generator = torch.Generator().manual_seed(9)
    x = torch.randn(2, 132, 32, generator=generator).to(dtype)
    weight = torch.randn(9, 32, 32, generator=generator).to(dtype)
    bias, head = torch.randn(32, generator=generator), Head(*(torch.randn(3, *rest, generator=generator) for rest in ((32,), ())))
    given = [tensor.to(device) for tensor in (x, weight, bias)]
    on_device = Head(*(tensor.to(device) for tensor in head))
    y = residual_conv(*given, slope=0.1, residual=given[0], head=on_device, backend=backend)
    if y.dtype != torch.float32:
        raise _Mismatch(f"a head's result is {y.dtype}, not float32")
    below, size = _convolved(x, weight, bias, 1, 0.1, x)
    factors, offset = head.weight.double().numpy(), head.bias.double().numpy()
    return _deviation("head's result", y, below @ factors.T + offset, size @ abs(factors).T + abs(offset), bound)


def _convolved(
    x: Tensor, weight: Tensor, bias: Tensor, dilation: int, slope: float, residual: Tensor | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The block by loops in float64, and the sum of the absolute terms of each element."""
    images, taps = x.double().numpy(), weight.double().numpy()
    y: NDArray[np.float64] = np.broadcast_to(bias.double().numpy(), (*x.shape[:2], len(bias))).copy()
    size: NDArray[np.float64] = np.abs(y)
    for tap in range(len(taps)):
        for at in range(x.shape[1]):
            source = at + (tap - len(taps) // 2) * dilation
            if 0 <= source < x.shape[1]:
                y[:, at] += images[:, source] @ taps[tap]
                size[:, at] += abs(images[:, source]) @ abs(taps[tap])
    y = np.where(y < 0, slope * y, y)
    if residual is not None:
        y += residual.double().numpy()
        size += abs(residual.double().numpy())
    return y, size


# --- local maxima and motifs


def _check_local_maxima(device: torch.device, backend: Backend) -> str:
    generator = torch.Generator().manual_seed(5)
    length = 1061
    logits = torch.round(torch.randn(4, length, 4, generator=generator) * 4) / 4  # rounded, so that there are ties
    owned = torch.tensor([[0, length], [150, 900], [7, 8], [300, 300]])
    real = torch.tensor([[0, length], [-40, 950], [0, 700], [0, length]])
    reverse = torch.tensor([False, True, True, False])
    least = torch.tensor([1.5, 0.0, 0.5, float("inf")])
    radius = torch.tensor([0, 3, 50, 2])
    rows = (logits.to(device), owned.to(device), real.to(device), reverse.to(device))
    maxima = local_maxima(*rows, least=least.to(device), radius=radius.to(device), backend=backend)
    oracle = local_maxima_reference(logits, owned, real, reverse, least=least, radius=radius)
    for name, values, expected in zip(Maxima._fields, maxima, oracle, strict=True):
        _same(name, values.cpu(), expected, "the oracle")
    plain = []
    value: list[list[list[float]]] = logits.tolist()
    for row, ((first, last), (real_first, real_last)) in enumerate(zip(owned.tolist(), real.tolist(), strict=True)):
        seen = range(max(0, real_first), min(length, real_last))
        for at in range(first, last):
            for track, (floor, reach) in enumerate(zip(least.tolist(), radius.tolist(), strict=True)):
                mine = (value[row][at][track], at if reverse[row] else -at)
                if mine[0] < floor:
                    continue
                rivals = [(value[row][p][track], p if reverse[row] else -p) for p in seen if abs(p - at) <= reach]
                if mine == max(rivals):
                    plain.append((row, at, track, mine[0]))
    found = list(zip(*(column.tolist() for column in maxima), strict=True))
    if found != plain:
        raise _Mismatch(f"{len(found)} maxima, but plain loops find {len(plain)} or others")
    return f"{len(plain):,} maxima equal"


def _check_pwm_scan(device: torch.device, backend: Backend) -> str:
    generator = torch.Generator().manual_seed(6)
    widths = [1, 6, 8, 11, 15]
    both = torch.randint(-60, 40, (len(widths), max(widths), 4), generator=generator, dtype=torch.int32)
    steps = torch.cat((both, torch.zeros_like(both)))
    for row, width in enumerate(widths):
        steps[len(widths) + row, :width] = both[row, :width].flip(0)[:, [1, 0, 3, 2]]  # A with T, C with G
    thresholds = [int(row[:width].max(1).values.sum() * 0.4) for row, width in zip(steps, widths * 2, strict=True)]
    rows = MotifRows(steps, torch.tensor(widths * 2), torch.tensor(thresholds, dtype=torch.int32))
    text, block, _, _ = _kmer_input(7)
    table = _code_table(_ORDER)
    on_device = MotifRows(rows.steps.to(device), rows.widths.to(device), rows.thresholds.to(device))
    hits = pwm_scan(block.to(device), on_device, code_table=table.to(device), backend=backend)
    oracle = pwm_scan_reference(block, rows, code_table=table)
    for name, values, expected in zip(PwmHits._fields, hits, oracle, strict=True):
        _same(name, values.cpu(), expected, "the oracle")
    plain = []
    scores = [[dict(zip(_ORDER, column, strict=True)) for column in row] for row in steps.tolist()]
    for start in range(len(text)):
        for row, width in enumerate(widths * 2):
            word = text[start : start + width].upper()
            if len(word) == width and set(word) <= set(_ORDER):
                score = sum(column[base] for column, base in zip(scores[row], word, strict=False))
                if score >= thresholds[row]:
                    plain.append((start, row, score))
    found = list(zip(*(column.tolist() for column in hits), strict=True))
    if found != plain:
        raise _Mismatch(f"{len(found)} hits, but plain loops find {len(plain)} or others")
    return f"{len(plain):,} hits equal"


# --- comparison


def _same(what: str, values: Tensor, expected: Tensor, of: str) -> None:
    if values.shape != expected.shape:
        raise _Mismatch(f"{what}: shape {list(values.shape)}, {of} has {list(expected.shape)}")
    if not torch.equal(values, expected):
        wrong = (values != expected).nonzero()
        first = tuple(wrong[0].tolist())
        raise _Mismatch(
            f"{what}: {len(wrong):,} of {values.numel():,} differ from {of}, first at {list(first)}: "
            f"{values[first].item()}, not {expected[first].item()}"
        )


def _deviation(what: str, values: Tensor, expected: NDArray[np.float64], size: NDArray[np.float64], bound: float) -> float:
    """Largest deviation relative to the sum of the absolute terms of the element."""
    if tuple(values.shape) != expected.shape:
        raise _Mismatch(f"{what}: shape {list(values.shape)}, not {list(expected.shape)}")
    apart = abs(values.detach().to(_CPU, torch.float64).numpy() - expected)
    deviation = float((apart / np.maximum(size, np.finfo(np.float32).tiny)).max(initial=0.0))
    if not deviation <= bound:  # so written, NaN fails
        raise _Mismatch(f"{what}: off by {deviation:.1e} of the sum of its terms, the bound is {bound:.0e}")
    return deviation


_CHECKS: dict[str, Callable[[torch.device, Backend], str]] = {
    "kmer_tokenize": _check_kmer_tokenize,
    "kmer_embed": _check_kmer_embed,
    "residual_conv": _check_residual_conv,
    "local_maxima": _check_local_maxima,
    "pwm_scan": _check_pwm_scan,
}
