"""Pre-training: every family learns, a killed run ends where an unbroken one ends, and the checkpoint reads back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from annotator.errors import InputError, UsageError
from annotator.models.checkpoints import read_checkpoint
from annotator.training.loop import Loop
from annotator.training.pretrain.options import CorpusOptions, MaskOptions, PretrainOptions, PretrainSettings
from annotator.training.pretrain.run import run_pretraining

TINY = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "dnabert": TINY | {"k": 3, "hidden_dropout_prob": 0.1, "max_position_embeddings": 128},
    "dnabert2": TINY | {"vocab_size": 40},
    "nucleotide-transformer": TINY | {"k": 2, "kmer_stride": 2},
    "biogpt": TINY | {"kmer": 2, "vocab_size": 27, "max_position_embeddings": 128, "hidden_dropout_prob": 0.0},
}


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Steps around A C G T of mostly one base, a pattern that reads the same on the other strand; some N."""
    rng = np.random.default_rng(1)
    path = tmp_path_factory.mktemp("corpus") / "genome.fa"
    with path.open("w") as file:
        for name, length in (("chr1", 30_000), ("chr2", 500), ("val", 8_000)):
            steps = np.where(rng.random(length) < 0.9, 1, rng.integers(4, size=length))
            bases = np.frombuffer(b"ACGT", np.uint8)[np.cumsum(steps) % 4].copy()
            bases[rng.integers(length, size=length // 400)] = ord("N")
            if name == "chr2":
                bases[::100] = ord("N")
            file.write(f">{name}\n{bases.tobytes().decode()}\n")
    return path


def settings(genome: Path, name: str, **train: Any) -> PretrainSettings:
    options = {
        "steps": 24,
        "batch_windows": 8,
        "learning_rate": 5e-3,
        "warmup_steps": 4,
        "checkpoint_steps": 7,
        "validate_steps": 12,
    }
    return PretrainSettings(
        CorpusOptions((genome,), held_out=("val",), window_bp=96, val_rows=30), name,
        architecture=ARCHITECTURES[name], mask=MaskOptions(share=0.3), train=PretrainOptions(**(options | train)),
    )  # fmt: skip


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def validations(folder: Path) -> list[dict[str, float]]:
    """Steps and figures of the validations; the loss beside them is a mean over the steps since a run was started."""
    rows = [row for row in metrics(folder) if "val_bits" in row]
    return [{key: value for key, value in row.items() if key == "step" or key.startswith("val_")} for row in rows]


def run(settings: PretrainSettings, folder: Path) -> dict[str, torch.Tensor]:
    found = run_pretraining(settings, folder, device="cpu", threads=1)
    assert found == folder / "checkpoint"
    tensors: dict[str, torch.Tensor] = load_file(found / "model.safetensors")
    return tensors


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(value.equal(other[name]) for name, value in one.items())


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_each_family_learns_and_its_checkpoint_reads_back(genome: Path, tmp_path: Path, name: str) -> None:
    weights = run(settings(genome, name, steps=60, validate_steps=30), tmp_path)
    seen = [row for row in metrics(tmp_path) if "val_bits" in row]
    assert [row["step"] for row in seen] == [0, 30, 60]
    assert seen[-1]["val_bits"] < seen[0]["val_bits"] - 0.05
    assert seen[-1]["val_perplexity"] < seen[0]["val_perplexity"]
    assert all(row["val_bases"] > 100 and row["val_two_sided_bits"] != row["val_markov_bits"] < 1.2 for row in seen)
    found = read_checkpoint(tmp_path / "checkpoint")
    assert found.family.name == name and found.architecture == ARCHITECTURES[name] and found.has_lm_head
    assert equal(weights, {key: value for key, value in found.model.state_dict().items() if key in weights})
    rows = torch.from_numpy(np.frombuffer(b"ACGTACGTACGTACGTACGT", np.uint8).reshape(1, -1).copy())
    assert found.tokenizer.encode(rows).ids.max() < found.tokenizer.vocabulary_size


class Killed(BaseException):
    """Stands for a kill: nothing in the program catches it."""


@pytest.mark.parametrize("name", list(ARCHITECTURES))
@pytest.mark.parametrize("windows", ["random", "tiled"])
def test_killed_and_resumed_ends_at_the_same_weights(
    genome: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, windows: str
) -> None:
    wanted = settings(genome, name, bf16=windows == "tiled")
    wanted = replace(wanted, corpus=replace(wanted.corpus, windows=windows))
    unbroken = run(wanted, tmp_path / "unbroken")
    real = Loop._one_step
    for kill_at in (3, 17, 18):  # before the first checkpoint, after the second, and once more

        def dies(self: Loop, kill_at: int = kill_at) -> None:
            if self.step == kill_at:
                raise Killed
            real(self)

        monkeypatch.setattr(Loop, "_one_step", dies)
        with pytest.raises(Killed):
            run(wanted, tmp_path / "killed")
        assert not (tmp_path / "killed" / "checkpoint").exists()
    monkeypatch.setattr(Loop, "_one_step", real)
    assert equal(run(wanted, tmp_path / "killed"), unbroken)
    assert validations(tmp_path / "killed") == validations(tmp_path / "unbroken")
    assert [row["step"] for row in validations(tmp_path / "killed")] == [0, 12, 24]


def test_a_finished_run_does_nothing_more_and_another_is_refused(genome: Path, tmp_path: Path) -> None:
    wanted = settings(genome, "dnabert", steps=4)
    first = run(wanted, tmp_path)
    seen = metrics(tmp_path)
    assert equal(run(wanted, tmp_path), first) and metrics(tmp_path) == seen
    with pytest.raises(UsageError, match="share = 0.3, now 0.4"):
        run(replace(wanted, mask=MaskOptions(share=0.4)), tmp_path)


def test_accumulated_parts_are_one_batch(genome: Path, tmp_path: Path) -> None:
    one = run(settings(genome, "nucleotide-transformer", steps=5), tmp_path / "one")
    parts = run(settings(genome, "nucleotide-transformer", steps=5, accumulation=3), tmp_path / "parts")
    assert all(torch.allclose(value, parts[name], atol=1e-4) for name, value in one.items())
    assert not equal(one, run(settings(genome, "nucleotide-transformer", steps=5, seed=2), tmp_path / "other"))


def test_going_on_from_a_checkpoint(genome: Path, tmp_path: Path) -> None:
    wanted = replace(settings(genome, "dnabert", steps=40), licence="CC0-1.0")
    run(wanted, tmp_path / "first")
    again = replace(wanted, family=None, architecture={}, checkpoint=tmp_path / "first" / "checkpoint", licence="ignored")
    run(again, tmp_path / "second")
    first, second = metrics(tmp_path / "first"), metrics(tmp_path / "second")
    assert second[0]["step"] == 0 and second[0]["val_bits"] == first[-1]["val_bits"] < first[0]["val_bits"]
    assert json.loads((tmp_path / "second" / "checkpoint" / "config.json").read_text())["licence"] == "CC0-1.0"
    with pytest.raises(UsageError, match="its own architecture"):
        run(replace(again, architecture={"k": 3}), tmp_path / "third")


def test_a_tokenizer_that_another_run_left_behind_is_learnt_anew(genome: Path, tmp_path: Path) -> None:
    wanted = settings(genome, "dnabert2", steps=4)
    fresh = run(wanted, tmp_path / "fresh")
    (tmp_path / "stale").mkdir()
    (tmp_path / "stale" / "tokenizer.json").write_text("{}")
    assert equal(run(wanted, tmp_path / "stale"), fresh)
    texts = [(tmp_path / folder / "checkpoint" / "tokenizer.json").read_bytes() for folder in ("fresh", "stale")]
    assert texts[0] == texts[1]


def test_validation_files_beside_the_corpus(genome: Path, tmp_path: Path) -> None:
    wanted = settings(genome, "dnabert", steps=4)
    lines = genome.read_text().split(">")
    (tmp_path / "train.fa").write_text("".join(f">{part}" for part in lines[1:3]))
    (tmp_path / "val.fa").write_text(f">{lines[3]}")
    apart = replace(wanted.corpus, fasta=(tmp_path / "train.fa",), held_out=(), val_fasta=(tmp_path / "val.fa",))
    assert equal(run(wanted, tmp_path / "one"), run(replace(wanted, corpus=apart), tmp_path / "two"))
    assert metrics(tmp_path / "one")[0] == metrics(tmp_path / "two")[0]


@pytest.mark.parametrize(
    ("change", "error", "why"),
    [
        ({"family": None}, UsageError, "^family: give a family to begin with, or a checkpoint"),
        ({"family": "bert"}, UsageError, "no model family 'bert'"),
        ({"architecture": {}}, UsageError, "^size: give one of tiny"),
        ({"size": "huge"}, UsageError, "^size='huge': dnabert has tiny"),
        ({"architecture": {"k": 9}}, UsageError, "k: must be"),
        ({"corpus": {"fasta": ()}}, UsageError, "nothing to learn from"),
        ({"corpus": {"held_out": ()}}, UsageError, "^val_fasta: nothing to validate on"),
        ({"corpus": {"held_out": ("chr1", "chr2", "val")}}, UsageError, "every one held out"),
        ({"corpus": {"val_fasta": (Path("val.fa"),)}}, UsageError, "^val_fasta: not together with contigs"),
        ({"family": "dnabert2", "architecture": TINY}, UsageError, "field 'vocab_size' is missing"),
        ({"corpus": {"held_out": ("chrX",)}}, UsageError, "'chrX' is in none of the files"),
        ({"corpus": {"window_bp": 200}}, UsageError, "^window_bp=200: dnabert takes 128 bp at most"),
        ({"corpus": {"window_bp": 16}}, UsageError, "^window_bp=16: windows of 16 bp are too short"),
        (
            {"corpus": {"held_out": ("chr1", "val"), "window_bp": 126, "max_n_share": 0.0}},
            InputError,
            "hardly a window of 126 bp",
        ),
    ],
)
def test_what_cannot_be_run_is_refused(
    genome: Path, tmp_path: Path, change: dict[str, Any], error: type[Exception], why: str
) -> None:
    wanted = settings(genome, "dnabert")
    corpus = replace(wanted.corpus, **change.get("corpus", {}))
    with pytest.raises(error, match=why):
        run(replace(wanted, **(change | {"corpus": corpus})), tmp_path)
