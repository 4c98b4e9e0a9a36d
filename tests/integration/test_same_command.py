"""The same command again, with other machines, other formats and damaged folders: what is taken over, done anew, or refused."""

import json
import shutil
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from annotator.cli.app import main
from annotator.errors import EnvironmentFault
from annotator.output.formats import registry
from annotator.output.formats.base import OutputRun, Target
from annotator.pipeline.annotate import annotate_into
from annotator.pipeline.driver.progress import Silence
from annotator.pipeline.executors.machine import Machine
from annotator.pipeline.options import AnnotateOptions, ExecutionOptions, Sample
from annotator.pipeline.request import resolve
from annotator.pipeline.run_plan import follow_earlier_runs
from annotator.pipeline.worker.shard_task import ShardTask
from tests.support.detector import write_detector
from tests.support.runs import plant, random_bases, results, write_fasta
from tests.support.toy_task import CutShort

SHARDS = ("--shard-bp", "900")
GIVEN = ("-t", "1", *SHARDS)


class NoWork(ShardTask):
    """A task that must not be asked for anything but files in another format."""

    def setup(self) -> None:
        raise AssertionError("a model was loaded")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_detector(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    text = random_bases(5000, 3)
    for at in range(40, 4900, 113):
        text = plant(text, ("AAGGTA", "AGCATC")[at % 2], at)
    return write_fasta(tmp_path_factory.mktemp("fasta") / "g.fa", {"a": text, "empty": "", "b": text[:1500]})


def run(model: Path, fasta: Path, out: Path, *more: object, task: type[ShardTask] | partial[ShardTask] = ShardTask) -> int:
    fixed = ["annotate", str(fasta), "-o", str(out), "--model", str(model), "--tasks", "splice", "--device", "cpu", "-q"]
    return main([*fixed, *map(str, more)], task=task)


@pytest.fixture(scope="module")
def finished(model: Path, fasta: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "out"
    assert run(model, fasta, out, *GIVEN) == 0
    return out


@pytest.fixture(scope="module")
def unfinished(model: Path, fasta: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unfinished") / "out"
    assert run(model, fasta, out, *GIVEN, task=partial(CutShort, after=3)) == 130
    return out


def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "out"))


def run_json(out: Path) -> dict[str, object]:
    return dict(json.loads((out / "run.json").read_text()))


@pytest.mark.parametrize("more", [(), ("--workers", "1"), ("--precision", "float32"), ("-t", "1"), GIVEN])
def test_a_finished_run_is_left_alone_whatever_the_program_would_choose_here(
    more: tuple[str, ...], model: Path, fasta: Path, finished: Path, tmp_path: Path
) -> None:
    out = copy(finished, tmp_path)
    stamps = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert run(model, fasta, out, *more, task=NoWork) == 0
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == stamps


@pytest.mark.parametrize("more", [(), ("--workers", "1"), ("-t", "1")])
def test_an_unfinished_run_goes_on_with_what_it_began_with(
    more: tuple[str, ...], model: Path, fasta: Path, finished: Path, unfinished: Path, tmp_path: Path
) -> None:
    out = copy(unfinished, tmp_path)
    parts = {path: path.stat().st_mtime_ns for path in (out / ".annotator" / "parts").iterdir()}
    assert len(parts) == 3
    assert run(model, fasta, out, *more) == 0
    assert results(out) == results(finished)
    assert run_json(out)["plan"] | {"given": []} == run_json(finished)["plan"] | {"given": []}  # type: ignore[operator]
    assert run_json(out)["shards"] == run_json(finished)["shards"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("-t", "2"), "--threads: {out}: holds another run, with threads 1, not 2; leave it out"),
        (("--shard-bp", "1800"), "--shard-bp: {out}: holds another run, with shard_bp 900, not 1800; leave it out"),
        (("--precision", "bfloat16"), '--precision: {out}: holds another run, with precision "float32", not "bfloat16"'),
        (("--threshold", "0.9"), "--threshold: {out}: holds another run, with thresholds"),
        (("--tasks", "promoter"), "--tasks: {out}: holds another run, with tasks"),
        (("--dup-names", "suffix"), '--dup-names: {out}: holds another run, with duplicate_names "error"'),
    ],
)  # fmt: skip
@pytest.mark.parametrize("state", ["finished", "unfinished"])
def test_what_the_user_asks_for_differently_is_refused_by_its_name(
    state: str, more: tuple[str, ...], said: str, model: Path, fasta: Path, tmp_path: Path,
    request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = copy(request.getfixturevalue(state), tmp_path)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != "lock"}
    assert run(model, fasta, out, *more) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"annotator: error: {said.format(out=out)}"), error
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != "lock"} == before


