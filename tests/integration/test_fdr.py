"""`annotate --fdr`: thresholds that decoys of each genome give, the same in every executor and after every resume.

The detector finds its donor word with certainty and a second, weak word at a probability of 0.119: whether weak words are calls
shows which threshold a genome had.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import annotator
from annotator.calls.error_rate import LADDER
from annotator.calls.sample_scan import SampleScan
from annotator.cli.app import main
from annotator.errors import InputError
from annotator.genome.decoys import sample_spans
from annotator.genome.options import GenomeOptions
from annotator.genome.plan import PlanOptions
from annotator.genome.source import open_genome
from annotator.kinds import Kind
from annotator.models.directory import read_model
from annotator.models.manifest import read_manifest
from annotator.pipeline.error_rate import DecoyThresholds
from annotator.tokens.vocabulary import KmerVocabulary
from tests.support.detector import ACCEPTOR, DONOR, write_detector
from tests.support.runs import plant, results, revcomp, write_fasta
from tests.support.toy_task import CutShort

WEAK = "CTGGTC"
WEAK_PROBABILITY = 1 / (1 + np.exp(2.0))
BETWEEN = next(rung for rung in LADDER if rung > WEAK_PROBABILITY)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The detector with a weak donor word: its logit is -2."""
    folder = write_detector(tmp_path_factory.mktemp("model"))
    path = folder / "model.safetensors"
    weights = load_file(path)
    with torch.no_grad():
        weights["embed.weight"][KmerVocabulary(6).encode(WEAK), 0] = 0.4
    save_file(weights, path)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["weights_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def genome(path: Path, planted: dict[str, int], length: int = 150_000, seed: int = 3) -> Path:
    """Two contigs of random bases, a stretch of N among them, with words on the plus strand at even distances."""
    text = "".join(np.random.default_rng(seed).choice(list("ACGT"), length))
    text = text[:40_000] + "N" * 500 + text[40_500:]
    words = [word for word, count in planted.items() for _ in range(count)]
    for at, word in zip(np.linspace(100, length - 100, len(words)).astype(int), words, strict=True):
        if "N" not in text[at - 6 : at + 12]:
            text = plant(text, word, int(at))
    return write_fasta(path, {"chr1": text[:100_000], "chr2": text[100_000:]})


def arguments(fasta: Path, out: Path, model: Path, *more: str) -> list[str]:
    fixed = ["--model", str(model), "--tasks", "splice", "--device", "cpu", "-t", "1", "--shard-bp", "40000", "--fdr", "0.1"]
    return ["annotate", str(fasta), "-o", str(out), *fixed, *more]


def plan_of(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "run.json").read_text())["plan"])


