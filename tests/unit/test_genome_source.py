"""Files, streams and random access: rows B08-B12 of the fault matrix, and `Genome.read_bases`."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import pickle
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pysam
import pytest

from annotator.errors import InputError, ResourceFault, UsageError
from annotator.genome.options import GenomeOptions
from annotator.genome.source import Genome, open_genome

DEFAULT = GenomeOptions()
RNG = random.Random(11)
SEQUENCES = {
    f"c{index}": "".join(RNG.choices("ACGTNacgtnRyU", k=length)) for index, length in enumerate((1, 59, 60, 61, 120, 5003))
}
READ_AS = str.maketrans("acgtnRyU", "ACGTNNNT")
EVEN = "".join(
    f">{name}\n" + "".join(sequence[start : start + 60] + "\n" for start in range(0, len(sequence), 60))
    for name, sequence in SEQUENCES.items()
).encode()
UNEVEN = EVEN.replace(b">c4\n", b">c4\nACG\n\n").replace(b">c0\n", b"\n>c0\n")


def open_bytes(folder: Path, data: bytes, name: str = "x.fa") -> Genome:
    (folder / name).write_bytes(data)
    return open_genome(folder / name, folder / "spool", DEFAULT)


def kinds(folder: Path) -> dict[str, Genome]:
    """The same contigs behind every kind of access."""
    with pysam.BGZFile(str(folder / "b.fa.gz"), "wb") as file:
        file.write(EVEN)
    return {
        "plain": open_bytes(folder, EVEN, "p.fa"),
        "crlf": open_bytes(folder, EVEN.replace(b"\n", b"\r\n"), "w.fa"),
        "bgzf": open_genome(folder / "b.fa.gz", folder / "spool-b", DEFAULT),
        "gzip": open_bytes(folder, gzip.compress(EVEN), "z.fa.gz"),
    }


def test_read_bases_is_the_same_for_every_kind_of_file(tmp_path: Path) -> None:
    for kind, genome in kinds(tmp_path).items():
        assert genome.contigs.names == list(SEQUENCES)
        assert (genome.source is not None) == (kind == "gzip")
        for contig, sequence in enumerate(SEQUENCES.values()):
            expected = sequence.translate(READ_AS)
            for start in (0, 1, 59, 60, 61, len(sequence) - 1, len(sequence)):
                for end in (start, start + 1, start + 60, start + 61, len(sequence)):
                    if start <= end <= len(sequence):
                        bases = genome.read_bases(contig, start, end)
                        assert bases.dtype == np.uint8 and bases.flags.writeable
                        assert bases.tobytes().decode() == expected[start:end]


def test_read_bases_refuses_spans_outside_the_contig(tmp_path: Path) -> None:
    for genome in kinds(tmp_path).values():
        for contig, start, end in ((0, -1, 1), (0, 0, 2), (1, 5, 4), (1, 60, 61), (-1, 0, 1), (6, 0, 0)):
            with pytest.raises(ValueError, match="contig"):
                genome.read_bases(contig, start, end)


def test_genome_says_what_it_read(tmp_path: Path) -> None:
    text = "".join(SEQUENCES.values())
    for genome in kinds(tmp_path).values():
        assert genome.sha256 == hashlib.sha256(Path(genome.path).read_bytes()).hexdigest()
        assert genome.contigs.total_bp == len(text)
        assert genome.altered == {
            "iupac_as_n": text.count("R") + text.count("y"),
            "u_as_t": text.count("U"),
            "gap_as_n": 0,
            "mask_as_n": 0,
            "lower_case": sum(letter.islower() for letter in text),
            "n": text.upper().count("N"),
        }


def test_genome_survives_pickling_threads_and_closing(tmp_path: Path) -> None:
    expected = SEQUENCES["c5"].translate(READ_AS)
    for genome in kinds(tmp_path).values():
        genome.read_bases(5, 0, 10)
        copy = pickle.loads(pickle.dumps(genome))
        genome.close()
        for one in (genome, copy):
            with ThreadPoolExecutor(4) as pool:
                parts = list(pool.map(lambda start, one=one: one.read_bases(5, start, start + 7).tobytes(), range(0, 4990, 3)))
            assert parts == [expected[start : start + 7].encode() for start in range(0, 4990, 3)]
            one.close()


def test_A09_uneven_lines_are_spooled(tmp_path: Path) -> None:
    genome = open_bytes(tmp_path, UNEVEN)
    assert genome.compression == "plain"
    assert genome.read_bases(4, 0, 123).tobytes().decode() == "ACG" + SEQUENCES["c4"].translate(READ_AS)
    assert genome.read_bases(5, 0, 5003).tobytes().decode() == SEQUENCES["c5"].translate(READ_AS)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["bases.bin", "spool", "x.fa"]


def test_A13_A14_A15_bases_are_upper_case_acgtn(tmp_path: Path) -> None:
    (tmp_path / "x.fa").write_bytes(b">a\nACgtRYnU-.*\n")
    genome = open_genome(tmp_path / "x.fa", tmp_path / "spool", GenomeOptions(gaps_as_n=True))
    assert genome.read_bases(0, 0, 11).tobytes() == b"ACGTNNNTNNN"


def test_A03_A24_renamed_and_odd_names_keep_their_bases(tmp_path: Path) -> None:
    (tmp_path / "x.fa").write_bytes(b">../../x\nAA\n>chr1\nCC\n>../../x\nGG\n>chr1:1-2\nTT\n")
    genome = open_genome(tmp_path / "x.fa", tmp_path / "spool", GenomeOptions(dup_names="suffix"))
    assert genome.contigs.names == ["../../x", "chr1", "../../x_2", "chr1:1-2"]
    assert [genome.read_bases(contig, 0, 2).tobytes() for contig in range(4)] == [b"AA", b"CC", b"GG", b"TT"]
    assert [path.name for path in tmp_path.iterdir()] == ["x.fa"]


def run_python(code: str, *arguments: str, stdin: bytes | None = None) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
    )
    if stdin is not None:
        assert process.stdin is not None
        process.stdin.write(stdin)
        process.stdin.close()
        process.stdin = None
    return process


READ_ALL = """
import sys
from pathlib import Path
from annotator.genome.options import GenomeOptions
from annotator.genome.source import open_genome
genome = open_genome(sys.argv[1], Path(sys.argv[2]), GenomeOptions())
lengths = genome.contigs.lengths.tolist()
print(genome.sha256, *(genome.read_bases(c, 0, n).tobytes().decode() for c, n in enumerate(lengths)))
"""


@pytest.mark.parametrize("path", ["-", "/dev/stdin"])
@pytest.mark.parametrize("pack", ["plain", "gzip", "bgzf"])
def test_B08_stdin(tmp_path: Path, path: str, pack: str) -> None:
    kinds(tmp_path)
    data = {"plain": EVEN, "gzip": gzip.compress(EVEN), "bgzf": (tmp_path / "b.fa.gz").read_bytes()}[pack]
    process = run_python(READ_ALL, path, str(tmp_path / "s"), stdin=data)
    output, _ = process.communicate(timeout=60)
    expected = [hashlib.sha256(data).hexdigest(), *(sequence.translate(READ_AS) for sequence in SEQUENCES.values())]
    assert output.decode().split() == expected
    assert [entry.name for entry in (tmp_path / "s").iterdir()] == ["bases.bin"]


def test_B08_stdin_that_is_a_file_is_read_once_from_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / "x.fa").write_bytes(b"skipped" + EVEN)
    with open(tmp_path / "x.fa", "rb", buffering=0) as file:
        file.seek(7)
        saved = os.dup(0)
        os.dup2(file.fileno(), 0)
        try:
            genome = open_genome("-", tmp_path / "s", DEFAULT)
        finally:
            os.dup2(saved, 0)
            os.close(saved)
    assert genome.path == "-" and genome.sha256 == hashlib.sha256(EVEN).hexdigest()
    assert genome.read_bases(1, 0, 59).tobytes().decode() == SEQUENCES["c1"].translate(READ_AS)


def test_B08_fifo_is_read_once(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_bytes(UNEVEN), daemon=True)
    writer.start()
    genome = open_genome(fifo, tmp_path / "s", DEFAULT)
    writer.join()
    assert genome.sha256 == hashlib.sha256(UNEVEN).hexdigest()
    assert genome.read_bases(5, 7, 5003).tobytes().decode() == SEQUENCES["c5"][7:].translate(READ_AS)


def test_B08_refused_stream_leaves_nothing(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_bytes(EVEN + b">bad\nAC GT\n"), daemon=True)
    writer.start()
    with pytest.raises(InputError, match="contig 'bad'"):
        open_genome(fifo, tmp_path / "s", DEFAULT)
    writer.join()
    assert list((tmp_path / "s").iterdir()) == []


def test_B09_indexes_beside_the_input_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "x.fa.fai").write_text("c0\t9999\t3\t60\t61\nother\t5\t5\t5\t6\n")
    (tmp_path / "x.fa.gzi").write_bytes(b"\xff" * 24)
    genome = open_bytes(tmp_path, EVEN)
    assert genome.contigs.lengths.tolist() == [len(sequence) for sequence in SEQUENCES.values()]
    assert genome.read_bases(0, 0, 1).tobytes().decode() == SEQUENCES["c0"].translate(READ_AS)
    assert (tmp_path / "x.fa.fai").read_text().startswith("c0\t9999")


@contextmanager
def not_root() -> Iterator[None]:
    """Root may read everything, so step down where the tests run as root."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)
    else:
        yield


