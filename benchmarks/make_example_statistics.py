"""Compute the statistics that `annotator example` draws its genes from, out of the human TRAIN split and nothing else.

Usage: python benchmarks/make_example_statistics.py [--data ../shared/data] [--out annotator/example/synthetic_human.json]

Coordinates: 0-based; site offsets count from the exon boundary: donor -3..-1 exon, 1..6 intron; acceptor -40..-1 intron,
1..3 exon. The statistics are counts of the data, chosen before any model was run on what is drawn from them, and never adjusted
to a model.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pysam
from numpy.typing import NDArray

from annotator.kinds import Strand
from annotator.labels.sites import Sites, read_sites
from annotator.labels.transcripts import Transcript, read_transcripts

Codes = NDArray[np.uint8]
Mask = NDArray[np.bool_]

ORDER, PROMOTER_ORDER, UNKNOWN = 4, 3, 4
PROMOTER_EDGES = (-1000, -700, -500, -350, -250, -150, -100, -40, 10, 50, 100, 200, 350, 500, 700, 1000)
CORE = (-40, 10)
CPG_RATIO = 0.5  # observed / expected CpG in +-500 bp; the two humps of human promoters part at 0.4 to 0.6
DONOR, ACCEPTOR = (3, 6), (40, 3)  # bases (before, after) the exon boundary
RANGES = {  # shortest and longest that count; what lies outside is left out, not heaped up at the end
    "exons": (1, 25),
    "first_exon": (30, 1000),
    "internal_exon": (30, 600),
    "terminal_exon": (60, 4000),
    "intron": (70, 5000),
    "utr5": (5, 600),
    "utr3": (20, 3500),
}
_CODE = np.full(256, UNKNOWN, np.uint8)
_CODE[list(b"ACGTacgt")] = [0, 1, 2, 3, 0, 1, 2, 3]
STOPS = (48, 50, 56)  # TAA, TAG, TGA as base-4 numbers, A=0 C=1 G=2 T=3


def reverse_complement(codes: Codes) -> Codes:
    """Reverse complement of codes A=0 C=1 G=2 T=3, unknown=4."""
    return np.array([3, 2, 1, 0, UNKNOWN], np.uint8)[codes[::-1]]


def words(codes: Codes, k: int) -> NDArray[np.int64]:
    """Base-4 number of the k-mer that ends at each base; -1 where it is incomplete, [len(codes)]."""
    value = np.zeros(len(codes), np.int64)
    bad = np.zeros(len(codes), bool)
    for back in range(k):
        shifted = np.full(len(codes), UNKNOWN, np.uint8)
        shifted[back:] = codes[: len(codes) - back]
        value += np.where(shifted < UNKNOWN, shifted, 0).astype(np.int64) << (2 * back)
        bad |= shifted == UNKNOWN
    value[bad] = -1
    return value


def count_words(codes: Codes, mask: Mask, k: int) -> NDArray[np.int64]:
    """How often each k-mer lies wholly within a mask, [4**k]."""
    found = words(np.where(mask, codes, UNKNOWN).astype(np.uint8), k)
    return np.bincount(found[found >= 0], minlength=4**k)


def spread(spans: NDArray[np.int64], length: int) -> Mask:
    """Mask of a contig that is true within spans [n, 2] (clipped)."""
    steps = np.zeros(length + 1, np.int64)
    clipped = np.clip(spans.reshape(-1, 2), 0, length)
    np.add.at(steps, clipped[:, 0], 1)
    np.add.at(steps, clipped[:, 1], -1)
    return np.cumsum(steps[:-1]) > 0


def histogram(values: list[int], name: str, edges: NDArray[np.int64]) -> dict[str, Any]:
    """Counts of the values within their RANGES, and how many lie outside."""
    low, high = RANGES[name]
    kept = [v for v in values if low <= v <= high]
    counts = np.histogram(kept, edges)[0]
    return {"edges": edges.tolist(), "counts": counts.tolist(), "left_out": len(values) - len(kept)}


def log_edges(name: str, bins: int) -> NDArray[np.int64]:
    """Whole-number bin edges, even in logarithm, that cover its RANGES."""
    return np.unique(np.geomspace(RANGES[name][0], RANGES[name][1] + 1, bins + 1).round().astype(np.int64))


def longest_reading_frame(spliced: Codes) -> tuple[int, int] | None:
    """Start of ATG and end of the stop codon of the longest reading frame; the data names no coding sequence."""
    codons = words(spliced, 3)
    best: tuple[int, int] | None = None
    for frame in range(3):
        column = codons[frame + 2 :: 3]
        starts, stops = np.flatnonzero(column == 14), np.flatnonzero(np.isin(column, STOPS))  # 14 = ATG
        previous = -1
        for stop in stops.tolist():
            at = np.searchsorted(starts, previous + 1)
            if at < len(starts) and starts[at] < stop:
                span = (frame + 3 * int(starts[at]), frame + 3 * stop + 3)
                if best is None or span[1] - span[0] > best[1] - best[0]:
                    best = span
            previous = stop
    return best


class Tally:
    """All counts; one contig at a time."""

    def __init__(self) -> None:
        self.chains = {name: np.zeros(4 ** (ORDER + 1), np.int64) for name in ("intergenic", "intron", "utr")}
        self.coding = np.zeros((3, 4 ** (ORDER + 1)), np.int64)
        self.stops = dict.fromkeys(map(str, STOPS), 0)
        self.lengths: dict[str, list[int]] = {name: [] for name in RANGES}
        self.sites = {"donor": np.zeros((8, 16), np.int64), "acceptor": np.zeros((42, 16), np.int64)}
        self.introns = {"GT-AG": 0, "GC-AG": 0, "other (left out)": 0}
        regions = len(PROMOTER_EDGES) - 1
        self.promoters = [0, 0]
        self.promoter_chains = np.zeros((2, regions, 4 ** (PROMOTER_ORDER + 1)), np.int64)
        self.promoter_core = np.zeros((2, CORE[1] - CORE[0], 16), np.int64)

    def add(self, plus: Codes, transcripts: list[Transcript], tss: dict[str, NDArray[np.int64]]) -> None:
        """Count one contig."""
        length = len(plus)
        near = spread(np.concatenate([tss["+"], tss["-"]])[:, None] + np.array([-1000, 1001]), length)
        genes = spread(np.array([(t.exons[0, 0], t.exons[-1, 1]) for t in transcripts], np.int64), length)
        between = ~genes & ~near
        self.chains["intergenic"] += count_words(plus, between, ORDER + 1)
        self.chains["intergenic"] += count_words(reverse_complement(plus), between[::-1], ORDER + 1)
        for strand in (1, -1):
            codes = plus if strand > 0 else reverse_complement(plus)
            own = [t for t in transcripts if t.strand == strand]
            spans = [t.exons if strand > 0 else length - t.exons[::-1, ::-1] for t in own]  # transcript order
            within = spread(np.array([(s[0, 0], s[-1, 1]) for s in spans], np.int64), length)
            exons = spread(np.concatenate([*spans, np.zeros((0, 2), np.int64)]), length)
            edges = np.flatnonzero(np.diff(exons.astype(np.int8)))
            by_sites = spread(edges[:, None] + np.array([1 - ACCEPTOR[0], 1 + ACCEPTOR[0]]), length)
            free = near if strand > 0 else near[::-1]
            self.chains["intron"] += count_words(codes, within & ~exons & ~by_sites & ~free, ORDER + 1)
            introns = {(int(a), int(b)) for s in spans for a, b in zip(s[:-1, 1], s[1:, 0], strict=True)}
            for start, end in sorted(introns):
                self._add_sites(codes, start, end)
            for transcript, span in zip(own, spans, strict=True):
                if transcript.name.startswith("LRG_") and transcript.name.endswith("t1"):  # one transcript a gene
                    self._add_transcript(codes, span)
            starts = tss["+"] if strand > 0 else length - 1 - tss["-"]
            for start in starts.tolist():
                if start + PROMOTER_EDGES[0] >= PROMOTER_ORDER and start + PROMOTER_EDGES[-1] <= length:
                    self._add_promoter(codes, start)

    def _add_sites(self, codes: Codes, start: int, end: int) -> None:
        if start < DONOR[0] or end + ACCEPTOR[1] > len(codes):
            return
        donor = codes[start - DONOR[0] : start + DONOR[1]]
        acceptor = codes[end - ACCEPTOR[0] : end + ACCEPTOR[1]]
        if end - start < RANGES["intron"][0] or UNKNOWN in donor or UNKNOWN in acceptor:
            return
        first, last = "ACGT"[codes[start]] + "ACGT"[codes[start + 1]], "ACGT"[codes[end - 2]] + "ACGT"[codes[end - 1]]
        name = f"{first}-{last}"
        if name not in self.introns:
            self.introns["other (left out)"] += 1
            return
        self.introns[name] += 1
        for kind, site in (("donor", donor), ("acceptor", acceptor)):
            pairs = site[:-1].astype(np.int64) * 4 + site[1:]
            self.sites[kind][np.arange(len(pairs)), pairs] += 1

    def _add_transcript(self, codes: Codes, exons: NDArray[np.int64]) -> None:
        sizes = np.diff(exons).ravel().tolist()
        self.lengths["exons"].append(len(sizes))
        if len(sizes) > 1:
            self.lengths["first_exon"].append(sizes[0])
            self.lengths["terminal_exon"].append(sizes[-1])
        self.lengths["internal_exon"] += sizes[1:-1]
        self.lengths["intron"] += (exons[1:, 0] - exons[:-1, 1]).tolist()
        spliced = np.concatenate([codes[a:b] for a, b in exons])
        frame = longest_reading_frame(spliced)
        if frame is None or frame[1] - frame[0] < 300:
            return
        start, end = frame
        self.lengths["utr5"].append(start)
        self.lengths["utr3"].append(len(spliced) - end)
        self.stops[str(int(words(spliced[end - 3 : end], 3)[2]))] += 1
        place = np.arange(len(spliced))
        self.chains["utr"] += count_words(spliced, place >= end, ORDER + 1)
        found = words(spliced[: end - 3], ORDER + 1)
        for phase in range(3):
            chosen = found[start + 3 + phase :: 3]
            self.coding[phase] += np.bincount(chosen[chosen >= 0], minlength=4 ** (ORDER + 1))

    def _add_promoter(self, codes: Codes, tss: int) -> None:
        core = codes[tss - 500 : tss + 500]
        c, g = int((core == 1).sum()), int((core == 2).sum())
        cpg = int(((core[:-1] == 1) & (core[1:] == 2)).sum())
        rich = int(cpg * len(core) >= CPG_RATIO * c * g)
        self.promoters[rich] += 1
        found = words(codes[tss + PROMOTER_EDGES[0] - PROMOTER_ORDER : tss + PROMOTER_EDGES[-1]], PROMOTER_ORDER + 1)
        for region, (a, b) in enumerate(itertools.pairwise(PROMOTER_EDGES)):
            part = found[a - PROMOTER_EDGES[0] + PROMOTER_ORDER : b - PROMOTER_EDGES[0] + PROMOTER_ORDER]
            self.promoter_chains[rich, region] += np.bincount(part[part >= 0], minlength=4 ** (PROMOTER_ORDER + 1))
        pairs = words(codes[tss + CORE[0] - 1 : tss + CORE[1]], 2)[1:]
        known = np.flatnonzero(pairs >= 0)
        self.promoter_core[rich, known, pairs[known]] += 1

    def result(self) -> dict[str, Any]:
        """Everything, as plain numbers."""
        edges = {name: log_edges(name, 40) for name in RANGES}
        edges["exons"] = np.arange(RANGES["exons"][0], RANGES["exons"][1] + 2)
        return {
            "about": "Counts behind `annotator example`, of the human train split; made by benchmarks/make_example_statistics.py",
            "source": "human.train: 464 LRG disease-gene loci of GRCh38, chr 2,4,6,11-19,21,X,Y; TSS from EPDnew 006",
            "order": ORDER,
            "chains": {name: counts.tolist() for name, counts in self.chains.items()},
            "coding": self.coding.tolist(),
            "stop_codons": self.stops,
            "lengths": {name: histogram(values, name, edges[name]) for name, values in self.lengths.items()},
            "introns": self.introns,
            "donor": self.sites["donor"].tolist(),
            "acceptor": self.sites["acceptor"].tolist(),
            "promoter": {
                "order": PROMOTER_ORDER,
                "edges": list(PROMOTER_EDGES),
                "core": list(CORE),
                "classes": {
                    name: {
                        "count": self.promoters[i],
                        "chains": self.promoter_chains[i].tolist(),
                        "core": self.promoter_core[i].tolist(),
                    }
                    for i, name in enumerate(("CpG-poor", "CpG-rich"))
                },
            },
        }


def main() -> None:
    """Read the train split, count, write the file."""
    here = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ANNOTATOR_DATA", here / "../shared/data")))
    parser.add_argument("--out", type=Path, default=here / "annotator/example/synthetic_human.json")
    options = parser.parse_args()
    stem = options.data / "human" / "human.train"
    with pysam.FastxFile(f"{stem}.fa.gz") as file:
        contigs = {str(record.name): _CODE[np.frombuffer((record.sequence or "").encode(), np.uint8)] for record in file}
    lengths = {name: len(codes) for name, codes in contigs.items()}
    transcripts = read_transcripts(Path(f"{stem}.gtf.gz"), lengths)
    truth: Sites = read_sites(Path(f"{stem}.truth.bed.gz"), lengths)
    plus, minus = truth.positions("tss", Strand.PLUS), truth.positions("tss", Strand.MINUS)
    none = np.zeros(0, np.int64)
    tally = Tally()
    for index, codes in enumerate(contigs.values()):
        own = [t for t in transcripts if t.contig == index]
        tally.add(codes, own, {"+": plus.get(index, none), "-": minus.get(index, none)})
    text = json.dumps(tally.result(), separators=(",", ":")).replace('],"', '],\n"') + "\n"
    options.out.write_text(text, encoding="utf-8")
    print(f"{options.out}: {len(text)} bytes; introns {tally.introns}; promoters poor, rich {tally.promoters}")


if __name__ == "__main__":
    main()
