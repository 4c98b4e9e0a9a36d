"""One pass over a file's decompressed bytes, whatever it is compressed with."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator
from itertools import chain

from annotator.genome.bgzf import BgzfDecoder
from annotator.genome.compression import iter_gzip, sniff
from annotator.genome.files import InputFile

_PLAIN_BLOCK_BYTES = 4 << 20
_COMPRESSED_BLOCK_BYTES = 1 << 20


class DecodedInput:
    """The decompressed bytes of an input file.

    Attributes:
        compression: Compression of the file, told by its first bytes.
        bgzf: The BGZF decoder with what it learnt, complete after the pass.
    """

    def __init__(self, source: InputFile, *, eof_check: bool) -> None:
        """Look at the first bytes of a file that was not read yet.

        Args:
            source: The file.
            eof_check: Refuse BGZF without its end-of-file block.

        Raises:
            InputError: The file has a compression that is not read.
        """
        self._source = source
        self._head = source.read(_COMPRESSED_BLOCK_BYTES)
        self.compression = sniff(self._head, source.label)
        self.bgzf = BgzfDecoder(source.label, eof_check=eof_check)
        self._sha256 = hashlib.sha256()

    def blocks(self) -> Generator[bytes, None, None]:
        """The decompressed bytes, once.

        Yields:
            Pieces of a few megabytes.

        Raises:
            InputError: The file is damaged or truncated.
        """
        if self.compression == "plain":
            yield self._head
            yield from self._source.blocks(_PLAIN_BLOCK_BYTES)
            return
        for block in self._decompressed():
            self._sha256.update(block)
            yield block

    def _decompressed(self) -> Iterator[bytes]:
        compressed = chain([self._head], self._source.blocks(_COMPRESSED_BLOCK_BYTES))
        if self.compression == "bgzf":
            return self.bgzf.decode(compressed)
        return iter_gzip(compressed, self._source.label, padding=self.bgzf.padding)

    def text_sha256(self) -> str:
        """The sha256 of the decompressed bytes that `blocks` gave, in hexadecimal digits; equal however they are compressed."""
        return self._source.sha256() if self.compression == "plain" else self._sha256.hexdigest()
