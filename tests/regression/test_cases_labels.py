"""Annotation as users have it, through the command line: what is believed, what is left out, and what is said about it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from annotator.cli.app import main
from tests.support.annotations import CONTIG, GENES, LENGTH, bed, exons_of, gtf, line, spliced_genome, strand_of
from tests.support.detector import write_detector
from tests.support.runs import sites, write_fasta
from tests.support.train_recipe import RECIPE


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the genome and the detector."""
    folder = tmp_path_factory.mktemp("labels")
    spliced_genome(folder / "genome.fa")
    write_detector(folder / "detector")
    return folder


class Runs:
    """Runs `evaluate` on annotation given as text."""

    def __init__(self, shared: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.shared, self.folder, self.capsys = shared, folder, capsys
        self.code, self.err, self.out = 0, "", ""
        self.report: dict[str, Any] = {}

    def evaluate(self, text: str | bytes, *options: str, name: str = "a.gtf") -> Runs:
        """Run, and keep the exit code, the report and what was printed."""
        path, report = self.folder / name, self.folder / "report.json"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        report.unlink(missing_ok=True)
        self.code = main(
            ["evaluate", str(self.shared / "detector"), "--fasta", str(self.shared / "genome.fa"), "--truth", str(path),
             "-t", "1", "--replicates", "1", "--json", str(report), *options]
        )  # fmt: skip
        self.out, self.err = self.capsys.readouterr()
        self.report = json.loads(report.read_text()) if report.exists() else {}
        assert "Traceback" not in self.err
        return self

    @property
    def truths(self) -> list[int]:
        """Donors and acceptors of the truth."""
        return [kind["truths"] for kind in self.report["kinds"]]

    @property
    def recall(self) -> list[float]:
        """Share of the truth that the detector finds."""
        return [kind["called"]["recall"] for kind in self.report["kinds"]]

    @property
    def counts(self) -> dict[str, int]:
        """What was read and left out of the truth."""
        found: dict[str, int] = self.report["annotation"]["truth"]["counts"]
        return found


@pytest.fixture
def runs(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Runs]:
    """A fresh `Runs`; the log handlers that commands install are taken off again."""
    yield Runs(shared, tmp_path, capsys)
    for name in ("annotator", "annotator_kernels"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True


def unknown_transcripts() -> str:
    """NCBI: genes of one exon, all with the same transcript_id."""
    return "".join(
        line((at, at + 72), "+-"[i % 2], f'gene_id "trn{i}"; transcript_id "unknown_transcript_1"; gbkey "tRNA";')
        for i, at in enumerate(range(550, LENGTH - 600, 1200))
    )


def test_G01_one_name_for_the_transcript_of_every_gene_invents_no_intron(runs: Runs) -> None:
    runs.evaluate(gtf() + unknown_transcripts())
    assert runs.code == 0 and runs.truths == [GENES, GENES] and runs.recall == [1, 1]
    assert runs.report["annotation"]["truth"]["signals"] == {"GT-AG": GENES, "GC-AG": 0, "AT-AC": 0, "other": 0, "unknown": 0}
    assert f"truth (a.gtf): {GENES} introns: {GENES} at GT-AG" in runs.out and "WARNING" not in runs.err


def test_G02_one_transcript_id_at_two_loci_is_cut_and_said(runs: Runs) -> None:
    named = [gene - gene % 4 + gene % 2 for gene in range(GENES)]  # 0 and 2 are one, 1 and 3, ...
    text = "".join(
        line(span, strand_of(gene), f'gene_id "G{named[gene]}"; transcript_id "NM_{named[gene]}";')
        for gene in range(GENES)
        for span in exons_of(gene)
    )
    runs.evaluate(text)
    assert runs.code == 0 and runs.truths == [GENES, GENES] and runs.recall == [1, 1]
    assert runs.counts["copies"] == GENES // 2
    assert f"left out: {GENES // 2} gaps between copies of a transcript under one name (NM_0; NM_1; NM_4; ...)" in runs.err
    assert "gaps between copies" in runs.out


@pytest.mark.parametrize(
    ("text", "name", "cause"),
    [
        (gtf(shift=(1, 1)), "a.gtf", "if they lay 1 bp further left: off by one?"),
        (gtf(shift=(-1, -1)), "a.gtf", "if they lay 1 bp further right: off by one?"),
        (gtf(shift=(-1, 0)), "a.gtf", "if their ends lay 1 bp further right: off by one?"),
        (gtf(shift=(217, 217)), "a.gtf", "annotation of another assembly?"),
        (gtf(range(0, GENES, 2), strand="-"), "a.gtf", "on the other strand: wrong strand?"),
        (bed(shift=1), "a.bed", "if they lay 1 bp further left: off by one?"),
        (bed(shift=217), "a.bed", "annotation of another assembly?"),
        (bed(turn=True), "a.bed", "on the other strand: wrong strand?"),
    ],
    ids=["off by one", "off by minus one", "0-based starts", "another assembly", "wrong strand", "BED off by one",
         "BED of another assembly", "BED turned"],
)  # fmt: skip
def test_G03_annotation_that_does_not_fit_the_genome_is_refused(runs: Runs, text: str, name: str, cause: str) -> None:
    runs.evaluate(text, name=name)
    assert runs.code == 3 and not runs.report
    message = runs.err.splitlines()[-1]
    assert message.startswith(f"annotator: error: {runs.folder / name}: only ") and cause in message
    assert message.endswith("(--accept-annotation goes on all the same)")


def test_G03_annotation_that_does_not_fit_is_accepted_on_demand(runs: Runs) -> None:
    runs.evaluate(gtf(shift=(1, 1)), "--accept-annotation")
    assert runs.code == 0 and runs.recall == [0, 0]
    assert runs.report["annotation"]["truth"]["canonical_share"] == 0
    assert "WARNING" in runs.err and "off by one?" in runs.err and "off by one?" in runs.out


def test_G03_a_fifth_that_does_not_fit_is_a_warning(runs: Runs) -> None:
    runs.evaluate(gtf(range(32)) + gtf(range(32, GENES), shift=(1, 1)))
    assert runs.code == 0
    assert (
        f"only 80 % of {GENES} introns are GT-AG, GC-AG or AT-AC: 100% of the others would be canonical if they lay 1 bp"
        in runs.err
    )


@pytest.mark.parametrize("command", ["train", "finetune"])
def test_G03_training_refuses_it_too_before_it_begins(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    (tmp_path / "bad.gtf").write_text(gtf(shift=(1, 1)))
    (tmp_path / "good.gtf").write_text(gtf())
    (tmp_path / "recipe.toml").write_text(RECIPE.format(steps=2))
    begin = [str(tmp_path / "recipe.toml")] if command == "train" else ["--base", "dnabert:tiny", "--steps", "2"]
    genome = str(shared / "genome.fa")
    code = main(
        [command, *begin, "-o", str(tmp_path / "run"), "--fasta", genome, "--gtf", str(tmp_path / "bad.gtf"),
         "--val-fasta", genome, "--val-gtf", str(tmp_path / "good.gtf"), "-t", "1"]
    )  # fmt: skip
    assert code == 3 and "off by one?" in capsys.readouterr().err
    assert not (tmp_path / "run" / "model").exists()


def test_G04_transcripts_without_a_strand_are_counted(runs: Runs) -> None:
    runs.evaluate(gtf(range(22)) + gtf(range(22, GENES), strand="."))
    assert runs.code == 0 and runs.truths == [22, 22] and runs.counts["unstranded"] == GENES - 22
    assert f"left out: {GENES - 22} transcripts without a strand (t22; t23; t24; ...)" in runs.err
    assert "18 transcripts without a strand" in runs.out
    assert any("without a strand" in note for note in runs.report["annotation"]["truth"]["notes"])


@pytest.mark.parametrize("strand", [".", "?"])
def test_G04_where_all_lack_a_strand_the_error_says_so(runs: Runs, strand: str) -> None:
    runs.evaluate(gtf(strand=strand))
    assert runs.code == 3
    assert f"nothing to learn from; left out: {GENES} transcripts without a strand" in runs.err.splitlines()[-1].replace(
        "no donor, acceptor, tss or feature", "nothing"
    )


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (gtf() + gtf(range(2), contig="scaffold_77"), "a.gtf"),
        (gtf(range(2), contig="scaffold_77") + gtf(), "a.gff"),
        (bed() + bed(range(2), contig="scaffold_77"), "a.bed"),
        (bed(range(2), contig="chr1_random") + bed(), "a.bed"),
    ],
)
def test_G05_lines_on_contigs_that_the_genome_lacks_are_left_out(runs: Runs, text: str, name: str) -> None:
    runs.evaluate(text, name=name)
    assert runs.code == 0 and runs.truths == [GENES, GENES] and runs.counts["unknown_contig"] == 4
    assert "left out: 4 lines on contigs that the FASTA lacks" in runs.err


@pytest.mark.parametrize(("text", "name"), [(gtf(contig="1"), "a.gtf"), (bed(contig="1"), "a.bed"), (gtf(contig="1"), "a.gff3")])
def test_G05_no_contig_in_common_is_an_error_with_the_names_of_both_sides(runs: Runs, text: str, name: str) -> None:
    runs.evaluate(text, name=name)
    assert runs.code == 3
    assert runs.err.splitlines()[-1] == (
        f"annotator: error: {runs.folder / name} line 1: contig '1' is not in the genome: the file has '1';"
        " the genome has 'chr1'; the genome calls '1' 'chr1': rename one of the two"
    )


def quoted(text: str) -> str:
    """Every field in quotes, as R's write.table writes it."""
    rows = (row.replace('"', '""').split("\t") for row in text.splitlines())
    return "".join("\t".join(f'"{field}"' for field in row) + "\n" for row in rows)


@pytest.mark.parametrize(
    "text",
    [
        gtf().replace("transcript_id", 'product "β-crystallin"; transcript_id').encode("iso-8859-7"),
        b"\xef\xbb\xbf" + gtf().encode(),
        gtf().replace("\n", "\r\n").encode(),
        ("seqname\tsource\tfeature\tstart\tend\tscore\tstrand\tframe\tattribute\n" + gtf()).encode(),
        ("browser position chr1\ntrack name=genes\n" + gtf() + "##FASTA\n>chr1\nACGT\n").encode(),
        quoted(gtf()).encode(),
    ],
    ids=["not UTF-8", "byte order mark", "CRLF", "header", "track lines", "quoted by R"],
)  # fmt: skip
def test_G06_what_editors_leave_in_a_file_changes_nothing(runs: Runs, text: bytes) -> None:
    runs.evaluate(text)
    assert runs.code == 0 and runs.truths == [GENES, GENES] and runs.recall == [1, 1]


def test_G06_what_is_no_text_is_named_with_its_line(runs: Runs) -> None:
    assert "line 1: this is not text (UTF-16; save it as UTF-8)" in runs.evaluate(gtf().encode("utf-16")).err and runs.code == 3
    assert "line 81: this is not text (binary data)" in runs.evaluate(gtf() + "chr1\0\n").err and runs.code == 3


@pytest.mark.parametrize(
    ("regions", "said"),
    [
        (f"\ufeff{CONTIG}\t0\t3000\n", ""),
        (f"chrom\tstart\tend\n{CONTIG}\t0\t3000\n", "line 1 is a header and was passed over"),
        (f'"chr" "start" "end"\n"1" "{CONTIG}" 0 3000\n', "line 1 is a header and was passed over"),
        (f"scaffold_9\t1\t100\n{CONTIG}\t0\t3000\n", "1 line on contigs that the genome lacks left out ('scaffold_9')"),
    ],
)
def test_G07_regions_with_marks_headers_and_other_contigs(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], regions: str, said: str
) -> None:
    (tmp_path / "r.bed").write_text(regions)
    command = ["annotate", str(shared / "genome.fa"), "-o", str(tmp_path / "out"), "--model", str(shared / "detector")]
    assert main([*command, "--tasks", "splice", "--regions", str(tmp_path / "r.bed"), "-t", "1"]) == 0
    assert said in capsys.readouterr().err
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert [said] == [warning.removeprefix(f"{tmp_path / 'r.bed'}: ") for warning in run["input"]["warnings"]] or not said
    assert {position for _, _, _, position in sites(tmp_path / "out")} == {
        place for gene in range(5) for (_, low), (high, _) in [exons_of(gene)] for place in (low - 1, high) if place < 3000
    }


