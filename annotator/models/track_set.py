"""The tracks of a model: what each is called, what kind of call it gives, and how far its calls keep apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from annotator.kinds import TRACK_KIND, Kind


@dataclass(frozen=True)
class Feature:
    """What a track other than donor, acceptor and tss calls: [position, position + width_bp) with the track's name.

    Attributes:
        kind: `Kind.TFBS` (a binding site of the factor the track is named after), or `Kind.FEATURE` (anything else).
        width_bp: Bases of a call.
    """

    kind: Kind
    width_bp: int


@dataclass(frozen=True)
class TrackSet:
    """The output tracks of one strand.

    Attributes:
        names: Names of the tracks, in the order of the model's outputs, C of them.
        features: What the tracks that are not donor, acceptor or tss call.
        radius_bp: A call is a local maximum within this many bases, per kind.
    """

    names: tuple[str, ...]
    features: Mapping[str, Feature] = field(default_factory=dict)
    radius_bp: Mapping[Kind, int] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of tracks, C."""
        return len(self.names)

    def index(self, track: str) -> int:
        """Row of a track in arrays of logits."""
        return self.names.index(track)

    def kind_of(self, track: str) -> Kind:
        """Kind of call a track gives.

        Raises:
            KeyError: The track is none of donor, acceptor and tss, and `features` does not say what it is.
        """
        return TRACK_KIND[track] if track in TRACK_KIND else self.features[track].kind

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Kinds of call the tracks give, in the order of the tracks."""
        return tuple(dict.fromkeys(map(self.kind_of, self.names)))

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Tracks that are not donor, acceptor or tss, in order; they label their calls."""
        return tuple(track for track in self.names if track in self.features)
