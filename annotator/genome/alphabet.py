"""The meaning of each byte of a FASTA sequence line; coordinates do not occur here."""

from __future__ import annotations

LOWER = 1
N = 2
IUPAC = 4
U = 8
GAP = 16
CARRIAGE_RETURN = 32
BAD = 64
READS_AS_N = N | IUPAC | GAP
"""Class flags of a byte; an upper-case A, C, G or T and a line feed have none."""

GAP_BYTES = b"-.*"
_IUPAC_BYTES = b"RYSWKMBDHV"
LETTERS = bytes(range(ord("A"), ord("Z") + 1)) + bytes(range(ord("a"), ord("z") + 1))
NOT_NUCLEOTIDE = b"EFIJLOPQXZ"
"""The letters that no nucleotide code uses."""


def _class_table() -> bytes:
    table = bytearray([BAD] * 256)
    table[ord("\n")] = 0
    table[ord("\r")] = CARRIAGE_RETURN
    for letters, flags in ((b"ACGT", 0), (b"N", N), (b"U", U), (_IUPAC_BYTES, IUPAC)):
        for letter in letters:
            table[letter] = flags
            table[letter + 32] = flags | LOWER
    for gap in GAP_BYTES:
        table[gap] = GAP
    return bytes(table)


def _base_table() -> bytes:
    table = bytearray(256)
    for letter in b"ACGTN":
        table[letter] = table[letter + 32] = letter
    table[ord("U")] = table[ord("u")] = ord("T")
    for letter in _IUPAC_BYTES:
        table[letter] = table[letter + 32] = ord("N")
    for gap in GAP_BYTES:
        table[gap] = ord("N")
    return bytes(table)


CLASS_TABLE = _class_table()
"""Byte to class flags, for bytes.translate."""

BASE_TABLE = _base_table()
"""Byte to one of ACGTN, for bytes.translate; 0 where the byte is no base."""

LINE_ENDS = b"\r\n"


def describe_byte(byte: int) -> str:
    """A byte in words, for an error message that has to stay one printable line."""
    names = {0: "NUL byte", 9: "tab", 13: "carriage return without line feed (old Mac line ends?)", 32: "space", 62: "'>'"}
    if byte in names:
        return names[byte]
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
