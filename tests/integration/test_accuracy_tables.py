"""The tables of docs/accuracy.md: kept rows and pages agree, and one command measures a small data pack and writes them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annotator.models.describe import describe
from annotator.models.directory import bundled_models, read_model
from benchmarks import accuracy_markdown, accuracy_promoters, accuracy_splice, accuracy_tables
from tests.support.detector import ACCEPTOR, DONOR, TSS, write_detector
from tests.support.runs import plant, random_bases, revcomp


@pytest.mark.parametrize("model", bundled_models())
def test_pages_and_card_hold_the_kept_rows(model: str) -> None:
    rows, (_, manifest) = accuracy_tables.read_rows(accuracy_tables.ROWS), read_model(model)
    tables = accuracy_markdown.named_tables(rows, manifest)
    again = "run `python benchmarks/accuracy_tables.py --from-rows`"
    written = set()
    for page in accuracy_tables.PAGES:
        text = (accuracy_tables.DOCS / page).read_text()
        assert accuracy_markdown.with_tables(text, tables) == text, again
        written |= {key for key in tables if accuracy_markdown.BEGIN.format(key) in text}
    shown = (
        tables.keys() if model == accuracy_markdown.DEFAULT_MODEL else {f"{key} of {model}" for key in ("splice test", "card")}
    )
    assert shown <= written, "every table has a place"
    assert manifest.metrics.get("test", {}) == accuracy_tables.figures_on_test(rows, manifest), again


def splice_row(**changes: Any) -> dict[str, Any]:
    row = {
        "table": "splice", "organism": "human_regions", "split": "test", "model": "compact", "kind": "donor",
        "clade": "vertebrate", "sites": 9, "top_k": 0.5, "top_k_95": [0.4, 0.6], "auprc": 0.6, "auprc_95": [None, None],
        "precision": 0.8, "recall": 0.7, "calls_per_mb": 12.3, "calibration_error": 0.02,
    }  # fmt: skip
    return row | changes


def test_a_later_row_takes_the_place_of_its_like() -> None:
    kept = [splice_row(), splice_row(kind="acceptor"), {"table": "promoters", "organism": "human", "split": "val", "model": "a"}]
    found = [{"table": "binding", "factor": "CTCF"}, splice_row(top_k=0.9, precision=0.1)]
    rows = accuracy_tables.renewed(kept, found)
    assert [(row["table"], row.get("kind")) for row in rows] == [
        ("splice", "donor"), ("splice", "acceptor"), ("promoters", None), ("binding", None)
    ]  # fmt: skip
    assert rows[0]["top_k"] == 0.9


def test_precision_of_a_peer_is_read_off_at_our_recall() -> None:
    curve = [[0.2, 1.0], [0.7, 0.9], [0.71, 0.85]]
    assert accuracy_markdown.precision_at_recall(curve, 0.7) == 0.9
    assert accuracy_markdown.precision_at_recall(curve, 0.705) == 0.85
    assert accuracy_markdown.precision_at_recall(curve, 0.8) is None
    rows = [splice_row(), splice_row(model="OpenSpliceAI 400nt", curve=curve), splice_row(organism="human")]
    (line,) = accuracy_markdown.background(rows, "compact").splitlines()[2:]
    assert line == "| human regions, 3 Mb of chr 4 and 20 | donor | 0.70 | 0.80 | 0.90 | 12 |"


def test_only_figures_of_the_very_weights_on_data_that_nothing_was_set_on_are_in_the_card(tmp_path: Path) -> None:
    folder, manifest = read_model(str(write_detector(tmp_path / "model")))
    ours = {"model": "detector", "weights": manifest.weights_sha256[:12]}
    rows = [
        splice_row(**ours), splice_row(**ours, split="val"), splice_row(**ours | {"weights": "0" * 12}, kind="acceptor"),
        splice_row(model="OpenSpliceAI 400nt"),
    ]  # fmt: skip
    figures = {"topk": 0.5, "auprc": 0.6, "calibration_error": 0.02, "precision": 0.8, "recall": 0.7, "topk_95": [0.4, 0.6]}
    expected = {"vertebrate": {"human_regions.test": {"donor": figures | {"auprc_95": [None, None]}}}}
    assert accuracy_tables.figures_on_test(rows, manifest) == expected
    assert accuracy_tables.write_card(str(folder), rows).metrics == {"test": expected}
    assert "topk 0.500 (0.400 to 0.600), auprc 0.600, calibration_error 0.020" in describe(*read_model(str(folder)))
    assert accuracy_tables.write_card(str(folder), []).metrics == {}, "figures of other weights do not stay"


def test_lines_of_the_other_tables_by_hand() -> None:
    fdr = {"table": "fdr", "model": "compact", "genome": "celegans/celegans.test", "kind": "donor", "asked": 0.05,
           "fit": {"factor": 1.5, "power": 0.8}, "threshold": 0.455, "calls": 2345, "estimate": 0.0491, "annotated": 0.0639,
           "ratio": 1.3, "corrected": 0.051, "corrected_ratio": 1.04}  # fmt: skip
    none = {key: fdr[key] for key in ("table", "model", "genome", "kind", "asked", "fit")} | {"threshold": None}
    assert accuracy_markdown.fdr([fdr, none], "compact").splitlines()[2:] == [
        "| worm, chromosome X | donor | 5 % | 0.46 | 2,345 | 0.049 | 0.064 | 0.051 | 1.300 | 1.040 | factor 1.5, power 0.8 |",
        "| worm, chromosome X | donor | 5 % | – | – | – | – | – | – | – | factor 1.5, power 0.8 |",
    ]
    clades = [splice_row(table="clades", split="val", clade=clade, kind=kind, top_k=value) for clade, kind, value in (
        ("vertebrate", "donor", 0.6), ("vertebrate", "acceptor", 0.5), ("plant", "donor", 0.2), ("plant", "acceptor", 0.3)
    )]  # fmt: skip
    assert accuracy_markdown.clades(clades, "compact").endswith("| human region, 1 Mb of chr 22 | **0.550** | 0.250 |")
    rows = [splice_row(), {"table": "promoters", "organism": "human_regions", "split": "test", "model": "compact",
                           "clade": "vertebrate", "calibration_error": 0.0456}]  # fmt: skip
    calibration = accuracy_markdown.calibration(rows, "compact").splitlines()[2:]
    assert calibration == ["| human regions, 3 Mb of chr 4 and 20 | vertebrate |  | 0.020 | – | 0.046 |"]
    assert accuracy_markdown.with_tables("no marker", {"fdr": "x"}) == "no marker"


def test_local_maxima_by_hand() -> None:
    values = np.array([0.5, 0.4, 0.5, 0.5, 0.0, 0.3, 0.0, 0.0, 0.0005], np.float32)
    assert accuracy_splice.local_maxima(values, 2).tolist() == [0]
    assert accuracy_splice.local_maxima(values, 1).tolist() == [0, 2, 5]


def write_part(folder: Path, name: str, seed: int) -> None:
    """Files of one split: two contigs of 30 kb with a donor, an acceptor and a TSS every 900 bases, where the detector calls."""
    folder.mkdir(exist_ok=True)
    truth, text = [], ""
    for contig in ("c1", "c2"):
        bases = random_bases(30_000, seed + len(text))
        for i in range(32):
            strand = "+-"[i % 2]
            for shift, kind, word in ((0, "donor", DONOR), (200, "acceptor", ACCEPTOR), (400, "tss", TSS)):
                place = 500 + 900 * i + shift
                bases = plant(bases, word if strand == "+" else revcomp(word), place)
                called = place + 2 if strand == "+" else place + 3
                truth.append(f"{contig}\t{called}\t{called + 1}\t{kind}\t0\t{strand}\n")
        text += f">{contig}\n{bases}\n"
    (folder / f"{name}.fa.gz").write_bytes(gzip.compress(text.encode()))
    (folder / f"{name}.truth.bed.gz").write_bytes(gzip.compress("".join(truth).encode()))


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A data pack of three small genomes."""
    data = tmp_path / "pack"
    data.mkdir()
    for folder, name in (("human", "human.test"), ("human", "human_regions.test"), ("daphnia", "dpulex.val")):
        write_part(data / folder, name, len(name))
    return data


