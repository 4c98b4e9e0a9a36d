"""What a checkpoint directory must be, and what is refused with which words (rows E06 and F05 of the fault matrix)."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from annotator.errors import EnvironmentFault, InputError, ResourceFault, UsageError
from annotator.files import write_text
from annotator.models.checkpoints import read_checkpoint, write_checkpoint
from annotator.models.families import registry as family_registry
from annotator.models.families.base import Architecture, Backbone, LanguageModel, ModelFamily, Published
from annotator.models.options import FAMILIES
from annotator.models.weights import build_with_weights, plain_tensors, write_safetensors
from annotator.tokens.batch import TokenBatch

ARCHITECTURE = {"vocab_size": 9, "hidden_size": 4, "num_hidden_layers": 2}


class ToyBackbone(Backbone):
    """An embedding and some linear layers, and a table that is no part of the state."""

    def __init__(self, vocabulary: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.words = nn.Embedding(vocabulary, hidden)
        self.layers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(layers))
        self.register_buffer("slopes", torch.arange(float(hidden)), persistent=False)

    def forward(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.words(ids) + self.slopes
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x


@dataclass(frozen=True)
class ToyTokenizer:
    """Nothing but a size."""

    vocabulary_size: int = 9
    pad_id: int = 0
    mask_id: int | None = None
    max_tokens: int | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    def encode(self, rows: Tensor) -> TokenBatch:
        raise NotImplementedError

    def longest_bp(self) -> int | None:
        return None


def build(architecture: Architecture) -> LanguageModel:
    backbone = ToyBackbone(architecture["vocab_size"], architecture["hidden_size"], architecture["num_hidden_layers"])
    head = nn.Linear(backbone.hidden, architecture["vocab_size"])
    head.weight = backbone.words.weight  # tied, under two names of the state dict
    return LanguageModel(backbone, head)


def translate(state: dict[str, Tensor], architecture: Architecture) -> Published:
    """Published names: net.* and cls.*, a classifier, and a table that means nothing."""
    parts: dict[str, dict[str, Tensor]] = {"net": {}, "cls": {}, "classifier": {}}
    unexpected = []
    for name, value in state.items():
        prefix, _, rest = name.partition(".")
        if prefix in parts:
            parts[prefix][f"out.{rest}" if prefix == "classifier" else rest] = value
        elif name != "position_ids":
            unexpected.append(name)
    return Published(parts["net"], parts["cls"], parts["classifier"], ("position_ids",), tuple(unexpected))


def read_config(config: dict[str, Any]) -> Architecture:
    return {key: config[key] for key in ARCHITECTURE}


TOY = ModelFamily(
    name="dnabert", title="Toy", licence="CC-BY-NC-SA-4.0, no commercial use", causal=False, dense_window_head=False,
    lora_targets=(), objective="tokens", read_config=read_config, sizes={"tiny": ARCHITECTURE}, build=build,
    tokenizer=lambda architecture, folder: ToyTokenizer(), translate=translate,
)  # fmt: skip


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy in the place of every family."""
    monkeypatch.setattr(family_registry, "family", lambda name: TOY)
    monkeypatch.setattr(family_registry, "detect_family", lambda config: "dnabert")


@pytest.fixture
def own(tmp_path: Path, toy: None) -> Path:
    """A checkpoint of this program's layout."""
    torch.manual_seed(5)
    return write_checkpoint(tmp_path / "own", TOY, ARCHITECTURE, build(ARCHITECTURE), licence="mine")


@pytest.fixture
def published(tmp_path: Path, toy: None) -> Path:
    """A checkpoint of the published layout, with a classifier and an unused table."""
    folder = tmp_path / "published"
    folder.mkdir()
    torch.manual_seed(6)
    state = {
        name.replace("backbone.", "net.").replace("lm_head.", "cls."): x for name, x in plain_tensors(build(ARCHITECTURE)).items()
    }
    state |= {"classifier.weight": torch.randn(2, 4), "classifier.bias": torch.randn(2), "position_ids": torch.arange(3)}
    write_safetensors(folder / "model.safetensors", state)
    write_text(folder / "config.json", json.dumps(ARCHITECTURE))
    return folder


def change_tensors(folder: Path, **changes: Tensor | None) -> None:
    """Replace tensors of a checkpoint, or take them out; `__` stands for a dot."""
    path = folder / "model.safetensors"
    tensors = load_file(path) | {name.replace("__", "."): value for name, value in changes.items()}
    save_file({name: value for name, value in tensors.items() if value is not None}, path)


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    write_text(path, json.dumps(json.loads(path.read_text()) | changes))


