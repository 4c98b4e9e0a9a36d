"""2bit: a genome in a quarter of its bytes, read at random by igv.js, IGV desktop, JBrowse 2 and the UCSC browser.

Format: UCSC's description of .2bit files (version 0: offsets of 32 bits). N is kept, case is not. Little-endian; the bases of a
byte run from its highest two bits to its lowest, T, C, A, G being 0 to 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from annotator.files import atomic_file
from annotator.genome.bases import StoredBases

MAX_FILE_BYTES: Final = 1 << 32
MAX_NAME_BYTES: Final = 255
_SIGNATURE: Final = 0x1A412743
_PIECE_BP: Final = 1 << 24
_CODES: Final = np.zeros(256, np.uint8)
_CODES[np.frombuffer(b"TCAG", np.uint8)] = np.arange(4)


def fits_two_bit(names: Sequence[str], lengths: NDArray[np.int64]) -> bool:
    """Whether a genome can be written: names of at most 255 bytes in ASCII, and about 16 Gb of bases."""
    bytes_needed = int((lengths // 4 + 64).sum()) + sum(len(name) + 5 for name in names)
    return bytes_needed < MAX_FILE_BYTES and all(name.isascii() and len(name) <= MAX_NAME_BYTES for name in names)


def write_two_bit(path: Path, names: Sequence[str], bases: StoredBases) -> None:
    """Write a genome as 2bit, a piece of 16 Mb in memory at a time.

    Args:
        path: The file; it appears when it is complete.
        names: Names of all contigs; `fits_two_bit` says that they can be written.
        bases: Their bases.

    Raises:
        InputError: The genome changed since it was scanned.
        ResourceFault: The file cannot be written.
    """
    offset = 16 + sum(5 + len(name) for name in names)
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        file.seek(offset)
        offsets = []
        for contig, length in enumerate(bases.lengths.tolist()):
            offsets.append(file.tell())
            packed, starts, ends = [], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
            for start in range(0, length, _PIECE_BP):
                piece = bases.read(contig, start, min(length, start + _PIECE_BP))
                edges = np.diff(np.concatenate([[False], piece == ord("N"), [False]]).astype(np.int8))
                starts.append(np.flatnonzero(edges > 0) + start)
                ends.append(np.flatnonzero(edges < 0) + start)
                packed.append(_packed(piece))
            first, last = _joined(np.concatenate(starts), np.concatenate(ends))
            numbers = np.concatenate([np.array([length, len(first)]), first, last - first, np.zeros(2, np.int64)])
            file.write(numbers.astype("<u4").tobytes() + b"".join(packed))
        file.seek(0)
        file.write(np.array([_SIGNATURE, 0, len(names), 0], "<u4").tobytes())
        for name, where in zip(names, offsets, strict=True):
            file.write(bytes([len(name)]) + name.encode("ascii") + np.array([where], "<u4").tobytes())


def _packed(bases: NDArray[np.uint8]) -> bytes:
    """Four bases a byte."""
    codes = np.zeros(-(-len(bases) // 4) * 4, np.uint8)
    codes[: len(bases)] = _CODES[bases]
    quads = codes.reshape(-1, 4)
    return (quads[:, 0] << 6 | quads[:, 1] << 4 | quads[:, 2] << 2 | quads[:, 3]).tobytes()


def _joined(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Runs of N, those joined that were cut at the end of a piece."""
    if len(starts) < 2:
        return starts, ends
    apart = starts[1:] != ends[:-1]
    return starts[np.append(True, apart)], ends[np.append(apart, True)]
