"""BGZF, the blocked gzip that tabix can index; written here so that it is parallel and tells why a write failed.

htslib's own writer (through pysam) uses one thread and reports no errno on a full disk. Format: SAM specification,
section 4.1.
"""

from __future__ import annotations

import struct
import zlib
from concurrent.futures import Executor, Future
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 0xFF00
"""Plain bytes per block, as htslib cuts them: even incompressible ones then fit the 64 KiB a block may have."""

EOF_BLOCK = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")

LEVEL = 4
"""zlib level: on BED text 7 % larger than level 6, in a third of its time."""

_HEADER = struct.Struct("<4BI2BH2BHH")  # magic, deflate, FEXTRA; mtime 0; XFL, OS unknown; XLEN; "BC", 2, block size - 1
_FOOTER = struct.Struct("<II")  # CRC32, plain size


def compress_block(plain: bytes, level: int = LEVEL) -> bytes:
    """One BGZF block of at most `BLOCK_BYTES` plain bytes; equal input gives equal bytes (no time, no name)."""
    deflate = zlib.compressobj(level, zlib.DEFLATED, -15)
    body = deflate.compress(plain) + deflate.flush()
    size = _HEADER.size + len(body) + _FOOTER.size
    header = _HEADER.pack(31, 139, 8, 4, 0, 0, 255, 6, 66, 67, 2, size - 1)
    return header + body + _FOOTER.pack(zlib.crc32(plain), len(plain))


def compress_file(plain: bytes, level: int = LEVEL) -> bytes:
    """A whole BGZF file."""
    blocks = [compress_block(plain[start : start + BLOCK_BYTES], level) for start in range(0, len(plain), BLOCK_BYTES)]
    return b"".join((*blocks, EOF_BLOCK))


class BgzfWriter:
    """A BGZF file; block borders depend on the bytes alone, not on how they arrive."""

    def __init__(self, path: Path, pool: Executor) -> None:
        """Open `path` for writing; the threads of `pool` compress (zlib releases the interpreter lock)."""
        self._stream = path.open("wb")
        self._pool = pool
        self._pending = b""
        self._compressing: list[Future[bytes]] = []
        self._sizes = [0]

    def write(self, data: bytes) -> None:
        """Append `data`; what came before is then written, and `data` is compressed while its successor is made."""
        self._write_compressed()
        data = self._pending + data
        full = len(data) - len(data) % BLOCK_BYTES
        blocks = [data[start : start + BLOCK_BYTES] for start in range(0, full, BLOCK_BYTES)]
        self._compressing = [self._pool.submit(compress_block, block) for block in blocks]
        self._pending = data[full:]

    def _write_compressed(self) -> None:
        for block in self._compressing:
            self._write_block(block.result())
        self._compressing = []

    def _write_block(self, block: bytes) -> None:
        self._stream.write(block)
        self._sizes.append(len(block))

    def finish(self) -> None:
        """Write the last blocks and the end marker; `close` is still due."""
        self._write_compressed()
        if self._pending:
            self._write_block(compress_block(self._pending))
        self._stream.write(EOF_BLOCK)
        self._stream.flush()

    @property
    def addresses(self) -> NDArray[np.int64]:
        """Byte of the finished file at which each block begins, the end marker's included, int64, [blocks + 1]."""
        return np.cumsum(self._sizes, dtype=np.int64)

    def close(self) -> None:
        """Close; what a failed write left in the buffer is not tried again."""
        self._stream.raw.close()
