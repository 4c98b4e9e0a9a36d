"""Decoys: the sample of a genome, and the shuffle that keeps dinucleotides."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from annotator.genome.decoys import sample_spans, shuffle_dinucleotides
from annotator.genome.plan import PlanOptions

PLAN = PlanOptions(window_bp=1024, halo_bp=288, pad_bp=64, smallest_bp=128)


def as_bases(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), np.uint8)


def shuffled(text: str, cuts: list[int], seed: int = 0) -> str:
    return shuffle_dinucleotides(as_bases(text), np.array(cuts, np.int64), np.random.default_rng(seed)).tobytes().decode()


@given(st.text("ACGTN", max_size=200), st.lists(st.integers(0, 199), max_size=6, unique=True), st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_dinucleotides_stay_within_their_pieces_and_n_where_it_is(text: str, cuts: list[int], seed: int) -> None:
    found = shuffled(text, sorted(cuts), seed)
    assert len(found) == len(text)
    edges = [0, *sorted(cut for cut in cuts if 0 < cut < len(text)), len(text)]
    for start, end in itertools.pairwise(edges):
        before, after = text[start:end], found[start:end]
        assert [base == "N" for base in before] == [base == "N" for base in after]
        assert Counter(itertools.pairwise(before)) == Counter(itertools.pairwise(after))
    for cut in edges[1:-1]:
        assert found[cut - 1 : cut + 1] == text[cut - 1 : cut + 1]  # and across a cut


def test_every_sequence_with_these_dinucleotides_comes_equally_often() -> None:
    text = "ACAGATACCA"
    wanted = Counter(itertools.pairwise(text))
    possible = {
        found
        for middle in set(itertools.permutations(text[1:-1]))
        if Counter(itertools.pairwise(found := text[0] + "".join(middle) + text[-1])) == wanted
    }
    draws = 4800
    seen = Counter(shuffled(text, [0], seed) for seed in range(draws))
    assert set(seen) == possible and len(possible) == 24
    expected = draws / len(possible)
    chi_square = sum((count - expected) ** 2 / expected for count in seen.values())
    assert chi_square < 49.7  # 23 degrees of freedom: beyond it lies one in a thousand


def test_a_shuffle_moves_nearly_everything_and_repeats_itself() -> None:
    text = "".join(np.random.default_rng(4).choice(list("ACGT"), 5000, p=[0.35, 0.15, 0.15, 0.35]))
    cuts = list(range(0, 5000, 1000))
    once = shuffled(text, cuts, 7)
    assert once == shuffled(text, cuts, 7) != shuffled(text, cuts, 8)
    same = sum(a == b for a, b in zip(text, once, strict=True)) / len(text)
    assert same < 0.35  # of independent sequences 0.29 of the bases agree


@pytest.mark.parametrize("text", ["", "A", "AC", "NNNN", "NANCN", "AAAAAAAA", "ACACACACAC"])
def test_what_cannot_be_shuffled_stays(text: str) -> None:
    assert shuffled(text, [0], 1) == text


def test_a_sample_is_spread_evenly_and_is_all_of_a_small_genome() -> None:
    lengths = np.array([400_000, 100, 0, 50_000, 300, 250_000], np.int64)
    everything = sample_spans(lengths, PLAN)
    assert sum(span.end - span.start for spans in everything for span in spans) == lengths.sum()
    some = sample_spans(lengths, PLAN, sample_bp=70_000)
    owned = [(span.contig, span.start) for spans in some for span in spans]
    assert owned == sorted(owned) and len(set(owned)) == len(owned)
    assert 65_000 <= sum(span.end - span.start for spans in some for span in spans) <= 75_000
    starts = [start for contig, start in owned if contig == 0]
    steps = np.diff(starts)
    assert len(starts) > 80 / 2 and steps.max() <= steps.min() + PLAN.core_bp and max(starts) > 390_000
    assert all(span.start % PLAN.core_bp == 0 for spans in some for span in spans)  # windows of the genome's own plan


def test_a_sample_keeps_to_the_regions() -> None:
    regions = {1: np.array([[5000, 6000], [90_000, 90_010]], np.int64)}
    spans = [span for group in sample_spans(np.array([200_000, 100_000], np.int64), PLAN, regions) for span in group]
    assert {span.contig for span in spans} == {1}
    assert all(any(span.start < end and start < span.end for start, end in regions[1].tolist()) for span in spans)
