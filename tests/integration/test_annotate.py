"""The whole command on planted sites: FASTA to BED and Parquet."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from annotator.cli.app import main
from annotator.pipeline.worker.task import TaskFactory
from tests.support.detector import ACCEPTOR, DONOR, TSS, write_detector
from tests.support.runs import annotate, bed_lines, plant, random_bases, results, revcomp, sites, table, write_fasta
from tests.support.toy_task import CutShort

MOTIF = (
    ">MA0001.1 TEST\nA [ 100 0 0 0 0 0 0 0 ]\nC [ 0 100 0 0 0 0 100 0 ]\nG [ 0 0 100 0 0 100 0 0 ]\nT [ 0 0 0 100 100 0 0 100 ]\n"
)
MATCH = "ACGTTGCT"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_detector(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def motifs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("motifs") / "test.jaspar"
    path.write_text(MOTIF)
    return path


def words(text: str) -> set[tuple[str, str, int]]:
    """(kind, strand, position) of every donor and acceptor word in a sequence."""
    found = set()
    for kind, word in (("donor", DONOR), ("acceptor", ACCEPTOR)):
        for strand, spelt, shift in (("+", word, 2), ("-", revcomp(word), 3)):
            at = text.find(spelt)
            while at >= 0:
                found.add((kind, strand, at + shift))
                at = text.find(spelt, at + 1)
    return found


def planted(length: int = 5000, seed: int = 1) -> tuple[str, set[tuple[str, str, int]]]:
    """A sequence with words on both strands and over several windows, and where they are."""
    text = random_bases(length, seed)
    for at in range(20, length - 30, 97):
        word = (DONOR, ACCEPTOR)[(at // 97) % 2]
        text = plant(text, word if (at // 97) % 3 else revcomp(word), at)
    return text, words(text)


def run(model: Path, motifs: Path, fasta: object, out: Path, *more: object, task: TaskFactory | None = None) -> int:
    return annotate(fasta, "-o", out, "--model", model, "--motifs", motifs, "--tfbs-pvalue", "1e-4", *more, task=task)


def test_every_planted_site_is_called_where_it_is(model: Path, motifs: Path, tmp_path: Path) -> None:
    text, _ = planted()
    text = plant(text, TSS, 4990)
    text = plant(plant(text, MATCH, 70), revcomp(MATCH), 1030)
    assert run(model, motifs, write_fasta(tmp_path / "g.fa", {"chr1": text}), tmp_path / "out") == 0
    expected = {("chr1", *site) for site in words(text)} | {("chr1", "promoter", "+", 4992)}
    assert sites(tmp_path / "out") == expected
    for fields in bed_lines(tmp_path / "out" / "splice_sites.bed.gz"):
        start, end, name, strand = int(fields[1]), int(fields[2]), fields[3], fields[5]
        pair = text[start:end] if strand == "+" else revcomp(text[start:end])
        assert pair == {"donor": "GT", "acceptor": "AG"}[name]
    hits = {(int(f[1]), int(f[2]), f[5]) for f in bed_lines(tmp_path / "out" / "tfbs.bed.gz")}
    assert {(70, 78, "+"), (1030, 1038, "-")} <= hits
    assert table(tmp_path / "out").filter(kind="tfbs")["motif_id"].unique().to_list() == ["MA0001.1"]
    (promoter,) = bed_lines(tmp_path / "out" / "promoters.bed.gz")
    assert promoter[:3] == ["chr1", str(4992 - 249), "5000"] and promoter[6:8] == ["4992", "4993"]


def test_C02_bed_and_parquet_hold_the_same_calls(model: Path, motifs: Path, tmp_path: Path) -> None:
    text, _ = planted(seed=2)
    assert run(model, motifs, write_fasta(tmp_path / "g.fa", {"a": text, "b": text[:999]}), tmp_path / "out") == 0
    bed = set()
    for name in ("promoters", "splice_sites", "tfbs"):
        for fields in bed_lines(tmp_path / "out" / f"{name}.bed.gz"):
            bed.add((fields[0], int(fields[1]), int(fields[2]), fields[3], int(fields[4]), fields[5]))
    frame = table(tmp_path / "out").select("chrom", "start", "end", "name", "score", "strand")
    assert bed == set(frame.iter_rows()) and len(bed) == len(frame) > 50


def test_result_does_not_depend_on_shards_or_repetition(model: Path, motifs: Path, tmp_path: Path) -> None:
    text, _ = planted(9000, seed=3)
    fasta = write_fasta(tmp_path / "g.fa", {"a": text, "tiny": text[:40], "b": text[3000:]})
    outputs = []
    for i, shard_bp in enumerate((2_000_000, 450, 2_000_000)):
        assert run(model, motifs, fasta, tmp_path / f"out{i}", "--shard-bp", shard_bp) == 0
        outputs.append(results(tmp_path / f"out{i}"))
    assert outputs[0] == outputs[2]
    assert outputs[0] == outputs[1]
    assert len(json.loads((tmp_path / "out1" / "run.json").read_text())["shards"]) > 10


def test_A13_A14_A15_other_letters(model: Path, motifs: Path, tmp_path: Path) -> None:
    text, _ = planted(3000, seed=4)
    twin = text[:500] + text[500:1500].lower() + text[1500:]
    masked = text[:700] + "N" * 5 + text[705:]
    iupac = text[:700] + "RYKMB" + text[705:]
    rna = text.replace("T", "U")
    gaps = text[:700] + "--.*-" + text[705:]
    for name, sequence in {"upper": text, "lower": twin, "n": masked, "iupac": iupac, "rna": rna, "gaps": gaps}.items():
        more = ["--gaps-as-n"] if name == "gaps" else []
        assert run(model, motifs, write_fasta(tmp_path / f"{name}.fa", {"c": sequence}), tmp_path / name, *more) == 0
    assert results(tmp_path / "lower") == results(tmp_path / "upper") == results(tmp_path / "rna")
    assert results(tmp_path / "iupac") == results(tmp_path / "n") == results(tmp_path / "gaps")
    altered = json.loads((tmp_path / "iupac" / "run.json").read_text())["input"]["altered_bases"]
    assert altered["iupac_as_n"] == 5
    assert run(model, motifs, tmp_path / "gaps.fa", tmp_path / "refused") == 3


def test_A18_runs_of_n_cost_no_model_call(model: Path, motifs: Path, tmp_path: Path) -> None:
    text, truth = planted(1500, seed=5)
    fasta = write_fasta(tmp_path / "g.fa", {"n": "N" * 20_000, "half": text + "N" * 20_000, "c": text})
    assert run(model, motifs, fasta, tmp_path / "out") == 0
    assert sites(tmp_path / "out") == {(c, *s) for c in ("half", "c") for s in truth}
    counts = json.loads((tmp_path / "out" / "run.json").read_text())["counts"]
    assert counts["windows all N"] > 80
    assert run(model, motifs, write_fasta(tmp_path / "n.fa", {"n": "N" * 5000}), tmp_path / "none") == 0
    assert len(table(tmp_path / "none")) == 0


def test_A20_sites_at_both_ends(model: Path, motifs: Path, tmp_path: Path) -> None:
    body = random_bases(700, 6)
    # the called base is letter 2 of the word: a word needs 2 bases before and 3 after it, unknown ones do not spell it
    left, right = DONOR + body, body + DONOR
    assert run(model, motifs, write_fasta(tmp_path / "g.fa", {"left": left, "right": right}), tmp_path / "out") == 0
    assert sites(tmp_path / "out") == {("left", "donor", "+", 2), ("right", "donor", "+", 702)}
    for fields in bed_lines(tmp_path / "out" / "splice_sites.bed.gz"):
        assert 0 <= int(fields[1]) < int(fields[2]) <= 706


def test_calls_of_the_reverse_complement_mirror(model: Path, motifs: Path, tmp_path: Path) -> None:
    text, truth = planted(4001, seed=7)
    assert run(model, motifs, write_fasta(tmp_path / "r.fa", {"c": revcomp(text)}), tmp_path / "out") == 0
    flip = {"+": "-", "-": "+"}
    assert sites(tmp_path / "out") == {("c", kind, flip[strand], 4000 - at) for kind, strand, at in truth}


def test_regions_give_exactly_the_calls_inside(model: Path, motifs: Path, tmp_path: Path) -> None:
    text, _ = planted(6000, seed=8)
    fasta = write_fasta(tmp_path / "g.fa", {"a": text, "b": text[::-1], "c": text})
    bed = tmp_path / "r.bed"
    bed.write_text("a\t100\t900\na\t800\t1203\nc\t5000\t6000\nc\t17\t18\n")
    assert run(model, motifs, fasta, tmp_path / "all") == 0
    assert run(model, motifs, fasta, tmp_path / "some", "--regions", bed) == 0
    inside = [("a", 100, 1203), ("c", 5000, 6000), ("c", 17, 18)]
    whole = table(tmp_path / "all")
    expected = [
        row for row in whole.iter_rows(named=True) if any(c == row["chrom"] and s <= row["position"] < e for c, s, e in inside)
    ]
    assert table(tmp_path / "some").to_dicts() == expected and expected
    bed.write_text("chra\t1\t2\n")
    assert run(model, motifs, fasta, tmp_path / "bad", "--regions", bed) == 3


def test_B01_B02_B08_compressed_and_piped_input(model: Path, motifs: Path, tmp_path: Path) -> None:
    import pysam

    text, _ = planted(3000, seed=9)
    fasta = write_fasta(tmp_path / "g.fa", {"c": text, "d": text[:900]})
    (tmp_path / "plain.fa.gz").write_bytes(gzip.compress(fasta.read_bytes()))
    pysam.tabix_compress(str(fasta), str(tmp_path / "bgzf.fa.gz"))
    for name in ("g.fa", "plain.fa.gz", "bgzf.fa.gz"):
        assert run(model, motifs, tmp_path / name, tmp_path / f"out-{name}") == 0
    command = [sys.executable, "-c", "import sys; from annotator.cli.app import main; sys.exit(main(sys.argv[1:]))"]
    arguments = ["annotate", "-", "-o", str(tmp_path / "out-pipe"), "--model", str(model), "--motifs", str(motifs)]
    more = ["--tfbs-pvalue", "1e-4", "--quiet", "--threads", "1"]
    with fasta.open("rb") as pipe:
        done = subprocess.run([*command, *arguments, *more], stdin=pipe, env=python_env(), check=False)
    assert done.returncode == 0
    expected = results(tmp_path / "out-g.fa")
    for other in ("plain.fa.gz", "bgzf.fa.gz", "pipe"):
        assert results(tmp_path / f"out-{other}") == expected
        assert not (tmp_path / f"out-{other}" / ".annotator").exists()


def python_env() -> dict[str, str]:
    root = Path(__file__).parents[2]
    return os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'kernels'}"}


def test_C03_no_calls_at_all(model: Path, motifs: Path, tmp_path: Path) -> None:
    import pysam

    fasta = write_fasta(tmp_path / "g.fa", {"c": "ACAC" * 200, "empty": ""})
    assert run(model, motifs, fasta, tmp_path / "out", "--threshold", "1") == 0
    assert len(table(tmp_path / "out")) == 0
    for name in ("promoters", "splice_sites", "tfbs"):
        assert bed_lines(tmp_path / "out" / f"{name}.bed.gz") == []
        with pysam.TabixFile(str(tmp_path / "out" / f"{name}.bed.gz")) as file:
            assert list(file.contigs) == []


def test_C06_results_folder_of_this_run_another_run_or_somebody_else(
    model: Path, motifs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, _ = planted(2000, seed=10)
    fasta = write_fasta(tmp_path / "g.fa", {"c": text})
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    assert run(model, motifs, fasta, out) == 0
    stamp = (out / "predictions.parquet").stat().st_mtime_ns
    assert run(model, motifs, fasta, out) == 0  # the same command does nothing
    assert (out / "predictions.parquet").stat().st_mtime_ns == stamp
    assert run(model, motifs, fasta, out, "--threshold", "0.9") == 2
    assert "with thresholds" in capsys.readouterr().err
    before = results(out)
    assert run(model, motifs, fasta, out, "--threshold", "0.9", "--overwrite", "--tasks", "splice") == 0
    assert (out / "mine.txt").read_text() == "keep"
    assert not (out / "tfbs.bed.gz").exists() and set(results(out)) < set(before)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "tfbs.bed.gz").write_text("not ours")
    assert run(model, motifs, fasta, foreign) == 2
    assert [p.name for p in foreign.iterdir()] == ["tfbs.bed.gz"] and (foreign / "tfbs.bed.gz").read_text() == "not ours"


def test_a_run_cut_short_is_resumed_to_the_same_bytes(model: Path, motifs: Path, tmp_path: Path) -> None:
    text, _ = planted(9000, seed=11)
    fasta = write_fasta(tmp_path / "g.fa", {"a": text, "b": text[2000:]})
    assert run(model, motifs, fasta, tmp_path / "whole", "--shard-bp", 900) == 0
    assert run(model, motifs, fasta, tmp_path / "out", "--shard-bp", 900, task=partial(CutShort, after=5)) == 130
    assert [p.name for p in (tmp_path / "out").iterdir()] == [".annotator"]
    with (tmp_path / "out" / ".annotator" / "journal.jsonl").open("a") as journal:
        journal.write('{"shard": 5, "ro')  # a line cut short
    first, *others = sorted((tmp_path / "out" / ".annotator" / "parts").iterdir())
    assert len(others) == 4
    first.write_bytes(b"damaged")
    assert run(model, motifs, fasta, tmp_path / "out", "--shard-bp", 900) == 0
    assert results(tmp_path / "out") == results(tmp_path / "whole")


def test_sigterm_ends_with_143_and_resumes(model: Path, motifs: Path, tmp_path: Path) -> None:
    text, _ = planted(200_000, seed=12)
    fasta = write_fasta(tmp_path / "g.fa", {"a": text})
    script = "import sys; from annotator.cli.app import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["annotate", str(fasta), "-o", str(tmp_path / "out"), "--model", str(model), "--motifs", str(motifs), "-t", "1"]
    arguments += ["--shard-bp", "3000"]
    process = subprocess.Popen([sys.executable, "-c", script, *arguments], env=python_env(), stderr=subprocess.PIPE, text=True)
    journal = tmp_path / "out" / ".annotator" / "journal.jsonl"
    while process.poll() is None and not (journal.exists() and journal.stat().st_size > 500):
        time.sleep(0.002)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 143, error
    assert not list((tmp_path / "out").glob("*.gz"))
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], env=python_env(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "resuming" in done.stderr


def test_bed6_without_header(model: Path, motifs: Path, tmp_path: Path) -> None:
    text, _ = planted(2000, seed=15)
    fasta = write_fasta(tmp_path / "g.fa", {"c": text})
    assert run(model, motifs, fasta, tmp_path / "out", "--bed6", "--no-header") == 0
    with gzip.open(tmp_path / "out" / "splice_sites.bed.gz", "rt") as file:
        assert {len(line.split("\t")) for line in file} == {6}


def test_extra_columns_are_there_when_asked_for(
    model: Path, motifs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fasta = write_fasta(tmp_path / "g.fa", {"c": plant(planted(2000, seed=15)[0], MATCH, 70)})
    for out, more, columns in (("nine", (), {9}), ("extra", ("--bed-extra",), {13, 16})):
        assert run(model, motifs, fasta, tmp_path / out, *more) == 0
        lines = [line for name in ("splice_sites", "tfbs") for line in bed_lines(tmp_path / out / f"{name}.bed.gz")]
        assert {len(fields) for fields in lines} == columns
    nine, extra = ((tmp_path / out / "predictions.parquet").read_bytes() for out in ("nine", "extra"))
    assert nine == extra
    capsys.readouterr()
    assert run(model, motifs, fasta, tmp_path / "both", "--bed6", "--bed-extra") == 2
    error = "--bed-extra: BED6 has no room for extra columns; ask for one of the two"
    assert capsys.readouterr().err == f"annotator: error: {error}\n"


def test_a_changed_manifest_is_another_run(tmp_path: Path, motifs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_detector(tmp_path / "m")
    fasta = write_fasta(tmp_path / "g.fa", {"c": planted(2000, seed=16)[0]})
    assert run(model, motifs, fasta, tmp_path / "out") == 0
    manifest = model / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"bias": 0.0', '"bias": -1.0'))
    assert run(model, motifs, fasta, tmp_path / "out") == 2
    assert "model" in capsys.readouterr().err


def test_overwrite_keeps_the_old_files_until_the_new_run_is_possible(model: Path, motifs: Path, tmp_path: Path) -> None:
    fasta = write_fasta(tmp_path / "g.fa", {"c": planted(2000, seed=17)[0]})
    assert run(model, motifs, fasta, tmp_path / "out") == 0
    before = results(tmp_path / "out")
    assert run(model, motifs, fasta, tmp_path / "out", "--overwrite", "--tfbs-pvalue", "0.5") == 2
    assert run(model, motifs, tmp_path / "none.fa", tmp_path / "out", "--overwrite") == 2
    assert results(tmp_path / "out") == before
    assert run(model, motifs, fasta, tmp_path / "out", "--overwrite") == 0
    assert results(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [('"donor": 2', '"donor": -2', "radius_bp"), ('"k": 6', '"k": 9', "k must be"),
     ('"window_bp": 1024', '"window_bp": 100', "window_bp"),
     ('"tss"', '"exon"', "tracks"), ('"scale": 1.0', '"scale": 0.0', "calibration"), ('"index": 3', '"index": 9', "index"),
     ('"halo_bp": 288', '"halo_bp": 128', "halo_bp"), ('"family": "compact",', "", "family"),
     ('"format_version": 1', '"format_version": 7', "format_version")],
)  # fmt: skip
def test_bad_manifests_are_bad_input(
    old: str, new: str, field: str, tmp_path: Path, motifs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_detector(tmp_path / "m")
    text = (model / "manifest.json").read_text()
    assert old in text
    (model / "manifest.json").write_text(text.replace(old, new))
    fasta = write_fasta(tmp_path / "g.fa", {"c": "ACGT" * 100})
    assert run(model, motifs, fasta, tmp_path / "out") == 3
    error = capsys.readouterr().err
    assert field in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_weights_that_are_damaged_or_not_those_of_the_manifest(tmp_path: Path, motifs: Path) -> None:
    fasta = write_fasta(tmp_path / "g.fa", {"c": "ACGT" * 100})
    model = write_detector(tmp_path / "m")
    data = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(data[:-4])
    assert run(model, motifs, fasta, tmp_path / "out") == 3
    (model / "model.safetensors").unlink()
    assert run(model, motifs, fasta, tmp_path / "out") == 5


def test_A24_names_that_try_things(model: Path, motifs: Path, tmp_path: Path) -> None:
    text, truth = planted(600, seed=13)
    names = ["../../x", "a/b", "CON", "n" * 300, "<script>", "=cmd()", "chr1:1-2", "chr1"]
    fasta = write_fasta(tmp_path / "g.fa", dict.fromkeys(names, text))
    with fasta.open("a") as file:
        file.write(f">tab\tdescription\n{text}\n")
    before = {p.name for p in tmp_path.iterdir()}
    assert run(model, motifs, fasta, tmp_path / "out") == 0
    assert {p.name for p in tmp_path.iterdir()} == before | {"out"}
    assert sites(tmp_path / "out") == {(name, *site) for name in [*names, "tab"] for site in truth}
    lines = bed_lines(tmp_path / "out" / "splice_sites.bed.gz")
    assert len({len(fields) for fields in lines}) == 1
    assert [*dict.fromkeys(f[0] for f in lines)] == [*names, "tab"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "no sequences"), (b">a\nACGT\n>a\nAC\n", "a"), (b">a\nAC GT\n", "line 2"), (b"@r\nACGT\n+\nIIII\n", "FASTQ"),
     (b">a\nMKVLAAGIVGLCAKHLPQEF\n", "protein"), (b"PK\x03\x04rest", "zip")],
)  # fmt: skip
def test_bad_input_is_one_line_exit_3_and_leaves_nothing(
    content: bytes, message: str, model: Path, motifs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fasta = tmp_path / "bad.fa"
    fasta.write_bytes(content)
    assert run(model, motifs, fasta, tmp_path / "out") == 3
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "bad.fa" in error and message in error
    assert not (tmp_path / "out").exists()


def test_B10_paths_that_cannot_be_read(model: Path, motifs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path / "missing.fa", tmp_path):
        assert run(model, motifs, path, tmp_path / "out") == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "Traceback" not in error
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--device", "cuda:99"], 5), (["--device", "tpu"], 2), (["--model", "no-such-model"], 5), (["--clade", "fish"], 2),
     (["--tasks", "promoter,genes"], 2), (["--threshold", "donor=x"], 2), (["--threshold", "0"], 2),
     (["--threshold", "exon=0.5"], 2),
     (["--tfbs-pvalue", "0"], 2), (["--dup-names", "drop"], 2), (["--motifs", "missing.jaspar"], 2), (["--nonsense"], 2)],
)  # fmt: skip
def test_wrong_options(arguments: list[str], code: int, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fasta = write_fasta(tmp_path / "g.fa", {"c": "ACGT" * 50})
    base = [str(fasta), "-o", str(tmp_path / "out")]
    if "--model" not in arguments:
        base += ["--model", str(model)]
    assert annotate(*base, *arguments) == code
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_tasks_and_clades_without_validation(tmp_path: Path, motifs: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = write_detector(tmp_path / "m", validated=("donor", "acceptor"))
    text, _ = planted(1500, seed=14)
    fasta = write_fasta(tmp_path / "g.fa", {"c": text})
    assert run(model, motifs, fasta, tmp_path / "default") == 0
    assert sorted(p.name for p in (tmp_path / "default").glob("*.bed.gz")) == ["splice_sites.bed.gz", "tfbs.bed.gz"]
    assert run(model, motifs, fasta, tmp_path / "asked", "--tasks", "promoter") == 0
    assert sorted(p.name for p in (tmp_path / "asked").glob("*.bed.gz")) == ["promoters.bed.gz"]


def test_help_version_and_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.split()[0] == "annotator"
    for command in (["annotate"], ["train"], ["example"], ["models", "list"], ["models", "show"]):
        assert main([*command, "--help"]) == 0
        assert "Example:" in capsys.readouterr().out
    assert main(["models", "list"]) == 0
    assert capsys.readouterr().out.startswith("compact\t")
    assert main(["models", "show", "compact"]) == 0
    shown = capsys.readouterr().out
    assert "threshold" in shown and "licence" in shown and "sha256" in shown
    assert main(["models", "show", "nothing"]) == 5


def test_precision_is_part_of_the_plan(model: Path, motifs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, expected = planted(seed=8)
    fasta = write_fasta(tmp_path / "g.fa", {"c": text})
    assert run(model, motifs, fasta, tmp_path / "out", "--tasks", "splice", "--precision", "bfloat16") == 0
    assert sites(tmp_path / "out") == {("c", *site) for site in expected}
    assert json.loads((tmp_path / "out" / "run.json").read_text())["plan"]["precision"] == "bfloat16"
    assert run(model, motifs, fasta, tmp_path / "out", "--tasks", "splice") == 0  # it is taken over, and nothing is left to do
    assert run(model, motifs, fasta, tmp_path / "out", "--tasks", "splice", "--precision", "float32") == 2
    assert 'with precision "bfloat16", not "float32"' in capsys.readouterr().err
    assert run(model, motifs, fasta, tmp_path / "other", "--precision", "half") == 2
    assert "float32, bfloat16" in capsys.readouterr().err


def test_run_json_says_where_the_time_went_and_what_computed(model: Path, motifs: Path, tmp_path: Path) -> None:
    assert run(model, motifs, write_fasta(tmp_path / "g.fa", {"c": planted()[0]}), tmp_path / "out") == 0
    told = json.loads((tmp_path / "out" / "run.json").read_text())
    assert set(told["stage_s"]) == {"read", "tokenise", "model", "calls", "motifs", "profiles", "write", "merge"}
    assert {"kmer_embed/cpu", "residual_conv/cpu", "local_maxima/cpu"} <= set(told["backends"])
    assert told["batch_bp_used"] == told["plan"]["batch_bp"]
