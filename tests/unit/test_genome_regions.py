"""BED regions."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from annotator.errors import InputError, UsageError
from annotator.genome.contigs import ContigTable
from annotator.genome.regions import read_regions

NAMES = ["chr1", "chr2", "chrM", "NC_000001.11", "track"]
ZEROS = np.zeros(5, np.int64)
CONTIGS = ContigTable(NAMES, np.array([100, 50, 16, 1000, 9]), *[ZEROS] * 6)


def read(folder: Path, data: bytes) -> dict[int, list[list[int]]]:
    (folder / "r.bed").write_bytes(data)
    regions = read_regions(folder / "r.bed", CONTIGS)
    assert all(spans.dtype == np.int64 and spans.shape[1] == 2 for spans in regions.values())
    return {contig: spans.tolist() for contig, spans in regions.items()}


def refusal(folder: Path, data: bytes) -> str:
    with pytest.raises(InputError) as caught:
        read(folder, data)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"{folder / 'r.bed'}: ")


def test_regions_are_sorted_and_merged(tmp_path: Path) -> None:
    data = b"chr2\t10\t20\nchr1\t50\t60\tname\t0\t+\nchr1\t5\t10\nchr1\t10\t12\nchr1\t55\t100\nchr1\t6\t7\nchr1\t13\t14\n"
    assert read(tmp_path, data) == {0: [[5, 12], [13, 14], [50, 100]], 1: [[10, 20]]}


def test_lines_that_are_no_regions_are_passed_over(tmp_path: Path) -> None:
    data = b'browser position chr1\ntrack name="x"\n#chr1\t1\t2\n\n  \nchr1\t1\t2\r\ntrack\t3\t4\nchr2 5 6'
    assert read(tmp_path, data) == {0: [[1, 2]], 1: [[5, 6]], 4: [[3, 4]]}


def test_empty_files_and_empty_regions_hold_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, b"") == {}
    assert read(tmp_path, b"chr1\t5\t5\n") == {}


def test_gzip(tmp_path: Path) -> None:
    assert read(tmp_path, gzip.compress(b"chr1\t0\t100\n")) == {0: [[0, 100]]}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("1", "chr1"),
        ("Chr2", "chr2"),
        ("MT", "chrM"),
        ("chrMT", "chrM"),
        ("NC_000001.10", "NC_000001.11"),
        ("NC_000001", "NC_000001.11"),
    ],
)
def test_unknown_contigs_alone_are_refused_with_a_suggestion(tmp_path: Path, name: str, meant: str) -> None:
    message = refusal(tmp_path, f"#\n{name}\t1\t2\n{name}\t5\t9\n".encode())
    assert message == (
        f"line 2: contig '{name}' is not in the genome: the file has '{name}'; the genome has 'chr1', 'chr2', 'chrM' and 2 more;"
        f" the genome calls '{name}' '{meant}': rename one of the two"
    )


def test_unknown_contigs_among_others_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "r.bed"
    path.write_bytes(b"scaffold_7\t1\t2\nchr1\t1\t2\nscaffold_9\t1\t2\nMT\t1\t2\n")
    warnings: list[str] = []
    assert {contig: spans.tolist() for contig, spans in read_regions(path, CONTIGS, warnings).items()} == {0: [[1, 2]]}
    assert warnings == [
        f"{path}: 3 lines on contigs that the genome lacks left out ('scaffold_7', 'scaffold_9', 'MT'); does 'MT' mean 'chrM'?"
    ]


@pytest.mark.parametrize(
    "header",
    [
        b"chrom\tstart\tend\n",
        b"#chrom\tchromStart\tchromEnd\n",
        b'"seqnames"\t"start"\t"end"\t"width"\n',
        b"Chromosome Start End\r\n",
        b"\xef\xbb\xbfchrom\tstart\tend\tname\n",
        b"\xef\xbb\xbf",
        b"\xef\xbb\xbftrack name=x\n",
    ],
)
def test_headers_and_byte_order_marks_are_passed_over(tmp_path: Path, header: bytes) -> None:
    assert read(tmp_path, header + b"chr1\t1\t2\nchr2\t3\t4\n") == {0: [[1, 2]], 1: [[3, 4]]}


def test_quotes_and_row_names_of_r_are_taken_off(tmp_path: Path) -> None:
    assert read(tmp_path, b'"chrom"\t"start"\t"end"\n"1"\t"chr1"\t1\t2\n"2"\t"chr2"\t3\t4\n') == {0: [[1, 2]], 1: [[3, 4]]}


def test_a_header_in_the_middle_is_no_header(tmp_path: Path) -> None:
    assert refusal(tmp_path, b"chr1\t1\t2\nchrom\tstart\tend\n").startswith("line 2: start 'start' is not a whole number")


def test_a_file_without_regions_is_said_to_hold_none(tmp_path: Path) -> None:
    path = tmp_path / "r.bed"
    path.write_bytes(b"# nothing\n")
    warnings: list[str] = []
    assert read_regions(path, CONTIGS, warnings) == {}
    assert warnings == [f"{path}: holds no region, so nothing of the genome is looked at"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"chr1\t1", "2 columns"),
        (b"chr1\tx\t2", "start 'x' is not a whole number"),
        (b"chr1\t-1\t2", "start '-1' is not a whole number"),
        (b"chr1\t1\t2.5", "end '2.5' is not a whole number"),
        (b"chr1\t1\t" + b"9" * 40, "is not a whole number"),
        (b"chr1\t1\t\xff", "is not a whole number"),
        (b"chr1\t1\t", "end '' is not a whole number"),
        (b"chr1\t9\t8", "start 9 lies after end 8"),
        (b"chr1\t9\t101", "end 101 lies beyond contig 'chr1' of 100 bp"),
    ],
)
def test_bad_lines(tmp_path: Path, line: bytes, words: str) -> None:
    message = refusal(tmp_path, b"#\nchr1\t0\t100\n" + line + b"\n")
    assert message.startswith("line 3: ") and words in message


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no.bed: cannot read"):
        read_regions(tmp_path / "no.bed", CONTIGS)


def test_damaged_gzip(tmp_path: Path) -> None:
    assert "truncated gzip" in refusal(tmp_path, gzip.compress(b"chr1\t0\t100\n")[:-3])
