"""Opens a genome: one validating pass over the file, then random access to bases.

Coordinates: 0-based half-open within a contig.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotator.errors import InputError
from annotator.genome.bases import StoredBases
from annotator.genome.bgzf import BgzfFile
from annotator.genome.compression import Compression
from annotator.genome.contigs import ContigTable, Layout, flat_layout
from annotator.genome.decoding import DecodedInput
from annotator.genome.even_lines import Piece, even_pieces
from annotator.genome.files import FileStamp, GuardedFile, InputFile, read_ahead
from annotator.genome.options import GenomeOptions
from annotator.genome.scanner import FastaScanner, ScanResult
from annotator.genome.spool import SpoolWriter


@dataclass(frozen=True, eq=False)
class Genome:
    """A validated genome whose bases can be read at random; picklable, and safe across threads and processes.

    Attributes:
        path: The path as the user gave it.
        sha256: The sha256 of the source bytes as they are stored (compressed, if they are), in hexadecimal digits.
        text_sha256: The sha256 of the decompressed bytes: the same however they are compressed.
        compression: "plain", "gzip" or "bgzf".
        contigs: The contig table.
        warnings: Bounded list of lines.
        altered: Bases by kind: iupac_as_n, u_as_t, gap_as_n, mask_as_n, lower_case (read as upper case), and n (left as it is).
        n_runs: Number of maximal runs of bases that read as N.
        longest_n_run_bp: Length of the longest run.
        layout: Positions of the bases in `file`.
        file: The bytes behind the bases: the plain file, the decoded BGZF file, or the spool.
        source: Stamp of the source where `file` is a spool of a regular file; it has to stay unchanged as well.
        mask_chars: Characters of `file` that read as N besides those that always do.
    """

    path: str
    sha256: str
    text_sha256: str
    compression: Compression
    contigs: ContigTable
    warnings: list[str]
    altered: dict[str, int]
    n_runs: int
    longest_n_run_bp: int
    layout: Layout
    file: GuardedFile | BgzfFile
    source: FileStamp | None
    mask_chars: str

    @property
    def bases(self) -> StoredBases:
        """Access to the bases, without the rest of the genome."""
        return StoredBases(self.path, self.contigs.lengths, self.layout, self.file, self.source, self.mask_chars)

    def read_bases(self, contig: int, start: int, end: int) -> NDArray[np.uint8]:
        """Read bases [start, end) of one contig; result and errors are those of `StoredBases.read`."""
        return self.bases.read(contig, start, end)

    def close(self) -> None:
        """Close the file; a later read opens it again. The spool, if any, stays."""
        self.file.close()


class _NeedsSpool(Exception):
    """The scanned file turned out not to allow random access."""


def open_genome(path: str | Path, spool_dir: Path, options: GenomeOptions, tick: Callable[[], None] | None = None) -> Genome:
    """Validate a FASTA file and open it for random access.

    Args:
        path: Plain, gzip or BGZF FASTA; "-" or "/dev/stdin" for standard input; a FIFO is read once.
        spool_dir: Folder for the bases (bases.bin, one byte each) if the file itself does not allow random access: plain
            gzip, a stream, or uneven lines. It is made only when needed; the caller removes it.
        options: Choices about odd input: what is refused.
        tick: Function that is called again and again; what it raises ends the reading and leaves nothing in `spool_dir`.

    Returns:
        The genome. Nothing is written beside the input, and no index beside it is read.

    Raises:
        UsageError: The path is missing, a directory, or not permitted.
        InputError: The content is refused; nothing stays in `spool_dir`.
        ResourceFault: The spool cannot be written.
    """
    try:
        return _read_once(path, spool_dir, options, tick, always_spool=False)
    except _NeedsSpool:
        return _read_once(path, spool_dir, options, tick, always_spool=True)


def _read_once(
    path: str | Path, spool_dir: Path, options: GenomeOptions, tick: Callable[[], None] | None, *, always_spool: bool
) -> Genome:
    """One pass over the file; raises _NeedsSpool where its end shows that the bases should have been spooled."""
    with ExitStack() as stack:
        source = stack.enter_context(InputFile(path))
        stamp = source.stamp()
        decoded = DecodedInput(source, eof_check=options.eof_check)
        compression = decoded.compression
        spool = None
        if always_spool or not source.is_regular or compression == "gzip":
            spool = stack.enter_context(SpoolWriter(spool_dir))
        scanner = FastaScanner(source.label, options, spool.write if spool else None)
        blocks = stack.enter_context(closing(decoded.blocks()))
        if source.is_regular:
            # Not for streams: a thread that waits for a silent pipe cannot be stopped.
            blocks = stack.enter_context(closing(read_ahead(blocks)))
        pieces = stack.enter_context(closing(even_pieces(blocks, with_bases=spool is not None, ahead=source.is_regular)))
        scan = _scan(scanner, pieces, tick, drain=compression == "gzip")
        if source.is_regular and source.stamp() != stamp:
            raise InputError(f"{source.label}: changed while it was read")
        if decoded.bgzf.has_foreign_members:
            compression = "gzip"
        layout, watched = scan.layout, None
        file: GuardedFile | BgzfFile = GuardedFile(stamp)
        if spool:
            layout = flat_layout(scan.contigs.lengths)
            file = GuardedFile(spool.publish(source.label))
            watched = stamp if source.is_regular else None
        elif layout is None or compression == "gzip":
            raise _NeedsSpool
        elif compression == "bgzf":
            file = BgzfFile(stamp, decoded.bgzf.table())
        notes = [f"{source.label}: no BGZF EOF block: the file may be truncated"] if decoded.bgzf.lacks_eof else []
        if padding := decoded.bgzf.padding.size:
            notes.append(f"{source.label}: {padding} NUL bytes after the compressed data passed over")
        return Genome(
            path=source.label,
            sha256=source.sha256(),
            text_sha256=decoded.text_sha256(),
            compression=compression,
            contigs=scan.contigs,
            warnings=scan.warnings + notes,
            altered=scan.contigs.altered(),
            n_runs=scan.n_runs,
            longest_n_run_bp=scan.longest_n_run_bp,
            layout=layout,
            file=file,
            source=watched,
            mask_chars=options.mask_chars,
        )


def _scan(scanner: FastaScanner, blocks: Iterator[list[Piece]], tick: Callable[[], None] | None, *, drain: bool) -> ScanResult:
    """Feed the whole file to the scanner."""
    try:
        for block in blocks:
            for piece in block:
                scanner.feed(piece) if isinstance(piece, bytes) else scanner.feed_even(piece)
            if tick:
                tick()
    except InputError:
        if drain:
            # Damaged gzip decodes to wrong bytes, which only the CRC at its end reveals: report that, not the wrong bytes.
            for _ in blocks:
                pass
        raise
    return scanner.finish()
