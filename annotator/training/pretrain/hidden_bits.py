"""Bits that a language model needs for a base it does not see: a figure that holds across tokenizers.

Rules, by objective:

- spans (stride-1 k-mers): runs of exactly k k-mers are hidden, PROBE_GAP k-mers apart, so that each run hides one base. At each
  of the k places the four k-mers that agree with the visible bases share the probability; the mean of the k logarithms,
  made to sum to one again, is the base's.
- tokens (tokens side by side): every PROBE_PERIOD-th token is hidden; minus the logarithm of its probability among all ids, over
  the number of its bases.
- causal: the same of every token, given those before it.

Windows hold no N, and the bases within EDGE_BP of a window's ends are not counted, so that rivals have their context.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from annotator.models.families.base import LanguageModel
from annotator.tokens.batch import RowTokenizer, TokenBatch
from annotator.tokens.kmer_rows import KmerRows
from annotator.training.pretrain.markov import MarkovModel
from annotator.training.pretrain.masking import IGNORED, Guess, hidden_bases, known_tokens, next_tokens

EDGE_BP = 8
PROBE_GAP = 10
PROBE_PERIOD = 7


@dataclass(frozen=True)
class Probe:
    """Tokenised validation windows with what has to be guessed in them.

    Attributes:
        guess: The model's input and its targets.
        attention_mask: bool, [R, T].
        run_starts: First token of each run of stride-1 k-mers, int64, [S]; None for other tokens.
        rows: ASCII bases, uint8, [R, L].
        hidden: Bases to guess, bool, [R, L].
    """

    guess: Guess
    attention_mask: Tensor
    run_starts: Tensor | None
    rows: NDArray[np.uint8]
    hidden: NDArray[np.bool_]


@dataclass(frozen=True)
class HiddenBits:
    """What a model needs for a probe.

    Attributes:
        bits: Mean bits for a hidden base.
        perplexity: Perplexity of the guessed tokens.
        bases: Number of hidden bases.
    """

    bits: float
    perplexity: float
    bases: int


def make_probe(rows: NDArray[np.uint8], tokenizer: RowTokenizer, *, causal: bool) -> Probe:
    """Choose what has to be guessed; the same for the same rows.

    Args:
        rows: ASCII bases, A, C, G, T alone, uint8, [R, L].
        tokenizer: The model's.
        causal: Whether the model guesses the next token.

    Raises:
        ValueError: The windows are too short to hide anything.
    """
    tensor = torch.from_numpy(rows)
    tokens = tokenizer.encode(tensor)
    known, inner = known_tokens(tokens, tensor), _inner(tokens, rows.shape[1])
    starts = None
    if causal:
        guess = next_tokens(tokens, known & inner)
        guessed = known & inner
    else:
        if isinstance(tokenizer, KmerRows):
            k = tokenizer.vocabulary.k
            whole = inner[0].nonzero()[:, 0]
            starts = whole[: max(0, len(whole) - k + 1)][:: k + PROBE_GAP]
            guessed = torch.zeros_like(known)
            guessed[:, (starts[:, None] + torch.arange(k)).reshape(-1)] = True
        else:
            guessed = known & inner & (torch.arange(known.shape[1]) % PROBE_PERIOD == PROBE_PERIOD // 2)
        if tokenizer.mask_id is None:
            raise ValueError("a tokenizer without a mask token has nothing to hide with")
        targets = torch.where(guessed, tokens.ids, IGNORED)
        guess = Guess(torch.where(guessed, tokenizer.mask_id, tokens.ids), targets)
    hidden = hidden_bases(tokens, guessed).numpy()
    if not hidden.any():
        raise ValueError(f"windows of {rows.shape[1]} bp are too short to hide a base")
    return Probe(guess, tokens.attention_mask, starts, rows, hidden)


@torch.no_grad()
def hidden_bits(
    model: LanguageModel, probe: Probe, tokenizer: RowTokenizer, *, rows: int, device: torch.device, bf16: bool
) -> HiddenBits:
    """Bits of a model for a hidden base.

    Args:
        model: In eval mode, on `device`.
        probe: From `make_probe` with the same tokenizer.
        tokenizer: The model's.
        rows: Windows computed at once.
        device: Where to compute.
        bf16: Autocast to bfloat16.
    """
    bits = nats = 0.0
    guessed = 0
    for at in range(0, len(probe.rows), rows):
        part = slice(at, at + rows)
        ids, targets, attended = (x[part].to(device) for x in (probe.guess.ids, probe.guess.targets, probe.attention_mask))
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            places = targets != IGNORED
            logits = model.lm_head(model.backbone(ids, attended)[places]).float()
        losses = F.cross_entropy(logits, targets[places], reduction="none").double()
        nats += float(losses.sum())
        guessed += len(losses)
        if isinstance(tokenizer, KmerRows) and probe.run_starts is not None:
            bits += _run_bits(logits, targets[places], tokenizer)
        else:
            bits += float(losses.sum()) / math.log(2)
    bases = int(probe.hidden.sum())
    return HiddenBits(bits / bases, math.exp(min(nats / guessed, 700.0)), bases)


def markov_bits(probe: Probe, model: MarkovModel) -> float:
    """Bits of a Markov model for the very bases of a probe."""
    return model.bits_of(probe.rows, probe.hidden)


def _inner(tokens: TokenBatch, length: int) -> Tensor:
    """Tokens whose bases all lie EDGE_BP within the window; bool, [R, T]."""
    start, end = tokens.base_spans.unbind(2)
    return (start >= EDGE_BP) & (end <= length - EDGE_BP)


def _run_bits(logits: Tensor, truth: Tensor, tokenizer: KmerRows) -> float:
    """Bits of the hidden base of each run.

    Args:
        logits: Logits of the k tokens of each run, one run after the other, float32, [n * k, V].
        truth: The true ids, int64, [n * k].
        tokenizer: The tokenizer that gives the ids.
    """
    k, first = tokenizer.vocabulary.k, tokenizer.vocabulary.first_kmer_id
    if tokenizer.order is not None:  # back to the family's own ids, in which a k-mer's id is its number
        order = tokenizer.order.to(truth.device)
        logits, truth = logits[:, order], order.argsort()[truth]
    # Token j of a run begins j bases after the first one and holds the hidden base k - 1 - j bases from its start: digit j
    # of its number, counted from the last.
    digit = 4 ** torch.arange(k, device=truth.device)
    value = (truth - first).view(-1, k)
    base = value[:, :1] // digit[:1] % 4
    others = value - base * digit
    candidates = first + others[:, :, None] + torch.arange(4, device=truth.device) * digit[:, None]
    chosen = logits.view(len(value), k, -1).gather(2, candidates).double().log_softmax(2)
    probability = chosen.mean(1).log_softmax(1)
    return float(-probability.gather(1, base).sum()) / math.log(2)
