"""Row C of the fault matrix, through the whole command."""

from __future__ import annotations

import errno
import gzip
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from annotator.cli.app import main
from annotator.output.formats import lines as line_format
from annotator.output.formats.bgzf import BgzfWriter
from tests.support import output_cases
from tests.support.detector import ACCEPTOR, DONOR, TSS, write_detector
from tests.support.runs import annotate, plant, random_bases, results, revcomp, sites, table, write_fasta

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])}
COMMAND = [sys.executable, "-c", "import sys; from annotator.cli.app import main; sys.exit(main(sys.argv[1:]))"]
MOTIF = ">MA1 TEST\nA [ 9 0 0 0 0 0 ]\nC [ 0 9 0 0 0 0 ]\nG [ 0 0 9 0 0 9 ]\nT [ 0 0 0 9 9 0 ]\n"
STATE = ".annotator"
ISLANDS = 4
"""Shards of the `long` genome: islands of bases in N, more than a shard apart."""


def planted(seed: int) -> str:
    """Two thousand bases with every kind of call."""
    text = random_bases(2000, seed)
    for number, at in enumerate(range(20, 1900, 91)):
        word = (DONOR, ACCEPTOR, TSS, "ACGTTG")[number % 4]
        text = plant(text, word if number % 3 else revcomp(word), at)
    return text


