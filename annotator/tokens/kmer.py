"""k-mer token ids of rows of bases."""

from __future__ import annotations

import torch
from torch import Tensor

from annotator.tokens.vocabulary import KmerVocabulary
from annotator_kernels.dispatch import kmer_tokenize


def kmer_ids_of_rows(rows: Tensor, vocabulary: KmerVocabulary) -> Tensor:
    """Stride-1 token ids of rows that are already in reading direction.

    Args:
        rows: ASCII bases, uint8, [B, L + k - 1].
        vocabulary: Ids to use.

    Returns:
        Ids, int32, [B, L], on the device of `rows`; token j starts at column j.
    """
    count, width = rows.shape
    starts = torch.arange(count, device=rows.device) * width
    return kmer_tokenize(
        rows.reshape(-1), starts, torch.zeros_like(starts, dtype=torch.bool), tokens=max(0, width - vocabulary.k + 1),
        k=vocabulary.k, kmer_stride=1, code_table=vocabulary.code_table, complement_table=vocabulary.complement_table,
        first_kmer_id=vocabulary.first_kmer_id, ambiguous_id=vocabulary.ambiguous_id,
    )  # fmt: skip
