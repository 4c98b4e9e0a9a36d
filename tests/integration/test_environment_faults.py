"""Rows E02, E03, E06 and E07 of the fault matrix: no GPU, no triton, bad model files, no network."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from annotator.cli.app import main
from annotator.errors import EnvironmentFault, UsageError
from annotator.models import device as device_module
from annotator.models.device import choose_device
from annotator_kernels import backends
from annotator_kernels.backends import Backend, BackendError, chosen_backends, run_kernel
from tests.support.detector import ACCEPTOR, DONOR, write_detector
from tests.support.kernels import KERNELS, WRAPPERS
from tests.support.runs import plant, random_bases, results, revcomp, table, write_fasta

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_detector(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    text = random_bases(3000, 4)
    for at in range(50, 2900, 190):
        text = plant(plant(text, DONOR, at), revcomp(ACCEPTOR), at + 90)
    return write_fasta(tmp_path_factory.mktemp("genome") / "g.fa", {"c": text})


def command(model: Path, fasta: Path, out: Path, *more: str) -> list[str]:
    return ["annotate", str(fasta), "-o", str(out), "--model", str(model), "--tasks", "splice", "-t", "1", *more]


@pytest.fixture(autouse=True)
def plain_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log lines reach caplog, whatever a command of an earlier test has set up."""
    for name in ("annotator", "annotator_kernels"):
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
        monkeypatch.setattr(logging.getLogger(name), "handlers", [])


# --- E02: no GPU


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without a GPU and without a sign of one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(device_module, "_NVIDIA_DRIVER", tmp_path / "no driver")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
def test_E02_a_gpu_asked_for_and_absent_is_exit_5_in_one_line(
    device: str, model: Path, fasta: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(model, fasta, tmp_path / "out", "--device", device, "--quiet")) == 5
    error = capsys.readouterr().err
    assert error.startswith(f"annotator: error: --device {device}: no such device here (") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(("hidden", "level"), [(True, "WARNING"), (False, "INFO")], ids=["GPU hidden", "no sign of a GPU"])
def test_E02_auto_takes_the_cpu_and_says_so_once(
    hidden: bool,
    level: str,
    model: Path,
    fasta: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if hidden:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert main(command(model, fasta, tmp_path / "out")) == 0
    error = capsys.readouterr().err
    (line,) = [line for line in error.splitlines() if "device" in line.lower() and "chosen automatically" in line]
    assert f" {level} device: cpu (chosen automatically: torch " in line
    assert error.count(" WARNING ") == hidden
    assert json.loads((tmp_path / "out" / "run.json").read_text())["plan"]["device"] == "cpu"


@pytest.mark.usefixtures("no_gpu")
def test_E02_a_gpu_that_torch_cannot_reach_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    (tmp_path / "version").write_text("NVRM version: 470.1")
    monkeypatch.setattr(device_module, "_NVIDIA_DRIVER", tmp_path / "version")
    monkeypatch.setattr(torch.version, "cuda", "12.8")

    def old_driver() -> bool:
        warnings.warn("CUDA initialization: the NVIDIA driver is too old\n(found version 11040).", UserWarning, stacklevel=2)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", old_driver)
    with caplog.at_level(logging.INFO, "annotator"):
        assert choose_device("auto") == "cpu"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    reason = "CUDA initialization: the NVIDIA driver is too old (found version 11040)."
    assert record.getMessage() == f"device: cpu (chosen automatically: {reason})"


@pytest.mark.usefixtures("no_gpu")
def test_E02_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    assert device_module.cuda_fault() == f"torch {torch.__version__} is built without CUDA"
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    assert device_module.cuda_fault() == "torch finds no CUDA device"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "9")
    assert device_module.cuda_fault() == "torch finds no CUDA device with CUDA_VISIBLE_DEVICES='9'"


def test_E02_choices_where_there_are_two_gpus(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with caplog.at_level(logging.INFO, "annotator"):
        assert [choose_device(name) for name in ("auto", "cpu", "cuda", "cuda:1")] == ["cuda", "cpu", "cuda", "cuda:1"]
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.INFO, "device: cuda (chosen automatically: torch finds a CUDA device)")
    ]
    with pytest.raises(EnvironmentFault, match=r"^device='cuda:2': no such device here \(CUDA devices: 2\)"):
        choose_device("cuda:2")
    for name in ("cuda:", "cuda:-1", "cuda:x", "cuda:²", "gpu", ""):
        with pytest.raises(UsageError, match=f"^device='{name}': choose auto, cpu, cuda or cuda:N"):
            choose_device(name)


