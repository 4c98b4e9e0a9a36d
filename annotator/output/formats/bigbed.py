"""Calls as bigBed, for browsers that read over a network: nine columns of BED, then those of `--bed-extra`; 0-based half-open."""

from __future__ import annotations

from concurrent.futures import Executor
from types import TracebackType
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from annotator.files import write_faults
from annotator.output.formats.base import OutputRun, Target
from annotator.output.formats.bbi import BIGBED_MAGIC, LONGEST_BP, BbiFile, BbiKind, Contigs32, Stretches
from annotator.output.formats.bed import BED9_COLUMNS, BedFile, bed_columns, bed_files, bed_lines
from annotator.output.options import BedOptions

_ITEMS: Final = 512
"""Calls of a block."""
_SHAPE: Final = BedOptions(header=False, bed_extra=True)
_HEAD: Final = np.dtype([("contig", "<u4"), ("start", "<u4"), ("end", "<u4")])
_COLUMNS: Final = {
    "chrom": "string chrom; \"Contig\"",
    "start": "uint chromStart; \"First base, 0-based\"",
    "end": "uint chromEnd; \"One past the last base\"",
    "name": "string name; \"Kind, factor or track\"",
    "score": "uint score; \"1000 x probability, or -100 log10 p of a bare motif match\"",
    "strand": "char[1] strand; \"+ or -\"",
    "thickStart": "uint thickStart; \"The TSS of a promoter, otherwise the start\"",
    "thickEnd": "uint thickEnd; \"One past it, otherwise the end\"",
    "itemRgb": "uint reserved; \"Colour of the kind\"",
    "probability": "string probability; \"Calibrated probability, or .\"",
    "kind": "string kind; \"Kind of call\"",
    "model": "string model; \"Model or motif collection\"",
    "position": "uint position; \"Exon's last or first base, TSS, or start, 0-based\"",
    "motif_id": "string motif_id; \"Matrix, or .\"",
    "p_value": "string p_value; \"Of a motif match, or .\"",
    "q_value": "string q_value; \"Of a motif match, or .\"",
    "bits": "string bits; \"Of a motif match, or .\"",
}  # fmt: skip
"""What autoSql says of each column."""


def auto_sql(file: BedFile) -> str:
    """The description of a file's columns, in the language that browsers read it in."""
    rows = "\n".join(f"    {_COLUMNS[column]}" for column in bed_columns(file, _SHAPE))
    return f'table {file.name.partition(".")[0]}\n"Calls of genome-annotator"\n(\n{rows}\n)\n'


class BigBedFormat:
    """A file for each group of kinds, such as `splice_sites.bb`; nine standard columns and the further ones of `--bed-extra`."""

    shows_q_values = True

    def __init__(self, options: object = None) -> None:
        """There are no options."""

    def _files(self, run: OutputRun) -> dict[str, BedFile]:
        return {file.name.replace(".bed.gz", ".bb"): file for file in bed_files(run.kinds)}

    def names(self, run: OutputRun) -> dict[str, tuple[str, ...]]:
        """The files of the kinds that the run reports; each has its index in itself."""
        return {name: () for name in self._files(run)}

    def open(self, name: str, target: Target, run: OutputRun, pool: Executor) -> BigBedWriter:
        """Begin one of the files."""
        return BigBedWriter(target, self._files(run)[name], run, pool)


