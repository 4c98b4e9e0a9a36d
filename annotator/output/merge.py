"""From parts to final files: one ordered, bounded-memory concatenation; 0-based half-open throughout.

The final bytes depend on the rows alone, not on how the genome was cut into parts, nor on when each part is at hand: rows are cut
again into blocks of `BLOCK_ROWS`, and each block is one Parquet row group and goes through every format.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import polars as pl

from annotator.files import atomic_files, file_sha256, temporary_folder, write_faults
from annotator.output.formats.base import Format, OutputRun, Target
from annotator.output.formats.bed import refuse_unwritable_names
from annotator.output.formats.write import FormatFiles, format_names
from annotator.output.parts import PartInfo, read_part
from annotator.output.q_values import HitCounts, with_q_values
from annotator.output.row_order import Border, RowOrder, borders_of
from annotator.output.schema import PREDICTIONS_FILE, TABLE_SCHEMA, parquet_metadata
from annotator.output.track_files import MAXIMA_FILE, TrackFile
from annotator.output.track_parts import read_first_maximum
from annotator.output.tracks import TrackMerge, track_names

BLOCK_ROWS: Final = 1 << 17


def final_names(run: OutputRun, formats: Sequence[Format], tracks: Sequence[TrackFile] = ()) -> tuple[str, ...]:
    """Names of the files that a merge writes: predictions.parquet, those of the formats, each with its indices, the tracks."""
    return PREDICTIONS_FILE, *format_names(run, formats), *track_names(tracks)


class Merge:
    """The final files of a run while they are written: a context; all appear together at the end of `finish`, or none.

    `take` gets the parts in plan order, as soon as each is there: while shards are still computed, or when all are done. It may
    be called in another thread than the rest, never at the same time.

    Notes:
        Holds one part, two blocks as text and the rows that wait at a border; disk: the final files and, for the time of the
        merge, the rows once more in `.tmp-*` pieces.
    """

    def __init__(
        self,
        out_dir: Path,
        *,
        run: OutputRun,
        formats: Sequence[Format],
        tool_version: str,
        threads: int = 1,
        leave_out: Collection[str] = (),
        block_rows: int = BLOCK_ROWS,
        text_names: Sequence[str] = (),
        has_hits: bool = False,
        scratch: Path | None = None,
        tracks: Sequence[TrackFile] = (),
    ) -> None:
        """Begin the files under temporary names.

        Args:
            out_dir: The results folder; it exists.
            run: Contigs, and the kinds that the run reports.
            formats: What to write beside predictions.parquet.
            tool_version: Goes into the Parquet metadata.
            threads: How many compress and index; the bytes do not depend on it.
            leave_out: Contigs whose rows are dropped, because some of theirs are missing.
            block_rows: Rows of a Parquet row group. Another number gives other bytes, so leave it outside tests.
            text_names: Names of further files that appear together with the others.
            has_hits: Whether motif hits are to get q-values; formats that show them are written when all parts are there.
            scratch: Folder for the temporary names, on the disk of `out_dir`; None for `out_dir` itself.
            tracks: Tracks that lie beside the parts.

        Raises:
            InputError: A contig name cannot stand in a text file such as BED.
            ResourceFault: A file cannot be written.
        """
        refuse_unwritable_names(run.contig_names)
        self._out_dir, self._run, self._block_rows, self._tool_version = out_dir, run, block_rows, tool_version
        self._order = RowOrder(run.contig_names, run.kinds, block_rows, leave_out)
        self._late = [form for form in formats if has_hits and form.shows_q_values]
        self._hits = HitCounts()
        names = (*final_names(run, formats, tracks), *text_names)
        with ExitStack() as stack:
            folder = stack.enter_context(temporary_folder(scratch or out_dir))
            temporaries = stack.enter_context(atomic_files([out_dir / name for name in names], scratch))
            # Inside the temporaries: after a failure no thread may still write while they are removed.
            self._pool = stack.enter_context(ThreadPoolExecutor(threads))
            self._at = dict(zip(names, temporaries, strict=True))
            self._pieces = _Pieces(folder, out_dir / PREDICTIONS_FILE)
            early = [form for form in formats if form not in self._late]
            self._early = stack.enter_context(FormatFiles(out_dir, self._at, run, early, self._pool))
            self._tracks = self._maxima = None
            if tracks:
                self._maxima = _Pieces(stack.enter_context(temporary_folder(scratch or out_dir)), out_dir / MAXIMA_FILE)
                targets = {name: Target(path, out_dir / name) for name, path in self._at.items()}
                merging = TrackMerge(targets, tracks, run, self._pool, self._maxima.keep, block_rows, leave_out)
                self._tracks = stack.enter_context(merging)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Remove what was written, unless `finish` has put it in its place."""
        self.close()

    def close(self) -> None:
        """Remove what was written, unless `finish` has put it in its place; harmless a second time."""
        unfinished = _Unfinished()
        self._stack.pop_all().__exit__(_Unfinished, unfinished, None)

    def take(
        self,
        path: Path,
        expected: PartInfo | None = None,
        border: Border | None = None,
        maxima_border: Border | None = None,
    ) -> None:
        """Merge the next part.

        Args:
            path: The part.
            expected: What the journal says of it.
            border: Contig and smallest start that any later part may have; None where later parts lie on later contigs.
            maxima_border: The same of the maxima beside the parts, where there are tracks.

        Raises:
            InputError: The part is missing or damaged.
            ResourceFault: A file cannot be written.
            ValueError: It is not the one of `expected`, not in plan order, names an unknown contig, or holds a kind that is not
                in `run.kinds`.
        """
        self.take_rows(read_part(path, expected), border)
        if self._tracks is not None:
            self._tracks.take(path, expected.tracks_sha256 if expected else None, maxima_border)

    def take_rows(self, rows: pl.DataFrame, border: Border | None = None) -> None:
        """Merge rows that are at hand: arguments and errors as of `take`, of a part that holds `rows`."""
        for block in self._order.add(rows, border):
            self._keep(block)

    def take_all(
        self, parts: Sequence[Path], expected: Sequence[PartInfo] | None = None, tick: Callable[[], None] | None = None
    ) -> None:
        """Merge all parts of a run.

        Args:
            parts: Parts in plan order: the shards follow each other along the contigs, and the contigs follow the FASTA.
            expected: What the journal says of each.
            tick: Called again and again; what it raises ends the merge.

        Raises:
            InputError: As of `take`.
            ResourceFault: As of `take`.
            ValueError: As of `take`.
        """
        if expected is not None and len(expected) != len(parts):
            raise ValueError(f"{len(parts)} parts, but {len(expected)} in the journal")
        maxima = repeat(None) if self._tracks is None else borders_of(parts, read_first_maximum)
        for path, info, *borders in zip(parts, expected or repeat(None), borders_of(parts), maxima, strict=False):
            if tick:
                tick()
            self.take(path, info, *borders)

    def _keep(self, block: pl.DataFrame) -> None:
        self._pieces.keep(block)
        self._hits.add(block)
        self._early.write(block)

    def finish(
        self, texts: Mapping[str, str], tests: Mapping[str, int] | None = None, tick: Callable[[], None] | None = None
    ) -> dict[str, PartInfo]:
        """Complete the files after the last part, and give them their names.

        Args:
            texts: Contents of the files of `text_names`.
            tests: By matrix id, how many windows were compared with the motif: with it hits get q-values.
            tick: Called again and again; what it raises ends the merge, and no file appears.

        Returns:
            File name -> rows and sha256, for every file; what holds no calls counts 0 rows.

        Raises:
            ResourceFault: A file cannot be written.
            ValueError: A hit's motif is not in `tests`, or a motif has more hits than tests.
        """
        with self._stack.pop_all():
            for block in self._order.finish():
                self._keep(block)
            for name, text in texts.items():
                with write_faults(self._out_dir / name):
                    self._at[name].write_text(text, encoding="utf-8")
            late = FormatFiles(self._out_dir, self._at, self._run, self._late, self._pool)
            with late:
                if tests:
                    for block in self._pieces.with_q_values(self._hits.q_values(tests), tick):
                        late.write(block)
                elif self._late:
                    for block in self._pieces.read(tick):
                        late.write(block)
            if tick:
                tick()
            self._early.complete()
            rows = self._early.index() | late.index() | {PREDICTIONS_FILE: self._pieces.rows}
            self._pieces.join(self._at[PREDICTIONS_FILE], self._block_rows, self._tool_version)
            if self._tracks is not None and self._maxima is not None:
                rows |= self._tracks.complete() | {MAXIMA_FILE: self._maxima.rows}
                self._maxima.join(self._at[MAXIMA_FILE], self._block_rows, self._tool_version)
            hashes = self._pool.map(file_sha256, self._at.values())
            return {name: PartInfo(rows.get(name, 0), sha256) for name, sha256 in zip(self._at, hashes, strict=True)}


