"""Before, during and after: `annotator plan`, progress as JSON, `annotator verify`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from annotator.cli.app import main
from annotator.example.genome import write_example
from tests.support.detector import write_detector
from tests.support.runs import write_fasta
from tests.support.toy_runs import toy_genome, toy_run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_detector(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def finished(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    fasta = toy_genome(folder / "g.fa")
    assert toy_run(fasta, folder / "out", model) == 0
    return folder / "out"


def lines_of(capfd: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capfd.readouterr().out.splitlines()]


def test_progress_as_json(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fasta = toy_genome(tmp_path / "g.fa")
    capfd.readouterr()
    assert toy_run(fasta, tmp_path / "out", model, "--workers", 2, "--progress", "json") == 0
    told = lines_of(capfd)
    assert [line["event"] for line in told[:2]] == ["start", "genome"] and told[-1]["event"] == "end"
    progress = [line for line in told if line["event"] == "progress"]
    total = 4000 + 1500 + 60 + 90 + 40 + 900
    assert [line["done_bp"] for line in progress] == sorted(line["done_bp"] for line in progress)  # type: ignore[type-var]
    assert progress[-1]["done_bp"] == total and {line["total_bp"] for line in progress} == {total}
    assert progress[-1]["remaining_s"] == 0 and told[-1]["finished"] is True
    assert max(line["workers"] for line in told) in (1, 2)  # type: ignore[type-var]


def test_progress_as_json_of_a_run_that_goes_on_and_of_one_that_fails(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fasta, out = toy_genome(tmp_path / "g.fa"), tmp_path / "out"
    toy = {"folder": str(tmp_path), "faults": {"t1:0": ("input", 1)}}  # in the last shard
    capfd.readouterr()
    assert toy_run(fasta, out, model, "--progress", "json", **toy) == 3
    told = lines_of(capfd)
    assert told[-1]["event"] == "end" and told[-1]["finished"] is False
    done = max(line["done_bp"] for line in told if line["event"] == "progress")  # type: ignore[type-var]
    assert toy_run(fasta, out, model, "--progress", "json", **toy) == 0
    assert [line["resumed_bp"] for line in lines_of(capfd) if line["event"] == "genome"] == [done]


@pytest.mark.parametrize("kind", ["lines", "none", "bar", "auto"])
def test_other_listeners_leave_standard_output_alone(
    kind: str, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert toy_run(toy_genome(tmp_path / "g.fa"), tmp_path / "out", model, "--progress", kind) == 0
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    "more",
    [
        ("--progress", "xml"), ("--workers", "-1"), ("--gpus-per-worker", "0"), ("--gpus-per-worker", "1.5"), ("--stage", "ftp"),
        ("--stage", "object-store"), ("--max-runtime", "soon"), ("--max-runtime", "h"), ("--shard-timeout", "-1"), ("-t", "-1"),
        ("--node-timeout", "inf"), ("--shard-bp", "-5"),
    ],
)  # fmt: skip
def test_wrong_options_of_execution(
    more: tuple[str, ...], model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fasta = write_fasta(tmp_path / "g.fa", {"c": "ACGT" * 20})
    assert main(["annotate", str(fasta), "-o", str(tmp_path / "out"), "--model", str(model), "-q", *more]) == 2
    error = capfd.readouterr().err
    assert more[0] in error and "Traceback" not in error and not (tmp_path / "out").exists()


def test_verify_finds_what_was_changed(finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    assert main(["verify", str(out)]) == 0
    assert "6 files as run.json says" in capfd.readouterr().out
    bed = out / "splice_sites.bed.gz"
    data = bytearray(bed.read_bytes())
    data[len(data) // 2] ^= 1
    bed.write_bytes(data)
    (out / "predictions.parquet").write_bytes(b"PAR1")
    (out / "splice_sites.bed.gz.tbi").unlink()
    assert main(["verify", str(out)]) == 3
    said = capfd.readouterr()
    assert len(said.out.splitlines()) == 3 and said.err.count("\n") == 1
    for what in ("splice_sites.bed.gz: sha256", "predictions.parquet: 4 bytes", "splice_sites.bed.gz.tbi: missing"):
        assert what in said.out


def test_verify_of_a_batch_and_of_what_is_no_result(finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    batch = tmp_path / "batch"
    shutil.copytree(finished, batch / "a")
    entries = [{"sample": "a", "exit_status": 0}, {"sample": "b", "exit_status": 3}]
    (batch / "batch.json").write_text(json.dumps({"samples": entries[:1]}))
    assert main(["verify", str(batch)]) == 0
    (batch / "batch.json").write_text(json.dumps({"samples": entries}))
    assert main(["verify", str(batch)]) == 3
    assert f"{batch / 'b'}: not finished (status 3)" in capfd.readouterr().out
    assert main(["verify", str(tmp_path)]) == 2 and main(["verify", str(tmp_path / "none")]) == 2
    run = json.loads((finished / "run.json").read_text())
    (batch / "a" / "run.json").write_text(json.dumps(run | {"exit_status": 4, "failed_contigs": {"count": 2, "names": []}}))
    assert main(["verify", str(batch / "a")]) == 3
    assert "2 contigs failed" in capfd.readouterr().out


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"files": {}}', '{"files": {"../x": {"bytes": 1, "sha256": ""}}, "exit_status": 0}', "[" * 9999]
)
def test_verify_of_a_damaged_run_json(content: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("run.json", "batch.json"):
        folder = tmp_path / name[:3]
        folder.mkdir()
        (folder / name).write_text(content.replace('"files": {"../x"', '"samples": [], "files": {"../x"'))
        code = main(["verify", str(folder)])
        assert code == 3 or name == "batch.json"
        assert "Traceback" not in capfd.readouterr().err
    (tmp_path / "bat" / "batch.json").write_text('{"samples": [{"sample": "../run", "exit_status": 0}]}')
    assert main(["verify", str(tmp_path / "bat")]) == 3


def test_plan_tells_what_a_run_would_do(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fasta = write_example(tmp_path / "e", length_bp=300_000).fasta
    before = sorted(tmp_path.rglob("*"))
    capfd.readouterr()
    assert main(["plan", str(fasta), "-q", "--device", "cpu", "-t", "1", "--shard-bp", "100000", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    (genome,) = found["genomes"]
    assert genome["to_scan_bp"] == genome["bp"] == 300_000 and genome["windows"] >= 4 and genome["shards"] >= 3
    assert (found["threads_per_worker"], found["workers"], found["shard_bp"]) == (1, 1, 100_000)
    rate, expected = found["measured"]["bp_per_s"], found["expected_s"]
    assert expected == pytest.approx(300_000 / rate + found["measured"]["load_s"] + found["measured"]["check_s"], rel=0.1)
    assert {"donor", "acceptor", "tfbs"} <= set(found["expected_rows"]) and found["expected_bytes_out"] > 0
    assert found["memory_bytes_per_worker"]["host"] > 1 << 27
    assert sorted(tmp_path.rglob("*")) == before  # nothing is written
    assert (
        main(["annotate", str(fasta), "-q", "--device", "cpu", "-t", "1", "--shard-bp", "100000", "-o", str(tmp_path / "out")])
        == 0
    )
    told = json.loads((tmp_path / "out" / "run.json").read_text())
    assert len(told["shards"]) == genome["shards"] and told["counts"]["windows"] == genome["windows"]


def test_plan_for_people_and_for_several_genomes(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    a, b = toy_genome(tmp_path / "a.fa"), write_fasta(tmp_path / "b.fa", {"n": "N" * 5000, "none": ""})
    capfd.readouterr()
    base = ["--model", str(model), "--device", "cpu", "-q", "--tasks", "splice"]
    assert main(["plan", str(a), str(b), *base, "--workers", "3"]) == 0
    text = capfd.readouterr().out
    assert "a: 7 contigs, 6,590 bp" in text and "b: 2 contigs, 5,000 bp (5,000 N)" in text and "expected time" in text
    assert main(["plan", str(tmp_path / "none.fa"), *base]) == 2
    assert main(["plan", str(b), *base, "--workers", "-1"]) == 2
    assert main(["plan", *base]) == 2