def test_a_device_that_is_not_here_is_named(
    model: Path,
    fasta: Path,
    unfinished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    out = copy(unfinished, tmp_path)
    plan = out / ".annotator" / "plan.json"
    plan.write_text(plan.read_text().replace('"device": "cpu"', '"device": "cuda"'))
    fixed = ["annotate", str(fasta), "-o", str(out), "--model", str(model), "--tasks", "splice", "-q"]
    assert main(fixed) == EnvironmentFault.exit_code
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"{out}: its run was begun on cuda, which cannot be used here (" in error and "overwrite it" in error
    begun = Path(shutil.copytree(out, tmp_path / "begun"))
    told = json.loads(plan.read_text()) | {"given": []}
    (begun / ".annotator" / "plan.json").write_text(json.dumps(told))
    assert main([*fixed[:3], str(begun), *fixed[4:], "--overwrite"]) == 0
    finished_elsewhere = tmp_path / "finished"
    assert run(model, fasta, finished_elsewhere) == 0
    record = finished_elsewhere / "run.json"
    told = json.loads(record.read_text())
    told["plan"] |= {"device": "cuda", "precision": "bfloat16", "libraries": told["plan"]["libraries"] | {"triton": "3.9"}}
    record.write_text(json.dumps(told))
    assert main([*fixed[:3], str(finished_elsewhere), *fixed[4:]], task=NoWork) == 0  # nothing is left to compute


def test_overwriting_goes_on_with_a_run_of_the_same_command_and_replaces_any_other(
    model: Path, fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = ("--shard-bp", "900", "--overwrite")
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert run(model, fasta, whole, *same, "-t", "1") == 0
    shards = len(run_json(whole)["shards"])  # type: ignore[arg-type]
    monkeypatch.setattr("annotator.pipeline.executors.inline.usable_cpus", lambda: 1)
    assert run(model, fasta, out, *same, task=partial(CutShort, after=3)) == 130
    monkeypatch.setattr("annotator.pipeline.executors.inline.usable_cpus", lambda: 2)
    other = Path(shutil.copytree(out, tmp_path / "other"))
    assert run(model, fasta, out, *same, task=partial(CutShort, after=shards - 3)) == 0
    assert results(out) == results(whole) and run_json(out)["plan"]["threads"] == 1  # type: ignore[index]
    assert run(model, fasta, other, *same, "--threshold", "0.9", task=partial(CutShort, after=shards)) == 0
    assert run_json(other)["plan"]["threads"] == 2  # type: ignore[index]
    assert run(model, fasta, out, *same, task=partial(CutShort, after=shards - 1)) == 130  # a finished run is made anew


def test_overwriting_starts_with_what_suits_this_machine(model: Path, unfinished: Path, tmp_path: Path) -> None:
    samples = [Sample("g.fa", unfinished)]
    assert follow_earlier_runs(samples, AnnotateOptions(model=str(model), overwrite=True)) == (
        AnnotateOptions(model=str(model), overwrite=True), None,
    )  # fmt: skip
    followed, folder = follow_earlier_runs([Sample("h.fa", tmp_path / "new"), *samples], AnnotateOptions(model=str(model)))
    assert folder == unfinished and (followed.threads, followed.shard_bp, followed.device) == (1, 900, "cpu")
    assert resolve(followed, Machine("cpu", threads=64)).order.threads == 1


FORMATS = [("--bed6",), ("--bed-extra",), ("--no-header",), ("--bed6", "--no-header")]


@pytest.mark.parametrize("more", FORMATS)
def test_another_format_is_written_without_a_scan(
    more: tuple[str, ...], model: Path, fasta: Path, finished: Path, tmp_path: Path
) -> None:
    out, fresh = copy(finished, tmp_path), tmp_path / "fresh"
    assert run(model, fasta, fresh, *GIVEN, *more) == 0
    assert results(fresh) != results(out)
    before = (out / "predictions.parquet").stat().st_mtime_ns
    assert run(model, fasta, out, *more, task=NoWork) == 0
    assert results(out) == results(fresh) and (out / "predictions.parquet").stat().st_mtime_ns == before
    assert run_json(out)["files"] == run_json(fresh)["files"] and run_json(out)["formats"] == run_json(fresh)["formats"]
    assert main(["verify", str(out)]) == 0
    assert run(model, fasta, out, task=NoWork) == 0
    assert results(out) == results(finished)


@dataclass(frozen=True)
class _Mark:
    """Options of a format that only these tests have."""

    mark: str


class _MarkedFormat:
    """One line for each block of calls, which begins with a mark of the user's."""

    def __init__(self, options: _Mark) -> None:
        self._options = options

    def names(self, run: OutputRun) -> dict[str, tuple[str, ...]]:
        return {"marked.txt": ()}

    def open(self, name: str, target: Target, run: OutputRun, pool: Executor) -> "_MarkedWriter":
        return _MarkedWriter(target, self._options.mark)


class _MarkedWriter:
    def __init__(self, target: Target, mark: str) -> None:
        self._path, self._mark, self.rows = target.path, mark, 0
        self._path.touch()

    def write(self, table: pl.DataFrame) -> None:
        self.rows += table.height
        self._path.write_text(f"{self._path.read_text()}{self._mark} {table.height}\n")

    def index(self, target: Target) -> None:
        raise AssertionError("there is no index")

    def __enter__(self) -> "_MarkedWriter":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_a_format_of_one_row_in_the_registry_is_written_recorded_and_rewritten(
    model: Path, fasta: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "FORMATS", {**registry.FORMATS, "marked": _MarkedFormat})
    options = AnnotateOptions(model=str(model), tasks=("splice",), device="cpu", threads=1, shard_bp=900)
    out, marked = tmp_path / "out", replace(options, formats={**options.formats, "marked": _Mark("a")})
    annotate_into(out, [str(fasta)], None, marked, ExecutionOptions(), Silence())
    rows = run_json(out)["files"]["predictions.parquet"]["rows"]  # type: ignore[index]
    assert (out / "marked.txt").read_text() == f"a {rows}\n" and rows > 20
    assert run_json(out)["formats"] == run_json(finished)["formats"] | {"marked": {"mark": "a"}}  # type: ignore[operator]
    other = replace(options, formats={"marked": _Mark("b")})
    annotate_into(out, [str(fasta)], None, other, ExecutionOptions(), Silence(), task=NoWork)
    assert (out / "marked.txt").read_text() == f"b {rows}\n" and run_json(out)["formats"] == {"marked": {"mark": "b"}}
    assert run_json(out)["files"]["marked.txt"]["rows"] == rows  # type: ignore[index]
    assert "splice_sites.bed.gz" not in run_json(out)["files"]  # type: ignore[operator]


def test_a_file_that_went_missing_is_written_without_a_scan(model: Path, fasta: Path, finished: Path, tmp_path: Path) -> None:
    out = copy(finished, tmp_path)
    (out / "splice_sites.bed.gz").unlink()
    assert run(model, fasta, out, task=NoWork) == 0
    assert results(out) == results(finished)


def test_rewriting_that_was_cut_short_is_done_again(model: Path, fasta: Path, finished: Path, tmp_path: Path) -> None:
    class Dies(NoWork):
        def rewrite(self, *_: object, **__: object) -> dict[str, object]:  # type: ignore[override]
            raise KeyboardInterrupt

    out = copy(finished, tmp_path)
    assert run(model, fasta, out, "--bed6", task=Dies) == 130
    assert run(model, fasta, out, task=NoWork) == 0
    assert results(out) == results(finished)


@pytest.mark.parametrize("name", ["predictions.parquet", "profiles.json", "contigs.tsv"])
def test_what_only_a_scan_can_make_is_scanned_again_as_before(
    name: str, model: Path, fasta: Path, finished: Path, tmp_path: Path
) -> None:
    out = copy(finished, tmp_path)
    (out / name).unlink()
    assert run(model, fasta, out) == 0
    assert results(out) == results(finished)
    assert run_json(out)["plan"]["threads"] == 1 and run_json(out)["plan"]["shard_bp"] == 900  # type: ignore[index]


def test_a_folder_of_the_previous_version_is_refused_in_one_line(
    model: Path, fasta: Path, finished: Path, unfinished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = copy(finished, tmp_path)
    told = run_json(old)
    del told["plan"]["plan_version"], told["formats"]  # type: ignore[attr-defined]
    (old / "run.json").write_text(json.dumps(told | {"run_json_version": 2}))
    begun = Path(shutil.copytree(unfinished, tmp_path / "begun"))
    plan = json.loads((begun / ".annotator" / "plan.json").read_text())
    del plan["plan_version"]
    (begun / ".annotator" / "plan.json").write_text(json.dumps(plan))
    for out in (old, begun):
        assert run(model, fasta, out) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error == (
            f"annotator: error: {out}: holds a run of another version of this program; overwrite it or choose another folder"
        )
        assert run(model, fasta, out, "--overwrite", *GIVEN) == 0
        assert results(out) == results(finished)


def test_a_batch_goes_on_with_what_its_unfinished_sample_began_with(
    model: Path, fasta: Path, finished: Path, tmp_path: Path
) -> None:
    other = write_fasta(tmp_path / "other.fa", {"x": random_bases(2500, 9)})
    fixed = ["annotate", str(fasta), str(other), "-o", str(tmp_path / "out"), "--model", str(model), "--tasks", "splice", "-q"]
    assert main([*fixed, *GIVEN, "--device", "cpu"], task=partial(CutShort, after=2)) == 130
    assert main(fixed) == 0
    assert results(tmp_path / "out" / "g") == results(finished)
    plans = [run_json(tmp_path / "out" / name)["plan"] for name in ("g", "other")]
    assert [(plan["threads"], plan["shard_bp"]) for plan in plans] == [(1, 900), (1, 900)]  # type: ignore[index]
    for shared in ("contigs.tsv", "profiles.json"):
        assert (tmp_path / "out" / "other" / shared).is_file()
