"""Decoys of a genome: a sample of its windows, and the same bases in another order that keeps every dinucleotide count.

What a model calls on decoys it calls by chance: they have the genome's composition and nothing that evolved.

Coordinates: 0-based half-open on the plus strand of a contig; cuts are indices of an array of bases.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from annotator.genome.plan import PlanOptions, Span, plan_shards

DECOY_SEED: Final = 1
"""Seed of the shuffles; the sample itself is drawn evenly, without chance."""
SHUFFLED_BP: Final = 1000
"""Bases that are shuffled among themselves: within them composition hardly changes, so that isochores and repeats stay."""
LEAST_SAMPLE_BP: Final = 4_000_000
LARGEST_SAMPLE_BP: Final = 16_000_000
SAMPLED_PART: Final = 50
"""A sample is this part of what is scanned, within the two limits; all of it where that is less."""

_LETTERS: Final = np.frombuffer(b"ACGT", np.uint8)
_CODE_OF: Final = np.full(256, 4, np.int64)
_CODE_OF[_LETTERS] = np.arange(4)


def sample_spans(
    lengths: NDArray[np.int64], plan: PlanOptions, regions: dict[int, NDArray[np.int64]] | None = None, sample_bp: int = 0
) -> list[tuple[Span, ...]]:
    """Windows of a genome's own plan, spread evenly over what a run would scan.

    Args:
        lengths: Contig lengths in bp, int64, [contigs].
        plan: Shape of the windows.
        regions: Sorted disjoint intervals [m, 2] per contig index that are wanted; None for the whole genome.
        sample_bp: Bases to sample, about; 0 for as many as suit the genome.

    Returns:
        Groups of spans of about one window core each, in genome order; they own about `sample_bp` bases together.
    """
    shards = list(plan_shards(lengths, replace(plan, shard_bp=plan.core_bp), regions))
    total = sum(shard.bases for shard in shards)
    wanted = sample_bp or min(max(total // SAMPLED_PART, LEAST_SAMPLE_BP), LARGEST_SAMPLE_BP)
    if total <= wanted:
        return [shard.spans for shard in shards]
    count = max(1, round(len(shards) * wanted / total))
    return [shards[(2 * i + 1) * len(shards) // (2 * count)].spans for i in range(count)]


def shuffle_dinucleotides(bases: NDArray[np.uint8], cuts: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Bases in a random order with the same dinucleotides.

    Every run of known bases between two cuts is replaced by a sequence drawn uniformly from all that begin and end with the same
    base and have the same number of each dinucleotide; so the dinucleotides across cuts stay too, and N stays where it is.

    Args:
        bases: ASCII bases of ACGTN, uint8, [n].
        cuts: Ascending indices that nothing is moved across.
        rng: Source of chance.

    Returns:
        The shuffled bases, uint8, [n].

    Notes:
        The algorithm is that of Altschul and Erickson (Mol Biol Evol 2, 1985) as a walk along a random Eulerian path: the
        dinucleotides are edges between four vertices; each vertex but the last one draws the edge it is left by for the last
        time, anew until these edges lead to the last vertex from everywhere; the other edges of each vertex are shuffled. All
        runs walk side by side, so the time is that of the longest.
    """
    codes = _CODE_OF[bases]
    known = codes < 4
    begins = known.copy()
    begins[1:] &= ~known[:-1]
    begins[cuts[cuts < len(bases)]] |= known[cuts[cuts < len(bases)]]
    starts = np.flatnonzero(begins)
    if not len(starts):
        return bases.copy()
    run_of = np.cumsum(begins) - 1  # meaningless on unknown bases
    sizes = np.bincount(run_of[known], minlength=len(starts))
    runs = np.argsort(-sizes, kind="stable")  # the longest first: those that still walk are the first so many
    rank = np.empty_like(runs)
    rank[runs] = np.arange(len(runs))
    starts, sizes = starts[runs], sizes[runs]

    edge_at = np.flatnonzero(known[:-1] & known[1:] & ~begins[1:])
    vertex = 4 * rank[run_of[edge_at]] + codes[edge_at]
    counts = np.bincount(vertex, minlength=4 * len(runs))
    first_edge = np.cumsum(counts) - counts
    by_vertex = np.argsort(vertex, kind="stable")
    target = codes[edge_at + 1][by_vertex]
    final = codes[starts + sizes - 1]
    last_edge = _last_edges(target, counts.reshape(-1, 4), first_edge.reshape(-1, 4), final, rng)

    key = rng.random(len(target))
    key[last_edge] = 2.0  # behind all others of its vertex
    target = target[np.lexsort((key, vertex[by_vertex]))]
    shuffled = codes.copy()
    here, next_edge = codes[starts], first_edge
    own = 4 * np.arange(len(runs))
    walking = np.searchsorted(-sizes, -np.arange(1, sizes[0]), side="left")  # runs of more than so many bases
    for step, some in enumerate(walking.tolist(), 1):
        at = own[:some] + here[:some]
        here[:some] = target[next_edge[at]]
        next_edge[at] += 1
        shuffled[starts[:some] + step] = here[:some]
    return np.where(known, _LETTERS[np.minimum(shuffled, 3)], bases)


def _last_edges(
    target: NDArray[np.int64],
    counts: NDArray[np.int64],
    first_edge: NDArray[np.int64],
    final: NDArray[np.int64],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Indices into `target` of the edges by which the vertices of each run, but for its final one, are left for the last time.

    Args:
        target: Vertex that each edge leads to, 0..3, int64; edges are sorted by run and vertex.
        counts: Edges that leave each vertex, int64, [runs, 4].
        first_edge: Index of the first of them, int64, [runs, 4].
        final: Vertex that each run ends on, int64, [runs].
        rng: Source of chance.
    """
    chosen = np.zeros_like(counts)
    leaves = (counts > 0) & (np.arange(4) != final[:, None])
    pending = np.arange(len(counts))
    while len(pending):
        pick = first_edge[pending] + (rng.random((len(pending), 4)) * counts[pending]).astype(np.int64)
        chosen[pending] = pick
        drawn = target[np.minimum(pick, len(target) - 1)] if len(target) else pick
        leads_to = reached = np.where(leaves[pending], drawn, final[pending, None])
        for _ in range(2):  # three steps lead past every other vertex
            reached = np.take_along_axis(leads_to, reached, 1)
        pending = pending[(reached != final[pending, None]).any(1)]
    last: NDArray[np.int64] = chosen[leaves]
    return last
