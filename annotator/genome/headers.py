"""FASTA header lines: the contig name is the first word, kept as it stands; only spaces and tabs end a word."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from annotator.genome.warning_log import WarningLog

MAX_NAME_BYTES = 65_536
"""A longer name is no name; the limit keeps memory bounded when a file is not what it seems."""
BED_NAME_CHARS = 255

_NAME = re.compile(rb"^>[ \t]*([^ \t\n]*)", re.MULTILINE)
_NAME_PARTS = re.compile(rb"^>([ \t]*)([^ \t\n]*)", re.MULTILINE)
_ODD = re.compile(rb"^>(?:[ \t\n]|[^ \t\n]*[\x00-\x08\x0b-\x1f\x7f-\xff])", re.MULTILINE)
_LONE_RETURN = re.compile(rb"\r(?!\n)")


@dataclass(frozen=True, slots=True)
class HeaderFault:
    """The first refused header of a block.

    Attributes:
        index: Number of the header in the block, 0-based; a header continued from the block before counts as 0.
        reason: The fault, in words.
    """

    index: int
    reason: str


def quote(name: str) -> str:
    """A contig name for a message: quoted, one line, not endless."""
    return repr(name if len(name) <= 80 else name[:77] + "...")


class HeaderParser:
    """Turns header bytes, block after block, into contig names."""

    def __init__(self, warnings: WarningLog) -> None:
        """Report oddities that are accepted to `warnings`."""
        self._warnings = warnings
        self._partial = b""

    def parse(self, text: bytes) -> tuple[list[str], HeaderFault | None]:
        """Read the header lines of one block.

        Args:
            text: The headers' bytes with their line ends, joined; the last may still lack its end, and the first
                may be the rest of such a header. A carriage return at the very end is not followed by a line feed.

        Returns:
            Names of the headers that ended in this block, and the first fault.

        Notes:
            A fault is the earliest by header; within one header, a lone carriage return comes before a bad name. Both
            rules make the answer independent of where blocks are cut.
        """
        lone = _LONE_RETURN.search(text)
        fault = None
        if lone:
            fault = HeaderFault(text.count(b"\n", 0, lone.start()), "carriage return without line feed (old Mac line ends?)")
        text = self._partial + text.replace(b"\r\n", b"\n")
        ended = text.rfind(b"\n") + 1
        self._partial = _shorten(text[ended:])
        text = text[:ended]
        found: list[bytes] = _NAME.findall(text)
        if not found:
            return [], fault
        if not _ODD.search(text) and max(map(len, found)) <= BED_NAME_CHARS:
            return b"\n".join(found).decode("ascii").split("\n"), fault
        names, name_fault = self._parse_odd(text)
        if fault is None or (name_fault is not None and name_fault.index < fault.index):
            fault = name_fault
        return names, fault

    def _parse_odd(self, text: bytes) -> tuple[list[str], HeaderFault | None]:
        """The slow path: header by header, with warnings."""
        names: list[str] = []
        for index, (space, raw) in enumerate(_NAME_PARTS.findall(text)):
            reason = _refusal(raw)
            if reason:
                return names, HeaderFault(index, reason)
            name = raw.decode("utf-8")
            names.append(name)
            if space:
                self._warnings.add("names after a space", f"header with a space before its name {quote(name)}")
            if len(name) > BED_NAME_CHARS:
                self._warnings.add("long names", f"contig name {quote(name)} has {len(name)} characters (BED allows 255)")
            if not raw.isascii():
                self._warnings.add("non-ASCII names", f"contig name {quote(name)} is not ASCII (BED expects ASCII)")
        return names, None


def _refusal(raw: bytes) -> str | None:
    """The reason why a name cannot be used, or None."""
    if not raw:
        return "record without a name"
    if len(raw) > MAX_NAME_BYTES:
        return f"contig name of more than {MAX_NAME_BYTES} bytes"
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        return "contig name is not valid UTF-8"
    if any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in name):
        return f"control character in contig name {quote(name)}"
    return None


def _shorten(header: bytes) -> bytes:
    """The part of an unfinished header that is still needed, so that an endless description is never kept."""
    match = _NAME_PARTS.match(header)
    if match is None:
        return header
    space, name = match.groups()
    ended = header[match.end() : match.end() + 1]
    return b">" + space[:1] + name[: MAX_NAME_BYTES + 1] + ended
