"""Options of the output files; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from annotator.checks import check_choices, check_flags
from annotator.errors import UsageError

BED = "bed"
"""Key of a run's own BED files, whatever their shape; further ones have the name of their shape as key."""
BED_SHAPES: Final = ("bed9", "bed6", "bed-extra")
FORMAT_NAMES: Final = (*BED_SHAPES, "gff3", "bigbed", "bedgraph", "tsv")
"""What users can ask for."""


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

    @property
    def shape(self) -> str:
        """Which of `BED_SHAPES` it is."""
        return "bed6" if self.bed6 else "bed-extra" if self.bed_extra else "bed9"


@dataclass(frozen=True, slots=True)
class NoOptions:
    """The options of a format that has none."""


DEFAULT_BED = BedOptions()

DEFAULT_FORMATS: Final[Mapping[str, object]] = {BED: DEFAULT_BED}
"""Formats that a run writes where nothing else is asked for: key of each -> its options, a frozen dataclass."""


def formats_asked(
    names: Sequence[str], bed: BedOptions = DEFAULT_BED, *, own_bed: str = "", field: str = "formats"
) -> dict[str, object]:
    """The formats of a run as `AnnotateOptions.formats` holds them.

    The first shape of BED that is asked for is the run's own: its files are called `splice_sites.bed.gz` and so on. Those of
    another shape beside it say so: `splice_sites.bed6.bed.gz`.

    Args:
        names: Some of `FORMAT_NAMES`; nothing for the default.
        bed: What the flags of BED say; with names, a shape other than BED9 is one more format.
        own_bed: Shape of the BED files that a folder has already.
        field: The option that gave the names, for the message.

    Raises:
        UsageError: A name is unknown.
    """
    asked = check_choices(field, names, FORMAT_NAMES) if names else ()
    if not asked or bed.shape != "bed9":
        asked = (*asked, bed.shape)
    formats: dict[str, object] = {}
    for name in dict.fromkeys(asked):
        if name not in BED_SHAPES:
            formats[name] = NoOptions()
            continue
        own_bed = own_bed or name
        shape = BedOptions(bed.header, bed6=name == "bed6", bed_extra=name == "bed-extra")
        formats[BED if name == own_bed else name] = shape
    return formats


def formats_from_json(record: Mapping[str, Any]) -> dict[str, object]:
    """Formats as run.json names them, as `AnnotateOptions.formats` holds them.

    Raises:
        TypeError: The record is not one of this program.
        UsageError: A value in it is wrong.
    """
    return {key: BedOptions(**value) if key == BED or key in BED_SHAPES else NoOptions(**value) for key, value in record.items()}
