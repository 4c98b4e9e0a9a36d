"""The q-values of a run's motif hits: counted over all parts, then put beside the p-values block by block."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from annotator.motifs.q_values import q_values
from annotator.output.parts import read_part_hits
from annotator.output.schema import TABLE_SCHEMA


def q_value_table(parts: Sequence[Path], tests: Mapping[str, int], leave_out: Collection[str] = ()) -> pl.DataFrame:
    """The q-value of every p-value that a motif's hits have.

    Args:
        parts: All parts of the run, in any order.
        tests: By matrix id, how many windows were compared with the motif.
        leave_out: Contigs whose rows the run does not report.

    Returns:
        Columns motif_id, p_value and q_value, each pair of the first two once.

    Raises:
        InputError: A part is missing or damaged.
        ValueError: A hit's motif is not in `tests`, or a motif has more hits than tests.

    Notes:
        Holds the hits of one part and a row for each distinct p-value of a motif, of which there are at most as many as it has
        scores above the threshold.
    """
    key = ["motif_id", "p_value"]
    counted = pl.DataFrame(schema={"motif_id": pl.String, "p_value": pl.Float64, "hits": pl.Int64})
    dropped = pl.Series(list(leave_out), dtype=pl.String).implode()
    for path in parts:
        hits = read_part_hits(path).filter(~pl.col("chrom").is_in(dropped))
        here = hits.group_by(key).agg(pl.len().cast(pl.Int64).alias("hits"))
        counted = pl.concat([counted, here]).group_by(key).agg(pl.col("hits").sum())
    counted = counted.sort(key)
    q = np.empty(counted.height)
    end = 0
    for motif_id, length in counted["motif_id"].rle().struct.unnest().select("value", "len").iter_rows():
        if motif_id not in tests:
            raise ValueError(f"the parts hold hits of {motif_id}, which the run does not scan for")
        start, end = end, end + length
        q[start:end] = q_values(counted["p_value"][start:end].to_numpy(), counted["hits"][start:end].to_numpy(), tests[motif_id])
    return counted.select(*key, pl.Series("q_value", q))


def with_q_values(blocks: Iterable[pl.DataFrame], table: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The blocks with the q-value of each hit filled in.

    Args:
        blocks: Tables of `TABLE_SCHEMA`.
        table: A result of `q_value_table` over all of their rows.
    """
    for block in blocks:
        filled = block.drop("q_value").join(table, on=["motif_id", "p_value"], how="left", maintain_order="left")
        yield filled.select(list(TABLE_SCHEMA))