def refused(folder: Path, *said: str, family: str | None = None) -> None:
    """The checkpoint is refused with a message that says all this."""
    with pytest.raises(InputError) as caught:
        read_checkpoint(folder, family)
    for part in said:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_own_layout_comes_back_as_written(own: Path) -> None:
    torch.manual_seed(5)
    written = build(ARCHITECTURE)
    got = read_checkpoint(own)
    assert (got.family, got.architecture, got.licence, got.folder, got.has_lm_head) == (TOY, ARCHITECTURE, "mine", own, True)
    assert not got.model.training and got.window_head == {}
    ids, mask = torch.arange(9)[None], torch.ones(1, 9, dtype=torch.bool)
    assert torch.equal(got.model(ids, mask), written(ids, mask))
    assert got.model.lm_head.weight is got.model.backbone.words.weight


def test_published_layout_is_translated(published: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "annotator.models.checkpoints"):
        got = read_checkpoint(published)
    torch.manual_seed(6)
    written = build(ARCHITECTURE)
    ids, mask = torch.arange(9)[None], torch.ones(1, 9, dtype=torch.bool)
    assert torch.equal(got.model(ids, mask), written(ids, mask))
    assert {name: list(value.shape) for name, value in got.window_head.items()} == {"out.weight": [2, 4], "out.bias": [2]}
    told = [record for record in caplog.records if TOY.licence in record.getMessage()]
    assert len(told) == 1 and told[0].levelno == logging.INFO and got.licence == TOY.licence


def test_equal_networks_are_written_as_equal_bytes(tmp_path: Path, own: Path) -> None:
    torch.manual_seed(5)
    again = write_checkpoint(
        tmp_path / "again", TOY, ARCHITECTURE, build(ARCHITECTURE), licence="mine", files={"tokenizer.json": "{}"}
    )
    for name in ("config.json", "model.safetensors"):
        assert (again / name).read_bytes() == (own / name).read_bytes()
    assert (again / "tokenizer.json").read_text() == "{}"
    assert sorted(path.name for path in again.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]


def test_reading_leaves_the_random_state_alone(own: Path) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    read_checkpoint(own)
    assert torch.equal(torch.rand(3), expected)


def test_half_precision_weights_become_float32(own: Path) -> None:
    tensors = load_file(own / "model.safetensors")
    save_file({name: value.bfloat16() for name, value in tensors.items()}, own / "model.safetensors")
    got = read_checkpoint(own).model.backbone.words.weight
    assert got.dtype == torch.float32
    assert torch.equal(got, tensors["backbone.words.weight"].bfloat16().float())


def test_a_checkpoint_without_a_language_model_head_has_the_same_random_one_each_time(published: Path) -> None:
    change_tensors(published, cls__bias=None)
    first, second = read_checkpoint(published), read_checkpoint(published)
    assert not first.has_lm_head
    assert torch.equal(first.model.lm_head.bias, second.model.lm_head.bias)


def test_shards_are_one_checkpoint(own: Path) -> None:
    whole = read_checkpoint(own).model.state_dict()
    tensors = load_file(own / "model.safetensors")
    (own / "model.safetensors").unlink()
    names = sorted(tensors)
    places = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    for place in set(places.values()):
        save_file({name: tensors[name] for name in names if places[name] == place}, own / place)
    index = own / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    got = read_checkpoint(own).model.state_dict()
    assert all(torch.equal(got[name], whole[name]) for name in whole)

    index.write_text(json.dumps({"weight_map": places | {"backbone.extra": places[names[0]]}}))
    refused(own, places[names[0]], "backbone.extra", "missing")
    index.write_text(json.dumps({"weight_map": {name: place for name, place in places.items() if name != names[0]}}))
    refused(own, places[names[0]], names[0], "not in the index")
    index.write_text(json.dumps({"weight_map": dict.fromkeys(names, "../own/model.safetensors")}))
    refused(own, "model.safetensors.index.json", "'weight_map'")
    index.write_text(json.dumps({"weight_map": [1]}))
    refused(own, "model.safetensors.index.json", "'weight_map'")
    index.write_text(json.dumps({"weight_map": dict.fromkeys(names, "gone.safetensors")}))
    with pytest.raises(EnvironmentFault, match="gone.safetensors"):
        read_checkpoint(own)


