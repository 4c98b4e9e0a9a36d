"""The window and shard plan tiles every contig once, whatever the shards."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotator.genome.plan import PlanOptions, Shard, Span, plan_shards, plan_windows

SMALL = PlanOptions(window_bp=256, halo_bp=64, pad_bp=16, smallest_bp=32, shard_bp=500, align_bp=8)


def owners(shards: list[Shard], lengths: np.ndarray, options: PlanOptions) -> list[np.ndarray]:
    counts = [np.zeros(n, int) for n in lengths.tolist()]
    for shard in shards:
        windows = plan_windows(shard.spans, lengths, options)
        for i in range(len(windows)):
            contig = shard.spans[windows.span[i]].contig
            counts[contig][windows.core_start[i] : windows.core_end[i]] += 1
    return counts


@given(st.lists(st.integers(0, 2000), min_size=0, max_size=30), st.integers(1, 3000))
@settings(max_examples=150, deadline=None)
def test_cores_partition_every_contig(lengths: list[int], shard_bp: int) -> None:
    sizes = np.array(lengths, np.int64)
    options = PlanOptions(window_bp=256, halo_bp=64, pad_bp=16, smallest_bp=32, shard_bp=shard_bp, align_bp=8)
    for counts in owners(list(plan_shards(sizes, options)), sizes, options):
        assert (counts == 1).all()


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=20))
@settings(max_examples=150, deadline=None)
def test_windows_hold_their_context(lengths: list[int]) -> None:
    sizes = np.array(lengths, np.int64)
    for shard in plan_shards(sizes, SMALL):
        w = plan_windows(shard.spans, sizes, SMALL)
        length = sizes[[shard.spans[s].contig for s in w.span]]
        end = w.start + w.length
        assert np.isin(w.length, SMALL.window_lengths).all()
        assert (w.start % SMALL.align_bp == 0).all()
        assert ((w.start <= w.core_start - SMALL.halo_bp) | (w.start <= -SMALL.pad_bp)).all()
        assert ((end >= w.core_end + SMALL.halo_bp) | (end >= length + SMALL.pad_bp)).all()
        assert ((w.core_start == 0) | (w.start == w.core_start - SMALL.halo_bp)).all()
        assert ((end + w.reverse_shift - length) % SMALL.align_bp == 0).all()
        # the block holds every window, and stretches of different spans do not overlap
        assert (w.offset >= w.stretch_offset[w.span]).all()
        assert (w.offset + w.length <= w.stretch_offset[w.span + 1]).all()


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=12), st.integers(1, 4000), st.integers(1, 4000))
@settings(max_examples=100, deadline=None)
def test_windows_do_not_depend_on_shards(lengths: list[int], a: int, b: int) -> None:
    sizes = np.array(lengths, np.int64)

    def windows(shard_bp: int) -> list[tuple[int, ...]]:
        options = PlanOptions(window_bp=256, halo_bp=64, pad_bp=16, smallest_bp=32, shard_bp=shard_bp, align_bp=8)
        found = []
        for shard in plan_shards(sizes, options):
            w = plan_windows(shard.spans, sizes, options)
            found += [
                (shard.spans[s].contig, *row)
                for s, *row in zip(*(x.tolist() for x in (w.span, w.core_start, w.core_end, w.start, w.length)), strict=True)
            ]
        return found

    assert windows(a) == windows(b)


@pytest.mark.parametrize("length", [1, 2, 49, 255, 256, 257, 127, 128, 129])
def test_A19_awkward_contig_lengths(length: int) -> None:
    sizes = np.array([length], np.int64)
    (counts,) = owners(list(plan_shards(sizes, SMALL)), sizes, SMALL)
    assert (counts == 1).all()


def test_regions_choose_whole_windows_once() -> None:
    sizes = np.array([1000, 1000], np.int64)
    regions = {1: np.array([[0, 1], [5, 130], [900, 1000]])}
    shards = list(plan_shards(sizes, SMALL, regions))
    first, second = owners(shards, sizes, SMALL)
    assert not first.any()
    assert (second[:256] == 1).all() and (second[896:] == 1).all() and not second[256:896].any()


def test_tiny_contigs_are_packed() -> None:
    sizes = np.full(100_000, 200, np.int64)
    shards = list(plan_shards(sizes, PlanOptions()))
    assert len(shards) <= 12
    windows = plan_windows(shards[0].spans, sizes, PlanOptions())
    assert (windows.length == 512).all() and len(shards) > 1


def test_a_contig_past_2_to_the_31() -> None:
    sizes = np.array([2**31 + 12345], np.int64)
    shard = list(plan_shards(sizes, PlanOptions()))[-1]
    windows = plan_windows(shard.spans, sizes, PlanOptions())
    assert windows.core_end[-1] == sizes[0] and windows.offset.max() < 3_000_000


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        PlanOptions(window_bp=1001)
    with pytest.raises(ValueError, match="cannot have halos"):
        PlanOptions(window_bp=512, halo_bp=256)


def test_no_windows() -> None:
    windows = plan_windows((), np.array([5], np.int64), SMALL)
    assert len(windows) == 0 and windows.stretch_offset.tolist() == [0]
    assert list(plan_shards(np.array([0, 0], np.int64), SMALL)) == []
    assert Span(0, 0, 5).end == 5
