"""Blocks of bases on their way to the device: the next is read and copied while the device works on this one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from annotator.genome.plan import PlanOptions, Shard, Windows, plan_windows
from annotator.scan.stages import StageClock
from annotator.scan.windows import ReadBases, read_block


@dataclass(frozen=True)
class Block:
    """The bases of one shard, on the host and on the device.

    Attributes:
        shard: Whose bases they are.
        windows: Its windows, cut from the block.
        bases: ASCII, uint8, [n]; pinned memory where the device is a GPU.
        on_device: The same on the device; the bases themselves on a CPU.
    """

    shard: Shard
    windows: Windows
    bases: NDArray[np.uint8]
    on_device: Tensor


class BlockFeed:
    """Reads the blocks of shards, and puts each on the device once.

    On a GPU a thread reads one block ahead into pinned memory and a stream of its own copies it, so that neither the file nor
    the bus keeps the device waiting. On a CPU reading ahead would take a core from the model: blocks are read when asked for.
    """

    def __init__(
        self,
        lengths: NDArray[np.int64],
        read_bases: ReadBases,
        plan: PlanOptions,
        device: torch.device,
        *,
        clock: StageClock | None = None,
        ahead: bool | None = None,
    ) -> None:
        """Hold a genome.

        Args:
            lengths: Contig lengths, int64.
            read_bases: Access to the bases.
            plan: Shape of the windows.
            device: Where the blocks are wanted.
            clock: Told how long reading takes.
            ahead: Read one block ahead; None does so for a GPU.
        """
        self.lengths, self.read_bases, self.plan, self.device = lengths, read_bases, plan, device
        self.clock = clock or StageClock()
        self.ahead = device.type != "cpu" if ahead is None else ahead
        self._api = torch.get_device_module(device)  # torch.cuda, or torch.cpu with its streams that do nothing
        named = {"device": device} if device.type == "cuda" else {}
        self._copies = self._api.Stream(**named) if self.ahead else None

    def blocks(self, shards: Iterable[Shard]) -> Iterator[Block]:
        """Read shard after shard.

        Args:
            shards: In the order wanted; taken one ahead of the blocks given out.

        Yields:
            One block each, its bases on the device for work on the device's current stream.

        Raises:
            AnnotatorError: The genome could not be read; in turn, after the blocks before it.
        """
        if not self.ahead:
            for shard in shards:
                yield self.load(shard)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as reader:
            waiting = None
            for shard in shards:
                coming = reader.submit(self.load, shard)
                if waiting is not None:
                    yield self._arrived(waiting.result())
                waiting = coming
            if waiting is not None:
                yield self._arrived(waiting.result())

    def load(self, shard: Shard) -> Block:
        """Read one block and start its way to the device."""
        with self.clock.stage("read"):
            windows = plan_windows(shard.spans, self.lengths, self.plan)
            size = int(windows.stretch_offset[-1])
            host = torch.empty(size, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
            bases = read_block(shard.spans, windows, self.lengths, self.read_bases, out=host.numpy())
        if self._copies is None:
            return Block(shard, windows, bases, host.to(self.device))
        with self._api.stream(self._copies):
            return Block(shard, windows, bases, host.to(self.device, non_blocking=True))

    def _arrived(self, block: Block) -> Block:
        """Make the device's work wait for the copy, not the host."""
        current = self._api.current_stream(self.device)
        current.wait_stream(self._copies)
        if block.on_device.is_cuda:
            block.on_device.record_stream(current)  # its memory is not given out again before that work is done
        return block
