"""DNABERT-2's byte-pair tokens: read from its `tokenizer.json` or trained anew, with the bases that each one covers.

Coordinates: bases of a row in the order it is read, 0-based half-open.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from annotator.errors import InputError
from annotator.tokens.batch import TokenBatch
from annotator.tokens.vocabulary_file import (
    TOKENIZER_NAME,
    VOCABULARY_NAME,
    VocabularyFile,
    read_lines,
    read_text,
    refuse_disagreement,
)

SPECIAL = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
"""Tokens 0..4 of the published vocabulary and of those trained here, in this order; any other vocabulary has them anywhere."""
UNK_ID, CLS_ID, SEP_ID, PAD_ID, MASK_ID = range(len(SPECIAL))
"""Ids of the special tokens in the published layout."""
LONGEST_TOKEN_BP = 32
"""Longest token of the published vocabulary; keeps a trained one from spending its ids on long repeats."""
_WORD_BP = 512
"""Pieces that training cuts its sequences into: the trainer goes over a whole word for each merge."""
_BASES = re.compile("[ACGT]+")
_AS_READ = bytes(byte if byte in b"ACGT" else ord("N") for byte in range(256))
"""One N for every byte that is no upper-case base: one [UNK], and no white space that the word splitter would drop."""
_PLAIN_BPE = {
    "dropout": (None, 0, 0.0),
    "unk_token": ("[UNK]",),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "fuse_unk": (None, False),
    "byte_fallback": (None, False),
    "ignore_merges": (None, False),
}
"""Fields of the file's `model` and the values under which a token covers exactly its letters, the same every time."""


