"""The genomes of a recipe in memory, and what they were read from: from their own files, or from a pack (`pack.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from annotator.errors import UsageError
from annotator.files import file_sha256
from annotator.labels.genomes import load_genome
from annotator.labels.labelled import LabelledGenome
from annotator.labels.options import Organism, PromoterWindows
from annotator.labels.promoter_windows import load_promoter_windows
from annotator.training.compact.options import TrainingSettings

Entry = Organism | PromoterWindows
"""What a recipe says of something to learn from."""
NO_VALIDATION = "no validation data: thresholds come from it"
USE = {"weight", "trim_bp", "gene_centred", "accept_annotation"}
"""Fields of a recipe's entry that say how its data are used, not which data they are."""


@dataclass(frozen=True)
class Source:
    """A labelled genome in memory, and where it comes from.

    Attributes:
        entry: What the recipe says of it.
        genome: The genome.
        sha256: Hex sha256 of its files by field of the entry; a list where the field has several files, None where it has none.
    """

    entry: Entry
    genome: LabelledGenome
    sha256: dict[str, Any]

    def used_as(self, entry: Entry) -> Source:
        """The same genome, drawn as another entry says."""
        trim_bp = entry.trim_bp if isinstance(entry, Organism) else 0
        return replace(self, entry=entry, genome=replace(self.genome, weight=entry.weight, trim_bp=trim_bp))


@dataclass(frozen=True)
class TrainingData:
    """All genomes of a run.

    Attributes:
        learnt: Those to learn from.
        validation: Those to watch, to calibrate and to set thresholds on.
    """

    learnt: tuple[Source, ...]
    validation: tuple[Source, ...]


def entries(settings: TrainingSettings) -> tuple[Entry, ...]:
    """All that a recipe learns from."""
    return (*settings.organisms, *settings.promoters)


def check_files(settings: TrainingSettings) -> None:
    """See that a recipe names genomes, and that their files are there; nothing is read.

    Raises:
        UsageError: There is nothing to learn from or to validate on, a file is missing, or two entries of one side have the same
            name.
    """
    if not entries(settings):
        raise UsageError("nothing to learn from: give --fasta and --truth, or [[organism]] in the recipe")
    if not settings.validation and not settings.held_out:
        raise UsageError(f"{NO_VALIDATION}; give --val-fasta and --val-truth, or --hold-out, or [[validation]]")
    for side in (entries(settings), settings.validation):
        for entry in side:
            _refuse_missing(entry)
        names = [entry.name for entry in side]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UsageError(f"two genomes are called {twice!r}; a recipe gives each a name of its own")


def read_files(settings: TrainingSettings, spool: Path) -> TrainingData:
    """Read the genomes of a recipe from their files.

    Args:
        settings: The recipe.
        spool: A folder that the reader of genomes may write to.

    Raises:
        UsageError: A file is unreadable.
        InputError: A file is bad, or does not fit the genome.
    """
    sides = (entries(settings), settings.validation)
    learnt, validation = (
        tuple(Source(entry, _load(entry, spool / f"{number}-{entry.name}"), _hashes(entry)) for entry in side)
        for number, side in enumerate(sides)
    )
    return TrainingData(learnt, validation)


def _load(entry: Entry, spool: Path) -> LabelledGenome:
    return load_genome(entry, spool) if isinstance(entry, Organism) else load_promoter_windows(entry)


def _refuse_missing(entry: Entry) -> None:
    """Raise UsageError where a file is not there; the message names the entry and the file."""
    for paths in entry.files.values():
        for path in paths:
            if not path.exists():
                raise UsageError(f"{entry.name}: {path}: no such file; a recipe's paths start from --data")


def _hashes(entry: Entry) -> dict[str, Any]:
    """Hex sha256 of an entry's files by field."""
    return {name: _shaped(entry, name, [file_sha256(path) for path in paths]) for name, paths in entry.files.items()}


def described(entry: Entry) -> dict[str, Any]:
    """An entry as plain values ready for JSON, files by their names alone."""
    values = {field.name: getattr(entry, field.name) for field in fields(entry)}
    values |= {name: _shaped(entry, name, [path.name for path in paths]) for name, paths in entry.files.items()}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _shaped(entry: Entry, field: str, values: list[str]) -> list[str] | str | None:
    """What is said of the files of a field: a list where it may hold several, else the one value, or None."""
    return values if isinstance(getattr(entry, field), tuple) else next(iter(values), None)


def identity_of(source: Source) -> dict[str, Any]:
    """What a run that goes on must have in common with the one before, as to one genome."""
    used = {name: value for name, value in described(source.entry).items() if name not in source.sha256}
    # What is not asked for is not said: a run of an older version, which did not know it, can go on.
    dropped = {"name", "gene_centred", "accept_annotation"} | {name for name in ("learn",) if not used.get(name)}
    files = {name: value for name, value in source.sha256.items() if value != []}
    return {name: value for name, value in used.items() if name not in dropped} | files


def chosen(data: TrainingData, learnt: Sequence[Entry], validation: Sequence[Entry], where: str) -> TrainingData:
    """The genomes of a pack that a recipe names, used as the recipe says.

    Args:
        data: All genomes of the pack.
        learnt: What the recipe learns from; nothing stands for all of the pack.
        validation: What it validates on; nothing stands for all of the pack.
        where: The pack, for messages.

    Raises:
        UsageError: The pack lacks one of them, or was made from other files or with other settings.
    """
    return TrainingData(_among(data.learnt, learnt, where), _among(data.validation, validation, where))


def _among(sources: Sequence[Source], wanted: Sequence[Entry], where: str) -> tuple[Source, ...]:
    by_name = {source.entry.name: source for source in sources}
    found = []
    for entry in wanted:
        if entry.name not in by_name:
            raise UsageError(f"{where}: has no {entry.name}, which the recipe names; it has {', '.join(by_name)}")
        packed, asked = described(by_name[entry.name].entry), described(entry)
        for field in sorted((packed.keys() | asked.keys()) - USE):
            if packed.get(field) != asked.get(field):
                raise UsageError(
                    f"{where}: {entry.name} was packed with {field} = {packed.get(field)}, the recipe says {asked.get(field)}"
                )
        found.append(by_name[entry.name].used_as(entry))
    return tuple(found) if wanted else tuple(sources)
