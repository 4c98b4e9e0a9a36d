"""FASTA content: rows A01-A19, A24 and A25 of the fault matrix, at every block size from 1 to 17."""

from __future__ import annotations

import random
import tracemalloc

import numpy as np
import pytest

from annotator.errors import InputError
from annotator.genome.lines import LayoutTracker, LineCutter
from annotator.genome.n_runs import RunCounter
from annotator.genome.options import GenomeOptions
from annotator.genome.scanner import FastaScanner, ScanResult

DEFAULT = GenomeOptions()


def scan_at(data: bytes, block_bytes: int, options: GenomeOptions = DEFAULT) -> tuple[ScanResult, bytes]:
    bases: list[bytes] = []
    scanner = FastaScanner("x.fa", options, bases.append)
    for start in range(0, len(data), block_bytes):
        scanner.feed(data[start : start + block_bytes])
    return scanner.finish(), b"".join(bases)


def describe(result: ScanResult, bases: bytes) -> tuple[object, ...]:
    table, layout = result.contigs, result.layout
    counts = [getattr(table, kind).tolist() for kind in ("lengths", "n", "iupac_as_n", "u_as_t", "gap_as_n", "lower_case")]
    where = layout and [layout.offsets.tolist(), layout.line_bases.tolist(), layout.line_bytes.tolist()]
    return table.names, counts, where, result.n_runs, result.longest_n_run_bp, result.warnings, bases


def scan(data: bytes, options: GenomeOptions = DEFAULT) -> tuple[ScanResult, bytes]:
    """Scan in one block, and hold every block size from 1 to 17 to the same answer."""
    result, bases = scan_at(data, len(data) or 1, options)
    for block_bytes in range(1, 18):
        assert describe(*scan_at(data, block_bytes, options)) == describe(result, bases)
    return result, bases


def refusal(data: bytes, options: GenomeOptions = DEFAULT) -> str:
    """The error for a file, the same at every block size."""
    messages = set()
    for block_bytes in [*range(1, 18), len(data) or 1]:
        with pytest.raises(InputError) as caught:
            scan_at(data, block_bytes, options)
        messages.add(str(caught.value))
    assert len(messages) == 1
    message = messages.pop()
    assert "\n" not in message and message.startswith("x.fa: ")
    assert caught.value.exit_code == 3
    return message


def test_A01_empty_file() -> None:
    assert "no sequences" in refusal(b"")


@pytest.mark.parametrize("data", [b"\n", b"\r\n\r\n", b"\n\n\n", b"\xef\xbb\xbf"])
def test_A02_only_blank_lines(data: bytes) -> None:
    assert f"no sequences (only {data.count(10)} blank lines)" in refusal(data)


@pytest.mark.parametrize("data", [b"; a comment\n;more\n", b"# a comment\n"])
def test_A02_only_comments(data: bytes) -> None:
    assert "line 1, byte 0: comment line" in refusal(data)


def test_A03_duplicate_names() -> None:
    message = refusal(b">a\nAC\n>b\nAC\n>a x\nGT\n")
    assert "duplicate contig names: 'a' (lines 1, 5)" in message
    assert "'b'" not in message


def test_A03_duplicate_names_lists_the_first_ten() -> None:
    records = b"".join(b">c%d\nA\n" % (i % 12) for i in range(24))
    message = refusal(records)
    assert "'c9' (lines 19, 43) and 2 more" in message
    assert "'c10'" not in message


def test_A03_dup_names_suffix() -> None:
    data = b">a\nA\n>a\nC\n>a_2\nG\n>a\nT\n>b\nN\n"
    result, _ = scan(data, GenomeOptions(dup_names="suffix"))
    assert result.contigs.names == ["a", "a_3", "a_2", "a_4", "b"]
    assert [line for line in result.warnings if "renamed" in line] == [
        "duplicate contig name 'a' renamed to 'a_3'",
        "duplicate contig name 'a' renamed to 'a_4'",
    ]


