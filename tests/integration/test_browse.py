"""`annotator browse`: the page in a real browser, from a file and served, and what is refused."""

import http.client
import json
import os
import re
import shutil
import subprocess
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import annotator
from annotator.browse.browse import BrowseOptions, served_page
from annotator.browse.page import in_script
from annotator.browse.serve import PageServer
from annotator.browse.two_bit import write_two_bit
from annotator.cli.app import main
from annotator.genome.options import GenomeOptions
from annotator.genome.source import open_genome
from annotator.kinds import Kind
from annotator.results.judged import judge
from tests.support.chromium import Chromium, find_chromium
from tests.support.detector import write_detector
from tests.support.igv_desktop import drawn, igv, program
from tests.support.page_runs import CONTIGS, EVIL, GENE, MOTIF, write_genes, write_run
from tests.support.runs import bed_lines, write_fasta

READY = "document.documentElement.dataset.state === 'ready'"
DRAWN = """(() => { const drawn = {};
  for (const view of annotator.browser.trackViews) {
    const cache = view.viewports.length && view.viewports[0].featureCache;
    if (view.track.type === 'annotation' && cache)
      drawn[view.track.name] = cache.features.map(
        f => [f.chr, f.start, f.end, f.name, f.score, f.strand, f.cdStart, f.cdEnd, f.color]);
  } return drawn; })()"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_detector(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def run(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_run(tmp_path_factory.mktemp("run"), model)


@pytest.fixture(scope="module")
def genes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_genes(tmp_path_factory.mktemp("genes") / "genes.gff3")


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    find_chromium()
    chromium = Chromium(tmp_path / "profile")
    yield chromium
    chromium.close()


def browse(*arguments: object) -> int:
    return main(["browse", *map(str, arguments), "--quiet"])


def expected(results: Path, contig: str, start: int, end: int) -> dict[str, list[list[Any]]]:
    """Features of a stretch as the run's own BED files have them, in the form of DRAWN."""
    rows = {}
    for title, name in (("promoters", "promoters"), ("splice sites", "splice_sites"), ("binding sites", "tfbs")):
        lines = [line for line in bed_lines(results / f"{name}.bed.gz") if line[0] == contig]
        fields = [[c, int(a), int(b), n, float(s), d, int(ta), int(tb), f"rgb({rgb})"] for c, a, b, n, s, d, ta, tb, rgb in lines]
        rows[title] = sorted(row for row in fields if row[1] < end and row[2] > start)
    return rows


def seen(browser: Chromium, contig: str, start: int, end: int) -> dict[str, list[list[Any]]]:
    """Features of a stretch that the page has drawn, once it has drawn any there."""
    browser.run(f"annotator.go({json.dumps(contig)}, {start}, {end}, 'a test')")
    drawn = browser.run(DRAWN)
    return {
        title: sorted(row for row in rows if row[0] == contig and row[1] < end and row[2] > start)
        for title, rows in drawn.items()
    }


def check_page(browser: Chromium, results: Path) -> None:
    """What both forms of the page have to show."""
    for contig, length in CONTIGS.items():
        drawn, wanted = seen(browser, contig, 0, min(length, 2000)), expected(results, contig, 0, min(length, 2000))
        for title, rows in wanted.items():
            assert drawn.get(title, []) == rows, (contig, title)
    ticks = [row for row in seen(browser, "chr1", 0, 2000)["promoters"]]
    assert ticks and all(row[7] - row[6] == 1 and row[1] <= row[6] < row[2] for row in ticks)  # the TSS is the thick part
    assert browser.run("(annotator.browser.toSVG().match(/rgb\\(0,114,178\\)/g) || []).length") >= len(ticks)  # and is drawn
    for record in ("\n" + (results.parent / "g.fa").read_text()).split("\n>")[1:]:
        name, *lines = record.split("\n")
        bases = "".join(lines)
        read = browser.run(f"annotator.browser.genome.getSequence({json.dumps(name)}, 0, {len(bases)})")
        assert read == bases, name
    assert browser.complaints == []
    assert not [event for event in browser.events if event.get("method") == "Page.javascriptDialogOpening"]
    assert browser.run("document.querySelectorAll('img[src=q], img[src=\"q/onerror=alert(1)\"]').length") == 0


