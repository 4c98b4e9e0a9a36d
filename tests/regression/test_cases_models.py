"""Checkpoints as users have them: vocabulary files in any order, what stands in place of weights, what is given for a model."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from annotator.cli.app import main
from annotator.errors import EnvironmentFault, InputError
from annotator.models.checkpoints import read_checkpoint, write_checkpoint
from annotator.models.convert import convert, read_pickled_tensors
from annotator.models.directory import read_model
from annotator.models.families.dnabert import FAMILY as DNABERT
from annotator.models.families.registry import family
from annotator.models.task_models import load_task_model
from annotator.tokens.bpe import BpeTokenizer
from tests.support.family_models import tokenizer_text
from tests.support.finetune import ARCHITECTURES, checkpoint, write_table

SEQUENCE = "ACGTTGCAAGGCTTAACGNACGTTRGCA"
ROWS = torch.tensor([list(SEQUENCE.encode())], dtype=torch.uint8)
KMERS = ["".join(bases) for bases in product("ATCG", repeat=3)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ORDERS = {
    "published": SPECIAL + KMERS,
    "bases in alphabetical order": SPECIAL + sorted(KMERS),
    "special tokens last": sorted(KMERS, key=lambda kmer: kmer.translate(str.maketrans("ACTG", "0123"))) + SPECIAL,
    "reversed": (SPECIAL + KMERS)[::-1],
    "special tokens in between": KMERS[:30] + SPECIAL[::-1] + KMERS[30:],
}


def tiny(folder: Path, name: str = "dnabert", **changes: Any) -> Path:
    """A small checkpoint of this program's own layout."""
    return checkpoint(name, folder, **changes)


