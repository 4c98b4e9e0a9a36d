"""Row F of the fault matrix: names that are no paths, motif files that are data, calls that are not made, and fuzzing."""

from __future__ import annotations

import ast
import contextlib
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pysam
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from annotator.errors import InputError
from annotator.genome.options import GenomeOptions
from annotator.genome.scanner import FastaScanner
from annotator.genome.source import open_genome
from annotator.motifs.motif import MAX_MOTIFS
from annotator.motifs.read import read_motifs
from annotator.output.formats.bgzf import EOF_BLOCK, compress_block
from tests.support.detector import ACCEPTOR, DONOR
from tests.support.runs import annotate, plant, random_bases, results, revcomp, sites, write_fasta

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")]), "PYTHONDONTWRITEBYTECODE": "1"}
FUZZ = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def run(model: Path, fasta: Path, out: Path, *more: object) -> tuple[int, str]:
    """Exit status and what was said; for tests that run many times."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = annotate(fasta, "-o", out, "--model", model, *more)
    return code, said.getvalue()


# F02: names and paths

NAMES = [
    "..%2Fx",
    "../../x",
    "a/b",
    "/tmp/absolute",
    "..",
    ".",
    "~root",
    "a\\b",
    "%00",
    "x.parquet",
    ".annotator",
    "run.json",
    "$HOME",
]

WATCHED = """
import os, sys
written = []
def place(path, folder=-1):
    base = os.readlink(f"/proc/self/fd/{folder}") if folder >= 0 else ""
    return os.path.realpath(os.path.join(base, os.fsdecode(path)))