@pytest.mark.parametrize(
    ("data", "lengths"),
    [
        (b">e\n>a\nAC\n", [0, 2]),
        (b">a\nAC\n>e\n>b\nG\n", [2, 0, 1]),
        (b">a\nAC\n>e\n", [2, 0]),
        (b">a\nAC\n>e", [2, 0]),
        (b">e\n\n\n>a\nAC\n", [0, 2]),
    ],
)
def test_A04_empty_records(data: bytes, lengths: list[int]) -> None:
    result, _ = scan(data)
    assert result.contigs.lengths.tolist() == lengths
    line = data[: data.index(b">e")].count(b"\n") + 1
    assert result.warnings == [f"contig 'e' (line {line}) is empty"]


def test_A04_many_empty_records_are_counted_not_listed() -> None:
    result, _ = scan_at(b"".join(b">e%d\n" % i for i in range(1000)), 4096)
    assert len(result.warnings) == 21
    assert result.warnings[-1] == "empty records: 1000 in all, the first 20 are listed"


@pytest.mark.parametrize("data", [b">\nAC\n", b">", b">a\nAC\n>\nAC\n", b">  \nAC\n", b">\t\r\nAC\n", b">\r\nAC\r\n"])
def test_A05_no_name(data: bytes) -> None:
    line = 3 if data.startswith(b">a") else 1
    assert f"line {line}, byte {data.rindex(b'>')}: record without a name" in refusal(data)


@pytest.mark.parametrize("header", [b"> x", b">\tx y", b">   x\tlong description"])
def test_A05_space_before_the_name(header: bytes) -> None:
    result, _ = scan(header + b"\nAC\n")
    assert result.contigs.names == ["x"]
    assert result.warnings == ["header with a space before its name 'x'"]


def test_A06_crlf_and_mixed_line_ends() -> None:
    text = b">a one\nACGT\nACGT\nAC\n\n>b\nGGGG\nG\n"
    expected, bases = scan(text)
    crlf, crlf_bases = scan(text.replace(b"\n", b"\r\n"))
    mixed, mixed_bases = scan(b">a one\r\nACGT\nACGT\r\nAC\n\r\n>b\nGGGG\r\nG")
    for other, other_bases in ((crlf, crlf_bases), (mixed, mixed_bases)):
        assert other.contigs.names == expected.contigs.names == ["a", "b"]
        assert other.contigs.lengths.tolist() == [10, 5]
        assert other_bases == bases == b"ACGTACGTACGGGGG"
    assert crlf.layout is not None and crlf.layout.line_bytes.tolist() == [6, 6]
    assert mixed.layout is None


@pytest.mark.parametrize(
    "data", [b">a\rACGT\r>b\rACGT\r", b">a\rACGT", b">a\r", b"\r>a\rAC", b">a\nAC\rGT\n", b">a\nAC\r", b">a\r\r\nAC\n"]
)
def test_A07_cr_only(data: bytes) -> None:
    assert "carriage return without line feed (old Mac line ends?)" in refusal(data)


def test_A08_no_final_newline() -> None:
    result, bases = scan(b">a\nACGT\nAC")
    assert (result.contigs.lengths.tolist(), bases) == ([6], b"ACGTAC")
    assert result.layout is not None


@pytest.mark.parametrize(
    "data",
    [b">a\nAC\n\nGT\nACG\n>b\nA\n", b">a\nA\nCGT\nACG\n>b\nA\n", b">a\nACGTA\nCG\n\n\n>b\n\nA\n", b"\n\n>a\nACGTACG\n>b\nA\n\n"],
)
def test_A09_blank_lines_and_uneven_widths(data: bytes) -> None:
    result, bases = scan(data)
    assert result.contigs.lengths.tolist() == [7, 1]
    assert bases == b"ACGTACGA"
    assert result.warnings == []


def test_A09_layout_only_where_lines_are_even() -> None:
    assert scan(b">a\nACG\nTAC\nG\n\n\n>b\n\nA\n")[0].layout is not None
    assert scan(b">a\nACG\nTACG\n")[0].layout is None
    assert scan(b">a\nACG\nTA\nG\n")[0].layout is None
    assert scan(b">a\nACG\n\nTAC\n")[0].layout is None
    assert scan(b">a\nACG\r\nTAC\nTAC\n")[0].layout is None


