"""What masking hides, and that it shows nothing of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from annotator.errors import UsageError
from annotator.tokens.batch import TokenBatch
from annotator.tokens.kmer_chunks import NT_V2_IDS, KmerChunks
from annotator.tokens.kmer_rows import KmerRows, dnabert_rows
from annotator.training.pretrain.masking import (
    IGNORED,
    Guess,
    hidden_bases,
    known_tokens,
    mask_spans,
    mask_tokens,
    next_tokens,
)
from annotator.training.pretrain.options import MaskOptions

MASK, UNKNOWN = 4, 1
SPECIAL = 5  # ids below this are special tokens in DNABERT's vocabularies


def random_rows(count: int, length: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.frombuffer(b"ACGT", np.uint8)[np.random.default_rng(seed).integers(4, size=(count, length))])


def spans_of(rows: Tensor, k: int, options: MaskOptions, seed: int = 7) -> tuple[TokenBatch, Tensor, Guess]:
    tokens = dnabert_rows(k).encode(rows)
    known = known_tokens(tokens, rows)
    return tokens, known, mask_spans(tokens, known, options, k=k, mask_id=MASK, rng=np.random.default_rng(seed))


def runs_of(chosen: Tensor) -> list[tuple[int, int]]:
    """(start, end) of the runs of a row."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], chosen.numpy().astype(int), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


@pytest.mark.parametrize("k", [3, 4, 5, 6])
@pytest.mark.parametrize("longest", [1, 4])
def test_runs_hide_the_bases_they_say_and_never_touch(k: int, longest: int) -> None:
    options = MaskOptions(share=0.4, hide_share=1.0, swap_share=0.0, longest_hidden_bp=longest)
    tokens, _, guess = spans_of(random_rows(50, 200), k, options)
    guessed = guess.targets != IGNORED
    hidden = hidden_bases(tokens, guessed)
    lengths = set()
    for row in range(50):
        runs = runs_of(guessed[row])
        assert len(runs) >= 5
        lengths |= {end - start for start, end in runs}
        expected = torch.zeros(200, dtype=torch.bool)
        for start, end in runs:  # the first token is [CLS], so token t begins at base t - 1
            low = 0 if start == 1 else start - 1 + k - 1
            high = 200 if end == 200 - k + 2 else end - 1  # at an end of the row no visible token reaches into the run
            assert high - low == end - start - k + 1 or low == 0 or high == 200
            expected[low:high] = True
        assert hidden[row].equal(expected)
    assert lengths == set(range(k, k + longest))


@pytest.mark.parametrize("k", [3, 6])
def test_a_hidden_base_changes_nothing_that_is_shown(k: int) -> None:
    """The leak of deciding token by token: one visible token of a run would tell the base."""
    options = MaskOptions(share=0.4, hide_share=1.0, swap_share=0.0, longest_hidden_bp=3)
    rows = random_rows(20, 150)
    tokens, _, guess = spans_of(rows, k, options)
    hidden = hidden_bases(tokens, guess.targets != IGNORED)
    assert hidden.sum() > 100
    other = torch.where(
        hidden, torch.tensor(list(b"TGCA"), dtype=torch.uint8)[torch.searchsorted(torch.tensor(list(b"ACGT")), rows)], rows
    )
    assert (other != rows).equal(hidden)
    _, _, again = spans_of(other, k, options)
    assert again.ids.equal(guess.ids) and not again.targets.equal(guess.targets)


def test_each_run_has_one_fate() -> None:
    options = MaskOptions(share=0.4, hide_share=0.4, swap_share=0.3)
    tokens, _, guess = spans_of(random_rows(100, 250), 6, options)
    fates = {"hidden": 0, "swapped": 0, "kept": 0}
    for row in range(100):
        for start, end in runs_of(guess.targets[row] != IGNORED):
            shown, true = guess.ids[row, start:end], tokens.ids[row, start:end]
            fate = "hidden" if (shown == MASK).all() else "kept" if shown.equal(true) else "swapped"
            assert fate != "swapped" or (shown >= SPECIAL).all()
            fates[fate] += 1
    total = sum(fates.values())
    assert total > 1000
    assert [round(fates[f] / total, 1) for f in ("hidden", "swapped", "kept")] == [0.4, 0.3, 0.3]


def test_swapped_tokens_are_kmers_and_never_special() -> None:
    options = MaskOptions(share=0.5, hide_share=0.0, swap_share=1.0)
    rows = random_rows(50, 200)
    rows[:, 60] = ord("N")
    tokens, known, guess = spans_of(rows, 3, options)
    swapped = guess.ids != tokens.ids
    assert swapped.sum() > 1000 and (guess.ids[swapped] >= SPECIAL).all() and known[swapped].all()


