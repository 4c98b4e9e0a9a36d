"""k-mer vocabularies: which id stands for which k-mer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import torch
from torch import Tensor

from annotator_kernels.kmer.scheme import AMBIGUOUS, KmerScheme

_COMPLEMENT = {"A": "T", "C": "G", "G": "C", "T": "A"}
COMPLEMENT_BYTE = torch.full((256,), ord("N"), dtype=torch.uint8)
"""Complement of each ASCII base; anything that is no base becomes N; uint8, [256]."""
for _base, _other in zip(b"ACGTUacgtu", b"TGCAATGCAA", strict=True):
    COMPLEMENT_BYTE[_base] = _other


@dataclass(frozen=True)
class KmerVocabulary:
    """Ids of all k-mers over an ordered alphabet, after a run of special tokens.

    `id(kmer) = first_kmer_id + sum(order.index(base_i) * 4**(k-1-i))`.

    Attributes:
        k: Bases per token, 1..8.
        order: The four bases in the order that counts; DNABERT and Nucleotide Transformer use ATCG.
        first_kmer_id: Id of the first k-mer, e.g. 5 for DNABERT.
        ambiguous_id: Id of a k-mer that holds anything but A, C, G, T (U counts as T).
        lower_case: Whether lower-case bases count as bases; where False they are ambiguous, as in DNABERT.
    """

    k: int
    order: str = "ATCG"
    first_kmer_id: int = 5
    ambiguous_id: int = 1
    lower_case: bool = True

    def __post_init__(self) -> None:
        """Refuse a vocabulary that cannot exist."""
        if not 1 <= self.k <= 8:
            raise ValueError(f"k must be 1..8, not {self.k}")
        if sorted(self.order) != list("ACGT"):
            raise ValueError(f"order must be a permutation of ACGT, not {self.order!r}")
        if self.first_kmer_id <= self.ambiguous_id < self.size:
            raise ValueError(f"ambiguous_id {self.ambiguous_id} is a k-mer's id ({self.first_kmer_id}..{self.size - 1})")

    @property
    def size(self) -> int:
        """Number of ids: special tokens and k-mers."""
        return int(self.first_kmer_id + 4**self.k)

    @cached_property
    def code_table(self) -> Tensor:
        """Code 0..3 of each byte, 4 where it is no base; uint8, [256]."""
        return self._table({base: base for base in "ACGT"})

    @cached_property
    def complement_table(self) -> Tensor:
        """Code of each byte's complement; uint8, [256]."""
        return self._table(_COMPLEMENT)

    def _table(self, becomes: dict[str, str]) -> Tensor:
        table = torch.full((256,), AMBIGUOUS, dtype=torch.uint8)
        for letter in "ACGTU":
            code = self.order.index(becomes["T" if letter == "U" else letter])
            table[ord(letter)] = code
            if self.lower_case:
                table[ord(letter.lower())] = code
        return table

    def scheme(self, stride: int = 1, *, cls_id: int | None = None, sep_id: int | None = None) -> KmerScheme:
        """What the k-mer kernels take: these ids for k-mers at a stride, with special tokens around them.

        Args:
            stride: Bases between token starts, >= 1.
            cls_id: Id put before the k-mers of a window, or None.
            sep_id: Id put after them, or None.

        Returns:
            A new scheme; keep it, as it holds its tables on the devices it was used on.
        """
        tables = (self.code_table, self.complement_table)
        return KmerScheme(self.k, stride, *tables, self.first_kmer_id, self.ambiguous_id, cls_id, sep_id)

    def encode(self, kmer: str) -> int:
        """Id of one k-mer."""
        if len(kmer) != self.k:
            raise ValueError(f"{kmer!r} is not a {self.k}-mer")
        value = 0
        for code in self.code_table[list(kmer.encode())].tolist():
            if code == AMBIGUOUS:
                return self.ambiguous_id
            value = value * 4 + code
        return self.first_kmer_id + value

    def kmers(self) -> list[str]:
        """All k-mers in the order of their ids."""
        return ["".join(bases) for bases in product(self.order, repeat=self.k)]

    def decode(self, token_id: int) -> str | None:
        """The k-mer of an id, or None for a special token."""
        value = token_id - self.first_kmer_id
        if not 0 <= value < 4**self.k:
            return None
        return "".join(self.order[(value >> (2 * (self.k - 1 - i))) & 3] for i in range(self.k))


DNABERT_SPECIAL = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}


def dnabert_vocabulary(k: int, *, lower_case: bool = False) -> KmerVocabulary:
    """DNABERT's vocabulary (4**k + 5 ids, order A,T,C,G; lower case unknown unless asked for)."""
    return KmerVocabulary(k=k, lower_case=lower_case)
