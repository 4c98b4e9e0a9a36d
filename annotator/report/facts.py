"""The figures of a report, counted from the calls of one run in a few passes over predictions.parquet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from annotator.kinds import Kind
from annotator.results.results import Results

PROBABILITY_BINS: Final = 20
THRESHOLDS: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
BINS_OF_LONGEST: Final = 200
"""Stretches of the longest contig in the picture of densities."""
MOST_LISTED: Final = 100
"""Contigs that are told apart by number, the longest."""
MOST_DRAWN: Final = 30
"""Contigs that are drawn, the longest: a genome may have a million."""
_ROWS_AT_ONCE: Final = 1 << 20
INTRON_EDGES_BP: Final = (
    0, 20, 30, 40, 50, 60, 80, 100, 130, 170, 230, 300, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 1_000_000,
)  # fmt: skip
"""Edges of the bins of intron lengths; longer ones fall into a last bin."""


@dataclass(frozen=True, eq=False)
class Facts:
    """What was found in one run.

    Attributes:
        kinds: Kinds of call that the run reports, in the order of tasks.
        bases: Length of the genome.
        calls: Calls by kind.
        expected: Mean probability of the calls by kind; None for a kind without probabilities.
        contigs_with_calls: Contigs that have any.
        by_contig: Calls by kind of each of the longest contigs.
        probabilities: Calls of each kind in bins of 0.05.
        at_least: Of each kind and threshold of THRESHOLDS how many calls reach it, and their mean probability.
        p_values: Binding sites by -log10 of their p-value, rounded down.
        bin_bp: Length of the stretches of `densities`.
        densities: Calls of each kind in each stretch of a contig, int64, [stretches], for the longest contigs that have any.
        introns: Neighbouring donor-acceptor pairs by length, in the bins of INTRON_EDGES_BP.
        motifs: Binding sites by name: hits, hits in called promoters; sorted by hits.
        promoter_bp: Bases of called promoters, overlaps counted once.
    """

    kinds: list[Kind]
    bases: int
    calls: dict[Kind, int]
    expected: dict[Kind, float | None]
    contigs_with_calls: int
    by_contig: dict[str, dict[Kind, int]]
    probabilities: dict[Kind, list[int]]
    at_least: dict[Kind, list[tuple[int, float]]]
    p_values: dict[int, int]
    bin_bp: int
    densities: dict[tuple[str, Kind], NDArray[np.int64]]
    introns: list[int]
    motifs: list[tuple[str, int, int]]
    promoter_bp: int

    def per_mb(self, kind: Kind) -> float:
        """Calls of a kind in a million bases, both strands together."""
        return self.calls[kind] / max(self.bases, 1) * 1e6


def gather(results: Results) -> Facts:
    """Count what a report shows.

    Raises:
        InputError: A file of the run cannot be read.
    """
    kinds = results.kinds
    contigs, table = results.contigs, results.calls()
    bin_bp = max(1, -(-max(contigs.values(), default=1) // BINS_OF_LONGEST))
    step = (pl.col("probability") * PROBABILITY_BINS).floor().clip(0, PROBABILITY_BINS - 1).cast(pl.Int64).alias("bin")
    reach = [_reach(threshold) for threshold in THRESHOLDS]
    listed = longest_contigs(contigs, MOST_LISTED)
    drawn = pl.col("chrom").is_in(listed[:MOST_DRAWN])
    by_kind, with_calls, by_contig, bins, places, p_values = pl.collect_all(
        [
            table.group_by("kind").agg(
                pl.len().alias("calls"), pl.col("probability").mean(), *(e for pair in reach for e in pair)
            ),
            table.select(pl.col("chrom").n_unique()),
            table.filter(pl.col("chrom").is_in(listed)).group_by("chrom", "kind").len("calls"),
            table.filter(pl.col("probability").is_not_null()).group_by("kind", step).len("calls"),
            table.filter(drawn).group_by("chrom", "kind", (pl.col("position") // bin_bp).alias("bin")).len("calls"),
            table.filter(pl.col("p_value").is_not_null())
            .group_by((-pl.col("p_value").clip(1e-30).log10() + 1e-9).floor().cast(pl.Int64).alias("bin"))
            .len("calls"),
        ]
    )
    rows = {row["kind"]: row for row in by_kind.to_dicts()}
    motifs, promoter_bp = _motifs(results, kinds)
    return Facts(
        kinds=kinds,
        bases=sum(contigs.values()),
        calls={kind: rows.get(kind, {}).get("calls", 0) for kind in kinds},
        expected={kind: rows.get(kind, {}).get("probability") for kind in kinds},
        contigs_with_calls=with_calls.item(),
        by_contig=_by_contig(by_contig, listed),
        probabilities={kind: _filled(bins.filter(pl.col("kind") == kind), PROBABILITY_BINS) for kind in kinds},
        at_least={kind: _reached(rows.get(kind)) for kind in kinds},
        p_values=dict(sorted(p_values.iter_rows())),
        bin_bp=bin_bp,
        densities=_densities(places, contigs, bin_bp),
        introns=intron_lengths(results) if {Kind.DONOR, Kind.ACCEPTOR} <= set(kinds) else [],
        motifs=motifs,
        promoter_bp=promoter_bp,
    )


def _reach(threshold: float) -> tuple[pl.Expr, pl.Expr]:
    """Calls at and above a threshold, and their mean probability."""
    chosen = pl.col("probability") >= pl.lit(threshold, pl.Float32)
    return (
        chosen.sum().cast(pl.Int64).alias(f"calls {threshold}"),
        pl.col("probability").filter(chosen).mean().alias(f"mean {threshold}"),
    )


def _reached(row: dict[str, float] | None) -> list[tuple[int, float]]:
    if row is None:
        return []
    return [(int(row[f"calls {t}"]), row[f"mean {t}"]) for t in THRESHOLDS if row[f"calls {t}"]]


def _filled(table: pl.DataFrame, bins: int) -> list[int]:
    counts = dict(table.select("bin", "calls").iter_rows())
    return [counts.get(number, 0) for number in range(bins)]


def longest_contigs(contigs: Mapping[str, int], most: int) -> list[str]:
    """Names of the longest contigs, the longest first; equally long ones by name."""
    return sorted(contigs, key=lambda name: (-contigs[name], name))[:most]


def _by_contig(table: pl.DataFrame, listed: Sequence[str]) -> dict[str, dict[Kind, int]]:
    found: dict[str, dict[Kind, int]] = {name: {} for name in listed}
    for contig, kind, calls in table.iter_rows():
        found[contig][Kind(kind)] = calls
    return found


def _densities(table: pl.DataFrame, contigs: Mapping[str, int], bin_bp: int) -> dict[tuple[str, Kind], NDArray[np.int64]]:
    found: dict[tuple[str, Kind], NDArray[np.int64]] = {}
    for (contig, kind), part in table.group_by("chrom", "kind"):
        counts = np.zeros(-(-max(contigs[str(contig)], 1) // bin_bp), np.int64)
        counts[part["bin"].to_numpy()] = part["calls"].to_numpy()
        found[str(contig), Kind(str(kind))] = counts
    return found


def intron_lengths(results: Results) -> list[int]:
    """Lengths of introns that neighbouring calls make, in the bins of INTRON_EDGES_BP; the last counts what is longer.

    Neighbours are a donor and the next splice site in reading direction on its strand, where that is an acceptor.
    """
    table = results.calls(kind=[str(Kind.DONOR), str(Kind.ACCEPTOR)]).select("chrom", "strand", "kind", "position")
    plus = pl.col("strand") == "+"
    along = pl.when(plus).then(pl.col("position")).otherwise(-pl.col("position"))
    ordered = table.with_columns(along.alias("along")).sort("chrom", "strand", "along")
    follows = pl.col("along").shift(-1).over("chrom", "strand") - pl.col("along") - 1
    next_kind = pl.col("kind").shift(-1).over("chrom", "strand")
    lengths = (
        ordered.with_columns(follows.alias("length"), next_kind.alias("next"))
        .filter(pl.col("kind") == Kind.DONOR, pl.col("next") == Kind.ACCEPTOR)
        .select("length").collect()["length"].to_numpy()
    )  # fmt: skip
    counts, _ = np.histogram(lengths, [*INTRON_EDGES_BP, np.inf])
    return [int(count) for count in counts]


def _motifs(results: Results, kinds: list[Kind]) -> tuple[list[tuple[str, int, int]], int]:
    """Name, hits and hits in called promoters of each motif; bases of called promoters."""
    if Kind.TFBS not in kinds:
        return [], 0
    if Kind.PROMOTER not in kinds:
        counted = results.calls(kind=str(Kind.TFBS)).group_by("name").len("hits").sort(["hits", "name"], descending=[True, False])
        return [(name, hits, 0) for name, hits in counted.collect().iter_rows()], 0
    lengths = np.array(list(results.contigs.values()), np.int64)
    offset = dict(zip(results.contigs, (np.cumsum(lengths) - lengths).tolist(), strict=True))  # contigs end to end
    begin = pl.col("chrom").replace_strict(offset, return_dtype=pl.Int64)
    promoters = results.calls(kind=str(Kind.PROMOTER)).select(
        (begin + pl.col("start")).alias("a"), (begin + pl.col("end")).alias("b")
    )
    starts, ends = _merged(*(promoters.collect()[name].to_numpy() for name in ("a", "b")))
    middle = (begin + (pl.col("start") + pl.col("end")) // 2).alias("middle")
    hits: Counter[str] = Counter()
    inside: Counter[str] = Counter()
    table = results.calls()
    for first in range(0, table.select(pl.len()).collect().item(), _ROWS_AT_ONCE):
        block = table.slice(first, _ROWS_AT_ONCE).filter(pl.col("kind") == Kind.TFBS).select("name", middle).collect()
        hits.update(dict(block.group_by("name").len().iter_rows()))
        if len(starts):
            at = block["middle"].to_numpy()
            before = np.searchsorted(starts, at, side="right") - 1
            within = block.filter(pl.Series((before >= 0) & (at < ends[np.maximum(before, 0)])))
            inside.update(dict(within.group_by("name").len().iter_rows()))
    ranked = sorted(hits, key=lambda name: (-hits[name], name))
    return [(name, hits[name], inside[name]) for name in ranked], int((ends - starts).sum())


def _merged(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Intervals joined where they overlap, ascending."""
    if not len(starts):
        return starts, ends
    order = np.argsort(starts, kind="stable")
    first, reach = starts[order], np.maximum.accumulate(ends[order])
    opens = np.append(True, first[1:] > reach[:-1])
    return first[opens], reach[np.append(np.flatnonzero(opens)[1:] - 1, len(first) - 1)]
