"""The tracks that a run writes: which there are, and what their files are called. Imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from annotator.kinds import STRANDS, Kind, Strand

LEAST_PROBABILITY: Final = 0.01
"""A base below it has no value in a track, and a local maximum below it is no row of `MAXIMA_FILE`."""
STEPS_IN_1: Final = 1000
"""Values of tracks have three decimals."""
MAXIMA_FILE: Final = "maxima.parquet"
STRAND_NAMES: Final = {Strand.PLUS: "plus", Strand.MINUS: "minus"}
"""How file names spell a strand."""


@dataclass(frozen=True)
class TrackFile:
    """One track of a model on one strand, and its file.

    Attributes:
        index: Place of the track among those of the model.
        name: Name of the track.
        kind: What its maxima are called.
        strand: The strand.
        file: Name of the bigWig.
    """

    index: int
    name: str
    kind: Kind
    strand: Strand
    file: str

    @property
    def channel(self) -> int:
        """Number of track and strand in parts."""
        return channel_of(self.index, self.strand)


def channel_of(track: int, strand: Strand) -> int:
    """Number of a track and strand in parts."""
    return len(STRANDS) * track + strand.row


def track_files(tracks: Iterable[tuple[int, str, Kind]]) -> tuple[TrackFile, ...]:
    """The files of some tracks: `donor.plus.bw`, `donor.minus.bw` and so on.

    Args:
        tracks: Place among the tracks of the model, name and kind of each. Characters of a name that a file had better not have
            become "_"; where two names are then the same, the later has its place too.
    """
    files: list[TrackFile] = []
    taken: set[str] = set()
    for index, name, kind in tracks:
        stem = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:100] or "_"
        if stem.lower() in taken:
            stem = f"{stem}_{index}"
        taken.add(stem.lower())
        files += [TrackFile(index, name, kind, strand, f"{stem}.{STRAND_NAMES[strand]}.bw") for strand in STRANDS]
    return tuple(files)
