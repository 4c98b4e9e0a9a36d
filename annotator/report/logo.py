"""Sequence logos: the bases around calls, each position as high as it tells bits, each letter as high as its share of that."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from annotator.calls.profiles import LETTERS, OFFSETS, Profile
from annotator.report.svg import Axes, picture, text

_GLYPHS: Final = {
    "A": "M0 0L.37 1L.63 1L1 0L.78 0L.7 .24L.3 .24L.22 0ZM.36 .4L.64 .4L.5 .8Z",
    "C": "M1 .3C.95 .1 .77 0 .53 0C.2 0 0 .2 0 .5C0 .8 .2 1 .53 1C.77 1 .95 .9 1 .7L.79 .65C.75 .77 .67 .84 .53 .84"
    "C.33 .84 .22 .72 .22 .5C.22 .28 .33 .16 .53 .16C.67 .16 .76 .23 .79 .35Z",
    "G": "M1 .52L.55 .52L.55 .37L.79 .37L.79 .24C.73 .19 .65 .16 .55 .16C.34 .16 .22 .28 .22 .5C.22 .72 .34 .84 .55 .84"
    "C.67 .84 .75 .79 .78 .68L.98 .73C.93 .91 .78 1 .55 1C.2 1 0 .8 0 .5C0 .2 .2 0 .54 0C.73 0 .89 .06 1 .16Z",
    "T": "M.39 0L.61 0L.61 .83L1 .83L1 1L0 1L0 .83L.39 .83Z",
}
"""Outlines of the letters in a square of side 1, upwards: no font decides how high a letter is."""
BASE_COLOUR: Final = {"A": "var(--base-a)", "C": "var(--base-c)", "G": "var(--base-g)", "T": "var(--base-t)"}


def shares(profile: Profile) -> NDArray[np.float64]:
    """Share of A, C, G and T at each offset, float64, [101, 4]; a quarter each where nothing was counted."""
    counts = profile.counts[:, :4].astype(np.float64)
    total = counts.sum(1, keepdims=True)
    found: NDArray[np.float64] = np.where(total > 0, counts / np.maximum(total, 1), 0.25)
    return found


def information(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bits that each position tells: 2 less the entropy of its bases, float64, [n]."""
    logs = np.log2(np.where(share > 0, share, 1.0))
    bits: NDArray[np.float64] = 2 + (share * logs).sum(-1)
    return bits


def logo(label: str, profile: Profile, first: int, last: int) -> str:
    """The logo of the offsets from `first` to `last`, both included."""
    rows = np.flatnonzero((first <= OFFSETS) & (last >= OFFSETS))
    share = shares(profile)[rows]
    bits = information(share)
    axes = Axes("base from the call's position, in reading direction", "bits", (0, len(rows)), (0, 2), height=220)
    parts = [axes.frame([(at + 0.5, f"{OFFSETS[row]:+d}" if OFFSETS[row] else "0") for at, row in enumerate(rows.tolist())])]
    for at in range(len(rows)):
        low = 0.0
        for letter in np.argsort(share[at], kind="stable").tolist():
            height = float(share[at, letter] * bits[at])
            if height > 0.004:
                parts.append(_letter(LETTERS[letter], axes, at, low, height))
            low += height
    if not profile.calls:
        parts.append(text(axes.across(len(rows) / 2), axes.up(1), "no calls", anchor="middle"))
    return picture(label, "".join(parts), height=axes.height)


def _letter(letter: str, axes: Axes, at: int, low: float, height: float) -> str:
    left, width = axes.across(at + 0.06), axes.across(at + 0.94) - axes.across(at + 0.06)
    bottom, scale = axes.up(low), axes.up(low) - axes.up(low + height)
    move = f"matrix({width:.2f} 0 0 {-scale:.2f} {left:.2f} {bottom:.2f})"
    return f'<path d="{_GLYPHS[letter]}" transform="{move}" style="fill:{BASE_COLOUR[letter]};fill-rule:evenodd"/>'
