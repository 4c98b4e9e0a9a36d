"""The second channel of a part: the tracks of a shard, and their local maxima as rows like those of calls; 0-based.

A file holds, after eight bytes that tell the length of the first, two Parquet files: the maxima, in `TABLE_SCHEMA`, and the
values, in `VALUES_SCHEMA`.
"""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from annotator.errors import InputError
from annotator.output.schema import PART_METADATA, TABLE_SCHEMA
from annotator.output.track_files import STEPS_IN_1

if TYPE_CHECKING:  # the driver reads parts without torch
    from annotator.calls.track_values import TrackValues

VALUES_SCHEMA: Final = pl.Schema(
    {"channel": pl.UInt16(), "chrom": pl.String(), "position": pl.Int64(), "thousandths": pl.UInt16()}
)
"""Channel as of `channel_of`, contig, base, probability; sorted by channel, then along the contigs in FASTA order."""
_LENGTH: Final = struct.Struct("<Q")


def tracks_path(part: Path) -> Path:
    """Where the second channel of a part lies."""
    return part.with_suffix(".tracks")


def values_table(values: TrackValues, contig_names: Sequence[str]) -> pl.DataFrame:
    """The values of a shard as a sorted table of `VALUES_SCHEMA`; `values.contig` indexes `contig_names`."""
    order = np.lexsort((values.position, values.contig, values.channel))
    columns = {
        "channel": values.channel[order],
        "chrom": pl.Series(contig_names, dtype=pl.String).gather(values.contig[order]),
        "position": values.position[order],
        "thousandths": np.round(values.probability[order] * STEPS_IN_1),
    }
    return pl.DataFrame(columns).cast(dict(VALUES_SCHEMA))  # type: ignore[arg-type]


def tracks_bytes(values: pl.DataFrame, maxima: pl.DataFrame) -> tuple[bytes, str]:
    """The second channel of a part.

    Args:
        values: Sorted rows of `VALUES_SCHEMA`.
        maxima: Rows of `TABLE_SCHEMA`, as `calls_table` returns them.

    Returns:
        Its bytes and their sha256.

    Raises:
        ValueError: A table has another schema.
    """
    if values.schema != VALUES_SCHEMA or maxima.schema != TABLE_SCHEMA:
        raise ValueError(f"the tracks of a part must have the schemas {VALUES_SCHEMA} and {TABLE_SCHEMA}")
    first, second = io.BytesIO(), io.BytesIO()
    maxima.write_parquet(first, compression="zstd", compression_level=1, metadata=PART_METADATA)
    values.write_parquet(second, compression="zstd", compression_level=1, metadata=PART_METADATA)
    data = b"".join((_LENGTH.pack(first.tell()), first.getvalue(), second.getvalue()))
    return data, hashlib.sha256(data).hexdigest()


def read_tracks(part: Path, sha256: str | None = None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The values and the maxima that lie beside a part.

    Args:
        part: The part.
        sha256: What the journal says of its second channel.

    Raises:
        InputError: It is missing, damaged, or not the one that was journalled.
    """
    path = tracks_path(part)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read tracks {path}: {error.strerror}") from error
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise InputError(f"tracks {path} are damaged: their sha256 is not the journalled one")
    try:
        (length,) = _LENGTH.unpack_from(data)
        end = _LENGTH.size + length
        maxima, values = pl.read_parquet(data[_LENGTH.size : end]), pl.read_parquet(data[end:])
    except (struct.error, OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"tracks {path} are damaged: {' '.join(str(error).split())}") from error
    if values.schema != VALUES_SCHEMA or maxima.schema != TABLE_SCHEMA:
        raise InputError(f"tracks {path} have columns of another version of this program")
    return values, maxima


def read_first_maximum(part: Path) -> tuple[str, int] | None:
    """Contig and start of the first of the maxima beside a part; None where there are none.

    Raises:
        InputError: The file is missing or damaged.
    """
    _, maxima = read_tracks(part)
    return None if maxima.is_empty() else (maxima["chrom"][0], maxima["start"][0])
