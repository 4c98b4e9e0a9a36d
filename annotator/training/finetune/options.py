"""Options of fine-tuning; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from annotator.checks import check_choice, check_count, check_positive, check_share
from annotator.errors import UsageError
from annotator.kinds import DEFAULT_CLADE, FEATURE_KINDS, Kind
from annotator.labels.options import Organism
from annotator.models.directory import read_model
from annotator.models.manifest import MANIFEST_NAME
from annotator.models.options import FAMILIES
from annotator.training.options import LoopOptions

COMPACT = "compact"
"""Name of the base that is this program's own small window classifier, trained from scratch."""
COMPACT_RANDOM = "compact:random"
"""Name of the base that is a network of the bundled model's shape with random weights, for genomes."""
NOT_STATED = "not stated"
"""Licence of weights about which nothing is known."""
OTHER = "other"
"""Class of a table that stands for no track; that of label 0 where classes are not named."""


@dataclass(frozen=True)
class FeatureTrack:
    """A track other than donor, acceptor and tss.

    Attributes:
        name: Name of the track, and of its calls.
        kind: "tfbs" (sites of the factor of that name) or "feature".
        width_bp: Bases of a call; 0 for those of the window (tables), or the median of the BED's lines (genomes).
    """

    name: str
    kind: Kind = Kind.FEATURE
    width_bp: int = 0

    def __post_init__(self) -> None:
        """Refuse kinds that do not exist.

        Raises:
            UsageError: A value is wrong; the message names the field.
        """
        check_choice("kind", self.kind, tuple(FEATURE_KINDS))
        check_count("width_bp", self.width_bp)


@dataclass(frozen=True)
class TableData:
    """Labelled windows (GUE, DNABERT) to learn from.

    Attributes:
        train: Table to learn from.
        dev: Table that stops the run, calibrates and sets thresholds; None to take `dev_share` of `train`.
        dev_share: Share of the rows of `train` that becomes the dev table, drawn by the seed.
        classes: Name of each label: donor, acceptor, tss, one of `features`, or "other". Empty: label 0 is "other" and the
            rest are features named after the table's folder.
        anchor_bp: Base of the window, in reading direction, that a class speaks of; needed for donor, acceptor and tss.
        features: The classes that are features.
        stride_bp: Bases from one window to the next when the model scans; 0 for 1 where splice sites are called, 8 elsewhere.
    """

    train: Path
    dev: Path | None = None
    dev_share: float = 0.1
    classes: tuple[str, ...] = ()
    anchor_bp: dict[str, int] = field(default_factory=dict)
    features: tuple[FeatureTrack, ...] = ()
    stride_bp: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be split or slid.

        Raises:
            UsageError: A value is wrong; the message names the field.
        """
        check_share("dev_share", self.dev_share, some=True)
        check_count("stride_bp", self.stride_bp)
        for name, anchor in self.anchor_bp.items():
            check_count(f'anchor_bp["{name}"]', anchor)


@dataclass(frozen=True)
class GenomeFiles:
    """A genome with sites, or with features, or both.

    Attributes:
        organism: The genome; its `truth` holds donors, acceptors and tss.
        features: (track, BED file) of its features; a line without a strand lies on both.
    """

    organism: Organism
    features: tuple[tuple[str, Path], ...] = ()


@dataclass(frozen=True)
class GenomeData:
    """Labelled genomes to learn from, base by base.

    Attributes:
        train: Genomes to learn from.
        dev: Genomes to stop the run, to calibrate and to set thresholds on; none of `train`.
        features: The tracks beside donor, acceptor and tss.
        window_bp: Bases of a window; 0 for as many as the model takes, at most 2,048.
        margin_bp: Bases at either side that are context only; 0 for a quarter of the window.
        site_share: Share of windows put around a random site; the rest lie anywhere.
        sigma_bp: The target of a tss or a feature is a bell of this width around its base.
    """

    train: tuple[GenomeFiles, ...]
    dev: tuple[GenomeFiles, ...]
    features: tuple[FeatureTrack, ...] = ()
    window_bp: int = 0
    margin_bp: int = 0
    site_share: float = 0.75
    sigma_bp: float = 10.0

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn.

        Raises:
            UsageError: A value is wrong; the message names the field.
        """
        check_count("window_bp", self.window_bp)
        check_count("margin_bp", self.margin_bp)
        check_share("site_share", self.site_share, whole=True)
        check_positive("sigma_bp", self.sigma_bp)


