"""What `--motifs` may name; imports nothing heavy."""

from __future__ import annotations

import re

JASPAR_RELEASE = "JASPAR2026"
"""The release whose files come with the package."""

_NAMED = re.compile(r"jaspar(\d{4})?", re.IGNORECASE)


def release_named(motifs: str) -> str:
    """The JASPAR release that a value names: "jaspar" the package's own, "jaspar2024" that of a year; empty for a file."""
    named = _NAMED.fullmatch(motifs)
    if not named:
        return ""
    return f"JASPAR{named[1]}" if named[1] else JASPAR_RELEASE