def test_unknown_and_special_tokens_are_neither_replaced_nor_guessed() -> None:
    rows = random_rows(200, 40)
    rows[:, 20] = ord("N")
    tokens, known, guess = spans_of(rows, 6, MaskOptions(share=0.9, hide_share=1.0, swap_share=0.0))
    assert (~known).sum() == 200 * (6 + 2)
    assert guess.ids[~known].equal(tokens.ids[~known]) and (guess.targets[~known] == IGNORED).all()
    assert ((guess.ids == MASK) & (tokens.ids != UNKNOWN)).any()


def test_the_share_of_guessed_tokens_is_what_was_asked_for() -> None:
    for longest in (1, 5):
        for share in (0.15, 0.3, 0.5):
            _, known, guess = spans_of(random_rows(200, 400), 6, MaskOptions(share=share, longest_hidden_bp=longest))
            assert float((guess.targets != IGNORED).sum() / known.sum()) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("length", [0, 1, 5, 6, 7, 12])
def test_short_rows_are_masked_as_far_as_they_go(length: int) -> None:
    _, known, guess = spans_of(random_rows(3, length), 6, MaskOptions(share=0.9, hide_share=1.0, swap_share=0.0))
    runs = {tuple(runs_of(row)) for row in guess.targets != IGNORED}
    kmers = int(known[0].sum())
    assert all(len(r) == (1 if kmers >= 6 else 0) for r in runs)


def test_the_same_generator_gives_the_same_masks() -> None:
    rows, options = random_rows(10, 100), MaskOptions(share=0.3)
    first, second, other = (spans_of(rows, 4, options, seed)[2] for seed in (1, 1, 2))
    assert first.ids.equal(second.ids) and first.targets.equal(second.targets) and not first.targets.equal(other.targets)


def test_single_tokens_side_by_side() -> None:
    rows = random_rows(100, 301)
    rows[:, 30] = ord("N")
    tokenizer = KmerChunks(NT_V2_IDS, 512)
    tokens = tokenizer.encode(rows)
    known = known_tokens(tokens, rows)
    assert not known[tokens.ids == NT_V2_IDS.n_id].any() and not known[:, 0].any()
    mask_id = NT_V2_IDS.mask_id
    assert mask_id is not None
    options = MaskOptions(share=0.2, hide_share=0.5, swap_share=0.25)
    guess = mask_tokens(tokens, known, options, mask_id=mask_id, rng=np.random.default_rng(1))
    guessed = guess.targets != IGNORED
    assert known[guessed].all() and guess.targets[guessed].equal(tokens.ids[guessed])
    assert guess.ids[~guessed].equal(tokens.ids[~guessed])
    assert float(guessed.sum() / known.sum()) == pytest.approx(0.2, abs=0.02)
    hidden = guess.ids == mask_id
    swapped = guessed & ~hidden & (guess.ids != tokens.ids)
    assert float(hidden.sum() / guessed.sum()) == pytest.approx(0.5, abs=0.05)
    assert float(swapped.sum() / guessed.sum()) == pytest.approx(0.25, abs=0.05)
    assert (guess.ids[swapped] > NT_V2_IDS.unknown_id).all() and known[swapped].all()
    spans = tokens.base_spans[hidden]
    assert int(hidden_bases(tokens, hidden).sum()) == int((spans[:, 1] - spans[:, 0]).sum())


def test_a_causal_model_guesses_the_next_known_token() -> None:
    rows = random_rows(2, 30)
    rows[0, 13] = ord("N")
    tokens = KmerChunks(NT_V2_IDS, 512).encode(rows)
    known = known_tokens(tokens, rows)
    guess = next_tokens(tokens, known)
    assert guess.ids.equal(tokens.ids)
    for row in range(2):
        for at in range(tokens.ids.shape[1]):
            follows = at + 1 < tokens.ids.shape[1] and bool(known[row, at + 1])
            assert guess.targets[row, at] == (tokens.ids[row, at + 1] if follows else IGNORED)
    before_n = tokens.ids[0, 1:] == NT_V2_IDS.n_id
    assert before_n.sum() == 1 and (guess.targets[0, :-1][before_n] == IGNORED).all()


@pytest.mark.parametrize(
    "values",
    [{"share": 0.0}, {"share": 1.0}, {"hide_share": 0.9, "swap_share": 0.2}, {"swap_share": -0.1}, {"longest_hidden_bp": 0}],
)
def test_impossible_masks_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        MaskOptions(**values)  # type: ignore[arg-type]


def test_kmers_without_special_tokens_are_masked_too() -> None:
    rows = random_rows(4, 50)
    plain = KmerRows(dnabert_rows(4).vocabulary, cls_id=None, sep_id=None, pad_id=0, mask_id=MASK, max_tokens=None)
    tokens = plain.encode(rows)
    known = known_tokens(tokens, rows)
    guess = mask_spans(tokens, known, MaskOptions(share=0.3), k=4, mask_id=MASK, rng=np.random.default_rng(0))
    assert known.all() and (guess.targets != IGNORED).any()
