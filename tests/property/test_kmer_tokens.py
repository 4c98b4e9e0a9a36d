"""k-mer token ids against a slow pure-Python oracle, and the symmetries they must have.

Coordinates are 0-based; a window start may be negative or run past the block.
"""

from __future__ import annotations

from dataclasses import dataclass
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from annotator.tokens.kmer_rows import kmer_ids_of_rows
from annotator.tokens.vocabulary import KmerVocabulary
from annotator_kernels.kmer import cpu, op
from annotator_kernels.kmer.op import kmer_tokenize_reference
from annotator_kernels.kmer.scheme import KmerScheme

COMPLEMENT = dict(zip("ACGTUNRYacgtunry", "TGCAANYRtgcaanyr", strict=True))


@st.composite
def vocabularies(draw: st.DrawFn) -> KmerVocabulary:
    k = draw(st.integers(1, 8))
    first = draw(st.sampled_from([2, 4, 5, 6, 40_000]))
    return KmerVocabulary(
        k=k,
        order="".join(draw(st.permutations("ACGT"))),
        first_kmer_id=first,
        ambiguous_id=draw(st.sampled_from([0, 1, first + 4**k, 200_000])),
        lower_case=draw(st.booleans()),
    )


bases = st.text(alphabet="ACGT", max_size=120) | st.text(alphabet="".join(COMPLEMENT), max_size=120)


@dataclass
class Call:
    """Arguments of one call: `text` and everything after it."""

    text: str
    windows: list[tuple[int, bool]]
    tokens: int
    kmer_stride: int
    vocabulary: KmerVocabulary
    cls_id: int | None
    sep_id: int | None
    dtype: torch.dtype


calls = st.builds(
    Call,
    text=bases,
    windows=st.lists(st.tuples(st.integers(-150, 150), st.booleans()), max_size=4),
    tokens=st.integers(0, 30),
    kmer_stride=st.integers(1, 12),
    vocabulary=vocabularies(),
    cls_id=st.sampled_from([None, 2]),
    sep_id=st.sampled_from([None, 3]),
    dtype=st.sampled_from([torch.int32, torch.int64]),
)


def reverse_complement(text: str) -> str:
    return "".join(COMPLEMENT[base] for base in reversed(text))


def tokenize(call: Call) -> torch.Tensor:
    return kmer_tokenize_reference(
        torch.tensor(list(call.text.encode()), dtype=torch.uint8),
        torch.tensor([start for start, _ in call.windows], dtype=torch.int64),
        torch.tensor([backward for _, backward in call.windows], dtype=torch.bool),
        call.vocabulary.scheme(call.kmer_stride, cls_id=call.cls_id, sep_id=call.sep_id),
        tokens=call.tokens,
        dtype=call.dtype,
    )


def slow_ids(call: Call) -> list[list[int]]:
    """The same, one letter at a time."""
    v = call.vocabulary
    span = (call.tokens - 1) * call.kmer_stride + v.k
    rows = []
    for start, backward in call.windows:
        read = "".join(call.text[i] if 0 <= i < len(call.text) else "N" for i in range(start, start + span))
        if backward:
            read = reverse_complement(read)
        ids = []
        for token in range(call.tokens):
            value = 0
            for letter in read[token * call.kmer_stride :][: v.k]:
                known = v.order if v.lower_case is False else v.order + v.order.lower()
                base = letter.replace("U", "T").replace("u", "t")
                if base not in known:
                    value = None
                    break
                value = value * 4 + known.index(base) % 4
            ids.append(v.ambiguous_id if value is None else v.first_kmer_id + value)
        rows.append([i for i in (call.cls_id, *ids, call.sep_id) if i is not None])
    return rows


@settings(deadline=None, max_examples=300)
@given(calls)
def test_ids_equal_the_slow_oracle(call: Call) -> None:
    ids = tokenize(call)
    assert ids.dtype == call.dtype
    assert ids.shape == (len(call.windows), call.tokens + (call.cls_id is not None) + (call.sep_id is not None))
    assert ids.tolist() == slow_ids(call)


@settings(deadline=None, max_examples=100)
@given(calls, st.integers(1, 40))
def test_ids_do_not_depend_on_how_the_work_is_cut(call: Call, piece: int) -> None:
    with mock.patch.object(cpu, "CPU_PIECE_BASES", piece):
        assert tokenize(call).tolist() == slow_ids(call)


@settings(deadline=None, max_examples=100)
@given(calls, st.integers(1, 40))
def test_plain_torch_path_of_other_devices_gives_the_same_ids(call: Call, piece: int) -> None:
    with (
        mock.patch.object(op, "fill_on_cpu", op._fill_on_device),
        mock.patch.object(op, "_DEVICE_PIECE_BASES", piece),
    ):
        assert tokenize(call).tolist() == slow_ids(call)


@settings(deadline=None)
@given(st.text(alphabet="".join(COMPLEMENT), min_size=8, max_size=100), vocabularies())
def test_minus_strand_is_the_reverse_complement_and_mirrors_the_ids(text: str, vocabulary: KmerVocabulary) -> None:
    tokens = len(text) - vocabulary.k + 1
    call = Call(text, [(0, False), (0, True)], tokens, 1, vocabulary, None, None, torch.int32)
    forward, backward = tokenize(call).tolist()
    call.text = reverse_complement(text)
    assert tokenize(call).tolist() == [backward, forward]
    for plus, minus in zip(forward, reversed(backward), strict=True):
        kmer = vocabulary.decode(plus)
        assert minus == (vocabulary.ambiguous_id if kmer is None else vocabulary.encode(reverse_complement(kmer)))


