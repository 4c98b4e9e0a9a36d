"""Tables of promoter windows: a contig each, the TSS at its base, rows to be left out never there."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from annotator.errors import InputError, UsageError
from annotator.kinds import Strand
from annotator.labels.options import PromoterWindows
from annotator.labels.promoter_windows import load_promoter_windows

TABLE = "sequence,label\nAACC,1\nAAGG,0\nTTTTT,1\nAACC,1\nCCCC,1\n"


@pytest.fixture
def tables(tmp_path: Path) -> PromoterWindows:
    (tmp_path / "prom").mkdir()
    (tmp_path / "prom" / "a.csv").write_text(TABLE)
    (tmp_path / "left_out.tsv").write_text("table\trow\tsplit\nprom/a.csv\t5\tval\nprom/b.csv\t1\tval\n")
    return PromoterWindows("toy", "vertebrate", (tmp_path / "prom" / "a.csv",), 2, tmp_path / "left_out.tsv")


def test_a_window_is_a_contig_and_the_tss_its_base(tables: PromoterWindows) -> None:
    genome = load_promoter_windows(tables)
    assert genome.bases.tobytes() == b"AACCAAGGTTTTT" and genome.contig_ends.tolist() == [4, 8, 13]
    assert genome.contig_names == ("a.csv:1", "a.csv:2", "a.csv:3") and genome.kinds == {"tss"}
    assert genome.sites["tss", Strand.PLUS].tolist() == [2, 10] and not len(genome.sites["tss", Strand.MINUS])
    assert genome.annotation["truth"]["counts"] == {"rows": 5, "left_out": 1, "repeated": 1}


@pytest.mark.parametrize(
    ("text", "left_out", "said"),
    [
        (TABLE.replace("TTTTT", "TT"), "", r"a\.csv line 4: 2 bp have no base 2, where the TSS should be"),
        (TABLE.replace(",0", ",2"), "", r"a\.csv line 3: label 2"),
        ("sequence,label\nAACC,0\n", "", "no promoter to learn from"),
        (TABLE, "table,row,split\n", r"left_out\.tsv line 1: the header should be"),
        (TABLE, "table\trow\tsplit\nprom/a.csv\tx\tval\n", r"left_out\.tsv line 2: no table, row and split"),
        (TABLE, "table\trow\tsplit\nprom/a.csv\t6\tval\n", r"left_out\.tsv: row 6 of a\.csv, which has 5 rows"),
    ],
)
def test_what_does_not_fit_is_refused(tables: PromoterWindows, text: str, left_out: str, said: str) -> None:
    tables.tables[0].write_text(text)
    assert tables.left_out is not None
    if left_out:
        tables.left_out.write_text(left_out)
    elif len(text) < len(TABLE) - 3:
        tables.left_out.write_text("table\trow\tsplit\n")
    with pytest.raises(InputError, match=said) as caught:
        load_promoter_windows(tables)
    assert "\n" not in str(caught.value)


def test_a_table_of_another_folder_is_refused(tables: PromoterWindows, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "left_out.tsv").write_text("table\trow\tsplit\n")
    other = PromoterWindows("toy", "plant", tables.tables, 2, tmp_path / "other" / "left_out.tsv")
    with pytest.raises(InputError, match="but .*a.csv lies elsewhere"):
        load_promoter_windows(other)


def test_rows_to_leave_out_that_cannot_be_read_are_one_line(tables: PromoterWindows, tmp_path: Path) -> None:
    (tmp_path / "cut.tsv.gz").write_bytes(gzip.compress(b"table\trow\tsplit\n" + b"a\t1\tval\n" * 50)[:-9])
    (tmp_path / "no.tsv.gz").write_text("table\trow\tsplit\n")
    (tmp_path / "odd.tsv").write_bytes(b"table\trow\tsplit\n\xff\t1\tval\n")
    for name in ("cut.tsv.gz", "no.tsv.gz", "odd.tsv"):
        with pytest.raises(InputError, match=f"{name}: not a table of text, or damaged"):
            load_promoter_windows(replace(tables, left_out=tmp_path / name))
    with pytest.raises(UsageError, match="Is a directory"):
        load_promoter_windows(replace(tables, left_out=tmp_path))


def test_the_tss_of_the_packs_windows_lies_where_the_recipe_says(data_pack: Path) -> None:
    """Windows of GUE that lie in human loci, found by their bases: the TSS of the annotation is the base of the recipe."""
    from annotator.cli.recipe import read_recipe
    from annotator.labels.genomes import load_genome
    from annotator.training.compact.options import RECIPE
    from annotator.training.dataset import reverse_complement

    recipe = read_recipe(RECIPE, data_pack, "x")
    human = load_genome(next(o for o in recipe.organisms if o.name == "human"), Path())
    for source in recipe.promoters:
        genome = load_promoter_windows(source)
        starts = np.concatenate([[0], genome.contig_ends[:-1]])
        windows = {genome.bases[a:b].tobytes() for a, b in zip(starts, genome.contig_ends, strict=True)}
        width = int(genome.contig_ends[0])
        found = np.zeros(width, np.int64)
        for strand in Strand:
            for site in human.sites["tss", strand]:
                for index in range(width):
                    first = site - index if strand is Strand.PLUS else site + index - width + 1
                    cut = human.bases[max(0, first) : first + width]
                    found[index] += (cut if strand is Strand.PLUS else reverse_complement(cut)).tobytes() in windows
        second, best = np.sort(found)[-2:]
        assert found.argmax() == source.tss_index and best > 20 * second > 0
