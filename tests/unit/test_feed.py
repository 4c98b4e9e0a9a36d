"""Blocks on their way to the device: order, contents, reading ahead, faults of the reader."""

import threading
import time

import numpy as np
import pytest
import torch

from annotator.errors import InputError
from annotator.genome.plan import PlanOptions, plan_shards, plan_windows
from annotator.scan.feed import BlockFeed
from annotator.scan.windows import read_block

PLAN = PlanOptions(window_bp=256, halo_bp=64, pad_bp=16, smallest_bp=32, shard_bp=600, align_bp=8)
LENGTHS = np.array([1000, 5, 0, 333, 2049], np.int64)
BASES = [np.random.default_rng(i).choice(np.frombuffer(b"ACGT", np.uint8), int(n)) for i, n in enumerate(LENGTHS)]


def read(contig: int, start: int, end: int) -> np.ndarray:
    return BASES[contig][start:end]


@pytest.mark.parametrize("ahead", [False, True], ids=["as asked", "ahead"])
def test_blocks_come_in_order_and_whole(ahead: bool, device: torch.device) -> None:
    shards = list(plan_shards(LENGTHS, PLAN))
    assert len(shards) > 4
    blocks = list(BlockFeed(LENGTHS, read, PLAN, device, ahead=ahead).blocks(shards))
    assert [block.shard for block in blocks] == shards
    for block in blocks:
        windows = plan_windows(block.shard.spans, LENGTHS, PLAN)
        expected = read_block(block.shard.spans, windows, LENGTHS, read)
        assert np.array_equal(block.bases, expected)
        assert np.array_equal(block.on_device.cpu().numpy(), expected)
        assert np.array_equal(block.windows.offset, windows.offset)


def test_the_next_block_is_read_while_one_is_worked_on() -> None:
    shards = list(plan_shards(LENGTHS, PLAN))
    begun: list[int] = []

    def slow(contig: int, start: int, end: int) -> np.ndarray:
        begun.append(contig)
        return read(contig, start, end)

    feed = BlockFeed(LENGTHS, slow, PLAN, torch.device("cpu"), ahead=True).blocks(shards)
    next(feed)
    taken = len(shards[0].spans)
    deadline = time.monotonic() + 10
    while len(begun) <= taken and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(begun) > taken  # nobody asked for the second block yet
    time.sleep(0.05)
    assert len(begun) <= sum(len(shard.spans) for shard in shards[:2])  # and no more than one ahead
    feed.close()


@pytest.mark.parametrize("ahead", [False, True], ids=["as asked", "ahead"])
def test_a_fault_of_the_reader_arrives_in_turn(ahead: bool) -> None:
    shards = list(plan_shards(LENGTHS, PLAN))
    bad = shards[2].spans[0]

    def failing(contig: int, start: int, end: int) -> np.ndarray:
        if contig == bad.contig and end > bad.start:
            raise InputError("g.fa: changed during the run")
        return read(contig, start, end)

    threads = threading.active_count()
    feed = BlockFeed(LENGTHS, failing, PLAN, torch.device("cpu"), ahead=ahead).blocks(shards)
    good = 0
    with pytest.raises(InputError, match="changed"):
        for _ in feed:
            good += 1
    assert good <= 2
    assert threading.active_count() == threads
