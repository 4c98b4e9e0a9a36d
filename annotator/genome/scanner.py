"""Streaming FASTA scanner and validator: one pass of numpy over blocks, the same answer wherever blocks are cut.

Coordinates: "byte" in a message is the 0-based offset in the decompressed file, "line" is 1-based.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotator.errors import InputError
from annotator.genome import alphabet
from annotator.genome.contigs import ContigTable, Layout
from annotator.genome.duplicates import refuse_duplicates, rename_duplicates
from annotator.genome.even_lines import EvenLines, EvenRun
from annotator.genome.headers import HeaderParser, quote
from annotator.genome.lines import LayoutTracker, LineCutter, Pieces
from annotator.genome.n_runs import RunCounter
from annotator.genome.options import GenomeOptions
from annotator.genome.sequence_fault import SequenceFault
from annotator.genome.warning_log import WarningLog

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NEWLINE, _RETURN = ord("\n"), ord("\r")
_PASSED_OVER = np.frombuffer(alphabet.LINE_ENDS, np.uint8)
_COUNTED = {
    "n": alphabet.N,
    "iupac_as_n": alphabet.IUPAC,
    "u_as_t": alphabet.U,
    "gap_as_n": alphabet.GAP,
    "mask_as_n": alphabet.MASK,
    "lower_case": alphabet.LOWER,
}
_REPORTED = {
    "iupac_as_n": "ambiguity codes read as N",
    "u_as_t": "U read as T",
    "gap_as_n": "gap characters read as N",
    "mask_as_n": "masking characters read as N",
}
_SLICED_CONTIGS = 64
"""Up to so many contigs in a block are counted slice by slice, which is ten times faster than np.add.reduceat."""


@dataclass(frozen=True, eq=False)
class ScanResult:
    """The result of one pass over a FASTA file.

    Attributes:
        contigs: The contig table.
        layout: Positions of the bases in the decompressed file; None where the lines of some contig are uneven.
        n_runs: Number of maximal runs of bases that read as N.
        longest_n_run_bp: Length of the longest run.
        warnings: Bounded list of lines.
    """

    contigs: ContigTable
    layout: Layout | None
    n_runs: int
    longest_n_run_bp: int
    warnings: list[str]


class FastaScanner:
    """A scan of one file: `feed` it the bytes in order, then call `finish`.

    Notes:
        Memory is the contig table and some multiple of a block: about 4 for lines of 60, 80 for one base a line. No
        line, contig or description is ever held as a whole.
    """

    def __init__(self, label: str, options: GenomeOptions, sink: Callable[[bytes], object] | None = None) -> None:
        """Start a scan.

        Args:
            label: The file's name for messages.
            options: Choices about odd input: what is refused.
            sink: Called with the bases (ACGTN, no line ends) of each block, in order; all contigs end to end.
        """
        self._label = label
        self._options = options
        self._sink = sink
        self._refused = alphabet.BAD if options.gaps_as_n else alphabet.BAD | alphabet.GAP
        self._warnings = WarningLog()
        self._headers = HeaderParser(self._warnings)
        self._cutter = LineCutter(0)
        self._layout = LayoutTracker()
        self._runs = RunCounter()
        self._held = b""
        self._started = False
        self._names: list[str] = []
        self._header_lines: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        self._contig_flat: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        self._counts: dict[str, list[tuple[int, NDArray[np.int64]]]] = {kind: [] for kind in _COUNTED}
        self._fault: SequenceFault | None = None
        self._blank_fault: InputError | None = None  # what to raise where the unfinished line goes on after its blanks
        self._ctrl_z_fault: InputError | None = None  # what to raise where the file goes on after a Ctrl-Z
        self._blank_lines = 0
        self._first_blank_line = 0

    def feed(self, data: bytes) -> None:
        """Scan the next bytes, any number of them.

        Raises:
            InputError: Something in the file is refused; a refused letter only after a look at what follows it.
        """
        if self._fault:
            if self._fault.add(data):
                raise self._fault.error()
            return
        data = self._held + data if self._held else data
        self._held = b""
        if not self._started:
            if len(data) < len(_BYTE_ORDER_MARK):
                self._held = data
                return
            data = self._start(data)
        if data.endswith(b"\r"):
            # Whether a carriage return is part of a line end is known only with the byte after it.
            self._held, data = b"\r", data[:-1]
        if data:
            self._scan(data)

    def feed_even(self, even: EvenLines | EvenRun) -> None:
        """Scan the next bytes, which were found to be lines of one length, or a stretch of a line, that hold bases alone."""
        cutter = self._cutter
        is_run = isinstance(even, EvenRun)
        unfit = cutter.in_header or cutter.blank_at is not None if is_run else cutter.in_line
        passed_over = self._fault or self._held or self._ctrl_z_fault or not self._started or unfit
        if passed_over or cutter.contig < 0 or self._options.mask_chars:
            self.feed(even.data)  # what they mean depends on what came before
            return
        contig = np.full(len(even.n_starts), cutter.contig, np.int64)
        for kind, count in (("n", even.n), ("lower_case", even.lower_case)):
            if count:
                self._counts[kind].append((cutter.contig, np.array([count], np.int64)))
        if even.n:
            self._runs.add_runs(contig, even.n_starts + cutter.flat, even.n_ends + cutter.flat)
        if self._sink:
            self._sink(even.bases)
        if isinstance(even, EvenRun):
            cutter.advance_run(len(even.data))
        else:
            self._layout.add_even(cutter.contig, cutter.offset, even)
            cutter.advance_even(even)

    def finish(self) -> ScanResult:
        """End the file.

        Returns:
            The result of the scan.

        Raises:
            InputError: Something in the file, or the file as a whole, is refused.
        """
        if not self._started:
            held, self._held, self._started = self._held, b"", True
            self.feed(held)
        if self._fault:
            raise self._fault.error()
        if self._held:
            at = self._cutter.line_start if self._cutter.in_header else self._cutter.offset
            raise self._error(at, self._cutter.line, alphabet.describe_byte(_RETURN), self._cutter.contig)
        if self._cutter.in_line:
            self._scan(b"\n")
        if not self._names:
            blank = f"only {self._cutter.line - 1} blank lines" if self._cutter.offset else "the file is empty"
            raise InputError(f"{self._label}: no sequences ({blank})")
        return self._result()

    def _start(self, data: bytes) -> bytes:
        self._started = True
        if not data.startswith(_BYTE_ORDER_MARK):
            return data
        self._warnings.add("byte order marks", "UTF-8 byte order mark at the start of the file skipped")
        self._cutter = LineCutter(len(_BYTE_ORDER_MARK))
        return data[len(_BYTE_ORDER_MARK) :]

    def _scan(self, data: bytes) -> None:
        if self._ctrl_z_fault and data.strip(alphabet.LINE_ENDS):
            same_line = self._cutter.blank_at is not None and data.lstrip(alphabet.BLANK_BYTES)[0] not in b"\r\n"
            raise self._blank_fault if same_line and self._blank_fault else self._ctrl_z_fault
        block = np.frombuffer(data, np.uint8)
        pieces = self._cutter.cut(block)
        text, header_bytes = _blank_headers(data, block, pieces)
        names, header_fault = self._headers.parse(header_bytes)
        self._names += names
        classes = np.frombuffer(text.translate(alphabet.class_table(self._options.mask_chars)), np.uint8)
        present = int(np.bitwise_or.reduce(classes))
        blank = None
        if present & alphabet.BAD or self._cutter.blank_at is not None:
            is_blank = classes == alphabet.BLANK
            pieces, blank = self._pass_over_blanks(data, text, pieces, is_blank)
            classes = np.where(is_blank, np.uint8(0), classes)
            present = int(np.bitwise_or.reduce(classes))
        refused = self._first_refused(block, classes, present, pieces, blank)
        if header_fault:
            header = int(np.flatnonzero(pieces.is_header)[header_fault.index])
            if refused is None or pieces.starts[header] < refused:
                raise self._error(int(pieces.line_starts[header]), self._cutter.line + header, header_fault.reason, -1)
        if refused is not None:
            self._refuse(data, refused, pieces)
            return
        self._count(classes, present, pieces)
        self._layout.add(pieces)
        if self._sink:
            self._sink(text.translate(alphabet.base_table(self._options.mask_chars), alphabet.LINE_ENDS))
        opened = np.flatnonzero(pieces.opens)
        self._header_lines.append(opened + self._cutter.line)
        self._contig_flat.append(pieces.flat[opened])
        self._cutter.advance(pieces)

    def _pass_over_blanks(
        self, data: bytes, text: bytes, pieces: Pieces, is_blank: NDArray[np.bool_]
    ) -> tuple[Pieces, int | None]:
        """Pieces without the blanks at line ends, and the position of the first blank inside a line, or None."""
        pieces, blank = self._cutter.without_blanks(pieces, np.flatnonzero(is_blank))
        if blank == -1 and self._blank_fault:
            raise self._blank_fault
        begun = np.flatnonzero(pieces.blanks < pieces.ends)
        if len(begun) and self._cutter.blank_at is not None and begun[0] == 0:
            begun = begun[1:]  # counted in the block before
        if len(begun):
            self._first_blank_line = self._first_blank_line or self._cutter.line + int(begun[0])
            self._blank_lines += len(begun)
            at = int(pieces.blanks[begun[-1]])
            self._blank_fault = self._error_at(data[at], at, pieces)
        position = text.find(alphabet.CTRL_Z)
        if position >= 0 and not self._ctrl_z_fault:
            if data[position:].strip(alphabet.LINE_ENDS):
                return pieces, position if blank is None else min(position, blank)
            self._ctrl_z_fault = self._error_at(alphabet.CTRL_Z, position, pieces)
        return pieces, blank

    def _first_refused(
        self, block: NDArray[np.uint8], classes: NDArray[np.uint8], present: int, pieces: Pieces, blank: int | None
    ) -> int | None:
        """Position in the block of the first byte that no sequence may hold, or None; `blank` is that of a blank in a line."""
        candidates = [] if blank is None else [blank]
        if self._cutter.contig < 0:
            opened = np.flatnonzero(pieces.opens)
            lead = block[: pieces.starts[opened[0]]] if len(opened) else block
            candidates += np.flatnonzero(~np.isin(lead, _PASSED_OVER))[:1].tolist()
        if present & self._refused:
            candidates.append(int(np.argmax((classes & self._refused) != 0)))
        if present & alphabet.CARRIAGE_RETURN:
            returns = np.flatnonzero(classes & alphabet.CARRIAGE_RETURN)
            # A carriage return at the end of the block is followed by the one that `feed` holds back.
            candidates += returns[block[np.minimum(returns + 1, len(block) - 1)] != _NEWLINE][:1].tolist()
        return min(candidates, default=None)

    def _refuse(self, data: bytes, position: int, pieces: Pieces) -> None:
        """Raise for a refused byte; for a letter, begin to look whether the contig is a protein."""
        byte = data[position]
        piece = _piece_at(position, pieces)
        error, contig = self._error_at(byte, position, pieces), int(pieces.contig[piece])
        if contig < 0 or (byte not in alphabet.GAP_BYTES and byte not in alphabet.LETTERS):
            raise error
        begun = np.concatenate([*self._contig_flat, pieces.flat[pieces.opens]])[contig]
        before = int(pieces.flat[piece] + position - pieces.starts[piece] - begun)
        self._fault = SequenceFault(str(error), before)
        self.feed(data[position:])

    def _error_at(self, byte: int, position: int, pieces: Pieces) -> InputError:
        """What is wrong with a byte of the block."""
        piece = _piece_at(position, pieces)
        offset, line, contig = self._cutter.offset + position, self._cutter.line + piece, int(pieces.contig[piece])
        if contig < 0 and byte != _RETURN:
            return self._error(offset, line, _describe_junk(byte), -1)
        reason = alphabet.describe_byte(byte)
        if byte == _RETURN:
            return self._error(offset, line, reason, contig)
        if byte in alphabet.GAP_BYTES:
            reason += " (`gaps_as_n=True` reads it as N)"
        elif byte in b"Xx":
            reason += ' (`mask_chars="X"` reads it as N)'
        return self._error(offset, line, f"{reason} in the sequence", contig)

    def _count(self, classes: NDArray[np.uint8], present: int, pieces: Pieces) -> None:
        """Add the block's alphabet counts, contig by contig."""
        bounds = pieces.starts[pieces.opens]
        first = self._cutter.contig + 1
        if first > 0 and (not len(bounds) or bounds[0] > 0):
            bounds = np.concatenate((np.zeros(1, np.int64), bounds))
            first -= 1
        for kind, flag in _COUNTED.items():
            if present & flag:
                self._counts[kind].append((first, _count_by_contig((classes & flag) != 0, bounds)))
        if present & alphabet.READS_AS_N:
            self._runs.add((classes & alphabet.READS_AS_N) != 0, pieces)

    def _result(self) -> ScanResult:
        starts = np.concatenate(self._contig_flat)
        header_lines = np.concatenate(self._header_lines)
        lengths = np.diff(starts, append=self._cutter.flat)
        if self._options.dup_names == "error":
            refuse_duplicates(self._label, self._names, header_lines)
        names = rename_duplicates(self._names, self._warnings)
        for index in np.flatnonzero(lengths == 0).tolist():
            self._warnings.add("empty records", f"contig {quote(names[index])} (line {header_lines[index]}) is empty")
        counts = {kind: _add_up(len(names), parts) for kind, parts in self._counts.items()}
        contigs = ContigTable(names=names, lengths=lengths, **counts)
        if self._blank_lines:
            first = f"the first is line {self._first_blank_line}"
            self._warnings.add("blanks at line ends", f"blanks at the end of {self._blank_lines} lines passed over, {first}")
        if self._ctrl_z_fault:
            self._warnings.add("Ctrl-Z", "Ctrl-Z at the end of the file passed over")
        for kind, what in _REPORTED.items():
            having = np.flatnonzero(counts[kind])
            if len(having):
                where = f"in {len(having)} contigs, the first is {quote(names[having[0]])}"
                self._warnings.add(kind, f"{what}: {counts[kind].sum()} {where}")
        n_runs, longest = self._runs.finish()
        return ScanResult(contigs, self._layout.finish(len(names)), n_runs, longest, self._warnings.lines())

    def _error(self, offset: int, line: int, reason: str, contig: int) -> InputError:
        known = 0 <= contig < len(self._names)
        where = f"contig {quote(self._names[contig])}, " if known else ""
        return InputError(f"{self._label}: {where}line {line}, byte {offset}: {reason}")


