"""DNABERT-2's network against a plain restatement of the published one, in float64 NumPy, under the published tensor names."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from annotator.errors import InputError
from annotator.models.checkpoints import read_checkpoint, write_checkpoint
from annotator.models.families.alibi_bert import AlibiBertConfig, alibi_bias, alibi_slopes
from annotator.models.families.base import LanguageModel
from annotator.models.families.dnabert2 import FAMILY
from annotator.tokens.bpe import train_bpe

Array = NDArray[np.float64]
SLOPES_OF_12 = (
    0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625,
    2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5,
)  # fmt: skip
SMALL = FAMILY.read_config(
    {"vocab_size": 30, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 12, "intermediate_size": 40}
)
PUBLISHED_CONFIG = {  # zhihan1996/DNABERT-2-117M, without `model_type` as since 2024
    "alibi_starting_size": 512, "architectures": ["BertForMaskedLM"], "attention_probs_dropout_prob": 0.0,
    "classifier_dropout": None, "gradient_checkpointing": False, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
    "hidden_size": 768, "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512, "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 0,
    "position_embedding_type": "absolute", "torch_dtype": "float32", "type_vocab_size": 2, "use_cache": True, "vocab_size": 4096,
}  # fmt: skip


def published_shapes(c: dict[str, Any], *, lm_head: bool = True, classes: int = 0) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published tensors, written down from the facts."""
    h, v, i = c["hidden_size"], c["vocab_size"], c["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "bert.embeddings.word_embeddings.weight": (v, h),
        "bert.embeddings.token_type_embeddings.weight": (2, h),
    }

    def norm(name: str) -> None:
        shapes.update({f"{name}.weight": (h,), f"{name}.bias": (h,)})

    def linear(name: str, inputs: int, outputs: int, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs)
        if bias:
            shapes[f"{name}.bias"] = (outputs,)

    norm("bert.embeddings.LayerNorm")
    for n in range(c["num_hidden_layers"]):
        layer = f"bert.encoder.layer.{n}"
        linear(f"{layer}.attention.self.Wqkv", h, 3 * h)
        linear(f"{layer}.attention.output.dense", h, h)
        norm(f"{layer}.attention.output.LayerNorm")
        linear(f"{layer}.mlp.gated_layers", h, 2 * i, bias=False)
        linear(f"{layer}.mlp.wo", i, h)
        norm(f"{layer}.mlp.layernorm")
    if lm_head:
        linear("cls.predictions.transform.dense", h, h)
        norm("cls.predictions.transform.LayerNorm")
        linear("cls.predictions.decoder", h, v)
    if classes:
        linear("bert.pooler.dense", h, h)
        linear("classifier", h, classes)
    return shapes


