"""What becomes a call: the rule of each track, and the thresholds of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from annotator.kinds import EVERY_KIND, Kind
from annotator.models.manifest import CladeSettings, Manifest


@dataclass(frozen=True)
class TrackRule:
    """How one track is called.

    Attributes:
        kind: What its calls are.
        threshold: Probability at and above which a local maximum is a call.
        scale: Scale of the calibration `sigmoid(scale * logit + bias)`; positive.
        bias: Bias of the calibration.
        radius_bp: A call is the highest base within this many bases on either side; ties go to the lower position.
        width_bp: Bases of a call that is no donor, acceptor or promoter.
        label: Row of the run's labels that names such a call; -1 for the others, which are named after their kind.
    """

    kind: Kind
    threshold: float
    scale: float
    bias: float
    radius_bp: int
    width_bp: int = 0
    label: int = -1


def track_rules(manifest: Manifest, clade: str, thresholds: Mapping[Kind, float], first_label: int = 0) -> list[TrackRule | None]:
    """Rules of a model's tracks for one clade.

    Args:
        manifest: The model's.
        clade: Clade whose calibration is used.
        thresholds: Probability per kind; a kind that is absent is not called.
        first_label: Row of the run's labels where the model's features begin, in the order of its tracks.

    Returns:
        One per track, in order; None where its kind is not wanted.
    """
    fits = manifest.clades[clade].calibration
    labels = {track: first_label + i for i, track in enumerate(manifest.track_set.feature_names)}
    rules: list[TrackRule | None] = []
    for track in manifest.tracks:
        kind = manifest.track_set.kind_of(track)
        if kind not in thresholds:
            rules.append(None)
            continue
        width = manifest.features[track].width_bp if track in manifest.features else 0
        fit, radius = fits[kind], manifest.radius_bp[kind]
        rules.append(TrackRule(kind, thresholds[kind], fit.scale, fit.bias, radius, width, labels.get(track, -1)))
    return rules


def chosen_thresholds(settings: CladeSettings, kinds: Sequence[Kind], asked: Mapping[str, float]) -> dict[Kind, float]:
    """Thresholds of the kinds that a run calls.

    Args:
        settings: Settings of the clade, whose thresholds are the defaults.
        kinds: The kinds that the run calls.
        asked: Thresholds that the user asks for, by kind, or by `EVERY_KIND` for all without one of their own.

    Returns:
        A threshold for each of `kinds`, in their order.
    """
    return {kind: asked.get(kind, asked.get(EVERY_KIND, settings.thresholds[kind])) for kind in kinds}
