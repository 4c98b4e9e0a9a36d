"""Nucleotide Transformer against stock ESM (version 1) and a plain NumPy restatement (version 2)."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import EsmConfig, EsmForMaskedLM, EsmForSequenceClassification, EsmForTokenClassification, EsmTokenizer

from annotator.models.families.nucleotide_transformer import FAMILY
from annotator.tokens.batch import TokenBatch
from annotator.tokens.kmer_rows import KmerRows
from tests.support.stock_models import language_model, random_rows, shaken, translated, window_model

V1, V2 = FAMILY.sizes["v1-tiny"], FAMILY.sizes["tiny"]
TIED = [True, False]
LENGTHS = [20, 7, 1, 20]
V1_CONFIG = {
    "architectures": ["EsmForMaskedLM"], "attention_probs_dropout_prob": 0.0, "emb_layer_norm_before": False,
    "esmfold_config": None, "hidden_dropout_prob": 0.0, "hidden_size": 1280, "initializer_range": 0.02,
    "intermediate_size": 5120, "is_folding_model": False, "layer_norm_eps": 1e-12, "mask_token_id": 2,
    "max_position_embeddings": 1002, "model_type": "esm", "num_attention_heads": 20, "num_hidden_layers": 24,
    "pad_token_id": 1, "position_embedding_type": "absolute", "token_dropout": False, "use_cache": False, "vocab_list": None,
    "vocab_size": 4105,
}  # fmt: skip
V2_CONFIG = V1_CONFIG | {
    "hidden_size": 512, "intermediate_size": 2048, "max_position_embeddings": 2050, "num_attention_heads": 16,
    "num_hidden_layers": 12, "position_embedding_type": "rotary", "vocab_size": 4107, "add_bias_fnn": False,
    "tie_word_embeddings": False,
}  # fmt: skip


def stock_config(architecture: dict[str, Any], **more: Any) -> EsmConfig:
    ours = ("version", "k", "kmer_stride")
    values = {name: value for name, value in architecture.items() if name not in ours}
    return EsmConfig(vocab_size=4105, pad_token_id=1, mask_token_id=2, eos_token_id=None, **(values | more))


def batch_of(ids: torch.Tensor, mask: torch.Tensor) -> TokenBatch:
    nothing = torch.zeros(0, dtype=torch.int64)
    return TokenBatch(ids, mask, nothing, nothing, 0)


def parameters(size: str) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in FAMILY.build(FAMILY.sizes[size]).parameters())


def test_parameter_counts_are_the_published_ones() -> None:
    contact_head = 24 * 20 + 1  # the published count of version 1 has one, this network has none
    assert parameters("v1-500m") + contact_head == 480_444_906
    assert parameters("v1-2500m") // 1_000_000 == 2537
    assert parameters("base") == 54_855_179
    assert [round(parameters(size) / 1e6) for size in ("v2-100m", "v2-250m", "v2-500m")] == [97, 234, 496]


def test_version_1_counts_as_the_stock_class_does_with_the_decoder_tied_or_not() -> None:
    for tied, millions in ((True, "480.4"), (False, "485.7")):
        with torch.device("meta"):
            stock = EsmForMaskedLM(stock_config(FAMILY.sizes["v1-500m"], tie_word_embeddings=tied))
            ours = FAMILY.build(FAMILY.sizes["v1-500m"] | {"tie_word_embeddings": tied})
        count = sum(p.numel() for p in stock.parameters())
        assert f"{count / 1e6:.1f}" == millions
        assert sum(p.numel() for p in ours.parameters()) == count - (24 * 20 + 1)


def test_published_configurations() -> None:
    assert FAMILY.read_config(V1_CONFIG) == FAMILY.sizes["v1-500m"]
    assert FAMILY.read_config(V2_CONFIG) == FAMILY.sizes["base"]
    assert FAMILY.tokenizer(FAMILY.sizes["v1-500m"], None).max_tokens == 1000
    assert FAMILY.tokenizer(FAMILY.sizes["base"], None).max_tokens == 2048
    json.dumps(FAMILY.sizes)


@pytest.mark.parametrize(
    ("config", "field", "value"),
    [
        (V1_CONFIG, "hidden_act", "relu"), (V1_CONFIG, "emb_layer_norm_before", True), (V1_CONFIG, "is_decoder", True),
        (V1_CONFIG, "add_cross_attention", True), (V1_CONFIG, "is_folding_model", True), (V1_CONFIG, "pad_token_id", 0),
        (V1_CONFIG, "mask_token_id", 32), (V1_CONFIG, "vocab_size", 4107), (V1_CONFIG, "vocab_size", 33),
        (V1_CONFIG, "position_embedding_type", "relative_key"), (V1_CONFIG, "model_type", "bert"),
        (V1_CONFIG, "add_bias_fnn", False), (V1_CONFIG, "max_position_embeddings", 2), (V1_CONFIG, "token_dropout", 1),
        (V2_CONFIG, "add_bias_fnn", True), (V2_CONFIG, "vocab_size", 4105), (V2_CONFIG, "rescaling_factor", 2.5),
        (V2_CONFIG, "hidden_act", "relu"), (V2_CONFIG, "token_dropout", True), (V2_CONFIG, "hidden_size", 500),
        (V2_CONFIG, "tie_word_embeddings", "no"),
    ],
)  # fmt: skip
def test_what_the_networks_cannot_do_is_refused_by_name(config: dict[str, Any], field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        FAMILY.read_config(config | {field: value})


def test_absent_fields() -> None:
    without_bias = {name: value for name, value in V2_CONFIG.items() if name != "add_bias_fnn"}
    with pytest.raises(ValueError, match="^add_bias_fnn: "):  # the published code's default is True
        FAMILY.read_config(without_bias)
    with pytest.raises(KeyError, match="num_hidden_layers"):
        FAMILY.read_config({name: value for name, value in V1_CONFIG.items() if name != "num_hidden_layers"})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"version": 3}, "^version: "), ({"k": 9, "kmer_stride": 9}, "^k: "), ({"kmer_stride": 2}, "^kmer_stride: "),
        ({"version": 1, "kmer_stride": 1}, "^kmer_stride: "), ({"hidden_size": 60, "num_attention_heads": 4}, "^hidden_size: "),
    ],
)  # fmt: skip
def test_impossible_architectures_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FAMILY.build(V2 | values)


# Version 1 against the stock class


@pytest.mark.parametrize("lengths", [[20, 20], LENGTHS], ids=["full", "padded"])
@pytest.mark.parametrize("tied", TIED, ids=["tied", "untied"])
@pytest.mark.parametrize("token_dropout", [False, True])
def test_v1_masked_logits_equal_the_stock_class(lengths: list[int], tied: bool, token_dropout: bool) -> None:
    architecture = V1 | {"tie_word_embeddings": tied, "token_dropout": token_dropout}
    stock = shaken(EsmForMaskedLM(stock_config(architecture)))
    network = language_model(FAMILY, architecture, stock.state_dict())
    ids, mask = random_rows(4105, lengths, pad_id=1)
    ids[:, 3:5] = torch.where(mask[:, 3:5], 2, ids[:, 3:5])
    with torch.no_grad():
        expected = stock(input_ids=ids, attention_mask=mask.long()).logits
        found = network(ids, mask)
    assert expected[mask].std() > 0.5
    assert torch.allclose(found[mask], expected[mask], rtol=0, atol=1e-5)


@pytest.mark.parametrize("lengths", [[20, 20], LENGTHS], ids=["full", "padded"])
def test_v1_class_logits_equal_the_stock_class(lengths: list[int]) -> None:
    stock = shaken(EsmForSequenceClassification(stock_config(V1, num_labels=3)))
    model = window_model(FAMILY, V1, stock.state_dict(), classes=3)
    ids, mask = random_rows(4105, lengths, pad_id=1)
    with torch.no_grad():
        expected = stock(input_ids=ids, attention_mask=mask.long()).logits
        found = model.window_logits(batch_of(ids, mask))
    assert expected.std() > 0.1
    assert torch.allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("tied", TIED, ids=["tied", "untied"])
def test_a_saved_stock_model_loads(tmp_path: Path, tied: bool) -> None:
    stock = shaken(EsmForMaskedLM(stock_config(V1, tie_word_embeddings=tied)))
    stock.save_pretrained(tmp_path)
    architecture = FAMILY.read_config(json.loads((tmp_path / "config.json").read_text()))
    assert architecture == V1 | {"tie_word_embeddings": tied}
    state = load_file(tmp_path / "model.safetensors")
    assert "esm.encoder.layer.0.attention.LayerNorm.gamma" in state  # what transformers 5.23 calls the weight in ESM's files
    network = language_model(FAMILY, architecture, state)
    ids, mask = random_rows(4105, LENGTHS, pad_id=1)
    with torch.no_grad():
        expected = stock(input_ids=ids, attention_mask=mask.long()).logits
        assert torch.allclose(network(ids, mask)[mask], expected[mask], rtol=0, atol=1e-5)


def test_v1_ignores_the_contact_head_and_nothing_else() -> None:
    state = dict(EsmForMaskedLM(stock_config(V1)).state_dict())
    state["esm.embeddings.position_ids"] = torch.arange(1002)[None]
    assert translated(FAMILY, V1, state).ignored == (
        "esm.contact_head.regression.bias", "esm.contact_head.regression.weight", "esm.embeddings.position_ids",
        "lm_head.decoder.weight",
    )  # fmt: skip
    for name in ("esm.pooler.dense.weight", "esm.encoder.layer.0.attention.self.bias", "lm_head.other"):
        assert FAMILY.translate(state | {name: torch.zeros(64, 64)}, V1).unexpected == (name,)
    untied = state | {"lm_head.decoder.weight": torch.ones(4105, 64)}
    assert FAMILY.translate(untied, V1).unexpected == ("lm_head.decoder.weight",)
    of_tokens = EsmForTokenClassification(stock_config(V1)).state_dict()
    assert FAMILY.translate(of_tokens, V1).unexpected == ("classifier.bias", "classifier.weight")


def test_v1_refuses_more_tokens_than_positions() -> None:
    network = FAMILY.build(V1 | {"max_position_embeddings": 12}).eval()
    ids, mask = random_rows(4105, [11], pad_id=1)
    assert network(ids[:, :10], mask[:, :10]).shape == (1, 10, 4105)
    with pytest.raises(ValueError, match="11 tokens in a row; this network has 10 positions"):
        network(ids, mask)


# Version 2 against a restatement: float64, one row, one head and one position at a time


def published_v2(hidden: int, layers: int, intermediate: int, device: str = "cpu") -> dict[str, torch.Tensor]:
    """A published state dict: names and shapes of the checkpoint, the tensors that nothing uses among them."""
    shapes: dict[str, tuple[int, ...]] = {
        "esm.embeddings.word_embeddings.weight": (4107, hidden),
        "esm.embeddings.position_embeddings.weight": (2050, hidden),
        "esm.encoder.emb_layer_norm_after.weight": (hidden,),
        "esm.encoder.emb_layer_norm_after.bias": (hidden,),
        "esm.contact_head.regression.weight": (1, layers * 16),
        "esm.contact_head.regression.bias": (1,),
        "lm_head.dense.weight": (hidden, hidden),
        "lm_head.dense.bias": (hidden,),
        "lm_head.layer_norm.weight": (hidden,),
        "lm_head.layer_norm.bias": (hidden,),
        "lm_head.decoder.weight": (4107, hidden),
        "lm_head.bias": (4107,),
    }
    for layer in range(layers):
        start = f"esm.encoder.layer.{layer}."
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes |= {f"{start}{part}.weight": (hidden, hidden), f"{start}{part}.bias": (hidden,)}
        for part in ("attention.LayerNorm", "LayerNorm"):
            shapes |= {f"{start}{part}.weight": (hidden,), f"{start}{part}.bias": (hidden,)}
        shapes[f"{start}intermediate.dense.weight"] = (2 * intermediate, hidden)
        shapes[f"{start}output.dense.weight"] = (hidden, intermediate)
    generator = torch.Generator().manual_seed(7)
    if device == "meta":
        return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    return {name: 0.15 * torch.randn(shape, generator=generator) + ("orm" in name) for name, shape in shapes.items()}


Matrix = NDArray[np.float64]


def restated_v2(state: dict[str, torch.Tensor], ids: list[int], layers: int, heads: int) -> Matrix:
    """Logits [T, 4107] of one row without padding."""
    weights = {name: tensor.double().numpy() for name, tensor in state.items()}

    def linear(name: str, x: Matrix) -> Matrix:
        return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0.0)

    def norm(name: str, x: Matrix) -> Matrix:
        centred = x - x.mean(1, keepdims=True)
        scale = np.sqrt((centred**2).mean(1, keepdims=True) + 1e-12)
        return centred / scale * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def turned(x: Matrix) -> Matrix:
        half = x.shape[1] // 2
        out = np.empty_like(x)
        for position, i in itertools.product(range(len(x)), range(half)):
            pair = complex(x[position, i], x[position, i + half])
            angle = position * 10000.0 ** (-2 * i / x.shape[1])
            pair *= complex(math.cos(angle), math.sin(angle))
            out[position, i], out[position, i + half] = pair.real, pair.imag
        return out

    x = weights["esm.embeddings.word_embeddings.weight"][ids]
    width = x.shape[1] // heads
    for layer in range(layers):
        start = f"esm.encoder.layer.{layer}."
        normed = norm(start + "attention.LayerNorm", x)
        query, key, value = (linear(f"{start}attention.self.{part}", normed) for part in ("query", "key", "value"))
        mixed = np.empty_like(x)
        for head in range(heads):
            at = slice(head * width, (head + 1) * width)
            scores = turned(query[:, at]) @ turned(key[:, at]).T / math.sqrt(width)
            shares = np.exp(scores - scores.max(1, keepdims=True))
            mixed[:, at] = shares / shares.sum(1, keepdims=True) @ value[:, at]
        x = x + linear(start + "attention.output.dense", mixed)
        gate, up = np.split(linear(start + "intermediate.dense", norm(start + "LayerNorm", x)), 2, axis=1)
        x = x + linear(start + "output.dense", gate / (1 + np.exp(-gate)) * up)
    x = linear("lm_head.dense", norm("esm.encoder.emb_layer_norm_after", x))
    x = x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    logits: Matrix = norm("lm_head.layer_norm", x) @ weights["lm_head.decoder.weight"].T + weights["lm_head.bias"]
    return logits


@pytest.mark.parametrize("lengths", [[20, 20], LENGTHS], ids=["full", "padded"])
def test_v2_logits_equal_the_restatement(lengths: list[int]) -> None:
    state = published_v2(64, 2, 128)
    network = language_model(FAMILY, V2, state)
    ids, mask = random_rows(4107, lengths, pad_id=1)
    with torch.no_grad():
        found = network(ids, mask)
        exact = network.double()(ids, mask)
    for row, length in enumerate(lengths):
        expected = torch.from_numpy(restated_v2(state, ids[row, :length].tolist(), layers=2, heads=4))
        assert expected.std() > 0.5
        assert torch.allclose(found[row, :length].double(), expected, rtol=0, atol=1e-5)
        assert torch.allclose(exact[row, :length], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", [V1, V2], ids=["v1", "v2"])
def test_padding_has_no_influence(architecture: dict[str, Any]) -> None:
    network = shaken(FAMILY.build(architecture))
    ids, mask = random_rows(4105, LENGTHS, pad_id=1)
    with torch.no_grad():
        together = network(ids, mask)
        for row, length in enumerate(LENGTHS):
            alone = network(ids[row : row + 1, :length], mask[row : row + 1, :length])
            assert torch.allclose(together[row, :length], alone[0], rtol=0, atol=1e-5)


def test_v2_ignores_what_the_published_file_holds_besides_and_nothing_else() -> None:
    state = published_v2(512, 12, 2048, "meta")
    assert sum(tensor.numel() for tensor in state.values()) == 55_904_972
    rotary = "esm.encoder.layer.3.attention.self.rotary_embeddings.inv_freq"
    state |= {rotary: torch.zeros(16), "esm.embeddings.position_ids": torch.zeros(1, 2050)}
    published = translated(FAMILY, FAMILY.sizes["base"], state)
    assert published.ignored == (
        "esm.contact_head.regression.bias", "esm.contact_head.regression.weight",
        "esm.embeddings.position_embeddings.weight", "esm.embeddings.position_ids", rotary,
    )  # fmt: skip
    assert sum(tensor.numel() for part in (published.backbone, published.lm_head) for tensor in part.values()) == 54_855_179
    for name in (
        "esm.encoder.layer.12.output.dense.weight", "esm.encoder.layer.0.intermediate.dense.bias", "esm.pooler.dense.bias",
        "lm_head.decoder.bias", "transformer.x",
    ):  # fmt: skip
        assert FAMILY.translate(state | {name: torch.zeros(1)}, FAMILY.sizes["base"]).unexpected == (name,)


def test_v2_classifier_tensors_go_to_the_window_head() -> None:
    state = {name: tensor for name, tensor in published_v2(64, 2, 128).items() if not name.startswith("lm_head")}
    generator = torch.Generator().manual_seed(1)
    for part, outputs in (("dense", 64), ("out_proj", 3)):
        state[f"classifier.{part}.weight"] = torch.randn((outputs, 64), generator=generator)
        state[f"classifier.{part}.bias"] = torch.randn(outputs, generator=generator)
    model = window_model(FAMILY, V2, state, classes=3)
    ids, mask = random_rows(4107, LENGTHS, pad_id=1)
    with torch.no_grad():
        first = model.backbone(ids, mask)[:, 0]
        dense = torch.tanh(first @ state["classifier.dense.weight"].T + state["classifier.dense.bias"])
        expected = dense @ state["classifier.out_proj.weight"].T + state["classifier.out_proj.bias"]
        assert torch.allclose(model.window_logits(batch_of(ids, mask)), expected, rtol=0, atol=1e-5)


def test_v2_trains_after_a_first_call_under_inference_mode() -> None:
    network = FAMILY.build(V2)
    ids, mask = random_rows(4107, LENGTHS, pad_id=1)
    with torch.inference_mode():
        network(ids, mask)
    network(ids, mask)[mask].logsumexp(-1).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_v2_dropout_acts_in_training_only() -> None:
    network = FAMILY.build(V2 | {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.3})
    ids, mask = random_rows(4107, LENGTHS, pad_id=1)
    with torch.no_grad():
        assert not torch.equal(network.train()(ids, mask), network(ids, mask))
        assert torch.equal(network.eval()(ids, mask), network(ids, mask))


def test_v2_takes_longer_rows_than_it_was_trained_with() -> None:
    network = FAMILY.build(V2 | {"max_position_embeddings": 12}).eval()
    ids, mask = random_rows(4107, [40], pad_id=1)
    assert network(ids, mask).shape == (1, 40, 4107)


def test_a_network_built_without_data_takes_its_weights(tmp_path: Path) -> None:
    network = shaken(FAMILY.build(V2 | {"tie_word_embeddings": True}))
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    with torch.device("meta"):
        empty = FAMILY.build(V2 | {"tie_word_embeddings": True}).eval()
    empty.load_state_dict(load_file(tmp_path / "model.safetensors"), assign=True)
    ids, mask = random_rows(4107, LENGTHS, pad_id=1)
    with torch.no_grad():
        assert torch.equal(empty(ids, mask), network(ids, mask))


@pytest.mark.parametrize("architecture", [V1, V2], ids=["v1", "v2"])
def test_lora_targets_are_linear_layers_of_the_network(architecture: dict[str, Any]) -> None:
    kinds = {name.rpartition(".")[2]: type(module) for name, module in FAMILY.build(architecture).backbone.named_modules()}
    assert {kinds[target] for target in FAMILY.lora_targets} == {torch.nn.Linear}


@pytest.mark.parametrize("k", [3, 6])
def test_v2_with_overlapping_kmers(k: int) -> None:
    architecture = V2 | {"k": k, "kmer_stride": 1}
    tokenizer = FAMILY.tokenizer(architecture, None)
    assert isinstance(tokenizer, KmerRows)
    assert (tokenizer.vocabulary_size, tokenizer.pad_id, tokenizer.mask_id, tokenizer.max_tokens) == (6 + 4**k, 1, 2, 2048)
    batch = tokenizer.encode(torch.tensor([list(b"AAAAAAANGGGGGGG")], dtype=torch.uint8))
    assert batch.ids[0, [0, 1, -1]].tolist() == [3, 6, 5 + 4**k]
    assert (batch.ids[0] == 0).sum() == k
    assert FAMILY.build(architecture)(batch.ids, batch.attention_mask).shape == (1, 17 - k, 6 + 4**k)


@pytest.fixture(scope="module")
def esm_tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[int, EsmTokenizer]:
    found = {}
    for version, after_cls in ((1, []), (2, ["<eos>", "<bos>"])):
        path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
        mers = ["".join(letters) for letters in itertools.product("ATCG", repeat=6)]
        path.write_text("\n".join(["<unk>", "<pad>", "<mask>", "<cls>", *after_cls, *mers, *"ATCGN"]))
        found[version] = EsmTokenizer(str(path), eos_token=None)
    return found


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from([1, 2]),
    st.text("ACGT", max_size=60) | st.text("ACGTACGTACGTN", max_size=60) | st.text("ACGTNRYa", max_size=60),
)
def test_ids_equal_the_stock_tokenizer(esm_tokenizers: dict[int, EsmTokenizer], version: int, text: str) -> None:
    ours = FAMILY.tokenizer(V1 if version == 1 else V2, None)
    row = torch.tensor(list(text.encode()), dtype=torch.uint8)[None]
    assert ours.encode(row).ids[0].tolist() == esm_tokenizers[version](text)["input_ids"]
