"""The network of Nucleotide Transformer, version 2 (Dalla-Torre et al. 2024, doi 10.1038/s41592-024-02523-z).

Blocks with the norm before each part; attention with rotary positions (half-split, base 10000) and biases; a gated
feed-forward layer, SiLU(first half) * second half, without them; a last norm. Nothing is cached between calls and there are
no buffers, so the network can be built on any device, run under inference mode and trained afterwards.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from annotator.models.families.base import Backbone

ROTARY_BASE = 10000.0


class RotaryBackbone(Backbone):
    """Embedding, blocks and last norm."""

    def __init__(
        self,
        vocabulary_size: int,
        *,
        hidden: int,
        layers: int,
        heads: int,
        intermediate: int,
        pad_id: int,
        eps: float,
        hidden_dropout: float,
        attention_dropout: float,
    ) -> None:
        """Build; the caller draws the weights.

        Args:
            vocabulary_size: Ids, V.
            hidden: Width of a token's vector, H; a multiple of twice `heads`.
            layers: Blocks.
            heads: Attention heads.
            intermediate: Width of the feed-forward layer behind the gate.
            pad_id: Id of padding.
            eps: Term of the norms against division by zero.
            hidden_dropout: Dropout of what each part adds, in training.
            attention_dropout: Dropout of the attention weights, in training.

        Raises:
            ValueError: A head's width is odd, so that it has no halves.
        """
        super().__init__()
        if hidden % (2 * heads):
            raise ValueError(f"hidden_size: {hidden} makes {heads} heads of an odd width; rotary positions need an even one")
        self.hidden = hidden
        self._head_width = hidden // heads
        self.embedding = nn.Embedding(vocabulary_size, hidden, padding_idx=pad_id)
        self.blocks = nn.ModuleList(
            RotaryBlock(hidden, heads, intermediate, eps, hidden_dropout, attention_dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(hidden, eps=eps)

    def forward(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Hidden states; see `Backbone`. There is no limit to the tokens of a row."""
        states: Tensor = self.embedding(ids)
        turns = rotary_turns(ids.shape[1], self._head_width, ids.device)
        seen = None if bool(attention_mask.all()) else attention_mask[:, None, None, :]
        for block in self.blocks:
            states = block(states, turns, seen)
        normed: Tensor = self.norm(states)
        return normed


class RotaryBlock(nn.Module):
    """Attention and feed-forward layer, each added to what comes in."""

    def __init__(
        self, hidden: int, heads: int, intermediate: int, eps: float, hidden_dropout: float, attention_dropout: float
    ) -> None:
        """Build; arguments as in `RotaryBackbone`."""
        super().__init__()
        self._heads, self._hidden_dropout, self._attention_dropout = heads, hidden_dropout, attention_dropout
        self.attention_norm = nn.LayerNorm(hidden, eps=eps)
        self.query, self.key, self.value = (nn.Linear(hidden, hidden) for _ in range(3))
        self.dense = nn.Linear(hidden, hidden)
        self.feed_forward_norm = nn.LayerNorm(hidden, eps=eps)
        self.gated = nn.Linear(hidden, 2 * intermediate, bias=False)
        self.down = nn.Linear(intermediate, hidden, bias=False)

    def forward(self, states: Tensor, turns: tuple[Tensor, Tensor], seen: Tensor | None) -> Tensor:
        """States [R, T, H] after the block.

        Args:
            states: [R, T, H].
            turns: The turns that `rotary_turns` gives.
            seen: Whether a token may be looked at, bool, broadcast to [R, heads, T, T]; None for all.
        """
        normed = self.attention_norm(states)
        query, key, value = (self._by_head(layer(normed)) for layer in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(
            turn(query, turns), turn(key, turns), value, attn_mask=seen,
            dropout_p=self._attention_dropout if self.training else 0.0,
        )  # fmt: skip
        states = states + self._drop(self.dense(mixed.transpose(1, 2).flatten(2)))
        gate, up = self.gated(self.feed_forward_norm(states)).chunk(2, -1)
        return states + self._drop(self.down(F.silu(gate) * up))

    def _by_head(self, vectors: Tensor) -> Tensor:
        """[R, T, H] to [R, heads, T, H / heads]."""
        return vectors.view(*vectors.shape[:-1], self._heads, -1).transpose(1, 2)

    def _drop(self, added: Tensor) -> Tensor:
        return F.dropout(added, self._hidden_dropout, self.training)


def rotary_turns(tokens: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angle by which each pair of a head's numbers turns at each position.

    Args:
        tokens: Positions, T.
        width: Width of a head, even.
        device: Where to put them.

    Returns:
        Two of float32, [T, width / 2]; pair i turns by position * 10000**(-2 i / width).
    """
    rates = ROTARY_BASE ** (-torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)
    angles = torch.arange(tokens, device=device, dtype=torch.float32)[:, None] * rates
    return angles.cos(), angles.sin()


def turn(vectors: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair (i, i + width / 2) of vectors [..., T, width], in float32; the type stays."""
    cosine, sine = turns
    first, second = vectors.float().chunk(2, -1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), -1).to(vectors.dtype)
