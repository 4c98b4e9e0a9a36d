"""How a model of bound sites learns; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from annotator.checks import check_count, check_not_negative, check_share
from annotator.errors import UsageError


@dataclass(frozen=True)
class BoundTraining:
    """How long and how fast the network learns: in a few minutes of one core, from tens of thousands of hits.

    Attributes:
        epochs: Times that every bound hit is seen.
        batch_hits: Hits of a step.
        learning_rate: Its peak; it rises over the first fifth of the steps and falls to zero.
        weight_decay: Of all weights but the filters.
        dropout: Share of what is known of a hit, and of the hidden layer, left out.
        negatives: Share of the hits that are not bound that is drawn anew in each epoch.
        filter_scale: Size of the filters that begin as the motifs of the factors, relative to their log-odds in bits.
        seed: Seed of everything drawn.
    """

    epochs: int = 8
    batch_hits: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    dropout: float = 0.3
    negatives: float = 0.4
    filter_scale: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be run.

        Raises:
            UsageError: A value is wrong; the message names the field.
        """
        check_count("epochs", self.epochs, least=1)
        check_count("batch_hits", self.batch_hits, least=2)
        check_count("seed", self.seed)
        for name in ("weight_decay", "filter_scale"):
            check_not_negative(name, getattr(self, name))
        check_share("dropout", self.dropout)
        check_share("negatives", self.negatives, some=True, whole=True)
        if not self.learning_rate > 0:
            raise UsageError("lies above 0", "learning_rate", self.learning_rate)