def test_the_page_opens_from_a_file_without_network(
    run: tuple[Path, Path], genes: Path, tmp_path: Path, browser: Chromium
) -> None:
    results, fasta = run
    assert browse(results, fasta, "--genes", genes, "--locus", "chr1:1-700", "--locus", "HLA-A*01:01") == 0
    moved = tmp_path / "moved" / "page.html"  # the page needs nothing beside it
    moved.parent.mkdir()
    shutil.copy(results / "browse.html", moved)
    browser.open(moved.as_uri(), READY)
    check_page(browser, results)
    listed = browser.run("[...document.querySelectorAll('nav button')].map(b => [b.textContent, b.dataset.contig])")
    assert listed[:2] == [["chr1:1-700", "chr1"], ["HLA-A*01:01", "HLA-A*01:01"]]
    groups = browser.run("[...document.querySelectorAll('nav summary')].map(s => s.textContent)")
    assert groups == [
        "Asked for", "Strongest promoters", "Strongest acceptors", "Strongest donors", "Strongest binding sites",
        "Densest windows: promoters", "Densest windows: splice sites", "Densest windows: binding sites", "Genes",
    ]  # fmt: skip
    best = annotator.read_calls(results, kind="promoter").sort("score", descending=True, maintain_order=True).row(0, named=True)
    texts = [text for text, _ in listed]
    assert f"promoter {best['chrom']}:{best['position'] + 1:,} ({best['strand']}) {best['probability']:.3f}" in texts
    assert browser.requests == [moved.as_uri()]


def test_names_are_found_and_places_gone_to(run: tuple[Path, Path], genes: Path, browser: Chromium) -> None:
    results, fasta = run
    assert browse(results, fasta, "--genes", genes) == 0
    browser.open((results / "browse.html").as_uri(), READY)

    def search(text: str) -> list[str]:
        browser.run(
            f"(() => {{ const box = document.getElementById('search'); box.value = {json.dumps(text)};"
            " box.dispatchEvent(new Event('input')); })()"
        )
        return browser.run("[...document.querySelectorAll('#found button')].map(b => b.textContent)")

    assert search("</script>") == [GENE, *[text for text in search("</script>")[1:]]] and search("no such name") == []
    assert search("chr1:101-200")[0] == "chr1:101-200" and search(EVIL)[0] == EVIL
    assert any(text.startswith(MOTIF) for text in search("alert(2)"))
    search("plain")
    browser.run("document.getElementById('searching').requestSubmit()")
    browser.wait("document.getElementById('status').textContent.startsWith('Shown: plain')")
    at = browser.run("(() => { const f = annotator.browser.referenceFrameList[0]; return [f.chr, f.start, f.end]; })()")
    assert at[0] == "chr1" and at[1] <= 2000 and at[2] >= 2400
    assert browser.complaints == [] and len(browser.requests) == 1


def test_verdicts_of_an_annotation_are_drawn(run: tuple[Path, Path], tmp_path: Path, browser: Chromium) -> None:
    results, fasta = run
    calls = annotator.read_calls(results, kind=["donor", "acceptor"], region="chr1").rows(named=True)
    kept, missed = calls[2:], (5500, 5501)
    names = {"donor": "donor", "acceptor": "acceptor"}
    lines = [f"chr1\t{c['position']}\t{c['position'] + 1}\t{names[c['kind']]}\t0\t{c['strand']}" for c in kept]
    truth = tmp_path / "truth.bed"
    truth.write_text("\n".join([*lines, f"chr1\t{missed[0]}\t{missed[1]}\tdonor\t0\t+"]) + "\n")
    out = tmp_path / "copy"
    shutil.copytree(results, out)
    # The whole truth is of random bases, so its signals would be doubted where most of it were made up.
    assert browse(out, fasta, "--truth", truth) == 0
    browser.open((out / "browse.html").as_uri(), READY)
    drawn = seen(browser, "chr1", 0, 6000)["splice sites against truth.bed"]
    verdicts = [row[3] for row in drawn]
    of = annotator.open_results(out)
    everywhere = annotator.read_calls(of.path, kind=["donor", "acceptor"])
    assert verdicts.count("donor_right") + verdicts.count("acceptor_right") == len(kept)
    assert verdicts.count("donor_missed") == 1 and verdicts.count("acceptor_missed") == 0
    assert len(drawn) == len(calls) + 1
    gap = next(row for row in drawn if row[3] == "donor_missed")
    assert gap[1:3] == [5501, 5503] and gap[8] == "rgb(0,0,0)"  # the dinucleotide after the exon's last base
    judged = judge(of, truth)
    assert judged.calls.height == everywhere.height and judged.missed.height == 1
    assert browser.complaints == []