# --- E03: no triton

WITHOUT_TRITON = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "triton":
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocked())
from annotator.cli.app import main
code = main(sys.argv[1:])
assert "triton" not in sys.modules
sys.exit(code)
"""


def run_python(script: str, arguments: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    env |= {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])} | variables
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], env=env, capture_output=True, text=True, timeout=300, check=False
    )


def test_E03_without_triton_the_calls_are_the_same(model: Path, fasta: Path, tmp_path: Path) -> None:
    assert main(command(model, fasta, tmp_path / "with", "--quiet", "--device", "cpu")) == 0
    done = run_python(WITHOUT_TRITON, command(model, fasta, tmp_path / "without", "--quiet", "--device", "cpu"))
    assert (done.returncode, done.stderr) == (0, "")
    assert len(table(tmp_path / "with")) > 20
    assert results(tmp_path / "without") == results(tmp_path / "with")


@pytest.fixture
def fresh_choices(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(backends, "_chosen", {})
    monkeypatch.setattr(backends, "_given_up", set())
    yield


def run_on_a_gpu(kernel: str, backend: Backend) -> str:
    """Run an operation as if on a GPU, with an oracle that says its name."""
    gpu = torch.device("cuda")
    return run_kernel(kernel, WRAPPERS[kernel], lambda: "oracle", lambda f: f(), device=gpu, backend=backend)


class CompilationFault(Exception):
    """Stands for an error of Triton's compiler."""

    __module__ = "triton.compiler.errors"


