"""Several assemblies in one run: names, folders, one queue, one that is bad, several that are done."""

from __future__ import annotations

import json
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from annotator.cli.app import main
from annotator.results.results import BatchResults, open_results
from tests.support.detector import write_detector
from tests.support.runs import results, write_fasta
from tests.support.toy_runs import journalled, start_toy_run, toy_genome, toy_run, wait_until
from tests.support.toy_task import ToyTask


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_detector(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def genomes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("genomes")
    return [toy_genome(folder / name, seed) for seed, name in enumerate(("a.fa", "b.fasta", "c.fna"))]


@pytest.fixture(scope="module")
def alone(model: Path, genomes: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """What each gives in a run of its own."""
    folder = tmp_path_factory.mktemp("alone")
    for path in genomes:
        assert toy_run(path, folder / path.stem, model) == 0
    return {path.stem: results(folder / path.stem) for path in genomes}


def batch(fasta: list[Path], out: Path, model: Path, *more: object, **toy: Any) -> int:
    fixed = ["--model", str(model), "--tasks", "splice", "--shard-bp", "448", "-t", "1", "--device", "cpu", "-q"]
    return main(["annotate", *map(str, fasta), "-o", str(out), *fixed, *map(str, more)], task=partial(ToyTask, **toy))


def summary(out: Path) -> dict[str, dict[str, object]]:
    return {entry["sample"]: entry for entry in json.loads((out / "batch.json").read_text())["samples"]}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_gives_what_each_assembly_gives_alone(
    workers: int, model: Path, genomes: list[Path], alone: dict[str, dict[str, bytes]], tmp_path: Path,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    assert batch(genomes, out, model, "--workers", workers, folder=str(tmp_path)) == 0
    assert {name: results(out / name) for name in alone} == alone
    assert len(list(tmp_path.glob("worker-*"))) == max(1, workers)  # the model was loaded once a worker
    assert sorted(path.name for path in out.iterdir()) == ["a", "b", "batch.json", "c"]
    assert {entry["exit_status"] for entry in summary(out).values()} == {0}
    stamps = [(out / name / "predictions.parquet").stat().st_mtime_ns for name in alone]
    assert batch(genomes, out, model, folder=str(tmp_path)) == 0  # all is done already
    assert [(out / name / "predictions.parquet").stat().st_mtime_ns for name in alone] == stamps


@pytest.mark.parametrize("workers", [0, 2])
def test_one_bad_assembly_does_not_sink_the_rest(
    workers: int, model: Path, genomes: list[Path], alone: dict[str, dict[str, bytes]], tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "bad.fa").write_text(">x\nAC GT\n")
    (tmp_path / "b.fa.gz").write_bytes(b"\x1f\x8b\x08 cut")
    given = [tmp_path / "bad.fa", genomes[0], tmp_path / "missing.fa", genomes[2], tmp_path / "b.fa.gz"]
    out = tmp_path / "out"
    assert batch(given, out, model, "--workers", workers) == 4
    assert "3 of 5 assemblies failed: bad, missing, b" in capfd.readouterr().err
    assert results(out / "a") == alone["a"] and results(out / "c") == alone["c"]
    told = summary(out)
    assert [told[name]["exit_status"] for name in ("bad", "a", "missing", "c", "b")] == [3, 0, 2, 0, 3]
    assert "line 2" in str(told["bad"]["error"]) and told["a"]["error"] is None
    assert sorted(path.name for path in out.iterdir()) == ["a", "batch.json", "c"]


def test_a_batch_that_is_refused_leaves_the_summary_as_it_was(
    model: Path, genomes: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert batch(genomes[:2], out, model) == 0
    before = (out / "batch.json").read_bytes()
    assert batch(genomes[:2], out, model, "--threshold", "0.9") == 4
    said = capfd.readouterr().err.splitlines()[-1]
    assert said.startswith("annotator: error: --threshold: all 2 assemblies are refused, and nothing is changed; a: ")
    assert (out / "batch.json").read_bytes() == before and open_results(out).calls().collect().height > 0
    assert batch(genomes, out, model, "--threshold", "0.9") == 4  # the third is new
    again = open_results(out)
    assert isinstance(again, BatchResults) and sorted(again.failed) == ["a", "b"] and list(again.samples) == ["c"]
    assert "holds another run, with thresholds" in again.failed["a"]
    assert set(again.calls().collect()["sample"]) == {"c"}  # never calls of two different runs together


@pytest.mark.parametrize("workers", [0, 2])
def test_an_assembly_that_fails_on_the_way_is_withdrawn(
    workers: int, model: Path, genomes: list[Path], alone: dict[str, dict[str, bytes]], tmp_path: Path,
) -> None:  # fmt: skip
    odd = write_fasta(tmp_path / "odd.fa", {"only_here": "ACGT" * 400})
    out, faults = tmp_path / "out", {"only_here:448": ("model", 1)}
    given = [genomes[0], odd, genomes[1]]
    assert batch(given, out, model, "--workers", workers, folder=str(tmp_path), faults=faults) == 4
    assert results(out / "a") == alone["a"] and results(out / "b") == alone["b"]
    assert summary(out)["odd"]["exit_status"] == 1 and not (out / "odd" / "run.json").exists()
    assert batch(given, out, model, folder=str(tmp_path), faults=faults) == 0
    assert summary(out)["odd"]["exit_status"] == 0 and results(out / "a") == alone["a"]


def test_a_poison_shard_of_one_assembly(
    model: Path, genomes: list[Path], alone: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    odd = write_fasta(tmp_path / "odd.fa", {"only_here": "ACGT" * 400, "fine": "CAGGT" * 40})
    out, faults = tmp_path / "out", {"only_here:448": ("exit 1", 4)}
    given = [genomes[0], odd]
    assert batch(given, out, model, "--workers", 1, folder=str(tmp_path), faults=faults) == 4
    told = summary(out)
    assert (told["odd"]["exit_status"], told["odd"]["failed_contigs"]) == (4, 1) and told["a"]["exit_status"] == 0
    found = open_results(out)
    assert isinstance(found, BatchResults) and found.failed == {"odd": "1 contigs failed"} and list(found.samples) == ["a", "odd"]
    assert results(out / "a") == alone["a"] and told["odd"]["rows"] == {"predictions.parquet": 40, "splice_sites.bed.gz": 40}


def test_a_sample_sheet(model: Path, genomes: list[Path], alone: dict[str, dict[str, bytes]], tmp_path: Path) -> None:
    (tmp_path / "near.fa").write_bytes(genomes[1].read_bytes())
    sheet = tmp_path / "samples.csv"
    sheet.write_text(f'fasta,sample\n"{genomes[0]}",first one\nnear.fa , second\n\n'.replace("first one", "Blé-1"))
    out = tmp_path / "out"
    assert batch([], out, model, "--sheet", sheet) == 0
    assert results(out / "Blé-1") == alone["a"] and results(out / "second") == alone["b"]


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("", 3, "no samples"), ("sample,fasta\n", 3, "no samples"),
        ("name,path\na,b\n", 3, "line 1: the columns are sample,fasta"),
        ("sample,fasta\na,b,c\n", 3, "line 2: 3 columns"), ("sample,fasta\na,x.fa\na,y.fa\n", 3, "line 3: sample a comes twice"),
        ("sample,fasta\n../up,x.fa\n", 3, "line 2: '../up'"), ("sample,fasta\na/b,x.fa\n", 3, "'a/b'"),
        ("sample,fasta\n,x.fa\n", 3, "''"), ("sample,fasta\n.hidden,x.fa\n", 3, "'.hidden'"),
        ("sample,fasta\nbatch.json,x.fa\n", 3, "'batch.json'"), (f"sample,fasta\n{'n' * 300},x.fa\n", 3, "cannot be the name"),
        ("sample,fasta\na\x00b,x.fa\n", 3, "line 2"), ("sample,fasta\na,\n", 3, "needs a file"),
        ("sample,fasta\na,-\n", 3, "needs a file"),
        ('sample,fasta\n"a,x.fa\n', 3, "line 2"),
    ],
)  # fmt: skip
def test_bad_sheets(text: str, code: int, said: str, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sheet, out = tmp_path / "s.csv", tmp_path / "out"
    sheet.write_text(text)
    assert main(["annotate", "--sheet", str(sheet), "-o", str(out), "--model", str(model), "--device", "cpu", "-q"]) == code
    error = capfd.readouterr().err
    assert said in error and error.count("\n") == 1 and not out.exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "give FASTA files or --sheet"), (["x.fa", "--sheet", "s.csv"], "not both"),
        (["--sheet", "none.csv"], "No such file"),
        (["d/x.fa", "e/x.fa.gz"], "both would be sample x"), (["x.fa", "-"], "standard input can only be annotated alone"),
        (["x.fa", ".fa"], "cannot be the name of a sample"),
    ],
)  # fmt: skip
def test_bad_lists_of_assemblies(given: list[str], said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["annotate", *given, "-o", str(tmp_path / "out"), "-q"]) == 2
    error = capfd.readouterr().err
    assert said in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_C07_a_second_batch_in_the_same_folder_is_refused(
    model: Path, genomes: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from annotator.results.batch import BatchFolder

    holder = BatchFolder(tmp_path / "out")
    assert batch(genomes, tmp_path / "out", model) == 2
    assert "locked by pid" in capfd.readouterr().err
    holder.close()
    assert not (tmp_path / "out").exists()


def test_D07_a_batch_that_is_stopped_goes_on(
    model: Path, genomes: list[Path], alone: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    out, sheet = tmp_path / "out", tmp_path / "s.csv"
    sheet.write_text("sample,fasta\n" + "".join(f"{path.stem},{path}\n" for path in genomes))
    process = start_toy_run(None, out, model, "--sheet", sheet, "--workers", 2, folder=str(tmp_path), pace_s=0.1)
    wait_until(lambda: sum(journalled(out / path.stem) for path in genomes) >= 6, process)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 143, error
    assert batch([], out, model, "--sheet", sheet) == 0
    assert {name: results(out / name) for name in alone} == alone


def test_time_that_is_up_ends_a_run_to_be_resumed(
    model: Path, genomes: list[Path], alone: dict[str, dict[str, bytes]], tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "out"
    for workers in (0, 1):
        more = ("--max-runtime", "2s", "--workers", workers)
        assert toy_run(genomes[0], out, model, *more, folder=str(tmp_path), pace_s=0.4) == 143
        assert "--max-runtime" in capfd.readouterr().err
    assert journalled(out) >= 2 and not (out / "run.json").exists()
    assert toy_run(genomes[0], out, model, "--max-runtime", "1h") == 0
    assert results(out) == alone["a"]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_assembly_in_which_nothing_works_does_not_sink_the_rest(
    workers: int, model: Path, genomes: list[Path], alone: dict[str, dict[str, bytes]], tmp_path: Path,
) -> None:  # fmt: skip
    odd = write_fasta(tmp_path / "odd.fa", {"only_here": "ACGT" * 400})
    out, faults = tmp_path / "out", {f"only_here:{start}": ("raise", 99) for start in (0, 448, 896, 1344)}
    more = ("--workers", workers)
    assert batch([odd, genomes[0]], out, model, *more, folder=str(tmp_path), faults=faults) == 4
    told = summary(out)
    assert told["a"]["exit_status"] == 0 and told["odd"]["exit_status"] in (1, 4)  # 4 where another had succeeded before
    assert results(out / "a") == alone["a"]


def test_a_failed_sample_that_somebody_else_runs_meanwhile_is_left_alone(
    model: Path, genomes: list[Path], tmp_path: Path
) -> None:
    from annotator.errors import InputError
    from annotator.pipeline.driver.assembly import Assembly
    from annotator.pipeline.executors.machine import Machine
    from annotator.pipeline.options import AnnotateOptions, Sample
    from annotator.pipeline.request import resolve
    from annotator.pipeline.worker.shard_task import ShardTask
    from annotator.results.workspace import Workspace

    (tmp_path / "bad.fa").write_text(">x\nAC GT\n")
    options = AnnotateOptions(model=str(model), tasks=("splice",), device="cpu")
    request = resolve(options, Machine("cpu"))
    failed = Assembly(Sample(str(tmp_path / "bad.fa"), tmp_path / "out"), request, options, ShardTask(request.order))
    with pytest.raises(InputError):
        failed.open()
    other = Workspace(tmp_path / "out")
    failed.close()
    failed.close()
    assert (tmp_path / "out" / ".annotator" / "lock").exists()
    other.abandon()
    assert not (tmp_path / "out").exists()
