"""Training of a model of bound sites: hits in, a calibrated network out."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from annotator.calls.bound_hits import surprise
from annotator.errors import InputError
from annotator.evaluation.classification import auroc
from annotator.evaluation.metrics import average_precision
from annotator.models.bound.manifest import BoundConfig
from annotator.models.bound.net import BoundEnsemble, BoundNet
from annotator.models.manifest import Calibration
from annotator.motifs.scan import MotifScanner
from annotator.training.bound.hits import LabelledHits
from annotator.training.bound.options import BoundTraining
from annotator.training.calibrate import fit_calibration

logger = logging.getLogger(__name__)

WARM_UP = 0.2
"""Share of the steps over which the learning rate rises."""


def learn(
    train: LabelledHits,
    val: LabelledHits,
    factors: Sequence[str],
    scanner: MotifScanner,
    options: BoundTraining,
    config: BoundConfig,
) -> tuple[BoundEnsemble, dict[str, Calibration], dict[str, dict[str, float]]]:
    """Train networks on hits, and calibrate their mean on others.

    Args:
        train: Hits to learn from.
        val: Hits that choose the epoch of each network, by its mean log loss, and settle the calibration.
        factors: Names of the factors that the hits count.
        scanner: The hits' scanner, whose matrices the first filters begin with.
        options: How to learn.
        config: Shape of the network.

    Returns:
        The networks in eval mode, a calibration per factor, and figures of the validation hits per factor.

    Raises:
        InputError: A factor has no bound or no unbound hit on one side.
    """
    for name, hits in (("training", train), ("validation", val)):
        for index, factor in enumerate(factors):
            bound = hits.bound[hits.factor == index]
            if not bound.any() or bound.all():
                raise InputError(
                    f"{factor}: of {len(bound)} {name} hits {int(bound.sum())} lie in a peak; some have to, and some not"
                )
    if _drawn(train, options) < options.batch_hits:
        raise InputError(f"{len(train)} training hits are too few for a step of {options.batch_hits}")
    nets = [_learn_one(train, val, factors, scanner, options, config, member) for member in range(config.networks)]
    model = BoundEnsemble(nets).eval()
    logits = score(model, val)
    calibration, figures = {}, {}
    for index, factor in enumerate(factors):
        mine = val.factor == index
        calibration[factor] = _calibrated(factor, logits[mine], val.bound[mine])
        figures[factor] = {
            "hits": float(mine.sum()), "bound": float(val.bound[mine].sum()),
            "auroc": round(auroc(logits[mine], val.bound[mine]), 4),
            "auprc": round(average_precision(logits[mine], val.bound[mine]), 4),
            "auroc_of_p_value": round(auroc(-val.p_value[mine], val.bound[mine]), 4),
        }  # fmt: skip
    return model, calibration, figures


def _learn_one(
    train: LabelledHits, val: LabelledHits, factors: Sequence[str], scanner: MotifScanner, options: BoundTraining,
    config: BoundConfig, member: int,
) -> BoundNet:  # fmt: skip
    """One network of the model, as it was after its best epoch, in eval mode; `member` is its number."""
    torch.manual_seed(options.seed + member)
    net = BoundNet(config, len(factors))
    begin_with_motifs(net, scanner, options.filter_scale)
    others = [weight for name, weight in net.named_parameters() if name != "filters"]
    peaks = [options.learning_rate / 2, options.learning_rate]
    groups: list[dict[str, Any]] = [{"params": [net.filters], "weight_decay": 0.0, "lr": peaks[0]}, {"params": others}]
    optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, weight_decay=options.weight_decay)
    steps = options.epochs * (_drawn(train, options) // options.batch_hits)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, total_steps=steps, pct_start=WARM_UP)
    tensors = as_tensors(train)
    best, lowest = copy.deepcopy(net).eval(), float("inf")
    for epoch in range(options.epochs):
        net.train()
        losses = []
        for some in _batches(train, options, (options.seed, member, epoch)):
            loss = F.binary_cross_entropy_with_logits(net(*(t[some] for t in tensors[:3]), options.dropout), tensors[3][some])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        net.eval()
        logits = score(net, val)
        missed = _log_loss(logits, val, len(factors))
        areas = ", ".join(
            f"{name} {auroc(logits[val.factor == i], val.bound[val.factor == i]):.3f}" for i, name in enumerate(factors)
        )
        logger.info(
            "network %d, epoch %d: loss %.4f, validation %.4f, AUROC %s", member + 1, epoch + 1, np.mean(losses), missed, areas
        )
        if missed < lowest:
            best, lowest = copy.deepcopy(net), missed
    return best


def begin_with_motifs(net: BoundNet, scanner: MotifScanner, scale: float) -> None:
    """Let the first filters be the scanner's motifs, so that a few thousand hits suffice; the others stay random."""
    with torch.no_grad():
        for filled, matrix in zip(net.filters, scanner.matrices, strict=False):
            log_odds = torch.from_numpy(matrix.log_odds[: net.config.filter_bp].T.astype(np.float32))
            at = (net.config.filter_bp - log_odds.shape[1]) // 2
            filled.zero_()
            filled[:, at : at + log_odds.shape[1]] = scale * log_odds


