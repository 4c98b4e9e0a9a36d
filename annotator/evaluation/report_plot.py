"""Reports of an evaluation as pictures, PNG or SVG; the same report gives the same picture."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from annotator.errors import EnvironmentFault, UsageError
from annotator.evaluation.genome_report import BELIEVED_FROM, GenomeReport, KindScores
from annotator.evaluation.report_text import Report
from annotator.evaluation.task_report import TaskReport
from annotator.files import atomic_file
from annotator.kinds import Kind

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLOT_SUFFIXES = (".png", ".svg")
_LINES = {0: "-", 50: ":", 250: "-", 500: "--"}
_DPI = 150


def check_plot(path: Path) -> None:
    """See, before anything is computed, that a picture can be drawn.

    Raises:
        UsageError: Its suffix is neither .png nor .svg.
        EnvironmentFault: matplotlib is not installed.
    """
    if path.suffix.lower() not in PLOT_SUFFIXES:
        raise UsageError(f"{path}: a plot is written as {' or '.join(PLOT_SUFFIXES)}")
    if find_spec("matplotlib") is None:
        raise EnvironmentFault("plots need matplotlib: pip install 'genome-annotator[plot]'")


def write_plot(report: Report, path: Path) -> None:
    """Draw a report: reliability and precision against recall of a genome, or the tasks' measures as bars.

    Args:
        report: What to draw.
        path: Where to; its suffix chooses PNG or SVG.

    Raises:
        UsageError: The suffix is not one of a plot, or there is nothing that is drawn.
        EnvironmentFault: matplotlib is not installed.
        ResourceFault: It cannot be written.
    """
    check_plot(path)
    if isinstance(report, GenomeReport) and not report.kinds:
        raise UsageError(f"{path}: the figures of elements are not drawn; there is no donor, acceptor or promoter to draw")
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kind = path.suffix.lower()[1:]
    # Neither a date, nor random ids, nor a user's style.
    fixed: dict[str, str | None] = {"Date": None} if kind == "svg" else {"Software": None}
    with mpl.rc_context({**mpl.rcParamsDefault, "backend": "agg", "svg.hashsalt": "annotator"}):
        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        if isinstance(report, GenomeReport):
            _draw_genome(figure, report)
        else:
            _draw_tasks(figure, report)
        with atomic_file(path) as temporary:
            figure.savefig(temporary, format=kind, dpi=_DPI, metadata=fixed)


def _draw_genome(figure: Figure, report: GenomeReport) -> None:
    figure.set_size_inches(10, 4.8)
    left, right = figure.subplots(1, 2)
    figure.suptitle(f"{report.model} on {report.genome}, {report.bases:,} bp", fontsize=11)
    left.plot([0, 1], [0, 1], color="#999999", linewidth=1)
    for kind in report.kinds:
        _reliability(left, kind)
        _curve(right, kind)
    for axes, across, up, title in (
        (left, "mean probability of the calls", "share that is right", f"Reliability, calls from {BELIEVED_FROM} up"),
        (right, "recall", "precision", "Precision and recall; the dot is the threshold"),
    ):
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=across, ylabel=up)
        axes.set_title(title, fontsize=10)
        axes.grid(color="#eeeeee")
        axes.legend(fontsize=8, frameon=False)


def _reliability(axes: Axes, kind: KindScores) -> None:
    diagram = kind.reliability
    if diagram is None or kind.calibration_error is None:
        return
    filled = diagram.count > 0
    label = f"{kind.kind} (error {kind.calibration_error:.3f})"
    axes.plot(
        diagram.mean_probability[filled], diagram.observed[filled], marker="o", color=Kind(kind.kind).hex_colour, label=label
    )


def _curve(axes: Axes, kind: KindScores) -> None:
    within = f" within {kind.within_bp} bp" if kind.within_bp else ""
    label = f"{kind.kind}{within} (AUPRC {kind.auprc.value:.3f})"
    style = _LINES.get(kind.within_bp, "-")
    axes.plot(kind.curve.recall, kind.curve.precision, color=Kind(kind.kind).hex_colour, linestyle=style, label=label)
    axes.plot([kind.called.recall], [kind.called.precision], marker="o", color=Kind(kind.kind).hex_colour)


def _draw_tasks(figure: Figure, report: TaskReport) -> None:
    count = len(report.tasks)
    figure.set_size_inches(max(5.0, 2.0 + 0.6 * count), 4.2)
    axes = figure.subplots()
    at = np.arange(count)
    for shift, name, colour in ((-0.2, "MCC", "#0072B2"), (0.2, "F1", "#E69F00")):
        heights = [task.scores.mcc if name == "MCC" else task.scores.f1 for task in report.tasks]
        axes.bar(at + shift, heights, 0.38, color=colour, label=name)
    axes.set_xticks(at, [f"{task.task} ({task.split})" for task in report.tasks], rotation=60, ha="right", fontsize=8)
    axes.axhline(0, color="#444444", linewidth=0.8)
    axes.set_ylim(top=1.0)
    absent = len(report.missing) + len(report.failed)
    axes.set_title(f"{count} tasks measured" + (f", {absent} missing or failed" if absent else ""), fontsize=10)
    axes.legend(fontsize=8, frameon=False)
