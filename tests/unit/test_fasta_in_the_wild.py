"""FASTA files as people have them: padding after the compressed data, blanks at line ends, Ctrl-Z, letters that mask."""

import gzip
import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from annotator.errors import InputError, UsageError
from annotator.genome.options import GenomeOptions
from annotator.genome.scanner import FastaScanner, ScanResult
from annotator.genome.source import Genome, open_genome
from tests.unit.test_fasta_compression import EOF_BLOCK, bgzf

PLAIN = b">a first\nACGTN\nACGTA\nAC\n>b\nGGG\n>c\n\n>d\nTTTTT\nTTT\n"
MASKED = GenomeOptions(mask_chars="X")


def scan(data: bytes, size: int, options: GenomeOptions | None = None) -> tuple[ScanResult, bytes]:
    """The scan of a file that comes in pieces of `size` bytes, and its bases."""
    bases: list[bytes] = []
    scanner = FastaScanner("x.fa", options or GenomeOptions(), bases.append)
    for start in range(0, len(data), size):
        scanner.feed(data[start : start + size])
    return scanner.finish(), b"".join(bases)


def opened(tmp_path: Path, data: bytes, options: GenomeOptions | None = None, name: str = "x.fa") -> Genome:
    (tmp_path / name).write_bytes(data)
    return open_genome(tmp_path / name, tmp_path / "spool", options or GenomeOptions())


def bases_of(genome: Genome) -> list[bytes]:
    lengths = genome.contigs.lengths.tolist()
    return [
        b"".join(genome.read_bases(i, at, min(at + 3, size)).tobytes() for at in range(0, size, 3))
        for i, size in enumerate(lengths)
    ]


WITH_BLANKS = {
    "one line": (PLAIN.replace(b"GGG\n", b"GGG \n"), 1, 6),
    "one line, tab": (PLAIN.replace(b"GGG\n", b"GGG\t \t\n"), 1, 6),
    "every line": (re.sub(rb"(?m)^([A-Z]+)$", rb"\1 ", PLAIN), 6, 2),
    "crlf": (re.sub(rb"(?m)^([A-Z]+)$", rb"\1  ", PLAIN).replace(b"\n", b"\r\n"), 6, 2),
    "lines of blanks": (PLAIN.replace(b">b\n", b"  \n\t\n>b\n   \n"), 3, 5),
    "before the first header": (b" \n\t\r\n" + PLAIN, 2, 1),
    "end of the file": (PLAIN + b"   ", 1, 12),
    "no line end": (PLAIN[:-1] + b" \t", 1, 11),
    "after the header": (PLAIN.replace(b">b\n", b">b \t\n"), 0, 0),
}


@pytest.mark.parametrize("case", WITH_BLANKS)
def test_A26_blanks_at_line_ends_are_passed_over_and_counted(case: str, tmp_path: Path) -> None:
    data, lines, first = WITH_BLANKS[case]
    expected, bases = scan(PLAIN, len(PLAIN))
    for size in (*range(1, 20), len(data)):
        result, found = scan(data, size)
        assert found == bases and result.contigs.names == expected.contigs.names
        for kind in ("lengths", "n", "lower_case"):
            np.testing.assert_array_equal(getattr(result.contigs, kind), getattr(expected.contigs, kind))
        assert (result.n_runs, result.longest_n_run_bp) == (expected.n_runs, expected.longest_n_run_bp)
        told = [line for line in result.warnings if "blanks" in line]
        assert told == ([f"blanks at the end of {lines} lines passed over, the first is line {first}"] if lines else [])
    for number, raw in enumerate((data, bgzf(data), gzip.compress(data))):
        assert bases_of(opened(tmp_path, raw, name=f"{number}.fa")) == [b"ACGTNACGTAAC", b"GGG", b"", b"TTTTTTTT"]


def test_A26_lines_that_all_end_with_a_blank_are_read_where_they_lie(tmp_path: Path) -> None:
    genome = opened(tmp_path, re.sub(rb"(?m)^([A-Z]+)$", rb"\1 ", PLAIN))
    assert bases_of(genome) == [b"ACGTNACGTAAC", b"GGG", b"", b"TTTTTTTT"] and not (tmp_path / "spool").exists()


