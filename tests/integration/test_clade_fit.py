"""`annotate` compares the clades of a model on a sample of the genome: says so, or chooses."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from annotator.api import annotate
from annotator.cli.app import main
from annotator.errors import UsageError
from annotator.kinds import Kind
from annotator.models.directory import read_model, write_model
from annotator.models.families.compact.merge import merge_clades
from annotator.models.weights import read_safetensors
from tests.support.detector import ACCEPTOR, DONOR, write_detector


@pytest.fixture(scope="module")
def two_clades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose plant network knows the planted signals, and whose vertebrate network is unsure of all that it sees."""
    folder = tmp_path_factory.mktemp("clades")
    sure = write_detector(folder / "detector")
    manifest = read_model(str(sure))[1]
    tensors = read_safetensors(sure / manifest.weights)
    unsure = tensors | {"head.weight": tensors["head.weight"] * 0.45}  # a planted site has the log-odds -1, not +10
    models = []
    for clade, weights in (("vertebrate", unsure), ("plant", tensors)):
        alone = replace(manifest, clades={clade: manifest.clades[clade]}, default_clade=clade)
        models.append(str(write_model(folder / clade, alone, weights)))
    return merge_clades(models, folder / "both", name="both")


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A contig with 200 planted sites."""
    rng = np.random.default_rng(7)
    pieces = ["".join(rng.choice(list("AT"), 300)) + (DONOR if i % 2 else ACCEPTOR) for i in range(200)]
    path = tmp_path_factory.mktemp("genome") / "g.fa"
    path.write_text(">one\n" + "".join(pieces) + "\n")
    return path


def test_a_better_clade_is_named_and_the_run_goes_on(
    two_clades: Path, genome: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    annotate(genome, tmp_path / "v", model=str(two_clades), tasks=("splice",), clade="vertebrate")
    said = [record.message for record in caplog.records if "fit this genome better" in record.message]
    assert len(said) == 1 and "clade plant" in said[0] and "g.fa" in said[0]
    caplog.clear()
    annotate(genome, tmp_path / "p", model=str(two_clades), tasks=("splice",), clade="plant")
    assert "fit this genome better" not in caplog.text


def test_plan_names_it_too_and_a_driver_of_workers_looks_at_no_sample(
    two_clades: Path, genome: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = [str(genome), "--model", str(two_clades), "--tasks", "splice", "--clade", "vertebrate", "--device", "cpu"]
    assert main(["plan", *base]) == 0
    assert "the settings of clade plant fit this genome better" in capsys.readouterr().err
    monkeypatch.setattr("annotator.pipeline.clade_fit.load_sample_scan", lambda *_: pytest.fail("a sample is scanned"))
    assert main(["annotate", *base, "-o", str(tmp_path / "w"), "--workers", "1"]) == 0


def test_auto_chooses_the_best_clade_and_writes_what_naming_it_writes(
    two_clades: Path, genome: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for name in ("auto", "plant"):
        annotate(genome, tmp_path / name, model=str(two_clades), tasks=("splice",), clade=name)
    assert "clade: plant fits best" in caplog.text
    digests = {hashlib.sha256((tmp_path / name / "predictions.parquet").read_bytes()).digest() for name in ("auto", "plant")}
    assert len(digests) == 1
    assert json.loads((tmp_path / "auto/run.json").read_text())["plan"]["clade"] == "plant"
    caplog.clear()
    annotate(genome, tmp_path / "auto", model=str(two_clades), tasks=("splice",), clade="auto")
    assert "already complete" in caplog.text


def test_choosing_says_nothing_of_what_another_clade_would_do(
    two_clades: Path, genome: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The bundled model of bound sites is for vertebrates, which are looked at first; the choice is plant."""
    caplog.set_level(logging.INFO)
    annotate(genome, tmp_path / "all", model=str(two_clades), clade="auto")
    assert "clade: plant fits best" in caplog.text and "to be bound" not in caplog.text
    caplog.clear()
    annotate(genome, tmp_path / "said", model=str(two_clades), clade="auto", tasks=("splice",), bound=tmp_path / "model")
    assert sum("this run calls no motifs" in record.message for record in caplog.records) == 1


def test_where_no_clade_can_be_chosen_the_line_says_why(two_clades: Path, genome: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.fa"
    empty.write_text(">one\n" + "AT" * 3000 + "\n")
    with pytest.raises(UsageError, match=r"empty.fa: too few splice calls to choose by .* name one"):
        annotate(empty, tmp_path / "e", model=str(two_clades), tasks=("splice",), clade="auto")
    with pytest.raises(UsageError, match="each of several assemblies may have another"):
        annotate([genome, empty], tmp_path / "b", model=str(two_clades), tasks=("splice",), clade="auto")
    pipe = tmp_path / "pipe.bed"
    os.mkfifo(pipe)
    for fasta, regions in ((pipe, None), (genome, pipe)):
        with pytest.raises(UsageError, match=r"pipe\.bed: it has to be read twice, and is no file"):
            annotate(fasta, tmp_path / "f", model=str(two_clades), tasks=("splice",), clade="auto", regions=regions)
    alone = tmp_path / "alone"
    folder, manifest = read_model(str(two_clades))
    one = replace(manifest, clades={"plant": replace(manifest.clades["plant"], validated=(Kind.PROMOTER,))})
    write_model(alone, one, {k: v for k, v in read_safetensors(folder / manifest.weights).items() if k.startswith("plant")})
    with pytest.raises(UsageError, match="has no clades to choose from"):
        annotate(genome, tmp_path / "a", model=str(alone), tasks=("splice",), clade="auto")
    assert not (tmp_path / "e").exists() and not (tmp_path / "a").exists()


def test_an_own_model_of_one_clade_costs_no_sample(
    two_clades: Path, genome: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("annotator.pipeline.clade_fit.load_sample_scan", lambda *_: pytest.fail("a sample is scanned"))
    annotate(genome, tmp_path / "one", model=str(two_clades.parent / "plant"), tasks=("splice",))
    with pytest.raises(pytest.fail.Exception, match="a sample is scanned"):  # as it is with two
        annotate(genome, tmp_path / "two", model=str(two_clades), tasks=("splice",))
