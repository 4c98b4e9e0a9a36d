"""How a genome file is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class GenomeOptions:
    """Choices a user can make about odd input; the defaults refuse what could be a mistake.

    Attributes:
        dup_names: "error" refuses contig names that occur twice; "suffix" renames the later ones to name_2, name_3, ...
        gaps_as_n: Read "-", "." and "*" as N instead of refusing them.
        eof_check: Refuse BGZF input without its end-of-file block, which is how a download cut at a block border looks.
    """

    dup_names: Literal["error", "suffix"] = "error"
    gaps_as_n: bool = False
    eof_check: bool = True
