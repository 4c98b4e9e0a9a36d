import gzip
import sys
from pathlib import Path

import numpy as np
import pytest

from annotator.errors import EnvironmentFault, InputError, UsageError
from annotator.motifs import read as motifs
from annotator.motifs.formats import lines as motif_lines
from annotator.motifs.jaspar_release import CLADE_TAXA, jaspar_motifs, motifs_of_pyjaspar
from annotator.motifs.motif import Motif
from annotator.motifs.options import JASPAR_RELEASE, release_named
from annotator.motifs.read import read_motifs

ARNT = np.array([[4, 16, 0, 0], [19, 0, 1, 0], [0, 20, 0, 0], [0, 0, 20, 0], [0, 0, 0, 20], [0, 0, 20, 0]], np.float64)
OTHER = np.array([[1, 2, 3, 4.5], [5, 5, 5, 5], [0, 0, 0, 7]], np.float64)

JASPAR = """>MA0004.1 Arnt
A  [ 4 19  0  0  0  0 ]
C  [16  0 20  0  0  0 ]
G  [ 0  1  0 20  0 20 ]
T  [ 0  0  0  0 20  0 ]

>M2\tAhr::Arnt (var.2)
A  [ 1 5 0 ]
C  [ 2 5 0 ]
G  [ 3 5 0 ]
T  [ 4.5 5 7 ]
"""
RAW = """>MA0004.1 Arnt
4 19 0 0 0 0
16 0 20 0 0 0
0 1 0 20 0 20
0 0 0 0 20 0
>M2 Ahr::Arnt (var.2)
1\t5\t0
2\t5\t0
3\t5\t0
4.5\t5\t7
"""
MEME = """MEME version 4

ALPHABET= ACGT

strands: + -

Background letter frequencies
A 0.25 C 0.25 G 0.25 T 0.25

MOTIF MA0004.1 Arnt
letter-probability matrix: alength= 4 w= 6 nsites= 20 E= 0
0.20 0.80 0.00 0.00
0.95 0.00 0.05 0.00
0.00 1.00 0.00 0.00
0.00 0.00 1.00 0.00
0.00 0.00 0.00 1.00
0.00 0.00 1.00 0.00
URL http://jaspar.genereg.net/matrix/MA0004.1

MOTIF M2

letter-probability matrix: alength= 4 w= 2
 0.25  0.25  0.25  0.25
 0.00  1e-1  0.90  0.00
"""
TRANSFAC = """VV  TRANSFAC MATRIX TABLE
XX
//
AC MA0004.1
XX
ID Arnt
XX
DE MA0004.1 Arnt ; From JASPAR
PO\tA\tC\tG\tT
01\t4.0\t16.0\t0.0\t0.0
02\t19.0\t0.0\t1.0\t0.0
03\t0.0\t20.0\t0.0\t0.0
04\t0.0\t0.0\t20.0\t0.0
05\t0.0\t0.0\t0.0\t20.0
06\t0.0\t0.0\t20.0\t0.0
XX
CC tax_group:vertebrates
//
AC  M2
ID  V$M2
NA  Ahr::Arnt (var.2)
P0      T      G      C      A
01      4.5    3      2      1      N
02      5      5      5      5      N
03      7      0      0      0      T
XX
//
"""


def read(tmp_path: Path, text: str | bytes) -> list[Motif]:
    path = tmp_path / "motifs.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_motifs(path)


@pytest.mark.parametrize("text", [JASPAR, RAW, TRANSFAC], ids=["jaspar", "raw", "transfac"])
@pytest.mark.parametrize("form", ["plain", "gzip", "crlf", "bom"])
def test_counts_ids_and_names(tmp_path: Path, text: str, form: str) -> None:
    data = text.encode()
    if form == "gzip":
        data = gzip.compress(data)
    elif form == "crlf":
        data = data.replace(b"\n", b"\r\n")
    elif form == "bom":
        data = b"\xef\xbb\xbf" + data
    first, second = read(tmp_path, data)
    assert (first.matrix_id, first.name) == ("MA0004.1", "Arnt")
    assert (second.matrix_id, second.name) == ("M2", "Ahr::Arnt (var.2)")
    np.testing.assert_array_equal(first.counts, ARNT)
    np.testing.assert_array_equal(second.counts, OTHER)
    assert first.width == 6 and first.counts.dtype == np.float64


