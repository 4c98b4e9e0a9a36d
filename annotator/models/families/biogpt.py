"""BioGPT's decoder (Luo 2022) reading DNA: a causal language model of k-mers side by side, trained from scratch.

The published weights speak English; nothing published speaks DNA, so the vocabulary is this program's to define. It is
Nucleotide Transformer's second layout (<pad> is 1, as in BioGPT) behind <bos>. 6-mers side by side, because (1) 1,023 of them
reach 6,138 bp to the left, where 1,024 positions of stride-1 k-mers would reach a sixth of that at six times the work a base;
(2) a token's probability is exactly that of its own bases, while of a stride-1 k-mer all but the last base is known; (3) no
tokenizer file is needed, as byte-pairs would. `kmer` chooses a smaller k for small networks. Each token covers bases that no
other covers, so a base's vector is its token's.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from annotator.models.families.base import Architecture, Backbone, LanguageModel, ModelFamily, Published
from annotator.models.families.fields import check_architecture, pick, require
from annotator.models.families.state_names import sort_tensors
from annotator.tokens.kmer_chunks import NT_V2_IDS, KmerChunks
from annotator.tokens.vocabulary_file import in_file_order

BOS_ID = 5
"""<bos> of the layout; every row begins with it."""
_SIZES = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_position_embeddings",
)  # fmt: skip
_OTHER = ("kmer", "hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range")


@dataclass(frozen=True)
class BioGptArchitecture:
    """Shape of the network, named as in its `config.json`; the defaults are BioGPT's, with a DNA vocabulary.

    Attributes:
        vocab_size: Ids, V.
        hidden_size: Width, H.
        num_hidden_layers: Blocks.
        num_attention_heads: Heads; divides hidden_size.
        intermediate_size: Width inside a feed-forward layer.
        max_position_embeddings: Longest row, <bos> included.
        kmer: Bases of a token, 2..8; this program's own field, 6 where it is absent.
        hidden_dropout_prob: Share of values left out; training only.
        attention_probs_dropout_prob: Dropout of attention weights; training only.
        initializer_range: Standard deviation of random weights.
    """

    vocab_size: int = NT_V2_IDS.size
    hidden_size: int = 1024
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    intermediate_size: int = 4096
    max_position_embeddings: int = 1024
    kmer: int = 6
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        """Refuse what cannot make a network."""
        check_architecture(self)
        if not 2 <= self.kmer <= 8:
            raise ValueError(f"kmer: must be 2..8, not {self.kmer}")


class BioGptBackbone(Backbone):
    """The stock decoder; a vector knows its own token and what is to the left of it."""

    def __init__(self, architecture: BioGptArchitecture) -> None:
        """Build with random weights, as transformers draws them."""
        super().__init__()
        from transformers.models.biogpt import BioGptConfig, BioGptModel

        self.hidden, self.max_tokens = architecture.hidden_size, architecture.max_position_embeddings
        values = asdict(architecture) | {"pad_token_id": NT_V2_IDS.pad_id, "bos_token_id": BOS_ID, "attn_implementation": "sdpa"}
        del values["kmer"]
        self.model = BioGptModel(BioGptConfig(**values))

    def forward(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
        """[R, T] ids to [R, T, H]; the mask is not needed, for padding at the right is never to the left of a token.

        Raises:
            ValueError: T is more than the position table holds.
        """
        if ids.shape[1] > self.max_tokens:
            raise ValueError(f"{ids.shape[1]} tokens in a row; this network has {self.max_tokens} positions")
        hidden: Tensor = self.model(ids, use_cache=False).last_hidden_state
        return hidden


class TiedProjection(nn.Module):
    """Logits from the embedding's weight, without a bias.

    The embedding is referred to, not registered, so that the weight has one name in a state dict and stays shared when the
    embedding's parameter is replaced.
    """

    def __init__(self, embedding: nn.Embedding) -> None:
        """Share the weight of an embedding, [V, H]."""
        super().__init__()
        self._tied_to = (embedding,)  # in a tuple, so that it is no submodule

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[..., H] to logits, [..., V]."""
        return F.linear(hidden_states, self._tied_to[0].weight)


def read_config(config: dict[str, Any]) -> Architecture:
    """Architecture of a `config.json`; `layer_norm_eps` is left aside, as the stock network does (it has 1e-5 always).

    Raises:
        KeyError: A size is missing.
        ValueError: A field asks for what this network does not do; named.
    """
    require(
        config,
        {
            "model_type": "biogpt", "hidden_act": "gelu", "scale_embedding": True, "tie_word_embeddings": True,
            "layerdrop": 0, "activation_dropout": 0, "pad_token_id": NT_V2_IDS.pad_id, "is_encoder_decoder": False,
        },
    )  # fmt: skip
    return asdict(BioGptArchitecture(**pick(config, _SIZES, _OTHER)))


def build(architecture: Architecture) -> LanguageModel:
    """Network with random weights, of any vocabulary; the output is tied to the embedding."""
    backbone = BioGptBackbone(BioGptArchitecture(**architecture))
    return LanguageModel(backbone, TiedProjection(backbone.model.embed_tokens))


def tokenizer(architecture: Architecture, folder: Path | None) -> KmerChunks:
    """k-mers side by side behind <bos>; no file is needed, but a vocabulary file of the model's directory decides the ids.

    Raises:
        InputError: The vocabulary file is not one of these tokens.
        ValueError: The network has another vocabulary, as the published English one has.
    """
    ids = replace(NT_V2_IDS, prefix_id=BOS_ID, mask_id=None, k=architecture["kmer"])
    if (found := architecture["vocab_size"]) != ids.size:
        raise ValueError(f"'vocab_size' is {found}, but the DNA vocabulary has {ids.size} ids; BioGPT's own is of English text")
    return in_file_order(KmerChunks(ids, architecture["max_position_embeddings"]), folder)


_NAMES = [
    (r"biogpt\.(.+)", r"backbone.model.\1"),
    (r"output_projection\.weight", "backbone.model.embed_tokens.weight"),
    (r"score\.weight", "window_head.out.weight"),
]


def translate(state: dict[str, Tensor], architecture: Architecture) -> Published:
    """Tensors under this program's names: of BioGptForCausalLM, or of BioGptForSequenceClassification.

    The latter's `score` has no bias, so that its window head's is 0; it reads one direction only, [classes, H].
    """
    with torch.device("meta"):
        network = build(architecture)
    found = sort_tensors(state, network, _NAMES, [])
    if (weight := found.window_head.get("out.weight")) is None:
        return found
    return replace(found, window_head={"out.weight": weight, "out.bias": weight.new_zeros(len(weight))})


FAMILY = ModelFamily(
    name="biogpt",
    title="BioGPT (decoder, DNA vocabulary)",
    licence="MIT",
    causal=True,
    dense_window_head=False,
    lora_targets=("q_proj", "v_proj"),
    objective="causal",
    read_config=read_config,
    sizes={
        "tiny": asdict(BioGptArchitecture(75, 64, 2, 4, 128, 256, kmer=3)),
        "small": asdict(BioGptArchitecture(267, 192, 4, 6, 768, 512, kmer=4)),
        "base": asdict(BioGptArchitecture()),
    },
    build=build,
    tokenizer=tokenizer,
    translate=translate,
)
