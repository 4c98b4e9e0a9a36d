"""The files of calls for other programs, written anew from predictions.parquet: no genome and no model are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import polars as pl

from annotator.errors import InputError
from annotator.output.formats.base import Format, OutputRun
from annotator.output.formats.write import write_formats
from annotator.output.merge import BLOCK_ROWS
from annotator.output.parts import PartInfo
from annotator.output.schema import PREDICTIONS_FILE


def rewrite_formats(
    folder: Path,
    run: OutputRun,
    formats: Sequence[Format],
    *,
    threads: int = 1,
    tick: Callable[[], None] | None = None,
) -> dict[str, PartInfo]:
    """Write the files of some formats of a finished run again; all are replaced together.

    Args:
        folder: The results folder.
        run: Kinds and contigs of the run.
        formats: What to write.
        threads: How many compress and index; the bytes do not depend on it.
        tick: Called again and again; what it raises ends the writing, and no file is replaced.

    Returns:
        File name -> rows and sha256 of what was written: the same bytes that the run itself would have written.

    Raises:
        InputError: predictions.parquet cannot be read.
        ResourceFault: A file cannot be written.
    """
    return write_formats(table_blocks(folder / PREDICTIONS_FILE), folder, run, formats, threads=threads, tick=tick)


def table_blocks(path: Path, rows: int = BLOCK_ROWS) -> Iterator[pl.DataFrame]:
    """The rows of a table such as predictions.parquet, in file order, so many at a time.

    Raises:
        InputError: It cannot be read.
    """
    try:
        # A results folder may be called "sample=1" or "run[2]": neither a hive key nor a glob pattern here.
        table = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        count = table.select(pl.len()).collect().item()
        for start in range(0, count, rows):
            yield table.slice(start, rows).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