def test_one_command_measures_keeps_and_writes(pack: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model, docs, rows = write_detector(tmp_path / "model"), tmp_path / "docs", tmp_path / "rows.jsonl"
    (docs / "families").mkdir(parents=True)
    for page in accuracy_tables.PAGES:
        text = (accuracy_tables.DOCS / page).read_text()
        (docs / page).write_text(
            text.replace(": begin -->", " of detector: begin -->").replace(": end -->", " of detector: end -->")
        )
    old = {"table": "splice", "organism": "human", "split": "test", "model": "OpenSpliceAI 400nt", "kind": "donor", "top_k": 0.1}
    rows.write_text(json.dumps(splice_row(model="detector", precision=0.5)) + "\n" + json.dumps(splice_row(**old)) + "\n")
    command = ["--data", str(pack), "--model", str(model), "--rows", str(rows), "--docs", str(docs), "--threads", "1"]
    assert accuracy_tables.main([*command, "--only", "splice,promoters"]) == 0
    said = capfd.readouterr().out
    assert f"human, val: left out, there is no {pack}/human/human.val.fa.gz" in said
    assert "dpulex, test: left out" in said and "scerevisiae, cross: left out" in said

    found = {accuracy_tables.identity(row): row for row in accuracy_tables.read_rows(rows)}
    assert len(found) == 1 + 3 * 2 + 2 * 3 + 1, "a peer's row that stays, two kinds and three distances a genome, the background"
    donor = found["splice", "human_regions", "test", "detector", "donor"]
    assert (donor["precision"], donor["recall"], donor["top_k"], donor["sites"], donor["clade"]) == (1, 1, 1, 64, "vertebrate")
    assert donor["calibration_error"] == pytest.approx(0, abs=1e-3) and donor["calls_per_mb"] == pytest.approx(
        64e6 / 60e3, abs=0.1
    )
    near = found["promoters", "dpulex", "val", "detector", 50]
    assert (near["precision"], near["recall"], near["recall_95"], near["tss"]) == (1, 1, [1, 1], 64)
    assert "cpg_precision" in found["promoters", "human", "test", "detector", 250] and "cpg_precision" not in near
    background = found["promoters", "human_regions", "test", "detector", None]
    assert (background["calls"], background["known_bp"], background["far_bp"]) == (64, 60_000, 0)

    page = (docs / "accuracy.md").read_text()
    assert "| human regions, 3 Mb of chr 4 and 20 | donor | 64 | 1.000 (1.00-1.00) |" in page
    assert "| Daphnia, other 8 Mb | 50 bp | 64 | 0.5 | 1.00 (1.00-1.00) | 1.00 (1.00-1.00) |" in page
    assert "human_regions.test 1.000 (1.00-1.00)" in (docs / "families/compact.md").read_text()
    shown = describe(*read_model(str(model)))
    assert "vertebrate human_regions.test donor: topk 1.000 (1.000 to 1.000)" in shown

    before = page, rows.read_text(), (model / "manifest.json").read_text()
    assert accuracy_tables.main([*command, "--from-rows"]) == 0
    assert ((docs / "accuracy.md").read_text(), rows.read_text(), (model / "manifest.json").read_text()) == before


def test_faults_are_one_line(
    pack: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit) as fault:
        accuracy_tables.main(["--only", "splice,speed"])
    assert fault.value.code == 2 and "--only: speed is not one of splice, clades" in capfd.readouterr().err
    assert accuracy_tables.main(["--model", str(tmp_path / "none"), "--from-rows"]) != 0
    assert len(capfd.readouterr().err.splitlines()) == 1
    model = str(write_detector(tmp_path / "model"))
    for script in (accuracy_splice, accuracy_promoters):
        bed = pack / "human" / "human.test.truth.bed.gz"
        bed.write_bytes(gzip.compress(b"c9\t1\t2\tdonor\t0\t+\n"))
        monkeypatch.setattr(
            "sys.argv", ["script", "--data", str(pack), "--model", model, "--organisms", "human", "--splits", "test"]
        )
        assert script.main() > 0
        lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1 and "human.test.truth.bed.gz" in lines[0]
