"""The files of all formats of a run, written in one pass over its calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import polars as pl

from annotator.files import atomic_files, file_sha256
from annotator.output.formats.base import Format, OutputRun, Target
from annotator.output.parts import PartInfo


def format_names(run: OutputRun, formats: Sequence[Format]) -> tuple[str, ...]:
    """Names of every file of the formats: each data file, followed by its indices."""
    return tuple(name for form in formats for data, indices in form.names(run).items() for name in (data, *indices))


def write_formats(
    blocks: Iterable[pl.DataFrame],
    out_dir: Path,
    run: OutputRun,
    formats: Sequence[Format],
    *,
    threads: int = 1,
    tick: Callable[[], None] | None = None,
) -> dict[str, PartInfo]:
    """Write the files of the formats from calls that are at hand, such as those of predictions.parquet.

    Args:
        blocks: All calls of the run in the order of predictions.parquet, in tables of `TABLE_SCHEMA`; how they are cut into
            tables does not show in the files.
        out_dir: The results folder; it exists. Files of the same names are replaced, all together.
        run: The run.
        formats: What to write.
        threads: How many compress and index; the bytes do not depend on it.
        tick: Called before each block; what it raises ends the writing, and no file appears or is replaced.

    Returns:
        File name -> rows and sha256, for every name of `format_names`; an index counts 0 rows.

    Raises:
        ResourceFault: A file cannot be written.
    """
    names = format_names(run, formats)
    with (
        atomic_files([out_dir / name for name in names]) as temporaries,
        # Innermost: after a failure no thread may still write while the temporaries are removed.
        ThreadPoolExecutor(threads) as pool,
    ):
        at = dict(zip(names, temporaries, strict=True))
        rows = fill_formats(_ticking(blocks, tick), out_dir, at, run, formats, pool)
        return {name: PartInfo(rows.get(name, 0), file_sha256(at[name])) for name in names}


def fill_formats(
    blocks: Iterable[pl.DataFrame],
    out_dir: Path,
    at: Mapping[str, Path],
    run: OutputRun,
    formats: Sequence[Format],
    pool: Executor,
) -> dict[str, int]:
    """Write the files of the formats under temporary names, data first and then all indices.

    Args:
        blocks: Calls in sorted order, as `write_formats` takes them.
        out_dir: Folder of the final names.
        at: File name -> temporary name, for every name of `format_names`.
        run: The run.
        formats: What to write.
        pool: Threads that compress and index.

    Returns:
        Rows of each data file.

    Raises:
        ResourceFault: A file cannot be written.
    """
    targets = {name: Target(path, out_dir / name) for name, path in at.items()}
    files = [(form, data, indices) for form in formats for data, indices in form.names(run).items()]
    with ExitStack() as stack:
        writers = [stack.enter_context(form.open(data, targets[data], run, pool)) for form, data, _ in files]
        for block in blocks:
            for writer in writers:
                writer.write(block)
    indexing = [
        pool.submit(writer.index, targets[name])
        for writer, (_, _, indices) in zip(writers, files, strict=True)
        for name in indices
    ]
    for index in indexing:
        index.result()
    return {data: writer.rows for writer, (_, data, _) in zip(writers, files, strict=True)}


def _ticking(blocks: Iterable[pl.DataFrame], tick: Callable[[], None] | None) -> Iterable[pl.DataFrame]:
    for block in blocks:
        if tick:
            tick()
        yield block
