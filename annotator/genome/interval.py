"""Spans of a genome; 0-based half-open everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Strand = Literal["+", "-", "."]


@dataclass(frozen=True, slots=True)
class Interval:
    """A span of one contig.

    Attributes:
        contig: Contig name as in the FASTA (its first word).
        start: First base, 0-based.
        end: One past the last base.
        strand: "+", "-" or "." (either).
    """

    contig: str
    start: int
    end: int
    strand: Strand = "."

    def __len__(self) -> int:
        """Length in bp."""
        return self.end - self.start
