"""The sections of a report about the calls themselves: how many, how sure, around which bases, where."""

from __future__ import annotations

from typing import Final

import numpy as np

from annotator.calls.profiles import LETTERS, OFFSETS, PAIRS, Profile
from annotator.kinds import Kind
from annotator.report.elements import Cell, Figure, Section, Table, colour
from annotator.report.facts import INTRON_EDGES_BP, PROBABILITY_BINS, Facts
from annotator.report.karyogram import karyogram
from annotator.report.logo import BASE_COLOUR, information, logo, shares
from annotator.report.svg import Axes, Series, curves, grouped_bars, histogram
from annotator.results.results import Results
from annotator.results.workspace import PROFILES_JSON

LOGO_OFFSETS: Final = {Kind.DONOR: (-6, 10), Kind.ACCEPTOR: (-22, 3)}
"""Offsets of the logos: the exon's last bases and the intron's first, the intron's last bases and the exon's first."""
_MOST_BARS: Final = 12
_MOST_MOTIFS: Final = 15
_LEAST_EXPECTED: Final = 5.0


def summary(results: Results, facts: Facts) -> Section:
    """How many calls of each kind there are, in all and on each contig."""
    rows: list[list[Cell]] = []
    for kind in facts.kinds:
        calls, mean = facts.calls[kind], facts.expected[kind]
        right = None if mean is None else round(mean * _rated(facts, kind))
        rows.append([str(kind), calls, facts.per_mb(kind), results.thresholds.get(kind), mean, right])
    head = ["kind", "calls", "per Mb", "threshold", "mean probability", "expected right"]
    contigs = results.contigs
    each: list[list[Cell]] = []
    for name, found in facts.by_contig.items():
        per_mb = [found.get(kind, 0) / max(contigs[name], 1) * 1e6 for kind in facts.kinds]
        each.append([name, contigs[name], *(found.get(kind, 0) for kind in facts.kinds), *per_mb])
    columns = ["contig", "bp", *map(str, facts.kinds), *(f"{kind} / Mb" for kind in facts.kinds)]
    note = f"{len(contigs):,} contigs, {facts.bases:,} bp; {len(contigs) - facts.contigs_with_calls:,} contigs have no calls."
    if len(contigs) > len(facts.by_contig):
        note += f" The {len(facts.by_contig)} longest are listed."
    longest = list(facts.by_contig)[:_MOST_BARS]
    bars = [
        (str(kind), colour(kind), [facts.by_contig[n].get(kind, 0) / max(contigs[n], 1) * 1e6 for n in longest])
        for kind in facts.kinds
    ]
    picture = grouped_bars("Calls per Mb of the longest contigs", longest, bars, "calls per Mb")
    return Section(
        "found", "What was found",
        [
            Table("Calls of each kind, both strands", head, rows), note,
            Figure("Calls per Mb of the longest contigs", picture, Table("Calls by contig", columns, each)),
        ],
    )  # fmt: skip


def _rated(facts: Facts, kind: Kind) -> int:
    return sum(facts.probabilities[kind])