def watch(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and not isinstance(path, int):
            written.append(place(path))
    elif event in ("os.mkdir", "os.remove", "os.rmdir"):
        written.append(place(arguments[0], arguments[-1]))
    elif event in ("os.rename", "os.link", "os.symlink"):
        written.extend(place(path, arguments[-1]) for path in arguments[:2])
sys.addaudithook(watch)
from annotator.cli.app import main
code = main(sys.argv[1:])
print("\\n".join(sorted(set(written))))
sys.exit(code)
"""


def test_F02_names_of_contigs_never_become_paths(model: Path, tmp_path: Path) -> None:
    """Every file that a run so much as opens for writing lies in its results folder, and no name of a contig is in its name.

    But for the probe of the disk, which is made and removed beside the folder before anything is read.
    """
    text = plant(random_bases(300, 1), DONOR, 50)
    plain = write_fasta(tmp_path / "g.fa", dict.fromkeys(NAMES, text)).read_bytes()
    (tmp_path / "g.fa.gz").write_bytes(gzip.compress(plain))  # so that the bases are spooled
    out = tmp_path / "sub" / "out"
    command = [sys.executable, "-c", WATCHED, "annotate", str(tmp_path / "g.fa.gz"), "-o", str(out), "--model", str(model)]
    done = subprocess.run(
        [*command, "--tasks", "splice", "-q", "-t", "1"],
        env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    written = done.stdout.split("\n")[:-1]
    outside = [path for path in written if not path.startswith(f"{out}/") and path not in (str(out), str(out.parent))]
    assert [path for path in outside if not path.startswith(("/dev/", f"{tmp_path}/.tmp-"))] == []
    inside = [path.removeprefix(f"{out}/") for path in written if path not in outside]
    assert len(inside) > 10
    assert not [path for path in inside for name in ("..", "%", "absolute", "~", "\\", "$", "a/b") if name in path]
    assert sorted(os.listdir(tmp_path)) == ["g.fa", "g.fa.gz", "sub"] and os.listdir(tmp_path / "sub") == ["out"]
    assert sites(out) == {(name, "donor", "+", 52) for name in NAMES}


@pytest.mark.parametrize("name", [b"a\0b", b"..\0/x", b"\0", b"a\x1b]0;x\x07"])
def test_F02_control_characters_in_names_are_refused(name: bytes, model: Path, tmp_path: Path) -> None:
    (tmp_path / "g.fa").write_bytes(b">" + name + b"\nACGT\n")
    code, said = run(model, tmp_path / "g.fa", tmp_path / "out", "--tasks", "splice")
    assert code == 3 and said.count("\n") == 1 and said.rstrip("\n").isprintable()
    assert os.listdir(tmp_path) == ["g.fa"]


# F03: motif files

CODE = "__import__('os').system('touch pwned')"
LAUGHS = (
    '<?xml version="1.0"?>\n<!DOCTYPE lolz [\n<!ENTITY lol0 "lol">\n'
    + "".join(f'<!ENTITY lol{i} "{f"&lol{i - 1};" * 10}">\n' for i in range(1, 10))
    + '<!ENTITY file SYSTEM "file:///etc/passwd">\n]>\n<lolz>&lol9;&file;</lolz>\n'
)
MEME = "MEME version 4\n\nALPHABET= ACGT\n\nMOTIF m\nletter-probability matrix:\n"


def jaspar(width: int) -> str:
    return ">m x\n" + "".join(f"{base} [ " + "1 " * width + "]\n" for base in "ACGT")


BAD_MOTIFS = {
    "code as a count": (f">m x\n{CODE.replace(' ', '')}\n1\n1\n1\n", "is not a number"),
    "code as a file": (CODE + "\n", "neither JASPAR, MEME nor TRANSFAC"),
    "billion laughs": (LAUGHS, "line 1: neither JASPAR, MEME nor TRANSFAC"),
    "no column": (jaspar(0), "its width is 0; 1 to 64 is allowed"),
    "no column in MEME": (MEME, "its width is 0"),
    "10,000 columns": (jaspar(10_000), "its width is 10000; 1 to 64 is allowed"),
    "10,000 columns in MEME": (MEME + "1 0 0 0\n" * 10_000, "it has more than 64 rows"),
    "not a number": (">m x\nnan\n1\n1\n1\n", "is not a number"),
    "without end": (">m x\n1e999\n1\n1\n1\n", "column 1 holds a count"),
    "below nothing": (">m x\n-1\n1\n1\n1\n", "log-odds: negative numbers"),
    "a line without end": (">m " + "x" * 10_000_000, "the line is longer than 65536 bytes"),
    "no motif": ("", "the file holds no motif"),
}


@pytest.mark.parametrize("kind", BAD_MOTIFS)
def test_F03_a_motif_file_is_data_and_its_limits_are_kept(
    kind: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, words = BAD_MOTIFS[kind]
    monkeypatch.chdir(tmp_path)
    write_fasta(tmp_path / "g.fa", {"a": "ACGT" * 50})
    (tmp_path / "m.txt").write_text(content)
    started = time.monotonic()
    code, said = run(model, tmp_path / "g.fa", tmp_path / "out", "--motifs", tmp_path / "m.txt")
    assert (code, said.count("\n")) == (3, 1) and "m.txt" in said and words in said and len(said) < 1000
    assert time.monotonic() - started < 10
    assert sorted(os.listdir(tmp_path)) == ["g.fa", "m.txt"]


def test_F03_a_motif_whose_name_is_code_is_scanned_for_under_that_name(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.txt").write_text(f">{CODE.replace(' ', '')} {CODE}\n9 0 0 0 0\n0 9 0 0 0\n0 0 9 0 9\n0 0 0 9 0\n")
    write_fasta(tmp_path / "g.fa", {"a": "ACGTG" * 50})
    options = ["--motifs", tmp_path / "m.txt", "--tasks", "tfbs", "--tfbs-pvalue", "0.01"]
    assert run(model, tmp_path / "g.fa", tmp_path / "out", *options)[0] == 0
    with gzip.open(tmp_path / "out" / "tfbs.bed.gz", "rt") as file:
        fields = [line.rstrip("\n").split("\t") for line in file if not line.startswith("#")]
    assert {len(f) for f in fields} == {len(fields[0])} and {f[3] for f in fields} == {CODE.replace(" ", "_")}
    assert sorted(os.listdir(tmp_path)) == ["g.fa", "m.txt", "out"]


READ_MOTIFS = """
import resource, sys
from pathlib import Path
from annotator.errors import AnnotatorError
from annotator.motifs.read import read_motifs
try:
    read_motifs(Path(sys.argv[1]))
except AnnotatorError as error:
    print(error)
    print([int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM')] or
          [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss])
    sys.exit(error.exit_code)
"""


def test_F03_a_million_motifs_are_refused_in_bounded_time_and_memory(tmp_path: Path) -> None:
    counts = "\n1 0\n0 1\n0 0\n0 0\n"
    text = "".join(f">m{number}{counts}" for number in range(MAX_MOTIFS + 1)) + f">other{counts}" * (1_000_000 - MAX_MOTIFS)
    (tmp_path / "m.txt").write_bytes(gzip.compress(text.encode(), 1))
    started = time.monotonic()
    command = [sys.executable, "-c", READ_MOTIFS, str(tmp_path / "m.txt")]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 3, done.stderr
    message, peak = done.stdout.splitlines()
    line = 5 * MAX_MOTIFS + 1
    assert message == f"{tmp_path / 'm.txt'}: line {line}: motif 'm{MAX_MOTIFS}': the file holds more than {MAX_MOTIFS} motifs"
    assert int(peak.strip("[]")) < 400_000 and time.monotonic() - started < 60


# F05: calls that must not be made

SOURCES = sorted(
    path for folder in ("annotator", "kernels", "benchmarks", "tests", ".ci") for path in (ROOT / folder).rglob("*.py")
)
NEVER = {
    "pickle.load", "pickle.loads", "pickle.Unpickler", "_pickle.load", "_pickle.loads", "cloudpickle.load", "cloudpickle.loads",
    "ray.cloudpickle.load", "ray.cloudpickle.loads", "dill.load", "dill.loads", "joblib.load", "marshal.load", "marshal.loads",
    "shelve.open", "pandas.read_pickle", "torch.hub.load", "torch.package.PackageImporter", "eval", "exec", "builtins.eval",
    "builtins.exec", "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "yaml.load", "yaml.load_all",
    "yaml.unsafe_load", "yaml.full_load",
}  # fmt: skip
NOT_TRUE = {"shell": "False", "trust_remote_code": "False", "allow_pickle": "False", "weights_only": "True"}
"""Keywords that may have one value only."""
CONVERTER = "annotator/models/convert.py"
BAIT = "tests/integration/test_environment_faults.py"
"""Its booby-trapped pickle has to be seen to go off when it is read."""


def real_names(tree: ast.AST) -> dict[str, str]:
    """What each imported name of a file stands for."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name.partition(".")[0]: alias.name if alias.asname else alias.name.partition(".")[0]
                      for alias in node.names}  # fmt: skip
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def is_round_trip(call: ast.Call) -> bool:
    """`pickle.loads(pickle.dumps(x))`: what is read was made in the same breath."""
    return len(call.args) == 1 and isinstance(call.args[0], ast.Call) and ast.unparse(call.args[0].func) == "pickle.dumps"


def forbidden_calls(text: str, file: str = "annotator/x.py") -> list[str]:
    """Calls in a source text that must not be there, and why."""
    tree = ast.parse(text)
    names = real_names(tree)
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        head, dot, rest = ast.unparse(node.func).partition(".")
        called = names.get(head, head) + dot + rest
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords if keyword.arg}
        where = f"{file}:{node.lineno}: {called}"
        if called in NEVER and not (file.startswith(("tests/", "benchmarks/")) and is_round_trip(node)):
            found.append(where)
        found += [f"{where}({name}={keywords[name]})" for name, only in NOT_TRUE.items() if keywords.get(name, only) != only]
        if called in ("torch.load", "torch.serialization.load"):
            if file.startswith(("annotator/", "kernels/")) and file != CONVERTER:
                found.append(f"{where} outside the converter")
            if keywords.get("weights_only") != "True" or keywords.get("map_location") not in ("'cpu'", "torch.device('cpu')"):
                found.append(f"{where} without weights_only=True and map_location='cpu'")
    return found


