"""`annotator example`: a small synthetic assembly with genes at known places.

Nothing here is a real genome, and every FASTA record says so. Sequence, site and length statistics are those of the human
train split (see benchmarks/make_example_statistics.py); the layout is chosen, not measured: 4 contigs, either strand with even
odds, 3 to 12 kb between genes, introns of up to 5 kb (longer ones are left out, so that 1 Mb holds some 40 genes), one
transcript a gene. Within 1 kb of a transcription start every base outside the coding sequence and the splice sites follows the
promoter statistics. Order-4 chains know no repeats, enhancers or splicing regulators: how well a model does here says little
about real genomes.

Coordinates: 0-based; within a gene in transcript order from 1 kb before its transcription start.
"""

from __future__ import annotations

import filecmp
import gzip
import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotator.errors import UsageError
from annotator.example.chains import (
    ACCEPTOR_EXON_BP,
    ACCEPTOR_INTRON_BP,
    CODING,
    DONOR_EXON_BP,
    DONOR_INTRON_BP,
    INTERGENIC,
    INTRON,
    PROMOTER_BP,
    UTR,
    Statistics,
    Uniforms,
)
from annotator.files import atomic_files, write_faults
from annotator.kinds import Strand

FASTA_NAME = "example.fa.gz"
TRUTH_NAME = "example.truth.bed.gz"
SHORTEST_BP = 100_000

_CONTIG_SHARES = (0.4, 0.3, 0.2, 0.1)
_LINE_BP = 60
_BGZF_BLOCK_BYTES = 0xFF00
_GAP_BP = (3_000, 12_000)
_N_RUN_BP = 500
_MASKED_SHARE, _MASKED_STRETCH_BP = 0.4, (100, 900)
_CUT_REACH_BP = 12
_SHORTEST_CODING_BP = 150
_ATG = [0, 3, 2]
_BASES = np.frombuffer(b"ACGT", np.uint8)


@dataclass(frozen=True)
class ExampleFiles:
    """The files that were written and what is in them; iterating gives the two paths.

    Attributes:
        fasta: The assembly, BGZF.
        truth: Its sites, BED6, gzip.
        contigs: Number of contigs.
        bases: Length of all contigs together.
        genes: Number of genes, each with one tss.
        introns: Number of introns, each with one donor and one acceptor.
    """

    fasta: Path
    truth: Path
    contigs: int
    bases: int
    genes: int
    introns: int

    def __iter__(self) -> Iterator[Path]:
        """The paths."""
        yield from (self.fasta, self.truth)


@dataclass(frozen=True)
class _Gene:
    """1 kb of upstream sequence and a transcribed gene, in transcript order: its bases and its sites as (offset, kind)."""

    bases: list[int]
    sites: list[tuple[int, str]]


@dataclass(frozen=True)
class _Contig:
    name: str
    letters: NDArray[np.uint8]
    sites: list[tuple[int, str, str]]  # position, kind, strand


def write_example(folder: Path, *, seed: int = 1, length_bp: int = 1_000_000) -> ExampleFiles:
    """Write the synthetic assembly and its truth; the same seed and length give the same bytes.

    Args:
        folder: Folder for the two files; it is made where absent.
        seed: Seed of everything random.
        length_bp: Bases of all contigs together, at least SHORTEST_BP.

    Returns:
        The two files and what is in them.

    Raises:
        UsageError: The length is too small, or another file of that name is already there (it is left as it is).
        ResourceFault: Writing failed; no file of the final name is left behind half-written.
    """
    if length_bp < SHORTEST_BP:
        raise UsageError(f"an example of {length_bp} bp is too short for genes; the shortest is {SHORTEST_BP} bp")
    contigs = _draw_contigs(seed, length_bp)
    fasta, truth = folder / FASTA_NAME, folder / TRUTH_NAME
    if any(path.exists() and not path.is_dir() for path in (folder, *folder.parents)):
        raise UsageError(f"{folder}: not a folder")
    with write_faults(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with atomic_files([fasta, truth]) as (new_fasta, new_truth):
        _write_fasta(new_fasta, contigs, seed)
        _write_truth(new_truth, contigs)
        for new, old in ((new_fasta, fasta), (new_truth, truth)):
            if old.exists() and not filecmp.cmp(new, old, shallow=False):
                raise UsageError(f"{old} exists and is not this example (seed {seed}, {length_bp} bp); move it away first")
    kinds = [kind for contig in contigs for _, kind, _ in contig.sites]
    bases = sum(len(contig.letters) for contig in contigs)
    return ExampleFiles(fasta, truth, len(contigs), bases, kinds.count("tss"), kinds.count("donor"))


def _draw_contigs(seed: int, length_bp: int) -> list[_Contig]:
    """The assembly; the last contig looks like a draft: soft-masked stretches and a run of N between two genes."""
    statistics, uniforms = Statistics.load(), Uniforms(seed)
    shares = _CONTIG_SHARES if length_bp >= 200_000 else (1.0,)
    ends = [round(length_bp * share) for share in np.cumsum(shares)]
    contigs = []
    for number, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True), 1):
        codes, sites, gaps = _draw_contig(end - start, statistics, uniforms)
        letters = _BASES[codes].copy()
        if number == len(shares):
            _mask(letters, uniforms)
            widest = max(gaps, key=lambda gap: gap[1] - gap[0])
            middle = (widest[0] + widest[1] - _N_RUN_BP) // 2
            letters[middle : middle + _N_RUN_BP] = ord("N")
        contigs.append(_Contig(f"synthetic_{number}", letters, sorted(sites)))
    return contigs