class Case:
    """A model, motifs and two genomes: one of a single shard, one of several, both scanned in no time."""

    def __init__(self, folder: Path) -> None:
        self.model = write_detector(folder / "model")
        self.motifs = folder / "test.jaspar"
        self.motifs.write_text(MOTIF)
        self.short = write_fasta(folder / "short.fa", {"a": planted(1), "b": planted(2)})
        self.long = write_fasta(folder / "long.fa", {"a": ("N" * 2_100_000).join(planted(seed) for seed in range(ISLANDS))})
        self.arguments = ["--model", str(self.model), "--motifs", str(self.motifs), "--tfbs-pvalue", "1e-3"]

    def run(self, fasta: Path, out: Path, *more: object) -> int:
        return annotate(fasta, "-o", out, *self.arguments, *more)

    def log_of(self, fasta: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> str:
        """Run to success, and return what was said."""
        capsys.readouterr()
        assert main(["annotate", str(fasta), "-o", str(out), *self.arguments, "--threads", "1"]) == 0
        return capsys.readouterr().err


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="module")
def short_results(case: Case, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("short") / "out"
    assert case.run(case.short, out) == 0
    return results(out)


@pytest.fixture(scope="module")
def long_results(case: Case, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("long") / "out"
    assert case.run(case.long, out) == 0
    assert len(json.loads((out / "run.json").read_text())["shards"]) == ISLANDS
    return results(out)


@contextmanager
def failing(call: str, at: int, code: int = errno.ESTALE) -> Iterator[list[int]]:
    """Let call number `at` of os.`call` fail, and count the calls."""
    real, made = getattr(os, call), [0]

    def sometimes(*arguments: Any, **named: Any) -> Any:
        made[0] += 1
        if made[0] - 1 == at:
            raise OSError(code, os.strerror(code))
        return real(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, call, sometimes)
        yield made


@contextmanager
def no_result_can_be_named() -> Iterator[None]:
    """Let every rename to a final name fail, so that a run ends with all its shards done."""
    real = os.replace

    def sometimes(source: Path, target: Path) -> None:
        if Path(target).parent.name != "parts" and Path(target).suffix in (".gz", ".parquet"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", sometimes)
        yield


@pytest.fixture(scope="module")
def interrupted(case: Case, long_results: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder whose run came to its last step."""
    out = tmp_path_factory.mktemp("interrupted") / "out"
    with no_result_can_be_named():
        assert case.run(case.long, out) == 6
    assert os.listdir(out) == [STATE]
    assert len(journal(out).read_text().splitlines()) == len(parts(out)) == ISLANDS
    return out


def journal(out: Path) -> Path:
    return out / STATE / "journal.jsonl"


def parts(out: Path) -> list[Path]:
    return sorted((out / STATE).rglob("*.parquet"))


def one_error(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error."""
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("annotator: error: "), error
    return error


def test_C01_every_planted_splice_site_is_canonical_and_every_file_valid(case: Case, tmp_path: Path) -> None:
    assert case.run(case.short, tmp_path / "out") == 0
    sequences = {"a": planted(1).encode(), "b": planted(2).encode()}
    lengths = {name: len(sequence) for name, sequence in sequences.items()}
    validator = output_cases.load_validator()
    reports = {path.name: validator.validate_bed(path, lengths, sequences) for path in (tmp_path / "out").glob("*.bed.gz")}
    assert sorted(reports) == ["promoters.bed.gz", "splice_sites.bed.gz", "tfbs.bed.gz"]
    assert all(report.errors == [] and report.rows > 5 for report in reports.values())
    splice = reports["splice_sites.bed.gz"]
    assert splice.canonical == splice.sites and set(splice.sites) == {"donor", "acceptor"}


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk that is full as soon as a file reaches `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_C04_a_disk_that_fills_up_ends_with_6_and_the_run_goes_on_later(
    case: Case, long_results: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With more and more room the lock, the plan, the parts and the Parquet file are in its way; every run resumes the last."""
    out, blocked = tmp_path / "out", set()
    for limit in (0, 1, 400, 1200, 2000, 4000, len(long_results["predictions.parquet"]) - 1):
        if limit > 4000:  # all shards are done: a part, with its profiles, is larger than this table
            with no_result_can_be_named():
                assert case.run(case.long, out) == 6
            capsys.readouterr()
        with files_of_at_most(limit):
            assert case.run(case.long, out) == 6
        error = one_error(capsys)
        assert "File too large" in error
        blocked.add(re.search(r"cannot write (\S+):", error)[1].rpartition("/")[2])  # type: ignore[index]
        assert not out.exists() or set(os.listdir(out)) <= {STATE}
    assert blocked >= {"plan.json", "0000000.parquet", "predictions.parquet"}
    assert case.run(case.long, out) == 0
    assert results(out) == long_results and not (out / STATE).exists()


def test_C04_a_disk_full_at_the_journal(
    case: Case, interrupted: Path, long_results: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(interrupted, tmp_path / "out")
    *lines, _ = journal(out).read_bytes().splitlines(keepends=True)
    journal(out).write_bytes(b"".join(lines) + b"\n" * 50_000)  # longer than any part
    with files_of_at_most(50_000):
        assert case.run(case.long, out) == 6
    assert "journal.jsonl: File too large" in one_error(capsys)
    assert case.run(case.long, out) == 0
    assert results(out) == long_results


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_after_the_header(writer: BgzfWriter, data: bytes) -> None:
    if not data.startswith(b"#"):
        full()


@pytest.mark.parametrize(
    ("owner", "method", "fault"),
    [
        (BgzfWriter, "write", full_after_the_header),
        (BgzfWriter, "finish", full),
        (line_format, "compress_file", full),
        (pl.LazyFrame, "sink_parquet", full),
    ],
    ids=["BED", "BED's end", "index", "Parquet"],
)
def test_C04_a_disk_full_at_a_final_file(
    owner: object,
    method: str,
    fault: Callable[..., None],
    case: Case,
    interrupted: Path,
    long_results: dict[str, bytes],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = shutil.copytree(interrupted, tmp_path / "out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, method, fault)
        assert case.run(case.long, out) == 6
    assert "No space left on device" in one_error(capsys)
    assert os.listdir(out) == [STATE]
    assert case.run(case.long, out) == 0
    assert results(out) == long_results


def test_C04_a_disk_full_while_the_bases_are_spooled(
    case: Case, short_results: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "g.fa.gz").write_bytes(gzip.compress(case.short.read_bytes()))
    with files_of_at_most(3000):
        assert case.run(tmp_path / "g.fa.gz", tmp_path / "out") == 6
    assert "cannot write the bases: File too large" in one_error(capsys)
    assert os.listdir(tmp_path) == ["g.fa.gz"]
    assert case.run(tmp_path / "g.fa.gz", tmp_path / "out") == 0
    assert results(tmp_path / "out") == short_results


PRINTING = [["models", "list"], ["models", "show"], ["--version"], ["--help"], ["annotate", "--help"]]


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_C05_standard_output_that_is_full_is_one_line_and_exit_1(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "annotator: error: cannot write standard output: No space left on device\n"


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_C05_a_reader_that_is_gone_ends_the_command_quietly(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run([*COMMAND, *arguments], stdout=writing, stderr=subprocess.PIPE, env=ENVIRONMENT, check=False)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_C06_an_output_path_that_is_a_file_stays_one(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        (tmp_path / "file").write_text("mine")
        for more in ([], ["--overwrite"]):
            assert case.run(case.short, out, *more) in (2, 6)
            assert str(out) in one_error(capsys)
    assert (tmp_path / "file").read_text() == "mine" and os.listdir(tmp_path) == ["file"]


def test_C06_the_same_command_does_nothing_and_another_one_is_refused(
    case: Case, short_results: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert case.run(case.short, out) == 0
    stamps = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert case.run(case.short, out) == 0
    for more, field in ((["--clade", "plant"], "clade"), (["--tasks", "tfbs"], "tasks")):
        assert case.run(case.short, out, *more) == 2
        assert f"holds another run, with {field} " in one_error(capsys)
    assert case.run(case.long, out) == 2
    assert "holds another run, with contigs " in one_error(capsys)
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == stamps
    assert results(out) == short_results


@pytest.mark.parametrize("damage", ["removed", "cut short"])
def test_C06_a_result_that_went_missing_is_made_again(
    damage: str, case: Case, short_results: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert case.run(case.short, out) == 0
    if damage == "removed":
        (out / "tfbs.bed.gz").unlink()
    else:
        os.truncate(out / "tfbs.bed.gz", 30)
    assert case.run(case.short, out) == 0
    assert results(out) == short_results


def test_C06_an_unfinished_run_is_not_mixed_with_another(
    case: Case, interrupted: Path, short_results: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(interrupted, tmp_path / "out")
    (out / "notes.txt").write_text("mine")
    (out / STATE / "notes.txt").write_text("not mine, it lies in the program's own folder")
    before = {path: path.read_bytes() for path in parts(out)}
    assert case.run(case.long, out, "--threshold", "0.9") == 2
    assert "holds another run, with thresholds " in one_error(capsys)
    assert {path: path.read_bytes() for path in parts(out)} == before
    assert case.run(case.short, out, "--overwrite") == 0
    assert results(out) == short_results | {"notes.txt": b"mine"} and not (out / STATE).exists()


def test_C06_foreign_files_outlive_every_ending(
    case: Case, short_results: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    foreign = {"notes.txt": b"1", ".tmp-notes": b"2", "sub/tfbs.bed.gz": b"3", "predictions.parquet.bak": b"4", ".hidden": b"5"}
    for name, content in foreign.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)
    bad = tmp_path / "bad.fa"
    bad.write_text(">a\nAC GT\n")

    def kept() -> bool:
        return all((out / name).read_bytes() == content for name, content in foreign.items())

    assert case.run(bad, out) == 3 and kept()
    assert sorted(os.listdir(out)) == sorted({name.partition("/")[0] for name in foreign})
    with no_result_can_be_named():
        assert case.run(case.short, out) == 6 and kept()
    assert case.run(case.short, out) == 0 and kept()
    assert case.run(case.short, out, "--overwrite", "--tasks", "splice") == 0 and kept()
    capsys.readouterr()


@pytest.mark.parametrize("more", [[], ["--overwrite"]], ids=["plain", "overwrite"])
@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"null", b'{"files": {}}', b'{"files": 1, "plan": {}}', b"\xff\xfe", b"[" * 100_000]
)
def test_C06_somebody_elses_run_json_is_left_alone(
    content: bytes, more: list[str], case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "run.json").write_bytes(content)
    assert case.run(case.short, out, *more) == 2
    assert "is not a run.json of this program" in one_error(capsys)
    assert os.listdir(out) == ["run.json"] and (out / "run.json").read_bytes() == content


def test_C06_a_run_json_that_names_files_elsewhere_deletes_none(case: Case, tmp_path: Path) -> None:
    out, victim = tmp_path / "out", tmp_path / "victim.txt"
    assert case.run(case.short, out) == 0
    victim.write_text("mine")
    (out / "sub").mkdir()
    (out / "sub" / "file").write_text("mine")
    found = json.loads((out / "run.json").read_text())
    entry = {"bytes": 4, "rows": 0, "sha256": ""}
    found["files"] |= {name: entry for name in ("../victim.txt", str(victim), "sub/file", "sub/../../victim.txt", ".")}
    (out / "run.json").write_text(json.dumps(found))
    assert case.run(case.short, out, "--overwrite", "--tasks", "splice") == 0
    assert victim.read_text() == (out / "sub" / "file").read_text() == "mine"


def test_C07_the_second_of_two_runs_in_one_folder_is_told_the_pid_of_the_first(
    case: Case, short_results: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = [*COMMAND, "annotate", "-", "-o", str(out), *case.arguments, "--quiet", "--threads", "1"]
    first = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)
    lock = out / STATE / "lock"
    deadline = time.monotonic() + 60
    while not (lock.exists() and lock.read_text()):
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    for more in ([], ["--overwrite"]):
        assert case.run(case.short, out, *more) == 2
        assert f"{out}: locked by pid {first.pid}," in one_error(capsys)
    _, error = first.communicate(case.short.read_bytes(), timeout=60)
    assert first.returncode == 0, error
    assert results(out) == short_results


def test_C07_the_lock_of_a_dead_process_holds_nobody_up(case: Case, interrupted: Path, tmp_path: Path) -> None:
    out = shutil.copytree(interrupted, tmp_path / "out")
    (out / STATE / "lock").write_text("1")
    assert case.run(case.long, out) == 0


@pytest.mark.parametrize(("call", "code"), [("replace", errno.ESTALE), ("fsync", errno.EIO)])
def test_C08_a_rename_or_flush_that_fails_anywhere_ends_with_6_and_can_be_resumed(
    call: str, code: int, case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only = ("--tasks", "splice", "--no-report")  # a report that cannot be written is a warning, and no result is lost
    with failing(call, -1) as made:
        assert case.run(case.short, tmp_path / "whole", *only) == 0
    assert made[0] > 5
    for at in range(made[0]):
        out = tmp_path / str(at)
        with failing(call, at, code):
            assert case.run(case.short, out, *only) == 6
        assert os.strerror(code) in one_error(capsys)
        assert not (out / "run.json").exists() and not list(out.rglob(".tmp-*"))
        assert case.run(case.short, out, *only) == 0
        assert results(out) == results(tmp_path / "whole")


def flip_in_the_middle(part: Path) -> None:
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 16
    part.write_bytes(data)


DAMAGE: dict[str, Callable[[list[Path]], object]] = {
    "flipped": lambda paths: flip_in_the_middle(paths[1]),
    "cut": lambda paths: os.truncate(paths[1], 100),
    "empty": lambda paths: paths[1].write_bytes(b""),
    "missing": lambda paths: paths[1].unlink(),
    "swapped": lambda paths: (paths[0].rename(paths[0].with_suffix(".x")), paths[1].rename(paths[0])),
    "all of them": lambda paths: [flip_in_the_middle(path) for path in paths],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_C10_a_damaged_part_is_computed_again(
    damage: str, case: Case, interrupted: Path, long_results: dict[str, bytes], tmp_path: Path
) -> None:
    out = shutil.copytree(interrupted, tmp_path / "out")
    DAMAGE[damage](parts(out))
    assert case.run(case.long, out) == 0
    assert results(out) == long_results


def finished_share(log: str) -> tuple[int, int]:
    """Bases that an earlier run had finished, and all of them."""
    found = re.search(r"resuming: ([\d,]+) of ([\d,]+) bp", log)
    return (0, 0) if found is None else (int(found[1].replace(",", "")), int(found[2].replace(",", "")))


def with_values(line: bytes, *values: object) -> list[bytes]:
    """The line with each of its fields, in turn, holding each of the values; and lacking it."""
    entry = json.loads(line)
    changed = [entry | {name: value} for name in entry for value in values]
    return [json.dumps(row).encode() for row in [*changed, *({k: entry[k] for k in entry if k != name} for name in entry)]]


HARMLESS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "untouched": lambda lines: lines,
    "a line twice": lambda lines: [*lines, lines[0], lines[-1]],
    "shuffled": lambda lines: lines[::-1],
    "blank lines": lambda lines: [b"", *lines, b"", b"  "],
    "bytes that are no text": lambda lines: [b"\xff\x00\xfe", *lines, bytes(range(256)).replace(b"\n", b"")],
    "what a machine that stopped left": lambda lines: [*lines[:-1], b"\0" * 4096 + b"\n" + lines[-1], b"\0" * 100],
    "JSON of another kind": lambda lines: [b"null", b"1", b"[]", b'"x"', b"{}", b"[[[]]]", *lines],
    "depth without end": lambda lines: [b"[" * 100_000, *lines, b'{"a":' * 50_000],
    "numbers without end": lambda lines: [*with_values(lines[0], 10**30, -1), b"9" * 5000, *lines],
    "infinite numbers": lambda lines: [*with_values(lines[0], float("inf"), float("nan")), *lines],
    "values of another kind": lambda lines: [*with_values(lines[0], None, "x", ["x"]), *lines],
    "lines of another plan": lambda lines: [*(re.sub(rb'("plan": ")..', rb"\1zz", line) for line in lines), *lines],
    "shards of another genome": lambda lines: [re.sub(rb'("shard": )\d+', rb"\1%d" % 10**6, line) for line in lines] + lines,
}


@pytest.mark.parametrize("change", HARMLESS)
def test_C11_strange_lines_in_the_journal_cost_nothing(
    change: str, case: Case, interrupted: Path, long_results: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(interrupted, tmp_path / "out")
    lines = journal(out).read_bytes().splitlines()
    journal(out).write_bytes(b"\n".join(HARMLESS[change](lines)) + b"\n")
    done, total = finished_share(case.log_of(case.long, out, capsys))
    assert done == total > 0
    assert results(out) == long_results


@pytest.mark.parametrize("kept", [0, 1, 20, -30, -1, None], ids=lambda kept: f"cut at {kept}")
def test_C11_of_a_line_cut_short_the_shard_is_computed_again(
    kept: int | None,
    case: Case,
    interrupted: Path,
    long_results: dict[str, bytes],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And the line that the next run writes after it is whole."""
    out = shutil.copytree(interrupted, tmp_path / "out")
    *lines, last = journal(out).read_bytes().splitlines()
    journal(out).write_bytes(b"".join(line + b"\n" for line in lines) + last[:kept])
    with no_result_can_be_named():
        assert case.run(case.long, out) == 6
    done, total = finished_share(case.log_of(case.long, out, capsys))
    assert done == total > 0
    assert results(out) == long_results


def test_C11_a_journal_of_another_plan_counts_for_nothing(
    case: Case, interrupted: Path, long_results: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(interrupted, tmp_path / "out")
    text = journal(out).read_text()
    plans = {json.loads(line)["plan"] for line in text.splitlines()}
    assert len(plans) == 1
    journal(out).write_text(text.replace(plans.pop(), "0" * 64))
    for part in parts(out):
        part.write_bytes(b"of another run")
    assert finished_share(case.log_of(case.long, out, capsys)) == (0, 0)
    assert results(out) == long_results


def test_C03_a_threshold_that_nothing_reaches_gives_whole_and_empty_files(case: Case, tmp_path: Path) -> None:
    assert case.run(case.short, tmp_path / "out", "--threshold", "1", "--tasks", "splice,promoter") == 0
    assert sites(tmp_path / "out") == set() and table(tmp_path / "out").is_empty()
    for name in ("promoters", "splice_sites"):
        path = tmp_path / "out" / f"{name}.bed.gz"
        assert gzip.decompress(path.read_bytes()).splitlines()[-1].startswith(b"#chrom\t")
        assert {f"{path.name}.csi", f"{path.name}.tbi"} <= set(os.listdir(tmp_path / "out"))
