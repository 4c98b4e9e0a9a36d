"""The independent validator accepts what we write and refuses broken files."""

import contextlib
import gzip
import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from annotator.kinds import KINDS
from annotator.output.formats.bgzf import EOF_BLOCK, BgzfWriter

_SPEC = importlib.util.spec_from_file_location("output_cases", Path(__file__).parents[1] / "support" / "output_cases.py")
assert _SPEC is not None
assert _SPEC.loader is not None
cases = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(cases)

validator = cases.load_validator()

GOOD = [
    "#chrom\tstart\tend\tname\tscore\tstrand\tthickStart\tthickEnd\titemRgb\tprobability",
    "chr1\t10\t12\tdonor\t700\t+\t10\t12\t0,114,178\t0.7",
    "chr1\t10\t13\tacceptor\t0\t-\t10\t10\t0\t0.7",
    "chr1\t40\t50\tx\t1000\t.\t41\t42\t255,255,255\t.",
    "chr0\t0\t60\tx\t5\t+\t0\t60\t0,0,0\t0.7",
]
LENGTHS = {"chr0": 60, "chr1": 50}


def report_of(folder: Path, text: str, standard_columns: int = 9, extra: bool = True) -> Any:
    path = folder / "x.bed"
    path.write_bytes(text.encode())
    return validator.validate_bed(path, LENGTHS, None, standard_columns, extra)


def test_a_good_file_is_valid(tmp_path: Path) -> None:
    report = report_of(tmp_path, "\n".join(GOOD) + "\n")
    assert report.valid
    assert (report.rows, report.columns) == (4, 10)
    assert report_of(tmp_path, "").valid
    assert report_of(tmp_path, GOOD[0] + "\n").valid
    assert report_of(tmp_path, "chr1\t1\t2\tx\t5\t+\tanything\n", standard_columns=6).valid


def test_columns_beyond_the_standard_ones_are_valid_only_where_they_are_expected(tmp_path: Path) -> None:
    nine = "".join("\t".join(line.split("\t")[:9]) + "\n" for line in GOOD)
    assert report_of(tmp_path, nine, extra=False).valid and report_of(tmp_path, nine).valid
    assert report_of(tmp_path, "\n".join(GOOD) + "\n", extra=False).errors[0] == "line 2: 10 columns, not 9"
    six = "chr1\t1\t2\tx\t5\t+\tanything\n"
    assert report_of(tmp_path, six, standard_columns=6, extra=False).errors == ["line 1: 7 columns, not 6"]


def _edit(line: int, column: int, value: str) -> str:
    rows = [row.split("\t") for row in GOOD]
    rows[line][column] = value
    return "\n".join("\t".join(row) for row in rows) + "\n"


BROKEN = {
    "float score": (_edit(1, 4, "0.7"), "score '0.7'"),
    "score above 1000": (_edit(1, 4, "1001"), "score '1001'"),
    "strand glued to the name": (_edit(1, 0, "chr1:+"), "contig 'chr1:+' is not in the FASTA"),
    "space in the contig": (_edit(1, 0, "chr 1"), "contig name"),
    "float start": (_edit(1, 1, "10.0"), "not integers"),
    "negative start": (_edit(1, 1, "-1"), "not integers"),
    "leading zero": (_edit(1, 1, "010"), "not integers"),
    "empty span": (_edit(1, 2, "10"), "start 10 is not before end 10"),
    "beyond the contig": (_edit(3, 2, "51"), "end 51 lies beyond 'chr1', 50 bp"),
    "unsorted start": (_edit(2, 1, "9"), "not sorted: 9-13 after 10-12"),
    "unsorted end": (_edit(2, 2, "11"), "not sorted: 10-11 after 10-12"),
    "contig in two places": (_edit(2, 0, "chr0"), "the lines of contig 'chr1' are not together"),
    "strand": (_edit(1, 5, "1"), "strand '1'"),
    "empty name": (_edit(1, 3, ""), "not 1 to 255 printable"),
    "long name": (_edit(1, 3, "x" * 256), "not 1 to 255 printable"),
    "name beyond ASCII": (_edit(1, 3, "ü"), "not 1 to 255 printable"),
    "thick start": (_edit(1, 6, "9"), "thick part 9-12 lies outside 10-12"),
    "thick end": (_edit(1, 7, "13"), "thick part 10-13 lies outside 10-12"),
    "thick backwards": (_edit(1, 6, "13"), "thick part 13-12"),
    "thick not a number": (_edit(1, 6, "."), "thick part '.'"),
    "colour": (_edit(1, 8, "0,114,256"), "itemRgb '0,114,256'"),
    "colour name": (_edit(1, 8, "blue"), "itemRgb 'blue'"),
    "one column more": (_edit(2, 9, "0.7\tdonor"), "11 columns, the first feature has 10"),
    "empty column": (_edit(1, 9, ""), "an empty column"),
    "probability above 1": (_edit(1, 9, "1.5"), "probability '1.5'"),
    "probability not a number": (_edit(1, 9, "nan"), "probability 'nan'"),
    "CRLF": (_edit(1, 9, "0.7\r"), "carriage return"),
    "six columns": ("chr1\t1\t2\tx\t5\t+\n", "6 columns, not 9 or more"),
    "header of other width": (GOOD[0] + "\tmore\n" + GOOD[1] + "\n", "10 columns, the header names 11"),
    "track line": ("track name=x\n" + GOOD[1] + "\n", "track or browser"),
    "late comment": (GOOD[1] + "\n" + GOOD[0] + "\n", "line 2: a comment after the first line"),
    "two comments": (GOOD[0] + "\n" + GOOD[0] + "\n", "line 2: a comment after the first line"),
    "other comment": ("##tool=x\n" + GOOD[1] + "\n", "line 1: a comment that is not the #chrom line"),
    "blank line": (GOOD[1] + "\n\n", "1 columns"),
    "no final line feed": (GOOD[1], "does not end with a line feed"),
    "spaces for tabs": (GOOD[1].replace("\t", " ") + "\n", "1 columns"),
}