def test_tracks_and_the_hub(model: Path, tmp_path: Path, browser: Chromium) -> None:
    results, fasta = write_run(tmp_path, model, "--tracks", "--formats", "bed9,bigbed")
    assert browse(results, fasta) == 0
    browser.open((results / "browse.html").as_uri(), READY)
    browser.run("annotator.go('chr1', 0, 400, 'a test')")
    drawn = browser.run(
        "Object.fromEntries(annotator.browser.trackViews.filter(v => v.track.type === 'wig').map("
        "v => [v.track.name, v.viewports[0].featureCache.features.map(f => [f.chr, f.start, f.end, f.value])]))"
    )
    assert sorted(drawn) == [f"{track} {strand}" for track in ("acceptor", "donor", "tss") for strand in ("minus", "plus")]
    calls = annotator.read_calls(results, kind="donor", strand="+", region="chr1:1-400").rows(named=True)
    values = {start: value for chrom, start, end, value in drawn["donor plus"] if chrom == "chr1" and end == start + 1}
    assert calls and all(values[call["position"]] == pytest.approx(call["probability"], abs=6e-4) for call in calls)
    assert browser.complaints == []
    hub = (results / "browse" / "hub.txt").read_text()
    urls = re.findall(r"^(?:bigDataUrl|twoBitPath) (.+)$", hub, re.MULTILINE)
    assert len(urls) == 10 and all((results / "browse" / url).is_file() for url in urls)
    assert hub.count("itemRgb on") == 3 and "color 230,159,0" in hub and "genome results\n" in hub
    assert browse(results, fasta, "--assembly", "hg38") == 0
    hub = (results / "browse" / "hub.txt").read_text()
    assert "genome hg38\n" in hub and "twoBitPath" not in hub


def test_calls_from_tracks_are_shown(model: Path, tmp_path: Path, browser: Chromium) -> None:
    results, fasta = write_run(tmp_path, model, "--tracks")
    lower = tmp_path / "lower"
    assert main(["call", str(results), "--threshold", "0.3", "-o", str(lower), "-q"]) == 0
    assert browse(lower, fasta) == 0 and main(["report", str(lower), "-q"]) == 0
    browser.open((lower / "browse.html").as_uri(), READY)
    drawn = seen(browser, "chr1", 0, 2000)["splice sites"]
    assert len(drawn) == annotator.read_calls(lower, kind=["donor", "acceptor"], region="chr1:1-2000").height > 3
    assert browser.complaints == [] and "Bases around the calls" not in (lower / "report.html").read_text()


