"""Faults of the model and the device in the middle of a run, by hooks on the CPU: rows E01, E04 and E05 of the fault matrix."""

import json
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import annotator
from annotator.errors import ModelFault
from annotator.kinds import DEFAULT_CLADE
from annotator.models.families.compact import scan as compact_inference
from annotator.models.families.compact.scan import FoldedNet
from annotator.scan.windows import WindowScorer
from tests.support.detector import write_detector
from tests.support.runs import annotate, plant, random_bases, results, sites, table, write_fasta

WORDS = ("AAGGTA", "AGCATC")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_detector(tmp_path_factory.mktemp("model"), validated_clades=(DEFAULT_CLADE,))  # every batch is the scan's


@pytest.fixture(scope="module")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    text = random_bases(9000, 5)
    for i, at in enumerate(range(40, 8900, 113)):
        text = plant(text, WORDS[i % 2], at)
    records = {"chr1": text, "chr2": text[500:4000], **{f"s{i}": text[i * 300 : i * 300 + 250] for i in range(12)}}
    return write_fasta(tmp_path_factory.mktemp("fasta") / "g.fa", records)


@pytest.fixture(scope="module")
def undisturbed(model: Path, fasta: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    assert run(model, fasta, out) == 0
    return out


def run(model: Path, fasta: Path, out: Path, *more: object) -> int:
    return annotate(fasta, "-o", out, "--model", model, "--tasks", "splice", *more)


class Memory:
    """A device that holds so many bases of rows at once; counts the batches it saw."""

    def __init__(self, most: int, fault: RuntimeError) -> None:
        self.most, self.fault = most, fault
        self.sizes: list[tuple[int, int]] = []
        self.logits = FoldedNet.logits

    def __call__(self, net: FoldedNet, x: Tensor) -> Tensor:
        self.sizes.append((x.shape[0], x.shape[1]))
        if x.shape[0] * x.shape[1] > self.most:
            raise self.fault
        return self.logits(net, x)


FAULTS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    torch.AcceleratorError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("Triton Error [CUDA]: out of memory"),
]


@pytest.fixture(params=FAULTS, ids=["accelerator", "host", "driver", "cublas", "triton"])
def fault(request: pytest.FixtureRequest) -> Iterator[RuntimeError]:
    yield request.param


