"""Files, folders and systems as users have them, through the whole command; the inputs are made here."""

from __future__ import annotations

import errno
import fcntl
import gzip
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from annotator import preflight
from annotator.cli import app
from annotator.cli.app import main
from tests.support.detector import write_detector
from tests.support.runs import annotate, plant, python_path, random_bases, results, table, write_fasta
from tests.unit.test_fasta_compression import bgzf
from tests.unit.test_motif_formats import DREME_OUTPUT, HOMER, MEME_OUTPUT, NAMED, STREME_OUTPUT

NO_UTF8 = os.fsdecode(b"b\xf6se")
"""A name in Latin-1."""


class Case:
    """A model that takes no time, a genome of two contigs and what an undisturbed run makes of it."""

    def __init__(self, folder: Path) -> None:
        text = random_bases(1500, 1)
        for at in range(20, 1400, 90):
            text = plant(text, ("AAGGTA", "AGCATC", "GATAAG")[at // 90 % 3], at)
        self.model = write_detector(folder / "model")
        self.fasta = write_fasta(folder / "g.fa", {"a": text, "b": text[::-1]})
        self.out = folder / "out"
        assert self.run(self.fasta, self.out) == 0
        self.results = results(self.out)

    def run(self, fasta: object, out: object, *more: object) -> int:
        return annotate(fasta, "-o", out, "--model", self.model, "--tasks", "splice", *more)

    def bytes(self) -> bytes:
        return self.fasta.read_bytes()


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("case"))


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run_json(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "run.json").read_text())
    return content


def same_calls(case: Case, out: Path) -> bool:
    return (out / "predictions.parquet").read_bytes() == case.results["predictions.parquet"]


def refused(capsys: pytest.CaptureFixture[str], code: int, wanted: int) -> str:
    """The one line of a refused run."""
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "annotator: error:" in line]
    assert code == wanted, line
    return line


@pytest.mark.parametrize("form", ["gzip", "members", "bgzf"])
@pytest.mark.parametrize("padding", [1, 512, 70_000])
def test_B13_nul_padding(case: Case, tmp_path: Path, form: str, padding: int) -> None:
    text = case.bytes()
    data = {"gzip": gzip.compress(text), "bgzf": bgzf(text), "members": gzip.compress(text[:700]) + gzip.compress(text[700:])}[
        form
    ]
    (tmp_path / "pad.fa.gz").write_bytes(data + bytes(padding))
    assert case.run("pad.fa.gz", "out") == 0 and same_calls(case, tmp_path / "out")
    assert (
        f"pad.fa.gz: {padding} NUL bytes after the compressed data passed over" in run_json(tmp_path / "out")["input"]["warnings"]
    )


BLANKS = {
    "end of the file": lambda text: text + b" ",
    "one line": lambda text: text.replace(b"\n", b" \n", 5),
    "every line": lambda text: text.replace(b"\n", b"\t\n"),
    "every line, crlf": lambda text: text.replace(b"\n", b"  \r\n"),
    "ctrl-z": lambda text: text + b"\x1a",
    "dos file": lambda text: text.replace(b"\n", b"\r\n") + b"\x1a\x1a\r\n",
}


@pytest.mark.parametrize("form", BLANKS)
def test_A26_blanks_at_line_ends_and_ctrl_z(case: Case, tmp_path: Path, form: str) -> None:
    (tmp_path / "x.fa").write_bytes(BLANKS[form](case.bytes()))
    assert case.run("x.fa", "out") == 0 and same_calls(case, tmp_path / "out")
    assert any("passed over" in line for line in run_json(tmp_path / "out")["input"]["warnings"])


