"""Files a user writes: training recipes (TOML), checked field by field."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from annotator.errors import InputError, UsageError
from annotator.genome.plan import PlanOptions
from annotator.kinds import CLADES, DEFAULT_CLADE, Kind
from annotator.labels.options import Organism, PromoterWindows
from annotator.training.compact.options import TrainingSettings, TrainOptions
from annotator.training.finetune.options import FeatureTrack, GenomeData, GenomeFiles
from annotator.training.options import WindowOptions


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Genome(_Strict):
    name: str
    clade: str
    fasta: str
    mask: str | None = None
    max_bp: int = Field(0, ge=0)
    gene_centred: bool = False
    learn: list[str] = []
    weight: float = Field(1.0, gt=0)


class _Validation(_Genome):
    truth: str


class _Organism(_Genome):
    truth: str | None = None
    trim_bp: int = Field(0, ge=0)
    teacher: list[str] = []

    @model_validator(mode="after")
    def _has_labels(self) -> _Organism:
        if not self.truth and not self.teacher:
            raise ValueError(f"organism {self.name}: neither a truth nor a teacher")
        return self


class _PromoterWindows(_Strict):
    name: str
    clade: str
    tables: list[str] = Field(min_length=1)
    tss_index: int = Field(ge=0)
    left_out: str | None = None
    weight: float = Field(1.0, gt=0)


class _Architecture(_Strict):
    fine_channels: int = Field(32, gt=0)
    fine_width: int = Field(9, gt=0)
    trunk_channels: int = Field(96, gt=0)
    trunk_width: int = Field(5, gt=0)
    dilations: list[int] = Field(min_length=1)
    step_bp: int = Field(8, gt=0)


class _Recipe(_Strict):
    name: str = ""
    version: str = ""
    k: int = Field(6, ge=1, le=8)
    architecture: _Architecture
    plan: dict[str, int]
    radius_bp: dict[str, int]
    windows: WindowOptions = WindowOptions()
    train: TrainOptions = TrainOptions()
    organism: list[_Organism] = []
    promoter_windows: list[_PromoterWindows] = []
    validation: list[_Validation] = []
    note: str = ""


_TABLE_OF = {field.name: table for table, kind in (("windows", WindowOptions), ("train", TrainOptions)) for field in fields(kind)}
"""The recipe's table that holds a field which checks itself."""


