"""A picture of a locus: the calls of a run on both strands, beside annotation, a model's tracks and, close up, the bases."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from annotator.checks import check_path
from annotator.errors import EnvironmentFault, UsageError
from annotator.genome.options import GenomeOptions
from annotator.genome.source import open_genome
from annotator.kinds import STRANDS, Kind, Strand
from annotator.labels.sites import read_sites
from annotator.labels.transcripts import Transcript, read_transcripts
from annotator.results.results import BatchResults, Results, open_results, parse_region

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from annotator.scan.predict import Predictor, Tracks

MOST_TRANSCRIPTS = 12
"""So many are drawn, from the first exon on."""
LETTERS_BP = 150
"""A region of at most so many bases is shown with its letters."""
CONTEXT_BP = 6_000
"""Bases on either side that a model reads beyond the region."""
_BASE_COLOURS = {"A": "#2e7d32", "C": "#1565c0", "G": "#ef6c00", "T": "#c62828"}
_DARK, _LIGHT = "#444444", "#999999"


@dataclass(frozen=True)
class _Place:
    """The region: contig, its number among all, and half-open 0-based ends."""

    contig: str
    number: int
    start: int
    end: int

    @property
    def bp(self) -> int:
        """Bases shown."""
        return self.end - self.start


def plot_locus(
    results: Results | str | Path,
    region: str,
    *,
    genome: str | Path | None = None,
    genes: str | Path | None = None,
    truth: str | Path | None = None,
    model: Predictor | None = None,
) -> Figure:
    """Draw the calls of a run in a region.

    Args:
        results: The results, or their folder.
        region: "chr1:1-5000" (1-based, both ends included) or a whole contig, "chr1".
        genome: The FASTA of the run. With it a region of at most 150 bases is shown with its letters, and `model` can be drawn.
        genes: Annotation whose transcripts are drawn above, GTF or GFF3.
        truth: Sites that are drawn as triangles under the calls, BED (donor, acceptor, tss) or GTF/GFF3.
        model: From `load_model`: its probabilities of every base are drawn as lines behind the calls.

    Returns:
        A matplotlib figure, which a notebook shows; `savefig` writes it. Lines are calls of sites, bars the calls of features and
        promoters with a dot at the TSS, ticks at the bottom motif hits; coordinates are 0-based.

    Raises:
        UsageError: The region is not in the genome, or `model` is given without `genome`.
        InputError: A file is bad, or is another genome's.
        EnvironmentFault: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise EnvironmentFault("plots need matplotlib: pip install 'genome-annotator[plot]'")
    import matplotlib.pyplot as plt

    found = results if isinstance(results, Results) else open_results(check_path("results", results))
    if isinstance(found, BatchResults):
        raise UsageError(f"{found.path}: holds several assemblies; give one of its samples: {', '.join(list(found.samples)[:5])}")
    if model is not None and genome is None:
        raise UsageError("needs the bases: give `genome` too", "model")
    place = _place(found, region)
    transcripts = _transcripts(Path(check_path("genes", genes)), found, place) if genes is not None else []
    sequence, first = _bases(Path(check_path("genome", genome)), found, place) if genome is not None else ("", 0)
    heights = [0.16 * len(transcripts) + 0.3] * bool(transcripts) + [1.0, 1.0]
    figure, axes = plt.subplots(
        len(heights), 1, figsize=(11, 1.9 * sum(heights) + 0.8), sharex=True, height_ratios=heights, layout="constrained",
        squeeze=False,
    )  # fmt: skip
    plt.close(figure)  # or a notebook would show it twice
    rows = list(axes[:, 0])
    if transcripts:
        _draw_transcripts(rows.pop(0), transcripts, place)
    calls = found.calls(region=f"{place.contig}:{place.start + 1}-{place.end}").collect()
    tracks = model.predict(sequence) if model is not None else None
    known = read_sites(Path(check_path("truth", truth)), found.contigs) if truth is not None else None
    for axis, strand in zip(rows, STRANDS, strict=True):
        if tracks is not None:
            _draw_tracks(axis, tracks, strand, first, place)
        _draw_calls(axis, calls, strand)
        for kind in (Kind.DONOR, Kind.ACCEPTOR, Kind.PROMOTER) if known is not None else ():
            assert known is not None
            at = np.asarray(known.positions(kind.row.track, strand).get(place.number, []), np.int64)
            axis.scatter(at, np.full(len(at), -0.09), marker="^", s=14, color=kind.hex_colour, clip_on=True, zorder=3)
        axis.set_ylim(-0.2, 1.05)
        axis.set_ylabel(f"strand {strand.symbol}\nprobability")
    if sequence and place.bp <= LETTERS_BP:
        _draw_letters(rows[0], sequence[place.start - first : place.end - first], place)
    rows[0].legend(handles=_legend(), loc="upper right", fontsize=8, ncols=5, frameon=False)
    rows[-1].set_xlabel(f"{place.contig} (0-based)")
    rows[-1].set_xlim(place.start, place.end)
    rows[-1].ticklabel_format(useOffset=False, style="plain", axis="x")
    return figure


