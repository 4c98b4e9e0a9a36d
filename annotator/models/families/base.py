"""What the published model families have in common: configuration, tokenizer, network, and what a loader checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from annotator.models.manifest import Manifest
from annotator.tokens.batch import RowTokenizer

Architecture = dict[str, Any]
"""Plain JSON values that a family builds its network from; what `manifest.json` keeps."""


class Backbone(nn.Module):
    """The trunk of a family: token ids in, one vector a token out.

    Attributes:
        hidden: Width of a vector, H.
    """

    hidden: int

    def forward(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Hidden states of rows of tokens.

        Args:
            ids: int64, [R, T].
            attention_mask: True where there is a token, bool, [R, T]; padding lies at the right.

        Returns:
            [R, T, H]; what stands at padding means nothing.
        """
        raise NotImplementedError


class LanguageModel(nn.Module):
    """A backbone with the head it is pre-trained with.

    Attributes:
        backbone: The trunk.
        lm_head: Hidden states [..., H] to logits [..., V]; may share the embedding's weight.
    """

    def __init__(self, backbone: Backbone, lm_head: nn.Module) -> None:
        """Join the two."""
        super().__init__()
        self.backbone, self.lm_head = backbone, lm_head

    def forward(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits of every token, [R, T, V]."""
        logits: Tensor = self.lm_head(self.backbone(ids, attention_mask))
        return logits


@dataclass(frozen=True)
class Published:
    """A checkpoint's tensors under this program's names.

    Attributes:
        backbone: Tensors of `LanguageModel.backbone`, without the prefix.
        lm_head: Tensors of `LanguageModel.lm_head`; empty where the checkpoint has none.
        window_head: Tensors of a `WindowHead`: dense.weight, dense.bias, out.weight, out.bias, as far as the family has them;
            empty where the checkpoint has no classifier.
        ignored: Names that mean nothing here (position ids, unused tables) and were left out.
        unexpected: Names that no part of the family has.
    """

    backbone: dict[str, Tensor]
    lm_head: dict[str, Tensor]
    window_head: dict[str, Tensor]
    ignored: tuple[str, ...]
    unexpected: tuple[str, ...]


class ScanFamily(Protocol):
    """What the engine asks of every family that a manifest may name."""

    def load_scan_model(self, folder: Path, manifest: Manifest, clade: str, device: torch.device, precision: str) -> Any:
        """Load a model that labels bases; see `annotator.models.loading.load_scan_model`."""

    def load_window_classifier(self, folder: Path, manifest: Manifest, device: torch.device, precision: str) -> Any:
        """Load a classifier of windows; see `annotator.models.loading.load_window_classifier`."""


@dataclass(frozen=True)
class ModelFamily:
    """One published family of language models; it scans through the task heads that all of them share.

    Attributes:
        name: Name in manifests and on the command line.
        title: Name that its authors use.
        licence: SPDX identifier of the published weights and, after a comma, what that forbids; shown when they are loaded.
        causal: Whether a token sees only what comes before it; such a model is run in both reading directions.
        dense_window_head: Whether its classifiers have a tanh layer between the pooled vector and the output.
        lora_targets: Names of the linear modules (last part of the dotted name) that LoRA is attached to by default.
        objective: What it is pre-trained with: "spans" (runs of k stride-1 k-mers), "tokens" (single tokens) or "causal".
        read_config: From a `config.json` (parsed) to an architecture. Raises ValueError or KeyError naming the field.
        sizes: Architectures for training from scratch, by name: "tiny" (for tests and CPUs), "small", "base" (the published).
        build: From an architecture to a network with random weights (its published initialisation).
        tokenizer: From an architecture and the model's directory (for families with a tokenizer file) to a tokenizer.
        translate: From a published state dict to this program's names.
    """

    name: str
    title: str
    licence: str
    causal: bool
    dense_window_head: bool
    lora_targets: tuple[str, ...]
    objective: str
    read_config: Callable[[dict[str, Any]], Architecture]
    sizes: dict[str, Architecture]
    build: Callable[[Architecture], LanguageModel]
    tokenizer: Callable[[Architecture, Path | None], RowTokenizer]
    translate: Callable[[dict[str, Tensor], Architecture], Published]

    def load_scan_model(self, folder: Path, manifest: Manifest, clade: str, device: torch.device, precision: str) -> Any:
        """Load a fine-tuned model that labels bases; it has no bias of a clade."""
        from annotator.models.task_models import load_token_scanner  # which looks families up

        return load_token_scanner(folder, manifest, device, precision)

    def load_window_classifier(self, folder: Path, manifest: Manifest, device: torch.device, precision: str) -> Any:
        """Load a fine-tuned classifier of windows."""
        from annotator.models.task_models import load_token_classifier

        return load_token_classifier(folder, manifest, device, precision)
