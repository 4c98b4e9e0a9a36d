"""Model manifests: what a model directory says about itself. Data only, read with strict checks."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotator.errors import InputError, UsageError
from annotator.files import stand_in
from annotator.genome.plan import PlanOptions
from annotator.kinds import DEFAULT_CLADE, FEATURE_KINDS, TRACK_KIND, Kind
from annotator.models.options import FAMILY_ROWS
from annotator.models.track_set import Feature, TrackSet

MANIFEST_NAME = "manifest.json"
FORMAT_VERSION = 1
LARGEST_SIZE = 1 << 24
"""Largest size or count that a manifest may state; far beyond what a network or a window of this program has."""
CODE_KEYS = frozenset({"auto_map", "_attn_implementation_internal", "custom_pipelines", "trust_remote_code"})
"""Keys of a configuration that make transformers import modules beside the weights, or from a hub."""
OTHER = "other"
"""Class of a window classifier that stands for no track."""
PROBABILITY_DECIMALS = 6
"""Probabilities are rounded to this many decimals before they are compared with a threshold, and as they are written."""


@dataclass(frozen=True)
class Calibration:
    """`probability = sigmoid(scale * logit + bias)`."""

    scale: float = 1.0
    bias: float = 0.0

    def probability(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Calibrated probabilities, rounded as they are compared with a threshold.

        Args:
            logits: float32, any shape; NaN stays NaN.

        Returns:
            float64, the same shape, 0 to 1.
        """
        with np.errstate(over="ignore"):  # a logit far below zero overflows to infinity, and its probability is 0
            exact = 1.0 / (1.0 + np.exp(-(self.scale * logits.astype(np.float64) + self.bias)))
        p: NDArray[np.float64] = np.round(exact, PROBABILITY_DECIMALS)
        return p


@dataclass(frozen=True)
class DecoyFit:
    """What calls on decoys say of false calls: `FDR = factor * (calls on decoys / calls) ** power`.

    Real background holds more look-alikes than shuffled bases do (cryptic sites, pseudogenes), and the more so the higher the
    score; both numbers are fitted on annotated validation genomes.
    """

    factor: float = 1.0
    power: float = 1.0

    def rate(self, ratio: NDArray[np.float64]) -> NDArray[np.float64]:
        """False discovery rates of some ratios of calls on decoys to calls, float64, the same shape, at most 1."""
        rates: NDArray[np.float64] = np.minimum(self.factor * ratio**self.power, 1.0)
        return rates


@dataclass(frozen=True)
class CladeSettings:
    """How calls are made for one clade.

    Attributes:
        index: Entry of the model's clade embedding.
        thresholds: Probability at and above which a local maximum is a call, per kind.
        calibration: Per kind.
        validated: Kinds with measured accuracy in this clade. Promoters are off by default elsewhere; splice sites are called
            with a warning.
        note: Where thresholds and calibration come from, in one sentence.
        network: Name of the clade's own network: its tensors in the weights file begin with `<network>.`. Empty where one network
            serves all clades, whose tensors have plain names.
        decoy_fit: Per kind, what calls on decoys say of false calls; a kind that is absent has the plain `DecoyFit`.
    """

    index: int
    thresholds: dict[Kind, float]
    calibration: dict[Kind, Calibration]
    validated: tuple[Kind, ...]
    note: str = ""
    network: str = ""
    decoy_fit: dict[Kind, DecoyFit] = field(default_factory=dict)


@dataclass(frozen=True)
class WindowTask:
    """A classifier of whole windows, and how it is slid over a genome.

    A window's score is given to its anchor base alone, so that a call (the highest score within the track's radius) says which
    window it comes from.

    Attributes:
        window_bp: Bases of a window.
        stride_bp: Bases from one window to the next; both strands have a window at every multiple of it from their own start.
        classes: Name of each output: a track, or "other".
        anchor_bp: Per track: the base of the window, in reading direction, that the class speaks of. A feature's window lies
            on the feature itself and needs none.
    """

    window_bp: int
    stride_bp: int
    classes: tuple[str, ...]
    anchor_bp: dict[str, int]


@dataclass(frozen=True)
class IntegerCopy:
    """The file that holds a model's networks in whole numbers.

    Attributes:
        file: Name of the safetensors file beside the manifest.
        sha256: Its hash.
        of_sha256: Hash of the weights file that it was made of.
    """

    file: str
    sha256: str
    of_sha256: str


