"""The compact network fine-tuned for tracks of one's own: learnt, written, measured, annotated, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from annotator.cli.app import main
from annotator.errors import InputError
from annotator.kinds import Kind
from annotator.models.directory import read_model
from annotator.models.families.compact.net import CLADE_INDEX
from annotator.models.families.compact.scan import load_compact
from annotator.training.finetune.compact_bases import compact_bases
from annotator.training.finetune.options import (
    COMPACT,
    COMPACT_RANDOM,
    FeatureTrack,
    FinetuneOptions,
    FinetuneSettings,
    GenomeData,
    GenomeFiles,
    is_compact_network,
)
from annotator.training.finetune.run import run_finetuning
from tests.support.finetune import genome
from tests.support.runs import annotate, plant, random_bases, write_fasta

TRACKS = (FeatureTrack("CRE"), FeatureTrack("open", Kind.TFBS))


def with_two_tracks(files: GenomeFiles, folder: Path) -> GenomeFiles:
    """A planted genome without sites, whose palindromes are one track and whose introns are another."""
    (_, peaks), path = files.features[0], folder / f"{files.organism.name}.open.bed"
    lines = [line.split("\t") for line in peaks.read_text().splitlines()]
    path.write_text("".join(f"{contig}\t{int(start) - 108}\t{int(start) - 48}\n" for contig, start, _ in lines))
    return GenomeFiles(replace(files.organism, truth=None), (("CRE", peaks), ("open", path)))


def settings(folder: Path, base: str, **options: Any) -> FinetuneSettings:
    sides = [with_two_tracks(genome(folder, name, seed), folder) for name, seed in (("one", 1), ("two", 2))]
    data = GenomeData((sides[0],), (sides[1],), TRACKS, window_bp=512, margin_bp=64)
    chosen = {"steps": 80, "batch_windows": 8, "learning_rate": 5e-3, "validate_steps": 40, "dropout": 0.0, "ema": 0.8} | options
    return FinetuneSettings("features", base, data, options=FinetuneOptions(**chosen))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of the genomes, and the model."""
    folder = tmp_path_factory.mktemp("features")
    return folder, run_finetuning(settings(folder, COMPACT), folder / "run", device="cpu", threads=1)


def test_two_tracks_without_sites_are_learnt_and_called(tuned: tuple[Path, Path], tmp_path: Path) -> None:
    folder, model = tuned
    manifest = json.loads((model / "manifest.json").read_text())
    assert manifest["family"] == "compact" and manifest["tracks"] == ["CRE", "open"]
    assert manifest["architecture"]["tracks"] == 2 and manifest["architecture"]["clades"] == 1
    assert manifest["features"]["CRE"] == {"kind": "feature", "width_bp": 40}
    assert manifest["training"]["base"].startswith("compact ") and manifest["licence"] == read_model(COMPACT)[1].licence
    # Maxima anywhere would be right about once in seven.
    assert min(manifest["metrics"][f"{track}_auprc"] for track in manifest["tracks"]) > 0.4
    assert annotate(folder / "two.fa", "-o", tmp_path / "out", "--model", model, "--tfbs-pvalue", "1e-9") == 0
    calls = pl.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert set(calls["name"].unique()) >= {"CRE", "open"} and set(calls["kind"].cast(str).unique()) <= {"feature", "tfbs"}
    peaks = [int(line.split()[1]) for line in (folder / "two.peaks.bed").read_text().splitlines()]
    called = calls.filter(pl.col("name") == "CRE")["start"].to_numpy()
    assert np.mean([np.abs(called - peak).min() <= 20 for peak in peaks]) > 0.5