@pytest.fixture(scope="module")
def strong_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Strong words are there because they were planted, weak ones and acceptors by chance."""
    return genome(tmp_path_factory.mktemp("genome") / "strong.fa", {DONOR: 1000})


@pytest.fixture(scope="module")
def finished(strong_only: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "out"
    assert main(arguments(strong_only, out, model, "-q")) == 0
    return out


def words_in(fasta: Path, word: str) -> int:
    texts = ["".join(record.split("\n")[1:]) for record in fasta.read_text().split(">")[1:]]
    return sum(len(re.findall(f"(?={w})", text)) for text in texts for w in (word, revcomp(word)))


def test_the_threshold_lies_where_calls_are_more_than_chance(strong_only: Path, finished: Path) -> None:
    plan = plan_of(finished)
    assert plan["thresholds"] == {"donor": BETWEEN, "acceptor": 0.5}  # of acceptors decoys have as many as the genome
    assert plan["fdr"] == {
        "rate": 0.1, "seed": 1, "shuffled_bp": 1000, "sampled_bp": 150_000, "scanned_bp": 300_000,
        "fit": dict.fromkeys(("donor", "acceptor"), {"factor": 1.0, "power": 1.0}),
    }  # fmt: skip
    lowest, chosen = (next(r for r in plan["fdr_ladder"]["donor"] if r["threshold"] == t) for t in (LADDER[0], BETWEEN))
    assert chosen["calls"] == words_in(strong_only, DONOR) > 1000
    assert lowest["calls"] == chosen["calls"] + words_in(strong_only, WEAK)
    by_chance = 2 * 150_000 / 4**6
    assert 0.6 * by_chance < lowest["decoy_calls"] - chosen["decoy_calls"] < 1.6 * by_chance
    assert chosen["fdr"] == pytest.approx((chosen["decoy_calls"] + 1) / chosen["calls"], abs=1e-6)
    assert chosen["fdr"] <= 0.1 < lowest["fdr"]
    calls = annotator.open_results(finished).calls(kind="donor").collect()
    assert len(calls) == chosen["calls"] and calls["probability"].min() > 0.9
    assert len(annotator.open_results(finished).calls(kind="acceptor").collect()) == words_in(strong_only, ACCEPTOR)


@pytest.mark.parametrize(
    "executor",
    [("--workers", "2"), pytest.param(("--ray", "local", "--workers", "2"), marks=[pytest.mark.ray, pytest.mark.slow])],
)
def test_C09_every_executor_gives_the_same_bytes(
    executor: tuple[str, ...], strong_only: Path, finished: Path, model: Path, tmp_path: Path
) -> None:
    assert main(arguments(strong_only, tmp_path / "out", model, "-q", *executor)) == 0
    assert results(tmp_path / "out") == results(finished)
    assert plan_of(tmp_path / "out") == plan_of(finished)


def test_a_resumed_run_keeps_its_thresholds_without_scanning_again(
    strong_only: Path, finished: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert main(arguments(strong_only, out, model, "-q"), task=partial(CutShort, after=2)) == 130
    monkeypatch.setattr(DecoyThresholds, "find", None)  # a call would fail
    assert main(arguments(strong_only, out, model, "-q")) == 0
    assert results(out) == results(finished) and plan_of(out) == plan_of(finished)
    assert main(arguments(strong_only, out, model, "-q")) == 0  # complete: nothing to do


def test_each_genome_of_a_run_has_its_own(model: Path, strong_only: Path, finished: Path, tmp_path: Path) -> None:
    both = genome(tmp_path / "both.fa", {DONOR: 800, WEAK: 800})
    out = tmp_path / "out"
    found = annotator.annotate(
        [both, strong_only], out, model=model, tasks=("splice",), device="cpu", threads=1, shard_bp=40_000, fdr=0.1
    )
    assert plan_of(out / "both")["thresholds"]["donor"] == LADDER[0]
    calls = found.samples["both"].calls(kind="donor").collect()
    assert len(calls) == words_in(both, DONOR) + words_in(both, WEAK)
    assert results(out / "strong") == results(finished)


def test_a_tiny_genome_falls_back_and_says_so(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fasta = write_fasta(tmp_path / "tiny.fa", {"c": "ACGTTGCA" * 40 + DONOR + "ACGTTGCA" * 40})
    assert main(arguments(fasta, tmp_path / "out", model, "-q")) == 0
    warned = [line for line in capfd.readouterr().err.splitlines() if "fdr" in line]
    assert len(warned) == 1
    few = "1 donor calls in the sample are too few; 0 acceptor calls in the sample are too few"
    assert f"--fdr 0.1 cannot be estimated or reached ({few}); " in warned[0]
    assert "the model's thresholds are used: donor 0.500, acceptor 0.500" in warned[0]
    assert plan_of(tmp_path / "out")["thresholds"] == {"donor": 0.5, "acceptor": 0.5}
    without = [a for a in arguments(fasta, tmp_path / "without", model, "-q") if a not in ("--fdr", "0.1")]
    assert main(without) == 0
    assert results(tmp_path / "without") == results(tmp_path / "out")


def test_the_fit_of_the_model_counts(strong_only: Path, finished: Path, model: Path, tmp_path: Path) -> None:
    """Twice as many false calls as decoys show put the rate out of reach."""
    folder = shutil.copytree(model, tmp_path / "model")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["clades"]["vertebrate"]["decoy_fit"] = {"donor": {"factor": 2.0, "power": 1.0}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert main(arguments(strong_only, tmp_path / "out", folder, "-q")) == 0
    plan, before = plan_of(tmp_path / "out"), plan_of(finished)
    assert plan["thresholds"]["donor"] == 0.5 and plan["fdr"]["fit"]["donor"] == {"factor": 2.0, "power": 1.0}
    for twice, once in zip(plan["fdr_ladder"]["donor"], before["fdr_ladder"]["donor"], strict=True):
        assert twice["fdr"] == pytest.approx(2 * once["fdr"], abs=2e-6)
    manifest["clades"]["vertebrate"]["decoy_fit"] = {"donor": {"factor": 1, "power": 0}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(
        InputError, match=r"manifest\.json: field 'clades\.vertebrate\.decoy_fit': .*power=0.* of donor is not above 0"
    ):
        read_manifest(folder)


def test_calls_and_decoys_keep_to_the_regions(strong_only: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "r.bed").write_text("chr1\t10000\t30000\nchr2\t0\t100\n")
    assert main(arguments(strong_only, tmp_path / "out", model, "-q", "--regions", str(tmp_path / "r.bed"))) == 0
    ladder = plan_of(tmp_path / "out")["fdr_ladder"]["donor"]
    assert 110 < ladder[0]["calls"] < 200 and ladder[0]["decoy_calls"] < 50


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--threshold", "donor=0.3"), "--fdr 0.1: sets the threshold of every kind; leave out --threshold, or this"),
        (("--fdr", "1.5"), "--fdr 1.5: lies between 0 and 1"),
        (("--fdr", "0"), "--fdr 0: lies between 0 and 1"),
    ],
)
def test_impossible_rates_are_refused(
    more: tuple[str, ...], said: str, strong_only: Path, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(strong_only, tmp_path / "out", model, "-q", *more)) == 2
    assert capfd.readouterr().err == f"annotator: error: {said}\n"
    assert not (tmp_path / "out").exists()


def test_another_rate_is_another_run(
    strong_only: Path, finished: Path, model: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = results(finished)
    monkeypatch.setattr(DecoyThresholds, "find", None)  # refused before anything is scanned
    assert main(arguments(strong_only, finished, model, "-q", "--fdr", "0.2")) == 2
    assert "--fdr: " in (said := capfd.readouterr().err) and "holds another run" in said
    assert results(finished) == before


def test_the_plan_says_what_decoys_cost(strong_only: Path, model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = ["plan", *(a for a in arguments(strong_only, Path(), model, "-q")[1:] if a not in ("-o", "."))]
    assert main(command) == 0
    line = next(line for line in capfd.readouterr().out.splitlines() if "false discovery rate" in line)
    assert line == (
        f"thresholds at a false discovery rate of 0.1: donor {BETWEEN:.3f}, acceptor 0.500; 0.30 Mb scanned for it, half of them "
        "decoys (seed 1)"
    )
    assert main([*command, "--json"]) == 0
    (told,) = json.loads(capfd.readouterr().out)["genomes"]
    assert told["thresholds"]["donor"] == BETWEEN and told["fdr"]["seed"] == 1 and len(told["fdr_ladder"]["donor"]) == len(LADDER)


def test_decoys_do_not_change_where_memory_runs_out(
    strong_only: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scan that goes on with smaller batches reads, shuffles and calls the same blocks of bases."""
    monkeypatch.setattr("annotator.calls.sample_scan.BLOCK_BP", 1)
    folder, manifest = read_model(str(model))
    source = open_genome(strong_only, tmp_path, GenomeOptions())
    lengths, plan = source.contigs.lengths, PlanOptions(**manifest.plan)
    found = []
    for batch_bp in (40_000, plan.window_bp):
        scan = SampleScan(folder, manifest, "vertebrate", (Kind.DONOR,), "cpu", batch_bp=40_000)
        scan._scorer.batch_bp = batch_bp  # as after memory ran out
        found.append(scan.count(sample_spans(lengths, plan), lengths, source.bases.read)[Kind.DONOR])
    source.close()
    assert found[0].decoy_calls[0] > 0
    assert found[0].as_json() == found[1].as_json()