def _draw_contig(
    length: int, statistics: Statistics, uniforms: Uniforms
) -> tuple[list[int], list[tuple[int, str, str]], list[tuple[int, int]]]:
    """Bases, sites and the gaps between genes of one contig."""
    bases: list[int] = []
    sites: list[tuple[int, str, str]] = []
    gaps: list[tuple[int, int]] = []
    while True:
        gap = uniforms.whole(*_GAP_BP)
        gene = _draw_gene(statistics, uniforms)
        room = length - len(bases) - gap - _GAP_BP[0]
        tries = 0
        while len(gene.bases) > room and tries < 20:  # the last genes of a contig are small ones
            gene, tries = _draw_gene(statistics, uniforms), tries + 1
        fits = len(gene.bases) <= room
        gap = gap if fits else length - len(bases)
        gaps.append((len(bases), len(bases) + gap))
        bases += statistics.draw_bases([INTERGENIC] * gap, bases, uniforms)
        if not fits:
            return bases, sites, gaps
        start, end = len(bases), len(bases) + len(gene.bases)
        if uniforms.one() < 0.5:
            bases += gene.bases
            sites += [(start + offset, kind, Strand.PLUS.symbol) for offset, kind in gene.sites]
        else:
            bases += [3 - base for base in reversed(gene.bases)]
            sites += [(end - 1 - offset, kind, Strand.MINUS.symbol) for offset, kind in gene.sites]


def _draw_gene(statistics: Statistics, uniforms: Uniforms) -> _Gene:
    """Draw the parts, then the upstream bases, the spliced transcript, and last the introns that fit its junctions."""
    exons, utr5, utr3 = _draw_structure(statistics, uniforms)
    introns = [statistics.draw_length("intron", uniforms) for _ in exons[1:]]
    promoter = statistics.draw_promoter_labels(uniforms)
    upstream = statistics.draw_bases(promoter[:PROMOTER_BP], [], uniforms)

    total = sum(exons)
    labels = np.full(total, UTR)
    ends = np.cumsum(exons)
    shift = np.concatenate([[0], np.cumsum(introns)])[np.searchsorted(ends, np.arange(total), side="right")]
    offsets = np.arange(total) + shift.astype(np.int64)
    near = offsets < PROMOTER_BP
    labels[near] = promoter[PROMOTER_BP + offsets[near]]
    coding = np.arange(utr5 + 3, total - utr3 - 3)
    labels[coding] = CODING + (coding - utr5) % 3
    spliced = statistics.draw_bases(labels[:utr5], upstream, uniforms)
    spliced += _ATG
    spliced += statistics.draw_bases(labels[coding], upstream + spliced, uniforms)
    spliced += statistics.draw_stop_codon(uniforms)
    spliced += statistics.draw_bases(labels[total - utr3 :], spliced, uniforms)

    bases, sites, previous = list(upstream), [(PROMOTER_BP, "tss")], 0
    for end, intron in zip(ends[:-1].tolist(), introns, strict=True):
        cut = _choose_cut(spliced, end, statistics, uniforms)
        bases += spliced[previous:cut]
        sites.append((len(bases) - 1, "donor"))
        bases += _draw_intron(bases, spliced[cut], intron, promoter, statistics, uniforms)
        sites.append((len(bases), "acceptor"))
        previous = cut
    return _Gene(bases + spliced[previous:], sites)