def _piece_at(position: int, pieces: Pieces) -> int:
    """Index of the piece that holds a byte of the block."""
    return int(np.searchsorted(pieces.starts, position, side="right")) - 1


def _blank_headers(data: bytes, block: NDArray[np.uint8], pieces: Pieces) -> tuple[bytes, bytes]:
    """The block with its headers overwritten by line feeds, and the headers with their line ends, joined."""
    rows = np.flatnonzero(pieces.is_header)
    if not len(rows):
        return data, b""
    starts = pieces.starts[rows]
    ends = np.append(pieces.starts, len(data))[rows + 1]
    sizes = ends - starts
    inside = np.arange(int(sizes.sum())) + np.repeat(starts - (np.cumsum(sizes) - sizes), sizes)
    text = bytearray(data)
    np.frombuffer(text, np.uint8)[inside] = _NEWLINE
    return bytes(text), block[inside].tobytes()


def _count_by_contig(mask: NDArray[np.bool_], bounds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of true values from each bound to the next, int64, [bounds]."""
    if len(bounds) > _SLICED_CONTIGS:
        return np.add.reduceat(mask.view(np.uint8), bounds, dtype=np.int32).astype(np.int64)  # four times as fast as int64
    ends = [*bounds[1:].tolist(), len(mask)]
    counts = [np.count_nonzero(mask[start:end]) for start, end in zip(bounds.tolist(), ends, strict=True)]
    return np.array(counts, np.int64)


def _add_up(contigs: int, parts: list[tuple[int, NDArray[np.int64]]]) -> NDArray[np.int64]:
    """Counts of all contigs from the counts of each block's contigs."""
    total = np.zeros(contigs, np.int64)
    for first, counts in parts:
        total[first : first + len(counts)] += counts
    return total


def _describe_junk(byte: int) -> str:
    """The byte that stands where the first header should be, in words."""
    if byte == ord("@"):
        return "looks like FASTQ ('@' where '>' is expected); convert it to FASTA"
    if byte in b";#":
        return f"comment line ('{chr(byte)}') before the first '>'"
    return f"{alphabet.describe_byte(byte)} before the first '>': not a FASTA file"