class BpeTokenizer:
    """`[CLS] x [SEP]` with x the byte-pair tokens of a row; N, IUPAC and lower case give one [UNK] a base and end merges there.

    Padding is [PAD], whatever a `config.json` calls `pad_token_id` (DNABERT-2's says 0, which is [UNK]). No row is too
    long: the family's positions are distances.

    Attributes:
        text: The `tokenizer.json` it came from, to be written beside weights.
        files: The same by its name.
        ids: Id of every token.
    """

    pad_id: int
    mask_id: int | None
    max_tokens: int | None = None
    files: Mapping[str, str]

    def __init__(self, text: str, source: str = TOKENIZER_NAME) -> None:
        """Read and check a tokenizer.

        Args:
            text: Contents of a `tokenizer.json`.
            source: Its path, for messages.

        Raises:
            InputError: It is no byte-pair tokenizer of bases with DNABERT-2's special tokens; names the field.
        """
        vocabulary = _checked_vocabulary(text, source)
        try:
            # Fine-tuning leaves its own cutting and padding in the file; rows are cut and padded by this program alone.
            self._encoder = _tokenizers().Tokenizer.from_str(json.dumps(json.loads(text) | {"truncation": None, "padding": None}))
        except Exception as error:  # the Rust library raises nothing narrower
            raise InputError(f"{source}: not a tokenizer ({error})") from None
        self.text, self.files = text, {TOKENIZER_NAME: text}
        self.ids: dict[str, int] = vocabulary
        self.pad_id, self.mask_id = vocabulary["[PAD]"], vocabulary["[MASK]"]
        self.vocabulary_size = len(vocabulary)
        self._base_counts = torch.zeros(len(vocabulary), dtype=torch.int64)
        for token, index in vocabulary.items():
            self._base_counts[index] = 0 if token in SPECIAL else len(token)
        self._base_counts[vocabulary["[UNK]"]] = 1

    @classmethod
    def read(cls, folder: Path) -> BpeTokenizer:
        """The tokenizer of a model directory.

        Raises:
            InputError: `tokenizer.json` is missing, unreadable, not of this family, or not of the `vocab.txt` beside it.
        """
        path = folder / TOKENIZER_NAME
        try:
            text = read_text(path)
        except FileNotFoundError:
            raise InputError(f"{folder}: no {TOKENIZER_NAME}; byte-pair tokens cannot be made without it") from None
        found = cls(text, str(path))
        if (lines := read_lines(folder / VOCABULARY_NAME)) is not None:
            refuse_disagreement(VocabularyFile(path, text, found.ids), lines)
        return found

    def encode(self, rows: Tensor) -> TokenBatch:
        """Tokenise rows on the CPU, several at a time (`RAYON_NUM_THREADS` threads; at first use, torch's number).

        Args:
            rows: ASCII bases in reading direction, uint8, [R, L].

        Returns:
            The tokens, on the device of `rows`; the spans of a row tile [0, L).
        """
        count, length = rows.shape
        text = rows.cpu().contiguous().numpy().tobytes().translate(_AS_READ).decode("ascii")
        words = [text[at : at + length] for at in range(0, count * length, length)] if length else [""] * count
        found = [encoding.ids for encoding in self._encoder.encode_batch_fast(words, add_special_tokens=False)]
        flat = torch.tensor(list(chain.from_iterable(found)), dtype=torch.int64)
        counts = torch.tensor([len(ids) for ids in found], dtype=torch.int64)
        return self._batch(flat, counts, self._base_counts[flat], length, rows.device)

    def longest_bp(self) -> int | None:
        """None: there is no limit."""
        return None

    def _batch(self, flat: Tensor, counts: Tensor, base_counts: Tensor, length: int, device: torch.device) -> TokenBatch:
        """Rows from their ids laid end to end.

        Args:
            flat: Ids without special tokens, int64, [n].
            counts: Number of ids in each row, int64, [R].
            base_counts: Bases that each id covers, int64, [n]; those of a row sum to `length`.
            length: Bases of a row, L.
            device: Device of the result.
        """
        rows, width = len(counts), int(counts.max()) + 2 if len(counts) else 2
        columns = torch.arange(width)
        content = (columns >= 1) & (columns <= counts[:, None])
        ids = torch.full((rows, width), self.pad_id)
        ids[:, 0] = self.ids["[CLS]"]
        ids[content] = flat
        ids[torch.arange(rows), counts + 1] = self.ids["[SEP]"]
        row_of_token, column_of_token = content.nonzero(as_tuple=True)
        ends = base_counts.cumsum(0) - row_of_token * length
        spans = torch.full((rows, width, 2), -1)
        spans[content] = torch.stack([ends - base_counts, ends], 1)
        base_token = column_of_token.repeat_interleave(base_counts).view(rows, length)
        mask = columns <= counts[:, None] + 1
        return TokenBatch(ids.to(device), mask.to(device), spans.to(device), base_token.to(device), self.pad_id)


def train_bpe(sequences: Iterable[str], vocabulary_size: int) -> str:
    """Train a byte-pair vocabulary in the layout of DNABERT-2's: special tokens 0..4, A C G T 5..8, then merges.

    Args:
        sequences: Bases, upper case; whatever is not A, C, G or T separates them.
        vocabulary_size: Ids wanted, special tokens included, at least 9.

    Returns:
        Text of a `tokenizer.json`; the same for the same sequences, whatever the number of threads.

    Raises:
        InputError: The sequences have too few different pieces for so many tokens.
    """
    smallest = len(SPECIAL) + 4
    if vocabulary_size < smallest:
        raise ValueError(f"vocabulary_size must be at least {smallest}, not {vocabulary_size}")
    library = _tokenizers()
    tokenizer = library.Tokenizer(library.models.BPE(unk_token=SPECIAL[UNK_ID]))
    tokenizer.pre_tokenizer = library.pre_tokenizers.Whitespace()
    tokenizer.post_processor = library.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", CLS_ID), ("[SEP]", SEP_ID)]
    )
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=list("ACGT"),
        max_token_length=LONGEST_TOKEN_BP,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_words(sequences), trainer)
    if (found := tokenizer.get_vocab_size()) != vocabulary_size:
        raise InputError(f"the sequences give {found} byte-pair tokens, {vocabulary_size} were asked for; give more sequence")
    text: str = tokenizer.to_str(pretty=True)
    return text