@pytest.mark.parametrize(
    ("byte", "words"),
    [(b" ", "space"), (b"\t", "tab"), (b"7", "digit '7'"), (b">", "'>'"), (b";", "character ';'"), (b"@", "character '@'")],
)
def test_A10_space_tab_digit(byte: bytes, words: str) -> None:
    assert (
        refusal(b">a\nAC\n>chr2 x\nACGT\nAC" + byte + b"GT\n") == f"x.fa: contig 'chr2', line 5, byte 21: {words} in the sequence"
    )


@pytest.mark.parametrize(
    ("byte", "words"), [(0, "NUL byte"), (7, "control byte 0x07"), (127, "control byte 0x7f"), (0xE9, "non-ASCII byte 0xe9")]
)
def test_A11_nul_control_non_ascii(byte: int, words: str) -> None:
    assert refusal(b">a\nAC" + bytes([byte]) + b"GT\n") == f"x.fa: contig 'a', line 2, byte 5: {words} in the sequence"


def test_A12_byte_order_mark() -> None:
    result, bases = scan(b"\xef\xbb\xbf>a\nACGT\nAC\n")
    assert (result.contigs.names, bases) == (["a"], b"ACGTAC")
    assert result.warnings == ["UTF-8 byte order mark at the start of the file skipped"]
    assert result.layout is not None and result.layout.offsets.tolist() == [6]


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (b"junk\n>a\nAC\n", "line 1, byte 0"),
        (b"\n\nACGT\n>a\nAC\n", "line 3, byte 2"),
        (b"\xef\xbb\xbfAC\n", "line 1, byte 3"),
        (b"\xef\xbb", "line 1, byte 0"),
    ],
)
def test_A12_junk_before_the_first_header(data: bytes, where: str) -> None:
    message = refusal(data)
    assert where in message and "before the first '>'" in message


def test_A12_semicolon_before_the_first_header() -> None:
    assert "line 1, byte 0: comment line (';') before the first '>'" in refusal(b";c\n>a\nAC\n")


def test_A13_lower_case() -> None:
    result, bases = scan(b">a\nACgtnA\n>b\nacgt\n")
    assert bases == b"ACGTNAACGT"
    assert result.contigs.lower_case.tolist() == [3, 4]
    assert result.contigs.n.tolist() == [1, 0]
    assert result.warnings == []


def test_A14_iupac_codes() -> None:
    result, bases = scan(b">a\nARYSWKMBDHVT\n>b\nry\n>c\nAC\n")
    assert bases == b"A" + b"N" * 10 + b"T" + b"NN" + b"AC"
    assert result.contigs.iupac_as_n.tolist() == [10, 2, 0]
    assert result.contigs.n.tolist() == [0, 0, 0]
    assert result.warnings == ["ambiguity codes read as N: 12 in 2 contigs, the first is 'a'"]


def test_A15_rna() -> None:
    result, bases = scan(b">a\nACGU\n>b\nuu\n")
    assert bases == b"ACGTTT"
    assert result.contigs.u_as_t.tolist() == [1, 2]
    assert result.warnings == ["U read as T: 3 in 2 contigs, the first is 'a'"]


@pytest.mark.parametrize("gap", ["-", ".", "*"])
def test_A15_gaps(gap: str) -> None:
    data = f">a\nAC{gap}{gap}GT\n".encode()
    message = refusal(data)
    assert f"contig 'a', line 2, byte 5: gap character '{gap}'" in message and "`gaps_as_n=True`" in message
    result, bases = scan(data, GenomeOptions(gaps_as_n=True))
    assert bases == b"ACNNGT"
    assert result.contigs.gap_as_n.tolist() == [2]
    assert result.warnings == ["gap characters read as N: 2 in 1 contigs, the first is 'a'"]


PROTEIN = (
    b"MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQFEVVHSLAKWKRQTLGQHDFSAGEGLYTHMKALRPDEDRLSPLHSVYVDQWDWE"
)


def test_A16_protein() -> None:
    message = refusal(b">p1 some protein\n" + PROTEIN + b"*\n>p2\n" + PROTEIN + b"\n")
    assert "contig 'p1', line 2" in message and "looks like protein" in message


