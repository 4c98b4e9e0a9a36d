"""Reading BED, GTF and GFF3: coordinates, refusals, and agreement with the truth of real genomes."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from annotator.errors import InputError, UsageError
from annotator.kinds import LABEL_TRACKS, Strand
from annotator.labels.sites import Sites, read_sites
from annotator.labels.transcripts import read_transcripts

CONTIGS = {"chr1": 1000, "chr2": 500}

GTF = """\
#!genome-build toy
chr1\tx\ttranscript\t11\t300\t.\t+\t.\tgene_id "g"; transcript_id "t1";
chr1\tx\texon\t11\t100\t.\t+\t.\tgene_id "g"; transcript_id "t1"; note "b; c";
chr1\tx\texon\t201\t300\t.\t+\t.\tgene_id "g"; transcript_id "t1";
chr1\tx\texon\t401\t410\t.\t+\t.\tgene_id "g"; transcript_id "t1";
chr1\tx\tCDS\t20\t100\t.\t+\t.\tgene_id "g"; transcript_id "t1";
chr2\tx\texon\t301\t400\t.\t-\t.\tgene_id "h"; transcript_id "t2";
chr2\tx\texon\t1\t50\t.\t-\t.\tgene_id "h"; transcript_id "t2";
"""

EXPECTED = {
    (0, 99, "donor", 1), (0, 200, "acceptor", 1), (0, 299, "donor", 1), (0, 400, "acceptor", 1),
    (1, 300, "donor", -1), (1, 49, "acceptor", -1),
}  # fmt: skip


def as_set(sites: Sites) -> set[tuple[int, int, str, int]]:
    """The sites as tuples."""
    rows = zip(sites.contig.tolist(), sites.position.tolist(), sites.kind.tolist(), sites.strand.tolist(), strict=True)
    return {(contig, position, LABEL_TRACKS[kind], strand) for contig, position, kind, strand in rows}


def write(folder: Path, name: str, text: str) -> Path:
    """A file with that text, gzipped if its name says so."""
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["a.gtf", "a.gtf.gz", "unnamed"])
def test_gtf_exons_give_introns_on_both_strands(tmp_path: Path, name: str) -> None:
    sites = read_sites(write(tmp_path, name, GTF), CONTIGS)
    assert as_set(sites) == EXPECTED
    assert sites.counts == {
        "lines": 5, "unknown_contig": 0, "transcripts": 2, "introns": 3, "short_introns": 0, "unstranded": 0,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["a.gff3", "a.gff", "unnamed.gz"])
def test_gff3_says_the_same_with_shared_exons_counted_once(tmp_path: Path, name: str) -> None:
    lines = ["##gff-version 3", "chr1\tx\tmRNA\t11\t410\t.\t+\t.\tID=t1;Parent=g"]
    lines += [f"chr1\tx\texon\t{a}\t{b}\t.\t+\t.\tID=e{a};Parent=t1,t1b" for a, b in ((11, 100), (201, 300), (401, 410))]
    lines += [f"chr2\tx\texon\t{a}\t{b}\t.\t-\t.\tParent=t2" for a, b in ((1, 50), (301, 400))]
    lines += ["##FASTA", ">chr1", "ACGT"]
    sites = read_sites(write(tmp_path, name, "\r\n".join(lines)), CONTIGS)
    assert as_set(sites) == EXPECTED
    assert sites.counts["transcripts"] == 3
    assert sites.counts["introns"] == 3


def test_gff3_contig_names_are_unescaped(tmp_path: Path) -> None:
    text = "".join(f"a%2Cb\tx\texon\t{a}\t{b}\t.\t+\t.\tParent=t\n" for a, b in ((1, 10), (101, 110)))
    assert len(read_sites(write(tmp_path, "a.gff3", text), {"a,b": 200})) == 2


def test_transcription_starts_are_the_five_prime_ends(tmp_path: Path) -> None:
    sites = read_sites(write(tmp_path, "a.gtf", GTF), CONTIGS, transcript_tss=True)
    assert as_set(sites) - EXPECTED == {(0, 10, "tss", 1), (1, 399, "tss", -1)}


@pytest.mark.parametrize(("least", "introns", "short"), [(100, 3, 0), (101, 1, 2), (251, 0, 3)])
def test_short_introns_are_left_out_and_counted(tmp_path: Path, least: int, introns: int, short: int) -> None:
    sites = read_sites(write(tmp_path, "a.gtf", GTF), CONTIGS, min_intron_bp=least)
    assert (sites.counts["introns"], sites.counts["short_introns"]) == (introns, short)
    assert len(sites) == 2 * introns


def test_overlapping_and_touching_exons_make_no_intron(tmp_path: Path) -> None:
    spans = ((1, 50), (51, 80), (70, 90), (200, 210), (200, 210))
    text = "".join(f'chr1\tx\texon\t{a}\t{b}\t.\t+\t.\ttranscript_id "t";\n' for a, b in spans)
    (transcript,) = read_transcripts(write(tmp_path, "a.gtf", text), CONTIGS)
    assert transcript.exons.tolist() == [[0, 90], [199, 210]]
    assert transcript.introns.tolist() == [[90, 199]]


def test_transcripts_without_a_strand_are_counted(tmp_path: Path) -> None:
    sites = read_sites(write(tmp_path, "a.gtf", GTF.replace("\t-\t", "\t.\t")), CONTIGS)
    assert sites.counts["unstranded"] == 1
    assert as_set(sites) == {site for site in EXPECTED if site[3] > 0}


def test_bed_lines_are_sites(tmp_path: Path) -> None:
    lines = [f"{list(CONTIGS)[c]}\t{p}\t{p + 1}\t{kind}\t0\t{'+' if s > 0 else '-'}" for c, p, kind, s in sorted(EXPECTED)]
    sites = read_sites(write(tmp_path, "a.bed.gz", "\n".join(["#chrom", "track name=x", *lines, lines[0]])), CONTIGS)
    assert as_set(sites) == EXPECTED
    assert len(sites) == len(EXPECTED)
    assert sites.counts == {"lines": 7, "unknown_contig": 0}


def test_positions_by_contig_and_end_to_end(tmp_path: Path) -> None:
    sites = read_sites(write(tmp_path, "a.gtf", GTF), CONTIGS)
    assert {contig: found.tolist() for contig, found in sites.positions("donor", Strand.PLUS).items()} == {0: [99, 299]}
    assert {contig: found.tolist() for contig, found in sites.positions("donor", Strand.MINUS).items()} == {1: [300]}
    assert sites.positions("tss", Strand.PLUS) == {}
    joined = sites.end_to_end(np.array([0, 1000], np.int64))
    assert {key: found.tolist() for key, found in joined.items() if len(found)} == {
        ("donor", Strand.PLUS): [99, 299],
        ("acceptor", Strand.PLUS): [200, 400],
        ("donor", Strand.MINUS): [1300],
        ("acceptor", Strand.MINUS): [1049],
    }
    assert len(joined) == 6


@pytest.mark.parametrize(
    ("contigs", "hint"),
    [({"1": 1000, "2": 500}, "the genome calls 'chr1' '1': rename one of the two$"), ({"I": 1000}, "the genome has 'I'$")],
)
def test_an_unknown_contig_is_refused_with_its_likely_name(tmp_path: Path, contigs: dict[str, int], hint: str) -> None:
    path = write(tmp_path, "a.gtf", GTF)
    with pytest.raises(InputError, match=hint) as caught:
        read_sites(path, contigs)
    assert str(caught.value).startswith(f"{path} line 3: contig 'chr1' is not in the genome, nor is any other of the file")
    counts = read_sites(path, contigs | {"chr2": 500}).counts
    assert (counts["lines"], counts["unknown_contig"]) == (2, 4)


def test_a_prefix_is_suggested_too(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="contig '1' is not in the genome: .*; the genome calls '1' 'chr1'"):
        read_sites(write(tmp_path, "a.bed", "1\t5\t6\tdonor\t0\t+\n"), CONTIGS)


@pytest.mark.parametrize(
    ("name", "line", "reason"),
    [
        ("a.bed", "chr1\t5\t7\tdonor\t0\t+", "1 bp wide"),
        ("a.bed", "chr1\t5\t6\tDonor\t0\t+", "none of donor"),
        ("a.bed", "chr1\t5\t6\tdonor\t0\tplus", "neither"),
        ("a.bed", "chr1\t5\t6\tdonor", "4 tab-separated"),
        ("a.bed", "chr1\tx\t6\tdonor\t0\t+", "whole numbers"),
        ("a.bed", "chr1\t1000\t1001\tdonor\t0\t+", "beyond contig"),
        ("a.gtf", 'chr1\tx\texon\t0\t5\t.\t+\t.\ttranscript_id "t";', "1-based"),
        ("a.gtf", 'chr1\tx\texon\t9\t5\t.\t+\t.\ttranscript_id "t";', "1-based"),
        ("a.gtf", 'chr1\tx\texon\t9\t5000\t.\t+\t.\ttranscript_id "t";', "another assembly"),
        ("a.gtf", 'chr1\tx\texon\t1\t5\t.\tplus\t.\ttranscript_id "t";', "strand"),
        ("a.gtf", 'chr1\tx\texon\t1\t5\t.\t+\t.\tnote "t";', "neither a transcript_id"),
        ("a.gtf", "chr1 x exon 1 5 . + . y", "1 tab-separated"),
        ("unnamed", "hello", "neither BED nor GTF"),
    ],
)
def test_bad_lines_are_refused_by_number(tmp_path: Path, name: str, line: str, reason: str) -> None:
    path = write(tmp_path, name, f"# comment\n\n{line}\n")
    with pytest.raises(InputError, match=reason) as caught:
        read_sites(path, CONTIGS)
    assert str(caught.value).startswith(f"{path} line 3: ")
    assert "\n" not in str(caught.value)


def test_an_annotation_without_exons_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no exon features"):
        read_sites(write(tmp_path, "a.gff3", "chr1\tx\tgene\t1\t5\t.\t+\t.\tID=g\n"), CONTIGS)


def test_missing_cut_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_sites(tmp_path / "absent.gtf", CONTIGS)
    cut = tmp_path / "cut.gtf.gz"
    cut.write_bytes(gzip.compress(GTF.encode())[:-20])
    with pytest.raises(InputError, match="damaged or cut"):
        read_sites(cut, CONTIGS)
    binary = tmp_path / "binary.gtf"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not text"):
        read_sites(binary, CONTIGS)
    with pytest.raises(InputError, match="BED file holds sites"):
        read_transcripts(write(tmp_path, "a.bed", ""), CONTIGS)


def contig_lengths(path: Path) -> dict[str, int]:
    """Length of each contig of a gzipped FASTA."""
    lengths: dict[str, int] = {}
    with gzip.open(path, "rt") as file:
        for line in file:
            if line.startswith(">"):
                name = line[1:].split()[0]
                lengths[name] = 0
            else:
                lengths[name] += len(line.rstrip())
    return lengths


def test_introns_of_the_yeast_annotation_are_its_truth(data_pack: Path) -> None:
    folder = data_pack / "scerevisiae"
    lengths = contig_lengths(folder / "scerevisiae.cross.fa.gz")
    truth = as_set(read_sites(folder / "scerevisiae.cross.truth.bed.gz", lengths))
    annotation = folder / "scerevisiae.gtf.gz"
    assert as_set(read_sites(annotation, lengths, min_intron_bp=52)) == truth  # the pack leaves out shorter ones
    assert as_set(read_sites(annotation, lengths)) > truth


def test_introns_of_the_human_annotation_are_its_truth(data_pack: Path) -> None:
    stem = data_pack / "human" / "human.test"
    lengths = contig_lengths(stem.with_name("human.test.fa.gz"))
    truth = {site for site in as_set(read_sites(stem.with_name("human.test.truth.bed.gz"), lengths)) if site[2] != "tss"}
    assert as_set(read_sites(stem.with_name("human.test.gtf.gz"), lengths)) == truth
