"""A run whose contigs, motifs and genes have names that would be markup, if a page let them."""

from __future__ import annotations

from pathlib import Path

from tests.support.detector import ACCEPTOR, DONOR, TSS
from tests.support.runs import annotate, plant, random_bases, revcomp, write_fasta

EVIL = "<img/src=q/onerror=alert(1)>"
CONTIGS = {"chr1": 6000, EVIL: 3000, "HLA-A*01:01": 1500, "b'\"&c": 900, "one": 1}
MOTIF = "<script>alert(2)</script>"
GENE = "</script><script>alert(3)</script>"


def write_genome(path: Path) -> Path:
    """A genome with planted donors, acceptors and transcription starts on both strands, and runs of N."""
    words = [DONOR, ACCEPTOR, TSS]
    words += [revcomp(word) for word in words]
    records = {}
    for seed, (name, length) in enumerate(CONTIGS.items()):
        text = random_bases(length, seed)
        for number, at in enumerate(range(30, length - 400, 97)):
            text = plant(text, words[number % 6], at)
        records[name] = text if length < 1500 else text[:1000] + "N" * 37 + text[1037:]
    return write_fasta(path, records)


def write_motifs(path: Path) -> Path:
    """One motif in the format of JASPAR: the donor's word."""
    rows = "\n".join(f"{base} [ {' '.join('90' if letter == base else '2' for letter in DONOR)} ]" for base in "ACGT")
    path.write_text(f">MA9999.1\t{MOTIF}\n{rows}\n")
    return path


def write_genes(path: Path) -> Path:
    """A GFF3 of two genes of two exons each: the first with the intron between the first donor and acceptor of chr1."""
    rows = ["##gff-version 3"]
    for name, strand, spans in ((GENE, "+", ((1, 33), (129, 400))), ("plain", "-", ((2001, 2100), (2301, 2400)))):
        gene = "".join(letter for letter in name if letter.isalnum())
        escaped = "".join(f"%{ord(letter):02X}" if letter in "<>;=&,/" else letter for letter in name)
        ends = f"{spans[0][0]}\t{spans[-1][1]}"
        rows.append(f"chr1\ttest\tgene\t{ends}\t.\t{strand}\t.\tID={gene};Name={escaped}")
        rows.append(f"chr1\ttest\tmRNA\t{ends}\t.\t{strand}\t.\tID={gene}.1;Parent={gene}")
        rows += [f"chr1\ttest\texon\t{a}\t{b}\t.\t{strand}\t.\tParent={gene}.1" for a, b in spans]
    path.write_text("\n".join(rows) + "\n")
    return path


def write_run(folder: Path, model: Path, *more: object) -> tuple[Path, Path]:
    """Annotate the genome; the results folder and the FASTA."""
    fasta, motifs = write_genome(folder / "g.fa"), write_motifs(folder / "m.jaspar")
    given = ["--motifs", motifs, "--tasks", "promoter,splice,tfbs", "--tfbs-pvalue", "1e-3", "--device", "cpu", "--model", model]
    assert annotate(fasta, "-o", folder / "results", *given, *more) == 0
    return folder / "results", fasta
