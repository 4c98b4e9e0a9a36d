"""The scanner against a plain parser, against itself at every block size, and against htslib's FastxFile on valid files."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotator.errors import InputError
from annotator.genome.options import GenomeOptions
from annotator.genome.scanner import FastaScanner, ScanResult

BASES = "ACGTacgtNnRYSWKMBDHVryswkmbdhvUu"
BLANKS = b" \t\x1a"
READ_AS = {**{letter: "N" for letter in BASES}, **{letter: letter.upper() for letter in "ACGTacgt"}, "U": "T", "u": "T"}


class Refused(Exception):
    """What the plain parser raises."""


@dataclass
class Plain:
    """What the plain parser reads."""

    names: list[str]
    given: list[str]

    @property
    def bases(self) -> str:
        return "".join(READ_AS[letter] for sequence in self.given for letter in sequence)

    @property
    def runs(self) -> list[int]:
        read = ["".join(READ_AS[letter] for letter in sequence) for sequence in self.given]
        return [len(run) for sequence in read for run in re.findall("N+", sequence)]


def parse_plainly(data: bytes) -> Plain:
    """Line by line, as one would write it first; the rules are those of rows A01-A17 and A24."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    names: list[str] = []
    given: list[str] = []
    *ended, last = data.split(b"\n")
    over = False
    for line in [*(line.removesuffix(b"\r") for line in ended), last]:
        if b"\r" in line or (over and line.strip(BLANKS)):
            raise Refused
        if line.startswith(b">"):
            word = re.split(rb"[ \t]", line[1:].lstrip(b" \t"))[0]
            if not word or re.search(rb"[\x00-\x1f\x7f]", word):
                raise Refused
            try:
                names.append(word.decode())
            except UnicodeDecodeError:
                raise Refused from None
            if re.search("[\x80-\x9f\u2028\u2029]", names[-1]):
                raise Refused
            given.append("")
            continue
        over |= b"\x1a" in line
        if sequence := line.rstrip(BLANKS):
            if not names or set(sequence) - set(BASES.encode()):
                raise Refused
            given[-1] += sequence.decode()
    if not names or len(set(names)) < len(names):
        raise Refused
    return Plain(names, given)


def scan(data: bytes, cuts: list[int]) -> tuple[ScanResult, str]:
    """Scan blocks of the given sizes, in turn."""
    bases: list[bytes] = []
    scanner = FastaScanner("x.fa", GenomeOptions(), bases.append)
    start, turn = 0, 0
    while start < len(data):
        end = start + cuts[turn % len(cuts)]
        scanner.feed(data[start:end])
        start, turn = end, turn + 1
    return scanner.finish(), b"".join(bases).decode()


def outcome(data: bytes, cuts: list[int]) -> tuple[object, ...]:
    """Everything a scan tells, as plain values; or its error."""
    try:
        result, bases = scan(data, cuts)
    except InputError as error:
        return (str(error),)
    table, layout = result.contigs, result.layout
    counts = [
        getattr(table, kind).tolist() for kind in ("lengths", "n", "iupac_as_n", "u_as_t", "gap_as_n", "mask_as_n", "lower_case")
    ]
    where = layout and [layout.offsets.tolist(), layout.line_bases.tolist(), layout.line_bytes.tolist()]
    return table.names, counts, where, result.n_runs, result.longest_n_run_bp, result.warnings, bases


