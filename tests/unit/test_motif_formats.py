"""Motif files as programs and databases write them: what is read, and what is refused by its name."""

from pathlib import Path

import numpy as np
import pytest

from annotator.errors import InputError
from annotator.motifs.motif import Motif
from annotator.motifs.read import read_motifs

GATAAG = np.eye(4)[[2, 0, 3, 0, 0, 2]]
"""Probabilities of A, C, G and T at each position."""
ROWS = "".join(" " + "  ".join(f"{value:.6f}" for value in row) + " \n" for row in GATAAG)
STARS, DASHES = "*" * 80 + "\n", "-" * 80 + "\n"
MATRIX = f"letter-probability matrix: alength= 4 w= 6 nsites= 50 E= 1.0e-010 \n{ROWS}"
WEIGHTS = "log-odds matrix: alength= 4 w= 6 n= 9000 bayes= 8.8 E= 1.0e-010 \n" + "  -100   -100    200   -100 \n" * 6

MEME_OUTPUT = f"""{STARS}MEME - Motif discovery tool
{STARS}MEME version 5.5.5 (Release date: Thu Sep 7 2023)

For further information on how to interpret please access https://meme-suite.org.
{STARS}

{STARS}TRAINING SET
{STARS}PRIMARY SEQUENCES= peaks.fa
ALPHABET= ACGT
Sequence name            Weight Length  Sequence name            Weight Length
-------------            ------ ------  -------------            ------ ------
p1                       1.0000    500  p2                       1.0000    500
{STARS}
{STARS}MOTIF GATAAG MEME-1\twidth =   6  sites =  50  llr = 200  E-value = 1.0e-010
{STARS}{DASHES}\tMotif GATAAG MEME-1 Description
{DASHES}Simplified        A  :a:aa:
pos.-specific     C  ::::::
probability       G  a::::a
matrix            T  ::a:::

{DASHES}\tMotif GATAAG MEME-1 in BLOCKS format
{DASHES}BL   MOTIF GATAAG width=6 seqs=50
p1                       (   10) GATAAG  1
//

{DASHES}\tMotif GATAAG MEME-1 position-specific scoring matrix
{DASHES}{WEIGHTS}{DASHES}
{DASHES}\tMotif GATAAG MEME-1 position-specific probability matrix
{DASHES}{MATRIX}{DASHES}
Time  0.35 secs.

{STARS}Stopped because requested number of motifs (1) found.
{STARS}"""
MEME_4_OUTPUT = MEME_OUTPUT.replace("MOTIF GATAAG MEME-1\twidth", "MOTIF  1\twidth").replace("version 5.5.5", "version 4.9.0")
STREME_OUTPUT = f"""{STARS}STREME - Sensitive, Thorough, Rapid, Enriched Motif Elicitation
{STARS}MEME version 5.4.1 (Release date: Sat Aug 21 2021)

{STARS}
{STARS}REFERENCE
{STARS}If you use this program in your research, please cite:
Timothy L. Bailey, Bioinformatics, Mar. 24, 2021.
{STARS}
ALPHABET= ACGT

strands: + -

Background letter frequencies
A 0.295 C 0.205 G 0.205 T 0.295

MOTIF 1-GATAAG STREME-1
{MATRIX}
{STARS}Stopped because maximum number of motifs (1) reached.
{STARS}
COMMAND:\tstreme --p peaks.fa
CPU:\t\thost
FINALTIME:\t1.23 seconds
"""
DREME_OUTPUT = f"""# DREME 4.12.0
# command:     dreme -p peaks.fa

MEME version 4.12.0

ALPHABET "DNA" DNA-LIKE
A "Adenine" CC0000 ~ T "Thymine" 008000
C "Cytosine" 0000CC ~ G "Guanine = G" FFB300
N "Any base" = ACGT
X = ACGT
. = ACGT
R "Purine" = AG
U = T
END ALPHABET

strands: + -

Background letter frequencies (from dataset):
A 0.274 C 0.228 G 0.222 T 0.276

MOTIF GATAAG DREME-1

#             Word    RC Word        Pos        Neg    P-value    E-value
# BEST      GATAAG     CTTATC         50          2   1.2e-010   3.0e-006

{MATRIX}

Time 1.2
"""
READ = {
    "meme": (MEME_OUTPUT, "GATAAG", "MEME-1"),
    "meme 4": (MEME_4_OUTPUT, "1", "1"),
    "meme without a banner": (MEME_OUTPUT[MEME_OUTPUT.index("MEME version") :], "GATAAG", "MEME-1"),
    "streme": (STREME_OUTPUT, "1-GATAAG", "STREME-1"),
    "dreme": (DREME_OUTPUT, "GATAAG", "DREME-1"),
    "matrix up to a line of stars": (STREME_OUTPUT.replace(f"{ROWS}\n", ROWS), "1-GATAAG", "STREME-1"),
    "alphabet without blanks": ("MEME version 4\nALPHABET=ACGT\nMOTIF m n\n" + MATRIX, "m", "n"),
    "two files joined": ("MEME version 4\nALPHABET= ACGT\n\nMEME version 5\nALPHABET= ACGT\nMOTIF m n\n" + MATRIX, "m", "n"),
}


