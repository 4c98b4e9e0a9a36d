"""What `kernels.py` measures: the inputs of each kernel, what one call must move and compute, and when its result is right.

A base counts once for each strand it is read on. Bytes are those a call cannot avoid: each input and each output once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from annotator.models.families.compact.net import SLOPE, CompactConfig
from annotator.motifs.scores import score_matrix
from annotator.scan.options import BATCH_BP
from annotator.tokens.vocabulary import dnabert_vocabulary
from annotator_kernels.backends import Backend
from annotator_kernels.kmer.op import kmer_embed, kmer_tokenize
from annotator_kernels.kmer.scheme import KmerScheme
from annotator_kernels.local_maxima.op import Maxima, local_maxima
from annotator_kernels.pwm_scan.op import MotifRows, PwmHits, pwm_scan
from annotator_kernels.residual_conv.op import Head, residual_conv
from benchmarks.guarded import run_guarded

P_VALUE = 1e-6
HEADED = "mix and head"
conv_tile: ContextVar[Any] = ContextVar("conv_tile", default=None)
"""The tile that `residual_conv` takes in place of its own (`conv_variants.py`)."""
_ROUNDING = {torch.bfloat16: 2**-7, torch.float32: 2**-22}
"""Relative error that rounding a result to its type may leave: a unit of the last place, as Triton's interpreter truncates."""
_SUM_ERROR = 1e-5
"""Error of a float32 sum in any order, relative to the sum of the absolute terms."""


@dataclass(frozen=True)
class Sizes:
    """How much of everything.

    Attributes:
        tokens: k-mers of one tokenising run; a quarter of them in each of four windows.
        embedded: k-mers of one embedding run.
        windows: Windows of the bundled model; each strand of one is a row.
        window_bp: Their length, a multiple of step_bp.
        scanned_bp: Bases of a motif scan.
        checked_bp: Bases of it that the oracle scans too.
        matrices: Matrices drawn; those too narrow for the p-value have no rows.
        k: Bases of a k-mer.
    """

    tokens: int
    embedded: int
    windows: int
    window_bp: int
    scanned_bp: int
    checked_bp: int
    matrices: int
    k: int = 6