def test_F05_no_source_makes_a_forbidden_call() -> None:
    texts = {path.relative_to(ROOT).as_posix(): path.read_text() for path in SOURCES}
    assert len(texts) > 150 and CONVERTER in texts and BAIT in texts
    found = [call for file, text in texts.items() if file != BAIT for call in forbidden_calls(text, file)]
    assert found == []
    assert {call.partition(": ")[2].split("(")[0].split(" ")[0] for call in forbidden_calls(texts[BAIT], BAIT)} <= {"torch.load"}


@pytest.mark.parametrize(
    "sample",
    [
        "import torch\ntorch.load(f, map_location='cpu', weights_only=True)",
        "import pickle\npickle.load(f)",
        "import pickle as p\np.load(f)",
        "from pickle import loads as read\nread(b)",
        "from pickle import Unpickler\nUnpickler(f).load()",
        "import cloudpickle\ncloudpickle.loads(b)",
        "from torch import load as l\nl(f)",
        "import numpy as np\nnp.load(f, allow_pickle=True)",
        "AutoModel.from_pretrained(x, trust_remote_code = True)",
        "AutoModel.from_pretrained(x, trust_remote_code=flag)",
        "x = eval(text)",
        "exec(text)",
        "import builtins\nbuiltins.eval(text)",
        "import subprocess\nsubprocess.run(c, shell=True)",
        "from subprocess import run as r\nr(c, shell=1)",
        "import yaml\nyaml.load(text)",
        "import os as o\no.system(c)",
        "import pickle\npickle.loads(pickle.dumps(x))",
    ],
)
def test_F05_the_scan_finds_what_it_forbids(sample: str) -> None:
    assert forbidden_calls(sample)