def read(tmp_path: Path, text: str) -> list[Motif]:
    path = tmp_path / "m.txt"
    path.write_text(text)
    return read_motifs(path)


@pytest.mark.parametrize("case", READ)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_B15_text_output_of_the_meme_programs(tmp_path: Path, case: str, line_end: str) -> None:
    text, matrix_id, name = READ[case]
    (motif,) = read(tmp_path, text.replace("\n", line_end))
    assert (motif.matrix_id, motif.name) == (matrix_id, name)
    np.testing.assert_allclose(motif.counts, 50 * GATAAG)


@pytest.mark.parametrize("sites", ["nsites= 0", "nsites= 0.0", ""])
def test_B15_an_unknown_number_of_sites_is_twenty(tmp_path: Path, sites: str) -> None:
    (motif,) = read(tmp_path, DREME_OUTPUT.replace("nsites= 50", sites))
    np.testing.assert_allclose(motif.counts, 20 * GATAAG)


MEME_REFUSED = {
    "rna": ('MEME version 5\nALPHABET "RNA" RNA-LIKE\n', "line 2: the alphabet must be ACGT"),
    "protein": ('MEME version 5\nALPHABET "P" PROTEIN-LIKE\n', "line 2: the alphabet must be ACGT"),
    "methylated": (
        'MEME version 5\nALPHABET "DNA" DNA-LIKE\nA ~ T\nC ~ G\nm "5-mC" ~ 1\nEND ALPHABET\n',
        "line 2: the alphabet must be ACGT, not '1ACGTm'",
    ),
    "endless alphabet": ('MEME version 5\nALPHABET "DNA" DNA-LIKE\nA ~ T\n', "line 3: the definition .* no END ALPHABET"),
    "motif in the alphabet": (
        'MEME version 5\nALPHABET "DNA" DNA-LIKE\nA ~ T\nMOTIF m\n',
        "line 4: the definition of the alphabet has no END",
    ),
    "log-odds alone": ("MEME version 5\nMOTIF m\n" + WEIGHTS, "line 9: motif 'm': .* only log-odds, which are not read"),
    "banner of something else": (
        STARS + "FIMO - Motif search tool\n" + STARS + "x\n" * 40,
        r"line 1: no line 'MEME version' follows",
    ),
    "banner alone": (STARS, "line 1: the file holds no motif"),
}


@pytest.mark.parametrize("case", MEME_REFUSED)
def test_B15_meme_files_that_are_refused(tmp_path: Path, case: str) -> None:
    text, message = MEME_REFUSED[case]
    with pytest.raises(InputError, match=rf"m\.txt: {message}"):
        read(tmp_path, text)


PCM = ">TF1_HUMAN.H11MO.0.A\n50.0\t10.0\t30.0\t10.0\n5\t80\t5\t10\n90\t2\t3\t5\n5\t85\t5\t5\n80\t5\t10\t5\n"
AACT = np.array([[9, 1, 1, 2], [9, 1, 1, 2], [1, 9, 1, 2], [1, 1, 1, 9]])
FOUR_ROWS = ["\t".join(map(str, row)) + "\n" for row in AACT.tolist()]
FOUR_POSITIONS = ">short\n" + "".join(FOUR_ROWS)
FIVE_OF_BASES = ">long\n1 0 0 0 9\n0 1 0 0 0\n0 0 1 0 0\n0 0 0 1 0\n"


def test_B15_hocomoco_counts_have_a_row_for_each_position(tmp_path: Path) -> None:
    (motif,) = read(tmp_path, PCM)
    assert motif.matrix_id == motif.name == "TF1_HUMAN.H11MO.0.A"
    assert motif.counts[0].tolist() == [50, 10, 30, 10] and motif.width == 5
    (motif,) = read(tmp_path, ">m\n0.25 0.25 0.25 0.25\n1 0 0 0\n0 0 1 0\n")  # probabilities
    assert motif.counts.tolist() == [[5, 5, 5, 5], [20, 0, 0, 0], [0, 0, 20, 0]]
    (motif,) = read(tmp_path, ">m\n1 2 3 4\n")
    assert motif.counts.tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize("text", [FOUR_POSITIONS + PCM, PCM + FOUR_POSITIONS, FOUR_POSITIONS + "\n\n# more\n" + PCM])
def test_B15_the_other_motifs_of_a_file_say_what_the_rows_of_a_square_matrix_are(tmp_path: Path, text: str) -> None:
    by_id = {motif.matrix_id: motif for motif in read(tmp_path, text)}
    np.testing.assert_array_equal(by_id["short"].counts, AACT)
    assert list(by_id) == [line[1:] for line in text.splitlines() if line.startswith(">")]
    with_bases = {motif.matrix_id: motif for motif in read(tmp_path, text.replace(PCM, FIVE_OF_BASES))}
    np.testing.assert_array_equal(with_bases["short"].counts, AACT.T)


