"""Whether an annotation may be believed: what was read of it, what was left out, and what its introns look like."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from annotator.errors import InputError
from annotator.kinds import LABEL_TRACKS
from annotator.labels.signals import GenomeBases, SignalCheck, check_introns, check_sites
from annotator.labels.sites import Sites

logger = logging.getLogger(__name__)

WARN_BELOW, REFUSE_BELOW = 0.9, 0.5
"""Shares of introns (or sites) with splice signals: fewer are a warning, or an error."""
FEWEST = 5
"""Fewer introns (or sites) than this are no reason to refuse a file: a few may be odd by chance."""


@dataclass(frozen=True)
class AnnotationReport:
    """What became of an annotation file.

    Attributes:
        path: The file.
        counts: What was read and left out, by name, as of `read_sites`.
        left_out: What was left out, one phrase a reason.
        remarks: What else is to be known, one phrase each.
        signals: What stands at its introns or sites; None where it has none.
    """

    path: Path
    counts: dict[str, int]
    left_out: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    signals: SignalCheck | None = None

    def lines(self) -> Iterator[str]:
        """The report in words, a line each: for logs and reports."""
        if self.signals is not None:
            yield f"{self.path}: {self.signals}"
            if self.signals.canonical_share < WARN_BELOW:
                yield f"{self.path}: {self._doubt()}"
        yield from (f"{self.path}: left out: {phrase}" for phrase in self.left_out)
        yield from (f"{self.path}: {phrase}" for phrase in self.remarks)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values, ready for JSON."""
        signals = self.signals
        return {
            "file": self.path.name,
            "counts": self.counts,
            "signals": dict(signals.counts) if signals else {},
            "canonical_share": round(signals.canonical_share, 4) if signals else None,
            "notes": [line.removeprefix(f"{self.path}: ") for line in self.lines()],
        }

    def judge(self, *, accept: bool, refuse: bool = True) -> None:
        """Tell the log, and refuse a file whose introns are not those of the genome.

        Args:
            accept: Go on all the same.
            refuse: Whether the file is a truth, and not sites that are only left out of it.

        Raises:
            InputError: Fewer than REFUSE_BELOW of at least FEWEST introns have splice signals.
        """
        signals = self.signals
        if signals is not None and refuse and not accept and signals.known >= FEWEST and signals.canonical_share < REFUSE_BELOW:
            raise InputError(f"{self.path}: {self._doubt()} (--accept-annotation goes on all the same)")
        for line in self.lines():
            is_fine = signals is not None and line == f"{self.path}: {signals}"
            logger.log(logging.INFO if is_fine else logging.WARNING, "%s", line)

    def _doubt(self) -> str:
        assert self.signals is not None
        share = f"{100 * self.signals.canonical_share:.0f} %"
        what = (
            "are GT-AG, GC-AG or AT-AC"
            if self.signals.unit == "introns"
            else "are donors at GT, GC or AT or acceptors at AG or AC"
        )
        return f"only {share} of {self.signals.known:,} {self.signals.unit} {what}: {self.signals.cause}"


def report_on(path: Path, sites: Sites, bases: GenomeBases) -> AnnotationReport:
    """Hold the sites of a file against the genome.

    Args:
        path: The file.
        sites: What was read of it.
        bases: The genome it is said to be of.

    Returns:
        The report; `judge` acts on it.
    """
    signals = None
    if len(sites.introns):
        signals = check_introns(sites.introns, bases)
    elif (sites.kind < LABEL_TRACKS.index("tss")).any():
        signals = check_sites(sites.contig, sites.position, sites.kind, sites.strand, bases)
    return AnnotationReport(path, dict(sites.counts), sites.left_out, sites.remarks, signals)
