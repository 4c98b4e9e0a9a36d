"""One pass over a file's decompressed bytes, whatever it is compressed with."""

from __future__ import annotations

from collections.abc import Generator
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
        compressed = chain([self._head], self._source.blocks(_COMPRESSED_BLOCK_BYTES))
        if self.compression == "bgzf":
            yield from self.bgzf.decode(compressed)
        else:
            yield from iter_gzip(compressed, self._source.label)
