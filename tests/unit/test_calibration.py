"""Calibration on local maxima."""

from __future__ import annotations

import numpy as np

from annotator.kinds import Kind
from annotator.training.calibrate import Candidates, calibrated_on, fit_calibration


def test_maxima_worth_the_name_that_are_all_right_leave_the_first_fit() -> None:
    """They alone would settle nothing, and the logits would be taken for log-odds."""
    logit = np.concatenate([np.full(5000, -12.0), np.full(200, -2.0)])
    right = np.concatenate([np.zeros(5000, bool), np.ones(200, bool)])
    found = calibrated_on(Kind.DONOR, [Candidates(logit, right, 200)])
    assert found == fit_calibration(logit, right)
    assert found.probability(np.array([-2.0])) > 0.9
