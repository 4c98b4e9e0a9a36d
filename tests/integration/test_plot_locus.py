"""plot_locus and the worked notebook: what is drawn is what was called."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pysam
import pytest

import annotator
from annotator.cli.app import main
from annotator.errors import EnvironmentFault, UsageError
from annotator.example.real import write_real_example
from annotator.kinds import Kind
from tests.support.runs import write_fasta

LOCUS = "chr8_42172717_42212676"
NOTEBOOK = Path(__file__).parents[2] / "examples/locus.ipynb"

pytest.importorskip("matplotlib", reason="matplotlib is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("locus")
    fasta, _ = write_real_example(folder)
    assert main(["annotate", str(fasta), "-o", str(folder / "results"), "--tasks", "splice,promoter", "-t", "1", "-q"]) == 0
    return folder


def verticals(axis: Any, colour: str) -> list[float]:
    """Positions of the vertical lines of a colour."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba

    found = [
        segment[0, 0]
        for lines in axis.collections
        if isinstance(lines, LineCollection) and len(lines.get_colors()) and tuple(lines.get_colors()[0]) == to_rgba(colour)
        for segment in lines.get_segments()
        if segment[0, 0] == segment[1, 0]
    ]
    return sorted(found)


def test_lines_stand_where_the_calls_are(folder: Path) -> None:
    results = annotator.open_results(folder / "results")
    model = annotator.load_model("compact")
    files: dict[str, Any] = {"genome": folder / "plat.fa.gz", "genes": folder / "plat.gtf.gz", "truth": folder / "plat.gtf.gz"}
    figure = annotator.plot_locus(results, f"{LOCUS}:1-20,000", model=model, **files)
    transcripts, plus, minus = figure.axes
    for axis, strand in ((plus, "+"), (minus, "-")):
        for kind in (Kind.DONOR, Kind.ACCEPTOR):
            called = results.calls(kind=kind, strand=strand, region=f"{LOCUS}:1-20000").collect()["position"].to_list()
            assert verticals(axis, kind.hex_colour) == called
    assert len(verticals(minus, Kind.DONOR.hex_colour)) > 5 and not verticals(transcripts, Kind.DONOR.hex_colour)
    curves = {len(line.get_xdata()) for line in minus.lines}
    assert 20_000 in curves, "probabilities of every base"
    assert minus.get_xlim() == (0, 20_000)


def test_close_up_the_letters_are_those_of_the_genome(folder: Path) -> None:
    figure = annotator.plot_locus(folder / "results", f"{LOCUS}:101-180", genome=folder / "plat.fa.gz")
    plus, _ = figure.axes
    letters = [(text.get_position()[0], text.get_text()) for text in plus.texts]
    sequence = "".join(letter for _, letter in letters)
    assert [at for at, _ in letters] == list(range(100, 180))
    with pysam.FastaFile(str(folder / "plat.fa.gz")) as fasta:
        assert sequence == fasta.fetch(LOCUS, 100, 180)


def test_bad_requests_are_one_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no contig 'chr1'"):
        annotator.plot_locus(folder / "results", "chr1")
    with pytest.raises(UsageError, match="has 39,959 bases"):
        annotator.plot_locus(folder / "results", f"{LOCUS}:50000-60000")
    with pytest.raises(UsageError, match="needs the bases"):
        annotator.plot_locus(folder / "results", LOCUS, model=annotator.load_model("compact"))
    other = write_fasta(tmp_path / "other.fa", {LOCUS: "ACGT" * 100})
    with pytest.raises(UsageError, match=r"other\.fa: is not the genome of .*results"):
        annotator.plot_locus(folder / "results", LOCUS, genome=other)
    monkeypatch.setattr("annotator.plots.locus.find_spec", lambda _: None)
    with pytest.raises(EnvironmentFault, match="need matplotlib"):
        annotator.plot_locus(folder / "results", LOCUS)


def test_a_notebook_shows_results_as_a_table(folder: Path) -> None:
    shown = annotator.open_results(folder / "results")._repr_html_()
    assert shown.startswith("<table><caption>") and "<td>donor</td>" in shown and "model compact" in shown


def test_the_worked_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    Path("cells.py").write_text("\n".join("".join(cell["source"]) for cell in cells))
    names = runpy.run_path("cells.py")
    assert len(names["figure"].axes) == 3 and len(names["close"].axes[1].texts) == 81
    assert len(names["donors"]) > 5
