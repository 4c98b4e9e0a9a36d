"""A model directory in plain text, for `annotator models show`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from annotator.models.families.compact.net import CompactConfig
from annotator.models.manifest import Manifest

CARD = ("teacher", "begun from", "hours", "energy", "limits", "note")
"""Entries of a manifest's `training` that a model card shows in words."""


def describe(folder: Path, manifest: Manifest) -> str:
    """Everything a user should know before trusting a model: thresholds, calibration, data, held-out figures, licence."""
    lines = [
        f"{manifest.name} {manifest.version} ({manifest.family}), licence {manifest.licence}",
        f"weights: {manifest.weights}, sha256 {manifest.weights_sha256}, {(folder / manifest.weights).stat().st_size:,} bytes",
        *_architecture(manifest),
        f"window: {manifest.plan['window_bp']:,} bp with halos of {manifest.plan['halo_bp']:,} bp",
        f"tracks: {', '.join(manifest.tracks)}, both strands",
        "calls: local maxima within " + ", ".join(f"{r} bp ({kind})" for kind, r in manifest.radius_bp.items()),
    ]
    if manifest.default_clade:
        lines.append(f"clade of its data, and its default: {manifest.default_clade}")
    for clade, settings in manifest.clades.items():
        lines.append(f"clade {clade}: {settings.note}; validated: {', '.join(settings.validated) or 'nothing'}")
        for kind, threshold in settings.thresholds.items():
            fit = settings.calibration[kind]
            mark = "" if kind in settings.validated else "  (not validated)"
            lines.append(
                f"  {kind}: threshold {threshold:.3f}, probability = sigmoid({fit.scale:.4f} * logit {fit.bias:+.4f}){mark}"
            )
    for title, training in _trainings(manifest).items():
        lines.append(f"{title}trained on: {_data(training) or 'not stated'}")
        lines += [f"{title}{key}: {training[key]}" for key in CARD if training.get(key)]
        lines += [f"{title}{line}" for line in _annotation(training)]
    lines.append(f"figures ({manifest.metrics.get('split', 'not stated')}):")
    lines += _figures({name: value for name, value in manifest.metrics.items() if name != "split"})
    return "\n".join(lines)


def _trainings(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """What is known of the training, by the words its lines begin with: once, or for each clade's own network."""
    if any(settings.network for settings in manifest.clades.values()):
        return {f"clade {clade}, ": manifest.training[clade] for clade in manifest.clades if clade in manifest.training}
    return {"": manifest.training}


def _data(training: dict[str, Any]) -> str:
    """What a model learnt from: organisms of the bundled family, or the data of a fine-tuning run."""
    organisms, data = training.get("organisms"), training.get("data")
    if isinstance(organisms, list):
        return ", ".join(f"{o.get('name')} ({o.get('fasta')})" if isinstance(o, dict) else str(o) for o in organisms)
    if not isinstance(data, dict):
        return ""
    learnt = data.get("train", data)
    if isinstance(learnt, dict):  # what was left out of the annotation has lines of its own
        learnt = {
            name: {key: v for key, v in value.items() if key != "annotation"} if isinstance(value, dict) else value
            for name, value in learnt.items()
        }
    return json.dumps(learnt)


def _annotation(training: dict[str, Any]) -> list[str]:
    """What was read and left out of the annotation that a model learnt from and was calibrated on, in the words of its run."""
    data = training.get("data")
    sides = training.get("annotation") or (
        {
            split: {name: genome.get("annotation", {}) for name, genome in genomes.items() if isinstance(genome, dict)}
            for split, genomes in data.items()
            if split in ("train", "dev") and isinstance(genomes, dict)
        }
        if isinstance(data, dict)
        else {}
    )
    lines = [f"held out for validation: {', '.join(training['held_out'])}"] if training.get("held_out") else []
    for split, genomes in sides.items():
        for name, files in genomes.items():
            for what, read in files.items():
                lines += [f"{split} {name}, {what} ({read['file']}): {note}" for note in read["notes"]]
    return lines


def _figures(table: dict[str, Any], title: str = "") -> list[str]:
    """Lines of figures: those of the table itself, then those of the tables in it."""
    plain = ", ".join(f"{name} {_number(value)}" for name, value in table.items() if not isinstance(value, dict | list))
    lines = [f"  {title or 'all'}: {plain}"] if plain else []
    for name, value in table.items():
        if isinstance(value, dict):
            lines += _figures(value, f"{title} {name}".strip())
    return lines


def _architecture(manifest: Manifest) -> list[str]:
    """What the network is, and what it is slid over a genome as."""
    lines = []
    if manifest.family == "compact" and manifest.window is None:
        architecture = manifest.architecture | {"dilations": tuple(manifest.architecture["dilations"])}
        lines.append(f"cost: {CompactConfig(**architecture).flops_per_base() / 1e6:.2f} MFLOP a base and strand")
        lines.append(f"tokens: {manifest.tokenizer['k']}-mers, order {manifest.tokenizer['order']}")
    else:
        lines.append("architecture: " + ", ".join(f"{key} {value}" for key, value in manifest.architecture.items()))
    if manifest.window is not None:
        task = manifest.window
        lines.append(f"classifies windows of {task.window_bp} bp every {task.stride_bp} bp: {', '.join(task.classes)}")
    for track, feature in manifest.features.items():
        lines.append(f"track {track}: {feature.kind} of {feature.width_bp} bp")
    return lines


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
