"""Calls as bedGraph: one base and one value for each, by kind and strand; 0-based half-open."""

from __future__ import annotations

import io
from concurrent.futures import Executor

import polars as pl

from annotator.kinds import STRANDS, Kind, Strand
from annotator.output.formats.base import OutputRun, Target
from annotator.output.formats.lines import LineFile, indexed
from annotator.output.track_files import STRAND_NAMES


class BedGraphFormat:
    """A file for each kind and strand, such as `donor.plus.bedgraph.gz`, compressed and indexed.

    The base of a call is its position (of a promoter its TSS), its value the probability; the value of kind `tfbs` is the BED
    score, 0 to 1000, for most motif hits have no probability. Where several calls of a file share a base, the highest counts,
    since values of bedGraph must not overlap.
    """

    shows_q_values = False

    def __init__(self, options: object = None) -> None:
        """There are no options."""

    def _files(self, run: OutputRun) -> dict[str, tuple[Kind, Strand]]:
        return {
            f"{kind}.{STRAND_NAMES[strand]}.bedgraph.gz": (kind, strand)
            for kind in Kind if kind in run.kinds for strand in STRANDS
        }  # fmt: skip

    def names(self, run: OutputRun) -> dict[str, tuple[str, ...]]:
        """The files of the kinds that the run reports, with their indices."""
        return {name: indexed(name, run) for name in self._files(run)}

    def open(self, name: str, target: Target, run: OutputRun, pool: Executor) -> BedGraphWriter:
        """Begin one of the files."""
        return BedGraphWriter(target, *self._files(run)[name], pool)


class BedGraphWriter(LineFile):
    """One bedGraph file; the base that may still get a higher value waits."""

    def __init__(self, target: Target, kind: Kind, strand: Strand, pool: Executor) -> None:
        """Begin it; it has no header."""
        super().__init__(target, "", pool)
        self._wanted = (pl.col("kind") == kind.value) & (pl.col("strand") == strand.symbol)
        value = pl.col("score").cast(pl.Float64) if kind is Kind.TFBS else pl.col("probability").cast(pl.Float64).round(6)
        self._columns = [pl.col("chrom"), pl.col("position"), value.alias("value")]
        self._waiting: pl.DataFrame | None = None

    def write(self, table: pl.DataFrame) -> None:
        """Append the rows of `table` that belong in this file."""
        found = table.filter(self._wanted).select(self._columns)
        if self._waiting is not None:
            found = pl.concat([self._waiting, found])
        if found.is_empty():
            return
        # Within a kind and strand positions ascend with the rows, so calls on one base follow each other.
        found = found.group_by("chrom", "position", maintain_order=True).agg(pl.col("value").max())
        self._waiting = found.tail(1)
        self._write(found.head(-1))

    def last_lines(self) -> None:
        """Write the base that waits."""
        if self._waiting is not None:
            self._write(self._waiting)

    def _write(self, values: pl.DataFrame) -> None:
        text = io.BytesIO()
        lines = values.select("chrom", "position", (pl.col("position") + 1).alias("end"), "value")
        lines.write_csv(text, separator="\t", include_header=False, quote_style="never")
        self.append(text.getvalue(), lines["chrom"], lines["position"].to_numpy(), lines["end"].to_numpy())
