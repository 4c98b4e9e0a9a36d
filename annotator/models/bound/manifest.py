"""What a model of bound sites says about itself: for which factors, from which data, with which weights. Data only; no torch.

Such a model looks at the surroundings of a motif hit and says how probable it is that the factor is bound there.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from annotator.errors import EnvironmentFault, InputError
from annotator.genome.shard_input import CONTEXT_BP
from annotator.kinds import CLADES
from annotator.models.directory import BUNDLED, refuse_other_file
from annotator.models.manifest import Calibration, read_model_json
from annotator.motifs.motif import MAX_WIDTH

BOUND_JSON = "bound.json"
BUNDLED_BOUND = "bundled"
"""What stands for the folder of the bundled model, which lies elsewhere on each machine."""
FORMAT_VERSION = 1
MOST = 1 << 12
"""Largest size of any part of the network; far beyond what a model of a few thousand hits can use."""


@dataclass(frozen=True)
class BoundConfig:
    """Shape of the network.

    Attributes:
        window_bp: Bases that are looked at around the middle of a hit; even.
        filters: Motifs that the network looks for on both strands.
        filter_bp: Width of each; odd.
        reach_bp: Distances from the middle of the hit within which the best match of each filter is taken.
        share_bp: Widths, around the middle, in which bases and CpG are counted; even.
        hidden: Units of the hidden layer.
        networks: Networks of this shape, trained from different seeds, whose logits are averaged.
    """

    window_bp: int = 512
    filters: int = 16
    filter_bp: int = 35
    reach_bp: tuple[int, ...] = (2, 12, 30, 100, 200)
    share_bp: tuple[int, ...] = (60, 200, 512)
    hidden: int = 32
    networks: int = 3

    def __post_init__(self) -> None:
        """Refuse what is no network, or sees more of the genome than the work on a shard has at hand.

        Raises:
            ValueError: A field is impossible; the message names it.
        """
        for name, value in asdict(self).items():
            many = isinstance(value, tuple)
            sizes = value if many else (value,)
            fits = many == (name in ("reach_bp", "share_bp")) and 0 < len(sizes) <= MOST
            if not fits or not all(type(size) is int and 0 < size <= MOST for size in sizes):
                raise ValueError(f"'architecture.{name}' is {value!r}")
        most = 2 * (CONTEXT_BP - MAX_WIDTH // 2 - 1)
        if self.window_bp % 2 or self.window_bp > most:
            raise ValueError(f"'architecture.window_bp' is {self.window_bp}, not an even number up to {most}")
        if self.filter_bp % 2 == 0:
            raise ValueError(f"'architecture.filter_bp' is {self.filter_bp}, not odd")
        if max(self.reach_bp) >= self.window_bp // 2:
            raise ValueError(f"'architecture.reach_bp' is {self.reach_bp}, beyond half of window_bp {self.window_bp}")
        if max(self.share_bp) > self.window_bp or any(width % 2 for width in self.share_bp):
            raise ValueError(f"'architecture.share_bp' is {self.share_bp}: even numbers up to window_bp {self.window_bp}")


@dataclass(frozen=True)
class BoundManifest:
    """Contents of `bound.json`.

    Attributes:
        name: Name of the model.
        version: First digits of the weights' hash.
        licence: SPDX identifier of the weights.
        weights: File name of the safetensors file beside the manifest.
        weights_sha256: Its hash.
        clades: Clades in which the model is used unless a user asks for it elsewhere: those it has been measured in.
        factors: Calibration per factor, in the order of the network's outputs; names as JASPAR has them, in capitals.
        hit_pvalue: Largest p-value of the hits it learnt from.
        architecture: Shape of the network.
        training: Data and recipe.
        metrics: Figures on validation data, per factor.
        format_version: Version of this layout.
    """

    name: str
    version: str
    licence: str
    weights: str
    weights_sha256: str
    clades: tuple[str, ...]
    factors: dict[str, Calibration]
    hit_pvalue: float
    architecture: BoundConfig
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        """Refuse parts that do not fit together.

        Raises:
            ValueError: One does not; the message names the field.
        """
        for clade in self.clades:
            if clade not in CLADES:
                raise ValueError(f"'clades' holds {clade!r}, none of {', '.join(CLADES)}")
        if not self.factors:
            raise ValueError("'factors' is empty")
        for name, calibration in self.factors.items():
            if not name or name != name.upper():
                raise ValueError(f"'factors' holds {name!r}, not a name in capitals")
            if not (calibration.scale > 0 and math.isfinite(calibration.scale) and math.isfinite(calibration.bias)):
                raise ValueError(f"'factors.{name}' is {calibration}: a scale above 0 and a finite bias")
        if not 0 < self.hit_pvalue < 1:
            raise ValueError(f"'hit_pvalue' is {self.hit_pvalue}, not between 0 and 1")
        if Path(self.weights).name != self.weights or not self.weights.endswith(".safetensors"):
            raise ValueError(f"'weights' is {self.weights!r}, not a .safetensors file beside {BOUND_JSON}")

    @cached_property
    def index(self) -> dict[str, int]:
        """Output of the network for each factor."""
        return {name: number for number, name in enumerate(self.factors)}

    def index_of(self, motif_name: str) -> int:
        """Output of the network for a motif of this name, whatever its case; -1 where there is none."""
        return self.index.get(motif_name.upper(), -1)

    def to_json(self) -> str:
        """Text of the manifest file."""
        return json.dumps(asdict(self), indent=1) + "\n"


def bound_folder(bound: str) -> Path:
    """Folder of a model of bound sites: the bundled one's, or the path itself."""
    return BUNDLED / "bound" if bound == BUNDLED_BOUND else Path(bound)


