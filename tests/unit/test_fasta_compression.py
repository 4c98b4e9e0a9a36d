"""Compression: rows B01-B07 of the fault matrix, through the one door users come in by."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pysam
import pytest

from annotator.errors import InputError
from annotator.genome.bgzf import BgzfDecoder
from annotator.genome.compression import iter_gzip, sniff
from annotator.genome.options import GenomeOptions
from annotator.genome.source import Genome, open_genome

EOF_BLOCK = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
SEQUENCES = {
    name: "".join(random.Random(name).choices("ACGTN", k=length))
    for name, length in (("one", 30_011), ("two", 0), ("three", 150))
}


def fasta(width: int = 60) -> bytes:
    lines = []
    for name, sequence in SEQUENCES.items():
        lines += [f">{name} of three", *(sequence[start : start + width] for start in range(0, len(sequence), width))]
    return "\n".join(lines).encode() + b"\n"


def bgzf_block(data: bytes, extra: bytes = b"") -> bytes:
    """One BGZF block; `extra` are gzip subfields put before the BGZF one."""
    deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
    payload = deflater.compress(data) + deflater.flush()
    size = 12 + len(extra) + 6 + len(payload) + 8
    head = b"\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\xff" + struct.pack("<H", len(extra) + 6) + extra
    return head + b"BC\x02\x00" + struct.pack("<H", size - 1) + payload + struct.pack("<II", zlib.crc32(data), len(data))


def bgzf_blocks(data: bytes, block_bytes: int = 1000) -> list[bytes]:
    return [bgzf_block(data[start : start + block_bytes]) for start in range(0, len(data), block_bytes)]


def bgzf(data: bytes, block_bytes: int = 1000) -> bytes:
    return b"".join(bgzf_blocks(data, block_bytes)) + EOF_BLOCK


def open_bytes(folder: Path, data: bytes, options: GenomeOptions | None = None, name: str = "x.fa") -> Genome:
    path = folder / name
    path.write_bytes(data)
    return open_genome(path, folder / "spool", options or GenomeOptions())


def assert_same_genome(genome: Genome) -> None:
    assert genome.contigs.names == list(SEQUENCES)
    rng = random.Random(5)
    for contig, sequence in enumerate(SEQUENCES.values()):
        assert genome.contigs.lengths[contig] == len(sequence)
        spans = [sorted(rng.choices(range(len(sequence) + 1), k=2)) for _ in range(20)]
        for start, end in [(0, len(sequence)), *spans]:
            assert genome.read_bases(contig, start, end).tobytes().decode() == sequence[start:end]


def refusal(folder: Path, data: bytes, options: GenomeOptions | None = None) -> str:
    """The error; nothing may have been left behind."""
    with pytest.raises(InputError) as caught:
        open_bytes(folder, data, options)
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["x.fa"]
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"{folder / 'x.fa'}: ")
    return message


def test_B01_plain_gzip(tmp_path: Path) -> None:
    genome = open_bytes(tmp_path, gzip.compress(fasta()))
    assert genome.compression == "gzip"
    assert_same_genome(genome)
    assert (tmp_path / "spool" / "bases.bin").read_bytes().decode() == "".join(SEQUENCES.values())
    assert [path.name for path in (tmp_path / "spool").iterdir()] == ["bases.bin"]


@pytest.mark.parametrize("block_bytes", [1, 7, 61, 1000, 65_280])
def test_B02_bgzf(tmp_path: Path, block_bytes: int) -> None:
    genome = open_bytes(tmp_path, bgzf(fasta(), block_bytes))
    assert genome.compression == "bgzf"
    assert not (tmp_path / "spool").exists()
    assert_same_genome(genome)


def test_B02_bgzf_by_htslib_of_many_blocks(tmp_path: Path) -> None:
    sequence = np.random.default_rng(2).choice(np.frombuffer(b"ACGT", np.uint8), 700_000)
    lines = [sequence[start : start + 70].tobytes() for start in range(0, len(sequence), 70)]
    with pysam.BGZFile(str(tmp_path / "x.fa.gz"), "wb") as file:
        file.write(b">c\r\n" + b"\r\n".join(lines) + b"\r\n")
    genome = open_genome(tmp_path / "x.fa.gz", tmp_path / "spool", GenomeOptions())
    assert genome.compression == "bgzf" and not (tmp_path / "spool").exists()
    for start in range(0, len(sequence), 9973):
        end = min(start + 100_000, len(sequence))
        assert np.array_equal(genome.read_bases(0, start, end), sequence[start:end])
        assert np.array_equal(genome.read_bases(0, start, start + 5), sequence[start : start + 5])


def test_B02_bgzf_with_foreign_subfields_and_empty_blocks(tmp_path: Path) -> None:
    data = fasta()
    blocks = [
        bgzf_block(data[:500], b"XY\x03\x00abc"),
        EOF_BLOCK,
        bgzf_block(data[500:20_000]),
        bgzf_block(b""),
        bgzf_block(data[20_000:]),
    ]
    genome = open_bytes(tmp_path, b"".join(blocks) + EOF_BLOCK)
    assert genome.compression == "bgzf"
    assert_same_genome(genome)


def test_B02_uneven_lines_in_bgzf_are_spooled(tmp_path: Path) -> None:
    genome = open_bytes(
        tmp_path,
        bgzf(
            fasta()
            .replace(b"\n>three", b"\n\n>three")
            .replace(SEQUENCES["one"][-11:].encode(), b"\n" + SEQUENCES["one"][-11:].encode())
        ),
    )
    assert genome.compression == "bgzf"
    assert (tmp_path / "spool" / "bases.bin").exists()
    assert_same_genome(genome)


def test_B02_a_piece_of_very_many_blocks_is_decoded_in_order() -> None:
    blocks = [bgzf_block(b"%06d" % index) for index in range(500)]
    decoder = BgzfDecoder("x", eof_check=True)
    assert b"".join(decoder.decode(iter([b"".join(blocks) + EOF_BLOCK]))) == b"".join(b"%06d" % index for index in range(500))
    table = decoder.table()
    assert table.compressed.tolist() == np.cumsum([0, *map(len, blocks), len(EOF_BLOCK)]).tolist()
    assert table.decoded.tolist() == [*range(0, 3001, 6), 3000]


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.99])
def test_B03_truncated_gzip(tmp_path: Path, share: float) -> None:
    data = gzip.compress(fasta())
    size = max(3, int(share * len(data)))
    assert f"truncated gzip: the member at byte 0 is cut off at byte {size}" in refusal(tmp_path, data[:size])


def test_B03_gzip_cut_at_any_byte() -> None:
    data = gzip.compress(b">a\nACGT\n") + gzip.compress(b"ACGT\n")
    first = len(gzip.compress(b">a\nACGT\n"))
    for size in range(1, len(data)):
        if size == first:
            continue
        with pytest.raises(InputError, match=f"cut off at byte {size}$"):
            list(iter_gzip([data[:size]], "x"))


def test_B03_bgzf_cut_inside_a_block(tmp_path: Path) -> None:
    blocks = bgzf_blocks(fasta())
    data = b"".join(blocks[:5])
    for size in (1, 3, 4, 11, 17, 18, 100, len(blocks[5]) - 1):
        message = refusal(tmp_path, data + blocks[5][:size])
        assert f"truncated: the BGZF block at byte {len(data)} is cut off at byte {len(data) + size}" in message


@pytest.mark.parametrize("blocks_kept", [1, 5, 31])
def test_B04_bgzf_without_eof_block(tmp_path: Path, blocks_kept: int) -> None:
    data = b"".join(bgzf_blocks(fasta())[:blocks_kept])
    message = refusal(tmp_path, data)
    assert f"truncated (no BGZF EOF block at byte {len(data)})" in message and "`eof_check=False`" in message
    genome = open_bytes(tmp_path, data, GenomeOptions(eof_check=False))
    assert genome.warnings[-1] == f"{tmp_path / 'x.fa'}: no BGZF EOF block: the file may be truncated"


def test_B04_complete_file_without_eof_check_warns_of_nothing(tmp_path: Path) -> None:
    assert not [line for line in open_bytes(tmp_path, bgzf(fasta()), GenomeOptions(eof_check=False)).warnings if "EOF" in line]


def test_B05_every_flipped_bit_of_a_bgzf_file_is_found_or_harmless() -> None:
    """Flips in fields without meaning (time, flags of the maker) leave the data whole; no flip may change it."""
    text = b">a\nACGTNACGT\n>b\nGG\n"
    data = bgzf(text, 10)
    for byte in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[byte] ^= 1 << bit
            if sniff(bytes(damaged), "x") != "bgzf":
                continue
            try:
                decoded = b"".join(BgzfDecoder("x", eof_check=True).decode(iter([bytes(damaged)])))
            except InputError as error:
                assert "byte" in str(error)
            else:
                assert decoded == text


def test_B05_every_flipped_bit_of_a_gzip_file_is_found_or_harmless() -> None:
    text = b">a\nACGTNACGT\n>b\nGG\n"
    data = gzip.compress(text, mtime=0)
    for byte in range(2, len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[byte] ^= 1 << bit
            try:
                decoded = b"".join(iter_gzip([bytes(damaged)], "x"))
            except InputError as error:
                assert "byte" in str(error)
            else:
                assert decoded == text


def test_B05_bad_crc_names_the_block(tmp_path: Path) -> None:
    blocks = bgzf_blocks(fasta())
    offset = sum(map(len, blocks[:7]))
    damaged = bytearray(b"".join(blocks) + EOF_BLOCK)
    damaged[offset + len(blocks[7]) - 8] ^= 1
    assert f"damaged BGZF block at byte {offset}: wrong CRC" in refusal(tmp_path, bytes(damaged))


def test_B05_damaged_gzip_is_called_damaged_not_bad_fasta(tmp_path: Path) -> None:
    """Stored data with a changed letter inflates without complaint; only the CRC at the end tells."""
    data = gzip.compress(b">a\n" + b"ACGT" * 5000, compresslevel=0)
    damaged = data.replace(b"ACGTACGT", b"ACGTAC!T", 1)
    message = refusal(tmp_path, damaged)
    assert "damaged gzip data in the member at byte 0" in message and "incorrect data check" in message


@pytest.mark.parametrize("garbage", [b"\n", b"\x00\x01", b"\x00" * 512 + b"\n", b"ACGT", b"\x1f", b"\x1f\x8c\x08"])
def test_B05_trailing_garbage(tmp_path: Path, garbage: bytes) -> None:
    for data in (gzip.compress(fasta()), bgzf(fasta())):
        message = refusal(tmp_path, data + garbage)
        # A lone 1f may be the beginning of another member.
        words = "cut off" if garbage == b"\x1f" else "trailing garbage after the compressed data"
        nuls = len(garbage) - len(garbage.lstrip(b"\0"))
        assert words in message and f"at byte {len(data) + nuls}" in message


def test_B06_multi_member_gzip(tmp_path: Path) -> None:
    data = fasta()
    parts = [data[:10_000], b"", data[10_000:10_001], data[10_001:]]
    assert_same_genome(open_bytes(tmp_path, b"".join(gzip.compress(part) for part in parts)))


def test_B06_gzip_after_bgzf_and_bgzf_after_gzip(tmp_path: Path) -> None:
    data = fasta()
    for members in (bgzf(data[:20_000]) + gzip.compress(data[20_000:]), gzip.compress(data[:20_000]) + bgzf(data[20_000:])):
        genome = open_bytes(tmp_path, members)
        assert genome.compression == "gzip"
        assert_same_genome(genome)


def test_B06_gzip_in_any_pieces() -> None:
    data = gzip.compress(b">a\nAC\n") + gzip.compress(b"") + gzip.compress(b">b\nGT\n")
    for size in range(1, 18):
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        assert b"".join(iter_gzip(pieces, "x")) == b">a\nAC\n>b\nGT\n"


def test_B06_bgzf_in_any_pieces() -> None:
    data = bgzf(b">a\nAC\n>b\nGT\n", 5)
    for size in range(1, 60):
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        assert b"".join(BgzfDecoder("x", eof_check=True).decode(iter(pieces))) == b">a\nAC\n>b\nGT\n"


def test_B07_extension_lies(tmp_path: Path) -> None:
    assert open_bytes(tmp_path, gzip.compress(fasta()), name="x.fa").compression == "gzip"
    assert open_bytes(tmp_path, fasta(), name="x.fa.gz").compression == "plain"
    assert open_bytes(tmp_path, bgzf(fasta()), name="x.zip").compression == "bgzf"


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"PK\x03\x04....", "zip"),
        (b"\x28\xb5\x2f\xfd....", "zstd"),
        (bz2.compress(fasta()), "bzip2"),
        (lzma.compress(fasta()), "xz"),
        (struct.pack("<I", 0x1A412743) + bytes(12), "2bit"),
        (struct.pack(">I", 0x1A412743) + bytes(12), "2bit"),
        ("\ufeff>a\nAC\n".encode("utf-16-le"), "UTF-16"),
    ],
)
def test_B07_unsupported_formats_are_named(tmp_path: Path, data: bytes, name: str) -> None:
    assert name in refusal(tmp_path, data)


def test_gzip_of_a_high_ratio_comes_in_bounded_pieces() -> None:
    data = gzip.compress(bytes(64 << 20))
    sizes = [len(piece) for piece in iter_gzip([data], "x")]
    assert sum(sizes) == 64 << 20 and max(sizes) <= 4 << 20
