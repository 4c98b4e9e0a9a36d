"""The sections of a report over several runs: side by side, and what they share where the genome is the same."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Final

import numpy as np
import polars as pl

from annotator.kinds import Kind
from annotator.report.elements import Cell, Figure, Section, Table, colour
from annotator.report.facts import PROBABILITY_BINS, Facts
from annotator.report.svg import Axes, Series, curves, grouped_bars
from annotator.results.results import Results

_DASHES: Final = ("", "7 3", "2 3", "9 3 2 3", "5 2 1 2", "12 4")
_MOST_CURVES: Final = len(_DASHES)
_MOST_PAIRS: Final = 10


def side_by_side(runs: Mapping[str, Results], facts: Mapping[str, Facts]) -> list[Section]:
    """The sections that compare runs, by the name of each."""
    kinds = [kind for kind in Kind if any(kind in one.kinds for one in facts.values())]
    rows: list[list[Cell]] = []
    for name, results in runs.items():
        plan, one = results.run["plan"], facts[name]
        limits = ", ".join(f"{kind} {value:.3g}" for kind, value in results.thresholds.items())
        calls = [one.calls.get(kind) for kind in kinds]
        failed = results.run.get("failed_contigs", {}).get("count", 0)
        model = f"{plan['model']['name']} {plan['model']['version']}"
        rows.append([name, model, plan["clade"], limits, len(results.contigs), one.bases, *calls, failed])
    head = ["run", "model", "clade", "thresholds", "contigs", "bp", *map(str, kinds), "failed contigs"]
    bars = [
        (str(kind), colour(kind), [one.per_mb(kind) if kind in one.kinds else 0.0 for one in facts.values()]) for kind in kinds
    ]
    densities = [[name, *(one.per_mb(kind) if kind in one.kinds else None for kind in kinds)] for name, one in facts.items()]
    title = "Calls per Mb, both strands"
    figure = Figure(
        title, grouped_bars(title, list(runs), bars, "calls per Mb"), Table(title, ["run", *map(str, kinds)], densities)
    )
    sections = [Section("runs", "The runs", [Table("The runs", head, rows), figure])]
    shapes = [_shapes(kind, facts) for kind in kinds if any(any(one.probabilities.get(kind, ())) for one in facts.values())]
    if shapes:
        sections.append(Section("scores", "How sure the calls are", shapes))
    shared = _shared(runs, kinds)
    if shared:
        head = ["kind", "run", "other run", "calls", "calls of the other", "in both", "share of all"]
        words = "In both is a call of the same kind at the same position and strand. Only runs of the same genome are compared."
        sections.append(
            Section("shared", "What runs of the same genome share", [Table("Calls in both runs", head, shared), words])
        )
    return sections


def _shapes(kind: Kind, facts: Mapping[str, Facts]) -> Figure:
    """The distribution of probabilities of one kind, a curve for each run."""
    x = (np.arange(PROBABILITY_BINS) + 0.5) / PROBABILITY_BINS
    series: list[Series] = []
    rows: list[list[Cell]] = []
    highest = 0.0
    for name, one in facts.items():
        counts = np.array(one.probabilities.get(kind, [0] * PROBABILITY_BINS), np.float64)
        if not counts.sum():
            continue
        share = counts / counts.sum() * 100
        highest = max(highest, float(share.max()))
        rows += [[name, f"{at:.3f}", float(value)] for at, value in zip(x.tolist(), share.tolist(), strict=True)]
        if len(series) < _MOST_CURVES:
            series.append(Series(name, colour(kind), x, share, dash=_DASHES[len(series)]))
    title = f"Probabilities: {kind}"
    axes = Axes("probability", "% of the run's calls", (0, 1), (0, highest * 1.05 or 1.0))
    note = f"The first {_MOST_CURVES} of {len(facts)} runs are drawn." if len(facts) > _MOST_CURVES else ""
    note += " Runs differ by their dashes: " + ", ".join(
        f"{one.label} {'solid' if not one.dash else one.dash}" for one in series
    ) + "."  # fmt: skip
    return Figure(title, curves(title, series, axes), Table(title, ["run", "probability", "%"], rows), note.strip())


def _shared(runs: Mapping[str, Results], kinds: list[Kind]) -> list[list[Cell]]:
    place = ["chrom", "position", "strand", "name"]
    rows: list[list[Cell]] = []
    genomes = {name: results.run["plan"].get("fasta_sha256") for name, results in runs.items()}
    pairs = [(one, other) for one, other in combinations(runs, 2) if genomes[one] and genomes[one] == genomes[other]]
    for one, other in pairs[:_MOST_PAIRS]:
        for kind in kinds:
            left, right = (runs[name].calls(kind=str(kind)).select(place).unique() for name in (one, other))
            both = left.join(right, on=place, how="inner")
            counts = [table.select(pl.len()).collect().item() for table in (left, right, both)]
            union = counts[0] + counts[1] - counts[2]
            if union:
                rows.append([str(kind), one, other, *counts, counts[2] / union])
    return rows
