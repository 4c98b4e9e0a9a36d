"""The page docs/fault_matrix.md, made from the names of the tests: `python -m tests.support.fault_matrix` writes it anew."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "fault_matrix.md"

ROWS = {
    "A01": "empty file", "A02": "only blank lines or comments", "A03": "duplicate names", "A04": "records without sequence",
    "A05": "records without a name", "A06": "CRLF", "A07": "CR alone", "A08": "no final newline",
    "A09": "blank and uneven lines", "A10": "spaces, tabs, digits in sequence", "A11": "control and non-ASCII bytes",
    "A12": "byte order mark, junk before the first header", "A13": "lower case", "A14": "IUPAC codes", "A15": "U, gaps",
    "A16": "protein", "A17": "FASTQ", "A18": "runs of N", "A19": "awkward contig lengths", "A20": "sites at contig ends",
    "A21": "a million contigs", "A22": "contigs beyond 2^29 and 2^31", "A23": "contigs beyond 2^32",
    "A24": "names that try things",
    "A25": "one very long line", "A26": "blanks at line ends, Ctrl-Z at the end", "A27": "letters that mask (X)",
    "B01": "plain gzip", "B02": "BGZF", "B03": "truncated", "B04": "no BGZF end marker",
    "B05": "flipped bits, bad CRC, trailing garbage", "B06": "several gzip members", "B07": "extensions that lie, other formats",
    "B08": "standard input, FIFO", "B09": "stale or foreign indices", "B10": "folders and permissions",
    "B11": "eight processes at once", "B12": "input that changes during the run",
    "B13": "NUL padding after the compressed data", "B14": "the same bases compressed anew",
    "B15": "motif files of many programs", "B16": "inputs that are not there, regions of bad syntax: before the work",
    "C01": "BED validity",
    "C02": "BED and Parquet hold the same calls", "C03": "no calls at all", "C04": "full disk at every writer",
    "C05": "standard output full or closed", "C06": "results folder of this run, another run, somebody else",
    "C07": "two runs in one folder",
    "C08": "flush or rename fails", "C09": "same bytes whatever the executor, workers, shards", "C10": "damaged part on resume",
    "C11": "torn, doubled, foreign journal lines", "C12": "results to URLs, through dead links and files, in names with colons",
    "C13": "folders without locks, full, read-only: before the work", "C14": "paths that are not UTF-8",
    "D01": "local worker killed; poison shard", "D02": "Ray actor killed",
    "D03": "node lost", "D04": "all worker nodes lost", "D05": "node added", "D06": "driver killed, then rerun",
    "D07": "SIGINT, SIGTERM, SIGUSR1, twice", "D08": "SIGTERM while merging", "D09": "worker hangs",
    "D10": "worker cannot be placed", "D11": "Ray absent, too old, unreachable; token missing or wrong",
    "D12": "HOME, /dev/shm, RAY_TMPDIR", "D13": "worker raises, exits, crashes", "D14": "many runs in a row; clock jumps",
    "D15": "memory or threads refused by the system", "D16": "standard error closed",
    "E01": "out of device memory", "E02": "no GPU", "E03": "no Triton, kernels that do not compile", "E04": "NaN from the model",
    "E05": "device fault", "E06": "bad model files", "E07": "no network",
    "E08": "vocabulary files in any order, or of another network", "E09": "pointers, pages and other things in place of weights",
    "E10": "what is given for a model and is none", "E11": "what a model of the user says of itself",
    "E12": "weights in whole numbers: absent, of other weights, damaged, or no engine for them",
    "F01": "names in HTML", "F02": "names as paths",
    "F03": "hostile motif files", "F04": "doors that Ray opens", "F05": "forbidden calls in the source", "F06": "fuzzing",
    "G01": "annotation: one name for the transcript of every gene", "G02": "annotation: one name at several loci or in two genes",
    "G03": "annotation: off by one, another assembly, wrong strand", "G04": "annotation: transcripts left out",
    "G05": "annotation: contigs that the genome lacks; circular contigs", "G06": "annotation: what editors leave in a file",
    "G07": "regions: headers, byte order marks, other contigs", "G08": "contigs held out",
    "G09": "annotation: no exon lines", "G10": "annotation: lines that cannot be used",
}  # fmt: skip

NOTES = {
    "A02": "Of blank lines the message tells the number; there is no line to name.",
    "A21": "The whole million is scanned with ANNOTATOR_MILLION=1 only; CI scans 50,000, and plans and writes for a million.",
    "A23": "No bigBed or bigWig in this version; plan, Parquet, BED and CSI are tested.",
    "C02": "No GFF3 or bigBed in this version.", "C03": "No bigBed in this version.",
    "C04": "With RLIMIT_FSIZE and faults at each writer; no file system was really filled.",
    "D15": "With the errors and the abort that libraries end in; a real limit is left to the system.",
    "E01": "With hooks; memory of a real GPU has not been filled.", "E05": "With hooks, and a fault that a worker reports.",
    "F01": "This version writes no HTML: there is nothing to test.",
}  # fmt: skip

_NAME = re.compile(r"test_((?:[A-G]\d\d_)+)")


@dataclass(frozen=True)
class NamedTest:
    """A test that carries the ids of rows in its name.

    Attributes:
        file: Its file, below tests/.
        name: Its function.
        slow: Whether all of it is marked `slow`, so that it runs only where slow tests are asked for.
    """

    file: str
    name: str
    slow: bool


def named_tests() -> dict[str, list[NamedTest]]:
    """Row -> the tests that carry the row's id, by file and in the order of each file."""
    found: dict[str, list[NamedTest]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and (rows := _NAME.match(node.name)):
                slow = any(ast.unparse(decorator) == "pytest.mark.slow" for decorator in node.decorator_list)
                for row in rows[1].strip("_").split("_"):
                    found[row].append(NamedTest(path.relative_to(TESTS).as_posix(), node.name, slow))
    return found


def page() -> str:
    """The page's text."""
    found = named_tests()
    lines = [
        "# The fault matrix and its tests",
        "",
        "What may go wrong (A: content of a FASTA file, B: its compression and the file, C: outputs, D: processes and Ray,",
        "E: model and GPU, F: security, G: annotation and regions), and the tests that hold what happens then. A test is named",
        "after its rows; those of Ray are marked `ray`. Those called slow run with `pytest -m slow`, as in CI, the others by",
        "default: of every row of A, B, C, F and G at least one. Made by `python -m tests.support.fault_matrix`.",
        "",
        "| row | what | tests |",
        "|---|---|---|",
    ]
    for row, what in ROWS.items():
        cells = []
        for file, tests in groupby(found[row], lambda test: test.file):
            names = [f"`{test.name}`{' (slow)' if test.slow else ''}" for test in tests]
            cells.append(f"`{file}`: {', '.join(names)}")
        if row in NOTES:
            cells.append(NOTES[row])
        lines.append(f"| {row} | {what} | {'<br>'.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
