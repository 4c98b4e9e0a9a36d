"""Blocks of bases on their way to the device: the next is read and copied while the device works on this one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from annotator.genome.plan import PlanOptions
from annotator.genome.shard_input import ShardInput
from annotator.machine import usable_cpus
from annotator.scan.block import Block
from annotator.scan.clock import StageClock

_MOST_READERS = 4
"""A thread inflates about 200 Mb of BGZF a second."""


@dataclass(frozen=True)
class StagedBlock:
    """The block of one shard, on the host and on the device.

    Attributes:
        shard: What was asked for.
        block: Its bases and windows; pinned memory where the device is a GPU.
        on_device: The same bases on the device, uint8, [n]; the block's own on a CPU.
    """

    shard: ShardInput
    block: Block
    on_device: Tensor


class BlockFeed:
    """Reads the blocks of shards, and puts each on the device once.

    On a GPU threads read announced blocks into pinned memory and a stream of its own copies them, so that neither the file, nor
    its compression, nor the bus keeps the device waiting.

    On a CPU reading ahead would take a core from the model: blocks are read when asked for.
    """

    def __init__(
        self, plan: PlanOptions, device: torch.device, *, clock: StageClock | None = None, ahead: bool | None = None
    ) -> None:
        """Nothing is read yet.

        Args:
            plan: Shape of the windows.
            device: Where the blocks are wanted.
            clock: Told how long reading takes.
            ahead: Read announced blocks at once; None does so for a GPU.
        """
        self.plan, self.device = plan, device
        self.clock = clock or StageClock()
        self.ahead = device.type != "cpu" if ahead is None else ahead
        self._api = torch.get_device_module(device)  # torch.cuda, or torch.cpu with its streams that do nothing
        self._copies = self._stream() if self.ahead else None
        readers = min(_MOST_READERS, usable_cpus())
        self._reader = ThreadPoolExecutor(readers, thread_name_prefix="read-ahead") if self.ahead else None
        self._coming: dict[int, Future[StagedBlock]] = {}
        self._threads = threading.local()

    def announce(self, shard: ShardInput) -> None:
        """Say that `block` will be asked for this shard; may be called from another thread."""
        if self._reader is not None and id(shard) not in self._coming:
            self._coming[id(shard)] = self._reader.submit(self._load, shard)

    def block(self, shard: ShardInput) -> StagedBlock:
        """The block of a shard, on the device for work on the device's current stream.

        Raises:
            AnnotatorError: The genome could not be read.
        """
        coming = self._coming.pop(id(shard), None)
        staged = self._load(shard) if coming is None else coming.result()
        self._let_use(staged)
        return staged

    @contextmanager
    def beside(self, staged: StagedBlock) -> Iterator[None]:
        """Work on a block in a stream of this thread's own: a wait for it waits for nothing else that the device was given."""
        if self._copies is None:
            yield
            return
        if not hasattr(self._threads, "stream"):  # kept: the allocator holds memory for each
            self._threads.stream = self._stream()
        with self._api.stream(self._threads.stream):
            self._let_use(staged)
            yield

    def _stream(self) -> Any:
        return self._api.Stream(**({"device": self.device} if self.device.type == "cuda" else {}))

    def _let_use(self, staged: StagedBlock) -> None:
        """Let the device's current stream work on a block from here on."""
        if self._copies is not None:
            current = self._api.current_stream(self.device)
            current.wait_stream(self._copies)  # the device's work waits for the copy, not the host
            if staged.on_device.is_cuda:
                staged.on_device.record_stream(current)  # its memory is not given out again before that work is done

    def _load(self, shard: ShardInput) -> StagedBlock:
        """Read one block and start its way to the device."""

        def allocate(size: int) -> NDArray[np.uint8]:
            memory: NDArray[np.uint8] = torch.empty(size, dtype=torch.uint8, pin_memory=self.device.type == "cuda").numpy()
            return memory

        with self.clock.stage("read"):
            block = Block.read(shard.spans, shard.lengths, self.plan, shard.bases.read, allocate)
        host = torch.from_numpy(block.bases)
        if self._copies is None:
            return StagedBlock(shard, block, host.to(self.device))
        with self._api.stream(self._copies):
            return StagedBlock(shard, block, host.to(self.device, non_blocking=True))
