"""DNABERT against transformers' stock BERT: tokens, parameter counts, logits, and published state dicts."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, BertForTokenClassification, BertTokenizer

from annotator.models.families.dnabert import FAMILY
from annotator.tokens.batch import TokenBatch
from tests.support.stock_models import language_model, random_rows, shaken, translated, window_model

TINY = FAMILY.sizes["tiny"]
PUBLISHED_CONFIG = {
    "architectures": ["BertForMaskedLM"], "attention_probs_dropout_prob": 0.1, "do_sample": False, "eos_token_ids": None,
    "finetuning_task": None, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768, "id2label": {"0": "LABEL_0"},
    "initializer_range": 0.02, "intermediate_size": 3072, "is_decoder": False, "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512, "model_type": "bert", "num_attention_heads": 12, "num_hidden_layers": 12,
    "num_labels": 2, "num_rnn_layer": 1, "pruned_heads": {}, "rnn": "lstm", "split": 10, "torchscript": False,
    "type_vocab_size": 2, "vocab_size": 4101,
}  # fmt: skip
LENGTHS = [20, 7, 1, 20]


def stock_config(architecture: dict[str, Any], **more: Any) -> BertConfig:
    values = {name: value for name, value in architecture.items() if name != "k"}
    return BertConfig(vocab_size=4 ** architecture["k"] + 5, pad_token_id=0, **values, **more)


def batch_of(ids: torch.Tensor, mask: torch.Tensor) -> TokenBatch:
    nothing = torch.zeros(0, dtype=torch.int64)
    return TokenBatch(ids, mask, nothing, nothing, 0)


@pytest.mark.parametrize(("k", "parameters"), [(3, 86_095_941), (6, 89_196_549)])
def test_parameter_counts_are_the_published_ones(k: int, parameters: int) -> None:
    with torch.device("meta"):
        network = FAMILY.build(FAMILY.sizes["base"] | {"k": k})
        stock = BertForMaskedLM(stock_config(FAMILY.sizes["base"] | {"k": k}))
    assert sum(p.numel() for p in network.parameters()) == sum(p.numel() for p in stock.parameters()) == parameters


def test_published_configuration_is_the_base_size() -> None:
    assert FAMILY.read_config(PUBLISHED_CONFIG) == FAMILY.sizes["base"]
    assert [FAMILY.read_config(PUBLISHED_CONFIG | {"vocab_size": 4**k + 5})["k"] for k in (3, 4, 5, 6)] == [3, 4, 5, 6]
    json.dumps(FAMILY.sizes)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_act", "relu"), ("position_embedding_type", "relative_key"), ("is_decoder", True), ("add_cross_attention", True),
        ("tie_word_embeddings", False), ("pad_token_id", 3), ("pruned_heads", {"0": [1]}), ("vocab_size", 30522),
        ("model_type", "esm"), ("hidden_size", 770), ("hidden_size", "768"), ("num_hidden_layers", 0),
        ("num_hidden_layers", True), ("hidden_dropout_prob", 1.0), ("layer_norm_eps", float("nan")),
    ],
)  # fmt: skip
def test_what_the_network_cannot_do_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        FAMILY.read_config(PUBLISHED_CONFIG | {field: value})


@pytest.mark.parametrize("field", ["vocab_size", "hidden_size", "max_position_embeddings"])
def test_a_missing_field_is_named(field: str) -> None:
    with pytest.raises(KeyError, match=field):
        FAMILY.read_config({name: value for name, value in PUBLISHED_CONFIG.items() if name != field})


def test_unknown_fields_of_an_architecture_are_refused() -> None:
    with pytest.raises(TypeError, match="attn_implementation"):
        FAMILY.build(TINY | {"attn_implementation": "eager"})


@pytest.mark.parametrize("lengths", [[20, 20], LENGTHS], ids=["full", "padded"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_masked_logits_equal_the_stock_class(lengths: list[int], attention: str) -> None:
    stock = shaken(BertForMaskedLM(stock_config(TINY, attn_implementation=attention)))
    network = language_model(FAMILY, TINY, stock.state_dict())
    ids, mask = random_rows(4101, lengths, pad_id=0)
    with torch.no_grad():
        expected = stock(input_ids=ids, attention_mask=mask.long()).logits
        found = network(ids, mask)
    assert expected[mask].std() > 0.5
    assert torch.allclose(found[mask], expected[mask], rtol=0, atol=1e-5)


@pytest.mark.parametrize("lengths", [[20, 20], LENGTHS], ids=["full", "padded"])
def test_class_logits_equal_the_stock_class(lengths: list[int]) -> None:
    stock = shaken(BertForSequenceClassification(stock_config(TINY, num_labels=3)))
    model = window_model(FAMILY, TINY, stock.state_dict(), classes=3)
    ids, mask = random_rows(4101, lengths, pad_id=0)
    with torch.no_grad():
        expected = stock(input_ids=ids, attention_mask=mask.long()).logits
        found = model.window_logits(batch_of(ids, mask))
    assert expected.std() > 0.1
    assert torch.allclose(found, expected, rtol=0, atol=1e-5)


def test_padding_has_no_influence() -> None:
    network = shaken(FAMILY.build(TINY))
    ids, mask = random_rows(4101, LENGTHS, pad_id=0)
    with torch.no_grad():
        together = network(ids, mask)
        for row, length in enumerate(LENGTHS):
            alone = network(ids[row : row + 1, :length], mask[row : row + 1, :length])
            assert torch.allclose(together[row, :length], alone[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("stock_class", [BertForMaskedLM, BertForSequenceClassification])
def test_a_saved_stock_model_loads(tmp_path: Path, stock_class: type[BertForMaskedLM]) -> None:
    stock = shaken(stock_class(stock_config(TINY, num_labels=3)))
    stock.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    architecture = FAMILY.read_config(json.loads((tmp_path / "config.json").read_text()))
    assert architecture == TINY
    ids, mask = random_rows(4101, LENGTHS, pad_id=0)
    with torch.no_grad():
        expected = stock(input_ids=ids, attention_mask=mask.long()).logits
        if stock_class is BertForMaskedLM:
            found, expected = language_model(FAMILY, architecture, state)(ids, mask)[mask], expected[mask]
        else:
            found = window_model(FAMILY, architecture, state, classes=3).window_logits(batch_of(ids, mask))
    assert torch.allclose(found, expected, rtol=0, atol=1e-5)


def published_state(**more: Any) -> dict[str, torch.Tensor]:
    """A checkpoint as the library of 2020 saved it: position ids, a pooler that nothing has trained, and both tied copies."""
    state = dict(BertForMaskedLM(stock_config(TINY)).state_dict())
    state["bert.embeddings.position_ids"] = torch.arange(512)[None]
    state["bert.pooler.dense.weight"], state["bert.pooler.dense.bias"] = torch.zeros(64, 64), torch.zeros(64)
    return state | more


def test_what_old_files_hold_besides_is_ignored() -> None:
    state = published_state()
    assert {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"} <= state.keys()
    published = translated(FAMILY, TINY, state)
    assert published.ignored == (
        "bert.embeddings.position_ids", "bert.pooler.dense.bias", "bert.pooler.dense.weight", "cls.predictions.decoder.bias",
        "cls.predictions.decoder.weight",
    )  # fmt: skip
    assert published.window_head == {}
    network = FAMILY.build(TINY)
    assert published.backbone.keys() == network.backbone.state_dict().keys()
    assert published.lm_head.keys() == network.lm_head.state_dict().keys()


def test_norms_under_their_old_names_are_read() -> None:
    state = published_state()
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): name for name in state
    }
    found, expected = (translated(FAMILY, TINY, names) for names in ({name: state[old[name]] for name in old}, state))
    assert sum(name.endswith(("gamma", "beta")) for name in old) == 12
    assert {name: tensor.data_ptr() for name, tensor in found.backbone.items()} == {
        name: tensor.data_ptr() for name, tensor in expected.backbone.items()
    }
    assert found.lm_head.keys() == expected.lm_head.keys()


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("cls.predictions.decoder.weight", torch.ones(4101, 64)),
        ("cls.predictions.decoder.bias", torch.ones(4101)),
        ("bert.encoder.layer.2.output.dense.bias", torch.zeros(64)),
        ("bert.encoder.layer.0.crossattention.self.query.weight", torch.zeros(64, 64)),
        ("cls.seq_relationship.weight", torch.zeros(2, 64)),
        ("something", torch.zeros(1)),
    ],
)
def test_everything_else_is_unexpected(name: str, tensor: torch.Tensor) -> None:
    assert FAMILY.translate(published_state(**{name: tensor}), TINY).unexpected == (name,)


def test_a_classifier_of_single_tokens_is_unexpected() -> None:
    state = BertForTokenClassification(stock_config(TINY, num_labels=3)).state_dict()
    published = FAMILY.translate(state, TINY)
    assert published.unexpected == ("classifier.bias", "classifier.weight")
    assert published.window_head == {}


def test_the_tied_weight_is_saved_once_and_survives_copies_and_assignment(tmp_path: Path) -> None:
    network = shaken(FAMILY.build(TINY))
    save_file(network.state_dict(), tmp_path / "model.safetensors")  # refuses shared memory
    ids, mask = random_rows(4101, [9], pad_id=0)
    assigned = shaken(FAMILY.build(TINY), seed=5)
    assigned.load_state_dict(load_file(tmp_path / "model.safetensors"), assign=True)
    copied = copy.deepcopy(network)
    with torch.no_grad():
        expected = network(ids, mask)
        assert torch.equal(copied(ids, mask), expected)
        assert torch.equal(assigned(ids, mask), expected)
        copied.backbone.bert.embeddings.word_embeddings.weight.mul_(2)
        assert not torch.equal(copied(ids, mask), expected)
        assert torch.equal(network(ids, mask), expected)


def test_the_same_seed_gives_the_same_weights() -> None:
    networks = []
    for _ in range(2):
        torch.manual_seed(3)
        networks.append(FAMILY.build(TINY).state_dict())
    assert all(torch.equal(tensor, networks[1][name]) for name, tensor in networks[0].items())
    assert abs(networks[0]["lm_head.dense.weight"].std() - 0.02) < 1e-3


def test_lora_targets_are_linear_layers_of_the_network() -> None:
    kinds = {name.rpartition(".")[2]: type(module) for name, module in FAMILY.build(TINY).backbone.named_modules()}
    assert {kinds[target] for target in FAMILY.lora_targets} == {torch.nn.Linear}


def test_513_tokens_are_refused_and_512_are_not() -> None:
    network = FAMILY.build(TINY).eval()
    ids, mask = random_rows(4101, [513], pad_id=0)
    assert network(ids[:, :512], mask[:, :512]).shape == (1, 512, 4101)
    with pytest.raises(ValueError, match="513 tokens in a row; this network has 512 positions"):
        network(ids, mask)


def test_lower_casing_in_the_published_tokenizer_config_does_not_matter(tmp_path: Path) -> None:
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    kmers = ["".join(letters) for letters in itertools.product("ATCG", repeat=6)]
    (tmp_path / "vocab.txt").write_text("\n".join(specials + kmers) + "\n")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True, "max_len": 512}))
    text = "ACGTACGTNACGTTGCA"
    sentence = " ".join(text[i : i + 6] for i in range(len(text) - 5))
    ours = FAMILY.tokenizer(FAMILY.sizes["base"], tmp_path).encode(torch.tensor([list(text.encode())], dtype=torch.uint8))
    trapped = BertTokenizer.from_pretrained(str(tmp_path))(sentence)["input_ids"]
    assert set(trapped[1:-1]) == {1}  # the trap is real
    assert ours.ids[0].tolist() == BertTokenizer.from_pretrained(str(tmp_path), do_lower_case=False)(sentence)["input_ids"]