def _words(sequences: Iterable[str]) -> Iterator[str]:
    """Runs of bases in pieces short enough for the trainer."""
    for sequence in sequences:
        for run in _BASES.findall(sequence):
            for at in range(0, len(run), _WORD_BP):
                yield run[at : at + _WORD_BP]


def _checked_vocabulary(text: str, source: str) -> dict[str, int]:
    """Token to id, of a file under whose rules every token covers exactly its letters."""
    try:
        raw = json.loads(text)
        model: dict[str, Any] = raw["model"]
        vocabulary: dict[str, int] = model["vocab"] | _added(raw)
        ids = sorted(vocabulary.values())
        splitter = (raw.get("pre_tokenizer") or {"type": None})["type"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{source}: not a byte-pair tokenizer ({type(error).__name__}: {error})") from None
    for name, value, allowed in (
        ("model.type", model.get("type", "BPE"), ("BPE",)),
        ("normalizer", raw.get("normalizer"), (None,)),
        ("pre_tokenizer", splitter, (None, "Whitespace")),
        *((f"model.{name}", model.get(name), allowed) for name, allowed in _PLAIN_BPE.items()),
    ):
        if value not in allowed:
            raise InputError(f"{source}: field '{name}' is {value!r}; this family's tokenizer has {allowed[-1]!r}")
    if ids != list(range(len(ids))):
        raise InputError(f"{source}: field 'model.vocab': the ids are not 0..{len(ids) - 1}, each once")
    if absent := [token for token in SPECIAL if token not in vocabulary]:
        raise InputError(f"{source}: field 'model.vocab': there is no {absent[0]}")
    for token in vocabulary:
        if token not in SPECIAL and not _BASES.fullmatch(token):
            raise InputError(f"{source}: field 'model.vocab': token {token!r} is not made of A, C, G and T")
    if missing := [base for base in "ACGT" if base not in vocabulary]:
        raise InputError(f"{source}: field 'model.vocab': there is no token for {missing[0]}")
    for added in raw.get("added_tokens") or []:
        content = added.get("content") if isinstance(added, dict) else added
        if content not in SPECIAL:
            raise InputError(f"{source}: field 'added_tokens': {content!r} is none of {', '.join(SPECIAL)}")
        if added["id"] != model["vocab"].get(content, added["id"]):
            raise InputError(
                f"{source}: field 'added_tokens': {content} has id {added['id']}, but {model['vocab'][content]} in 'model.vocab'"
            )
    for token, index in _around_rows(raw.get("post_processor")):
        if vocabulary.get(token) != index:
            raise InputError(
                f"{source}: field 'post_processor': {token} has id {index}, but {vocabulary.get(token)} in 'model.vocab'"
            )
    return vocabulary


def _added(raw: dict[str, Any]) -> dict[str, int]:
    """Special tokens that stand beside the vocabulary, by name."""
    added = [entry for entry in raw.get("added_tokens") or [] if isinstance(entry, dict)]
    return {entry["content"]: entry["id"] for entry in added if entry.get("content") in SPECIAL}


def _around_rows(processor: Any) -> list[tuple[str, int]]:
    """Tokens that a file's `post_processor` puts around rows, with their ids there; none where it is of another kind."""
    if not isinstance(processor, dict):
        return []
    named = processor.get("special_tokens")
    if isinstance(named, dict):
        return [(name, value["ids"][0]) for name, value in named.items() if isinstance(value, dict) and value.get("ids")]
    pairs = [processor.get("cls"), processor.get("sep")]
    return [(pair[0], pair[1]) for pair in pairs if isinstance(pair, list) and len(pair) == 2]


def _tokenizers() -> ModuleType:
    """The Rust library, whose thread pool is sized by the environment when it starts."""
    os.environ.setdefault("RAYON_NUM_THREADS", str(torch.get_num_threads()))
    import tokenizers

    return tokenizers
