"""Settings that must hold before the first test module is imported, and the fixtures every folder shares."""

import importlib.metadata
import os
from pathlib import Path
from typing import Any

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is decorated: later it has no effect

torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)  # two processes of one thread, or one of two


def _mend_the_interpreter() -> None:
    """Triton before 3.7 makes an index of its tensors, NumPy arrays of one element, in a way that NumPy 2.4 refuses."""
    try:
        version = importlib.metadata.version("triton").split(".")
    except importlib.metadata.PackageNotFoundError:
        return
    if (int(version[0]), int(version[1])) >= (3, 7):
        return
    from triton.runtime import interpreter

    patch_as_shipped = interpreter._patch_lang_tensor

    def patch(tensor: type, scope: Any) -> None:
        patch_as_shipped(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patch


if os.environ.get("TRITON_INTERPRET") == "1":
    _mend_the_interpreter()


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
