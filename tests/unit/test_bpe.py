"""Byte-pair tokens: the documented behaviour of DNABERT-2's tokenizer, spans, refusals, training."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from torch import Tensor

from annotator.errors import InputError
from annotator.tokens.bpe import SPECIAL, BpeTokenizer, train_bpe

ROOT = Path(__file__).parents[2]
MERGES = [("A", "A"), ("T", "T"), ("T", "G"), ("C", "A"), ("CA", "TG"), ("G", "C"), ("CA", "A"), ("AA", "AA"), ("CATG", "GC")]
TOKENS = [*SPECIAL, "A", "C", "G", "T", *(left + right for left, right in MERGES)]


def published_layout() -> dict[str, Any]:
    """A `tokenizer.json` as DNABERT-2's, with its first merges (AA 9, TT 10, TG 11, CA 12) and a few more."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": token, "special": True}
            | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
            for i, token in enumerate(SPECIAL)
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {token: {"id": token, "ids": [i], "tokens": [token]} for i, token in ((1, "[CLS]"), (2, "[SEP]"))},
        },
        "decoder": None,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": "[UNK]", "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": False, "byte_fallback": False, "vocab": {token: i for i, token in enumerate(TOKENS)},
            "merges": [f"{left} {right}" for left, right in MERGES],
        },
    }  # fmt: skip


PUBLISHED = json.dumps(published_layout())
BPE = BpeTokenizer(PUBLISHED)


def rows_of(*texts: str) -> Tensor:
    return torch.tensor([list(text.encode()) for text in texts], dtype=torch.uint8)


def merged(text: str) -> list[int]:
    """Ids of a row by the definition: of all neighbours that a merge joins, always the earliest merge's leftmost pair."""
    pieces = [letter if letter in "ACGT" else "[UNK]" for letter in text]
    while True:
        ranks = [MERGES.index(pair) if pair in MERGES else len(MERGES) for pair in zip(pieces, pieces[1:], strict=False)]
        if not ranks or min(ranks) == len(MERGES):
            return [TOKENS.index(piece) for piece in pieces]
        at = ranks.index(min(ranks))
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]


def ids_of(text: str) -> list[int]:
    tokens = BPE.encode(rows_of(text))
    return tokens.ids[0, : int(tokens.counts[0])].tolist()


def test_the_ids_of_the_published_layout() -> None:
    assert (BPE.vocabulary_size, BPE.pad_id, BPE.mask_id, BPE.max_tokens, BPE.longest_bp()) == (len(TOKENS), 3, 4, None, None)
    for text, id_ in (("A", 5), ("C", 6), ("G", 7), ("T", 8), ("AA", 9), ("TT", 10), ("TG", 11), ("CA", 12)):
        assert ids_of(text) == [1, id_, 2]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("CATG", [13]),
        ("CANTG", [12, 0, 11]),
        ("CANNTG", [12, 0, 0, 11]),
        ("CARTG", [12, 0, 11]),
        ("CatG", [6, 0, 0, 7]),
        ("catg", [0, 0, 0, 0]),
        ("CA TG", [12, 0, 11]),
        ("CA-TG", [12, 0, 11]),
        ("N", [0]),
        ("", []),
    ],
)
def test_whatever_is_no_upper_case_base_is_one_unknown_and_breaks_the_merge(text: str, ids: list[int]) -> None:
    assert ids_of(text) == [1, *ids, 2]
    if " " not in text:  # which the published splitter drops; no row holds one
        assert Tokenizer.from_str(PUBLISHED).encode(text).ids == [1, *ids, 2]


