"""BGZF: a reader of its blocks (htslib only warns where data is missing) and random access.

Coordinates: `compressed` is a 0-based byte of the file, `decoded` a 0-based byte of what it decompresses to.
"""

from __future__ import annotations

import struct
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from annotator.errors import InputError
from annotator.genome.compression import GZIP_MAGIC, NulPadding, bgzf_block_bytes, bgzf_payload, iter_gzip, trailing_garbage
from annotator.genome.files import FileStamp, GuardedFile
from annotator.machine import usable_cpus

_LARGEST_BLOCK = 65_536
_TRAILER_BYTES = 8
_MAX_THREADS = 4
_RUN_BLOCKS = 32
_CACHED_BLOCKS = 64


@dataclass(frozen=True, eq=False)
class BgzfTable:
    """The positions of the b blocks of a BGZF file.

    Attributes:
        compressed: First byte of each block, then the size of the file, int64, [b + 1].
        decoded: Decoded bytes before each block, then their total, int64, [b + 1].
    """

    compressed: NDArray[np.int64]
    decoded: NDArray[np.int64]


class BgzfDecoder:
    """Decompresses a BGZF stream block by block, checks everything, and learns the block table.

    Attributes:
        lacks_eof: Whether the end-of-file block is missing.
        has_foreign_members: Whether plain gzip members follow the BGZF blocks; there is no random access then.
        padding: NUL bytes after the last block.
    """

    def __init__(self, label: str, *, eof_check: bool) -> None:
        """Prepare to decode a file.

        Args:
            label: The file's name for messages.
            eof_check: Refuse a file without its end-of-file block.
        """
        self._label = label
        self._eof_check = eof_check
        self._compressed: list[int] = []
        self._sizes: list[int] = []
        self.lacks_eof = False
        self.has_foreign_members = False
        self.padding = NulPadding()

    def decode(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Decompress the whole file.

        Args:
            pieces: The compressed file.

        Yields:
            Decompressed bytes.

        Raises:
            InputError: The file is damaged, truncated, followed by something else, or without its end-of-file block.
        """
        held, offset = b"", 0
        threads = min(_MAX_THREADS, usable_cpus())
        with ThreadPoolExecutor(threads) as pool:
            for piece in pieces:
                data = held + piece
                ends, is_block = _block_ends(data)
                bounds = [0, *ends]
                self._compressed += [offset + start for start in bounds[:-1]]
                runs = [(data, offset, bounds[at : at + _RUN_BLOCKS + 1]) for at in range(0, len(ends), _RUN_BLOCKS)]
                # Not all runs at once: a piece of a megabyte may hold ten thousand blocks of N.
                for at in range(0, len(runs), threads):
                    for sizes, decoded in pool.map(self._inflate_run, runs[at : at + threads]):
                        self._sizes += sizes
                        yield decoded
                held, offset = data[bounds[-1] :], offset + bounds[-1]
                if not is_block:
                    break
        if held and not is_block and held[0] == 0:
            self.padding.skip(chain([held], pieces), self._label, offset)
        elif held and not is_block:
            if not held.startswith(GZIP_MAGIC):
                raise trailing_garbage(self._label, offset)
            self.has_foreign_members = True
            yield from iter_gzip(chain([held], pieces), self._label, offset, self.padding)
            return
        elif held:
            raise InputError(f"{self._label}: truncated: the BGZF block at byte {offset} is cut off at byte {offset + len(held)}")
        self._compressed.append(offset)
        self.lacks_eof = self._sizes[-1] > 0
        if self.lacks_eof and self._eof_check:
            raise InputError(f"{self._label}: truncated (no BGZF EOF block at byte {offset}); `eof_check=False` reads it as is")

    def table(self) -> BgzfTable:
        """The block table; complete once `decode` has come to its end."""
        sizes = np.array(self._sizes, np.int64)
        decoded = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))
        return BgzfTable(np.array(self._compressed, np.int64), decoded)

    def _inflate_run(self, run: tuple[bytes, int, list[int]]) -> tuple[list[int], bytes]:
        """Sizes and data of consecutive blocks, given their bounds in a piece of the file."""
        data, offset, bounds = run
        view = memoryview(data)
        spans = zip(bounds[:-1], bounds[1:], strict=True)
        parts = [inflate_block(view[start:end], self._label, offset + start) for start, end in spans]
        return [len(part) for part in parts], b"".join(parts)


def inflate_block(block: memoryview, label: str, offset: int) -> bytes:
    """Decompress and check one BGZF block.

    Args:
        block: The whole block.
        label: The file's name for messages.
        offset: First byte of the block in the file, for messages.

    Returns:
        Its data.

    Raises:
        InputError: The block is damaged: the deflate data, the CRC or the size is wrong.
    """
    payload = bgzf_payload(block)
    if payload + _TRAILER_BYTES > len(block):
        raise InputError(f"{label}: damaged BGZF block at byte {offset}: too small")
    crc, size = struct.unpack_from("<II", block, len(block) - _TRAILER_BYTES)
    if size > _LARGEST_BLOCK:
        raise InputError(f"{label}: damaged BGZF block at byte {offset}: size {size} is more than {_LARGEST_BLOCK}")
    try:
        data = zlib.decompress(block[payload:-_TRAILER_BYTES], -zlib.MAX_WBITS, size + 1)
    except zlib.error as error:
        raise InputError(f"{label}: damaged BGZF block at byte {offset}: {error}") from None
    if len(data) != size or zlib.crc32(data) != crc:
        raise InputError(f"{label}: damaged BGZF block at byte {offset}: wrong {'CRC' if len(data) == size else 'size'}")
    return data


class BgzfFile:
    """Random access to the decoded bytes of a BGZF file; safe across threads and processes."""

    def __init__(self, stamp: FileStamp, table: BgzfTable) -> None:
        """Read the file that the stamp and the table were taken from."""
        self._table = table
        self._file = GuardedFile(stamp)
        self._lock = Lock()
        self._cache: OrderedDict[int, bytes] = OrderedDict()

    def __reduce__(self) -> tuple[type[BgzfFile], tuple[FileStamp, BgzfTable]]:
        """A pickle carries neither open file nor cache."""
        return BgzfFile, (self._file.stamp, self._table)

    def read(self, offset: int, size: int) -> bytearray:
        """Read decoded bytes.

        Args:
            offset: First decoded byte, 0-based.
            size: Number of bytes, at least 1.

        Returns:
            Exactly `size` bytes.

        Raises:
            InputError: The file changed, or is gone, since it was scanned.
        """
        decoded = self._table.decoded
        first, last = (np.searchsorted(decoded, (offset, offset + size - 1), side="right") - 1).tolist()
        begin = offset - int(decoded[first])
        return bytearray(b"".join(self._blocks(first, last))[begin : begin + size])

    def pick(self, first: int, last: int) -> BgzfFile:
        """The same file with no more of its table than reads inside decoded bytes [first, last) need."""
        decoded = self._table.decoded
        low, high = (np.searchsorted(decoded, (first, last - 1), side="right") - 1).tolist()
        rows = slice(low, high + 2)
        return BgzfFile(self._file.stamp, BgzfTable(self._table.compressed[rows], decoded[rows]))

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        self._file.close()

    def _blocks(self, first: int, last: int) -> list[bytes]:
        """Decoded blocks first..last; the last few stay cached, for genomes of many small contigs."""
        with self._lock:
            if first == last and first in self._cache:
                self._file.check()
                return [self._cache[first]]
        start = int(self._table.compressed[first])
        bounds = (self._table.compressed[first : last + 2] - start).tolist()
        view = memoryview(self._file.read(start, bounds[-1]))
        label = self._file.stamp.label
        parts = [inflate_block(view[a:b], label, start + a) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
        with self._lock:
            for index, part in enumerate(parts[-_CACHED_BLOCKS:], last + 1 - len(parts[-_CACHED_BLOCKS:])):
                self._cache[index] = part
            while len(self._cache) > _CACHED_BLOCKS:
                self._cache.popitem(last=False)
        return parts


def _block_ends(data: bytes) -> tuple[list[int], bool]:
    """Ends of the whole blocks that `data` begins with, and whether what follows them may be (the start of) a block."""
    ends: list[int] = []
    position = 0
    while block_bytes := bgzf_block_bytes(data, position):
        if position + block_bytes > len(data):
            break
        position += block_bytes
        ends.append(position)
    return ends, block_bytes != 0