def random_state(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    state = {name: torch.randn(shape, generator=draw) * 0.2 for name, shape in shapes.items()}
    for name in state:
        if name.lower().endswith("layernorm.weight"):
            state[name] += 1
    if "cls.predictions.decoder.weight" in state:
        state["cls.predictions.decoder.weight"] = state["bert.embeddings.word_embeddings.weight"]
    return state


class Restated:
    """One row at a time, head by head, in NumPy."""

    def __init__(self, state: dict[str, Tensor], heads: int) -> None:
        self.state = {name: tensor.double().numpy() for name, tensor in state.items()}
        self.heads = heads

    def linear(self, name: str, x: Array) -> Array:
        y: Array = x @ self.state[f"{name}.weight"].T
        return y + self.state[f"{name}.bias"] if f"{name}.bias" in self.state else y

    def norm(self, name: str, x: Array) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        scaled: Array = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return scaled * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    def hidden(self, ids: list[int]) -> Array:
        types = self.state["bert.embeddings.token_type_embeddings.weight"]
        x = self.norm("bert.embeddings.LayerNorm", self.state["bert.embeddings.word_embeddings.weight"][ids] + types[0])
        for layer in range(SMALL["num_hidden_layers"]):
            x = self.layer(f"bert.encoder.layer.{layer}", x)
        return x

    def layer(self, name: str, x: Array) -> Array:
        tokens, width = x.shape
        size = width // self.heads
        qkv = self.linear(f"{name}.attention.self.Wqkv", x)
        query, key, value = qkv[:, :width], qkv[:, width : 2 * width], qkv[:, 2 * width :]
        away = np.array([[abs(i - j) for j in range(tokens)] for i in range(tokens)])
        mixed = np.empty_like(x)
        for head in range(self.heads):
            part = slice(head * size, (head + 1) * size)
            scores = query[:, part] @ key[:, part].T / math.sqrt(size) - SLOPES_OF_12[head] * away
            weights = np.exp(scores - scores.max(1, keepdims=True))
            mixed[:, part] = weights / weights.sum(1, keepdims=True) @ value[:, part]
        x = self.norm(f"{name}.attention.output.LayerNorm", x + self.linear(f"{name}.attention.output.dense", mixed))
        gated = self.linear(f"{name}.mlp.gated_layers", x)
        half = gated.shape[1] // 2
        inner = gelu(gated[:, :half]) * gated[:, half:]
        return self.norm(f"{name}.mlp.layernorm", x + self.linear(f"{name}.mlp.wo", inner))

    def token_logits(self, ids: list[int]) -> Array:
        x = gelu(self.linear("cls.predictions.transform.dense", self.hidden(ids)))
        return self.linear("cls.predictions.decoder", self.norm("cls.predictions.transform.LayerNorm", x))

    def class_logits(self, ids: list[int]) -> Array:
        return self.linear("classifier", np.tanh(self.linear("bert.pooler.dense", self.hidden(ids)[0])))


def gelu(x: Array) -> Array:
    y: Array = x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    return y


def loaded(state: dict[str, Tensor]) -> LanguageModel:
    published = FAMILY.translate(state, SMALL)
    model = FAMILY.build(SMALL).eval()
    named = {f"backbone.{name}": tensor for name, tensor in published.backbone.items()}
    named |= {f"lm_head.{name}": tensor for name, tensor in published.lm_head.items()}
    model.load_state_dict(named, strict=True)
    return model


STATE = random_state(published_shapes(SMALL))
LENGTHS = (3, 20, 2, 11)


def padded(lengths: tuple[int, ...] = LENGTHS, seed: int = 1) -> tuple[Tensor, Tensor]:
    """[CLS] x [SEP] rows of some tokens, padded with 3."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, SMALL["vocab_size"], (len(lengths), max(lengths)), generator=draw)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    ids[:, 0] = 1
    ids[torch.arange(len(lengths)), torch.tensor(lengths) - 1] = 2
    return torch.where(mask, ids, 3), mask


def test_parameters_are_those_of_the_published_model() -> None:
    with torch.device("meta"):
        model = FAMILY.build(FAMILY.sizes["base"])
    count = sum(p.numel() for p in model.parameters())
    assert count == 117_074_176  # with the masked-language head
    backbone = sum(p.numel() for p in model.backbone.parameters())
    pooler = 768 * 768 + 768  # a WindowHead's dense layer here
    assert backbone + pooler == 117_068_544


def test_slopes_are_the_published_ones() -> None:
    assert alibi_slopes(12) == pytest.approx(SLOPES_OF_12, rel=1e-12)
    assert alibi_slopes(8) == [2.0**-i for i in range(1, 9)]
    assert alibi_slopes(1) == [2.0**-8]
    assert [len(alibi_slopes(heads)) for heads in range(1, 20)] == [*range(1, 20)]


def test_rows_of_one_length_equal_the_restatement() -> None:
    ids, mask = padded((17, 17))
    with torch.no_grad():
        logits = loaded(STATE)(ids, mask)
    expected = np.stack([Restated(STATE, 12).token_logits(row) for row in ids.tolist()])
    assert expected.std() > 0.3
    np.testing.assert_allclose(logits.numpy(), expected, atol=1e-5)


def test_padded_rows_equal_the_restatement_of_each_row_alone() -> None:
    ids, mask = padded()
    with torch.no_grad():
        logits = loaded(STATE)(ids, mask)
    for row, length in enumerate(LENGTHS):
        expected = Restated(STATE, 12).token_logits(ids[row, :length].tolist())
        np.testing.assert_allclose(logits[row, :length].numpy(), expected, atol=1e-5)


def test_more_tokens_than_the_published_starting_size() -> None:
    ids, mask = padded((600, 530))
    with torch.no_grad():
        hidden = loaded(STATE).backbone(ids, mask)
    for row, length in enumerate((600, 530)):
        np.testing.assert_allclose(
            hidden[row, :length].numpy(), Restated(STATE, 12).hidden(ids[row, :length].tolist()), atol=1e-5
        )


def test_what_stands_in_the_padding_changes_no_bit() -> None:
    ids, mask = padded()
    model = loaded(STATE)
    with torch.no_grad():
        first, second = model(ids, mask), model(torch.where(mask, ids, 17), mask)
    assert torch.equal(first[mask], second[mask]) and not torch.equal(first[~mask], second[~mask])


def test_a_row_of_padding_alone_stays_finite() -> None:
    ids, mask = padded()
    mask[2] = False
    model = loaded(STATE)
    logits = model(ids, mask)
    logits.sum().backward()
    assert bool(logits.isfinite().all()) and all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


def test_a_classifier_equals_the_restatement() -> None:
    state = random_state(published_shapes(SMALL, lm_head=False, classes=3))
    published = FAMILY.translate(state, SMALL)
    assert published.lm_head == {} and published.unexpected == ()
    ids, mask = padded()
    model = FAMILY.build(SMALL).eval()
    model.backbone.load_state_dict(published.backbone)
    head = published.window_head
    with torch.no_grad():
        pooled = torch.tanh(nn.functional.linear(model.backbone(ids, mask)[:, 0], head["dense.weight"], head["dense.bias"]))
        logits = nn.functional.linear(pooled, head["out.weight"], head["out.bias"])
    for row, length in enumerate(LENGTHS):
        np.testing.assert_allclose(logits[row].numpy(), Restated(state, 12).class_logits(ids[row, :length].tolist()), atol=1e-5)


def test_published_names_translate_both_ways() -> None:
    published = FAMILY.translate(STATE, SMALL)
    model = FAMILY.build(SMALL)
    assert set(published.backbone) == set(model.backbone.state_dict())
    assert set(published.lm_head) == set(model.lm_head.state_dict())
    assert (published.window_head, published.unexpected) == ({}, ())
    assert published.ignored == ("cls.predictions.decoder.weight",)
    back = {tensor.data_ptr(): name for name, tensor in STATE.items() if name not in published.ignored}
    names = [back[tensor.data_ptr()] for part in (published.backbone, published.lm_head) for tensor in part.values()]
    assert sorted(names) == sorted(STATE.keys() - set(published.ignored))  # each tensor has one place
    spot = {back[tensor.data_ptr()]: name for name, tensor in published.backbone.items()}
    assert spot["bert.encoder.layer.1.attention.output.LayerNorm.bias"] == "layers.1.attention_norm.bias"
    assert spot["bert.encoder.layer.0.mlp.layernorm.weight"] == "layers.0.mlp_norm.weight"


def test_a_trunk_saved_without_its_prefix_translates() -> None:
    bare = {name.removeprefix("bert."): tensor for name, tensor in STATE.items() if name.startswith("bert.")}
    assert FAMILY.translate(bare, SMALL).backbone.keys() == FAMILY.translate(STATE, SMALL).backbone.keys()
    pooled = bare | {"pooler.dense.weight": torch.zeros(48, 48), "pooler.dense.bias": torch.zeros(48)}
    published = FAMILY.translate(pooled, SMALL)
    assert (published.ignored, published.unexpected) == (("pooler.dense.bias", "pooler.dense.weight"), ())


@pytest.mark.parametrize(
    "name",
    ["bert.embeddings.position_embeddings.weight", "bert.encoder.layer.2.mlp.wo.weight", "bert.encoder.layer.0.mlp.wo.scale",
     "bert.encoder.layer.0.mlp.gated_layers.bias", "bert.encoder.layer.0.attention.self.query.weight", "classifier.weight"],
)  # fmt: skip
def test_names_that_the_network_lacks_are_unexpected(name: str) -> None:
    assert FAMILY.translate(STATE | {name: torch.zeros(1)}, SMALL).unexpected == (name,)


def test_a_decoder_that_is_not_the_embedding_is_unexpected() -> None:
    untied = STATE | {"cls.predictions.decoder.weight": STATE["cls.predictions.decoder.weight"] + 1}
    assert FAMILY.translate(untied, SMALL).unexpected == ("cls.predictions.decoder.weight",)


def test_the_published_configuration_gives_the_base_size() -> None:
    assert FAMILY.read_config(PUBLISHED_CONFIG) == FAMILY.sizes["base"]
    assert FAMILY.read_config(PUBLISHED_CONFIG | {"model_type": "bert", "is_decoder": False}) == FAMILY.sizes["base"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("hidden_act", "relu"), ("layer_norm_eps", 1e-5), ("is_decoder", True), ("tie_word_embeddings", False),
     ("hidden_size", 770), ("vocab_size", 3), ("num_hidden_layers", 0), ("num_hidden_layers", True), ("hidden_size", "768"),
     ("hidden_dropout_prob", 1.0), ("attention_probs_dropout_prob", -0.1)],
)  # fmt: skip
def test_a_configuration_of_another_network_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        FAMILY.read_config(PUBLISHED_CONFIG | {field: value})


@pytest.mark.parametrize("field", ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"])
def test_a_configuration_without_a_size_is_refused(field: str) -> None:
    with pytest.raises(KeyError, match=field):
        FAMILY.read_config({name: value for name, value in PUBLISHED_CONFIG.items() if name != field})


def test_padding_is_row_3_whatever_the_configuration_says(tmp_path: Path) -> None:
    text = train_bpe(["ACGGTCATTACAGGTTACGA" * 3, "TTGACCATAGGCTAAACGT" * 2], 16)
    (tmp_path / "tokenizer.json").write_text(text)
    architecture = FAMILY.read_config(PUBLISHED_CONFIG | {"vocab_size": 16, "hidden_size": 48, "num_hidden_layers": 1})
    tokenizer = FAMILY.tokenizer(architecture, tmp_path)
    words = FAMILY.build(architecture).backbone.words
    assert isinstance(words, nn.Embedding)
    assert PUBLISHED_CONFIG["pad_token_id"] == 0 and tokenizer.pad_id == words.padding_idx == 3
    assert not words.weight[3].any() and words.weight[0].any()  # [UNK], the N of the genome, is a trained row
    words(torch.tensor([0, 3])).sum().backward()
    assert words.weight.grad is not None and words.weight.grad[0].any() and not words.weight.grad[3].any()


def test_the_tokenizer_has_to_be_there_and_of_the_weights_size(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"needs the tokenizer\.json"):
        FAMILY.tokenizer(FAMILY.sizes["tiny"], None)
    with pytest.raises(InputError, match=r"no tokenizer\.json"):
        FAMILY.tokenizer(FAMILY.sizes["tiny"], tmp_path)
    (tmp_path / "tokenizer.json").write_text(train_bpe(["ACGGTCATTACAGGTTACGA" * 3], 16))
    with pytest.raises(InputError, match=r"tokenizer\.json: 16 tokens, but the weights have 'vocab_size' 256"):
        FAMILY.tokenizer(FAMILY.sizes["tiny"], tmp_path)


def test_a_published_directory_is_read_as_a_checkpoint_and_written_as_one(tmp_path: Path) -> None:
    text = train_bpe(["ACGGTCATTACAGGTTACGA" * 3, "TTGACCATAGGCTAAACGT" * 2], SMALL["vocab_size"])
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "tokenizer.json").write_text(text)
    (folder / "config.json").write_text(json.dumps(PUBLISHED_CONFIG | SMALL))
    save_file({name: tensor.clone() for name, tensor in STATE.items()}, folder / "model.safetensors")
    found = read_checkpoint(folder)
    again = read_checkpoint(
        write_checkpoint(tmp_path / "own", found.family, found.architecture, found.model, files=found.tokenizer.files)
    )
    ids, mask = padded()
    with torch.no_grad():
        for checkpoint in (found, again):
            assert (checkpoint.family, checkpoint.architecture, checkpoint.has_lm_head) == (FAMILY, SMALL, True)
            assert checkpoint.tokenizer.text == text
            assert torch.equal(checkpoint.model(ids, mask), loaded(STATE)(ids, mask))


def test_weights_may_come_to_a_network_built_on_the_meta_device(tmp_path: Path) -> None:
    model = loaded(STATE)
    save_file(model.state_dict(), tmp_path / "x.safetensors")  # which refuses shared tensors
    with torch.device("meta"):
        other = FAMILY.build(SMALL).eval()
    other.load_state_dict(load_file(tmp_path / "x.safetensors"), assign=True)
    ids, mask = padded()
    with torch.no_grad():
        assert torch.equal(model(ids, mask), other(ids, mask))
        other.backbone.words.weight.zero_()  # type: ignore[operator, union-attr]
        assert torch.equal(other.lm_head(torch.ones(48)), STATE["cls.predictions.decoder.bias"])  # still tied


def test_a_first_call_under_inference_mode_leaves_training_possible() -> None:
    model = loaded(STATE).train()
    ids, mask = padded()
    with torch.inference_mode():
        model(ids, mask)
    model(ids, mask).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_bias_is_made_where_and_as_the_activations_are(device: torch.device) -> None:
    mask = torch.tensor([[True, True, True, False]], device=device)
    bias = alibi_bias(2, mask, torch.bfloat16)
    assert bias.shape == (1, 2, 4, 4) and bias.dtype == torch.bfloat16 and bias.device.type == device.type
    assert bias[0, 0, 0, :3].tolist() == [0, -(2**-4), -(2**-3)] and float(bias[0, 1, 2, 3]) < -1e38


def test_half_precision_and_autocast_stay_near(device: torch.device) -> None:
    ids, mask = (tensor.to(device) for tensor in padded())
    model = loaded(STATE).to(device)
    half = copy.deepcopy(model).to(torch.bfloat16)
    with torch.no_grad():
        exact = model(ids, mask)[mask]
        with torch.autocast(device.type, torch.bfloat16):
            assert (model(ids, mask)[mask].float() - exact).abs().max() < 0.2
        assert (half(ids, mask)[mask].float() - exact).abs().max() < 0.2


def test_equal_seeds_give_equal_networks_with_berts_initial_weights() -> None:
    torch.manual_seed(5)
    first = FAMILY.build(FAMILY.sizes["tiny"])
    torch.manual_seed(5)
    second = FAMILY.build(FAMILY.sizes["tiny"])
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    for name, weight in first.named_parameters():
        if name.endswith("bias"):
            assert not weight.any(), name
        elif "norm" not in name and "types" not in name:
            assert abs(float(weight.detach().std()) / 0.02 - 1) < 0.1, name


def test_lora_finds_its_modules_where_query_and_value_find_none() -> None:
    linears = {
        name.rpartition(".")[2] for name, part in FAMILY.build(SMALL).backbone.named_modules() if isinstance(part, nn.Linear)
    }
    assert set(FAMILY.lora_targets) <= linears and not {"query", "value"} & linears


def test_every_size_builds_and_learns() -> None:
    for name in ("tiny", "small"):
        model = FAMILY.build(FAMILY.sizes[name])
        ids, mask = padded((9, 5))
        logits = model(ids, mask)
        assert logits.shape == (2, 9, FAMILY.sizes[name]["vocab_size"])
        logits.square().mean().backward()
    assert AlibiBertConfig(**FAMILY.sizes["base"]) == AlibiBertConfig()
