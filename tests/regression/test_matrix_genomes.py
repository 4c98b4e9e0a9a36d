"""Rows A and B of the fault matrix, through the whole command or at their full size."""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pysam
import pytest

from annotator.cli.app import main
from annotator.genome.plan import PlanOptions, plan_shards, plan_windows
from annotator.kinds import KINDS
from annotator.output.formats.bgzf import BLOCK_BYTES, EOF_BLOCK, compress_block
from annotator.output.formats.lines import index_suffixes
from tests.support import output_cases
from tests.support.detector import ACCEPTOR, DONOR, PLAN
from tests.support.runs import annotate, bed_lines, plant, random_bases, results, revcomp, sites, table, write_fasta

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])}
CORE_BP = PLAN["window_bp"] - 2 * PLAN["halo_bp"]
LINE_BP = 63
BLOCK_BP = BLOCK_BYTES // (LINE_BP + 1) * LINE_BP
"""Bases of a BGZF block that holds whole lines only."""
Site = tuple[str, str, str, int]


def run(model: Path, fasta: object, out: Path, *more: object) -> int:
    return annotate(fasta, "-o", out, "--model", model, "--tasks", "splice", *more)


def told(out: Path) -> dict[str, Any]:
    """run.json."""
    found: dict[str, Any] = json.loads((out / "run.json").read_text())
    return found


def planted(length: int, seed: int = 1) -> str:
    """Random bases with a word every 97, so that many contigs can share them."""
    text = random_bases(length, seed)
    for number, at in enumerate(range(20, length - 30, 97)):
        word = (DONOR, ACCEPTOR)[number % 2]
        text = plant(text, word if number % 3 else revcomp(word), at)
    return text


def spelt(text: str, chrom: str, at: int = 0) -> set[Site]:
    """The sites that a sequence spells which begins at base `at` of a contig."""
    found = set()
    for kind, word in (("donor", DONOR), ("acceptor", ACCEPTOR)):
        for strand, letters, shift in (("+", word, 2), ("-", revcomp(word), 3)):
            place = text.find(letters)
            while place >= 0:
                found.add((chrom, kind, strand, at + place + shift))
                place = text.find(letters, place + 1)
    return found


def lines_of(sequence: str) -> bytes:
    return b"".join(sequence[i : i + LINE_BP].encode() + b"\n" for i in range(0, len(sequence), LINE_BP))


UNKNOWN = compress_block(lines_of("N" * BLOCK_BP))
"""A BGZF block of N; the same bytes may stand in a file any number of times."""


