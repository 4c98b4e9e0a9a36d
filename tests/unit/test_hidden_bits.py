"""Bits for a hidden base: what is hidden, and the figure against models whose probabilities are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from annotator.models.families.base import Backbone, LanguageModel
from annotator.tokens.batch import RowTokenizer
from annotator.tokens.kmer_chunks import NT_V2_IDS, KmerChunks
from annotator.tokens.kmer_rows import KmerRows, dnabert_rows
from annotator.training.pretrain.hidden_bits import EDGE_BP, Probe, hidden_bits, make_probe, markov_bits
from annotator.training.pretrain.markov import MarkovModel
from annotator.training.pretrain.masking import IGNORED

BASES = np.frombuffer(b"ACGT", np.uint8)


def random_rows(count: int, length: int) -> np.ndarray:
    return BASES[np.random.default_rng(0).integers(4, size=(count, length))]


class Oracle(Backbone):
    """Gives each place a row of logits that a function of (row of the probe, token) chooses."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.hidden = table.shape[2]
        self.table, self.at = table, 0

    def forward(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
        part = self.table[self.at : self.at + len(ids)]
        self.at += len(ids)
        return part


def measured(table: Tensor, probe: Probe, tokenizer: RowTokenizer) -> tuple[float, float]:
    found = hidden_bits(
        LanguageModel(Oracle(table), nn.Identity()), probe, tokenizer, rows=3, device=torch.device("cpu"), bf16=False
    )
    assert found.bases == probe.hidden.sum()
    return found.bits, found.perplexity


@pytest.mark.parametrize("k", [3, 6])
def test_each_run_of_k_kmers_hides_one_base(k: int) -> None:
    probe = make_probe(random_rows(4, 200), dnabert_rows(k), causal=False)
    hidden = probe.hidden
    assert (hidden == hidden[0]).all() and hidden[0].sum() >= 10
    at = np.flatnonzero(hidden[0])
    assert at.min() >= EDGE_BP and at.max() < 200 - EDGE_BP and np.diff(at).min() == k + 10
    assert ((probe.guess.targets != IGNORED).sum(1) == k * hidden[0].sum()).all()


@pytest.mark.parametrize("k", [3, 6])
def test_kmers_that_contradict_the_visible_bases_do_not_count(k: int) -> None:
    """The true k-mer has logit 1, its three rivals 0, and whatever cannot stand there up to 9: e / (e + 3) all the same."""
    tokenizer = dnabert_rows(k)
    rows = random_rows(5, 120)
    probe = make_probe(rows, tokenizer, causal=False)
    true = tokenizer.encode(torch.from_numpy(rows)).ids
    table = torch.rand(*true.shape, tokenizer.vocabulary_size) * 9
    places = probe.guess.targets != IGNORED
    for row, token in places.nonzero().tolist():
        start = token - 1
        (hidden,) = (at for at in np.flatnonzero(probe.hidden[row]) if start <= at < start + k)
        window = rows[row, start : start + k].copy()
        for base in BASES:
            window[hidden - start] = base
            table[row, token, tokenizer.vocabulary.encode(window.tobytes().decode())] = float(base == rows[row, hidden])
    bits, perplexity = measured(table, probe, tokenizer)
    assert bits == pytest.approx(-math.log2(math.e / (math.e + 3)), abs=1e-6)
    assert perplexity > 20


def test_the_places_of_a_run_share_the_mean_of_their_logarithms() -> None:
    tokenizer = dnabert_rows(3)
    rows = random_rows(1, 40)
    probe = make_probe(rows, tokenizer, causal=False)
    table = torch.randn(1, 40, tokenizer.vocabulary_size, generator=torch.Generator().manual_seed(1))
    expected = []
    for at in np.flatnonzero(probe.hidden[0]):
        logs = np.zeros(4)
        for start in range(at - 2, at + 1):
            window = rows[0, start : start + 3].copy()
            ids = []
            for base in BASES:
                window[at - start] = base
                ids.append(tokenizer.vocabulary.encode(window.tobytes().decode()))
            logs += table[0, start + 1, ids].log_softmax(0).numpy() / 3
        probability = np.exp(logs) / np.exp(logs).sum()
        expected.append(-np.log2(probability[list(BASES).index(rows[0, at])]))
    assert measured(table, probe, tokenizer)[0] == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_tokens_side_by_side_share_their_bits_among_their_bases(causal: bool) -> None:
    tokenizer = KmerChunks(NT_V2_IDS, 512)
    rows = random_rows(5, 303)
    probe = make_probe(rows, tokenizer, causal=causal)
    tokens = tokenizer.encode(torch.from_numpy(rows))
    flat = torch.zeros(*tokens.ids.shape, tokenizer.vocabulary_size)
    guessed = int((probe.guess.targets != IGNORED).sum())
    assert guessed * 6 == probe.hidden.sum()  # the single bases at the end lie too near to it
    bits, perplexity = measured(flat, probe, tokenizer)
    assert bits == pytest.approx(guessed * math.log2(tokenizer.vocabulary_size) / probe.hidden.sum())
    assert perplexity == pytest.approx(tokenizer.vocabulary_size, rel=1e-4)
    assert not probe.hidden[:, :EDGE_BP].any() and not probe.hidden[:, -EDGE_BP:].any()
    assert probe.hidden.sum() / probe.hidden.size > (0.9 if causal else 0.1)
    if causal:  # the place before a token has to name it
        assert probe.guess.ids.equal(tokens.ids)
        sure = torch.nn.functional.one_hot(tokens.ids.roll(-1, 1), tokenizer.vocabulary_size) * 50.0
        assert measured(sure, probe, tokenizer)[0] < 1e-6
    else:
        assert (probe.guess.ids == tokenizer.mask_id).equal(probe.guess.targets != IGNORED)


def test_a_markov_model_guesses_the_same_bases() -> None:
    rows = random_rows(6, 100)
    probe = make_probe(rows, dnabert_rows(4), causal=False)
    bits = np.tile(np.array([1, 2, 3, 3], np.float32), (4, 1))
    chosen = rows[probe.hidden]
    assert markov_bits(probe, MarkovModel(1, 0, bits)) == pytest.approx(
        np.mean([[1, 2, 3, 3][list(BASES).index(base)] for base in chosen])
    )


def test_windows_too_short_to_hide_a_base_are_refused() -> None:
    tokenizer: KmerRows = dnabert_rows(6)
    make_probe(random_rows(1, 27), tokenizer, causal=False)
    with pytest.raises(ValueError, match="26 bp are too short"):
        make_probe(random_rows(1, 26), tokenizer, causal=False)
