"""What a model is worth on a labelled genome.

Coordinates: as in annotator.evaluation.site_scores.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from annotator.calls.batch import Calls
from annotator.calls.rules import track_rules
from annotator.errors import ModelFault, UsageError
from annotator.evaluation.elements import ElementScores, TileScores
from annotator.evaluation.metrics import Interval, Reliability, bootstrap
from annotator.evaluation.scores import score_shards
from annotator.evaluation.site_scores import (
    PROMOTER_MATCH_BP,
    PROMOTER_WITHIN_BP,
    CallScores,
    Curve,
    SiteRanking,
    judge_promoters,
    judge_splice,
    precision_recall_curve,
)
from annotator.genome.plan import PlanOptions
from annotator.kinds import TRACK_KIND, Kind
from annotator.labels.genomes import load_elements, load_genome
from annotator.labels.labelled import TRIM_SEED, LabelledGenome, hold_out, trim_contigs
from annotator.labels.options import Organism
from annotator.models.device import choose_device, native_precision
from annotator.models.directory import read_model
from annotator.models.loading import load_scan_model
from annotator.models.manifest import Calibration, Manifest
from annotator.scan.windows import NotFinite, ScanModel

logger = logging.getLogger(__name__)

RANKED_FROM = 1e-4
"""Bases of a lower probability are counted and not listed: top-k is exact, AUPRC a lower bound (annotator.evaluation.metrics)."""
CALLS_FROM = 0.001
"""Weakest calls that are looked at, for curves."""
BELIEVED_FROM = 0.01
"""Weakest calls of the reliability diagram."""
REPLICATES = 200
"""Draws of the bootstrap unless told otherwise."""


@dataclass(frozen=True)
class KindScores:
    """Accuracy of one kind of call.

    Attributes:
        kind: donor, acceptor or promoter.
        within_bp: How far from the truth is right; 0 for the exact base.
        truths: Truth sites.
        top_k: Share of truth among the k highest bases of the genome, k = truths; None for promoters, whose truth has no
            exact base.
        auprc: Average precision over all bases of the genome with its bootstrap interval; of promoters over the calls, without
            an interval (NaN).
        called: The calls at the threshold.
        reliability: Reliability of calls with a probability of at least BELIEVED_FROM; None but for the distance that
            probabilities mean.
        calibration_error: Expected calibration error of calls with a probability of at least CALIBRATED_FROM, in ten bins of
            equal count (`annotator.evaluation.metrics.calibration_error`); NaN with fewer calls than bins, None as above.
        curve: Precision against recall by probability: of all bases, for promoters of the calls.
    """

    kind: str
    within_bp: int
    truths: int
    top_k: Interval | None
    auprc: Interval
    called: CallScores
    reliability: Reliability | None
    calibration_error: float | None
    curve: Curve


@dataclass(frozen=True)
class GenomeReport:
    """Accuracy of a model on a genome.

    Attributes:
        model: Name and version.
        weights_sha256: Hash of the model's weights file.
        computed_in: float32 or bfloat16.
        genome: Name.
        clade: Clade whose calibration and thresholds were used.
        contigs: How many.
        bases: Their length.
        trim_bp: Up to so much was cut off at random at both ends of every contig.
        replicates: Draws of the bootstrap (95 % intervals).
        kinds: Accuracy of each kind, of promoters at each distance.
        skipped: Tracks and kinds that were not measured, with the reason.
        annotation: What was read and left out of the truth and the mask, by "truth" and "mask" (`AnnotationReport.as_dict`).
        held_out: Contigs that were measured on alone; none where all were.
        elements: How each track of the user's own tells tiles inside its elements from others (annotator.evaluation.elements).
    """

    model: str
    weights_sha256: str
    computed_in: str
    genome: str
    clade: str
    contigs: int
    bases: int
    trim_bp: int
    replicates: int
    kinds: tuple[KindScores, ...]
    skipped: dict[str, str]
    annotation: Mapping[str, Any] = field(default_factory=dict)
    held_out: tuple[str, ...] = ()
    elements: tuple[ElementScores, ...] = ()


def evaluate_genome(
    model: str,
    organism: Organism,
    *,
    thresholds: dict[str, float] | None = None,
    device: str = "auto",
    precision: str = "auto",
    threads: int = 1,
    replicates: int = REPLICATES,
    held_out: Sequence[str] = (),
    features: Sequence[tuple[str, Path]] = (),
) -> GenomeReport:
    """Measure a model on a genome from disk.

    Args:
        model: Bundled model or model directory.
        organism: The genome, its truth and sites to leave out, its clade, and how much to trim or to use of it.
        thresholds: Probability per kind in place of the model's own.
        device: auto, cpu, cuda or cuda:N.
        precision: auto, float32, bfloat16 or int8.
        threads: CPU threads.
        replicates: Draws of the bootstrap.
        held_out: Contigs to measure on; all where none is named.
        features: (track, BED file) of elements beside the sites.

    Returns:
        The report.

    Raises:
        AnnotatorError: A file is missing or bad, the model has no settings for the clade, or no kind can be measured.
    """
    if features and (organism.trim_bp or held_out):
        raise UsageError("elements are measured on whole genomes: leave trimming and held-out contigs away")
    torch.set_num_threads(threads)
    folder, manifest = read_model(model)
    if organism.clade not in manifest.clades:
        raise UsageError(f"{model}: no settings for clade {organism.clade} (it has {', '.join(manifest.clades)})")
    with tempfile.TemporaryDirectory() as spool:
        genome = load_genome(organism, Path(spool), features)
    tiles = {track: TileScores(genome, load_elements(path, genome)) for track, path in features if track in manifest.features}
    if held_out:
        genome = hold_out([genome], held_out)[1][0]
    if organism.trim_bp:
        genome = trim_contigs(genome, organism.trim_bp, TRIM_SEED)
    where = choose_device(device)
    settled = manifest.precision(precision, native_precision(where), where)
    scan = load_scan_model(folder, manifest, organism.clade, torch.device(where), settled)
    try:
        kinds, skipped = measure(
            scan, manifest, genome, organism.clade, torch.device(where), thresholds=thresholds or {}, replicates=replicates,
            tiles=tiles,
        )  # fmt: skip
    except NotFinite as fault:
        raise ModelFault(f"{model} on {organism.fasta}: {fault}") from None
    if not kinds and not tiles:
        reasons = "; ".join(map(": ".join, skipped.items()))
        raise UsageError(f"{model} on {organism.truth or organism.fasta}: nothing to measure ({reasons})")
    return GenomeReport(
        model=f"{manifest.name} {manifest.version}",
        weights_sha256=manifest.weights_sha256,
        computed_in=settled,
        genome=organism.name,
        clade=organism.clade,
        contigs=len(genome.contig_ends),
        bases=len(genome.bases),
        trim_bp=organism.trim_bp,
        replicates=replicates,
        kinds=kinds,
        skipped=skipped,
        annotation=genome.annotation,
        held_out=tuple(held_out),
        elements=tuple(scored.scores(track, replicates=replicates) for track, scored in tiles.items()),
    )


def measure(
    model: ScanModel,
    manifest: Manifest,
    genome: LabelledGenome,
    clade: str,
    device: torch.device,
    *,
    thresholds: dict[str, float] | None = None,
    replicates: int = REPLICATES,
    tiles: Mapping[str, TileScores] | None = None,
) -> tuple[tuple[KindScores, ...], dict[str, str]]:
    """Measure a model on a genome in memory.

    Args:
        model: What scores, on `device`.
        manifest: Manifest of the model.
        genome: With its truth.
        clade: Clade whose calibration and thresholds to use.
        device: Where to compute.
        thresholds: Probability per kind in place of the manifest's.
        replicates: Draws of the bootstrap.
        tiles: The tiles of the user's own tracks, by track; given their scores here.

    Returns:
        Accuracy of each kind in the order of the tracks, and the tracks that were not measured with the reason.

    Raises:
        NotFinite: The model gave a NaN or an infinity.
    """
    tiles = tiles or {}
    tracks, skipped = _measurable(manifest, genome)
    chosen = manifest.clades[clade].thresholds | (thresholds or {})
    weakest = {TRACK_KIND[track]: min(CALLS_FROM, chosen[TRACK_KIND[track]]) for track in tracks}
    rules = track_rules(manifest, clade, weakest)
    fits = manifest.clades[clade].calibration
    # Ranked by logit: the calibration keeps the order, and no probability is rounded to 1.
    logit_of_floor = float(np.log(RANKED_FROM / (1 - RANKED_FROM)))
    rankings = {
        kind: SiteRanking(genome, kind, (logit_of_floor - fits[kind].bias) / fits[kind].scale)
        for kind in map(TRACK_KIND.__getitem__, tracks)
        if kind is not Kind.PROMOTER  # whose calls may be right some bases away
    }
    scorings: dict[str, SiteRanking | TileScores] = {**{kind.row.track: ranking for kind, ranking in rankings.items()}, **tiles}
    found: list[Calls] = []
    plan = PlanOptions(**manifest.plan)
    for shard in score_shards(model, genome, plan, tracks=len(manifest.tracks), device=device, rules=rules):
        found.append(shard.calls)
        for span, logits in zip(shard.spans, shard.logits, strict=True):
            for track, scored in scorings.items():
                scored.add(span.contig, span.start, logits[:, manifest.tracks.index(track)])
        logger.info("%s: scored up to %s of contig %d", genome.name, f"{shard.spans[-1].end:,}", shard.spans[-1].contig + 1)
    calls = Calls.concatenate(found)
    kinds: list[KindScores] = []
    for kind in map(TRACK_KIND.__getitem__, tracks):
        if kind is Kind.PROMOTER:
            kinds += [_promoters(calls, genome, within_bp, chosen[kind]) for within_bp in PROMOTER_WITHIN_BP]
        else:
            kinds.append(_splice(calls, genome, kind, rankings[kind], chosen[kind], fits[kind], replicates))
    return tuple(kinds), skipped


def _measurable(manifest: Manifest, genome: LabelledGenome) -> tuple[list[str], dict[str, str]]:
    """Tracks with truth, and the others with the reason why they cannot be measured."""
    skipped = {}
    for track in manifest.tracks:
        if track in genome.kinds:
            continue
        skipped[track] = "the truth has none" if track in TRACK_KIND else "no BED file of its elements was given"
    skipped |= {kind: "the model has no such track" for kind in sorted(genome.kinds.difference(manifest.tracks))}
    return [track for track in manifest.tracks if track in TRACK_KIND and track not in skipped], skipped


def _splice(
    calls: Calls, genome: LabelledGenome, kind: str, ranking: SiteRanking, threshold: float, fit: Calibration, replicates: int
) -> KindScores:  # fmt: skip
    examples = ranking.examples()
    figures = bootstrap(examples, replicates=replicates)
    judged = judge_splice(calls, genome, kind)
    diagram = judged.reliability(BELIEVED_FROM)
    curve = precision_recall_curve(examples.probability, examples.is_truth, judged.truths).thinned()
    probability = 1.0 / (1.0 + np.exp(-(fit.scale * curve.threshold + fit.bias)))
    return KindScores(
        kind=kind, within_bp=0, truths=judged.truths, top_k=figures["top_k"], auprc=figures["auprc"],
        called=judged.at(threshold), reliability=diagram, calibration_error=judged.calibration_error(),
        curve=Curve(probability, curve.precision, curve.recall),
    )  # fmt: skip


def _promoters(calls: Calls, genome: LabelledGenome, within_bp: int, threshold: float) -> KindScores:
    judged = judge_promoters(calls, genome, within_bp)
    curve = judged.curve()
    meant = within_bp == PROMOTER_MATCH_BP  # the distance that a probability speaks of
    return KindScores(
        kind="promoter", within_bp=within_bp, truths=judged.truths, top_k=None,
        auprc=Interval(curve.average_precision(), float("nan"), float("nan")), called=judged.at(threshold),
        reliability=judged.reliability(BELIEVED_FROM) if meant else None,
        calibration_error=judged.calibration_error() if meant else None, curve=curve.thinned(),
    )  # fmt: skip
