"""Motif hits that are rated by a model of bound sites: the same bytes everywhere, and only where they are wanted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from annotator.calls.bound_hits import hit_windows, surprise
from annotator.models.bound.manifest import BUNDLED_BOUND, bound_folder, read_bound
from annotator.models.bound.net import load_bound
from tests.support.bound_models import write_small_bound
from tests.support.detector import write_detector
from tests.support.runs import annotate, bed_lines, random_bases, results, table, write_fasta

CTCF_WORD = "TGGCCACCAGGGGGCGCTA"
"""The consensus of CTCF's core motif."""
WORDS_EVERY_BP = 997

MATRICES = (
    ">MA0139.9\tctcf\n"
    + "".join(f"{base} [ {' '.join('900' if letter == base else '30' for letter in CTCF_WORD)} ]\n" for base in "ACGT")
    + ">MA9999.1\tOther\n"
    + "".join(f"{base} [ {' '.join('900' if letter == base else '30' for letter in CTCF_WORD[::-1])} ]\n" for base in "ACGT")
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A genome with the word of CTCF and its mirror image all over, up to the contig ends; a small scan model; a rating model."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(11)
    records = {}
    for number, (name, length) in enumerate({"one": 40_000, "two": 150, "three": 9000}.items()):
        text = random_bases(length, number)
        last = length - len(CTCF_WORD)
        for at in [0, last, *range(WORDS_EVERY_BP, last - 100, WORDS_EVERY_BP)]:
            word = CTCF_WORD if rng.random() < 0.5 else CTCF_WORD.translate(str.maketrans("ACGT", "TGCA"))[::-1]
            word = word if rng.random() < 0.8 else CTCF_WORD[::-1]
            text = text[:at] + word + text[at + len(word) :]
        records[name] = text
    motifs = folder / "pair.jaspar"
    motifs.write_text(MATRICES)
    write_small_bound(folder / "bound")
    return {
        "fasta": write_fasta(folder / "g.fa", records), "motifs": motifs, "bound": folder / "bound",
        "model": write_detector(folder / "model"),
    }  # fmt: skip


def run(inputs: dict[str, Path], out: Path, *more: object) -> int:
    return annotate(
        inputs["fasta"], "-o", out, "--model", inputs["model"], "--motifs", inputs["motifs"], "--tfbs-pvalue", "1e-4",
        "--device", "cpu", "--bound", inputs["bound"], *more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def rated(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rated") / "out"
    assert run(inputs, out) == 0
    return out


def test_hits_of_known_factors_have_a_probability_and_the_others_none(inputs: dict[str, Path], rated: Path) -> None:
    hits = table(rated).filter(pl.col("kind") == "tfbs")
    known, other = (hits.filter(pl.col("name") == name) for name in ("ctcf", "Other"))
    assert len(known) > 40 and set(known["strand"]) == {"+", "-"} and len(other) > 5
    assert known["probability"].null_count() == 0 and known["probability"].n_unique() > 20
    assert other["probability"].null_count() == len(other)
    assert (known["score"] - (1000 * known["probability"].cast(pl.Float64)).round()).abs().max() == 0
    assert (other["score"] - (-100 * other["p_value"].log10()).round().clip(upper_bound=1000)).abs().max() == 0
    plan = json.loads((rated / "run.json").read_text())
    assert plan["counts"]["motif hits rated"] == len(known)
    manifest = read_bound(inputs["bound"])
    assert plan["plan"]["bound"]["weights_sha256"] == manifest.weights_sha256
    assert plan["plan"]["bound"]["factors"] == ["CTCF", "ZNF263"]
    scores = [line[4] for line in bed_lines(rated / "tfbs.bed.gz")]
    assert scores == [str(score) for score in hits["score"]]


def test_the_probability_is_that_of_the_window_cut_from_the_contig(inputs: dict[str, Path], rated: Path) -> None:
    scorer = load_bound(inputs["bound"], torch.device("cpu"))
    records = dict(part.split("\n", 1) for part in inputs["fasta"].read_text().split(">")[1:])
    for row in table(rated).filter(pl.col("name") == "ctcf").iter_rows(named=True):
        text = records[row["chrom"]].replace("\n", "")
        window = hit_windows(
            np.frombuffer(text.encode(), np.uint8), np.zeros(1, np.int64), np.array([row["start"]]), np.array([row["end"]]),
            np.array([1 if row["strand"] == "+" else -1], np.int8), np.array([len(text)]),
            scorer.manifest.architecture.window_bp,
        )  # fmt: skip
        logit = scorer(torch.from_numpy(window), surprise(np.array([row["p_value"]])), torch.tensor([0])).numpy()
        assert row["probability"] == np.float32(scorer.manifest.factors["CTCF"].probability(logit)[0])


@pytest.mark.parametrize("more", [("--shard-bp", "700"), ("--shard-bp", "5000", "--workers", "2")], ids=["shards", "processes"])
def test_the_bytes_depend_on_no_shard_and_no_executor(
    inputs: dict[str, Path], rated: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    assert run(inputs, tmp_path / "out", *more) == 0
    assert results(tmp_path / "out") == results(rated)


def test_a_reverse_complement_has_the_same_probabilities(inputs: dict[str, Path], rated: Path, tmp_path: Path) -> None:
    records = dict(part.split("\n", 1) for part in inputs["fasta"].read_text().split(">")[1:])
    turned = {
        name: text.replace("\n", "").translate(str.maketrans("ACGT", "TGCA"))[::-1] for name, text in records.items()
    }  # fmt: skip
    fasta = write_fasta(tmp_path / "turned.fa", turned)
    assert run(inputs | {"fasta": fasta}, tmp_path / "out") == 0
    length = {name: len(text) for name, text in turned.items()}
    there = {
        (row["chrom"], length[row["chrom"]] - row["end"], "+-"[row["strand"] == "+"], row["probability"])
        for row in table(tmp_path / "out").filter(pl.col("name") == "ctcf").iter_rows(named=True)
    }
    here = set(table(rated).filter(pl.col("name") == "ctcf").select("chrom", "start", "strand", "probability").iter_rows())
    assert there == here


def test_it_can_be_turned_off_and_is_off_in_clades_without_data(inputs: dict[str, Path], tmp_path: Path) -> None:
    outs = {}
    for name, more in {
        "off": ("--bound", "off"), "plant": ("--bound", "auto", "--clade", "plant"), "auto": ("--bound", "auto"),
    }.items():  # fmt: skip
        outs[name] = tmp_path / name
        assert run(inputs, outs[name], *more) == 0
    for name in ("off", "plant"):
        hits = table(outs[name]).filter(pl.col("kind") == "tfbs")
        assert len(hits) > 40 and hits["probability"].null_count() == len(hits)
        record = json.loads((outs[name] / "run.json").read_text())
        assert record["plan"]["bound"] is None and "motif hits rated" not in record["counts"]
    known = table(outs["auto"]).filter(pl.col("name") == "ctcf")
    assert known["probability"].null_count() == 0
    bundled = read_bound(bound_folder(BUNDLED_BOUND))
    assert json.loads((outs["auto"] / "run.json").read_text())["plan"]["bound"]["weights_sha256"] == bundled.weights_sha256


def test_what_a_model_of_bound_sites_cannot_do_is_said(
    inputs: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(inputs, tmp_path / "splice", "-q", "--tasks", "splice") == 0
    assert f"--bound {inputs['bound']}: this run calls no motifs" in capfd.readouterr().err
    short = write_fasta(tmp_path / "short.fa", {"c": CTCF_WORD})
    for p_value, said in (("1e-3", 1), ("1e-4", 0)):
        assert run(inputs | {"fasta": short}, tmp_path / p_value, "-q", "--tfbs-pvalue", p_value) == 0
        assert capfd.readouterr().err.count("learnt from hits up to p = 0.0001; probabilities of weaker ones are a guess") == said


def test_another_model_is_another_plan(inputs: dict[str, Path], rated: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = results(rated)
    assert run(inputs, rated, "--bound", "off") == 2
    assert "bound" in capfd.readouterr().err
    assert results(rated) == before


@pytest.mark.parametrize("how", ["missing", "damaged", "no model"])
def test_a_bad_model_ends_the_run_before_it_begins(
    inputs: dict[str, Path], tmp_path: Path, how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "bad"
    write_small_bound(folder)
    if how == "missing":
        folder = tmp_path / "nothing"
    elif how == "damaged":
        (folder / "model.safetensors").write_bytes(b"\0" * 100)
    else:
        (folder / "bound.json").unlink()
    assert run(inputs, tmp_path / "out", "--bound", folder) == (5 if how == "missing" else 3)
    error = capfd.readouterr().err.strip()
    assert str(folder) in error and len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*"))