@pytest.mark.parametrize("mask, given", [(b"X", "X"), (b"x", "X"), (b"Z", "XZ"), (b"?", "?")])
def test_A27_masked_genomes(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], mask: bytes, given: str) -> None:
    text = case.bytes()
    (tmp_path / "n.fa").write_bytes(text[:900] + text[900:960].replace(b"A", b"N") + text[960:])
    (tmp_path / "x.fa").write_bytes(text[:900] + text[900:960].replace(b"A", mask) + text[960:])
    assert case.run("n.fa", "n") == 0
    refused(capsys, case.run("x.fa", "x"), 3)
    refused(capsys, case.run("x.fa", "x", "--gaps-as-n"), 3)
    assert case.run("x.fa", "x", "--mask-chars", given) == 0
    assert results(tmp_path / "x") == results(tmp_path / "n")
    assert run_json(tmp_path / "x")["input"]["altered_bases"]["mask_as_n"] == text[900:960].count(b"A")
    assert "--mask-chars" in refused(capsys, case.run("x.fa", "x", "--mask-chars", given + "R"), 2)  # another plan


@pytest.mark.parametrize("given", ["A", "acgt", "X>", " "])
def test_A27_bases_do_not_mask(case: Case, capsys: pytest.CaptureFixture[str], given: str) -> None:
    assert "--mask-chars" in refused(capsys, case.run(case.fasta, "out", "--mask-chars", given), 2)