@dataclass(frozen=True)
class Manifest:
    """Contents of `manifest.json`.

    Attributes:
        name: Model name, written to the `model` column.
        version: Version of the weights.
        family: Model family, whose loader reads it.
        architecture: Arguments of that family's configuration; its loader checks them.
        tokenizer: For the bundled family k, order, first_kmer_id and ambiguous_id of the k-mer vocabulary; for others file
            and sha256 of a tokenizer beside the manifest, or nothing where the architecture says it all.
        plan: window_bp, halo_bp and the other fields of `PlanOptions`.
        tracks: Names of the output tracks of one strand, in order.
        radius_bp: A call is a local maximum within this many bases, per kind.
        clades: Settings per clade.
        licence: SPDX identifier of the weights.
        weights: File name of the safetensors file beside the manifest.
        weights_sha256: Its hash.
        training: Data and recipe the weights come from.
        metrics: Held-out figures, with the split they were measured on.
        window: Window and classes of a classifier of windows; None for a model that labels bases.
        features: Kind and width of the tracks that are not donor, acceptor or tss.
        default_clade: Clade that `annotate` takes where the user names none: the one whose data the model learnt from; empty for
            the program's default.
        head: Shape of the head on a published family's backbone (`annotator.models.task_heads.HeadOptions`).
        integers: The weights in whole numbers, for `int8`; None where there are none.
        format_version: Version of this layout.
    """

    name: str
    version: str
    family: str
    architecture: dict[str, Any]
    tokenizer: dict[str, Any]
    plan: dict[str, int]
    tracks: tuple[str, ...]
    radius_bp: dict[Kind, int]
    clades: dict[str, CladeSettings]
    licence: str
    weights: str
    weights_sha256: str
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    window: WindowTask | None = None
    features: dict[str, Feature] = field(default_factory=dict)
    head: dict[str, Any] = field(default_factory=dict)
    default_clade: str = ""
    integers: IntegerCopy | None = None
    format_version: int = FORMAT_VERSION

    @cached_property
    def track_set(self) -> TrackSet:
        """The tracks with their kinds and radii."""
        return TrackSet(self.tracks, self.features, self.radius_bp)

    def clade_for(self, asked: str) -> str:
        """The clade of a run: the one asked for, or else the model's own, or else the program's default."""
        return asked or self.default_clade or DEFAULT_CLADE

    def precision(self, asked: str, native: str, device: str) -> str:
        """What the model computes in.

        Args:
            asked: float32, bfloat16, int8, or auto for what suits it and the device.
            native: What suits the device; int8 stands for float32 where the model has no integer copy.
            device: cpu, cuda or cuda:N.

        Raises:
            UsageError: int8 is asked for of a model without an integer copy, or on a GPU.
        """
        if asked == "int8" and self.integers is None:
            how = (
                "`annotator models quantize` makes one"
                if self.family == "compact" and self.window is None
                else "its family has none"
            )
            raise UsageError(f"the model {self.name} has no integer copy ({how}); choose float32", "precision", asked)
        if asked == "int8" and device != "cpu":
            raise UsageError("only on a CPU; choose bfloat16, or device cpu", "precision", asked)
        if asked != "auto":
            return asked
        row = FAMILY_ROWS.get(self.family)
        suited = row.default_precision or native if row else native
        return "float32" if suited == "int8" and self.integers is None else suited

    def to_json(self) -> str:
        """Text of the manifest file."""
        return json.dumps(asdict(self), indent=1) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of a model directory.

    Raises:
        InputError: The file is missing, is not JSON, or a field is missing, unknown or of the wrong type.
    """
    path = folder / MANIFEST_NAME
    try:
        raw = read_model_json(path)
    except FileNotFoundError:
        raise InputError(f"{folder}: no {MANIFEST_NAME}; not a model directory of this program") from None
    if not isinstance(raw, dict):
        raise InputError(f"{path}: not a JSON object")
    try:
        manifest = _manifest(raw)
        _check(manifest)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise InputError(f"{path}: field {error}") from None
    return manifest


def read_model_json(path: Path) -> Any:
    """Read a JSON file of a model directory that asks for no code.

    Raises:
        FileNotFoundError: There is no such file.
        InputError: It is not JSON, or a key of it would have transformers import or download code.
    """
    if instead := stand_in(path):
        raise InputError(f"{path}: {instead}")
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from None
    if (key := _code_key(raw)) is not None:
        raise InputError(
            f"{path}: key {key!r} asks for code from elsewhere to be run; models are data here "
            "(`annotator models convert` makes a copy without it)"
        )
    return raw


def _code_key(raw: Any) -> str | None:
    """A key, at any depth, by which a model file brings code; None where there is none."""
    left = [raw]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            for key, inner in value.items():
                # An attention implementation that is a repository's name is downloaded and run.
                named = key in ("attn_implementation", "_attn_implementation") and "/" in str(inner)
                if key in CODE_KEYS or named:
                    return str(key)
            left += value.values()
        elif isinstance(value, list):
            left += value
    return None


def _manifest(raw: dict[str, Any]) -> Manifest:
    known = set(Manifest.__dataclass_fields__)
    if unknown := sorted(set(raw) - known):
        raise ValueError(f"{unknown[0]!r} is unknown")
    if raw.get("format_version") != FORMAT_VERSION:
        raise ValueError(f"'format_version' is {raw.get('format_version')!r}, this program reads {FORMAT_VERSION}")
    for name, kind in (
        ("name", str),
        ("version", str),
        ("family", str),
        ("licence", str),
        ("weights", str),
        ("weights_sha256", str),
        ("architecture", dict),
        ("tokenizer", dict),
        ("plan", dict),
        ("radius_bp", dict),
        ("clades", dict),
        ("tracks", list),
        *((name, dict) for name in ("training", "metrics", "features", "head") if name in raw),
        *((name, str) for name in ("default_clade",) if name in raw),
        *((name, dict) for name in ("integers",) if raw.get(name) is not None),
    ):
        if name not in raw:
            raise ValueError(f"{name!r} is missing")
        if not isinstance(raw[name], kind):
            raise TypeError(f"{name!r} is not of type {kind.__name__}")
    clades, features = {}, {}
    for clade, value in raw["clades"].items():
        with _named(f"clades.{clade}"):
            clades[clade] = _clade(value)
    for track, value in raw.get("features", {}).items():
        with _named(f"features.{track}"):
            features[track] = Feature(Kind(value["kind"]), _whole(value["width_bp"]))
    window = raw.get("window")
    if window is not None:
        with _named("window"):
            anchors = {track: _whole(base) for track, base in window["anchor_bp"].items()}
            window = WindowTask(_whole(window["window_bp"]), _whole(window["stride_bp"]), _names(window["classes"]), anchors)
    integers = raw.get("integers")
    if integers is not None:
        with _named("integers"):
            integers = IntegerCopy(*(_text(integers[name]) for name in ("file", "sha256", "of_sha256")))
    with _named("tracks"):
        tracks = _names(raw["tracks"])
    with _named("radius_bp"):
        radius_bp = {Kind(kind): radius for kind, radius in raw["radius_bp"].items()}
    read = {"clades": clades, "tracks": tracks, "radius_bp": radius_bp, "window": window, "features": features}
    return Manifest(**(raw | read | {"integers": integers}))


def _clade(value: Any) -> CladeSettings:
    if odd := sorted(value["thresholds"].keys() ^ value["calibration"].keys()):
        raise ValueError(f"{odd[0]!r} has a threshold without a calibration, or the other way round")
    return CladeSettings(
        index=_whole(value["index"]),
        thresholds={Kind(kind): _number(number) for kind, number in value["thresholds"].items()},
        calibration={
            Kind(kind): Calibration(_number(pair["scale"]), _number(pair["bias"])) for kind, pair in value["calibration"].items()
        },
        validated=tuple(map(Kind, _names(value["validated"]))),
        note=str(value.get("note", "")),
        network=_network(value.get("network", "")),
        decoy_fit={
            Kind(kind): DecoyFit(_number(pair["factor"]), _number(pair["power"]))
            for kind, pair in value.get("decoy_fit", {}).items()
        },
    )


def _network(value: Any) -> str:
    """A name that tensors can begin with."""
    if not isinstance(value, str) or not (value == "" or value.isidentifier()):
        raise ValueError(f"'network' is {value!r}, not a plain name")
    return value


@contextmanager
def _named(field_name: str) -> Iterator[None]:
    """Put a field's name in front of whatever is wrong with it."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"'{field_name}': {error} is missing") from None
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"'{field_name}': {error}") from None


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is not a whole number")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise TypeError(f"{value!r} is not a list of names")
    return tuple(value)


