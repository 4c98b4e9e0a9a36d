"""The networks that fine-tuning trains: a sequence's logits do not depend on what shares its batch."""

from __future__ import annotations

import numpy as np
import torch

from annotator.models.families.compact.window import CompactWindow, CompactWindowConfig
from annotator.training.finetune.nets import CompactSequences


def test_a_sequence_beside_a_longer_one_scores_as_alone() -> None:
    bases = np.frombuffer(b"ACGT", np.uint8)[np.random.default_rng(1).integers(4, size=200)].tobytes()
    torch.manual_seed(1)
    model = CompactWindow(CompactWindowConfig(40, k=3, fine_channels=8, trunk_channels=8), 3)
    net = CompactSequences(model, dropout=0.0, shift_bp=0).eval()
    sequences = [bases[:40], bases[40:70], bases[70:190], bases[100:141]]
    with torch.inference_mode():
        together = net(sequences)
        alone = torch.cat([net([sequence]) for sequence in sequences])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
