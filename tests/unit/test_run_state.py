"""The folder of a run: what a kill leaves goes, and what cannot be read or written is one of the expected faults."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from annotator.errors import InputError, ResourceFault
from annotator.models import weights
from annotator.training import run_folder as run_state
from annotator.training.run_folder import locked, read_state, write_state

CPU = torch.device("cpu")
GONE = f".tmp-{1 << 30}-0123456789abcdef"
"""A temporary name of a process that cannot be running."""


def test_what_a_killed_run_left_goes(tmp_path: Path) -> None:
    (tmp_path / GONE).mkdir()
    (tmp_path / GONE / "model.safetensors").touch()
    (tmp_path / "checkpoint").mkdir()
    kept = [tmp_path / "state.json", tmp_path / "checkpoint" / "model.safetensors"]
    for path in (*kept, tmp_path / f"{GONE}.json"):
        path.touch()
    with locked(tmp_path):
        assert sorted(path for path in tmp_path.rglob("*") if path.is_file() and path.name != "lock") == sorted(kept)
    assert not (tmp_path / GONE).exists()


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_checkpoint_is_bad_input(tmp_path: Path, damage: str) -> None:
    write_state(tmp_path, 3, {"net.a": torch.ones(4)}, {"settings": {}})
    tensors = tmp_path / "state-3.safetensors"
    if damage == "cut":
        tensors.write_bytes(tensors.read_bytes()[:20])
    else:
        tensors.unlink()
    with pytest.raises(InputError, match="not a checkpoint of this program"):
        read_state(tmp_path, CPU)


def full_disk(*_: object, **__: object) -> None:
    raise SafetensorError("I/O error: No space left on device (os error 28)")  # the library's error is no OSError


def test_a_checkpoint_that_cannot_be_written_is_a_lack_of_resources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_state(tmp_path, 3, {"net.a": torch.ones(4)}, {"settings": {}})
    monkeypatch.setattr(weights, "save_file", full_disk)
    with pytest.raises(ResourceFault, match=r"state-4\.safetensors: cannot be written"):
        write_state(tmp_path, 4, {"net.a": torch.zeros(4)}, {"settings": {}})
    found = read_state(tmp_path, CPU)
    assert found is not None and found[0]["step"] == 3 and found[1]["net.a"].equal(torch.ones(4))
    assert run_state.STATE_NAME in {path.name for path in tmp_path.iterdir()}
