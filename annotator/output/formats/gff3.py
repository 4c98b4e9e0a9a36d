"""Calls as GFF3 with terms of the Sequence Ontology; the text is 1-based and includes both ends, tables are 0-based half-open.

Specification: Sequence Ontology, GFF3 1.26.
"""

from __future__ import annotations

import io
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import Final

import numpy as np
import polars as pl

from annotator.kinds import KINDS
from annotator.output.formats.base import OutputRun, Target
from annotator.output.formats.bed import significant_digits
from annotator.output.formats.lines import LineFile, indexed
from annotator.output.formats.tabix import GFF_TEXT

logger = logging.getLogger(__name__)

GFF3_FILE: Final = "calls.gff3.gz"
MOST_REGIONS: Final = 100_000
"""Contigs that have a line `##sequence-region` at the most; readers go through all of them before the first call."""
_SOURCE: Final = "annotator"
_NO_SEQID = re.compile(rb"[^a-zA-Z0-9.:^*$@!+_?|-]")
_NO_VALUE = re.compile(rb"[\x00-\x1f\x7f%;=&,]")
_TERM: Final = {kind.value: kind.row.so_term for kind in KINDS}


def escaped_seqid(name: str) -> str:
    """A contig's name as the first column of GFF3 spells it: other bytes than the specification allows become %XX."""
    return _NO_SEQID.sub(_percent, name.encode()).decode()


def escaped_value(text: str) -> str:
    """A text as the value of an attribute."""
    return _NO_VALUE.sub(_percent, text.encode()).decode()


def _percent(found: re.Match[bytes]) -> bytes:
    return b"%%%02X" % found[0][0]


class Gff3Format:
    """One file `calls.gff3.gz` with every call, compressed and indexed."""

    shows_q_values = True

    def __init__(self, options: object = None) -> None:
        """There are no options."""

    def names(self, run: OutputRun) -> dict[str, tuple[str, ...]]:
        """The file and its indices."""
        return {GFF3_FILE: indexed(GFF3_FILE, run)}

    def open(self, name: str, target: Target, run: OutputRun, pool: Executor) -> Gff3Writer:
        """Begin the file with its directives."""
        contigs = [(name, int(length)) for name, length in zip(run.contig_names, run.contig_lengths, strict=True) if length > 0]
        if len(contigs) > MOST_REGIONS:
            logger.info("%s: only the first %s of %s contigs have a sequence-region line", name, MOST_REGIONS, len(contigs))
        return Gff3Writer(target, contigs[:MOST_REGIONS], pool)


class Gff3Writer(LineFile):
    """The file while it is written; ids count the calls of each kind."""

    def __init__(self, target: Target, contigs: Iterable[tuple[str, int]], pool: Executor) -> None:
        """Begin it; `contigs` are names and lengths for the directives."""
        regions = (f"##sequence-region {escaped_seqid(name)} 1 {length}\n" for name, length in contigs)
        super().__init__(target, "##gff-version 3\n" + "".join(regions), pool, GFF_TEXT)
        self._numbers: Counter[str] = Counter()

    def write(self, table: pl.DataFrame) -> None:
        """Append calls."""
        contig = _changed(table["chrom"], escaped_seqid)
        lines = table.select(
            contig,
            pl.lit(_SOURCE).alias("source"),
            pl.col("kind").replace_strict(_TERM, return_dtype=pl.String).alias("type"),
            pl.col("start") + 1,
            "end",
            "score",
            "strand",
            pl.lit(".").alias("phase"),
            pl.concat_str(self._attributes(table), separator=";", ignore_nulls=True).alias("attributes"),
        )
        text = io.BytesIO()
        lines.write_csv(text, separator="\t", include_header=False, quote_style="never", null_value=".")
        self.append(text.getvalue(), contig, table["start"].to_numpy(), table["end"].to_numpy())

    def _attributes(self, table: pl.DataFrame) -> list[pl.Expr]:
        """Expressions of `tag=value`; null where a call has no such value."""
        numbers = np.empty(table.height, np.int64)
        for kind in table["kind"].unique().to_list():
            mine = np.flatnonzero((table["kind"] == kind).to_numpy())
            numbers[mine] = self._numbers[kind] + 1 + np.arange(len(mine))
            self._numbers[kind] += len(mine)
        probability = pl.col("probability").cast(pl.Decimal(18, 6)).cast(pl.String)
        return [
            pl.format("ID={}{}", pl.col("kind"), pl.Series(numbers)),
            pl.format("Name={}", _changed(table["name"], escaped_value)),
            pl.format("prob={}", probability),
            pl.format("position={}", pl.col("position") + 1),
            pl.format("motif_id={}", _changed(table["motif_id"], escaped_value)),
            pl.format("p_value={}", significant_digits("p_value", table)),
            pl.format("q_value={}", significant_digits("q_value", table)),
            pl.format("bits={}", pl.col("bits").cast(pl.Decimal(18, 4)).cast(pl.String)),
            pl.format("model={}", _changed(table["model"], escaped_value)),
        ]


def _changed(texts: pl.Series, change: Callable[[str], str]) -> pl.Series:
    """A column of texts, each changed; there are few different ones."""
    known = texts.drop_nulls().unique()
    new = pl.Series([change(text) for text in known], dtype=pl.String)
    return texts.replace_strict(known, new, default=None, return_dtype=pl.String)