def scores(facts: Facts) -> Section:
    """How the scores are distributed."""
    parts: list[Figure | str] = []
    words = [f"{number / PROBABILITY_BINS:.2f}" for number in range(PROBABILITY_BINS)]
    for kind in facts.kinds:
        counts = facts.probabilities[kind]
        if not any(counts):
            continue
        picture = histogram(f"Probabilities of {kind} calls", counts, words, colour(kind), "probability (from)", each=4)
        rows: list[list[Cell]] = [[word, count] for word, count in zip(words, counts, strict=True)]
        parts.append(Figure(f"Probabilities: {kind}", picture, Table(f"{kind} calls in bins of 0.05", ["from", "calls"], rows)))
    if facts.p_values:
        low, high = min(facts.p_values), max(facts.p_values)
        bins = list(range(low, high + 1))
        counts = [facts.p_values.get(number, 0) for number in bins]
        names = [f"1e-{number}" for number in bins]
        picture = histogram(
            "p-values of binding sites", counts, names, colour(Kind.TFBS), "p-value (at most)", each=max(1, len(bins) // 8)
        )
        rows = [[name, count] for name, count in zip(names, counts, strict=True)]
        parts.append(
            Figure("p-values of binding sites", picture, Table("Binding sites by p-value", ["p at most", "calls"], rows))
        )
    return Section("scores", "How sure the calls are", parts or ["There are no calls."])


def bases(results: Results, facts: Facts) -> Section | None:
    """Logos of splice sites, and the bases around transcription starts."""
    if PROFILES_JSON not in results.files:  # calls that were taken from tracks: no bases were counted
        return None
    profiles = {profile.kind: profile for profile in results.profiles if profile.name is None}
    parts: list[Figure | str] = []
    for kind, (first, last) in LOGO_OFFSETS.items():
        if kind in facts.kinds:
            words = "exon's last" if kind is Kind.DONOR else "exon's first"
            title = f"Logo: {kind}s ({profiles[kind].calls:,} calls; 0 is the {words} base)"
            parts.append(Figure(title, logo(title, profiles[kind], first, last), _base_table(profiles[kind], first, last)))
    if Kind.PROMOTER in facts.kinds:
        parts += _around_tss(profiles[Kind.PROMOTER])
    return Section("bases", "Bases around the calls", parts) if parts else None


def _around_tss(profile: Profile) -> list[Figure | str]:
    share = shares(profile) * 100
    x = OFFSETS.astype(np.float64)
    series = [Series(letter, BASE_COLOUR[letter], x, share[:, at]) for at, letter in enumerate(LETTERS[:4])]
    label = "base from the transcription start, in reading direction"
    axes = Axes(label, "% of calls", (-50, 50), (0, max(50.0, float(share.max()))))
    title = f"Bases around transcription starts ({profile.calls:,} calls)"
    parts: list[Figure | str] = [Figure(title, curves(title, series, axes), _base_table(profile, -50, 50))]
    if not profile.calls:
        return ["There are no promoter calls."]
    if profile.pairs is None:
        return [*parts, "Pairs of bases were not counted by the version that made this run."]
    total = np.maximum(profile.pairs.sum(1, keepdims=True), 1)
    pairs = profile.pairs / total * 100
    drawn = [
        ("CG", BASE_COLOUR["C"], ""),
        ("GC", BASE_COLOUR["G"], ""),
        ("TA", BASE_COLOUR["T"], "7 3"),
        ("CA", BASE_COLOUR["A"], "2 3"),
    ]
    series = [Series(pair, colour, x[:-1], pairs[:, PAIRS.index(pair)], dash) for pair, colour, dash in drawn]
    axes = Axes(
        "first base of the pair, from the transcription start", "% of calls", (-50, 50), (0, max(20.0, float(pairs.max())))
    )
    title = "Pairs of bases around transcription starts"
    rows = [[int(OFFSETS[at]), *map(float, row)] for at, row in enumerate(pairs)]
    table = Table("% of each pair, by the offset of its first base", ["offset", *PAIRS], rows)
    at_start = pairs[int(np.flatnonzero(OFFSETS == -1)[0])]
    initiator = sum(float(at_start[PAIRS.index(first + second)]) for first in "CT" for second in "AG")
    note = (
        f"At {initiator:.0f} % of the starts a pyrimidine (C, T) stands before a purine (A, G) that is the first base "
        "transcribed; by chance about 25 %. TA is dashed, CA dotted."
    )
    return [*parts, Figure(title, curves(title, series, axes), table, note)]


def _base_table(profile: Profile, first: int, last: int) -> Table:
    rows_of = np.flatnonzero((first <= OFFSETS) & (last >= OFFSETS)).tolist()
    share = shares(profile)
    bits = information(share)
    rows = [[int(OFFSETS[row]), *(float(x) for x in share[row]), float(bits[row])] for row in rows_of]
    return Table("Share of each base, and information in bits", ["offset", *LETTERS[:4], "bits"], rows)


def introns(facts: Facts) -> Section | None:
    """Lengths of introns that neighbouring calls make."""
    if not facts.introns:
        return None
    edges = [f"{edge:,}" for edge in INTRON_EDGES_BP]
    picture = histogram(
        "Lengths of introns that neighbouring calls make", facts.introns, edges, colour(Kind.DONOR), "bp (from)", each=2,
        y_label="pairs",
    )  # fmt: skip
    table = Table("Neighbouring donor-acceptor pairs", ["from bp", "pairs"], list(zip(edges, facts.introns, strict=True)))
    note = (
        f"{sum(facts.introns):,} donors have an acceptor as the next splice site on their strand. These are neighbours, not gene "
        "models: where one of the two is wrong or missed, the length is too."
    )
    return Section("introns", "Introns", [Figure("Lengths of introns that neighbouring calls make", picture, table, note)])


def motifs(facts: Facts) -> Section | None:
    """The most frequent motifs, and those that called promoters are rich in."""
    if Kind.TFBS not in facts.kinds:
        return None
    top = facts.motifs[:_MOST_MOTIFS]
    parts: list[Figure | Table | str] = [f"{len(facts.motifs):,} motifs have {facts.calls[Kind.TFBS]:,} binding sites."]
    if top:
        picture = grouped_bars(
            "Motifs with most sites",
            [n for n, _, _ in top[:8]],
            [("sites", colour(Kind.TFBS), [h for _, h, _ in top[:8]])],
            "sites",
        )
        parts.append(
            Figure("Motifs with most sites", picture, Table("Most frequent motifs", ["motif", "sites"], [row[:2] for row in top]))
        )
    if facts.promoter_bp and top:
        share = facts.promoter_bp / facts.bases
        ranked = [
            (name, hits, inside, hits * share, inside / (hits * share))
            for name, hits, inside in facts.motifs
            if hits * share >= _LEAST_EXPECTED
        ]
        ranked.sort(key=lambda row: (-row[4], row[0]))
        head = ["motif", "sites", "in promoters", "expected there", "times as many"]
        if ranked:
            parts.append(Table("Motifs that called promoters are rich in", head, ranked[:_MOST_MOTIFS]))
        parts.append(
            f"Called promoters take {share:.2%} of the genome; expected is that share of a motif's sites. Motifs with fewer than "
            f"{_LEAST_EXPECTED:g} expected are left out. Base composition alone can make promoters rich in a motif."
        )
    return Section("motifs", "Motifs", parts)


def places(results: Results, facts: Facts) -> Section:
    """Where the calls lie."""
    return Section("places", "Along the genome", [karyogram(facts, results.contigs)])
