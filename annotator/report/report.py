"""The command `report`: what a run found, on one page without scripts, and the same figures for MultiQC."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

import polars as pl

from annotator.errors import AnnotatorError, InputError, UsageError
from annotator.output.schema import PREDICTIONS_FILE
from annotator.report.circumstances import provenance, skipped, thresholds
from annotator.report.compare import side_by_side
from annotator.report.elements import Section
from annotator.report.facts import Facts, gather
from annotator.report.found import bases, introns, motifs, places, scores, summary
from annotator.report.multiqc import multiqc_json
from annotator.results.pages import REPORT_HTML, REPORT_MQC, head, identity, is_made_from, refuse_foreign_page, write_page
from annotator.results.results import BatchResults, Results, open_results

logger = logging.getLogger(__name__)

_CSS: Final = Path(__file__).parent / "assets" / "report.css"
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def write_report(folders: Sequence[Path], out: Path | None = None, truth: Path | None = None) -> Path:
    """Write the report of a run, or of several side by side.

    Args:
        folders: Results folders; that of several assemblies stands for all of them.
        out: The page; None for report.html in the one folder that is given, which then gets the file for MultiQC too.
        truth: BED of sites, GTF or GFF3 that the calls of a single run are held against.

    Returns:
        The page.

    Raises:
        UsageError: There is no finished run, the options do not go together, or a file of that name is not ours.
        InputError: A file of the run is damaged, or the annotation is, or is of another assembly.
        ResourceFault: The page cannot be written.
    """
    opened = [open_results(folder) for folder in folders]
    if out is None and len(opened) > 1:
        raise UsageError("several runs: say where the page is to be written", "out")
    path = out or opened[0].path / REPORT_HTML
    if path.is_dir():
        raise UsageError(f"is a folder; give the name of a page, such as {path / REPORT_HTML}", "out", str(path))
    runs = _named(opened)
    single = not isinstance(opened[0], BatchResults) and len(opened) == 1
    if truth is not None:
        if not single:
            raise UsageError("holds the calls of one run against an annotation; give one results folder", "truth", str(truth))
        if not truth.is_file():
            raise UsageError("no such file", "truth", str(truth))
    refuse_foreign_page(path)
    try:
        if single:
            _write_single(opened[0], path, truth, beside=out is None)
        else:
            write_page(path, _several(runs, path.stem if out else opened[0].path.resolve().name))
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{opened[0].path / PREDICTIONS_FILE}: cannot be read: {' '.join(str(error).split())}") from None
    logger.info("%s: %.1f kB", path, path.stat().st_size / 1e3)
    return path


def report_on_run(folder: Path) -> None:
    """Write the report of a run that has just ended, unless it has one; a fault is logged, for the calls are there."""
    try:
        results = open_results(folder)
        if is_made_from(folder / REPORT_HTML, results.run):
            return
        write_report([folder])
    except AnnotatorError as error:
        logger.warning("no report: %s", error)
    except Exception as error:  # the run is complete: a fault of ours here must not make it fail
        logger.warning("no report: internal error: %s: %s", type(error).__name__, error)
        logger.debug("traceback", exc_info=True)


def _write_single(results: Results, path: Path, truth: Path | None, *, beside: bool) -> None:
    """The report of one run, and the file for MultiQC where it stands in the results folder."""
    name = results.path.resolve().name
    facts = gather(results)
    sections = [summary(results, facts)]
    if truth is not None:
        from annotator.report.accuracy import accuracy  # with torch, which no other part of a report loads

        sections.append(accuracy(results, truth))
    sections += [scores(facts), thresholds(results, facts), places(results, facts)]
    sections += [section for section in (bases(results, facts), introns(facts), motifs(facts)) if section]
    sections += [skipped(results), provenance(results)]
    write_page(path, _html(name, _opening(results, facts), sections, identity(results.run)))
    if beside:
        write_page(results.path / REPORT_MQC, multiqc_json(name, results, facts))


def _several(runs: dict[str, Results], title: str) -> str:
    facts = {name: gather(results) for name, results in runs.items()}
    return _html(title, f"{len(runs)} runs of genome-annotator side by side.", side_by_side(runs, facts), "")


def _named(opened: Sequence[Results]) -> dict[str, Results]:
    """The single runs by name; a name that comes again gets the folder above it, or a number."""
    runs: dict[str, Results] = {}
    for results in opened:
        single = results.samples if isinstance(results, BatchResults) else {results.path.resolve().name: results}
        for name, one in single.items():
            unique = name if name not in runs else f"{one.path.resolve().parent.name}/{name}"
            number = 2
            while unique in runs:
                unique, number = f"{name} ({number})", number + 1
            runs[unique] = one
    if not runs:
        raise UsageError(f"{opened[0].path}: none of its assemblies has results")
    return runs


def _opening(results: Results, facts: Facts) -> str:
    plan = results.run["plan"]
    found = ", ".join(f"{facts.calls[kind]:,} {kind}" for kind in facts.kinds) or "nothing"
    return (
        f"genome-annotator called {found} in {facts.bases:,} bp, with model {plan['model']['name']} {plan['model']['version']} "
        f"and the settings of clade {plan['clade']}."
    )


def _html(title: str, opening: str, sections: Sequence[Section], of: str) -> str:
    """The page: a heading, a list of its sections, and the sections."""
    links = "".join(f'<li><a href="#{section.name}">{escape(section.title)}</a></li>' for section in sections)
    return (
        head(f"{title}: report", _POLICY, _CSS.read_text(encoding="utf-8"), of)
        + f'<body>\n<a class="skip" href="#main">Skip to the figures</a>\n<header><h1>{escape(title)}</h1>'
        + f'<p>{escape(opening)}</p></header>\n<nav aria-label="Sections"><ul>{links}</ul></nav>\n'
        + '<main id="main" tabindex="-1">\n'
        + "".join(section.html() for section in sections)
        + "</main>\n</body>\n</html>\n"
    )
