"""Tables of labelled sequences: what is read, and which line of a bad file is named."""

import gzip
from pathlib import Path

import pytest

from annotator.errors import InputError, UsageError
from annotator.labels.window_tables import read_window_table


def written(folder: Path, text: str | bytes, name: str = "test.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def kmers(bases: str, k: int) -> str:
    return " ".join(bases[i : i + k] for i in range(len(bases) - k + 1))


@pytest.mark.parametrize("separator", [",", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_rows_in_file_order(tmp_path: Path, separator: str, end: str) -> None:
    lines = [("sequence", "label"), ("ACGT", "1"), ("GG", "0"), ("T", "12")]
    newline = "\r\n" if end == "\r\n" else "\n"
    table = read_window_table(written(tmp_path, newline.join(separator.join(line) for line in lines) + end))
    assert table.sequences == [b"ACGT", b"GG", b"T"]
    assert table.labels.tolist() == [1, 0, 12]
    assert table.labels.dtype == "int64" and len(table) == 3


def test_columns_may_be_swapped_and_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    table = read_window_table(written(tmp_path, "\ufefflabel,sequence\n1,ACG\n"))
    assert (table.sequences, table.labels.tolist()) == ([b"ACG"], [1])


@pytest.mark.parametrize(
    "text",
    [
        '"sequence","label"\n"ACG",1\n"GG","0"\n',
        '"","sequence","label"\n"1","ACG",1\n"2","GG",0\n',
        '"sequence"\t"label"\r\n"1"\t"ACG"\t1\r\n"2"\t"GG"\t0\r\n',
        ",sequence,label\n0,ACG,1\n1,GG,0\n",
        "Unnamed: 0,label,sequence\n0,1,ACG\n1,0,GG\n",
        "sequence,label,index\nACG,1,0\nGG,0,1\n",
        '\ufeff"label", "sequence"\n1, "ACG"\n0, "GG"\n',
    ],
)
def test_quotes_and_row_numbers_of_r_and_pandas_are_passed_over(tmp_path: Path, text: str) -> None:
    table = read_window_table(written(tmp_path, text))
    assert (table.sequences, table.labels.tolist()) == ([b"ACG", b"GG"], [1, 0])


@pytest.mark.parametrize("name", ["test.csv.gz", "test.csv"])
def test_gzip_is_told_by_content(tmp_path: Path, name: str) -> None:
    table = read_window_table(written(tmp_path, gzip.compress(b"sequence,label\nACG,1\n"), name))
    assert table.sequences == [b"ACG"]


@pytest.mark.parametrize("k", [3, 4, 5, 6])
def test_kmers_join_back_to_the_bases(tmp_path: Path, k: int) -> None:
    bases = "ACGTTGCANCAGT"
    table = read_window_table(written(tmp_path, f"sequence\tlabel\n{kmers(bases, k)}\t0\n{kmers(bases[:k], k)} \t1\n"))
    assert table.sequences == [bases.encode(), bases[:k].encode()]


def test_bases_read_as_a_fasta_file_reads_them(tmp_path: Path) -> None:
    table = read_window_table(written(tmp_path, "sequence,label\nacgtuUnRYSWKMBDHV,0\n"))
    assert table.sequences == [b"ACGTTTN" + b"N" * 10]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: no column .sequence."),
        ("ACGT,1\nACGT,0\n", "line 1: no column .sequence."),
        ("sequence,class\nACGT,1\n", "line 1: no column .label."),
        ("label\n1\n", "line 1: no column .sequence."),
        ("sequence1,sequence2,label\nA,C,1\n", "line 1: columns sequence1, sequence2, label: a table of pairs"),
        ("sequence\tsequence\tlabel\nA\tC\t1\n", "line 1: columns .*: a table of pairs"),
        ("sequence,name,label\nA,x,1\n", r"line 1: 3 columns \(sequence, name, label\)"),
        ("sequence,label\n", "no row below the header"),
        ("sequence,label\nACGT,1\nACGT\n", "line 3: 1 fields"),
        ("sequence,label\nACGT,1\n\nACGT,1\n", "line 3: 1 fields"),
        ("sequence,label\nACGT,1,2\n", "line 2: 3 fields"),
        ("sequence,label\nACGT,1\n,1\n", "line 3: the sequence is empty"),
        ("sequence,label\n  ,1\n", "line 2: the sequence is empty"),
        ("sequence,label\nACGE,1\n", "line 2: letter 'E' in the sequence is no base"),
        ("sequence,label\nAC-T,1\n", "line 2: gap character '-' in the sequence is no base"),
        ('sequence,label\n"AC"T,1\n', "line 2: character '\"' in the sequence is no base"),
        ("n,sequence,label\n1,ACT,1\n", "line 1: 3 columns"),
        ("sequence\n1,ACT\n", "line 1: no column .label."),
        ("sequence,label\nACG\u00c9,1\n", "line 2: non-ASCII byte"),
        ("sequence,label\nACGT,-1\n", "line 2: label .-1. is not a whole number"),
        ("sequence,label\nACGT,1.0\n", "line 2: label .1.0. is not a whole number"),
        ("sequence,label\nACGT,\n", "line 2: label .* is not a whole number"),
        ("sequence,label\nACGT,9999999999999999999\n", "line 2: label .* is not a whole number"),
        ("sequence\tlabel\nACG CGT\t1\nACG GTT\t1\n", "line 3: the words of the sequence are no k-mers"),
        ("sequence\tlabel\nACG CG\t1\n", "line 2: the words of the sequence are no k-mers"),
        ("sequence\tlabel\nACG CGTA\t1\n", "line 2: the words of the sequence are no k-mers"),
    ],
)
def test_bad_tables_name_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputError, match=message) as caught:
        read_window_table(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_damaged_gzip_and_missing_files(tmp_path: Path) -> None:
    damaged = written(tmp_path, gzip.compress(b"sequence,label\n" + b"ACGT,1\n" * 100)[:-12])
    with pytest.raises(InputError, match="test.csv"):
        read_window_table(damaged)
    with pytest.raises(UsageError, match="absent.csv"):
        read_window_table(tmp_path / "absent.csv")


def test_labels_beyond_the_classes_name_their_line(tmp_path: Path) -> None:
    table = read_window_table(written(tmp_path, "sequence,label\nA,0\nC,1\nG,2\n"))
    table.check_classes(3)
    with pytest.raises(InputError, match=r"test\.csv line 4: label 2, but the classes are 0\.\.1"):
        table.check_classes(2)


@pytest.mark.data
def test_every_table_of_the_data_pack_is_read(data_pack: Path) -> None:
    tables = sorted((data_pack / "gue").rglob("dev.csv.gz"))
    assert len(tables) == 17
    for path in tables:
        table = read_window_table(path)
        table.check_classes(3 if "splice" in str(path) else 2)
        assert len(table) >= 200 and set(b"".join(table.sequences)) <= set(b"ACGTN")
