"""Compact networks in whole numbers: near the float32 ones, the same bits everywhere, and files of others are refused."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from annotator.cli.app import main
from annotator.errors import EnvironmentFault, InputError, UsageError
from annotator.machine import suits_integers
from annotator.models.device import native_precision
from annotator.models.directory import read_model, write_model
from annotator.models.families.compact import integer
from annotator.models.families.compact.integer import IntegerNet
from annotator.models.families.compact.net import CompactConfig, CompactNet
from annotator.models.families.compact.quantize import Ranges, quantize_model, quantize_net
from annotator.models.families.compact.scan import FoldedNet
from annotator.models.loading import load_scan_model
from annotator.models.weights import INTEGERS_NAME, read_safetensors
from annotator.scan.predict import load_model
from annotator.tokens.vocabulary import KmerVocabulary
from annotator_kernels.integer_conv.op import IntegerConv, integer_conv_fault
from tests.support.runs import python_path, random_bases, write_fasta
from tests.unit.test_merge_clades import model

CPU = torch.device("cpu")
CONFIG = CompactConfig(trunk_channels=64, dilations=(1, 2, 8), clades=3)
VOCABULARY = KmerVocabulary(6)
pytestmark = pytest.mark.skipif(integer_conv_fault() is not None, reason=f"no integer convolutions: {integer_conv_fault()}")


def bases(length: int, seed: int) -> np.ndarray:
    return np.frombuffer(random_bases(length, seed).encode(), np.uint8)


@pytest.fixture(scope="module")
def nets() -> tuple[FoldedNet, IntegerNet]:
    """A network with norms that have seen data, folded, and its integer copy."""
    torch.manual_seed(0)
    net = CompactNet(CONFIG)
    torch.nn.init.normal_(net.down.clade.weight)  # type: ignore[union-attr]
    with torch.no_grad():
        for _ in range(20):
            net.train()(torch.randint(5, 4101, (2, 1024)), torch.zeros(2, dtype=torch.int64))
    net.eval()
    folded, ranges = FoldedNet(net, 1, VOCABULARY), Ranges()
    ranges.measure(folded, [bases(8192, seed) for seed in range(3)])
    return folded, IntegerNet(net, 1, VOCABULARY, quantize_net(net, ranges))


def rows(length: int, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
    block = torch.from_numpy(bases(4096, 9).copy())
    return block, torch.arange(count) * 100 - 50, torch.arange(count) % 2 == 1, length


def test_logits_are_near_those_of_float32(nets: tuple[FoldedNet, IntegerNet]) -> None:
    folded, whole = nets
    with torch.inference_mode():
        exact, found = folded(*rows(2048, 4)), whole.logits(whole.embed(*rows(2048, 4)))
    assert found.shape == exact.shape
    error = (found - exact).std(dim=(0, 1)) / exact.std(dim=(0, 1))
    assert float(error.max()) < 0.05, error  # a quarter of the error that 4 bits would make
    assert float((found - exact).abs().mean()) > 0  # these are no float32 numbers


def test_bits_do_not_depend_on_the_rows_beside_nor_on_the_engine(
    nets: tuple[FoldedNet, IntegerNet], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole = nets
    ids = whole.embed(*rows(1024, 6))
    together = whole.logits(ids)
    assert torch.equal(together, torch.cat([whole.logits(row[None]) for row in ids]))
    monkeypatch.setattr(integer, "_PIECE_BP", 2048)
    assert torch.equal(together, whole.logits(ids))
    monkeypatch.setattr(IntegerConv, "__call__", IntegerConv.reference)
    assert torch.equal(together, whole.logits(ids))
    monkeypatch.setattr(integer, "_INT16_BOUND", 0.0)  # the slower way to bytes gives the same ones
    assert torch.equal(together, whole.logits(ids))


DIGEST = """
import hashlib, sys, torch
from annotator.models.directory import read_model
from annotator.models.loading import load_scan_model
folder, manifest = read_model("compact")
scan = load_scan_model(folder, manifest, "vertebrate", torch.device("cpu"), "int8")
block = torch.tensor(list(b"ACGT"), dtype=torch.uint8)[(torch.arange(9000) * 2654435761 >> 7) % 4]
for threads in map(int, sys.argv[1:]):
    torch.set_num_threads(threads)
    with torch.inference_mode():
        x = scan.logits(scan.embed(block, torch.tensor([0, 40]), torch.tensor([False, True]), 8192))
    print(hashlib.sha256(x.numpy().tobytes()).hexdigest())
