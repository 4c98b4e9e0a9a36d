"""The example assembly: same bytes every time, labelled, and its truth lies where the sequence says."""

import gzip
import itertools
import os
import re
from pathlib import Path

import numpy as np
import pysam
import pytest

from annotator.errors import ResourceFault, UsageError
from annotator.example.genome import SHORTEST_BP, ExampleFiles, write_example
from annotator.kinds import STRANDS, Strand
from annotator.labels.sites import Sites, read_sites

COMPLEMENT = str.maketrans("ACGTacgtN", "TGCAtgcaN")


class Example:
    """A written example, read back."""

    def __init__(self, files: ExampleFiles) -> None:
        """Read both files."""
        self.files = files
        with pysam.FastxFile(str(files.fasta)) as file:
            records = [(str(record.name), record.comment or "", record.sequence or "") for record in file]
        self.comments = [comment for _, comment, _ in records]
        self.contigs = {name: sequence for name, _, sequence in records}
        self.sites: Sites = read_sites(files.truth, {name: len(sequence) for name, sequence in self.contigs.items()})

    def around(self, kind: str, before: int, after: int) -> list[str]:
        """Upper-case bases from `before` bases before each site of a kind to `after` behind it, in transcript order."""
        texts = list(self.contigs.values())
        found = []
        for strand in STRANDS:
            for contig, positions in self.sites.positions(kind, strand).items():
                for position in positions.tolist():
                    low, high = (before, after) if strand is Strand.PLUS else (after, before)
                    text = texts[contig][position - low : position + high + 1]
                    found.append((text if strand is Strand.PLUS else text[::-1].translate(COMPLEMENT)).upper())
        return found


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """An example of 400 kb."""
    return Example(write_example(tmp_path_factory.mktemp("example"), length_bp=400_000))


def test_lengths_names_and_label(example: Example) -> None:
    assert [len(sequence) for sequence in example.contigs.values()] == [160_000, 120_000, 80_000, 40_000]
    assert list(example.contigs) == [f"synthetic_{i}" for i in (1, 2, 3, 4)]
    assert all(comment.startswith("SYNTHETIC sequence, not a real genome") for comment in example.comments)
    assert example.files.bases == 400_000


def test_the_counts_are_those_of_the_truth(example: Example) -> None:
    by_kind = [int((example.sites.kind == kind).sum()) for kind in range(3)]
    assert by_kind == [example.files.introns, example.files.introns, example.files.genes]
    assert example.files.genes >= 8
    assert example.files.introns >= 50
    assert set(example.sites.strand.tolist()) == {1, -1}


def test_introns_begin_with_gt_or_rarely_gc_and_end_with_ag(example: Example) -> None:
    donors = [text[1:] for text in example.around("donor", 0, 2)]
    assert set(donors) <= {"GT", "GC"}
    assert donors.count("GC") <= 0.05 * len(donors)
    assert {text[:2] for text in example.around("acceptor", 2, 0)} == {"AG"}


def test_donors_and_acceptors_pair_up_as_introns(example: Example) -> None:
    for contig in range(len(example.contigs)):
        for strand, first in ((1, "donor"), (-1, "acceptor")):
            own = (example.sites.contig == contig) & (example.sites.strand == strand) & (example.sites.kind < 2)
            kinds, positions = example.sites.kind[own], example.sites.position[own]
            assert len(positions) % 2 == 0
            assert (kinds[::2] == ("donor", "acceptor").index(first)).all()
            assert (kinds[1::2] != kinds[::2]).all()
            lengths = positions[1::2] - positions[::2] - 1
            assert ((lengths >= 70) & (lengths <= 5000)).all()


def test_sites_look_like_human_ones(example: Example) -> None:
    exon_end = np.mean([text[0] == "G" for text in example.around("donor", 0, 0)])
    assert 0.65 < exon_end < 0.95  # 0.81 in the train split
    fifth = np.mean([text[5] == "G" for text in example.around("donor", 0, 5)])
    assert 0.65 < fifth < 0.95
    tract = "".join(text[:10] for text in example.around("acceptor", 15, 0))
    assert np.mean([base in "CT" for base in tract]) > 0.7


def test_most_promoters_are_rich_in_cpg_and_the_rest_is_not(example: Example) -> None:
    promoters = example.around("tss", 300, 300)
    rich = [text.count("CG") * len(text) / (text.count("C") * text.count("G")) > 0.5 for text in promoters]
    assert 0.3 < np.mean(rich) < 1.0
    whole = "".join(example.contigs.values()).upper()
    assert whole.count("CG") * len(whole) / (whole.count("C") * whole.count("G")) < 0.4


