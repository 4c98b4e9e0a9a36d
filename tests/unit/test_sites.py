"""From logits to calls: coordinates, local maxima, edges."""

from collections import Counter

import numpy as np
import pytest
import torch

from annotator.calls.batch import Calls
from annotator.calls.rules import TrackRule, track_rules
from annotator.calls.sites import call_sites
from annotator.genome.plan import PlanOptions, Span, plan_shards, plan_windows
from annotator.kinds import KINDS, Kind, Strand
from annotator.models.manifest import Calibration, CladeSettings, Manifest
from annotator.models.track_set import Feature
from annotator.scan.block import Block
from annotator.scan.windows import ScoredBatch

PLAN = PlanOptions(window_bp=256, halo_bp=64, pad_bp=16, smallest_bp=32, shard_bp=10_000, align_bp=8)


def call(track: np.ndarray, rule: TrackRule, strand: int = 1, block_base: str = "A") -> tuple[Calls, Counter[str]]:
    """Calls of one contig whose logits of one strand are `track`; -9 elsewhere."""
    lengths = np.array([len(track)], np.int64)
    (shard,) = plan_shards(lengths, PLAN)
    windows = plan_windows(shard.spans, lengths, PLAN)
    found, dropped = [], Counter()
    block = Block(np.full(int(windows.stretch_offset[-1]), ord(block_base), np.uint8), shard.spans, windows, lengths)
    for row in range(len(windows)):
        logits = torch.full((1, 2, 1, int(windows.length[row])), 9.0)  # beyond the contig nothing may be called or win
        start = int(windows.start[row])
        low, high = max(start, 0), min(start + int(windows.length[row]), len(track))
        logits[0, :, 0, low - start : high - start] = -9.0
        logits[0, 0 if strand > 0 else 1, 0, low - start : high - start] = torch.from_numpy(track[low:high])
        batch = ScoredBatch.of_plus_strand(np.array([row]), logits, windows)
        found.append(call_sites(batch, block, [rule], dropped))
    return Calls.concatenate(found), dropped


def peaks(length: int, at: dict[int, float]) -> np.ndarray:
    track = np.full(length, -9.0, np.float32)
    for position, value in at.items():
        track[position] = value
    return track


RULE = TrackRule(Kind.DONOR, 0.5, 1.0, 0.0, 2)


@pytest.mark.parametrize(
    ("kind", "strand", "start", "end"),
    [("donor", 1, 101, 103), ("donor", -1, 98, 100), ("acceptor", 1, 98, 100), ("acceptor", -1, 101, 103),
     ("promoter", 1, -149, 151), ("promoter", -1, 50, 350)],
)  # fmt: skip
def test_feature_of_a_site_at_base_100(kind: str, strand: int, start: int, end: int) -> None:
    starts, ends = Kind(kind).span(np.array([100]), Strand(strand))
    assert (int(starts[0]), int(ends[0])) == (start, end)


@pytest.mark.parametrize("strand", [1, -1])
def test_every_window_border_calls_once(strand: int) -> None:
    where = {p: 3.0 for p in range(5, 990, 9)} | {127: 3.0, 128: 2.0, 130: 3.0, 256: 3.0, 384: 4.0}
    calls, _ = call(peaks(1000, where), RULE, strand)
    expected = [
        p
        for p in where
        if all(where.get(p + d, -9) < where[p] for d in (-2, -1)) and all(where.get(p + d, -9) <= where[p] for d in (1, 2))
    ]
    assert sorted(calls.position.tolist()) == sorted(expected)
    assert set(calls.strand.tolist()) == {strand}


def test_ties_go_to_the_lower_position() -> None:
    calls, _ = call(peaks(300, {50: 2.0, 51: 2.0, 52: 2.0, 127: 1.0, 128: 1.0}), RULE)
    assert calls.position.tolist() == [50, 127]


def test_A20_sites_at_both_ends_of_a_contig() -> None:
    length = 300
    calls, dropped = call(peaks(length, {0: 5.0, length - 3: 5.0}), RULE)
    assert [(int(s), int(e)) for s, e in zip(calls.start, calls.end, strict=True)] == [(1, 3), (length - 2, length)]
    calls, dropped = call(peaks(length, {length - 2: 5.0}), RULE)  # one intronic base only
    assert len(calls) == 0 and dropped["intronic bases beyond the contig"] == 1
    calls, dropped = call(peaks(length, {1: 5.0}), RULE, strand=-1)
    assert len(calls) == 0 and dropped["intronic bases beyond the contig"] == 1
    calls, _ = call(peaks(length, {2: 5.0}), RULE, strand=-1)
    assert (int(calls.start[0]), int(calls.end[0])) == (0, 2)


def test_promoters_are_clipped_to_the_contig() -> None:
    rule = TrackRule(Kind.PROMOTER, 0.5, 1.0, 0.0, 60)
    calls, dropped = call(peaks(400, {3: 5.0, 396: 5.0}), rule)
    assert [(int(s), int(e)) for s, e in zip(calls.start, calls.end, strict=True)] == [(0, 54), (147, 400)]
    assert not dropped["intronic bases beyond the contig"]


