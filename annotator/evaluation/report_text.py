"""Reports of an evaluation as text for the terminal and as JSON; the same report gives the same bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from annotator.evaluation.elements import TILE_BP, ElementScores
from annotator.evaluation.genome_report import BELIEVED_FROM, GenomeReport, KindScores
from annotator.evaluation.metrics import CALIBRATED_FROM, Interval
from annotator.evaluation.task_report import TaskReport
from annotator.files import atomic_file

_DECIMALS = 6
Report = GenomeReport | TaskReport


def to_text(report: Report) -> str:
    """A report as aligned tables, without a line end."""
    return _genome_text(report) if isinstance(report, GenomeReport) else _tasks_text(report)


def to_json(report: Report) -> str:
    """A report as JSON: fields by their names, numbers to 6 decimals, NaN as null, a line end."""
    return json.dumps(_plain(report), indent=1, allow_nan=False) + "\n"


def write_json(report: Report, path: Path) -> None:
    """Write `to_json` atomically.

    Raises:
        ResourceFault: It cannot be written.
    """
    with atomic_file(path) as temporary:
        temporary.write_text(to_json(report), encoding="utf-8")


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first column flush left, the others flush right, two spaces between."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _genome_text(report: GenomeReport) -> str:
    trimmed = f", trimmed at random by up to {report.trim_bp:,} bp at each end" if report.trim_bp else ""
    lines = [
        f"{report.model} ({report.computed_in}) on {report.genome}: {report.contigs:,} contigs, {report.bases:,} bp{trimmed};"
        f" clade {report.clade}" + (f"; only {', '.join(report.held_out)}" if report.held_out else ""),
        *(f"{what} ({read['file']}): {note}" for what, read in report.annotation.items() for note in read["notes"]),
        "",
    ]
    rows = [["kind", "sites", "top-k", "95 %", "AUPRC", "95 %", "threshold", "calls", "precision", "recall", "F1", "calls/Mb"]]
    for kind in report.kinds:
        called = kind.called
        figures = [_number(x) for x in (called.precision, called.recall, called.f1)]
        rows.append(
            [_name(kind), f"{kind.truths:,}", *_with_interval(kind.top_k), *_with_interval(kind.auprc), f"{called.threshold:g}"]
            + [f"{called.calls:,}", *figures, f"{called.calls_per_mb:.1f}"]
        )
    lines += aligned(rows) if report.kinds else []
    lines += _elements_text(report.elements, blank=bool(report.kinds))
    for kind in report.kinds:
        if kind.reliability is None or kind.calibration_error is None:
            continue
        error = f"calibration error {_number(kind.calibration_error)} over calls from {CALIBRATED_FROM} up"
        lines += ["", f"{_name(kind)}: {error}; calls from {BELIEVED_FROM} up:"]
        diagram = kind.reliability
        bins = zip(diagram.low, diagram.high, diagram.count, diagram.mean_probability, diagram.observed, strict=True)
        table = [["  probability", "calls", "mean", "right"]]
        table += [[f"  {low:.1f}-{high:.1f}", f"{n:,}", _number(mean), _number(seen)] for low, high, n, mean, seen in bins]
        lines += aligned(table)
    lines += _listed("not measured", report.skipped)
    return "\n".join(lines)


def _elements_text(elements: Sequence[ElementScores], *, blank: bool) -> list[str]:
    if not elements:
        return []
    rows = [[f"tiles of {TILE_BP} bp", "elements", "tiles", "inside", "base rate", "AUROC", "95 %", "AUPRC", "95 %"]]
    for track in elements:
        counts = [f"{n:,}" for n in (track.elements, track.tiles, track.inside)]
        rows.append([track.name, *counts, _number(track.base_rate), *_with_interval(track.auroc), *_with_interval(track.auprc)])
    return [""] * blank + aligned(rows)


def _tasks_text(report: TaskReport) -> str:
    rows = [["task", "split", "sequences", "classes", "MCC", "F1", "macro F1", "accuracy", "AUROC", "AUPRC"]]
    for task in report.tasks:
        s = task.scores
        figures = [_number(x) for x in (s.mcc, s.f1, s.f1_macro, s.accuracy, s.auroc, s.auprc)]
        rows.append([task.task, task.split, f"{s.sequences:,}", str(s.classes), *figures])
    if len(report.tasks) > 1:
        scores = [task.scores for task in report.tasks]
        means = [[s.mcc, s.f1, s.f1_macro, s.accuracy, s.auroc, s.auprc] for s in scores]
        total = f"{sum(s.sequences for s in scores):,}"
        rows.append([f"mean of {len(scores)}", "", total, "", *(_number(float(x)) for x in np.mean(means, axis=0))])
    lines = aligned(rows) if report.tasks else ["no task was measured"]
    return "\n".join(lines + _listed("missing", report.missing) + _listed("failed", report.failed))


def _listed(title: str, reasons: dict[str, str]) -> list[str]:
    return ["", f"{title} ({len(reasons)}):", *(f"  {name}: {reason}" for name, reason in reasons.items())] if reasons else []


def _name(kind: KindScores) -> str:
    return f"{kind.kind} within {kind.within_bp} bp" if kind.within_bp else kind.kind


def _with_interval(value: Interval | None) -> list[str]:
    if value is None:
        return ["", ""]
    return [_number(value.value), "" if math.isnan(value.low) else f"{value.low:.3f}-{value.high:.3f}"]


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _plain(value: Any) -> Any:
    """Dataclasses, arrays and numbers as what JSON has."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return round(value, _DECIMALS) if math.isfinite(value) else None
    return value