@dataclass(frozen=True)
class LoraOptions:
    """Low-rank adapters: what learns instead of the backbone's weights.

    Attributes:
        rank: Rank of the update, r.
        alpha: The update is scaled by alpha / rank.
        dropout: Dropout of the adapters' input.
        targets: Linear modules that get one, by the last part of their dotted name; none for the family's own.
    """

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.05
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse impossible shapes.

        Raises:
            UsageError: A value is wrong; the message names the field.
        """
        check_count("rank", self.rank, least=1)
        check_positive("alpha", self.alpha)
        check_share("dropout", self.dropout)


@dataclass(frozen=True)
class FinetuneOptions(LoopOptions):
    """How long and how fast to learn.

    The learning rate falls linearly to zero from the end of the warm-up to the last step. `steps` may be 0 for tables: as many as
    `epochs` gives. `validate_steps` may be 0: an epoch or, where that is more, a tenth of the run (tables), or 500 (genomes).

    Attributes:
        epochs: Passes over a table.
        least_steps: A small table is gone through more often than `epochs` until there are so many steps.
        warmup_share: Share of the steps that are warm-up, where `warmup_steps` is 0.
        class_weights: "balanced" counts a class by the inverse of its share of the table; "none" counts rows alike.
        dropout: Dropout before the last layer of the head.
        patience: Validations without a gain after which the run ends; 0 for never.
        processes: Processes, each of which learns from its share of every batch: one a GPU, or several on a CPU.
    """

    learning_rate: float = 3e-5
    checkpoint_steps: int = 200
    epochs: float = 4.0
    least_steps: int = 0
    warmup_share: float = 0.06
    class_weights: Literal["none", "balanced"] = "none"
    dropout: float = 0.1
    patience: int = 4
    processes: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be run.

        Raises:
            UsageError: A value is wrong; the message names the field.
        """
        super().__post_init__()
        check_positive("epochs", self.epochs)
        check_share("dropout", self.dropout)
        check_share("warmup_share", self.warmup_share)
        check_count("least_steps", self.least_steps)
        check_count("patience", self.patience)
        check_choice("class_weights", self.class_weights, ("none", "balanced"))
        check_count("processes", self.processes, least=1)
        if self.processes > self.batch_windows:
            raise UsageError(f"more than the {self.batch_windows} windows of a batch", "processes", self.processes)

    def for_steps(self, steps: int, validate_steps: int) -> FinetuneOptions:
        """These options with the numbers of steps, of warm-up and between validations that were left to choose."""
        warmup = self.warmup_steps or max(1, round(self.warmup_share * steps))
        return replace(self, steps=steps, validate_steps=validate_steps, warmup_steps=warmup)


@dataclass(frozen=True)
class FinetuneSettings:
    """A whole fine-tuning run.

    Attributes:
        name: Name of the model.
        base: "compact" (tables: the window classifier from scratch; genomes: the bundled network), "compact:random" (genomes: the
            same network from scratch), the directory of a compact model (genomes), `FAMILY:SIZE` (from scratch), or a checkpoint
            directory.
        data: What to learn.
        version: Version of the weights; empty for the first digits of their hash.
        family: Family of the checkpoint, where its config.json does not tell.
        architecture: Fields that replace those of the size (or of the compact classifier).
        options: How long and how fast.
        lora: Adapters instead of all weights.
        clade: Clade of the data; thresholds are validated for it alone.
        licence: Licence of the weights; those that start from a checkpoint keep its licence, where it has one.
        note: Anything about the run; goes into the manifest.
    """

    name: str
    base: str
    data: TableData | GenomeData
    version: str = ""
    family: str | None = None
    architecture: dict[str, Any] = field(default_factory=dict)
    options: FinetuneOptions = field(default_factory=FinetuneOptions)
    lora: LoraOptions | None = None
    clade: str = DEFAULT_CLADE
    licence: str = NOT_STATED
    note: str = ""


def is_compact_network(base: str) -> bool:
    """Whether a base is a compact network that labels bases, for fine-tuning on genomes.

    Raises:
        AnnotatorError: It is the directory of a model, and that is damaged.
    """
    if base in (COMPACT, COMPACT_RANDOM):
        return True
    if not (Path(base) / MANIFEST_NAME).is_file():
        return False
    _, manifest = read_model(base)
    return manifest.family == COMPACT and manifest.window is None


def default_options(base: str, *, lora: bool, genomes: bool = False) -> FinetuneOptions:
    """Options that suit a base: a small network from scratch learns fast, adapters faster than whole pre-trained networks.

    Args:
        base: As in `FinetuneSettings`.
        lora: Whether adapters learn instead of all weights.
        genomes: Whether bases of genomes are learnt, and not windows of tables.
    """
    if genomes and is_compact_network(base):
        rate = 2e-3 if base == COMPACT_RANDOM else 5e-4
        return FinetuneOptions(batch_windows=16, learning_rate=rate, warmup_share=0.1, ema=0.99)
    if base == COMPACT:
        return FinetuneOptions(
            epochs=8,
            least_steps=600,
            batch_windows=128,
            learning_rate=2e-3,
            warmup_share=0.1,
            clip=5.0,
            dropout=0.4,
            ema=0.995,
            patience=3,
        )
    if base.partition(":")[0] in FAMILIES:
        return FinetuneOptions(learning_rate=5e-4)
    return FinetuneOptions(learning_rate=2e-4 if lora else 3e-5)
