"""Pictures as inline SVG: axes, histograms, curves and bars that follow the page's colours, in light, dark and print.

A picture says in its label what it shows; the figures themselves stand in the table beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

import numpy as np
from numpy.typing import NDArray

WIDTH: Final = 640
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 14, 12, 44


@dataclass(frozen=True)
class Series:
    """A curve.

    Attributes:
        label: Its name in the key.
        colour: Its colour, as CSS writes it.
        x: float64, [n].
        y: float64, [n].
        dash: Pattern of dashes, such as "6 3"; empty for none.
        dots: Whether its points are marked.
    """

    label: str
    colour: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    dash: str = ""
    dots: bool = False


def picture(label: str, body: str, *, height: float, width: float = WIDTH) -> str:
    """An SVG element.

    Args:
        label: What it shows, for those who do not see it.
        body: Its elements.
        height: Units of its height; lines of text are 12 high.
        width: Units of its width.
    """
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}" '
        f'style="max-width:{width:g}px">{body}</svg>'
    )


def text(x: float, y: float, words: str, *, anchor: str = "start", turned: bool = False, colour: str = "") -> str:
    """A line of text; `turned` is read from below."""
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    fill = f' style="fill:{colour}"' if colour else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{turn}{fill}>{escape(words)}</text>'


def rectangle(x: float, y: float, width: float, height: float, colour: str, hint: str = "") -> str:
    """A filled rectangle, with words that a pointer brings up."""
    title = f"<title>{escape(hint)}</title>" if hint else ""
    return f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" style="fill:{colour}">{title}</rect>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str = "axis") -> str:
    """A thin line of one of the page's classes: axis or grid."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from `low` to `high`, about so many."""
    span = high - low
    if span <= 0:
        return [low]
    rough = span / max(most - 1, 1)
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(step * number, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Axes:
    """The frame of a picture with two axes.

    Attributes:
        x_label: What runs to the right.
        y_label: What runs up.
        x: Smallest and largest value to the right.
        y: Smallest and largest value up.
        height: Units of the picture's height.
        width: Units of its width.
    """

    x_label: str
    y_label: str
    x: tuple[float, float]
    y: tuple[float, float]
    height: float = 260
    width: float = WIDTH

    def across(self, value: float) -> float:
        """Place of a value to the right."""
        low, high = self.x
        return _LEFT + (value - low) / ((high - low) or 1) * (self.width - _LEFT - _RIGHT)

    def up(self, value: float) -> float:
        """Place of a value up."""
        low, high = self.y
        return self.height - _BOTTOM - (value - low) / ((high - low) or 1) * (self.height - _TOP - _BOTTOM)

    def frame(self, x_ticks: Sequence[tuple[float, str]] | None = None) -> str:
        """Lines, numbers and labels; `x_ticks` are places and words in place of round numbers."""
        bottom, right = self.height - _BOTTOM, self.width - _RIGHT
        parts = []
        for value in ticks(*self.y, most=5):
            parts.append(line(_LEFT, self.up(value), right, self.up(value), "grid"))
            parts.append(text(_LEFT - 6, self.up(value) + 4, f"{value:,.6g}", anchor="end"))
        for value, words in x_ticks or [(value, f"{value:,.6g}") for value in ticks(*self.x)]:
            parts.append(line(self.across(value), bottom, self.across(value), bottom + 4))
            parts.append(text(self.across(value), bottom + 16, words, anchor="middle"))
        parts += [line(_LEFT, bottom, right, bottom), line(_LEFT, _TOP, _LEFT, bottom)]
        parts.append(text((_LEFT + right) / 2, self.height - 6, self.x_label, anchor="middle"))
        parts.append(text(14, (_TOP + bottom) / 2, self.y_label, anchor="middle", turned=True))
        return "".join(parts)


def histogram(
    label: str, counts: Sequence[int], words: Sequence[str], colour: str, x_label: str, *, each: int = 1, y_label: str = "calls"
) -> str:
    """Bars that stand side by side.

    Args:
        label: What the picture shows.
        counts: Height of each bar.
        words: What each bar is about.
        colour: Colour of the bars.
        x_label: What runs to the right.
        each: Every so many bars have their words below.
        y_label: What runs up.
    """
    axes = Axes(x_label, y_label, (0, len(counts)), (0, max([1, *counts]) * 1.05), height=220)
    x_ticks = [(at, words[at]) for at in range(0, len(counts), each)]
    bars = "".join(
        rectangle(axes.across(at) + 0.5, axes.up(count), axes.across(at + 1) - axes.across(at) - 1, axes.up(0) - axes.up(count),
                  colour, f"{words[at]}: {count:,}")
        for at, count in enumerate(counts) if count
    )  # fmt: skip
    return picture(label, axes.frame(x_ticks) + bars, height=axes.height)


def curves(label: str, series: Sequence[Series], axes: Axes, *, diagonal: bool = False) -> str:
    """Curves with a key above them."""
    parts = [axes.frame()]
    if diagonal:
        parts.append(line(axes.across(0), axes.up(0), axes.across(1), axes.up(1), "grid"))
    for one in series:
        points = [(axes.across(x), axes.up(y)) for x, y in zip(one.x.tolist(), one.y.tolist(), strict=True)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dash = f";stroke-dasharray:{one.dash}" if one.dash else ""
        parts.append(f'<polyline points="{path}" class="curve" style="stroke:{one.colour}{dash}"/>')
        if one.dots:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" style="fill:{one.colour}"/>' for x, y in points]
    return key([(one.label, one.colour) for one in series]) + picture(label, "".join(parts), height=axes.height, width=axes.width)


def grouped_bars(label: str, names: Sequence[str], groups: Sequence[tuple[str, str, Sequence[float]]], y_label: str) -> str:
    """For each name, one bar of every group.

    Args:
        label: What the picture shows.
        names: What stands below.
        groups: Name, colour and values of each group.
        y_label: What runs up.
    """
    highest = max([0.0, *(value for _, _, values in groups for value in values)])
    axes = Axes("", y_label, (0, len(names)), (0, highest * 1.05 or 1.0), height=260)
    share = 0.8 / max(len(groups), 1)
    parts = [axes.frame([(at + 0.5, name if len(name) <= 18 else name[:17] + "…") for at, name in enumerate(names)])]
    for number, (group, colour, values) in enumerate(groups):
        for at, value in enumerate(values):
            left, right = axes.across(at + 0.1 + number * share), axes.across(at + 0.1 + (number + 1) * share)
            hint = f"{names[at]}, {group}: {value:,.4g}"
            parts.append(rectangle(left, axes.up(value), right - left, axes.up(0) - axes.up(value), colour, hint))
    return key([(group, colour) for group, colour, _ in groups]) + picture(label, "".join(parts), height=axes.height)


def key(rows: Sequence[tuple[str, str]]) -> str:
    """What the colours of a picture mean."""
    entries = "".join(f'<span><i style="background:{colour}"></i>{escape(name)}</span>' for name, colour in rows)
    return f'<p class="key">{entries}</p>'
