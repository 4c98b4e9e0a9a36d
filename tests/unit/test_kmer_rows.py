"""Stride-1 k-mer rows: DNABERT's documented ids, its traps, and what every base is told."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from annotator.tokens.kmer_rows import KmerRows, dnabert_rows
from annotator.tokens.vocabulary import dnabert_vocabulary

UNK, CLS, SEP = 1, 2, 3


def rows_of(*texts: str) -> torch.Tensor:
    return torch.tensor([list(text.encode()) for text in texts], dtype=torch.uint8)


def bare(k: int) -> KmerRows:
    return KmerRows(dnabert_vocabulary(k), cls_id=None, sep_id=None, pad_id=0, mask_id=4, max_tokens=None)


def test_documented_ids() -> None:
    assert dnabert_rows(6).encode(rows_of("ACGTACGT")).ids.tolist() == [[CLS, 727, 2896, 3378, SEP]]


@pytest.mark.parametrize(("k", "size"), [(3, 69), (4, 261), (5, 1029), (6, 4101)])
def test_vocabulary_sizes_and_order_are_the_published_ones(k: int, size: int) -> None:
    tokenizer = dnabert_rows(k)
    assert (tokenizer.vocabulary_size, tokenizer.pad_id, tokenizer.mask_id) == (size, 0, 4)
    vocabulary_file = ["".join(letters) for letters in itertools.product("ATCG", repeat=k)]
    assert tokenizer.encode(rows_of(*vocabulary_file)).ids[:, 1].tolist() == list(range(5, size))


@pytest.mark.parametrize("k", [3, 4, 5, 6])
@pytest.mark.parametrize("letter", ["N", "R"])
def test_one_ambiguous_base_makes_k_unknown_tokens(k: int, letter: str) -> None:
    ids = dnabert_rows(k).encode(rows_of("ACGTACGTAC" + letter + "ACGTACGTAC")).ids[0, 1:-1]
    assert (ids == UNK).nonzero().flatten().tolist() == list(range(11 - k, 11))


def test_the_last_kmer_is_kept() -> None:
    batch = dnabert_rows(6).encode(rows_of("AAAAAAG"))
    assert batch.ids[0, -2] == dnabert_vocabulary(6).encode("AAAAAG")
    assert batch.base_spans[0, -2].tolist() == [1, 7]


@pytest.mark.parametrize(("k", "longest"), [(3, 512), (4, 513), (5, 514), (6, 515)])
def test_510_kmers_are_512_ids_and_511_are_never_cut(k: int, longest: int) -> None:
    tokenizer = dnabert_rows(k)
    assert tokenizer.longest_bp() == longest == 510 + k - 1
    text = "ACGTTGCA" * 65
    at_limit = tokenizer.encode(rows_of(text[:longest])).ids[0]
    assert len(at_limit) == 512
    assert (at_limit == SEP).nonzero().tolist() == [[511]]  # the published code puts an empty [CLS] [SEP] behind
    over = tokenizer.encode(rows_of(text[: longest + 1])).ids[0]
    assert len(over) == 513
    assert over[:-2].tolist() == at_limit[:-1].tolist()


@pytest.mark.parametrize("text", ["", "A", "ACGTA"])
def test_a_row_shorter_than_k_is_the_special_tokens_alone(text: str) -> None:
    batch = dnabert_rows(6).encode(rows_of(text))
    assert batch.ids.tolist() == [[CLS, SEP]]
    assert batch.base_spans.tolist() == [[[-1, -1], [-1, -1]]]
    assert batch.base_token.tolist() == [[0] * len(text)]


def test_without_special_tokens() -> None:
    batch = bare(3).encode(rows_of("ACGTA"))
    assert batch.ids.tolist() == [[dnabert_vocabulary(3).encode(kmer) for kmer in ("ACG", "CGT", "GTA")]]
    assert batch.base_spans.tolist() == [[[0, 3], [1, 4], [2, 5]]]
    assert batch.base_token.tolist() == [[0, 0, 1, 2, 2]]
    assert bare(3).longest_bp() is None
    with pytest.raises(ValueError, match="rows of 2 bases hold no 3-mer"):
        bare(3).encode(rows_of("AC"))


def test_no_rows() -> None:
    batch = dnabert_rows(6).encode(torch.zeros((0, 20), dtype=torch.uint8))
    assert batch.ids.shape == (0, 17)
    assert batch.base_spans.shape == (0, 17, 2)
    assert batch.base_token.shape == (0, 20)


@pytest.mark.parametrize(("k", "offsets"), [(3, [-1, 1]), (4, [-1, 1, 2]), (5, [-2, -1, 1, 2]), (6, [-2, -1, 1, 2, 3])])
def test_a_base_is_hidden_by_exactly_the_run_that_dnabert_masks_around_its_token(k: int, offsets: list[int]) -> None:
    batch = dnabert_rows(k).encode(rows_of("ACGTTGCATGCAAGCT"))
    for base in range(k, 16 - k):
        covering = ((batch.base_spans[0, :, 0] <= base) & (base < batch.base_spans[0, :, 1])).nonzero().flatten().tolist()
        centre = int(batch.base_token[0, base])
        assert covering == sorted([centre, *(centre + offset for offset in offsets)])


@settings(deadline=None, max_examples=100)
@given(st.integers(3, 6), st.lists(st.text("ACGTN", min_size=12, max_size=12), min_size=1, max_size=4))
def test_ids_spans_and_bases_agree(k: int, texts: list[str]) -> None:
    vocabulary = dnabert_vocabulary(k)
    batch = dnabert_rows(k).encode(rows_of(*texts))
    assert batch.ids.dtype == batch.base_spans.dtype == batch.base_token.dtype == torch.int64
    assert batch.attention_mask.all()
    for text, ids, spans, base_token in zip(texts, batch.ids, batch.base_spans.tolist(), batch.base_token.tolist(), strict=True):
        assert ids.tolist() == [CLS, *(vocabulary.encode(text[i : i + k]) for i in range(13 - k)), SEP]
        assert spans[0] == spans[-1] == [-1, -1]
        assert spans[1:-1] == [[i, i + k] for i in range(13 - k)]
        for token_id, (first, end) in zip(ids[1:-1].tolist(), spans[1:-1], strict=True):
            assert vocabulary.decode(token_id) == (text[first:end] if "N" not in text[first:end] else None)
        middles = [(first + end - 1) / 2 for first, end in spans[1:-1]]
        for base, token in enumerate(base_token):
            assert spans[token][0] <= base < spans[token][1]
            assert abs(middles[token - 1] - base) == min(abs(middle - base) for middle in middles)


def test_tokens_lie_where_the_rows_lie(device: torch.device) -> None:
    rows = rows_of("ACGTNACGTACG", "TTTTTTTTTTTT")
    here, there = dnabert_rows(4).encode(rows), dnabert_rows(4).encode(rows.to(device))
    for name in ("ids", "attention_mask", "base_spans", "base_token"):
        assert getattr(there, name).device.type == device.type
        assert torch.equal(getattr(here, name), getattr(there, name).cpu())
