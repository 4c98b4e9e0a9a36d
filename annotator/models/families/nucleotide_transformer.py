"""Nucleotide Transformer, versions 1 and 2 (Dalla-Torre et al. 2024, doi 10.1038/s41592-024-02523-z).

Version 1 is the stock ESM network of transformers with learned positions. Version 2 has rotary positions and a gated
feed-forward layer, which no stock class has: `rotary.py`. Both have ESM's heads, and names as in `EsmForMaskedLM` and
`EsmForSequenceClassification`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from annotator.errors import InputError
from annotator.models.families.base import Architecture, Backbone, LanguageModel, ModelFamily, Published
from annotator.models.families.fields import check_architecture, pick, require
from annotator.models.families.masked_head import MaskedHead, initialise
from annotator.models.families.rotary import RotaryBackbone
from annotator.models.families.state_names import sort_tensors
from annotator.tokens.batch import RowTokenizer
from annotator.tokens.kmer_chunks import NT_V1_IDS, NT_V2_IDS, ChunkIds, KmerChunks
from annotator.tokens.kmer_rows import KmerRows
from annotator.tokens.vocabulary import KmerVocabulary
from annotator.tokens.vocabulary_file import in_file_order

_IDS = {1: NT_V1_IDS, 2: NT_V2_IDS}
_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_position_embeddings")
_OTHER = ("layer_norm_eps", "initializer_range", "hidden_dropout_prob", "attention_probs_dropout_prob")
_POSITIONS_BEFORE_TOKENS = 2
"""ESM counts positions from pad_id + 1, so its tables have two entries more than a row has tokens."""


@dataclass(frozen=True)
class NucleotideTransformerArchitecture:
    """Shape of a Nucleotide Transformer; names as in its `config.json`, but for the first three.

    Attributes:
        version: 1 or 2.
        k: Bases of a k-mer; 6 in every published model.
        kmer_stride: k for k-mers side by side, as in every published model; 1 for overlapping ones, in version 2 only.
        hidden_size: H.
        num_hidden_layers: Blocks.
        num_attention_heads: Heads.
        intermediate_size: Width of the feed-forward layer; in version 2, behind the gate.
        max_position_embeddings: Longest row of tokens, and 2. Version 2 has no position table and takes longer rows.
        layer_norm_eps: Term of the norms against division by zero.
        initializer_range: Standard deviation of random weights.
        hidden_dropout_prob: In training.
        attention_probs_dropout_prob: In training.
        token_dropout: Whether hidden tokens are zero vectors and the others scaled up for it (version 1 only).
        tie_word_embeddings: Whether the decoder's weight is the embedding's.
    """

    version: int = 2
    k: int = 6
    kmer_stride: int = 6
    hidden_size: int = 512
    num_hidden_layers: int = 12
    num_attention_heads: int = 16
    intermediate_size: int = 2048
    max_position_embeddings: int = 2050
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    token_dropout: bool = False
    tie_word_embeddings: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot make a network."""
        check_architecture(self)
        if self.version not in _IDS:
            raise ValueError(f"version: must be 1 or 2, not {self.version}")
        if not 2 <= self.k <= 8:
            raise ValueError(f"k: must be 2..8, not {self.k}")
        if self.kmer_stride not in (1, self.k):
            raise ValueError(f"kmer_stride: must be 1 or k = {self.k}, not {self.kmer_stride}")
        if self.version == 1 and (self.k, self.kmer_stride) != (6, 6):
            raise ValueError("kmer_stride: version 1 has 6-mers side by side only")
        if self.version == 2 and self.token_dropout:
            raise ValueError("token_dropout: version 2 has none")
        if self.max_position_embeddings <= _POSITIONS_BEFORE_TOKENS:
            raise ValueError(f"max_position_embeddings: {self.max_position_embeddings} leaves no room for a token")

    @property
    def ids(self) -> ChunkIds:
        """Layout of the ids of k-mers side by side."""
        return ChunkIds(_IDS[self.version].first_kmer_id, k=self.k)

    @property
    def max_tokens(self) -> int:
        """Longest row of tokens, <cls> included."""
        return self.max_position_embeddings - _POSITIONS_BEFORE_TOKENS


