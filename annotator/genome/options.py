"""Options of reading a genome file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from annotator.checks import check_choice, check_flags
from annotator.errors import UsageError


@dataclass(frozen=True, slots=True)
class GenomeOptions:
    """Choices a user can make about odd input; the defaults refuse what could be a mistake.

    Attributes:
        dup_names: "error" refuses contig names that occur twice; "suffix" renames the later ones to name_2, name_3, ...
        gaps_as_n: Read "-", "." and "*" as N instead of refusing them.
        eof_check: Refuse BGZF input without its end-of-file block, which is how a download cut at a block border looks.
        mask_chars: Characters that read as N instead of being refused, such as the X of RepeatMasker; letters in either case.
    """

    dup_names: Literal["error", "suffix"] = "error"
    gaps_as_n: bool = False
    eof_check: bool = True
    mask_chars: str = ""

    def __post_init__(self) -> None:
        """Refuse impossible values.

        Raises:
            UsageError: One is wrong; the message names the field.
        """
        check_choice("dup_names", self.dup_names, ("error", "suffix"))
        check_flags(self, "gaps_as_n", "eof_check")
        given: object = self.mask_chars
        if not isinstance(given, str) or not re.fullmatch(r"[!-~]*", given):
            raise UsageError("give printable characters, such as X, without blanks", "mask_chars", self.mask_chars)
        if wrong := re.search("[ACGTUacgtu>]", self.mask_chars):
            raise UsageError(f"{wrong[0]} cannot be read as N", "mask_chars", self.mask_chars)