def test_F05_the_scan_leaves_harmless_calls_alone() -> None:
    harmless = [
        "model.eval()",
        "net.eval()",
        "import yaml\nyaml.safe_load(t)",
        "retrieval(x)",
        "run(c, shell=False)",
        "re.compile(x)",
    ]
    assert [sample for sample in harmless if forbidden_calls(sample)] == []
    read = "import torch\ntorch.load(f, map_location='cpu', weights_only=True)"
    assert forbidden_calls(read, CONVERTER) == forbidden_calls(read, "benchmarks/x.py") == []
    assert forbidden_calls("import torch\ntorch.load(f)", CONVERTER)
    assert forbidden_calls("import pickle\npickle.loads(pickle.dumps(x))", "tests/x.py") == []


# F06: fuzzing

BASES = "ACGTacgtNnRYSWKMBDHVryswkmbdhvUu"
READ_AS = {letter: letter.upper() if letter.upper() in "ACGT" else "T" if letter in "Uu" else "N" for letter in BASES}
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["set", "insert", "remove", "repeat", "cut"]),
        st.floats(0, 1),
        st.one_of(st.integers(0, 255), st.sampled_from(b'>\n\r AN0-"{}[],:')),
        st.integers(1, 40),
    ),
    min_size=1,
    max_size=4,
)
"""Changes to a file: what, where (as a share of its length), which byte, how many."""
Edit = tuple[str, float, int, int]


def changed(data: bytes, edits: list[Edit]) -> bytes:
    for kind, share, byte, count in edits:
        at = int(share * len(data))
        head, tail = data[:at], data[at:]
        match kind:
            case "set":
                data = head + bytes([byte]) + tail[1:]
            case "insert":
                data = head + bytes([byte]) * (1 if count > 3 else count) + tail
            case "remove":
                data = head + tail[count:]
            case "repeat":
                data = head + tail[:count] + tail
            case _:
                data = head
    return data


def packed(data: bytes, kind: str) -> bytes:
    if kind == "bgzf":
        return b"".join(compress_block(data[at : at + 50]) for at in range(0, len(data), 50)) + EOF_BLOCK
    return gzip.compress(data, mtime=0) if kind == "gzip" else data


