"""Options of the output files; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from annotator.checks import check_flags
from annotator.errors import UsageError


@dataclass(frozen=True, slots=True)
class BedOptions:
    """Shape of the BED files: BED9 with one header line where nothing else is asked for.

    Attributes:
        header: Write the `#chrom` line (False for tools that refuse comments, such as bedToBigBed).
        bed6: Write the first six columns only: no thick part and no colours.
        bed_extra: Write further columns of the table after the nine. Programs that take columns 10 to 12 for the blocks of
            BED12 refuse such files: IGV desktop, pysam's asBed, pyranges, CrossMap.
    """

    header: bool = True
    bed6: bool = False
    bed_extra: bool = False

    def __post_init__(self) -> None:
        """Refuse impossible values.

        Raises:
            UsageError: One is wrong; the message names the field.
        """
        check_flags(self, "header", "bed6", "bed_extra")
        if self.bed6 and self.bed_extra:
            raise UsageError("BED6 has no room for extra columns; ask for one of the two", "bed_extra")


DEFAULT_BED = BedOptions()

DEFAULT_FORMATS: Final[Mapping[str, object]] = {"bed": DEFAULT_BED}
"""Formats that a run writes where nothing else is asked for: name of each -> its options, a frozen dataclass."""