class BigBedWriter:
    """One bigBed file, as a context: leaving it writes what is missing.

    Attributes:
        rows: Calls written so far.
    """

    def __init__(self, target: Target, file: BedFile, run: OutputRun, pool: Executor) -> None:
        """Begin it."""
        self.rows = 0
        self._target, self._bed = target, file
        contigs = Contigs32(run, target.final.name)
        self._number = {name: number for number, name in enumerate(contigs.names)}
        columns = bed_columns(file, _SHAPE)
        kind = BbiKind(BIGBED_MAGIC, len(columns), len(BED9_COLUMNS), auto_sql(file), items=_ITEMS)
        self._contig, self._waiting = -1, _Rows.none()
        self._open_start, self._open_end = np.empty(0, np.int64), np.empty(0, np.int64)
        with write_faults(target.final):
            self._file = BbiFile(target.path, kind, contigs.names, contigs.lengths, pool)

    def write(self, table: pl.DataFrame) -> None:
        """Append the rows of `table` that belong in this file."""
        rows = table.filter(pl.col("kind").is_in(self._bed.kinds))
        with write_faults(self._target.final):
            for contig in rows.partition_by("chrom", maintain_order=True):
                number = self._number.get(contig["chrom"][0])
                if number is not None:
                    self._append(number, contig)
        # What a contig that is too long has is not counted: it is not in the file.

    def _append(self, number: int, rows: pl.DataFrame) -> None:
        if number != self._contig:
            self._end_contig()
            self._contig = number
        start, end = rows["start"].to_numpy(), rows["end"].to_numpy()
        self._waiting = self._waiting.then(_Rows.of(number, start, end, bed_lines(rows, self._bed, _SHAPE)))
        whole = len(self._waiting.end) // _ITEMS * _ITEMS
        for first in range(0, whole, _ITEMS):
            self._block(self._waiting.take(first, first + _ITEMS))
        self._waiting = self._waiting.take(whole, len(self._waiting.end))
        self._depth(start, end, int(start[-1]))
        self.rows += rows.height

    def _block(self, rows: _Rows) -> None:
        self._file.block(rows.data, len(rows.end), self._contig, int(rows.start[0]), int(rows.end.max()))

    def _end_contig(self) -> None:
        if len(self._waiting.end):
            self._block(self._waiting)
            self._waiting = _Rows.none()
        self._depth(np.empty(0, np.int64), np.empty(0, np.int64), LONGEST_BP)

    def _depth(self, start: NDArray[np.int64], end: NDArray[np.int64], until: int) -> None:
        """Summarise how many calls cover each base before `until`; no call to come begins before it."""
        start, end = np.concatenate([self._open_start, start]), np.concatenate([self._open_end, end])
        if not len(start):
            return
        later = end > until
        self._open_start, self._open_end = np.maximum(start[later], until), end[later]
        start, end = np.minimum(start, until), np.minimum(end, until)
        places, where = np.unique(np.concatenate([start, end]), return_inverse=True)
        change = np.zeros(len(places), np.int64)
        np.add.at(change, where[: len(start)], 1)
        np.add.at(change, where[len(start) :], -1)
        depth = np.cumsum(change)[:-1]
        covered = depth > 0
        contig = np.full(int(covered.sum()), self._contig, np.int64)
        self._file.summarise(Stretches(contig, places[:-1][covered], places[1:][covered], depth[covered]))

    def index(self, target: Target) -> None:
        """There is no index beside the file."""
        raise ValueError(f"{target.final}: a bigBed has its index in itself")

    def __enter__(self) -> BigBedWriter:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Complete the file, or just close it where the body failed."""
        try:
            if error is None:
                with write_faults(self._target.final):
                    self._end_contig()
                    self._file.finish()
        finally:
            self._file.close()


class _Rows:
    """Calls of one contig as a block has them: number of the contig, start, end, further columns as text, a zero byte."""

    def __init__(self, start: NDArray[np.int64], end: NDArray[np.int64], ends: NDArray[np.int64], data: bytes) -> None:
        """Starts, ends, bytes of `data` up to the end of each, and the bytes."""
        self.start, self.end, self._ends, self.data = start, end, ends, data

    @staticmethod
    def none() -> _Rows:
        """No calls."""
        none = np.empty(0, np.int64)
        return _Rows(none, none, none, b"")

    @staticmethod
    def of(contig: int, start: NDArray[np.int64], end: NDArray[np.int64], lines: bytes) -> _Rows:
        """Calls from their lines of BED, of which the first three columns are dropped."""
        text = np.frombuffer(lines, np.uint8)
        line_ends = np.flatnonzero(text == ord("\n")) + 1
        tabs = np.flatnonzero(text == ord("\t"))
        third = tabs[np.searchsorted(tabs, np.append(0, line_ends[:-1])) + 2] + 1
        sizes = line_ends - third + _HEAD.itemsize
        ends = np.cumsum(sizes)
        heads = np.empty(len(start), _HEAD)
        heads["contig"], heads["start"], heads["end"] = contig, start, end
        data = np.empty(int(ends[-1]), np.uint8)
        is_head = np.zeros(len(data), bool)
        is_head[((ends - sizes)[:, None] + np.arange(_HEAD.itemsize)).ravel()] = True
        data[is_head] = np.frombuffer(heads.tobytes(), np.uint8)
        begins = np.zeros(len(text) + 1, np.int8)
        begins[np.append(0, line_ends[:-1])] += 1
        begins[third] -= 1
        rest = text[np.cumsum(begins[:-1]) == 0].copy()
        rest[rest == ord("\n")] = 0
        data[~is_head] = rest
        return _Rows(start, end, ends, data.tobytes())

    def then(self, later: _Rows) -> _Rows:
        """These, followed by others."""
        ends = np.concatenate([self._ends, later._ends + len(self.data)])
        return _Rows(
            np.concatenate([self.start, later.start]), np.concatenate([self.end, later.end]), ends, self.data + later.data
        )

    def take(self, first: int, end: int) -> _Rows:
        """Rows [first, end)."""
        before = int(self._ends[first - 1]) if first else 0
        after = int(self._ends[end - 1]) if end else 0
        return _Rows(self.start[first:end], self.end[first:end], self._ends[first:end] - before, self.data[before:after])