def read_whole(data: bytes) -> list[tuple[str, str]] | str:
    """Names and bases of a file through the door that users come in by, or why it was refused."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "x.fa").write_bytes(data)
        try:
            genome = open_genome(Path(folder) / "x.fa", Path(folder) / "spool", GenomeOptions())
        except InputError as error:
            assert "\n" not in str(error) and str(error).startswith(f"{folder}/x.fa: ")
            assert not (Path(folder) / "spool").exists() or not os.listdir(Path(folder) / "spool")
            return str(error)
        lengths = genome.contigs.lengths.tolist()
        read = [genome.read_bases(contig, 0, length).tobytes().decode() for contig, length in enumerate(lengths)]
        genome.close()
        return list(zip(genome.contigs.names, read, strict=True))


def read_in_blocks(data: bytes, block_bytes: int) -> list[tuple[str, str]] | str:
    """The same by the scanner alone, fed blocks of one size."""
    bases: list[bytes] = []
    scanner = FastaScanner("x.fa", GenomeOptions(), bases.append)
    try:
        for start in range(0, len(data), block_bytes):
            scanner.feed(data[start : start + block_bytes])
        table = scanner.finish().contigs
    except InputError as error:
        return str(error)
    text, ends = b"".join(bases).decode(), np.cumsum(table.lengths).tolist()
    return [(name, text[end - length : end]) for name, end, length in zip(table.names, ends, table.lengths.tolist(), strict=True)]


def other_readers(data: bytes) -> Iterator[list[tuple[str, str]]]:
    """Names and bases as dnaio and htslib read them."""
    dnaio = pytest.importorskip("dnaio")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.fa"
        path.write_bytes(data)
        with dnaio.open(path, fileformat="fasta") as records:
            yield [(record.name.split()[0], record.sequence) for record in records]
        with pysam.FastxFile(str(path)) as records:
            # kseq keeps the carriage return of a line that holds nothing else
            yield [(record.name, (record.sequence or "").replace("\r", "")) for record in records]


@st.composite
def valid_files(draw: st.DrawFn) -> bytes:
    """FASTA that every reader takes: descriptions, empty records, blank and uneven lines, either line end."""
    end = draw(st.sampled_from(["\n", "\r\n"]))
    names = st.text(st.sampled_from("abX1:|/.<%"), min_size=1, max_size=5)
    lines = st.lists(st.text(st.sampled_from(BASES + "NNNN"), max_size=9), max_size=6)
    text = ""
    for name, more, rows in draw(st.lists(st.tuples(names, st.sampled_from(["", " d", "\td e"]), lines), min_size=1, max_size=5,
                                          unique_by=lambda record: record[0])):  # fmt: skip
        text += f">{name}{more}{end}" + "".join(row + end for row in rows)
    return (text if draw(st.booleans()) else text.removesuffix(end)).encode()


@given(valid_files(), st.sampled_from(["plain", "gzip", "bgzf"]))
@settings(FUZZ, max_examples=100)
def test_F06_valid_files_read_as_dnaio_and_htslib_read_them(data: bytes, kind: str) -> None:
    found = read_whole(packed(data, kind))
    for expected in other_readers(data):
        assert found == [(name, "".join(map(READ_AS.__getitem__, bases))) for name, bases in expected]


@given(valid_files(), EDITS)
@settings(FUZZ, max_examples=60)
def test_F06_changed_files_are_read_the_same_in_blocks_of_1_to_17_bytes(data: bytes, edits: list[Edit]) -> None:
    data = changed(data, edits)
    expected = read_in_blocks(data, len(data) or 1)
    assert all(read_in_blocks(data, block_bytes) == expected for block_bytes in range(1, 18))
    assert isinstance(expected, list) or expected.isprintable()


@given(valid_files(), EDITS)
@settings(FUZZ, max_examples=120)
def test_F06_what_is_accepted_of_changed_files_is_what_other_readers_see(data: bytes, edits: list[Edit]) -> None:
    data = changed(data, edits)
    found = read_whole(data)
    if isinstance(found, list) and data.isascii() and b"> " not in data and b">\t" not in data:
        for expected in other_readers(data):
            assert found == [(name, "".join(map(READ_AS.__getitem__, bases))) for name, bases in expected]


@given(valid_files(), EDITS, st.sampled_from(["gzip", "bgzf"]))
@settings(FUZZ, max_examples=100)
def test_F06_changed_compressed_files_give_the_same_bases_or_one_typed_error(data: bytes, edits: list[Edit], kind: str) -> None:
    """Every byte is under a checksum, but for fields without meaning and whole members, which may be left out or repeated."""
    whole = read_whole(packed(data, kind))
    found = read_whole(changed(packed(data, kind), edits))
    assert found == whole or isinstance(found, str) or kind == "bgzf"


MOTIF_FILES = {
    "jaspar": ">MA1 Arnt\nA [ 4 19 0 ]\nC [ 16 0 20 ]\nG [ 0 1 0 ]\nT [ 0 0 0 ]\n>MA2 b\n1 2\n3 4\n5 6\n7 8\n",
    "meme": MEME + "0.2 0.3 0.4 0.1\n1 0 0 0\n\nMOTIF n name\nletter-probability matrix: alength= 4 w= 1 nsites= 5\n0 0 1 0\n",
    "transfac": "AC MA1\nXX\nID Arnt\nXX\nPO A C G T\n01 1 2 3 4\n02 5 6 7 8 N\nXX\n//\nAC MA2\nPO C A T G\n01 1 1 1 1\n//\n",
}
PIECES = st.sampled_from(
    [">", "m", " ", "\t", "\n", "\n", "A", "[", "]", "|", "0", "1.5", "-1", "1e9", "1e999", "nan", "MOTIF m\n",
     "MEME version 4\n",
     "letter-probability matrix:", " alength= 4", " w= 2", " nsites= 0", "AC m\n", "PO A C G T\n", "01 1 2 3 4\n", "//\n", "\r\n",
     "\x00", "\x85", "é", "\ufeff", "URL x\n", "#", "ALPHABET= ACGU\n", "<!ENTITY a 'b'>", "&a;"]
)  # fmt: skip


@given(st.sampled_from(sorted(MOTIF_FILES)), st.one_of(EDITS, st.lists(PIECES, max_size=25)), st.booleans())
@settings(FUZZ, max_examples=300)
def test_F06_any_motif_file_gives_motifs_or_one_typed_error(kind: str, change: list[object], zipped: bool) -> None:
    made = all(isinstance(piece, str) for piece in change)
    data = "".join(map(str, change)).encode() if made else changed(MOTIF_FILES[kind].encode(), change)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.txt"
        path.write_bytes(gzip.compress(data) if zipped else data)
        try:
            found = read_motifs(path)
        except InputError as error:
            assert str(error).startswith(f"{path}: ") and str(error).isprintable() and len(str(error)) < 500
        else:
            assert found and all(np.isfinite(motif.counts).all() and 1 <= motif.width <= 64 for motif in found)
            assert len({motif.matrix_id for motif in found}) == len(found)


class Folders:
    """A genome, a results folder of a whole run, and one of a run that was cut short before its last step."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.model = model
        text = plant(plant(random_bases(400, 3), DONOR, 50), revcomp(ACCEPTOR), 200)
        self.fasta = write_fasta(folder / "g.fa", {"a": text, "b": text[:100]})
        self.whole, self.unfinished = folder / "whole", folder / "unfinished"
        assert self.run(self.whole)[0] == 0
        with pytest.MonkeyPatch.context() as patch:
            real = os.replace

            def no_results(source: Path, target: Path) -> None:
                if Path(target).name == "predictions.parquet":
                    raise OSError(5, "Input/output error")
                real(source, target)

            patch.setattr(os, "replace", no_results)
            assert self.run(self.unfinished)[0] == 6
        self.expected = results(self.whole)
        self.run_json = (self.whole / "run.json").read_bytes()

    def run(self, out: Path, *more: object) -> tuple[int, str]:
        return run(self.model, self.fasta, out, "--tasks", "splice", *more)

    def check(self, folder: Path, file: str, content: bytes, codes: tuple[int, ...]) -> None:
        """Run over a copy of a folder in which one file holds something else, and anew where that is refused."""
        with tempfile.TemporaryDirectory() as parent:
            out = Path(parent) / "out"
            shutil.copytree(folder, out)
            (out / "mine.txt").write_text("mine")
            (Path(parent) / "mine.txt").write_text("mine")
            (out / file).write_bytes(content)
            code, said = self.run(out)
            assert code in codes, said
            if code:
                assert said.count("\n") == 1 and said.startswith("annotator: error: ") and "internal error" not in said
                assert (out / file).read_bytes() == content
                code, said = self.run(out, "--overwrite")
                assert code == 0 or (code == 2 and "ours" in said or "not a run.json of this program" in said), said
            if not code:
                assert results(out) == self.expected | {"mine.txt": b"mine"}
            assert (out / "mine.txt").read_text() == (Path(parent) / "mine.txt").read_text() == "mine"
            assert sorted(os.listdir(parent)) == ["mine.txt", "out"]


