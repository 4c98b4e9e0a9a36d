"""The fused k-mer embedding against its oracle, and its gradient (in Triton's interpreter where there is no CUDA).

Bounds: the forward pass copies, so it is exact. A gradient may differ from the float64 sum by 1e-5 of the sum of the absolute
values (float32 sums), and a bfloat16 one by 2**-8 of its size too: one rounding. Triton's interpreter cuts off where a GPU
rounds to nearest, so 2**-7 there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="triton is not installed: the kernel cannot run, not even in its interpreter")

from annotator.tokens.vocabulary import KmerVocabulary, dnabert_vocabulary
from annotator_kernels.kmer import embed_kernel, op
from annotator_kernels.kmer.embed_kernel import PIECE_TOKENS, add_rows_by_id, kmer_embed
from annotator_kernels.kmer.op import kmer_embed_reference, kmer_tokenize_reference
from tests.support.compiling import run_compiler

GUARD = 64
ROUNDING = 2**-8 if torch.cuda.is_available() else 2**-7
BOTH_TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
BOTH_STRANDS = [(0, False), (0, True), (-3, True), (7, False)]


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Makes `torch.empty` hand out NaN between guards; the buffers it handed out."""
    buffers: list[Tensor] = []
    real = torch.empty

    def empty(shape: tuple[int, ...], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        if not dtype.is_floating_point:
            return real(shape, dtype=dtype, device=device)
        count = int(torch.Size(shape).numel())
        buffers.append(torch.full((count + 2 * GUARD,), float("nan"), dtype=dtype, device=device))
        return buffers[-1][GUARD : GUARD + count].view(shape)

    monkeypatch.setattr(torch, "empty", empty)
    return buffers


def check_guards(buffers: list[Tensor], count: int) -> None:
    assert len(buffers) == count
    for buffer in buffers:
        assert bool(buffer[:GUARD].isnan().all()) and bool(buffer[len(buffer) - GUARD :].isnan().all())


def random_block(n: int) -> Tensor:
    letters = b"ACGT" * 12 + b"NnRYacgtuU-\x00\xff"
    generator = torch.Generator().manual_seed(n)
    return torch.tensor(list(letters), dtype=torch.uint8)[torch.randint(len(letters), (n,), generator=generator)]


def random_table(rows: int, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(width)).to(dtype)


def arguments(
    block: Tensor, windows: list[tuple[int, bool]], table: Tensor, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    starts = torch.tensor([start for start, _ in windows], dtype=torch.int64)
    reverse = torch.tensor([backward for _, backward in windows], dtype=torch.bool)
    return block.to(device), starts.to(device), reverse.to(device), table.to(device)


def options(vocabulary: KmerVocabulary, tokens: int, kmer_stride: int = 1, **special: int) -> dict[str, Any]:
    return {"scheme": vocabulary.scheme(kmer_stride, **special), "tokens": tokens}


def rows_of(vocabulary: KmerVocabulary) -> int:
    return vocabulary.first_kmer_id + 4**vocabulary.k


def check(device: torch.device, block: Tensor, windows: list[tuple[int, bool]], table: Tensor, chosen: dict[str, Any]) -> Tensor:
    out = kmer_embed(*arguments(block, windows, table, device), **chosen).cpu()
    oracle = kmer_embed_reference(*arguments(block, windows, table, torch.device("cpu")), **chosen)
    assert out.dtype == table.dtype
    assert torch.equal(out, oracle)  # NaN fails too
    return out


@BOTH_TYPES
@pytest.mark.parametrize("width", [1, 7, 32, 33, 300, 1024])
def test_widths(kernel_device: torch.device, poisoned: list[Tensor], width: int, dtype: torch.dtype) -> None:
    vocabulary = KmerVocabulary(3)
    table = random_table(rows_of(vocabulary), width, dtype)
    check(kernel_device, random_block(60), BOTH_STRANDS, table, options(vocabulary, 50, cls_id=2, sep_id=3))
    check_guards(poisoned, 1)


@pytest.mark.parametrize("kmer_stride", [1, 6])
@pytest.mark.parametrize("tokens", [0, 1, 2, 31, 32, 33, 255, 256, 257, 1003])
def test_awkward_token_counts(kernel_device: torch.device, poisoned: list[Tensor], tokens: int, kmer_stride: int) -> None:
    vocabulary = dnabert_vocabulary(6)
    table = random_table(rows_of(vocabulary), 32, torch.bfloat16)
    check(kernel_device, random_block(tokens), BOTH_STRANDS, table, options(vocabulary, tokens, kmer_stride))
    check_guards(poisoned, 1)


@pytest.mark.parametrize("special", [{"cls_id": 2}, {"sep_id": 3}, {"cls_id": 2, "sep_id": 3}], ids=lambda s: "+".join(s))
@pytest.mark.parametrize("tokens", [0, 254, 255, 1023])
def test_special_tokens(kernel_device: torch.device, poisoned: list[Tensor], tokens: int, special: dict[str, int]) -> None:
    vocabulary = KmerVocabulary(3)
    table = random_table(rows_of(vocabulary), 8)
    out = check(kernel_device, random_block(tokens), BOTH_STRANDS[:2], table, options(vocabulary, tokens, **special))
    if "cls_id" in special:
        assert torch.equal(out[:, 0], table[[2, 2]])
    if "sep_id" in special:
        assert torch.equal(out[:, -1], table[[3, 3]])
    check_guards(poisoned, 1)


@pytest.mark.parametrize("k", range(1, 9))
@pytest.mark.parametrize("n", [0, 40])
def test_every_k(kernel_device: torch.device, k: int, n: int) -> None:
    vocabulary = KmerVocabulary(k)
    windows = [(start, backward) for start in (-7, 0, 20, 1 << 40) for backward in (False, True)]
    check(kernel_device, random_block(n), windows, random_table(rows_of(vocabulary), 4), options(vocabulary, 30))


def test_no_windows(kernel_device: torch.device) -> None:
    vocabulary = KmerVocabulary(3)
    chosen = options(vocabulary, 10, cls_id=2)
    assert check(kernel_device, random_block(30), [], random_table(rows_of(vocabulary), 4), chosen).shape == (0, 11, 4)


def test_non_contiguous_block_and_table(kernel_device: torch.device) -> None:
    vocabulary = KmerVocabulary(3)
    table = random_table(8, rows_of(vocabulary)).T
    assert not table.is_contiguous()
    check(kernel_device, random_block(80)[::2], BOTH_STRANDS, table, options(vocabulary, 30))


def test_arguments_without_meaning_are_refused(kernel_device: torch.device) -> None:
    vocabulary = KmerVocabulary(3)
    given = arguments(random_block(20), [(0, False)], random_table(rows_of(vocabulary) - 1, 4), kernel_device)
    with pytest.raises(ValueError, match="do not fit a table"):
        kmer_embed(*given, **options(vocabulary, 10))
    given = arguments(random_block(20), [(0, False)], random_table(rows_of(vocabulary), 4), kernel_device)
    with pytest.raises(ValueError, match="tokens must be >= 0"):
        kmer_embed(*given, **options(vocabulary, -1))


def test_kernel_refuses_a_cpu_block_outside_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    import triton

    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
    vocabulary = KmerVocabulary(3)
    given = arguments(random_block(20), [(0, False)], random_table(rows_of(vocabulary), 4), torch.device("cpu"))
    with pytest.raises(ValueError, match="needs a block on a CUDA device, not on cpu"):
        kmer_embed(*given, **options(vocabulary, 10))


# --- the gradient of the table


def check_sums(found: Tensor, ids: Tensor, rows: Tensor) -> None:
    """Hold sums of rows by id to the bounds."""
    expected = torch.zeros(found.shape, dtype=torch.float64).index_add_(0, ids.flatten().long(), rows.double())
    bound = 1e-5 * torch.zeros_like(expected).index_add_(0, ids.flatten().long(), rows.double().abs())
    bound += ROUNDING * expected.abs() if found.dtype == torch.bfloat16 else 0
    assert bool(((found.cpu().double() - expected).abs() <= bound).all())  # NaN fails too; exact where an id is absent


@BOTH_TYPES
@pytest.mark.parametrize("width", [1, 130])
@pytest.mark.parametrize("cls_id", [None, 2], ids=["plain", "cls"])
def test_gradient(
    kernel_device: torch.device, poisoned: list[Tensor], width: int, dtype: torch.dtype, cls_id: int | None
) -> None:
    vocabulary = KmerVocabulary(1)
    table = random_table(rows_of(vocabulary), width, dtype).to(kernel_device).requires_grad_()
    chosen = {"scheme": vocabulary.scheme(cls_id=cls_id), "tokens": 40}
    given = arguments(random_block(50), BOTH_STRANDS, table.detach(), kernel_device)[:3]
    out = kmer_embed(*given, table, **chosen)
    gradient = random_table(out.shape[0] * out.shape[1], width, dtype).view(out.shape)
    out.backward(gradient.to(kernel_device))
    ids = kmer_tokenize_reference(*(tensor.cpu() for tensor in given), **chosen)
    assert table.grad is not None and table.grad.dtype == dtype
    check_sums(table.grad, ids, gradient.view(-1, width))
    check_guards(poisoned, 3)


@pytest.mark.parametrize("tokens", [0, 1, PIECE_TOKENS - 1, PIECE_TOKENS, PIECE_TOKENS + 1, 3 * PIECE_TOKENS + 5])
@pytest.mark.parametrize("choice", [[0], [3], [1, 2], [0, 1, 2, 3]], ids=["first id", "last id", "two ids", "all ids"])
def test_sums_by_id(kernel_device: torch.device, poisoned: list[Tensor], tokens: int, choice: list[int]) -> None:
    vocabulary, dtype = 4, torch.bfloat16
    chosen = torch.tensor(choice)[torch.randint(len(choice), (tokens,), generator=torch.Generator().manual_seed(tokens))]
    rows = random_table(max(tokens, 1), 5, dtype)[:tokens]
    found = add_rows_by_id(chosen.int().to(kernel_device), rows.to(kernel_device), vocabulary, dtype)
    check_sums(found, chosen, rows)
    check_guards(poisoned, 2)


def test_repeated_sums_are_the_same_bits(kernel_device: torch.device) -> None:
    ids = torch.randint(3, (2000,), generator=torch.Generator().manual_seed(1)).to(kernel_device)
    rows = random_table(2000, 5).to(kernel_device)
    assert torch.equal(*(add_rows_by_id(ids, rows, 3, torch.float32) for _ in range(2)))


def test_a_gradient_that_is_one_value_spread_out(kernel_device: torch.device) -> None:
    """`sum` hands back a gradient without strides; each row of the table then counts its tokens."""
    vocabulary = KmerVocabulary(1)
    table = random_table(rows_of(vocabulary), 3).to(kernel_device).requires_grad_()
    given = arguments(random_block(50), BOTH_STRANDS, table.detach(), kernel_device)[:3]
    kmer_embed(*given, table, **options(vocabulary, 40)).sum().backward()
    ids = kmer_tokenize_reference(*(tensor.cpu() for tensor in given), **options(vocabulary, 40))
    counts = torch.bincount(ids.flatten(), minlength=len(table))
    assert table.grad is not None
    assert table.grad.cpu().tolist() == counts[:, None].expand(-1, 3).tolist()


def test_no_gradient_work_where_the_table_needs_none(kernel_device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Tensor:
        raise AssertionError("a gradient was computed")

    monkeypatch.setattr(embed_kernel, "add_rows_by_id", refuse)
    vocabulary = KmerVocabulary(1)
    given = arguments(random_block(20), [(0, False)], random_table(rows_of(vocabulary), 3), kernel_device)
    out = kmer_embed(*given, **options(vocabulary, 10))
    assert not out.requires_grad
    with torch.inference_mode():
        kmer_embed(*given, **options(vocabulary, 10))


def test_it_is_differentiable_on_every_backend(kernel_device: torch.device) -> None:
    vocabulary = KmerVocabulary(1)
    gradients = []
    for backend in ("torch", "triton"):
        table = random_table(rows_of(vocabulary), 3).to(kernel_device).requires_grad_()
        given = arguments(random_block(50), BOTH_STRANDS, table.detach(), kernel_device)[:3]
        op.kmer_embed(*given, table, **options(vocabulary, 40), backend=backend).square().sum().backward()
        assert table.grad is not None
        gradients.append(table.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "reverse"])
def test_more_than_2_to_the_31_values(backward: bool) -> None:
    device = torch.device("cuda")
    vocabulary = dnabert_vocabulary(6)
    table = random_table(rows_of(vocabulary), 32, torch.bfloat16).to(device)
    tokens = (1 << 26) + 5000
    block = random_block(4096).to(device).repeat(tokens // 4096 + 1)
    chosen = options(vocabulary, tokens)
    out = kmer_embed(*arguments(block, [(0, backward)], table, device), **chosen)
    for first in (0, tokens - 3000):
        start = tokens - first - 3000 if backward else first
        part = arguments(block, [(start, backward)], table, device)
        expected = kmer_embed(*part, **options(vocabulary, 3000))
        assert torch.equal(out[:, first : first + 3000], expected)


def test_compiles_for_a_gpu_that_is_not_here(tmp_path: Path) -> None:
    """The interpreter accepts what the compiler does not: compile for Hopper, which needs no GPU."""
    script = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from annotator_kernels.kmer.embed_kernel import _add_rows_kernel, _kmer_embed_kernel

def compiled(kernel, types, constants):
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in kernel.arg_names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(kernel.arg_names) if signature[name].startswith("*")}
    return triton.compile(ASTSource(kernel, signature, constants, aligned), target=GPUTarget("cuda", 90, 32)).asm["ptx"]

embed = {"block_ptr": "*u8", "starts_ptr": "*i64", "reverse_ptr": "*u8", "code_table_ptr": "*u8",
         "complement_table_ptr": "*u8", "table_ptr": "*bf16", "out_ptr": "*bf16", "n": "i64"}
ptx = compiled(_kmer_embed_kernel, embed, {"H": 32, "K": 6, "STRIDE": 1, "HAS_CLS": True, "HAS_SEP": True, "BLOCK_T": 256,
                                           "BLOCK_H": 32})
print("st.global.cs.v4" in ptx)
add = {"source_ptr": "*bf16", "order_ptr": "*i64", "from_ptr": "*i64", "to_ptr": "*i64", "out_ptr": "*fp32"}
print(".entry" in compiled(_add_rows_kernel, add, {"H": 32, "ORDERED": True, "BLOCK_R": 32, "BLOCK_H": 32}))
"""
    assert run_compiler(script, tmp_path) == "True\nTrue\n"
