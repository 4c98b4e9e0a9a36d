"""The q-values of a run's motif hits: counted over all blocks, then put beside the p-values block by block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import numpy as np
import polars as pl

from annotator.motifs.q_values import q_values
from annotator.output.schema import TABLE_SCHEMA

_KEY: Final = ["motif_id", "p_value"]


class HitCounts:
    """How many hits each motif has with each p-value: a row for each, of which a motif has at most as many as it has scores."""

    def __init__(self) -> None:
        """No hits."""
        self._counted = pl.DataFrame(schema={"motif_id": pl.String, "p_value": pl.Float64, "hits": pl.Int64})

    def add(self, block: pl.DataFrame) -> None:
        """Count the hits of a table of `TABLE_SCHEMA`."""
        hits = block.filter(pl.col("motif_id").is_not_null() & pl.col("p_value").is_not_null())
        if hits.height:
            here = hits.group_by(_KEY).agg(pl.len().cast(pl.Int64).alias("hits"))
            self._counted = pl.concat([self._counted, here]).group_by(_KEY).agg(pl.col("hits").sum())

    def q_values(self, tests: Mapping[str, int]) -> pl.DataFrame:
        """The q-value of every p-value that a motif's hits have.

        Args:
            tests: By matrix id, how many windows were compared with the motif.

        Returns:
            Columns motif_id, p_value and q_value, each pair of the first two once.

        Raises:
            ValueError: A hit's motif is not in `tests`, or a motif has more hits than tests.
        """
        counted = self._counted.sort(_KEY)
        q = np.empty(counted.height)
        end = 0
        for motif_id, length in counted["motif_id"].rle().struct.unnest().select("value", "len").iter_rows():
            if motif_id not in tests:
                raise ValueError(f"the parts hold hits of {motif_id}, which the run does not scan for")
            start, end = end, end + length
            p, hits = counted["p_value"][start:end].to_numpy(), counted["hits"][start:end].to_numpy()
            q[start:end] = q_values(p, hits, tests[motif_id])
        return counted.select(*_KEY, pl.Series("q_value", q))


def with_q_values(blocks: Iterable[pl.DataFrame], table: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The blocks with the q-value of each hit filled in.

    Args:
        blocks: Tables of `TABLE_SCHEMA`.
        table: The q-values of all of their hits, as `HitCounts` gives them.
    """
    for block in blocks:
        filled = block.drop("q_value").join(table, on=_KEY, how="left", maintain_order="left")
        yield filled.select(list(TABLE_SCHEMA))