def test_evaluate_measures_tiles_of_features(
    tuned: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, model = tuned
    text, sparse = random_bases(12_000, 9), tmp_path / "cre.bed"
    for at in range(100, 12_000, 1_000):  # in the middle of every fifth tile
        text = plant(text, "TGACGTCATGACGTCA", at)
    sparse.write_text("".join(f"chr1\t{at}\t{at + 200}\n" for at in range(0, 12_000, 1_000)))
    fasta = write_fasta(tmp_path / "tiles.fa", {"chr1": text})
    command = ["evaluate", str(model), "--fasta", str(fasta), "--replicates", "20", "-t", "1", "--device", "cpu"]
    assert main([*command, "--feature", f"CRE={sparse}", "--json", str(tmp_path / "out.json")]) == 0
    said = capsys.readouterr().out
    assert "tiles of 200 bp" in said and "open: no BED file of its elements was given" in said
    (found,) = json.loads((tmp_path / "out.json").read_text())["elements"]
    assert (found["name"], found["elements"], found["tiles"], found["inside"]) == ("CRE", 12, 60, 12)
    assert found["auroc"]["value"] > 0.9 and found["auprc"]["value"] > found["base_rate"]
    for more, code, said in (
        (["--feature", f"CRE={tmp_path / 'nothing.bed'}"], 2, "no such file"),
        (["--feature", f"other={sparse}"], 2, "nothing to measure"),
        (["--feature", f"CRE={sparse}", "--trim-bp", "100"], 2, "--trim-bp: only with --truth alone"),
        (["--feature", f"CRE={sparse}", "--mask", str(sparse)], 2, "--mask: only with --truth"),
        ([], 2, "with its --truth or --feature"),
    ):
        assert main([*command, *more]) == code, more
        assert said in capsys.readouterr().err, more


def test_a_tuned_model_is_a_base_again_and_keeps_what_it_knows(tuned: tuple[Path, Path]) -> None:
    folder, model = tuned
    assert is_compact_network(str(model)) and not is_compact_network(str(folder))
    ids = torch.randint(5, 4101, (2, 64), generator=torch.Generator().manual_seed(1))
    clade = torch.zeros(2, dtype=torch.int64)
    first = load_compact(*read_model(str(model)), "vertebrate")
    again = compact_bases(settings(folder, str(model)), ("open", "more", "CRE")).model.eval()
    found = again(ids, clade)
    assert torch.equal(found[:, :, [2, 0]], first(ids, clade))
    bundled = load_compact(*read_model(COMPACT), "vertebrate")
    grown = compact_bases(settings(folder, COMPACT), ("acceptor", "CRE")).model.eval()(ids, clade)
    own = torch.full((2,), CLADE_INDEX["vertebrate"])
    assert torch.equal(grown[:, :, 0], bundled(ids, own)[:, :, 1])


def test_from_scratch_is_the_same_shape_and_the_seed_decides(tmp_path: Path) -> None:
    chosen = settings(tmp_path, COMPACT_RANDOM)
    bases = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        bases.append(compact_bases(chosen, ("CRE", "open")))
    weights = [base.model.state_dict()["stem.0.conv.weight"] for base in bases]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert bases[0].described == {"base": "random weights"}
    assert bases[0].architecture == compact_bases(settings(tmp_path, COMPACT), ("CRE", "open")).architecture


def test_what_cannot_start_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = (with_two_tracks(genome(tmp_path, name, seed), tmp_path) for name, seed in (("one", 1), ("two", 2)))
    command = ["finetune", "-o", str(tmp_path / "run"), "--steps", "2", "-t", "1", "--device", "cpu", "--quiet"]
    for files, prefix in ((one, "--"), (two, "--val-")):
        command += [f"{prefix}fasta", str(files.organism.fasta)]
        command += [word for name, path in files.features for word in (f"{prefix}feature", f"{name}={path}")]
    missing = [word.replace("two.open.bed", "three.open.bed") for word in command]
    for arguments, code, said in (
        ([*command, "--lora"], 2, "LoRA"),
        ([*command, "--processes", "2"], 2, "one process"),
        ([*command, "--window-bp", "1001"], 2, "multiples of 8 bp"),
        ([*command, "--sigma-bp", "0"], 2, "--sigma-bp 0"),
        ([*command, "--window-bp", "512", "--margin-bp", "256"], 2, "too short"),
        (missing, 2, "three.open.bed"),
        ([*command, "--base", "compact:huge"], 5, "compact:huge"),
    ):
        assert main(arguments) == code, arguments
        (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        assert said in line
        assert not (tmp_path / "run" / "model").exists()


def test_a_model_with_a_track_that_says_nothing_of_itself_is_refused(tuned: tuple[Path, Path], tmp_path: Path) -> None:
    _, model = tuned
    raw = json.loads((model / "manifest.json").read_text())
    del raw["features"]["CRE"]
    for name in ("model.safetensors",):
        (tmp_path / name).write_bytes((model / name).read_bytes())
    (tmp_path / "manifest.json").write_text(json.dumps(raw))
    with pytest.raises(InputError, match="'CRE' is neither one of"):
        read_model(str(tmp_path))
