"""The bases at the ends of introns: what an annotation says held against the genome it is said to be of.

Coordinates: 0-based half-open within a contig.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from annotator.kinds import LABEL_TRACKS
from annotator.labels.tally import MIN_INTRON_BP, UNSIGNALLED_BP, Tally
from annotator.labels.transcripts import Transcript, are_copies

SIGNALS = ("GT-AG", "GC-AG", "AT-AC")
"""First and last two bases of introns, in transcript order; nearly all introns have the first."""
_CODES = np.full(256, 4, np.uint8)
_CODES[np.frombuffer(b"ACGT", np.uint8)] = np.arange(4)
_ODD, _UNKNOWN = len(SIGNALS), len(SIGNALS) + 1
_SHIFTS = (-2, -1, 1, 2)
_EXPLAINED = 0.6
"""Share of the odd ones that a cause must give splice signals to, to be named."""
TRUSTED_SHARE = 0.5
"""Gaps without splice signals are held against single transcripts only where so many introns of the file have them."""


def _pair(letters: str) -> int:
    return "ACGT".index(letters[0]) * 5 + "ACGT".index(letters[1])


_INTRON_CLASSES = np.full((25, 25), _ODD, np.uint8)
for _number, _signal in enumerate(SIGNALS):
    _INTRON_CLASSES[_pair(_signal[:2]), _pair(_signal[3:])] = _number
_DONORS, _ACCEPTORS = {_pair("GT"): "GT", _pair("GC"): "GC", _pair("AT"): "AT"}, {_pair("AG"): "AG", _pair("AC"): "AC"}


@dataclass(frozen=True, eq=False)
class GenomeBases:
    """The bases of all contigs end to end.

    Attributes:
        bases: ASCII bases, uint8, [n].
        starts: Where each contig starts, int64, [contigs].
        ends: Where it ends, int64, [contigs].
    """

    bases: NDArray[np.uint8]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def pairs(self, contig: NDArray[np.int64], first: NDArray[np.int64], strand: NDArray[np.int64]) -> NDArray[np.int64]:
        """Two neighbouring bases in transcript order.

        Args:
            contig: Contig of each pair, int64, [n].
            first: Its first base in transcript order; beyond the contig it is unknown. int64, [n].
            strand: +1 or -1, [n].

        Returns:
            5 * code of the first + code of the second, A C G T N = 0..4, int64, [n].
        """
        one, two = (self._codes(contig, first + step * strand, strand) for step in (0, 1))
        return one * 5 + two

    def _codes(self, contig: NDArray[np.int64], position: NDArray[np.int64], strand: NDArray[np.int64]) -> NDArray[np.int64]:
        place = self.starts[contig] + position
        inside = (position >= 0) & (place < self.ends[contig])
        code = _CODES[self.bases[np.where(inside, place, 0)]].astype(np.int64) if len(self.bases) else np.full(len(place), 4)
        code = np.where((strand < 0) & (code < 4), 3 - code, code)
        found: NDArray[np.int64] = np.where(inside, code, 4)
        return found


def intron_classes(introns: NDArray[np.int64], bases: GenomeBases, shift: tuple[int, int] = (0, 0)) -> NDArray[np.uint8]:
    """What stands at the ends of introns.

    Args:
        introns: Contig, start, end and strand, int64, [n, 4].
        bases: The genome.
        shift: Bases that all starts and all ends are moved by first, along the contig.

    Returns:
        Index into `SIGNALS`; its length for anything else, one more where a base is N or beyond the contig. uint8, [n].
    """
    contig, start, end, strand = introns.T
    start, end = start + shift[0], end + shift[1]
    donor = bases.pairs(contig, np.where(strand > 0, start, end - 1), strand)
    acceptor = bases.pairs(contig, np.where(strand > 0, end - 2, start + 1), strand)
    found = _INTRON_CLASSES[donor, acceptor]
    unknown = (donor // 5 > 3) | (donor % 5 > 3) | (acceptor // 5 > 3) | (acceptor % 5 > 3)
    result: NDArray[np.uint8] = np.where(unknown, _UNKNOWN, found).astype(np.uint8)
    return result


@dataclass(frozen=True)
class SignalCheck:
    """What stands at the ends of a file's introns or, of a BED file, at its sites.

    Attributes:
        unit: "introns", or "splice sites" of a BED file.
        counts: How many have which bases ("GT-AG", or "donor GT"), and "other"; those with an N, or cut by a contig's end, are
            counted as "unknown".
        cause: What would explain the others; empty where nothing has to be explained.
    """

    unit: str
    counts: Mapping[str, int]
    cause: str = ""

    @property
    def known(self) -> int:
        """How many could be looked at."""
        return sum(self.counts.values()) - self.counts["unknown"]

    @property
    def canonical_share(self) -> float:
        """Share of them with splice signals; 1 where there is nothing to look at."""
        return 1.0 - self.counts["other"] / self.known if self.known else 1.0

    def __str__(self) -> str:
        """The counts in one line."""
        count = sum(self.counts.values())
        total = f"{count:,} {self.unit.removesuffix('s') if count == 1 else self.unit}"
        return f"{total}: " + ", ".join(f"{n:,} {_where(name)}" for name, n in self.counts.items() if n or name != "unknown")


def _where(name: str) -> str:
    return {"other": "at none of them", "unknown": "at N or cut by a contig's end"}.get(
        name, f"at {name}" if "-" in name else name
    )


def check_introns(introns: NDArray[np.int64], bases: GenomeBases) -> SignalCheck:
    """Hold introns (contig, start, end, strand; int64, [n, 4]) against the genome."""
    found = intron_classes(introns, bases)
    counts = {name: int((found == i).sum()) for i, name in enumerate((*SIGNALS, "other", "unknown"))}
    odd = introns[found == _ODD]

    def explained(shift: tuple[int, int] = (0, 0), *, turned: bool = False) -> float:
        table = odd * np.array([1, 1, 1, -1]) if turned else odd
        return float((intron_classes(table, bases, shift) < _ODD).mean())

    return SignalCheck(
        "introns", counts, _cause(explained, len(odd) / (found != _UNKNOWN).sum(), both_ends=True) if len(odd) else ""
    )


def check_sites(contig: NDArray[np.int64], position: NDArray[np.int64], kind: NDArray[np.uint8], strand: NDArray[np.int8],
                bases: GenomeBases) -> SignalCheck:  # fmt: skip
    """Hold the donors and acceptors of a BED file against the genome; arrays are those of `Sites`."""
    spliced = kind < LABEL_TRACKS.index("tss")
    contig, position, donor, strand_ = contig[spliced], position[spliced], kind[spliced] == 0, strand[spliced].astype(np.int64)

    def look(shift: int = 0, turn: int = 1, swap: bool = False) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Pairs of bases beside the sites, and whether each is a signal, and known."""
        side = strand_ * turn
        is_donor = ~donor if swap else donor  # where introns were read on the wrong strand, their first site is their last
        first = position + shift + np.where(is_donor, side, -2 * side)
        pairs = bases.pairs(contig, first, side)
        good = np.where(is_donor, np.isin(pairs, list(_DONORS)), np.isin(pairs, list(_ACCEPTORS)))
        return pairs, good, (pairs // 5 < 4) & (pairs % 5 < 4)

    pairs, good, known = look()
    counts = {f"donors at {name}": int((donor & (pairs == code)).sum()) for code, name in _DONORS.items()}
    counts |= {f"acceptors at {name}": int((~donor & (pairs == code)).sum()) for code, name in _ACCEPTORS.items()}
    counts |= {"other": int((known & ~good).sum()), "unknown": int((~known).sum())}
    odd = known & ~good

    def explained(shift: tuple[int, int] = (0, 0), *, turned: bool = False) -> float:
        return max(float(look(shift[0], -1 if turned else 1, swap)[1][odd].mean()) for swap in {False, turned})

    return SignalCheck("splice sites", counts, _cause(explained, odd.sum() / known.sum(), both_ends=False) if odd.any() else "")


class Explained(Protocol):
    """Share of the odd introns or sites that would have splice signals if the file were read in another way."""

    def __call__(self, shift: tuple[int, int] = (0, 0), *, turned: bool = False) -> float:
        """The share after all starts and ends are moved along the contig, or all strands turned."""
        ...


def _cause(explained: Explained, odd_share: float, *, both_ends: bool) -> str:
    """The likeliest reason why introns lack splice signals, in words: one that would give most of them theirs."""
    shifts = [("they", by, by) for by in _SHIFTS]
    if both_ends:
        shifts += [("their starts", by, 0) for by in (-1, 1)] + [("their ends", 0, by) for by in (-1, 1)]
    shares = {
        f"if {what} lay {abs(low or high)} bp further {'left' if low + high < 0 else 'right'}: off by one?": explained(
            (low, high)
        )
        for what, low, high in shifts
    }
    shares["on the other strand: wrong strand?"] = explained(turned=True)
    words, share = max(shares.items(), key=lambda row: row[1])
    if share < _EXPLAINED and odd_share < TRUSTED_SHARE:
        return "off by one, another assembly, the wrong strand, or exons that are not spliced so (tRNA, organelles)?"
    if share < _EXPLAINED:
        return "neither a base or two more or less nor the other strand explains it: annotation of another assembly?"
    return f"{share:.0%} of the others would be canonical {words}"


def cut_without_signals(transcripts: Sequence[Transcript], bases: GenomeBases, tally: Tally) -> list[Transcript]:
    """Cut transcripts at gaps whose ends are not those of an intron, where something else speaks against an intron as well.

    That is: exons that hang on a gene (they may be those of several isoforms); gaps of more than `UNSIGNALLED_BP`; and
    transcripts whose exons are the same list of lengths twice or more, each list with splice signals inside (one name at
    several loci). Nothing is cut in a file of which fewer than half the introns have splice signals: it has another fault.

    Args:
        transcripts: The transcripts as they were read.
        bases: The genome.
        tally: Gaps that are cut are counted here.

    Returns:
        The transcripts, some in parts.
    """
    stranded = [t for t in transcripts if t.strand is not None and len(t.exons) > 1]
    if not stranded:
        return list(transcripts)
    sizes = [len(t.exons) - 1 for t in stranded]
    gaps = np.concatenate([t.introns for t in stranded])
    contig = np.repeat([t.contig for t in stranded], sizes)
    strand = np.repeat([int(t.strand or 0) for t in stranded], sizes)
    table = np.column_stack([contig, gaps, strand]).astype(np.int64)
    classes = intron_classes(table, bases)
    lengths = gaps[:, 1] - gaps[:, 0]
    known = (classes != _UNKNOWN) & (lengths >= MIN_INTRON_BP)
    if not known.any() or (classes[known] < _ODD).mean() < TRUSTED_SHARE:
        return list(transcripts)
    ends = np.cumsum(sizes)
    at = {id(t): slice(end - size, end) for t, size, end in zip(stranded, sizes, ends.tolist(), strict=True)}
    found: list[Transcript] = []
    for transcript in transcripts:
        where = at.get(id(transcript))
        if where is None or not (classes[where] == _ODD).any():
            found.append(transcript)
            continue
        odd, bp = classes[where] == _ODD, lengths[where]
        real = odd & (bp >= MIN_INTRON_BP)
        reasons = {
            "gaps_of_genes": set(np.flatnonzero(real).tolist()) if transcript.of_gene else set(),
            "long_unsignalled": set(np.flatnonzero(odd & (bp > UNSIGNALLED_BP)).tolist()),
            "copies": _between_copies(transcript, classes[where]),
        }
        cuts: set[int] = set()
        for reason, numbers in reasons.items():
            tally.add(reason, transcript.name, len(numbers - cuts))
            cuts |= numbers
        found += transcript.cut(cuts)
    return found


def _between_copies(transcript: Transcript, classes: NDArray[np.uint8]) -> set[int]:
    """Gaps between copies of the same exons under one name; none where the exons are no such copies."""
    lengths = (transcript.exons[:, 1] - transcript.exons[:, 0]).tolist()
    count = len(lengths)
    for size in range(count // 2, 1, -1):
        if count % size:
            continue
        between = np.arange(size - 1, count - 1, size)
        inside = np.delete(classes, between)
        copies = [lengths[i : i + size] for i in range(0, count, size)]
        if are_copies(copies) and (classes[between] == _ODD).all() and (inside < _ODD).all():
            return set(between.tolist())
    return set()