def _place(found: Results, region: str) -> _Place:
    chosen = parse_region(region, found.contigs)
    length = found.contigs[chosen.contig]
    end = length if chosen.end is None else min(chosen.end, length)
    if chosen.start >= end:
        raise UsageError(f"{chosen.contig} has {length:,} bases", "region", region)
    return _Place(chosen.contig, list(found.contigs).index(chosen.contig), chosen.start, end)


def _transcripts(path: Path, found: Results, place: _Place) -> list[Transcript]:
    here = [
        each for each in read_transcripts(path, found.contigs)
        if each.contig == place.number and int(each.exons[0, 0]) < place.end and int(each.exons[-1, 1]) > place.start
    ]  # fmt: skip
    return sorted(here, key=lambda each: (int(each.exons[0, 0]), each.name))[:MOST_TRANSCRIPTS]


def _bases(genome: Path, found: Results, place: _Place) -> tuple[str, int]:
    """Bases of the region and its surroundings, and the position of the first of them."""
    with tempfile.TemporaryDirectory() as spool:
        source = open_genome(genome, Path(spool), GenomeOptions())
        lengths = dict(zip(source.contigs.names, source.contigs.lengths.tolist(), strict=True))
        if lengths != found.contigs:
            raise UsageError(f"{genome}: is not the genome of {found.path}: other contigs or lengths", "genome")
        first, last = max(0, place.start - CONTEXT_BP), min(lengths[place.contig], place.end + CONTEXT_BP)
        return source.read_bases(place.number, first, last).tobytes().decode("ascii"), first


def _draw_transcripts(axis: Axes, transcripts: list[Transcript], place: _Place) -> None:
    for row, transcript in enumerate(transcripts):
        colour = _LIGHT if transcript.strand is Strand.MINUS else _DARK
        axis.plot([transcript.exons[0, 0], transcript.exons[-1, 1]], [row, row], color=colour, lw=0.8)
        least = max(1, place.bp // 1000)
        axis.broken_barh([(int(a), max(int(b - a), least)) for a, b in transcript.exons], (row - 0.35, 0.7), color=colour)
    axis.set_ylim(len(transcripts), -1)
    axis.set_yticks([])
    axis.set_ylabel("transcripts\n(dark +, light -)")


def _draw_tracks(axis: Axes, tracks: Tracks, strand: Strand, first: int, place: _Place) -> None:
    by_track = {kind.row.track: kind for kind in (Kind.DONOR, Kind.ACCEPTOR, Kind.PROMOTER)}
    for name in tracks.names:
        colour = by_track[name].hex_colour if name in by_track else Kind.FEATURE.hex_colour
        values = tracks.probability(name, strand)[place.start - first : place.end - first]
        axis.plot(np.arange(place.start, place.end), values, color=colour, lw=0.7, alpha=0.5)


def _draw_calls(axis: Axes, calls: pl.DataFrame, strand: Strand) -> None:
    here = calls.filter(calls["strand"] == strand.symbol)
    for kind in (Kind.DONOR, Kind.ACCEPTOR):
        mine = here.filter(here["kind"] == kind)
        axis.vlines(mine["position"].to_numpy(), 0, mine["probability"].to_numpy(), color=kind.hex_colour, lw=1.4)
    for kind in (Kind.PROMOTER, Kind.FEATURE):
        mine = here.filter(here["kind"] == kind)
        heights, starts, ends = (mine[column].to_numpy() for column in ("probability", "start", "end"))
        axis.hlines(heights, starts, ends, color=kind.hex_colour, lw=3, alpha=0.7)
        if kind is Kind.PROMOTER:
            axis.plot(mine["position"].to_numpy(), mine["probability"].to_numpy(), "o", color=kind.hex_colour, ms=4)
    hits = here.filter(here["kind"] == Kind.TFBS)
    centres = (hits["start"].to_numpy() + hits["end"].to_numpy()) / 2
    axis.vlines(centres, -0.2, -0.15, color=Kind.TFBS.hex_colour, lw=0.6, alpha=0.5)


def _draw_letters(axis: Axes, letters: str, place: _Place) -> None:
    for at, letter in enumerate(letters.upper()):
        axis.text(
            place.start + at, 1.06, letter, color=_BASE_COLOURS.get(letter, _LIGHT), ha="center", va="bottom", fontsize=7,
            family="monospace",
        )  # fmt: skip


def _legend() -> list[object]:
    from matplotlib.lines import Line2D

    kinds = (Kind.DONOR, Kind.ACCEPTOR, Kind.PROMOTER, Kind.TFBS)
    return [Line2D([], [], color=kind.hex_colour, lw=2, label=str(kind)) for kind in kinds]
