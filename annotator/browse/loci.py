"""The list of loci beside the browser: where a reader looks first.

Coordinates: 0-based half-open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from annotator.errors import UsageError
from annotator.kinds import KINDS, Kind
from annotator.results.judged import EXTRA, VERDICT, Judged
from annotator.results.results import Results, parse_region

AROUND_BP: Final = 500
"""Bases shown on either side of a call."""
WINDOW_BP: Final = 10_000
MOST: Final = 8
"""Loci of a group."""
MOST_NAMES: Final = 2000
"""Names of binding factors that the search knows."""


@dataclass(frozen=True)
class Locus:
    """A stretch of a contig with the words that describe it.

    Attributes:
        text: What a reader sees.
        contig: Name of the contig.
        start: First base.
        end: One past the last base.
    """

    text: str
    contig: str
    start: int
    end: int

    def as_json(self) -> list[Any]:
        """The locus as the page's script reads it."""
        return [self.text, self.contig, self.start, self.end]


@dataclass(frozen=True)
class LocusGroup:
    """Loci under one heading."""

    title: str
    loci: list[Locus]


def list_loci(results: Results, kinds: Sequence[Kind], asked: Sequence[str], judged: Judged | None) -> list[LocusGroup]:
    """The groups of loci of a page, in order; groups without loci are left out.

    Args:
        results: The run.
        kinds: Kinds of call that the run reports.
        asked: Regions that the user names, such as "chr1:1-5000".
        judged: The calls held against an annotation, if there is one.

    Raises:
        UsageError: A region is wrong, or its contig is not in the genome.
    """
    groups = [LocusGroup("Asked for", [_asked(results, region) for region in asked])]
    for kind in sorted(kinds, key=lambda kind: (kind is not Kind.PROMOTER, KINDS.index(kind))):
        groups.append(LocusGroup(f"Strongest {_plural(kind)}", _strongest(results, kind)))
    for task in dict.fromkeys(kind.task for kind in kinds):
        groups.append(LocusGroup(f"Densest windows: {_TASK_WORDS[task]}", _densest(results, task, kinds)))
    if judged is not None:
        extra = judged.calls.filter(pl.col(VERDICT) == EXTRA).sort("probability", descending=True, maintain_order=True).head(MOST)
        groups.append(LocusGroup("Strongest extra calls", [_of_call(results, row) for row in extra.to_dicts()]))
        groups.append(LocusGroup("Missed sites", [_of_site(results, row) for row in judged.missed.head(MOST).to_dicts()]))
    return [group for group in groups if group.loci]


def named_loci(results: Results, kinds: Sequence[Kind]) -> list[Locus]:
    """The best call of every binding factor and of every track of the user's own, for the search."""
    if not {Kind.TFBS, Kind.FEATURE} & set(kinds):
        return []
    table = results.calls(kind=[str(kind) for kind in kinds if kind in (Kind.TFBS, Kind.FEATURE)])
    best = table.sort("score", "bits", descending=True, maintain_order=True, nulls_last=True).unique("name", keep="first")
    return [_of_call(results, row) for row in best.sort("name").head(MOST_NAMES).collect().to_dicts()]


_TASK_WORDS: Final = {
    "promoter": "promoters", "splice": "splice sites", "tfbs": "binding sites", "feature": "features of the model's own",
}  # fmt: skip


def _plural(kind: Kind) -> str:
    return {Kind.TFBS: "binding sites", Kind.FEATURE: "features of the model's own"}.get(kind, f"{kind}s")


def _asked(results: Results, region: str) -> Locus:
    place = parse_region(region, results.contigs)
    length = results.contigs[place.contig]
    if place.start >= length:
        raise UsageError(f"contig {place.contig!r} has {length:,} bp", "locus", region)
    return Locus(region, place.contig, place.start, min(length, place.end or length))


def _strongest(results: Results, kind: Kind) -> list[Locus]:
    table = results.calls(kind=str(kind))
    best = table.sort("score", "probability", "bits", descending=True, nulls_last=True, maintain_order=True).head(MOST)
    return [_of_call(results, row) for row in best.collect().to_dicts()]


def _densest(results: Results, task: str, kinds: Sequence[Kind]) -> list[Locus]:
    """Windows of 10 kb with most calls, counted by position."""
    table = results.calls(kind=[str(kind) for kind in kinds if kind.task == task])
    windows = table.group_by("chrom", (pl.col("position") // WINDOW_BP).alias("window")).agg(pl.len().alias("calls"))
    rows = windows.sort(["calls", "chrom", "window"], descending=[True, False, False]).head(MOST).collect()
    loci = []
    for contig, window, calls in rows.iter_rows():
        start = window * WINDOW_BP
        end = min(results.contigs[contig], start + WINDOW_BP)
        loci.append(Locus(f"{calls:,} in {contig}:{start + 1:,}-{end:,}", contig, start, end))
    return loci


def _of_call(results: Results, call: dict[str, Any]) -> Locus:
    where = f"{call['chrom']}:{call['position'] + 1:,} ({call['strand']})"
    how = f"{call['probability']:.3f}" if call["probability"] is not None else f"p {call['p_value']:.1e}"
    return _around(results, f"{call['name']} {where} {how}", call["chrom"], call["start"], call["end"])


def _of_site(results: Results, site: dict[str, Any]) -> Locus:
    text = f"{site['kind']} {site['chrom']}:{site['position'] + 1:,} ({site['strand']})"
    return _around(results, text, site["chrom"], site["position"], site["position"] + 1)


def _around(results: Results, text: str, contig: str, start: int, end: int) -> Locus:
    return Locus(text, contig, max(0, start - AROUND_BP), min(results.contigs[contig], end + AROUND_BP))
