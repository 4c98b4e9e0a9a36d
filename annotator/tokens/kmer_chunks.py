"""k-mers side by side, single bases where no k-mer fits: Nucleotide Transformer's tokens.

A row is cut at every letter that is no base; each piece is chunked into k-mers from its own left end, and what remains of it
is single bases. So an N shifts the frame of everything behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from annotator.tokens.batch import TokenBatch
from annotator.tokens.kmer_rows import kmer_ids_of_rows
from annotator.tokens.vocabulary import KmerVocabulary
from annotator.tokens.vocabulary_file import relabelled

_ORDER = "ATCG"
_SPECIAL = ("<unk>", "<pad>", "<mask>", "<cls>", "<eos>", "<bos>")
"""Names of the ids before the first k-mer's: all six in the second layout, four in the first."""


@dataclass(frozen=True)
class ChunkIds:
    """Layout of the ids: special tokens, 4**k k-mers (order A, T, C, G), the single bases A, T, C, G, then N.

    Attributes:
        first_kmer_id: Id of AAAAAA.
        prefix_id: Id put before every row, or None.
        unknown_id: Id of a run of letters other than A, C, G, T, U and N.
        pad_id: Id of padding.
        mask_id: Id of a hidden token, or None.
        k: Bases of a k-mer, 2..8.
    """

    first_kmer_id: int
    prefix_id: int | None = 3
    unknown_id: int = 0
    pad_id: int = 1
    mask_id: int | None = 2
    k: int = 6

    def __post_init__(self) -> None:
        """Refuse a layout that cannot exist."""
        if not 2 <= self.k <= 8:
            raise ValueError(f"k must be 2..8, not {self.k}")
        special = [i for i in (self.prefix_id, self.unknown_id, self.pad_id, self.mask_id) if i is not None]
        if len(set(special)) < len(special) or not all(0 <= i < self.first_kmer_id for i in special):
            raise ValueError(f"special ids {special} must differ and be below first_kmer_id {self.first_kmer_id}")

    @property
    def special(self) -> tuple[str, ...]:
        """Names of the ids before the first k-mer's."""
        return _SPECIAL[: self.first_kmer_id]

    @property
    def first_single_id(self) -> int:
        """Id of a single A."""
        return int(self.first_kmer_id + 4**self.k)

    @property
    def n_id(self) -> int:
        """Id of N, the last."""
        return self.first_single_id + len(_ORDER)

    @property
    def size(self) -> int:
        """Number of ids."""
        return self.n_id + 1


NT_V1_IDS = ChunkIds(first_kmer_id=4)
"""Nucleotide Transformer, version 1: <unk> <pad> <mask> <cls>, then 4101 others; 4105 ids."""
NT_V2_IDS = ChunkIds(first_kmer_id=6)
"""Version 2: <eos> 4 and <bos> 5 come before the k-mers, and are never put into a row; 4107 ids."""


