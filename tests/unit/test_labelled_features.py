"""Features of a genome from BED files: their centres by strand, their width, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from annotator.errors import InputError
from annotator.kinds import Strand
from annotator.labels.genomes import load_genome
from annotator.labels.labelled import LabelledGenome
from annotator.labels.options import Organism


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    path = tmp_path / "genome.fa"
    path.write_text(f">one\n{'ACGT' * 25}\n>two\n{'ACGT' * 25}\n")
    return path


def load(fasta: Path, text: str, truth: Path | None = None) -> LabelledGenome:
    bed = fasta.with_name("peaks.bed")
    bed.write_text(text)
    return load_genome(Organism("toy", "plant", fasta, truth), fasta.with_name("spool"), (("CTCF", bed),))


def test_a_line_is_a_site_at_its_centre_on_the_strands_it_may_lie_on(fasta: Path) -> None:
    text = "one\t10\t20\none\t30\t41\ta\t0\t+\ntwo\t0\t8\tb\t0\t-\ntwo\t5\t5\none\t10\t20\n"
    genome = load(fasta, text)
    assert genome.sites["CTCF", Strand.PLUS].tolist() == [15, 35]
    assert genome.sites["CTCF", Strand.MINUS].tolist() == [15, 104]
    assert genome.kinds == {"CTCF"} and genome.feature_bp == {"CTCF": 10}
    assert not len(genome.sites["donor", Strand.PLUS]) and not len(genome.masked["CTCF", Strand.MINUS])


def test_features_stand_beside_sites(fasta: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth.bed"
    truth.write_text("two\t50\t51\tdonor\t0\t-\n")
    genome = load(fasta, "one\t10\t20\n", truth)
    assert genome.kinds == {"donor", "CTCF"} and genome.sites["donor", Strand.MINUS].tolist() == [150]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("three\t1\t2\n", "peaks.bed: line 1: contig .three. is not in the genome: the file has"),
        ("one\t1\t2\none\t90\t101\n", "line 2: end 101 lies beyond"),
        ("# nothing\n", "no line to learn from"),
        ("one\t7\t7\n", "no line to learn from"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(fasta: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load(fasta, text)