@pytest.mark.parametrize("most", [2 * 1024 * 4, 2 * 1024], ids=["longest bucket", "first batch of every bucket"])
def test_E01_out_of_memory_halves_the_batch_and_remembers_it(
    model: Path, fasta: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, fault: RuntimeError,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    memory = Memory(most, fault)
    monkeypatch.setattr(FoldedNet, "logits", lambda net, x: memory(net, x))
    assert run(model, fasta, tmp_path / "out") == 0
    assert sites(tmp_path / "out") == sites(undisturbed)
    columns = ["chrom", "kind", "strand", "position"]
    ours, theirs = (table(folder).sort(columns)["probability"].to_numpy() for folder in (tmp_path / "out", undisturbed))
    assert np.abs(ours - theirs).max() < 1e-5
    used = json.loads((tmp_path / "out" / "run.json").read_text())["batch_bp_used"]
    assert used <= most // 2
    assert used < json.loads((undisturbed / "run.json").read_text())["batch_bp_used"]
    refused = [rows * length for rows, length in memory.sizes if rows * length > most]
    assert len(refused) == len(set(refused))  # what did not fit was not tried again
    assert "out of memory on cpu" in capsys.readouterr().err


def test_E01_not_even_one_window_fits(
    model: Path, fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    fault: RuntimeError,
) -> None:  # fmt: skip
    memory = Memory(100, fault)
    monkeypatch.setattr(FoldedNet, "logits", lambda net, x: memory(net, x))
    assert run(model, fasta, tmp_path / "out") == 6
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1 and "not even one window" in lines[0] and "--device cpu" in lines[0]
    assert not list((tmp_path / "out").glob("*.parquet")) and not (tmp_path / "out" / "run.json").exists()


def test_E01_another_runtime_error_is_not_taken_for_want_of_memory(
    model: Path, fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    memory = Memory(0, RuntimeError("shapes do not match"))
    monkeypatch.setattr(FoldedNet, "logits", lambda net, x: memory(net, x))
    assert run(model, fasta, tmp_path / "out") == 1
    assert len(memory.sizes) == 1
    assert "shapes do not match" in capsys.readouterr().err


@pytest.mark.parametrize("strand", ["+", "-"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")], ids=["nan", "inf", "minus inf"])
def test_E04_a_value_that_is_no_number_ends_the_run_and_names_the_window(
    model: Path, fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strand: str, value: float
) -> None:
    genuine = FoldedNet.logits
    batches = iter(range(1000))

    def poisoned(net: FoldedNet, x: Tensor) -> Tensor:
        logits = genuine(net, x)
        if x.shape[1] == 1024 and next(batches) == 2:
            logits[len(logits) // 2 if strand == "-" else 0, 500, 1] = value
        return logits

    monkeypatch.setattr(FoldedNet, "logits", poisoned)
    with pytest.raises(ModelFault) as fault:
        annotator.annotate(fasta, tmp_path / "out", model=model, tasks=("splice",), threads=1, batch_bp=1024)
    # cores of 448 bp: the third window of chr1 owns [896, 1344) and sees 288 bp more on either side
    assert f"chr1:608-1632 (0-based), strand {strand}" in str(fault.value)
    assert not (tmp_path / "out" / "run.json").exists() and not list((tmp_path / "out").glob("*.bed.gz"))


DEVICE_FAULTS = {
    "torch": torch.AcceleratorError("CUDA error: unspecified launch failure\nCompile with TORCH_USE_CUDA_DSA"),
    "triton": RuntimeError("Triton Error [CUDA]: unspecified launch failure"),
    "triton, illegal memory": RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
    "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
}


@pytest.mark.parametrize("name", DEVICE_FAULTS)
def test_E05_a_failed_device_keeps_the_finished_shards(
    model: Path, fasta: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], name: str,
) -> None:  # fmt: skip
    more = ("--shard-bp", 2000)
    assert run(model, fasta, tmp_path / "whole", *more) == 0
    genuine = FoldedNet.logits
    batches = iter(range(1000))

    def failing(net: FoldedNet, x: Tensor) -> Tensor:
        if next(batches) == 2:
            raise DEVICE_FAULTS[name]
        return genuine(net, x)

    with monkeypatch.context() as patch:
        patch.setattr(FoldedNet, "logits", failing)
        assert run(model, fasta, tmp_path / "out", *more) == 5
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1 and str(DEVICE_FAULTS[name]).splitlines()[0] in lines[0] and "same command again" in lines[0]
    assert "on chr1:" in lines[0]
    parts = list((tmp_path / "out").rglob("0*.parquet"))
    assert parts
    assert run(model, fasta, tmp_path / "out", *more) == 0
    assert results(tmp_path / "out") == results(tmp_path / "whole")
    assert sites(tmp_path / "out") == sites(undisturbed)


def test_E05_a_device_that_fails_while_the_model_is_loaded(
    model: Path, fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def busy(*_: object) -> FoldedNet:
        raise torch.AcceleratorError("CUDA error: CUDA-capable device(s) is/are busy or unavailable")

    monkeypatch.setattr("annotator.pipeline.worker.shard_worker.load_scan_model", busy)
    assert run(model, fasta, tmp_path / "out") == 5
    assert "busy or unavailable" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_a_failed_attempt_held_is_free_when_the_batch_is_halved(model: Path, fasta: Path, tmp_path: Path) -> None:
    alive: list[bool] = []
    held: list[weakref.ref[Tensor]] = []
    genuine = FoldedNet.logits

    def first_fails(net: FoldedNet, x: Tensor) -> Tensor:
        if not held:
            held.append(weakref.ref(x))
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return genuine(net, x)

    halve = WindowScorer._halve

    def watched(scorer: WindowScorer, length: int, size: int) -> None:
        alive.append(held[0]() is not None)
        halve(scorer, length, size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FoldedNet, "logits", first_fails)
        patch.setattr(WindowScorer, "_halve", watched)
        assert run(model, fasta, tmp_path / "out") == 0
    assert alive == [False]


def test_peak_memory_is_told_where_proc_does_not_have_it(
    model: Path, fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = Path("/proc/self/status").read_text()
    genuine = Path.read_text
    without = "\n".join(line for line in text.splitlines() if not line.startswith("VmHWM"))
    monkeypatch.setattr(Path, "read_text", lambda path, *a, **k: without if path.name == "status" else genuine(path, *a, **k))
    assert run(model, fasta, tmp_path / "out") == 0
    assert json.loads((tmp_path / "out" / "run.json").read_text())["peak_memory_bytes"]["host"] > 1 << 20


def test_the_folded_network_is_the_network() -> None:
    torch.manual_seed(3)
    config = compact_inference.CompactConfig(fine_channels=8, fine_width=3, trunk_channels=12, trunk_width=3, dilations=(1, 2))
    net = compact_inference.CompactNet(config).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.uniform_(-0.5, 0.5)
        for name, buffer in net.named_buffers():
            if name.endswith("running_mean"):
                buffer.uniform_(-0.5, 0.5)
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2)
    vocabulary = compact_inference.KmerVocabulary(6)
    block = torch.tensor(list(b"ACGTN"), dtype=torch.uint8)[torch.randint(5, (400,))]
    starts, reverse = torch.tensor([-7, 30, 200, 120]), torch.tensor([False, True, True, False])
    folded = compact_inference.FoldedNet(net, 2, vocabulary)
    with torch.inference_mode():
        logits = folded(block, starts, reverse, 128)
        for row, (start, backward) in enumerate(zip(starts.tolist(), reverse.tolist(), strict=True)):
            text = bytes(block.tolist()).decode()
            window = "".join(text[i] if 0 <= i < 400 else "N" for i in range(start - 3, start + 128 + 3))
            if backward:
                window = window.translate(str.maketrans("ACGT", "TGCA"))[::-1]
            ids = torch.tensor([[vocabulary.encode(window[i + 1 : i + 7]) for i in range(128)]])  # base i + 3 is letter 2
            expected = net(ids, torch.tensor([2]))
            assert torch.allclose(logits[row], expected[0], atol=1e-5)
