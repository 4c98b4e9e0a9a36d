"""Labelled genomes on disk; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from annotator.checks import check_choice, check_count, check_positive
from annotator.errors import UsageError
from annotator.kinds import LABEL_TRACKS


@dataclass(frozen=True)
class Organism:
    """A labelled genome on disk.

    Attributes:
        name: For logs and the manifest.
        clade: One of the clades of the command line.
        fasta: Assembly.
        truth: Its sites: BED lines named donor, acceptor or tss, or GTF/GFF3 exons; None where only features are learnt, or only
            from a teacher.
        mask: BED of sites that are neither truth nor error.
        trim_bp: Up to this much is hidden at random at each contig end.
        weight: Share of the windows; of a validation genome, the weight of each of its calls and sites in calibration.
        max_bp: Use only the first so many bases; 0 for all.
        gene_centred: Loci cut around genes, which flatter precision: never the base of another clade's thresholds.
        accept_annotation: Go on even where fewer than half of the truth's introns have splice signals in this genome.
        teacher: Parquet files of another model's predictions on this genome, whose mean is learnt from beside the truth; alone
            where there is none, as for sequence that was changed.
        learn: The kinds of site that count, some of `LABEL_TRACKS`; empty for all that the truth has. A kind of which the truth
            knows only a part is left out here.
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
    teacher: tuple[Path, ...] = ()
    learn: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse impossible values.

        Raises:
            UsageError: A value is wrong; the message names the field.
        """
        check_count("trim_bp", self.trim_bp)
        check_count("max_bp", self.max_bp)
        check_positive("weight", self.weight)
        for kind in self.learn:
            check_choice("learn", kind, LABEL_TRACKS)

    @property
    def files(self) -> dict[str, tuple[Path, ...]]:
        """Its files by field; none for a field that is empty."""
        single = {"fasta": self.fasta, "truth": self.truth, "mask": self.mask}
        return {name: (path,) if path else () for name, path in single.items()} | {"teacher": self.teacher}


@dataclass(frozen=True)
class PromoterWindows:
    """Tables of short windows on disk, each of them a promoter, whose TSS lies at a known base of it, or none.

    Attributes:
        name: For logs and the manifest.
        clade: One of the clades of the command line.
        tables: Tables of the columns `sequence` and `label` (1: a promoter, 0: none), windows in reading direction.
        tss_index: Where the TSS of a promoter lies in its window, 0-based.
        left_out: TSV with the columns table, row and split, of rows that are never learnt from. Rows are counted from 1 below a
            table's header, and tables are named from the folder of this file.
        weight: Share of the windows.
    """

    name: str
    clade: str
    tables: tuple[Path, ...]
    tss_index: int
    left_out: Path | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse impossible values.

        Raises:
            UsageError: A value is wrong; the message names the field.
        """
        if not self.tables:
            raise UsageError("give at least one table", "tables")
        check_count("tss_index", self.tss_index)
        check_positive("weight", self.weight)

    @property
    def files(self) -> dict[str, tuple[Path, ...]]:
        """Its files by field; none for a field that is empty."""
        return {"tables": self.tables, "left_out": (self.left_out,) if self.left_out else ()}
