"""What a run of `annotator train` starts from: a start that is smaller than the network begins as the same function."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from annotator.errors import AnnotatorError, InputError, UsageError
from annotator.files import file_sha256
from annotator.kinds import CLADES, DEFAULT_CLADE, Kind
from annotator.models.directory import bundled_models, read_model
from annotator.models.families.compact.net import CLADE_INDEX, CompactConfig, CompactNet
from annotator.models.families.compact.scan import load_compact
from annotator.models.weights import plain_tensors, write_safetensors
from annotator.training.compact.options import TrainingSettings
from annotator.training.compact.start import first_network, like_its_start

SMALL = CompactConfig(fine_channels=4, fine_width=3, trunk_channels=6, trunk_width=3, dilations=(1, 2), clades=4)


def settings(config: CompactConfig, init: str) -> TrainingSettings:
    return TrainingSettings("x", "r", 6, config.as_dict(), {}, dict.fromkeys(Kind, 2), init=init)


def random_net(config: CompactConfig) -> CompactNet:
    """A network whose every tensor says something."""
    torch.manual_seed(5)
    net = CompactNet(config)
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.1 if name.endswith("running_var") else torch.randn_like(value) / 3)
    return net.eval()


def logits(net: CompactNet, clade: int) -> Tensor:
    ids = torch.arange(128).reshape(2, 64) % 4000
    with torch.no_grad():
        found: Tensor = net.eval()(ids, torch.full((2,), clade))
    return found


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    write_safetensors(tmp_path / "bare.safetensors", plain_tensors(random_net(SMALL)))
    return tmp_path / "bare.safetensors"


@pytest.mark.parametrize("wider", [{}, {"trunk_channels": 10}])
def test_a_larger_network_begins_as_its_start_and_learns(bare: Path, wider: dict[str, int]) -> None:
    larger = replace(SMALL, clades=5, dilations=(1, 2, 4, 8), **wider)
    net, digest = first_network(settings(larger, str(bare)))
    assert digest == file_sha256(bare) and net.training and net.config == larger
    start = random_net(SMALL)
    for clade, before in ((0, 0), (1, 1), (3, 3), (4, 0)):
        torch.testing.assert_close(logits(net, clade), logits(start, before), rtol=0, atol=1e-5 if wider else 0)
    assert not torch.equal(logits(net, 4), logits(net, 3))
    net.train()(torch.arange(128).reshape(2, 64) % 4000, torch.tensor([1, 4])).square().sum().backward()
    added = net.blocks[3].norm.weight.grad
    assert added is not None and (added[: SMALL.trunk_channels] != 0).all()
    read = net.up.weight.grad  # by what the first step moves, new channels come to be read
    assert read is not None and (read != 0).any(dim=0).all()


def test_a_start_of_the_same_size_is_taken_as_it_is(bare: Path) -> None:
    net, _ = first_network(settings(SMALL, str(bare)))
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in random_net(SMALL).state_dict().items())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fine_channels": 8}, r"tensor embed\.weight has shape \[4101, 4\], the recipe's network \[4101, 8\]"),
        ({"dilations": (1,)}, r"unexpected tensor blocks\.1\."),
        ({"clades": 3}, r"tensor down\.clade\.weight has shape \[4, 6\], the recipe's network \[3, 6\]"),
    ],
)
def test_a_checkpoint_of_another_network_is_refused(bare: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=rf"bare\.safetensors: {said}"):
        first_network(settings(replace(SMALL, **changes), str(bare)))


def test_a_tensor_of_other_dimensions_is_refused(bare: Path) -> None:
    tensors = plain_tensors(random_net(SMALL))
    write_safetensors(bare, tensors | {"up.weight": tensors["up.weight"][0].contiguous()})
    with pytest.raises(InputError, match=r"bare\.safetensors: tensor up\.weight has shape \[\d+, \d+\], the recipe's network"):
        first_network(settings(SMALL, str(bare)))


def test_what_is_no_checkpoint_is_refused(bare: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        first_network(settings(SMALL, str(bare.with_name("none.safetensors"))))
    with pytest.raises(UsageError, match="a bare checkpoint does not say its architecture"):
        like_its_start(settings(SMALL, str(bare)))
    tensors = plain_tensors(random_net(SMALL))
    del tensors["head.bias"]
    write_safetensors(bare, tensors)
    with pytest.raises(InputError, match=r"tensor head\.bias is missing"):
        first_network(settings(SMALL, str(bare)))
    bare.write_bytes(bare.read_bytes()[:100])
    with pytest.raises(AnnotatorError, match="damaged"):
        first_network(settings(SMALL, str(bare)))


def test_every_clade_has_a_bias_of_its_own() -> None:
    assert sorted([0, *CLADE_INDEX.values()]) == list(range(CompactConfig.clades)) == list(range(1 + len(CLADES)))


@pytest.mark.skipif("compact" not in bundled_models(), reason="no bundled model")
def test_the_bundled_model_may_grow() -> None:
    folder, manifest = read_model("compact")
    start = load_compact(folder, manifest, DEFAULT_CLADE)
    wanted = like_its_start(settings(SMALL, "compact"))
    assert wanted.architecture["clades"] == CompactConfig.clades and wanted.plan == manifest.plan
    longer = wanted.architecture | {"dilations": [*wanted.architecture["dilations"], 128]}
    net, digest = first_network(replace(wanted, architecture=longer))
    assert digest == manifest.weights_sha256
    index = manifest.clades[DEFAULT_CLADE].index
    assert torch.equal(logits(net, index), logits(start, index))
    other = wanted.architecture | {"dilations": [2, *wanted.architecture["dilations"]]}
    with pytest.raises(UsageError, match="it has architecture"):
        first_network(replace(wanted, architecture=other))
