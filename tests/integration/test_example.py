"""What a newcomer sees: the example assembly and the bundled model."""

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