@pytest.fixture(scope="module")
def folders(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("folders"), model)


@given(edits=EDITS)
@settings(FUZZ, max_examples=15)
def test_F06_a_changed_journal_is_resumed_or_refused_in_one_line(folders: Folders, edits: list[Edit]) -> None:
    journal = Path(".annotator") / "journal.jsonl"
    folders.check(folders.unfinished, str(journal), changed((folders.unfinished / journal).read_bytes(), edits), (0, 3))


@given(edits=EDITS)
@settings(FUZZ, max_examples=12)
def test_F06_a_changed_plan_is_resumed_or_refused_in_one_line(folders: Folders, edits: list[Edit]) -> None:
    plan = Path(".annotator") / "plan.json"
    folders.check(folders.unfinished, str(plan), changed((folders.unfinished / plan).read_bytes(), edits), (0, 2))


@given(edits=EDITS)
@settings(FUZZ, max_examples=15)
def test_F06_a_changed_run_json_is_obeyed_or_refused_in_one_line(folders: Folders, edits: list[Edit]) -> None:
    folders.check(folders.whole, "run.json", changed(folders.run_json, edits), (0, 2))


KEYS = st.sampled_from(["files", "plan", "bytes", "../x", "a\0b", "shard", "counts"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "files", "../x", "..", "x" * 300]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["files", "plan", "bytes", "../x", "shard"]), inner)
    ),
    max_leaves=12,
)


