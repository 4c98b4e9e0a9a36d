"""Rows of bases made into tokens that fit a model's context: nothing is cut off, what is too long becomes several parts.

Coordinates: bases of a row in the order it is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from annotator.errors import InputError
from annotator.tokens.batch import RowTokenizer, TokenBatch, reverse_complement_rows


@dataclass(frozen=True)
class Part:
    """The same stretch of some rows, as tokens.

    Attributes:
        index: Indices of the rows of the input, int64, [r].
        first: First base of the stretch.
        rows: Its bases, ASCII, uint8, [r, l].
        tokens: Their tokens.
        opposite: Tokens of their reverse complements, where asked for.
    """

    index: Tensor
    first: int
    rows: Tensor
    tokens: TokenBatch
    opposite: TokenBatch | None

    @property
    def counts(self) -> Tensor:
        """Tokens a model has to take for each row, int64, [r]."""
        if self.opposite is None:
            return self.tokens.counts
        return torch.maximum(self.tokens.counts, self.opposite.counts)

    def take(self, chosen: Tensor, tokens: int) -> Part:
        """Some of the rows, their tokens cut or padded to so many."""
        opposite = None if self.opposite is None else self.opposite.take(chosen, tokens)
        return Part(self.index[chosen], self.first, self.rows[chosen], self.tokens.take(chosen, tokens), opposite)


def fitting_parts(tokenizer: RowTokenizer, rows: Tensor, *, both_directions: bool) -> Iterator[Part]:
    """Tokenise rows; a row with more tokens than the model takes is halved until it fits.

    Whether a row is halved depends on its own bases alone, so that a score does not depend on what shares its batch.

    Args:
        tokenizer: The model's.
        rows: ASCII bases in reading direction, uint8, [R, L], R > 0.
        both_directions: Tokenise the reverse complements as well, for causal models.

    Yields:
        Parts that together hold every base of every row once.

    Raises:
        InputError: Not even one base fits.
    """
    waiting = [(torch.arange(len(rows), device=rows.device), 0, rows)]
    while waiting:
        index, first, bases = waiting.pop()
        opposite = tokenizer.encode(reverse_complement_rows(bases)) if both_directions else None
        part = Part(index, first, bases, tokenizer.encode(bases), opposite)
        fits = part.counts <= (tokenizer.max_tokens or part.counts.max())
        if bool(fits.all()):
            yield part
            continue
        if bool(fits.any()):
            chosen = fits.nonzero()[:, 0]
            yield part.take(chosen, int(part.counts[chosen].max()))
        index, bases = index[~fits], bases[~fits]
        middle = bases.shape[1] // 2
        if not middle:
            raise InputError(f"the model takes {tokenizer.max_tokens} tokens, which do not hold one base")
        waiting.append((index, first + middle, bases[:, middle:]))
        waiting.append((index, first, bases[:, :middle]))


def even_passes(part: Part, tokens_per_pass: int, longest: int | None, step: int = 64) -> Iterator[tuple[Part, int]]:
    """Cut a part into passes of few shapes: tokens rounded up, rows so many that a pass holds about `tokens_per_pass`.

    The bits of a result depend on the shape of the batch, and on whether anything in it is padded (attention without a mask
    runs through other code). A row's shape here depends on its own tokens alone, either all rows of a pass are padded or none
    is, and a pass that has too few rows is filled up with copies of its last one.

    Args:
        part: What is to be computed.
        tokens_per_pass: Tokens of a pass, padding counted.
        longest: Most tokens of a row that the model takes; None for no limit.
        step: Token counts are rounded up to a multiple of this.

    Yields:
        A pass, and how many of its rows count.
    """
    sizes = part.counts // step * step + step  # always some padding, but for rows that fill the model's context
    sizes = sizes if longest is None else sizes.clamp(max=longest)
    for size in torch.unique(sizes).tolist():
        for full in (False, True):
            chosen = ((sizes == size) & ((part.counts == size) == full)).nonzero()[:, 0]
            per_pass = max(1, tokens_per_pass // size)
            for first in range(0, len(chosen), per_pass):
                rows = chosen[first : first + per_pass]
                filled = torch.cat([rows, rows[-1:].expand(per_pass - len(rows))])
                yield part.take(filled, size), len(rows)
