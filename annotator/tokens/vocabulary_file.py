"""Vocabulary files beside weights: they decide which id a token has.

A family has a usual order of tokens, which its tokenizer counts in. A checkpoint may come with any other: `vocab.txt` (one
token a line, ids from 0) or the vocabulary of `tokenizer.json` says so, and the ids are then taken from there.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from annotator.errors import InputError
from annotator.files import stand_in

VOCABULARY_NAME = "vocab.txt"
TOKENIZER_NAME = "tokenizer.json"


@dataclass(frozen=True)
class VocabularyFile:
    """The tokens of a file.

    Attributes:
        path: The file.
        text: Its contents.
        ids: Id of every token.
    """

    path: Path
    text: str
    ids: Mapping[str, int]

    def place(self, token: str) -> str:
        """Where a token stands, for messages: its line, or its id."""
        index = self.ids[token]
        return f"line {index + 1}" if self.path.name == VOCABULARY_NAME else f"id {index}"


class OrderedTokenizer(Protocol):
    """A tokenizer of k-mers whose ids may be put into another order.

    Attributes:
        pad_id: Id of padding.
        mask_id: Id of a hidden token; None where there is none.
        order: Id that each of the family's own ids becomes, int64, [V]; None where they stay.
        files: Files that have to be written beside the weights for the same ids, by name.
    """

    pad_id: int
    mask_id: int | None
    order: Tensor | None
    files: Mapping[str, str]

    def names(self) -> Sequence[str]:
        """Tokens in the family's own order."""


Ordered = TypeVar("Ordered", bound=OrderedTokenizer)


def read_text(path: Path) -> str:
    """Text of a file that comes with weights.

    Raises:
        FileNotFoundError: There is no such file.
        InputError: It cannot be read as UTF-8, or something else stands in its place.
    """
    if instead := stand_in(path):
        raise InputError(f"{path}: {instead}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable ({error})") from None


def read_vocabulary(folder: Path) -> VocabularyFile | None:
    """The vocabulary that lies beside weights.

    Args:
        folder: Folder of a checkpoint or of a model.

    Returns:
        That of `vocab.txt`, or else of `tokenizer.json`; None where there is neither.

    Raises:
        InputError: A file is damaged, or the two of them disagree; the message names the file and the token.
    """
    lines = read_lines(folder / VOCABULARY_NAME)
    table = _read_table(folder / TOKENIZER_NAME)
    if lines is not None and table is not None:
        refuse_disagreement(table, lines)
    return lines or table


def refuse_disagreement(table: VocabularyFile, lines: VocabularyFile) -> None:
    """Raise InputError where a token of `tokenizer.json` has another id in `vocab.txt`."""
    for token, index in table.ids.items():
        if (other := lines.ids.get(token)) != index:
            said = "lacks it" if other is None else f"has it at id {other} ({lines.place(token)})"
            raise InputError(f"{table.path}: token {token!r} has id {index}, but {lines.path.name} {said}")


def read_lines(path: Path) -> VocabularyFile | None:
    """The tokens of a `vocab.txt`; None where there is no such file.

    Raises:
        InputError: It is not readable, or has a blank line or the same token twice; the message names the line.
    """
    if not path.is_file():
        return None
    text = read_text(path)
    ids: dict[str, int] = {}
    for index, line in enumerate(text.rstrip().splitlines()):
        token = line.strip()
        if not token:
            raise InputError(f"{path}: line {index + 1} is blank; every line of a vocabulary is a token")
        if token in ids:
            raise InputError(f"{path}: line {index + 1}: token {token!r} stands in line {ids[token] + 1} already")
        ids[token] = index
    return VocabularyFile(path, text, ids)


def _read_table(path: Path) -> VocabularyFile | None:
    """The vocabulary of a `tokenizer.json` of whole words; None where there is no such file."""
    if not path.is_file():
        return None
    text = read_text(path)
    try:
        raw: dict[str, Any] = json.loads(text)
        ids = {str(token): _whole(index) for token, index in raw["model"]["vocab"].items()}
        ids |= {str(added["content"]): _whole(added["id"]) for added in raw.get("added_tokens") or []}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not a tokenizer's vocabulary ({type(error).__name__}: {error})") from None
    return VocabularyFile(path, text, ids)


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is no id")
    return value


def in_file_order(tokenizer: Ordered, folder: Path | None) -> Ordered:
    """A tokenizer with the ids that the vocabulary beside the weights gives.

    Args:
        tokenizer: Counts in the family's own order.
        folder: Folder of the weights; None where there are none yet.

    Returns:
        `tokenizer` itself where there is no vocabulary, or one in the usual order; otherwise a copy with other ids.

    Raises:
        InputError: The vocabulary is not one of these tokens, each once; the message names the first that is wrong.
    """
    found = read_vocabulary(folder) if folder is not None else None
    if found is None:
        return tokenizer
    order = _order(tokenizer.names(), found)
    if order == list(range(len(order))):
        return tokenizer
    other = copy.copy(tokenizer)
    other.order = torch.tensor(order)
    other.pad_id = order[tokenizer.pad_id]
    other.mask_id = None if tokenizer.mask_id is None else order[tokenizer.mask_id]
    other.files = {found.path.name: found.text}
    return other


def relabelled(ids: Tensor, order: Tensor | None) -> Tensor:
    """Ids of the family's own order, int64, any shape, as those of an `OrderedTokenizer`."""
    return ids if order is None else order.to(ids.device)[ids]


def _order(names: Sequence[str], found: VocabularyFile) -> list[int]:
    """Id in the file of each name; tokens past the network's last id are special ones, which nothing gives."""
    size, known = len(names), set(names)
    beyond = {token for token, index in found.ids.items() if index >= size}
    if len(found.ids) < size or any(token[:1] not in "<[" for token in beyond):
        raise InputError(f"{found.path}: {len(found.ids)} tokens, but the network has {size} ids")
    for token in sorted(found.ids, key=lambda token: found.ids[token]):
        index = found.ids[token]
        if token in known and not 0 <= index < size:
            raise InputError(f"{found.path}: token {token!r} has id {index}, but the network's ids end at {size - 1}")
        if token not in known and index < size:
            raise InputError(f"{found.path}: {found.place(token)}: {token!r} is no token of this family, such as {names[-1]!r}")
    order = [found.ids[name] if name in found.ids else -1 for name in names]
    if -1 in order or len(set(order)) < size:
        odd = next((name for at, name in enumerate(names) if order[at] == -1 or order.count(order[at]) > 1), "")
        raise InputError(f"{found.path}: token {odd!r} has no id of its own")
    return order