INSIDE = {
    "inside a line": (b">a\nACGT\nAC GT\n", "contig 'a', line 3, byte 10: space in the sequence"),
    "several": (b">a\nAC \t  GT\n", "contig 'a', line 2, byte 5: space in the sequence"),
    "start of a line": (b">a\nACGT\n\tAC\n", "contig 'a', line 3, byte 8: tab in the sequence"),
    "before a header": (b">a\nACGT\n >b\nAC\n", "contig 'a', line 3, byte 8: space in the sequence"),
    "before the first header": (b" >a\nACGT\n", "line 1, byte 0: space before the first '>': not a FASTA file"),
    "carriage return after a blank": (b">a\nAC \rGT\n", "contig 'a', line 2, byte 5: space in the sequence"),
    "blank after a carriage return": (b">a\nAC\r \nGT\n", "contig 'a', line 2, byte 5: carriage return without line feed"),
    "digits": (b">a\n     1 ACGT\n", "contig 'a', line 2, byte 3: space in the sequence"),
    "ctrl-z inside a line": (b">a\nAC\x1aGT\n", "contig 'a', line 2, byte 5: Ctrl-Z (control byte 0x1a) in the sequence"),
    "ctrl-z before a line": (b">a\nAC\n\x1a\nGT\n", "contig 'a', line 3, byte 6: Ctrl-Z (control byte 0x1a) in the sequence"),
    "ctrl-z before a header": (b">a\nAC\n\x1a\n>b\nGT\n", "contig 'a', line 3, byte 6: Ctrl-Z (control byte 0x1a)"),
    "ctrl-z before padding": (b">a\nAC\n\x1a\0\0", "contig 'a', line 3, byte 6: Ctrl-Z (control byte 0x1a) in the sequence"),
    "blank before a ctrl-z": (b">a\nAC \x1aGT\n", "contig 'a', line 2, byte 5: space in the sequence"),
}


@pytest.mark.parametrize("case", INSIDE)
def test_A10_A11_A26_blanks_inside_lines_are_refused_wherever_the_file_is_cut(case: str) -> None:
    data, message = INSIDE[case]
    for size in range(1, len(data) + 1):
        with pytest.raises(InputError) as caught:
            scan(data, size)
        assert str(caught.value).startswith(f"x.fa: {message}")


@pytest.mark.parametrize("end", [b"\x1a", b"\x1a\n", b"\x1a\r\n", b"\x1a\x1a\x1a", b" \x1a", b"\r\n\x1a \t\n\n"])
def test_A26_ctrl_z_ends_a_file(end: bytes) -> None:
    for stem, size in itertools.product((PLAIN, PLAIN[:-1], PLAIN.replace(b"\n", b"\r\n")), (1, 2, 5, 200)):
        result, bases = scan(stem + end, size)
        assert bases == b"ACGTNACGTAACGGGTTTTTTTT"
        assert "Ctrl-Z at the end of the file passed over" in result.warnings


def test_A26_very_many_blanks_cost_no_memory() -> None:
    bases: list[bytes] = []
    scanner = FastaScanner("x.fa", GenomeOptions(), bases.append)
    scanner.feed(b">a\nACGT")
    for _ in range(64):
        scanner.feed(b" " * (1 << 18))
    assert len(scanner._held) <= 1
    scanner.feed(b"\nAC")
    assert scanner.finish().contigs.lengths.tolist() == [6] and b"".join(bases) == b"ACGTAC"


@pytest.mark.parametrize("padding", [1, 3, 17, 511, 100_000, 3 << 20])
def test_B13_nul_padding_after_the_compressed_data_is_passed_over_and_counted(tmp_path: Path, padding: int) -> None:
    two_members = gzip.compress(PLAIN[:20]) + gzip.compress(PLAIN[20:])
    for number, data in enumerate((gzip.compress(PLAIN), two_members, bgzf(PLAIN), bgzf(PLAIN) + gzip.compress(b"AC\n"))):
        genome = opened(tmp_path, data + bytes(padding), name=f"{number}.fa.gz")
        assert bases_of(genome)[:3] == [b"ACGTNACGTAAC", b"GGG", b""]
        assert genome.warnings[-1].endswith(f"{number}.fa.gz: {padding} NUL bytes after the compressed data passed over")


