"""6-mers side by side: Nucleotide Transformer's documented ids, and the frame behind an N."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from annotator.tokens.batch import TokenBatch
from annotator.tokens.kmer_chunks import NT_V1_IDS, NT_V2_IDS, ChunkIds, KmerChunks

UNK, PAD, MASK, CLS = 0, 1, 2, 3
V1, V2 = KmerChunks(NT_V1_IDS, 1000), KmerChunks(NT_V2_IDS, 2048)
PUBLISHED_V1 = ["<unk>", "<pad>", "<mask>", "<cls>", *("".join(mer) for mer in itertools.product("ATCG", repeat=6)), *"ATCGN"]
PUBLISHED_V2 = [*PUBLISHED_V1[:4], "<eos>", "<bos>", *PUBLISHED_V1[4:]]


def rows_of(*texts: str) -> torch.Tensor:
    return torch.tensor([list(text.encode()) for text in texts], dtype=torch.uint8)


def pieces_of(text: str) -> list[str]:
    """Tokens by the published rule: split at N, chunks from the left end of each piece, what remains as single bases."""
    return re.findall("[ACGT]{6}|[ACGTN]|[^ACGTN]+", text)


def tokens_of(batch: TokenBatch, row: int) -> list[int]:
    return batch.ids[row][batch.attention_mask[row]].tolist()


def test_documented_layouts() -> None:
    assert (V1.vocabulary_size, V2.vocabulary_size) == (len(PUBLISHED_V1), len(PUBLISHED_V2)) == (4105, 4107)
    assert [V1.encode(rows_of(letter)).ids.tolist() for letter in "ATCGN"] == [[[CLS, i]] for i in range(4100, 4105)]
    assert [V2.encode(rows_of(letter)).ids.tolist() for letter in "ATCGN"] == [[[CLS, i]] for i in range(4102, 4107)]
    assert [V1.encode(rows_of(mer * 6)).ids[0, 1].item() for mer in "AG"] == [4, 4099]
    assert [V2.encode(rows_of(mer * 6)).ids[0, 1].item() for mer in "AG"] == [6, 4101]
    assert (V1.pad_id, V1.mask_id, V2.pad_id, V2.mask_id) == (PAD, MASK, PAD, MASK)


@pytest.mark.parametrize(("tokenizer", "names"), [(V1, PUBLISHED_V1), (V2, PUBLISHED_V2)], ids=["v1", "v2"])
def test_every_six_mer_has_its_published_id(tokenizer: KmerChunks, names: list[str]) -> None:
    mers = [name for name in names if len(name) == 6 and name.isalpha()]
    assert len(mers) == 4096
    assert tokenizer.encode(rows_of("".join(mers))).ids[0, 1:].tolist() == [names.index(mers[0]) + i for i in range(4096)]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("ACGTACGT", ["ACGTAC", "G", "T"]),
        ("ACGTACGTNACGTAC", ["ACGTAC", "G", "T", "N", "ACGTAC"]),
        ("NACGTACNNACGTACA", ["N", "ACGTAC", "N", "N", "ACGTAC", "A"]),
        ("ACGTA", ["A", "C", "G", "T", "A"]),
        ("NNN", ["N", "N", "N"]),
        ("ACGTACRACGTACT", ["ACGTAC", "<unk>", "ACGTAC", "T"]),
        ("ACGTACRYNACGTAC", ["ACGTAC", "<unk>", "N", "ACGTAC"]),
        ("acgtACGTAC", ["<unk>", "ACGTAC"]),
        ("acgtac", ["<unk>"]),
    ],
)
def test_an_n_shifts_the_frame_and_a_run_of_other_letters_is_one_unknown(text: str, tokens: list[str]) -> None:
    assert V2.encode(rows_of(text)).ids.tolist() == [[CLS, *map(PUBLISHED_V2.index, tokens)]]
    assert V1.encode(rows_of(text)).ids.tolist() == [[CLS, *map(PUBLISHED_V1.index, tokens)]]


@pytest.mark.parametrize(("tokenizer", "longest", "tokens"), [(V1, 5994, 1000), (V2, 12282, 2048)], ids=["v1", "v2"])
def test_the_longest_row_fills_the_model_and_one_base_more_is_not_cut(tokenizer: KmerChunks, longest: int, tokens: int) -> None:
    assert tokenizer.longest_bp() == longest
    assert tokenizer.max_tokens == tokens
    text = "ACGTTGCATC" * 1300
    assert tokenizer.encode(rows_of(text[:longest])).ids.shape == (1, tokens)
    assert tokenizer.encode(rows_of(text[: longest + 1])).ids.shape == (1, tokens + 1)
    assert KmerChunks(NT_V2_IDS, None).longest_bp() is None


def test_rows_of_one_batch_are_padded_at_the_right() -> None:
    batch = V2.encode(rows_of("ACGTACACGTAC", "ACGNACACGNAC"))
    assert batch.counts.tolist() == [3, 13]
    assert batch.ids[0].tolist() == [CLS, 728, 728, *[PAD] * 10]
    assert batch.attention_mask[0].tolist() == [True] * 3 + [False] * 10
    assert batch.base_spans[0].tolist() == [[-1, -1], [0, 6], [6, 12], *[[-1, -1]] * 10]


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from([V1, V2]),
    st.integers(0, 40).flatmap(
        lambda length: st.lists(
            st.one_of(*(st.text(letters, min_size=length, max_size=length) for letters in ("ACGT", "ACGTACGTACGTN", "ACGTNRYa"))),
            max_size=4,
        )
    ),
)
def test_ids_spans_and_bases_agree(tokenizer: KmerChunks, texts: list[str]) -> None:
    names = PUBLISHED_V1 if tokenizer is V1 else PUBLISHED_V2
    length = len(texts[0]) if texts else 7
    batch = tokenizer.encode(rows_of(*texts).reshape(len(texts), length))
    assert batch.ids.dtype == batch.base_spans.dtype == batch.base_token.dtype == torch.int64
    assert (batch.ids[~batch.attention_mask] == PAD).all()
    for row, text in enumerate(texts):
        found, pieces = tokens_of(batch, row), pieces_of(text)
        assert found == [CLS, *(names.index(piece) if piece in names else UNK for piece in pieces)]
        assert len(found) == batch.counts[row]
        spans = batch.base_spans[row].tolist()
        assert [text[first:end] for first, end in spans[1 : len(found)]] == pieces
        assert [base for first, end in spans[1 : len(found)] for base in range(first, end)] == list(range(len(text)))
        assert spans[0] == [-1, -1]
        assert spans[len(found) :] == [[-1, -1]] * (batch.ids.shape[1] - len(found))
        assert all(spans[token][0] <= base < spans[token][1] for base, token in enumerate(batch.base_token[row].tolist()))


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 8), st.text("ACGT", min_size=1, max_size=40))
def test_a_clean_row_has_the_same_tokens_beside_a_row_with_n(k: int, text: str) -> None:
    tokenizer = KmerChunks(ChunkIds(first_kmer_id=6, k=k), None)
    alone, beside = tokenizer.encode(rows_of(text)), tokenizer.encode(rows_of(text, "N" * len(text)))
    count = int(alone.counts[0])
    assert beside.counts.tolist() == [count, len(text) + 1]
    assert torch.equal(alone.ids[0], beside.ids[0, :count])
    assert torch.equal(alone.base_spans[0], beside.base_spans[0, :count])
    assert torch.equal(alone.base_token[0], beside.base_token[0])


def test_eos_and_bos_are_never_put_into_a_row() -> None:
    ids = V2.encode(rows_of("ACGTNRACGTACTTTTTTAACCGGTTNNAACCGGTTC")).ids
    assert not torch.isin(ids, torch.tensor([4, 5])).any()


def test_another_prefix_or_none() -> None:
    rows = rows_of("ACGTACG")
    assert KmerChunks(ChunkIds(6, prefix_id=5), None).encode(rows).ids.tolist() == [[5, 728, 4105]]
    bare = KmerChunks(ChunkIds(6, prefix_id=None), 10)
    assert bare.encode(rows).ids.tolist() == [[728, 4105]]
    assert bare.encode(rows).base_spans.tolist() == [[[0, 6], [6, 7]]]
    assert bare.longest_bp() == 60
    with pytest.raises(ValueError, match="rows of 0 bases hold no token"):
        bare.encode(rows[:, :0])


@pytest.mark.parametrize(
    ("ids", "message"),
    [({"k": 1}, r"k must be 2\.\.8"), ({"prefix_id": 1}, "must differ"), ({"mask_id": 6}, "below first_kmer_id")],
)
def test_impossible_layouts_are_refused(ids: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ChunkIds(**({"first_kmer_id": 6} | ids))


@pytest.mark.parametrize("text", ["ACGTACGTACG", "ACGTNACGTACG"])
def test_tokens_lie_where_the_rows_lie(text: str, device: torch.device) -> None:
    here, there = V2.encode(rows_of(text)), V2.encode(rows_of(text).to(device))
    for name in ("ids", "attention_mask", "base_spans", "base_token"):
        assert getattr(there, name).device.type == device.type
        assert torch.equal(getattr(here, name), getattr(there, name).cpu())
