"""Setting even lines apart never changes what a scan finds, nor what it says of a bad file."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotator.errors import InputError
from annotator.genome import even_lines
from annotator.genome.even_lines import EvenLines, EvenRun, even_pieces
from annotator.genome.options import GenomeOptions
from annotator.genome.scanner import FastaScanner, ScanResult

ODD = [
    "\n",
    "\r",
    "\r\n",
    " ",
    "\t",
    "\x1a",
    ">",
    "-",
    "R",
    "u",
    "x",
    "E",
    "1",
    "\xff",
    "\x00",
    "NNN",
    "nN",
    "aCgT",
    ">c\n",
    "\n>c\n",
]


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """FASTA text of mostly even lines, with something odd put in here and there."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    end = draw(st.sampled_from(["\n", "\n", "\n", "\r\n"]))
    parts = []
    for contig in range(draw(st.integers(1, 4))):
        width, bases = draw(st.integers(1, 9)), draw(st.integers(0, 120))
        letters = rng.choice(list("ACGTacgtNn"), bases, p=[0.14] * 4 + [0.05] * 4 + [0.2, 0.04])
        lines = ["".join(letters[start : start + width]) for start in range(0, bases, width)]
        parts.append(end.join([f">c{contig} text", *lines]) + end)
    text = "".join(parts)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        kind = draw(st.integers(0, 2))
        text = text[:at] + (draw(st.sampled_from(ODD)) if kind else "") + text[at + (kind != 1) :]
    return text.encode("latin-1")


def outcome(text: bytes, pieces: Iterator[list[even_lines.Piece]], options: GenomeOptions, spooled: list[bytes]) -> object:
    """Everything that a scan finds, or what it says."""
    scanner = FastaScanner("g.fa", options, spooled.append)
    try:
        for block in pieces:
            for piece in block:
                scanner.feed(piece) if isinstance(piece, bytes) else scanner.feed_even(piece)
        found: ScanResult = scanner.finish()
    except InputError as error:
        return str(error)
    table, layout = found.contigs, found.layout
    counts = [
        getattr(table, kind).tolist() for kind in ("lengths", "n", "iupac_as_n", "u_as_t", "gap_as_n", "lower_case", "mask_as_n")
    ]
    where = layout and (layout.offsets.tolist(), layout.line_bases.tolist(), layout.line_bytes.tolist())
    return table.names, counts, where, found.n_runs, found.longest_n_run_bp, found.warnings, b"".join(spooled)


@settings(max_examples=300, deadline=None)
@given(
    text=texts(), cuts=st.lists(st.integers(0, 600), max_size=5), least=st.sampled_from([1, 20, 60]), ahead=st.booleans(),
    options=st.sampled_from([GenomeOptions(), GenomeOptions(gaps_as_n=True), GenomeOptions(mask_chars="xN")]),
)  # fmt: skip
def test_the_same_findings_and_the_same_words(
    text: bytes, cuts: list[int], least: int, ahead: bool, options: GenomeOptions
) -> None:
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    blocks = [text[a:b] for a, b in zip(bounds[:-1], bounds[1:], strict=True) if a < b]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(even_lines, "LEAST_BYTES", least)
        pieces = list(even_pieces(iter(blocks), with_bases=True, ahead=ahead))
    joined = b"".join(piece if isinstance(piece, bytes) else piece.data for block in pieces for piece in block)
    assert joined == text
    assert outcome(text, iter(pieces), options, []) == outcome(text, iter([[text]]), options, [])


def test_most_of_a_plain_file_is_even() -> None:
    """Otherwise the property above would say little."""
    rng = np.random.default_rng(1)
    lines = [bytes(rng.choice(list(b"ACGTacgtN"), 60).astype(np.uint8)) for _ in range(5000)]
    text = b">chr1 x\n" + b"\n".join(lines) + b"\nACG\n>chr2\n" + b"\n".join(lines[:3000]) + b"\n"
    pieces = [piece for block in even_pieces(iter([text[:100_001], text[100_001:]])) for piece in block]
    even = [piece for piece in pieces if isinstance(piece, EvenLines)]
    assert sum(piece.lines for piece in even) >= 7990 and len(pieces) <= 8
    assert sum(piece.n for piece in even) == sum(piece.data.count(b"N") for piece in even) > 40_000
    assert sum(piece.lower_case for piece in even) == sum(map(piece_lower, even))


def test_a_contig_on_one_line_is_a_run_wherever_blocks_are_cut() -> None:
    rng = np.random.default_rng(2)
    one, other = (bytes(rng.choice(list(b"ACGTacgtN"), 300_000).astype(np.uint8)) for _ in range(2))
    text = b">chr1 x\n" + one + b"\n>chr2\r\n" + other + b"\r\n"
    blocks = [text[:150_000], text[150_000:250_000], text[250_000:400_000], text[400_000:]]
    pieces = [piece for block in even_pieces(iter(blocks), with_bases=True) for piece in block]
    runs = [piece for piece in pieces if isinstance(piece, EvenRun)]
    assert sum(len(run.data) for run in runs) == 600_000
    assert b"".join(run.bases for run in runs) == (one + other).upper()
    assert sum(run.n for run in runs) == text.count(b"N")
    spooled: list[bytes] = []
    ours = outcome(text, iter([pieces]), GenomeOptions(), spooled)
    assert ours == outcome(text, iter([[text]]), GenomeOptions(), [])
    assert isinstance(ours, tuple) and ours[1][0] == [300_000, 300_000] and ours[2] is not None


def piece_lower(piece: EvenLines) -> int:
    return sum(piece.data.count(letter) for letter in b"acgtn")


@pytest.mark.parametrize("ahead", [True, False])
def test_what_the_file_raises_comes_after_what_it_gave(ahead: bool) -> None:
    def damaged() -> Iterator[bytes]:
        for number in range(9):
            yield f">c{number}\nACGT\nAC".encode()
        raise InputError("damaged")

    given_out = []
    with pytest.raises(InputError, match="damaged"):
        for block in even_pieces(damaged(), ahead=ahead):
            given_out += block
    assert b"".join(given_out).count(b">") == 9 and given_out[-1].endswith(b"AC")


def test_without_looking_ahead_a_block_is_given_before_the_next_is_asked_for() -> None:
    asked = []

    def blocks() -> Iterator[bytes]:
        for number in range(4):
            asked.append(number)
            yield b"ACGT\n"

    for number, _ in enumerate(even_pieces(blocks(), ahead=False)):
        assert len(asked) == number + 1
