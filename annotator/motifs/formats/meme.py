"""MEME's motif format: minimal MEME files, and the text output of MEME, STREME and DREME.

Only the letter-probability matrices are read; probabilities times `nsites` become counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from annotator.motifs.formats.lines import ASSUMED_SITES, MotifLines, Record, are_probabilities
from annotator.motifs.motif import MAX_COUNT, MAX_WIDTH, quoted

VERSION_LINE = "MEME version"
_ALPHABET = re.compile(r"\s*ALPHABET(?:\s*=\s*|\s+)(.*?)\s*")
_WIDTH = re.compile(r"\s+width\s*=.*")
_FIELD = re.compile(r"\b(alength|w|nsites)=\s*(\S+)")
_AFTER_A_MATRIX = ("URL", "MOTIF", "Time")


def read_meme(lines: MotifLines) -> Iterator[Record]:
    """Read a file in MEME's format.

    Args:
        lines: The file, at its line `MEME version`.

    Yields:
        The motifs in file order.

    Raises:
        InputError: The file is damaged, or its alphabet is not that of DNA.
    """
    start, matrix_id, name, weights = 0, "", "", False
    for line in lines:
        text = line.strip()
        if alphabet := _ALPHABET.fullmatch(line):
            _check_alphabet(lines, alphabet[1])
        elif text.split(None, 1)[:1] == ["MOTIF"]:
            words = _WIDTH.sub("", text).split()  # MEME's own output goes on with width, sites and E-value
            if len(words) < 2 or matrix_id:
                lines.fail(_missing(weights) if matrix_id else "the MOTIF line names no motif")
            start, matrix_id, name, weights = lines.number, words[1], words[2] if len(words) > 2 else words[1], False
            lines.motif = matrix_id
        elif text.startswith("log-odds matrix"):
            weights = True
        elif text.startswith("letter-probability matrix"):
            if not matrix_id:
                lines.fail("a matrix without a MOTIF line of its own")
            yield Record(start, matrix_id, name, _matrix(lines, text))
            lines.motif = matrix_id = ""
    if matrix_id:
        lines.fail(_missing(weights))


def _missing(weights: bool) -> str:
    return "it has no letter-probability matrix" + (", only log-odds, which are not read" if weights else "")


def _check_alphabet(lines: MotifLines, given: str) -> None:
    """Refuse all but DNA: the word ACGT, or a definition that ends with `END ALPHABET`, whose plain symbols are ACGT."""
    if given == "ACGT":
        return
    if not given.startswith('"') or "RNA-LIKE" in given or "PROTEIN-LIKE" in given:
        lines.fail(f"the alphabet must be ACGT, not {quoted(given)}")
    start, symbols = lines.number, set[str]()
    for line in lines:
        words = line.split()
        if words[:2] == ["END", "ALPHABET"]:
            break
        if not words or words[0].startswith("#"):
            continue
        if words[0] == "MOTIF":
            lines.fail("the definition of the alphabet has no END ALPHABET")
        definition = re.sub(r'"[^"]*"', "", line)  # names may hold any character
        if "=" not in definition:  # with it, a symbol for several others
            symbols |= {side.split()[0] for side in definition.split("~") if side.split()}
    else:
        lines.fail("the definition of the alphabet has no END ALPHABET")
    if symbols != set("ACGT"):
        lines.fail(f"the alphabet must be ACGT, not {quoted(''.join(sorted(symbols)))}", start)


def _matrix(lines: MotifLines, header: str) -> list[list[float]]:
    """Counts of the matrix that follows its header line."""
    said = {key: lines.numbers([value])[0] for key, value in _FIELD.findall(header)}
    if said.get("alength", 4.0) != 4.0:
        lines.fail(f"alength must be 4, not {said['alength']:g}")
    sites = said.get("nsites", 0.0) or ASSUMED_SITES  # 0 says, as no nsites does, that their number is not known
    if not 0 < sites <= MAX_COUNT:
        lines.fail(f"nsites must be from 0 to {MAX_COUNT:g}, not {sites:g}")
    rows: list[list[float]] = []
    while (line := lines.next()) is not None:
        words = line.split()
        if not words and not rows:
            continue
        if not words or words[0] in _AFTER_A_MATRIX or set(words[0]) <= {"-", "*"}:
            lines.push_back(line)
            break
        if len(rows) == MAX_WIDTH:
            lines.fail(f"it has more than {MAX_WIDTH} rows")
        values = lines.numbers(words)
        if len(values) != 4 or not are_probabilities(values):
            lines.fail("a row must be four probabilities that sum to 1")
        rows.append([value * sites for value in values])
    if "w" in said and said["w"] != len(rows):
        lines.fail(f"w= {said['w']:g} rows were announced, {len(rows)} found")
    return rows