def test_the_last_contig_looks_like_a_draft(example: Example) -> None:
    *plain, draft = example.contigs.values()
    assert not re.search("[^ACGT]", "".join(plain))
    assert [len(run) for run in re.findall("N+", draft)] == [500]
    lower = sum(base.islower() for base in draft)
    assert 0.1 < lower / len(draft) < 0.8
    around_sites = "".join(text for kind in ("donor", "acceptor", "tss") for text in example.around(kind, 40, 40))
    assert "N" not in around_sites


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_ones(tmp_path: Path) -> None:
    first, again, other = (
        write_example(tmp_path / name, seed=seed, length_bp=SHORTEST_BP) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert [path.read_bytes() for path in first] != [path.read_bytes() for path in other]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["example.fa.gz", "example.truth.bed.gz"]


@pytest.mark.parametrize("seed", range(5))
def test_the_shortest_example_holds_genes(tmp_path: Path, seed: int) -> None:
    files = write_example(tmp_path, seed=seed, length_bp=SHORTEST_BP)
    assert files.genes >= 1
    assert files.introns >= 1


def test_the_fasta_is_bgzf_and_plain_gzip_reads_it(example: Example) -> None:
    raw = example.files.fasta.read_bytes()
    assert raw[12:14] == b"BC"
    assert raw.endswith(bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000"))
    assert gzip.decompress(raw).count(b">") == 4


def test_writing_again_keeps_the_files_but_never_replaces_others(tmp_path: Path) -> None:
    write_example(tmp_path, length_bp=SHORTEST_BP)
    write_example(tmp_path, length_bp=SHORTEST_BP)
    with pytest.raises(UsageError, match="move it away"):
        write_example(tmp_path, seed=2, length_bp=SHORTEST_BP)
    (tmp_path / "example.truth.bed.gz").write_bytes(b"mine")
    with pytest.raises(UsageError, match="move it away"):
        write_example(tmp_path, length_bp=SHORTEST_BP)
    assert (tmp_path / "example.truth.bed.gz").read_bytes() == b"mine"
    assert len(list(tmp_path.iterdir())) == 2


def test_too_short_and_not_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="too short"):
        write_example(tmp_path, length_bp=SHORTEST_BP - 1)
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match="not a folder"):
            write_example(folder, length_bp=SHORTEST_BP)


def test_C08_a_failing_rename_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(ResourceFault, match="No space left on device"):
        write_example(tmp_path, length_bp=SHORTEST_BP)
    assert list(tmp_path.iterdir()) == []


def longest_reading_frame(spliced: str) -> tuple[int, int]:
    """Start of ATG and end of the stop codon of the longest open reading frame."""
    found = re.finditer("(?=(ATG(?:(?!TAA|TAG|TGA)...)*(?:TAA|TAG|TGA)))", spliced)
    return max(((match.start(), match.start() + len(match[1])) for match in found), key=lambda span: span[1] - span[0])


def test_introns_leave_the_reading_frame_whole(example: Example) -> None:
    whole = 0
    genes = 0
    for contig, sequence in enumerate(example.contigs.values()):
        own = example.sites.contig == contig
        positions, kinds = example.sites.position[own].tolist(), example.sites.kind[own].tolist()
        for sign in (1, -1):
            text = sequence.upper() if sign > 0 else sequence[::-1].translate(COMPLEMENT).upper()
            strand = example.sites.strand[own] == sign
            rows = [(p if sign > 0 else len(text) - 1 - p, k) for p, k, s in zip(positions, kinds, strand, strict=True) if s]
            rows.sort()
            starts = [i for i, (_, kind) in enumerate(rows) if kind == 2]
            for first, last in itertools.pairwise([*starts, len(rows)]):
                if last - first == 1:
                    continue
                genes += 1
                places = [position for position, _ in rows[first:last]]
                exons = [text[a : b + 1] for a, b in zip(places[::2], places[1::2], strict=False)]
                spliced = "".join(exons)
                start, end = longest_reading_frame(spliced + text[places[-1] : places[-1] + 4000])
                whole += start < len(spliced) < end  # from an earlier exon into the last one
    assert genes >= 8
    assert whole >= 0.8 * genes  # a few coding sequences are shorter than a frame that arises by chance