def read_by_layout(data: bytes, result: ScanResult) -> str:
    """All contigs through the layout's arithmetic, whole and cut in two."""
    assert result.layout is not None
    text = ""
    for contig, length in enumerate(result.contigs.lengths.tolist()):
        for start, end in ((0, length // 2), (length // 2, length)):
            if start < end:
                first, last = result.layout.byte_span(contig, start, end)
                part = data[first:last].replace(b"\r", b"").replace(b"\n", b"").decode()
                assert len(part) == end - start
                text += part
    return text


NAMES = st.text(st.sampled_from("abX1:|/.<ä\u200b"), min_size=1, max_size=4)
LINES = st.text(st.sampled_from(BASES + "NNNNNN"), max_size=7)
RECORDS = st.lists(
    st.tuples(NAMES, st.sampled_from(["", " d", "\td >x", "  "]), st.lists(LINES, max_size=6)),
    min_size=1,
    max_size=6,
    unique_by=lambda r: r[0],
)
ENDS = st.sampled_from(["\n", "\r\n"])


@st.composite
def fasta_files(draw: st.DrawFn) -> bytes:
    """Valid files: odd names, empty records, blank and uneven lines, either line end, with or without the last."""
    end = draw(ENDS)
    text = draw(st.sampled_from(["", "\ufeff", end, end + end]))
    for name, description, lines in draw(RECORDS):
        text += f">{draw(st.sampled_from(['', '', ' ']))}{name}{description}{end}" + "".join(line + end for line in lines)
    return (text if draw(st.booleans()) else text.removesuffix(end)).encode()


@st.composite
def even_files(draw: st.DrawFn) -> bytes:
    """Files as tools write them: one width."""
    end, width, text = draw(ENDS), draw(st.integers(1, 6)), ""
    for name, description, lines in draw(RECORDS):
        sequence = "".join(lines)
        text += f">{name}{description}{end}"
        text += "".join(sequence[start : start + width] + end for start in range(0, len(sequence), width))
    return (text if draw(st.booleans()) else text.removesuffix(end)).encode()


RUBBISH = st.lists(
    st.one_of(
        st.sampled_from([b">", b"\n", b"\n", b"\r", b"\r\n", b"A", b"c", b"N", b"nn", b"u", b"R", b"\n>a", b"\n>b", b" ", b"\t"]),
        st.sampled_from([b"-", b"E", b"1", b"\x00", b"\xff", b"\xef\xbb\xbf", b";", b"@", b"\xc3\xa4", b"\xc2\x85"]),
    ),
    max_size=24,
).map(b"".join)
CUTS = st.lists(st.integers(1, 17), min_size=1, max_size=5)


@given(fasta_files(), CUTS)
@settings(max_examples=300, deadline=None)
def test_valid_files_read_as_a_plain_parser_reads_them(data: bytes, cuts: list[int]) -> None:
    expected = parse_plainly(data)
    result, bases = scan(data, cuts)
    assert result.contigs.names == expected.names
    assert result.contigs.lengths.tolist() == [len(sequence) for sequence in expected.given]
    assert bases == expected.bases
    for kind, letters in {"n": "Nn", "u_as_t": "Uu", "lower_case": BASES.lower(), "iupac_as_n": "RYSWKMBDHVryswkmbdhv"}.items():
        assert getattr(result.contigs, kind).tolist() == [sum(letter in letters for letter in text) for text in expected.given]
    assert result.n_runs == len(expected.runs)
    assert result.longest_n_run_bp == max(expected.runs, default=0)
    if result.layout is not None:
        assert read_by_layout(data, result) == "".join(expected.given)


@given(even_files())
@settings(max_examples=200, deadline=None)
def test_even_files_have_a_layout(data: bytes) -> None:
    expected = parse_plainly(data)
    result, _ = scan(data, [5])
    assert result.layout is not None
    assert read_by_layout(data, result) == "".join(expected.given)


@given(RUBBISH, st.booleans())
@settings(max_examples=400, deadline=None)
def test_any_bytes_are_read_or_refused_as_by_the_plain_parser(rubbish: bytes, header: bool) -> None:
    data = b">x" * header + rubbish
    found = outcome(data, [len(data) or 1])
    try:
        expected = parse_plainly(data)
    except Refused:
        assert len(found) == 1
    else:
        assert found[0] == expected.names and found[-1] == expected.bases


@given(st.one_of(RUBBISH.map(lambda text: b">x" + text), fasta_files()))
@settings(max_examples=150, deadline=None)
def test_every_block_size_gives_the_same_answer(data: bytes) -> None:
    expected = outcome(data, [len(data)])
    for block_bytes in range(1, 18):
        assert outcome(data, [block_bytes]) == expected


@given(st.one_of(RUBBISH.map(lambda text: b">x" + text), fasta_files()))
@settings(max_examples=100, deadline=None)
def test_every_split_point_gives_the_same_answer(data: bytes) -> None:
    expected = outcome(data, [len(data)])
    for split in range(1, len(data)):
        assert outcome(data, [split, len(data)]) == expected


@given(fasta_files().filter(lambda data: b"> " not in data and b"\xef\xbb\xbf" not in data))
@settings(max_examples=100, deadline=None)
def test_valid_files_read_as_htslib_reads_them(data: bytes) -> None:
    result, bases = scan(data, [17])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.fa"
        path.write_bytes(data)
        with pysam.FastxFile(str(path)) as records:
            # kseq keeps the carriage return of a line that holds nothing else
            expected = [(record.name, (record.sequence or "").replace("\r", "")) for record in records]
    assert result.contigs.names == [name for name, _ in expected]
    assert bases == "".join(READ_AS[letter] for _, sequence in expected for letter in sequence)


def test_the_plain_parser_itself() -> None:
    parsed = parse_plainly(b"\xef\xbb\xbf\r\n> a x\r\nACu\r\n\r\nR\r\n>e\r\n")
    assert (parsed.names, parsed.given, parsed.bases) == (["a", "e"], ["ACuR", ""], "ACTN")
    for data in (b"", b"\n", b"A", b">\nA", b">a\nA B", b">a\nA\r", b">a\n>a\n", b">a\rA\n"):
        with pytest.raises(Refused):
            parse_plainly(data)
