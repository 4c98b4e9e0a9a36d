"""The networks that fine-tuning trains: sequences in, logits out, whatever lies between.

Coordinates: bases of a row in the order it is read.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from annotator.genome.plan import UNKNOWN_BASE
from annotator.models.families.compact.window import CompactWindow
from annotator.models.task_heads import TaskModel
from annotator.models.token_inference import TokenScanner
from annotator.models.token_parts import fitting_parts
from annotator.models.track_set import TrackSet
from annotator.scan.windows import ScanModel
from annotator.tokens.batch import RowTokenizer


class WindowNet(nn.Module):
    """A family's window classifier on sequences of any lengths.

    A sequence that is longer than the context is halved until it fits, and the logits of its parts are averaged by their
    share of its bases: what `annotator.models.token_inference.TokenClassifier` does when the model is used.
    """

    def __init__(self, model: TaskModel, tokenizer: RowTokenizer) -> None:
        """Join network and tokenizer."""
        super().__init__()
        self.model, self.tokenizer = model, tokenizer

    def forward(self, sequences: Sequence[bytes]) -> Tensor:
        """Class logits, float32, [n, classes]."""
        lengths = np.array([len(sequence) for sequence in sequences])
        device = next(self.model.parameters()).device
        logits = torch.zeros(len(sequences), self.model.head.options.outputs, device=device)
        for length in np.unique(lengths):  # rows of a batch of tokens are of one length
            chosen = np.flatnonzero(lengths == length)
            rows = rows_of([sequences[i] for i in chosen.tolist()]).to(device)
            places = torch.from_numpy(chosen).to(device)
            for part in fitting_parts(self.tokenizer, rows, both_directions=self.model.causal):
                share = part.rows.shape[1] / int(length)
                logits = logits.index_add(0, places[part.index], self.model.window_logits(part.tokens, part.opposite) * share)
        return logits


class CompactSequences(nn.Module):
    """The compact window classifier on sequences of any lengths; in training each is moved by a few bases."""

    def __init__(self, model: CompactWindow, *, dropout: float, shift_bp: int) -> None:
        """Hold a network.

        Args:
            model: The network.
            dropout: Its dropout.
            shift_bp: Sequences move by up to this many bases to either side in training; N comes in.
        """
        super().__init__()
        self.model, self._dropout, self._shift_bp = model, dropout, shift_bp

    def forward(self, sequences: Sequence[bytes]) -> Tensor:
        """Class logits, float32, [n, classes]."""
        device = next(self.model.parameters()).device
        # Filled up to a window at the most: of a longer row all windows count, and those of N alone would say something too.
        lengths = np.array([max(len(sequence), self.model.config.window_bp) for sequence in sequences])
        logits = torch.zeros(len(sequences), self.model.out.out_features, device=device)
        for length in np.unique(lengths).tolist():
            chosen = np.flatnonzero(lengths == length)
            rows = rows_of([sequences[i].ljust(length, b"N") for i in chosen.tolist()]).to(device)
            if self.training and self._shift_bp:
                moves = torch.randint(2 * self._shift_bp + 1, (len(rows), 1), device=device)
                columns = moves + torch.arange(length, device=device)
                rows = F.pad(rows, (self._shift_bp, self._shift_bp), value=UNKNOWN_BASE).gather(1, columns)
            logits = logits.index_copy(0, torch.from_numpy(chosen).to(device), self.model(rows, self._dropout))
        return logits


class BaseNet(nn.Module):
    """A family's base labeller on rows; a row with too many tokens is halved until it fits."""

    def __init__(self, model: TaskModel, tokenizer: RowTokenizer) -> None:
        """Join network and tokenizer."""
        super().__init__()
        self.model, self.tokenizer = model, tokenizer

    def forward(self, rows: Tensor) -> Tensor:
        """ASCII bases, uint8, [R, L], to logits, float32, [R, L, C]."""
        out = torch.zeros(*rows.shape, self.model.head.options.outputs, device=rows.device)
        for part in fitting_parts(self.tokenizer, rows, both_directions=self.model.causal):
            found = self.model.base_logits(part.tokens, part.rows, part.opposite)
            columns = torch.arange(part.first, part.first + part.rows.shape[1], device=rows.device)
            out = out.index_put((part.index[:, None], columns[None]), found)
        return out

    def scanner(self, tracks: TrackSet, device: torch.device) -> ScanModel:
        """The network as a run scans with it, in eval mode."""
        return TokenScanner(self.model, self.tokenizer, tracks, device)


def rows_of(sequences: Sequence[bytes]) -> Tensor:
    """Sequences of one length as rows, uint8, [n, L]."""
    return torch.from_numpy(np.frombuffer(b"".join(sequences), np.uint8).reshape(len(sequences), -1).copy())