def _draw_structure(statistics: Statistics, uniforms: Uniforms) -> tuple[list[int], int, int]:
    """Exon lengths, and the lengths of the untranslated ends; the coding sequence ends in the last exon."""
    while True:
        count = statistics.draw_length("exons", uniforms)
        exons = [statistics.draw_length("internal_exon", uniforms) for _ in range(count)]
        if count > 1:
            exons[0] = statistics.draw_length("first_exon", uniforms)
        exons[-1] = statistics.draw_length("terminal_exon", uniforms)
        utr5, utr3 = (statistics.draw_length(name, uniforms) for name in ("utr5", "utr3"))
        coding = sum(exons) - utr5 - utr3
        if utr3 + _CUT_REACH_BP < exons[-1] and coding >= _SHORTEST_CODING_BP:
            return exons, utr5 + coding % 3, utr3


def _choose_cut(spliced: list[int], end: int, statistics: Statistics, uniforms: Uniforms) -> int:
    """The place of an intron near a junction, drawn so that the exon bases around it look like those of real splice sites."""
    places = range(end - _CUT_REACH_BP, end + _CUT_REACH_BP + 1)
    odds = [statistics.junction_odds(spliced[place - DONOR_EXON_BP : place + ACCEPTOR_EXON_BP]) for place in places]
    return places[uniforms.pick(odds)]


def _draw_intron(
    before: list[int], exon_base: int, length: int, promoter: NDArray[np.int64], statistics: Statistics, uniforms: Uniforms
) -> list[int]:
    """Bases of an intron between what comes before it and the first base of the next exon."""
    donor = statistics.draw_donor(before[-1], uniforms)
    acceptor = statistics.draw_acceptor(exon_base, uniforms)
    labels = np.full(length - DONOR_INTRON_BP - ACCEPTOR_INTRON_BP, INTRON)
    place = len(before) + len(donor)  # counts from -PROMOTER_BP, as the promoter's labels do
    near = promoter[place : place + len(labels)]
    labels[: len(near)] = near
    return donor + statistics.draw_bases(labels, donor, uniforms) + acceptor


def _mask(letters: NDArray[np.uint8], uniforms: Uniforms) -> None:
    """Turn stretches into lower case, as a repeat masker does; they lie anywhere, genes included."""
    place = 0
    while place < len(letters):
        stretch = uniforms.whole(*_MASKED_STRETCH_BP)
        if uniforms.one() < _MASKED_SHARE:
            letters[place : place + stretch] += ord("a") - ord("A")
        place += stretch


def _write_fasta(path: Path, contigs: list[_Contig], seed: int) -> None:
    parts = []
    for contig in contigs:
        label = f"SYNTHETIC sequence, not a real genome (genome-annotator example, seed {seed})"
        parts.append(f">{contig.name} {label}\n".encode())
        raw = contig.letters.tobytes()
        parts += [raw[i : i + _LINE_BP] + b"\n" for i in range(0, len(raw), _LINE_BP)]
    text = b"".join(parts)
    blocks = [_bgzf_block(text[i : i + _BGZF_BLOCK_BYTES]) for i in range(0, len(text), _BGZF_BLOCK_BYTES)]
    path.write_bytes(b"".join([*blocks, _bgzf_block(b"")]))  # an empty block ends a BGZF file


def _bgzf_block(plain: bytes) -> bytes:
    """A gzip member that tells its own size (SAM specification 4.1); pysam would not say why writing one failed."""
    deflate = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = deflate.compress(plain) + deflate.flush()
    head = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0" + struct.pack("<H", len(body) + 25)
    return head + body + struct.pack("<II", zlib.crc32(plain), len(plain))


def _write_truth(path: Path, contigs: list[_Contig]) -> None:
    text = io.StringIO()
    for contig in contigs:
        for position, kind, strand in contig.sites:
            text.write(f"{contig.name}\t{position}\t{position + 1}\t{kind}\t0\t{strand}\n")
    path.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))
