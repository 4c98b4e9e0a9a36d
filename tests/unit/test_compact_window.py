"""The compact window classifier: what it does not depend on, and what it refuses."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from annotator.errors import InputError
from annotator.models.families.compact.window import CompactWindow, CompactWindowConfig, load_compact_window
from annotator.models.manifest import Calibration, CladeSettings, Manifest, WindowTask, read_manifest
from annotator.models.track_set import Feature
from annotator.models.weights import plain_tensors, write_safetensors
from annotator.tokens.batch import reverse_complement_rows

CPU = torch.device("cpu")
PLAN = {"window_bp": 1024, "halo_bp": 64, "pad_bp": 64, "smallest_bp": 256, "align_bp": 8}


def rows_of(count: int, length: int) -> Tensor:
    torch.manual_seed(count * length)
    return torch.tensor(list(b"ACGT"), dtype=torch.uint8)[torch.randint(4, (count, length))]


def network(**changes: Any) -> CompactWindow:
    torch.manual_seed(1)
    config = CompactWindowConfig(**({"window_bp": 30, "k": 3, "fine_channels": 8, "trunk_channels": 8} | changes))
    return CompactWindow(config, 3).eval()


def write_model(folder: Path, net: CompactWindow, **architecture: Any) -> Manifest:
    folder.mkdir(exist_ok=True)
    write_safetensors(folder / "model.safetensors", plain_tensors(net))
    settings = CladeSettings(0, {"tfbs": 0.5}, {"tfbs": Calibration()}, ("tfbs",))
    manifest = Manifest(
        name="toy", version="0", family="compact", architecture=net.config.as_dict() | architecture, tokenizer={"k": 3},
        plan=PLAN, tracks=("A", "B"), radius_bp={"tfbs": 9}, clades={"plant": settings}, licence="none",
        weights="model.safetensors",
        weights_sha256=hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
        window=WindowTask(30, 8, ("other", "A", "B"), {}), features={"A": Feature("tfbs", 30), "B": Feature("tfbs", 30)},
    )  # fmt: skip
    (folder / "manifest.json").write_text(manifest.to_json())
    return manifest


@torch.inference_mode()
def test_a_classifier_without_direction_reads_both_strands_alike() -> None:
    rows = rows_of(5, 30)
    other = reverse_complement_rows(rows)
    both, one = network(both_strands=True), network()
    torch.testing.assert_close(both(rows), both(other), atol=1e-5, rtol=1e-5)
    assert (one(rows) - one(other)).abs().max() > 1e-3


@torch.inference_mode()
def test_what_fills_a_short_row_is_not_pooled() -> None:
    net = network()
    short = rows_of(4, 22)
    filled = torch.nn.functional.pad(short, (0, 8), value=ord("N"))
    torch.testing.assert_close(net(short), net(filled), atol=1e-5, rtol=1e-5)
    unknown = torch.full((2, 30), ord("N"), dtype=torch.uint8)
    assert torch.isfinite(net(unknown)).all()


@torch.inference_mode()
@pytest.mark.parametrize("length", [1, 29, 30, 31, 90])
def test_rows_of_any_length_are_classified(length: int) -> None:
    assert network()(rows_of(3, length)).shape == (3, 3)


@torch.inference_mode()
def test_a_written_model_reads_back_and_does_not_depend_on_its_company(tmp_path: Path) -> None:
    net = network(both_strands=True)
    write_model(tmp_path, net)
    classify = load_compact_window(tmp_path, read_manifest(tmp_path), CPU)
    rows = rows_of(300, 30)
    all_together = classify(rows)
    torch.testing.assert_close(all_together, net(rows), atol=1e-5, rtol=1e-5)
    assert torch.equal(all_together[:7], classify(rows[:7]))
    assert torch.equal(all_together[260:], classify(rows[260:]))
    assert classify(rows[:0]).shape == (0, 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"depth": 3}, "architecture.depth' is unknown"),
        ({"k": 0}, "architecture.k' is 0"),
        ({"k": 9}, "k lies within 1..8"),
        ({"fine_width": 4}, "are odd"),
        ({"dilations": 3}, "architecture.dilations' is 3"),
        ({"dilations": [1, -1]}, "architecture.dilations' is"),
        ({"both_strands": 1}, "architecture.both_strands' is 1"),
        ({"step_bp": True}, "architecture.step_bp' is True"),
        ({"trunk_channels": 9}, "tensor .* has shape"),
        ({"dilations": [1, 2, 4]}, "tensor .* is missing"),
    ],
)
def test_an_architecture_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    write_model(tmp_path, network(), **change)
    with pytest.raises(InputError, match=said):
        load_compact_window(tmp_path, read_manifest(tmp_path), CPU)


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    write_model(tmp_path, network())
    raw = json.loads((tmp_path / "manifest.json").read_text())
    del raw["architecture"]["step_bp"]
    (tmp_path / "manifest.json").write_text(json.dumps(raw))
    with pytest.raises(InputError, match=r"architecture.step_bp' is missing"):
        load_compact_window(tmp_path, read_manifest(tmp_path), CPU)
