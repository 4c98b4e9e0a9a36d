"""The compression of a file (told by its first bytes, never by its name), and gzip as a checked stream.

Coordinates: "byte" in a message is the 0-based offset in the compressed file.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from annotator.errors import InputError

Compression = Literal["plain", "gzip", "bgzf"]

GZIP_MAGIC = b"\x1f\x8b"
_REFUSED = {
    b"PK\x03\x04": "a zip archive",
    b"PK\x05\x06": "an empty zip archive",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x1f\x9d": "compress (.Z)",
    b"\x43\x27\x41\x1a": "2bit",
    b"\x1a\x41\x27\x43": "2bit",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}
_WBITS_GZIP = 31
OUTPUT_BYTES = 4 << 20
"""Decompressed data comes in pieces of about this size, whatever the ratio."""


def sniff(head: bytes, label: str) -> Compression:
    """Tell the compression from the first bytes of a file.

    Args:
        head: At least 4 kB, or the whole file.
        label: The file's name for messages.

    Returns:
        "bgzf" where the first gzip member carries the BGZF field, "gzip" for other gzip, "plain" for anything unknown.

    Raises:
        InputError: The file has a format that is known but not read.
    """
    for magic, name in _REFUSED.items():
        if head.startswith(magic):
            raise InputError(f"{label}: is {name}; plain, gzip and BGZF files are read")
    if not head.startswith(GZIP_MAGIC):
        return "plain"
    return "bgzf" if bgzf_block_bytes(head, 0) else "gzip"


def bgzf_block_bytes(data: bytes, position: int) -> int | None:
    """Size of the BGZF block whose header begins at a position.

    Args:
        data: Compressed bytes.
        position: Index in `data` at which a gzip member may begin.

    Returns:
        Whole size of the block in bytes; 0 where there is no BGZF header; None where `data` ends inside the header.
    """
    header = data[position : position + 18]
    if header[:4] == b"\x1f\x8b\x08\x04" and header[10:16] == b"\x06\x00BC\x02\x00" and len(header) == 18:
        return int.from_bytes(header[16:18], "little") + 1
    if not b"\x1f\x8b\x08\x04".startswith(header[:4]):
        return 0
    if len(header) < 12:
        return None
    extra_end = position + 12 + int.from_bytes(header[10:12], "little")
    field = position + 12
    while field + 4 <= extra_end:
        if len(data) < field + 6:
            return None
        size = int.from_bytes(data[field + 2 : field + 4], "little")
        if data[field : field + 4] == b"BC\x02\x00":
            return int.from_bytes(data[field + 4 : field + 6], "little") + 1
        field += 4 + size
    return 0


def bgzf_payload(block: memoryview) -> int:
    """Index within a BGZF block of the first byte of its deflate data."""
    return 12 + int.from_bytes(block[10:12], "little")


@dataclass(slots=True)
class NulPadding:
    """NUL bytes after the last member of a compressed file, which tape blocks and some mirrors add; gzip passes them over.

    Attributes:
        size: Their number, once they were read.
    """

    size: int = 0

    def skip(self, blocks: Iterable[bytes], label: str, offset: int) -> None:
        """Read the file to its end.

        Args:
            blocks: The file from its first NUL after the last member on.
            label: The file's name for messages.
            offset: Byte of the file at which `blocks` begin.

        Raises:
            InputError: Something else than NUL follows.
        """
        for block in blocks:
            if rest := block.lstrip(b"\0"):
                raise trailing_garbage(label, offset + self.size + len(block) - len(rest))
            self.size += len(block)


def iter_gzip(blocks: Iterable[bytes], label: str, offset: int = 0, padding: NulPadding | None = None) -> Iterator[bytes]:
    """Decompress gzip, all members, with every check zlib has.

    Args:
        blocks: The compressed file from `offset` on, in pieces.
        label: The file's name for messages.
        offset: Byte of the file at which the first piece begins.
        padding: Counts the NUL bytes after the last member, if given.

    Yields:
        Decompressed bytes, at most OUTPUT_BYTES at once.

    Raises:
        InputError: The data are damaged, truncated, or followed by something else.
    """
    member, position, magic = offset, offset, b""
    inflater = zlib.decompressobj(wbits=_WBITS_GZIP)
    pieces = iter(blocks)
    for data in pieces:
        while data:
            if not magic and position > 0 and data[0] == 0:
                (padding or NulPadding()).skip(chain([data], pieces), label, position)
                return
            magic = (magic + data[:2])[:2]
            try:
                output = inflater.decompress(data, OUTPUT_BYTES)
            except zlib.error as error:
                if not GZIP_MAGIC.startswith(magic):
                    raise trailing_garbage(label, member) from None
                where = f"in the member at byte {member}, near byte {position}"
                raise InputError(f"{label}: damaged gzip data {where}: {error}") from None
            if output:
                yield output
            rest = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
            position += len(data) - len(rest)
            data = rest
            if inflater.eof:
                member, magic, inflater = position, b"", zlib.decompressobj(wbits=_WBITS_GZIP)
    if magic and not GZIP_MAGIC.startswith(magic):
        raise trailing_garbage(label, member)
    if magic:
        raise InputError(f"{label}: truncated gzip: the member at byte {member} is cut off at byte {position}")


def trailing_garbage(label: str, position: int) -> InputError:
    """The error for bytes after compressed data that are no compressed data."""
    cure = "if the data before it are whole, zcat FILE | bgzip makes a clean file"
    return InputError(f"{label}: trailing garbage after the compressed data, at byte {position}; {cure}")
