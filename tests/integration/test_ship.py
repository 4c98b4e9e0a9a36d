"""recipes/ship.py: from the checkpoints of clades to one model, and what it says of wrong ones."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from annotator.models.directory import read_model
from annotator.models.families.compact.net import CompactConfig, CompactNet
from annotator.models.families.compact.scan import load_compact
from annotator.models.weights import plain_tensors, write_safetensors
from tests.support import train_recipe
from tests.support.runs import plant, random_bases, write_fasta

CONFIG = CompactConfig(fine_channels=16, fine_width=5, trunk_channels=16, trunk_width=3, dilations=(1, 2))
CLADES = ("vertebrate", "fungi")
INTRON = "GTAAGTCC" + "A" * 84 + "CCTTTCAG"


def entry(side: str, clade: str) -> str:
    return f'[[{side}]]\nname = "{clade}.{side}"\nclade = "{clade}"\nfasta = "{clade}.fa"\ntruth = "{clade}.bed"\n'


@pytest.fixture(scope="module")
def ship() -> ModuleType:
    """The script as a module."""
    path = Path(__file__).parents[2] / "recipes/ship.py"
    spec = importlib.util.spec_from_file_location("ship", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small genomes with introns, a recipe of both, cards, and a checkpoint each."""
    folder = tmp_path_factory.mktemp("ship")
    for number, clade in enumerate(CLADES):
        text, lines = random_bases(6000, number), []
        for at in range(300, 5600, 300):
            text = plant(text, INTRON, at)
            lines += [f"c\t{at - 1}\t{at}\tdonor\t0\t+\n", f"c\t{at + 100}\t{at + 101}\tacceptor\t0\t+\n"]
        write_fasta(folder / f"{clade}.fa", {"c": text})
        (folder / f"{clade}.bed").write_text("".join(lines))
        torch.manual_seed(number)
        write_safetensors(folder / f"{clade}.safetensors", plain_tensors(CompactNet(CONFIG)))
    genomes = "".join(entry(side, clade) for clade in CLADES for side in ("organism", "validation"))
    (folder / "small.toml").write_text(train_recipe.RECIPE.format(steps=2) + genomes)
    cards = "".join(f'[card.{clade}]\nsteps = {number + 7}\nlimits = "of {clade}"\n' for number, clade in enumerate(CLADES))
    (folder / "ship.toml").write_text(f'recipe = "small.toml"\nname = "small"\nversion = "9"\nlicence = "CC0-1.0"\n{cards}')
    return folder


def arguments(folder: Path, out: Path, *checkpoints: str) -> list[str]:
    given = [word for checkpoint in checkpoints for word in ("--checkpoint", checkpoint)]
    return ["--data", str(folder), "--ship", str(folder / "ship.toml"), *given, "--threads", "1", "-o", str(out)]


def of(folder: Path, clade: str, file: str = "") -> str:
    return f"{clade}={folder / f'{file or clade}.safetensors'}"


def test_each_clade_has_the_network_of_its_checkpoint_and_its_card(ship: ModuleType, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    assert ship.main(arguments(folder, out, *(of(folder, clade) for clade in CLADES))) == 0
    path, manifest = read_model(str(out))
    assert (manifest.name, manifest.version, manifest.licence) == ("small", "9", "CC0-1.0") and tuple(manifest.clades) == CLADES
    for number, clade in enumerate(CLADES):
        torch.manual_seed(number)
        wanted, found = CompactNet(CONFIG).state_dict(), load_compact(path, manifest, clade).state_dict()
        assert all(torch.equal(wanted[name], found[name]) for name in wanted)
        assert manifest.training[clade]["steps_done"] == number + 7 and manifest.training[clade]["limits"] == f"of {clade}"
        assert f"{clade}.validation" in manifest.clades[clade].note


def test_a_clade_without_a_checkpoint_keeps_the_network_of_the_present_model(
    ship: ModuleType, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tmp_path / "first"
    assert ship.main(arguments(folder, first, *(of(folder, clade) for clade in CLADES))) == 0
    present = read_model(str(first))
    monkeypatch.setattr(ship, "read_model", lambda name: present if name == "small" else read_model(name))
    out = tmp_path / "second"
    assert ship.main(arguments(folder, out, of(folder, "vertebrate", "fungi"))) == 0
    path, manifest = read_model(str(out))
    wanted = load_compact(*present, "fungi").state_dict()
    for clade in CLADES:
        found = load_compact(path, manifest, clade).state_dict()
        assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    assert manifest.training["fungi"]["steps_done"] == 8


def test_a_network_that_serves_all_clades_is_the_network_of_each(
    ship: ModuleType, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("annotator.training.compact.export.calibration_error_of", lambda *_: float("nan"))  # too few sites
    settings = ship.read_recipe(folder / "small.toml", folder, "shared")
    genomes = [ship.load_genome(organism, tmp_path / organism.name) for organism in settings.validation]
    torch.manual_seed(0)
    net = CompactNet(CONFIG).eval()
    ship.export_model(replace(settings, init="x"), net, [], genomes, tmp_path / "m", device=torch.device("cpu"), steps=1)
    read = json.loads((tmp_path / "m/manifest.json").read_text(), parse_constant=pytest.fail)  # JSON has no NaN
    assert "auprc" in read["metrics"]["fungi"]["donor"] and "calibration_error" not in read["metrics"]["fungi"]["donor"]
    ship.write_network(*read_model(str(tmp_path / "m")), "fungi", tmp_path / "fungi.safetensors")
    written, wanted = ship.read_safetensors(tmp_path / "fungi.safetensors"), net.state_dict()
    assert set(written) == set(wanted) and all(torch.equal(wanted[name], written[name]) for name in wanted)


@pytest.mark.parametrize(
    ("checkpoints", "said"),
    [
        (["vertebrat=x"], "--checkpoint='vertebrat=x': not CLADE=FILE with a clade of the cards: vertebrate, fungi"),
        (["x.safetensors"], "not CLADE=FILE"),
        (["fungi=a", "fungi=b"], "the clade comes twice"),
        (["fungi=none.safetensors", "vertebrate=none.safetensors"], "no such file"),
    ],
)
def test_wrong_checkpoints_are_one_line(
    ship: ModuleType, folder: Path, tmp_path: Path, checkpoints: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ship.main(arguments(folder, tmp_path / "model", *checkpoints)) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and said in last
    assert not (tmp_path / "model").exists()


def test_a_folder_with_something_else_is_left_alone(
    ship: ModuleType, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert ship.main(arguments(folder, tmp_path, *(of(folder, clade) for clade in CLADES))) == 2
    assert "holds something that is no model (no manifest.json)" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").exists()
