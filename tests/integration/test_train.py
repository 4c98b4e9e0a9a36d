"""`annotator train`: a tiny genome is learnt, a killed run ends where an unbroken one ends, and the model scans."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from annotator.cli.app import main
from annotator.cli.recipe import read_recipe
from tests.support import train_recipe
from tests.support.runs import annotate, plant, random_bases, revcomp, table, write_fasta

RECIPE = (
    train_recipe.RECIPE
    + """
[[validation]]
name = "tiny"
clade = "vertebrate"
fasta = "tiny.fa"
truth = "tiny.bed"
"""
)


def genome(folder: Path) -> None:
    """Introns that begin with GTAAGTCC and end with CCTTTCAG, on both strands, and their truth."""
    text, lines = random_bases(30_000, 3), []
    for i, at in enumerate(range(300, 29_000, 400)):
        intron = "GTAAGTCC" + "A" * 84 + "CCTTTCAG"
        strand = "+-"[i % 2]
        text = plant(text, intron if strand == "+" else revcomp(intron), at)
        donor, acceptor = (at - 1, at + 100) if strand == "+" else (at + 100, at - 1)
        lines += [
            (donor, f"chr1\t{donor}\t{donor + 1}\tdonor\t0\t{strand}"),
            (acceptor, f"chr1\t{acceptor}\t{acceptor + 1}\tacceptor\t0\t{strand}"),
        ]
    write_fasta(folder / "tiny.fa", {"chr1": text})
    (folder / "tiny.bed").write_text("".join(line + "\n" for _, line in sorted(lines)))


def train(folder: Path, out: str, steps: int) -> int:
    recipe = folder / f"{out}.toml"
    recipe.write_text(RECIPE.format(steps=steps))
    data = [
        "--data",
        str(folder),
        "--fasta",
        str(folder / "tiny.fa"),
        "--truth",
        str(folder / "tiny.bed"),
        "--clade",
        "vertebrate",
        "--name",
        "tiny",
    ]
    return main(["train", str(recipe), "-o", str(folder / out), *data, "-q", "-t", "1"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    genome(folder)
    assert train(folder, "run", 120) == 0
    return folder


def test_a_planted_grammar_is_learnt_and_scanned(trained: Path) -> None:
    metrics = [json.loads(line) for line in (trained / "run" / "metrics.jsonl").read_text().splitlines()]
    assert metrics[-1]["val_tiny_donor"] > 0.9 and metrics[-1]["val_tiny_acceptor"] > 0.9
    model = trained / "run" / "model"
    manifest = json.loads((model / "manifest.json").read_text())
    assert manifest["clades"]["vertebrate"]["validated"] == ["donor", "acceptor"]
    assert manifest["training"]["steps_done"] == 120 and manifest["metrics"]["vertebrate"]["donor"]["recall"] > 0.9
    out = trained / "results"
    assert annotate(trained / "tiny.fa", "-o", out, "--model", model, "--tasks", "splice") == 0
    found = set(table(out).select("position", "strand", "kind").iter_rows())
    truth = {(int(f[1]), f[5], f[3]) for f in (line.split() for line in (trained / "tiny.bed").read_text().splitlines())}
    assert len(found & truth) > 0.9 * len(truth)


def test_killed_and_resumed_ends_at_the_same_weights(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from annotator.training.loop import Loop

    real, count = Loop._one_step, [0]

    def dies(self: Loop) -> None:
        count[0] += 1
        if count[0] == 47:
            raise KeyboardInterrupt
        real(self)

    monkeypatch.setattr(Loop, "_one_step", dies)
    assert train(trained, "broken", 120) == 130
    assert json.loads((trained / "broken" / "state.json").read_text())["step"] == 40
    monkeypatch.setattr(Loop, "_one_step", real)
    assert train(trained, "broken", 120) == 0
    one, two = (load_file(trained / run / "model" / "model.safetensors") for run in ("run", "broken"))
    assert all(np.array_equal(one[name].numpy(), two[name].numpy()) for name in one)
    assert (trained / "run" / "model" / "manifest.json").read_text() == (
        trained / "broken" / "model" / "manifest.json"
    ).read_text()


def test_another_recipe_in_the_same_folder_is_refused(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = trained / "other.toml"
    recipe.write_text(RECIPE.format(steps=120).replace("learning_rate = 0.01", "learning_rate = 0.02"))
    data = ["--data", str(trained), "--fasta", str(trained / "tiny.fa"), "--gtf", str(trained / "tiny.bed")]
    assert main(["train", str(recipe), "-o", str(trained / "run"), *data, "-q"]) == 2
    assert "learning_rate" in capsys.readouterr().err
    recipe.write_text(RECIPE.format(steps=120))
    assert main(["train", str(recipe), "-o", str(trained / "run"), *data, "--clade", "plant", "-q"]) == 2
    assert "organism tiny" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [("k = 6", "k = 60", "field k"), ("step_bp = 8", "size = 3", "architecture.size"), ("k = 6", "[[[", "TOML"),
     ("steps = 1", "stops = 1", "stops"), ("steps = 1", "steps = 0", "steps"), ("margin_bp = 64", "margin_bp = 256", "margin"),
     ("halo_bp = 128", "halo_bp = 100", "halo_bp")],
)  # fmt: skip
def test_bad_recipes(old: str, new: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(RECIPE.format(steps=1).replace(old, new, 1))
    assert main(["train", str(recipe), "-o", str(tmp_path / "o"), "-q"]) == 3
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_options_that_do_not_match(tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(RECIPE.format(steps=1))
    base = ["train", str(recipe), "-o", str(tmp_path / "o"), "-q"]
    assert main([*base]) == 2  # nothing to learn from
    assert main([*base, "--fasta", "a.fa"]) == 2
    assert main([*base, "--fasta", "a.fa", "--truth", "a.bed", "--val-fasta", "b.fa"]) == 2
    assert main([*base, "-t", "-1", "--fasta", "a.fa", "--truth", "a.bed"]) == 2
    assert main([*base, "--device", "tpu", "--fasta", "a.fa", "--truth", "a.bed"]) == 2
    assert main([*base, "--fasta", "a.fa", "--truth", "a.bed", "--clade", "fish"]) == 2
    assert main(["train", str(tmp_path / "none.toml"), "-o", str(tmp_path / "o")]) == 2
    assert main([*base, "--fasta", str(tmp_path / "none.fa"), "--truth", "a.bed"]) == 2


def test_a_network_of_one_clade_learns_from_its_genomes_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = '[[{}]]\nname = "{}"\nclade = "{}"\nfasta = "{}.fa"\ntruth = "{}.bed"\n'
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        RECIPE.format(steps=1)
        + "".join(entry.format("organism", name, clade, name, name) for name, clade in (("moss", "plant"), ("yeast", "fungi")))
        + entry.format("validation", "fern", "plant", "fern", "fern")
    )
    part = read_recipe(recipe, tmp_path, "tiny").of_clade("plant")
    assert [o.name for o in part.organisms] == ["moss"] and [o.name for o in part.validation] == ["fern"]
    base = ["train", str(recipe), "-o", str(tmp_path / "o"), "-q", "--only"]
    for clade, said in (
        ("fungi", "the recipe has no genome of this clade to calibrate on"),
        ("vertebrate", "the recipe has no genome of this clade to learn from"),
        ("fish", "--only fish: choose from"),
    ):
        assert main([*base, clade]) == 2
        assert said in capsys.readouterr().err
    assert main([*base, "plant", "--fasta", str(recipe)]) == 2
    assert not (tmp_path / "o").exists()
