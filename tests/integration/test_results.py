"""Results read back through the library: calls that are chosen, contigs, profiles, batches, folders of the version before."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

import annotator
from annotator.calls.profiles import LETTERS
from annotator.errors import AnnotatorError, InputError, ModelFault, PartialFailure, UsageError
from annotator.kinds import Kind, Strand
from annotator.output.schema import TABLE_SCHEMA
from annotator.results.results import BatchResults, Region, Results, parse_region
from tests.support.detector import ACCEPTOR, DONOR, write_detector
from tests.support.runs import plant, random_bases, results, revcomp, write_fasta
from tests.support.toy_runs import toy_genome
from tests.support.toy_task import ToyTask

RECORDS = {"chr1": 4000, "HLA-A*01:01": 1500, "none": 0, "chr2": 900}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_detector(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    records = {}
    for seed, (name, length) in enumerate(RECORDS.items()):
        text = random_bases(length, seed)
        for i, at in enumerate(range(30, length - 40, 97)):
            text = plant(text, (DONOR, ACCEPTOR, revcomp(DONOR), revcomp(ACCEPTOR))[i % 4], at)
        records[name] = text
    return write_fasta(tmp_path_factory.mktemp("fasta") / "g.fa", records)


@pytest.fixture(scope="module")
def done(model: Path, fasta: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    out = tmp_path_factory.mktemp("done") / "sample=1"  # neither a hive key nor a pattern
    return annotator.annotate(fasta, out, model=model, tasks=("splice",), threads=1, thresholds={"donor": 0.5}, device="cpu")


@pytest.fixture(scope="module")
def table(done: Results) -> pl.DataFrame:
    return pl.read_parquet((done.path / "predictions.parquet").read_bytes())


def test_annotate_gives_the_results_of_the_command(done: Results, model: Path, fasta: Path, tmp_path: Path) -> None:
    from annotator.cli.app import main

    command = ["annotate", str(fasta), "-o", str(tmp_path / "out"), "--model", str(model), "--tasks", "splice", "-t", "1"]
    assert main([*command, "--threshold", "donor=0.5", "--device", "cpu", "-q"]) == 0
    assert results(tmp_path / "out") == results(done.path)
    again = annotator.open_results(tmp_path / "out")
    assert again.run["argv"][:2] == ["annotator", "annotate"] and done.run["argv"] is None
    assert again.run["plan"] == done.run["plan"] and not isinstance(again, BatchResults) and again.samples == {}


def test_what_the_record_says(done: Results, fasta: Path) -> None:
    assert done.contigs == RECORDS and list(done.contigs) == list(RECORDS)
    assert done.thresholds["donor"] == 0.5 and done.model == done.calls().collect()["model"][0]
    assert set(done.files) == set(results(done.path)) and all(path.is_file() for path in done.files.values())
    assert done.run["input"]["absolute_path"] == str(fasta.absolute()) and done.failed_contigs == []


def test_profiles_are_those_of_the_planted_words(done: Results, table: pl.DataFrame) -> None:
    for profile in done.profiles:
        assert profile.calls == table.filter(kind=profile.kind).height > 10
        for i, letter in enumerate({"donor": DONOR, "acceptor": ACCEPTOR}[profile.kind]):
            counts = profile.counts[50 + i - 2]  # the exon's base is the third of either word
            assert counts[LETTERS.index(letter)] == profile.calls == counts.sum()
    assert [profile.kind for profile in done.profiles] == ["acceptor", "donor"]


def test_calls_are_chosen(done: Results, table: pl.DataFrame) -> None:
    assert done.calls().collect().equals(table) and dict(done.calls().collect_schema()) == dict(TABLE_SCHEMA)
    assert done.calls(kind="donor").collect().equals(table.filter(kind="donor"))
    assert done.calls(kind=("donor", "acceptor")).collect().equals(table)
    assert done.calls(kind="tfbs").collect().is_empty() and done.calls(kind=()).collect().is_empty()
    assert done.calls(strand="-").collect().equals(table.filter(strand="-"))
    least = float(table["probability"].sort()[table.height // 2])
    assert done.calls(min_probability=least).collect().equals(table.filter(pl.col("probability") >= least))
    both = done.calls("donor", "chr1", "+", 0.5).collect()
    assert both.equals(table.filter(kind="donor", chrom="chr1", strand="+")) and both.height


def test_a_region_is_closed_and_counts_from_one(done: Results, table: pl.DataFrame) -> None:
    row = table.filter(chrom="chr1").row(5, named=True)
    first, last = row["start"] + 1, row["end"]  # 1-based, of the dinucleotide
    for region, found in (
        (f"chr1:{first}-{first}", 1), (f"chr1:{last}-{last}", 1), (f"chr1:{last}-{last + 20}", 1),
        (f"chr1:{last + 1}-{last + 20}", 0), (f"chr1:{first - 20}-{first - 1}", 0), (f"chr1:{first - 20}-{first:,}", 1),
    ):  # fmt: skip
        assert done.calls(region=region).collect().height == found, region
    assert done.calls(region="chr1").collect().equals(table.filter(chrom="chr1"))
    assert done.calls(region="HLA-A*01:01").collect().equals(table.filter(chrom="HLA-A*01:01"))
    assert done.calls(region="HLA-A*01:01:1-200").collect()["start"].max() < 200
    assert done.calls(region="none").collect().is_empty()
    assert done.calls(region="chr2:1-999999").collect().equals(table.filter(chrom="chr2"))


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"kind": 3}, "kind=3: choose from acceptor"), ({"kind": ("donor", None)}, "kind: choose from acceptor"),
        ({"region": 5}, "region=5: give text such as"), ({"strand": 1}, "strand=1: choose from +, -"),
        ({"kind": "exon"}, "kind='exon': choose from acceptor, donor"), ({"strand": "plus"}, "strand='plus': choose from +, -"),
        ({"min_probability": "high"}, "min_probability='high': give a number"),
        ({"region": "chr9:1-5"}, "region='chr9:1-5': the genome has no contig 'chr9'"),
        ({"region": "chr9"}, "region='chr9': the genome has no contig 'chr9'"),
        ({"region": "chr1:0-5"}, "region='chr1:0-5': positions count from 1"),
        ({"region": "chr1:9-5"}, "region='chr1:9-5': positions count from 1"),
        ({"region": "chr1:5"}, "region='chr1:5': give CONTIG or CONTIG:FIRST-LAST"),
        ({"region": "chr1:a-b"}, "region='chr1:a-b': give CONTIG"), ({"region": ""}, "region='': give CONTIG"),
        ({"region": "chr1:٣-٥"}, "give CONTIG"),
    ],
)  # fmt: skip
def test_what_cannot_be_chosen_is_named(chosen: dict[str, str], said: str, done: Results) -> None:
    with pytest.raises(UsageError) as error:
        done.calls(**chosen)  # type: ignore[arg-type]
    assert said in str(error.value)


def test_a_region_without_a_list_of_contigs() -> None:
    assert parse_region("chr1:1-5,000") == Region("chr1", 0, 5000) and parse_region("chr1") == Region("chr1")
    assert parse_region("HLA-A*01:01") == Region("HLA-A*01:01")
    assert parse_region("HLA-A*01:01:7-9") == Region("HLA-A*01:01", 6, 9)


def test_read_calls(done: Results, table: pl.DataFrame, tmp_path: Path) -> None:
    assert annotator.read_calls(done.path).equals(table)
    file = done.path / "predictions.parquet"
    assert annotator.read_calls(str(file), kind="donor", region="chr1:1-999").equals(
        table.filter(pl.col("start") < 999, kind="donor", chrom="chr1")
    )
    for path in (done.path, file):
        found = annotator.read_calls(path, strand=Strand.MINUS, min_probability=0.6)
        assert found.equals(table.filter(pl.col("probability") >= 0.6, strand="-")) and found.height > 3
        assert annotator.read_calls(path, strand="-", kind=[Kind.DONOR]).equals(table.filter(strand="-", kind="donor"))
    with pytest.raises(UsageError, match="path=5: give a path"):
        annotator.read_calls(5)  # type: ignore[arg-type]
    for content in (b"", b"PAR1", b"no table"):
        (tmp_path / "x.parquet").write_bytes(content)
        with pytest.raises(InputError, match=r"x\.parquet: cannot be read"):
            annotator.read_calls(tmp_path / "x.parquet")
    pl.DataFrame({"chrom": ["a"]}).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(InputError, match="has not the columns of predictions.parquet"):
        annotator.read_calls(tmp_path / "x.parquet")
    with pytest.raises(UsageError, match="no such folder"):
        annotator.read_calls(tmp_path / "none")
    table.drop("q_value").write_parquet(tmp_path / "earlier.parquet")  # as versions without q-values wrote it
    assert annotator.read_calls(tmp_path / "earlier.parquet").equals(table.with_columns(q_value=pl.lit(None, pl.Float64)))


def test_what_is_no_results_folder(done: Results, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        annotator.open_results(tmp_path / "none")
    with pytest.raises(UsageError, match=r"neither run\.json nor batch\.json"):
        annotator.open_results(tmp_path)
    (tmp_path / ".annotator").mkdir()
    with pytest.raises(UsageError, match="not finished; give the same command again"):
        annotator.open_results(tmp_path)
    (tmp_path / ".annotator" / "plan.json").write_text(json.dumps(done.run["plan"]))
    with pytest.raises(UsageError, match="not finished; give the same command again"):
        annotator.open_results(tmp_path)
    for older in ({"plan_version": 1}, {"program": "0.0.1"}):
        (tmp_path / ".annotator" / "plan.json").write_text(json.dumps(done.run["plan"] | older))
        with pytest.raises(UsageError, match="cannot be gone on with by this version of the program; overwrite it or choose"):
            annotator.open_results(tmp_path)
    for name in ("run.json", "batch.json"):
        for content in ("", "[]", "{}", '{"samples": [{"sample": "../x", "exit_status": 0}], "plan": 3}', "[" * 9999):
            (tmp_path / name).write_text(content)
            with pytest.raises(InputError, match=name):
                annotator.open_results(tmp_path)
        (tmp_path / name).unlink()
    damaged = Path(shutil.copytree(done.path, tmp_path / "damaged"))
    (damaged / "profiles.json").write_text("{}")
    (damaged / "contigs.tsv").write_text("chr1\tlong\n")
    (damaged / "predictions.parquet").unlink()
    opened = annotator.open_results(damaged)
    for read in (lambda: opened.profiles, lambda: opened.contigs, opened.calls):
        with pytest.raises(InputError, match=str(damaged)):
            read()


def test_a_folder_of_the_previous_version_is_read_as_far_as_it_goes(done: Results, table: pl.DataFrame, tmp_path: Path) -> None:
    old = Path(shutil.copytree(done.path, tmp_path / "old"))
    told = json.loads((old / "run.json").read_text())
    for name in ("profiles.json", "contigs.tsv"):
        (old / name).unlink()
        del told["files"][name]
    for entry in ("plan_version", "given"):
        del told["plan"][entry]
    (old / "run.json").write_text(json.dumps(told | {"run_json_version": 2}))
    opened = annotator.open_results(old)
    assert opened.calls(region="chr1:1-999").collect().equals(table.filter(pl.col("start") < 999, chrom="chr1"))
    assert opened.calls(region="no such contig").collect().is_empty()
    assert opened.thresholds == done.thresholds and opened.model == done.model
    for read, name in ((lambda: opened.contigs, "contigs.tsv"), (lambda: opened.profiles, "profiles.json")):
        with pytest.raises(UsageError, match=f"earlier version, without {name}; annotate the genome again"):
            read()


@pytest.fixture(scope="module")
def batch(model: Path, fasta: Path, tmp_path_factory: pytest.TempPathFactory) -> BatchResults:
    folder = tmp_path_factory.mktemp("batch")
    others = [toy_genome(folder / "toy.fa"), folder / "bad.fa"]
    others[1].write_text(">x\nAC GT\n")
    with pytest.raises(PartialFailure, match=r"1 of 3 assemblies failed: bad"):
        annotator.annotate([fasta, *others], folder / "out", model=model, tasks=("splice",), threads=1, device="cpu")
    opened = annotator.open_results(folder / "out")
    assert isinstance(opened, BatchResults)
    return opened


def test_a_batch_gives_its_samples(batch: BatchResults) -> None:
    assert list(batch.samples) == ["g", "toy"] and "line 2" in batch.failed["bad"]
    assert [entry["sample"] for entry in batch.run["samples"]] == ["g", "toy", "bad"]
    calls = batch.calls().collect()
    expected = [results.calls().collect().with_columns(sample=pl.lit(name)) for name, results in batch.samples.items()]
    assert calls.equals(pl.concat(expected).select("sample", *TABLE_SCHEMA)) and set(calls["sample"]) == {"g", "toy"}
    assert annotator.read_calls(batch.path, kind="donor").equals(calls.filter(kind="donor"))
    assert set(batch.calls(region="HLA-A*01:01").collect()["sample"]) == {"g"}
    assert set(batch.calls(region="chr1:1-4000").collect()["sample"]) == {"g", "toy"}
    with pytest.raises(UsageError, match="no contig 'chr9'"):
        batch.calls(region="chr9")
    for read in (lambda: batch.contigs, lambda: batch.profiles, lambda: batch.model, lambda: batch.files):
        with pytest.raises(UsageError, match="holds several assemblies; ask one of its samples: g, toy"):
            read()


def test_a_sheet(model: Path, fasta: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "s.csv"
    sheet.write_text(f"sample,fasta\nfirst,{fasta}\n")
    found = annotator.annotate(None, tmp_path / "out", sheet=sheet, model=model, tasks=["splice"], threads=1, device="cpu")
    assert list(found.samples) == ["first"]


def test_failed_contigs_are_told_after_everything_is_written(model: Path, tmp_path: Path) -> None:
    def toy(order: object, scanner: object) -> ToyTask:
        return ToyTask(order, folder=str(tmp_path), faults={"chr1:896": ("raise", 1)})  # type: ignore[arg-type]

    fasta, out = toy_genome(tmp_path / "toy.fa"), tmp_path / "out"
    chosen = {"model": model, "tasks": ("splice",), "shard_bp": 448, "threads": 1, "device": "cpu"}
    with pytest.raises(PartialFailure, match="1 contigs failed and are not in the files"):
        annotator.annotate(fasta, out, **chosen, task=toy)  # type: ignore[arg-type]
    found = annotator.open_results(out)
    assert found.failed_contigs == ["chr1"] and found.contigs["chr1"] == 4000
    assert found.profiles[1].calls == found.calls(kind="donor").collect().height > 5
    assert "chr1" not in set(found.calls().collect()["chrom"])
    whole = annotator.annotate(fasta, out, **chosen, task=ToyTask)  # type: ignore[arg-type]
    assert whole.failed_contigs == [] and whole.profiles[1].calls == whole.calls().collect().height > found.profiles[1].calls


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"threads": -1}, "threads=-1: cannot be negative"), ({"clade": "fish"}, "clade='fish': choose from"),
        ({"tasks": "splice"}, "tasks='splice': give a tuple"), ({"tasks": ()}, "tasks: name one at the least"),
        ({"tasks": 5}, "tasks=5: give a tuple"), ({"model": None}, "model='None': give a path"),
        ({"regions": 5}, "regions=5: give a path"), ({"motifs": b"x"}, "give a path, as text"),
        ({"sheet": 5}, "sheet=5: give a path"), ({"mask_chars": 5}, "mask_chars=5: give printable"),
        ({"thresholds": {"donor": 2}}, 'thresholds["donor"]=2: a probability'), ({"thresholds": 0}, 'thresholds["all"]=0'),
        ({"shard_timeout_s": -1}, "shard_timeout_s=-1: seconds"), ({"bases_via": "pigeon"}, "bases_via='pigeon'"),
        ({"device": "tpu"}, "device='tpu'"), ({"regions": "none.bed"}, "regions='none.bed': no such file"),
        ({"bed6": True, "bed_extra": True}, "bed_extra: BED6 has no room"), ({"header": "no"}, "header='no': give True or False"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named_as_python_knows_them(wrong: dict[str, object], said: str, fasta: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        annotator.annotate(fasta, tmp_path / "out", **wrong)  # type: ignore[arg-type]
    assert said in str(error.value) and not (tmp_path / "out").exists()


def test_faults_of_a_run_are_the_errors_of_the_command(model: Path, tmp_path: Path) -> None:
    def toy(order: object, scanner: object) -> ToyTask:
        return ToyTask(order, folder=str(tmp_path), faults={"chr1:896": ("model", 1)})  # type: ignore[arg-type]

    with pytest.raises(ModelFault):
        annotator.annotate(
            toy_genome(tmp_path / "t.fa"), tmp_path / "out", model=model, tasks=("splice",), shard_bp=448, task=toy
        )
    with pytest.raises(UsageError, match="No such file|no such file"):
        annotator.annotate(tmp_path / "none.fa", tmp_path / "other", model=model)
    assert issubclass(PartialFailure, AnnotatorError) and PartialFailure.exit_code == 4
