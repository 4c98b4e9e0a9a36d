"""Options of the output files; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from annotator.checks import check_flags


@dataclass(frozen=True, slots=True)
class BedOptions:
    """Shape of the BED files.

    Attributes:
        header: Write the `##` and `#chrom` comment lines (False for tools that refuse comments, such as bedToBigBed).
        bed6: Write the six standard columns only, without colours and extra columns.
    """

    header: bool = True
    bed6: bool = False

    def __post_init__(self) -> None:
        """Refuse impossible values.

        Raises:
            UsageError: One is wrong; the message names the field.
        """
        check_flags(self, "header", "bed6")


DEFAULT_BED = BedOptions()
