"""BED text of a table; 0-based half-open, one TAB between columns, the same columns on every line of a file."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from concurrent.futures import Executor
from pathlib import Path
from types import TracebackType

import polars as pl
import pysam

from annotator.errors import InputError
from annotator.files import write_faults
from annotator.output.formats.bgzf import BgzfWriter
from annotator.output.options import BedOptions
from annotator.output.schema import BED6_COLUMNS, BED9_COLUMNS, COORDINATE_SYSTEM, ITEM_RGB, BedFile

TBI_LIMIT_BP = 1 << 29
"""TBI cannot address positions beyond this; CSI can."""

MAX_BED_NAME = 255

_UNWRITABLE = re.compile(r"^\Z|^#|[\x00-\x20\x7f]")


def index_suffixes(longest_contig_bp: int) -> tuple[str, ...]:
    """The indices a compressed BED file gets: always CSI, and TBI for older programs where its coordinates suffice."""
    return (".csi", ".tbi") if longest_contig_bp < TBI_LIMIT_BP else (".csi",)


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


def bed_header(file: BedFile, tool_version: str, options: BedOptions) -> str:
    """The comment lines before the first call: coordinate system, program, column names; empty without header."""
    if not options.header:
        return ""
    columns = "\t".join(BED6_COLUMNS if options.bed6 else (*BED9_COLUMNS, *file.extra_columns))
    return f"##coordinate_system={COORDINATE_SYSTEM}\n##tool=genome-annotator {tool_version}\n#{columns}\n"


def bed_text(table: pl.DataFrame, file: BedFile, options: BedOptions) -> bytes:
    """The BED lines of the rows of `table` that belong in `file`, in table order.

    Probabilities have 6 decimals, bits 4, p-values 3 significant digits; what is null is ".". Characters of names that
    BED does not allow become "_".

    Args:
        table: Rows of `TABLE_SCHEMA`.
        file: The file the lines are for.
        options: Header and width.

    Returns:
        Lines, each ended by a line feed.
    """
    rows = table.filter(pl.col("kind").is_in(file.kinds))
    is_promoter = pl.col("kind") == "promoter"
    columns = [
        pl.col("chrom", "start", "end"),
        _printable("name"),
        pl.col("score", "strand"),
    ]
    if not options.bed6:
        columns += [
            pl.when(is_promoter).then(pl.col("position")).otherwise(pl.col("start")).alias("thickStart"),
            pl.when(is_promoter).then(pl.col("position") + 1).otherwise(pl.col("end")).alias("thickEnd"),
            pl.col("kind").replace_strict(ITEM_RGB, return_dtype=pl.String).alias("itemRgb"),
            *(_extra_column(name, rows) for name in file.extra_columns),
        ]
    text = io.BytesIO()
    rows.select(columns).write_csv(text, separator="\t", include_header=False, quote_style="never", null_value=".")
    return text.getvalue()


class BedWriter:
    """One compressed BED file, as a context: leaving it writes what is missing.

    Attributes:
        file: What it holds.
        rows: Calls written so far.
    """

    def __init__(
        self, path: Path, final_path: Path, file: BedFile, tool_version: str, options: BedOptions, pool: Executor
    ) -> None:
        """Open `path` and write the header; errors name `final_path`; `pool` compresses."""
        self.file = file
        self.rows = 0
        self._final_path = final_path
        self._options = options
        with write_faults(final_path):
            self._stream = BgzfWriter(path, pool)
            self._stream.write(bed_header(file, tool_version, options).encode())

    def write(self, table: pl.DataFrame) -> None:
        """Append the rows of `table` that belong in this file."""
        text = bed_text(table, self.file, self._options)
        self.rows += text.count(b"\n")
        with write_faults(self._final_path):
            self._stream.write(text)

    def __enter__(self) -> BedWriter:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Complete the file, or just close it where the body failed."""
        try:
            if error is None:
                with write_faults(self._final_path):
                    self._stream.finish()
        finally:
            self._stream.close()


def write_index(path: Path, index_path: Path, suffix: str, final_path: Path) -> None:
    """Write the `.csi` or `.tbi` of a compressed BED file.

    Raises:
        ResourceFault: It cannot be written; the message names `final_path`.
    """
    with write_faults(final_path):
        pysam.tabix_index(str(path), preset="bed", csi=suffix == ".csi", index=str(index_path), force=True, keep_original=True)


def _printable(column: str) -> pl.Expr:
    """At most 255 printable ASCII characters without spaces; "." where nothing is left."""
    cleaned = pl.col(column).str.replace_all(r"[^!-~]", "_").str.slice(0, MAX_BED_NAME)
    return pl.when(cleaned == "").then(pl.lit(".")).otherwise(cleaned).alias(column)


def _extra_column(column: str, rows: pl.DataFrame) -> pl.Expr:
    if column == "probability":
        return pl.col(column).cast(pl.Decimal(18, 6)).cast(pl.String)
    if column == "bits":
        return pl.col(column).cast(pl.Decimal(18, 4)).cast(pl.String)
    if column == "p_value":
        # A motif has few different p-values, so each is formatted once; Polars has no "%.3g" of its own.
        values = rows[column].drop_nulls().unique()
        texts = pl.Series([f"{value:.3g}" for value in values], dtype=pl.String)
        return pl.col(column).replace_strict(values, texts, default=None, return_dtype=pl.String)
    if column in ("motif_id", "model"):
        return _printable(column)
    return pl.col(column)
