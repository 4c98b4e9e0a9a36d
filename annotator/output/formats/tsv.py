"""All columns of predictions.parquet as a table of text, for spreadsheets, R and awk; 0-based half-open, as in Parquet."""

from __future__ import annotations

import io
from concurrent.futures import Executor
from typing import Final

import polars as pl

from annotator.output.formats.base import OutputRun, Target
from annotator.output.formats.lines import LineFile
from annotator.output.schema import TABLE_SCHEMA

TSV_FILE: Final = "calls.tsv.gz"


class TsvFormat:
    """One file `calls.tsv.gz`: a line of column names, then a line for each call; BGZF, which any gzip reader opens."""

    shows_q_values = True

    def __init__(self, options: object = None) -> None:
        """There are no options."""

    def names(self, run: OutputRun) -> dict[str, tuple[str, ...]]:
        """One file without an index: its first line is no comment."""
        return {TSV_FILE: ()}

    def open(self, name: str, target: Target, run: OutputRun, pool: Executor) -> TsvWriter:
        """Begin the file with the names of its columns."""
        return TsvWriter(target, "\t".join(TABLE_SCHEMA) + "\n", pool)


class TsvWriter(LineFile):
    """The table while it is written."""

    def write(self, table: pl.DataFrame) -> None:
        """Append calls; numbers are as exact as in Parquet, and what is null is empty."""
        text = io.BytesIO()
        table.select(list(TABLE_SCHEMA)).write_csv(text, separator="\t", include_header=False)
        self.append(text.getvalue(), table["chrom"], table["start"].to_numpy(), table["end"].to_numpy())
