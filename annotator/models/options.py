"""Options that models share; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

PRECISIONS = ("auto", "float32", "bfloat16", "int8")
"""What a model may be asked to compute in."""


@dataclass(frozen=True)
class FamilyRow:
    """What is known of a model family before its code, and torch, is loaded.

    Attributes:
        module: The module that holds it, as `FAMILY`.
        language_model: Whether it is a language model of DNA, which can be pre-trained and fine-tuned.
        libraries: Libraries beside torch whose version decides the last digits of its scores.
        default_precision: What it computes in where the user does not say; empty for what suits the device.
    """

    module: str
    language_model: bool = True
    libraries: tuple[str, ...] = ()
    default_precision: str = ""


_FAMILIES = "annotator.models.families"
FAMILY_ROWS = {
    "compact": FamilyRow(f"{_FAMILIES}.compact.family", language_model=False),
    # A converted network is there for the published probabilities, which bfloat16 would move by up to 0.01.
    "dilated_cnn": FamilyRow(f"{_FAMILIES}.dilated_cnn", language_model=False, default_precision="float32"),
    "dnabert": FamilyRow(f"{_FAMILIES}.dnabert", libraries=("transformers",)),
    "dnabert2": FamilyRow(f"{_FAMILIES}.dnabert2", libraries=("tokenizers",)),
    "nucleotide-transformer": FamilyRow(f"{_FAMILIES}.nucleotide_transformer", libraries=("transformers",)),
    "biogpt": FamilyRow(f"{_FAMILIES}.biogpt", libraries=("transformers",)),
}
"""Every family that a manifest may name: a new family is a file and a row here."""
FAMILIES = tuple(name for name, row in FAMILY_ROWS.items() if row.language_model)
"""Families of language models of DNA."""

NOT_SCORED = -30.0
"""Logit of a base that a model says nothing about: the edge of a window, or a base that is no window's anchor."""
