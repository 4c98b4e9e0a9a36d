"""A pack: the bases and labels of all genomes of a recipe as one numpy file, which training reads without Polars or pysam.

The file is a compressed `.npz` without pickles. Its member `header` is JSON in UTF-8: what each genome is, and the sha256 of the
files it was read from, so that a run can go on from either. Bases take two bits each; runs of other letters than A, C, G and T
stand beside them. Coordinates: 0-based, contigs end to end, as in `LabelledGenome`.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from annotator.errors import InputError, UsageError
from annotator.files import atomic_file
from annotator.kinds import CLADES, LABEL_TRACKS, SPLICE_TRACKS, STRANDS
from annotator.labels.labelled import LabelledGenome, SoftSites, has_labels
from annotator.labels.options import Organism, PromoterWindows
from annotator.training.compact.data import Entry, Source, TrainingData, described

FORMAT, VERSION = "genome-annotator training pack", 1
_SIDES = ("learnt", "validation")
_LETTERS = np.frombuffer(b"ACGT", np.uint8)
_UNPACKED = _LETTERS[(np.arange(256, dtype=np.uint8)[:, None] >> np.array([0, 2, 4, 6], np.uint8)) & 3]
"""The four bases of every byte, the first in its lowest bits, uint8, [256, 4]."""
_CODES = np.zeros(256, np.uint8)
_CODES[_LETTERS] = np.arange(4, dtype=np.uint8)
_KEYS = [(kind, strand) for kind in LABEL_TRACKS for strand in STRANDS]


def write_pack(path: Path, data: TrainingData) -> None:
    """Write the genomes of a run as one file, whole or not at all; equal data give equal bytes.

    Raises:
        ResourceFault: It cannot be written.
    """
    arrays: dict[str, NDArray[Any]] = {}
    header: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    for side, sources in zip(_SIDES, (data.learnt, data.validation), strict=True):
        header[side] = [_entry(source) for source in sources]
        for number, source in enumerate(sources):
            arrays |= {f"{side}/{number}/{name}": array for name, array in _arrays(source.genome).items()}
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with atomic_file(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in {"header": text, **arrays}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def read_pack(path: Path) -> TrainingData:
    """Read what `write_pack` wrote.

    Raises:
        UsageError: There is no such file, or it cannot be read.
        InputError: It is no pack, of another version, or damaged.
    """
    try:
        if not zipfile.is_zipfile(path):
            path.stat()
            raise InputError(f"{path}: not a pack of `annotator train`, or cut short")
        with np.load(path, allow_pickle=False) as file:
            members = _Members(path, file)
            header = members.header()
            learnt, validation = (
                tuple(_source(members, entry, f"{side}/{number}") for number, entry in enumerate(header[side])) for side in _SIDES
            )
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise InputError(f"{path}: damaged pack ({error})") from None
    return TrainingData(learnt, validation)


def _entry(source: Source) -> dict[str, Any]:
    genome = source.genome
    return {
        "type": type(source.entry).__name__, "entry": described(source.entry), "sha256": source.sha256,
        "contigs": list(genome.contig_names), "kinds": sorted(genome.kinds), "teacher": bool(genome.teacher),
        "annotation": dict(genome.annotation),
    }  # fmt: skip


def _arrays(genome: LabelledGenome) -> dict[str, NDArray[Any]]:
    """The arrays of a genome, by name."""
    codes = _CODES[genome.bases]
    codes = np.concatenate([codes, np.zeros(-len(codes) % 4, np.uint8)]).reshape(-1, 4)
    other = genome.bases != _LETTERS[_CODES[genome.bases]]
    starts = np.flatnonzero(np.diff(np.where(other, genome.bases, 0), prepend=np.uint8(0)))
    ends = np.append(starts[1:], len(genome.bases))
    kept = other[starts]
    arrays: dict[str, NDArray[Any]] = {
        "bases": codes[:, 0] | codes[:, 1] << 2 | codes[:, 2] << 4 | codes[:, 3] << 6,
        "length": np.array([len(genome.bases)], np.int64),
        "other": np.stack([starts[kept], ends[kept], genome.bases[starts[kept]].astype(np.int64)], 1).astype(np.int64),
        "contig_ends": genome.contig_ends.astype(np.int64),
    }
    for kind, strand in _KEYS:
        place = f"{kind}{strand.symbol}"
        arrays[f"sites/{place}"], arrays[f"masked/{place}"] = genome.sites[kind, strand], genome.masked[kind, strand]
        if (soft := genome.teacher.get((kind, strand))) is not None:
            arrays[f"teacher/{place}/position"], arrays[f"teacher/{place}/probability"] = soft.positions, soft.probability
    return arrays


class _Members:
    """The members of a pack, each checked as it is read."""

    def __init__(self, path: Path, file: Mapping[str, Any]) -> None:
        """Hold an open file.

        Args:
            path: The file, for messages.
            file: Its members by name, as numpy reads them.
        """
        self.path, self._file = path, file

    def refuse(self, what: str) -> InputError:
        """The error of a pack that is not what it should be."""
        return InputError(f"{self.path}: {what}; write the pack again")

    def array(self, name: str, dtype: DTypeLike, dimensions: int = 1) -> NDArray[Any]:
        """A member of a certain type and number of dimensions."""
        try:
            found = self._file[name]
        except KeyError:
            raise self.refuse(f"member {name} is missing") from None
        except ValueError as error:  # a member that is no array, or one of objects
            raise self.refuse(f"member {name}: {error}") from None
        if not isinstance(found, np.ndarray) or found.dtype != dtype or found.ndim != dimensions:
            raise self.refuse(f"member {name} is no array of {np.dtype(dtype)} with {dimensions} dimension(s)")
        return found

    def positions(self, name: str, length: int) -> NDArray[np.int64]:
        """Ascending positions below a length, each once."""
        found = self.array(name, np.int64)
        if len(found) and (found[0] < 0 or found[-1] >= length or (np.diff(found) <= 0).any()):
            raise self.refuse(f"member {name} holds no ascending positions of {length} bases")
        return found

    def header(self) -> dict[str, Any]:
        """What the pack says of itself."""
        if "header" not in self._file:
            raise InputError(f"{self.path}: not a pack of `annotator train`: no member called header")
        try:
            header: Any = json.loads(self.array("header", np.uint8).tobytes())
        except ValueError as error:
            raise self.refuse(f"member header is not JSON ({error})") from None
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise InputError(f"{self.path}: not a pack of `annotator train`")
        if header.get("version") != VERSION:
            raise self.refuse(f"version {header.get('version')} of the format, this program reads {VERSION}")
        for side in _SIDES:
            if not isinstance(header.get(side), list):
                raise self.refuse(f"member header: field {side} is no list")
        return header


def _source(members: _Members, entry: Any, place: str) -> Source:
    """A genome of a pack."""
    try:
        described_entry = _entry_of(entry["type"], entry["entry"])
        names, kinds, sha256 = tuple(map(str, entry["contigs"])), frozenset(entry["kinds"]), dict(entry["sha256"])
        has_teacher, annotation = bool(entry["teacher"]), dict(entry["annotation"])
        if described_entry.clade not in CLADES or not kinds or kinds - set(LABEL_TRACKS):
            raise ValueError(f"clade {described_entry.clade} or kinds {sorted(kinds)}")
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise members.refuse(f"member header: field {place} is wrong ({error})") from None
    bases = _bases(members, place)
    ends = members.positions(f"{place}/contig_ends", len(bases) + 1)
    if len(ends) != len(names) or not len(ends) or ends[0] == 0 or ends[-1] != len(bases):
        raise members.refuse(f"member {place}/contig_ends does not cut {len(bases)} bases into {len(names)} contigs")
    sites, masked = (
        {
            (kind, strand): members.positions(f"{place}/{what}/{kind}{strand.symbol}", len(bases))
            for kind, strand in _KEYS
        }
        for what in ("sites", "masked")
    )  # fmt: skip
    teacher = {
        (kind, strand): _soft(members, f"{place}/teacher/{kind}{strand.symbol}", len(bases))
        for kind, strand in _KEYS
        if has_teacher and kind in SPLICE_TRACKS
    }
    if odd := next((kind for kind in kinds if not has_labels(kind, sites, teacher)), None):
        raise members.refuse(f"member header: field {place} names {odd}, of which it has no site")
    trim_bp = described_entry.trim_bp if isinstance(described_entry, Organism) else 0
    genome = LabelledGenome(
        described_entry.name, described_entry.clade, bases, ends, names, sites, masked, kinds, trim_bp, described_entry.weight,
        annotation=annotation, teacher=teacher,
    )  # fmt: skip
    return Source(described_entry, genome, sha256)


def _entry_of(kind: str, values: dict[str, Any]) -> Entry:
    """An entry from `described`.

    Raises:
        KeyError: It is of no known kind.
        TypeError: It lacks a field or has one too many.
        UsageError: A value is impossible.
    """
    made: type[Entry] = {"Organism": Organism, "PromoterWindows": PromoterWindows}[kind]
    paths = {
        name: tuple(map(Path, value)) if isinstance(value, list) else Path(value)
        for name, value in values.items()
        if name in ("fasta", "truth", "mask", "teacher", "tables", "left_out") and value is not None
    }
    learn = {"learn": tuple(values["learn"])} if "learn" in values else {}
    return made(**(values | paths | learn))


def _bases(members: _Members, place: str) -> NDArray[np.uint8]:
    """ASCII bases of a genome, from two bits each and the runs of other letters."""
    length = int(members.array(f"{place}/length", np.int64).sum())
    packed, other = members.array(f"{place}/bases", np.uint8), members.array(f"{place}/other", np.int64, dimensions=2)
    if length < 1 or len(packed) != -(-length // 4) or other.shape[1:] != (3,):
        raise members.refuse(f"member {place}/bases does not hold {length} bases")
    bases: NDArray[np.uint8] = _UNPACKED[packed].reshape(-1)[:length]
    for start, end, letter in other.tolist():
        if not 0 <= start < end <= length or not 0 <= letter < 256:
            raise members.refuse(f"member {place}/other: a run of letters at {start}-{end} of {length} bases")
        bases[start:end] = letter
    return bases


def _soft(members: _Members, place: str, length: int) -> SoftSites:
    """A teacher's probabilities of one track and strand."""
    positions, probability = members.positions(f"{place}/position", length), members.array(f"{place}/probability", np.float32)
    if len(probability) != len(positions) or not ((probability >= 0) & (probability <= 1)).all():
        raise members.refuse(f"member {place}/probability holds no {len(positions)} probabilities")
    return SoftSites(positions, probability)
