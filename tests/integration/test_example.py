"""What a newcomer sees: the example assembly and the bundled model."""

import gzip
from pathlib import Path

import pytest

from annotator.cli.app import main
from benchmarks.validate_bed import read_fasta, validate_bed
from tests.support.runs import annotate, bed_lines, sites


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("example")
    assert main(["example", str(folder), "--length", "200000"]) == 0
    assert annotate(folder / "example.fa.gz", "-o", folder / "results") == 0
    return folder


def test_the_bundled_model_finds_planted_sites(example: Path) -> None:
    truth = {(f[0], f[3], f[5], int(f[1])) for f in bed_lines(example / "example.truth.bed.gz") if f[3] in ("donor", "acceptor")}
    called = {site for site in sites(example / "results") if site[1] in ("donor", "acceptor")}
    assert len(truth) > 40
    assert len(called & truth) > 0.35 * len(truth)  # random calls at this density would find 0.1 %
    assert len(called & truth) > 0.4 * len(called)


def test_C01_every_file_of_a_real_run_is_valid_bed(example: Path) -> None:
    sequences = read_fasta(example / "example.fa.gz")
    lengths = {name: len(sequence) for name, sequence in sequences.items()}
    for name in ("promoters", "splice_sites", "tfbs"):
        report = validate_bed(example / "results" / f"{name}.bed.gz", lengths, sequences)
        assert report.errors == [] and report.rows > 0
    splice = validate_bed(example / "results" / "splice_sites.bed.gz", lengths, sequences)
    for kind in ("donor", "acceptor"):
        assert splice.canonical[kind] >= 0.99 * splice.sites[kind] > 0


def test_a_real_locus_and_its_annotation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["example", str(tmp_path), "--real"]) == 0
    assert main(["example", str(tmp_path), "--real"]) == 0, "the same files again are no fault"
    fasta, gtf = tmp_path / "plat.fa.gz", tmp_path / "plat.gtf.gz"
    ((name, sequence),) = read_fasta(fasta).items()
    assert name == "chr8_42172717_42212676" and len(sequence) == 39_959 and set(sequence) == set(b"ACGT")
    assert annotate(fasta, "-o", tmp_path / "results", "--tasks", "splice") == 0
    called = {(kind, at) for _, kind, strand, at in sites(tmp_path / "results") if strand == "-"}
    exons = [line.split("\t") for line in gzip.decompress(gtf.read_bytes()).decode().splitlines()]
    ends = {int(line[4]) - 1 for line in exons}  # 0-based; on the minus strand an exon begins at its largest base
    assert len(exons) == 67 and {line[6] for line in exons} == {"-"}
    assert len({at for kind, at in called if kind == "acceptor"} & ends) >= 8
    gtf.write_text("of the user")
    assert main(["example", str(tmp_path), "--real"]) == 2 and gtf.read_text() == "of the user"
    assert "plat.gtf.gz exists and is not this example" in capsys.readouterr().err
    assert main(["example", str(tmp_path / "new"), "--real", "--seed", "2"]) == 2
    assert "neither --seed nor --length" in capsys.readouterr().err and not (tmp_path / "new").exists()