def read_bound(folder: Path) -> BoundManifest:
    """The manifest of a model of bound sites, its weights file checked against the manifest's sha256.

    Raises:
        EnvironmentFault: There is no such folder, or its weights are missing.
        InputError: The manifest is bad, or the weights are not the ones it names.
    """
    path = folder / BOUND_JSON
    if not folder.is_dir():
        raise EnvironmentFault(f"{folder}: no such folder; a model of bound sites is a folder with {BOUND_JSON} and its weights")
    try:
        raw = read_model_json(path)
    except FileNotFoundError:
        raise InputError(f"{folder}: no {BOUND_JSON}; not a model of bound sites") from None
    try:
        manifest = _manifest(raw)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: field {error}") from None
    refuse_other_file(folder / manifest.weights, manifest.weights_sha256)
    return manifest


def _manifest(raw: Any) -> BoundManifest:
    """Check types; what the values have to be, the dataclasses check themselves."""
    if not isinstance(raw, dict):
        raise TypeError("none: it is not a JSON object")
    fields = BoundManifest.__dataclass_fields__
    if odd := sorted(set(raw) ^ set(fields)):
        raise ValueError(f"'{odd[0]}' is {'unknown' if odd[0] in raw else 'missing'}")
    if raw["format_version"] != FORMAT_VERSION:
        raise ValueError(f"'format_version' is {raw['format_version']!r}, this program reads {FORMAT_VERSION}")
    texts = dict.fromkeys(("name", "version", "licence", "weights", "weights_sha256"), str)
    tables = dict.fromkeys(("factors", "architecture", "training", "metrics"), dict)
    for name, kind in (texts | tables | {"clades": list, "hit_pvalue": float}).items():
        if not isinstance(raw[name], kind):
            raise TypeError(f"'{name}' is {raw[name]!r}, not of type {kind.__name__}")
    shape = raw["architecture"]
    if odd := sorted(set(shape) ^ set(BoundConfig.__dataclass_fields__)):
        raise ValueError(f"'architecture.{odd[0]}' is {'unknown' if odd[0] in shape else 'missing'}")
    plain: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in shape.items()}
    config = BoundConfig(**plain)
    factors = {}
    for name, pair in raw["factors"].items():
        if (
            not isinstance(pair, dict)
            or set(pair) != {"scale", "bias"}
            or not all(type(x) in (int, float) for x in pair.values())
        ):
            raise ValueError(f"'factors.{name}' is {pair!r}, not a scale and a bias")
        factors[name] = Calibration(**pair)
    return BoundManifest(**(raw | {"clades": tuple(raw["clades"]), "factors": factors, "architecture": config}))
