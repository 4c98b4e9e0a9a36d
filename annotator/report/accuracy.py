"""The section of a report that holds the calls against an annotation: precision and recall, and how far to believe the scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from annotator.evaluation.site_scores import JudgedCalls
from annotator.kinds import Kind
from annotator.report.elements import Cell, Figure, Section, Table, colour
from annotator.report.facts import THRESHOLDS
from annotator.report.svg import Axes, Series, curves
from annotator.results.judged import PROMOTER_WITHIN_BP, RIGHT, VERDICT, judge
from annotator.results.results import Results

_CURVE_ROWS = 20


def accuracy(results: Results, truth: Path) -> Section:
    """Precision, recall and reliability against an annotation.

    Raises:
        UsageError: The annotation cannot be read.
        InputError: It is damaged, or of another assembly, or has no site of a kind that the run calls.
    """
    judged = judge(results, truth)
    bases = sum(results.contigs.values())
    scores: dict[Kind, JudgedCalls] = {}
    for kind, truths in judged.truths.items():
        calls = judged.calls.filter(pl.col("kind") == kind)
        right = (calls[VERDICT] == RIGHT).to_numpy()
        scores[kind] = JudgedCalls(calls["probability"].to_numpy(), right, np.zeros(len(right), bool), truths, bases)
    parts: list[Figure | Table | str] = [_at_thresholds(scores, results), _curve(scores), _reliability(scores, results)]
    parts.append(
        f"A splice site is right at the very base and strand, a promoter within {PROMOTER_WITHIN_BP} bp of an annotated start "
        "that no better call has taken. Calls below the run's thresholds were not kept, so the curves end there. What an "
        "annotation lacks counts as an error of the model."
    )
    parts += [f"Left out of {truth.name}: {phrase}." for phrase in judged.left_out]
    if results.run["plan"].get("regions_sha256"):
        parts.append("The run looked at regions only; annotated sites elsewhere count as missed.")
    return Section("accuracy", f"Against {truth.name}", parts)


def _at_thresholds(scores: dict[Kind, JudgedCalls], results: Results) -> Table:
    rows: list[list[Cell]] = []
    for kind, judged in scores.items():
        lowest = results.thresholds[kind]
        for threshold in (lowest, *(t for t in THRESHOLDS if t > lowest)):
            at = judged.at(threshold)
            rows.append([str(kind), threshold, at.calls, at.right, _number(at.precision), _number(at.recall), _number(at.f1)])
    head = ["kind", "threshold", "calls", "right", "precision", "recall", "F1"]
    return Table("Accuracy at the run's threshold and above", head, rows)


def _curve(scores: dict[Kind, JudgedCalls]) -> Figure:
    series, rows = [], []
    for kind, judged in scores.items():
        curve = judged.curve().thinned()
        label = f"{kind} (area {curve.average_precision():.3f})"
        series.append(Series(label, colour(kind), curve.recall, curve.precision))
        few = judged.curve().thinned(_CURVE_ROWS)
        values = zip(few.threshold.tolist(), few.precision.tolist(), few.recall.tolist(), strict=True)
        rows += [[str(kind), *row] for row in values]
    axes = Axes("recall", "precision", (0, 1), (0, 1), height=320, width=460)
    title = "Precision and recall"
    return Figure(title, curves(title, series, axes), Table(title, ["kind", "threshold", "precision", "recall"], rows))


def _reliability(scores: dict[Kind, JudgedCalls], results: Results) -> Figure:
    series, rows = [], []
    for kind, judged in scores.items():
        diagram = judged.reliability(results.thresholds[kind])
        filled = diagram.count > 0
        mean, observed = diagram.mean_probability[filled], diagram.observed[filled]
        series.append(Series(str(kind), colour(kind), mean, observed, dots=True))
        values = zip(mean.tolist(), observed.tolist(), _filled(diagram.count, filled), strict=True)
        rows += [[str(kind), *row] for row in values]
    axes = Axes("mean probability of the calls", "share that is right", (0, 1), (0, 1), height=320, width=460)
    title = "Reliability: probabilities against the share that is right"
    svg = curves(title, series, axes, diagonal=True)
    return Figure(title, svg, Table(title, ["kind", "mean probability", "share right", "calls"], rows))


def _filled(count: NDArray[np.int64], filled: NDArray[np.bool_]) -> list[int]:
    return [int(number) for number in count[filled]]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
