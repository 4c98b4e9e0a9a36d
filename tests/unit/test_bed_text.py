"""BED lines, header, odd names, BGZF."""

import contextlib
import dataclasses
import gzip
import importlib.util
import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pysam
import pytest

from annotator.calls.batch import Calls
from annotator.errors import InputError
from annotator.kinds import KINDS
from annotator.output.formats.bed import (
    BED_FILES,
    BedFile,
    bed_header,
    bed_text,
    refuse_unwritable_names,
)
from annotator.output.formats.bgzf import BLOCK_BYTES, EOF_BLOCK, BgzfWriter
from annotator.output.formats.lines import index_suffixes
from annotator.output.options import BedOptions

_SPEC = importlib.util.spec_from_file_location("output_cases", Path(__file__).parents[1] / "support" / "output_cases.py")
assert _SPEC is not None
assert _SPEC.loader is not None
cases = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(cases)

PROMOTERS, SPLICE_SITES, TFBS, FEATURES = BED_FILES
EXTRA = BedOptions(bed_extra=True)
"""Every column there can be, so that each can be looked at."""


def lines(calls: Calls, file: BedFile, options: BedOptions | None = None, **names: object) -> list[str]:
    return bed_text(cases.table_of(calls, **names), file, options or EXTRA).decode().splitlines()


def fixed(rows: list[tuple[int, str, int, int]]) -> Calls:
    calls: Calls = cases.make_calls(rows)
    tfbs, feature = ([KINDS[kind] == name for kind in calls.kind] for name in ("tfbs", "feature"))
    return dataclasses.replace(
        calls,
        probability=np.where(tfbs, np.nan, 0.7).astype(np.float32),
        score=np.where(tfbs, 522, 700).astype(np.uint16),
        motif=np.select([tfbs, feature], [3, 5], -1).astype(np.int32),
        p_value=np.where(tfbs, 5.9999e-6, np.nan),
        bits=np.where(tfbs, 11.25, np.nan).astype(np.float32),
    )


def test_lines_of_each_file() -> None:
    calls = fixed(
        [(0, "donor", 99, 1), (0, "acceptor", 200, 1), (0, "donor", 299, -1), (0, "tfbs", 300, -1), (0, "feature", 400, -1)]
    )
    assert lines(calls, SPLICE_SITES) == [
        "chr2\t100\t102\tdonor\t700\t+\t100\t102\t230,159,0\t0.700000\tdonor\tcompact-1\t99",
        "chr2\t198\t200\tacceptor\t700\t+\t198\t200\t204,121,167\t0.700000\tacceptor\tcompact-1\t200",
        "chr2\t297\t299\tdonor\t700\t-\t297\t299\t230,159,0\t0.700000\tdonor\tcompact-1\t299",
    ]
    assert lines(calls, TFBS) == [
        "chr2\t300\t310\tArnt::Ahr_(var.2)\t522\t-\t300\t310\t86,180,233\tMA0004.1\t6e-06\t.\t11.2500\ttfbs\tJASPAR2024\t."
    ]
    assert lines(calls, FEATURES) == ["chr2\t400\t414\tpolyA_signal\t700\t-\t400\t414\t0,0,0\t0.700000\tfeature\tcompact-1\t400"]
    assert lines(calls, PROMOTERS) == []


def test_a_binding_site_the_model_found_has_a_probability_and_no_matrix() -> None:
    calls = dataclasses.replace(
        cases.make_calls([(0, "tfbs", 300, -1)], neural=1.0),
        motif=np.array([4], np.int32),
        probability=np.array([0.7], np.float32),
        score=np.array([700], np.uint16),
    )
    assert lines(calls, TFBS) == ["chr2\t300\t310\tCTCF\t700\t-\t300\t310\t86,180,233\t.\t.\t.\t.\ttfbs\tcompact-1\t0.700000"]
    assert lines(calls, FEATURES) == []


def test_promoters_are_thick_at_the_tss_and_clipped_to_the_contig() -> None:
    calls = fixed([(0, "promoter", 10, 1), (0, "promoter", 1000, 1), (0, "promoter", 1000, -1), (0, "promoter", 5990, -1)])
    spans = [tuple(line.split("\t")[i] for i in (1, 2, 5, 6, 7, 12)) for line in lines(calls, PROMOTERS)]
    assert spans == [
        ("0", "61", "+", "10", "11", "10"),
        ("751", "1051", "+", "1000", "1001", "1000"),
        ("950", "1250", "-", "1000", "1001", "1000"),
        ("5940", "6000", "-", "5990", "5991", "5990"),
    ]


@pytest.mark.parametrize(
    ("probability", "text"),
    [(0.0, "0.000000"), (1.0, "1.000000"), (4.9e-7, "0.000000"), (0.9999996, "1.000000"), (0.5, "0.500000")],
)
def test_probability_has_six_decimals(probability: float, text: str) -> None:
    calls = dataclasses.replace(cases.make_calls([(0, "donor", 99, 1)]), probability=np.array([probability], np.float32))
    assert lines(calls, SPLICE_SITES)[0].split("\t")[9] == text


