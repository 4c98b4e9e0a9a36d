"""Opens a genome: one validating pass over the file, then random access to bases.

Coordinates: 0-based half-open within a contig.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotator.errors import InputError
from annotator.genome.alphabet import BASE_TABLE, LINE_ENDS
from annotator.genome.bgzf import BgzfFile
from annotator.genome.compression import Compression
from annotator.genome.contigs import ContigTable, Layout, flat_layout
from annotator.genome.decoding import DecodedInput
from annotator.genome.files import FileStamp, GuardedFile, InputFile, read_ahead
from annotator.genome.options import GenomeOptions
from annotator.genome.scanner import FastaScanner, ScanResult
from annotator.genome.spool import SpoolWriter


@dataclass(frozen=True, eq=False)
class Genome:
    """A validated genome whose bases can be read at random; picklable, and safe across threads and processes.

    Attributes:
        path: The path as the user gave it.
        sha256: Of the source bytes as they are stored (compressed, if they are), in hexadecimal digits.
        compression: "plain", "gzip" or "bgzf".
        contigs: The contig table.
        warnings: Bounded list of lines.
        altered: Bases by kind: iupac_as_n, u_as_t, gap_as_n, lower_case (read as upper case), and n (left as it is).
        n_runs: Number of maximal runs of bases that read as N.
        longest_n_run_bp: Length of the longest.
        layout: Where the bases lie in `file`.
        file: The bytes behind the bases: the plain file, the decoded BGZF file, or the spool.
        source: Stamp of the source where `file` is a spool of a regular file; it has to stay unchanged as well.
    """

    path: str
    sha256: str
    compression: Compression
    contigs: ContigTable
    warnings: list[str]
    altered: dict[str, int]
    n_runs: int
    longest_n_run_bp: int
    layout: Layout
    file: GuardedFile | BgzfFile
    source: FileStamp | None

    def read_bases(self, contig: int, start: int, end: int) -> NDArray[np.uint8]:
        """Read bases of one contig.

        Args:
            contig: Index into `contigs`.
            start: First base, 0-based.
            end: One past the last base.

        Returns:
            ASCII bases, only A, C, G, T and N in upper case, uint8, [end - start], writable.

        Raises:
            ValueError: The span is not inside the contig.
            InputError: The file changed, or is gone, since it was scanned.
        """
        if not 0 <= contig < len(self.contigs):
            raise ValueError(f"contig {contig} of {len(self.contigs)}")
        if not 0 <= start <= end <= int(self.contigs.lengths[contig]):
            raise ValueError(f"[{start}, {end}) is not inside contig {contig} of {self.contigs.lengths[contig]} bp")
        if self.source:
            self.source.check_path()
        if start == end:
            return np.empty(0, np.uint8)
        first, last = self.layout.byte_span(contig, start, end)
        bases = np.frombuffer(self.file.read(first, last - first).translate(BASE_TABLE, LINE_ENDS), np.uint8)
        if len(bases) != end - start or bases.min() == 0:
            raise InputError(f"{self.path}: changed during the run (no {end - start} bases at byte {first})")
        return bases

    def close(self) -> None:
        """Close the file; a later read opens it again. The spool, if any, stays."""
        self.file.close()


class _NeedsSpool(Exception):
    """The scanned file turned out not to allow random access."""


def open_genome(path: str | Path, spool_dir: Path, options: GenomeOptions) -> Genome:
    """Validate a FASTA file and open it for random access.

    Args:
        path: Plain, gzip or BGZF FASTA; "-" or "/dev/stdin" for standard input; a FIFO is read once.
        spool_dir: Where the bases go (as bases.bin, one byte each) if the file itself does not allow random access: plain
            gzip, a stream, or uneven lines. Made only when needed; removing it is the caller's business.
        options: What to refuse.

    Returns:
        The genome. Nothing is written beside the input, and no index beside it is read.

    Raises:
        UsageError: The path is missing, a directory, or not permitted.
        InputError: The content is refused; nothing stays in `spool_dir`.
        ResourceFault: The spool cannot be written.
    """
    try:
        return _read_once(path, spool_dir, options, always_spool=False)
    except _NeedsSpool:
        return _read_once(path, spool_dir, options, always_spool=True)


def _read_once(path: str | Path, spool_dir: Path, options: GenomeOptions, *, always_spool: bool) -> Genome:
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
        scan = _scan(scanner, blocks, drain=compression == "gzip")
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
        missing_eof = [f"{source.label}: no BGZF EOF block: the file may be truncated"] if decoded.bgzf.lacks_eof else []
        return Genome(
            path=source.label,
            sha256=source.sha256(),
            compression=compression,
            contigs=scan.contigs,
            warnings=scan.warnings + missing_eof,
            altered=scan.contigs.altered(),
            n_runs=scan.n_runs,
            longest_n_run_bp=scan.longest_n_run_bp,
            layout=layout,
            file=file,
            source=watched,
        )


def _scan(scanner: FastaScanner, blocks: Iterator[bytes], *, drain: bool) -> ScanResult:
    """Feed the whole file to the scanner."""
    try:
        for block in blocks:
            scanner.feed(block)
    except InputError:
        if drain:
            # Damaged gzip decodes to rubbish and is found out only by the CRC at its end: say that, not what the rubbish is.
            for _ in blocks:
                pass
        raise
    return scanner.finish()
