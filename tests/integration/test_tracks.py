"""`annotate --tracks` and `annotator call`: tracks hold what the model says, calls from them are those of a scan; 0-based."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import annotator
from annotator.cli.app import main
from annotator.errors import InputError, UsageError
from annotator.output.formats.bbi import BbiFile
from annotator.output.track_parts import read_tracks
from annotator.pipeline.driver import assembly
from annotator.results.workspace import rows_of_files
from tests.property.test_formats_roundtrip import reader
from tests.support.detector import graded, write_detector
from tests.support.runs import plant, python_path, random_bases, results, table, write_fasta
from tests.support.toy_task import CutShort

KINDS = {"donor": "donor", "acceptor": "acceptor", "tss": "promoter"}
SHARD_BP = "1800"


@pytest.fixture(scope="module")
def sequences() -> dict[str, str]:
    """A contig of many shards, and contigs that are tiny, unknown at their ends, or empty."""
    text = random_bases(12_000, 5)
    return {"long": text, "empty": "", "HLA:A*01|x": "NNN" + text[:3000] + "N" * 40, "one": "A", "last": text[5000:9000]}


@pytest.fixture(scope="module")
def fasta(sequences: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The genome, and beside it the model of these tests."""
    folder = tmp_path_factory.mktemp("fasta")
    write_detector(folder / "model", net=graded())
    return write_fasta(folder / "g.fa", sequences)


def run(fasta: Path, out: Path, *more: str, **named: Any) -> int:
    return main([*arguments(fasta, out), *more], **named)


def arguments(fasta: Path, out: Path) -> list[str]:
    fixed = ["annotate", str(fasta), "-o", str(out), "--model", str(fasta.parent / "model"), "--tasks", "promoter,splice"]
    return [*fixed, "-t", "1", "--device", "cpu", "--shard-bp", SHARD_BP, "-q"]