@pytest.mark.usefixtures("fresh_choices")
@pytest.mark.parametrize("name", KERNELS)
def test_E03_a_kernel_that_cannot_be_built_falls_back_once(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[str] = []

    def load(kernel: str, module: str) -> Callable[..., Any]:
        def wrapper(*arguments: object) -> None:
            tried.append(kernel)
            raise CompilationFault("at 7:12: type mismatch")

        return wrapper

    monkeypatch.setattr(backends, "_load", load)
    for _ in range(3):
        assert run_on_a_gpu(name, "auto") == "oracle"
    assert tried == [name]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and name in record.getMessage() and "does not compile" in record.getMessage()
    assert chosen_backends()[f"{name}/cuda"].startswith("torch (the kernel does not compile: CompilationFault: at 7:12")
    with pytest.raises(CompilationFault):
        run_on_a_gpu(name, "triton")


@pytest.mark.usefixtures("fresh_choices")
@pytest.mark.parametrize("name", KERNELS)
def test_E03_no_kernel_needs_triton_and_one_asked_for_says_it_is_absent(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, WRAPPERS[name], raising=False)
    for _ in range(3):
        assert run_on_a_gpu(name, "auto") == "oracle"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    with pytest.raises(BackendError, match=f"{name}: the triton backend was asked for"):
        run_on_a_gpu(name, "triton")


@pytest.mark.usefixtures("fresh_choices")
def test_E03_a_fault_while_a_kernel_runs_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(backends, "_load", lambda kernel, module: broken)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        run_on_a_gpu("kmer_tokenize", "auto")


# --- E06: bad model files. Each case spoils a good model directory.


class Booby:
    """A pickle of this leaves a file behind where it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return (open, (str(self.marker), "w"))


def change(folder: Path, **fields: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change_inside(folder: Path, part: str, **fields: Any) -> None:
    change(folder, **{part: json.loads((folder / "manifest.json").read_text())[part] | fields})


def put_weights(folder: Path, data: bytes) -> None:
    """Other weights, and the manifest's hash of them."""
    (folder / "model.safetensors").write_bytes(data)
    change(folder, weights_sha256=hashlib.sha256(data).hexdigest())


def put_tensors(folder: Path, spoil: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    spoil(tensors)
    save_file(tensors, path)
    put_weights(folder, path.read_bytes())


def put_pickle(path: Path) -> None:
    torch.save({"weight": Booby(path.parent / "executed")}, path)


def put_pickle_as_safetensors(folder: Path) -> None:
    put_pickle(folder / "model.pt")
    put_weights(folder, (folder / "model.pt").read_bytes())


def put_code(folder: Path, file: str, **fields: Any) -> None:
    """A configuration beside the manifest, and a module that leaves a file behind where it is imported."""
    (folder / file).write_text(json.dumps({"model_type": "esm"} | fields))
    (folder / "modeling_booby.py").write_text(f"open({str(folder / 'executed')!r}, 'w')\n")


def flip_last_byte(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def weights_are_a_folder(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()


def only_a_pickle(folder: Path) -> None:
    for name in ("manifest.json", "model.safetensors"):
        (folder / name).unlink()
    put_pickle(folder / "pytorch_model.bin")
    (folder / "config.json").write_text('{"auto_map": {"AutoModel": "modeling_booby.Model"}}')


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])


CODE = {"AutoModel": "modeling_booby.Model"}
BAD_MODELS: dict[str, tuple[Callable[[Path], Any], int, str]] = {
    "weights missing": (lambda f: (f / "model.safetensors").unlink(), 5, "file of the model is missing"),
    "weights a folder": (weights_are_a_folder, 5, "Is a directory"),
    "manifest missing": (lambda f: (f / "manifest.json").unlink(), 3, "no manifest.json"),
    "truncated": (truncate, 3, "sha256"),
    "truncated, hash adapted": (lambda f: put_weights(f, (f / "model.safetensors").read_bytes()[:-4]), 3, "damaged"),
    "truncated in its header": (lambda f: put_weights(f, (f / "model.safetensors").read_bytes()[:20]), 3, "damaged"),
    "empty": (lambda f: put_weights(f, b""), 3, "damaged"),
    "vast header": (lambda f: put_weights(f, b"\xff" * 7 + b"\x7f{}"), 3, "damaged"),
    "one byte changed": (flip_last_byte, 3, "sha256"),
    "wrong shape": (lambda f: put_tensors(f, lambda t: t.update({"head.bias": torch.zeros(4)})), 3, "has shape [4]"),
    "tensor missing": (lambda f: put_tensors(f, lambda t: t.pop("head.bias")), 3, "tensor head.bias is missing"),
    "tensor too many": (lambda f: put_tensors(f, lambda t: t.update(more=torch.zeros(1))), 3, "unexpected tensor more"),
    "pickle named in the manifest": (lambda f: (put_pickle(f / "model.pt"), change(f, weights="model.pt")), 3, "model.pt"),
    "pickle named safetensors": (put_pickle_as_safetensors, 3, "damaged"),
    "pickle and nothing else": (only_a_pickle, 3, "no model directory"),
    "weights elsewhere": (lambda f: change(f, weights="../model.safetensors"), 3, "must be a .safetensors file beside it"),
    "weights no name": (lambda f: change(f, weights=5), 3, "'weights'"),
    "hash no text": (lambda f: change(f, weights_sha256=None), 3, "'weights_sha256'"),
    "auto_map in the manifest": (lambda f: change(f, auto_map=CODE), 3, "key 'auto_map'"),
    "auto_map in the architecture": (lambda f: change_inside(f, "architecture", auto_map=CODE), 3, "key 'auto_map'"),
    "auto_map beside it": (lambda f: put_code(f, "config.json", auto_map=CODE), 3, "config.json: key 'auto_map'"),
    "auto_map of a tokenizer": (lambda f: put_code(f, "tokenizer_config.json", auto_map=CODE), 3, "key 'auto_map'"),
    "auto_map of a part": (lambda f: put_code(f, "config.json", parts=[{"text": {"auto_map": CODE}}]), 3, "key 'auto_map'"),
    "attention from a hub": (
        lambda f: put_code(f, "config.json", _attn_implementation_internal="some/kernel"), 3, "'_attn_implementation_internal'",
    ),
    "attention by name": (lambda f: put_code(f, "config.json", attn_implementation="someone/kernel"), 3, "'attn_implementation'"),
    "config.json no JSON": (lambda f: (f / "config.json").write_text("{"), 3, "config.json"),
    "family unknown": (lambda f: change(f, family="bert"), 3, "'bert'"),
    "family of another network": (lambda f: change(f, family="dnabert2"), 3, "'tokenizer.file' is missing"),
    "architecture of words": (lambda f: change_inside(f, "architecture", fine_channels="8"), 3, "fine_channels"),
    "architecture negative": (lambda f: change_inside(f, "architecture", trunk_channels=-8), 3, "trunk_channels"),
    "architecture without end": (lambda f: change_inside(f, "architecture", fine_channels=1 << 40), 3, "fine_channels"),
    "architecture far larger": (lambda f: change_inside(f, "architecture", fine_channels=1 << 20), 3, "too small"),
    "tracks fewer": (lambda f: change(f, tracks=["donor"]), 3, "tracks"),
    "track twice": (lambda f: change(f, tracks=["donor", "donor", "tss"]), 3, "tracks"),
    "ids beyond the embedding": (lambda f: change_inside(f, "tokenizer", first_kmer_id=9), 3, "tokenizer has"),
    "windows between the steps": (lambda f: change_inside(f, "plan", align_bp=4), 3, "step_bp"),
    "width even": (lambda f: change_inside(f, "architecture", fine_width=4), 3, "odd"),
    "dilations of words": (lambda f: change_inside(f, "architecture", dilations=["1"]), 3, "dilations"),
    "windows never growing": (lambda f: change_inside(f, "plan", smallest_bp=0), 3, "smallest_bp"),
    "windows aligned to nothing": (lambda f: change_inside(f, "plan", align_bp=0), 3, "align_bp"),
    "k a fraction": (lambda f: change_inside(f, "tokenizer", k=6.5), 3, "tokenizer.k"),
    "manifest without end": (lambda f: (f / "manifest.json").write_text("[" * 100_000), 3, "manifest.json"),
    "manifest no text": (lambda f: (f / "manifest.json").write_bytes(b"\x80\x02}q\x00."), 3, "manifest.json"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_MODELS)
def test_E06_bad_model_files_are_one_line_and_nothing_runs_or_is_written(
    case: str, fasta: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, code, message = BAD_MODELS[case]
    folder = write_detector(tmp_path / "m")
    spoil(folder)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    modules = set(sys.modules)
    assert main(command(folder, fasta, tmp_path / "out", "--quiet")) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and "Traceback" not in error
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert not {name for name in sys.modules.keys() - modules if "booby" in name or name.partition(".")[0] == "transformers"}


def test_E06_a_pickle_given_as_the_model_is_not_read(fasta: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_pickle(tmp_path / "model.pt")
    assert main(command(tmp_path / "model.pt", fasta, tmp_path / "out", "--quiet")) == 5
    error = capsys.readouterr().err
    assert "model.pt' is a file; give a model directory" in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_E06_the_booby_trap_works(tmp_path: Path) -> None:
    """The cases above show nothing unless reading these files the careless way leaves a trace."""
    put_pickle(tmp_path / "model.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the file it opens
        torch.load(tmp_path / "model.pt", weights_only=False)
    assert (tmp_path / "executed").exists()


def test_E06_a_harmless_configuration_beside_the_manifest_is_fine(fasta: Path, tmp_path: Path) -> None:
    folder = write_detector(tmp_path / "m")
    (folder / "config.json").write_text('{"model_type": "compact", "attn_implementation": "sdpa"}')
    assert main(command(folder, fasta, tmp_path / "out", "--quiet")) == 0


# --- E07: no network


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every attempt to reach the network fails, and is noted."""
    attempts: list[str] = []

    def refuse(name: str) -> Callable[..., Any]:
        def call(*arguments: object, **options: object) -> None:
            attempts.append(f"{name}{arguments}")
            raise OSError(f"{name}: the network is absent")

        return call

    for name in ("connect", "connect_ex", "sendto", "bind"):
        monkeypatch.setattr(socket.socket, name, refuse(name))
    for name in ("create_connection", "getaddrinfo", "gethostbyname"):
        monkeypatch.setattr(socket, name, refuse(name))
    return attempts


def test_E07_the_bundled_model_and_motifs_need_no_network(no_network: list[str], fasta: Path, tmp_path: Path) -> None:
    assert main(["annotate", str(fasta), "-o", str(tmp_path / "out"), "-t", "1", "--quiet"]) == 0
    assert len(table(tmp_path / "out").filter(kind="tfbs")) > 0
    assert no_network == []


@pytest.mark.parametrize("arguments", [["models", "list"], ["models", "show", "compact"], ["doctor", "--device", "cpu"]])
def test_E07_neither_do_the_other_commands(
    arguments: list[str], no_network: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from annotator import doctor

    monkeypatch.setattr(doctor, "copy_bandwidth", lambda device: 1.0)
    monkeypatch.setattr(doctor, "matrix_rate", lambda device, dtype, shapes=None: 1.0)
    assert main(arguments) == 0
    assert no_network == []
    assert capsys.readouterr().err == ""


def test_E07_a_model_that_is_not_here_is_not_looked_for_elsewhere(
    no_network: list[str], fasta: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(Path("zhihan1996/DNABERT-2-117M"), fasta, tmp_path / "out", "--quiet")) == 5
    error = capsys.readouterr().err
    assert "no model 'zhihan1996/DNABERT-2-117M': neither a bundled model (compact) nor a directory" in error
    assert error.count("\n") == 1 and no_network == []
