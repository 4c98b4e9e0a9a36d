"""DNABERT: BERT over stride-1 k-mers (Ji et al. 2021, doi 10.1093/bioinformatics/btab083).

The network is transformers' stock BERT; the published checkpoints' own classes add nothing to it. Their tensors are named
as in `BertForMaskedLM` and `BertForSequenceClassification`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from annotator.models.families.base import Architecture, Backbone, LanguageModel, ModelFamily, Published
from annotator.models.families.fields import check_architecture, pick, require
from annotator.models.families.masked_head import MaskedHead
from annotator.models.families.state_names import sort_tensors
from annotator.tokens.kmer_rows import KmerRows, dnabert_rows
from annotator.tokens.vocabulary import DNABERT_SPECIAL
from annotator.tokens.vocabulary_file import in_file_order

_K_OF_VOCABULARY = {4**k + len(DNABERT_SPECIAL): k for k in range(3, 7)}
_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_position_embeddings")
_OTHER = ("type_vocab_size", "layer_norm_eps", "initializer_range", "hidden_dropout_prob", "attention_probs_dropout_prob")


@dataclass(frozen=True)
class DnabertArchitecture:
    """Shape of a DNABERT; names as in BERT's `config.json`, and k, which the vocabulary's size says there."""

    k: int = 6
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what cannot make a network."""
        check_architecture(self)
        if not 3 <= self.k <= 6:
            raise ValueError(f"k: must be 3..6, not {self.k}")


class DnabertBackbone(Backbone):
    """Stock `BertModel` without the pooler, whose dense layer is a window head's."""

    def __init__(self, architecture: DnabertArchitecture) -> None:
        """Build with BERT's random weights."""
        super().__init__()
        from transformers import BertConfig, BertModel

        values = asdict(architecture) | {"pad_token_id": DNABERT_SPECIAL["[PAD]"], "attn_implementation": "sdpa"}
        vocabulary_size = 4 ** values.pop("k") + len(DNABERT_SPECIAL)
        self.hidden = architecture.hidden_size
        self._max_tokens = architecture.max_position_embeddings
        self.bert = BertModel(BertConfig(vocab_size=vocabulary_size, **values), add_pooling_layer=False)

    def forward(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Hidden states; see `Backbone`.

        Raises:
            ValueError: There are more tokens than positions.
        """
        if ids.shape[1] > self._max_tokens:
            raise ValueError(f"{ids.shape[1]} tokens in a row; this network has {self._max_tokens} positions")
        states: Tensor = self.bert(input_ids=ids, attention_mask=attention_mask).last_hidden_state
        return states


def read_config(config: dict[str, Any]) -> Architecture:
    """Architecture of a published `config.json`.

    Raises:
        KeyError: A field is missing.
        ValueError: A field asks for what this network does not do; named.
    """
    require(
        config,
        {
            "model_type": ("bert", "dna"), "hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False,
            "add_cross_attention": False, "tie_word_embeddings": True, "pad_token_id": DNABERT_SPECIAL["[PAD]"],
            "pruned_heads": ({}, None),
        },
    )  # fmt: skip
    k = _K_OF_VOCABULARY.get(config["vocab_size"])
    if k is None:
        raise ValueError(f"vocab_size: {config['vocab_size']!r} is that of no k; DNABERT's are {list(_K_OF_VOCABULARY)}")
    return asdict(DnabertArchitecture(k=k, **pick(config, _SIZES, _OTHER)))


def build(architecture: Architecture) -> LanguageModel:
    """Network with random weights; the decoder is tied to the embedding."""
    shape = DnabertArchitecture(**architecture)
    backbone = DnabertBackbone(shape)
    embedding = backbone.bert.embeddings.word_embeddings
    head = MaskedHead(
        shape.hidden_size, embedding.num_embeddings, eps=shape.layer_norm_eps, std=shape.initializer_range, tied_to=embedding
    )
    return LanguageModel(backbone, head)


def tokenizer(architecture: Architecture, folder: Path | None) -> KmerRows:
    """[CLS] k-mers [SEP], with the ids of a vocabulary file of the model's directory; without one, the published ids.

    Raises:
        InputError: The vocabulary file is not one of this k.
    """
    shape = DnabertArchitecture(**architecture)
    return in_file_order(dnabert_rows(shape.k, shape.max_position_embeddings), folder)


_LM_NAMES = [
    (r"cls\.predictions\.transform\.dense\.(weight|bias)", r"lm_head.dense.\1"),
    (r"cls\.predictions\.transform\.LayerNorm\.(weight|bias)", r"lm_head.norm.\1"),
    (r"cls\.predictions\.(?:decoder\.)?bias", "lm_head.bias"),
    (r"cls\.predictions\.decoder\.weight", "backbone.bert.embeddings.word_embeddings.weight"),
]
_CLASSIFIER_NAMES = [
    (r"bert\.pooler\.dense\.(weight|bias)", r"window_head.dense.\1"),
    (r"classifier\.(weight|bias)", r"window_head.out.\1"),
]


def translate(state: dict[str, Tensor], architecture: Architecture) -> Published:
    """Tensors under this program's names.

    A pooler without a classifier is ignored: masked pre-training has not trained it. A classifier without a pooler is that
    of single tokens, and unexpected.
    """
    pooled = "bert.pooler.dense.weight" in state and "classifier.weight" in state
    ignored = [r"bert\.embeddings\.(position_ids|token_type_ids)"]
    if "classifier.weight" not in state:
        ignored.append(r"bert\.pooler\.dense\.(weight|bias)")
    with torch.device("meta"):
        network = build(architecture)
    backbone_names = [(r"(bert\.(?:embeddings|encoder)\..*(?:weight|bias))", r"backbone.\1")]
    return sort_tensors(state, network, _LM_NAMES + backbone_names + (_CLASSIFIER_NAMES if pooled else []), ignored)


FAMILY = ModelFamily(
    name="dnabert",
    title="DNABERT",
    licence="Apache-2.0",
    causal=False,
    dense_window_head=True,
    lora_targets=("query", "value"),
    objective="spans",
    read_config=read_config,
    sizes={
        "tiny": asdict(DnabertArchitecture(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=256)),
        "small": asdict(DnabertArchitecture(hidden_size=192, num_hidden_layers=4, num_attention_heads=6, intermediate_size=768)),
        "base": asdict(DnabertArchitecture()),
    },
    build=build,
    tokenizer=tokenizer,
    translate=translate,
)
