"""The statistics that `annotator example` draws sequence from: counts of synthetic_human.json turned into tables of odds.

Coordinates: transcript order; offsets from the transcription start (tss = 0), or from an exon boundary (donor -3..-1 exon and
1..6 intron, acceptor -40..-1 intron and 1..3 exon). Bases are codes A=0, C=1, G=2, T=3.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

ORDER = 4
"""Bases of context every table looks up; tables of lower order repeat themselves."""

CONTEXTS = 4**ORDER
PROMOTER_BP = 1000
"""Bases before and after the tss that follow the promoter tables."""

DONOR_EXON_BP, DONOR_INTRON_BP = 3, 6
ACCEPTOR_INTRON_BP, ACCEPTOR_EXON_BP = 40, 3

INTERGENIC, INTRON, UTR, CODING = 0, 1, 2, 3
"""Labels of positions; CODING + phase (0..2) is the base of a codon."""

_PSEUDOCOUNT = 0.1  # a context never seen must lead somewhere


class Uniforms:
    """The source of every random number: one stream, in one order, which NumPy keeps stable."""

    def __init__(self, seed: int) -> None:
        """Start the stream."""
        self._generator = np.random.Generator(np.random.PCG64(seed))

    def many(self, count: int) -> list[float]:
        """Numbers in [0, 1)."""
        values: list[float] = self._generator.random(count).tolist()
        return values

    def one(self) -> float:
        """A number in [0, 1)."""
        return float(self._generator.random())

    def whole(self, low: int, high: int) -> int:
        """A whole number in [low, high)."""
        return low + int(self.one() * (high - low))

    def pick(self, odds: Sequence[float] | NDArray[np.float64]) -> int:
        """An index with chances in proportion to the odds."""
        total = np.cumsum(odds)
        return int(np.searchsorted(total, self.one() * total[-1], side="right"))


class Statistics:
    """The counts of the human train split, ready to draw from."""

    def __init__(self, counts: dict[str, Any]) -> None:
        """Turn counts, as synthetic_human.json holds them, into odds."""
        self._lengths = counts["lengths"]
        self._stops = counts["stop_codons"]
        promoter = counts["promoter"]
        self._promoter_odds = [float(entry["count"]) for entry in promoter["classes"].values()]
        banks = [_odds(np.array(counts["chains"][name])) for name in ("intergenic", "intron", "utr")]
        banks += [_odds(np.array(phase)) for phase in counts["coding"]]
        for first, second, third in ((3, 0, 0), (3, 0, 2), (3, 2, 0)):  # TAA, TAG, TGA end a reading frame
            banks[CODING + 2].reshape(4, 4, 4, 4, 4)[:, :, first, second, third] = 0.0
        self._promoter_labels: list[NDArray[np.int64]] = []
        first_core, end_core = promoter["core"]
        edges = np.array(promoter["edges"])
        for entry in promoter["classes"].values():
            offsets = np.arange(-PROMOTER_BP, PROMOTER_BP)
            labels = len(banks) + np.searchsorted(edges, offsets, side="right") - 1
            banks += [_odds(np.array(chain)) for chain in entry["chains"]]
            inside = (offsets >= first_core) & (offsets < end_core)
            labels[inside] = len(banks) + np.arange(end_core - first_core)
            banks += [_odds(np.array(pairs)) for pairs in entry["core"]]
            self._promoter_labels.append(labels)
        cumulative = np.cumsum(np.stack(banks), axis=2)
        cumulative /= cumulative[:, :, -1:]
        self._bank: list[list[list[float]]] = cumulative[:, :, :3].tolist()
        self._coding_shares = sum(np.array(phase).reshape(CONTEXTS, 4).sum(axis=0) for phase in counts["coding"])
        self._coding_shares = self._coding_shares / self._coding_shares.sum()
        self._donor = np.array(counts["donor"], np.float64).reshape(-1, 4, 4)  # [step, this base, next base]
        self._acceptor = np.array(counts["acceptor"], np.float64).reshape(-1, 4, 4)

    @staticmethod
    def load() -> Statistics:
        """The statistics that ship with the package."""
        text = resources.files("annotator.example").joinpath("synthetic_human.json").read_text(encoding="utf-8")
        return Statistics(json.loads(text))

    def draw_length(self, name: str, uniforms: Uniforms) -> int:
        """A length (or the number of exons) from its histogram, even within a bin."""
        edges, counts = self._lengths[name]["edges"], self._lengths[name]["counts"]
        place = uniforms.pick(counts)
        return uniforms.whole(edges[place], edges[place + 1])

    def draw_promoter_labels(self, uniforms: Uniforms) -> NDArray[np.int64]:
        """Labels of the positions -PROMOTER_BP..PROMOTER_BP - 1 around a tss, of one kind of promoter (CpG-rich or -poor)."""
        return self._promoter_labels[uniforms.pick(self._promoter_odds)]

    def draw_stop_codon(self, uniforms: Uniforms) -> list[int]:
        """The three bases of a stop codon."""
        number = int(list(self._stops)[uniforms.pick([float(count) for count in self._stops.values()])])
        return [number >> 4, (number >> 2) & 3, number & 3]

    def draw_bases(self, labels: Sequence[int] | NDArray[np.int64], before: Sequence[int], uniforms: Uniforms) -> list[int]:
        """Draw one base per label, left to right.

        Args:
            labels: Label of each position (INTERGENIC, ... or a promoter label), [n].
            before: Bases that come before; the last ORDER count, missing ones are drawn.
            uniforms: Source of randomness.

        Returns:
            The bases, [n].
        """
        start = [uniforms.whole(0, 4) for _ in range(ORDER - len(before))] + list(before[-ORDER:])
        context = 0
        for base in start:
            context = context << 2 | base
        bank = self._bank
        bases = []
        for label, chance in zip(np.asarray(labels).tolist(), uniforms.many(len(labels)), strict=True):
            first, second, third = bank[label][context]
            base = (chance >= first) + (chance >= second) + (chance >= third)
            bases.append(base)
            context = (context << 2 | base) & (CONTEXTS - 1)
        return bases

    def junction_odds(self, exon_bases: Sequence[int]) -> float:
        """Odds of the six bases around a junction of two exons, against their odds elsewhere in a coding sequence.

        Args:
            exon_bases: The last three bases of one exon and the first three of the next.
        """
        left, right = exon_bases[:3], exon_bases[3:]
        donor, acceptor = self._donor, self._acceptor[-2:]
        odds = donor[0].sum(axis=1)[left[0]] / donor[0].sum()
        odds *= acceptor[0].sum(axis=1)[right[0]] / acceptor[0].sum()
        for steps, part in ((donor, left), (acceptor, right)):
            for step in (0, 1):
                row = steps[step][part[step]]
                odds *= row[part[step + 1]] / row.sum() if row.sum() else 0.0
        return float(odds / np.prod(self._coding_shares[list(exon_bases)]))

    def draw_donor(self, exon_base: int, uniforms: Uniforms) -> list[int]:
        """The first DONOR_INTRON_BP bases of an intron, given the exon's last base."""
        bases = [exon_base]
        for step in range(DONOR_EXON_BP - 1, len(self._donor)):
            bases.append(uniforms.pick(self._donor[step][bases[-1]]))
        return bases[1:]

    def draw_acceptor(self, exon_base: int, uniforms: Uniforms) -> list[int]:
        """The last ACCEPTOR_INTRON_BP bases of an intron, given the exon's first base; drawn backwards from it."""
        bases = [exon_base]
        for step in range(ACCEPTOR_INTRON_BP - 1, -1, -1):
            bases.append(uniforms.pick(self._acceptor[step][:, bases[-1]]))
        return bases[:0:-1]


def _odds(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Counts of k-mers, any k <= ORDER + 1, as odds of the next base in every context of ORDER bases, [CONTEXTS, 4]."""
    table = counts.reshape(-1, 4) + _PSEUDOCOUNT
    return np.tile(table / table.sum(axis=1, keepdims=True), (CONTEXTS // len(table), 1))
