"""Training of models of bound sites from a genome and peaks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from annotator.models.bound.manifest import read_bound
from annotator.training.bound.__main__ import main
from tests.support.detector import write_detector
from tests.support.runs import annotate, table, write_fasta

WORD = "TGACGTTATG"
EVERY_BP = 400


def write_split(folder: Path, name: str, sites: int, seed: int) -> tuple[Path, Path]:
    """A genome with the word every 400 bp, bound (in a peak) where C and G are frequent around it, which is so for half."""
    rng = np.random.default_rng(seed)
    text = rng.choice(list("ACGT"), sites * EVERY_BP)
    peaks = []
    for site in range(sites):
        at = site * EVERY_BP + 150
        if rng.random() < 0.5:
            text[at - 50 : at + 60] = rng.choice(list("ACGT"), 110, p=[0.1, 0.4, 0.4, 0.1])
            peaks.append(f"{name}\t{at - 20}\t{at + 100}\n")
        text[at : at + len(WORD)] = list(WORD)
    bed = folder / f"{name}.bed"
    bed.write_text("".join(peaks))
    return write_fasta(folder / f"{name}.fa", {name: "".join(text)}), bed


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments of a training run but for the output."""
    folder = tmp_path_factory.mktemp("inputs")
    motifs = folder / "motifs.jaspar"
    lines = [f"{base} [ {' '.join('900' if letter == base else '10' for letter in WORD)} ]\n" for base in "ACGT"]
    motifs.write_text(">MX1.1\tToy\n" + "".join(lines))
    fasta, bed = write_split(folder, "train", 400, 1)
    val_fasta, val_bed = write_split(folder, "val", 120, 2)
    return [
        "--fasta", str(fasta), "--peaks", f"toy={bed}", "--val-fasta", str(val_fasta), "--val-peaks", f"TOY={val_bed}",
        "--motifs", str(motifs), "--clade", "plant", "--hit-pvalue", "1e-5", "--epochs", "4", "--batch-hits", "32",
    ]  # fmt: skip


def test_what_stands_beside_a_hit_is_learnt_and_used(inputs: list[str], tmp_path: Path) -> None:
    assert main([*inputs, "-o", str(tmp_path / "toy")]) == 0
    manifest = read_bound(tmp_path / "toy")
    figures = manifest.metrics["validation"]["TOY"]
    assert list(manifest.factors) == ["TOY"] and manifest.clades == ("plant",) and manifest.licence == "not stated"
    assert figures["auroc_of_p_value"] < 0.6 < 0.9 < figures["auroc"]
    fasta, motifs = inputs[5], inputs[9]
    done = annotate(
        fasta, "-o", tmp_path / "out", "--model", write_detector(tmp_path / "model"), "--motifs", motifs, "--tfbs-pvalue", "1e-5",
        "--clade", "plant", "--device", "cpu", "--bound", tmp_path / "toy",
    )  # fmt: skip
    assert done == 0
    hits = table(tmp_path / "out").filter(name="Toy")
    peaks = [tuple(map(int, line.split("\t")[1:])) for line in Path(inputs[7].partition("=")[2]).read_text().splitlines()]
    bound = [any(start <= row["start"] and row["end"] <= end for start, end in peaks) for row in hits.iter_rows(named=True)]
    p = hits["probability"].to_numpy()
    assert p[np.array(bound)].mean() > 0.7 and p[~np.array(bound)].mean() < 0.3


def test_the_same_seed_gives_the_same_weights(inputs: list[str], tmp_path: Path) -> None:
    hashes = []
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        assert main([*inputs, "--epochs", "1", "--seed", seed, "-o", str(tmp_path / name)]) == 0
        hashes.append(read_bound(tmp_path / name).weights_sha256)
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (("--peaks", "toy"), 2, "not FACTOR=FILE"),
        (("--peaks", "TOY={val}"), 2, "twice"),
        (("--peaks", "OTHER={val}", "--val-peaks", "OTHER={val}"), 3, "no motif is named OTHER"),
        (("--val-peaks", "OTHER={val}"), 2, "OTHER"),
        (("--fasta", "nothing.fa"), 2, "nothing.fa"),
        (("--fasta", "{val_fasta}"), 3, "train.bed"),
        (("--epochs", "0"), 2, "epochs"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    inputs: list[str], tmp_path: Path, change: tuple[str, ...], code: int, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    names = {"val": inputs[7].partition("=")[2], "val_fasta": inputs[5]}
    assert main([*inputs, *(part.format(**names) for part in change), "-o", str(tmp_path / "out")]) == code
    error = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and said in error[0]
    assert not list(tmp_path.iterdir())


def test_a_folder_with_something_else_is_left_alone(inputs: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main([*inputs, "-o", str(tmp_path)]) == 2
    assert "holds something that is no model (no bound.json)" in capfd.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
