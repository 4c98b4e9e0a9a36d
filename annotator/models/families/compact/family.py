"""The bundled architecture as a family: a network that labels bases, or a classifier of windows."""

from __future__ import annotations

from pathlib import Path

import torch

from annotator.models.families.compact.integer import IntegerNet, load_integer
from annotator.models.families.compact.scan import FoldedNet, folded_on, load_compact
from annotator.models.families.compact.window import CompactWindowClassifier, load_compact_window
from annotator.models.manifest import Manifest
from annotator.tokens.vocabulary import KmerVocabulary


class CompactFamily:
    """The bundled architecture; see `ScanFamily`."""

    def load_scan_model(
        self, folder: Path, manifest: Manifest, clade: str, device: torch.device, precision: str
    ) -> FoldedNet | IntegerNet:
        """Load a network that labels bases, folded for one clade; for int8 its integer copy."""
        net = load_compact(folder, manifest, clade)
        if precision == "int8":
            return load_integer(folder, manifest, net, clade)
        return folded_on(net, manifest.clades[clade].index, KmerVocabulary(**manifest.tokenizer), device, precision)

    def load_window_classifier(
        self, folder: Path, manifest: Manifest, device: torch.device, precision: str
    ) -> CompactWindowClassifier:
        """Load a classifier of windows."""
        return load_compact_window(folder, manifest, device, precision)


FAMILY = CompactFamily()