def test_missing_unexpected_and_misshapen_tensors_are_named(own: Path) -> None:
    change_tensors(own, backbone__layers__1__bias=None)
    refused(own, "model.safetensors", "backbone.layers.1.bias is missing")
    change_tensors(own, backbone__layers__1__bias=torch.zeros(5))
    refused(own, "model.safetensors", "backbone.layers.1.bias", "[5]", "[4]")
    change_tensors(own, backbone__layers__1__bias=torch.zeros(4, dtype=torch.int8))
    refused(own, "model.safetensors", "backbone.layers.1.bias", "int8")
    change_tensors(own, backbone__layers__1__bias=torch.zeros(4), backbone__layers__2__bias=torch.zeros(4))
    refused(own, "model.safetensors", "unexpected tensor backbone.layers.2.bias")
    change_tensors(own, backbone__layers__2__bias=None, optimizer__state=torch.zeros(1))
    refused(own, "model.safetensors", "unexpected tensor optimizer.state")
    change_tensors(own, optimizer__state=None, lm_head__bias=None)
    assert not read_checkpoint(own).has_lm_head


def test_unexpected_published_tensors_and_misshapen_classifiers_are_named(published: Path) -> None:
    change_tensors(published, classifier__weight=torch.zeros(2, 3))
    refused(published, "model.safetensors", "out.weight", "[2, 3]")
    change_tensors(published, classifier__weight=torch.zeros(2, 4), classifier__bias=torch.zeros(3))
    refused(published, "model.safetensors", "out.bias", "[3]")
    change_tensors(published, classifier__bias=torch.zeros(2), stray__weight=torch.zeros(1))
    refused(published, "model.safetensors", "unexpected tensor stray.weight", "dnabert")


def test_tied_tensors_that_differ_are_refused(own: Path) -> None:
    words = load_file(own / "model.safetensors")["backbone.words.weight"]
    change_tensors(own, lm_head__weight=words.clone())
    read_checkpoint(own)
    change_tensors(own, lm_head__weight=words + 1)
    refused(own, "model.safetensors", "backbone.words.weight", "lm_head.weight")


@pytest.mark.parametrize("keep", [0, 4, 100])
def test_damaged_safetensors_are_refused(own: Path, keep: int) -> None:
    path = own / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    refused(own, "model.safetensors", "damaged")


def test_wrong_vocabulary_sizes_are_refused(own: Path) -> None:
    change_config(own, vocab_size=12)
    refused(own, "config.json", "12", "9")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "model.ckpt"])
def test_pickles_are_not_opened(own: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    (own / name).write_bytes(b"\x80\x02cos\nsystem\n(S'exit 1'\ntR.")
    with caplog.at_level(logging.INFO, "annotator.models.weights"):
        read_checkpoint(own)
    assert any(name in record.getMessage() and "annotator models convert" in record.getMessage() for record in caplog.records)
    (own / "model.safetensors").unlink()
    refused(own, name, "annotator models convert")


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_configuration_that_asks_for_code_is_refused(own: Path, name: str) -> None:
    raw = json.loads((own / "config.json").read_text())
    (own / name).write_text(json.dumps(raw | {"deep": [{"auto_map": {"AutoModel": "bert_layers.BertModel"}}]}))
    refused(own, name, "auto_map")


def test_other_faults_of_the_directory_are_named(own: Path, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="no such checkpoint"):
        read_checkpoint(tmp_path / "nowhere")
    good = (own / "config.json").read_text()
    for text, said in (("{", "JSON"), ("[]", "object"), (good.replace("dnabert", "gpt"), "annotator_family")):
        (own / "config.json").write_text(text)
        refused(own, "config.json", said)
    (own / "config.json").write_text(good)
    refused(own, "config.json", "dnabert", "biogpt", family="biogpt")
    (own / "model.safetensors").unlink()
    refused(own, "model.safetensors")
    (own / "config.json").unlink()
    refused(own, "config.json")


@pytest.mark.parametrize(
    ("name", "value"),
    [("hidden_size", 1 << 40), ("hidden_size", -1), ("num_hidden_layers", 10**6), ("hidden_size", "4"), ("vocab_size", None)],
)
def test_absurd_architectures_are_refused_at_once(own: Path, name: str, value: Any) -> None:
    change_config(own, **{name: value})
    refused(own, "config.json")


def test_a_published_config_without_a_field_is_named(published: Path) -> None:
    raw = json.loads((published / "config.json").read_text())
    del raw["hidden_size"]
    (published / "config.json").write_text(json.dumps(raw))
    refused(published, "config.json", "hidden_size")


def test_a_folder_that_cannot_be_written_is_a_resource_fault(tmp_path: Path, toy: None) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceFault, match="file"):
        write_checkpoint(tmp_path / "file" / "in", TOY, ARCHITECTURE, build(ARCHITECTURE))


