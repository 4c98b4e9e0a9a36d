"""What was read of an annotation, and what was left out of it and why: counts for JSON, and the same in words for the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

MAX_INTRON_BP = 2_000_000
"""A longer gap between exons is cut: two loci under one name. The longest introns known of human genes are 1.2 Mb long."""
MIN_INTRON_BP = 30
"""Shorter gaps between exons are taken for annotation artefacts (frame repairs, indels): the shortest introns that are known
to be spliced by a spliceosome in animals, plants and fungi are longer."""
UNSIGNALLED_BP = 100_000
"""A longer gap between exons is cut where its ends are not those of an intron."""

LEFT_OUT: Mapping[str, tuple[str, str]] = {
    "unknown_contig": ("line", "on contigs that the FASTA lacks"),
    "bad_line": ("line", "that cannot be used"),
    "beyond_contig": ("line", "that end beyond their contig (a circular contig? another assembly?)"),
    "across_origin": ("line", "of features across the origin of a circular contig"),
    "no_owner": ("exon line", "of no transcript and no gene"),
    "alignment": ("line", "of alignments (cDNA_match and the like), which are no transcripts"),
    "incomplete": ("transcript", "with an exon that cannot be used"),
    "unstranded": ("transcript", "without a strand"),
    "mixed_strands": ("transcript", "with exons on more than one strand, each strand taken by itself"),
    "trans_spliced": ("transcript", "said to be trans-spliced"),
    "isoforms_of_gene": ("gene", "whose overlapping exons hang on the gene itself, so that its isoforms cannot be told apart"),
    "several_loci": ("gap", "between several loci or genes under one transcript name"),
    "long_gaps": ("gap", f"of more than {MAX_INTRON_BP:,} bp between exons of one name"),
    "copies": ("gap", "between copies of a transcript under one name"),
    "gaps_of_genes": ("gap", "without splice signals between exons that hang on a gene or have no transcript of their own"),
    "long_unsignalled": ("gap", f"of more than {UNSIGNALLED_BP:,} bp without splice signals"),
    "short_introns": ("gap", f"between exons shorter than {MIN_INTRON_BP} bp"),
    "unstranded_sites": ("site", "without a strand"),
}
"""Reason of `Tally` -> what was left out, in the singular, and the rest of the sentence."""
REMARKS: Mapping[str, tuple[str, str]] = {
    "coding_only": ("transcript", "without exon lines: its exons are those of its CDS and UTR lines"),
    "overlapping_exons": ("transcript", "with exons that overlap, which were joined"),
    "header": ("line", "that names columns, passed over"),
}
"""Remark of `Tally` on what was read all the same -> its words."""
_EXAMPLES = 3


class Tally:
    """Counts by reason, with the first few examples of each."""

    def __init__(self, path: Path) -> None:
        """Start with nothing counted.

        Args:
            path: The file, for messages.
        """
        self.path = path
        self.counts: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}

    def add(self, reason: str, example: str = "", count: int = 1) -> None:
        """Count something.

        Args:
            reason: One of `LEFT_OUT` or `REMARKS`, or another name for what was read.
            example: What it is about, such as a line number or a name; the first few different ones are shown.
            count: How many.
        """
        if count:
            self.counts[reason] += count
            shown = self._examples.setdefault(reason, [])
            if example and len(shown) <= _EXAMPLES and example not in shown:
                shown.append(example)  # one more than is shown, to know that there are more

    def left_out(self) -> list[str]:
        """What was left out, one phrase a reason: "3 transcripts without a strand (t1, t2, t3)"."""
        return self._phrases(LEFT_OUT)

    def remarks(self) -> list[str]:
        """What else a reader should know, one phrase each."""
        return self._phrases(REMARKS)

    def _phrases(self, words: Mapping[str, tuple[str, str]]) -> list[str]:
        found = []
        for reason, (noun, rest) in words.items():
            if count := self.counts[reason]:
                shown = self._examples[reason]
                more = "; ..." if len(shown) > _EXAMPLES else ""
                examples = f" ({'; '.join(shown[:_EXAMPLES])}{more})" if shown else ""
                found.append(f"{count:,} {noun}{'s' if count > 1 else ''} {rest}{examples}")
        return found
