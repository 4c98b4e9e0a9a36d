"""What every tokenizer gives: ids, which of them are padding, and which bases each one covers.

Coordinates: bases of a row in the order it is read, 0-based half-open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from annotator.tokens.vocabulary import COMPLEMENT_BYTE


@dataclass(frozen=True)
class TokenBatch:
    """R tokenised rows of L bases each, padded to T tokens.

    Attributes:
        ids: Token ids, int64, [R, T].
        attention_mask: True where there is a token (special ones count), False in the padding, bool, [R, T].
        base_spans: Bases each token covers, int64, [R, T, 2]; (-1, -1) for special tokens and padding.
        base_token: Token that stands for each base, int64, [R, L]: one that covers it, and of several the one that is
            centred on it or nearest to that.
        pad_id: Id of further padding.
    """

    ids: Tensor
    attention_mask: Tensor
    base_spans: Tensor
    base_token: Tensor
    pad_id: int

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.ids)

    @property
    def counts(self) -> Tensor:
        """Tokens of each row, int64, [R]."""
        return self.attention_mask.sum(1)

    def take(self, rows: Tensor, tokens: int) -> TokenBatch:
        """Some rows, cut or padded to so many tokens; nothing but padding may be lost (an id in the padding means nothing)."""
        more = max(0, tokens - self.ids.shape[1])
        ids, mask = self.ids[rows, :tokens], self.attention_mask[rows, :tokens]
        spans = self.base_spans[rows, :tokens]
        if more:
            ids = F.pad(ids, (0, more), value=self.pad_id)
            mask, spans = F.pad(mask, (0, more), value=False), F.pad(spans, (0, 0, 0, more), value=-1)
        return TokenBatch(ids, mask, spans, self.base_token[rows], self.pad_id)


class RowTokenizer(Protocol):
    """A family's way from bases to tokens, on the device of its input.

    Attributes:
        vocabulary_size: Ids are below this, V.
        pad_id: Id of padding.
        mask_id: Id of a hidden token; None where the family has none.
        max_tokens: Longest row the model takes, special tokens included; None where there is no limit.
        files: Files that have to be written beside the weights for the same ids, by name; empty where the family says it all.
    """

    vocabulary_size: int
    pad_id: int
    mask_id: int | None
    max_tokens: int | None
    files: Mapping[str, str]

    def encode(self, rows: Tensor) -> TokenBatch:
        """Tokenise rows; never cuts, so a row may have more than `max_tokens`.

        Args:
            rows: ASCII bases in reading direction, upper case, uint8, [R, L]; all rows of one length.

        Returns:
            The tokens, on the device of `rows`.
        """

    def longest_bp(self) -> int | None:
        """Most bases without an N that `max_tokens` hold; None where there is no limit."""


def cut_rows(block: Tensor, starts: Tensor, reverse: Tensor, length: int) -> Tensor:
    """Cut rows out of a block of bases, each in its reading direction.

    Args:
        block: ASCII bases, uint8, [n].
        starts: Leftmost base of each row, int64, [R]; what lies outside the block counts as N.
        reverse: Whether a row is read from the minus strand, bool, [R].
        length: Bases of a row, L.

    Returns:
        ASCII bases, uint8, [R, L], on the device of `block`.
    """
    steps = torch.arange(length, device=block.device)
    at = starts[:, None] + torch.where(reverse[:, None], length - 1 - steps, steps)
    inside = (at >= 0) & (at < len(block))
    rows = torch.where(inside, block[at.clamp(0, max(len(block) - 1, 0))], ord("N"))
    return torch.where(reverse[:, None], _complement(rows), rows)


def reverse_complement_rows(rows: Tensor) -> Tensor:
    """Reverse complement of rows of ASCII bases, uint8, [R, L]; anything that is no base becomes N."""
    return _complement(rows.flip(1))


def _complement(rows: Tensor) -> Tensor:
    return COMPLEMENT_BYTE.to(rows.device)[rows.long()]