@pytest.fixture
def server(run: tuple[Path, Path]) -> Iterator[PageServer]:
    with served_page(run[0], BrowseOptions(genome=run[1]), 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


def test_the_served_page_shows_the_same(run: tuple[Path, Path], server: PageServer, browser: Chromium) -> None:
    browser.open(server.url, READY)
    check_page(browser, run[0])
    origin = server.url.rsplit("/", 1)[0]
    assert len(browser.requests) > 5 and all(url.startswith(f"{origin}/") for url in browser.requests)


def ask(server: PageServer, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body, dict(answer.getheaders())


def test_the_server_answers_only_who_knows_its_token_here(run: tuple[Path, Path], server: PageServer) -> None:
    token = server.served.token
    assert server.server_address[0] == "127.0.0.1"
    assert ask(server, f"/{token}/browse.html")[0] == 200 and ask(server, f"/{token}/")[0] == 200
    assert ask(server, "/browse.html", X_Annotator_Token=token)[0] == 200
    for path in ("/", "/browse.html", f"/{token[:-1]}/browse.html", "/data/genome.2bit"):
        assert ask(server, path)[:2] == (403, b""), path
    assert ask(server, "/browse.html", X_Annotator_Token="wrong")[0] == 403
    for host in ("evil.example", f"evil.example:{server.port}", ""):
        assert ask(server, f"/{token}/browse.html", Host=host)[0] == 403
    for name in ("data/run.json", "data/../run.json", "data/%2e%2e/run.json", "data/", "run.json", "data//etc/passwd", "x"):
        assert ask(server, f"/{token}/{name}")[0] == 404, name
    assert ask(server, f"/{token}/browse.html", method="POST")[0] == 501


def test_the_server_answers_ranges(server: PageServer) -> None:
    path, whole = f"/{server.served.token}/data/genome.2bit", server.served.files["genome.2bit"].read_bytes()
    assert ask(server, path)[1] == whole
    for asked, start, end in (("0-9", 0, 10), ("5-5", 5, 6), ("100-", 100, len(whole)), ("-7", len(whole) - 7, len(whole))):
        status, body, headers = ask(server, path, Range=f"bytes={asked}")
        assert (status, body) == (206, whole[start:end])
        assert headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(whole)}"
    assert ask(server, path, Range=f"bytes=0-{10 * len(whole)}")[1] == whole
    for asked in (f"{len(whole)}-", "9-3", "-0", "-"):
        assert ask(server, path, Range=f"bytes={asked}")[0] == 416
    status, body, headers = ask(server, path, method="HEAD", Range="bytes=0-9")
    assert (status, body, headers["Content-Length"]) == (206, b"", "10")


def test_the_files_for_other_browsers_name_what_is_there(run: tuple[Path, Path]) -> None:
    results, fasta = run
    assert browse(results, fasta) == 0
    folder = results / "browse"
    session = ET.parse(folder / "igv_session.xml").getroot()
    assert (folder / session.attrib["genome"]).samefile(fasta)
    paths = [element.attrib["path"] for element in session.iter("Resource")]
    assert len(paths) == 3 and all((folder / path).is_file() and (folder / f"{path}.tbi").is_file() for path in paths)
    tracks = [element.attrib for element in session.iter("Track")]
    assert [t.get("color") for t in tracks] == ["0,114,178", None, "86,180,233"]
    config = json.loads((folder / "config.json").read_text())
    assert (folder / "genome.2bit").is_file()
    uris = re.findall(r'"uri": "([^"]+)"', (folder / "config.json").read_text())
    assert len(uris) == 7 and all((folder / uri).is_file() for uri in uris)
    colours = [track["displays"][0]["renderer"]["color1"] for track in config["tracks"]]
    assert colours == ["#0072b2", "jexl:get(feature,'name')=='acceptor'?'#cc79a7':'#e69f00'", "#56b4e9"]
    assert (folder / "genome.chrom.sizes").read_text() == (results / "contigs.tsv").read_text()
    assert not (folder / "hub.txt").exists()  # UCSC shows no BED text


@pytest.mark.slow
def test_igv_desktop_loads_the_session(run: tuple[Path, Path], tmp_path: Path) -> None:
    results, fasta = tmp_path / "results", tmp_path / "g.fa"
    shutil.copytree(run[0], results, ignore=shutil.ignore_patterns("browse*"))
    shutil.copy(run[1], fasta)
    assert browse(results, fasta) == 0
    log = igv(
        tmp_path, fasta, f"snapshotDirectory {tmp_path}", f"load {results / 'browse' / 'igv_session.xml'}", "goto chr1:1-1000",
        "snapshot session.png",
    )  # fmt: skip
    for name in ("promoters", "splice_sites", "tfbs"):
        assert f"Loading resource:  {results / name}.bed.gz" in log
    assert "Error loading" not in log and "Error restoring" not in log, log
    for kind in (Kind.PROMOTER, Kind.DONOR, Kind.ACCEPTOR, Kind.TFBS):
        assert drawn(tmp_path / "session.png", kind.rgb), kind


def test_the_command_line_of_jbrowse_takes_the_configuration(run: tuple[Path, Path], tmp_path: Path) -> None:
    jbrowse, config = program("jbrowse"), tmp_path / "config.json"
    assert browse(*run) == 0
    shutil.copy(run[0] / "browse" / "config.json", config)
    more = [
        "add-track",
        "../promoters.bed.gz",
        "--load",
        "inPlace",
        "--trackId",
        "more",
        "--indexFile",
        "../promoters.bed.gz.csi",
    ]
    for command in (more, ["set-default-session", "--currentSession"]):
        done = subprocess.run([jbrowse, *command, "--target", config], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
    assert "LinearGenomeView" in done.stdout
    written = json.loads(config.read_text())
    assert [track["trackId"] for track in written["tracks"]][-1] == "more" and len(written["tracks"]) == 4
    assert written["tracks"][-1]["assemblyNames"] == ["results"]  # it knew the assembly


def test_a_2bit_file_holds_the_genome(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    texts = {f"c{length}": "".join(rng.choice(list("ACGTN"), length)) for length in (0, 1, 3, 4, 5, 1003)}
    texts["all_n"] = "N" * 9
    genome = open_genome(write_fasta(tmp_path / "g.fa", texts), tmp_path / "spool", GenomeOptions())
    write_two_bit(tmp_path / "g.2bit", genome.contigs.names, genome.bases)
    raw = (tmp_path / "g.2bit").read_bytes()

    def number(at: int) -> int:
        return int.from_bytes(raw[at : at + 4], "little")

    assert [number(at) for at in (0, 4, 8, 12)] == [0x1A412743, 0, len(texts), 0]
    at = 16
    for name, text in texts.items():
        assert raw[at + 1 : at + 1 + raw[at]].decode() == name
        where = number(at + 1 + raw[at])
        at += 5 + raw[at]
        runs = number(where + 4)
        assert number(where) == len(text) and number(where + 8 + 8 * runs) == 0
        packed = where + 16 + 8 * runs
        bases = ["TCAG"[raw[packed + i // 4] >> (6 - 2 * (i % 4)) & 3] for i in range(len(text))]
        for run in range(runs):
            first = number(where + 8 + 4 * run)
            for i in range(first, first + number(where + 8 + 4 * runs + 4 * run)):
                bases[i] = "N"
        assert "".join(bases) == text, name


def test_json_in_a_script_cannot_end_it() -> None:
    content = {"a": f"{GENE}<!--\u2028&]]>", "b": [EVIL]}
    text = in_script(content)
    assert not set("<>&\u2028") & set(text) and json.loads(text) == content


@pytest.mark.parametrize(
    ("case", "code", "words"),
    [
        ("no_folder", 2, "no such folder"),
        ("no_run", 2, "no finished run of annotate"),
        ("unfinished", 2, "the run is not finished"),
        ("no_genome", 2, "cannot read"),
        ("other_length", 3, "contig 'chr1' has 5,999 bp, not 6,000"),
        ("other_name", 3, "contigs are not in it, such as 'chr1'"),
        ("other_bases", 3, "the bases or the text are not (sha256)"),
        ("bad_locus", 2, "the genome has no contig 'chr9'"),
        ("beyond", 2, "contig 'chr1' has 6,000 bp"),
        ("no_truth", 2, "--truth"),
        ("other_truth", 3, "is not in the genome"),
        ("long_truth", 3, "lies beyond contig"),
        ("empty_truth", 3, "has no site of a kind that the run calls"),
        ("foreign", 2, "exists and is not ours"),
        ("foreign_folder", 2, "browse: exists and is not ours"),
        ("port", 2, "--port: only with --serve"),
    ],
)
def test_what_cannot_be_shown_is_one_line(
    case: str, code: int, words: str, run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, fasta = tmp_path / "results", tmp_path / "g.fa"
    shutil.copytree(run[0], results, ignore=shutil.ignore_patterns("browse*"))
    text = run[1].read_text()
    fasta.write_text(text)
    truth = tmp_path / "t.bed"
    given: list[object] = [results, fasta]
    match case:
        case "no_folder":
            given = [tmp_path / "nowhere"]
        case "no_run":
            (results / "run.json").unlink()
        case "unfinished":
            (results / "run.json").unlink()
            (results / ".annotator").mkdir()
        case "no_genome":
            given = [results, tmp_path / "none.fa"]
        case "other_length":
            fasta.write_text(text.replace("\n", "\n", 1).replace(text.split("\n")[1], text.split("\n")[1][1:], 1))
        case "other_name":
            fasta.write_text(text.replace(">chr1", ">1", 1))
        case "other_bases":
            line = text.split("\n")[1]
            fasta.write_text(text.replace(line, line[:-1] + ("A" if line[-1] != "A" else "C"), 1))
        case "bad_locus":
            given += ["--locus", "chr9:1-5"]
        case "beyond":
            given += ["--locus", "chr1:7000-8000"]
        case "no_truth":
            given += ["--truth", truth]
        case "other_truth" | "long_truth" | "empty_truth":
            line = {
                "other_truth": "zz\t5\t6\tdonor\t0\t+\n",
                "long_truth": "chr1\t9000\t9001\tdonor\t0\t+\n",
                "empty_truth": "# none\n",
            }
            truth.write_text(line[case])
            given += ["--truth", truth]
        case "foreign":
            (results / "browse.html").write_text("mine")
        case "foreign_folder":
            (results / "browse").mkdir()
            (results / "browse" / "mine.txt").write_text("mine")
        case "port":
            given += ["--port", "8000"]
    before = sorted(path.name for path in results.iterdir())
    assert browse(*given) == code
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line
    assert sorted(path.name for path in results.iterdir()) == before


def test_a_port_in_use_is_refused(run: tuple[Path, Path], server: PageServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert browse(*run, "--serve", "--port", server.port) == 2
    assert f"--port {server.port}: Address already in use" in capsys.readouterr().err


def test_no_web_browser_is_said(
    run: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("webbrowser.open", lambda address: False)
    assert browse(*run, "--open") == 5
    assert "no web browser was found here" in capsys.readouterr().err


def test_without_the_genome_the_page_has_names_and_lengths(
    run: tuple[Path, Path], tmp_path: Path, browser: Chromium, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results"
    shutil.copytree(run[0], out, ignore=shutil.ignore_patterns("browse*"))
    record = json.loads((out / "run.json").read_text())
    record["input"]["absolute_path"] = str(tmp_path / "gone.fa")
    (out / "run.json").write_text(json.dumps(record))
    assert browse(out) == 0
    assert "the genome is not at" in capsys.readouterr().err
    browser.open((out / "browse.html").as_uri(), READY)
    assert seen(browser, "chr1", 0, 2000)["splice sites"] == expected(out, "chr1", 0, 2000)["splice sites"]
    assert browser.complaints == [] and not (out / "browse" / "genome.2bit").exists()
    session = ET.parse(out / "browse" / "igv_session.xml").getroot()
    assert session.attrib["genome"] == "genome.chrom.sizes"


def test_overwriting_a_run_removes_its_pages(model: Path, tmp_path: Path) -> None:
    results, fasta = write_run(tmp_path, model)
    assert browse(results, fasta) == 0 and (results / "browse.html").exists() and (results / "browse").is_dir()
    (results / "browse" / "genome.2bit.fai").write_text("what another program left")
    assert browse(results, fasta) == 0 and not (results / "browse" / "genome.2bit.fai").exists()
    (results / "notes.html").write_text("mine")
    again = ["annotate", str(fasta), "-o", str(results), "--model", str(model), "--tasks", "splice", "-t", "1", "-q"]
    assert main([*again, "--device", "cpu", "--overwrite", "--no-report"]) == 0
    left = {path.name for path in results.iterdir()}
    assert not left & {"browse.html", "browse", "report.html", "annotator_mqc.json"} and "notes.html" in left


def test_the_page_of_a_real_genome(data_pack: Path, tmp_path: Path, browser: Chromium) -> None:
    """A results folder of yeast that a run left, named by ANNOTATOR_YEAST_RUN: a scan takes minutes, its page seconds."""
    if not (folder := os.environ.get("ANNOTATOR_YEAST_RUN")):
        pytest.skip("ANNOTATOR_YEAST_RUN names no results folder of scerevisiae.cross.fa.gz")
    out = tmp_path / "yeast"
    shutil.copytree(folder, out, ignore=shutil.ignore_patterns("browse*"))
    yeast = data_pack / "scerevisiae"
    assert browse(out, yeast / "scerevisiae.cross.fa.gz", "--truth", yeast / "scerevisiae.gtf.gz") == 0
    browser.open((out / "browse.html").as_uri(), READY)
    drawn = [row for row in seen(browser, "chrIV", 0, 200_000)["splice sites"]]
    wanted = annotator.read_calls(out, region="chrIV:1-200000").sort("start", "end", "kind", "strand")
    assert sorted((row[1], row[2], row[3], row[5]) for row in drawn) == sorted(
        wanted.select("start", "end", "name", "strand").iter_rows()
    )
    assert browser.requests == [(out / "browse.html").as_uri()] and browser.complaints == []
    assert pl.read_parquet(out / "predictions.parquet").height > 1000
