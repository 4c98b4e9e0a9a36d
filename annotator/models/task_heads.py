"""What turns a family's token vectors into tracks of bases, or into classes of windows: the same heads for every family.

Coordinates: bases of a row in the order it is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from annotator.models.families.base import Backbone
from annotator.tokens.batch import TokenBatch

LONGEST_TOKEN_BP = 64
"""Bases further into a token than this share one offset vector; the longest token of a published vocabulary has 32."""


@dataclass(frozen=True)
class HeadOptions:
    """Shape of a head.

    Attributes:
        outputs: Tracks, or classes.
        width: Channels of the per-base layers; of no meaning to a window head.
        kernel_bp: Width of their convolutions, odd.
        dropout: Before the last layer, in training.
    """

    outputs: int
    width: int = 64
    kernel_bp: int = 9
    dropout: float = 0.1

    @staticmethod
    def from_json(raw: dict[str, Any]) -> HeadOptions:
        """From a manifest.

        Raises:
            ValueError: A field is unknown or impossible; the message names it.
        """
        if unknown := sorted(set(raw) - set(HeadOptions.__dataclass_fields__)):
            raise ValueError(f"'head.{unknown[0]}' is unknown")
        if "outputs" not in raw:
            raise ValueError("'head.outputs' is missing")
        options = HeadOptions(**raw)
        for name in ("outputs", "width", "kernel_bp"):
            value = getattr(options, name)
            if type(value) is not int or not 0 < value <= 65_536:
                raise ValueError(f"'head.{name}' is {value!r}")
        if options.kernel_bp % 2 == 0 or not 0 <= options.dropout < 1:
            raise ValueError(f"'head' is {raw}: kernel_bp is odd, dropout lies from 0 to below 1")
        return options


class BaseHead(nn.Module):
    """Token vectors to logits of every base.

    A base takes the vector of its token, what base it is and how far into the token it lies (a 6-mer token holds six bases, a
    BPE token up to 32); two residual convolutions join neighbours that lie in different tokens.
    """

    def __init__(self, hidden: int, options: HeadOptions) -> None:
        """Build with random weights.

        Args:
            hidden: Width of the token vectors, H; twice that of a causal backbone, which is run in both directions.
            options: Shape.
        """
        super().__init__()
        self.options = options
        width = options.width
        self.project = nn.Linear(hidden, width)
        self.base = nn.Embedding(5, width)
        self.offset = nn.Embedding(LONGEST_TOKEN_BP, width)
        self.mix = nn.ModuleList(nn.Conv1d(width, width, options.kernel_bp, padding=options.kernel_bp // 2) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, options.outputs)
        for table in (self.base, self.offset):
            nn.init.normal_(table.weight, std=0.1)
        nn.init.constant_(self.out.bias, -4.0)  # sites are rare

    @property
    def reach_bp(self) -> int:
        """Bases on either side that change a base's logits, beside what its token sees."""
        return 2 * (self.options.kernel_bp // 2)

    def forward(self, vectors: Tensor, rows: Tensor, offsets: Tensor) -> Tensor:
        """Score bases.

        Args:
            vectors: The vector of each base's token, [R, L, H].
            rows: ASCII bases, uint8, [R, L].
            offsets: How far into its token each base lies, int64, [R, L].

        Returns:
            Logits, float32, [R, L, C].
        """
        x = self.project(vectors) + self.base(_codes(rows)) + self.offset(offsets.clamp(0, LONGEST_TOKEN_BP - 1))
        x = x.transpose(1, 2)
        for layer in self.mix:
            x = x + F.gelu(layer(x))
        x = F.dropout(self.norm(x.transpose(1, 2)), self.options.dropout, self.training)
        logits: Tensor = self.out(x).float()
        return logits


class WindowHead(nn.Module):
    """A pooled vector to class logits; the published classifiers' shape, so that their weights fit."""

    def __init__(self, hidden: int, options: HeadOptions, *, dense: bool) -> None:
        """Build with random weights.

        Args:
            hidden: Width of the pooled vector.
            options: Shape; `outputs` are the classes.
            dense: Put a tanh layer in between, as BERT's pooler and ESM's classifier do.
        """
        super().__init__()
        self.options = options
        self.dense = nn.Linear(hidden, hidden) if dense else None
        self.out = nn.Linear(hidden, options.outputs)

    def forward(self, pooled: Tensor) -> Tensor:
        """[R, H] to float32 logits [R, classes]."""
        if self.dense is not None:
            pooled = torch.tanh(self.dense(pooled))
        logits: Tensor = self.out(F.dropout(pooled, self.options.dropout, self.training)).float()
        return logits


class TaskModel(nn.Module):
    """A backbone with the head of one task.

    A causal backbone sees only what was read before; it is run on a row and on its reverse complement, and a base (or window)
    takes both vectors, so that it sees context from either side.
    """

    def __init__(self, backbone: Backbone, head: BaseHead | WindowHead, *, causal: bool) -> None:
        """Join the two."""
        super().__init__()
        self.backbone, self.head, self.causal = backbone, head, causal

    @staticmethod
    def build(backbone: Backbone, options: HeadOptions, *, window: bool, causal: bool, dense: bool) -> TaskModel:
        """A backbone with a new head of the right width.

        Args:
            backbone: The trunk.
            options: Shape of the head.
            window: Classes of windows instead of tracks of bases.
            causal: Whether the backbone is causal.
            dense: See `WindowHead`.
        """
        hidden = backbone.hidden * (2 if causal else 1)
        head = WindowHead(hidden, options, dense=dense) if window else BaseHead(hidden, options)
        return TaskModel(backbone, head, causal=causal)

    def base_logits(self, tokens: TokenBatch, rows: Tensor, opposite: TokenBatch | None = None) -> Tensor:
        """Logits of every base.

        Args:
            tokens: Tokens of the rows.
            rows: ASCII bases, uint8, [R, L].
            opposite: Tokens of the rows' reverse complements; for causal backbones only.

        Returns:
            float32, [R, L, C].
        """
        vectors = _by_base(self.backbone(tokens.ids, tokens.attention_mask), tokens.base_token)
        if self.causal:
            assert opposite is not None
            other = _by_base(self.backbone(opposite.ids, opposite.attention_mask), opposite.base_token)
            vectors = torch.cat([vectors, other.flip(1)], 2)
        first = tokens.base_spans[..., 0].gather(1, tokens.base_token)
        steps = torch.arange(rows.shape[1], device=rows.device)
        logits: Tensor = self.head(vectors, rows, steps - first)
        return logits

    def window_logits(self, tokens: TokenBatch, opposite: TokenBatch | None = None) -> Tensor:
        """Class logits of whole rows, float32, [R, classes]; arguments as in `base_logits`."""
        pooled = self._pooled(tokens)
        if self.causal:
            assert opposite is not None
            pooled = torch.cat([pooled, self._pooled(opposite)], 1)
        logits: Tensor = self.head(pooled)
        return logits

    def _pooled(self, tokens: TokenBatch) -> Tensor:
        """The vector that has seen the whole row: the first token's, or a causal model's last one's, [R, H]."""
        hidden: Tensor = self.backbone(tokens.ids, tokens.attention_mask)
        if not self.causal:
            return hidden[:, 0]
        last = tokens.counts - 1
        return hidden[torch.arange(len(hidden), device=hidden.device), last]


def _by_base(hidden: Tensor, base_token: Tensor) -> Tensor:
    """Token vectors [R, T, H] to base vectors [R, L, H]."""
    return hidden.gather(1, base_token[..., None].expand(-1, -1, hidden.shape[2]))


def _codes(rows: Tensor) -> Tensor:
    """0..3 for A, C, G, T and 4 for anything else, int64."""
    codes = torch.full_like(rows, 4, dtype=torch.int64)
    for code, base in enumerate(b"ACGT"):
        codes = codes.masked_fill(rows == base, code)
    return codes
