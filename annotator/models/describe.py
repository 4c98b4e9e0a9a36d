"""A model directory in plain text, for `annotator models show`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from annotator.models.families.compact.net import CompactConfig
from annotator.models.manifest import CladeSettings, Manifest

CARD = ("teacher", "begun from", "hours", "energy", "limits", "note")
"""Entries of a manifest's `training` that a model card shows in words."""


def describe(folder: Path, manifest: Manifest) -> str:
    """Everything a user should know before trusting a model: thresholds, calibration, data, held-out figures, licence."""
    lines = [
        f"{manifest.name} {manifest.version} ({manifest.family}), licence {manifest.licence}",
        f"weights: {manifest.weights}, sha256 {manifest.weights_sha256}, {(folder / manifest.weights).stat().st_size:,} bytes",
        *([f"whole numbers: {manifest.integers.file}, sha256 {manifest.integers.sha256}"] if manifest.integers else []),
        *_architecture(manifest),
        f"window: {manifest.plan['window_bp']:,} bp with halos of {manifest.plan['halo_bp']:,} bp",
        f"tracks: {', '.join(manifest.tracks)}, both strands",
        "calls: local maxima within " + ", ".join(f"{r} bp ({kind})" for kind, r in manifest.radius_bp.items()),
    ]
    if manifest.default_clade:
        lines.append(f"clade of its data, and its default: {manifest.default_clade}")
    own_networks = any(settings.network for settings in manifest.clades.values())
    for clade, settings in manifest.clades.items():
        lines += _clade(clade, settings)
        if own_networks:  # everything there is to know of a clade's network stands together
            title = f"clade {clade}, "
            lines += _training(manifest.training.get(clade, {}), title)
            lines += _clade_figures(manifest.metrics, clade, title)
    if not own_networks:
        lines += _training(manifest.training, "")
        for split, figures in _splits(manifest.metrics).items():
            lines += [f"figures ({split}):", *_figures(figures)]
    return "\n".join(lines)


def learnt_from(training: dict[str, Any], clade: str = "") -> str:
    """What a model learnt from: organisms of the bundled family, or the data of a fine-tuning run.

    Args:
        training: `training` of a manifest, or the part of a clade's own network.
        clade: Only organisms that are of this clade, or of none that is known; empty for all.

    Returns:
        One line; empty where nothing is stated.
    """
    organisms, data = training.get("organisms"), training.get("data")
    if isinstance(organisms, list):
        asked = [o for o in organisms if not isinstance(o, dict) or not clade or o.get("clade", clade) == clade]
        return ", ".join(f"{o.get('name')} ({_files(o)})" if isinstance(o, dict) else str(o) for o in asked)
    if not isinstance(data, dict):
        return ""
    learnt = data.get("train", data)
    if isinstance(learnt, dict):  # what was left out of the annotation has lines of its own
        learnt = {
            name: {key: v for key, v in value.items() if key != "annotation"} if isinstance(value, dict) else value
            for name, value in learnt.items()
        }
    return json.dumps(learnt)


def _files(organism: dict[str, Any]) -> str:
    """The assembly of an organism or the tables of its windows, and the labels of a teacher where it had one."""
    tables = organism.get("tables") or [organism.get("fasta")]
    return ", ".join([*map(str, tables), *("taught by " + str(path) for path in organism.get("teacher") or [])])


def _clade(clade: str, settings: CladeSettings) -> list[str]:
    """How calls are made for a clade."""
    lines = [f"clade {clade}: {settings.note}; validated: {', '.join(settings.validated) or 'nothing'}"]
    for kind, threshold in settings.thresholds.items():
        fit = settings.calibration[kind]
        mark = "" if kind in settings.validated else "  (not validated)"
        lines.append(f"  {kind}: threshold {threshold:.3f}, probability = sigmoid({fit.scale:.4f} * logit {fit.bias:+.4f}){mark}")
    return lines


def _training(training: dict[str, Any], title: str) -> list[str]:
    """Where a network comes from, and its limits."""
    return [
        f"{title}trained on: {learnt_from(training) or 'not stated'}",
        *(f"{title}{key}: {training[key]}" for key in CARD if training.get(key)),
        *(f"{title}{line}" for line in _annotation(training)),
    ]


def _splits(metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Figures by the split they were measured on: those that the manifest began with, and those on test data."""
    first = {name: value for name, value in metrics.items() if name not in ("split", "test")}
    found = {str(metrics.get("split", "not stated")): first}
    return found | ({"test": metrics["test"]} if metrics.get("test") else {})


def _clade_figures(metrics: dict[str, Any], clade: str, title: str) -> list[str]:
    """Figures of a clade, by split."""
    lines = []
    for split, figures in _splits(metrics).items():
        if figures.get(clade):
            lines += [f"{title}figures ({split}):", *_figures(figures[clade])]
    return lines


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
    """Lines of figures: those of the table itself, with 95 % intervals where it has them, then those of the tables in it."""
    plain = ", ".join(
        f"{name} {_number(value)}{_interval(table.get(f'{name}_95'))}"
        for name, value in table.items()
        if not isinstance(value, dict | list)
    )
    names = ", ".join(map(str, table.get("genomes", [])))
    lines = [f"  {title or 'all'}: {plain}"] if plain else []
    lines += [f"  {f'{title} of'.strip()} {names}"] if names else []
    for name, value in table.items():
        if isinstance(value, dict):
            lines += _figures(value, f"{title} {name}".strip())
    return lines


def _interval(bounds: Any) -> str:
    """A 95 % interval as it follows its figure; empty where there is none."""
    return f" ({_number(bounds[0])} to {_number(bounds[1])})" if isinstance(bounds, list) and None not in bounds else ""


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
