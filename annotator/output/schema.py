"""The one table schema, and which of its columns stand in which BED file.

Coordinates are 0-based half-open in the table, in Parquet and in BED; the Parquet metadata says so.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import polars as pl

from annotator.kinds import KINDS

SCHEMA_VERSION: Final = "2"
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
        "bits": pl.Float32(),
        "model": pl.String(),
    }
)
"""Column names and types of `predictions.parquet`, in order."""

SORT_KEY_IN_CONTIG: Final = ("start", "end", "kind", "strand", "motif_id", "position")
"""Ascending, nulls first, within one contig; contigs follow the FASTA. As strings "+" sorts before "-"."""

BED6_COLUMNS: Final = ("chrom", "start", "end", "name", "score", "strand")
BED9_COLUMNS: Final = (*BED6_COLUMNS, "thickStart", "thickEnd", "itemRgb")

ITEM_RGB: Final = {
    "promoter": "0,114,178",
    "donor": "230,159,0",
    "acceptor": "204,121,167",
    "feature": "0,0,0",
    "tfbs": "86,180,233",
}
"""Blue, orange, reddish purple, black and sky blue of Okabe and Ito's palette: told apart by colour-blind readers."""


@dataclass(frozen=True, slots=True)
class BedFile:
    """One BED file of a run.

    Attributes:
        name: File name in the results folder.
        kinds: The kinds of call it holds.
        extra_columns: Table columns after the nine standard BED columns.
    """

    name: str
    kinds: tuple[str, ...]
    extra_columns: tuple[str, ...]


BED_FILES: Final = (
    BedFile("promoters.bed.gz", ("promoter",), ("probability", "kind", "model", "position")),
    BedFile("splice_sites.bed.gz", ("acceptor", "donor"), ("probability", "kind", "model", "position")),
    BedFile("tfbs.bed.gz", ("tfbs",), ("motif_id", "p_value", "bits", "kind", "model", "probability")),
    BedFile("features.bed.gz", ("feature",), ("probability", "kind", "model", "position")),
)


def bed_files(kinds: Collection[str]) -> tuple[BedFile, ...]:
    """The BED files of a run that reports `kinds`.

    Args:
        kinds: Names out of `annotator.kinds.Kind`.

    Returns:
        Every file that can hold one of the kinds, in the order of `BED_FILES`.

    Raises:
        ValueError: A kind is unknown.
    """
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise ValueError(f"unknown kinds {unknown}; known are {list(KINDS)}")
    return tuple(file for file in BED_FILES if set(file.kinds) & set(kinds))


def parquet_metadata(tool_version: str) -> dict[str, str]:
    """Key-value metadata of `predictions.parquet`; nothing in it depends on the time, the machine or the run."""
    return {**PART_METADATA, "tool": f"genome-annotator {tool_version}"}
