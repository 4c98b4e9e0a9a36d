"""Model directories are written whole or not at all, and only where they can be read back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from annotator.errors import InputError, ResourceFault
from annotator.files import file_sha256
from annotator.models.directory import read_model, write_model
from annotator.models.manifest import Calibration, CladeSettings, Manifest

SETTINGS = CladeSettings(0, {"donor": 0.5}, {"donor": Calibration()}, (), "a test")
MANIFEST = Manifest(
    name="toy", version="1", family="compact", architecture={}, tokenizer={}, tracks=("donor",), radius_bp={"donor": 2},
    plan={"window_bp": 64, "halo_bp": 8, "pad_bp": 8, "smallest_bp": 32, "align_bp": 8}, clades={"plant": SETTINGS},
    licence="CC0-1.0", weights="", weights_sha256="",
)  # fmt: skip
TENSORS = {"weight": torch.arange(4.0)}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_written_model_is_read_back(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "new" / "model", MANIFEST, TENSORS, {"tokenizer.json": "{}"})
    found, manifest = read_model(str(folder))
    digest = file_sha256(folder / "model.safetensors")
    assert found == folder and manifest == replace(MANIFEST, weights="model.safetensors", weights_sha256=digest)
    assert sorted(contents(folder)) == ["manifest.json", "model.safetensors", "tokenizer.json"]
    assert (folder / "tokenizer.json").read_text() == "{}"


def test_an_empty_version_is_that_of_the_weights(tmp_path: Path) -> None:
    versions = []
    for number in (1.0, 2.0):
        folder = write_model(tmp_path / f"{number}", replace(MANIFEST, version=""), {"weight": torch.tensor(number)})
        versions.append(read_model(str(folder))[1].version)
        assert file_sha256(folder / "model.safetensors").startswith(versions[-1]) and len(versions[-1]) == 12
    assert versions[0] != versions[1]


def test_a_newer_model_takes_the_place_of_an_older_one_with_all_its_files(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", MANIFEST, TENSORS, {"tokenizer.json": "{}"})
    write_model(folder, replace(MANIFEST, version="2"), TENSORS)
    assert sorted(contents(folder)) == ["manifest.json", "model.safetensors"]
    assert read_model(str(folder))[1].version == "2"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_cannot_be_read_back_is_not_published(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", MANIFEST, TENSORS)
    before = contents(folder)
    with pytest.raises(InputError, match="radius_bp") as caught:
        write_model(folder, replace(MANIFEST, radius_bp={"donor": 8}), TENSORS)
    assert str(folder / "manifest.json") in str(caught.value) and ".tmp-" not in str(caught.value)
    assert contents(folder) == before and [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_full_disk_leaves_the_older_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    folder = write_model(tmp_path / "model", MANIFEST, TENSORS)
    before = contents(folder)
    monkeypatch.setattr("annotator.models.weights.save_file", full_disk)
    with pytest.raises(ResourceFault) as caught:
        write_model(folder, replace(MANIFEST, version="2"), TENSORS)
    assert str(folder / "model.safetensors") in str(caught.value) and ".tmp-" not in str(caught.value)
    assert contents(folder) == before and [path.name for path in tmp_path.iterdir()] == ["model"]
