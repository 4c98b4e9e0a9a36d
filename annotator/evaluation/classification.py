"""Accuracy of classifiers of whole sequences, in the measures GUE and DNABERT are reported in.

The class of a sequence is the one with the highest logit (of equals the first). Areas rank sequences by the log-odds of a class
against all others, so that no probability is rounded to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from annotator.evaluation.metrics import average_precision

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class ClassScores:
    """How well sequences were classified.

    Attributes:
        sequences: How many.
        classes: How many classes the model knows.
        mcc: Matthews correlation (Gorodkin's R_K for more than two classes); 0 where all sequences are given one class.
        f1: F1 of class 1 for two classes, `f1_macro` for more.
        f1_macro: Mean F1 of the classes that occur in truth or in what is predicted.
        accuracy: Share of sequences given their class.
        auroc: Area under the ROC curve: of class 1, or the mean over classes against the rest; NaN where a class is absent.
        auprc: Average precision, likewise.
    """

    sequences: int
    classes: int
    mcc: float
    f1: float
    f1_macro: float
    accuracy: float
    auroc: float
    auprc: float


def class_scores(logits: ArrayLike, labels: ArrayLike) -> ClassScores:
    """All measures of one classified table.

    Args:
        logits: Logits of each class, [n, classes], n > 0.
        labels: Class of each sequence, [n].

    Returns:
        The measures.
    """
    values, truth = np.asarray(logits, np.float64), np.asarray(labels, np.int64)
    if values.ndim != 2 or len(values) != len(truth) or not len(truth) or values.shape[1] < 2:
        raise ValueError(f"logits {values.shape} and labels {truth.shape} should be [n, classes] and [n]")
    if not np.isfinite(values).all():
        raise ValueError("a logit is NaN or infinite")
    classes = values.shape[1]
    table = confusion(truth, values.argmax(1), classes)
    odds = class_log_odds(values)
    chosen = [1] if classes == 2 else list(range(classes))
    return ClassScores(
        sequences=len(truth),
        classes=classes,
        mcc=mcc(table),
        f1=float(f1_by_class(table)[1]) if classes == 2 else f1_macro(table),
        f1_macro=f1_macro(table),
        accuracy=float(np.trace(table) / table.sum()),
        auroc=float(np.mean([auroc(odds[:, k], truth == k) for k in chosen])),
        auprc=float(np.mean([average_precision(odds[:, k], truth == k) for k in chosen])),
    )


def confusion(labels: ArrayLike, predicted: ArrayLike, classes: int) -> Counts:
    """How often each class (row) was given each class (column), int64, [classes, classes]."""
    truth, given = np.asarray(labels, np.int64), np.asarray(predicted, np.int64)
    return np.bincount(truth * classes + given, minlength=classes**2).astype(np.int64).reshape(classes, classes)


def mcc(table: Counts) -> float:
    """Matthews correlation of a confusion table; for K classes Gorodkin's R_K (2004, Comput Biol Chem 28:367).

    Returns:
        -1..1; 0 where truth or prediction is of one class.
    """
    counts = table.astype(np.float64)
    total, truth, given = counts.sum(), counts.sum(1), counts.sum(0)
    spread = (total**2 - truth @ truth) * (total**2 - given @ given)
    return float((np.trace(counts) * total - truth @ given) / np.sqrt(spread)) if spread > 0 else 0.0


def f1_by_class(table: Counts) -> Floats:
    """F1 of each class of a confusion table, float64, [classes]; NaN for one that neither truth nor prediction holds."""
    occurs = table.sum(0) + table.sum(1)
    result = np.full(len(table), np.nan)
    np.divide(2.0 * np.diag(table), occurs, out=result, where=occurs > 0)
    return result


def f1_macro(table: Counts) -> float:
    """Mean F1 of the classes that occur in truth or prediction."""
    return float(np.nanmean(f1_by_class(table)))


def auroc(scores: ArrayLike, is_truth: ArrayLike) -> float:
    """Area under the ROC curve: how often a positive ranks above a negative, equals counting half.

    Args:
        scores: Anything that ranks, [n].
        is_truth: Whether each is positive, [n].

    Returns:
        0..1; NaN without a positive or without a negative.
    """
    values, truth = np.asarray(scores, np.float64), np.asarray(is_truth, bool)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return float("nan")
    _, run, sizes = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(sizes) - (sizes - 1) / 2.0  # 1-based, of each run of equals
    return float((mean_rank[run][truth].sum() - positives * (positives + 1) / 2.0) / (positives * negatives))


def class_log_odds(logits: ArrayLike) -> Floats:
    """Log-odds of each class against all others, of softmax logits [n, classes]; float64, of the same shape."""
    values = np.asarray(logits, np.float64)
    result = np.empty_like(values)
    for k in range(values.shape[1]):
        others = np.delete(values, k, axis=1)
        highest = others.max(1)
        result[:, k] = values[:, k] - highest - np.log(np.exp(others - highest[:, None]).sum(1))
    return result
