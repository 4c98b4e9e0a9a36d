"""Markov models against counts made by hand, and the bits they cost."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from annotator.training.pretrain import markov
from annotator.training.pretrain.corpus import Corpus
from annotator.training.pretrain.markov import fit_markov

COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


def corpus_of(*contigs: str) -> Corpus:
    ends = np.cumsum([len(c) for c in contigs])
    return Corpus(tuple(f"c{i}" for i in range(len(contigs))), np.frombuffer("".join(contigs).encode(), np.uint8), ends, {})


def counted(contigs: tuple[str, ...], left: int, right: int) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for contig in contigs:
        for strand in (contig, contig.translate(COMPLEMENT)[::-1]):
            for i in range(left, len(strand) - right):
                context = strand[i - left : i] + strand[i + 1 : i + 1 + right]
                if "N" not in context + strand[i]:
                    counts[context, strand[i]] += 1
    return counts


@pytest.mark.parametrize(("left", "right"), [(0, 0), (1, 0), (3, 0), (5, 0), (2, 2), (0, 3)])
@pytest.mark.parametrize("chunk", [7, 64, 1 << 22])
def test_counts_are_those_of_both_strands_plus_one(left: int, right: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markov, "_CHUNK_BP", chunk)
    rng = np.random.default_rng(1)
    contigs = tuple("".join(rng.choice(list("ACGTTTN"), size=size)) for size in (150, 1, 0, 64, 5))
    model = fit_markov(corpus_of(*contigs), left=left, right=right)
    counts = counted(contigs, left, right)
    assert sum(counts.values()) > 100
    assert model.bits.shape == (4 ** (left + right), 4)
    for number in range(len(model.bits)):
        context = "".join("ACGT"[number // 4 ** (left + right - 1 - i) % 4] for i in range(left + right))
        total = sum(counts[context, base] for base in "ACGT") + 4
        expected = [-np.log2((counts[context, base] + 1) / total) for base in "ACGT"]
        np.testing.assert_allclose(model.bits[number], expected, rtol=1e-6)


def test_bits_are_the_mean_over_the_chosen_bases() -> None:
    model = fit_markov(corpus_of("ACGTACGTTTGA" * 5), left=2)
    rows = np.frombuffer(b"ACGTACNACGTT", np.uint8).reshape(1, -1)
    hidden = np.zeros(rows.shape, bool)
    hidden[0, [2, 9, 11]] = True
    one_by_one = []
    for at in (2, 9, 11):
        context = "ACGT".index(chr(rows[0, at - 2])) * 4 + "ACGT".index(chr(rows[0, at - 1]))
        one_by_one.append(model.bits[context, "ACGT".index(chr(rows[0, at]))])
    assert model.bits_of(rows, hidden) == pytest.approx(np.mean(one_by_one), rel=1e-6)


@pytest.mark.parametrize(("at", "why"), [([], "none"), ([1], "neighbours"), ([7], "beside an N"), ([6], "beside an N")])
def test_bases_without_a_context_are_refused(at: list[int], why: str) -> None:
    model = fit_markov(corpus_of("ACGTACGTTTGA"), left=2)
    rows = np.frombuffer(b"ACGTACNACGTT", np.uint8).reshape(1, -1)
    hidden = np.zeros(rows.shape, bool)
    hidden[0, at] = True
    with pytest.raises(ValueError, match=why):
        model.bits_of(rows, hidden)


def test_a_sequence_of_known_entropy_costs_just_that() -> None:
    """Each base follows its predecessor's successor with probability 3/4, else one of the other three: 1.2075 bits."""
    rng = np.random.default_rng(5)
    steps = np.where(rng.random(200_000) < 0.75, 1, rng.choice([0, 2, 3], size=200_000))
    text = np.frombuffer(b"ACGT", np.uint8)[np.cumsum(steps) % 4].tobytes().decode()
    half = len(text) // 2
    rows = np.frombuffer(text[half:].encode(), np.uint8).reshape(100, -1)
    hidden = np.zeros(rows.shape, bool)
    hidden[:, 5:-5] = True
    entropy = -(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25 / 3))
    train = corpus_of(text[:half])  # the other strand of ACGTACGT... reads the same, so both have this entropy
    assert fit_markov(train, left=0).bits_of(rows, hidden) == pytest.approx(2, abs=0.001)
    assert fit_markov(train, left=1).bits_of(rows, hidden) == pytest.approx(entropy, abs=0.01)
    assert fit_markov(train, left=1, right=1).bits_of(rows, hidden) < entropy - 0.2


def test_too_large_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        fit_markov(corpus_of("ACGT"), left=7, right=7)


def test_short_contigs_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    real = markov._counted

    def counts(*given: Any) -> Any:
        counted.append(given)
        return real(*given)

    monkeypatch.setattr(markov, "_counted", counts)
    fit_markov(corpus_of(*["ACGTTTGACA"] * 50), left=2, right=1)
    assert len(counted) == 2, "once a strand: each count costs as much as the whole table is large"