def run_python(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


PEAK = """
def peak():
    for line in open('/proc/self/status'):
        if line.startswith('VmHWM'):
            return int(line.split()[1]) * 1024
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
"""
"""Most bytes a process held, without what it inherited from its parent."""

COMMAND = f"import sys\n{PEAK}\nfrom annotator.cli.app import main\ncode = main(sys.argv[1:])\nprint(peak())\nsys.exit(code)"


def peak_of_command(fasta: Path, out: Path, model: Path, *more: object) -> int:
    """Run the command in a process of its own and return the most bytes it held."""
    options = ["-o", out, "--model", model, "--tasks", "splice", "--quiet", "--threads", "1"]
    process = run_python(COMMAND, "annotate", fasta, *options, *more)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output
    return int(output.split()[-1])


# A: content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"", "no sequences", id="A01"),
        pytest.param(b"\n\r\n\n", "no sequences (only 3 blank lines)", id="A02 blank"),
        pytest.param(b"\n\n; nothing\n; here\n", "line 3, byte 2: comment line", id="A02 comments"),
        pytest.param(b">a\nAC\n>b\nAC\n>a x\nGT\n", "duplicate contig names: 'a' (lines 1, 5)", id="A03"),
        pytest.param(b">a\nAC\n>\nAC\n", "line 3, byte 6: record without a name", id="A05"),
        pytest.param(b">a\rACGT\r>b\rACGT\r", "old Mac line ends", id="A07"),
        pytest.param(b">a\nAC GT\n", "contig 'a', line 2, byte 5: space", id="A10 space"),
        pytest.param(b">a\nAC\tGT\n", "contig 'a', line 2, byte 5: tab", id="A10 tab"),
        pytest.param(b">a\nAC\n10 GT\n", "contig 'a', line 3, byte 6: digit '1'", id="A10 digit"),
        pytest.param(b">a\nAC\0GT\n", "contig 'a', line 2, byte 5: NUL byte", id="A11 NUL"),
        pytest.param(b">a\nAC\x1bGT\n", "contig 'a', line 2, byte 5: control byte 0x1b", id="A11 control"),
        pytest.param(">a\nACé\n".encode(), "contig 'a', line 2, byte 5: non-ASCII byte 0xc3", id="A11 non-ASCII"),
        pytest.param(b"junk\n>a\nAC\n", "line 1, byte 0", id="A12 junk"),
        pytest.param(b"; old style\n>a\nAC\n", "line 1, byte 0: comment line", id="A12 semicolon"),
        pytest.param(b">a\nAC*\n", "gap character '*'", id="A15"),
        pytest.param(b">p\nMKVLAAGIVGLCAKHLPQEF\n", "looks like protein", id="A16"),
        pytest.param(b"@r\nACGT\n+\nIIII\n", "FASTQ", id="A17"),
        pytest.param(b">a\x07b\nAC\n", "control character in contig name", id="A24 control"),
        pytest.param(b">#a\nAC\n", "cannot stand in a BED file", id="A24 comment"),
    ],
)
def test_A01_A02_A03_A05_A07_A10_A11_A12_A15_A16_A17_A24_bad_content_is_refused_in_one_line(
    content: bytes, words: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.fa").write_bytes(content)
    assert run(model, tmp_path / "bad.fa", tmp_path / "out") == 3
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "bad.fa" in error and words in error and "Traceback" not in error
    assert os.listdir(tmp_path) == ["bad.fa"]


def test_A05_A06_A08_A09_A12_twins_of_a_file_give_its_bytes(model: Path, tmp_path: Path) -> None:
    text, other = planted(2000), planted(700, seed=2)
    plain = write_fasta(tmp_path / "plain.fa", {"a": text, "b": other}).read_bytes()
    twins = {
        "crlf": plain.replace(b"\n", b"\r\n"),
        "mixed ends": plain.replace(b"A\n", b"A\r\n"),
        "no final newline": plain.removesuffix(b"\n"),
        "blank lines": plain.replace(b"\n>b\n", b"\n\n\n>b\n\n").replace(b"G\n", b"G\n\n"),
        "uneven widths": f">a\n{text[:7]}\n{text[7:900]}\n{text[900:]}\n>b\n{other}\n".encode(),
        "byte order mark": b"\xef\xbb\xbf" + plain,
        "space before the name": plain.replace(b">a", b"> a"),
        "descriptions": plain.replace(b">a", b">a a gene\tx").replace(b">b", b">b\tchr=1"),
    }
    assert run(model, tmp_path / "plain.fa", tmp_path / "plain") == 0
    expected = results(tmp_path / "plain")
    assert sites(tmp_path / "plain") == spelt(text, "a") | spelt(other, "b")
    for name, content in twins.items():
        assert content != plain
        (tmp_path / f"{name}.fa").write_bytes(content)
        assert run(model, tmp_path / f"{name}.fa", tmp_path / name) == 0
        assert results(tmp_path / name) == expected, name
    assert "byte order mark" in told(tmp_path / "byte order mark")["input"]["warnings"][0]
    assert "space before its name 'a'" in told(tmp_path / "space before the name")["input"]["warnings"][0]


def test_A03_duplicate_names_may_get_a_suffix(model: Path, tmp_path: Path) -> None:
    text = planted(600)
    (tmp_path / "g.fa").write_text(f">a\n{text}\n>a\n{text}\n>b\n{text}\n")
    assert run(model, tmp_path / "g.fa", tmp_path / "refused") == 3
    assert run(model, tmp_path / "g.fa", tmp_path / "out", "--dup-names", "suffix") == 0
    assert sites(tmp_path / "out") == {site for name in ("a", "a_2", "b") for site in spelt(text, name)}
    assert told(tmp_path / "out")["input"]["warnings"] == ["duplicate contig name 'a' renamed to 'a_2'"]


def test_A04_empty_records_are_kept_and_counted(model: Path, tmp_path: Path) -> None:
    text = planted(600)
    fasta = write_fasta(tmp_path / "g.fa", {"first": "", "a": text, "middle": "", "b": text, "last": ""})
    assert run(model, fasta, tmp_path / "out") == 0
    assert sites(tmp_path / "out") == spelt(text, "a") | spelt(text, "b")
    found = told(tmp_path / "out")
    assert found["plan"]["contigs"]["count"] == 5
    assert found["input"]["empty_contigs"] == {"count": 3, "names": ["first", "middle", "last"]}
    assert [line for line in found["input"]["warnings"] if "is empty" in line] == [
        f"contig '{name}' (line {line}) is empty" for name, line in (("first", 1), ("middle", 13), ("last", 25))
    ]
    assert run(model, write_fasta(tmp_path / "e.fa", {"only": ""}), tmp_path / "only") == 0
    assert table(tmp_path / "only").is_empty()


def test_A19_every_base_of_awkward_contigs_is_scored_once(model: Path, tmp_path: Path) -> None:
    borders = (PLAN["smallest_bp"], CORE_BP, PLAN["window_bp"], 2 * CORE_BP)
    lengths = sorted({1, 2, 5, 6, 7, 49, *(border + shift for border in borders for shift in (-1, 0, 1))})
    records = {}
    for length in lengths:
        body = random_bases(length, length)
        for at in (0, length - len(DONOR), CORE_BP - 3, 2 * CORE_BP - 2):  # both ends, and across the borders of windows
            if 0 <= at <= length - len(DONOR):
                body = plant(body, DONOR if at % 2 else revcomp(ACCEPTOR), at)
        records[f"c{length}"] = body
    assert run(model, write_fasta(tmp_path / "g.fa", records), tmp_path / "out") == 0
    expected = {site for name, body in records.items() for site in spelt(body, name)}
    assert sites(tmp_path / "out") == expected and len(table(tmp_path / "out")) == len(expected) > 30


def write_many(path: Path, contigs: int, per_file: int = 50) -> list[str]:
    """`contigs` contigs of 200 bp, each with one donor; returns the bases that take turns."""
    turns = [plant(random_bases(200, seed), DONOR, 97) for seed in range(per_file)]
    with path.open("w") as file:
        for number in range(contigs):
            file.write(f">c{number}\n{turns[number % per_file]}\n")
    return turns


def check_many(out: Path, contigs: int) -> None:
    """Every contig has its one donor, in the order of the file, and the files are few."""
    found = table(out)
    assert found["chrom"].to_list() == [f"c{number}" for number in range(contigs)]
    assert found.select("kind", "strand", "position").unique().rows() == [("donor", "+", 99)]
    with gzip.open(out / "splice_sites.bed.gz", "rb") as file:
        assert sum(not line.startswith(b"#") for line in file) == contigs
    assert len(list(out.rglob("*"))) <= 64


def check_small_contigs_are_not_slow(folder: Path, model: Path, contigs: int) -> None:
    turns = write_many(folder / "many.fa", contigs)
    with (folder / "one.fa").open("w") as file:
        file.write(">one\n")
        file.writelines(turns[number % len(turns)] + "\n" for number in range(contigs))
    peak = peak_of_command(folder / "many.fa", folder / "many", model)
    assert peak < 2_000_000_000
    check_many(folder / "many", contigs)
    peak_of_command(folder / "one.fa", folder / "one", model)
    assert len(table(folder / "one")) >= contigs
    assert told(folder / "many")["wall_s"] <= told(folder / "one")["wall_s"] / 0.3


@pytest.mark.parametrize("contigs", [4_000, pytest.param(50_000, marks=pytest.mark.slow)])
def test_A21_small_contigs_are_scanned_at_a_third_of_the_speed_of_one_contig_at_least(
    contigs: int, model: Path, tmp_path: Path
) -> None:
    check_small_contigs_are_not_slow(tmp_path, model, contigs)


@pytest.mark.slow
def test_A21_a_million_contigs_are_held_in_bounded_memory(model: Path, tmp_path: Path) -> None:
    """The table of contigs and all that comes of it at full size; the network sees a region in every thousandth."""
    contigs = 1_000_000
    write_many(tmp_path / "many.fa", contigs)
    (tmp_path / "some.bed").write_text("".join(f"c{number}\t0\t200\n" for number in range(0, contigs, 1000)))
    assert peak_of_command(tmp_path / "many.fa", tmp_path / "out", model, "--regions", tmp_path / "some.bed") < 2_000_000_000
    assert table(tmp_path / "out")["chrom"].to_list() == [f"c{number}" for number in range(0, contigs, 1000)]
    assert told(tmp_path / "out")["plan"]["contigs"]["count"] == contigs
    assert len(list((tmp_path / "out").rglob("*"))) <= 64


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("ANNOTATOR_MILLION"), reason="takes about five minutes; set ANNOTATOR_MILLION=1")
def test_A21_a_million_contigs_in_full(model: Path, tmp_path: Path) -> None:
    check_small_contigs_are_not_slow(tmp_path, model, 1_000_000)


