"""What a language model of DNA is shown, and what it has to guess.

A stride-1 k-mer shares all its bases but one with its neighbours, so a hidden token is guessed from the visible ones beside
it unless k - 1 more are hidden with it: a run of m tokens hides m - k + 1 bases. DNABERT hides runs as well, but then decides
for each token alone whether it becomes [MASK], another token (any id, special ones too) or stays, and one that stays, or the
mere mixture, shows the bases of the run. Here a run is treated as one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from annotator.tokens.batch import TokenBatch
from annotator.training.pretrain.options import MaskOptions

IGNORED = -100
"""Target of a place where nothing has to be guessed, as in `torch.nn.functional.cross_entropy`."""
_HIDE, _SWAP, _KEEP = range(3)


@dataclass(frozen=True)
class Guess:
    """A batch of a language model.

    Attributes:
        ids: What the network is shown, int64, [R, T].
        targets: The id that the logits of each place should favour, int64, [R, T]; IGNORED where nothing is guessed.
    """

    ids: Tensor
    targets: Tensor


def known_tokens(tokens: TokenBatch, rows: Tensor) -> Tensor:
    """Tokens made of A, C, G and T alone: what can be guessed; bool, [R, T].

    Args:
        tokens: Tokens of the rows.
        rows: ASCII bases, upper case, uint8, [R, L].
    """
    unknown = torch.isin(rows, torch.tensor(list(b"ACGT"), dtype=torch.uint8, device=rows.device), invert=True)
    before = F.pad(unknown.cumsum(1), (1, 0))
    start, end = tokens.base_spans.clamp(min=0).unbind(2)
    return (tokens.base_spans[:, :, 0] >= 0) & (before.gather(1, end) == before.gather(1, start))


def hidden_bases(tokens: TokenBatch, guessed: Tensor) -> Tensor:
    """Bases that no visible token covers; bool, [R, L].

    Args:
        tokens: R rows of L bases.
        guessed: Tokens that are not shown, bool, [R, T].
    """
    shown = ~guessed & (tokens.base_spans[:, :, 0] >= 0)
    start, end = tokens.base_spans.clamp(min=0).unbind(2)
    change = torch.zeros(len(tokens), tokens.base_token.shape[1] + 1, dtype=torch.int64, device=guessed.device)
    change.scatter_add_(1, start, shown.long()).scatter_add_(1, end, -shown.long())
    return change.cumsum(1)[:, :-1] == 0


def mask_spans(
    tokens: TokenBatch, known: Tensor, options: MaskOptions, *, k: int, mask_id: int, rng: np.random.Generator
) -> Guess:
    """Hide runs of stride-1 k-mers that do not touch, each of 1 to `longest_hidden_bp` bases, k - 1 tokens more.

    Args:
        tokens: With the k-mers of a row side by side, and as many in each row.
        known: From `known_tokens`; other tokens in a run stay as they are, which shows no base.
        options: How much.
        k: Bases of a token.
        mask_id: Id of a hidden token.
        rng: Source of all randomness.

    Returns:
        Each run either all [MASK], or all other k-mers of the batch, or as it was; all of its known tokens to be guessed.
    """
    shape = tokens.ids.shape
    places = (tokens.base_spans[0, :, 0] >= 0).nonzero()[:, 0]
    first, room = (int(places[0]), len(places)) if len(places) else (0, 0)
    longest = k - 1 + options.longest_hidden_bp
    mean = k + (options.longest_hidden_bp - 1) / 2
    runs = min(max(1, round(options.share * room / mean)), (room + 1) // (longest + 1))
    lengths = rng.integers(k, longest + 1, (shape[0], runs))
    # Starts without the runs before them are drawn and sorted; then each run moves the later ones by its length and a gap.
    spare = room - (lengths + 1).sum(1) + 1
    starts = np.sort(np.floor(rng.random((shape[0], runs)) * (spare[:, None] + 1)).astype(np.int64), axis=1)
    starts += first + np.cumsum(lengths + 1, axis=1) - (lengths + 1)
    change = np.zeros((shape[0], shape[1] + 1), np.int64)
    number = np.broadcast_to(np.arange(1, runs + 1), starts.shape)
    np.put_along_axis(change, starts, number, axis=1)
    np.put_along_axis(change, starts + lengths, -number, axis=1)
    run = np.cumsum(change, axis=1)[:, :-1]  # 0 outside; no run starts where another ends
    fate = np.concatenate([np.full((shape[0], 1), _KEEP), _fates((shape[0], runs), options, rng)], axis=1)
    return _apply(tokens.ids, known & _on(run > 0, known), np.take_along_axis(fate, run, axis=1), mask_id, known, rng)


def mask_tokens(tokens: TokenBatch, known: Tensor, options: MaskOptions, *, mask_id: int, rng: np.random.Generator) -> Guess:
    """Hide single tokens, which must not overlap.

    Args:
        tokens: Tokens of any tokenizer without overlaps.
        known: From `known_tokens`; others are never chosen.
        options: How much.
        mask_id: Id of a hidden token.
        rng: Source of all randomness.

    Returns:
        Each chosen token [MASK], another one of the batch, or as it was.
    """
    shape = tuple(tokens.ids.shape)
    chosen = known & _on(rng.random(shape) < options.share, known)
    return _apply(tokens.ids, chosen, _fates(shape, options, rng), mask_id, known, rng)


def next_tokens(tokens: TokenBatch, known: Tensor) -> Guess:
    """The guesses of a causal model: every place has to guess the known token after it."""
    targets = torch.full_like(tokens.ids, IGNORED)
    targets[:, :-1] = torch.where(known[:, 1:], tokens.ids[:, 1:], IGNORED)
    return Guess(tokens.ids, targets)


def _fates(shape: tuple[int, ...], options: MaskOptions, rng: np.random.Generator) -> NDArray[np.int64]:
    drawn = rng.random(shape)
    return np.where(drawn < options.hide_share, _HIDE, np.where(drawn < options.hide_share + options.swap_share, _SWAP, _KEEP))


def _apply(ids: Tensor, guessed: Tensor, fate: NDArray[np.int64], mask_id: int, known: Tensor, rng: np.random.Generator) -> Guess:
    """Replace the guessed tokens by their fate; others to swap in are known tokens of the batch, so never special ones."""
    targets = torch.where(guessed, ids, IGNORED)
    shown, fates = ids.clone(), _on(fate, ids)
    shown[guessed & (fates == _HIDE)] = mask_id
    swapped = guessed & (fates == _SWAP)
    pool = ids[known]
    shown[swapped] = pool[_on(rng.integers(max(1, len(pool)), size=int(swapped.sum())), ids)]
    return Guess(shown, targets)


def _on(values: NDArray[np.generic], like: Tensor) -> Tensor:
    return torch.from_numpy(values).to(like.device)
