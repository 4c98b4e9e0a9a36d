"""A fine-tuned family made ready to scan: rows of bases in, per-base logits or class logits out.

Coordinates: bases of a row in the order it is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from annotator.genome.plan import UNKNOWN_BASE
from annotator.models.manifest import Manifest, WindowTask
from annotator.models.options import NOT_SCORED
from annotator.models.task_heads import TaskModel
from annotator.models.token_parts import Part, even_passes, fitting_parts
from annotator.models.track_set import TrackSet
from annotator.tokens.batch import RowTokenizer, cut_rows

TOKENS_PER_PASS = {"cpu": 8_192, "cuda": 131_072}
BASES_AT_ONCE = 1 << 23
"""Bases of the windows that are tokenised together; enough for many passes."""


@dataclass(frozen=True)
class Rows:
    """Rows cut out of a block.

    Attributes:
        bases: ASCII bases in reading direction, uint8, [R, L].
        reverse: Whether a row is read from the minus strand, bool, [R].
    """

    bases: Tensor
    reverse: Tensor


class WindowClassifier(Protocol):
    """Class logits of whole rows: uint8 [R, L] to float32 [R, classes], on the device of the model."""

    def __call__(self, rows: Tensor) -> Tensor:
        """Classify rows of ASCII bases in reading direction, all of one length."""


class TokenRunner:
    """Runs a family's network in passes of few shapes.

    Attributes:
        model: The network with its head, in eval mode, on its device.
        tokenizer: The family's.
    """

    def __init__(self, model: TaskModel, tokenizer: RowTokenizer, device: torch.device) -> None:
        """Hold a model."""
        self.model, self.tokenizer = model, tokenizer
        self._per_pass = TOKENS_PER_PASS[device.type]

    def passes(self, rows: Tensor) -> Iterator[tuple[Part, int]]:
        """Passes over rows [R, L], and how many rows of each count."""
        if len(rows):
            for part in fitting_parts(self.tokenizer, rows, both_directions=self.model.causal):
                yield from even_passes(part, self._per_pass, self.tokenizer.max_tokens)


class TokenClassifier(TokenRunner):
    """Class logits of whole rows; a row that is longer than the context is halved until it fits, and its logits averaged."""

    def __call__(self, rows: Tensor) -> Tensor:
        """See `WindowClassifier`."""
        logits = torch.zeros(len(rows), self.model.head.options.outputs, device=rows.device)
        for part, count in self.passes(rows):
            found = self.model.window_logits(part.tokens, part.opposite)[:count]
            share = part.rows.shape[1] / rows.shape[1]
            logits.index_add_(0, part.index[:count], found * share)
        return logits


class TokenScanner(TokenRunner):
    """A `ScanModel` of a network that labels bases."""

    def __init__(self, model: TaskModel, tokenizer: RowTokenizer, tracks: TrackSet, device: torch.device) -> None:
        """Hold a model and the set of its tracks."""
        super().__init__(model, tokenizer, device)
        self._centre = [tracks.features[t].width_bp // 2 if t in tracks.features else 0 for t in tracks.names]

    def embed(self, block: Tensor, starts: Tensor, reverse: Tensor, length: int) -> Rows:
        """Cut rows out of a block of bases; see `ScanModel`."""
        return Rows(cut_rows(block, starts, reverse, length), reverse)

    def logits(self, x: Rows) -> Tensor:
        """Per-base logits of rows, float32, [R, L, C]; NOT_SCORED in rows without a base."""
        count, length = x.bases.shape
        out = torch.full((count, length, len(self._centre)), NOT_SCORED, device=x.bases.device)
        known = (x.bases != UNKNOWN_BASE).any(1).nonzero()[:, 0]
        for part, rows in self.passes(x.bases[known]):
            found = self.model.base_logits(part.tokens, part.rows, part.opposite)[:rows]
            out[known[part.index[:rows]], part.first : part.first + part.rows.shape[1]] = found
        for track, centre in enumerate(self._centre):
            if centre:  # the network scores a feature's centre; the score belongs to its first base on the plus strand
                out[..., track] = _moved(out[..., track], x.reverse, centre)
        return out


class SlidingScanner:
    """A `ScanModel` of a classifier of windows, slid over each strand; see `WindowTask` for the rule."""

    def __init__(self, classify: WindowClassifier, manifest: Manifest) -> None:
        """Hold a classifier and the manifest that says how it is slid."""
        assert manifest.window is not None
        self.classify, self.window, self.tracks = classify, manifest.window, manifest.tracks

    def embed(self, block: Tensor, starts: Tensor, reverse: Tensor, length: int) -> Rows:
        """Cut rows out of a block of bases; see `ScanModel`."""
        return Rows(cut_rows(block, starts, reverse, length), reverse)

    def logits(self, x: Rows) -> Tensor:
        """Per-base logits of rows, float32, [R, L, C]; NOT_SCORED at every base that is no window's anchor."""
        task, (count, length) = self.window, x.bases.shape
        out = torch.full((count, length, len(self.tracks)), NOT_SCORED, device=x.bases.device)
        if length < task.window_bp:
            return out
        windows = x.bases.unfold(1, task.window_bp, task.stride_bp)  # a view, [R, P, W]
        seen = torch.nn.functional.pad((x.bases != UNKNOWN_BASE).cumsum(1), (1, 0))
        known = (seen[:, task.window_bp :] > seen[:, : -task.window_bp])[:, :: task.stride_bp]
        row, window = known.nonzero(as_tuple=True)
        if not len(row):
            return out
        # Windows overlap: all of a batch at once would be window_bp / stride_bp times its bases, and tokens many times that.
        at_once = max(1, BASES_AT_ONCE // task.window_bp)
        parts = zip(torch.split(row, at_once), torch.split(window, at_once), strict=True)
        found = track_log_odds(torch.cat([self.classify(windows[part]) for part in parts]), task, self.tracks)
        for track, name in enumerate(self.tracks):
            ahead, back = (task.anchor_bp[name],) * 2 if name in task.anchor_bp else (0, task.window_bp - 1)
            anchor = torch.where(x.reverse[row], back, ahead)
            out[row, window * task.stride_bp + anchor, track] = found[:, track]
        return out


def track_log_odds(logits: Tensor, task: WindowTask, tracks: tuple[str, ...]) -> Tensor:
    """Log-odds of each track's class against all the others.

    Args:
        logits: Class logits, [R, classes].
        task: Says which class is which.
        tracks: The model's.

    Returns:
        float32, [R, C]: sigmoid of it is the class's softmax probability.
    """
    columns = []
    for track in tracks:
        own = task.classes.index(track)
        others = [index for index in range(len(task.classes)) if index != own]
        columns.append(logits[:, own] - torch.logsumexp(logits[:, others], 1))
    return torch.stack(columns, 1).float()


def _moved(scores: Tensor, reverse: Tensor, bases: int) -> Tensor:
    """Scores [R, L] moved so many bases towards lower plus-strand positions; NOT_SCORED comes in."""
    bases = min(bases, scores.shape[1])
    ahead = torch.nn.functional.pad(scores[:, bases:], (0, bases), value=NOT_SCORED)
    back = torch.nn.functional.pad(scores[:, : scores.shape[1] - bases], (bases, 0), value=NOT_SCORED)
    return torch.where(reverse[:, None], back, ahead)
