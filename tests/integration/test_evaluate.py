"""`evaluate_genome` end to end: planted sites, by hand, and what is written about them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from annotator.calls.rules import track_rules
from annotator.errors import ModelFault, ResourceFault, UsageError
from annotator.evaluation import genome_report
from annotator.evaluation.genome_report import GenomeReport, evaluate_genome
from annotator.evaluation.report_plot import check_plot, write_plot
from annotator.evaluation.report_text import to_json, to_text, write_json
from annotator.evaluation.scores import genome_calls, genome_logits, score_shards
from annotator.genome.plan import PlanOptions
from annotator.labels.genomes import load_genome
from annotator.labels.options import Organism
from annotator.models.directory import read_model
from annotator.models.loading import load_scan_model
from tests.support.detector import ACCEPTOR, DONOR, TSS, write_detector
from tests.support.evaluation import check_files
from tests.support.runs import plant, random_bases, revcomp, write_fasta

CPU = torch.device("cpu")


def site(contig: str, at: int, kind: str, strand: str) -> str:
    return f"{contig}\t{at}\t{at + 1}\t{kind}\t0\t{strand}\n"


def planted(folder: Path) -> Organism:
    """Two contigs with 12 sites of each kind, planted where the detector calls them, and truth that is not quite the same.

    Truth: the first planted donor is left out of it (a wrong call), the second is ambiguous, and one donor is added where
    nothing is planted (never called). Truth TSS lie 100 bp before the planted ones, two of them on the other strand.
    """
    truth, mask, records = [], [], {}
    for contig in ("c1", "c2"):
        text = random_bases(6_000, len(records) + 1)
        for i in range(6):
            at, strand = 500 + 900 * i, "+-"[i % 2]
            for shift, kind, word in ((0, "donor", DONOR), (200, "acceptor", ACCEPTOR), (400, "tss", TSS)):
                place = at + shift
                text = plant(text, word if strand == "+" else revcomp(word), place)
                called = place + 2 if strand == "+" else place + 3
                if kind == "tss":
                    before = called - 100 if strand == "+" else called + 100
                    truth.append(site(contig, before, kind, strand if i > 1 or contig == "c1" else {"+": "-", "-": "+"}[strand]))
                elif (contig, i, kind) == ("c1", 1, "donor"):
                    mask.append(site(contig, called, kind, strand))
                elif (contig, i, kind) != ("c1", 0, "donor"):
                    truth.append(site(contig, called, kind, strand))
        records[contig] = text
    truth.append(site("c2", 5_900, "donor", "+"))
    fasta = write_fasta(folder / "toy.fa", records)
    (folder / "truth.bed").write_text("".join(sorted(truth, key=lambda line: (line.split("\t")[0], int(line.split("\t")[1])))))
    (folder / "mask.bed").write_text("".join(mask))
    return Organism("toy", "vertebrate", fasta, folder / "truth.bed", folder / "mask.bed")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Organism]:
    folder = tmp_path_factory.mktemp("toy")
    return str(write_detector(folder / "model")), planted(folder)


@pytest.fixture(scope="module")
def report(toy: tuple[str, Organism]) -> GenomeReport:
    return evaluate_genome(*toy, device="cpu", replicates=100)


def test_figures_of_a_planted_genome(report: GenomeReport) -> None:
    donor, acceptor, near, middle, far = report.kinds
    assert (report.contigs, report.bases, report.skipped) == (2, 12_000, {})
    assert donor.truths == 11, "10 that are planted and 1 that is not"
    assert (donor.called.calls, donor.called.right, donor.called.threshold) == (12, 10, 0.5)
    assert donor.called.precision == pytest.approx(10 / 11), "12 calls, one of them ambiguous, one wrong"
    assert donor.called.recall == pytest.approx(10 / 11)
    assert donor.called.f1 == pytest.approx(10 / 11) and donor.called.calls_per_mb == pytest.approx(1000)
    assert donor.top_k is not None and acceptor.top_k is not None
    # 11 bases with a logit of 10 are examples, 10 of them truth: the 11 highest are just these
    assert donor.top_k.value == pytest.approx(10 / 11) and donor.top_k.low <= donor.top_k.value <= donor.top_k.high
    # the 12th truth lies among the 23,989 examples that are not listed
    assert donor.auprc.value == pytest.approx(10 / 11 * 10 / 11 + 1 / 11 * 11 / (24_000 - 1))
    assert (acceptor.called.precision, acceptor.called.recall, acceptor.top_k.value, acceptor.auprc.value) == (1, 1, 1, 1)
    assert [kind.within_bp for kind in (near, middle, far)] == [50, 250, 500]
    assert (near.called.right, near.called.calls, near.called.precision) == (0, 12, 0)
    assert (middle.called.right, middle.truths) == (10, 12) and middle.auprc.value == pytest.approx(10 / 12 * 10 / 12)
    assert middle.called.recall == pytest.approx(10 / 12)
    assert near.top_k is None and math.isnan(near.auprc.low)


def test_reliability_and_calibration_error_by_hand(report: GenomeReport) -> None:
    donor, _, near, middle, far = report.kinds
    assert donor.reliability is not None and middle.reliability is not None
    assert donor.reliability.count.tolist() == [0] * 9 + [11]
    assert donor.reliability.observed[-1] == pytest.approx(10 / 11)
    # ten bins of one or two equal calls: whichever bin the wrong ones are in, they make up the error, but for 5e-5 of doubt
    assert donor.calibration_error == pytest.approx(1 / 11, abs=1e-4)
    assert middle.calibration_error == pytest.approx(2 / 12, abs=1e-4)
    assert near.reliability is None and far.reliability is None, "the probability of a promoter speaks of 250 bp"


def test_other_thresholds_and_trimming(toy: tuple[str, Organism], report: GenomeReport) -> None:
    model, organism = toy
    strict = evaluate_genome(model, organism, thresholds={"donor": 0.99999}, device="cpu", replicates=10)
    assert [kind.called.calls for kind in strict.kinds] == [0, 12, 12, 12, 12]
    assert strict.kinds[0].called.threshold == 0.99999 and math.isnan(strict.kinds[0].called.precision)
    trimmed = evaluate_genome(model, replace(organism, trim_bp=1_500), device="cpu", replicates=10)
    again = evaluate_genome(model, replace(organism, trim_bp=1_500), device="cpu", replicates=10)
    assert 5_000 < trimmed.bases < 12_000 and trimmed.trim_bp == 1_500
    assert to_json(trimmed) == to_json(again)
    assert 0 < trimmed.kinds[1].truths < 12 and trimmed.kinds[1].called.recall == 1


def test_shards_hold_what_the_whole_genome_holds(toy: tuple[str, Organism], tmp_path: Path) -> None:
    model, organism = toy
    folder, manifest = read_model(model)
    genome = load_genome(organism, tmp_path)
    scan = load_scan_model(folder, manifest, "vertebrate", CPU)
    plan = PlanOptions(**manifest.plan)
    rules = track_rules(manifest, "vertebrate", {"donor": 0.5, "acceptor": 0.5, "promoter": 0.5})
    whole = genome_logits(scan, genome, plan, tracks=3, device=CPU)
    expected = genome_calls(whole, genome, rules)
    assert len(expected) == 36 and np.isfinite(whole).all()
    small = replace(plan, shard_bp=plan.core_bp)
    shards = list(score_shards(scan, genome, small, tracks=3, device=CPU, rules=rules))
    assert len(shards) > 12
    rebuilt = np.full_like(whole, np.nan)
    for shard in shards:
        for span, logits in zip(shard.spans, shard.logits, strict=True):
            start = int(genome.contig_starts[span.contig])
            rebuilt[:, :, start + span.start : start + span.end] = logits
    assert np.array_equal(rebuilt, whole)
    columns = ("kind", "contig", "position", "strand", "probability")
    found = [np.concatenate([getattr(shard.calls, column) for shard in shards]) for column in columns]
    assert set(zip(*found, strict=True)) == set(zip(*(getattr(expected, column) for column in columns), strict=True))


def test_what_cannot_be_measured_is_said(toy: tuple[str, Organism], tmp_path: Path) -> None:
    model, organism = toy
    truth = tmp_path / "truth.bed"
    truth.write_text(site("c1", 502, "donor", "+"))
    only = evaluate_genome(model, replace(organism, truth=truth, mask=None), device="cpu", replicates=10)
    assert [kind.kind for kind in only.kinds] == ["donor"]
    assert only.skipped == {"acceptor": "the truth has none", "tss": "the truth has none"}
    assert "not measured (2):\n  acceptor: the truth has none" in to_text(only)
    manifest = json.loads((Path(model) / "manifest.json").read_text())
    del manifest["clades"]["plant"]
    other = tmp_path / "model"
    write_detector(other)
    (other / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UsageError, match="no settings for clade plant"):
        evaluate_genome(str(other), replace(organism, clade="plant"), device="cpu")


def test_a_model_that_gives_nan_is_a_fault(toy: tuple[str, Organism], monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def embed(self, block: Tensor, starts: Tensor, reverse: Tensor, length: int) -> Tensor:
            return torch.full((len(starts), length, 3), torch.nan)

        def logits(self, x: Tensor) -> Tensor:
            return x

    monkeypatch.setattr(genome_report, "load_scan_model", lambda *_: Broken())
    with pytest.raises(ModelFault, match=r"toy\.fa: NaN or infinity"):
        evaluate_genome(*toy, device="cpu")


def test_text_of_a_genome(report: GenomeReport) -> None:
    lines = to_text(report).splitlines()
    assert lines[0] == "detector 0 (float32) on toy: 2 contigs, 12,000 bp; clade vertebrate"
    assert lines[1].startswith("truth (truth.bed): 23 splice sites: ") and lines[2].startswith("mask (mask.bed): 1 splice site: ")
    table = lines[4:10]
    assert table[0].split()[:3] == ["kind", "sites", "top-k"]
    assert table[1].split() == [
        "donor", "11", "0.9091", *table[1].split()[3:4], "0.8265", *table[1].split()[5:6], "0.5", "12", "0.9091", "0.9091",
        "0.9091", "1000.0",
    ]  # fmt: skip
    assert table[4].startswith("promoter within 250 bp") and table[4].split()[5:] == [
        "0.6944", "0.5", "12", "0.8333", "0.8333", "0.8333", "1000.0",
    ]  # fmt: skip
    assert len({len(line) for line in table}) == 1, "columns are aligned"
    assert sum("calibration error" in line for line in lines) == 3


def test_files_of_a_genome_are_the_same_bytes(toy: tuple[str, Organism], report: GenomeReport, tmp_path: Path) -> None:
    check_files(report, evaluate_genome(*toy, device="cpu", replicates=100), tmp_path)
    raw = json.loads((tmp_path / "a.json").read_text())
    assert raw["kinds"][0]["called"]["recall"] == 0.909091
    assert raw["kinds"][2]["auprc"] == {"value": 0.0, "low": None, "high": None}, "JSON has no NaN"
    assert len(raw["kinds"][0]["curve"]["recall"]) == len(raw["kinds"][0]["curve"]["precision"]) > 0


def test_pictures_that_cannot_be_drawn(report: GenomeReport, tmp_path: Path) -> None:
    for wrong in ("plot.pdf", "plot"):
        with pytest.raises(UsageError, match=r"written as \.png or \.svg"):
            check_plot(tmp_path / wrong)
    with pytest.raises(ResourceFault):
        write_plot(report, tmp_path / "absent" / "plot.png")
    with pytest.raises(ResourceFault):
        write_json(report, tmp_path / "absent" / "report.json")


@pytest.mark.data
def test_the_bundled_model_on_real_bases(data_pack: Path) -> None:
    base = data_pack / "athaliana" / "athaliana.cross"
    organism = Organism(
        "athaliana", "plant", base.with_name(f"{base.name}.fa.gz"), base.with_name(f"{base.name}.truth.bed.gz"), max_bp=150_000
    )
    found = evaluate_genome("compact", organism, device="cpu", replicates=20)
    assert [kind.kind for kind in found.kinds] == ["donor", "acceptor"] and found.skipped == {"tss": "the truth has none"}
    for kind in found.kinds:
        assert kind.top_k is not None and kind.top_k.value > 0.75 and kind.called.precision > 0.8
        assert kind.top_k.low <= kind.top_k.value <= kind.top_k.high