@pytest.mark.parametrize(
    ("regions", "said"),
    [
        (
            "1\t0\t10\n",
            "line 1: contig '1' is not in the genome: the file has '1'; the genome has 'chr1'; the genome calls '1' 'chr1'",
        ),
        (f"{CONTIG}\t0\t{LENGTH + 1}\n", f"line 1: end {LENGTH + 1} lies beyond contig 'chr1' of {LENGTH} bp"),
        (f"# x\n\n{CONTIG}\tten\t20\n", "line 3: start 'ten' is not a whole number from 0 up"),
        (f"{CONTIG}\t0\t10\nchrom\tstart\tend\n", "line 2: start 'start' is not a whole number from 0 up"),
    ],
)
def test_G07_regions_that_are_wrong_are_refused_by_line(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], regions: str, said: str
) -> None:
    (tmp_path / "r.bed").write_text(regions)
    command = ["annotate", str(shared / "genome.fa"), "-o", str(tmp_path / "out"), "--model", str(shared / "detector")]
    assert main([*command, "--tasks", "splice", "--regions", str(tmp_path / "r.bed"), "-t", "1", "-q"]) == 3
    assert capsys.readouterr().err.startswith(f"annotator: error: {tmp_path / 'r.bed'}: {said}")


def two_contigs(folder: Path, shared: Path) -> Path:
    """The genome twice, as chr1 and chr2."""
    text = "".join((shared / "genome.fa").read_text().splitlines()[1:])
    return write_fasta(folder / "two.fa", {CONTIG: text, "chr2": text})


