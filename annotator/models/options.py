"""Options that models share; imports nothing heavy."""

from __future__ import annotations

CLADES = ("vertebrate", "invertebrate", "plant", "fungi")
DEFAULT_CLADE = "vertebrate"

PRECISIONS = ("auto", "float32", "bfloat16")
"""What a model may be asked to compute in."""
