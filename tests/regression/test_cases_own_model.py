"""A model of the user: its name, licence, clade and accuracy are its own; what does not fit is refused at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from annotator.cli.app import main
from annotator.kinds import Kind
from annotator.models.directory import BUNDLED, read_model
from annotator.models.manifest import read_manifest
from annotator.training.calibrate import LEAST_AUPRC, own_clade, reached
from annotator.training.compact.options import RECIPE, TrainOptions
from tests.support.runs import plant, random_bases, revcomp, write_fasta

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Introns with strong sites, every other one on the minus strand, and their truth."""
    folder = tmp_path_factory.mktemp("genome")
    text, truth = random_bases(12_000, 3), []
    for number, at in enumerate(range(300, 11_000, 400)):
        intron, strand = "GTAAGTCC" + "A" * 84 + "CCTTTCAG", "+-"[number % 2]
        text = plant(text, intron if strand == "+" else revcomp(intron), at)
        ends = {"donor": at - 1, "acceptor": at + 100} if strand == "+" else {"acceptor": at - 1, "donor": at + 100}
        truth += [(place, f"chr1\t{place}\t{place + 1}\t{kind}\t0\t{strand}\n") for kind, place in ends.items()]
    write_fasta(folder / "g.fa", {"chr1": text})
    (folder / "g.bed").write_text("".join(line for _, line in sorted(truth)))
    return folder


def data(genome: Path) -> list[str]:
    """Options of the genome, to learn from and to calibrate on."""
    fasta, truth = str(genome / "g.fa"), str(genome / "g.bed")
    return ["--fasta", fasta, "--truth", truth, "--val-fasta", fasta, "--val-truth", truth]


QUICK = ["-t", "1", "-q", "--device", "cpu"]


@pytest.fixture(scope="module")
def fine_tuned(genome: Path) -> Path:
    """The bundled weights, one step further on a small genome of a fungus; `finetune`'s default base."""
    out = genome / "my-fungus"
    size = ["--steps", "1", "--batch", "1", "--window-bp", "1024"]
    assert main(["finetune", *data(genome), "--clade", "fungi", *size, "-o", str(out), *QUICK]) == 0
    return out / "model"


def small_recipe(folder: Path) -> Path:
    """The bundled recipe with small windows, as a file of the user, without genomes."""
    text = RECIPE.read_text().partition("[[organism]]")[0]
    text = text.replace("batch_windows = 16", "batch_windows = 1").replace("window_bp = 8192", "window_bp = 2048")
    text = text.replace("margin_bp = 1024", "margin_bp = 512")
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_E11_fine_tuning_goes_on_from_the_bundled_weights(fine_tuned: Path) -> None:
    _, manifest = read_model(str(fine_tuned))
    bundled = read_manifest(BUNDLED / "compact")
    assert (manifest.name, manifest.licence, manifest.default_clade) == ("my-fungus", "not stated", "fungi")
    assert manifest.version == manifest.weights_sha256[:12] and manifest.weights_sha256 != bundled.weights_sha256
    assert manifest.training["init"] == "compact" and manifest.architecture == bundled.architecture | {"clades": 5}
    figures = manifest.metrics["fungi"]
    assert figures["donor"]["auprc"] > 0.5 < figures["acceptor"]["auprc"]  # a single step cannot have learnt that
    assert manifest.clades["fungi"].validated == (Kind.DONOR, Kind.ACCEPTOR)
    assert "AUPRC donor" in manifest.clades["fungi"].note and "of 0.5 needed" in manifest.clades["fungi"].note
    assert not any(settings.validated for clade, settings in manifest.clades.items() if clade != "fungi")


