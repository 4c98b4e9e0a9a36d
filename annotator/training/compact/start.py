"""What a compact network starts from: random weights, or those of a finished model."""

from __future__ import annotations

from dataclasses import replace

from annotator.errors import UsageError
from annotator.models.directory import read_model
from annotator.models.families.compact.net import CompactConfig, CompactNet
from annotator.models.families.compact.scan import load_compact
from annotator.training.calibrate import own_clade
from annotator.training.compact.options import TrainingSettings

COMPACT = "compact"


def like_its_start(settings: TrainingSettings) -> TrainingSettings:
    """Settings with the architecture, the tokens and the windows of the model that the run goes on from.

    Args:
        settings: Settings whose `init` names a model.

    Raises:
        AnnotatorError: There is no such model, it is damaged, or it is of another family.
    """
    _, manifest = read_model(settings.init)
    if manifest.family != COMPACT or manifest.window is not None:
        what = "classifies windows" if manifest.window is not None else f"is of the family {manifest.family}"
        raise UsageError(f"it {what}; training goes on from a compact model that labels bases", "init", settings.init)
    return replace(
        settings, k=manifest.tokenizer["k"], architecture=manifest.architecture, plan=manifest.plan, radius_bp=manifest.radius_bp
    )


def first_network(settings: TrainingSettings) -> tuple[CompactNet, str | None]:
    """The network of a run with its first weights.

    Args:
        settings: Settings of the run.

    Returns:
        The network on the CPU, and the sha256 of the weights it goes on from; None where they are random.

    Raises:
        UsageError: The model that the run is to go on from has another architecture.
        AnnotatorError: There is no such model, or it is damaged.
    """
    config = CompactConfig(**(settings.architecture | {"dilations": tuple(settings.architecture["dilations"])}))
    if not settings.init:
        return CompactNet(config), None
    wanted = like_its_start(settings)
    for name in ("k", "architecture"):
        ours, theirs = getattr(settings, name), getattr(wanted, name)
        if name == "architecture":
            ours, theirs = config.as_dict(), CompactConfig(**(theirs | {"dilations": tuple(theirs["dilations"])})).as_dict()
        if ours != theirs:
            raise UsageError(f"it has {name} {theirs}, but the recipe {ours}; leave the recipe out", "init", settings.init)
    folder, manifest = read_model(settings.init)
    clade = own_clade([organism.clade for organism in settings.organisms], manifest.clades)
    return load_compact(folder, manifest, clade).train(), manifest.weights_sha256
