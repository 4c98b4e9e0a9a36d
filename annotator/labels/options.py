"""Labelled genomes on disk; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from annotator.checks import check_count, check_positive


@dataclass(frozen=True)
class Organism:
    """A labelled genome on disk.

    Attributes:
        name: For logs and the manifest.
        clade: One of the clades of the command line.
        fasta: Assembly.
        truth: Its sites: BED lines named donor, acceptor or tss, or GTF/GFF3 exons; None where only features are learnt.
        mask: BED of sites that are neither truth nor error.
        trim_bp: Up to this much is hidden at random at each contig end.
        weight: Share of the windows.
        max_bp: Use only the first so many bases; 0 for all.
        gene_centred: Loci cut around genes, which flatter precision: never the base of another clade's thresholds.
        accept_annotation: Go on even where fewer than half of the truth's introns have splice signals in this genome.
    """

    name: str
    clade: str
    fasta: Path
    truth: Path | None
    mask: Path | None = None
    trim_bp: int = 0
    weight: float = 1.0
    max_bp: int = 0
    gene_centred: bool = False
    accept_annotation: bool = False

    def __post_init__(self) -> None:
        """Refuse impossible values.

        Raises:
            UsageError: A value is wrong; the message names the field.
        """
        check_count("trim_bp", self.trim_bp)
        check_count("max_bp", self.max_bp)
        check_positive("weight", self.weight)
