"""Settings that must hold before the first test module is imported, and the fixtures every folder shares."""

import os
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is decorated: later it has no effect

torch.set_num_threads(2)


@pytest.fixture(scope="session")
def data_pack() -> Path:
    """The folder of real genomes and labels."""
    root = Path(__file__).parents[1]
    folder = Path(os.environ.get("ANNOTATOR_DATA", root.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data pack at {folder}; set ANNOTATOR_DATA")
    return folder


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device in turn; cuda is skipped where there is none."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)
