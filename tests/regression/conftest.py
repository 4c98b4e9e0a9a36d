"""A toy genome, and what an undisturbed run makes of it: for the tests of what may go wrong on the way."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from tests.support.detector import write_detector
from tests.support.runs import results
from tests.support.toy_runs import toy_genome, toy_run


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model directory whose manifest a toy run follows."""
    return write_detector(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several contigs, many shards."""
    return toy_genome(tmp_path_factory.mktemp("genome") / "g.fa")


@pytest.fixture(scope="session")
def undisturbed(model: Path, fasta: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The result files of a run in this process."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    assert toy_run(fasta, out, model) == 0
    assert len(pl.read_parquet(out / "predictions.parquet")) > 30
    return results(out)