@pytest.fixture(scope="module")
def plain(fasta: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("plain") / "out"
    assert run(fasta, out) == 0
    return out


@pytest.fixture(scope="module")
def tracked(fasta: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tracked") / "out"
    assert run(fasta, out, "--tracks") == 0
    assert len(json.loads((out / "run.json").read_text())["shards"]) > assembly.LEAST_AHEAD  # so it merges beside the scan
    return out


def test_tracks_leave_the_other_files_as_they_are(plain: Path, tracked: Path) -> None:
    without, ours = results(plain), results(tracked)
    added = {f"{track}.{strand}.bw" for track in KINDS for strand in ("plus", "minus")} | {"maxima.parquet"}
    assert set(ours) == set(without) | added and {name: ours[name] for name in without} == without
    assert main(["verify", str(tracked)]) == 0
    record = json.loads((tracked / "run.json").read_text())
    assert set(record["tracks"]) == added - {"maxima.parquet"} and record["plan"]["tracks"] is True
    assert record["tracks"]["tss.minus.bw"] == {"track": "tss", "kind": "promoter", "strand": "-", "least": 0.01}
    assert {"predictions.parquet", "promoters.bed.gz", "splice_sites.bed.gz"} == set(rows_of_files(record))


def test_a_track_holds_what_the_model_says_of_every_base(fasta: Path, tracked: Path, sequences: dict[str, str]) -> None:
    """The oracle stitches dense tracks of whole sequences, and knows nothing of shards and thresholds."""
    bigwig, predictor = reader("pyBigWig"), annotator.load_model(fasta.parent / "model", device="cpu")
    found = 0
    for name, sequence in sequences.items():
        if not sequence:
            continue
        said = predictor.predict(sequence)
        known = np.frombuffer(sequence.encode(), np.uint8) != ord("N")
        for track in KINDS:
            for symbol, strand in (("+", "plus"), ("-", "minus")):
                file = bigwig.open(str(tracked / f"{track}.{strand}.bw"))
                values = np.nan_to_num(file.values(name, 0, len(sequence), numpy=True))
                file.close()
                p = np.nan_to_num(np.round(said.probability(track, symbol).astype(np.float64), 6))
                wanted = np.where((p >= 0.01) & known, np.round(p, 3), 0.0)
                # The oracle computes in other batches: its last digits may differ.
                assert np.abs(values - wanted).max() < 0.0015 or _near_least(values, wanted, p)
                assert np.abs(values * 1000 - np.round(values * 1000)).max() < 1e-4  # three decimals
                found += int((values > 0).sum())
    assert found > 500


def _near_least(values: np.ndarray, wanted: np.ndarray, p: np.ndarray) -> bool:
    """Whether the only differences are bases at the edge of having a value."""
    differing = np.abs(values - wanted) >= 0.0015
    return bool((np.abs(p[differing] - 0.01) < 1e-4).all())


def test_summaries_are_exact(tracked: Path, sequences: dict[str, str]) -> None:
    bigwig = reader("pyBigWig")
    name, length = next((name, len(text)) for name, text in sequences.items())
    file = bigwig.open(str(tracked / "donor.plus.bw"))
    values = file.values(name, 0, length, numpy=True)
    for first in range(0, length - 4096, 4096):  # a bin of the first zoom level
        assert file.stats(name, first, first + 4096, type="max", nBins=1)[0] == np.nanmax(values[first : first + 4096])
    whole = np.concatenate([np.nan_to_num(file.values(c, 0, n, numpy=True)) for c, n in file.chroms().items()])
    header = file.header()
    assert header["nBasesCovered"] == (whole > 0).sum() and header["sumData"] == int(np.round(whole.sum(dtype=np.float64), 3))


@pytest.mark.parametrize(
    "executor",
    [
        pytest.param(("--workers", "2"), id="2 processes"),
        pytest.param(("--ray", "local", "--workers", "2"), id="Ray, 2 actors", marks=[pytest.mark.ray, pytest.mark.slow]),
    ],
)
def test_C09_tracks_do_not_depend_on_the_executor(executor: tuple[str, ...], fasta: Path, tracked: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from annotator.cli.app import main; code = main(sys.argv[1:]); print('torch' in sys.modules); sys.exit(code)"
    )
    command = [sys.executable, "-c", script, *arguments(fasta, tmp_path / "out"), "--tracks", *executor]
    done = subprocess.run(command, env=python_path(), capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr  # the driver never loads torch
    assert results(tmp_path / "out") == results(tracked)


def test_C09_tracks_of_a_run_that_was_cut_short_or_damaged(
    fasta: Path, tracked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert run(fasta, out, "--tracks", task=partial(CutShort, after=3)) == 130
    channels = sorted((out / ".annotator" / "parts").glob("*.tracks"))
    assert len(channels) == 3
    channels[0].write_bytes(channels[0].read_bytes()[:-1] + b"x")
    channels[1].unlink()
    monkeypatch.setattr(assembly, "LEAST_AHEAD", 10**9)  # merged at the end
    assert run(fasta, out, "--tracks") == 0
    assert results(out) == results(tracked)
    with pytest.raises(InputError, match="cannot read tracks"):
        read_tracks(out / "none.parquet")


def test_C09_shard_sizes_give_the_same_tracks(fasta: Path, tracked: Path, tmp_path: Path) -> None:
    assert run(fasta, tmp_path / "out", "--tracks", "--shard-bp", "5000") == 0
    assert results(tmp_path / "out") == results(tracked)


def test_tracks_are_part_of_the_plan(fasta: Path, tracked: Path, plain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fasta, tracked) == 2
    assert "--tracks" in (error := capsys.readouterr().err) and "holds another run, with tracks true, not false" in error
    assert run(fasta, plain, "--tracks") == 2
    capsys.readouterr()
    stamps = {path.name: path.stat().st_mtime_ns for path in tracked.iterdir()}
    assert run(fasta, tracked, "--tracks") == 0
    assert {path.name: path.stat().st_mtime_ns for path in tracked.iterdir()} == stamps
    assert run(fasta, plain / "x", "--tasks", "tfbs", "--tracks") == 2
    assert "--tracks: this run calls motifs only, which have no tracks" in capsys.readouterr().err


def test_tracks_in_regions_hold_their_bases_only(tmp_path: Path) -> None:
    model = write_detector(tmp_path / "m")
    text = random_bases(5000, 3)
    for at in range(40, 4900, 113):
        text = plant(text, ("AAGGTA", "AGCATC")[at % 2], at)
    fasta, regions = write_fasta(tmp_path / "g.fa", {"c": text}), tmp_path / "r.bed"
    regions.write_text("c\t1000\t2000\nc\t4000\t4100\n")
    more = ["--model", str(model), "--tasks", "splice", "--tracks", "--regions", str(regions), "-q", "--device", "cpu"]
    assert main(["annotate", str(fasta), "-o", str(tmp_path / "out"), *more]) == 0
    positions = pl.read_parquet(tmp_path / "out" / "maxima.parquet")["position"].to_list()
    assert positions and all(1000 <= at < 2000 or 4000 <= at < 4100 for at in positions)
    file = reader("pyBigWig").open(str(tmp_path / "out" / "donor.plus.bw"))
    starts = [start for start, _, _ in file.intervals("c")]
    assert (
        sorted(starts)
        == table(tmp_path / "out").filter((pl.col("kind") == "donor") & (pl.col("strand") == "+"))["position"].to_list()
    )


@pytest.mark.parametrize(
    "thresholds", [("0.01",), ("donor=0.3", "acceptor=0.05"), ("promoter=0.0125",), ("0.999999",), ()], ids=" ".join
)
def test_calls_from_tracks_are_those_of_a_scan(thresholds: tuple[str, ...], fasta: Path, tracked: Path, tmp_path: Path) -> None:
    given = [word for threshold in thresholds for word in ("--threshold", threshold)]
    assert run(fasta, tmp_path / "scan", *given, "--formats", "bed9,gff3,bigbed") == 0
    assert main(["call", str(tracked), "-o", str(tmp_path / "called"), *given, "--formats", "bed9,gff3,bigbed", "-q"]) == 0
    scanned = results(tmp_path / "scan")
    scanned.pop("profiles.json")
    assert results(tmp_path / "called") == scanned
    assert main(["verify", str(tmp_path / "called")]) == 0


def test_calls_from_tracks_are_a_results_folder(
    tracked: Path, fasta: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    called = annotator.call(tracked, tmp_path / "called", 0.2, formats=("tsv",))
    assert called.thresholds == {"donor": 0.2, "acceptor": 0.2, "promoter": 0.2}
    assert set(called.files) == {"predictions.parquet", "contigs.tsv", "calls.tsv.gz"}
    assert called.run["called_from"] == str(tracked) and called.run["plan"]["tracks"] is False
    with pytest.raises(UsageError, match=r"holds calls from tracks, without profiles\.json"):
        assert called.profiles
    stamps = {path.name: path.stat().st_mtime_ns for path in called.path.iterdir()}
    annotator.call(tracked, tmp_path / "called", 0.2, formats=("tsv",))
    assert {path.name: path.stat().st_mtime_ns for path in called.path.iterdir()} == stamps
    with pytest.raises(UsageError, match=r"holds another run, with thresholds"):
        annotator.call(tracked, tmp_path / "called", 0.3)
    assert "calls.tsv.gz" not in annotator.call(tracked, tmp_path / "called", 0.3, overwrite=True).files
    assert not (tmp_path / "called" / "calls.tsv.gz").exists() and not (tmp_path / "called" / ".annotator").exists()
    assert "calls.gff3.gz" in annotator.convert(tmp_path / "called", ("gff3",)).files
    assert run(fasta, tmp_path / "called") == 2
    assert "holds another run, with called_from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (("--threshold", "donor=0.009"), 2, "--threshold donor=0.009: a probability from 0.01, below which tracks hold nothing"),
        (("--threshold", "1.5"), 2, "--threshold 1.5: a probability from 0.01"),
        (("--threshold", "exon=0.5"), 2, "--threshold exon=0.5: the tracks of this run give acceptor, donor, promoter"),
        (("--threshold", "donor=x"), 2, "--threshold donor=x: not KIND=P or a number"),
        (("--formats", "xls"), 2, "--formats xls: choose from bed9"),
    ],
)  # fmt: skip
def test_wrong_arguments_of_call(
    more: tuple[str, ...], code: int, said: str, tracked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["call", str(tracked), "-o", str(tmp_path / "called"), *more, "-q"]) == code
    error = capsys.readouterr().err
    assert error.startswith(f"annotator: error: {said}") and error.count("\n") == 1
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize(
    ("prepare", "code", "said"),
    [
        (lambda out: shutil.rmtree(out), 2, "{out}: no such folder"),
        (lambda out: (out / "run.json").unlink(), 2, "{out}: neither run.json nor batch.json"),
        (lambda out: (out / "maxima.parquet").unlink(), 3, "{out}/maxima.parquet: cannot be read: No such file"),
        (lambda out: (out / "maxima.parquet").write_text("x"), 3, "{out}/maxima.parquet: is not what run.json says"),
        (lambda out: None, 2, "{out}: is the folder of the tracks; choose another"),
    ],
)  # fmt: skip
def test_tracks_that_cannot_be_called(
    prepare: Callable[[Path], object], code: int, said: str, tracked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Path(shutil.copytree(tracked, tmp_path / "source"))
    prepare(source)
    out = source if "is the folder" in said else tmp_path / "called"
    assert main(["call", str(source), "-o", str(out), "--overwrite", "-q"]) == code
    error = capsys.readouterr().err
    assert error.startswith(f"annotator: error: {said.format(out=source)}") and error.count("\n") == 1
    assert not (tmp_path / "called").exists()


def test_a_run_without_tracks_is_not_called(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["call", str(plain), "-o", str(tmp_path / "called"), "-q"]) == 2
    assert capsys.readouterr().err == f"annotator: error: {plain}: has no tracks; annotate the genome with --tracks\n"


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("method", ["block", "summarise", "finish", "_write"])
def test_C04_a_disk_full_at_a_track(
    method: str, fasta: Path, tracked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BbiFile, method, full)
        assert run(fasta, out, "--tracks") == 6
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"annotator: error: cannot write {out}/") and error.endswith(".bw: No space left on device")
    assert os.listdir(out) == [".annotator"]
    assert run(fasta, out, "--tracks") == 0
    assert results(out) == results(tracked)
