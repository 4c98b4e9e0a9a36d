"""From parts to final files: one ordered, bounded-memory concatenation; 0-based half-open throughout.

The final bytes depend on the rows alone, not on how the genome was cut into parts: rows are cut again into blocks of
`BLOCK_ROWS`, and each block is one Parquet row group and goes through every format.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import polars as pl

from annotator.files import atomic_files, file_sha256, temporary_folder, write_faults
from annotator.output.formats.base import Format, OutputRun
from annotator.output.formats.bed import refuse_unwritable_names
from annotator.output.formats.write import fill_formats, format_names
from annotator.output.parts import PartInfo, read_first_row, read_part
from annotator.output.q_values import q_value_table, with_q_values
from annotator.output.schema import PREDICTIONS_FILE, SORT_KEY_IN_CONTIG, TABLE_SCHEMA, parquet_metadata

BLOCK_ROWS: Final = 1 << 17

Border = tuple[str, int]
"""(contig, smallest start that a later part still has on it)."""


def final_names(run: OutputRun, formats: Sequence[Format]) -> tuple[str, ...]:
    """Names of the files `merge_parts` writes: the Parquet file, then those of the formats, each followed by its indices."""
    return PREDICTIONS_FILE, *format_names(run, formats)


def merge_parts(
    parts: Sequence[Path],
    out_dir: Path,
    *,
    run: OutputRun,
    formats: Sequence[Format],
    tool_version: str,
    expected: Sequence[PartInfo] | None = None,
    threads: int = 1,
    leave_out: Collection[str] = (),
    tick: Callable[[], None] | None = None,
    block_rows: int = BLOCK_ROWS,
    texts: Mapping[str, str] | None = None,
    tests: Mapping[str, int] | None = None,
) -> dict[str, PartInfo]:
    """Write the final files of a run; all appear together, or none.

    Args:
        parts: Parts in plan order: the shards follow each other along the contigs, and the contigs follow the FASTA.
        out_dir: The results folder; it exists.
        run: Contigs, and the kinds that the run reports.
        formats: What to write beside predictions.parquet.
        tool_version: Goes into the Parquet metadata.
        expected: What the journal says of each part, in the order of `parts`.
        threads: How many compress and index; the bytes do not depend on it.
        leave_out: Contigs whose rows are dropped, because some of theirs are missing.
        tick: Called again and again; what it raises ends the merge, and no file appears.
        block_rows: Rows of a Parquet row group. Another number gives other bytes, so leave it outside tests.
        texts: Further files that appear together with the others: their contents by name.
        tests: By matrix id, how many windows were compared with the motif: with it hits get q-values.

    Returns:
        File name -> rows and sha256, for every name of `final_names` and of `texts`; what holds no calls counts 0 rows.

    Raises:
        InputError: A part is missing or damaged, or a contig name cannot stand in a text file such as BED.
        ResourceFault: A file cannot be written.
        ValueError: The parts are not those of `expected`, not in plan order, name an unknown contig, or hold a kind that is
            not in `run.kinds`.

    Notes:
        Where hits get q-values, the parts are read twice: first to count. Holds one part, one block and the rows that wait at
        a border; disk: the final files and, for the time of the merge, the rows once more in `.tmp-*` pieces.
    """
    if expected is not None and len(expected) != len(parts):
        raise ValueError(f"{len(parts)} parts, but {len(expected)} in the journal")
    refuse_unwritable_names(run.contig_names)
    texts = texts or {}
    names = (*final_names(run, formats), *texts)
    rows_in_order = _without(_ordered(parts, expected), leave_out)
    blocks = _checked(_blocks(rows_in_order, block_rows), run.contig_names, run.kinds)
    if tests:
        blocks = with_q_values(blocks, q_value_table(parts, tests, leave_out))
    with (
        temporary_folder(out_dir) as scratch,
        atomic_files([out_dir / name for name in names]) as temporaries,
        # Innermost: after a failure no thread may still write while the temporaries are removed.
        ThreadPoolExecutor(threads) as pool,
    ):
        at = dict(zip(names, temporaries, strict=True))
        for name, text in texts.items():
            with write_faults(out_dir / name):
                at[name].write_text(text, encoding="utf-8")
        pieces = _Pieces(scratch, out_dir / PREDICTIONS_FILE)
        rows = fill_formats(pieces.keep(blocks, tick), out_dir, at, run, formats, pool)
        pieces.join(at[PREDICTIONS_FILE], block_rows, tool_version)
        rows[PREDICTIONS_FILE] = pieces.rows
        return {name: PartInfo(rows.get(name, 0), file_sha256(at[name])) for name in names}


class _Pieces:
    """The blocks of predictions.parquet, each a file of its own until all are there.

    Attributes:
        rows: Calls kept so far.
    """

    def __init__(self, scratch: Path, final: Path) -> None:
        """Pieces go into the folder `scratch`; errors name `final`."""
        self.rows = 0
        self._scratch, self._final = scratch, final

    def keep(self, blocks: Iterable[pl.DataFrame], tick: Callable[[], None] | None) -> Iterator[pl.DataFrame]:
        """The blocks, each once it is written as a piece."""
        for number, block in enumerate(blocks):
            if tick:
                tick()
            with write_faults(self._final):
                block.write_parquet(self._scratch / f"{number:08d}.parquet", compression="lz4")
            self.rows += block.height
            yield block

    def join(self, path: Path, block_rows: int, tool_version: str) -> None:
        """Stream the pieces into one Parquet file, one row group each."""
        with write_faults(self._final):
            pieces = sorted(self._scratch.iterdir())
            if pieces:
                # A results folder may be called "sample=1" or "run[2]": neither a hive key nor a glob pattern here.
                table = pl.scan_parquet(pieces, glob=False, hive_partitioning=False)
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


def _ordered(parts: Sequence[Path], expected: Sequence[PartInfo] | None) -> Iterator[pl.DataFrame]:
    """All rows in the order of the final files, in frames as large as a part."""
    borders = _borders(parts)
    waiting: pl.DataFrame | None = None
    for number, path in enumerate(parts):
        part = read_part(path, expected[number] if expected is not None else None)
        if part.is_empty():
            continue
        if waiting is not None:
            part = _interleave(waiting, part)
            waiting = None
        border = borders[number]
        if border is not None and border[0] == part["chrom"][-1]:
            waits = (part["chrom"] == border[0]) & (part["start"] >= border[1])
            cut = part.height - int(waits.sum())  # the part is sorted, so they are its last rows
            waiting = part.slice(cut) if cut < part.height else None
            part = part.slice(0, cut)
        yield part


def _without(frames: Iterable[pl.DataFrame], contigs: Collection[str]) -> Iterator[pl.DataFrame]:
    """The frames without the rows of these contigs, and without frames that have no other."""
    dropped = pl.Series(list(contigs), dtype=pl.String).implode()
    for frame in frames:
        kept = frame.filter(~pl.col("chrom").is_in(dropped)) if contigs else frame
        if kept.height:
            yield kept


def _borders(parts: Sequence[Path]) -> list[Border | None]:
    """For each part: the contig on which the next part with rows begins, and the smallest start still to come there."""
    borders: list[Border | None] = [None] * len(parts)
    coming: Border | None = None
    for number in range(len(parts) - 1, -1, -1):
        borders[number] = coming
        first = read_first_row(parts[number])
        if first is not None:
            # A contig may go on for several parts, and a tiny one among them may begin after the one that follows it.
            coming = min(first, coming) if coming is not None and coming[0] == first[0] else first
    return borders


def _interleave(waiting: pl.DataFrame, part: pl.DataFrame) -> pl.DataFrame:
    """`waiting`, rows of one contig, and `part`, which begins on it, as one sorted frame."""
    contig, last = waiting["chrom"][0], waiting["start"][-1]
    mixed = int(((part["chrom"] == contig) & (part["start"] <= last)).sum())
    head = pl.concat([waiting, part.slice(0, mixed)]).sort(SORT_KEY_IN_CONTIG, nulls_last=False, maintain_order=True)
    return pl.concat([head, part.slice(mixed)])


def _blocks(frames: Iterable[pl.DataFrame], block_rows: int) -> Iterator[pl.DataFrame]:
    """The same rows in frames of exactly `block_rows`; only the last may be shorter, and none is empty."""
    pending: list[pl.DataFrame] = []
    rows = 0
    for frame in frames:
        pending.append(frame)
        rows += frame.height
        if rows < block_rows:
            continue
        joined = pl.concat(pending)
        whole = rows - rows % block_rows
        for start in range(0, whole, block_rows):
            yield joined.slice(start, block_rows).rechunk()
        pending, rows = [joined.slice(whole)], rows - whole
    if rows:
        yield pl.concat(pending, rechunk=True)


def _checked(blocks: Iterable[pl.DataFrame], contig_names: Sequence[str], kinds: Collection[str]) -> Iterator[pl.DataFrame]:
    """The blocks, once it is sure that contigs follow the FASTA, starts ascend, and only wanted kinds are there."""
    names = iter(contig_names)
    contig, start = "", 0
    for block in blocks:
        unwanted = set(block["kind"].unique()) - set(kinds)
        if unwanted:
            raise ValueError(f"the parts hold {sorted(unwanted)}; the run reports {sorted(kinds)}")
        before = block.select(pl.col("chrom").shift(fill_value=contig), pl.col("start").shift(fill_value=start))
        falls = (block["chrom"] == before["chrom"]) & (block["start"] < before["start"])
        if falls.any():
            raise ValueError(f"contig {block['chrom'].filter(falls)[0]!r}: the parts are not in plan order")
        for following in block["chrom"].rle().struct.field("value"):
            # Both lists have one order: the names that the search passes over are contigs without calls.
            if following != contig and following not in names:
                raise ValueError(f"contig {following!r} is unknown, or its rows are not in FASTA order")
            contig = following
        start = block["start"][-1]
        yield block
