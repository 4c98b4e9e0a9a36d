"""The picture of where the calls lie: a line for each of the longest contigs, a hill for each kind of call."""

from __future__ import annotations

from typing import Final

import numpy as np

from annotator.kinds import Kind
from annotator.report.elements import Figure, Table, colour
from annotator.report.facts import MOST_DRAWN, Facts, longest_contigs
from annotator.report.svg import WIDTH, key, line, picture, text

_LANE, _GAP, _LABEL = 14, 8, 120
_LONGEST_LABEL: Final = 18


def karyogram(facts: Facts, contigs: dict[str, int]) -> Figure:
    """Densities along the longest contigs; each kind by its own scale, which its densest stretches set.

    Args:
        facts: The figures of the run.
        contigs: Length of every contig.
    """
    ranked = longest_contigs(contigs, MOST_DRAWN)
    chosen = set(ranked)
    shown = [name for name in contigs if name in chosen]
    longest = max((contigs[name] for name in shown), default=1) or 1
    height_of = {kind: _scale(facts, kind) for kind in facts.kinds}
    row = _LANE * max(len(facts.kinds), 1) + _GAP
    parts = []
    for number, name in enumerate(shown):
        top, right = number * row, _LABEL + (WIDTH - _LABEL - 8) * contigs[name] / longest
        short = name if len(name) <= _LONGEST_LABEL else name[: _LONGEST_LABEL - 1] + "…"
        parts.append(text(_LABEL - 8, top + row / 2 + 4, short, anchor="end"))
        for lane, kind in enumerate(facts.kinds):
            base = top + (lane + 1) * _LANE
            parts.append(line(_LABEL, base, max(right, _LABEL + 1), base))
            counts = facts.densities.get((name, kind))
            if counts is not None:
                heights = np.minimum(counts / height_of[kind], 1.0) * (_LANE - 2)
                parts.append(_hill(heights.tolist(), base, contigs[name] / longest, colour(kind)))
    words = ", ".join(f"{kind} up to {height_of[kind] / facts.bin_bp * 1e6:,.0f} a Mb" for kind in facts.kinds)
    rows = [[name, contigs[name], *(x for kind in facts.kinds for x in _densest(facts, name, kind))] for name in ranked]
    head = ["contig", "bp", *(word for kind in facts.kinds for word in (f"{kind} / Mb", f"densest {kind} / Mb", "at Mb"))]
    note = f"Full height: {words}. A stretch has {facts.bin_bp:,} bp."
    if len(contigs) > MOST_DRAWN:
        note += f" The {MOST_DRAWN} longest of {len(contigs):,} contigs are drawn."
    svg = key([(str(kind), colour(kind)) for kind in facts.kinds]) + picture(
        "Density of calls along the longest contigs", "".join(parts), height=len(shown) * row + 4
    )
    return Figure("Where the calls lie", svg, Table(f"Calls in stretches of {facts.bin_bp:,} bp", head, rows), note)


def _scale(facts: Facts, kind: Kind) -> float:
    """Calls of a stretch that are drawn at full height: more than in 99 of 100 stretches."""
    counts = [counts for (_, other), counts in facts.densities.items() if other is kind]
    return max(1.0, float(np.quantile(np.concatenate(counts), 0.99))) if counts else 1.0


def _hill(heights: list[float], base: float, share: float, fill: str) -> str:
    width = (WIDTH - _LABEL - 8) * share / max(len(heights), 1)
    steps = "".join(f"V{base - height:.1f}h{width:.2f}" for height in heights)
    return f'<path d="M{_LABEL} {base:.1f}{steps}V{base:.1f}Z" style="fill:{fill}"/>'


def _densest(facts: Facts, contig: str, kind: Kind) -> tuple[float | None, float | None, float | None]:
    """Calls in a million bases of a contig, in its densest stretch, and where that begins, in Mb."""
    counts = facts.densities.get((contig, kind))
    if counts is None:
        return None, None, None
    best = int(counts.argmax())
    per_mb = 1e6 / facts.bin_bp
    return float(counts.sum()) / len(counts) * per_mb, float(counts[best]) * per_mb, best * facts.bin_bp / 1e6