def test_meme_probabilities_become_counts(tmp_path: Path) -> None:
    first, second = read(tmp_path, MEME)
    assert (first.matrix_id, first.name, second.matrix_id, second.name) == ("MA0004.1", "Arnt", "M2", "M2")
    np.testing.assert_allclose(first.counts, ARNT, atol=1e-12)
    np.testing.assert_allclose(second.counts, [[5, 5, 5, 5], [0, 2, 18, 0]], atol=1e-12)  # nsites is 20 where not given


@pytest.mark.parametrize("row", ["A | 1 2", "A 1 2", "a [1 2]", "1 2"])
def test_jaspar_row_forms(tmp_path: Path, row: str) -> None:
    (motif,) = read(tmp_path, f">m\n{row}\n3 4\n5 6\n7 8\n")
    np.testing.assert_array_equal(motif.counts, [[1, 3, 5, 7], [2, 4, 6, 8]])
    assert motif.name == "m"


def test_jaspar_rows_in_any_order_follow_their_letters(tmp_path: Path) -> None:
    (motif,) = read(tmp_path, ">m\nT [ 4 ]\nG [ 3 ]\nC [ 2 ]\nA [ 1 ]\n")
    np.testing.assert_array_equal(motif.counts, [[1, 2, 3, 4]])


def test_counts_cannot_be_changed() -> None:
    source = ARNT.copy()
    motif = Motif("m", "m", source)
    source[0, 0] = 99
    assert motif.counts[0, 0] == 4
    with pytest.raises(ValueError, match="read-only"):
        motif.counts[0, 0] = 1


