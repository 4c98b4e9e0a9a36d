"""`annotator train --pack`: one file holds all genomes of a recipe, and a run from it is the run from the genomes' own files."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from annotator.cli.app import main
from annotator.cli.recipe import read_recipe
from annotator.files import file_sha256
from annotator.training.compact.data import entries, read_files
from annotator.training.compact.pack import read_pack, write_pack
from annotator.training.compact.run import CompactTask
from annotator.training.compact.start import first_network
from annotator.training.loop import Loop
from annotator.training.task import Share
from tests.support import train_recipe
from tests.support.runs import plant, python_path, random_bases, revcomp, write_fasta

GENOMES = """truth_share = 0.4
[[organism]]
name = "taught"
clade = "fungi"
fasta = "a.fa"
truth = "a.bed"
mask = "a.mask.bed"
teacher = ["t.parquet", "u.parquet"]
learn = ["donor", "acceptor"]
weight = 0.5
trim_bp = 40
[[organism]]
name = "plain"
clade = "vertebrate"
fasta = "b.fa"
truth = "b.bed"
[[organism]]
name = "changed"
clade = "fungi"
fasta = "a.fa"
teacher = ["t.parquet"]
[[promoter_windows]]
name = "windows"
clade = "vertebrate"
tables = ["w.csv"]
tss_index = 3
[[validation]]
name = "taught"
clade = "fungi"
fasta = "b.fa"
truth = "b.bed"
"""
STEPS = 12


def genome(folder: Path, name: str, seed: int) -> list[tuple[int, str, str]]:
    """Two contigs with introns on both strands, lower-case, N and IUPAC letters; returns the sites of the first."""
    text, sites = random_bases(6000, seed), []
    for i, at in enumerate(range(300, 5600, 300)):
        intron = "GTAAGTCC" + "A" * 84 + "CCTTTCAG"
        strand = "+-"[i % 2]
        text = plant(text, intron if strand == "+" else revcomp(intron), at)
        donor, acceptor = (at - 1, at + 100) if strand == "+" else (at + 100, at - 1)
        sites += [(donor, "donor", strand), (acceptor, "acceptor", strand)]
    text = plant(text, "NNNNNNNRYNNN", 40)
    write_fasta(folder / f"{name}.fa", {"one": text, "two": "n" * 20 + text[:1001]})
    rows = [("one", *site) for site in sites] + [("one", 200, "tss", "+"), ("two", 220, "tss", "+")]
    lines = [f"{chrom}\t{at}\t{at + 1}\t{kind}\t0\t{strand}\n" for chrom, at, kind, strand in rows]
    (folder / f"{name}.bed").write_text("".join(lines))
    return sites


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with its genomes, teachers and windows; its pack; and a run from the files."""
    folder = tmp_path_factory.mktemp("pack")
    sites = genome(folder, "a", 3)
    genome(folder, "b", 4)
    (folder / "a.mask.bed").write_text("one\t100\t101\tdonor\t0\t+\none\t299\t300\tdonor\t0\t+\n")
    for name, drop in (("t", 3), ("u", 5)):
        rows = [("one", at, strand, kind, 0.9 - 0.01 * i) for i, (at, kind, strand) in enumerate(sites) if i % drop]
        rows += [("one", 100, "+", "donor", 0.3), ("two", 77, "-", "acceptor", 0.02)]
        table = pl.DataFrame(rows, ["chrom", "position", "strand", "kind", "probability"], orient="row")
        table.write_parquet(folder / f"{name}.parquet")
    (folder / "w.csv").write_text("sequence,label\n" + "".join(f"{random_bases(60, i)},{i % 2}\n" for i in range(20)))
    write_recipe(folder, STEPS)
    assert main(["train", str(folder / "r.toml"), "--data", str(folder), "--write-pack", str(folder / "all.npz"), "-q"]) == 0
    assert train(folder, "files", "--data", folder) == 0
    return folder


def write_recipe(folder: Path, steps: int, name: str = "r.toml", genomes: str = GENOMES) -> Path:
    text = train_recipe.RECIPE.format(steps=steps).replace("checkpoint_steps = 10", "checkpoint_steps = 4")
    (folder / name).write_text(text.replace("warmup_steps = 5", "warmup_steps = 1") + genomes)
    return folder / name


def train(folder: Path, out: str, *options: object, recipe: str = "r.toml") -> int:
    return main(["train", str(folder / recipe), "-o", str(folder / out), "--name", "x", "-q", "-t", "1", *map(str, options)])


def made(folder: Path, out: str) -> tuple[str, str]:
    """The finished model of a run."""
    model = folder / out / "model"
    return file_sha256(model / "model.safetensors"), (model / "manifest.json").read_text()