@given(value=JSON, file=st.sampled_from(["run.json", ".annotator/plan.json", ".annotator/journal.jsonl"]))
@settings(FUZZ, max_examples=15)
def test_F06_any_json_in_the_programs_own_files_is_survived(folders: Folders, value: object, file: str) -> None:
    folder = folders.whole if file == "run.json" else folders.unfinished
    folders.check(folder, file, json.dumps(value).encode(), (0, 2))


@pytest.mark.parametrize("plan", ["[[1, 2]]", '[["a", 1]]', "[[null, null]]", "[" * 100_000, "{}", "null", "1e999"])
def test_F06_a_plan_that_is_something_else_is_refused(folders: Folders, plan: str) -> None:
    folders.check(folders.unfinished, ".annotator/plan.json", plan.encode(), (2,))


@pytest.mark.parametrize(
    "name",
    ["x" * 300, "a\0b", "..", ".", "", "../mine.txt", "/etc/passwd", "mine.txt/x", "\ud800"],
    ids=lambda name: ascii(name)[:20],
)
def test_F06_no_name_in_a_run_json_leads_out_of_the_folder(folders: Folders, name: str, tmp_path: Path) -> None:
    found = json.loads(folders.run_json)
    found["files"][name] = {"bytes": 4, "rows": 0, "sha256": ""}
    folders.check(folders.whole, "run.json", json.dumps(found).encode(), (0, 2))
    out = shutil.copytree(folders.whole, tmp_path / "out")
    (tmp_path / "mine.txt").write_text("mine")
    (out / "run.json").write_text(json.dumps(found))
    code, said = folders.run(out, "--overwrite")
    assert code == 0, said
    assert results(out) == folders.expected and (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "change", [{"counts": {"a": "b"}}, {"counts": {"a": None}}, {"rows": 10**30}, {"shard": 1e300}, {"rows": -1}]
)
def test_F06_a_journal_line_with_other_values_never_ends_in_a_traceback(folders: Folders, change: dict[str, object]) -> None:
    journal = ".annotator/journal.jsonl"
    entry = json.loads((folders.unfinished / journal).read_bytes().splitlines()[0])
    folders.check(folders.unfinished, journal, json.dumps(entry | change).encode() + b"\n", (0, 3))
