"""Adapters change nothing until they learn, are all that learns, and leave plain weights behind."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from annotator.errors import EnvironmentFault, UsageError
from annotator.models.families.base import LanguageModel, ModelFamily
from annotator.models.families.registry import family
from annotator.models.lora import add_lora, merge_lora, need_peft

FAMILIES = {
    "dnabert": "tiny",
    "dnabert2": "tiny",
    "nucleotide-transformer": "tiny",
    "nucleotide-transformer:v1": "v1-tiny",
    "biogpt": "tiny",
}
"""A size of each family, and of each of its architectures."""
IDS = torch.tensor([[10, 11, 12, 13, 14, 15, 16, 17]])
MASK = torch.ones_like(IDS, dtype=torch.bool)


def chosen(name: str) -> ModelFamily:
    return family(name.partition(":")[0])


def network(name: str) -> LanguageModel:
    torch.manual_seed(1)
    return chosen(name).build(chosen(name).sizes[FAMILIES[name]]).eval()


@pytest.mark.parametrize("name", FAMILIES)
def test_adapters_begin_as_nothing_and_merge_into_plain_weights(name: str) -> None:
    backbone, targets = network(name).backbone, chosen(name).lora_targets
    names, plain = list(backbone.state_dict()), backbone(IDS, MASK)
    matched = add_lora(backbone, targets, rank=4, alpha=8, dropout=0.5)
    assert {path.rpartition(".")[2] for path in matched} == set(targets)
    assert torch.equal(backbone(IDS, MASK), plain)
    with torch.no_grad():
        for path, value in backbone.named_parameters():
            if "lora_B" in path:
                value.normal_(std=0.1)
    adapted = backbone(IDS, MASK)
    assert (adapted - plain).abs().max() > 1e-3
    merge_lora(backbone)
    assert list(backbone.state_dict()) == names
    torch.testing.assert_close(backbone(IDS, MASK), adapted, atol=1e-5, rtol=1e-5)
    assert all(value.requires_grad for value in backbone.parameters())


@pytest.mark.parametrize("name", FAMILIES)
def test_only_adapters_learn(name: str) -> None:
    backbone = network(name).backbone
    add_lora(backbone, chosen(name).lora_targets, rank=2, alpha=4, dropout=0.0)
    learning = {path for path, value in backbone.named_parameters() if value.requires_grad}
    assert learning and all("lora_" in path for path in learning)


def test_names_that_match_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match="query, value; the linear modules of this network are .*Wqkv"):
        add_lora(network("dnabert2").backbone, ("query", "value"), rank=2, alpha=4, dropout=0.0)
    with pytest.raises(UsageError, match="nothing; the linear"):
        add_lora(network("dnabert").backbone, ("query", "nothing"), rank=2, alpha=4, dropout=0.0)
    with pytest.raises(UsageError, match="none given"):
        add_lora(network("dnabert").backbone, (), rank=2, alpha=4, dropout=0.0)


def test_without_peft_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    need_peft()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match=r"need the package peft: pip install 'genome-annotator\[learn\]'"):
        need_peft()