@pytest.mark.parametrize("case", BROKEN, ids=lambda name: name.replace(" ", "-"))
def test_C01_broken_files_are_refused(tmp_path: Path, case: str) -> None:
    text, message = BROKEN[case]
    report = report_of(tmp_path, text)
    assert any(message in error for error in report.errors), report.errors


def _bgzf(path: Path, text: str) -> bytes:
    with ThreadPoolExecutor(1) as pool, contextlib.closing(BgzfWriter(path, pool)) as writer:
        writer.write(text.encode())
        writer.finish()
    return path.read_bytes()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[: -len(EOF_BLOCK)], "no BGZF end marker"),
        (lambda data: data + b"junk", "not a BGZF block"),
        (lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:], "not a whole gzip file"),
        (lambda data: data[:50], "no BGZF end marker"),
        (lambda data: gzip.compress(gzip.decompress(data)), "not a BGZF block"),
    ],
    ids=["no-eof", "trailing-junk", "bit-flip", "cut", "plain-gzip"],
)
def test_C01_broken_compression_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    path = tmp_path / "x.bed.gz"
    data = _bgzf(path, "\n".join(GOOD) + "\n")
    assert validator.validate_bed(path, LENGTHS, extra=True).valid
    path.write_bytes(damage(data))
    assert any(message in error for error in validator.validate_bed(path, LENGTHS, extra=True).errors)


def test_C01_generated_results_are_valid_and_canonical(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls, genome = cases.planted_calls()
    parts, _ = cases.write_parts(calls, [(0, 3000), (3, 50)], tmp_path / "parts")
    written = cases.merge(parts, tmp_path / "out")
    fasta = tmp_path / "genome.fa"
    fasta.write_bytes(b"".join(b">%s a\n%s\n" % (name.encode(), sequence.lower()) for name, sequence in genome.items()))
    for name in ("promoters.bed.gz", "splice_sites.bed.gz", "tfbs.bed.gz", "features.bed.gz"):
        report = validator.validate_bed(tmp_path / "out" / name, cases.CONTIGS, genome)
        assert report.errors == []
        assert report.rows == written[name].rows > 100
        if name == "splice_sites.bed.gz":
            by_kind = {kind: int((calls.kind == KINDS.index(kind)).sum()) for kind in ("donor", "acceptor")}
            assert report.sites == report.canonical == by_kind
    paths = [str(path) for path in sorted((tmp_path / "out").glob("*.bed.gz"))]
    assert validator.main([*paths, "--fasta", str(fasta)]) == 0
    assert "donors canonical (100.00%)" in capsys.readouterr().out


def test_the_script_tells_invalid_from_unreadable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.bed"
    path.write_text(GOOD[1] + "\n")
    assert validator.main([str(path), "--extra"]) == 0
    assert validator.main([str(path)]) == 1
    path.write_text(GOOD[1].replace("700", "7e2") + "\n")
    capsys.readouterr()
    assert validator.main([str(path), "--extra"]) == 1
    assert "INVALID" in capsys.readouterr().out
    assert validator.main([str(tmp_path / "absent.bed")]) == 2
    assert validator.main([str(path), "--fasta", str(tmp_path / "absent.fa")]) == 2


def test_an_off_by_one_shows_in_the_canonical_share(tmp_path: Path) -> None:
    (tmp_path / "x.bed").write_text(
        "c\t2\t4\tdonor\t1\t+\t2\t4\t0\nc\t3\t5\tdonor\t1\t+\t3\t5\t0\nc\t6\t8\tacceptor\t1\t-\t6\t8\t0\nc\t8\t10\tdonor\t1\t+\t8\t10\t0\n"
    )
    report = validator.validate_bed(tmp_path / "x.bed", {"c": 10}, {"c": b"AAGTAACTGC"})
    assert report.valid
    assert (report.sites, report.canonical) == ({"donor": 3, "acceptor": 1}, {"donor": 2, "acceptor": 1})
