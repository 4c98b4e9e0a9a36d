"""Access to the bases of contigs in a file: those of whole genomes, and those of the few contigs that a shard needs.

Coordinates: 0-based half-open within a contig.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotator.errors import InputError
from annotator.genome.alphabet import LINE_ENDS, base_table
from annotator.genome.bgzf import BgzfFile
from annotator.genome.contigs import Layout
from annotator.genome.files import FileStamp, GuardedFile


@dataclass(frozen=True, eq=False)
class StoredBases:
    """Bases in a file that allows random access; picklable, and safe across threads and processes.

    Attributes:
        path: The path as the user gave it, for messages.
        lengths: Contig lengths in bp, int64, [contigs].
        layout: Positions of the bases in `file`.
        file: The bytes behind the bases: the plain file, the decoded BGZF file, or the spool.
        source: Stamp of the source where `file` is a spool of a regular file; it has to stay unchanged as well.
        mask_chars: Characters of the file that read as N besides those that always do.
    """

    path: str
    lengths: NDArray[np.int64]
    layout: Layout
    file: GuardedFile | BgzfFile
    source: FileStamp | None
    mask_chars: str = ""

    def read(self, contig: int, start: int, end: int) -> NDArray[np.uint8]:
        """Read bases of one contig.

        Args:
            contig: Index of the contig.
            start: First base, 0-based.
            end: One past the last base.

        Returns:
            ASCII bases, only A, C, G, T and N in upper case, uint8, [end - start], writable.

        Raises:
            ValueError: The span is not inside the contig.
            InputError: The file changed, or is gone, since it was scanned.
        """
        if not 0 <= contig < len(self.lengths):
            raise ValueError(f"contig {contig} of {len(self.lengths)}")
        if not 0 <= start <= end <= int(self.lengths[contig]):
            raise ValueError(f"[{start}, {end}) is not inside contig {contig} of {self.lengths[contig]} bp")
        if self.source:
            self.source.check_path()
        if start == end:
            return np.empty(0, np.uint8)
        first, last = self.layout.byte_span(contig, start, end)
        bases = np.frombuffer(self.file.read(first, last - first).translate(base_table(self.mask_chars), LINE_ENDS), np.uint8)
        if len(bases) != end - start or bases.min() == 0:
            raise InputError(f"{self.path}: changed during the run (no {end - start} bases at byte {first})")
        return bases

    def pick(self, contigs: NDArray[np.int64]) -> StoredBases:
        """The bases of these contigs only, numbered from 0 in the order given: small enough for a message to a worker."""
        layout, file = self.layout.pick(contigs), self.file
        lengths = self.lengths[contigs]
        if isinstance(file, BgzfFile) and (filled := np.flatnonzero(lengths)).size:
            spans = [layout.byte_span(contig, 0, int(lengths[contig])) for contig in filled.tolist()]
            file = file.pick(min(first for first, _ in spans), max(last for _, last in spans))
        return StoredBases(self.path, lengths, layout, file, self.source, self.mask_chars)


@dataclass(frozen=True, eq=False)
class StagedBases:
    """Bases that travel with the work, for a worker that does not see the file.

    Attributes:
        contig: Contig of each piece, ascending, int64, [pieces].
        start: First base of each piece, ascending within a contig, int64, [pieces].
        offset: Index in `bases` of each piece's first base, then the number of bases, int64, [pieces + 1].
        bases: The pieces end to end: ASCII, A, C, G, T and N in upper case, uint8.
    """

    contig: NDArray[np.int64]
    start: NDArray[np.int64]
    offset: NDArray[np.int64]
    bases: NDArray[np.uint8]

    def read(self, contig: int, start: int, end: int) -> NDArray[np.uint8]:
        """Bases [start, end) of a contig, in the form of `StoredBases.read`; they must lie in one piece."""
        first, last = np.searchsorted(self.contig, (contig, contig + 1)).tolist()
        piece = first + int(np.searchsorted(self.start[first:last], start, side="right")) - 1
        if piece >= first:
            at = int(self.offset[piece]) + start - int(self.start[piece])
            if at + end - start <= int(self.offset[piece + 1]):
                return self.bases[at : at + end - start]
        raise ValueError(f"[{start}, {end}) of contig {contig} was not staged")
