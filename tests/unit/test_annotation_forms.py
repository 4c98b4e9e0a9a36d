"""Forms of GTF and GFF that annotation comes in: exons joined by gene and transcript, and everything else counted by reason."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from annotator.errors import InputError
from annotator.labels.check import report_on
from annotator.labels.signals import GenomeBases
from annotator.labels.sites import Sites, read_sites
from tests.support.annotations import CONTIG, GENES, LENGTH, Spans, exons_of, gtf, line, spliced_genome, strand_of

LENGTHS = {CONTIG: LENGTH, "plastid": 1000}


def read(folder: Path, text: str, name: str = "a.gtf", bases: GenomeBases | None = None) -> Sites:
    """Sites of annotation given as text."""
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return read_sites(path, LENGTHS, bases)


def introns(sites: Sites) -> list[tuple[int, int]]:
    """Start and end of the introns read."""
    return [(start, end) for _, start, end, _ in sites.introns.tolist()]


def lines(spans: Spans, attributes: str, strand: str = "+", kind: str = "exon", contig: str = CONTIG) -> str:
    """A line for each span."""
    return "".join(line(span, strand, attributes, kind=kind, contig=contig) for span in spans)


def owned(gene: str, transcript: str) -> str:
    """Attributes of GTF."""
    return f'gene_id "{gene}"; transcript_id "{transcript}";'


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> GenomeBases:
    """The genome of `spliced_genome`, followed by a plastid of A."""
    text = "".join(spliced_genome(tmp_path_factory.mktemp("genome") / "g.fa").read_text().splitlines()[1:]) + "A" * 1000
    ends = np.array([LENGTH, LENGTH + 1000])
    return GenomeBases(np.frombuffer(text.encode(), np.uint8), np.array([0, LENGTH]), ends)


A, B = [(100, 200), (300, 400)], [(5000, 5100), (5300, 5400)]
AB = [(200, 300), (5100, 5300)]


def test_G02_two_genes_with_one_transcript_name_are_two_transcripts(tmp_path: Path) -> None:
    sites = read(tmp_path, lines(A, owned("g1", "t")) + lines(B, owned("g2", "t")))
    assert introns(sites) == AB and sites.left_out == ()


def test_G02_a_gene_inside_the_gap_of_another_of_the_same_transcript_name_cuts_it(tmp_path: Path) -> None:
    outer = [A[0], B[0]]
    assert introns(read(tmp_path, lines(outer, owned("g1", "t")) + lines([(600, 700)], owned("g2", "u")))) == [(200, 5000)]
    sites = read(tmp_path, lines(outer, owned("g1", "t")) + lines([(600, 700)], owned("g2", "t")))
    assert introns(sites) == [] and sites.counts["several_loci"] == 1


@pytest.mark.parametrize(
    "more",
    [
        lines([(90, 410), (4900, 5500)], owned("g", "t"), kind="transcript"),
        lines([(90, 410), (4900, 5500)], 'gene_id "g";', kind="gene"),
    ],
)
def test_G02_lines_of_a_transcript_or_gene_at_two_places_cut_it(tmp_path: Path, more: str) -> None:
    for text in (more + lines(A + B, owned("g", "t")), lines(A + B, owned("g", "t")) + more):
        sites = read(tmp_path, text)
        assert introns(sites) == AB and sites.left_out == ("1 gap between several loci or genes under one transcript name (t)",)


@pytest.mark.parametrize(("strand", "numbers"), [("+", "1212"), ("-", "2121"), ("-", "1212")])
def test_G02_an_exon_number_that_starts_again_cuts_it(tmp_path: Path, strand: str, numbers: str) -> None:
    spans = zip(A + B, numbers, strict=True)
    sites = read(tmp_path, "".join(line(span, strand, f'{owned("g", "t")} exon_number "{n}";') for span, n in spans))
    assert introns(sites) == AB and sites.counts["several_loci"] == 1


@pytest.mark.parametrize("numbers", ["1234", "4321", "1423", "1111"])
def test_G02_exon_numbers_in_any_order_cut_nothing(tmp_path: Path, numbers: str) -> None:
    spans = zip(A + B, numbers, strict=True)
    sites = read(tmp_path, "".join(line(span, "-", f"{owned('g', 't')} exon_number {n};") for span, n in spans))
    assert introns(sites) == [(200, 300), (400, 5000), (5100, 5300)] and sites.left_out == ()


def test_G02_copies_that_overlap_are_parted_by_the_order_of_the_file(tmp_path: Path) -> None:
    first, second = [(100, 200), (900, 1000)], [(500, 600), (1300, 1400)]
    nested = [(100, 200), (900, 1000), (950, 1050), (1300, 1400)]
    assert introns(read(tmp_path, lines(nested, owned("g", "t")))) == [(200, 900), (1050, 1300)]
    assert introns(read(tmp_path, lines(first + second, owned("g", "t")))) == [(200, 500), (600, 900), (1000, 1300)]


def test_G02_a_gap_of_megabases_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.gtf"
    path.write_text(lines([(0, 100), (3_000_000, 3_000_100), (4_900_000, 4_900_100)], owned("g", "t")))
    sites = read_sites(path, {CONTIG: 5_000_000})
    assert introns(sites) == [(3_000_100, 4_900_000)]
    assert sites.left_out == ("1 gap of more than 2,000,000 bp between exons of one name (t)",)


def test_G02_the_parts_of_a_trans_spliced_gene_are_apart(tmp_path: Path) -> None:
    parts = lines([(90, 210), (4900, 5500)], "ID=gene-rps12", kind="gene")
    sites = read(tmp_path, "##gff-version 3\n" + parts + lines([A[0], *B], "Parent=gene-rps12"), "a.gff3")
    assert introns(sites) == [(5100, 5300)] and sites.counts["several_loci"] == 1
    said = read(tmp_path, lines([A[0], *B], "Parent=rna-rps12;exception=trans-splicing"), "b.gff3")
    assert introns(said) == [] and said.left_out == ("1 transcript said to be trans-spliced (rna-rps12)",)


def test_G02_one_id_of_two_genes_in_gff3_is_told_apart_by_where_its_lines_lie(tmp_path: Path) -> None:
    text = lines([(90, 410)], "ID=t;Parent=g1", kind="mRNA") + lines([(4900, 5500)], "ID=t;Parent=g2", kind="mRNA")
    text += lines([(90, 410)], "ID=g1", kind="gene") + lines([(4900, 5500)], "ID=g2", kind="gene")
    assert introns(read(tmp_path, text + lines(A + B, "Parent=t"), "a.gff3")) == AB


def test_G02_isoforms_hung_on_a_gene_invent_nothing(tmp_path: Path, bases: GenomeBases) -> None:
    gene = lines([(0, 9000)], "ID=g", kind="gene")
    overlapping = read(tmp_path, gene + lines([(100, 200), (150, 260), (300, 400)], "Parent=g"), "a.gff3")
    assert introns(overlapping) == [] and overlapping.counts["isoforms_of_gene"] == 1
    (one, two), (three, _) = exons_of(0), exons_of(2)
    text = gtf(range(2, GENES)) + lines([one, two, three], 'gene_id "g0";')  # the third is another isoform's
    sites = read(tmp_path, text, bases=bases)
    assert introns(sites) == [(exons_of(g)[0][1], exons_of(g)[1][0]) for g in [0, *range(2, GENES)]]
    assert sites.left_out == (
        "1 gap without splice signals between exons that hang on a gene or have no transcript of their own (g0)",
    )


@pytest.mark.parametrize("name", ["unknown_transcript_1", "unknown_transcript_12", ""])
def test_G01_placeholder_names_of_transcripts_join_nothing_of_two_genes(tmp_path: Path, name: str) -> None:
    text = "".join(line((at, at + 70), "+", owned(f"trn{at}", name)) for at in range(100, 9000, 700))
    sites = read(tmp_path, text)
    assert introns(sites) == [] and sites.counts["transcripts"] == sites.counts["single_exon"] == 13


def test_G04_everything_left_out_is_counted_by_its_reason(tmp_path: Path) -> None:
    text = (
        lines(A, owned("g", "good"))
        + lines(B, owned("h", "question"), "?")
        + lines([B[0]], owned("i", "both"))
        + lines([B[1]], owned("i", "both"), "-")
        + lines(B, "ID=m1", kind="cDNA_match")
        + lines(B, "ID=m2", kind="match_part")
        + lines([B[0]], 'note "nothing"')
        + lines([(6000, 6100), (6099, 6200)], owned("j", "overlap"))
        + lines([(7000, 7100), (7110, 7200)], owned("k", "short"))
    )
    sites = read(tmp_path, text)
    assert introns(sites) == [AB[0]]
    assert sites.left_out == (
        "1 exon line of no transcript and no gene (line 11)",
        "4 lines of alignments (cDNA_match and the like), which are no transcripts (cDNA_match; match_part)",
        "1 transcript without a strand (question)",
        "1 transcript with exons on more than one strand, each strand taken by itself (both)",
        "1 gap between exons shorter than 30 bp",
    )
    assert sites.remarks == ("1 transcript with exons that overlap, which were joined (overlap)",)


def test_G04_an_exon_of_the_other_strand_interrupts_a_gap(tmp_path: Path) -> None:
    text = lines([A[0]], owned("g", "t")) + lines([A[1]], owned("g", "t"), "-") + lines([B[0]], owned("g", "t"))
    sites = read(tmp_path, text)
    assert introns(sites) == [] and sites.counts["mixed_strands"] == 1


def test_G05_a_feature_across_the_origin_is_left_out(tmp_path: Path) -> None:
    region = "plastid\tx\tregion\t1\t1000\t.\t+\t.\tID=p;Is_circular=true\n"
    crossing = lines([(900, 1100)], "Parent=rna-x", contig="plastid")
    sites = read(tmp_path, "##gff-version 3\n" + region + crossing + lines(A, "Parent=t"), "a.gff3")
    assert introns(sites) == [AB[0]]
    assert sites.left_out == (
        '1 line of features across the origin of a circular contig (line 3: end 1100 lies beyond contig "plastid" of 1000 bp)',
        "1 transcript with an exon that cannot be used (rna-x)",
    )
    unsaid = read(tmp_path, crossing + lines(A, "Parent=t"), "b.gff3")
    assert introns(unsaid) == [AB[0]] and unsaid.counts["beyond_contig"] == 1


def test_G09_coding_parts_make_the_exons_where_there_are_no_exon_lines(tmp_path: Path) -> None:
    braker = "chr1\tAUGUSTUS\tgene\t101\t400\t.\t+\t.\tg1\nchr1\tAUGUSTUS\ttranscript\t101\t400\t.\t+\t.\tg1.t1\n"
    braker += lines(A, 'transcript_id "g1.t1"; gene_id "g1";', kind="CDS")
    braker += lines([(400, 403)], 'transcript_id "g1.t1"; gene_id "g1";', kind="stop_codon")
    sites = read(tmp_path, braker)
    assert introns(sites) == [AB[0]]
    assert sites.remarks == ("1 transcript without exon lines: its exons are those of its CDS and UTR lines (g1.t1)",)


def test_G09_phytozome_has_utr_and_coding_parts(tmp_path: Path) -> None:
    text = "##gff-version 3\n##annot-version v1\n" + lines([(50, 5400)], "ID=Potri.1;Name=Potri.1", kind="gene")
    text += lines([(50, 5400)], "ID=PAC:1;Name=Potri.1.1;pacid=1;longest=1;Parent=Potri.1", kind="mRNA")
    text += lines([(50, 100)], "ID=PAC:1.five_prime_UTR.1;Parent=PAC:1;pacid=1", kind="five_prime_UTR")
    text += lines([(100, 200), (300, 350)], "ID=PAC:1.CDS;Parent=PAC:1;pacid=1", kind="CDS")
    text += lines([(350, 400), (5000, 5400)], "ID=PAC:1.three_prime_UTR.1;Parent=PAC:1", kind="three_prime_UTR")
    assert introns(read(tmp_path, text, "a.gff3.gz")) == [(200, 300), (400, 5000)]


def test_G09_jgi_names_transcripts_in_its_own_way(tmp_path: Path) -> None:
    text = lines(A, 'name "fgenesh1_pg.1"; transcriptId 77') + lines(B, 'name "fgenesh1_pg.2"; transcriptId 78')
    text += lines(A, 'name "fgenesh1_pg.1"; proteinId 76; exonNumber 1', kind="CDS")
    for number, span in enumerate([(6000, 6100), (6200, 6300)], 1):
        text += line(span, "+", f'name "only_coding"; proteinId 79; exonNumber {number}', kind="CDS")
    assert introns(read(tmp_path, text, "a.gff")) == [*AB, (6100, 6200)]


def test_G09_coding_parts_add_nothing_where_there_are_exon_lines(tmp_path: Path) -> None:
    text = lines(A, owned("g", "t")) + lines([(100, 150), (180, 200), (300, 350)], owned("g", "t"), kind="CDS")
    assert introns(read(tmp_path, text)) == [AB[0]]
    genes = lines([(0, 500)], "ID=g", kind="gene") + lines([(0, 500)], "ID=t;Parent=g", kind="mRNA")
    text = genes + lines(A, "Parent=t") + lines([(100, 150), (250, 350)], "Parent=g", kind="CDS")
    assert introns(read(tmp_path, text, "a.gff3")) == [AB[0]]


def test_G09_genes_and_untranslated_parts_alone_are_refused(tmp_path: Path) -> None:
    text = lines([(0, 9000)], "ID=g", kind="gene") + lines([A[0], B[0]], "Parent=t", kind="five_prime_UTR")
    with pytest.raises(InputError, match="no exon features and no CDS"):
        read(tmp_path, text, "a.gff3")
    with pytest.raises(InputError, match="its 2 lines of alignments .* are no transcripts"):
        read(tmp_path, lines(A, "ID=m", kind="cDNA_match"), "a.gff3")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (f"{CONTIG}\tx\texon\t0\t50\t.\t+\t.\t{owned('b', 'bad')}\n", "0-50 is no 1-based closed span"),
        (f"{CONTIG}\tx\texon\t60\t50\t.\t+\t.\t{owned('b', 'bad')}\n", "60-50 is no 1-based closed span"),
        (f"{CONTIG}\tx\texon\t1e3\t2000\t.\t+\t.\t{owned('b', 'bad')}\n", '"1e3" and "2000" should be whole numbers'),
        (f"{CONTIG}\tx\texon\t1\t50\t.\tplus\t.\t{owned('b', 'bad')}\n", 'strand "plus" is none of'),
    ],
)
def test_G10_one_bad_line_costs_its_transcript_and_no_more(tmp_path: Path, bad: str, said: str) -> None:
    sites = read(tmp_path, lines(A, owned("g", "t")) + bad + lines([B[0], (8000, 8100)], owned("b", "bad")))
    assert introns(sites) == [AB[0]]
    line_said, transcript_said = sites.left_out
    assert line_said.startswith(f"1 line that cannot be used (line 3: {said}")
    assert transcript_said == "1 transcript with an exon that cannot be used (bad)"


def test_G10_more_bad_lines_than_good_ones_are_refused_by_the_first(tmp_path: Path) -> None:
    bad = f"{CONTIG}\tx\texon\t0\t50\t.\t+\t.\t{owned('b', 'bad')}\n"
    with pytest.raises(InputError, match="a.gtf line 3: 0-50 is no 1-based closed span"):
        read(tmp_path, lines(A, owned("g", "t")) + bad * 3)


def test_G03_signals_are_those_of_each_strand_and_n_is_not_held_against_a_file(tmp_path: Path, bases: GenomeBases) -> None:
    sites = read(tmp_path, gtf() + lines([(0, 100), (200, 300)], owned("p", "p"), contig="plastid"), bases=bases)
    hidden = bases.bases.copy()
    hidden[exons_of(0)[0][1]] = ord("N")
    report = report_on(tmp_path / "a.gtf", sites, GenomeBases(hidden, bases.starts, bases.ends))
    assert report.signals is not None
    assert dict(report.signals.counts) == {"GT-AG": GENES - 1, "GC-AG": 0, "AT-AC": 0, "other": 1, "unknown": 1}
    assert report.signals.canonical_share == pytest.approx((GENES - 1) / GENES)
    assert {strand_of(gene) for gene in range(GENES)} == {"+", "-"}


def test_G03_few_introns_are_no_reason_to_refuse(tmp_path: Path, bases: GenomeBases) -> None:
    for genes, refused in ((4, False), (5, True)):
        report = report_on(tmp_path / "a.gtf", read(tmp_path, gtf(range(genes), shift=(1, 1)), bases=bases), bases)
        if refused:
            with pytest.raises(InputError, match="only 0 % of 5 introns"):
                report.judge(accept=False)
        report.judge(accept=refused)
        report.judge(accept=False, refuse=False)
