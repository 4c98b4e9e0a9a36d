"""Measures of classified sequences against scikit-learn, and by hand."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from annotator.evaluation.classification import auroc, class_log_odds, class_scores, confusion, f1_by_class, f1_macro, mcc


def case(seed: int, classes: int, levels: int | None = None) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits that know something of random, uneven labels; few levels make many ties."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, 300, p=np.arange(1, classes + 1) / sum(range(1, classes + 1)))
    logits = rng.normal(size=(300, classes)) * 2 + 1.5 * np.eye(classes)[labels]
    return (logits if levels is None else np.round(logits * levels) / levels), labels


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.parametrize("classes", [2, 3, 9])
def test_measures_are_those_of_scikit_learn(seed: int, levels: int | None, classes: int) -> None:
    from sklearn import metrics

    logits, labels = case(seed, classes, levels)
    assert set(labels) == set(range(classes)) and (levels is None or len(np.unique(logits)) < 40)
    given = logits.argmax(1)
    odds = class_log_odds(logits)
    found = class_scores(logits, labels)
    ovr = [(labels == k, odds[:, k]) for k in ([1] if classes == 2 else range(classes))]
    expected = {
        "sequences": 300,
        "classes": classes,
        "mcc": metrics.matthews_corrcoef(labels, given),
        "f1": metrics.f1_score(labels, given, average="binary" if classes == 2 else "macro"),
        "f1_macro": metrics.f1_score(labels, given, average="macro"),
        "accuracy": metrics.accuracy_score(labels, given),
        "auroc": np.mean([metrics.roc_auc_score(*pair) for pair in ovr]),
        "auprc": np.mean([metrics.average_precision_score(*pair) for pair in ovr]),
    }
    assert vars(found) == {name: pytest.approx(value, abs=1e-12) for name, value in expected.items()}
    assert 0.05 < found.mcc < 0.9, "a case at the ends of the scale would show little"


@pytest.mark.parametrize("classes", [2, 4])
def test_log_odds_are_those_of_the_softmax(classes: int) -> None:
    logits, _ = case(1, classes)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert class_log_odds(logits) == pytest.approx(np.log(p / (1 - p)), abs=1e-9)
    assert np.isfinite(class_log_odds(logits * 1000)).all()


def test_sure_predictions_still_rank() -> None:
    """Both probabilities are 1.0 in float64; one is nevertheless the surer."""
    logits, labels = np.array([[0.0, 50.0], [0.0, 60.0]]), np.array([0, 1])
    assert class_scores(logits, labels).auroc == 1.0


def test_by_hand() -> None:
    table = confusion([0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 1, 0], 2)
    assert table.tolist() == [[2, 1], [1, 2]]
    assert mcc(table) == pytest.approx((2 * 2 - 1 * 1) / math.sqrt(3 * 3 * 3 * 3))
    assert f1_by_class(table).tolist() == pytest.approx([2 / 3, 2 / 3])
    assert auroc([0.1, 0.5, 0.5, 0.9], [False, False, True, True]) == pytest.approx(3.5 / 4)


def test_one_class_only() -> None:
    always = confusion([0, 1, 1], [1, 1, 1], 2)
    assert mcc(always) == 0.0
    assert f1_by_class(always).tolist() == [0.0, pytest.approx(0.8)]
    single = class_scores([[0.0, 1.0], [0.0, 2.0]], [1, 1])
    assert (single.mcc, single.accuracy, single.f1_macro) == (0.0, 1.0, 1.0)
    assert math.isnan(single.auroc)


def test_classes_that_do_not_occur_are_left_out_of_the_mean() -> None:
    table = confusion([0, 1, 1], [0, 1, 0], 5)
    assert f1_macro(table) == pytest.approx((2 / 3 + 2 / 3) / 2)


@pytest.mark.parametrize(
    ("logits", "labels"),
    [(np.zeros((3, 2)), [0, 1]), (np.zeros((0, 2)), []), (np.zeros(3), [0, 1, 0]), (np.zeros((2, 1)), [0, 0]),
     ([[0.0, np.nan]], [0]), ([[0.0, np.inf]], [0])],
    ids=["length", "empty", "one row", "one class", "nan", "infinity"],
)  # fmt: skip
def test_impossible_input_is_refused(logits: object, labels: list[int]) -> None:
    with pytest.raises(ValueError):
        class_scores(logits, labels)  # type: ignore[arg-type]