def test_G08_evaluate_measures_on_held_out_contigs_alone(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fasta = two_contigs(tmp_path, shared)
    (tmp_path / "a.gtf").write_text(gtf(range(10)) + gtf(contig="chr2"))
    command = ["evaluate", str(shared / "detector"), "--fasta", str(fasta), "--gtf", str(tmp_path / "a.gtf"), "-t", "1"]
    report = tmp_path / "r.json"
    assert main([*command, "--replicates", "1", "--hold-out", "chr2", "--json", str(report)]) == 0
    found = json.loads(report.read_text())
    assert (found["contigs"], found["bases"], found["held_out"]) == (1, LENGTH, ["chr2"])
    assert [kind["truths"] for kind in found["kinds"]] == [GENES, GENES]
    assert "; only chr2" in capsys.readouterr().out
    assert main([*command, "--hold-out", "chr3"]) == 2
    assert "held-out contig 'chr3' is in none of the genomes: two" in capsys.readouterr().err


def test_G08_train_calibrates_on_held_out_contigs_and_says_what_it_read(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fasta = two_contigs(tmp_path, shared)
    (tmp_path / "a.gtf").write_text(gtf() + gtf(contig="chr2") + gtf(range(1), contig="chr9"))
    (tmp_path / "recipe.toml").write_text(RECIPE.format(steps=2))
    command = ["train", str(tmp_path / "recipe.toml"), "-o", str(tmp_path / "run"), "--fasta", str(fasta)]
    command += ["--gtf", str(tmp_path / "a.gtf"), "-t", "1"]
    assert main([*command, "--hold-out", "chr7"]) == 2
    assert "held-out contig 'chr7' is in none of the genomes: two" in capsys.readouterr().err
    assert main([*command, "--hold-out", "chr1,chr2"]) == 2
    assert "no contig with a site is left to learn from" in capsys.readouterr().err
    assert main([*command, "--hold-out", "chr2"]) == 0
    assert "two: 24,300 bp, 80 sites" in capsys.readouterr().err
    training = json.loads((tmp_path / "run" / "model" / "manifest.json").read_text())["training"]
    assert training["held_out"] == ["chr2"]
    assert training["annotation"]["train"]["two"]["truth"]["counts"]["unknown_contig"] == 2
    assert main(["models", "show", str(tmp_path / "run" / "model")]) == 0
    shown = capsys.readouterr().out
    assert "held out for validation: chr2" in shown
    assert 'train two, truth (a.gtf): left out: 2 lines on contigs that the FASTA lacks ("chr9")' in shown
    (tmp_path / "recipe.toml").write_text(RECIPE.format(steps=4))
    assert main([*command, "--hold-out", "chr1"]) == 2
    assert "holds a run with held_out" in capsys.readouterr().err
