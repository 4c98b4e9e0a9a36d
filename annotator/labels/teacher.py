"""A teacher's soft labels: the predictions of another model on the same genome, as `annotate` writes them.

Coordinates: 0-based positions within a contig in the files; contigs end to end, as in `LabelledGenome`, in what is returned.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from annotator.errors import InputError, UsageError
from annotator.genome.contig_names import none_shared
from annotator.genome.headers import quote
from annotator.kinds import SPLICE_TRACKS, STRANDS, Strand
from annotator.labels.labelled import SoftSites, SoftTable

if TYPE_CHECKING:  # training from a pack runs where there is no Polars
    import polars as pl

logger = logging.getLogger(__name__)

_COLUMNS = ("chrom", "position", "strand", "kind", "probability")


def read_teacher(
    paths: Sequence[Path], contig_lengths: Mapping[str, int], contig_starts: NDArray[np.int64]
) -> tuple[SoftTable, dict[str, Any]]:
    """Read the donors and acceptors of one or several tables of predictions, and average the tables.

    Args:
        paths: Parquet files with the columns chrom, position, strand, kind and probability, such as the `predictions.parquet` of
            `annotate` at a low threshold. A position that a table does not list has the probability 0 there.
        contig_lengths: Length of each contig of the genome, in its order.
        contig_starts: Start of each contig where all lie end to end, int64, in the same order.

    Returns:
        The mean probability of both strands of donors and acceptors, and what was read, as plain values ready for JSON.

    Raises:
        UsageError: A file is missing or cannot be read.
        InputError: A file is no such table, says nothing of donors or of acceptors, or has a row that does not fit the genome;
            the message names the row, counted from 1.
    """
    tables = [_read(path) for path in paths]
    placed = [_placed(path, table, contig_lengths, contig_starts) for path, table in zip(paths, tables, strict=True)]
    mean = {(kind, strand): _mean([soft[kind, strand] for soft in placed]) for kind in SPLICE_TRACKS for strand in STRANDS}
    report = {
        "files": [path.name for path in paths],
        "models": sorted({str(name) for table in tables if "model" in table.columns for name in table["model"].unique()}),
        "sites": sum(len(soft.positions) for soft in mean.values()),
        "rows_of_other_kinds": sum(int((~table["kind"].is_in(SPLICE_TRACKS)).sum()) for table in tables),
    }
    logger.info(
        "teacher %s: probabilities of %s donors and acceptors; %d rows of other kinds left out",
        ", ".join(path.name for path in paths), f"{report['sites']:,}", report["rows_of_other_kinds"],
    )  # fmt: skip
    return mean, report


def _read(path: Path) -> pl.DataFrame:
    """The table of a file, its columns checked."""
    import polars as pl

    wanted = {
        "chrom": (pl.String,), "position": (pl.Int64,), "strand": (pl.String,), "kind": (pl.String,),
        "probability": (pl.Float32, pl.Float64),
    }  # fmt: skip
    try:
        schema = pl.read_parquet_schema(path)
        for name, types in wanted.items():
            if schema.get(name) not in types:
                said = "no such column" if name not in schema else f"it holds {schema[name]}, not {types[0]}"
                raise InputError(f"{path}: column {name}: {said}; a teacher is a predictions.parquet of `annotate`")
        return pl.read_parquet(path, columns=[*_COLUMNS, *(["model"] if "model" in schema else [])])
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path}: not a Parquet file ({' '.join(str(error).split())[:80]})") from None


def _placed(
    path: Path, table: pl.DataFrame, contig_lengths: Mapping[str, int], contig_starts: NDArray[np.int64]
) -> dict[tuple[str, Strand], SoftSites]:
    """Positions and probabilities of one table, by (track, strand)."""
    splice = np.flatnonzero(np.isin(table["kind"].to_numpy(), SPLICE_TRACKS))
    kinds, strands, names = (table[name].to_numpy()[splice] for name in ("kind", "strand", "chrom"))
    position = table["position"].fill_null(-1).to_numpy()[splice]
    probability = table["probability"].fill_null(np.nan).to_numpy()[splice].astype(np.float32)
    index = {name: number for number, name in enumerate(contig_lengths)}
    contig = np.array([index.get(name, -1) for name in names], np.int64)
    lengths = np.array([*contig_lengths.values(), 0], np.int64)[contig]  # the last entry is that of unknown contigs

    def refuse(wrong: NDArray[np.bool_], say: Callable[[int], str]) -> None:
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            raise InputError(f"{path} row {splice[first] + 1}: {say(first)}")

    if len(splice) and (contig < 0).all():
        raise InputError(f"{path} row {splice[0] + 1}: {none_shared(dict.fromkeys(map(str, names)), index)}")
    refuse(contig < 0, lambda i: f"contig {quote(str(names[i]))} is not in the genome")
    refuse(
        (position < 0) | (position >= lengths),
        lambda i: f"position {position[i]} lies outside contig {quote(names[i])} of {lengths[i]} bp",
    )
    refuse(~((probability >= 0) & (probability <= 1)), lambda i: f"probability {probability[i]:g} is not within 0..1")
    refuse(~np.isin(strands, [strand.symbol for strand in STRANDS]), lambda i: f"strand {strands[i]!r} is neither + nor -")
    found = {}
    for kind in SPLICE_TRACKS:
        if not (kinds == kind).any():
            raise InputError(f"{path}: no {kind}; a teacher knows donors and acceptors")
        for strand in STRANDS:
            chosen = np.flatnonzero((kinds == kind) & (strands == strand.symbol))
            places = contig_starts[contig[chosen]] + position[chosen]
            order = np.argsort(places, kind="stable")
            twice = np.zeros(len(splice), np.bool_)
            twice[chosen[order[1:]]] = np.diff(places[order]) == 0
            refuse(
                twice, lambda i: f"a second {kinds[i]} at position {position[i]} of contig {quote(names[i])}, strand {strands[i]}"
            )
            found[kind, strand] = SoftSites(places[order], probability[chosen[order]])
    return found


def _mean(several: Sequence[SoftSites]) -> SoftSites:
    """The mean of several teachers."""
    if len(several) == 1:
        return several[0]
    positions, inverse = np.unique(np.concatenate([soft.positions for soft in several]), return_inverse=True)
    total = np.bincount(inverse, np.concatenate([soft.probability for soft in several]), len(positions))
    return SoftSites(positions, (total / len(several)).astype(np.float32))
