"""BED text of a table; 0-based half-open, one TAB between columns, the same columns on every line of a file."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Collection, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from types import TracebackType
from typing import Final

import numpy as np
import polars as pl

from annotator.errors import InputError
from annotator.files import write_faults
from annotator.kinds import KINDS, TASKS, Kind
from annotator.output.formats.base import OutputRun, Target
from annotator.output.formats.bgzf import BgzfWriter, compress_file
from annotator.output.formats.tabix import TabixIndex
from annotator.output.options import DEFAULT_BED, BedOptions

logger = logging.getLogger(__name__)

TAB: Final = "\t"
BED6_COLUMNS: Final = ("chrom", "start", "end", "name", "score", "strand")
BED9_COLUMNS: Final = (*BED6_COLUMNS, "thickStart", "thickEnd", "itemRgb")
SITE_EXTRA: Final = ("probability", "kind", "model", "position")
"""Columns that `--bed-extra` adds to the calls of a model."""
MOTIF_EXTRA: Final = ("motif_id", "p_value", "q_value", "bits", "kind", "model", "probability")
"""Columns that `--bed-extra` adds to binding sites."""

_ITEM_RGB = {kind.value: kind.rgb for kind in KINDS}


@dataclass(frozen=True, slots=True)
class BedFile:
    """One BED file of a run.

    Attributes:
        name: File name in the results folder.
        kinds: The kinds of call it holds.
        extra_columns: Table columns that may follow the nine standard BED columns.
    """

    name: str
    kinds: tuple[Kind, ...]
    extra_columns: tuple[str, ...]


def _all_bed_files() -> tuple[BedFile, ...]:
    """The files that the kinds name, in the order of tasks."""
    kinds_of: dict[str, tuple[Kind, ...]] = {}
    for kind in sorted(KINDS, key=lambda kind: TASKS.index(kind.task)):
        kinds_of[kind.row.bed_file] = (*kinds_of.get(kind.row.bed_file, ()), kind)
    return tuple(BedFile(name, kinds, MOTIF_EXTRA if Kind.TFBS in kinds else SITE_EXTRA) for name, kinds in kinds_of.items())


BED_FILES: Final = _all_bed_files()

TBI_LIMIT_BP = 1 << 29
"""TBI cannot address positions beyond this; CSI can."""

MAX_BED_NAME = 255

INDEX_LEVEL: Final = 6
"""zlib level of the indices: that of htslib's tabix."""

_UNWRITABLE = re.compile(r"^\Z|^#|[\x00-\x20\x7f]")


def index_suffixes(longest_contig_bp: int) -> tuple[str, ...]:
    """The indices a compressed BED file gets: always CSI, and TBI for older programs where its coordinates suffice."""
    return (".csi", ".tbi") if longest_contig_bp < TBI_LIMIT_BP else (".csi",)


def bed_files(kinds: Collection[str]) -> tuple[BedFile, ...]:
    """The BED files of a run that reports `kinds`.

    Args:
        kinds: Names out of `annotator.kinds.Kind`.

    Returns:
        Every file that can hold one of the kinds, in the order of `BED_FILES`.

    Raises:
        ValueError: A kind is unknown.
    """
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise ValueError(f"unknown kinds {unknown}; known are {[kind.value for kind in KINDS]}")
    return tuple(file for file in BED_FILES if set(file.kinds) & set(kinds))


def refuse_unwritable_names(contig_names: Iterable[str], source: str = "") -> None:
    """Refuse contig names that would change the meaning of a BED line.

    Raises:
        InputError: A name is empty, holds a control character or a space, or starts with "#", which makes the line a
            comment.
    """
    for name in contig_names:
        if _UNWRITABLE.search(name):
            where = f"{source}: " if source else ""
            raise InputError(
                f"{where}contig {name!r}: this name cannot stand in a BED file (empty, space, control character or leading '#')"
            )


def bed_columns(file: BedFile, options: BedOptions) -> tuple[str, ...]:
    """Names of the columns of a file, in order."""
    if options.bed6:
        return BED6_COLUMNS
    return (*BED9_COLUMNS, *file.extra_columns) if options.bed_extra else BED9_COLUMNS


def bed_header(file: BedFile, options: BedOptions) -> str:
    """The line before the first call, which names the columns; empty without header.

    There is no other comment line: pandas and pyranges take one for the header, and stumble over a second.
    """
    return f"#{TAB.join(bed_columns(file, options))}\n" if options.header else ""


def bed_text(table: pl.DataFrame, file: BedFile, options: BedOptions) -> bytes:
    """The BED lines of the rows of `table` that belong in `file`, in table order.

    The thick part of a promoter is its TSS, one base; that of any other call is the whole of it. Probabilities have 6
    decimals, bits 4, p-values and q-values 3 significant digits; what is null is ".". Characters of names that BED does not
    allow become "_".

    Args:
        table: Rows of `TABLE_SCHEMA`.
        file: The file the lines are for.
        options: Header and columns.

    Returns:
        Lines, each ended by a line feed.
    """
    return _lines(_rows_of(table, file), file, options)


