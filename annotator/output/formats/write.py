"""The files of all formats of a run, written in one pass over its calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import polars as pl

from annotator.files import atomic_files, file_sha256
from annotator.output.formats.base import Format, FormatWriter, OutputRun, Target
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
        with FormatFiles(out_dir, at, run, formats, pool) as files:
            for block in blocks:
                if tick:
                    tick()
                files.write(block)
        rows = files.index()
        return {name: PartInfo(rows.get(name, 0), file_sha256(at[name])) for name in names}


class FormatFiles:
    """The data files of some formats, open for writing under temporary names: a context that completes them."""

    def __init__(self, out_dir: Path, at: Mapping[str, Path], run: OutputRun, formats: Sequence[Format], pool: Executor) -> None:
        """Nothing is opened yet.

        Args:
            out_dir: Folder of the final names.
            at: File name -> temporary name, for every name of `format_names`.
            run: The run.
            formats: What to write.
            pool: Threads that compress and index.
        """
        self._targets = {name: Target(path, out_dir / name) for name, path in at.items()}
        self._files = [(form, data, indices) for form in formats for data, indices in form.names(run).items()]
        self._run, self._pool = run, pool
        self._writers: list[FormatWriter] = []
        self._open = ExitStack()

    def __enter__(self) -> Self:
        """Open all data files.

        Raises:
            ResourceFault: One cannot be written.
        """
        with ExitStack() as stack:
            for form, data, _ in self._files:
                self._writers.append(stack.enter_context(form.open(data, self._targets[data], self._run, self._pool)))
            self._open = stack.pop_all()
        return self

    def write(self, block: pl.DataFrame) -> None:
        """Append calls, as `write_formats` takes them.

        Raises:
            ResourceFault: They cannot be written.
        """
        for writer in self._writers:
            writer.write(block)

    def complete(self) -> None:
        """Complete the data files; harmless a second time.

        Raises:
            ResourceFault: One cannot be written.
        """
        self._open.pop_all().close()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Complete the data files; after an error, close them as they are."""
        self._open.pop_all().__exit__(kind, error, trace)

    def index(self) -> dict[str, int]:
        """Write all indices of the completed data files.

        Returns:
            Rows of each data file.

        Raises:
            ResourceFault: One cannot be written.
        """
        indexing = [
            self._pool.submit(writer.index, self._targets[name])
            for writer, (_, _, indices) in zip(self._writers, self._files, strict=True)
            for name in indices
        ]
        for index in indexing:
            index.result()
        return {data: writer.rows for writer, (_, data, _) in zip(self._writers, self._files, strict=True)}