def _check(manifest: Manifest) -> None:
    """Raise ValueError or KeyError, naming the field, where the parts of a manifest do not fit together."""
    for part in ("plan", "radius_bp"):
        for key, value in getattr(manifest, part).items():
            if type(value) is not int or not 0 <= value <= LARGEST_SIZE:
                raise ValueError(f"'{part}.{key}' is {value!r}, not a whole number of 0..{LARGEST_SIZE}")
    for key in ("window_bp", "halo_bp", "align_bp"):
        if not manifest.plan.get(key):
            raise ValueError(f"'plan.{key}' is missing or 0")
    PlanOptions(**manifest.plan)
    for name in (manifest.name, *manifest.tracks):
        if not name.strip() or not name.isprintable():
            raise ValueError(f"'name' or 'tracks': {name!r} is empty, or no name that a line of a BED file can hold")
    if not manifest.tracks or len(set(manifest.tracks)) < len(manifest.tracks):
        raise ValueError("'tracks' are none, or one of them comes twice")
    for track in manifest.tracks:
        if track not in TRACK_KIND and track not in manifest.features:
            raise ValueError(f"'tracks': {track!r} is neither one of {', '.join(TRACK_KIND)} nor in 'features'")
        kind = manifest.track_set.kind_of(track)
        with _named("radius_bp"):
            radius = manifest.radius_bp[kind]
        if radius >= manifest.plan["halo_bp"]:
            raise ValueError(f"'radius_bp.{kind}' is {radius}, not below halo_bp {manifest.plan['halo_bp']}")
        for clade, settings in manifest.clades.items():
            with _named(f"clades.{clade}"):
                threshold, fit = settings.thresholds[kind], settings.calibration[kind]
            if not 0 < threshold <= 1 or not fit.scale > 0:
                raise ValueError(f"'clades.{clade}': threshold {threshold} or calibration {fit} of {kind} is impossible")
            decoys = settings.decoy_fit.get(kind, DecoyFit())
            if not (decoys.factor > 0 and decoys.power > 0):
                raise ValueError(f"'clades.{clade}.decoy_fit': {decoys} of {kind} is not above 0")
    for track, feature in manifest.features.items():
        fits = track in manifest.tracks and track not in TRACK_KIND and feature.kind in FEATURE_KINDS
        if not fits or not 0 < feature.width_bp <= LARGEST_SIZE:
            raise ValueError(f"'features.{track}' is {feature}: a track of kind {' or '.join(FEATURE_KINDS)} and a width above 0")
    if manifest.default_clade and manifest.default_clade not in manifest.clades:
        raise ValueError(f"'default_clade' is {manifest.default_clade!r}, none of {', '.join(manifest.clades)}")
    if manifest.window is not None:
        _check_window(manifest, manifest.window)


