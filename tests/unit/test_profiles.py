"""Bases counted around calls, against a count by hand; however the genome is cut, the sum is the same."""

import json

import numpy as np
import pytest

from annotator.calls.batch import Calls
from annotator.calls.profiles import (
    LETTERS,
    OFFSETS,
    PAIRS,
    PartProfile,
    Profile,
    count_profiles,
    profiles_from_text,
    profiles_json,
    profiles_to_text,
    read_profiles,
    read_surroundings,
    sum_profiles,
    surroundings,
)
from annotator.errors import InputError
from annotator.genome.options import GenomeOptions
from annotator.genome.plan import PlanOptions, Shard, plan_shards
from annotator.genome.shard_input import ShardInput, pick_shard, stage_bases
from annotator.genome.source import Genome, open_genome
from annotator.kinds import Kind, Strand
from annotator.scan.block import Block
from tests.support.runs import random_bases, revcomp, write_fasta

LENGTHS = {"a": 3000, "tiny": 30, "b": 700, "c": 61, "d": 5000}
LABELS = (("M1", "TF"), (None, "CTCF"), (None, "exon"))
KINDS = (Kind.DONOR, Kind.FEATURE, Kind.PROMOTER, Kind.TFBS)
FEATURES = ("CTCF", "exon")
Site = tuple[str, int, Strand, Kind, int]


def plan(shard_bp: int, halo_bp: int = 64) -> PlanOptions:
    return PlanOptions(window_bp=256, halo_bp=halo_bp, pad_bp=8, smallest_bp=32, shard_bp=shard_bp, align_bp=8)


@pytest.fixture(scope="module")
def text() -> dict[str, str]:
    letters = {name: random_bases(length, seed) for seed, (name, length) in enumerate(LENGTHS.items())}
    return letters | {"b": letters["b"][:300] + "N" * 90 + letters["b"][390:]}