def read_recipe(path: Path, data: Path, name: str) -> TrainingSettings:
    """Read a training recipe.

    Args:
        path: TOML file.
        data: Folder its file paths are relative to.
        name: Name of the model to be made; the recipe's own name is that of the recipe.

    Returns:
        The settings, with absolute or data-relative paths.

    Raises:
        UsageError: The file is not there.
        InputError: It is not TOML, or a field is missing, unknown or wrong; the message names the field.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not TOML ({error})") from None
    try:
        recipe = _Recipe.model_validate(raw)
        PlanOptions(**recipe.plan)
        return TrainingSettings(
            name=name, recipe=f"{recipe.name or path.stem} {recipe.version}".strip(), k=recipe.k,
            architecture=recipe.architecture.model_dump() | {"vocabulary_size": 4**recipe.k + 5, "clades": 1 + len(CLADES)},
            plan=recipe.plan, radius_bp={Kind(kind): radius for kind, radius in recipe.radius_bp.items()},
            windows=recipe.windows, train=recipe.train,
            organisms=tuple(_organism(o, data) for o in recipe.organism),
            validation=tuple(_organism(o, data) for o in recipe.validation),
            note=recipe.note, promoters=tuple(_promoter_windows(p, data) for p in recipe.promoter_windows),
        )  # fmt: skip
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path}: field {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except UsageError as error:
        raise InputError(f"{path}: field {_TABLE_OF[error.field.partition('[')[0]]}.{error}") from None
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {error}") from None


def refuse_loose(prefix: str, fasta: list[Path] | None, others: Mapping[str, Sequence[object] | None]) -> None:
    """See that options about genomes come with genomes, and that those are there.

    Args:
        prefix: Prefix of the options, for messages: "" or "val-".
        fasta: The genomes.
        others: What else was given, by option.

    Raises:
        UsageError: An option stands alone, or a genome is missing.
    """
    for option, values in others.items():
        if values and not fasta:
            raise UsageError(f"--{prefix}{option}: only with --{prefix}fasta")
    for path in (*(fasta or ()), *(path for values in others.values() for path in values or () if isinstance(path, Path))):
        if not path.exists():
            raise UsageError(f"{path}: no such file")


def organisms_given(
    prefix: str, fasta: list[Path], truth: list[Path], mask: list[str], clade: list[str], *, need_truth: bool = True
) -> tuple[Organism, ...]:
    """Organisms from options of the command line.

    Args:
        prefix: Prefix of the options, for messages: "" or "val-".
        fasta: Genomes.
        truth: Sites of each.
        mask: Masked sites of each, "-" for none; or nothing.
        clade: Clade of each; or nothing.
        need_truth: Whether `truth` may be nothing too.

    Raises:
        UsageError: The options do not come once per FASTA, or a clade is unknown.
    """
    for option, values, optional in (("truth", truth, not need_truth), ("mask", mask, True), ("clade", clade, True)):
        if len(values) != len(fasta) and not (optional and not values):
            raise UsageError(f"--{prefix}{option}: given {len(values)} times for {len(fasta)} --{prefix}fasta")
    organisms = []
    for i, path in enumerate(fasta):
        chosen = clade[i] if clade else DEFAULT_CLADE
        if chosen not in CLADES:
            raise UsageError(f"--{prefix}clade {chosen}: choose from {', '.join(CLADES)}")
        masked = Path(mask[i]) if mask and mask[i] != "-" else None
        organisms.append(Organism(path.name.split(".")[0], chosen, path, truth[i] if truth else None, masked))
    return tuple(organisms)


def _organism(entry: _Genome, data: Path) -> Organism:
    _refuse_unknown_clade(entry)
    values = entry.model_dump()
    paths = {name: data / values[name] if values[name] else None for name in ("fasta", "truth", "mask")}
    several = {"teacher": tuple(data / name for name in values.get("teacher", ())), "learn": tuple(entry.learn)}
    try:
        return Organism(**(values | paths | several))
    except UsageError as error:
        raise ValueError(f"organism {entry.name}: {error}") from None


def _promoter_windows(entry: _PromoterWindows, data: Path) -> PromoterWindows:
    _refuse_unknown_clade(entry)
    tables = tuple(data / name for name in entry.tables)
    return PromoterWindows(
        entry.name, entry.clade, tables, entry.tss_index, data / entry.left_out if entry.left_out else None, entry.weight
    )


def _refuse_unknown_clade(entry: _Genome | _PromoterWindows) -> None:
    if entry.clade not in CLADES:
        raise ValueError(f"organism {entry.name}: clade {entry.clade!r} is not one of {', '.join(CLADES)}")


def genome_data(
    fasta: list[Path], truth: list[Path], mask: list[str], features: dict[str, str],
    val_fasta: list[Path], val_truth: list[Path], val_mask: list[str], val_features: dict[str, str],
    clade: str, tracks: tuple[FeatureTrack, ...], *, window_bp: int = 0, margin_bp: int = 0,
    accept_annotation: bool = False,
) -> GenomeData:  # fmt: skip
    """Labelled genomes for fine-tuning, from options of the command line; arguments as in `organisms_given`.

    Raises:
        UsageError: The options do not come once per FASTA, or features are named that the other side lacks.
    """
    if not val_fasta:
        raise UsageError("--val-fasta: needed with --fasta; thresholds come from it")
    if set(features) != set(val_features):
        raise UsageError("--feature and --val-feature: the same names are needed on both sides")
    if features and (len(fasta) > 1 or len(val_fasta) > 1):
        raise UsageError("--feature: with one --fasta and one --val-fasta, which it lies on")
    sides = []
    for prefix, files, sites, masked, beds in (
        ("", fasta, truth, mask, features), ("val-", val_fasta, val_truth, val_mask, val_features),
    ):  # fmt: skip
        if not sites and not beds:
            raise UsageError(f"--{prefix}truth or --{prefix}feature: needed with --{prefix}fasta")
        organisms = organisms_given(prefix, files, sites, masked, [clade] * len(files), need_truth=not beds)
        organisms = tuple(replace(organism, accept_annotation=accept_annotation) for organism in organisms)
        placed = tuple((name, Path(path)) for name, path in beds.items())
        sides.append(tuple(GenomeFiles(organism, placed if i == 0 else ()) for i, organism in enumerate(organisms)))
    return GenomeData(train=sides[0], dev=sides[1], features=tracks, window_bp=window_bp, margin_bp=margin_bp)