def test_the_losses_of_every_step_are_those_of_the_files(shared: Path) -> None:
    settings = read_recipe(shared / "r.toml", shared, "x")
    sides = {"files": read_files(settings, shared / "spool"), "pack": read_pack(shared / "all.npz")}
    losses: dict[str, list[float]] = {}
    for name, data in sides.items():
        assert [source.entry.name for source in data.learnt] == [entry.name for entry in entries(settings)]
        torch.manual_seed(1)
        net, _ = first_network(settings)
        task = CompactTask(settings, [source.genome for source in data.learnt], [], torch.device("cpu"))
        (shared / f"loop-{name}").mkdir()
        loop = Loop(net, task, shared / f"loop-{name}", identity={}, device=torch.device("cpu"))
        losses[name] = []
        for step in range(6):
            losses[name] += [float(part.value.detach()) for part in task.losses(net, step, Share())]
            loop._one_step()
    assert losses["files"] == losses["pack"] and len(set(losses["files"])) == 6
    for one, two in zip(sides["files"].learnt, sides["pack"].learnt, strict=True):
        assert np.array_equal(one.genome.bases, two.genome.bases) and one.sha256 == two.sha256
        assert one.genome.contig_names == two.genome.contig_names and one.genome.annotation == two.genome.annotation


def test_a_run_from_a_pack_makes_the_same_model_where_polars_and_pysam_are_missing(shared: Path) -> None:
    script = (
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('polars', 'pysam', 'ray'):\n"
        "            raise ImportError(name + ' is blocked')\n"
        "sys.meta_path.insert(0, Blocked())\n"
        "from annotator.cli.app import main\n"
        "code = main(sys.argv[1:])\n"
        "assert not {'polars', 'pysam', 'ray'} & sys.modules.keys()\n"
        "sys.exit(code)\n"
    )
    options = ["train", str(shared / "r.toml"), "-o", str(shared / "packed"), "--pack", str(shared / "all.npz")]
    command = [sys.executable, "-c", script, *options, "--name", "x", "-q", "-t", "1"]
    done = subprocess.run(command, env=python_path(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert made(shared, "packed") == made(shared, "files")
    rows = [
        {key: value for key, value in json.loads((shared / out / "metrics.jsonl").read_text().splitlines()[-1]).items()
         if key not in ("seconds", "kbp_per_s")}
        for out in ("packed", "files")
    ]  # fmt: skip
    assert rows[0] == rows[1] and "val_taught_donor" in rows[0]


def test_the_manifest_names_the_teachers(shared: Path) -> None:
    learnt = json.loads(made(shared, "files")[1])["training"]
    taught, plain, changed, windows = learnt["organisms"]
    assert taught["teacher"] == ["t.parquet", "u.parquet"] and taught["learn"] == ["donor", "acceptor"]
    assert changed["truth"] is None and changed["teacher"] == ["t.parquet"]
    assert plain["teacher"] == [] and windows["tables"] == ["w.csv"]
    assert learnt["schedule"]["truth_share"] == 0.4 and learnt["annotation"]["train"]["taught"]["teacher"]["sites"] > 30


@pytest.mark.parametrize("first", ["files", "pack"])
def test_a_run_goes_on_from_either(shared: Path, first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, count = Loop._one_step, [0]

    def dies(self: Loop) -> None:
        count[0] += 1
        if count[0] == 7:
            raise KeyboardInterrupt
        real(self)

    sources = {"files": ("--data", shared), "pack": ("--pack", shared / "all.npz")}
    second = "pack" if first == "files" else "files"
    out = f"broken-{first}"
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_one_step", dies)
        assert train(shared, out, *sources[first]) == 130
    assert json.loads((shared / out / "state.json").read_text())["step"] == 4
    assert train(shared, out, *sources[second]) == 0
    assert made(shared, out) == made(shared, "files")


def test_another_teacher_is_another_run(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    genomes = GENOMES.replace('["t.parquet", "u.parquet"]', '["t.parquet"]')
    write_recipe(shared, STEPS, "one.toml", genomes)
    assert train(shared, "files", "--data", shared, recipe="one.toml") == 2
    assert "holds a run with organism taught" in capsys.readouterr().err
    assert train(shared, "fresh", "--pack", shared / "all.npz", recipe="one.toml") == 2
    said = capsys.readouterr().err
    assert "taught was packed with teacher = ['t.parquet', 'u.parquet'], the recipe says ['t.parquet']" in said


def test_a_recipe_may_draw_a_pack_otherwise(shared: Path) -> None:
    genomes = GENOMES.replace("weight = 0.5", "weight = 0.9").split("[[promoter_windows]]")
    write_recipe(shared, 2, "less.toml", genomes[0] + "[[validation]]" + genomes[1].split("[[validation]]")[1])
    assert train(shared, "less", "--pack", shared / "all.npz", recipe="less.toml") == 0
    learnt = json.loads(made(shared, "less")[1])["training"]["organisms"]
    assert [entry["name"] for entry in learnt] == ["taught", "plain", "changed"] and learnt[0]["weight"] == 0.9
    write_recipe(shared, 2, "none.toml", "")  # a recipe without genomes learns from all of the pack
    assert train(shared, "none", "--pack", shared / "all.npz", "--hold-out", "two", recipe="none.toml") == 0
    training = json.loads(made(shared, "none")[1])["training"]
    assert len(training["organisms"]) == 4 and training["held_out"] == ["two"]


def test_equal_data_give_equal_packs(shared: Path, tmp_path: Path) -> None:
    options = ["train", str(shared / "r.toml"), "--data", str(shared), "--write-pack", str(tmp_path / "new" / "again.npz"), "-q"]
    assert main(options) == 0
    assert file_sha256(tmp_path / "new" / "again.npz") == file_sha256(shared / "all.npz")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["again.npz"]


def damaged(shared: Path, how: str, path: Path) -> None:
    """Write a file that is no pack, or one that was changed."""
    content = (shared / "all.npz").read_bytes()
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "text":
        path.write_text("no pack")
    elif how == "flipped":
        middle = content.index(b"learnt/0/bases") + 200
        path.write_bytes(content[:middle] + bytes(byte ^ 255 for byte in content[middle : middle + 9]) + content[middle + 9 :])
    elif how == "foreign":
        np.savez(path, weights=np.ones(3))
    else:
        with np.load(shared / "all.npz") as file:
            members = {name: file[name] for name in file.files}
        if how == "object":
            members["learnt/0/bases"] = np.array([{}], object)
        elif how == "missing":
            del members["learnt/1/contig_ends"]
        elif how == "descending":
            members["learnt/0/sites/donor+"] = members["learnt/0/sites/donor+"][::-1]
        elif how == "long":
            members["learnt/0/length"] = np.array([10**9])
        elif how in ("version", "entry"):
            header = json.loads(members["header"].tobytes())
            if how == "version":
                header["version"] = 9
            else:
                header["learnt"][0]["entry"]["weight"] = -1
            members["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
        np.savez(path, **members)


@pytest.mark.parametrize(
    ("how", "said"),
    [("cut", "not a pack of `annotator train`, or cut short"), ("text", "not a pack"), ("foreign", "no member called header"),
     ("flipped", "damaged pack"), ("object", "member learnt/0/bases"), ("missing", "member learnt/1/contig_ends is missing"),
     ("descending", "member learnt/0/sites/donor+ holds no ascending positions"), ("long", "does not hold 1000000000 bases"),
     ("version", "version 9 of the format"), ("entry", "field learnt/0 is wrong (weight=-1")],
)  # fmt: skip
def test_what_is_no_pack_is_one_line(
    shared: Path, tmp_path: Path, how: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.npz"
    damaged(shared, how, path)
    assert zipfile.is_zipfile(path) or how in ("cut", "text")
    assert main(["train", str(shared / "r.toml"), "-o", str(tmp_path / "o"), "--pack", str(path), "-q", "-t", "1"]) == 3
    error = capsys.readouterr().err
    assert said in error and str(path) in error and error.count("\n") == 1
    assert not (tmp_path / "o" / "model").exists() and not (tmp_path / "o" / "state.json").exists()


def test_options_that_do_not_go_together(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, out, pack = str(shared / "r.toml"), str(tmp_path / "o"), str(shared / "all.npz")
    for options, said in (
        ([], "-o: give the run folder"),
        (["-o", out, "--write-pack", str(tmp_path / "p.npz")], "--write-pack: writes the pack"),
        (["-o", out, "--pack", pack, "--fasta", str(shared / "a.fa")], "--pack: the genomes are those of the pack"),
        (["-o", out, "--pack", str(tmp_path / "none.npz")], "none.npz"),
        (["-o", out, "--data", str(tmp_path)], "taught: "),
        (["--write-pack", str(tmp_path / "p.npz"), "--data", str(tmp_path)], "a.fa: no such file"),
    ):
        assert main(["train", recipe, "-q", *options]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    assert not (tmp_path / "p.npz").exists()


def test_a_pack_without_validation_is_refused_before_training(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack, out = tmp_path / "learnt.npz", tmp_path / "o"
    write_pack(pack, replace(read_pack(shared / "all.npz"), validation=()))
    write_recipe(shared, 2, "learnt.toml", GENOMES.partition("[[validation]]")[0])
    assert train(shared, str(out), "--pack", pack, recipe="learnt.toml") == 2
    assert f"{pack}: no validation data" in (said := capsys.readouterr().err) and said.count("\n") == 1
    assert not (out / "metrics.jsonl").exists()


def test_two_genomes_of_one_name_are_refused(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_recipe(shared, 2, "twice.toml", GENOMES.replace('"plain"', '"taught"'))
    assert train(shared, "twice", "--data", shared, recipe="twice.toml") == 2
    assert "two genomes are called 'taught'" in capsys.readouterr().err


def test_wrong_fields_of_a_recipe_are_named(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for old, new, said in (
        ('learn = ["donor", "acceptor"]', 'learn = ["donors"]', "learn"),
        ("truth_share = 0.4", "truth_share = 1.4", "train.truth_share"),
        ("tss_index = 3", "tss_index = -3", "tss_index"),
        (
            'name = "taught"\nclade = "fungi"\nfasta = "b.fa"',
            'name = "v"\nteacher = []\nclade = "fungi"\nfasta = "b.fa"',
            "teacher",
        ),
    ):
        assert old in GENOMES
        write_recipe(shared, 2, "wrong.toml", GENOMES.replace(old, new))
        assert train(shared, "wrong", "--data", shared, recipe="wrong.toml") == 3
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
