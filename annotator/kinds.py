"""The words of the domain: strands, kinds of call, tasks, tracks that annotations label, and clades.

A kind of call is defined here and nowhere else: its task, its track, its colour, its BED file, its Sequence Ontology term and
the rule that turns a site's position into the feature that is written.

Coordinates: 0-based half-open on the plus strand of the contig.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line starts without numpy
    import numpy as np
    from numpy.typing import NDArray


class Strand(IntEnum):
    """A strand of a contig; the value is what arrays and `Calls.strand` hold."""

    PLUS = 1
    MINUS = -1

    @property
    def symbol(self) -> str:
        """The strand as BED, GFF3 and the table write it."""
        return "+" if self is Strand.PLUS else "-"

    @property
    def row(self) -> int:
        """Index of the strand in arrays of per-base logits or tracks, [2, C, L]: 0 for plus, 1 for minus."""
        return 0 if self is Strand.PLUS else 1

    @staticmethod
    def parse(symbol: str) -> Strand:
        """The strand of a symbol.

        Raises:
            ValueError: The symbol is neither "+" nor "-".
        """
        if symbol not in ("+", "-"):
            raise ValueError(f"strand {symbol!r} is neither + nor -")
        return Strand.PLUS if symbol == "+" else Strand.MINUS


STRANDS = (Strand.PLUS, Strand.MINUS)
"""Both strands, in the order of their rows."""


@dataclass(frozen=True)
class SpanRule:
    """Where the feature of a site lies, relative to the site's position and in reading direction.

    Attributes:
        first_bp: First base of the feature; negative before the position.
        end_bp: One past its last base.
        clipped: Whether a feature that crosses the contig's end is cut there; otherwise such a site is not reported.
    """

    first_bp: int
    end_bp: int
    clipped: bool = False


@dataclass(frozen=True)
class KindRow:
    """What defines a kind of call.

    Attributes:
        task: The task that asks for it; one of `TASKS`.
        track: The track that calls it, as labels and manifests name it; empty where a manifest's `features` say so.
        colour: Red, green and blue, 0..255, in BED, plots and browsers.
        bed_file: The BED file that holds it.
        so_accession: Accession of its Sequence Ontology term.
        so_term: Name of that term.
        span: Where the feature lies; None for [position, position + width) whatever the strand.
    """

    task: str
    track: str
    colour: tuple[int, int, int]
    bed_file: str
    so_accession: str
    so_term: str
    span: SpanRule | None


TASKS = ("promoter", "splice", "tfbs", "feature")
"""What a user can ask for, in the order of reports."""


class Kind(StrEnum):
    """A kind of call, in the order of its name, which is the order of sorted tables; `code` is its index here.

    The position of a donor is the exon's last base, of an acceptor the exon's first base, of a promoter the TSS, of any other
    kind the first base of the feature. A user's own track is a `FEATURE` (or a `TFBS`) with a name.
    """

    ACCEPTOR = "acceptor"
    DONOR = "donor"
    FEATURE = "feature"
    PROMOTER = "promoter"
    TFBS = "tfbs"

    @property
    def row(self) -> KindRow:
        """What defines the kind."""
        return _ROWS[self]

    @property
    def code(self) -> int:
        """Index of the kind, as `Calls.kind` holds it."""
        return _CODES[self]

    @property
    def task(self) -> str:
        """The task that asks for it."""
        return _ROWS[self].task

    @property
    def rgb(self) -> str:
        """The colour as BED writes it: red, green and blue joined by commas."""
        return ",".join(map(str, _ROWS[self].colour))

    @property
    def hex_colour(self) -> str:
        """The colour as plots and pages write it: "#rrggbb"."""
        return "#{:02x}{:02x}{:02x}".format(*_ROWS[self].colour)

    @property
    def is_splice_site(self) -> bool:
        """Whether it is a donor or an acceptor."""
        return self.task == "splice"

    def span(self, position: NDArray[np.int64], strand: Strand, width_bp: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Start and end of the features of some sites, not clipped to the contig.

        Args:
            position: Positions of the sites, int64, [n].
            strand: Their strand.
            width_bp: Bases of a feature whose kind has no span rule.

        Returns:
            Starts and ends, 0-based half-open, int64, [n] each.
        """
        rule = _ROWS[self].span
        if rule is None:
            return position, position + width_bp
        if strand is Strand.PLUS:
            return position + rule.first_bp, position + rule.end_bp
        return position - rule.end_bp + 1, position - rule.first_bp + 1


# Orange, reddish purple, black, blue and sky blue of Okabe and Ito's palette: told apart by colour-blind readers.
_ROWS: dict[Kind, KindRow] = {
    Kind.ACCEPTOR: KindRow(
        "splice", "acceptor", (204, 121, 167), "splice_sites.bed.gz", "SO:0000164", "three_prime_cis_splice_site", SpanRule(-2, 0)
    ),
    Kind.DONOR: KindRow(
        "splice", "donor", (230, 159, 0), "splice_sites.bed.gz", "SO:0000163", "five_prime_cis_splice_site", SpanRule(1, 3)
    ),
    Kind.FEATURE: KindRow("feature", "", (0, 0, 0), "features.bed.gz", "SO:0000110", "sequence_feature", None),
    Kind.PROMOTER: KindRow(
        "promoter", "tss", (0, 114, 178), "promoters.bed.gz", "SO:0000167", "promoter", SpanRule(-249, 51, clipped=True)
    ),
    Kind.TFBS: KindRow("tfbs", "", (86, 180, 233), "tfbs.bed.gz", "SO:0000235", "TF_binding_site", None),
}
KINDS = tuple(Kind)
"""All kinds; the index of each is its code."""
REACH_BP = max(max(-kind.row.span.first_bp, kind.row.span.end_bp) for kind in Kind if kind.row.span)
"""Bases that a feature may begin before the position of its site, on either strand."""
EVERY_KIND = "all"
"""Key of a threshold that holds for every kind without one of its own."""
_CODES = {kind: code for code, kind in enumerate(KINDS)}

TRACK_KIND = {kind.row.track: kind for kind in Kind if kind.row.track}
"""Kind of call that a track of one of these names gives; any other track says so in its manifest's `features`."""
FEATURE_KINDS = tuple(kind for kind in Kind if not kind.row.track)
"""Kinds that a track of any other name may give."""

LABEL_TRACKS = ("donor", "acceptor", "tss")
"""Kinds of site that annotations give: the tracks of the bundled architecture, in order."""
SPLICE_TRACKS = ("donor", "acceptor")
"""The tracks of splice sites, in order."""

CLADES = ("vertebrate", "invertebrate", "plant", "fungi")
DEFAULT_CLADE = "vertebrate"
AUTO_CLADE = "auto"
"""Asks for the clade whose settings fit the genome best."""
