"""Stride-1 k-mers of rows, with the special tokens around them: DNABERT's tokens."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from annotator.tokens.batch import TokenBatch
from annotator.tokens.vocabulary import DNABERT_SPECIAL, KmerVocabulary, dnabert_vocabulary
from annotator_kernels.dispatch import kmer_tokenize


class KmerRows:
    """Every base but the last k - 1 begins a token; a `RowTokenizer`.

    A k-mer that holds anything but A, C, G, T (or U) is `vocabulary.ambiguous_id`, so one N makes k such tokens.

    Attributes:
        vocabulary: Ids of the k-mers.
        vocabulary_size: Ids are below this.
        pad_id: Of padding; rows of one length need none.
        mask_id: Of a hidden token.
        max_tokens: Longest row the model takes, special tokens included; None where there is no limit.
    """

    def __init__(
        self,
        vocabulary: KmerVocabulary,
        *,
        cls_id: int | None,
        sep_id: int | None,
        pad_id: int,
        mask_id: int | None,
        max_tokens: int | None,
    ) -> None:
        """Take the k-mer ids and the special ones; `cls_id` goes before a row and `sep_id` after it, None goes nowhere."""
        self.vocabulary = vocabulary
        self.vocabulary_size = vocabulary.size
        self.pad_id, self.mask_id, self.max_tokens = pad_id, mask_id, max_tokens
        self._cls_id, self._sep_id = cls_id, sep_id

    @property
    def _specials(self) -> tuple[int, int]:
        """Special tokens before and after the k-mers."""
        return int(self._cls_id is not None), int(self._sep_id is not None)

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
        v, (before, after) = self.vocabulary, self._specials
        kmers = max(0, length - v.k + 1)
        if kmers == 0 and before + after == 0:
            raise ValueError(f"rows of {length} bases hold no {v.k}-mer")
        starts = torch.arange(count, device=rows.device) * length
        ids = kmer_tokenize(
            rows.reshape(-1), starts, torch.zeros_like(starts, dtype=torch.bool), tokens=kmers, k=v.k, kmer_stride=1,
            code_table=v.code_table, complement_table=v.complement_table, first_kmer_id=v.first_kmer_id,
            ambiguous_id=v.ambiguous_id, cls_id=self._cls_id, sep_id=self._sep_id, dtype=torch.int64,
        )  # fmt: skip
        first = torch.arange(kmers, device=rows.device)
        spans = F.pad(torch.stack((first, first + v.k), 1), (0, 0, before, after), value=-1)
        centred = torch.arange(length, device=rows.device) - v.k // 2
        base_token = centred.clamp(0, kmers - 1) + before if kmers else torch.zeros_like(centred)
        mask = torch.ones_like(ids, dtype=torch.bool)
        return TokenBatch(ids, mask, spans.repeat(count, 1, 1), base_token.repeat(count, 1), self.pad_id)

    def longest_bp(self) -> int | None:
        """Most bases that `max_tokens` hold; None where there is no limit."""
        return None if self.max_tokens is None else self.max_tokens - sum(self._specials) + self.vocabulary.k - 1


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
    )  # fmt: skip
