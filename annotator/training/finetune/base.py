"""What a fine-tuning run starts from: a network that is ready to learn, with what a manifest says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Base:
    """A network that is ready to learn.

    Attributes:
        net: Trained by the loop: sequences (or rows) in, logits out.
        model: Its weights as a model directory holds them, but for adapters.
        family: Name of the family, for the manifest like what follows.
        architecture: Architecture of the network below the head.
        tokenizer: The manifest's description of the tokenizer.
        files: Text of the files that decide the tokens' ids, by name.
        head: Options of the head.
        licence: Licence of the weights.
        described: Where the weights come from.
        longest_bp: Most bases of a window; None where there is no limit.
        reach_bp: Bases on either side that change a base's logit wherever windows end: the reach of the head, of networks that
            read whole windows, and that of the whole network of convolutional ones.
        plan: Arguments of `PlanOptions` that a base labeller scans with; None for the windows that it learns from.
    """

    net: nn.Module
    model: nn.Module
    family: str
    architecture: dict[str, Any]
    tokenizer: dict[str, Any]
    files: Mapping[str, str]
    head: dict[str, Any]
    licence: str
    described: dict[str, Any]
    longest_bp: int | None
    reach_bp: int = 0
    plan: Mapping[str, int] | None = None