@pytest.fixture(scope="module")
def genome(text: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Genome:
    folder = tmp_path_factory.mktemp("genome")
    return open_genome(str(write_fasta(folder / "g.fa", text)), folder, GenomeOptions())


@pytest.fixture(scope="module")
def sites() -> list[Site]:
    """Calls everywhere, both ends of every contig among them."""
    rng = np.random.default_rng(5)
    found: list[Site] = []
    for name, length in LENGTHS.items():
        for position in sorted({0, length - 1, *rng.integers(0, length, 40).tolist()}):
            choices = ((Kind.DONOR, -1), (Kind.TFBS, 0), (Kind.FEATURE, 1), (Kind.FEATURE, 2), (Kind.PROMOTER, -1))
            kind, motif = choices[int(rng.integers(5))]
            found.append((name, position, (Strand.PLUS, Strand.MINUS)[int(rng.integers(2))], kind, motif))
    return found


def by_hand(text: dict[str, str], sites: list[Site], leave_out: tuple[str, ...] = ()) -> dict[tuple[str, str | None], np.ndarray]:
    """Counts, one base after the other."""
    keys = (("donor", None), ("tfbs", None), ("promoter", None), ("feature", "CTCF"), ("feature", "exon"))
    tables = {key: np.zeros((101, 5), np.int64) for key in keys}
    for name, position, strand, kind, motif in sites:
        if name in leave_out:
            continue
        sequence = text[name] if strand is Strand.PLUS else revcomp(text[name])
        at = position if strand is Strand.PLUS else len(sequence) - 1 - position
        table = tables[kind.value, LABELS[motif][1] if kind is Kind.FEATURE else None]
        for row, offset in enumerate(range(-50, 51)):
            if 0 <= at + offset < len(sequence):
                table[row, LETTERS.index(sequence[at + offset])] += 1
    return tables


def pairs_by_hand(text: dict[str, str], sites: list[Site]) -> np.ndarray:
    """Pairs around promoters, one after the other."""
    table = np.zeros((100, 16), np.int64)
    for name, position, strand, kind, _ in sites:
        sequence = text[name] if strand is Strand.PLUS else revcomp(text[name])
        at = position if strand is Strand.PLUS else len(sequence) - 1 - position
        for row, offset in enumerate(range(-50, 50)):
            pair = sequence[max(0, at + offset) : max(0, at + offset + 2)]
            if kind is Kind.PROMOTER and at + offset >= 0 and pair in PAIRS:
                table[row, PAIRS.index(pair)] += 1
    return table


def calls_of(shard: ShardInput, sites: list[Site]) -> Calls:
    """The sites that a shard owns."""
    rows = [
        (shard.names.index(name), position, strand, kind, motif)
        for name, position, strand, kind, motif in sites
        if name in shard.names and any(s.contig == shard.names.index(name) and s.start <= position < s.end for s in shard.spans)
    ]
    n = len(rows)
    contig = np.array([row[0] for row in rows], np.int64)
    position = np.array([row[1] for row in rows], np.int64)
    return Calls(
        contig=contig, start=position, end=position + 1, kind=np.array([row[3].code for row in rows], np.uint8),
        strand=np.array([row[2] for row in rows], np.int8), probability=np.zeros(n, np.float32), score=np.zeros(n, np.uint16),
        position=position, motif=np.array([row[4] for row in rows], np.int32), p_value=np.zeros(n), bits=np.zeros(n, np.float32),
    )  # fmt: skip


def count(genome: Genome, sites: list[Site], options: PlanOptions, way: str, failed: int | None = None) -> list[Profile]:
    """The profiles of a run over the genome; a shard may fail, and its contigs are left out."""
    parts, leave_out = [], set()
    for shard in plan_shards(genome.contigs.lengths, options):
        one = pick_shard(shard, genome.contigs.names, genome.bases)
        if shard.index == failed:
            leave_out = set(one.names)
            continue
        if way == "staged":
            one = stage_bases(one, options)
        block = Block.read(one.spans, one.lengths, options, one.bases.read)
        around = read_surroundings(one) if way == "read" else surroundings(one, block, options.halo_bp)
        calls = calls_of(one, sites)
        order = np.random.default_rng(shard.index).permutation(len(calls))
        text = profiles_to_text(count_profiles(calls.take(order), one, around, LABELS))
        parts.append(profiles_from_text(text, "part"))
    return sum_profiles(reversed(parts), KINDS, FEATURES, leave_out)


@pytest.mark.parametrize("way", ["block", "staged", "read"])
@pytest.mark.parametrize("halo_bp", [64, 8])
@pytest.mark.parametrize("shard_bp", [1, 300, 1500, 100_000])
def test_the_counts_are_those_made_by_hand_whatever_the_shards(
    shard_bp: int, halo_bp: int, way: str, genome: Genome, text: dict[str, str], sites: list[Site]
) -> None:
    found = count(genome, sites, plan(shard_bp, halo_bp), way)
    expected = by_hand(text, sites)
    assert [(p.kind, p.name) for p in found] == [
        ("donor", None), ("feature", "CTCF"), ("feature", "exon"), ("promoter", None), ("tfbs", None),
    ]  # fmt: skip
    assert {p.kind: p.pairs is not None for p in found} == {kind: kind is Kind.PROMOTER for kind in KINDS}
    assert np.array_equal(found[3].pairs, pairs_by_hand(text, sites)) and found[3].pairs.sum() > 500
    for profile in found:
        assert np.array_equal(profile.counts, expected[profile.kind, profile.name])
        assert profile.counts[50].sum() == profile.calls  # every position lies on its contig
        assert (profile.counts.sum(1) <= profile.calls).all() and profile.counts[0].sum() < profile.calls
    assert sum(profile.calls for profile in found) == len(sites)


def test_what_lies_on_the_contigs_of_a_failed_shard_is_left_out(genome: Genome, text: dict[str, str], sites: list[Site]) -> None:
    options = plan(1500)
    shards: list[Shard] = list(plan_shards(genome.contigs.lengths, options))
    of_a = [shard for shard in shards if any(span.contig == 0 for span in shard.spans)]
    assert len(of_a) == 2 and {span.contig for span in of_a[1].spans} == {0, 1}  # it ends beside another contig
    for shard in shards:
        contigs = tuple(dict.fromkeys(genome.contigs.names[span.contig] for span in shard.spans))
        found = count(genome, sites, options, "block", failed=shard.index)
        for profile in found:
            assert np.array_equal(profile.counts, by_hand(text, sites, contigs)[profile.kind, profile.name])


def test_no_calls_and_no_kinds(genome: Genome) -> None:
    assert [p.calls for p in count(genome, [], plan(300), "block")] == [0, 0, 0, 0, 0]
    assert sum_profiles([], (), (), ()) == []


def test_profiles_json_is_read_back(genome: Genome, sites: list[Site]) -> None:
    profiles = count(genome, sites, plan(300), "block")
    for one, other in zip(read_profiles(profiles_json(profiles), "x"), profiles, strict=True):
        assert (one.kind, one.name, one.calls) == (other.kind, other.name, other.calls)
        assert np.array_equal(one.counts, other.counts) and one.counts.dtype == np.int64
        assert (one.pairs is None) == (other.pairs is None) == (one.kind is not Kind.PROMOTER)
        assert one.pairs is None or np.array_equal(one.pairs, other.pairs)
    assert OFFSETS[0] == -50 and OFFSETS[-1] == 50


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"letters": "ACGTN", "first_offset": -50, "profiles": [{"kind": "donor"}]}'])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^p\.json: is not a profiles\.json"):
        read_profiles(text, "p.json")


@pytest.mark.parametrize("text", ["", "3", '[["a", "donor", null, 1, "|u1", "AAAA"]]', '[["a", "exon", null, 1, "|u1", ""]]'])
def test_damaged_parts_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^part: its profiles are damaged"):
        profiles_from_text(text, "part")


def test_profiles_of_the_version_before_have_no_pairs(genome: Genome, sites: list[Site]) -> None:
    content = json.loads(profiles_json(count(genome, sites, plan(300), "block")))
    for row in content["profiles"]:
        row.pop("pairs", None)
    assert all(profile.pairs is None for profile in read_profiles(json.dumps(content), "x"))


def test_large_counts_survive_the_part() -> None:
    profile = Profile(Kind.TFBS, None)
    profile.add(1 << 40, np.full((101, 5), 1 << 39))
    (back,) = profiles_from_text(profiles_to_text([PartProfile("é", profile)]), "part")
    assert back.contig == "é" and back.profile.calls == 1 << 40 and (back.profile.counts == 1 << 39).all()