def test_A16_protein_after_dna_and_protein_alignment() -> None:
    assert "contig 'p', line 4" in refusal(b">d\nACGTACGT\n" + b">p\n" + PROTEIN)
    assert "looks like protein" in refusal(b">p\n" + PROTEIN[:4] + b"--" + PROTEIN)


def test_A16_one_strange_letter_is_not_a_protein() -> None:
    message = refusal(b">a\n" + b"ACGT" * 30 + b"X" + b"ACGT" * 30 + b"\n>b\n" + PROTEIN)
    assert message == "x.fa: contig 'a', line 2, byte 123: letter 'X' (`mask_chars=\"X\"` reads it as N) in the sequence"


def test_A16_the_sample_ends() -> None:
    """A slip at the head of a long contig is reported without reading the contig."""
    scanner = FastaScanner("x.fa", DEFAULT)
    scanner.feed(b">a\nJ")
    with pytest.raises(InputError, match="letter 'J' in the sequence$"):
        for _ in range(20):
            scanner.feed(b"ACGT" * 128)


def test_A17_fastq() -> None:
    assert "line 1, byte 0: looks like FASTQ" in refusal(b"@r1\nACGT\n+\nIIII\n")


def test_A18_all_n_contig_and_long_run() -> None:
    result, bases = scan(b">a\nNNN\nNNN\nNN\n>b\nNAC\nNNn\nNRA\nCCN\n>c\nNN\n>d\nAC\n")
    assert result.contigs.n.tolist() == [8, 6, 2, 0]
    # a: 8; b: N, NNnNR, N; c: 2. The runs of a and b, and of b and c, touch but are not one.
    assert (result.n_runs, result.longest_n_run_bp) == (5, 8)
    assert len(bases) == 24


def test_A18_ten_million_n() -> None:
    line = b"N" * 80 + b"\n"
    result, _ = scan_at(b">a\nACGT\n>b\n" + line * 125_000 + b"A", 1 << 20)
    assert (result.n_runs, result.longest_n_run_bp) == (1, 10_000_000)
    assert result.contigs.n.tolist() == [0, 10_000_000]


@pytest.mark.parametrize("length", [1, 2, 49, 59, 60, 61, 120, 1003])
def test_A19_awkward_lengths(length: int) -> None:
    sequence = bytes(random.Random(length).choices(b"ACGTNacgt", k=length))
    lines = b"\n".join(sequence[start : start + 60] for start in range(0, length, 60))
    result, bases = scan(b">a\n" + lines + b"\n>b\nA\n")
    assert result.contigs.lengths.tolist() == [length, 1]
    assert bases == sequence.upper() + b"A"
    assert result.layout is not None


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "a/b",
        "CON",
        "<script>",
        "=cmd()",
        "chr1:1-2",
        "..%2F",
        "-",
        "+",
        "@x",
        "x>y",
        "%s{}",
        "'\"\\",
        "</script><img/onerror=x>",
    ],
)
def test_A24_odd_names_stay_verbatim(name: str) -> None:
    result, _ = scan(f">chr1\nA\n>{name} desc\nC\n".encode())
    assert result.contigs.names == ["chr1", name]
    assert result.warnings == []


def test_A24_tab_ends_the_name() -> None:
    assert scan(b">a\tb\nAC\n")[0].contigs.names == ["a"]


def test_A24_long_and_unicode_names_warn() -> None:
    result, _ = scan(b">" + b"x" * 255 + b"\nA\n>" + b"y" * 300 + b"\nA\n>" + "käfer\u00a0染色体".encode() + b"\nA\n")
    assert result.contigs.names == ["x" * 255, "y" * 300, "käfer\u00a0染色体"]
    assert result.warnings == [
        f"contig name '{'y' * 77}...' has 300 characters (BED allows 255)",
        "contig name 'käfer\\xa0染色体' is not ASCII (BED expects ASCII)",
    ]