class _Unfinished(Exception):
    """What a merge that is closed before its end leaves its files with."""


class _Pieces:
    """The blocks of predictions.parquet, each a file of its own until all are there.

    Attributes:
        rows: Calls kept so far.
    """

    def __init__(self, scratch: Path, final: Path) -> None:
        """Pieces go into the folder `scratch`; errors name `final`."""
        self.rows = 0
        self._scratch, self._final = scratch, final
        self._paths: list[Path] = []

    def keep(self, block: pl.DataFrame) -> None:
        """Write the next block as a piece."""
        self._paths.append(self._scratch / f"{len(self._paths):08d}.parquet")
        self._write(block, self._paths[-1])
        self.rows += block.height

    def _write(self, block: pl.DataFrame, path: Path) -> None:
        with write_faults(self._final):
            block.write_parquet(path, compression="lz4")

    def read(self, tick: Callable[[], None] | None) -> Iterator[pl.DataFrame]:
        """The blocks that were kept."""
        for path in self._paths:
            if tick:
                tick()
            with write_faults(self._final), path.open("rb") as file:
                block = pl.read_parquet(file)
            yield block

    def with_q_values(self, table: pl.DataFrame, tick: Callable[[], None] | None) -> Iterator[pl.DataFrame]:
        """The blocks that were kept, each once its hits have the q-values of `table`, in its piece too."""
        for path, block in zip(self._paths, with_q_values(self.read(tick), table), strict=True):
            self._write(block, path)
            yield block

    def join(self, path: Path, block_rows: int, tool_version: str) -> None:
        """Stream the pieces into one Parquet file, one row group each."""
        with write_faults(self._final):
            if self._paths:
                # A results folder may be called "sample=1" or "run[2]": neither a hive key nor a glob pattern here.
                table = pl.scan_parquet(self._paths, glob=False, hive_partitioning=False)
            else:
                table = TABLE_SCHEMA.to_frame().lazy()
            table.sink_parquet(
                path,
                compression="zstd",
                compression_level=3,
                row_group_size=block_rows,
                maintain_order=True,
                metadata=parquet_metadata(tool_version),
            )