"""


def test_bits_are_the_same_with_every_set_of_instructions_and_any_number_of_threads() -> None:
    digests = set()
    for limits in (
        {}, {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
        {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"},
    ):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", DIGEST, "1", "2", "3"], env=python_path() | limits, capture_output=True, text=True, check=True
        )
        digests |= set(done.stdout.split())
    assert len(digests) == 1


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    model(folder / "m", "plant", 1, 0.3)
    return quantize_model(str(folder / "m"), {"plant": [bases(6000, 1)]}, folder / "q")


def copied(source: Path, target: Path) -> Path:
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def test_the_weights_stay_and_the_manifest_names_both_files(quantized: Path) -> None:
    _, manifest = read_model(str(quantized))
    assert manifest.integers is not None and manifest.integers.of_sha256 == manifest.weights_sha256
    digest = hashlib.sha256((quantized / INTEGERS_NAME).read_bytes()).hexdigest()
    assert (manifest.integers.file, manifest.integers.sha256) == (INTEGERS_NAME, digest)
    before = read_safetensors(quantized.parent / "m/model.safetensors")
    assert all(torch.equal(value, before[name]) for name, value in read_safetensors(quantized / "model.safetensors").items())


def test_E12_an_integer_file_that_is_another_one_is_refused(quantized: Path, tmp_path: Path) -> None:
    folder = copied(quantized, tmp_path / "m")
    data = bytearray((folder / INTEGERS_NAME).read_bytes())
    data[-1] ^= 1
    (folder / INTEGERS_NAME).write_bytes(data)
    with pytest.raises(InputError, match=r"integers.safetensors: sha256 [0-9a-f]{12}... is not the manifest's"):
        read_model(str(folder))
    (folder / INTEGERS_NAME).unlink()
    with pytest.raises(EnvironmentFault, match=r"integers.safetensors: file of the model is missing"):
        read_model(str(folder))


def test_E12_integers_of_other_weights_are_refused(quantized: Path, tmp_path: Path) -> None:
    other = copied(model(tmp_path / "other", "plant", 2, 0.3), tmp_path / "m")
    raw, theirs = (json.loads((folder / "manifest.json").read_text()) for folder in (other, quantized))
    (other / INTEGERS_NAME).write_bytes((quantized / INTEGERS_NAME).read_bytes())
    (other / "manifest.json").write_text(json.dumps(raw | {"integers": theirs["integers"]}))
    with pytest.raises(InputError, match=r"made of other weights .* make it anew with `annotator models quantize`"):
        read_model(str(other))


@pytest.mark.parametrize(
    ("integers", "said"),
    [
        ({"file": "../integers.safetensors", "sha256": "0", "of_sha256": "0"}, "must be a .safetensors file beside it"),
        ({"file": "integers.pt", "sha256": "0", "of_sha256": "0"}, "must be a .safetensors file beside it"),
        ({"file": "integers.safetensors", "sha256": "0"}, "'integers': 'of_sha256' is missing"),
        ({"file": 1, "sha256": "0", "of_sha256": "0"}, "'integers': 1 is not text"),
        ("integers.safetensors", "'integers' is not of type dict"),
    ],
)
def test_E12_a_manifest_that_names_integers_wrongly_is_refused(
    quantized: Path, tmp_path: Path, integers: object, said: str
) -> None:
    folder = copied(quantized, tmp_path / "m")
    raw = json.loads((folder / "manifest.json").read_text()) | {"integers": integers}
    (folder / "manifest.json").write_text(json.dumps(raw))
    with pytest.raises(InputError, match=said):
        read_model(str(folder))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"plant.down.weight": None}, "tensor down.weight is missing"),
        ({"down.weight": None}, "tensor down.weight is missing"),
        ({"stray": torch.ones(1)}, "unexpected tensor stray"),
        ({"stem.0.weight": torch.full((5, 16, 16), 64, dtype=torch.int8)}, "within -63..63"),
        ({"stem.0.weight": torch.ones(5, 16, 8, dtype=torch.int8)}, "stem.0"),
        ({"trunk.unit": torch.zeros(16)}, "trunk.unit is not float32 above 0"),
        ({"out.zero": torch.zeros(3, dtype=torch.uint8)}, "out.unit or out.zero has a wrong shape"),
    ],
)
def test_E12_damaged_integers_are_refused_by_name(quantized: Path, tmp_path: Path, change: dict[str, object], said: str) -> None:
    folder, manifest = read_model(str(quantized))
    tensors: dict[str, object] = dict(read_safetensors(folder / INTEGERS_NAME)) | change
    kept = {name: value for name, value in tensors.items() if isinstance(value, torch.Tensor)}
    if len(kept) == len(tensors) or "down.weight" in change:
        out = write_model(tmp_path / "m", manifest, read_safetensors(folder / manifest.weights), integers=kept)
        with pytest.raises(InputError, match=rf"integers.safetensors: .*{said}"):
            load_scan_model(*read_model(str(out)), "plant", CPU, "int8")


def test_writing_a_model_anew_drops_integers_of_the_old_weights(quantized: Path, tmp_path: Path) -> None:
    folder, manifest = read_model(str(quantized))
    out = write_model(tmp_path / "m", manifest, read_safetensors(folder / manifest.weights))
    assert read_model(str(out))[1].integers is None


# --- the command line


def errors(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = capsys.readouterr().err.splitlines()
    return [line.removeprefix("annotator: ") for line in lines if line.startswith("annotator: error")]


@pytest.fixture(scope="module")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fasta(tmp_path_factory.mktemp("fasta") / "g.fa", {"a": random_bases(5000, 3), "b": random_bases(700, 4)})


def annotate(model: Path | str, fasta: Path, out: Path, *more: str) -> int:
    fixed = ["--model", str(model), "--clade", "plant", "--tasks", "splice", "--device", "cpu", "--threshold", "0.001", "-q"]
    return main(["annotate", str(fasta), "-o", str(out), *fixed, *more])


def plan(out: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((out / "run.json").read_text())["plan"]
    return found


def test_E12_int8_of_a_model_without_integers_says_what_to_do(
    quantized: Path, fasta: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert annotate(quantized.parent / "m", fasta, tmp_path / "out", "--precision", "int8") == 2
    (line,) = errors(capsys)
    assert line == (
        "error: --precision int8: the model plant has no integer copy (`annotator models quantize` makes one); choose float32"
    )
    assert not (tmp_path / "out").exists()


def test_E12_int8_without_the_engine_says_so(
    quantized: Path, fasta: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(integer, "integer_conv_fault", lambda: "torch 2 comes without integer convolutions of oneDNN here")
    assert annotate(quantized, fasta, tmp_path / "out", "--precision", "int8") == 5
    (line,) = errors(capsys)
    assert line == "error: --precision int8: torch 2 comes without integer convolutions of oneDNN here; choose float32"


def test_E12_int8_is_for_the_cpu(quantized: Path) -> None:
    _, manifest = read_model(str(quantized))
    with pytest.raises(UsageError, match="only on a CPU"):
        manifest.precision("int8", "bfloat16", "cuda:0")
    assert manifest.precision("auto", "bfloat16", "cuda") == "bfloat16"
    with pytest.raises(UsageError, match="its family has none"):
        replace(manifest, family="dnabert", integers=None).precision("int8", "float32", "cpu")


def test_auto_takes_int8_where_model_and_cpu_suit_and_the_plan_says_so(
    quantized: Path, fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {True: "int8", False: "float32"}
    for suits, precision in wanted.items():
        monkeypatch.setattr("annotator.models.device.suits_integers", lambda suits=suits: suits)
        out = tmp_path / precision
        assert annotate(quantized, fasta, out) == 0
        assert plan(out)["precision"] == precision == load_model(str(quantized), device="cpu").precision
    monkeypatch.setattr("annotator.models.device.suits_integers", lambda: True)
    assert annotate(quantized.parent / "m", fasta, tmp_path / "plain") == 0
    assert plan(tmp_path / "plain")["precision"] == "float32"
    assert load_model(str(quantized.parent / "m"), device="cpu").precision == "float32"


def test_a_choice_that_a_run_was_begun_with_stays(
    quantized: Path, fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from functools import partial

    from tests.support.toy_task import CutShort

    monkeypatch.setattr("annotator.models.device.suits_integers", lambda: True)
    fixed = ["--model", str(quantized), "--clade", "plant", "--tasks", "splice", "--device", "cpu", "--threshold", "0.001", "-q"]
    line = ["annotate", str(fasta), "-o", str(tmp_path / "out"), *fixed, "--shard-bp", "1000"]
    assert main(line, task=partial(CutShort, after=2)) == 130
    monkeypatch.setattr("annotator.models.device.suits_integers", lambda: False)
    assert main(line) == 0
    assert plan(tmp_path / "out")["precision"] == "int8"


def test_bytes_do_not_depend_on_threads_shards_batches_or_executor(quantized: Path, fasta: Path, tmp_path: Path) -> None:
    digests = set()
    for name, more in {
        "one": ["-t", "1"], "two": ["-t", "2"], "shards": ["--shard-bp", "1200"], "processes": ["--workers", "1", "-t", "1"],
    }.items():  # fmt: skip
        assert annotate(quantized, fasta, tmp_path / name, "--precision", "int8", *more) == 0
        digests.add(hashlib.sha256((tmp_path / name / "predictions.parquet").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_quantize_makes_a_model_that_scans(
    quantized: Path, fasta: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = quantized.parent / "m"
    assert main(["models", "quantize", str(plain), "--bases", f"plant={fasta}", "-o", str(tmp_path / "q")]) == 0
    exact, found = (load_model(str(tmp_path / "q"), device="cpu", precision=each) for each in ("float32", "int8"))
    text = random_bases(3000, 8)
    off = found.predict(text).logits - exact.predict(text).logits
    assert np.isfinite(off).all() and 0 < np.abs(off).max() < 0.5
    capsys.readouterr()
    for wrong, said in (
        (["--bases", f"fungi={fasta}"], "error: --bases fungi: the model has plant"),
        (["--bases", "plant"], "error: --bases plant: give NAME=VALUE, each name once"),
        (["--bases", "plant=none.fa"], "error: none.fa: cannot read: No such file or directory"),
    ):
        assert main(["models", "quantize", str(plain), *wrong, "-o", str(tmp_path / "r")]) == 2
        assert errors(capsys) == [said]
    assert not (tmp_path / "r").exists()
    short = write_fasta(tmp_path / "short.fa", {"a": "ACGT" * 100, "n": "N" * 5000})
    assert main(["models", "quantize", str(plain), "--bases", f"plant={short}", "-o", str(tmp_path / "r")]) == 3
    assert errors(capsys) == ["error: the bases given for plant hold no 1000 bp of which half are known"]


def test_the_choice_is_by_what_the_cpu_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    flags = Path("/proc/cpuinfo").read_text() if os.path.exists("/proc/cpuinfo") else ""
    assert suits_integers() == (" avx2 " in flags)
    assert native_precision("cpu") == ("int8" if suits_integers() else "float32")


def test_the_bundled_model_has_integers_for_every_clade() -> None:
    folder, manifest = read_model("compact")
    assert manifest.integers is not None
    assert (folder / manifest.integers.file).stat().st_size < 3_000_000
    for clade in manifest.clades:
        load_scan_model(folder, manifest, clade, CPU, "int8")
    names = {name.partition(".")[0] for name in read_safetensors(folder / manifest.integers.file)}
    assert names == {settings.network for settings in manifest.clades.values()}
    with pytest.raises(InputError, match="is missing"):
        stray = replace(manifest, clades={"plant": replace(manifest.clades["plant"], network="fungi")})
        integer.load_integer(folder, stray, CompactNet(CompactConfig(dilations=(1,) * 10)), "plant")
