"""Options of the training loop: learning rates worked out by hand, defaults that weights were made with, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from annotator.cli.recipe import read_recipe
from annotator.kinds import CLADES, Kind
from annotator.models.families.compact.net import CompactConfig
from annotator.training.calibrate import fit_calibration, fit_rising_calibration
from annotator.training.compact.options import RECIPE, TrainOptions
from annotator.training.finetune.options import FinetuneOptions
from annotator.training.pretrain.options import PretrainOptions


def test_a_rate_is_held_and_then_falls() -> None:
    options = TrainOptions(steps=10, learning_rate=1.0, warmup_steps=2, decay_steps=4)
    assert [options.rate(step) for step in range(10)] == [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]


def test_a_rate_falls_from_the_end_of_the_warm_up() -> None:
    pretrain = PretrainOptions(steps=6, learning_rate=1.0, warmup_steps=2)
    finetune = FinetuneOptions(learning_rate=1.0, warmup_share=0.3).for_steps(6, validate_steps=3)
    assert finetune.warmup_steps == 2
    for options in (pretrain, finetune):
        assert [options.rate(step) for step in range(6)] == [0.5, 1, 1, 0.75, 0.5, 0.25]


def test_every_task_keeps_the_values_its_weights_were_made_with() -> None:
    fields = ("weight_decay", "betas", "epsilon", "clip", "ema")
    values = [tuple(getattr(kind(), name) for name in fields) for kind in (TrainOptions, PretrainOptions, FinetuneOptions)]
    assert values == [
        (0.01, (0.9, 0.98), 1e-8, 5.0, 0.999), (0.01, (0.9, 0.98), 1e-6, 1.0, 0.0), (0.01, (0.9, 0.999), 1e-8, 1.0, 0.0)
    ]  # fmt: skip


def test_the_bundled_recipe_is_read() -> None:
    recipe = read_recipe(RECIPE, Path(), "compact")
    options = recipe.train
    assert (options.steps, options.batch_windows, options.decay_steps, options.truth_share) == (12_000, 16, 4200, 0.3)
    assert sum(entry.weight for entry in recipe.organisms) == pytest.approx(1)
    assert {entry.clade for entry in recipe.organisms} == set(CLADES) == {entry.clade for entry in recipe.validation}
    # never learnt from, and never tuned on: they are what claims are made on
    named = [path.name for entry in (*recipe.organisms, *recipe.validation) for path in (entry.fasta, *entry.teacher)]
    assert not [name for name in named if ".test." in name or name.startswith(("scerevisiae", "athaliana", "kimperatae.val"))]


def test_the_bundled_recipe_scans_with_halos_that_its_network_needs() -> None:
    recipe = read_recipe(RECIPE, Path(), "compact")
    config = CompactConfig(**(recipe.architecture | {"dilations": tuple(recipe.architecture["dilations"])}))
    assert config.clades == 5 and config.flops_per_base() < 0.18e6
    assert recipe.plan["halo_bp"] >= config.reach_bp + recipe.k + max(recipe.radius_bp.values())
    assert recipe.plan["halo_bp"] % recipe.plan["align_bp"] == 0 and recipe.windows.window_bp % config.step_bp == 0


def test_the_files_of_the_bundled_recipe_are_in_the_data_pack(data_pack: Path) -> None:
    recipe = read_recipe(RECIPE, data_pack, "compact")
    for entry in (*recipe.organisms, *recipe.promoters, *recipe.validation):
        assert all(path.is_file() for paths in entry.files.values() for path in paths)


def test_a_calibration_of_scores_that_say_the_opposite_is_nearly_flat(caplog: pytest.LogCaptureFixture) -> None:
    logit, right = np.array([-2.0, -1.0, 1.0, 2.0]), np.array([True, True, False, False])
    assert fit_calibration(logit, right).scale < 0
    flat = fit_rising_calibration(Kind.DONOR, logit, right)
    assert 0 < flat.scale < 0.01 and flat.bias == 0 and "donor: on the validation data" in caplog.text
    assert fit_rising_calibration(Kind.DONOR, -logit, right) == fit_calibration(-logit, right)