def test_B15_a_square_matrix_is_never_turned_by_guess(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"m\.txt: line 6: motif 'short': four rows of four numbers .* begin the rows with A, C"):
        read(tmp_path, "#\n#\n\n\n\n" + FOUR_POSITIONS + FOUR_POSITIONS.replace("short", "other"))
    (motif,) = read(tmp_path, ">short\n" + "".join(f"{base} {row}" for base, row in zip("ACGT", FOUR_ROWS, strict=True)))
    np.testing.assert_array_equal(motif.counts, AACT.T)


def test_B15_a_file_does_not_mix_rows_of_bases_and_of_positions(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"line 6: motif 'TF1_.* a row for each position, but that of 'long' \(line 1\) a row for each base"
    ):
        read(tmp_path, FIVE_OF_BASES + PCM)


@pytest.mark.parametrize(
    "header, name", [("MA1", "MA1"), ("MA1 Arnt", "Arnt"), ("MA1\tArnt", "Arnt"), ("MA1\tArnt\tHelix-loop-helix", "Arnt"),
                     ("MA1 Arnt\thuman", "Arnt"), ("MA1 Ahr::Arnt (var.2)", "Ahr::Arnt (var.2)")],
)  # fmt: skip
def test_B15_jaspar_headers_of_one_to_three_fields(tmp_path: Path, header: str, name: str) -> None:
    (motif,) = read(tmp_path, f">{header}\n1 0\n0 1\n0 0\n0 0\n")
    assert (motif.matrix_id, motif.name) == ("MA1", name)


def test_B15_transfac_rows_from_00(tmp_path: Path) -> None:
    text = "ID TF1_HUMAN.H11MO.0.A\nPO\tA\tC\tG\tT\n00\t1\t2\t3\t4\n01\t4\t3\t2\t1\nXX\n//\n"
    (motif,) = read(tmp_path, text)
    assert motif.counts.tolist() == [[1, 2, 3, 4], [4, 3, 2, 1]]


HOMER = ">GATAA\tGATA1(Zf)/x/Homer\t6.1\t-1200.5\t0\tT:100.0(10.00%)\n" + "0.01\t0.01\t0.97\t0.01\n" * 5
UNIPROBE = "A:\t0.1\t0.9\nC:\t0.2\t0.03\nG:\t0.3\t0.04\nT:\t0.4\t0.03\n"
NAMED = {
    "homer": (HOMER, 1, "HOMER"),
    "homer of four positions": (HOMER[: -len("0.01\t0.01\t0.97\t0.01\n")], 1, "HOMER"),
    "homer of a motif found anew": (">ASTTCC\t1-ASTTCC\t8.059752\n0.01\t0.01\t0.97\t0.01\n", 1, "HOMER"),
    "hocomoco weights": (">TF1\n0.5\t-1.2\t0.3\t-0.8\n-2.1\t1.3\t-1.9\t-0.2\n", 2, "log-odds"),
    "jaspar weights": (">TF1\nA [ 0.5 1 ]\nC [ 1.3 -2 ]\nG [ 0 0 ]\nT [ 0 0 ]\n", 3, "log-odds"),
    "transfac weights": ("AC m\nPO A C G T\n01 1 -1 1 1\n//\n", 3, "log-odds"),
    "cis-bp": ("Pos\tA\tC\tG\tT\n1\t0.2\t0.3\t0.4\t0.1\n", 1, "CIS-BP"),
    "cis-bp from its web page": (
        "TF\tUnknown\nMotif\tM0001_2.00\nPos\tA\tC\tG\tT\n1\t0.2\t0.3\t0.4\t0.1\n",
        1,
        "CIS-BP",
    ),
    "uniprobe": ("#Arid3a\n" + UNIPROBE, 2, "UniPROBE"),
    "uniprobe with a title": ("Protein: Arid3a\tSeed k-mer: AATTAA\tEnrichment Score: 0.49\n\n" + UNIPROBE, 1, "UniPROBE"),
    "uniprobe with a bare name": ("Arid3a_primary\n" + UNIPROBE, 1, "UniPROBE"),
    "uniprobe under a header": (">Arid3a\n" + UNIPROBE, 2, "UniPROBE"),
    "stamp": ("DE\tHNF4A\tMA0114.1\n0\t28\t7\t27\t5\tX\n1\t2\t2\t56\t7\tX\nXX\n", 2, "STAMP"),
    "xml": ("<?xml version='1.0'?>\n<MEME/>\n", 1, "XML"),
    "html": ("<!DOCTYPE HTML>\n<html>\n", 1, "HTML"),
    "no version": ("\nMOTIF m\n" + MATRIX, 2, "without its line 'MEME version'"),
    "no header": ("1 2 3\n4 5 6\n7 8 9\n1 1 1\n", 1, "a matrix without a line >name above it"),
    "sites": (">MA0004.1 Arnt\nCACGTGacgt\n", 2, "FASTA, or a list of binding sites"),
}


@pytest.mark.parametrize("case", NAMED)
def test_B15_formats_that_are_not_read_are_named(tmp_path: Path, case: str) -> None:
    text, line, words = NAMED[case]
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert f"m.txt: line {line}: " in message and words in message and "control characters" not in message
    assert "not read" in message or "are not read" in message
    assert len(message.splitlines()) == 1
