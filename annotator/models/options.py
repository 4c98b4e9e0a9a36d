"""Options that models share; imports nothing heavy."""

from __future__ import annotations

PRECISIONS = ("auto", "float32", "bfloat16")
"""What a model may be asked to compute in."""

FAMILIES = ("dnabert", "dnabert2", "nucleotide-transformer", "biogpt")
"""Published families of language models of DNA."""

NOT_SCORED = -30.0
"""Logit of a base that a model says nothing about: the edge of a window, or a base that is no window's anchor."""