@pytest.mark.parametrize(
    ("p_value", "bits", "texts"),
    [
        (1e-4, -0.5, ("0.0001", "-0.5000")),
        (1.23456e-12, 100.0, ("1.23e-12", "100.0000")),
        (9.996e-5, 0.0, ("0.0001", "0.0000")),
        (0.0, 12.00004, ("0", "12.0000")),
        (np.nan, np.nan, (".", ".")),
    ],
)
def test_p_values_and_bits(p_value: float, bits: float, texts: tuple[str, str]) -> None:
    calls = cases.make_calls([(0, "tfbs", 99, 1)])
    calls = dataclasses.replace(calls, p_value=np.array([p_value]), bits=np.array([bits], np.float32))
    fields = lines(calls, TFBS)[0].split("\t")
    assert (fields[10], fields[12]) == texts


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../x", "../../x"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("=cmd()", "=cmd()"),
        ("a\tb\nc", "a_b_c"),
        ('say "x"', 'say_"x"'),
        ("Zürich", "Z_rich"),
        ("n" * 300, "n" * 255),
        ("", "."),
    ],
)
def test_A24_names_of_motifs_and_features_never_break_a_line(name: str, shown: str) -> None:
    calls = cases.make_calls([(0, "tfbs", 99, 1)])
    (line,) = lines(calls, TFBS, labels=[(name, name)] * len(cases.MOTIFS))
    fields = line.split("\t")
    assert len(fields) == 16
    assert (fields[3], fields[9]) == (shown, shown)
    (line,) = lines(cases.make_calls([(0, "feature", 99, 1)]), FEATURES, labels=[(None, name)] * len(cases.LABELS))
    fields = line.split("\t")
    assert len(fields) == 13
    assert fields[3] == shown


@pytest.mark.parametrize("name", ["../../x", "a/b", "CON", "c" * 300, "<script>", "=cmd()", "chrü", "chr1:1-2", '"q"'])
def test_A24_contig_names_are_kept_verbatim(name: str) -> None:
    refuse_unwritable_names([name])
    (line,) = lines(cases.make_calls([(0, "donor", 99, 1)]), SPLICE_SITES, names=[name])
    assert line.split("\t")[0] == name


@pytest.mark.parametrize("name", ["", "a\tb", "a b", "a\n", "\x00", "\x7f", "#chr1"])
def test_A24_contig_names_that_change_a_line_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="cannot stand in a BED file"):
        refuse_unwritable_names(["chr1", name])


def test_one_header_line_names_the_columns() -> None:
    nine = "#chrom\tstart\tend\tname\tscore\tstrand\tthickStart\tthickEnd\titemRgb"
    assert {bed_header(file, BedOptions()) for file in BED_FILES} == {nine + "\n"}
    for file in (PROMOTERS, SPLICE_SITES, FEATURES):
        assert bed_header(file, EXTRA) == nine + "\tprobability\tkind\tmodel\tposition\n"
    assert bed_header(TFBS, EXTRA) == nine + "\tmotif_id\tp_value\tq_value\tbits\tkind\tmodel\tprobability\n"
    assert bed_header(TFBS, BedOptions(bed6=True)) == "#chrom\tstart\tend\tname\tscore\tstrand\n"
    assert {bed_header(TFBS, BedOptions(False, *more)) for more in ((False, False), (True, False), (False, True))} == {""}


def test_nine_columns_where_no_others_are_asked_for() -> None:
    calls, _ = cases.planted_calls()
    for file in BED_FILES:
        plain, extra = lines(calls, file, BedOptions()), lines(calls, file)
        assert plain == ["\t".join(line.split("\t")[:9]) for line in extra]
        assert {line.count("\t") for line in plain} == {8}


def test_six_columns_on_request() -> None:
    assert lines(fixed([(0, "donor", 99, 1)]), SPLICE_SITES, BedOptions(bed6=True)) == ["chr2\t100\t102\tdonor\t700\t+"]


def test_colours_are_told_apart_without_red_and_green() -> None:
    def seen(rgb: str) -> np.ndarray:  # by a deuteranope: Machado, Oliveira and Fernandes 2009, severity 1
        matrix = np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]])
        linear = (np.array([int(part) for part in rgb.split(",")]) / 255) ** 2.2
        return np.clip(matrix @ linear, 0, 1) ** (1 / 2.2) * 255

    for one, other in itertools.combinations((kind.rgb for kind in KINDS), 2):
        assert np.linalg.norm(seen(one) - seen(other)) > 60


def test_A22_longest_contig_decides_on_tbi() -> None:
    assert index_suffixes(2**29 - 1) == (".csi", ".tbi")
    assert index_suffixes(2**29) == (".csi",)


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 17])
@pytest.mark.parametrize("text", [True, False])
def test_bgzf_does_not_depend_on_chunks_or_threads(tmp_path: Path, size: int, text: bool) -> None:
    rng = np.random.default_rng(size)
    data = rng.choice(np.frombuffer(b"ACGT\t0123\n", np.uint8), size).tobytes() if text else rng.bytes(size)
    written = set()
    for number, (chunk, threads) in enumerate([(size + 1, 1), (1000, 3), (BLOCK_BYTES, 2), (77_777, 1)]):
        path = tmp_path / f"{number}.gz"
        with ThreadPoolExecutor(threads) as pool, contextlib.closing(BgzfWriter(path, pool)) as writer:
            for start in range(0, size, chunk):
                writer.write(data[start : start + chunk])
            writer.finish()
        written.add(path.read_bytes())
    assert len(written) == 1
    (result,) = written
    assert gzip.decompress(result) == data
    assert result.endswith(EOF_BLOCK)
    with pysam.BGZFile(str(path), "rb", None) as reader:
        assert reader.read() == data
