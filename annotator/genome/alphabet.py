"""The meaning of each byte of a FASTA sequence line; coordinates do not occur here."""

from __future__ import annotations

from functools import lru_cache

LOWER = 1
N = 2
IUPAC = 4
U = 8
GAP = 16
CARRIAGE_RETURN = 32
BAD = 64
MASK = 128
READS_AS_N = N | IUPAC | GAP | MASK
"""Class flags of a byte; an upper-case A, C, G or T and a line feed have none."""

BLANK = BAD | CARRIAGE_RETURN
"""Class of a blank, a tab and Ctrl-Z: refused inside a line, passed over at its end."""

BLANK_BYTES = b" \t\x1a"
CTRL_Z = 0x1A
"""What DOS editors end a text file with."""

GAP_BYTES = b"-.*"
_IUPAC_BYTES = b"RYSWKMBDHV"
LETTERS = bytes(range(ord("A"), ord("Z") + 1)) + bytes(range(ord("a"), ord("z") + 1))
NOT_NUCLEOTIDE = b"EFIJLOPQZ"
"""The letters that no nucleotide code uses, but for X, with which programs mask repeats."""


@lru_cache
def class_table(mask_chars: str = "") -> bytes:
    """Byte to class flags, for bytes.translate; `mask_chars` (letters in either case) read as N."""
    table = bytearray([BAD] * 256)
    table[ord("\n")] = 0
    table[ord("\r")] = CARRIAGE_RETURN
    for letters, flags in ((b"ACGT", 0), (b"N", N), (b"U", U), (_IUPAC_BYTES, IUPAC)):
        for letter in letters:
            table[letter] = flags
            table[letter + 32] = flags | LOWER
    for gap in GAP_BYTES:
        table[gap] = GAP
    for blank in BLANK_BYTES:
        table[blank] = BLANK
    for mask in _either_case(mask_chars):
        table[mask] = MASK
    return bytes(table)


@lru_cache
def base_table(mask_chars: str = "") -> bytes:
    """Byte to one of ACGTN, for bytes.translate; 0 where the byte is no base. `mask_chars` read as N."""
    table = bytearray(256)
    for letter in b"ACGTN":
        table[letter] = table[letter + 32] = letter
    table[ord("U")] = table[ord("u")] = ord("T")
    for letter in _IUPAC_BYTES:
        table[letter] = table[letter + 32] = ord("N")
    for gap in (*GAP_BYTES, *_either_case(mask_chars)):
        table[gap] = ord("N")
    return bytes(table)


def _either_case(mask_chars: str) -> bytes:
    return (mask_chars.upper() + mask_chars.lower()).encode("ascii")


CLASS_TABLE = class_table()
BASE_TABLE = base_table()

LINE_ENDS = b"\r\n" + BLANK_BYTES
"""What stands between the bases of two lines; the scanner has seen that none of it stands inside a line."""


def describe_byte(byte: int) -> str:
    """A byte in words, for an error message that has to stay one printable line."""
    names = {0: "NUL byte", 9: "tab", 13: "carriage return without line feed (old Mac line ends?)", 32: "space", 62: "'>'"}
    if byte in names:
        return names[byte]
    if byte == CTRL_Z:
        return "Ctrl-Z (control byte 0x1a)"
    if byte < 32 or byte == 127:
        return f"control byte 0x{byte:02x}"
    if byte > 127:
        return f"non-ASCII byte 0x{byte:02x}"
    letter = chr(byte)
    if letter.isdigit():
        return f"digit '{letter}'"
    if byte in GAP_BYTES:
        return f"gap character '{letter}'"
    return f"{'letter' if letter.isalpha() else 'character'} '{letter}'"