def test_a_checkpoint_is_replaced_whole_or_not_at_all(tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    (own / "vocab.txt").write_text("of an older checkpoint")
    before = {path.name: path.read_bytes() for path in own.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr("annotator.models.weights.save_file", full_disk)
        with pytest.raises(ResourceFault) as caught:
            write_checkpoint(own, TOY, ARCHITECTURE, build(ARCHITECTURE))
    assert str(own / "model.safetensors") in str(caught.value) and ".tmp-" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in own.iterdir()} == before
    write_checkpoint(own, TOY, ARCHITECTURE, build(ARCHITECTURE))
    assert sorted(path.name for path in own.iterdir()) == ["config.json", "model.safetensors"]
    assert not list(tmp_path.glob(".tmp-*"))


def test_an_unknown_family_is_a_usage_error(tmp_path: Path) -> None:
    write_text(tmp_path / "config.json", "{}")
    with pytest.raises(UsageError, match="gpt"):
        read_checkpoint(tmp_path, "gpt")
    with pytest.raises(InputError, match="model_type"):
        read_checkpoint(tmp_path)


def test_build_with_weights_keeps_buffers_that_are_no_part_of_the_state() -> None:
    net = ToyBackbone(9, 4, 1)
    got = build_with_weights(lambda: ToyBackbone(9, 4, 1), net.state_dict(), Path("x"))
    assert torch.equal(got.slopes, net.slopes) and got.slopes.device.type == "cpu"


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "dnabert2"])
def test_every_family_comes_back_as_written(tmp_path: Path, name: str) -> None:
    """DNABERT-2 needs a tokenizer file: see tests/parity/test_dnabert2.py."""
    chosen = family_registry.family(name)
    architecture = chosen.sizes["tiny"]
    torch.manual_seed(2)
    model = chosen.build(architecture).eval()
    folder = write_checkpoint(tmp_path / "it", chosen, architecture, model)
    got = read_checkpoint(folder)
    assert got.architecture == architecture and got.family.name == name and got.has_lm_head
    assert got.tokenizer.vocabulary_size > 4
    rows = torch.tensor([list(b"ACGTTGCATGCCATGCAACCGTGTGACA")], dtype=torch.uint8)
    tokens = got.tokenizer.encode(rows)
    with torch.inference_mode():
        assert torch.equal(got.model(tokens.ids, tokens.attention_mask), model(tokens.ids, tokens.attention_mask))


def stock_model(name: str) -> nn.Module:
    """A tiny network of the stock transformers class of a family."""
    from transformers import BertConfig, BertForMaskedLM, BioGptConfig, BioGptForCausalLM, EsmConfig, EsmForMaskedLM

    torch.manual_seed(4)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    if name == "dnabert":
        return BertForMaskedLM(BertConfig(vocab_size=69, **shape))
    if name == "nucleotide-transformer":
        esm = EsmConfig(
            vocab_size=4105, max_position_embeddings=66, pad_token_id=1, mask_token_id=2, token_dropout=False,
            position_embedding_type="absolute", **shape,
        )  # fmt: skip
        return EsmForMaskedLM(esm)
    return BioGptForCausalLM(BioGptConfig(vocab_size=4107, max_position_embeddings=64, pad_token_id=1, **shape))


@pytest.mark.parametrize("name", ["dnabert", "nucleotide-transformer", "biogpt"])
def test_what_stock_classes_save_is_read(tmp_path: Path, name: str) -> None:
    """The family told from config.json, and the logits of the stock class to 1e-5."""
    stock = stock_model(name).eval()
    stock.save_pretrained(tmp_path / "stock")
    got = read_checkpoint(tmp_path / "stock")
    assert got.family.name == name and got.has_lm_head and got.licence == got.family.licence
    ids = torch.randint(6, 69, (2, 12))
    with torch.inference_mode():
        mask = torch.ones_like(ids, dtype=torch.bool)
        torch.testing.assert_close(got.model(ids, mask), stock(input_ids=ids).logits, rtol=0, atol=1e-5)
