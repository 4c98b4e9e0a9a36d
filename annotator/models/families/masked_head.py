"""The head that BERT, ESM and their kin are pre-trained with, and the initialisation they share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MaskedHead(nn.Module):
    """Dense layer, GELU, layer norm, and a decoder onto the vocabulary with a bias.

    A tied decoder's weight is the embedding's: the head asks the embedding for it at every call and has no name for it, so
    that it survives `to_empty`, `load_state_dict(assign=True)` and `copy.deepcopy` of the whole model, and a saved file holds
    it once.
    """

    def __init__(self, hidden: int, vocabulary_size: int, *, eps: float, std: float, tied_to: nn.Embedding | None) -> None:
        """Build with random weights.

        Args:
            hidden: Width of a token's vector, H.
            vocabulary_size: Ids, V.
            eps: Term of the layer norm against division by zero.
            std: Standard deviation of the initial weights.
            tied_to: The embedding [V, H] whose weight the decoder uses, or None for one of its own.
        """
        super().__init__()
        self.dense = nn.Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden, eps=eps)
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))
        self.decoder = None if tied_to is not None else nn.Linear(hidden, vocabulary_size, bias=False)
        self._tied_to = (tied_to,)  # in a tuple, so that it is no submodule
        initialise(self, std)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Logits [..., V] of hidden states [..., H]."""
        embedding, decoder = self._tied_to[0], self.decoder
        owner = embedding if decoder is None else decoder
        assert owner is not None  # one of the two was given at construction
        logits: Tensor = F.linear(self.norm(F.gelu(self.dense(hidden_states))), owner.weight, self.bias)
        return logits


def initialise(network: nn.Module, std: float) -> None:
    """Draw the weights of a network anew: linear and embedding weights normal, biases and padding rows zero."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=std)
            if module.padding_idx is not None:
                with torch.no_grad():
                    module.weight[module.padding_idx].zero_()
