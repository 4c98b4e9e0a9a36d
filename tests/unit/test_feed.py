"""Blocks on their way to the device: contents, reading ahead, faults of the reader."""

import threading
import time

import numpy as np
import pytest
import torch

from annotator.errors import InputError
from annotator.genome.plan import PlanOptions, plan_shards
from annotator.genome.shard_input import ShardInput
from annotator.scan.block import Block
from annotator.scan.feed import BlockFeed

PLAN = PlanOptions(window_bp=256, halo_bp=64, pad_bp=16, smallest_bp=32, shard_bp=600, align_bp=8)
LENGTHS = np.array([1000, 5, 0, 333, 2049], np.int64)
BASES = [np.random.default_rng(i).choice(np.frombuffer(b"ACGT", np.uint8), int(n)) for i, n in enumerate(LENGTHS)]


class Read:
    """The bases, and what was asked for."""

    def __init__(self, fails: bool = False) -> None:
        self.begun, self.fails = 0, fails

    def read(self, contig: int, start: int, end: int) -> np.ndarray:
        self.begun += 1
        if self.fails:
            raise InputError("g.fa: changed during the run")
        return BASES[contig][start:end]


def inputs(reader: Read) -> list[ShardInput]:
    return [ShardInput(shard.spans, list("abcde"), LENGTHS, reader) for shard in plan_shards(LENGTHS, PLAN)]  # type: ignore[arg-type]


@pytest.mark.parametrize("announced", [False, True])
@pytest.mark.parametrize("ahead", [False, True], ids=["as asked", "ahead"])
def test_blocks_are_whole_in_any_order(ahead: bool, announced: bool, device: torch.device) -> None:
    shards = inputs(Read())
    assert len(shards) > 4
    feed = BlockFeed(PLAN, device, ahead=ahead)
    for shard in shards if announced else ():
        feed.announce(shard)
    for shard in reversed(shards):
        staged = feed.block(shard)
        expected = Block.read(shard.spans, LENGTHS, PLAN, Read().read)
        assert staged.shard is shard
        assert np.array_equal(staged.block.bases, expected.bases)
        assert np.array_equal(staged.on_device.cpu().numpy(), expected.bases)
        assert np.array_equal(staged.block.windows.offset, expected.windows.offset)


def test_an_announced_block_is_read_before_it_is_asked_for() -> None:
    reader = Read()
    first, second, *_ = inputs(reader)
    feed = BlockFeed(PLAN, torch.device("cpu"), ahead=True)
    feed.announce(first)
    feed.announce(first)
    deadline = time.monotonic() + 10
    while reader.begun < len(first.spans) and time.monotonic() < deadline:
        time.sleep(0.01)
    feed.block(first)
    assert reader.begun == len(first.spans)  # once
    feed.block(second)
    assert reader.begun == len(first.spans) + len(second.spans)


def test_a_cpu_reads_nothing_ahead() -> None:
    reader = Read()
    feed = BlockFeed(PLAN, torch.device("cpu"))
    feed.announce(inputs(reader)[0])
    time.sleep(0.05)
    assert reader.begun == 0


@pytest.mark.parametrize("ahead", [False, True], ids=["as asked", "ahead"])
def test_a_fault_of_the_reader_arrives_when_the_block_is_asked_for(ahead: bool) -> None:
    threads = threading.active_count()
    feed = BlockFeed(PLAN, torch.device("cpu"), ahead=ahead)
    (shard, *_) = inputs(Read(fails=True))
    feed.announce(shard)
    with pytest.raises(InputError, match="changed"):
        feed.block(shard)
    del feed
    assert threading.active_count() <= threads + ahead
