"""Options of the output files; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BedOptions:
    """Shape of the BED files.

    Attributes:
        header: Write the `##` and `#chrom` comment lines (False for tools that refuse comments, such as bedToBigBed).
        bed6: Write the six standard columns only, without colours and extra columns.
    """

    header: bool = True
    bed6: bool = False


DEFAULT_BED = BedOptions()
