"""The tracks of a run and their local maxima, merged part by part: one bigWig for each track and strand, and a table; 0-based."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import polars as pl

from annotator.output.formats.base import OutputRun, Target
from annotator.output.formats.bigwig import BigWigWriter
from annotator.output.row_order import Border, RowOrder
from annotator.output.track_files import MAXIMA_FILE, STEPS_IN_1, TrackFile
from annotator.output.track_parts import read_tracks


def track_names(tracks: Sequence[TrackFile]) -> tuple[str, ...]:
    """Names of the files of some tracks, the table of maxima last; none without tracks."""
    return (*(track.file for track in tracks), MAXIMA_FILE) if tracks else ()


class TrackMerge:
    """The files of the tracks while they are written: a context that completes the bigWig files."""

    def __init__(
        self,
        targets: Mapping[str, Target],
        tracks: Sequence[TrackFile],
        run: OutputRun,
        pool: Executor,
        keep: Callable[[pl.DataFrame], None],
        block_rows: int,
        leave_out: Collection[str] = (),
    ) -> None:
        """Begin the files.

        Args:
            targets: Where each is written, by name.
            tracks: What to write.
            run: Contigs.
            pool: Threads that compress.
            keep: Takes the rows of the table, in blocks.
            block_rows: Rows of a block.
            leave_out: Contigs whose values and rows are dropped.
        """
        self._tracks, self._keep = tracks, keep
        self._order = RowOrder(run.contig_names, tuple({track.kind.value for track in tracks}), block_rows, leave_out)
        self._number = {name: number for number, name in enumerate(run.contig_names)}
        self._left_out = np.array([self._number[name] for name in leave_out], np.int64)
        self._writers: dict[int, BigWigWriter] = {}
        with ExitStack() as stack:
            for track in tracks:
                writer = BigWigWriter(targets[track.file], run, pool, STEPS_IN_1)
                self._writers[track.channel] = stack.enter_context(writer)
            self._open = stack.pop_all()

    def take(self, part: Path, sha256: str | None, border: Border | None) -> None:
        """Merge what lies beside the next part.

        Args:
            part: The part.
            sha256: What the journal says of its second channel.
            border: As of `Merge.take`, for the maxima.

        Raises:
            InputError: It is missing or damaged.
            ResourceFault: A file cannot be written.
            ValueError: A row is not in plan order, or of a track that is not written.
        """
        values, maxima = read_tracks(part, sha256)
        channels = values["channel"].to_numpy()
        if unknown := set(np.unique(channels).tolist()) - set(self._writers):
            raise ValueError(f"{part}: values of channels {sorted(unknown)}, which are not written")
        runs = values["chrom"].rle().struct.unnest()
        contig = np.repeat(np.array([self._number[name] for name in runs["value"]], np.int64), runs["len"].to_numpy())
        position, steps = (values[name].to_numpy().astype(np.int64) for name in ("position", "thousandths"))
        kept = ~np.isin(contig, self._left_out)
        for channel, writer in self._writers.items():  # the rows are sorted by channel
            first, end = np.searchsorted(channels, (channel, channel + 1))
            mine = slice(int(first), int(end))
            writer.write(contig[mine][kept[mine]], position[mine][kept[mine]], steps[mine][kept[mine]])
        for block in self._order.add(maxima, border):
            self._keep(block)

    def complete(self) -> dict[str, int]:
        """Complete the files, and give the last rows of the table away.

        Returns:
            Bases with a value in each bigWig, by file name.

        Raises:
            ResourceFault: A file cannot be written.
        """
        for block in self._order.finish():
            self._keep(block)
        self._open.pop_all().close()
        return {track.file: self._writers[track.channel].rows for track in self._tracks}

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Complete the bigWig files; after an error, close them as they are."""
        self._open.pop_all().__exit__(kind, error, trace)
