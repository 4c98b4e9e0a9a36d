"""The order of rows in the final files, from parts that come one after the other; 0-based half-open throughout.

Parts follow the plan, and so do their rows but for a few at the borders: a promoter may begin before the shard that calls it.
Rows that a later part may still come before wait.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import polars as pl

from annotator.output.parts import read_first_row
from annotator.output.schema import SORT_KEY_IN_CONTIG

Border = tuple[str, int]
"""(contig, smallest start that a later part may still have on it)."""


class RowOrder:
    """Puts the rows of parts into the order of the final files, cut into blocks of one size.

    Holds one part, one block and the rows that wait at a border.
    """

    def __init__(
        self, contig_names: Sequence[str], kinds: Collection[str], block_rows: int, leave_out: Collection[str] = ()
    ) -> None:
        """No rows yet.

        Args:
            contig_names: Names of all contigs, in FASTA order.
            kinds: Kinds of call that the run reports.
            block_rows: Rows of every block but the last.
            leave_out: Contigs whose rows are dropped.
        """
        self._kinds, self._block_rows, self._leave_out = kinds, block_rows, leave_out
        self._names = iter(contig_names)
        self._contig, self._start = "", 0
        self._waiting: pl.DataFrame | None = None
        self._border: Border | None = None
        self._pending: list[pl.DataFrame] = []
        self._rows = 0

    def add(self, part: pl.DataFrame, border: Border | None) -> Iterator[pl.DataFrame]:
        """Take in the next part.

        Args:
            part: Its rows, sorted.
            border: Contig and smallest start that any later part may have; None where later parts lie on later contigs.

        Yields:
            Blocks that are complete with it.

        Raises:
            ValueError: A row comes before one that was given out, is on a contig that is unknown or out of order, or of a kind
                that the run does not report.
        """
        if part.is_empty():
            return
        if self._border is not None and part["chrom"][0] == self._border[0] and part["start"][0] < self._border[1]:
            raise ValueError(f"contig {self._border[0]!r}: the parts are not in plan order")
        if self._waiting is not None:
            part = _interleave(self._waiting, part)
            self._waiting = None
        self._border = border
        if border is not None and border[0] == part["chrom"][-1]:
            waits = (part["chrom"] == border[0]) & (part["start"] >= border[1])
            cut = part.height - int(waits.sum())  # the part is sorted, so they are its last rows
            self._waiting = part.slice(cut) if cut < part.height else None
            part = part.slice(0, cut)
        yield from self._blocks(part)

    def finish(self) -> Iterator[pl.DataFrame]:
        """The blocks that are left; the last may be shorter, and none is empty."""
        if self._waiting is not None:
            yield from self._blocks(self._waiting)
        if self._rows:
            yield self._checked(pl.concat(self._pending, rechunk=True))

    def _blocks(self, rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
        if self._leave_out:
            dropped = pl.Series(list(self._leave_out), dtype=pl.String).implode()
            rows = rows.filter(~pl.col("chrom").is_in(dropped))
        if not rows.height:
            return
        self._pending.append(rows)
        self._rows += rows.height
        if self._rows < self._block_rows:
            return
        joined = pl.concat(self._pending)
        whole = self._rows - self._rows % self._block_rows
        for start in range(0, whole, self._block_rows):
            yield self._checked(joined.slice(start, self._block_rows).rechunk())
        self._rows -= whole
        self._pending = [joined.slice(whole).rechunk()] if self._rows else []

    def _checked(self, block: pl.DataFrame) -> pl.DataFrame:
        """The block, once it is sure that contigs follow the FASTA, starts ascend, and only wanted kinds are there."""
        unwanted = set(block["kind"].unique()) - set(self._kinds)
        if unwanted:
            raise ValueError(f"the parts hold {sorted(unwanted)}; the run reports {sorted(self._kinds)}")
        before = block.select(pl.col("chrom").shift(fill_value=self._contig), pl.col("start").shift(fill_value=self._start))
        falls = (block["chrom"] == before["chrom"]) & (block["start"] < before["start"])
        if falls.any():
            raise ValueError(f"contig {block['chrom'].filter(falls)[0]!r}: the parts are not in plan order")
        for following in block["chrom"].rle().struct.field("value"):
            # Both lists have one order: the names that the search passes over are contigs without calls.
            if following != self._contig and following not in self._names:
                raise ValueError(f"contig {following!r} is unknown, or its rows are not in FASTA order")
            self._contig = following
        self._start = block["start"][-1]
        return block


def borders_of(parts: Sequence[Path], first_row: Callable[[Path], Border | None] = read_first_row) -> list[Border | None]:
    """For each of all parts: the contig on which the next part with rows begins, and the smallest start still to come there.

    Args:
        parts: Parts in plan order.
        first_row: Reads contig and start of a part's first row; None where it has none.

    Raises:
        InputError: A part is missing or damaged.
    """
    borders: list[Border | None] = [None] * len(parts)
    coming: Border | None = None
    for number in range(len(parts) - 1, -1, -1):
        borders[number] = coming
        first = first_row(parts[number])
        if first is not None:
            # A contig may go on for several parts, and a tiny one among them may begin after the one that follows it.
            coming = min(first, coming) if coming is not None and coming[0] == first[0] else first
    return borders


def _interleave(waiting: pl.DataFrame, part: pl.DataFrame) -> pl.DataFrame:
    """`waiting`, rows of one contig, and `part`, which begins on it or on a later one, as one sorted frame."""
    contig, last = waiting["chrom"][0], waiting["start"][-1]
    mixed = int(((part["chrom"] == contig) & (part["start"] <= last)).sum())
    head = pl.concat([waiting, part.slice(0, mixed)]).sort(SORT_KEY_IN_CONTIG, nulls_last=False, maintain_order=True)
    return pl.concat([head, part.slice(mixed)])
