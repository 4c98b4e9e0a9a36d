"""Several shards in work at once, as on a GPU: the same files, the same words where something fails, nothing lost when killed."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import torch

from annotator.cli.app import main
from annotator.models.families.compact.scan import FoldedNet
from annotator.pipeline.executors import events
from annotator.pipeline.executors.inline import InlineExecutor
from annotator.scan.block import Block
from tests.support.runs import plant, random_bases, results, write_fasta
from tests.support.toy_runs import assert_gone, journalled, kill, start_toy_run, toy_run, wait_until
from tests.support.toy_task import ManyAtOnce

EXECUTORS = pytest.mark.parametrize("executor", [(), ("--workers", "2")], ids=["this process", "2 processes"])
MANY = "from annotator.pipeline.executors.events import DEPTH; DEPTH['cpu'] = 8"


@pytest.fixture(autouse=True)
def depth(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker may hold as many shards as on a GPU."""
    monkeypatch.setitem(events.DEPTH, "cpu", 8)


def workers_left() -> list[str]:
    """Threads of an executor that are still there."""
    return [thread.name for thread in threading.enumerate() if thread.name == "work"]


@EXECUTORS
def test_C09_the_same_bytes(
    executor: tuple[str, ...], fasta: Path, model: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    assert toy_run(fasta, tmp_path / "out", model, *executor, at_once=4) == 0
    assert results(tmp_path / "out") == undisturbed


def test_shards_are_in_work_beside_each_other(
    fasta: Path, model: Path, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[str] = set()
    do = InlineExecutor._do

    def noted(self: InlineExecutor, *given: object) -> object:
        threads.add(threading.current_thread().name)
        return do(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(InlineExecutor, "_do", noted)
    assert toy_run(fasta, tmp_path / "out", model, at_once=4, pace_s=0.05) == 0
    assert results(tmp_path / "out") == undisturbed
    assert threads == {"work"} and not workers_left()


@pytest.mark.parametrize(("what", "code"), [("raise", 4), ("memory", 6), ("device", 5), ("input", 3), ("model", 1)])
def test_D13_a_fault_in_the_second_half_is_told_as_ever(
    what: str, code: int, fasta: Path, model: Path, undisturbed: dict[str, bytes], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out, faults = tmp_path / "out", {"chr1:896": (what, 1)}
    assert toy_run(fasta, out, model, folder=str(tmp_path), faults=faults, at_once=4) == code
    assert "Traceback" not in capsys.readouterr().err and not workers_left()
    assert toy_run(fasta, out, model, folder=str(tmp_path), faults=faults, at_once=4) == 0
    assert results(out) == undisturbed


@pytest.mark.parametrize("what", ["kill", "exit 0", "raise"])
def test_D01_D13_a_worker_that_fails_once_changes_nothing(
    what: str, fasta: Path, model: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    faults = {"chr1:896": (what, 1)}
    code = toy_run(fasta, tmp_path / "out", model, "--workers", 1, folder=str(tmp_path), faults=faults, at_once=4)
    assert code == 0 and results(tmp_path / "out") == undisturbed
    assert (tmp_path / "chr1:896").stat().st_size == 2  # tried again


@EXECUTORS
def test_D06_a_killed_driver_goes_on_where_it_was(
    executor: tuple[str, ...], fasta: Path, model: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = start_toy_run(fasta, out, model, *executor, before=MANY, pace_s=0.3, at_once=4)
    wait_until(lambda: journalled(out) >= 4, process)
    assert_gone(kill(process))
    done = journalled(out)
    faults = {f"chr1:{start}": ("slow", 0) for start in range(0, 4000, 448)}  # counts the shards that are computed again
    assert toy_run(fasta, out, model, *executor, folder=str(tmp_path), faults=faults, at_once=4) == 0
    assert results(out) == undisturbed
    assert len(list(tmp_path.glob("chr1:*"))) <= 9 - (done - 2)


@pytest.fixture(scope="module")
def motifs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("motifs") / "m.jaspar"
    rows = {base: " ".join("9" if letter == base else "0" for letter in "GATTACA") for base in "ACGT"}
    path.write_text(">MA0001.1 TF1\n" + "\n".join(f"{base} [ {row} ]" for base, row in rows.items()) + "\n")
    return path


def real_run(fasta: Path, out: Path, model: Path, motifs: Path, *more: str, at_once: bool) -> int:
    """The command with the detector, motifs included."""
    words = ["annotate", str(fasta), "-o", str(out), "--model", str(model), "--motifs", str(motifs), "--tfbs-pvalue", "1e-3"]
    words += ["-t", "1", "--device", "cpu", "--shard-bp", "1344", "--quiet", *more]
    return main(words, task=ManyAtOnce) if at_once else main(words)


@pytest.fixture(scope="module")
def genes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Contigs with donors, and one with a run of N."""
    contigs = {"a": random_bases(6000, 1), "b": random_bases(900, 2) + "N" * 2000 + random_bases(2500, 3)}
    for name, text in contigs.items():
        for at in range(50, len(text) - 50, 211):
            text = plant(text, "AAGGTA", at) if text[at] != "N" else text
        contigs[name] = text
    return write_fasta(tmp_path_factory.mktemp("genes") / "g.fa", contigs)


@EXECUTORS
def test_C09_the_same_bytes_of_a_network_and_motifs(
    executor: tuple[str, ...], genes: Path, model: Path, motifs: Path, tmp_path: Path
) -> None:
    assert real_run(genes, tmp_path / "one", model, motifs, at_once=False) == 0
    assert real_run(genes, tmp_path / "many", model, motifs, *executor, at_once=True) == 0
    one = results(tmp_path / "one")
    assert results(tmp_path / "many") == one
    assert len(one["predictions.parquet"]) > 1000 and {"tfbs.bed.gz", "splice_sites.bed.gz"} <= set(one)


def test_a_network_that_gives_nan_is_told_with_its_window(
    genes: Path, model: Path, motifs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, calls = FoldedNet.logits, []

    def sometimes_nan(self: FoldedNet, x: torch.Tensor) -> torch.Tensor:
        found = logits(self, x)
        calls.append(len(found))
        return found.fill_(torch.nan) if len(calls) > 6 else found  # the first are those of a sample

    told = []
    for at_once in (False, True):
        calls.clear()
        monkeypatch.setattr(FoldedNet, "logits", sometimes_nan)
        assert real_run(genes, tmp_path / f"{at_once}", model, motifs, at_once=at_once) == 1
        told.append(capsys.readouterr().err)
        monkeypatch.setattr(FoldedNet, "logits", logits)
    assert told[0] == told[1] and "NaN or infinity in window " in told[0]


def test_a_fasta_that_changes_is_told_and_nothing_hangs(
    genes: Path, model: Path, motifs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fasta, read, seen = tmp_path / "g.fa", Block.read, []
    fasta.write_bytes(genes.read_bytes())

    def then_changed(*arguments: object) -> Block:
        seen.append(1)
        if len(seen) == 3:
            os.utime(fasta, ns=(1, 1))
        return read(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Block, "read", staticmethod(then_changed))
    assert real_run(fasta, tmp_path / "out", model, motifs, at_once=True) == 3
    assert "changed" in capsys.readouterr().err