def test_B10_no_permission(tmp_path: Path) -> None:
    (tmp_path / "x.fa").write_bytes(EVEN)
    (tmp_path / "x.fa").chmod(0)
    with not_root(), pytest.raises(UsageError, match="x.fa: cannot read: Permission denied"):
        open_genome(tmp_path / "x.fa", tmp_path / "s", DEFAULT)


def test_B10_directory_and_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read: Is a directory$") as caught:
        open_genome(tmp_path, tmp_path / "s", DEFAULT)
    assert caught.value.exit_code == 2
    with pytest.raises(UsageError, match="no.fa: cannot read: No such file or directory$"):
        open_genome(tmp_path / "no.fa", tmp_path / "s", DEFAULT)
    with pytest.raises(UsageError, match="cannot read"):
        open_genome("a\0b", tmp_path / "s", DEFAULT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [EVEN, UNEVEN, gzip.compress(EVEN)])
def test_B10_read_only_input_directory(tmp_path: Path, data: bytes) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "x.fa").write_bytes(data)
    folder.chmod(0o555)
    before = os.stat(folder).st_mtime_ns
    genome = open_genome(folder / "x.fa", tmp_path / "s", DEFAULT)
    assert genome.read_bases(5, 0, 5003).tobytes().decode() == SEQUENCES["c5"].translate(READ_AS)
    assert os.stat(folder).st_mtime_ns == before
    assert os.listdir(folder) == ["x.fa"]
    folder.chmod(0o755)


