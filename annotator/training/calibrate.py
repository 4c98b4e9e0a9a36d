"""Calibration and thresholds, from validation data alone.

Coordinates: contigs end to end, as in `LabelledGenome`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotator.calls.rules import TrackRule
from annotator.evaluation.metrics import average_precision, calibration_error
from annotator.evaluation.scores import genome_calls
from annotator.evaluation.site_scores import PROMOTER_MATCH_BP, judge_promoters, judge_splice
from annotator.kinds import CLADES, DEFAULT_CLADE, TRACK_KIND, Kind, Strand
from annotator.labels.labelled import LabelledGenome
from annotator.models.manifest import Calibration, CladeSettings

logger = logging.getLogger(__name__)

CANDIDATE_LOGIT = -7.0
"""Local maxima below this are not looked at when thresholds are chosen; calls lie far above it."""

LEAST_AUPRC = {kind: 0.3 if kind is Kind.PROMOTER else 0.5 for kind in Kind}
"""Area under the precision-recall curve on validation genomes from which a kind of call counts as validated."""
LEAST_WINDOW_AUPRC = dict.fromkeys(Kind, 0.75)
"""The same on a table of windows, where sites are not rare: in a balanced table, chance alone has 0.5."""

CALIBRATED_LOGIT = -4.6
"""Log-odds, of a probability of 0.01, from which local maxima settle a calibration: no call lies below it."""

SMALLEST_SCALE = 1e-3
"""Scale of a calibration of scores that say nothing; one of a manifest is above 0."""


@dataclass(frozen=True)
class Candidates:
    """Local maxima of one kind: what could be called.

    Attributes:
        logit: float64, [n].
        right: Whether it hits a truth site, each site counted once, [n].
        truth: Number of truth sites.
        weight: Weight of each of them and of each truth site, where several genomes are put together.
    """

    logit: NDArray[np.float64]
    right: NDArray[np.bool_]
    truth: int
    weight: float = 1.0


def candidates(
    logits: NDArray[np.float32], genome: LabelledGenome, radius_bp: dict[Kind, int], kind: Kind, tracks: Sequence[str]
) -> Candidates:
    """All local maxima of one kind of call with their truth.

    Args:
        logits: Logits of `genome_logits`.
        genome: The genome they are of.
        radius_bp: Calls are local maxima within this, per kind of call.
        kind: donor, acceptor or promoter.
        tracks: Tracks of the logits, in order.

    Returns:
        The candidates; ambiguous sites are left out.
    """
    threshold = 1.0 / (1.0 + np.exp(-CANDIDATE_LOGIT))
    rules = [TrackRule(kind, threshold, 1.0, 0.0, radius_bp[kind]) if TRACK_KIND.get(track) == kind else None for track in tracks]
    calls = genome_calls(logits, genome, rules)
    track = next(track for track in tracks if TRACK_KIND.get(track) == kind)
    row = tracks.index(track)
    place = genome.contig_starts[calls.contig] + calls.position
    logit = logits[(calls.strand == Strand.MINUS).astype(np.int64), row, place].astype(np.float64)
    judged = judge_promoters(calls, genome, PROMOTER_MATCH_BP) if kind is Kind.PROMOTER else judge_splice(calls, genome, kind)
    keep = ~judged.ambiguous
    return Candidates(logit[keep], judged.right[keep], judged.truths, genome.weight)


def calibrated_on(kind: Kind, found: Sequence[Candidates]) -> Calibration:
    """The calibration that makes the probabilities of calls true.

    It is fitted on local maxima, which is what calls are, and in the end on those alone that have a probability to be right
    worth the name: millions of bases near 0 would otherwise settle the curve where nothing is called.

    Args:
        kind: Kind of call.
        found: Candidates of the validation genomes.
    """
    logit, right = np.concatenate([c.logit for c in found]), np.concatenate([c.right for c in found])
    weight = np.concatenate([np.full(len(c.logit), c.weight) for c in found])
    fit = fit_rising_calibration(kind, logit, right, weight)
    kept = fit.scale * logit + fit.bias >= CALIBRATED_LOGIT
    is_mixed = right[kept].any() and not right[kept].all()  # else they alone would settle nothing
    return fit_rising_calibration(kind, logit[kept], right[kept], weight[kept]) if is_mixed else fit


def fit_calibration(
    logit: NDArray[np.floating], right: NDArray[np.bool_], weight: NDArray[np.floating] | None = None
) -> Calibration:
    """Scale and bias of `sigmoid(scale * logit + bias)` by maximum likelihood (Platt 1999), on a fine histogram of the logits.

    As in Platt's method the targets are not quite 1 and 0, as if there were one more example of either kind: logits that
    separate the examples completely give a steep curve, not an endless one.

    Args:
        logit: Any number of examples.
        right: Whether each is a site.
        weight: Weight of each; 1 by default.

    Returns:
        The calibration; the identity where there is nothing to fit.
    """
    if not right.any() or right.all():
        return Calibration()
    edges = np.linspace(-31, 31, 6201)
    centre = (edges[1:] + edges[:-1]) / 2
    clipped = np.clip(logit, -30.9, 30.9)
    share = np.ones(len(clipped)) if weight is None else weight
    hits = np.histogram(clipped[right], edges, weights=share[right])[0].astype(float)
    misses = np.histogram(clipped[~right], edges, weights=share[~right])[0].astype(float)
    total = hits + misses
    hits = hits * (1 - 1 / (hits.sum() + 2)) + misses / (misses.sum() + 2)
    x = np.stack([centre, np.ones_like(centre)], 1)
    w = np.array([1.0, 0.0])
    for _ in range(100):  # Newton's method on two parameters
        p = 1 / (1 + np.exp(-np.clip(x @ w, -60, 60)))
        gradient = x.T @ (hits - total * p)
        hessian = (x * (total * p * (1 - p))[:, None]).T @ x + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        w = w + np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-8:
            break
    return Calibration(round(float(w[0]), 5), round(float(w[1]), 5))


def fit_rising_calibration(
    kind: Kind, logit: NDArray[np.floating], right: NDArray[np.bool_], weight: NDArray[np.floating] | None = None
) -> Calibration:
    """`fit_calibration` with a scale above 0, as a manifest needs it; where that fails, nearly flat at the share of the right.

    Args:
        kind: Kind of call, for the warning where high logits are no likelier to be right than low ones.
        logit: Any number of examples.
        right: Whether each is right.
        weight: Weight of each; 1 by default.
    """
    fit = fit_calibration(logit, right, weight)
    if fit.scale > 0:
        return fit
    logger.warning("%s: on the validation data the scores are no better than chance", kind)
    share = np.average(right, weights=weight)
    return Calibration(SMALLEST_SCALE, round(float(np.log(share / (1 - share))), 5))


def reached(auprc: Mapping[Kind, float], least: Mapping[Kind, float]) -> tuple[tuple[Kind, ...], str]:
    """Kinds of call whose accuracy on validation data is good enough to be called validated.

    Args:
        auprc: Area under the precision-recall curve per kind.
        least: What it has to be, such as `LEAST_AUPRC`.

    Returns:
        The kinds, in the order given, and a sentence with the figures.
    """
    kinds = tuple(kind for kind, value in auprc.items() if value >= least[kind])
    figures = ", ".join(f"{kind} {value:.2f} of {least[kind]:g} needed" for kind, value in auprc.items())
    return kinds, f"AUPRC {figures}"


def calibration_error_of(found: Sequence[Candidates], calibration: Calibration) -> float:
    """Expected calibration error of candidates (`annotator.evaluation.metrics.calibration_error`), the worst of the genomes."""
    errors = [calibration_error(1 / (1 + np.exp(-(calibration.scale * c.logit + calibration.bias))), c.right) for c in found]
    return max(errors, key=lambda error: (not np.isnan(error), error), default=float("nan"))


def matched_precision(found: Sequence[Candidates]) -> float:
    """Average precision of candidates; truths that none of them claims are never found."""
    logit, right = (np.concatenate(column) for column in zip(*((c.logit, c.right) for c in found), strict=True))
    truths = sum(c.truth for c in found)
    return float(average_precision(logit, right)) * int(right.sum()) / max(1, truths) if right.any() else 0.0


def own_clade(learnt: Sequence[str], settings: Mapping[str, CladeSettings]) -> str:
    """The clade that a model is used for by default: that of its data; of several, the program's default or the first.

    Args:
        learnt: Clades of the genomes that it learnt from.
        settings: Clades that it can be used for.
    """
    known = [clade for clade in learnt if clade in settings]
    return DEFAULT_CLADE if DEFAULT_CLADE in known or not known else known[0]


def clade_settings(
    clade: str,
    thresholds: dict[Kind, float],
    calibration: dict[Kind, Calibration],
    source: str,
    validated: tuple[tuple[Kind, ...], str],
) -> dict[str, CladeSettings]:
    """The same settings for every clade, validated for one of them at the most.

    Args:
        clade: The clade of the dev data.
        thresholds: Probability threshold per kind of call.
        calibration: Calibration per kind of call.
        source: Name of the dev data, for the note.
        validated: Kinds that are validated for `clade`, and the figures in words, from `reached`.
    """
    kinds, figures = validated
    return {
        name: CladeSettings(
            0, thresholds, calibration, kinds if name == clade else (),
            f"calibrated on {source}; {figures}" if name == clade else f"no data of this clade: calibrated on {source}",
        )
        for name in CLADES
    }  # fmt: skip


def best_threshold(found: list[Candidates], calibration: Calibration) -> tuple[float, dict[str, float]]:
    """The probability threshold with the highest F1 over all candidates of all genomes together, each with its weight.

    Args:
        found: The candidates of the validation genomes.
        calibration: Calibration of their logits.

    Returns:
        Threshold, rounded to 3 decimals (of equally good ones the middle one), and precision, recall and F1 there.
    """
    tried = []
    sides = []
    for c in found:
        probability = 1 / (1 + np.exp(-(calibration.scale * c.logit + calibration.bias)))
        sides.append((np.sort(probability), np.sort(probability[c.right]), c.weight))
    truth = sum(c.weight * c.truth for c in found)
    for threshold in np.arange(0.02, 0.99, 0.005):
        called = sum(weight * (len(every) - int(np.searchsorted(every, threshold))) for every, _, weight in sides)
        good = sum(weight * (len(hits) - int(np.searchsorted(hits, threshold))) for _, hits, weight in sides)
        precision, recall = good / (called or 1), good / (truth or 1)
        f1 = 2 * precision * recall / max(precision + recall, 1e-12)
        tried.append((round(float(threshold), 3), {"precision": precision, "recall": recall, "f1": f1}))
    highest = max(figures["f1"] for _, figures in tried)
    equal = [pair for pair in tried if pair[1]["f1"] == highest]
    return equal[len(equal) // 2]