@given(vocabularies(), st.data())
def test_decode_undoes_encode(vocabulary: KmerVocabulary, data: st.DataObject) -> None:
    kmer = data.draw(st.text(alphabet="ACGT", min_size=vocabulary.k, max_size=vocabulary.k))
    token_id = vocabulary.encode(kmer)
    assert vocabulary.decode(token_id) == kmer
    assert vocabulary.first_kmer_id <= token_id < vocabulary.size


@given(vocabularies(), st.data())
def test_encode_undoes_decode(vocabulary: KmerVocabulary, data: st.DataObject) -> None:
    token_id = data.draw(st.integers(vocabulary.first_kmer_id, vocabulary.size - 1))
    kmer = vocabulary.decode(token_id)
    assert kmer is not None
    assert vocabulary.encode(kmer) == token_id


@settings(deadline=None)
@given(st.integers(0, 4), st.text(alphabet="ACGTN", min_size=6, max_size=40))
def test_rows_are_tokenised_apart_from_each_other(count: int, text: str) -> None:
    vocabulary = KmerVocabulary(6)
    rows = torch.tensor([list(text.encode())] * count, dtype=torch.uint8).reshape(count, len(text))
    ids = kmer_ids_of_rows(rows, vocabulary.scheme())
    assert ids.tolist() == [[vocabulary.encode(text[i : i + 6]) for i in range(len(text) - 5)]] * count


def test_non_contiguous_block() -> None:
    text = "ACGTACGTTGCA"
    spaced = torch.tensor(list("-".join(text).encode()), dtype=torch.uint8)[::2]
    assert not spaced.is_contiguous()
    vocabulary = KmerVocabulary(3)
    assert kmer_ids_of_rows(spaced[None], vocabulary.scheme()).tolist() == [
        [vocabulary.encode(text[i : i + 3]) for i in range(10)]
    ]


def test_large_results_take_the_huge_page_allocation() -> None:
    tokens = op._HUGE_PAGE_BYTES // 4
    vocabulary = KmerVocabulary(6)
    block = torch.full((tokens + 5,), ord("A"), dtype=torch.uint8)
    ids = kmer_ids_of_rows(block[None], vocabulary.scheme())
    assert ids.shape == (1, tokens)
    assert torch.equal(ids, torch.full_like(ids, vocabulary.encode("AAAAAA")))


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("block", torch.zeros(3), "block must be uint8"),
        ("starts", torch.zeros(1, dtype=torch.int32), "starts must be int64"),
        ("reverse", torch.zeros(2, dtype=torch.bool), "reverse must be bool"),
        ("tokens", -1, "tokens must be >= 0"),
        ("dtype", torch.int16, "int32 or int64"),
        ("out", torch.zeros((1, 3), dtype=torch.int32), "out must be"),
        ("out", torch.zeros((1, 2), dtype=torch.int64), "out must be"),
        ("out", torch.zeros((2, 1), dtype=torch.int32).t().expand(1, 2)[:, ::2], "out must be"),
    ],
)
def test_meaningless_arguments_are_refused(argument: str, value: object, message: str) -> None:
    arguments = {
        "block": torch.zeros(4, dtype=torch.uint8), "starts": torch.zeros(1, dtype=torch.int64),
        "reverse": torch.zeros(1, dtype=torch.bool), "scheme": KmerVocabulary(3).scheme(), "tokens": 2,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        kmer_tokenize_reference(**(arguments | {argument: value}))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("k", 0, r"k must be 1\.\.8, not 0"),
        ("k", 9, r"k must be 1\.\.8, not 9"),
        ("stride", 0, "stride must be 1"),
        ("stride", 2**28 + 1, "stride must be 1"),
        ("code_table", torch.zeros(255, dtype=torch.uint8), "code_table must be uint8"),
        ("complement_table", torch.zeros(256), "complement_table must be uint8"),
    ],
)
def test_meaningless_schemes_are_refused(field: str, value: object, message: str) -> None:
    table = torch.zeros(256, dtype=torch.uint8)
    fields = {
        "k": 3, "stride": 1, "code_table": table, "complement_table": table, "first_kmer_id": 5, "ambiguous_id": 1,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        KmerScheme(**(fields | {field: value}))


@given(st.integers(1, 8), st.integers(1, 20), st.integers(0, 200))
def test_as_many_tokens_as_fit(k: int, stride: int, length_bp: int) -> None:
    scheme = KmerVocabulary(k).scheme(stride)
    tokens = scheme.tokens_in(length_bp)
    assert tokens == len(range(0, length_bp - k + 1, stride))
    assert tokens == 0 or scheme.span_bp(tokens) <= length_bp < scheme.span_bp(tokens + 1)


def test_the_tables_of_a_scheme_are_copied_to_a_device_once(device: torch.device) -> None:
    vocabulary = KmerVocabulary(2)
    scheme = vocabulary.scheme()
    for table, expected in zip(scheme.tables(device), (vocabulary.code_table, vocabulary.complement_table), strict=True):
        assert table.device.type == device.type and torch.equal(table.cpu(), expected)
    assert all(first is again for first, again in zip(scheme.tables(device), scheme.tables(device), strict=True))