def words_json(tokens: list[str]) -> str:
    """A `tokenizer.json` of whole words."""
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return json.dumps({"added_tokens": [], "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}})


def in_order(folder: Path, order: list[int]) -> None:
    """Move the rows of a checkpoint's embedding and decoder: row i becomes row order[i]."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for name, value in tensors.items():
        if value.shape[:1] == (len(order),):
            moved = torch.empty_like(value)
            moved[order] = value
            tensors[name] = moved
    save_file(tensors, path)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("form", ["vocab.txt", "tokenizer.json", "both", "CRLF", "byte order mark", "more special tokens"])
def test_E08_the_vocabulary_file_decides_the_ids_of_kmers(tmp_path: Path, order: str, form: str) -> None:
    folder, tokens = tiny(tmp_path), ORDERS[order]
    text = "".join(f"{token}\n" for token in tokens)
    if form in ("tokenizer.json", "both"):
        (folder / "tokenizer.json").write_text(words_json(tokens))
    if form != "tokenizer.json":
        text = {"CRLF": text.replace("\n", "\r\n"), "more special tokens": f"{text}[BOS]\n<eos>\n\n"}.get(form, text)
        text = "\ufeff" + text if form == "byte order mark" else text
        (folder / "vocab.txt").write_bytes(text.encode())
    ids = {token: index for index, token in enumerate(tokens)}
    tokenizer = read_checkpoint(folder).tokenizer
    expected = [ids.get(SEQUENCE[at : at + 3], ids["[UNK]"]) for at in range(len(SEQUENCE) - 2)]
    assert tokenizer.encode(ROWS).ids[0].tolist() == [ids["[CLS]"], *expected, ids["[SEP]"]]
    assert (tokenizer.pad_id, tokenizer.mask_id) == (ids["[PAD]"], ids["[MASK]"])
    assert bool(tokenizer.files) == (order != "published")


@pytest.mark.parametrize("name", ["dnabert", "nucleotide-transformer", "nucleotide-transformer v1", "biogpt"])
def test_E08_a_network_in_another_order_says_the_same(tmp_path: Path, name: str) -> None:
    chosen = family(name.split()[0])
    architecture = ARCHITECTURES[chosen.name]
    architecture = (chosen.sizes["v1-tiny"] if name.endswith("v1") else chosen.sizes["tiny"]) | architecture
    torch.manual_seed(3)
    folder = write_checkpoint(tmp_path / "it", chosen, architecture, chosen.build(architecture))
    usual = read_checkpoint(folder)
    names = list(usual.tokenizer.names())  # type: ignore[attr-defined]
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(5)).tolist()
    if name.endswith("v1"):  # its positions count from the id of padding
        other = order.index(1)
        order[1], order[other] = 1, order[1]
    in_order(folder, order)
    lines = [""] * len(names)
    for at, token in zip(order, names, strict=True):
        lines[at] = token
    (folder / "vocab.txt").write_text("\n".join(lines))
    moved = read_checkpoint(folder)
    rows = ROWS.repeat(2, 1)
    with torch.inference_mode():
        ours, theirs = usual.tokenizer.encode(rows), moved.tokenizer.encode(rows)
        assert not torch.equal(ours.ids, theirs.ids)
        expected = usual.model(ours.ids, ours.attention_mask)
        torch.testing.assert_close(moved.model(theirs.ids, theirs.attention_mask)[..., order], expected, rtol=1e-5, atol=1e-6)
    paddings = [
        m.padding_idx for m in moved.model.modules() if isinstance(m, torch.nn.Embedding) and m.num_embeddings == len(names)
    ]
    assert paddings == [moved.tokenizer.pad_id]


WRONG: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a k-mer is missing": (lambda f: lines(f, SPECIAL + KMERS[:-1]), r"vocab\.txt: 68 tokens, but the network has 69 ids"),
    "another k": (lambda f: lines(f, SPECIAL + KMERS[:-1] + ["ACGT"]), r"vocab\.txt: line 69: 'ACGT' is no token"),
    "lower case": (lambda f: lines(f, SPECIAL + [kmer.lower() for kmer in KMERS]), r"vocab\.txt: line 6: 'aaa' is no token"),
    "twice": (lambda f: lines(f, SPECIAL + KMERS + ["AAA"]), r"line 70: token 'AAA' stands in line 6 already"),
    "blank line": (lambda f: lines(f, SPECIAL + ["", *KMERS]), r"vocab\.txt: line 6 is blank"),
    "a base instead of a special token": (lambda f: lines(f, ["A", *SPECIAL[1:], *KMERS]), r"line 1: 'A' is no token"),
    "mask beyond the network": (
        lambda f: lines(f, [*SPECIAL[:4], *KMERS, "[X]", "[MASK]"]), r"line 69: '\[X\]' is no token|'\[MASK\]' has id 69",
    ),
    "Latin-1": (lambda f: (f / "vocab.txt").write_bytes(b"\xe9\n"), r"vocab\.txt: not readable"),
    "the two disagree": (
        lambda f: (lines(f, ORDERS["reversed"]), (f / "tokenizer.json").write_text(words_json(SPECIAL + KMERS))),
        r"tokenizer\.json: token '\[PAD\]' has id 0, but vocab\.txt has it at id 68 \(line 69\)",
    ),
    "a pointer": (lambda f: (f / "vocab.txt").write_text("version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer"),
    "nothing": (lambda f: (f / "vocab.txt").write_text(""), "an empty file"),
    "no vocabulary": (lambda f: (f / "tokenizer.json").write_text('{"model": {}}'), r"tokenizer\.json: not a tokenizer's"),
}  # fmt: skip


def lines(folder: Path, tokens: list[str]) -> None:
    """Write a `vocab.txt`."""
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens))


@pytest.mark.parametrize("wrong", WRONG)
def test_E08_a_vocabulary_of_another_network_is_refused_at_its_first_token(tmp_path: Path, wrong: str) -> None:
    folder = tiny(tmp_path)
    spoil, said = WRONG[wrong]
    spoil(folder)
    with pytest.raises(InputError, match=said):
        read_checkpoint(folder)


@pytest.mark.parametrize(("pad", "fits"), [(0, True), (68, True), (None, True), (7, False)])
def test_E08_the_padding_of_a_configuration_is_the_familys_or_the_vocabularys(
    tmp_path: Path, pad: int | None, fits: bool
) -> None:
    folder = tiny(tmp_path)
    raw = json.loads((folder / "config.json").read_text())
    shape = {key: raw[key] for key in ARCHITECTURES["dnabert"] if key != "k"}
    config = shape | {"model_type": "bert", "vocab_size": 69} | ({} if pad is None else {"pad_token_id": pad})
    (folder / "config.json").write_text(json.dumps(config))
    tensors = load_file(folder / "model.safetensors")
    published = {name.removeprefix("backbone."): value for name, value in tensors.items() if name.startswith("backbone.")}
    save_file(published, folder / "model.safetensors")
    lines(folder, ORDERS["reversed"])
    if fits:
        assert read_checkpoint(folder).tokenizer.pad_id == 68
    else:
        with pytest.raises(InputError, match="pad_token_id: 7"):
            read_checkpoint(folder)


def test_E08_version_1_of_nucleotide_transformer_pads_where_its_positions_begin(tmp_path: Path) -> None:
    chosen = family("nucleotide-transformer")
    architecture = chosen.sizes["v1-tiny"] | ARCHITECTURES["nucleotide-transformer"]
    names = list(chosen.tokenizer(architecture, None).names())  # type: ignore[attr-defined]
    lines(tmp_path, ["<pad>", "<unk>", *names[2:]])
    with pytest.raises(InputError, match="gives <pad> the id 0, but the positions of version 1 count from id 1"):
        chosen.tokenizer(architecture, tmp_path)


def test_E08_fine_tuning_keeps_the_vocabulary_beside_the_new_weights(tmp_path: Path) -> None:
    folder, tokens = tiny(tmp_path), ORDERS["special tokens last"]
    lines(folder, tokens)
    train = write_table(tmp_path / "train.csv", 40, 1)
    out = tmp_path / "run"
    options = ["--steps", "2", "--batch", "4", "-o", str(out), "-t", "1", "-q", "--device", "cpu"]
    assert main(["finetune", "--base", str(folder), "--train", str(train), *options]) == 0
    model, manifest = read_model(str(out / "model"))
    assert manifest.tokenizer["file"] == "vocab.txt" and (model / "vocab.txt").read_text().split() == tokens
    _, tokenizer = load_task_model(model, manifest)
    ids = {token: index for index, token in enumerate(tokens)}
    assert tokenizer.encode(ROWS).ids[0, :3].tolist() == [ids["[CLS]"], ids["ACG"], ids["CGT"]]
    lines(model, ORDERS["published"])
    with pytest.raises(InputError, match="sha256"):
        load_task_model(model, manifest)
    (model / "vocab.txt").unlink()
    with pytest.raises(EnvironmentFault, match=r"vocab\.txt"):
        load_task_model(model, manifest)


CUTTING = {"direction": "Right", "max_length": 20, "strategy": "LongestFirst", "stride": 0}
PADDING = {
    "strategy": {"Fixed": 128}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 3, "pad_type_id": 0,
    "pad_token": "[PAD]",
}  # fmt: skip


@pytest.mark.parametrize(
    "left",
    [
        {"truncation": CUTTING}, {"padding": PADDING}, {"truncation": CUTTING, "padding": PADDING | {"strategy": "BatchLongest"}},
        {"truncation": {"max_length": 512}, "padding": {"strategy": "BatchLongest"}},
    ],
    ids=["truncation", "padding", "both", "of an older release"],
)  # fmt: skip
def test_E08_what_fine_tuning_leaves_in_the_tokenizer_changes_no_token(tmp_path: Path, left: dict[str, Any]) -> None:
    text = tokenizer_text()
    (tmp_path / "tokenizer.json").write_text(json.dumps(json.loads(text) | left))
    rows = torch.tensor([list((SEQUENCE * 20).encode())], dtype=torch.uint8)
    cleared, kept = BpeTokenizer(text).encode(rows), BpeTokenizer.read(tmp_path).encode(rows)
    assert torch.equal(cleared.ids, kept.ids) and kept.ids.shape[1] > 100


def test_E08_byte_pair_special_tokens_may_have_any_ids(tmp_path: Path) -> None:
    raw = json.loads(tokenizer_text())
    tokens = sorted(raw["model"]["vocab"], key=raw["model"]["vocab"].get)
    moved = [*tokens[5:20], "[SEP]", "[MASK]", "[PAD]", *tokens[20:], "[CLS]", "[UNK]"]
    assert sorted(moved) == sorted(tokens)
    ids = {token: index for index, token in enumerate(moved)}
    raw["model"]["vocab"] = ids
    for added in raw["added_tokens"]:
        added["id"] = ids[added["content"]]
    raw["added_tokens"].sort(key=lambda added: added["id"])
    for token, entry in raw["post_processor"]["special_tokens"].items():
        entry["ids"] = [ids[token]]
    found = BpeTokenizer(json.dumps(raw))
    usual, other = BpeTokenizer(tokenizer_text()).encode(ROWS), found.encode(ROWS)
    assert [moved[i] for i in other.ids[0].tolist()] == [tokens[i] for i in usual.ids[0].tolist()]
    assert torch.equal(usual.base_spans, other.base_spans) and (found.pad_id, found.mask_id) == (ids["[PAD]"], ids["[MASK]"])
    for entry in raw["post_processor"]["special_tokens"].values():
        entry["ids"] = [1]
    with pytest.raises(InputError, match="'post_processor': .* has id 1, but"):
        BpeTokenizer(json.dumps(raw))
    (tmp_path / "tokenizer.json").write_text(tokenizer_text())
    lines(tmp_path, [*tokens[:5], *tokens[6:], tokens[5]])
    with pytest.raises(InputError, match=r"tokenizer\.json: token .* but vocab\.txt has it at id"):
        BpeTokenizer.read(tmp_path)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 468354604\n"
INSTEAD = {
    "pointer": (POINTER, "a Git LFS pointer, not the file itself; `git lfs pull`"),
    "page": (b"<!DOCTYPE html>\n<html class=''><head>", "a web page, not the file itself"),
    "page without doctype": (b"\xef\xbb\xbf <HTML><body>Sign in</body>", "a web page, not the file itself"),
    "empty": (b"", "an empty file"),
    "answer of a server": (b"Entry not found", "a text file, not weights; it says 'Entry not found'"),
    "gzip": (b"\x1f\x8b\x08\x00" + bytes(60), "a gzip file; unpack it first"),
}


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "config.json", "model-00001-of-00001.safetensors"])
@pytest.mark.parametrize("what", INSTEAD)
def test_E09_what_stands_in_place_of_a_file_is_named(tmp_path: Path, what: str, name: str) -> None:
    folder = tiny(tmp_path)
    content, said = INSTEAD[what]
    if name != "config.json":
        (folder / "model.safetensors").unlink()
        if name.startswith("model-"):
            (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": name}}))
    elif what == "answer of a server":
        said = "not readable as JSON"
    (folder / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_checkpoint(folder)
    assert said in str(caught.value) and name in str(caught.value) and "pickle" not in str(caught.value)
    if name == "pytorch_model.bin":
        with pytest.raises(InputError) as caught:
            convert([folder], tmp_path / "out")
        assert said in str(caught.value) and not (tmp_path / "out").exists()


def test_E09_a_pickle_under_the_name_of_safetensors_is_called_so(tmp_path: Path) -> None:
    folder = tiny(tmp_path)
    torch.save({"x": torch.zeros(3)}, folder / "model.safetensors")
    with pytest.raises(InputError, match="a pickle under the name of a safetensors file"):
        read_checkpoint(folder)


@pytest.mark.parametrize("content", [pickle.dumps(Path("x")), pickle.dumps({"a": print}), b"\x80\x04garbage", bytes(300)])
def test_E09_no_message_advises_to_run_what_a_pickle_holds(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_pickled_tensors(path)
    said = str(caught.value)
    assert str(path) in said and "weights_only" not in said and "trust" not in said and "\n" not in said


def test_E09_a_model_directory_that_git_did_not_fetch_is_called_so(tmp_path: Path) -> None:
    from annotator.models.directory import BUNDLED

    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "manifest.json").write_bytes((BUNDLED / "compact" / "manifest.json").read_bytes())
    (folder / "model.safetensors").write_bytes(POINTER)
    with pytest.raises(InputError, match="Git LFS pointer"):
        read_model(str(folder))
    (folder / "manifest.json").write_bytes(POINTER)
    with pytest.raises(InputError, match=r"manifest\.json: a Git LFS pointer"):
        read_model(str(folder))


def adapter(folder: Path) -> None:
    """A folder that peft wrote."""
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"")


GIVEN: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "a base model": (
        lambda f: (f / "config.json").write_text("{}"), "a checkpoint, which calls nothing yet; `annotator finetune --base", "",
    ),
    "an adapter": (adapter, "an adapter alone", "an adapter alone"),
    "a run": (
        lambda f: ((f / "model").mkdir(), (f / "model" / "manifest.json").write_text("{}")), "the folder of a run; its model is",
        "annotate --model",
    ),
    "a pre-training run": (
        lambda f: ((f / "checkpoint").mkdir(), (f / "checkpoint" / "config.json").write_text("{}")),
        "`annotator finetune --base", "the folder of a pre-training run; give",
    ),
    "pickles": (lambda f: (f / "model.pt").write_bytes(b"x"), "`annotator models convert", "`annotator models convert"),
    "the hub's cache": (lambda f: (f / "snapshots" / "abc").mkdir(parents=True), "snapshots/abc", "snapshots/abc"),
    "a model": (lambda f: (f / "manifest.json").write_text("{}"), "", "a finished model; give `annotator annotate --model"),
    "something else": (lambda f: (f / "x").write_text(""), "no manifest.json", "no config.json; not a checkpoint"),
}  # fmt: skip


@pytest.mark.parametrize("what", GIVEN)
def test_E10_a_folder_that_is_no_model_is_told_its_command(tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    make, for_model, for_base = GIVEN[what]
    folder = tmp_path / "given"
    folder.mkdir()
    make(folder)
    if for_model:
        assert main(["models", "show", str(folder)]) == 3
        assert for_model in (said := capsys.readouterr().err) and said.count("\n") == 1
    if for_base:
        train = write_table(tmp_path / "train.csv", 10, 1)
        out = tmp_path / "out"
        assert main(["finetune", "--base", str(folder), "--train", str(train), "-o", str(out), "-q"]) == 3
        assert for_base in (said := capsys.readouterr().err) and said.count("\n") == 1
        assert not out.exists()


@pytest.mark.parametrize(
    ("name", "for_model", "for_base"),
    [
        (
            "zhihan1996/DNABERT-2-117M",
            "finetune --base hub:zhihan1996/DNABERT-2-117M@COMMIT",
            "hub:zhihan1996/DNABERT-2-117M@COMMIT",
        ),
        ("https://huggingface.co/zhihan1996/DNABERT-2-117M", "hub:zhihan1996/DNABERT-2-117M@", "hub:zhihan1996/DNABERT-2-117M@"),
        ("dnabert2", "`annotator finetune --base dnabert2:SIZE`", "such as dnabert2:small"),
        ("hub:a/b@" + "0" * 40, "`annotator finetune --base hub:a/b@", "not in the local cache"),
        ("nothing", "neither a bundled model", "no such directory"),
    ],
)
def test_E10_a_name_that_is_no_model_is_told_its_command(
    tmp_path: Path, name: str, for_model: str, for_base: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "show", name]) == 5
    assert for_model in capsys.readouterr().err
    train = write_table(tmp_path / "train.csv", 10, 1)
    assert main(["finetune", "--base", name, "--train", str(train), "-o", str(tmp_path / "out"), "-q"]) == 5
    assert for_base in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_E08_the_familys_own_order_needs_no_file() -> None:
    assert DNABERT.tokenizer(DNABERT.sizes["tiny"] | {"k": 3}, None).files == {}
