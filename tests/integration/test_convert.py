"""`annotator convert` and `annotate --formats`: the same bytes either way, files in step with run.json, faults as one line."""

import errno
import gzip
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

import annotator
from annotator.cli.app import main
from annotator.errors import UsageError
from annotator.output.formats import lines
from annotator.output.formats.bbi import BbiFile
from annotator.output.formats.bgzf import BgzfWriter
from annotator.output.options import FORMAT_NAMES
from tests.support.detector import write_detector
from tests.support.runs import bed_lines, plant, random_bases, results, table, write_fasta

ALL = ",".join(FORMAT_NAMES)
COLUMNS = ("chrom", "start", "end", "kind", "strand", "position", "score")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_detector(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    text = random_bases(4000, 3)
    for at in range(40, 3900, 113):
        text = plant(text, ("AAGGTA", "AGCATC", "TATTCA")[at % 3], at)
    return write_fasta(tmp_path_factory.mktemp("fasta") / "g.fa", {"a": text, "empty": "", "b|x": text[:1500], "one": "A"})


@pytest.fixture(scope="module")
def motifs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("motifs") / "m.jaspar"
    path.write_text(">MA1.1\tX;Y=1\nA [10 0 0 0 0 9]\nC [0 10 0 0 9 0]\nG [0 0 10 0 0 0]\nT [0 0 0 10 0 0]\n")
    return path


def run(model: Path, motifs: Path, fasta: Path, out: Path, *more: str) -> int:
    fixed = ["annotate", str(fasta), "-o", str(out), "--model", str(model), "--motifs", str(motifs), "--tfbs-pvalue", "0.002"]
    return main([*fixed, "--tasks", "promoter,splice,tfbs", "--device", "cpu", "-t", "1", "--shard-bp", "900", "-q", *more])


@pytest.fixture(scope="module")
def finished(model: Path, motifs: Path, fasta: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "out"
    assert run(model, motifs, fasta, out) == 0
    return out


@pytest.fixture(scope="module")
def every(model: Path, motifs: Path, fasta: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("every") / "out"
    assert run(model, motifs, fasta, out, "--formats", ALL) == 0
    return out


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run without the genome at hand."""
    return Path(shutil.copytree(finished, tmp_path / "out"))


def run_json(out: Path) -> dict[str, object]:
    return dict(json.loads((out / "run.json").read_text()))


def named(out: Path) -> dict[str, str]:
    """Names and hashes that run.json tells; each is true, and no other file is there."""
    files = {name: entry["sha256"] for name, entry in run_json(out)["files"].items()}  # type: ignore[attr-defined]
    assert {name: hashlib.sha256(data).hexdigest() for name, data in results(out).items()} == files
    return files


def test_convert_writes_the_bytes_of_annotate_from_the_table_alone(folder: Path, every: Path) -> None:
    (folder / "profiles.json").rename(folder.parent / "kept")
    assert main(["convert", str(folder), "--to", ALL, "-q"]) == 0
    (folder.parent / "kept").rename(folder / "profiles.json")
    assert results(folder) == results(every) and named(folder) == named(every)
    assert main(["verify", str(folder)]) == 0
    assert len(table(folder)) > 60 and not (folder / ".annotator").exists()
    kinds = {"bb": ("promoters", "splice_sites", "tfbs"), "bed6.bed.gz": ("promoters", "splice_sites", "tfbs")}
    wanted = {f"{stem}.{ending}" for ending, stems in kinds.items() for stem in stems} | {"calls.gff3.gz", "calls.tsv.gz"}
    assert wanted <= set(named(folder))


def test_the_command_of_annotate_leaves_what_convert_added_alone(
    folder: Path, model: Path, motifs: Path, fasta: Path, finished: Path
) -> None:
    assert main(["convert", str(folder), "--to", "gff3,bed6", "-q"]) == 0
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.name in named(folder)}
    assert run(model, motifs, fasta, folder) == 0
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.name in named(folder)} == before
    assert run(model, motifs, fasta, folder, "--formats", "tsv") == 0  # of its own formats, BED is asked for no more
    assert {"calls.gff3.gz", "promoters.bed6.bed.gz", "calls.tsv.gz"} <= set(named(folder)).difference({"promoters.bed.gz"})
    assert not (folder / "promoters.bed.gz").exists() and not (folder / "promoters.bed.gz.csi").exists()
    assert run_json(folder)["formats"] == {"tsv": {}}
    (folder / "calls.gff3.gz.csi").unlink()  # what is lost of convert's files is converted again, not by annotate
    assert run(model, motifs, fasta, folder, "--formats", "tsv") == 0
    assert not (folder / "calls.gff3.gz").exists() and "promoters.bed6.bed.gz" in named(folder)


def test_a_format_that_is_no_longer_asked_for_is_removed(
    folder: Path, model: Path, motifs: Path, fasta: Path, finished: Path
) -> None:
    assert run(model, motifs, fasta, folder, "--formats", "gff3,bigbed") == 0
    assert {name.partition(".")[2] for name in named(folder)} == {
        "parquet", "tsv", "json", "gff3.gz", "gff3.gz.csi", "gff3.gz.tbi", "bb",
    }  # fmt: skip
    assert run(model, motifs, fasta, folder) == 0
    assert results(folder) == results(finished) and named(folder) == named(finished)


@pytest.mark.parametrize("flag", ["--bed6", "--bed-extra"])
def test_the_flags_of_bed_are_names_of_formats(
    flag: str, model: Path, motifs: Path, fasta: Path, finished: Path, tmp_path: Path
) -> None:
    by_flag, by_name = shutil.copytree(finished, tmp_path / "flag"), shutil.copytree(finished, tmp_path / "name")
    assert run(model, motifs, fasta, by_flag, flag) == 0
    assert run(model, motifs, fasta, by_name, "--formats", flag[2:]) == 0
    assert results(by_flag) == results(by_name) != results(finished)
    assert set(named(by_flag)) == set(named(finished))


@pytest.mark.parametrize("moment", ["before", "after"])
def test_what_was_cut_short_is_made_whole_and_forgets_no_file(
    moment: str, folder: Path, model: Path, motifs: Path, fasta: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut short while GFF3 is written, or between its last rename and run.json."""
    import annotator.results.rewriting as rewriting

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if moment == "before":
            patch.setattr(lines.LineFile, "append", dies)
        else:
            patch.setattr(rewriting, "files_json", dies)
        assert run(model, motifs, fasta, folder, "--formats", "gff3") == 130
    assert (folder / "calls.gff3.gz").exists() == (moment == "after")
    assert main(["convert", str(folder), "--to", "tsv", "-q"]) == 2  # until it is known which files are the run's own
    assert run(model, motifs, fasta, folder) == 0
    assert results(folder) == results(finished)
    with monkeypatch.context() as patch:
        patch.setattr(rewriting, "files_json", dies)
        assert main(["convert", str(folder), "--to", "gff3", "-q"]) == 130
    assert (folder / "calls.gff3.gz").exists()
    assert main(["convert", str(folder), "--to", "gff3,tsv", "-q"]) == 0
    assert {"calls.gff3.gz", "calls.tsv.gz", "promoters.bed.gz"} <= set(named(folder))


def test_a_run_that_is_begun_again_with_other_formats_leaves_none_behind(
    folder: Path, model: Path, motifs: Path, fasta: Path, finished: Path
) -> None:
    assert main(["convert", str(folder), "--to", "gff3", "-q"]) == 0
    (folder / "contigs.tsv").unlink()  # so it is scanned again
    assert run(model, motifs, fasta, folder, "--formats", "tsv") == 0
    assert run(model, motifs, fasta, folder) == 0
    assert results(folder) == results(finished) and named(folder) == named(finished)
    assert run(model, motifs, fasta, folder, "--formats", "gff3", "--overwrite") == 0
    assert "promoters.bed.gz" not in named(folder)


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("owner", "method", "file"),
    [
        (BgzfWriter, "write", "calls.gff3.gz"), (BgzfWriter, "finish", "calls.gff3.gz"), (BbiFile, "block", "promoters.bb"),
        (BbiFile, "_write", "tfbs.bb"), (BbiFile, "finish", "tfbs.bb"), (BbiFile, "summarise", "promoters.bb"),
        (os, "fsync", "run.json"),
    ],
)  # fmt: skip
def test_C04_a_disk_full_at_a_writer_of_formats(
    owner: object, method: str, file: str, folder: Path, every: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = results(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, method, full)
        assert main(["convert", str(folder), "--to", "gff3,bigbed", "-q"]) == 6
    assert capsys.readouterr().err == f"annotator: error: cannot write {folder / file}: No space left on device\n"
    assert results(folder) == before and main(["verify", str(folder)]) == 0
    assert main(["convert", str(folder), "--to", ALL, "-q"]) == 0
    assert results(folder) == results(every)


@pytest.mark.parametrize(
    ("prepare", "to", "code", "said"),
    [
        (lambda out: shutil.rmtree(out), "gff3", 2, "{out}: no such folder"),
        (lambda out: (out / "run.json").unlink(), "gff3", 2, "{out}: neither run.json nor batch.json"),
        (lambda out: (out / "run.json").write_text("{}"), "gff3", 3, "{out}/run.json: is not a run.json of this program"),
        (lambda out: (out / "predictions.parquet").write_text("x"), "gff3", 3, "{out}/predictions.parquet: cannot be read"),
        (lambda out: (out / "calls.gff3.gz").write_text("mine"), "gff3", 2, "{out}/calls.gff3.gz: exists and is not ours"),
        (lambda out: (out / "contigs.tsv").write_text("x"), "gff3", 3, "{out}/contigs.tsv: is not a table of names"),
        (lambda out: None, "gff3,xls", 2, "--to xls: choose from bed9"),
        (lambda out: None, ",", 2, "--to: name one at the least"),
    ],
)  # fmt: skip
def test_what_cannot_be_converted_is_one_line_and_changes_nothing(
    prepare: Callable[[Path], object], to: str, code: int, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "run.json"} if folder.exists() else {}
    assert main(["convert", str(folder), "--to", to, "-q"]) == code
    error = capsys.readouterr().err
    assert error.startswith(f"annotator: error: {said.format(out=folder)}") and error.count("\n") == 1, error
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "run.json"} if folder.exists() else {}
    assert after == before


def test_an_unfinished_run_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / ".annotator").mkdir()
    (folder / "run.json").unlink()
    assert main(["convert", str(folder), "--to", "gff3", "-q"]) == 2
    assert "the run is not finished; give the same command again" in capsys.readouterr().err


def test_a_folder_of_several_assemblies_is_converted_sample_by_sample(
    model: Path, motifs: Path, fasta: Path, finished: Path, tmp_path: Path
) -> None:
    other = write_fasta(tmp_path / "other.fa", {"x": random_bases(1200, 9)})
    assert run(model, motifs, fasta, tmp_path / "out", str(other)) == 0
    batch = annotator.convert(tmp_path / "out", ("gff3",))
    assert [("calls.gff3.gz" in sample.files) for sample in batch.samples.values()] == [True, True]
    assert main(["verify", str(tmp_path / "out")]) == 0


def test_python_converts_too(folder: Path) -> None:
    found = annotator.convert(folder, ("tsv", "bed6"), header=False)
    read = pl.read_csv(found.files["calls.tsv.gz"], separator="\t", schema=found.calls().collect_schema())
    assert read.equals(found.calls().collect())
    assert all(len(fields) == 6 for fields in bed_lines(found.files["splice_sites.bed6.bed.gz"]))
    assert gzip.decompress(found.files["splice_sites.bed6.bed.gz"].read_bytes())[:1] != b"#"
    with pytest.raises(UsageError, match="to='xls': choose from"):
        annotator.convert(folder, ("xls",))