GOOD = ">ok name\n1 2\n3 4\n5 6\n7 8\n"
MEME_HEAD = "MEME version 4\nALPHABET= ACGT\nMOTIF m\n"
MALFORMED = {
    "empty": ("", r"line 0: the file holds no motif"),
    "blank": ("\n\n", r"line 2: the file holds no motif"),
    "prose": ("Dear reader\n", r"line 1: neither JASPAR, MEME nor TRANSFAC starts with 'Dear reader'"),
    "binary": (b"\x00\x01\x02", r"line 1: the line holds control characters"),
    "latin1": (b">m \xe9\n1\n1\n1\n1\n", r"line 1: not UTF-8 text"),
    "carriage returns": (">m\r1\r1\r1\r1\r", r"line 1: the line holds control characters"),
    "escape in a name": (">m a\x1b[2J\n1\n1\n1\n1\n", r"line 1: the line holds control characters"),
    "blank id": (">  \n1\n1\n1\n1\n", r"line 1: the header names no motif"),
    "unprintable id": (">a\u200bb\n1\n1\n1\n1\n", r"line 1: motif 'a\\u200bb': its matrix id .* control characters"),
    "long id": (">" + "i" * 300 + "\n1\n1\n1\n1\n", r"line 1: .*longer than 256"),
    "three rows": (">m x\n1 2\n3 4\n5 6\n" + GOOD, r"line 5: motif 'm': four rows"),
    "file ends": (">m x\n1 2\n3 4\n", r"line 3: motif 'm': four rows"),
    "five rows": (">m x\n1\n1\n1\n1\n1\n", r"line 6: motif 'm': four rows .A, C, G, T. are needed, .* not 5 of 1"),
    "row twice": (">m x\nA [ 1 ]\nA [ 1 ]\nG [ 1 ]\nT [ 1 ]\n", r"line 3: motif 'm': two rows for A"),
    "uneven": (">m x\n1 2\n3 4\n5\n7 8\n", r"line 4: motif 'm': its rows differ in length"),
    "text": (">m x\n1 2\n3 four\n5 6\n7 8\n", r"line 3: motif 'm': 'four' is not a number"),
    "underscore": (">m x\n1_0\n3\n5\n7\n", r"line 2: motif 'm': '1_0' is not a number"),
    "nan": (">m x\n1 2\nnan 4\n5 6\n7 8\n", r"line 3: motif 'm': 'nan' is not a number"),
    "infinite": (">m x\n1e999\n1\n1\n1\n", r"line 1: motif m: column 1 holds a count"),
    "negative": (">m x\n1 2\n3 -4\n5 6\n7 8\n", r"line 3: motif 'm': a weight matrix \(log-odds: negative numbers\) is not read"),
    "zero column": (">m x\n1 0\n3 0\n5 0\n7 0\n", r"line 1: motif m: column 2 is all zero"),
    "twice": (GOOD + GOOD, r"line 6: motif 'ok': the matrix id is used twice, first at line 1"),
    "no alphabet of ours": ("MEME version 4\nALPHABET= ACDEFGHIKLMNPQRSTVWY\n", r"line 2: the alphabet must be ACGT"),
    "custom alphabet": ('MEME version 5\nALPHABET "RNA" RNA-LIKE\n', r"line 2: the alphabet must be ACGT"),
    "meme without motif": ("MEME version 4\nletter-probability matrix:\n", r"line 2: a matrix without a MOTIF line"),
    "meme without matrix": (MEME_HEAD + "MOTIF n\n", r"line 4: motif 'm': it has no letter-probability matrix"),
    "meme ends": (MEME_HEAD, r"line 3: motif 'm': it has no letter-probability matrix"),
    "meme unnamed": ("MEME version 4\nMOTIF\n", r"line 2: the MOTIF line names no motif"),
    "meme sum": (MEME_HEAD + "letter-probability matrix:\n0.5 0.5 0.5 0\n", r"line 5: motif 'm': .* sum to 1"),
    "meme five": (MEME_HEAD + "letter-probability matrix:\n0.5 0.5 0 0 0\n", r"line 5: motif 'm': .* four probabilities"),
    "meme negative": (MEME_HEAD + "letter-probability matrix:\n-0.5 0.5 1 0\n", r"line 5: motif 'm': .* probabilities"),
    "meme short": (MEME_HEAD + "letter-probability matrix: w= 2\n1 0 0 0\n", r"line 5: motif 'm': w= 2 rows .* 1 found"),
    "meme protein": (MEME_HEAD + "letter-probability matrix: alength= 20\n", r"line 4: motif 'm': alength must be 4"),
    "meme sites": (MEME_HEAD + "letter-probability matrix: nsites= -1\n1 0 0 0\n", r"line 4: motif 'm': nsites"),
    "transfac ends": ("AC m\nPO A C G T\n01 1 1 1 1\n", r"line 3: motif 'm': the file ends inside a motif"),
    "transfac two": ("AC m\nPO A C G T\n01 1 1 1 1\nAC n\n", r"line 4: motif 'm': a second AC line"),
    "transfac bases": ("AC m\nPO A C G U\n", r"line 2: motif 'm': a matrix needs one header line"),
    "transfac headless": ("AC m\n01 1 1 1 1\n", r"line 2: motif 'm': a matrix row before its header"),
    "transfac three": ("AC m\nPO A C G T\n01 1 1 1\n", r"line 3: motif 'm': a matrix row must hold four counts"),
    "transfac gap": ("AC m\nPO A C G T\n01 1 1 1 1\n03 1 1 1 1\n", r"line 4: motif 'm': a matrix row is missing"),
    "transfac bare": ("AC m\n//\n", r"line 2: motif 'm': it has no matrix"),
    "transfac nameless": ("XX\nPO A C G T\n01 1 1 1 1\n//\n", r"line 4: a matrix without an AC or ID line"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_files_name_file_line_and_motif(tmp_path: Path, case: str) -> None:
    text, message = MALFORMED[case]
    with pytest.raises(InputError, match=rf"motifs\.txt: {message}") as caught:
        read(tmp_path, text)
    assert len(str(caught.value).splitlines()) == 1


def test_F03_python_and_xml_are_data(tmp_path: Path) -> None:
    code = "__import__('os').system('touch pwned')"
    (motif,) = read(tmp_path, f">{code.replace(' ', '')} {code}\n1\n1\n1\n1\n")
    assert motif.name == code
    with pytest.raises(InputError, match="line 2: motif 'm': \"__import__.* is not a number"):
        read(tmp_path, f">m x\n{code.replace(' ', '')}\n1\n1\n1\n")
    laughs = '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><l>&b;</l>\n'
    with pytest.raises(InputError, match="line 1: neither JASPAR, MEME nor TRANSFAC"):
        read(tmp_path, laughs)
    assert not Path("pwned").exists()


@pytest.mark.parametrize("width", [0, 65, 10_000])
def test_F03_width_limits(tmp_path: Path, width: int) -> None:
    row = "A [ " + "1 " * width + "]\n"
    text = ">m x\n" + "".join(base + row[1:] for base in "ACGT")
    with pytest.raises(InputError, match=rf"motif '?m'?: its width is {width}; 1 to 64 is allowed"):
        read(tmp_path, text)
    transfac = "AC m\nPO A C G T\n" + "".join(f"{i:02} 1 1 1 1\n" for i in range(1, width + 1)) + "//\n"
    with pytest.raises(InputError, match="motif '?m'?: it(s width is 0| has more than 64 rows)"):
        read(tmp_path, transfac)
    meme = MEME_HEAD + "letter-probability matrix:\n" + "1 0 0 0\n" * width
    with pytest.raises(InputError, match="motif '?m'?: it(s width is 0| has more than 64 rows)"):
        read(tmp_path, meme)


@pytest.mark.parametrize("width", [1, 64])
def test_F03_widths_at_the_limits_are_read(tmp_path: Path, width: int) -> None:
    (motif,) = read(tmp_path, ">m x\n" + ("1 " * width + "\n") * 4)
    assert motif.width == width


def test_F03_number_of_motifs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(motifs, "MAX_MOTIFS", 3)
    text = "".join(f">m{i}\n1\n1\n1\n1\n" for i in range(4))
    with pytest.raises(InputError, match="line 16: motif 'm3': the file holds more than 3 motifs"):
        read(tmp_path, text)
    assert len(read(tmp_path, text[: text.index(">m3")])) == 3


def test_F03_size_limits_hold_for_what_a_gzip_file_expands_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(motif_lines, "MAX_FILE_BYTES", 50_000)
    with pytest.raises(InputError, match="the file holds more than 50000 bytes"):
        read(tmp_path, gzip.compress(b"#" + b"x" * 1000 + b"\n" + b"#\n" * 60_000))
    with pytest.raises(InputError, match="line 1: the line is longer than 65536 bytes"):
        read(tmp_path, gzip.compress(b">" + b"x" * 70_000))


@pytest.mark.parametrize("damage", ["cut", "flipped", "tail"])
def test_damaged_gzip_is_refused(tmp_path: Path, damage: str) -> None:
    whole = bytearray(gzip.compress(JASPAR.encode()))
    if damage == "flipped":
        whole[-6] ^= 0xFF
    data = bytes(whole[:-12]) if damage == "cut" else bytes(whole) + (b"junk" if damage == "tail" else b"")
    with pytest.raises(InputError, match="damaged gzip file"):
        read(tmp_path, data)


def test_missing_files_and_folders_are_usage_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.txt", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            read_motifs(path)


@pytest.mark.parametrize(
    "matrix_id, name, counts, problem",
    [
        ("", "n", ARNT, "matrix id is empty"),
        ("m", "  ", ARNT, "name is empty"),
        ("m", "a\nb", ARNT, "control characters"),
        ("m", "n", ARNT[:, :3], r"counts must be \[W, 4\]"),
        ("m", "n", ARNT[0], r"counts must be \[W, 4\]"),
        ("m", "n", np.full((1, 4), np.nan), "column 1 holds a count"),
        ("m", "n", np.full((1, 4), 1e13), "column 1 holds a count"),
    ],
)
def test_a_motif_made_by_hand_is_checked(matrix_id: str, name: str, counts: np.ndarray, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Motif(matrix_id, name, counts)


TAXA = {
    "JASPAR2024": {"vertebrates": 879, "insects": 286, "nematodes": 103, "urochordates": 94, "plants": 805, "fungi": 178},
    "JASPAR2026": {"vertebrates": 1019, "insects": 296, "nematodes": 103, "urochordates": 94, "plants": 927, "fungi": 193},
}


def test_every_clade_has_jaspar_groups() -> None:
    assert list(CLADE_TAXA) == ["vertebrate", "invertebrate", "plant", "fungi"]
    assert {group for groups in CLADE_TAXA.values() for group in groups} == set(TAXA[JASPAR_RELEASE])


@pytest.mark.parametrize("group", TAXA["JASPAR2024"])
def test_an_earlier_release_equals_the_published_files(group: str, data_pack: Path) -> None:
    pytest.importorskip("pyjaspar", reason="pyjaspar is not installed")
    found = jaspar_motifs(group, "JASPAR2024")
    assert len(found) == TAXA["JASPAR2024"][group]
    file = data_pack / "tfbs" / "jaspar2024" / f"JASPAR2024_CORE_{group}_non-redundant_pfms_transfac.txt"
    assert_same(found, read_motifs(file))


@pytest.mark.parametrize("group", TAXA[JASPAR_RELEASE])
def test_our_files_are_the_release(group: str) -> None:
    ours = jaspar_motifs(group)
    assert len(ours) == TAXA[JASPAR_RELEASE][group] and [m.matrix_id for m in ours] == sorted(m.matrix_id for m in ours)
    pytest.importorskip("pyjaspar", reason="pyjaspar is not installed")
    assert_same(ours, motifs_of_pyjaspar(group, JASPAR_RELEASE))


def assert_same(found: list[Motif], expected: list[Motif]) -> None:
    by_id = {motif.matrix_id: motif for motif in expected}
    assert set(by_id) == {motif.matrix_id for motif in found}
    for motif in found:
        assert motif.name == by_id[motif.matrix_id].name
        np.testing.assert_array_equal(motif.counts, by_id[motif.matrix_id].counts)


def test_the_value_of_motifs_names_a_release_or_a_file() -> None:
    names = {"jaspar": JASPAR_RELEASE, "JASPAR2024": "JASPAR2024", "jaspar2018": "JASPAR2018", "jaspar.txt": "", "./jaspar": ""}
    assert {value: release_named(value) for value in names} == names


def test_unknown_release_and_group_are_usage_errors() -> None:
    with pytest.raises(UsageError, match="martians: no such tax group in JASPAR2026; it has .*vertebrates"):
        jaspar_motifs("martians")
    pytest.importorskip("pyjaspar", reason="pyjaspar is not installed")
    with pytest.raises(UsageError, match="JASPAR1999: no such JASPAR release; pyjaspar has JASPAR2014"):
        jaspar_motifs("vertebrates", "JASPAR1999")
    with pytest.raises(UsageError, match="martians: no such tax group in JASPAR2024; it has .*vertebrates"):
        jaspar_motifs("martians", "JASPAR2024")


def test_without_pyjaspar_only_the_release_of_the_package_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyjaspar", None)
    assert jaspar_motifs("fungi")
    with pytest.raises(
        EnvironmentFault, match=r"JASPAR2024 needs pyjaspar: pip install genome-annotator\[jaspar\].*2026 is built in"
    ):
        jaspar_motifs("vertebrates", "JASPAR2024")


@pytest.mark.parametrize("text", [JASPAR, RAW, MEME, TRANSFAC], ids=["jaspar", "raw", "meme", "transfac"])
def test_F06_damaged_files_give_motifs_or_one_typed_error(tmp_path: Path, text: str) -> None:
    rng = np.random.default_rng(17)
    refused = 0
    for _ in range(300):
        data = bytearray(text.encode())
        for _ in range(int(rng.integers(1, 5))):
            place = int(rng.integers(len(data)))
            match rng.integers(3):
                case 0:
                    data[place] = int(rng.integers(256))
                case 1:
                    del data[place : place + int(rng.integers(1, 40))]
                case _:
                    data[place:place] = data[: int(rng.integers(1, 40))]
        try:
            found = read(tmp_path, bytes(data))
        except InputError as error:
            refused += 1
            assert "motifs.txt: " in str(error) and len(str(error).splitlines()) == 1
        else:
            assert found and all(np.isfinite(motif.counts).all() for motif in found)
    assert refused > 50
