"""The converter: pickles in, plain data out, nothing run, and nothing left behind where it fails."""

from __future__ import annotations

import json
import logging
import os
import pickle
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from annotator.errors import InputError, UsageError
from annotator.kinds import CLADES
from annotator.models.checkpoints import read_checkpoint
from annotator.models.convert import convert, read_pickled_tensors
from annotator.models.directory import read_model
from benchmarks.openspliceai_net import OpenSpliceAI


class Malicious:
    """A pickle that makes a file when it is opened by the book."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture(scope="module")
def stock() -> tuple[dict[str, Any], dict[str, Tensor], Tensor, Tensor]:
    """A tiny stock DNABERT-3: configuration, state dict, ids and their logits."""
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=69, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64,
    )  # fmt: skip
    model = BertForMaskedLM(config).eval()
    ids = torch.randint(5, 69, (2, 20))
    with torch.inference_mode():
        logits = model(input_ids=ids).logits
    plain = {key: value for key, value in config.to_dict().items() if key not in ("transformers_version", "dtype")}
    return plain, dict(model.state_dict()), ids, logits


@pytest.fixture
def folder(tmp_path: Path, stock: tuple[dict[str, Any], dict[str, Tensor], Tensor, Tensor]) -> Path:
    """It, as it is published: a pickle and a request for code."""
    made = tmp_path / "published"
    made.mkdir()
    torch.save(stock[1], made / "pytorch_model.bin")
    config = stock[0] | {"auto_map": {"AutoModel": "dnabert_layer.DNABert"}, "attn_implementation": "someone/kernel"}
    (made / "config.json").write_text(json.dumps(config))
    torch.save({"lr": 1.0}, made / "training_args.bin")
    return made


def same_logits(converted: Path, stock: tuple[dict[str, Any], dict[str, Tensor], Tensor, Tensor]) -> None:
    _, _, ids, logits = stock
    with torch.inference_mode():
        got = read_checkpoint(converted).model(ids, torch.ones_like(ids, dtype=torch.bool))
    torch.testing.assert_close(got, logits, rtol=0, atol=1e-5)


def test_a_published_directory_becomes_plain_data(
    tmp_path: Path, folder: Path, stock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    kmers = ["".join(kmer) for kmer in product("ATCG", repeat=3)]
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *kmers]))
    with caplog.at_level(logging.INFO, "annotator.models.convert"):
        out = convert([folder], tmp_path / "out")
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "model.safetensors", "vocab.txt"]
    assert "auto_map" not in (out / "config.json").read_text() and "attn_implementation" not in (out / "config.json").read_text()
    assert any("auto_map" in record.getMessage() for record in caplog.records)
    same_logits(out, stock)
    again = convert([folder], tmp_path / "again")
    assert all((again / path.name).read_bytes() == path.read_bytes() for path in out.iterdir())


def test_one_file_with_its_configuration_beside_it(tmp_path: Path, folder: Path, stock: Any) -> None:
    wrapped = folder / "best.pt"
    torch.save({"state_dict": {f"module.{name}": value for name, value in stock[1].items()}, "epoch": 3}, wrapped)
    same_logits(convert([wrapped], tmp_path / "out", "dnabert"), stock)
    with pytest.raises(UsageError, match="name the one"):
        convert([folder], tmp_path / "other")


def test_shards_and_safetensors_are_sources_too(tmp_path: Path, folder: Path, stock: Any) -> None:
    (folder / "pytorch_model.bin").unlink()
    names = sorted(stock[1])
    places = {name: f"pytorch_model-{i % 2}.bin" for i, name in enumerate(names)}
    for place in set(places.values()):
        torch.save({name: stock[1][name] for name in names if places[name] == place}, folder / place)
    index = folder / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    same_logits(convert([folder], tmp_path / "out"), stock)
    index.write_text(json.dumps({"weight_map": places | {"x": places[names[0]]}}))
    with pytest.raises(InputError, match=r"index.json.*weight_map"):
        convert([folder], tmp_path / "other")
    index.write_text(json.dumps({"weight_map": dict.fromkeys(names, "../published/config.json")}))
    with pytest.raises(InputError, match=r"index.json.*weight_map"):
        convert([folder], tmp_path / "other")
    save_file({name: value.clone() for name, value in stock[1].items()}, folder / "model.safetensors")
    same_logits(convert([folder], tmp_path / "third"), stock)


def test_what_does_not_fit_its_family_is_refused_and_leaves_nothing(tmp_path: Path, folder: Path, stock: Any) -> None:
    before = sorted(tmp_path.iterdir())
    name = "bert.encoder.layer.1.output.dense.weight"
    wrong = [({name: None}, "missing"), ({name: torch.zeros(3, 3)}, "shape"), ({"odd.weight": torch.zeros(1)}, "odd.weight")]
    for change, said in wrong:
        state = {key: value for key, value in (stock[1] | change).items() if value is not None}
        torch.save(state, folder / "pytorch_model.bin")
        with pytest.raises(InputError, match=said) as caught:
            convert([folder], tmp_path / "out")
        assert str(folder) in str(caught.value) and ".tmp-" not in str(caught.value)
        assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("form", ["torch", "legacy", "plain"])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path: Path, form: str) -> None:
    mark, path = tmp_path / "mark", tmp_path / "pytorch_model.bin"
    payload = {"bert.weight": torch.zeros(2), "x": Malicious(mark)}
    if form == "plain":
        path.write_bytes(pickle.dumps(Malicious(mark)))
    else:
        torch.save(payload, path, _use_new_zipfile_serialization=form == "torch")
    with pytest.raises(InputError, match="nothing of it was run") as caught:
        convert([path], tmp_path / "out")
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert not mark.exists() and not (tmp_path / "out").exists()
    pickle.loads(pickle.dumps(Malicious(mark)))
    assert mark.exists(), "the pickle is harmless: nothing was tested"


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"initial_conv.weight": torch.ones(3, 4)}, path)
    whole = path.read_bytes()
    generator = np.random.default_rng(1)
    seen = 0
    for keep in (0, 1, 10, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:keep])
        with pytest.raises(InputError, match=r"model\.pt"):
            read_pickled_tensors(path)
    for _ in range(150):
        data = bytearray(whole)
        for at in generator.integers(0, len(whole), 4):
            data[at] = generator.integers(256)
        path.write_bytes(data)
        try:
            read_pickled_tensors(path)
        except InputError as error:
            assert "\n" not in str(error)
            seen += 1
    assert seen > 20


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1, 2], "a list"),
        ({}, "not a state dict"),
        ({"a": torch.zeros(2), "b": "text"}, "'b'"),
        ({"a": torch.eye(2).to_sparse()}, "'a'"),
        ({3: torch.zeros(2)}, "3"),
        (torch.zeros(2), "a Tensor"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: Any, said: str) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(InputError, match=said):
        read_pickled_tensors(tmp_path / "x.pt")


def test_wrong_sources_are_usage_errors(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    torch.save({"a.weight": torch.zeros(2)}, tmp_path / "a.pt")
    torch.save({"b.weight": torch.zeros(2)}, tmp_path / "b.pt")
    for sources, said in (
        ([tmp_path / "none.pt"], "no such file"),
        ([tmp_path / "empty"], "neither"),
        ([], "neither"),
        ([tmp_path / "a.pt", tmp_path / "b.pt"], "several files"),
        ([tmp_path / "a.pt"], "config.json"),
    ):
        with pytest.raises(UsageError, match=said):
            convert(sources, tmp_path / "out")
    with pytest.raises(UsageError, match="exists"):
        convert([tmp_path / "a.pt"], tmp_path / "empty")


def splice_state(seed: int, units: int = 4) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return dict(OpenSpliceAI(units).state_dict())


def test_openspliceai_becomes_a_model_directory(tmp_path: Path) -> None:
    torch.save(splice_state(1, 8), tmp_path / "model_400nt_rs1.pt")
    out = convert([tmp_path / "model_400nt_rs1.pt"], tmp_path / "out")
    _, manifest = read_model(str(out))
    assert (manifest.name, manifest.family, manifest.tracks) == ("openspliceai-400nt", "dilated_cnn", ("acceptor", "donor"))
    assert manifest.licence == "GPL-3.0-only"
    assert manifest.plan["halo_bp"] >= 200 + max(manifest.radius_bp.values()) and manifest.plan["pad_bp"] >= 200
    assert set(manifest.clades) == set(CLADES)
    for settings in manifest.clades.values():
        assert settings.thresholds == {"acceptor": 0.5, "donor": 0.5} and settings.validated == ()
        assert {(fit.scale, fit.bias) for fit in settings.calibration.values()} == {(1.0, 0.0)}
        assert "uncalibrated" in settings.note
    assert manifest.training["files"][0]["name"] == "model_400nt_rs1.pt"
    again = convert([tmp_path / "model_400nt_rs1.pt"], tmp_path / "again", "dilated_cnn")
    assert all((again / path.name).read_bytes() == path.read_bytes() for path in out.iterdir())


def test_openspliceai_directories_are_ensembles(tmp_path: Path) -> None:
    seeds = tmp_path / "seeds"
    seeds.mkdir()
    for seed in (1, 2):
        torch.save(splice_state(seed), seeds / f"model_80nt_rs{seed}.pt")
    _, manifest = read_model(str(convert([seeds], tmp_path / "out")))
    assert manifest.name == "openspliceai-80nt-mean2" and manifest.architecture["networks"] == 2
    torch.save(splice_state(3, 8), seeds / "model_80nt_rs3.pt")
    with pytest.raises(InputError, match=r"rs3\.pt: another context length .* 400 nt"):
        convert([seeds], tmp_path / "other")


def test_state_dicts_that_are_not_openspliceais_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model_80nt_rs1.pt"
    name = "residual_units.1.batchnorm1.running_mean"
    for change, said in (
        ({name: None}, f"tensor {name} is missing"),
        ({name: torch.zeros(31)}, rf"tensor {name} has shape \[31\]"),
        ({"odd.weight": torch.zeros(1)}, "unexpected tensor odd.weight"),
        ({"residual_units.0.conv1.weight": torch.zeros(32, 32, 13)}, "not an OpenSpliceAI"),
        ({"initial_conv.weight": None}, "not an OpenSpliceAI"),
    ):
        torch.save({key: value for key, value in (splice_state(1) | change).items() if value is not None}, path)
        with pytest.raises(InputError, match=said) as caught:
            convert([path], tmp_path / "out", "dilated_cnn")
        assert str(path) in str(caught.value) and not (tmp_path / "out").exists()
