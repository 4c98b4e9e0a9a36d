"""recipes/changed_genes.py: pieces of genes, and what is changed of them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pysam
import pytest

from annotator.labels.genomes import load_genome
from annotator.labels.labelled import LabelledGenome
from annotator.labels.options import Organism
from tests.support.runs import plant, random_bases, revcomp, write_fasta

DONOR, ACCEPTOR = "CAGGTAAGT", "TTTCAGGA"
DONORS, ACCEPTORS = (1000, 5000), (2000, 5100)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("changed_genes", Path(__file__).parents[2] / "recipes/changed_genes.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "changed_genes", module)  # where its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def genome(tmp_path: Path) -> LabelledGenome:
    """The same gene on both strands of two contigs: two donors and two acceptors, of which two lie close together."""
    text = random_bases(8000, 1)
    for at in DONORS:
        text = plant(text, DONOR, at - 2)
    for at in ACCEPTORS:
        text = plant(text, ACCEPTOR, at - 6)
    write_fasta(tmp_path / "g.fa", {"plus": text, "minus": revcomp(text)})
    lines = [f"plus\t{at}\t{at + 1}\t{kind}\t0\t+\n" for kind, at in rows()]
    lines += [f"minus\t{7999 - at}\t{8000 - at}\t{kind}\t0\t-\n" for kind, at in rows()]
    (tmp_path / "g.bed").write_text("".join(lines))
    return load_genome(Organism("g", "vertebrate", tmp_path / "g.fa", tmp_path / "g.bed"), tmp_path / "spool")


def rows() -> list[tuple[str, int]]:
    return [("donor", at) for at in DONORS] + [("acceptor", at) for at in ACCEPTORS]


def test_pieces_are_exons_in_sense_direction_with_their_surroundings(script: ModuleType, genome: LabelledGenome) -> None:
    pieces = list(script.pieces_of(genome))
    assert len(pieces) == 6
    for plus, minus in zip(pieces[:3], pieces[3:], strict=True):
        assert plus.bases.tobytes() == minus.bases.tobytes() and (plus.first, plus.last) == (minus.first, minus.last)
    donor, acceptor, both = pieces[:3]
    assert donor.bases[donor.first - 2 :][: len(DONOR)].tobytes() == DONOR.encode()
    assert acceptor.bases[acceptor.first - 6 :][: len(ACCEPTOR)].tobytes() == ACCEPTOR.encode()
    assert both.last - both.first == 100
    assert donor.first == 1000 and len(donor.bases) == 1500  # from the contig's start to half of the way
    assert acceptor.first == 500


def test_a_copy_is_the_same_for_the_same_seed_and_changed_as_stated(script: ModuleType, genome: LabelledGenome) -> None:
    pieces = list(script.pieces_of(genome)) * 20
    copy = script.copy_of(pieces, 3)
    assert copy.tobytes() == script.copy_of(pieces, 3).tobytes() != script.copy_of(pieces, 4).tobytes()
    assert set(np.unique(copy).tolist()) <= set(b"ACGTN")
    assert 0.2 * len(pieces) < copy.tobytes().count(DONOR.encode()) < len(pieces)  # of 1 or 2 in two of three pieces, some broken


def test_flanks_are_cut_and_bases_exchanged(script: ModuleType, genome: LabelledGenome) -> None:
    piece = next(iter(script.pieces_of(genome)))
    made = [script.changed(piece, np.random.default_rng(seed)) for seed in range(200)]
    assert len({len(bases) for bases in made}) > 50 and max(map(len, made)) <= len(piece.bases) + 60
    text = piece.bases.tobytes()
    assert 10 < sum(bases.tobytes() in text for bases in made) < 100  # some are only shorter


def test_one_contig_of_lines(script: ModuleType, tmp_path: Path) -> None:
    script.write_copy(np.frombuffer(b"ACGT" * 50, np.uint8), "changed1", tmp_path / "c.fa.gz")
    with pysam.FastaFile(str(tmp_path / "c.fa.gz")) as file:
        assert list(file.references) == ["changed1"] and file.fetch("changed1") == "ACGT" * 50


def test_a_recipe_without_a_teacher_is_one_line(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--data", str(tmp_path), "--teacher", "compact", "-o", str(tmp_path / "out")]
    assert script.main([*arguments, "--clade", "plant"]) == 2
    assert "no organism of this clade has both a truth and a teacher" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
