"""The network of DNABERT-2: a post-norm BERT with linear distance biases (ALiBi), fused Wqkv and gated feed-forward layers.

Written anew on `scaled_dot_product_attention`, because the published code no longer runs: its Triton kernel fails with
Triton 2.0 and later and asserts CUDA on a CPU, and its bias is a tensor made in `__init__`, which loading on the meta device
leaves behind. Here the bias is made in each forward, on the device and in the type of the activations: [heads, T, T] is one
part in R of the masked bias that a batch of R rows needs anyway, so there is nothing worth caching.

Sources: MosaicBERT (Portes 2023), ALiBi (Press 2022), the configuration of zhihan1996/DNABERT-2-117M.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from annotator.models.families.base import Backbone
from annotator.models.families.fields import check_architecture
from annotator.models.families.masked_head import initialise
from annotator.tokens.bpe import PAD_ID

NORM_EPS = 1e-12


@dataclass(frozen=True)
class AlibiBertConfig:
    """Shape of the network, named as in its `config.json`.

    Attributes:
        vocab_size: Ids, V.
        hidden_size: Width, H.
        num_hidden_layers: Blocks.
        num_attention_heads: Heads; divides hidden_size.
        intermediate_size: Width inside a feed-forward layer; its first matrix is twice as wide.
        type_vocab_size: Rows of the token-type table, of which the first is added to every token.
        hidden_dropout_prob: Share of values left out after embedding, attention and feed-forward; training only.
        attention_probs_dropout_prob: Dropout of attention weights; training only.
        initializer_range: Standard deviation of random weights.
    """

    vocab_size: int = 4096
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    type_vocab_size: int = 2
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.0
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        """Refuse what cannot make a network: a size of 0, heads that do not divide the width, a dropout of 1."""
        check_architecture(self)
        if self.vocab_size <= PAD_ID:
            raise ValueError(f"vocab_size: {self.vocab_size} leaves no room for the padding id {PAD_ID}")


def alibi_slopes(heads: int) -> list[float]:
    """Slope of each head.

    For a power of two n: 2**(-8 i / n), i = 1..n. Otherwise those of the power of two below, then every other one, from the
    first, of twice as many heads.
    """
    below = 1 << (heads.bit_length() - 1)
    slopes = [2.0 ** (-8 * i / below) for i in range(1, below + 1)]
    return slopes + [2.0 ** (-4 * i / below) for i in range(1, 2 * (heads - below), 2)]


def alibi_bias(heads: int, attention_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to attention scores: minus slope times distance, and next to minus infinity at padding keys.

    Args:
        heads: Number of heads, A.
        attention_mask: True where there is a token, bool, [R, T].
        dtype: Floating type of the result.

    Returns:
        [R, A, T, T], contiguous, on the device of the mask.
    """
    at = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    distance = (at[:, None] - at).abs().float()
    slopes = torch.tensor(alibi_slopes(heads), device=attention_mask.device)
    bias = (-slopes[:, None, None] * distance).to(dtype)
    # The lowest finite number rather than infinity: a row of padding alone stays free of NaN.
    return torch.where(attention_mask[:, None, None, :], bias, torch.finfo(dtype).min)


class AlibiBertLayer(nn.Module):
    """Attention and a gated feed-forward layer, each added to its input and normalised afterwards."""

    def __init__(self, config: AlibiBertConfig) -> None:
        """Build with PyTorch's initial weights."""
        super().__init__()
        hidden, inner = config.hidden_size, config.intermediate_size
        self.heads = config.num_attention_heads
        self.attention_dropout = config.attention_probs_dropout_prob
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.Wqkv = nn.Linear(hidden, 3 * hidden)
        self.attention_dense = nn.Linear(hidden, hidden)
        self.attention_norm = nn.LayerNorm(hidden, eps=NORM_EPS)
        self.gated_layers = nn.Linear(hidden, 2 * inner, bias=False)
        self.wo = nn.Linear(inner, hidden)
        self.mlp_norm = nn.LayerNorm(hidden, eps=NORM_EPS)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """[R, T, H] and the attention bias, [R, A, T, T], to [R, T, H]."""
        rows, tokens, hidden = x.shape
        query, key, value = self.Wqkv(x).view(rows, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        dropout = self.attention_dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype), dropout_p=dropout)
        attended = self.attention_dense(mixed.transpose(1, 2).reshape(rows, tokens, hidden))
        x = self.attention_norm(x + self.dropout(attended))
        gate, inner = self.gated_layers(x).chunk(2, dim=-1)
        out: Tensor = self.mlp_norm(x + self.wo(self.dropout(F.gelu(gate) * inner)))
        return out


class AlibiBert(Backbone):
    """Token ids to hidden states; any number of tokens, memory growing with its square."""

    def __init__(self, config: AlibiBertConfig) -> None:
        """Build with random weights: normal, biases 0, the padding row 0."""
        super().__init__()
        self.config = config
        self.hidden = config.hidden_size
        self.words = nn.Embedding(config.vocab_size, self.hidden, padding_idx=PAD_ID)
        self.types = nn.Embedding(config.type_vocab_size, self.hidden)
        self.embedding_norm = nn.LayerNorm(self.hidden, eps=NORM_EPS)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.layers = nn.ModuleList(AlibiBertLayer(config) for _ in range(config.num_hidden_layers))
        initialise(self, config.initializer_range)

    def forward(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
        """[R, T] ids and mask to [R, T, H]."""
        x: Tensor = self.dropout(self.embedding_norm(self.words(ids) + self.types.weight[0]))
        bias = alibi_bias(self.config.num_attention_heads, attention_mask, x.dtype)
        for layer in self.layers:
            x = layer(x, bias)
        return x