@pytest.mark.parametrize("name", [b"a\x00b", b"a\x0bb", b"\x1b[31m", b"a\x7f", "a\u0085b".encode(), "a\u2028b".encode()])
def test_A24_control_characters_in_names(name: bytes) -> None:
    message = refusal(b">ok\nA\n>" + name + b" d\nA\n")
    assert "line 3, byte 6: control character in contig name" in message
    assert message.isprintable()


def test_A24_names_that_are_no_utf8() -> None:
    assert "line 1, byte 0: contig name is not valid UTF-8" in refusal(b">a\xff\xfe\nAC\n")


def test_A24_control_characters_in_descriptions_do_no_harm() -> None:
    assert scan(b">a x\x00\x1b\xff\ty\nAC\n")[0].contigs.names == ["a"]


@pytest.mark.parametrize("block_bytes", [1000, 70_000, 1 << 20])
def test_A24_endless_names_and_descriptions(block_bytes: int) -> None:
    with pytest.raises(InputError, match="line 1, byte 0: contig name of more than 65536 bytes"):
        scan_at(b">" + b"x" * 70_000 + b" y\nAC\n", block_bytes)
    for header in (b">x " + b"y" * 200_000, b">" + b" " * 200_000 + b"x", b">" + b"\t" * 40_000 + b"x" * 60_000 + b" y" * 50_000):
        result, bases = scan_at(header + b"\nAC\n", block_bytes)
        assert set(result.contigs.names[0]) == {"x"} and len(result.contigs.names[0]) in (1, 60_000)
        assert bases == b"AC"


def test_A25_long_line_and_long_header_in_constant_memory() -> None:
    """The scanner holds nothing of a line, so 200 Mb on one line cost what 4 MB do: peaks of 4 and 32 blocks agree."""
    block = bytes(random.Random(1).choices(b"ACGTNacgtn", k=1 << 18))

    def peak(blocks: int, head: bytes) -> int:
        tracemalloc.start()
        scanner = FastaScanner("x.fa", DEFAULT, lambda bases: None)
        scanner.feed(head)
        for _ in range(blocks):
            scanner.feed(block)
        scanner.feed(b"\nAC\n")
        scanner.finish()
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    for head in (b">a\n", b">a "):
        assert abs(peak(32, head) - peak(4, head)) < len(block) // 4


def test_A22_positions_past_32_bits() -> None:
    """The arithmetic of lines and runs stands where 2^33 bases came before."""
    cutter, layout, runs = LineCutter(2**34), LayoutTracker(), RunCounter()
    cutter.flat = 2**33
    for text in (b">a\nACN", b"N\nNNAC\n", b"A\n"):
        block = np.frombuffer(text, np.uint8)
        pieces = cutter.cut(block)
        runs.add(block == ord("N"), pieces)
        layout.add(pieces)
        cutter.advance(pieces)
    assert (cutter.flat, cutter.offset) == (2**33 + 9, 2**34 + 15)
    assert runs.finish() == (1, 4)
    found = layout.finish(1)
    assert found is not None and found.byte_span(0, 3, 9) == (2**34 + 6, 2**34 + 14)


def test_many_contigs_in_a_block_count_like_few() -> None:
    """Past 64 contigs in a block the counting takes another path."""
    rng = random.Random(3)
    records = [(f"c{i}", bytes(rng.choices(b"ACGTNnRrUu", k=rng.randrange(40)))) for i in range(500)]
    data = b"".join(b">%s d\n%s\n" % (name.encode(), sequence) for name, sequence in records)
    whole, bases = scan_at(data, len(data))
    pieces, piece_bases = scan_at(data, 100)
    assert describe(whole, bases) == describe(pieces, piece_bases)
    assert whole.contigs.n.tolist() == [sequence.upper().count(b"N") for _, sequence in records]
    assert whole.contigs.u_as_t.tolist() == [sequence.upper().count(b"U") for _, sequence in records]


def test_the_first_of_several_faults_is_reported() -> None:
    assert "line 2, byte 4: digit" in refusal(b">a\nA1\n>\nA2\n>a\x00\nAC\rA\n")
    assert "line 1, byte 0: record without a name" in refusal(b">\nA1\n")
    assert "line 3, byte 6: record without a name" in refusal(b">a\nAC\n>\nA2\rX\n")