class EsmBackbone(Backbone):
    """Version 1: stock `EsmModel` without the contact head, which is for proteins."""

    def __init__(self, shape: NucleotideTransformerArchitecture) -> None:
        """Build with ESM's random weights."""
        super().__init__()
        from transformers import EsmConfig, EsmModel

        names = (*_SIZES, *_OTHER, "token_dropout")
        values: dict[str, Any] = {name: getattr(shape, name) for name in names} | {"attn_implementation": "sdpa"}
        ids = shape.ids
        config = EsmConfig(
            vocab_size=ids.size, pad_token_id=ids.pad_id, mask_token_id=ids.mask_id, eos_token_id=None,
            position_embedding_type="absolute", emb_layer_norm_before=False, **values,
        )  # fmt: skip
        self.hidden = shape.hidden_size
        self._max_tokens = shape.max_tokens
        self.esm = EsmModel(config, add_pooling_layer=False)
        del self.esm.contact_head

    def forward(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Hidden states; see `Backbone`.

        Raises:
            ValueError: There are more tokens than positions.
        """
        if ids.shape[1] > self._max_tokens:
            raise ValueError(f"{ids.shape[1]} tokens in a row; this network has {self._max_tokens} positions")
        states: Tensor = self.esm(input_ids=ids, attention_mask=attention_mask).last_hidden_state
        return states

    @property
    def embedding(self) -> nn.Embedding:
        """Vectors of the tokens."""
        found: nn.Embedding = self.esm.embeddings.word_embeddings
        return found


def read_config(config: dict[str, Any]) -> Architecture:
    """Architecture of a published `config.json`: version 2 where positions are rotary, else version 1.

    Raises:
        KeyError: A field is missing.
        ValueError: A field asks for what these networks do not do; named.
    """
    require(config, {"position_embedding_type": ("absolute", "rotary")})
    version = 2 if config.get("position_embedding_type") == "rotary" else 1
    ids = _IDS[version]
    require(
        config,
        {
            "model_type": "esm", "pad_token_id": ids.pad_id, "mask_token_id": ids.mask_id,
            "emb_layer_norm_before": (False, None), "is_decoder": False, "add_cross_attention": False,
            "is_folding_model": False, "rescaling_factor": None,
        },
    )  # fmt: skip
    if config["vocab_size"] != ids.size:
        raise ValueError(f"vocab_size: {config['vocab_size']!r}, but version {version} has {ids.size} ids")
    if version == 1:
        require(config, {"hidden_act": "gelu", "add_bias_fnn": True})
    else:
        # The published code gates with SiLU whatever hidden_act says; without add_bias_fnn it adds biases.
        require(config, {"hidden_act": ("silu", "swish", "gelu"), "add_bias_fnn": (True, False)})
        if config.get("add_bias_fnn", True):
            raise ValueError("add_bias_fnn: True is not supported, only False")
    optional = (*_OTHER, "token_dropout", "tie_word_embeddings")
    values = {"tie_word_embeddings": True, **pick(config, _SIZES, optional)}
    return asdict(NucleotideTransformerArchitecture(version=version, **values))


def build(architecture: Architecture) -> LanguageModel:
    """Network with random weights."""
    shape = NucleotideTransformerArchitecture(**architecture)
    backbone = EsmBackbone(shape) if shape.version == 1 else _rotary_backbone(shape)
    head = MaskedHead(
        shape.hidden_size, backbone.embedding.num_embeddings, eps=shape.layer_norm_eps, std=shape.initializer_range,
        tied_to=backbone.embedding if shape.tie_word_embeddings else None,
    )  # fmt: skip
    return LanguageModel(backbone, head)


def _rotary_backbone(shape: NucleotideTransformerArchitecture) -> RotaryBackbone:
    backbone = RotaryBackbone(
        _tokenizer(shape).vocabulary_size, hidden=shape.hidden_size, layers=shape.num_hidden_layers,
        heads=shape.num_attention_heads, intermediate=shape.intermediate_size, pad_id=shape.ids.pad_id,
        eps=shape.layer_norm_eps, hidden_dropout=shape.hidden_dropout_prob,
        attention_dropout=shape.attention_probs_dropout_prob,
    )  # fmt: skip
    initialise(backbone, shape.initializer_range)
    return backbone


def tokenizer(architecture: Architecture, folder: Path | None) -> RowTokenizer:
    """<cls> and k-mers, with the ids of a vocabulary file of the model's directory; without one, the published ids.

    Raises:
        InputError: The vocabulary file is not one of these tokens, or pads version 1 with another id than its positions allow.
    """
    shape = NucleotideTransformerArchitecture(**architecture)
    found = _tokenizer(shape)
    found = in_file_order(found, folder) if isinstance(found, KmerChunks) else in_file_order(found, folder)
    if shape.version == 1 and found.pad_id != shape.ids.pad_id:
        raise InputError(
            f"{folder}: the vocabulary gives <pad> the id {found.pad_id}, but the positions of version 1 count from id "
            f"{shape.ids.pad_id}"
        )
    return found


def _tokenizer(shape: NucleotideTransformerArchitecture) -> KmerChunks | KmerRows:
    ids = shape.ids
    if shape.kmer_stride == shape.k:
        return KmerChunks(ids, shape.max_tokens)
    vocabulary = KmerVocabulary(shape.k, first_kmer_id=ids.first_kmer_id, ambiguous_id=ids.unknown_id, lower_case=False)
    return KmerRows(
        vocabulary, cls_id=ids.prefix_id, sep_id=None, pad_id=ids.pad_id, mask_id=ids.mask_id, max_tokens=shape.max_tokens,
        special=ids.special,
    )  # fmt: skip


_HEAD_NAMES = [
    (r"lm_head\.(dense\.(?:weight|bias)|bias)", r"lm_head.\1"),
    (r"lm_head\.layer_norm\.(weight|bias)", r"lm_head.norm.\1"),
    (r"classifier\.dense\.(weight|bias)", r"window_head.dense.\1"),
    (r"classifier\.out_proj\.(weight|bias)", r"window_head.out.\1"),
]
_V1_NAMES = [(r"(esm\.(?:embeddings|encoder)\..*(?:weight|bias))", r"backbone.\1")]
_V2_NAMES = [
    (r"esm\.embeddings\.word_embeddings\.weight", "backbone.embedding.weight"),
    (r"esm\.encoder\.emb_layer_norm_after\.(weight|bias)", r"backbone.norm.\1"),
    *(
        (rf"esm\.encoder\.layer\.(\d+)\.{published}\.(weight|bias)", rf"backbone.blocks.\1.{ours}.\2")
        for published, ours in (
            (r"attention\.LayerNorm", "attention_norm"),
            (r"attention\.self\.query", "query"),
            (r"attention\.self\.key", "key"),
            (r"attention\.self\.value", "value"),
            (r"attention\.output\.dense", "dense"),
            (r"LayerNorm", "feed_forward_norm"),
            (r"intermediate\.dense", "gated"),
            (r"output\.dense", "down"),
        )
    ),
]
_IGNORED = [
    r"esm\.embeddings\.position_ids",
    r"esm\.contact_head\.regression\.(weight|bias)",
    r"esm\.(encoder\.layer\.\d+\.attention\.self\.)?rotary_embeddings\.inv_freq",
]


def translate(state: dict[str, Tensor], architecture: Architecture) -> Published:
    """Tensors under this program's names; the unused position table of version 2 and the contact head are ignored."""
    shape = NucleotideTransformerArchitecture(**architecture)
    embedding, ignored = "backbone.esm.embeddings.word_embeddings.weight", _IGNORED
    names = _HEAD_NAMES + _V1_NAMES
    if shape.version == 2:
        embedding, ignored = "backbone.embedding.weight", [*_IGNORED, r"esm\.embeddings\.position_embeddings\.weight"]
        names = _HEAD_NAMES + _V2_NAMES
    decoder = embedding if shape.tie_word_embeddings else "lm_head.decoder.weight"
    with torch.device("meta"):
        network = build(architecture)
    return sort_tensors(state, network, [(r"lm_head\.decoder\.weight", decoder), *names], ignored)


def _size(**values: Any) -> Architecture:
    return asdict(NucleotideTransformerArchitecture(**values))


def _v2(hidden: int, layers: int, heads: int, intermediate: int) -> Architecture:
    return _size(hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=intermediate)


def _v1(hidden: int, layers: int, heads: int, intermediate: int) -> Architecture:
    shape = _v2(hidden, layers, heads, intermediate)
    return _size(**(shape | {"version": 1, "max_position_embeddings": 1002, "tie_word_embeddings": True}))


FAMILY = ModelFamily(
    name="nucleotide-transformer",
    title="Nucleotide Transformer",
    licence="CC-BY-NC-SA-4.0, no commercial use",
    causal=False,
    dense_window_head=True,
    lora_targets=("query", "key", "value", "dense"),
    objective="tokens",
    read_config=read_config,
    sizes={
        "tiny": _v2(64, 2, 4, 128),
        "small": _v2(192, 4, 6, 512),
        "base": _v2(512, 12, 16, 2048),
        "v2-100m": _v2(512, 22, 16, 2048),
        "v2-250m": _v2(768, 24, 16, 3072),
        "v2-500m": _v2(1024, 29, 16, 4096),
        "v1-tiny": _v1(64, 2, 4, 128),
        "v1-500m": _v1(1280, 24, 20, 5120),
        "v1-2500m": _v1(2560, 32, 20, 10240),
    },
    build=build,
    tokenizer=tokenizer,
    translate=translate,
)
