"""`annotator doctor`: what it prints, and when it fails."""

from __future__ import annotations

import contextlib
import io
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from annotator import doctor
from annotator.cli.app import main
from annotator.models import directory as registry
from annotator.models.directory import bundled_models
from annotator_kernels.kmer import op as kmer
from annotator_kernels.local_maxima import op as local_maxima
from tests.support.kernels import KERNELS

MOST_SECONDS = 30
"""Twice what it may take on two free cores: tests share theirs."""


def run(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `annotator doctor ARGUMENTS`."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["doctor", *arguments])
    return code, out.getvalue(), err.getvalue()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the measurements."""
    monkeypatch.setattr(doctor, "copy_bandwidth", lambda device: 2e10)
    monkeypatch.setattr(doctor, "matrix_rate", lambda device, dtype, shapes=None: 1.5e11)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.mark.usefixtures("no_gpu")
def test_findings_as_json_measured_on_the_cpu() -> None:
    began = time.monotonic()
    code, out, err = run("--json", "--threads", "1")
    assert time.monotonic() - began < MOST_SECONDS
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    assert found["device"]["asked"] == "auto" and found["device"]["chosen"] == "cpu" and found["device"]["reason"]
    assert found["threads"] == 1 and [facts["device"] for facts in found["devices"]] == ["cpu"]
    assert {"annotator", "python", "torch", "triton", "transformers", "ray", "polars", "pysam"} <= set(found["versions"])
    assert found["versions"]["torch"].startswith(torch.__version__.partition("+")[0])
    assert set(found["rates"]) == {"device", "copy_bytes_per_s", "float32_flop_per_s", "bfloat16_flop_per_s"}
    assert found["rates"]["copy_bytes_per_s"] > 1e8 and found["rates"]["float32_flop_per_s"] > 1e8
    assert [model["name"] for model in found["models"]] == bundled_models() and all(model["ok"] for model in found["models"])
    assert all(re.fullmatch("[0-9a-f]{64}", model["sha256"]) for model in found["models"])
    assert [kernel["name"] for kernel in found["kernels"]] == KERNELS
    assert all(kernel["ok"] and kernel["path"].startswith("torch") for kernel in found["kernels"])
    assert found["network"].startswith("offline") and found["faults"] == []


@pytest.mark.usefixtures("no_gpu", "quick")
def test_text_is_aligned_and_says_the_same() -> None:
    code, out, err = run("--device", "cpu", "-t", "2")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[-1] == "All checks passed."
    assert "  cpu            cpu (asked for)" in lines
    assert any(re.fullmatch(r"  cpu            .+, 2 threads, .+ memory, .+ free", line) for line in lines)
    assert "  memory copy    20 GB/s read and written" in lines and "  float32        150 GFLOP/s in matrix products" in lines
    assert "  offline: nothing is downloaded unless asked for" in lines
    assert any(line.startswith("  compact        ok    version ") and line.endswith("sha256 verified") for line in lines)
    for name in KERNELS:
        assert any(line.startswith(f"  {name:<14} ok    torch (no CUDA tensor): ") for line in lines)
    for line in lines:
        assert line == line.rstrip() and len(line) < 200


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("arguments", [[], ["--json"]], ids=["text", "json"])
def test_a_wrong_kernel_is_exit_5_and_named(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    right = kmer.kmer_tokenize_reference
    monkeypatch.setattr(kmer, "kmer_tokenize_reference", lambda *a, **o: right(*a, **o) + 1)
    code, out, err = run("--device", "cpu", *arguments)
    assert code == 5
    assert err.startswith("annotator: error: kernel kmer_tokenize: ids: ") and err.count("\n") == 1
    if arguments:
        found = json.loads(out)
        assert [kernel["name"] for kernel in found["kernels"] if not kernel["ok"]] == ["kmer_tokenize"]
        assert len(found["faults"]) == 1
    else:
        assert "  kmer_tokenize  FAIL  torch (no CUDA tensor): ids: " in out
        assert "  pwm_scan       ok    " in out and out.endswith("\n1 CHECK FAILED\n")


@pytest.mark.usefixtures("quick")
def test_a_kernel_that_raises_is_exit_5_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise RuntimeError("an illegal memory access")

    monkeypatch.setattr(local_maxima, "local_maxima_reference", broken)
    code, out, err = run("--device", "cpu")
    assert (code, err) == (5, "annotator: error: kernel local_maxima: RuntimeError: an illegal memory access\n")
    assert "local_maxima   FAIL" in out and "Traceback" not in out


@pytest.mark.usefixtures("quick")
def test_a_damaged_or_missing_bundled_model_is_exit_5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = registry.BUNDLED / "compact"
    folder = tmp_path / "compact"
    folder.mkdir()
    (folder / "manifest.json").write_bytes((source / "manifest.json").read_bytes())
    data = bytearray((source / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    monkeypatch.setattr(registry, "BUNDLED", tmp_path)
    code, out, err = run("--device", "cpu")
    assert code == 5 and "model compact: " in err and "sha256" in err and err.count("\n") == 1
    assert "  compact        FAIL  " in out
    monkeypatch.setattr(registry, "BUNDLED", tmp_path / "nothing")
    code, out, err = run("--device", "cpu")
    assert (code, err) == (5, "annotator: error: no bundled model: install genome-annotator again\n")
    assert "  none           FAIL  install genome-annotator again" in out


@pytest.mark.usefixtures("no_gpu", "quick")
@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--device", "cuda"], 5), (["--device", "cuda:1"], 5), (["--device", "tpu"], 2), (["--threads", "-1"], 2)],
    ids=["no cuda", "no second cuda", "no such kind", "negative threads"],
)
def test_wrong_options_print_nothing_but_one_line(arguments: list[str], code: int) -> None:
    found, out, err = run(*arguments)
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert err.startswith(f"annotator: error: {arguments[0]} {arguments[1]}: ")


@pytest.mark.usefixtures("quick")
def test_a_gpu_that_cannot_be_used_is_exit_5(monkeypatch: pytest.MonkeyPatch) -> None:
    def held(device: torch.device) -> dict[str, str | int]:
        if device.type == "cuda":
            raise RuntimeError("CUDA error: devices are busy\nor unavailable")
        return {"device": "cpu", "name": "a CPU"}

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(doctor, "describe_device", held)
    line = "annotator: error: cuda:{} cannot be used: CUDA error: devices are busy or unavailable\n"
    for device, index in (("auto", 0), ("cuda", 0), ("cuda:1", 1)):
        assert run("--device", device) == (5, "", line.format(index))
    code, out, _ = run("--device", "cpu")
    assert code == 0 and "  cuda:1         cannot be used: CUDA error: devices are busy or unavailable" in out


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_every_kernel_runs_compiled() -> None:
    code, out, err = run("--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["device"]["chosen"] == "cuda" and found["devices"][1]["name"]
    assert {kernel["path"] for kernel in found["kernels"]} == {"triton"}
    assert {"bfloat16_flop_per_s", "float32_flop_per_s"} <= set(found["rates"])


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--help"]) == 0
    assert "Example: annotator doctor" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (25_276_502_016, "25.3 GB"), (999_600, "1 MB"), (7.4e14, "740 TB")],
)
def test_amounts(count: float, text: str) -> None:
    assert doctor._amount(count, "B") == text
