"""The one table schema.

Coordinates are 0-based half-open in the table and in Parquet; the Parquet metadata says so.
"""

from __future__ import annotations

from typing import Final

import polars as pl

SCHEMA_VERSION: Final = "3"
COORDINATE_SYSTEM: Final = "0-based-half-open"
PREDICTIONS_FILE: Final = "predictions.parquet"

PART_METADATA: Final = {"coordinate_system": COORDINATE_SYSTEM, "schema_version": SCHEMA_VERSION}

TABLE_SCHEMA: Final = pl.Schema(
    {
        "chrom": pl.String(),
        "start": pl.Int64(),
        "end": pl.Int64(),
        "kind": pl.String(),
        "strand": pl.String(),
        "probability": pl.Float32(),
        "score": pl.UInt16(),
        "position": pl.Int64(),
        "name": pl.String(),
        "motif_id": pl.String(),
        "p_value": pl.Float64(),
        "q_value": pl.Float64(),
        "bits": pl.Float32(),
        "model": pl.String(),
    }
)
"""Column names and types of `predictions.parquet`, in order; in a part every q_value is null, for it takes all parts to tell."""

SORT_KEY_IN_CONTIG: Final = ("start", "end", "kind", "strand", "motif_id", "position")
"""Ascending, nulls first, within one contig; contigs follow the FASTA. As strings "+" sorts before "-"."""


def parquet_metadata(tool_version: str) -> dict[str, str]:
    """Key-value metadata of `predictions.parquet`; nothing in it depends on the time, the machine or the run."""
    return {**PART_METADATA, "tool": f"genome-annotator {tool_version}"}
