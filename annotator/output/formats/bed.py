"""BED text of a table; 0-based half-open, one TAB between columns, the same columns on every line of a file."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Collection, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

import polars as pl

from annotator.errors import InputError
from annotator.kinds import KINDS, TASKS, Kind
from annotator.output.formats.base import OutputRun, Target
from annotator.output.formats.lines import LineFile, index_suffixes, indexed
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

MAX_BED_NAME = 255

_UNWRITABLE = re.compile(r"^\Z|^#|[\x00-\x20\x7f]")


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
    return bed_lines(_rows_of(table, file), file, options)


def _rows_of(table: pl.DataFrame, file: BedFile) -> pl.DataFrame:
    return table.filter(pl.col("kind").is_in(file.kinds))


def bed_lines(rows: pl.DataFrame, file: BedFile, options: BedOptions) -> bytes:
    """The BED lines of rows that all belong in `file`; see `bed_text`."""
    columns = [_column(name, rows) for name in bed_columns(file, options)]
    text = io.BytesIO()
    rows.select(columns).write_csv(text, separator=TAB, include_header=False, quote_style="never", null_value=".")
    return text.getvalue()


class BedFormat:
    """The BED files of a run as a `Format`: one per group of kinds, compressed and indexed."""

    def __init__(self, options: BedOptions = DEFAULT_BED, shape: str = "") -> None:
        """A run's own BED files, or with `shape` further ones, which have that in their names.

        Args:
            options: The shape of the files.
            shape: Comes before ".bed.gz" in the names.
        """
        self._options, self._shape = options, shape

    @property
    def shows_q_values(self) -> bool:
        """Only with extra columns."""
        return self._options.bed_extra

    def _files(self, run: OutputRun) -> dict[str, BedFile]:
        suffix = f".{self._shape}.bed.gz" if self._shape else ".bed.gz"
        return {file.name.replace(".bed.gz", suffix): file for file in bed_files(run.kinds)}

    def names(self, run: OutputRun) -> dict[str, tuple[str, ...]]:
        """Each BED file that the run's kinds can stand in, with its indices."""
        return {name: indexed(name, run) for name in self._files(run)}

    def open(self, name: str, target: Target, run: OutputRun, pool: Executor) -> BedWriter:
        """Begin one of the files and write its header."""
        if ".tbi" not in index_suffixes(run.longest_contig_bp):
            logger.info("%s gets a .csi index only: a contig has %s bp, and TBI ends at 2^29", name, f"{run.longest_contig_bp:,}")
        return BedWriter(target, self._files(run)[name], self._options, pool)


class BedWriter(LineFile):
    """One BED file."""

    def __init__(self, target: Target, file: BedFile, options: BedOptions, pool: Executor) -> None:
        """Begin it with its header."""
        super().__init__(target, bed_header(file, options), pool)
        self._file, self._options = file, options

    def write(self, table: pl.DataFrame) -> None:
        """Append the rows of `table` that belong in this file."""
        rows = _rows_of(table, self._file)
        self.append(bed_lines(rows, self._file, self._options), rows["chrom"], rows["start"].to_numpy(), rows["end"].to_numpy())


def printable(column: str) -> pl.Expr:
    """At most 255 printable ASCII characters without spaces; "." where nothing is left."""
    cleaned = pl.col(column).str.replace_all(r"[^!-~]", "_").str.slice(0, MAX_BED_NAME)
    return pl.when(cleaned == "").then(pl.lit(".")).otherwise(cleaned).alias(column)


def significant_digits(column: str, rows: pl.DataFrame) -> pl.Expr:
    """A column of numbers as texts of three significant digits; null stays null.

    Args:
        column: Its name.
        rows: Rows of `TABLE_SCHEMA`.
    """
    # A motif has few different p-values, so each is formatted once; Polars has no "%.3g" of its own.
    values = rows[column].drop_nulls().unique()
    texts = pl.Series([f"{value:.3g}" for value in values], dtype=pl.String)
    return pl.col(column).replace_strict(values, texts, default=None, return_dtype=pl.String)


def _column(column: str, rows: pl.DataFrame) -> pl.Expr:
    """The text, or what is written as it stands, of one BED column."""
    is_promoter = pl.col("kind") == Kind.PROMOTER
    match column:
        case "name" | "motif_id":
            return printable(column)
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
            return significant_digits(column, rows)
        case _:  # the model's name too: it is spelled as in the table
            return pl.col(column)
