"""How bases become k-mer ids: the one description that the k-mer operations, their oracles and their kernels take."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

AMBIGUOUS = 4
"""Code of every byte that is not one of the four bases."""

_LARGEST_STRIDE = 1 << 28


@dataclass(frozen=True, eq=False)
class KmerScheme:
    """Length and stride of k-mers, the codes of the bases, and the ids; checked once, when it is made.

    `id = first_kmer_id + sum(code_i * 4**(k-1-i))`. A scheme is compared by identity, so build one and keep it: it holds its
    tables on each device it was used on.

    Attributes:
        k: Bases per token, 1..8.
        stride: Bases between token starts, >= 1.
        code_table: Code 0..3 of each byte, or AMBIGUOUS, uint8, [256].
        complement_table: Code 0..3 of each byte's complement, or AMBIGUOUS, uint8, [256].
        first_kmer_id: Id of the first k-mer.
        ambiguous_id: Id of a k-mer with an ambiguous base, or with a base outside the block.
        cls_id: Id put before the k-mers, or None.
        sep_id: Id put after the k-mers, or None.
    """

    k: int
    stride: int
    code_table: Tensor
    complement_table: Tensor
    first_kmer_id: int
    ambiguous_id: int
    cls_id: int | None = None
    sep_id: int | None = None
    _tables: dict[torch.device, tuple[Tensor, Tensor]] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a scheme that has no meaning.

        Raises:
            ValueError: A field has a wrong shape, type or range.
        """
        if not 1 <= self.k <= 8:
            raise ValueError(f"k must be 1..8, not {self.k}")
        if not 1 <= self.stride <= _LARGEST_STRIDE:
            raise ValueError(f"stride must be 1..{_LARGEST_STRIDE}, not {self.stride}")
        for name, table in (("code_table", self.code_table), ("complement_table", self.complement_table)):
            if table.dtype != torch.uint8 or table.shape != (256,):
                raise ValueError(f"{name} must be uint8 [256], not {table.dtype} {list(table.shape)}")

    def tables(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The code table and the complement table, contiguous on a device; copied there once."""
        if device not in self._tables:
            self._tables[device] = (self.code_table.to(device).contiguous(), self.complement_table.to(device).contiguous())
        return self._tables[device]

    @property
    def lead(self) -> int:
        """Special tokens before the k-mers: 1 or 0."""
        return int(self.cls_id is not None)

    @property
    def tail(self) -> int:
        """Special tokens after the k-mers: 1 or 0."""
        return int(self.sep_id is not None)

    @property
    def ids(self) -> range:
        """The shortest range that holds every id the scheme gives."""
        ids = (self.first_kmer_id, self.first_kmer_id + 4**self.k - 1, self.ambiguous_id, self.cls_id, self.sep_id)
        given = [i for i in ids if i is not None]
        return range(min(given), max(given) + 1)

    def span_bp(self, tokens: int) -> int:
        """Bases that so many neighbouring k-mers cover; at least one token."""
        return (tokens - 1) * self.stride + self.k

    def tokens_in(self, length_bp: int) -> int:
        """k-mers that begin and end within so many bases."""
        return max(0, (length_bp - self.k) // self.stride + 1)
