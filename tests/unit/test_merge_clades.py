"""Models of single clades made into one: each clade scans with the network that was its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from annotator.errors import InputError, UsageError
from annotator.kinds import Kind
from annotator.models.describe import describe
from annotator.models.directory import read_model, write_model
from annotator.models.families.compact.merge import merge_clades
from annotator.models.families.compact.net import COMPACT_TRACKS, CompactConfig, CompactNet
from annotator.models.loading import load_scan_model
from annotator.models.manifest import Calibration, CladeSettings, Manifest
from annotator.models.weights import plain_tensors, read_safetensors

CONFIG = CompactConfig(fine_channels=16, fine_width=5, trunk_channels=16, trunk_width=3, dilations=(1, 2), clades=2)
KINDS = (Kind.DONOR, Kind.ACCEPTOR, Kind.PROMOTER)
CPU = torch.device("cpu")


def model(folder: Path, clade: str, seed: int, threshold: float, **changes: object) -> Path:
    """A tiny model for one clade."""
    torch.manual_seed(seed)
    settings = CladeSettings(1, dict.fromkeys(KINDS, threshold), dict.fromkeys(KINDS, Calibration()), (Kind.DONOR,), clade)
    plan = {"window_bp": 1024, "halo_bp": 128, "pad_bp": 64, "smallest_bp": 256, "align_bp": 8}
    manifest = Manifest(
        name=clade, version="", family="compact", architecture=CONFIG.as_dict(),
        tokenizer={"k": 6, "order": "ATCG", "first_kmer_id": 5, "ambiguous_id": 1}, plan=plan, tracks=COMPACT_TRACKS,
        radius_bp={Kind.DONOR: 2, Kind.ACCEPTOR: 2, Kind.PROMOTER: 30}, clades={clade: settings}, licence="CC0-1.0", weights="",
        weights_sha256="", training={"organisms": [f"genome of {clade}"]},
        metrics={"split": "validation", clade: {"donor": {"topk": threshold}}}, default_clade=clade,
    )  # fmt: skip
    return write_model(folder, replace(manifest, **changes), plain_tensors(CompactNet(CONFIG)))  # type: ignore[arg-type]


def logits(folder: Path, clade: str) -> torch.Tensor:
    """Logits of some bases."""
    scan = load_scan_model(*read_model(str(folder)), clade, CPU, "float32")
    block = torch.from_numpy(np.frombuffer(b"ACGTTGCAAC" * 40, np.uint8).copy())
    with torch.inference_mode():
        return scan(block, torch.tensor([0, 64]), torch.tensor([False, True]), 256)


def test_each_clade_keeps_its_network_and_its_settings(tmp_path: Path) -> None:
    plants, worms = model(tmp_path / "p", "plant", 1, 0.3), model(tmp_path / "w", "invertebrate", 2, 0.6)
    both = merge_clades([str(plants), str(worms)], tmp_path / "both", name="both")
    manifest = read_model(str(both))[1]
    assert list(manifest.clades) == ["plant", "invertebrate"] and manifest.default_clade == ""
    assert manifest.clades["invertebrate"].thresholds[Kind.DONOR] == 0.6
    assert manifest.metrics == {
        "split": "validation",
        "plant": {"donor": {"topk": 0.3}},
        "invertebrate": {"donor": {"topk": 0.6}},
    }
    assert torch.equal(logits(both, "plant"), logits(plants, "plant"))
    assert torch.equal(logits(both, "invertebrate"), logits(worms, "invertebrate"))
    assert not torch.equal(logits(both, "plant"), logits(both, "invertebrate"))
    said = describe(*read_model(str(both)))
    assert "clade plant, trained on: genome of plant\n" in said and "clade invertebrate, trained on: genome of inv" in said

    again = merge_clades([str(tmp_path / "w"), str(tmp_path / "p")], tmp_path / "again", name="again")
    assert torch.equal(logits(again, "plant"), logits(plants, "plant"))


def test_the_card_of_a_clade_stands_together(tmp_path: Path) -> None:
    organisms = [
        {"name": "moss", "clade": "plant", "fasta": "moss.fa.gz", "teacher": ["moss.parquet"]},
        {"name": "cores", "clade": "plant", "tables": ["a.csv"]},
    ]
    training = {"organisms": organisms, "teacher": "one network", "hours": "2", "energy": "30 Wh", "limits": "no introns of U12"}
    metrics = {"split": "validation", "plant": {"genomes": ["fern"], "donor": {"topk": 0.5, "topk_95": [0.4, 0.6]}}}
    plants = model(tmp_path / "p", "plant", 1, 0.3, training=training, metrics=metrics)
    both = merge_clades([str(plants), str(model(tmp_path / "w", "invertebrate", 2, 0.6))], tmp_path / "both", name="both")
    folder, manifest = read_model(str(both))
    tested = manifest.metrics | {"test": {"plant": {"ivy.test": {"donor": {"topk": 0.7, "topk_95": [0.65, 0.75]}}}}}
    lines = describe(folder, replace(manifest, metrics=tested)).splitlines()
    first = lines.index("clade plant: plant; validated: donor")
    assert lines[first + 4 : first + 14] == [
        "clade plant, trained on: moss (moss.fa.gz, taught by moss.parquet), cores (a.csv)",
        "clade plant, teacher: one network",
        "clade plant, hours: 2",
        "clade plant, energy: 30 Wh",
        "clade plant, limits: no introns of U12",
        "clade plant, figures (validation):",
        "  of fern",
        "  donor: topk 0.500 (0.400 to 0.600)",
        "clade plant, figures (test):",
        "  ivy.test donor: topk 0.700 (0.650 to 0.750)",
    ]
    assert lines[first + 14] == "clade invertebrate: invertebrate; validated: donor"


def test_what_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    plants = model(tmp_path / "p", "plant", 1, 0.3)
    for other, message in (
        (model(tmp_path / "again", "plant", 2, 0.3), "a second model for clade plant"),
        (model(tmp_path / "far", "fungi", 2, 0.3, radius_bp=dict.fromkeys(KINDS, 9)), "its radius_bp is not that of"),
        (model(tmp_path / "any", "fungi", 2, 0.3, default_clade=""), "trained for a clade of its own"),
    ):
        with pytest.raises(UsageError, match=message):
            merge_clades([str(plants), str(other)], tmp_path / "both", name="both")
    assert not (tmp_path / "both").exists()


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    plants, out = str(model(tmp_path / "p", "plant", 1, 0.3)), tmp_path / "home"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match=r"home: holds something that is no model \(no manifest\.json\)"):
        merge_clades([plants], out, name="new")
    with pytest.raises(UsageError, match="is not a folder"):
        merge_clades([plants], out / "thesis.txt", name="new")
    assert (out / "thesis.txt").read_text() == "years of work"
    (out / "thesis.txt").unlink()
    for name in ("first", "second"):  # an empty folder, and an older model
        assert read_model(str(merge_clades([plants], out, name=name)))[1].name == name


def test_tensors_that_belong_to_no_network_and_networks_without_tensors_are_refused(tmp_path: Path) -> None:
    plants = model(tmp_path / "p", "plant", 1, 0.3)
    folder = merge_clades([str(plants)], tmp_path / "one", name="one")
    manifest = read_model(str(folder))[1]
    tensors = read_safetensors(folder / manifest.weights)
    stray = write_model(tmp_path / "stray", manifest, tensors | {"fungi.embed.weight": torch.zeros(1)})
    with pytest.raises(InputError, match="unexpected tensor fungi.embed.weight"):
        load_scan_model(*read_model(str(stray)), "plant", CPU)
    clades = {"plant": replace(manifest.clades["plant"], network="moss")}
    renamed = write_model(tmp_path / "renamed", replace(manifest, clades=clades), tensors)
    with pytest.raises(InputError, match="tensor .* is missing"):
        load_scan_model(*read_model(str(renamed)), "plant", CPU)
    with pytest.raises(InputError, match="'network' is '../x', not a plain name"):
        write_model(tmp_path / "bad", replace(manifest, clades={"plant": replace(clades["plant"], network="../x")}), tensors)
