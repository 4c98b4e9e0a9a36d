"""Repeated runs of every kernel on one input, compared bit by bit: a race between copies and products shows now and then.

A comparison with the oracle allows for rounding, and looks once; here any bit counts, and on a GPU the inputs keep it busy.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from annotator_kernels.backends import Backend
from annotator_kernels.kmer.op import kmer_embed, kmer_tokenize
from annotator_kernels.kmer.scheme import AMBIGUOUS, KmerScheme
from annotator_kernels.local_maxima.op import local_maxima
from annotator_kernels.pwm_scan.op import MotifRows, pwm_scan
from annotator_kernels.residual_conv.op import Head, residual_conv

REPEATS = 200
Call = Callable[[Backend], tuple[Tensor, ...]]


def repeat_kernel(name: str, device: torch.device, backend: Backend, times: int) -> str:
    """Run one kernel again and again on the same input.

    Args:
        name: Kernel, of REPEATED.
        device: Where it runs.
        backend: Backend of the operation.
        times: Runs, >= 1; the first is what the others are compared with.

    Returns:
        The first difference in a few words; empty where all results have the same bits.
    """
    for what, call in REPEATED[name](device):
        first = call(backend)
        for run in range(2, times + 1):
            for before, now in zip(first, call(backend), strict=True):
                if before.shape != now.shape:
                    return f"{what}: run {run} of {times} gave {list(now.shape)} values, the first one {list(before.shape)}"
                if not same_bits(before, now):
                    apart = int((_bits(before) != _bits(now)).sum())
                    return f"{what}: run {run} of {times} differs from the first in {apart:,} of {now.numel():,} values"
    return ""


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one shape and type hold the same bits, NaN included."""
    return torch.equal(_bits(a), _bits(b))


def _bits(tensor: Tensor) -> Tensor:
    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.detach().contiguous().view(kinds[tensor.element_size()])


def _size(device: torch.device, on_cpu: int, on_gpu: int) -> int:
    """How much: enough to keep a GPU busy, or little for a CPU."""
    return on_gpu if device.type == "cuda" else on_cpu


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device)


def _bases(device: torch.device, count: int) -> Tensor:
    generator = torch.Generator(device).manual_seed(count)
    letters = torch.tensor(list(b"ACGTACGTACGTacgtN"), dtype=torch.uint8, device=device)
    return letters[torch.randint(len(letters), (count,), generator=generator, device=device)]


def _codes(order: bytes) -> Tensor:
    table = torch.full((256,), AMBIGUOUS, dtype=torch.uint8)
    for letters in (order, order.lower()):
        table[list(letters)] = torch.arange(4, dtype=torch.uint8)
    return table


def _windows(device: torch.device) -> tuple[Tensor, Tensor, Tensor, KmerScheme, int]:
    """A block, the starts and strands of eight windows of it, how bases become ids, and the tokens of a window."""
    tokens = _size(device, 300, 1 << 17)
    block = _bases(device, 4 * tokens)
    starts = torch.arange(8, device=device) * (tokens // 2) - 5
    scheme = KmerScheme(4, 1, _codes(b"ACGT"), _codes(b"TGCA"), first_kmer_id=5, ambiguous_id=1)
    return block, starts, torch.arange(8, device=device) % 2 == 1, scheme, tokens


def _tokenize(device: torch.device) -> list[tuple[str, Call]]:
    block, starts, reverse, scheme, tokens = _windows(device)
    return [("ids", lambda backend: (kmer_tokenize(block, starts, reverse, scheme, tokens=tokens, backend=backend),))]


def _embed(device: torch.device) -> list[tuple[str, Call]]:
    block, starts, reverse, scheme, tokens = _windows(device)
    generator = torch.Generator(device).manual_seed(1)
    table = _normal(generator, scheme.ids.stop, 32).bfloat16().requires_grad_()
    upstream = _normal(generator, 8, tokens, 32).bfloat16()

    def call(backend: Backend) -> tuple[Tensor, ...]:
        out = kmer_embed(block, starts, reverse, table, scheme, tokens=tokens, backend=backend)
        return out, *torch.autograd.grad(out, table, upstream)

    return [("embeddings and gradient", call)]


def _convolve(device: torch.device) -> list[tuple[str, Call]]:
    """The bundled model's kinds of block, and one in float32."""
    calls: list[tuple[str, Call]] = []
    for what, channels, taps, dilation, dtype, tracks in (
        ("block of 96 channels", 96, 5, 4, torch.bfloat16, 0),
        ("block of 32 channels with a head", 32, 9, 1, torch.bfloat16, 3),
        ("block in float32", 32, 5, 2, torch.float32, 0),
    ):
        generator = torch.Generator(device).manual_seed(channels + taps)
        x = _normal(generator, _size(device, 1, 16), _size(device, 132, 8192), channels).to(dtype)
        weight = (_normal(generator, taps, channels, channels) / (taps * channels) ** 0.5).to(dtype)
        bias = _normal(generator, channels)
        head = Head(_normal(generator, tracks, channels), _normal(generator, tracks)) if tracks else None

        def call(
            backend: Backend, x: Tensor = x, weight: Tensor = weight, bias: Tensor = bias, head: Head | None = head,
            dilation: int = dilation,
        ) -> tuple[Tensor, ...]:  # fmt: skip
            options = {"dilation": dilation, "slope": 0.1}
            return (residual_conv(x, weight, bias, residual=x, head=head, backend=backend, **options),)  # type: ignore[arg-type]

        calls.append((what, call))
    return calls


def _maxima(device: torch.device) -> list[tuple[str, Call]]:
    rows, length, tracks = 8, _size(device, 500, 1 << 16), 3
    generator = torch.Generator(device).manual_seed(3)
    logits = _normal(generator, rows, length, tracks).mul_(8).round_().div_(8)  # so ties occur
    span = torch.tensor([[0, length]] * rows, device=device)
    reverse = torch.arange(rows, device=device) % 2 == 1
    least, radius = torch.full((tracks,), 2.0, device=device), torch.tensor([2, 2, 50], device=device)
    return [
        ("maxima", lambda backend: local_maxima(logits, span, span, reverse, least=least, radius=radius, backend=backend))
    ]  # fmt: skip


def _scan(device: torch.device) -> list[tuple[str, Call]]:
    generator = torch.Generator(device).manual_seed(4)
    rows, widest = _size(device, 6, 256), 14
    steps = torch.randint(-60, 40, (rows, widest, 4), generator=generator, device=device, dtype=torch.int32)
    widths = torch.arange(rows, device=device) % 9 + 6
    used = torch.arange(widest, device=device) < widths[:, None]
    thresholds = (torch.where(used, steps.amax(2), 0).sum(1) * 0.6).int()
    motifs = MotifRows(steps, widths, thresholds)
    block, codes = _bases(device, _size(device, 600, 1 << 20)), _codes(b"ACGT").to(device)
    return [("hits", lambda backend: pwm_scan(block, motifs, code_table=codes, backend=backend))]


REPEATED: dict[str, Callable[[torch.device], list[tuple[str, Call]]]] = {
    "kmer_tokenize": _tokenize,
    "kmer_embed": _embed,
    "residual_conv": _convolve,
    "local_maxima": _maxima,
    "pwm_scan": _scan,
}