def test_B03_B04_B05_B13_nul_bytes_do_not_hide_damage(tmp_path: Path) -> None:
    whole = bgzf(PLAIN)
    for data, words in (
        (whole.removesuffix(EOF_BLOCK) + bytes(100), "no BGZF EOF block"),
        (whole[:-10] + bytes(100), "damaged BGZF block"),
        (gzip.compress(PLAIN)[:-12] + bytes(100), "damaged gzip data"),
        (gzip.compress(PLAIN) + bytes(100) + b"x", f"at byte {len(gzip.compress(PLAIN)) + 100}; if the data before it are whole"),
        (gzip.compress(PLAIN) + bytes(9) + gzip.compress(PLAIN), "trailing garbage"),
    ):
        with pytest.raises(InputError, match=re.escape(words)):
            opened(tmp_path, data)


X_MASKED = b">a\nACGTXXXX\nxxNACGTA\n>b\nAC\nXX\n>X\nACGT\n"


@pytest.mark.parametrize("form", ["plain", "gzip", "bgzf", "uneven"])
def test_A27_masking_letters_read_as_n(tmp_path: Path, form: str) -> None:
    data = {"gzip": gzip.compress(X_MASKED), "bgzf": bgzf(X_MASKED), "uneven": X_MASKED.replace(b"XXXX\n", b"XX\nXX\n")}
    genome = opened(tmp_path, data.get(form, X_MASKED), MASKED)
    assert bases_of(genome) == [b"ACGTNNNNNNNACGTA", b"ACNN", b"ACGT"]
    assert genome.contigs.mask_as_n.tolist() == [6, 2, 0] and genome.contigs.n.tolist() == [1, 0, 0]
    assert genome.altered["mask_as_n"] == 8 and (genome.n_runs, genome.longest_n_run_bp) == (2, 7)
    assert "masking characters read as N: 8 in 2 contigs, the first is 'a'" in genome.warnings
    part = genome.bases.pick(np.array([1]))
    assert part.read(0, 0, 4).tobytes() == b"ACNN"


def test_A27_masking_letters_are_refused_unless_named(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        opened(tmp_path, X_MASKED)
    assert str(caught.value).endswith("contig 'a', line 2, byte 7: letter 'X' (`mask_chars=\"X\"` reads it as N) in the sequence")
    with pytest.raises(InputError, match="letter 'J' in the sequence"):
        opened(tmp_path, b">a\nACGTXXJ\n", MASKED)
    with pytest.raises(InputError, match="letter 'X'.*in the sequence$"):  # much of it is masked, but that is no protein
        opened(tmp_path, b">a\n" + b"X" * 900 + b"ACGT" * 25 + b"\n")


@pytest.mark.parametrize("chars, bases", [("XZ", b"NNNN."), ("xz", b"NNNN."), ("Xz.", b"NNNNN"), ("X?", None)])
def test_A27_any_letters_may_mask(tmp_path: Path, chars: str, bases: bytes | None) -> None:
    data = b">a\nXxZz\n" if b"." in (bases or b"") else b">a\nXxZz.\n"
    if bases is None:
        with pytest.raises(InputError, match="letter 'Z' in the sequence"):
            opened(tmp_path, data, GenomeOptions(mask_chars=chars))
    else:
        assert bases_of(opened(tmp_path, data, GenomeOptions(mask_chars=chars))) == [bases.rstrip(b".")]


@pytest.mark.parametrize("chars", ["A", "Xt", ">", "X ", "é", "\n", "U"])
def test_A27_characters_that_cannot_mask(chars: str) -> None:
    with pytest.raises(UsageError, match="mask_chars"):
        GenomeOptions(mask_chars=chars)


def test_B14_the_hash_of_the_text_does_not_depend_on_its_compression(tmp_path: Path) -> None:
    forms = [
        PLAIN,
        gzip.compress(PLAIN, 1),
        gzip.compress(PLAIN[:9]) + gzip.compress(PLAIN[9:], 9),
        bgzf(PLAIN),
        bgzf(PLAIN) + bytes(9),
    ]
    genomes = [opened(tmp_path, data, name=f"{i}.fa") for i, data in enumerate(forms)]
    assert len({genome.sha256 for genome in genomes}) == len(forms)
    assert {genome.text_sha256 for genome in genomes} == {genomes[0].sha256}
    assert opened(tmp_path, bgzf(PLAIN.replace(b"GGG", b"GGC"))).text_sha256 != genomes[0].sha256