FULL = Sizes(1 << 28, 1 << 24, BATCH_BP["cuda"] // 49152, 49152, 1 << 26, 1 << 22, 1000)  # windows of the engine's batch
ON_CPU = Sizes(1 << 22, 1 << 20, 1, 49152, 1 << 18, 1 << 16, 60)
SMALL = Sizes(4 * 1003, 1003, 1, 520, 1503, 1503, 12, k=3)  # seconds in the interpreter, whose cost grows with 4**k


@dataclass(frozen=True)
class Problem:
    """One kernel on one shape.

    Attributes:
        kernel: Its name.
        variant: Name of the kernel's shape.
        shape: For the row.
        bases: Bases x strands of one call.
        bytes_moved: Least bytes read and written by one call.
        flops: Floating-point operations of one call; integer ones are not counted.
        run: One call.
        difference: Runs the backend, guards around its tensors, and says how it differs from the oracle; empty where not.
        bound: What is compared, and how closely.
        baselines: Other ways to the same result, by name.
        bar: Least fraction of the measured copy bandwidth on CUDA, where there is one.
        bar_genome_s: Most seconds for a human genome on CUDA, where there is one.
    """

    kernel: str
    variant: str
    shape: dict[str, Any]
    bases: int
    bytes_moved: int
    flops: int
    run: Callable[[Backend], object]
    difference: Callable[[Backend], str]
    bound: str
    baselines: dict[str, Callable[[], object]] = field(default_factory=dict)
    bar: float | None = None
    bar_genome_s: float | None = None


def problems(kernel: str, sizes: Sizes, device: torch.device) -> Iterator[Problem]:
    """The shapes of one kernel, one at a time (each holds its tensors)."""
    yield from _BUILDERS[kernel](sizes, device)


def exactly(run: Callable[[Backend], Any]) -> Callable[[Backend], str]:
    """A comparison that allows no difference; results are a tensor or a tuple of them."""

    def difference(backend: Backend) -> str:
        got, damage = run_guarded(lambda: run(backend))
        expected = run("torch")
        pairs = [(got, expected)] if isinstance(got, Tensor) else list(zip(got, expected, strict=True))
        for a, b in pairs:
            if a.shape != b.shape:
                return f"shape {list(a.shape)}, the oracle's is {list(b.shape)}"
            if not torch.equal(a, b):
                return f"{int((a != b).sum()):,} of {a.numel():,} values differ"
        return damage

    return difference


def beyond(got: Tensor, exact: Tensor, magnitude: Tensor) -> str:
    """How far a result lies beyond what rounding explains; empty where it does not.

    Args:
        got: The result.
        exact: What it should be, in float32 or better.
        magnitude: Sum of the absolute terms that each element adds up.
    """
    allowed = _ROUNDING[got.dtype] * exact.abs() + _SUM_ERROR * magnitude
    excess = (got.to(exact.dtype) - exact).abs() - allowed
    wrong = ~(excess <= 0)  # NaN counts as wrong
    if not bool(wrong.any()):
        return ""
    return f"{int(wrong.sum()):,} of {wrong.numel():,} values beyond their bound, by up to {float(excess[wrong].max()):.3g}"


def random_bases(count: int, device: torch.device, unknown_every: int = 1009) -> Tensor:
    """ASCII bases, uint8, with an N every so often."""
    generator = torch.Generator(device).manual_seed(count)
    letters = torch.tensor(list(b"ACGT"), dtype=torch.uint8, device=device)
    pieces = torch.split(torch.empty(count, dtype=torch.uint8, device=device), 1 << 24)
    for piece in pieces:
        piece.copy_(letters[torch.randint(4, (len(piece),), generator=generator, device=device)])
    block = torch.cat(pieces)
    block[unknown_every::unknown_every] = ord("N")
    return block


def _windows(count: int, bases: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """`count` windows side by side, every other one from the minus strand."""
    order = torch.arange(count, device=device)
    return order * bases, order % 2 == 1


def _kmer_tokenize(sizes: Sizes, device: torch.device) -> Iterator[Problem]:
    k, whole, rows = sizes.k, sizes.tokens // 4, 2 * sizes.windows
    shapes = [
        ("four long windows", 4, whole, 1, torch.int32, 0.6),
        ("four long windows, int64", 4, whole, 1, torch.int64, None),
        ("rows of the bundled model", rows, sizes.window_bp, 1, torch.int32, None),
        ("no overlap", 4, whole // k, k, torch.int32, None),
    ]
    for variant, count, tokens, stride, dtype, bar in shapes:
        scheme = dnabert_vocabulary(k).scheme(stride)
        span = scheme.span_bp(tokens)
        block = random_bases(count * span, device)
        starts, reverse = _windows(count, span, device)

        def run(
            backend: Backend, block: Tensor = block, starts: Tensor = starts, reverse: Tensor = reverse, tokens: int = tokens,
            dtype: torch.dtype = dtype, scheme: KmerScheme = scheme,
        ) -> Tensor:  # fmt: skip
            return kmer_tokenize(block, starts, reverse, scheme, tokens=tokens, dtype=dtype, backend=backend)

        yield Problem(
            "kmer_tokenize", variant, {"windows": count, "tokens": tokens, "k": k, "kmer_stride": stride, "dtype": str(dtype)},
            bases=count * span, bytes_moved=len(block) + count * tokens * dtype.itemsize, flops=0, run=run,
            difference=exactly(run), bound="ids equal", bar=bar,
        )  # fmt: skip


def _kmer_embed(sizes: Sizes, device: torch.device) -> Iterator[Problem]:
    k, rows, tokens = sizes.k, 8, sizes.embedded // 8
    hidden, dtype = CompactConfig().fine_channels, torch.bfloat16
    block = random_bases(rows * (tokens + k), device)
    starts, reverse = _windows(rows, tokens + k, device)
    vocabulary = dnabert_vocabulary(k)
    scheme = vocabulary.scheme()
    table = torch.randn(vocabulary.size, hidden, device=device).to(dtype).requires_grad_()
    ids = kmer_tokenize(block, starts, reverse, scheme, tokens=tokens, backend="torch")
    gradient = torch.randn(rows, tokens, hidden, device=device).to(dtype)
    shape = {"rows": rows, "tokens": tokens, "k": k, "hidden": hidden, "vocabulary": len(table), "dtype": str(dtype)}
    count = rows * tokens

    def run(backend: Backend) -> Tensor:
        with torch.no_grad():
            return kmer_embed(block, starts, reverse, table, scheme, tokens=tokens, backend=backend)

    def tokenize_and_embed() -> Tensor:
        again = kmer_tokenize(block, starts, reverse, scheme, tokens=tokens)
        return F.embedding(again, table.detach())

    yield Problem(
        "kmer_embed", "forward", shape, bases=count, bytes_moved=count * (1 + hidden * dtype.itemsize), flops=0, run=run,
        difference=exactly(run), bound="embeddings equal", bar=0.6,
        baselines={
            "F.embedding of ids made before": lambda: F.embedding(ids, table.detach()),
            "kmer_tokenize, then F.embedding": tokenize_and_embed,
        },
    )  # fmt: skip

    def backward(out: Tensor) -> Tensor:
        return torch.autograd.grad(out, table, gradient, retain_graph=True)[0]

    made: dict[str, Tensor] = {}

    def run_backward(backend: Backend) -> Tensor:
        if backend not in made:  # the forward pass is not timed
            made[backend] = kmer_embed(block, starts, reverse, table, scheme, tokens=tokens, backend=backend)
        return backward(made[backend])

    def difference(backend: Backend) -> str:
        got, damage = run_guarded(lambda: run_backward(backend))
        exact = torch.zeros(table.shape, dtype=torch.float64, device=device)
        magnitude = torch.zeros_like(exact)
        for which, part in zip(ids.view(-1).split(1 << 22), gradient.view(-1, hidden).split(1 << 22), strict=True):
            exact.index_add_(0, which, part.double())
            magnitude.index_add_(0, which, part.double().abs())
        return beyond(got, exact, magnitude) or damage

    stock = F.embedding(ids, table)
    yield Problem(
        "kmer_embed", "backward", shape, bases=count, bytes_moved=count * (1 + hidden * dtype.itemsize), flops=0,
        run=run_backward, difference=difference, bound="gradient within 2^-7 of the float64 sum + 1e-5 of its absolute terms",
        baselines={"F.embedding's backward": lambda: backward(stock)},
    )  # fmt: skip


def _residual_conv(sizes: Sizes, device: torch.device) -> Iterator[Problem]:
    config = CompactConfig()
    fine, trunk, step = config.fine_channels, config.trunk_channels, config.step_bp
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    shapes = [("stem", 1, fine, fine, config.fine_width, 1, SLOPE, True), ("down", step, step * fine, trunk, 1, 1, SLOPE, False)]
    shapes += [(f"trunk, dilation {d}", step, trunk, trunk, config.trunk_width, d, SLOPE, True) for d in (1, 8, 64)]
    shapes += [("up", step, trunk, step * fine, 1, 1, 1.0, True), (HEADED, 1, fine, fine, config.fine_width, 1, SLOPE, True)]
    for variant, bp, inputs, outputs, width, dilation, slope, has_residual in shapes:
        head = None
        if variant == HEADED:
            head = Head(torch.randn(config.tracks, outputs, device=device), torch.randn(config.tracks, device=device))
        rows, length = 2 * sizes.windows, sizes.window_bp // bp
        x = torch.randn(rows, length, inputs, device=device).to(dtype)
        weight = (torch.randn(width, inputs, outputs, device=device) / (width * inputs) ** 0.5).to(dtype)
        bias = torch.randn(outputs, device=device)
        residual = None
        if has_residual:
            residual = x if inputs == outputs else torch.randn(rows, length, outputs, device=device).to(dtype)
        yield _conv_problem(variant, bp, x, weight, bias, dilation, slope, residual, head)


def _conv_problem(
    variant: str, bp: int, x: Tensor, weight: Tensor, bias: Tensor, dilation: int, slope: float, residual: Tensor | None,
    head: Head | None,
) -> Problem:  # fmt: skip
    (rows, length, inputs), (width, _, outputs) = x.shape, weight.shape
    options: dict[str, Any] = {"dilation": dilation, "slope": slope}

    def run(backend: Backend) -> Tensor:
        with torch.no_grad():
            if backend == "torch" or conv_tile.get() is None:
                return residual_conv(x, weight, bias, residual=residual, head=head, backend=backend, **options)
            from annotator_kernels.residual_conv import kernel  # needs triton

            return kernel.residual_conv(x, weight, bias, residual=residual, head=head, tile=conv_tile.get(), **options)

    def difference(backend: Backend) -> str:
        got, damage = run_guarded(lambda: run(backend))
        worst = ""
        for part in torch.arange(rows).split(32):  # the oracle in float32: rounded nowhere but in its sums
            own = slice(int(part[0]), int(part[-1]) + 1)
            kept = None if residual is None else residual[own].float()

            def oracle(x: Tensor, weight: Tensor, bias: Tensor, kept: Tensor | None, head: Head | None) -> Tensor:
                return residual_conv(x.float(), weight.float(), bias, residual=kept, head=head, backend="torch", **options)

            absolute = None if head is None else Head(head.weight.abs(), head.bias.abs())
            magnitude = oracle(x[own].abs(), weight.abs(), bias.abs(), None if kept is None else kept.abs(), absolute)
            worst = worst or beyond(got[own], oracle(x[own], weight, bias, kept, head), magnitude)
        return worst or damage

    channels_first = x.transpose(1, 2).contiguous()
    taps_last = weight.permute(2, 1, 0).contiguous()
    rest = None if residual is None else residual.transpose(1, 2).contiguous()

    def eager() -> Tensor:
        y = F.conv1d(channels_first, taps_last, bias.to(x.dtype), padding=dilation * (width // 2), dilation=dilation)
        if slope != 1.0:
            y = F.leaky_relu_(y, slope)
        y = y if rest is None else y.add_(rest)
        return y if head is None else F.linear(y.transpose(1, 2).float(), *head)

    values = x.numel() + weight.numel() + (0 if residual is None or residual is x else residual.numel())
    written = rows * length * (outputs * x.element_size() if head is None else 4 * len(head.bias))
    products = width * inputs * outputs + (0 if head is None else head.weight.numel())
    return Problem(
        "residual_conv", variant,
        {"rows": rows, "length": length, "inputs": inputs, "outputs": outputs, "width": width, "dilation": dilation,
         "slope": slope, "residual": residual is not None, "head": 0 if head is None else len(head.bias), "dtype": str(x.dtype)},
        bases=rows * length * bp, bytes_moved=values * x.element_size() + written,
        flops=2 * rows * length * products, run=run, difference=difference,
        bound=f"within {_ROUNDING[x.dtype if head is None else torch.float32]:.2g} of the float32 oracle + 1e-5 of its terms",
        baselines={"conv1d, leaky_relu_, add_ of torch, eager, channels first": eager},
    )  # fmt: skip


def _local_maxima(sizes: Sizes, device: torch.device) -> Iterator[Problem]:
    rows, length, tracks, halo = 2 * sizes.windows, sizes.window_bp, CompactConfig().tracks, sizes.window_bp // 10
    generator = torch.Generator(device).manual_seed(3)
    logits = torch.randn(rows, length, tracks, device=device, generator=generator).mul_(16).round_().div_(16)  # so ties occur
    owned = torch.tensor([[halo, length - halo]] * rows, device=device)
    real = torch.tensor([[0, length]] * rows, device=device)
    reverse = torch.arange(rows, device=device) >= rows // 2
    least, radius = torch.full((tracks,), 3.0, device=device), torch.tensor([2, 2, 250], device=device)

    def run(backend: Backend) -> Maxima:
        return local_maxima(logits, owned, real, reverse, least=least, radius=radius, backend=backend)

    yield Problem(
        "local_maxima", "rows of the bundled model",
        {"rows": rows, "length": length, "tracks": tracks, "radius": radius.tolist(), "maxima": len(run("torch").row)},
        bases=rows * length, bytes_moved=logits.numel() * 4, flops=0, run=run, difference=exactly(run), bound="maxima equal",
        baselines={"the oracle on the same device": lambda: run("torch")},
    )  # fmt: skip


def motif_rows(matrices: int, p_value: float) -> MotifRows:
    """Random matrices like JASPAR's, 6 to 20 bp wide, both strands of each; without those that cannot reach the p-value."""
    generator = np.random.default_rng(17)
    strands, thresholds = [], []
    for _ in range(matrices):
        frequencies = generator.dirichlet([0.3] * 4, size=int(generator.integers(6, 21)))
        scored = score_matrix(generator.multinomial(40, frequencies).astype(np.float64), p_value)
        if scored.threshold is not None:
            strands += [scored.steps, scored.steps[::-1, ::-1]]
            thresholds += [scored.threshold] * 2
    steps = np.zeros((len(strands), max(map(len, strands), default=1), 4), np.int32)
    for row, one in enumerate(strands):
        steps[row, : len(one)] = one
    widths = torch.tensor([len(one) for one in strands], dtype=torch.int64)
    return MotifRows(torch.from_numpy(steps), widths, torch.tensor(thresholds, dtype=torch.int32))


def _pwm_scan(sizes: Sizes, device: torch.device) -> Iterator[Problem]:
    drawn = motif_rows(sizes.matrices, P_VALUE)
    rows = MotifRows(drawn.steps.to(device), drawn.widths.to(device), drawn.thresholds.to(device))
    block = random_bases(sizes.scanned_bp, device)
    code_table = torch.full((256,), 4, dtype=torch.uint8, device=device)
    code_table[torch.tensor(list(b"ACGT"), device=device)] = torch.arange(4, dtype=torch.uint8, device=device)

    def scan(part: Tensor, backend: Backend) -> PwmHits:
        return pwm_scan(part, rows, code_table=code_table, backend=backend)

    yield Problem(
        "pwm_scan", f"{sizes.matrices} matrices, p <= {P_VALUE:g}, both strands",
        {"bases": len(block), "checked_bases": sizes.checked_bp, "matrices": sizes.matrices, "rows": len(rows.widths),
         "p_value": P_VALUE, "columns": int(rows.widths.sum())},
        bases=len(block), bytes_moved=len(block), flops=0, run=lambda backend: scan(block, backend),
        difference=exactly(lambda backend: scan(block[: sizes.checked_bp], backend)), bound="hits equal",
        bar_genome_s=60.0 if sizes is FULL else None,
    )  # fmt: skip


_BUILDERS: dict[str, Callable[[Sizes, torch.device], Iterator[Problem]]] = {
    "kmer_tokenize": _kmer_tokenize,
    "kmer_embed": _kmer_embed,
    "residual_conv": _residual_conv,
    "local_maxima": _local_maxima,
    "pwm_scan": _pwm_scan,
}
KERNELS = tuple(_BUILDERS)
