"""Models of bound sites: what their manifests may say, and the network behind them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from annotator.errors import EnvironmentFault, InputError
from annotator.files import file_sha256
from annotator.genome.shard_input import CONTEXT_BP
from annotator.models.bound.manifest import BOUND_JSON, BUNDLED_BOUND, BoundConfig, bound_folder, read_bound
from annotator.models.bound.net import ROWS_PER_PASS, BoundNet, load_bound
from annotator.motifs.motif import MAX_WIDTH
from tests.support.bound_models import SMALL, write_small_bound

CPU = torch.device("cpu")


def random_rows(count: int, length: int, seed: int = 1) -> torch.Tensor:
    letters = np.frombuffer(b"ACGTN", np.uint8)
    return torch.from_numpy(np.random.default_rng(seed).choice(letters, (count, length), p=[0.24] * 4 + [0.04]))


def test_a_model_is_written_and_read_back(tmp_path: Path) -> None:
    written = write_small_bound(tmp_path / "model")
    read = read_bound(tmp_path / "model")
    assert read == written and read.architecture == SMALL
    assert read.weights_sha256 == file_sha256(tmp_path / "model" / "model.safetensors")
    assert (read.index_of("ctcf"), read.index_of("Znf263"), read.index_of("CTCFL")) == (0, 1, -1)


def test_the_bundled_model_can_be_loaded_and_is_small() -> None:
    scorer = load_bound(bound_folder(BUNDLED_BOUND), CPU)
    manifest = scorer.manifest
    assert manifest.clades == ("vertebrate",) and {"CTCF", "ZNF263"} <= set(manifest.factors)
    assert (bound_folder(BUNDLED_BOUND) / manifest.weights).stat().st_size < 1_000_000
    assert manifest.licence == "Apache-2.0"


def test_the_bits_of_a_hit_do_not_depend_on_the_others(tmp_path: Path) -> None:
    write_small_bound(tmp_path / "model")
    scorer = load_bound(tmp_path / "model", CPU)
    count = 2 * ROWS_PER_PASS + 7
    rows, surprises, factor = random_rows(count, SMALL.window_bp), torch.rand(count) + 4, torch.arange(count) % 2
    together = scorer(rows, surprises, factor)
    assert together.std() > 0.1
    order = torch.randperm(count, generator=torch.Generator().manual_seed(3))
    assert torch.equal(scorer(rows[order], surprises[order], factor[order]), together[order])
    for at in (0, 1, ROWS_PER_PASS, count - 1):
        assert torch.equal(scorer(rows[at : at + 1], surprises[at : at + 1], factor[at : at + 1]), together[at : at + 1])
    assert scorer(rows[:0], surprises[:0], factor[:0]).shape == (0,)


def test_the_shares_are_those_counted_by_hand() -> None:
    config = BoundConfig(window_bp=8, filters=1, filter_bp=3, reach_bp=(1,), share_bp=(4, 8), hidden=1)
    row = torch.tensor([list(b"CCACGGNT")], dtype=torch.uint8)
    net = BoundNet(config, 1)
    bases = torch.zeros(1, 4, 8)
    for at, letter in enumerate("CCACGGNT"):
        if letter != "N":
            bases[0, "ACGT".index(letter), at] = 1
    narrow = [1 / 4, 2 / 4, 1 / 3, (1 / 3) / (1 / 8 + 0.01)]  # A, C, G, G
    wide = [3 / 8, 2 / 8, 1 / 7, (1 / 7) / (6 / 64 + 0.01)]
    assert torch.allclose(net._shares(bases), torch.tensor([narrow + wide]))
    assert net.eval()(row, torch.tensor([5.0]), torch.tensor([0])).shape == (1,)


def test_a_filter_and_its_mirror_image_find_both_strands() -> None:
    config = BoundConfig(window_bp=16, filters=1, filter_bp=5, reach_bp=(2, 7), share_bp=(16,), hidden=1)
    net = BoundNet(config, 1)
    with torch.no_grad():
        net.filters.zero_()
        for at, letter in enumerate("AACGT"):  # a full match scores 5
            net.filters[0, "ACGT".index(letter), at] = 1

    def matches(text: str) -> list[float]:
        bases = torch.zeros(1, 4, 16)
        for at, letter in enumerate(text):
            if letter != "N":
                bases[0, "ACGT".index(letter), at] = 1
        return net._matches(bases)[0, :4].tolist()  # near: ahead, back; far: ahead, back

    assert matches("NNNNNNAACGTNNNNN")[::2] == [5.0, 5.0]  # its middle is base 8, the middle of the window
    assert matches("NNNNNNACGTTNNNNN")[1::2] == [5.0, 5.0]
    near, _, far, _ = matches("AACGTNNNNNNNNNNN")
    assert near < 5.0 and far == 5.0


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("window_bp", 511, "even"),
        ("window_bp", 2 * CONTEXT_BP, "window_bp"),
        ("filter_bp", 6, "not odd"),
        ("reach_bp", (300,), "reach_bp"),
        ("share_bp", (514,), "share_bp"),
        ("share_bp", (), "share_bp"),
        ("hidden", 0, "hidden"),
        ("filters", 2.0, "filters"),
        ("filters", (2,), "filters"),
    ],
)
def test_impossible_shapes_are_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BoundConfig(**{field: value})


def test_the_widest_window_lies_in_what_a_shard_can_read() -> None:
    config = BoundConfig(window_bp=2 * (CONTEXT_BP - MAX_WIDTH // 2 - 1))
    beyond = (MAX_WIDTH + 1) // 2 + config.window_bp // 2  # from the last owned base, where a hit may start
    assert beyond <= CONTEXT_BP


def change(folder: Path, **fields: Any) -> None:
    path = folder / BOUND_JSON
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"clades": ["mars"]}, "'clades'"),
        ({"clades": "vertebrate"}, "'clades'"),
        ({"factors": {}}, "'factors'"),
        ({"factors": {"ctcf": {"scale": 1.0, "bias": 0.0}}}, "'factors'"),
        ({"factors": {"CTCF": {"scale": 0.0, "bias": 0.0}}}, "'factors.CTCF'"),
        ({"factors": {"CTCF": {"scale": 1.0}}}, "'factors.CTCF'"),
        ({"factors": {"CTCF": {"scale": 1.0, "bias": float("nan")}}}, "'factors.CTCF'"),
        ({"hit_pvalue": 2.0}, "'hit_pvalue'"),
        ({"hit_pvalue": "small"}, "'hit_pvalue'"),
        ({"weights": "../model.safetensors"}, "'weights'"),
        ({"format_version": 2}, "'format_version'"),
        ({"surprise": 1}, "'surprise'"),
        ({"architecture": {"window_bp": 128}}, "'architecture"),
    ],
)
def test_a_bad_manifest_names_the_field(tmp_path: Path, fields: dict[str, Any], named: str) -> None:
    write_small_bound(tmp_path / "model")
    change(tmp_path / "model", **fields)
    with pytest.raises(InputError) as error:
        read_bound(tmp_path / "model")
    assert str(tmp_path / "model" / BOUND_JSON) in str(error.value) and named in str(error.value)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_small_bound(folder)
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    save_file(tensors | {"nets.0.direct.bias": torch.tensor([float("nan"), 0.0])}, weights)
    with pytest.raises(InputError, match="sha256"):
        read_bound(folder)
    change(folder, weights_sha256=file_sha256(weights))
    with pytest.raises(InputError, match=r"direct\.bias holds NaN"):
        load_bound(folder, CPU)
    save_file({name: value for name, value in tensors.items() if name != "nets.1.filters"}, weights)
    change(folder, weights_sha256=file_sha256(weights))
    with pytest.raises(InputError, match=r"nets\.1\.filters is missing"):
        load_bound(folder, CPU)
    weights.unlink()
    with pytest.raises(EnvironmentFault, match="missing"):
        read_bound(folder)
    (folder / BOUND_JSON).unlink()
    with pytest.raises(InputError, match=r"no bound\.json"):
        read_bound(folder)
    with pytest.raises(EnvironmentFault, match="no such folder"):
        read_bound(tmp_path / "nothing")
