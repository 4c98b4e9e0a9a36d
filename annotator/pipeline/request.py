"""What a run will do, settled before any genome is looked at."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from annotator.calls.rules import chosen_thresholds
from annotator.errors import EnvironmentFault, UsageError
from annotator.genome.plan import PlanOptions
from annotator.kinds import EVERY_KIND, TASKS, Kind
from annotator.models.bound.manifest import BUNDLED_BOUND, BoundManifest, bound_folder, read_bound
from annotator.models.directory import BUNDLED, read_model
from annotator.models.manifest import CladeSettings, Manifest
from annotator.models.options import FAMILY_ROWS
from annotator.motifs.jaspar_release import CLADE_TAXA, jaspar_motifs
from annotator.motifs.motif import Motif
from annotator.motifs.options import release_named
from annotator.motifs.read import read_motifs
from annotator.motifs.scan import MotifScanner
from annotator.output.track_files import TrackFile, track_files
from annotator.pipeline.executors.machine import Machine
from annotator.pipeline.options import BOUND_AUTO, BOUND_OFF, SHARD_BP, AnnotateOptions
from annotator.pipeline.worker.order import CARD, WorkOrder, motif_scanner
from annotator.scan.options import BATCH_BP
from annotator_kernels.versions import installed_version

logger = logging.getLogger(__name__)

LIBRARIES = ("torch", "polars", "numpy")
"""Libraries that decide the last digits of a score, and the bytes of a file."""


@dataclass(frozen=True)
class Request:
    """A run's options with everything looked up that does not need the genome.

    Attributes:
        order: What the workers are told.
        manifest: Manifest of the model.
        folder: Folder of the model.
        settings: Thresholds and calibration of the clade.
        tasks: Names of the tasks, in fixed order.
        scanner: The order's motif scanner; None without motifs.
        fdr: Share of the model's calls that may be chance; None where thresholds are given.
        bound: Manifest of the model of bound sites; None where none is used.
    """

    order: WorkOrder
    manifest: Manifest
    folder: Path
    settings: CladeSettings
    tasks: tuple[str, ...]
    scanner: MotifScanner | None
    fdr: float | None = None
    bound: BoundManifest | None = None


def resolve(options: AnnotateOptions, machine: Machine) -> Request:
    """Look up model, tasks, thresholds and motifs.

    Args:
        options: What the user asked for.
        machine: What the workers compute on.

    Raises:
        AnnotatorError: One of them is wrong or missing.
    """
    try:
        folder, manifest = read_model(options.model)
    except EnvironmentFault as error:
        raise EnvironmentFault(error.reason, "model") from None
    if not options.clade:
        options = replace(options, clade=manifest.clade_for(""))
        whose = "the model's own" if manifest.default_clade else "the default"
        logger.info("clade: %s (%s; choose with `clade`)", options.clade, whose)
    if options.clade not in manifest.clades:
        raise UsageError(f"the model has {', '.join(manifest.clades)}", "clade", options.clade)
    logger.info("model: %s %s, licence of the weights: %s", manifest.name, manifest.version, manifest.licence)
    settings = manifest.clades[options.clade]
    tasks = _tasks(options, manifest, settings)
    kinds = tuple(kind for kind in manifest.track_set.kinds if kind.task in tasks)
    for kind, least in options.thresholds.items():
        if kind not in (*manifest.track_set.kinds, EVERY_KIND):
            raise UsageError(f"the model calls {', '.join(manifest.track_set.kinds)}", f'thresholds["{kind}"]', least)
        if kind not in (*kinds, EVERY_KIND):
            logger.warning("`thresholds` %s: this run calls %s only", kind, ", ".join(kinds) or "motifs")
    if options.fdr is not None and not kinds:
        logger.warning("`fdr`: this run calls motifs only, which have q-values")
    if options.tracks and not kinds:
        raise UsageError("this run calls motifs only, which have no tracks", "tracks")
    motifs, source = _motifs(options) if "tfbs" in tasks else ((), "")
    bound, rated = _bound(options, motifs)
    order = WorkOrder(
        model=options.model if folder.parent == BUNDLED else str(folder.resolve()),
        clade=options.clade,
        thresholds=chosen_thresholds(settings, kinds, options.thresholds),
        motifs=motifs,
        tfbs_pvalue=options.tfbs_pvalue,
        windows=PlanOptions(**(manifest.plan | {"shard_bp": options.shard_bp or SHARD_BP[machine.kind]})),
        batch_bp=options.batch_bp or max(BATCH_BP[machine.kind], manifest.plan["window_bp"]),
        device=machine.device,
        precision=manifest.precision(options.precision, machine.native_precision, machine.kind),
        threads=options.threads or machine.threads,
        model_name=_one_line(manifest.name),
        motif_source=source,
        labels=(
            *((motif.matrix_id, motif.name) for motif in motifs),
            *((None, track) for track in manifest.track_set.feature_names),
        ),
        weights_sha256=manifest.weights_sha256,
        integers_sha256=manifest.integers.sha256 if manifest.integers else "",
        bound=bound,
        bound_sha256=rated.weights_sha256 if rated else "",
        tracks=_tracks(manifest, kinds) if options.tracks else (),
        libraries=_libraries(manifest, machine),
    )
    return Request(order, manifest, folder, settings, tasks, motif_scanner(order), options.fdr if kinds else None, rated)


def _tasks(options: AnnotateOptions, manifest: Manifest, settings: CladeSettings) -> tuple[str, ...]:
    """Tasks of the run, in fixed order; by default all the model and the motifs can do, but promoters only where validated."""
    possible = {kind.task for kind in manifest.track_set.kinds} | {"tfbs"}
    if options.tasks is None:
        tasks = tuple(task for task in TASKS if task in possible)
        if "promoter" in tasks and "promoter" not in settings.validated:
            tasks = tuple(task for task in tasks if task != "promoter")
            logger.info("promoters are off: not validated for clade %s (ask for them with `tasks`)", options.clade)
    else:
        if absent := sorted(set(options.tasks) - possible):
            raise UsageError(f"the model {manifest.name} calls {', '.join(manifest.track_set.kinds)} only", "tasks", absent[0])
        tasks = tuple(task for task in TASKS if task in options.tasks)
    for kind in manifest.track_set.kinds:
        if kind.task in tasks and kind not in settings.validated:
            logger.warning("%s calls are NOT VALIDATED for clade %s (%s)", kind, options.clade, settings.note)
    return tasks


def _tracks(manifest: Manifest, kinds: Sequence[Kind]) -> tuple[TrackFile, ...]:
    """Files of the model's tracks that give the wanted kinds of call."""
    kind_of = manifest.track_set.kind_of
    return track_files((i, name, kind_of(name)) for i, name in enumerate(manifest.tracks) if kind_of(name) in kinds)