class KmerChunks:
    """Tokens of k bases side by side; a `RowTokenizer`.

    Attributes:
        ids: Layout of the ids.
        vocabulary: Ids of the k-mers.
        vocabulary_size: Ids are below this.
        pad_id: Id of padding.
        mask_id: Id of a hidden token.
        max_tokens: Longest row the model takes, the prefix included; None where there is no limit.
        order: Id that each of `names` has where a vocabulary file says so, int64, [V]; None for the layout's.
        files: That vocabulary file, to be written beside weights, by name.
    """

    order: Tensor | None = None
    files: Mapping[str, str] = {}

    def __init__(self, ids: ChunkIds, max_tokens: int | None) -> None:
        """Take the layout and the model's limit."""
        self.ids = ids
        self.vocabulary_size = ids.size
        self.pad_id, self.mask_id, self.max_tokens = ids.pad_id, ids.mask_id, max_tokens
        self.vocabulary = KmerVocabulary(ids.k, _ORDER, ids.first_kmer_id, ids.unknown_id, lower_case=False)
        self._every_kmer = self.vocabulary.scheme()
        self._side_by_side = self.vocabulary.scheme(ids.k, cls_id=ids.prefix_id)
        self._singles = torch.full((256,), ids.unknown_id)
        self._singles[list(_ORDER.encode())] = torch.arange(4) + ids.first_single_id
        self._singles[ord("U")] = self._singles[ord("T")]
        self._singles[ord("N")] = ids.n_id

    def names(self) -> Sequence[str]:
        """Tokens in the order of the layout."""
        return (*self.ids.special, *self.vocabulary.kmers(), *_ORDER, "N")

    def encode(self, rows: Tensor) -> TokenBatch:
        """Tokenise rows; never cuts, and never appends an <eos>.

        Args:
            rows: ASCII bases in reading direction, upper case, uint8, [R, L].

        Returns:
            The tokens, on the device of `rows`; every base lies in exactly one of them. A run of letters that are neither a
            base nor N is one unknown token, as in the published tokenizer.

        Raises:
            ValueError: L is 0 and there is no prefix, so there is no token at all.
        """
        if rows.shape[1] == 0 and self.ids.prefix_id is None:
            raise ValueError("rows of 0 bases hold no token")
        clean = self._encode_clean(rows)
        found = self._encode_any(rows) if clean is None else clean
        return replace(found, ids=relabelled(found.ids, self.order), pad_id=self.pad_id)

    def longest_bp(self) -> int | None:
        """Most bases without an N that `max_tokens` hold; None where there is no limit."""
        return None if self.max_tokens is None else (self.max_tokens - self._lead) * self.ids.k

    @property
    def _lead(self) -> int:
        return int(self.ids.prefix_id is not None)

    def _encode_clean(self, rows: Tensor) -> TokenBatch | None:
        """Tokens of rows of nothing but bases, which all have the same frame; None where there is another letter."""
        count, length = rows.shape
        k, device = self.ids.k, rows.device
        chunks = length // k
        ids = kmer_ids_of_rows(rows, self._side_by_side, torch.int64)
        ids = torch.cat((ids, self._single_ids(rows[:, chunks * k :])), 1)
        if bool(((ids == self.ids.unknown_id) | (ids == self.ids.n_id)).any()):
            return None
        at = torch.arange(length, device=device)
        token = torch.where(at < chunks * k, at // k, at - chunks * (k - 1))
        first = torch.cat((at[: chunks * k : k], at[chunks * k :]))
        spans = torch.stack((first, torch.cat((first[1:], first.new_full((min(length, 1),), length)))), 1)
        if self._lead:
            spans = torch.cat((spans.new_full((1, 2), -1), spans))
        mask = torch.ones_like(ids, dtype=torch.bool)
        return TokenBatch(ids, mask, spans.repeat(count, 1, 1), (token + self._lead).repeat(count, 1), self.pad_id)

    def _encode_any(self, rows: Tensor) -> TokenBatch:
        """Tokens of rows with letters that are no bases, of which each row has its own."""
        k, (count, length), device = self.ids.k, rows.shape, rows.device
        single = self._single_ids(rows)
        is_base = (single >= self.ids.first_single_id) & (single < self.ids.n_id)
        at = torch.arange(length, device=device).expand(count, length)
        piece_start = torch.where(is_base, -1, at).cummax(1).values + 1
        piece_end = torch.where(is_base, length, at).flip(1).cummin(1).values.flip(1)
        offset, chunked_bp = at - piece_start, (piece_end - piece_start) // k * k
        in_chunk = is_base & (offset < chunked_bp)

        id_at = single.clone()
        if length >= k:
            kmers = kmer_ids_of_rows(rows, self._every_kmer).long()
            id_at[:, : kmers.shape[1]] = torch.where(in_chunk[:, : kmers.shape[1]], kmers, single[:, : kmers.shape[1]])
        unknown = single == self.ids.unknown_id
        starts = ~in_chunk | (offset % k == 0)
        starts[:, 1:] &= ~(unknown[:, 1:] & unknown[:, :-1])  # a run of unknown letters is one token
        ends = torch.ones_like(starts)
        ends[:, :-1] = starts[:, 1:]

        base_token = starts.cumsum(1) - 1 + self._lead
        counts = starts.sum(1) + self._lead
        tokens = int(counts.max())
        ids = single.new_full((count, tokens), self.ids.pad_id)
        if self.ids.prefix_id is not None:
            ids[:, 0] = self.ids.prefix_id
        spans = single.new_full((count, tokens, 2), -1)
        row = torch.arange(count, device=device)[:, None].expand(count, length)
        ids[row[starts], base_token[starts]] = id_at[starts]
        spans[row[starts], base_token[starts], 0] = at[starts]
        spans[row[ends], base_token[ends], 1] = at[ends] + 1
        return TokenBatch(ids, torch.arange(tokens, device=device) < counts[:, None], spans, base_token, self.pad_id)

    def _single_ids(self, rows: Tensor) -> Tensor:
        """Id of each letter by itself, int64, of the shape of `rows`."""
        return self._singles.to(rows.device)[rows.long()]
