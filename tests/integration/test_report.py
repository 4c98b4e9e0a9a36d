"""`annotator report`: its figures against counts made by hand, the page in a real browser, and what is refused."""

import errno
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import annotator
from annotator.cli.app import main
from annotator.kinds import Kind
from annotator.report.facts import INTRON_EDGES_BP, THRESHOLDS, gather
from annotator.report.logo import information
from annotator.report.svg import ticks
from annotator.results.pages import is_made_from
from tests.support.chromium import Chromium, find_chromium
from tests.support.detector import write_detector
from tests.support.igv_desktop import program
from tests.support.page_runs import CONTIGS, EVIL, MOTIF, write_genome, write_run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_detector(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def run(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"), model)[0]


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    find_chromium()
    chromium = Chromium(tmp_path / "profile")
    yield chromium
    chromium.close()


def report(*arguments: object) -> int:
    return main(["report", *map(str, arguments), "--quiet"])


class Outline(HTMLParser):
    """Elements of a page, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


def tables(path: Path) -> dict[str, list[list[str]]]:
    """Rows of each table by its caption, the head first."""
    found = {}
    for table in re.findall(r"<table>(.*?)</table>", path.read_text(), re.DOTALL):
        caption = re.search(r"<caption>(.*?)</caption>", table)[1]
        rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
        found[unescape(caption)] = [[unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]
    return found


def test_annotate_writes_the_report_of_its_run(run: Path) -> None:
    assert is_made_from(run / "report.html", annotator.open_results(run).run)
    content = json.loads((run / "annotator_mqc.json").read_text())
    calls = annotator.read_calls(run)
    (row,) = content["data"].values()
    assert row["donor_calls"] == calls.filter(kind="donor").height > 5 and set(row) == set(content["headers"])
    assert row["tfbs_calls"] == calls.filter(kind="tfbs").height and row["failed_contigs"] == 0
    assert content["plot_type"] == "table" and list(content["data"]) == ["results"]


def test_figures_are_those_of_the_calls(run: Path) -> None:
    results, table = annotator.open_results(run), annotator.read_calls(run)
    facts = gather(results)
    assert facts.kinds == [Kind.PROMOTER, Kind.DONOR, Kind.ACCEPTOR, Kind.TFBS] and facts.bases == sum(CONTIGS.values())
    for kind in facts.kinds:
        mine = table.filter(kind=kind)
        assert facts.calls[kind] == mine.height > 5
        assert sum(facts.by_contig[name].get(kind, 0) for name in facts.by_contig) == mine.height
        assert sum(counts.sum() for (_, other), counts in facts.densities.items() if other is kind) == mine.height
        rated = mine["probability"].drop_nulls()
        assert sum(facts.probabilities[kind]) == len(rated)
        if len(rated):
            assert facts.expected[kind] == pytest.approx(rated.mean())
            reached = [(int((rated >= np.float32(t)).sum()), t) for t in THRESHOLDS]
            assert [count for count, _ in facts.at_least[kind]] == [count for count, _ in reached if count]
    assert sum(facts.p_values.values()) == table.filter(kind="tfbs").height
    assert facts.motifs[0][0] == MOTIF and facts.motifs[0][1] == table.filter(kind="tfbs").height
    inside, covered = 0, set()
    promoters = [(row["chrom"], row["start"], row["end"]) for row in table.filter(kind="promoter").rows(named=True)]
    for contig, start, end in promoters:
        covered |= {(contig, base) for base in range(start, end)}
    for row in table.filter(kind="tfbs").rows(named=True):
        inside += (row["chrom"], (row["start"] + row["end"]) // 2) in covered
    assert facts.promoter_bp == len(covered) and facts.motifs[0][2] == inside > 0


def test_introns_are_those_of_neighbouring_sites(run: Path) -> None:
    table, lengths = annotator.read_calls(run, kind=["donor", "acceptor"]), []
    for contig in CONTIGS:
        for strand in "+-":
            sites = table.filter(chrom=contig, strand=strand).select("position", "kind").rows()
            sites.sort(reverse=strand == "-")
            for (at, kind), (then, next_kind) in zip(sites, sites[1:], strict=False):
                if (kind, next_kind) == ("donor", "acceptor"):
                    lengths.append(abs(then - at) - 1)
    counts = [
        sum(low <= length < high for length in lengths) for low, high in zip(INTRON_EDGES_BP, INTRON_EDGES_BP[1:], strict=False)
    ]
    found = gather(annotator.open_results(run)).introns
    assert found[:-1] == counts and sum(found) == len(lengths) > 5


def test_information_and_ticks() -> None:
    bits = information(np.array([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25] * 4]))
    assert bits == pytest.approx([2, 1, 0])
    assert ticks(0, 1, 6) == [0, 0.2, 0.4, 0.6, 0.8, 1] and ticks(0, 103, 5) == [0, 50, 100] and ticks(3, 3) == [3]


def test_every_picture_has_words_and_a_table_and_names_stay_inert(run: Path) -> None:
    assert report(run) == 0
    page = Outline(run / "report.html")
    assert page.count("script") == page.count("img") == page.count("iframe") == 0
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    pictures = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert len(pictures) >= 8 and all(picture["role"] == "img" and picture["aria-label"] for picture in pictures)
    assert page.count("figure") == page.count("figcaption") == page.count("details") == page.count("summary") >= 8
    assert page.count("table") == page.count("caption") and all(a["scope"] == "col" for t, a in page.elements if t == "th")
    links = {attributes["href"] for tag, attributes in page.elements if tag == "a"}
    assert links <= {f"#{attributes['id']}" for _, attributes in page.elements if attributes.get("id")}
    words = "".join(page.words)
    assert EVIL in words and MOTIF in words
    policy = next(a["content"] for t, a in page.elements if t == "meta" and a.get("http-equiv"))
    assert policy.startswith("default-src 'none'; style-src") and "script-src" not in policy


def test_the_table_of_the_summary(run: Path) -> None:
    rows = tables(run / "report.html")["Calls of each kind, both strands"]
    calls = annotator.read_calls(run)
    assert [row[0] for row in rows[1:]] == ["promoter", "donor", "acceptor", "tfbs"]
    for kind, count, _, threshold, mean, right in rows[1:]:
        mine = calls.filter(kind=kind)
        assert count == f"{mine.height:,}"
        if kind != "tfbs":
            assert threshold == "0.5" and mean == f"{mine['probability'].mean():.3g}"
            assert right == f"{round(mine['probability'].mean() * mine.height):,}"
    assert f"{annotator.open_results(run).run['plan']['fasta_sha256']}" in (run / "report.html").read_text()


def test_the_report_in_a_browser(run: Path, tmp_path: Path, browser: Chromium) -> None:
    assert report(run) == 0
    browser.open((run / "report.html").as_uri())
    assert browser.requests == [(run / "report.html").as_uri()] and browser.complaints == []
    widths = browser.run("[...document.querySelectorAll('svg')].map(s => s.getBoundingClientRect().width)")
    assert len(widths) >= 8 and all(width > 300 for width in widths)
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")  # nothing sticks out
    light = browser.run("getComputedStyle(document.body).backgroundColor")
    browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    dark = browser.run("getComputedStyle(document.body).backgroundColor")
    assert light == "rgb(255, 255, 255)" and dark != light
    browser.send("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert browser.run("getComputedStyle(document.body).backgroundColor") == light  # paper is white
    browser.pdf(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")


def truth_of(run: Path, path: Path, leave_out: int, add: int) -> Path:
    """A BED of the splice sites of a run, without some of them and with some that are no calls."""
    calls = annotator.read_calls(run, kind=["donor", "acceptor"], region="chr1").rows(named=True)
    lines = [f"chr1\t{c['position']}\t{c['position'] + 1}\t{c['kind']}\t0\t{c['strand']}" for c in calls[leave_out:]]
    lines += [f"chr1\t{5000 + i}\t{5001 + i}\tdonor\t0\t+" for i in range(add)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_accuracy_against_a_truth(run: Path, tmp_path: Path) -> None:
    truth = truth_of(run, tmp_path / "truth.bed", 4, 3)
    out = tmp_path / "accuracy.html"
    assert report(run, "--truth", truth, "-o", out) == 0
    rows = tables(out)["Accuracy at the run's threshold and above"]
    calls = annotator.read_calls(run, kind=["donor", "acceptor"])
    sites = pl.read_csv(truth, separator="\t", has_header=False, new_columns=["chrom", "start", "end", "kind", "x", "strand"])
    for kind in ("donor", "acceptor"):
        mine, true = calls.filter(kind=kind), sites.filter(kind=kind)
        right = mine.join(true, left_on=["chrom", "position", "strand"], right_on=["chrom", "start", "strand"], how="semi").height
        row = next(row for row in rows if row[:2] == [kind, "0.5"])
        assert row[2:4] == [str(mine.height), str(right)] and 0 < right < mine.height
        assert row[4:6] == [f"{right / mine.height:.3g}", f"{right / true.height:.3g}"]
    assert {"Precision and recall", "Reliability: probabilities against the share that is right"} <= set(tables(out))
    assert not (run / "accuracy.html").exists()


def test_several_runs_side_by_side(run: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other, _ = write_run(tmp_path / "other", model, "--threshold", "0.9999")
    out = tmp_path / "both.html"
    assert report(run, other, "-o", out) == 0
    shown = tables(out)
    names = [row[0] for row in shown["The runs"][1:]]
    assert names == ["results", "other/results"]
    shared = {row[0]: row for row in shown["Calls in both runs"][1:]}
    left, right = (annotator.read_calls(path) for path in (run, other))
    place = ["chrom", "position", "strand", "kind", "name"]
    for kind, row in shared.items():
        one, two = (table.filter(kind=kind).select(place).unique() for table in (left, right))
        assert row[3:6] == [f"{n:,}" for n in (one.height, two.height, one.join(two, on=place).height)]
    assert report(run, other) == 2  # where to?


def test_a_batch_is_several_runs(model: Path, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        write_genome(tmp_path / name / f"{name}.fa")
    given = [str(tmp_path / name / f"{name}.fa") for name in "ab"]
    fixed = ["-o", str(tmp_path / "out"), "--model", str(model), "--tasks", "splice", "-t", "1", "--device", "cpu", "-q"]
    assert main(["annotate", *given, *fixed]) == 0
    assert {path.parent.name for path in (tmp_path / "out").glob("*/report.html")} == {"a", "b"}
    assert report(tmp_path / "out") == 0
    assert [row[0] for row in tables(tmp_path / "out" / "report.html")["The runs"][1:]] == ["a", "b"]


def test_no_report_and_a_report_that_is_up_to_date(run: Path, model: Path, tmp_path: Path) -> None:
    results, _ = write_run(tmp_path, model, "--no-report")
    assert not (results / "report.html").exists() and not (results / "annotator_mqc.json").exists()
    write_run(tmp_path, model)  # the same command with a report: only that is new
    stamp = (results / "report.html").stat().st_mtime_ns
    write_run(tmp_path, model)
    assert (results / "report.html").stat().st_mtime_ns == stamp


def test_a_foreign_report_stays(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "report.html").write_text("mine")
    results, _ = write_run(tmp_path, model)
    assert "report.html: exists and is not ours" in capsys.readouterr().err
    assert (results / "report.html").read_text() == "mine" and (results / "predictions.parquet").exists()


def test_a_report_that_cannot_be_written_ends_no_run(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace = os.replace

    def full(source: Path, target: Path) -> None:
        if Path(target).name == "report.html":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", full)
        results, _ = write_run(tmp_path, model)
    assert "no report: cannot write" in capsys.readouterr().err
    assert (results / "run.json").exists() and not (results / "report.html").exists() and not list(results.rglob(".tmp-*"))
    write_run(tmp_path, model)
    assert (results / "report.html").exists()


@pytest.mark.parametrize(
    ("case", "code", "words"),
    [
        ("no_folder", 2, "no such folder"),
        ("no_run", 2, "no finished run of annotate"),
        ("no_truth", 2, "--truth"),
        ("other_truth", 3, "is not in the genome"),
        ("two_truths", 2, "give one results folder"),
        ("foreign", 2, "exists and is not ours"),
        ("damaged", 3, "cannot be read"),
        ("a_folder", 2, "is a folder"),
    ],
)
def test_what_cannot_be_reported_is_one_line(
    case: str, code: int, words: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, truth = tmp_path / "results", tmp_path / "t.bed"
    shutil.copytree(run, results, ignore=shutil.ignore_patterns("report*", "*_mqc.json"))
    given: list[object] = [results]
    match case:
        case "no_folder":
            given = [tmp_path / "nowhere"]
        case "no_run":
            (results / "run.json").unlink()
        case "no_truth":
            given += ["--truth", truth]
        case "other_truth":
            truth.write_text("zz\t5\t6\tdonor\t0\t+\n")
            given += ["--truth", truth]
        case "two_truths":
            truth.write_text("chr1\t5\t6\tdonor\t0\t+\n")
            given += [run, "--truth", truth, "-o", tmp_path / "x.html"]
        case "foreign":
            (results / "report.html").write_text("mine")
        case "damaged":
            raw = (results / "predictions.parquet").read_bytes()
            (results / "predictions.parquet").write_bytes(raw[:-100])
        case "a_folder":
            given += ["-o", results]
    before = sorted(path.name for path in results.iterdir())
    assert report(*given) == code
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line
    assert sorted(path.name for path in results.iterdir()) == before


def test_multiqc_takes_the_file(run: Path, tmp_path: Path) -> None:
    multiqc = program("multiqc")
    shutil.copy(run / "annotator_mqc.json", tmp_path)
    done = subprocess.run([multiqc, ".", "-o", "out"], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (table,) = (tmp_path / "out" / "multiqc_data").glob("multiqc_genome_annotator*.txt")
    head, row = (line.split("\t") for line in table.read_text().splitlines())
    shown = dict(zip(head, row, strict=True))
    assert shown["Sample"] == "results" and float(shown["donor_calls"]) == annotator.read_calls(run, kind="donor").height