@pytest.mark.slow
def test_A22_sites_beyond_two_to_the_31(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One contig of 2.15 Gb, nearly all N; words across base 2^29, across base 2^31, and at the contig's end."""
    islands = {border // BLOCK_BP: border for border in (2**29, 2**31)}
    last = 2**31 // BLOCK_BP + 3
    blocks, expected, body = [compress_block(b">big\n")], set(), random_bases(BLOCK_BP, 22)
    for number in range(last):
        if number in islands:
            within = islands[number] - number * BLOCK_BP
            text = plant(plant(plant(body, DONOR, within - 3), ACCEPTOR, within + 60), revcomp(DONOR), within - 900)
            blocks.append(compress_block(lines_of(text)))
            expected |= spelt(text, "big", number * BLOCK_BP)
        else:
            blocks.append(UNKNOWN)
    end = plant(plant(body[:5000], revcomp(ACCEPTOR), 0), DONOR, 4994)
    blocks += [compress_block(lines_of(end)), EOF_BLOCK]
    expected |= spelt(end, "big", last * BLOCK_BP)
    (tmp_path / "big.fa.gz").write_bytes(b"".join(blocks))
    length = last * BLOCK_BP + len(end)

    out = tmp_path / "out"
    options = ["-o", str(out), "--model", str(model), "--tasks", "splice", "--threads", "1"]
    assert main(["annotate", str(tmp_path / "big.fa.gz"), *options]) == 0
    assert sites(out) == expected and len(expected) == 8
    assert {position // 2**31 for *_, position in expected} == {0, 1}
    found = table(out)
    assert (found.schema["start"], found.schema["position"]) == (pl.Int64, pl.Int64)
    lines = bed_lines(out / "splice_sites.bed.gz")
    assert [(int(f[1]), int(f[2])) for f in lines] == found.select("start", "end").rows()
    assert all(0 <= int(f[1]) < int(f[2]) <= length for f in lines)
    path = str(out / "splice_sites.bed.gz")
    with pysam.TabixFile(path, index=f"{path}.csi") as rows:
        beyond = [int(line.split("\t")[1]) for line in rows.fetch("big", 2**31, length)]
    assert beyond == found.filter(pl.col("end") > 2**31)["start"].to_list() != []
    bed_and_indices = [name for name in told(out)["files"] if name.startswith("splice")]
    assert bed_and_indices == ["splice_sites.bed.gz", "splice_sites.bed.gz.csi"]
    assert not list(out.glob("*.tbi"))
    assert "TBI" in capsys.readouterr().err


def test_A23_a_contig_of_more_than_two_to_the_32_bases_is_planned_to_its_end() -> None:
    lengths = np.array([2**32 + 1_000_003, 7], np.int64)
    options = PlanOptions(shard_bp=64_000_000)
    *_, before, last = plan_shards(lengths, options)
    assert (last.spans[-2].end, last.spans[-1].end) == (2**32 + 1_000_003, 7)
    assert last.spans[0].start == before.spans[-1].end
    windows = plan_windows(last.spans, lengths, options)
    assert windows.core_start.dtype == np.int64 and windows.core_end[-2] == 2**32 + 1_000_003
    assert (windows.core_start[1:-1] == windows.core_end[:-2]).all()
    assert (windows.start[:-1] >= 2**31).all()


def test_A23_calls_beyond_two_to_the_32_are_written_and_found(tmp_path: Path) -> None:
    positions = [2**31 - 1, 2**31, 2**32 - 2, 2**32, 2**32 + 5, 2**33 - 40]
    kinds = [kind for kind in KINDS if kind != "promoter"]
    rows = [(0, kind, at + 12 * turn, strand) for at in positions for turn, kind in enumerate(kinds[:2]) for strand in (1, -1)]
    rows += [(0, kind, at, 1) for at in positions for kind in kinds[2:]]
    calls = output_cases.make_calls(rows)
    parts, infos = output_cases.write_parts(calls, [(0, 2**32)], tmp_path / "parts")
    out = tmp_path / "out"
    genome = output_cases.output_run(kinds, ["chr2"], [2**33])
    written = output_cases.merge(parts, out, expected=infos, run=genome)
    assert index_suffixes(2**32) == (".csi",)
    assert set(written) == set(output_cases.all_files(genome)) == {path.name for path in out.iterdir()}
    assert not [name for name in written if name.endswith((".tbi", ".bb", ".bw"))]
    found = pl.read_parquet(out / "predictions.parquet")
    assert found.equals(output_cases.table_of(calls)) and found["position"].max() == 2**33 - 28
    validator = output_cases.load_validator()
    total = 0
    for path in out.glob("*.bed.gz"):
        report = validator.validate_bed(path, {"chr2": 2**33})
        assert report.errors == []
        total += report.rows
        with pysam.TabixFile(str(path), index=f"{path}.csi") as indexed:
            beyond = [int(line.split("\t")[1]) for line in indexed.fetch("chr2", 2**32 + 4, 2**33)]
        kind = {"donor", "acceptor"} if path.name.startswith("splice") else {"tfbs" if path.name.startswith("tf") else "feature"}
        assert beyond == found.filter(pl.col("kind").is_in(kind) & (pl.col("end") > 2**32 + 4))["start"].to_list() != []
    assert total == len(rows)


def test_A24_long_and_unicode_names_are_kept_with_a_warning(model: Path, tmp_path: Path) -> None:
    text = planted(600)
    names = ["käfer染色体", "n" * 300, "..%2Fx", "</script><img/onerror=x>", "@SUM(A1)", "-1"]
    assert run(model, write_fasta(tmp_path / "g.fa", dict.fromkeys(names, text)), tmp_path / "out") == 0
    assert sites(tmp_path / "out") == {site for name in names for site in spelt(text, name)}
    assert {len(fields) for fields in bed_lines(tmp_path / "out" / "splice_sites.bed.gz")} == {9}
    assert sorted(os.listdir(tmp_path)) == ["g.fa", "out"]
    warnings = told(tmp_path / "out")["input"]["warnings"]
    assert len(warnings) == 2 and "not ASCII" in warnings[0] and "300 characters" in warnings[1]


OPEN = f"""
import sys
{PEAK}
from pathlib import Path
from annotator.genome.options import GenomeOptions
from annotator.genome.source import open_genome
genome = open_genome(sys.argv[1], Path(sys.argv[2]), GenomeOptions())
(length,) = genome.contigs.lengths.tolist()
for start in (0, length // 2, length - 1000):
    genome.read_bases(0, start, start + 1000)
print(length, peak())
"""


def test_A25_a_single_line_of_200_megabases_takes_no_more_memory_than_20(tmp_path: Path) -> None:
    block = compress_block(b"".join(random.Random(25).choices([b"ACGTN", b"acgtn", b"TTGCA"], k=BLOCK_BYTES // 5)))
    peaks = []
    for blocks in (306, 3064):
        path = tmp_path / f"{blocks}.fa.gz"
        path.write_bytes(compress_block(b">a\n") + block * blocks + compress_block(b"\n") + EOF_BLOCK)
        output, _ = run_python(OPEN, path, tmp_path / "spool").communicate(timeout=120)
        length, peak = map(int, output.split())
        assert length == blocks * BLOCK_BYTES
        peaks.append(peak)
    assert length > 200_000_000 and peaks[1] - peaks[0] < 20_000_000
    assert not (tmp_path / "spool").exists()


# B: files


def bgzf(data: bytes, block_bytes: int = 1000) -> list[bytes]:
    return [compress_block(data[start : start + block_bytes]) for start in range(0, len(data), block_bytes)]


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def damaged_files() -> dict[str, tuple[bytes, str]]:
    """Content and what is said about it, by row."""
    plain = b">a\n" + lines_of(planted(5000))
    zipped, blocks = gzip.compress(plain), bgzf(plain)
    blocked = b"".join(blocks)
    return {
        "B03 gzip": (zipped[: len(zipped) // 2], f"cut off at byte {len(zipped) // 2}"),
        "B03 BGZF": (blocked[:-5], "truncated: the BGZF block at byte"),
        "B04": (blocked, f"truncated (no BGZF EOF block at byte {len(blocked)})"),
        "B05 gzip data": (flipped(zipped, len(zipped) // 2), "byte"),
        "B05 gzip CRC": (flipped(zipped, len(zipped) - 8), "damaged gzip data in the member at byte 0"),
        "B05 BGZF CRC": (flipped(blocked + EOF_BLOCK, len(blocked) - 8), "wrong CRC"),
        "B05 garbage": (zipped + b"garbage", f"trailing garbage after the compressed data, at byte {len(zipped)}"),
        "B07 zip": (b"PK\x03\x04" + bytes(60), "is a zip archive"),
        "B07 zstd": (b"\x28\xb5\x2f\xfd" + bytes(60), "is zstd"),
        "B07 bzip2": (b"BZh9" + bytes(60), "is bzip2"),
        "B07 2bit": (b"\x43\x27\x41\x1a" + bytes(60), "is 2bit"),
    }


@pytest.mark.parametrize("row", damaged_files())
def test_B03_B04_B05_B07_damaged_files_are_refused_and_nothing_is_written(
    row: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, words = damaged_files()[row]
    (tmp_path / "x.fa.gz").write_bytes(content)
    assert run(model, tmp_path / "x.fa.gz", tmp_path / "out") == 3
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "x.fa.gz" in error and words in error
    assert os.listdir(tmp_path) == ["x.fa.gz"]


def test_B04_B06_B07_B08_B09_other_ways_in_give_the_same_bytes(model: Path, tmp_path: Path) -> None:
    """No EOF block but allowed, several members, names that lie, process substitution, and indices that are wrong."""
    text = planted(4000)
    plain = write_fasta(tmp_path / "plain.fa", {"a": text, "b": text[:999]}).read_bytes()
    blocks = bgzf(plain)
    files = {
        "cut.fa.gz": b"".join(blocks),
        "members.fa.gz": gzip.compress(plain[:1500]) + gzip.compress(b"") + gzip.compress(plain[1500:]),
        "lies.fa": gzip.compress(plain),
        "lies.fa.gz": plain,
        "indexed.fa": plain,
        "indexed.fa.gz": b"".join(blocks) + EOF_BLOCK,
    }
    indices = {
        "indexed.fa.fai": b"a\t9999\t0\t60\t61\nother\t5\t5\t5\t6\n",
        "indexed.fa.gz.fai": b"a\t12\t700\t3\t4\n",
        "indexed.fa.gz.gzi": b"\xff" * 24,
    }
    for name, content in (files | indices).items():
        (tmp_path / name).write_bytes(content)
    assert run(model, tmp_path / "plain.fa", tmp_path / "out-plain") == 0
    expected = results(tmp_path / "out-plain")
    assert sites(tmp_path / "out-plain") == spelt(text, "a") | spelt(text[:999], "b")
    for name in files:
        more = ["--no-eof-check"] if name == "cut.fa.gz" else []
        assert run(model, tmp_path / name, tmp_path / f"out-{name}", *more) == 0
        assert results(tmp_path / f"out-{name}") == expected, name
    assert {name: (tmp_path / name).read_bytes() for name in indices} == indices

    reading, writing = os.pipe()
    writer = threading.Thread(target=lambda: [os.write(writing, plain), os.close(writing)])
    writer.start()
    try:
        assert run(model, f"/dev/fd/{reading}", tmp_path / "out-pipe") == 0
    finally:
        os.close(reading)
        writer.join()
    assert results(tmp_path / "out-pipe") == expected


@pytest.mark.parametrize("kind", ["plain", "gzip", "bgzf"])
def test_B10_nothing_is_written_beside_the_input(kind: str, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    plain = b">a\n" + lines_of(planted(2000))
    packed = {"plain": plain, "gzip": gzip.compress(plain), "bgzf": b"".join(bgzf(plain)) + EOF_BLOCK}
    (folder / "x.fa").write_bytes(packed[kind])
    folder.chmod(0o555)
    before = folder.stat().st_mtime_ns
    assert run(model, folder / "x.fa", tmp_path / "out") == 0
    assert (folder.stat().st_mtime_ns, os.listdir(folder)) == (before, ["x.fa"])
    folder.chmod(0o755)


START_TOGETHER = """
import sys, time
from pathlib import Path
from annotator.genome.options import GenomeOptions
from annotator.genome.source import open_genome
print("ready", flush=True)
while not Path(sys.argv[3]).exists():
    time.sleep(0.001)
genome = open_genome(sys.argv[1], Path(sys.argv[2]), GenomeOptions())
print(genome.sha256, genome.contigs.names, genome.read_bases(0, 5, 900).tobytes().decode())
"""


def test_B11_eight_processes_start_on_one_file_without_an_index(tmp_path: Path) -> None:
    text = planted(300_000)
    (tmp_path / "x.fa.gz").write_bytes(b"".join(bgzf(b">a\n" + lines_of(text))) + EOF_BLOCK)
    go = tmp_path / "go"
    processes = [run_python(START_TOGETHER, tmp_path / "x.fa.gz", tmp_path / "spool", go) for _ in range(8)]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    go.touch()
    outputs = {process.communicate(timeout=60)[0] for process in processes}
    assert [process.returncode for process in processes] == [0] * 8
    (output,) = outputs
    assert output.split()[-1] == text[5:900]
    assert sorted(os.listdir(tmp_path)) == ["go", "x.fa.gz"]


def mostly_unknown(path: Path, blocks: int) -> set[Site]:
    """A contig of many shards that is scanned in no time: N, with the same island every 20 blocks."""
    island = plant(planted(BLOCK_BP // 8, seed=12).ljust(BLOCK_BP, "N"), DONOR, BLOCK_BP - 9)
    packed = compress_block(lines_of(island))
    places = range(0, blocks, 20)
    content = [packed if number in places else UNKNOWN for number in range(blocks)]
    path.write_bytes(b"".join([compress_block(b">big\n"), *content, EOF_BLOCK]))
    return {site for number in places for site in spelt(island, "big", number * BLOCK_BP)}


def append_once_a_shard_is_done(fasta: Path, out: Path, ended: threading.Event) -> None:
    journal = out / ".annotator" / "journal.jsonl"
    while not ended.is_set():
        if journal.exists() and journal.stat().st_size:
            with fasta.open("ab") as file:
                file.write(UNKNOWN)
            return
        time.sleep(0.001)


def test_B12_a_file_that_grows_during_the_run_is_noticed_and_the_run_goes_on_with_the_old_one(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fasta, out, ended = tmp_path / "big.fa.gz", tmp_path / "out", threading.Event()
    expected = mostly_unknown(fasta, 900)
    size = fasta.stat().st_size
    appender = threading.Thread(target=append_once_a_shard_is_done, args=(fasta, out, ended))
    appender.start()
    try:
        assert run(model, fasta, out) == 3
    finally:
        ended.set()
        appender.join()
    error = capsys.readouterr().err
    assert fasta.stat().st_size > size
    assert error.count("\n") == 1 and "big.fa.gz: changed during the run" in error
    assert os.listdir(out) == [".annotator"]
    os.truncate(fasta, size)
    assert run(model, fasta, out) == 0
    assert sites(out) == expected
