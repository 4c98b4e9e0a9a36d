"""A teacher's tables: several are averaged, and what does not fit the genome is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from annotator.errors import InputError, UsageError
from annotator.kinds import Strand
from annotator.labels.genomes import load_genome
from annotator.labels.labelled import LabelledGenome, hold_out
from annotator.labels.options import Organism
from annotator.training.dataset import lesson_of

ROWS: list[dict[str, Any]] = [
    {"chrom": "two", "position": 7, "strand": "+", "kind": "donor", "probability": 0.5, "model": "a"},
    {"chrom": "one", "position": 99, "strand": "+", "kind": "donor", "probability": 0.25, "model": "a"},
    {"chrom": "two", "position": 3, "strand": "-", "kind": "acceptor", "probability": 1.0, "model": "a"},
    {"chrom": "one", "position": 3, "strand": "-", "kind": "promoter", "probability": 0.9, "model": "a"},
]
SCHEMA = {
    "chrom": pl.String, "position": pl.Int64, "strand": pl.String, "kind": pl.String, "probability": pl.Float32,
    "model": pl.String,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two contigs of 100 bp, and a truth."""
    (tmp_path / "genome.fa").write_text(f">one\n{'ACGT' * 25}\n>two\n{'ACGT' * 25}\n")
    (tmp_path / "truth.bed").write_text("one\t50\t51\tdonor\t0\t-\ntwo\t9\t10\tacceptor\t0\t+\ntwo\t4\t5\ttss\t0\t+\n")
    return tmp_path


def write(folder: Path, rows: list[dict[str, Any]], name: str = "t.parquet") -> Path:
    pl.DataFrame(rows, SCHEMA).write_parquet(folder / name)
    return folder / name


def load(folder: Path, *teacher: Path, learn: tuple[str, ...] = (), max_bp: int = 0) -> LabelledGenome:
    organism = Organism(
        "toy", "plant", folder / "genome.fa", folder / "truth.bed", max_bp=max_bp, teacher=teacher, learn=learn,
    )  # fmt: skip
    return load_genome(organism, folder / "spool")


def test_positions_lie_end_to_end_and_other_kinds_are_counted(folder: Path) -> None:
    genome = load(folder, write(folder, ROWS))
    donors = genome.teacher["donor", Strand.PLUS]
    assert donors.positions.tolist() == [99, 107] and donors.probability.tolist() == [0.25, 0.5]
    assert genome.teacher["acceptor", Strand.MINUS].positions.tolist() == [103]
    assert set(genome.teacher) == {(kind, strand) for kind in ("donor", "acceptor") for strand in Strand}
    assert not len(genome.teacher["donor", Strand.MINUS].positions)
    assert genome.annotation["teacher"] == {"files": ["t.parquet"], "models": ["a"], "sites": 3, "rows_of_other_kinds": 1}


def test_a_teacher_alone_is_the_target(folder: Path) -> None:
    """Of changed sequence nobody has an annotation."""
    path = write(folder, ROWS)
    genome = load_genome(Organism("toy", "plant", folder / "genome.fa", None, teacher=(path,)), folder / "spool")
    assert genome.kinds == {"donor", "acceptor"} and not any(len(sites) for sites in genome.sites.values())
    lesson = lesson_of(genome, 0.3)
    assert set(lesson.targets) == {(kind, strand) for kind in ("donor", "acceptor") for strand in Strand}
    donors = lesson.targets["donor", Strand.PLUS]
    assert donors.positions.tolist() == [99, 107] and donors.values.tolist() == [0.25, 0.5] and not len(donors.unknown)
    assert lesson.targets["acceptor", Strand.MINUS].places.tolist() == [103]
    (rest, *_), _ = hold_out([genome, load(folder)], ["one"])
    assert rest.kinds == {"donor", "acceptor"} and len(rest.contig_names) == 1
    with pytest.raises(UsageError, match="have no site to measure"):
        hold_out([genome], ["one"])
    with pytest.raises(InputError, match=r"genome\.fa: no donor, acceptor, tss or feature to learn from"):
        load_genome(Organism("toy", "plant", folder / "genome.fa", None), folder / "spool")