@pytest.mark.parametrize("data", [EVEN, UNEVEN])
def test_B11_processes_starting_together(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.fa").write_bytes(data)
    processes = [run_python(READ_ALL, str(tmp_path / "x.fa"), str(tmp_path / f"s{index}")) for index in range(4)]
    outputs = [process.communicate(timeout=60)[0].decode() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert len(set(outputs)) == 1 and outputs[0].split()[0] == hashlib.sha256(data).hexdigest()
    spools = {f"s{index}" for index in range(4)} if data == UNEVEN else set()
    assert {entry.name for entry in tmp_path.iterdir()} == {"x.fa", *spools}


@pytest.mark.parametrize("kind", ["plain", "bgzf", "gzip"])
@pytest.mark.parametrize("reopened", [False, True])
def test_B12_changed_during_the_run(tmp_path: Path, kind: str, reopened: bool) -> None:
    genome = kinds(tmp_path)[kind]
    genome.read_bases(5, 0, 100)
    with open(genome.path, "ab") as file:
        file.write(b"ACGT\n")
    if reopened:
        genome = pickle.loads(pickle.dumps(genome))
    with pytest.raises(InputError, match="changed during the run") as caught:
        genome.read_bases(5, 0, 100)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("kind", ["plain", "bgzf", "gzip"])
def test_B12_same_size_other_bases(tmp_path: Path, kind: str) -> None:
    genome = kinds(tmp_path)[kind]
    data = bytearray(Path(genome.path).read_bytes())
    data[-5] ^= 1
    Path(genome.path).write_bytes(data)
    os.utime(genome.path, ns=(1, 1))
    with pytest.raises(InputError, match="changed during the run"):
        genome.read_bases(5, 0, 100)


def test_B12_vanished_before_a_worker_opened_it(tmp_path: Path) -> None:
    for genome in kinds(tmp_path).values():
        genome.close()
        os.unlink(genome.path)
        with pytest.raises(InputError, match="(changed during the run|cannot be read any more)"):
            genome.read_bases(5, 0, 100)


def test_B12_spool_cut_off(tmp_path: Path) -> None:
    genome = open_bytes(tmp_path, gzip.compress(EVEN))
    os.truncate(tmp_path / "spool" / "bases.bin", 100)
    with pytest.raises(InputError, match="changed during the run"):
        genome.read_bases(0, 0, 1)


def test_B12_other_bytes_under_the_same_stamp_are_never_returned(tmp_path: Path) -> None:
    """Even if size and time lie, a byte that is no base does not pass as one."""
    genome = open_bytes(tmp_path, EVEN)
    stamp = os.stat(genome.path)
    Path(genome.path).write_bytes(EVEN.replace(b">c5", b"ACGT").ljust(len(EVEN), b"!")[: len(EVEN)][::-1])
    os.utime(genome.path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with pytest.raises(InputError, match="changed during the run"):
        genome.read_bases(5, 0, 5003)


def test_C04_full_disk_while_spooling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("annotator.genome.spool.os.fsync", full)
    with pytest.raises(ResourceFault, match="bases.bin: cannot write the bases: No space left on device") as caught:
        open_bytes(tmp_path, gzip.compress(EVEN))
    assert caught.value.exit_code == 6
    assert list((tmp_path / "spool").iterdir()) == []


def test_C04_spool_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file")
    with pytest.raises(ResourceFault, match="cannot write the bases"):
        open_bytes(tmp_path, UNEVEN)


def test_real_genome_reads_as_htslib_reads_it(data_pack: Path, tmp_path: Path) -> None:
    path = data_pack / "scerevisiae" / "scerevisiae.cross.fa.gz"
    if not path.exists():
        pytest.skip("no yeast genome in the data pack")
    genome = open_genome(path, tmp_path / "s", DEFAULT)
    with pysam.FastxFile(str(path)) as records:
        expected = {record.name: record.sequence.upper() for record in records}
    assert genome.contigs.names == list(expected)
    for contig, sequence in enumerate(expected.values()):
        assert genome.read_bases(contig, 0, len(sequence)).tobytes().decode() == sequence