def test_shorter_rows_are_padded_with_3() -> None:
    tokens = BPE.encode(rows_of("CATGGC", "CCCCCC", "AAAAAA"))
    assert tokens.ids.tolist() == [[1, 17, 2, 3, 3, 3, 3, 3], [1, 6, 6, 6, 6, 6, 6, 2], [1, 16, 9, 2, 3, 3, 3, 3]]
    assert tokens.attention_mask.tolist() == [[i != 3 for i in row] for row in tokens.ids.tolist()]
    assert tokens.base_spans[2].tolist() == [[-1, -1], [0, 4], [4, 6], [-1, -1], *[[-1, -1]] * 4]
    assert tokens.base_token.tolist() == [[1] * 6, [1, 2, 3, 4, 5, 6], [1, 1, 1, 1, 2, 2]]
    assert len(tokens.take(torch.tensor([0, 2]), 4)) == 2


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 40).flatmap(lambda n: st.lists(st.text("AACCGGTTNRa", min_size=n, max_size=n), min_size=1, max_size=5)))
def test_ids_follow_the_definition_and_spans_tile_the_row(texts: list[str]) -> None:
    tokens = BPE.encode(rows_of(*texts).view(len(texts), -1))
    assert {t.dtype for t in (tokens.ids, tokens.base_spans, tokens.base_token)} == {torch.int64}
    for row, text in enumerate(texts):
        count = int(tokens.counts[row])
        ids, spans = tokens.ids[row].tolist(), tokens.base_spans[row].tolist()
        assert ids[:count] == [1, *merged(text), 2]
        assert set(ids[count:]) <= {3} and not tokens.attention_mask[row, count:].any()
        assert [spans[0], *spans[count - 1 :]] == [[-1, -1]] * (len(spans) - count + 2)
        at = 0
        for column in range(1, count - 1):
            start, end = spans[column]
            assert start == at and tokens.base_token[row, start:end].tolist() == [column] * (end - start)
            assert TOKENS[ids[column]] == text[start:end] or (ids[column] == 0 and end == start + 1 and text[start] not in "ACGT")
            at = end
        assert at == len(text)


def test_no_rows_and_no_bases() -> None:
    nothing = BPE.encode(torch.empty(0, 5, dtype=torch.uint8))
    assert nothing.ids.shape == (0, 2) and nothing.base_spans.shape == (0, 2, 2) and nothing.base_token.shape == (0, 5)
    empty = BPE.encode(torch.empty(2, 0, dtype=torch.uint8))
    assert empty.ids.tolist() == [[1, 2]] * 2 and empty.base_token.shape == (2, 0) and bool((empty.base_spans == -1).all())


def test_tokens_lie_on_the_device_of_the_rows(device: torch.device) -> None:
    rows = rows_of("CATGGCNA", "AAAATTTT")
    here, there = BPE.encode(rows), BPE.encode(rows.to(device).t().contiguous().t())
    for name in ("ids", "attention_mask", "base_spans", "base_token"):
        assert getattr(there, name).device.type == device.type
        assert torch.equal(getattr(there, name).cpu(), getattr(here, name))


def test_a_tokenizer_is_read_from_a_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no tokenizer.json"):
        BpeTokenizer.read(tmp_path)
    (tmp_path / "tokenizer.json").write_text(PUBLISHED)
    assert BpeTokenizer.read(tmp_path).text == PUBLISHED
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(InputError, match=r"tokenizer.json: not readable"):
        BpeTokenizer.read(tmp_path)


def swap_pad_and_unknown(raw: dict[str, Any]) -> None:
    raw["model"]["vocab"] |= {"[UNK]": 3, "[PAD]": 0}