def _rows_of(table: pl.DataFrame, file: BedFile) -> pl.DataFrame:
    return table.filter(pl.col("kind").is_in(file.kinds))


def _lines(rows: pl.DataFrame, file: BedFile, options: BedOptions) -> bytes:
    columns = [_column(name, rows) for name in bed_columns(file, options)]
    text = io.BytesIO()
    rows.select(columns).write_csv(text, separator=TAB, include_header=False, quote_style="never", null_value=".")
    return text.getvalue()


class BedFormat:
    """The BED files of a run as a `Format`: one per group of kinds, compressed and indexed."""

    def __init__(self, options: BedOptions = DEFAULT_BED) -> None:
        """`options` is the shape of the files."""
        self._options = options

    @property
    def shows_q_values(self) -> bool:
        """Only with extra columns."""
        return self._options.bed_extra

    def names(self, run: OutputRun) -> dict[str, tuple[str, ...]]:
        """Each BED file that the run's kinds can stand in, with its indices."""
        suffixes = index_suffixes(run.longest_contig_bp)
        return {file.name: tuple(file.name + suffix for suffix in suffixes) for file in bed_files(run.kinds)}

    def open(self, name: str, target: Target, run: OutputRun, pool: Executor) -> BedWriter:
        """Begin one of the files and write its header."""
        if ".tbi" not in index_suffixes(run.longest_contig_bp):
            logger.info("%s gets a .csi index only: a contig has %s bp, and TBI ends at 2^29", name, f"{run.longest_contig_bp:,}")
        return BedWriter(target, next(file for file in BED_FILES if file.name == name), self._options, pool)


class BedWriter:
    """One compressed BED file, as a context: leaving it writes what is missing."""

    def __init__(self, target: Target, file: BedFile, options: BedOptions, pool: Executor) -> None:
        """Open the target's temporary name and write the header; `pool` compresses."""
        header = bed_header(file, options).encode()
        self._rows, self._bytes = 0, len(header)
        self._target, self._file, self._options = target, file, options
        self._index = TabixIndex(len(header))
        with write_faults(target.final):
            self._stream = BgzfWriter(target.path, pool)
            self._stream.write(header)

    @property
    def rows(self) -> int:
        """Calls written so far."""
        return self._rows

    def write(self, table: pl.DataFrame) -> None:
        """Append the rows of `table` that belong in this file."""
        rows = _rows_of(table, self._file)
        text = _lines(rows, self._file, self._options)
        with write_faults(self._target.final):
            self._stream.write(text)
        line_ends = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n")) + 1 + self._bytes
        self._index.add(rows["chrom"], rows["start"].to_numpy(), rows["end"].to_numpy(), line_ends)
        self._rows += rows.height
        self._bytes += len(text)

    def index(self, target: Target) -> None:
        """Write the `.csi` or `.tbi`, as the final name says."""
        make = self._index.csi if target.final.suffix == ".csi" else self._index.tbi
        with write_faults(target.final):
            target.path.write_bytes(compress_file(make(self._stream.addresses), INDEX_LEVEL))

    def __enter__(self) -> BedWriter:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Complete the file, or just close it where the body failed."""
        try:
            if error is None:
                with write_faults(self._target.final):
                    self._stream.finish()
        finally:
            self._stream.close()


def _printable(column: str) -> pl.Expr:
    """At most 255 printable ASCII characters without spaces; "." where nothing is left."""
    cleaned = pl.col(column).str.replace_all(r"[^!-~]", "_").str.slice(0, MAX_BED_NAME)
    return pl.when(cleaned == "").then(pl.lit(".")).otherwise(cleaned).alias(column)


def _column(column: str, rows: pl.DataFrame) -> pl.Expr:
    """The text, or what is written as it stands, of one BED column."""
    is_promoter = pl.col("kind") == Kind.PROMOTER
    match column:
        case "name" | "motif_id":
            return _printable(column)
        case "thickStart":
            return pl.when(is_promoter).then(pl.col("position")).otherwise(pl.col("start")).alias(column)
        case "thickEnd":
            return pl.when(is_promoter).then(pl.col("position") + 1).otherwise(pl.col("end")).alias(column)
        case "itemRgb":
            return pl.col("kind").replace_strict(_ITEM_RGB, return_dtype=pl.String).alias(column)
        case "probability":
            return pl.col(column).cast(pl.Decimal(18, 6)).cast(pl.String)
        case "bits":
            return pl.col(column).cast(pl.Decimal(18, 4)).cast(pl.String)
        case "p_value" | "q_value":
            # A motif has few different p-values, so each is formatted once; Polars has no "%.3g" of its own.
            values = rows[column].drop_nulls().unique()
            texts = pl.Series([f"{value:.3g}" for value in values], dtype=pl.String)
            return pl.col(column).replace_strict(values, texts, default=None, return_dtype=pl.String)
        case _:  # the model's name too: it is spelled as in the table
            return pl.col(column)
