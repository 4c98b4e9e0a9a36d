"""k-mers of rows of bases; with special tokens around stride-1 k-mers, DNABERT's tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from annotator.tokens.batch import TokenBatch
from annotator.tokens.vocabulary import DNABERT_SPECIAL, KmerVocabulary, dnabert_vocabulary
from annotator.tokens.vocabulary_file import relabelled
from annotator_kernels.kmer.op import kmer_tokenize
from annotator_kernels.kmer.scheme import KmerScheme


def kmer_ids_of_rows(rows: Tensor, scheme: KmerScheme, dtype: torch.dtype = torch.int32) -> Tensor:
    """Token ids of rows that are already in reading direction.

    Args:
        rows: ASCII bases, uint8, [R, L].
        scheme: How bases become ids.
        dtype: Type of the ids, int32 or int64.

    Returns:
        Ids, `dtype`, [R, (cls) + T + (sep)], on the device of `rows`; the k-mer of token t starts at column t * stride, and T
        is the number of k-mers that fit a row.
    """
    count, length = rows.shape
    starts = torch.arange(count, device=rows.device) * length
    forward = torch.zeros_like(starts, dtype=torch.bool)
    return kmer_tokenize(rows.reshape(-1), starts, forward, scheme, tokens=scheme.tokens_in(length), dtype=dtype)


class KmerRows:
    """Every base but the last k - 1 begins a token; a `RowTokenizer`.

    A k-mer that holds anything but A, C, G, T (or U) is `vocabulary.ambiguous_id`, so one N makes k such tokens.

    Attributes:
        vocabulary: Ids of the k-mers.
        vocabulary_size: Ids are below this.
        pad_id: Id of padding; rows of one length need none.
        mask_id: Id of a hidden token.
        max_tokens: Longest row the model takes, special tokens included; None where there is no limit.
        order: Id that each of `names` has where a vocabulary file says so, int64, [V]; None for their order here.
        files: That vocabulary file, to be written beside weights, by name.
    """

    order: Tensor | None = None
    files: Mapping[str, str] = {}

    def __init__(
        self,
        vocabulary: KmerVocabulary,
        *,
        cls_id: int | None,
        sep_id: int | None,
        pad_id: int,
        mask_id: int | None,
        max_tokens: int | None,
        special: Sequence[str] = (),
    ) -> None:
        """Take the k-mer ids and the special ones.

        Args:
            vocabulary: Ids of the k-mers.
            cls_id: Id that goes before a row; None for nothing.
            sep_id: Id that goes after a row; None for nothing.
            pad_id: Id of padding.
            mask_id: Id of a hidden token; None where there is none.
            max_tokens: Longest row the model takes; None where there is no limit.
            special: Names of the ids before the first k-mer's, as a vocabulary file has them.
        """
        self.vocabulary = vocabulary
        self.vocabulary_size = vocabulary.size
        self.pad_id, self.mask_id, self.max_tokens = pad_id, mask_id, max_tokens
        self._scheme = vocabulary.scheme(cls_id=cls_id, sep_id=sep_id)
        self._special = tuple(special)

    def names(self) -> Sequence[str]:
        """Tokens in the order of their ids, as `order` counts them."""
        return (*self._special, *self.vocabulary.kmers())

    def encode(self, rows: Tensor) -> TokenBatch:
        """Tokenise rows; never cuts.

        Args:
            rows: ASCII bases in reading direction, upper case, uint8, [R, L].

        Returns:
            The tokens, without padding, on the device of `rows`. Of the k-mers that cover a base, `base_token` is the one
            with k // 2 bases before it: the centre of the run that DNABERT hides around a base.

        Raises:
            ValueError: L < k and there are no special tokens, so nothing stands for the bases.
        """
        count, length = rows.shape
        k, before, after = self.vocabulary.k, self._scheme.lead, self._scheme.tail
        kmers = self._scheme.tokens_in(length)
        if kmers == 0 and before + after == 0:
            raise ValueError(f"rows of {length} bases hold no {k}-mer")
        ids = kmer_ids_of_rows(rows, self._scheme, torch.int64)
        first = torch.arange(kmers, device=rows.device)
        spans = F.pad(torch.stack((first, first + k), 1), (0, 0, before, after), value=-1)
        centred = torch.arange(length, device=rows.device) - k // 2
        base_token = centred.clamp(0, kmers - 1) + before if kmers else torch.zeros_like(centred)
        mask = torch.ones_like(ids, dtype=torch.bool)
        spans, base_token = spans.repeat(count, 1, 1), base_token.repeat(count, 1)
        return TokenBatch(relabelled(ids, self.order), mask, spans, base_token, self.pad_id)

    def longest_bp(self) -> int | None:
        """Most bases that `max_tokens` hold; None where there is no limit."""
        specials = self._scheme.lead + self._scheme.tail
        return None if self.max_tokens is None else self.max_tokens - specials + self.vocabulary.k - 1


def dnabert_rows(k: int, max_tokens: int | None = 512) -> KmerRows:
    """DNABERT's tokenizer: [CLS] k-mers [SEP].

    The published code puts an empty [CLS] [SEP] behind exactly 510 k-mers and cuts what is longer into pieces of 510; its
    tokenizer_config.json says `do_lower_case`, which makes every token [UNK] in transformers. Neither is done here.

    Args:
        k: Bases per token, 3..6 in the published models.
        max_tokens: Longest row of the network.
    """
    return KmerRows(
        dnabert_vocabulary(k), cls_id=DNABERT_SPECIAL["[CLS]"], sep_id=DNABERT_SPECIAL["[SEP]"],
        pad_id=DNABERT_SPECIAL["[PAD]"], mask_id=DNABERT_SPECIAL["[MASK]"], max_tokens=max_tokens,
        special=tuple(DNABERT_SPECIAL),
    )  # fmt: skip