def test_B14_the_same_bases_in_another_compression_are_the_same_input(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, text = tmp_path / "g.fa.gz", case.bytes()
    path.write_bytes(gzip.compress(text, 1))
    assert case.run(path, "out") == 0
    before = (tmp_path / "out" / "predictions.parquet").stat()
    for data in (gzip.compress(text, 9), bgzf(text), text, gzip.compress(text[:99]) + gzip.compress(text[99:]) + bytes(7)):
        path.write_bytes(data)
        assert case.run(path, "out") == 0
        assert (tmp_path / "out" / "predictions.parquet").stat() == before
    path.write_bytes(gzip.compress(text.replace(b"A", b"C", 3)))
    assert "holds another run" in refused(capsys, case.run(path, "out"), 2)


def hits(case: Case, out: str, motifs: str) -> set[tuple[int, str]]:
    assert annotate(case.fasta, "-o", out, "--motifs", motifs, "--tasks", "tfbs", "--tfbs-pvalue", "1e-3") == 0
    return set(table(Path(out)).select("position", "strand").iter_rows())


def test_B15_text_output_of_meme_streme_and_dreme_finds_what_jaspar_counts_find(case: Case, tmp_path: Path) -> None:
    rows = [(0, 1, 0, 1, 1, 0), (0,) * 6, (1, 0, 0, 0, 0, 1), (0, 0, 1, 0, 0, 0)]
    jaspar = ">m\n" + "".join(
        f"{base} [ {' '.join(str(50 * n) for n in row)} ]\n" for base, row in zip("ACGT", rows, strict=True)
    )
    pcm = ">m\n" + "".join("\t".join(str(50 * row[i]) for row in rows) + "\n" for i in range(6))
    (tmp_path / "m").write_text(jaspar)
    expected = hits(case, "jaspar", "m")
    assert len(expected) >= 5
    for name, text in (("meme", MEME_OUTPUT), ("streme", STREME_OUTPUT), ("dreme", DREME_OUTPUT), ("pcm", pcm)):
        (tmp_path / "m").write_text(text)
        assert hits(case, name, "m") == expected


@pytest.mark.parametrize("name", ["homer", "hocomoco weights", "cis-bp", "uniprobe", "stamp"])
def test_B15_motif_formats_that_are_not_read_are_named(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    text, line, words = NAMED[name]
    (tmp_path / "m").write_text(text)
    told = refused(capsys, annotate(case.fasta, "-o", "out", "--motifs", "m", "--tasks", "tfbs"), 3)
    assert f"m: line {line}: " in told and words in told and not (tmp_path / "out").exists()


def test_B15_a_square_homer_matrix_is_not_read_as_jaspar(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m").write_text(">GATA\n" + HOMER.partition("\n")[2][: 4 * len("0.01\t0.01\t0.97\t0.01\n")])
    told = refused(capsys, annotate(case.fasta, "-o", "out", "--motifs", "m", "--tasks", "tfbs"), 3)
    assert "four rows of four numbers" in told


# Point 6: found out before the work.


@pytest.fixture
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever comes after the first checks is a failure."""

    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("the run began")

    monkeypatch.setattr("annotator.pipeline.annotate.annotate_into", loaded)


URLS = ["s3://bucket/res", "gs://bucket/res", "file:///some/where/x", "https://host/x", "s3:/bucket", "S3A://b"]


@pytest.mark.parametrize("out", URLS)
@pytest.mark.usefixtures("nothing_is_loaded")
def test_C12_urls_are_no_folders(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str) -> None:
    assert "this is a URL; results are written to a folder of this machine" in refused(capsys, case.run(case.fasta, out), 2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("out", ["a:b", "x:y/s3:/deep", "c:"])
def test_C12_folders_with_colons_are_written(case: Case, tmp_path: Path, out: str) -> None:
    (tmp_path / "x:y").mkdir()
    assert case.run(case.fasta, out) == 0 and results(tmp_path / out) == case.results


@pytest.mark.parametrize("out", ["res", "res/below", "other/../res"])
@pytest.mark.usefixtures("nothing_is_loaded")
def test_C12_links_to_nowhere(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str) -> None:
    (tmp_path / "res").symlink_to("/nonexistent-scratch/gone")
    assert "res: is a link to /nonexistent-scratch/gone, which is not there" in refused(capsys, case.run(case.fasta, out), 2)
    (tmp_path / "loop").symlink_to("loop")
    assert "loop: is a link to loop" in refused(capsys, case.run(case.fasta, "loop"), 2)


@pytest.mark.usefixtures("nothing_is_loaded")
def test_C12_files_in_the_way(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert "file: is not a folder" in refused(capsys, case.run(case.fasta, "file"), 2)
    assert "file is not a folder" in refused(capsys, case.run(case.fasta, "file/below/it"), 2)


@pytest.mark.parametrize(
    "number, words",
    [(errno.ENOLCK, "no locks"), (errno.EOPNOTSUPP, "no locks"), (errno.ENOSPC, "No space left"), (errno.EROFS, "Read-only")],
)
@pytest.mark.usefixtures("nothing_is_loaded")
def test_C13_file_systems_without_locks_and_full_ones(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, words: str
) -> None:
    def fails(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    if words == "no locks":
        monkeypatch.setattr(fcntl, "flock", fails)
    else:
        monkeypatch.setattr(preflight.os, "fsync", fails)
    told = refused(capsys, case.run(case.fasta, "new/out"), 6)
    assert "cannot write new/out: " in told and words in told and not list(tmp_path.iterdir())


@pytest.mark.usefixtures("nothing_is_loaded")
def test_C13_folders_that_cannot_be_written(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    for out in ("/proc/results", "/proc/self/results"):  # not even root can make a folder there
        assert f"cannot write {Path(out).parent}" in refused(capsys, case.run(case.fasta, out), 6)


@pytest.mark.parametrize("path", ["missing.fa", "folder", "s3://bucket/g.fa"])
@pytest.mark.usefixtures("nothing_is_loaded")
def test_B16_inputs_that_are_not_there(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str) -> None:
    (tmp_path / "folder").mkdir()
    for arguments in ([path], [case.fasta, "--regions", path], [case.fasta, "--motifs", path], ["--sheet", path]):
        told = refused(capsys, annotate(*arguments, "-o", "out"), 2)
        assert "cannot read: " in told or "no such file" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("line", ["a\t10\t1e3", "a\t-1\t5", "a\t9\t5", "a 10", "elsewhere\tx\t5"])
@pytest.mark.usefixtures("nothing_is_loaded")
def test_B16_bad_syntax_in_regions(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str) -> None:
    (tmp_path / "r.bed").write_text(f"# regions\na\t1\t5\n{line}\n")
    assert "r.bed: line 3: " in refused(capsys, case.run(case.fasta, "out", "--regions", "r.bed"), 3)


def test_B16_C12_the_first_second(case: Case, tmp_path: Path) -> None:
    """Nothing heavy is imported before a path is refused."""
    for arguments in (["missing.fa", "-o", "out"], [str(case.fasta), "-o", "s3://x/y"]):
        began = time.monotonic()
        script = (
            "import sys; from annotator.cli.app import main\n"
            f"code = main(['annotate', *{arguments!r}])\n"
            "sys.exit(90 if {'torch', 'polars', 'transformers'} & set(sys.modules) else code)"
        )
        done = subprocess.run([sys.executable, "-c", script], env=python_path(), capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert time.monotonic() - began < 10  # of a machine that does other things as well


def test_C14_results_folders_whose_path_is_not_utf8(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / NO_UTF8).mkdir()
    for out in (NO_UTF8, f"{NO_UTF8}/out", f"new/{NO_UTF8}"):
        assert "the path is not UTF-8" in refused(capsys, case.run(case.fasta, out), 2)
    monkeypatch.chdir(NO_UTF8)
    assert "the path is not UTF-8" in refused(capsys, case.run(case.fasta, "out"), 2)
    assert not list((tmp_path / NO_UTF8).iterdir())


def test_C14_inputs_whose_path_is_not_utf8_work(case: Case, tmp_path: Path) -> None:
    names = [f"{NO_UTF8}.fa", f"{NO_UTF8}.fa.gz", f"{NO_UTF8}.bed", f"{NO_UTF8}.jaspar"]
    fasta, zipped, regions, motifs = (tmp_path / name for name in names)
    fasta.write_bytes(case.bytes())
    zipped.write_bytes(gzip.compress(case.bytes()))
    regions.write_text("a\t0\t1500\nb\t0\t1500\n")
    motifs.write_text(">m\n9 0 0 9\n0 9 0 0\n0 0 9 0\n0 0 0 0\n>n\n9 0\n0 9\n0 0\n0 0\n")
    assert case.run(fasta, "plain") == 0 and results(tmp_path / "plain") == case.results
    assert case.run(zipped, "zipped", "--regions", regions) == 0 and same_calls(case, tmp_path / "zipped")
    assert annotate(fasta, "-o", "tfbs", "--motifs", motifs, "--tasks", "tfbs", "--tfbs-pvalue", "0.01") == 0
    assert run_json(tmp_path / "plain")["input"]["path"].endswith("b\\xf6se.fa")


def test_C14_one_such_path_never_ends_the_rest_of_a_batch(case: Case, tmp_path: Path) -> None:
    (tmp_path / f"{NO_UTF8}.fa").write_bytes(case.bytes())
    arguments = [case.fasta, f"{NO_UTF8}.fa", f"{NO_UTF8}-gone.fa", "s3://bucket/u.fa", "-o", "out"]
    assert annotate(*arguments, "--model", case.model, "--tasks", "splice") == 4
    summary = json.loads((tmp_path / "out" / "batch.json").read_text())["samples"]
    assert [(entry["sample"], entry["exit_status"]) for entry in summary] == [("g", 0), ("b_se", 0), ("b_se-gone", 2), ("u", 2)]
    assert results(tmp_path / "out" / "g") == results(tmp_path / "out" / "b_se") == case.results
    assert summary[1]["fasta"] == "b\\xf6se.fa"


def test_C14_names_that_the_locale_cannot_write(case: Case, tmp_path: Path) -> None:
    environment = python_path() | {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    (tmp_path / "größe.fa").write_bytes(case.bytes())
    run = [sys.executable, "-c", "import sys; from annotator.cli.app import main; sys.exit(main())", "annotate", "-q", "-t", "1"]
    common = ["--model", str(case.model), "--tasks", "splice"]
    for inputs, out, code in (([str(case.fasta)], "größe", 2), ([str(case.fasta), "größe.fa"], "out", 0)):
        done = subprocess.run([*run, *inputs, "-o", out, *common], env=environment, capture_output=True, cwd=tmp_path)
        assert done.returncode == code, done.stderr
        assert len(done.stderr.splitlines()) == (code != 0)
    assert results(tmp_path / "out" / "gr____e") == case.results


class PanicException(BaseException):  # noqa: N818
    """As the bindings of libraries in Rust raise it."""


MEMORY = [
    MemoryError(),
    RuntimeError("can't start new thread"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)),
    PanicException("called `Result::unwrap()` on an `Err` value: ThreadPoolBuildError { kind: IOError(WouldBlock) }"),
    PanicException("failed to spawn thread: Os { code: 11, kind: WouldBlock }"),
    RuntimeError("std::bad_alloc"),
    ValueError("parquet: Invalid parameter: zstd error: Allocation error : not enough memory"),
]


@pytest.mark.parametrize("error", MEMORY, ids=[f"{type(error).__name__}-{i}" for i, error in enumerate(MEMORY)])
def test_D15_lack_of_memory_in_any_form(
    case: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("annotator.pipeline.annotate.annotate_into", fails)
    refused(capsys, case.run(case.fasta, "out"), 6)


def test_D15_other_panics_are_bugs(case: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(*_: object, **__: object) -> None:
        raise PanicException("index out of bounds")

    monkeypatch.setattr("annotator.pipeline.annotate.annotate_into", fails)
    assert "internal error: PanicException: index out of bounds" in refused(capsys, case.run(case.fasta, "out"), 1)


@pytest.mark.parametrize("mebibytes", [300, 700, 1100])
@pytest.mark.usefixtures("nothing_is_loaded")
def test_D15_a_limit_on_address_space(
    case: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mebibytes: int
) -> None:
    monkeypatch.setattr(preflight.resource, "getrlimit", lambda _: (mebibytes << 20, resource.RLIM_INFINITY))
    told = refused(capsys, case.run(case.fasta, "out"), 6)
    assert f"out of memory: address space is limited to {mebibytes} MiB (ulimit -v)" in told


ENTRY = "import sys\nfrom annotator.cli import app\n"


def test_D15_an_abort_of_a_library_under_such_a_limit_ends_with_6(tmp_path: Path) -> None:
    script = ENTRY + "import os\napp.main = lambda: os.abort()\napp.main_entry()"
    for limit, code in ((8 << 30, 6), (resource.RLIM_INFINITY, -6)):
        done = subprocess.run(
            [sys.executable, "-c", script], env=python_path(), cwd=tmp_path, check=False, capture_output=True,
            preexec_fn=lambda limit=limit: (
                resource.setrlimit(resource.RLIMIT_AS, (limit, limit)), resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            ),
        )  # fmt: skip
        assert done.returncode == code, done.stderr


def shell(command: str, folder: Path) -> int:
    (folder / "run.py").write_text(ENTRY + "app.main_entry()")
    done = subprocess.run(["sh", "-c", f"{sys.executable} run.py {command}"], env=python_path(), cwd=folder, check=False)
    return done.returncode


def test_D16_closed_standard_files_are_no_crash(case: Case, tmp_path: Path) -> None:
    command = f"annotate {case.fasta} -o out --model {case.model} --tasks splice -t 1 <&- >&- 2>&-"
    assert shell(command, tmp_path) == 0 and results(tmp_path / "out") == case.results


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-"])
def test_D16_a_closed_standard_error_keeps_the_exit_code(tmp_path: Path, closed: str) -> None:
    assert shell(f"annotate missing.fa -o out {closed}", tmp_path) == 2


def test_D16_no_standard_error_within_a_process(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["annotate", "missing.fa", "-o", "out"]) == 2
    monkeypatch.setattr(sys, "stderr", None)
    assert case.run(case.fasta, "out", "--progress", "bar") == 0


def test_D16_the_line_of_an_error_that_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        def write(self, _: str) -> int:
            raise BrokenPipeError

        def isatty(self) -> bool:
            return True

        def flush(self) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Gone())
    assert app.main(["annotate", "missing.fa", "-o", "out", "-q"]) == 2