SPOILT: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "lower-casing": ("normalizer", lambda raw: raw.update(normalizer={"type": "Lowercase"})),
    "bytes": ("pre_tokenizer", lambda raw: raw.update(pre_tokenizer={"type": "ByteLevel"})),
    "words": ("model.type", lambda raw: raw["model"].update(type="WordPiece")),
    "dropout": ("model.dropout", lambda raw: raw["model"].update(dropout=0.1)),
    "no unknown": ("model.unk_token", lambda raw: raw["model"].update(unk_token=None)),
    "fused": ("model.fuse_unk", lambda raw: raw["model"].update(fuse_unk=True)),
    "fallback": ("model.byte_fallback", lambda raw: raw["model"].update(byte_fallback=True)),
    "suffix": ("model.end_of_word_suffix", lambda raw: raw["model"].update(end_of_word_suffix="</w>")),
    "special ids": (r"'added_tokens': \[UNK\] has id 0, but 3", swap_pad_and_unknown),
    "gap": ("ids are not 0..17", lambda raw: raw["model"]["vocab"].update(CATGGC=99)),
    "English": ("'the' is not made of A, C, G and T", lambda raw: raw["model"]["vocab"].update(the=18)),
    "N": ("'N' is not made of", lambda raw: raw["model"]["vocab"].update(N=18)),
    "added": ("'added_tokens': '<pad>'", lambda raw: raw["added_tokens"].append({"content": "<pad>"})),
    "no vocabulary": ("KeyError: 'vocab'", lambda raw: raw["model"].pop("vocab")),
    "merge": ("not a tokenizer", lambda raw: raw["model"]["merges"].append("GGG TTT")),
}


@pytest.mark.parametrize("name", SPOILT)
def test_other_tokenizers_are_refused_with_file_and_field(name: str) -> None:
    field, spoil = SPOILT[name]
    raw = published_layout()
    spoil(raw)
    with pytest.raises(InputError, match=f"^models/tokenizer.json: .*{field}"):
        BpeTokenizer(json.dumps(raw), "models/tokenizer.json")


def test_a_missing_base_is_refused() -> None:
    raw = published_layout()
    raw["model"] |= {"vocab": {token: i for i, token in enumerate([*SPECIAL, "A", "C", "G"])}, "merges": []}
    with pytest.raises(InputError, match="no token for T"):
        BpeTokenizer(json.dumps(raw))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"model": []}', '{"model": {"vocab": []}}', "[" * 100_000])
def test_what_is_no_tokenizer_at_all_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="tokenizer.json: not a byte-pair tokenizer"):
        BpeTokenizer(text)


def corpus() -> list[str]:
    draw = random.Random(7)
    return ["".join(draw.choices("ACGT", weights=(3, 2, 2, 3), k=900)) + "NNNNacgtR" + "CAG" * 30 for _ in range(20)]


TRAINED = train_bpe(corpus(), 200)


def test_training_gives_the_published_layout() -> None:
    raw = json.loads(TRAINED)
    vocabulary = raw["model"]["vocab"]
    assert [*vocabulary][:9] == [*SPECIAL, "A", "C", "G", "T"] and [*vocabulary.values()] == list(range(200))
    assert raw["pre_tokenizer"] == {"type": "Whitespace"} and raw["normalizer"] is None
    assert Tokenizer.from_str(TRAINED).encode("NA").ids == [1, 0, 5, 2]
    trained = BpeTokenizer(TRAINED)
    tokens = trained.encode(rows_of(*(text[:900] for text in corpus())))
    assert trained.vocabulary_size == 200 and 3 < 900 / (tokens.counts.double().mean() - 2) < 6


def test_training_is_the_same_every_time_with_any_number_of_threads() -> None:
    assert train_bpe(iter(corpus()), 200) == TRAINED
    script = "import sys; from test_bpe import corpus, train_bpe; sys.stdout.write(train_bpe(corpus(), 200))"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "kernels"), str(Path(__file__).parent)])
    env = os.environ | {"PYTHONPATH": paths, "RAYON_NUM_THREADS": "3", "PYTHONHASHSEED": "5"}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == TRAINED


def test_a_repeat_does_not_eat_the_vocabulary() -> None:
    tokens = json.loads(train_bpe(["A" * 5000, *corpus()], 200))["model"]["vocab"]
    assert 16 <= max(len(token) for token in tokens if token not in SPECIAL) <= 32


def test_training_refuses_what_it_cannot_reach() -> None:
    with pytest.raises(InputError, match="give 10 byte-pair tokens, 200 were asked for"):
        train_bpe(["AC", "NN"], 200)
    with pytest.raises(ValueError, match="at least 9"):
        train_bpe(corpus(), 8)
