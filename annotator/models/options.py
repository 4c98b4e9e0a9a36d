"""Options that models share; imports nothing heavy."""

from __future__ import annotations

CLADES = ("vertebrate", "invertebrate", "plant", "fungi")
DEFAULT_CLADE = "vertebrate"
