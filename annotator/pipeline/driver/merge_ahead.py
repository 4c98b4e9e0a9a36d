"""The merge of an assembly while its shards are still computed: a thread takes up each part when those before it are there."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from annotator.output.merge import Merge
from annotator.output.parts import PartInfo
from annotator.output.row_order import Border
from annotator.pipeline.driver.background import PATIENCE_S

logger = logging.getLogger(__name__)

TICK_S = 0.1
"""Longest wait for the thread before the caller's tick is heard, seconds."""


@dataclass(frozen=True)
class ReadyPart:
    """A part whose turn it is.

    Attributes:
        path: The part.
        expected: What the journal says of it.
        border: Contig and smallest start that any later part may have; None where later parts lie on later contigs.
    """

    path: Path
    expected: PartInfo
    border: Border | None


class MergeAhead:
    """A `Merge` that a thread feeds.

    Whatever goes wrong in it ends it without a trace but a line in the log: the merge of all parts at the end meets the same
    fault, and tells.
    """

    def __init__(self, begin: Callable[[], Merge]) -> None:
        """Start.

        Args:
            begin: Opens the final files under temporary names; called in the thread.
        """
        self._begin = begin
        self._parts: queue.SimpleQueue[ReadyPart | None] = queue.SimpleQueue()
        self._merge: Merge | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="merge", daemon=True)
        self._thread.start()

    def take(self, part: ReadyPart) -> None:
        """Give it the next part; returns at once."""
        self._parts.put(part)

    def result(self, tick: Callable[[], None] | None = None) -> Merge | None:
        """Wait for the thread to take up all that it was given; it takes no more.

        Args:
            tick: Called again and again; what it raises ends the waiting.

        Returns:
            The merge, ready to be finished; None where something went wrong.
        """
        self._parts.put(None)
        while self._thread.is_alive():
            if tick:
                tick()
            self._thread.join(TICK_S)
        return self._merge

    def stop(self) -> None:
        """End it, and remove what it wrote; harmless a second time, and once its merge is finished."""
        self._stopped.set()
        self._parts.put(None)
        self._thread.join(PATIENCE_S)
        if self._merge is not None and not self._thread.is_alive():  # otherwise the next run sweeps
            self._merge.close()

    def _work(self) -> None:
        try:
            self._merge = self._begin()
            while (part := self._parts.get()) is not None and not self._stopped.is_set():
                self._merge.take(part.path, part.expected, part.border, part.border)
        except BaseException as error:
            logger.info("merging beside the scan ended (%s); the parts are merged when all are there", error)
            if self._merge is not None:
                self._merge.close()  # its space may be what the scan needs
            self._merge = None