def test_E11_training_from_weights_or_from_none_by_options(genome: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, run = small_recipe(genome), genome / "trained"
    command = ["train", str(recipe), *data(genome), "--clade", "fungi", "--steps", "1", *QUICK]
    assert main([*command, "-o", str(run), "--init", str(BUNDLED / "compact"), "--name", "yeast 1", "--licence", "CC0-1.0"]) == 0
    _, manifest = read_model(str(run / "model"))
    assert (manifest.name, manifest.licence, manifest.default_clade) == ("yeast 1", "CC0-1.0", "fungi")
    assert manifest.training["recipe"] == "compact 2.0" and manifest.metrics["fungi"]["donor"]["auprc"] > 0.5
    other = genome / "random"
    assert main([*command, "-o", str(other)]) == 0
    _, manifest = read_model(str(other / "model"))
    assert (manifest.name, manifest.training["init"]) == ("random", "random weights")
    assert manifest.metrics["fungi"]["donor"]["auprc"] < 0.5 and manifest.clades["fungi"].validated == ()
    assert manifest.clades["fungi"].note.startswith("calibrated on validation data of g; AUPRC donor 0.")
    capsys.readouterr()
    assert main(["models", "show", str(other / "model")]) == 0
    said = capsys.readouterr().out
    assert "licence not stated" in said and "its default: fungi" in said and "validated: nothing" in said
    assert main([*command, "-o", str(other), "--init", "compact"]) == 2
    assert "holds a run with init = None" in capsys.readouterr().err


def test_E11_the_clade_of_its_data_is_its_default(genome: Path, fine_tuned: Path, tmp_path: Path) -> None:
    command = ["annotate", str(genome / "g.fa"), "--model", str(fine_tuned), "--tasks", "splice", "-t", "1", "--device", "cpu"]
    for options, clade in (([], "fungi"), (["--clade", "plant"], "plant")):
        out = tmp_path / clade
        assert main([*command, *options, "-o", str(out)]) == 0
        run = json.loads((out / "run.json").read_text())
        assert (run["plan"]["clade"], run["plan"]["model"]["name"]) == (clade, "my-fungus")
        assert run["not_validated"] == ([] if clade == "fungi" else ["donor", "acceptor"])
    assert main([*command[:2], "--tasks", "splice", "-t", "1", "--device", "cpu", "-o", str(tmp_path / "bundled")]) == 0
    assert json.loads((tmp_path / "bundled" / "run.json").read_text())["plan"]["clade"] == "vertebrate"
    assert main([*command, "--clade", "animal", "-o", str(tmp_path / "none")]) == 2


@pytest.mark.parametrize("files", [1, 2])
def test_E11_a_run_without_calls_ends_with_a_hint(files: int, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    fasta = [str(write_fasta(tmp_path / f"{n}.fa", {"chr1": random_bases(3000, n)})) for n in range(files)]
    command = ["annotate", *fasta, "--tasks", "splice", "--clade", "plant", "-t", "1", "--device", "cpu", "-o", f"{tmp_path}/out"]
    for options in (["--threshold", "1"], ["--threshold", "1", "-q"], ["--threshold", "0.0001", "--overwrite"]):
        assert main([*command, *options]) == 0
        hints = [line for line in capsys.readouterr().err.splitlines() if "0 calls" in line]
        assert len(hints) == (files if "1" in options else 0)  # the same command once more says it again
        for hint in hints:
            assert "donor 1.000" in hint and "clade plant" in hint and "--threshold" in hint and "--clade" in hint


WRONG: dict[str, tuple[list[str], int, str]] = {
    "nothing to calibrate on": (["train", "--fasta", "g.fa", "--truth", "g.bed"], 2, "no validation data"),
    "the recipe's genomes are not here": (
        ["train"],
        2,
        "human/human.train.fa.gz: no such file; a recipe's paths start from --data",
    ),
    "sites without a genome": (["train", "--truth", "g.bed"], 2, "--truth: only with --fasta"),
    "held sites without a genome": (
        ["train", "--fasta", "g.fa", "--val-truth", "g.bed"],
        2,
        "--val-truth: only with --val-fasta",
    ),
    "a missing genome": (["train", "--fasta", "x.fa", "--truth", "g.bed"], 2, "x.fa: cannot read: No such file"),
    "no such model": (["train", "DATA", "--init", "x"], 5, "no model 'x'"),
    "a model of windows": (["train", "DATA", "--init", "windows"], 2, "--init windows: it classifies windows"),
    "another architecture": (["train", "tiny.toml", "DATA", "--init", "compact"], 2, "--init compact: it has architecture"),
    "steps": (["train", "DATA", "--steps", "0"], 2, "--steps 0: give 1 or more"),
    "rate": (["train", "DATA", "--learning-rate", "-1"], 2, "--learning-rate -1: give a number above 0"),
    "adapters": (["finetune", "DATA", "--lora"], 2, "--lora: only with a family or a checkpoint"),
    "features": (["finetune", "DATA", "--feature", "a=g.bed"], 2, "--feature and --val-feature: the same names are needed"),
    "processes": (["finetune", "DATA", "--processes", "2"], 2, "--processes: compact learns in one process"),
    "half a window": (["finetune", "DATA", "--window-bp", "1001"], 2, "--window-bp 1001: compact needs a multiple of 8"),
    "margins": (
        ["finetune", "DATA", "--window-bp", "800", "--margin-bp", "400"],
        2,
        "--margin-bp 400: leaves nothing of a window of 800 bp",
    ),
    "no held genome": (["finetune", "--fasta", "g.fa", "--truth", "g.bed"], 2, "--val-fasta: needed with --fasta"),
    "no such size": (["finetune", "DATA", "--base", "dnabert:huge", "--steps", "1"], 2, "sizes of dnabert are"),
    "the bundled model's name": (
        ["train", "DATA", "-o", "compact"],
        2,
        "would pass for the bundled one; give another with --name",
    ),
    "a name of no letters": (["train", "DATA", "--name", "a\tb"], 2, "is no name for a model"),
}


@pytest.mark.parametrize("what", WRONG)
def test_E11_what_does_not_fit_is_refused_before_anything_is_read(
    genome: Path, what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a genome was read")

    monkeypatch.setattr("annotator.training.compact.data.load_genome", never)
    monkeypatch.setattr("annotator.training.finetune.genomes.load_genome", never)
    monkeypatch.chdir(genome)
    raw = json.loads((BUNDLED / "compact" / "manifest.json").read_text())
    Path("windows").mkdir(exist_ok=True)
    (Path("windows") / "model.safetensors").write_bytes((BUNDLED / "compact" / "model.safetensors").read_bytes())
    window = {"window_bp": 64, "stride_bp": 8, "classes": ["other", "donor", "acceptor", "tss"], "anchor_bp": {}}
    window["anchor_bp"] = {"donor": 1, "acceptor": 1, "tss": 1}
    (Path("windows") / "manifest.json").write_text(json.dumps(raw | {"window": window, "integers": None}))
    (Path("tiny.toml")).write_text(small_recipe(genome).read_text().replace("trunk_channels = 96", "trunk_channels = 32"))
    given, code, said = WRONG[what]
    arguments: list[Any] = []
    for part in given:
        arguments += data(genome) if part == "DATA" else [part]
    out = [] if "-o" in given else ["-o", "out"]
    assert main([*arguments, *out, *QUICK]) == code
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not list(genome.glob("out/model")) and not Path("compact").exists()


def test_E11_validated_means_that_validation_reached_a_stated_figure() -> None:
    kinds, said = reached({Kind.DONOR: 0.5, Kind.ACCEPTOR: 0.4999, Kind.PROMOTER: 0.31, Kind.TFBS: float("nan")}, LEAST_AUPRC)
    assert kinds == (Kind.DONOR, Kind.PROMOTER)
    assert said.startswith("AUPRC donor 0.50 of 0.5 needed, acceptor 0.50 of 0.5 needed, promoter 0.31 of 0.3 needed")
    bundled = read_manifest(BUNDLED / "compact")
    for clade, settings in bundled.clades.items():  # the bundled model keeps to the same rule
        for kind in (kind for kind in settings.validated if kind.is_splice_site):
            assert bundled.metrics[clade][kind]["auprc"] >= LEAST_AUPRC[kind]


def test_E11_the_default_clade_of_several() -> None:
    settings = read_manifest(BUNDLED / "compact").clades
    assert own_clade(["plant", "plant"], settings) == "plant" and own_clade(["fungi", "plant"], settings) == "fungi"
    assert own_clade(["plant", "vertebrate"], settings) == own_clade([], settings) == "vertebrate"


def test_E11_the_recipe_is_in_the_package_and_where_it_was() -> None:
    assert RECIPE.is_file() and ROOT / "annotator" in RECIPE.parents
    if (ROOT / "recipes").is_dir():  # not in an installed package
        assert (ROOT / "recipes" / "compact.toml").read_text() == RECIPE.read_text()


def test_E11_a_run_of_another_length_keeps_the_shape_of_its_rate() -> None:
    options = TrainOptions(steps=7350, warmup_steps=300, decay_steps=2600, validate_steps=500)
    short = options.of_length(735)
    assert (short.steps, short.warmup_steps, short.decay_steps, short.validate_steps) == (735, 73, 260, 500)
    assert max(short.rate(step) for step in range(735)) == options.learning_rate
    assert options.of_length(7350) == options
