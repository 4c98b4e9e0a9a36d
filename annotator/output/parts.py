"""Parts: the immutable Parquet files of a run, one per shard; 0-based half-open."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import polars as pl

from annotator.errors import InputError
from annotator.files import atomic_file
from annotator.output.schema import PART_METADATA, TABLE_SCHEMA

PROFILES, TESTED = "profiles", "tested"
"""Keys of the texts in a part's metadata."""


@dataclass(frozen=True, slots=True)
class PartInfo:
    """What the journal keeps of a written file.

    Attributes:
        rows: Number of calls in it; 0 for an index.
        sha256: Hex sha256 of its bytes.
        tracks_sha256: Hex sha256 of the tracks beside a part; empty where there are none.
    """

    rows: int
    sha256: str
    tracks_sha256: str = ""


def part_bytes(table: pl.DataFrame, profiles: str = "", tested: str = "") -> tuple[bytes, PartInfo]:
    """One part as the bytes of a Parquet file; equal tables give equal bytes.

    Args:
        table: Rows of consecutive contigs, as `calls_table` returns them.
        profiles: Text that travels with the rows, in the file's metadata: what was counted around the calls.
        tested: Another such text: the positions that motifs were compared with.

    Returns:
        The bytes; their rows and sha256.

    Raises:
        ValueError: The table has another schema.
    """
    if table.schema != TABLE_SCHEMA:
        raise ValueError(f"a part must have the schema {TABLE_SCHEMA}, not {table.schema}")
    file, texts = io.BytesIO(), {PROFILES: profiles, TESTED: tested}
    table.write_parquet(file, compression="zstd", compression_level=1, metadata=PART_METADATA | texts)
    data = file.getvalue()
    return data, PartInfo(table.height, hashlib.sha256(data).hexdigest())


def publish_part(data: bytes, path: Path) -> None:
    """Write the bytes of `part_bytes` to a file, atomically.

    It is not flushed: whoever takes up a part compares it with the hash in the journal. One that a machine took with it when it
    stopped is computed again, as is one whose line in the journal it took; no other harm can come of either.

    Args:
        data: A whole part.
        path: The final name; its folder exists.

    Raises:
        ResourceFault: It cannot be written.
    """
    with atomic_file(path, flush=False) as temporary:
        temporary.write_bytes(data)


def read_part(path: Path, expected: PartInfo | None = None) -> pl.DataFrame:
    """Read one part, and check it against the journal.

    Args:
        path: A file of `publish_part`.
        expected: What `part_bytes` returned for it. Without it a flipped bit inside a page goes unseen, because Polars
            writes no page checksums.

    Returns:
        Its rows, in file order.

    Raises:
        InputError: It is missing, damaged, or not the file that was journalled.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read part {path}: {error.strerror}") from error
    if expected is not None and hashlib.sha256(data).hexdigest() != expected.sha256:
        raise InputError(f"part {path} is damaged: its sha256 is not the journalled one")
    table = _parsed(io.BytesIO(data), path)
    if table.schema != TABLE_SCHEMA:
        raise InputError(f"part {path} has columns of another version of this program")
    if expected is not None and table.height != expected.rows:
        raise InputError(f"part {path} has {table.height} rows; {expected.rows} are journalled")
    return table


def count_rows(path: Path) -> int:
    """How many rows a part has, by its footer.

    Raises:
        InputError: The part is missing or damaged.
    """
    try:
        return int(pl.scan_parquet(path, glob=False, hive_partitioning=False).select(pl.len()).collect().item())
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"part {path} is damaged: {' '.join(str(error).split())}") from error


def read_first_row(path: Path) -> tuple[str, int] | None:
    """Contig and start of a part's first row without reading the rest; None where it has no rows.

    Raises:
        InputError: The part is missing or damaged.
    """
    try:
        with path.open("rb") as handle:
            head = _parsed(handle, path, columns=["chrom", "start"], n_rows=1)
    except OSError as error:
        raise InputError(f"cannot read part {path}: {error.strerror}") from error
    return None if head.is_empty() else (head["chrom"][0], head["start"][0])


def read_part_text(path: Path, key: str) -> str:
    """A text that `part_bytes` put beside a part's rows; empty where there is none.

    Args:
        path: A file of `publish_part`.
        key: PROFILES or TESTED.

    Raises:
        InputError: The part is missing or damaged.
    """
    try:
        with path.open("rb") as handle:
            return pl.read_parquet_metadata(handle).get(key, "")
    except OSError as error:
        raise InputError(f"cannot read part {path}: {error.strerror}") from error
    except pl.exceptions.PolarsError as error:
        raise InputError(f"part {path} is damaged: {' '.join(str(error).split())}") from error


def _parsed(source: IO[bytes], path: Path, columns: list[str] | None = None, n_rows: int | None = None) -> pl.DataFrame:
    try:
        return pl.read_parquet(source, columns=columns, n_rows=n_rows)
    except pl.exceptions.PolarsError as error:
        raise InputError(f"part {path} is damaged: {' '.join(str(error).split())}") from error