def _check_window(manifest: Manifest, window: WindowTask) -> None:
    plan = PlanOptions(**manifest.plan)
    if not 0 < window.stride_bp <= window.window_bp:
        raise ValueError(f"'window.stride_bp' is {window.stride_bp}, of windows of {window.window_bp} bp")
    # Every base that a call is compared with needs its own window, on the minus strand as well, which may lie align_bp - 1 off.
    beyond_end = window.window_bp + plan.align_bp - 2
    beyond_core = beyond_end + max(manifest.radius_bp.values(), default=0)
    if plan.halo_bp < beyond_core or plan.pad_bp < beyond_end or plan.window_lengths[0] < window.window_bp:
        raise ValueError(
            f"'plan': windows of {window.window_bp} bp and 'radius_bp' need halo_bp {beyond_core}, pad_bp {beyond_end} "
            f"and smallest_bp {window.window_bp} at the least"
        )
    if manifest.plan["align_bp"] % window.stride_bp:
        raise ValueError(f"'window.stride_bp' = {window.stride_bp} does not divide plan.align_bp = {manifest.plan['align_bp']}")
    if len(window.classes) < 2 or sorted({*manifest.tracks, OTHER}) != sorted({*window.classes, OTHER}):
        raise ValueError(f"'window.classes' {list(window.classes)} are not 'tracks' and \"{OTHER}\", two of them at the least")
    if len(set(window.classes)) < len(window.classes):
        raise ValueError(f"'window.classes' {list(window.classes)}: one of them comes twice")
    for track in set(manifest.tracks) - set(manifest.features):
        with _named("window.anchor_bp"):
            anchor = window.anchor_bp[track]
        if not 0 <= anchor < window.window_bp:
            raise ValueError(f"'window.anchor_bp.{track}' is {anchor}, outside the window")