@pytest.mark.parametrize("kind", ["tfbs", "feature"])
@pytest.mark.parametrize("strand", [1, -1])
def test_a_feature_starts_at_its_position_on_both_strands(kind: str, strand: int) -> None:
    starts, ends = Kind(kind).span(np.array([0, 100]), Strand(strand), width_bp=20)
    assert (starts.tolist(), ends.tolist()) == ([0, 100], [20, 120])
    rule = TrackRule(Kind(kind), 0.5, 1.0, 0.0, 2, width_bp=20, label=7)
    calls, dropped = call(peaks(300, {0: 5.0, 127: 5.0, 280: 5.0}), rule, strand)
    assert sorted(zip(calls.position, calls.start, calls.end, strict=True)) == [(0, 0, 20), (127, 127, 147), (280, 280, 300)]
    assert {(KINDS[k], s, m) for k, s, m in zip(calls.kind, calls.strand, calls.motif, strict=True)} == {(kind, strand, 7)}
    assert np.allclose(calls.probability, 1 / (1 + np.exp(-5)), atol=1e-6)
    assert np.isnan(calls.p_value).all() and np.isnan(calls.bits).all()
    assert not +dropped


@pytest.mark.parametrize("kind", ["tfbs", "feature"])
@pytest.mark.parametrize("strand", [1, -1])
def test_a_feature_that_reaches_beyond_the_contig_is_counted_not_called(kind: str, strand: int) -> None:
    rule = TrackRule(Kind(kind), 0.5, 1.0, 0.0, 2, width_bp=20, label=0)
    calls, dropped = call(peaks(300, {50: 5.0, 281: 5.0, 299: 5.0}), rule, strand)
    assert calls.position.tolist() == [50]
    assert +dropped == {"feature beyond the contig": 2}


def test_only_what_a_run_can_drop_is_counted() -> None:
    reasons = {}
    for kind in KINDS:
        _, reasons[kind] = call(peaks(300, {150: 5.0}), TrackRule(Kind(kind), 0.5, 1.0, 0.0, 2, width_bp=20))
    unknown, intronic, feature = "on an unknown base", "intronic bases beyond the contig", "feature beyond the contig"
    assert {kind: set(counts) for kind, counts in reasons.items()} == {
        "acceptor": {unknown, intronic}, "donor": {unknown, intronic}, "promoter": {unknown},
        "feature": {unknown, feature}, "tfbs": {unknown, feature},
    }  # fmt: skip


def manifest() -> Manifest:
    """A manifest of a model whose features stand before, between and after the other tracks."""
    kinds = (Kind.FEATURE, Kind.DONOR, Kind.TFBS, Kind.PROMOTER)
    fits = {kind: Calibration(scale=1.0 + i, bias=-float(i)) for i, kind in enumerate(kinds)}
    return Manifest(
        name="m", version="1", family="compact", architecture={}, tokenizer={}, plan={}, licence="MIT", weights="w",
        weights_sha256="", tracks=("polyA", "donor", "CTCF", "tss", "GATA1"),
        radius_bp={kind: 2 + i for i, kind in enumerate(kinds)},
        clades={"plant": CladeSettings(0, dict.fromkeys(kinds, 0.5), fits, kinds)},
        features={"GATA1": Feature(Kind.TFBS, 12), "CTCF": Feature(Kind.TFBS, 19), "polyA": Feature(Kind.FEATURE, 6)},
    )  # fmt: skip


def test_labels_of_features_follow_the_motifs_in_the_order_of_the_tracks() -> None:
    thresholds = {Kind.FEATURE: 0.1, Kind.DONOR: 0.2, Kind.TFBS: 0.3, Kind.PROMOTER: 0.4}
    for first in (0, 5):
        assert track_rules(manifest(), "plant", thresholds, first) == [
            TrackRule(Kind.FEATURE, 0.1, 1.0, 0.0, 2, width_bp=6, label=first),
            TrackRule(Kind.DONOR, 0.2, 2.0, -1.0, 3),
            TrackRule(Kind.TFBS, 0.3, 3.0, -2.0, 4, width_bp=19, label=first + 1),
            TrackRule(Kind.PROMOTER, 0.4, 4.0, -3.0, 5),
            TrackRule(Kind.TFBS, 0.3, 3.0, -2.0, 4, width_bp=12, label=first + 2),
        ]


def test_a_track_that_is_not_wanted_keeps_its_label() -> None:
    rules = track_rules(manifest(), "plant", {Kind.TFBS: 0.3}, 5)
    assert [rule and (rule.kind, rule.label) for rule in rules] == [None, None, ("tfbs", 6), None, ("tfbs", 7)]


def test_probability_score_and_threshold() -> None:
    rule = TrackRule(Kind.ACCEPTOR, 0.75, 2.0, -1.0, 2)
    at = float(np.log(3) + 1) / 2  # sigmoid(2 x - 1) = 0.75
    calls, _ = call(peaks(300, {60: at + 1e-6, 90: at - 1e-3, 120: 4.0}), rule)
    assert calls.position.tolist() == [60, 120]
    assert calls.score.tolist() == [750, 999]
    assert {KINDS[k] for k in calls.kind} == {"acceptor"}
    assert np.isnan(calls.bits).all() and (calls.motif == -1).all()


def test_no_call_on_an_unknown_base() -> None:
    calls, dropped = call(peaks(300, {60: 5.0}), RULE, block_base="N")
    assert len(calls) == 0 and dropped["on an unknown base"] == 1


def test_spans_of_other_contigs() -> None:
    lengths = np.array([50, 300], np.int64)
    (shard,) = plan_shards(lengths, PLAN)
    assert shard.spans == (Span(0, 0, 50), Span(1, 0, 300))