def test_several_teachers_are_averaged(folder: Path) -> None:
    other = [ROWS[0] | {"probability": 0.25, "model": "b"}, ROWS[2] | {"position": 4, "probability": 0.5}]
    genome = load(folder, write(folder, ROWS), write(folder, other, "u.parquet"))
    donors, acceptors = genome.teacher["donor", Strand.PLUS], genome.teacher["acceptor", Strand.MINUS]
    assert donors.positions.tolist() == [99, 107] and donors.probability.tolist() == [0.125, 0.375]
    assert acceptors.positions.tolist() == [103, 104] and acceptors.probability.tolist() == [0.5, 0.25]
    assert genome.annotation["teacher"]["models"] == ["a", "b"]


def test_a_part_of_a_genome_has_its_part_of_the_teacher(folder: Path) -> None:
    teacher = write(folder, ROWS)
    assert load(folder, teacher, max_bp=100).teacher["donor", Strand.PLUS].positions.tolist() == [99]
    (rest,), (held,) = hold_out([load(folder, teacher, learn=("donor", "acceptor"))], ["one"])
    assert rest.teacher["donor", Strand.PLUS].positions.tolist() == [7] and held.teacher[
        "donor", Strand.PLUS
    ].positions.tolist() == [99]
    assert rest.kinds == {"acceptor"}  # and no tss, which was not to be learnt


def test_only_kinds_that_count_are_kinds_of_the_genome(folder: Path) -> None:
    assert load(folder).kinds == {"donor", "acceptor", "tss"}
    assert load(folder, learn=("tss",)).kinds == {"tss"}
    (folder / "truth.bed").write_text("one\t50\t51\tdonor\t0\t-\n")
    with pytest.raises(InputError, match=r"truth\.bed: no tss, which `learn` of toy names"):
        load(folder, learn=("donor", "tss"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"chrom": "three"}, "row 2: contig 'three' is not in the genome"),
        ({"position": 100}, "row 2: position 100 lies outside contig 'one' of 100 bp"),
        ({"position": -1}, "row 2: position -1 lies outside"),
        ({"position": None}, "row 2: position -1 lies outside"),
        ({"probability": 1.5}, "row 2: probability 1.5 is not within 0..1"),
        ({"probability": None}, "row 2: probability nan is not within"),
        ({"strand": "."}, r"row 2: strand '\.' is neither"),
        ({"chrom": "two", "position": 7}, r"row 2: a second donor at position 7 of contig 'two', strand \+"),
    ],
)
def test_a_row_that_does_not_fit_is_named(folder: Path, change: dict[str, Any], said: str) -> None:
    path = write(folder, [ROWS[0], ROWS[1] | change, *ROWS[2:]])
    with pytest.raises(InputError, match=rf"t\.parquet {said}") as caught:
        load(folder, path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_table_of_predictions_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.parquet: No such file"):
        load(folder, folder / "none.parquet")
    text = folder / "text.parquet"
    text.write_text("chrom,position\n")
    with pytest.raises(InputError, match=r"text\.parquet: not a Parquet file"):
        load(folder, text)
    with pytest.raises(InputError, match=r"t\.parquet: no acceptor; a teacher knows donors and acceptors"):
        load(folder, write(folder, ROWS[:2]))
    with pytest.raises(InputError, match=r"t\.parquet row 1: contig .x. is not in the genome, nor"):
        load(folder, write(folder, [row | {"chrom": name} for row, name in zip(ROWS, "xyzx", strict=True)]))
    path = folder / "other.parquet"
    pl.DataFrame(ROWS, SCHEMA).drop("kind").write_parquet(path)
    with pytest.raises(InputError, match=r"other\.parquet: column kind: no such column"):
        load(folder, path)
    pl.DataFrame(ROWS, SCHEMA).with_columns(pl.col("position").cast(pl.String)).write_parquet(path)
    with pytest.raises(InputError, match=r"other\.parquet: column position: it holds String, not Int64"):
        load(folder, path)