def _libraries(manifest: Manifest, machine: Machine) -> dict[str, str]:
    """Versions of what decides the last digits of a score, and the bytes of a file; the GPU is one of them."""
    of_device = () if machine.kind == "cpu" else ("triton",)
    row = FAMILY_ROWS.get(manifest.family)  # an unknown family is refused, with its file, where the model is loaded
    names = (*LIBRARIES, *of_device, *(row.libraries if row else ()))
    card = {CARD: machine.card} if machine.card else {}
    return {name: installed_version(name) for name in names} | card


def _motifs(options: AnnotateOptions) -> tuple[tuple[Motif, ...], str]:
    release = release_named(options.motifs)
    if not release:
        try:
            return tuple(read_motifs(Path(options.motifs))), _one_line(Path(options.motifs).name)
        except UsageError as error:
            raise UsageError(error.reason, "motifs") from None
    taxa = CLADE_TAXA[options.clade]
    motifs = tuple(motif for taxon in taxa for motif in jaspar_motifs(taxon, release))
    return motifs, f"{release} CORE {'+'.join(taxa)}"


def _bound(options: AnnotateOptions, motifs: Sequence[Motif]) -> tuple[str, BoundManifest | None]:
    """The model of bound sites as orders name it, and its manifest; none where no motif of the run is of a factor it knows."""
    by_itself = options.bound == BOUND_AUTO
    if not motifs and options.bound not in (BOUND_OFF, BOUND_AUTO):
        logger.warning("`bound` %s: this run calls no motifs", options.bound)
    if options.bound == BOUND_OFF or not motifs:
        return "", None
    name = BUNDLED_BOUND if by_itself else str(Path(options.bound).resolve())
    try:
        manifest = read_bound(bound_folder(name))
    except EnvironmentFault as error:
        raise EnvironmentFault(error.reason, "bound") from None
    known = sorted({motif.name for motif in motifs if manifest.index_of(motif.name) >= 0})
    if by_itself and (options.clade not in manifest.clades or not known):
        return "", None
    if not known:
        logger.warning("`bound` %s: no motif of this run is of %s", options.bound, ", ".join(manifest.factors))
        return "", None
    logger.info("motif hits of %s get the probability to be bound (model %s)", ", ".join(known), manifest.name)
    if options.tfbs_pvalue > manifest.hit_pvalue:
        logger.warning(
            "`tfbs_pvalue` %g: the model of bound sites learnt from hits up to p = %g; probabilities of weaker ones are a guess",
            options.tfbs_pvalue, manifest.hit_pvalue,
        )  # fmt: skip
    return name, manifest


def _one_line(name: str) -> str:
    """A name as every file spells it: printable ASCII, at most 255 characters."""
    return re.sub(r"[^ -~]", "_", name)[:255]
