"""DNABERT-2 (Zhou 2023): byte-pair tokens, a BERT with ALiBi, trained by masking single tokens.

What fails in the published package and why it cannot here: Triton's `dot() ... trans_b`, and the CUDA assertion on CPUs (no
Triton kernel is used); configuration classes that do not match, `pad_token_id` and `is_decoder` missing from a configuration,
and no `model_type` in it (`config.json` is read as plain values, and nothing else of it is asked for); the bias left behind
on the meta device (made in the forward); shared tensors at saving (the tied weight has one name); calls to a hub for code
(none is read); padding with id 0, which is [UNK] (the tokenizer's 3 is used whatever the configuration says); LoRA with
"query,value", which match no module (`Wqkv` does).
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from annotator.errors import InputError
from annotator.models.families.alibi_bert import NORM_EPS, AlibiBert, AlibiBertConfig
from annotator.models.families.base import Architecture, LanguageModel, ModelFamily, Published
from annotator.models.families.fields import pick, require
from annotator.models.families.masked_head import MaskedHead
from annotator.models.families.state_names import sort_tensors
from annotator.tokens.bpe import BpeTokenizer
from annotator.tokens.vocabulary_file import TOKENIZER_NAME

_SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
_OTHER = ("type_vocab_size", "hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range")


def read_config(config: dict[str, Any]) -> Architecture:
    """Architecture of a published `config.json`; `pad_token_id`, `max_position_embeddings` and `auto_map` mean nothing here.

    Raises:
        KeyError: A size is missing.
        ValueError: A field asks for what this network does not do; named.
    """
    require(
        config,
        {
            "hidden_act": "gelu", "layer_norm_eps": NORM_EPS, "is_decoder": False, "add_cross_attention": False,
            "tie_word_embeddings": True, "pruned_heads": ({}, None),
        },
    )  # fmt: skip
    return asdict(AlibiBertConfig(**pick(config, _SIZES, _OTHER)))


def build(architecture: Architecture) -> LanguageModel:
    """Network with random weights; the decoder is tied to the embedding."""
    config = AlibiBertConfig(**architecture)
    backbone = AlibiBert(config)
    head = MaskedHead(config.hidden_size, config.vocab_size, eps=NORM_EPS, std=config.initializer_range, tied_to=backbone.words)
    return LanguageModel(backbone, head)


def tokenizer(architecture: Architecture, folder: Path | None) -> BpeTokenizer:
    """The tokenizer beside the weights.

    Raises:
        InputError: There is none, it is not one of this family, or it has another vocabulary than the weights.
    """
    if folder is None:
        raise InputError(f"DNABERT-2 needs the {TOKENIZER_NAME} its weights were trained with")
    found = BpeTokenizer.read(folder)
    if (size := architecture["vocab_size"]) != found.vocabulary_size:
        raise InputError(f"{folder / TOKENIZER_NAME}: {found.vocabulary_size} tokens, but the weights have 'vocab_size' {size}")
    return found


_LAYER = r"(?:bert\.)?encoder\.layer\.(\d+)\."
_EMBEDDINGS = r"(?:bert\.)?embeddings\."
_NAMES = [
    (_EMBEDDINGS + r"word_embeddings\.weight", "backbone.words.weight"),
    (_EMBEDDINGS + r"token_type_embeddings\.weight", "backbone.types.weight"),
    (_EMBEDDINGS + r"LayerNorm\.(weight|bias)", r"backbone.embedding_norm.\1"),
    (_LAYER + r"attention\.self\.Wqkv\.(weight|bias)", r"backbone.layers.\1.Wqkv.\2"),
    (_LAYER + r"attention\.output\.dense\.(weight|bias)", r"backbone.layers.\1.attention_dense.\2"),
    (_LAYER + r"attention\.output\.LayerNorm\.(weight|bias)", r"backbone.layers.\1.attention_norm.\2"),
    (_LAYER + r"mlp\.(gated_layers|wo)\.(weight|bias)", r"backbone.layers.\1.\2.\3"),
    (_LAYER + r"mlp\.layernorm\.(weight|bias)", r"backbone.layers.\1.mlp_norm.\2"),
    (r"cls\.predictions\.transform\.dense\.(weight|bias)", r"lm_head.dense.\1"),
    (r"cls\.predictions\.transform\.LayerNorm\.(weight|bias)", r"lm_head.norm.\1"),
    (r"cls\.predictions\.decoder\.bias", "lm_head.bias"),
    (r"cls\.predictions\.decoder\.weight", "backbone.words.weight"),
]
_CLASSIFIER_NAMES = [
    (r"bert\.pooler\.dense\.(weight|bias)", r"window_head.dense.\1"),
    (r"classifier\.(weight|bias)", r"window_head.out.\1"),
]


def translate(state: dict[str, Tensor], architecture: Architecture) -> Published:
    """Tensors under this program's names; a trunk saved alone lacks the `bert.` prefix.

    A pooler without a classifier is ignored: masked pre-training has not trained it. A classifier without a pooler is that
    of single tokens, and unexpected.
    """
    ignored = []
    names = _NAMES
    if "classifier.weight" not in state:
        ignored.append(r"(?:bert\.)?pooler\.dense\.(?:weight|bias)")
    elif "bert.pooler.dense.weight" in state:
        names = _NAMES + _CLASSIFIER_NAMES
    with torch.device("meta"):
        network = build(architecture)
    return sort_tensors(state, network, names, ignored)


FAMILY = ModelFamily(
    name="dnabert2",
    title="DNABERT-2",
    licence="Apache-2.0",
    causal=False,
    dense_window_head=True,
    lora_targets=("Wqkv",),
    objective="tokens",
    read_config=read_config,
    sizes={
        "tiny": asdict(AlibiBertConfig(256, 64, 2, 4, 128)),
        "small": asdict(AlibiBertConfig(1024, 192, 4, 6, 512)),
        "base": asdict(AlibiBertConfig()),
    },
    build=build,
    tokenizer=tokenizer,
    translate=translate,
)