def as_tensors(hits: LabelledHits) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows, surprise, factor and label of hits, as the network and the loss want them."""
    label = torch.from_numpy(hits.bound.astype(np.float32))
    return torch.from_numpy(hits.rows), surprise(hits.p_value), torch.from_numpy(hits.factor), label


def score(net: BoundNet | BoundEnsemble, hits: LabelledHits) -> NDArray[np.float32]:
    """Logits of hits by networks in eval mode, float32, [n]."""
    rows, surprises, factor, _ = as_tensors(hits)
    with torch.inference_mode():
        parts = [net(*(t[at : at + 512] for t in (rows, surprises, factor))) for at in range(0, len(hits), 512)]
    logits: NDArray[np.float32] = torch.cat(parts).numpy()
    return logits


def _drawn(hits: LabelledHits, options: BoundTraining) -> int:
    """Hits of an epoch."""
    bound = int(hits.bound.sum())
    return bound + round(options.negatives * (len(hits) - bound))


def _batches(hits: LabelledHits, options: BoundTraining, seed: tuple[int, ...]) -> Iterator[Tensor]:
    """Indices of the hits of each step: all bound ones, and a share of the others drawn anew."""
    rng = np.random.default_rng(seed)
    bound, free = np.flatnonzero(hits.bound), np.flatnonzero(~hits.bound)
    chosen = rng.permutation(np.concatenate([bound, rng.choice(free, _drawn(hits, options) - len(bound), replace=False)]))
    for at in range(0, len(chosen) - options.batch_hits + 1, options.batch_hits):
        yield torch.from_numpy(chosen[at : at + options.batch_hits])


def _log_loss(logits: NDArray[np.float32], hits: LabelledHits, factors: int) -> float:
    """Mean over the factors of the log loss of calibrated probabilities: training draws fewer unbound hits than there are."""
    losses = []
    for index in range(factors):
        mine = hits.factor == index
        fit = fit_calibration(logits[mine], hits.bound[mine])
        p = np.clip(fit.probability(logits[mine]), 1e-6, 1 - 1e-6)
        losses.append(-np.mean(np.log(np.where(hits.bound[mine], p, 1 - p))))
    return float(np.mean(losses))


def _calibrated(factor: str, logits: NDArray[np.float32], bound: NDArray[np.bool_]) -> Calibration:
    """The calibration of a factor.

    Raises:
        InputError: The scores are no better than chance, so that no rising curve fits.
    """
    fit = fit_calibration(logits, bound)
    if not fit.scale > 0:
        raise InputError(f"{factor}: on the validation hits the scores are no better than chance; no model was written")
    return fit
