"""The BioGPT decoder with a DNA vocabulary, against transformers' own classes with the same random weights."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BioGptConfig, BioGptForCausalLM, BioGptForSequenceClassification, BioGptForTokenClassification

from annotator.models.checkpoints import read_checkpoint, write_checkpoint
from annotator.models.families.base import LanguageModel
from annotator.models.families.biogpt import FAMILY, BioGptBackbone

TINY = FAMILY.sizes["tiny"] | {"max_position_embeddings": 40}
LENGTHS = (3, 20, 1, 11)


def stock_config(**changes: Any) -> BioGptConfig:
    values = {name: value for name, value in TINY.items() if name != "kmer"} | changes
    return BioGptConfig(**values, pad_token_id=1, bos_token_id=5)


def stock(kind: type, **changes: Any) -> Any:
    torch.manual_seed(3)
    model = kind(stock_config(**changes)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return model


def loaded(state: dict[str, Tensor]) -> LanguageModel:
    model = FAMILY.build(TINY).eval()
    published = FAMILY.translate(state, TINY)
    assert published.unexpected == () and published.lm_head == {}
    model.load_state_dict({f"backbone.{name}": tensor for name, tensor in published.backbone.items()}, strict=True)
    return model


def padded() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(6, TINY["vocab_size"], (len(LENGTHS), max(LENGTHS)), generator=draw)
    ids[:, 0] = 5
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    return torch.where(mask, ids, 1), mask


def parameters(architecture: dict[str, Any]) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in FAMILY.build(architecture).parameters())


def test_parameters_are_those_of_the_stock_model() -> None:
    english = FAMILY.sizes["base"] | {"vocab_size": 42384}
    with torch.device("meta"):
        expected = sum(p.numel() for p in BioGptForCausalLM(BioGptConfig()).parameters())
    assert parameters(english) == expected == 346_763_264
    assert parameters(FAMILY.sizes["base"]) == expected - (42384 - 4107) * 1024 == 307_567_616


def test_the_published_configuration_gives_the_base_size_but_for_its_vocabulary() -> None:
    architecture = FAMILY.read_config(BioGptConfig().to_dict())
    assert architecture == FAMILY.sizes["base"] | {"vocab_size": 42384}
    with pytest.raises(ValueError, match=r"'vocab_size' is 42384, but the DNA vocabulary has 4107 ids"):
        FAMILY.tokenizer(architecture, None)


def test_logits_equal_the_stock_causal_model() -> None:
    reference = stock(BioGptForCausalLM)
    model = loaded(reference.state_dict())
    ids, mask = padded()
    with torch.no_grad():
        expected = reference(ids, attention_mask=mask.long()).logits
        logits = model(ids, mask)
        alone = reference(ids[1:2]).logits
    assert expected.std() > 0.3
    torch.testing.assert_close(logits[mask], expected[mask], atol=1e-5, rtol=0)
    torch.testing.assert_close(logits[1:2], alone, atol=1e-5, rtol=0)


def test_class_logits_equal_the_stock_classifier_on_the_last_real_token() -> None:
    reference = stock(BioGptForSequenceClassification, num_labels=3)
    state = reference.state_dict()
    model, head = loaded(state), FAMILY.translate(state, TINY).window_head
    assert head["out.weight"].shape == (3, 64) and head["out.bias"].tolist() == [0, 0, 0]
    ids, mask = padded()
    with torch.no_grad():
        last = model.backbone(ids, mask)[torch.arange(len(ids)), mask.sum(1) - 1]
        logits = nn.functional.linear(last, head["out.weight"], head["out.bias"])
        expected = reference(ids, attention_mask=mask.long()).logits
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


def test_a_token_sees_only_what_is_to_its_left() -> None:
    model = loaded(stock(BioGptForCausalLM).state_dict())
    ids, mask = padded()
    other = ids.clone()
    other[:, 10:] = 9
    with torch.no_grad():
        first, second = model(ids, mask), model(other, mask)
    assert torch.equal(first[:, :10], second[:, :10]) and not torch.equal(first[:, 10:], second[:, 10:])


def test_what_stands_in_the_padding_changes_no_bit() -> None:
    model = loaded(stock(BioGptForCausalLM).state_dict())
    ids, mask = padded()
    with torch.no_grad():
        assert torch.equal(model(ids, mask)[mask], model(torch.where(mask, ids, 30), mask)[mask])


def test_rows_begin_with_bos_and_have_the_ids_of_the_nucleotide_transformer() -> None:
    tokenizer = FAMILY.tokenizer(FAMILY.sizes["base"], None)
    assert (tokenizer.vocabulary_size, tokenizer.pad_id, tokenizer.mask_id, tokenizer.max_tokens) == (4107, 1, None, 1024)
    assert tokenizer.longest_bp() == 1023 * 6 == 6138
    row = torch.tensor([list(b"AAAAAAAAAAATGN"), list(b"AAAAAAAAAAATGG")], dtype=torch.uint8)
    tokens = tokenizer.encode(row)
    assert tokens.ids.tolist() == [[5, 6, 7, 4105, 4106], [5, 6, 7, 4105, 4105]]
    assert tokens.base_spans[0].tolist() == [[-1, -1], [0, 6], [6, 12], [12, 13], [13, 14]]
    longest = tokenizer.encode(torch.full((1, 6138), ord("A"), dtype=torch.uint8))
    assert longest.ids.shape == (1, 1024)
    assert tokenizer.encode(torch.full((1, 6139), ord("A"), dtype=torch.uint8)).ids.shape == (1, 1025)  # never cut


def test_more_tokens_than_positions_are_refused() -> None:
    model = FAMILY.build(TINY)
    assert model(torch.full((1, 40), 7), torch.ones(1, 40, dtype=torch.bool)).shape == (1, 40, 75)
    with pytest.raises(ValueError, match="41 tokens in a row; this network has 40 positions"):
        model(torch.full((1, 41), 7), torch.ones(1, 41, dtype=torch.bool))


def test_every_size_has_the_vocabulary_of_its_tokenizer() -> None:
    for architecture in FAMILY.sizes.values():
        assert FAMILY.tokenizer(architecture, None).vocabulary_size == architecture["vocab_size"]


def test_published_names_translate_both_ways() -> None:
    state = stock(BioGptForCausalLM).state_dict()
    published = FAMILY.translate(state, TINY)
    assert published.ignored == ("output_projection.weight",)
    back = {f"biogpt.{name.removeprefix('model.')}": tensor for name, tensor in published.backbone.items()}
    assert back.keys() == state.keys() - {"output_projection.weight"}
    assert all(torch.equal(back[name], state[name]) for name in back)
    assert set(published.backbone) == set(FAMILY.build(TINY).backbone.state_dict())


def test_names_that_the_network_lacks_are_unexpected() -> None:
    state = stock(BioGptForCausalLM).state_dict()
    for name in ("biogpt.layers.2.fc1.weight", "biogpt.layers.0.fc3.weight", "lm_head.weight"):
        assert FAMILY.translate(state | {name: torch.zeros(1)}, TINY).unexpected == (name,)
    untied = state | {"output_projection.weight": state["output_projection.weight"] + 1}
    assert FAMILY.translate(untied, TINY).unexpected == ("output_projection.weight",)
    tokens = stock(BioGptForTokenClassification).state_dict()
    assert FAMILY.translate(tokens, TINY).unexpected == ("classifier.bias", "classifier.weight")


def test_a_saved_stock_model_is_read_as_a_checkpoint_and_written_as_one(tmp_path: Path) -> None:
    reference = stock(BioGptForCausalLM)
    reference.save_pretrained(tmp_path / "stock")
    config = tmp_path / "stock" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"kmer": 3}))
    found = read_checkpoint(tmp_path / "stock")
    again = read_checkpoint(write_checkpoint(tmp_path / "own", found.family, found.architecture, found.model))
    ids, mask = padded()
    with torch.no_grad():
        for checkpoint in (found, again):
            assert (checkpoint.family, checkpoint.architecture, checkpoint.has_lm_head) == (FAMILY, TINY, True)
            torch.testing.assert_close(checkpoint.model(ids, mask)[mask], reference(ids).logits[mask], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("field", "value"),
    [("model_type", "gpt2"), ("hidden_act", "relu"), ("scale_embedding", False), ("tie_word_embeddings", False),
     ("layerdrop", 0.1), ("activation_dropout", 0.1), ("pad_token_id", 0), ("hidden_size", 1000), ("kmer", 9), ("kmer", 1),
     ("num_hidden_layers", 0), ("hidden_dropout_prob", 1.0)],
)  # fmt: skip
def test_a_configuration_of_another_network_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        FAMILY.read_config(BioGptConfig().to_dict() | {field: value})


def test_a_configuration_without_a_size_is_refused() -> None:
    for field in ("vocab_size", "hidden_size", "max_position_embeddings"):
        with pytest.raises(KeyError, match=field):
            FAMILY.read_config({name: value for name, value in BioGptConfig().to_dict().items() if name != field})


def test_the_output_stays_tied_on_meta_and_in_copies() -> None:
    state = loaded(stock(BioGptForCausalLM).state_dict()).state_dict()
    with torch.device("meta"):
        model = FAMILY.build(TINY).eval()
    model.load_state_dict(state, assign=True)
    twin = copy.deepcopy(model)
    assert isinstance(twin.backbone, BioGptBackbone)
    with torch.no_grad():
        twin.backbone.model.embed_tokens.weight.zero_()
        assert not twin.lm_head(torch.ones(64)).any() and model.lm_head(torch.ones(64)).any()
    with torch.inference_mode():
        model(*padded())
    model(*padded()).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_lora_finds_its_modules() -> None:
    linears = {name.rpartition(".")[2] for name, part in FAMILY.build(TINY).named_modules() if isinstance(part, nn.Linear)}
    assert set(FAMILY.lora_targets) <= linears
